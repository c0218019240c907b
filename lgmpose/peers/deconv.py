"""SimpleBaseline, and light classifiers with its head: backbone → three deconvolutions → heatmaps.

* SimpleBaseline: Xiao, Wu and Wei, "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018. ResNet-50.
* MobileNetV2 1×: Sandler et al., CVPR 2018. ShuffleNetV2 1×: Ma et al., ECCV 2018. As pose networks they are mmpose's:
  the ImageNet backbones, including the last 1×1 convolution, with the same head.

The backbones are torchvision's, without weights. The extra ``peers`` installs torchvision.
"""

from __future__ import annotations

from collections import OrderedDict
from types import ModuleType

from torch import Tensor, nn

from lgmpose.errors import require
from lgmpose.network.config import check_image_hw

__all__ = [
    "DeconvHead", "DeconvPose", "backbone_of", "mobilenetv2", "shufflenetv2", "simplebaseline_r50",
    "torchvision_models",
]  # fmt: skip


class DeconvHead(nn.Sequential):
    """SimpleBaseline's head; (B, C, H, W) → (B, K, 8H, 8W).

    Three times 4×4 deconvolution with stride 2 → BatchNorm → ReLU, 256 wide, then a 1×1 to K heatmaps. The kernel is
    twice the stride, so every output pixel inside the map has 2 × 2 inputs. With 3×3, some would have one, some two and
    some four, which makes a chequerboard pattern.
    """

    def __init__(self, *, in_channels: int, num_keypoints: int, width: int = 256):
        layers: list[nn.Module] = []
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
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class DeconvPose(nn.Module):
    """A backbone of stride 32 and the three-deconvolution head; (B, 3, H, W) → (B, K, H/4, W/4).

    Args:
        backbone: (B, 3, H, W) → (B, channels, H/32, W/32).
        channels: the backbone's output width.
        num_keypoints: number of joints, K.

    Raises:
        ValueError: ``forward`` gets an input whose H or W is not a multiple of 32.
    """

    def __init__(self, *, backbone: nn.Module, channels: int, num_keypoints: int):
        super().__init__()
        self.backbone = backbone
        self.head = DeconvHead(in_channels=channels, num_keypoints=num_keypoints)

    def forward(self, x: Tensor) -> Tensor:
        check_image_hw(x.shape[-2:])
        x = self.backbone(x)  #   (B, channels, H/32, W/32)
        return self.head(x)  #    (B, K, H/4, W/4)


def torchvision_models() -> ModuleType:
    """Import ``torchvision.models``, only when a network needs it.

    Raises:
        UserError: torchvision is not installed.
    """
    require("torchvision", "peers", "this network's backbone")
    from torchvision import models

    return models


def backbone_of(classifier: nn.Module) -> nn.Sequential:
    """Return a torchvision ResNet or ShuffleNetV2 without pooling and classifier.

    The parts keep their names (``layer1``, ``stage2`` …), so that published ImageNet weights load by name.
    """
    parts = classifier.named_children()  # torchvision lists them in the order in which it calls them
    return nn.Sequential(OrderedDict((name, part) for name, part in parts if name not in {"avgpool", "fc"}))


def simplebaseline_r50(num_keypoints: int) -> DeconvPose:
    """Return SimpleBaseline with ResNet-50."""
    backbone = backbone_of(torchvision_models().resnet50(weights=None))
    return DeconvPose(backbone=backbone, channels=2048, num_keypoints=num_keypoints)


def mobilenetv2(num_keypoints: int) -> DeconvPose:
    """Return MobileNetV2 1×; the last 1×1, to 1280 channels, belongs to the backbone."""
    backbone = torchvision_models().mobilenet_v2(weights=None).features
    return DeconvPose(backbone=backbone, channels=1280, num_keypoints=num_keypoints)


def shufflenetv2(num_keypoints: int) -> DeconvPose:
    """Return ShuffleNetV2 1×; the last 1×1, to 1024 channels, belongs to the backbone."""
    backbone = backbone_of(torchvision_models().shufflenet_v2_x1_0(weights=None))
    return DeconvPose(backbone=backbone, channels=1024, num_keypoints=num_keypoints)
