"""The networks that LGM-Pose is compared with, one file per family, and the list of their names.

Every factory takes ``num_keypoints`` and ``image_hw`` and returns a network (B, 3, H, W) → (B, K, H/4, W/4), or with a
SimCC head (B, K, 2W + 2H). Networks of convolutions alone do not use ``image_hw``; they take it so that all factories
are called alike.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace

from torch import nn

from lgmpose.network.config import check_image_hw

__all__ = ["PEERS", "PeerConfig", "build_peer"]

# name → module of this package and factory in it; imported when asked for, because some need torchvision
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
    "pp-tinypose": ("tinypose", "pp_tinypose"),
    "rtmpose-t": ("rtmpose", "rtmpose_t"),
    "rtmpose-s": ("rtmpose", "rtmpose_s"),
    "mobilenetv4-small": ("mobilenetv4", "mobilenetv4_small"),
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
    """Everything that distinguishes one peer network from another.

    Raises:
        ValueError: an unknown name, a size that the network cannot take, or no keypoint.
    """

    name: str
    image_hw: tuple[int, int] = (256, 192)
    num_keypoints: int = 17

    def __post_init__(self):
        object.__setattr__(self, "image_hw", tuple(self.image_hw))  # JSON has a list, which equals no tensor's shape
        if self.name not in PEERS:
            raise ValueError(f"no network {self.name!r}; there are {', '.join(PEERS)}")
        check_image_hw(self.image_hw)
        if self.num_keypoints < 1:
            raise ValueError(f"num_keypoints {self.num_keypoints}: at least 1")

    @property
    def head(self) -> str:
        """Return what the network returns for a joint: a name of ``network.config.Head``."""
        return "simcc" if self.name.startswith("rtmpose") else "heatmap"

    def with_(self, **changes) -> PeerConfig:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


def build_peer(config: PeerConfig) -> nn.Module:
    """Return the network with new weights; ``config`` becomes its attribute.

    Raises:
        ValueError: a size that the network cannot take.
        UserError: torchvision or timm is needed and not installed.
    """
    module, factory = PEERS[config.name]
    make = getattr(importlib.import_module(f"lgmpose.peers.{module}"), factory)
    net = make(num_keypoints=config.num_keypoints, image_hw=config.image_hw)
    net.config = config
    return net
