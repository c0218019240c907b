"""The networks that LGM-Pose is compared with, one file per family, and the list of their names and sizes.

Every network goes from (B, 3, H, W) to (B, K, H/4, W/4), or with a SimCC head to (B, K, 2W + 2H).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from lgmpose.network.config import check_image_hw

__all__ = ["PEERS", "Peer", "PeerConfig", "build_peer"]


@dataclass(frozen=True)
class Peer:
    """How a network is built.

    Attributes:
        module: of this package; imported when the network is built, because some need torchvision or timm.
        make: a class or function of the module. It is called with ``num_keypoints`` and the options.
        options: what distinguishes the network from others of its family.
        fixed_size: whether it also takes ``image_hw``: it is built for one input size, or refuses some.
    """

    module: str
    make: str
    options: dict[str, Any] = field(default_factory=dict)
    fixed_size: bool = False


PEERS: dict[str, Peer] = {
    "simplebaseline-r50": Peer("deconv", "simplebaseline_r50"),
    "mobilenetv2": Peer("deconv", "mobilenetv2"),
    "shufflenetv2": Peer("deconv", "shufflenetv2"),
    "hrnet-w32": Peer("hrnet", "HRNet", {"widths": (32, 64, 128, 256), "modules": (1, 4, 3)}),
    "small-hrnet": Peer("hrnet", "HRNet", {
        "widths": (16, 32, 64, 128), "modules": (1, 1, 1), "blocks": 2, "bottlenecks": 1, "bottleneck_width": 32,
    }),
    "lite-hrnet-18": Peer("litehrnet", "LiteHRNet", {"modules": (2, 4, 2)}),
    "lite-hrnet-30": Peer("litehrnet", "LiteHRNet", {"modules": (3, 8, 3)}),
    "dite-hrnet-18": Peer("ditehrnet", "DiteHRNet", {"modules": (2, 4, 2)}),
    "dite-hrnet-30": Peer("ditehrnet", "DiteHRNet", {"modules": (3, 8, 3)}),
    "pp-tinypose": Peer("tinypose", "TinyPose", {"modules": (2, 4, 2)}),
    "rtmpose-t": Peer("rtmpose", "rtmpose_t", fixed_size=True),
    "rtmpose-s": Peer("rtmpose", "rtmpose_s", fixed_size=True),
    "mobilenetv4-small": Peer("mobilenetv4", "MobileNetV4Pose"),
    "hourglass-8": Peer("hourglass", "hourglass_8", fixed_size=True),
    "cpn-r50": Peer("cpn", "CPN"),
    "tokenpose-b": Peer("tokenpose", "TokenPose", {"backbone_width": 32, "layers": (12,)}, fixed_size=True),
    "tokenpose-l-d6": Peer("tokenpose", "TokenPose", {"backbone_width": 48, "layers": (2, 2, 2)}, fixed_size=True),
    "mobilevit-xxs": Peer("mobilevit", "mobilevit_pose", {"size": "xxs"}),
    "mobilevit-xs": Peer("mobilevit", "mobilevit_pose", {"size": "xs"}),
    "mobilevit-s": Peer("mobilevit", "mobilevit_pose", {"size": "s"}),
}  # fmt: skip


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
    peer = PEERS[config.name]
    make = getattr(importlib.import_module(f"lgmpose.peers.{peer.module}"), peer.make)
    size = {"image_hw": config.image_hw} if peer.fixed_size else {}
    net = make(num_keypoints=config.num_keypoints, **size, **peer.options)
    net.config = config
    return net
