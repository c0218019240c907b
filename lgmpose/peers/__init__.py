"""The systems that LGM-Pose is compared with, one file per family, and the catalogue of their names.

Every factory takes ``num_keypoints`` and ``image_hw`` and gives a network (B, 3, H, W) → (B, K, H/4, W/4).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace

from torch import nn

__all__ = ["PEERS", "PeerConfig", "build_peer"]

# name → module of this package and factory in it; imported when asked for, as some need torchvision
PEERS: dict[str, tuple[str, str]] = {
    "simplebaseline-r50": ("deconv", "simplebaseline_r50"),
    "mobilenetv2": ("deconv", "mobilenetv2"),
    "shufflenetv2": ("deconv", "shufflenetv2"),
    "hrnet-w32": ("hrnet", "hrnet_w32"),
    "small-hrnet": ("hrnet", "small_hrnet"),
    "lite-hrnet-18": ("litehrnet", "lite_hrnet_18"),
    "lite-hrnet-30": ("litehrnet", "lite_hrnet_30"),
    "dite-hrnet-18": ("ditehrnet", "dite_hrnet_18"),
    "dite-hrnet-30": ("ditehrnet", "dite_hrnet_30"),
    "hourglass-8": ("hourglass", "hourglass_8"),
    "cpn-r50": ("cpn", "cpn_r50"),
    "tokenpose-b": ("tokenpose", "tokenpose_b"),
    "tokenpose-l-d6": ("tokenpose", "tokenpose_l_d6"),
    "mobilevit-xxs": ("mobilevit", "mobilevit_xxs"),
    "mobilevit-xs": ("mobilevit", "mobilevit_xs"),
    "mobilevit-s": ("mobilevit", "mobilevit_s"),
}


@dataclass(frozen=True)
class PeerConfig:
    """Everything that tells one peer network from another.

    Raises:
        ValueError: an unknown name, or a number of keypoints below 1.
    """

    name: str
    image_hw: tuple[int, int] = (256, 192)
    num_keypoints: int = 17

    def __post_init__(self):
        object.__setattr__(self, "image_hw", tuple(self.image_hw))  # a list, as JSON has it, would equal no shape
        if self.name not in PEERS:
            raise ValueError(f"no network {self.name!r}; there are {', '.join(PEERS)}")
        if self.num_keypoints < 1:
            raise ValueError(f"num_keypoints {self.num_keypoints}: at least 1")

    def with_(self, **changes) -> PeerConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)


def build_peer(config: PeerConfig) -> nn.Module:
    """The network with fresh weights; ``config`` becomes its attribute. Raises ValueError for a size it cannot take."""
    module, factory = PEERS[config.name]
    make = getattr(importlib.import_module(f"lgmpose.peers.{module}"), factory)
    net = make(num_keypoints=config.num_keypoints, image_hw=config.image_hw)
    net.config = config
    return net
