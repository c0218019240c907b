"""SimpleBaseline, and the light classifiers that were given its head: backbone → three deconvolutions → heatmaps.

* SimpleBaseline: Xiao, Wu and Wei, "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018. ResNet-50.
* MobileNetV2 1×: Sandler et al., CVPR 2018. ShuffleNetV2 1×: Ma et al., ECCV 2018. As pose networks they are mmpose's:
  their ImageNet backbones, up to the last 1×1 convolution, under the same head.

The backbones are torchvision's, without weights: the extra ``peers`` installs it.
"""

from __future__ import annotations

from collections import OrderedDict
from types import ModuleType

from torch import Tensor, nn

from lgmpose.errors import UserError

__all__ = [
    "DeconvHead", "DeconvPose", "backbone_of", "check_multiple_of_32", "mobilenetv2", "require_torchvision_models",
    "shufflenetv2", "simplebaseline_r50",
]  # fmt: skip


class DeconvHead(nn.Sequential):
    """SimpleBaseline's head; (B, C, H, W) → (B, K, 8H, 8W).

    Three times 4×4 deconvolution with stride 2 → BatchNorm → ReLU, 256 wide, then a 1×1 to K heatmaps. A kernel of
    twice the stride gives every pixel inside the map 2 × 2 inputs; with 3×3 some would have one, some two, some four: a
    chequerboard.
    """

    def __init__(self, *, in_channels: int, num_keypoints: int, width: int = 256):
        layers = []
        for channels in (in_channels, width, width):
            layers += [
                nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1, bias=False),  # H → 2H
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers, nn.Conv2d(width, num_keypoints, 1))
        for module in self:
            if isinstance(module, (nn.ConvTranspose2d, nn.Conv2d)):
                nn.init.normal_(module.weight, std=0.001)  # heatmaps start near zero
        nn.init.zeros_(self[-1].bias)


class DeconvPose(nn.Module):
    """A backbone of stride 32 under the three-deconvolution head; (B, 3, H, W) → (B, K, H/4, W/4).

    No weight depends on the input's size, so one network takes every multiple of 32.

    Args:
        backbone: (B, 3, H, W) → (B, channels, H/32, W/32).
        image_hw: the size that it is meant for, checked at once instead of at the first picture.

    Raises (also in ``forward``):
        ValueError: not a multiple of 32.
    """

    def __init__(self, *, backbone: nn.Module, channels: int, num_keypoints: int, image_hw: tuple[int, int]):
        super().__init__()
        check_multiple_of_32(image_hw)
        self.backbone = backbone
        self.head = DeconvHead(in_channels=channels, num_keypoints=num_keypoints)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        check_multiple_of_32((H, W))
        x = self.backbone(x)  #   (B, channels, H/32, W/32)
        return self.head(x)  #    (B, K, H/4, W/4)


def check_multiple_of_32(image_hw: tuple[int, int]) -> None:
    """Halving five times must leave nothing over, else the heatmaps would not lie on the picture.

    Raises:
        ValueError: not a multiple of 32.
    """
    H, W = image_hw
    if H < 32 or W < 32 or H % 32 or W % 32:
        raise ValueError(f"pictures of {H} × {W} do not fit this network: height and width must be multiples of 32")


def require_torchvision_models() -> ModuleType:
    """``torchvision.models``, imported only when a network needs it.

    Raises:
        UserError: torchvision is not installed.
    """
    try:
        from torchvision import models
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise  # it is there, and something that it needs itself is not
        raise UserError("this network's backbone is torchvision's: pip install 'lgmpose[peers]' installs it") from error
    return models


def backbone_of(classifier: nn.Module) -> nn.Sequential:
    """A torchvision ResNet or ShuffleNetV2 without what follows its last map: pooling and the linear classifier.

    The parts keep their names (``layer1``, ``stage2`` …), so that published ImageNet weights load by name.
    """
    parts = classifier.named_children()  # torchvision lists them in the order in which it calls them
    return nn.Sequential(OrderedDict((name, part) for name, part in parts if name not in {"avgpool", "fc"}))


# The networks by name


def simplebaseline_r50(num_keypoints: int, image_hw: tuple[int, int]) -> DeconvPose:
    """SimpleBaseline with ResNet-50."""
    backbone = backbone_of(require_torchvision_models().resnet50(weights=None))
    return DeconvPose(backbone=backbone, channels=2048, num_keypoints=num_keypoints, image_hw=image_hw)


def mobilenetv2(num_keypoints: int, image_hw: tuple[int, int]) -> DeconvPose:
    """MobileNetV2 1×, of which the last 1×1 to 1280 channels belongs to the backbone."""
    backbone = require_torchvision_models().mobilenet_v2(weights=None).features
    return DeconvPose(backbone=backbone, channels=1280, num_keypoints=num_keypoints, image_hw=image_hw)


def shufflenetv2(num_keypoints: int, image_hw: tuple[int, int]) -> DeconvPose:
    """ShuffleNetV2 1×, of which the last 1×1 to 1024 channels belongs to the backbone."""
    backbone = backbone_of(require_torchvision_models().shufflenet_v2_x1_0(weights=None))
    return DeconvPose(backbone=backbone, channels=1024, num_keypoints=num_keypoints, image_hw=image_hw)
