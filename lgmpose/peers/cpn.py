"""CPN: Chen et al., "Cascaded Pyramid Network for Multi-Person Pose Estimation", CVPR 2018, with ResNet-50.

GlobalNet, a feature pyramid, predicts heatmaps from each of four scales. RefineNet combines the four scales, the
coarser the deeper, and predicts once more. The authors train GlobalNet with wider targets and RefineNet with the eight
worst joints only. ``lgmpose train`` does not: all five predictions learn the same heatmaps.

This is GengDavid/pytorch-cpn, the PyTorch port, with which results were published: 27,406,826 parameters for 17 joints.
It projects every residual's input with a 1×1, and it has a BatchNorm after the 1×1 of each upsampling and on the
heatmaps. The authors' TensorFlow code has six projections less: 27,010,538 parameters, the 27.0 M that papers print.
The published 6.2 GFLOPs fit neither; they have 6.81 and 6.73 × 2³⁰ MACs at 256 × 192.

One departure from the port: RefineNet concatenates its branches from fine to coarse, the port from coarse to fine. It
is the same function with the input channels of the next layer's weights in another order. The backbone is
torchvision's, without weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.config import check_image_hw
from lgmpose.network.layers import ConvNormAct, init_conv
from lgmpose.peers.deconv import torchvision_models

__all__ = ["CPN", "Bottleneck", "GlobalNet", "RefineNet"]

SCALES = (256, 512, 1024, 2048)  # channels of ResNet-50's C2 … C5, strides 4 … 32
WIDTH = 256  # channels of all maps behind the backbone


class Bottleneck(nn.Module):
    """ResNet's residual with a projected input, 128 channels wide inside; (B, C_in, H, W) → (B, 256, H, W)."""

    def __init__(self, in_channels: int):
        super().__init__()
        hidden = WIDTH // 2
        self.layers = nn.Sequential(
            ConvNormAct(in_channels, hidden, kernel=1, activation="relu"),
            ConvNormAct(hidden, hidden, activation="relu"),
            ConvNormAct(hidden, WIDTH, kernel=1, activation=None),
        )
        self.skip = ConvNormAct(in_channels, WIDTH, kernel=1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.skip(x) + self.layers(x))


class GlobalNet(nn.Module):
    """Feature pyramid with a prediction per scale; C2 … C5 → (four maps of 256 channels, four heatmaps).

    Maps keep their strides, 4 … 32; all heatmaps are (B, K, H/4, W/4).
    """

    def __init__(self, num_keypoints: int):
        super().__init__()
        self.laterals = nn.ModuleList(ConvNormAct(C, WIDTH, kernel=1, activation="relu") for C in SCALES)
        self.tops = nn.ModuleList(ConvNormAct(WIDTH, WIDTH, kernel=1, activation=None) for _ in SCALES[1:])
        self.features = nn.ModuleList(ConvNormAct(WIDTH, WIDTH, kernel=1, activation="relu") for _ in SCALES)
        self.heads = nn.ModuleList(nn.Conv2d(WIDTH, num_keypoints, 3, padding=1, bias=False) for _ in SCALES)
        self.norms = nn.ModuleList(nn.BatchNorm2d(num_keypoints) for _ in SCALES)

    def forward(self, scales: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        heatmap_hw = scales[0].shape[-2:]
        maps: list[Tensor] = []
        heatmaps: list[Tensor] = []
        for i in reversed(range(len(scales))):  # from stride 32 up
            x = self.laterals[i](scales[i])
            if maps:
                x = x + self.tops[i](_resize(maps[0], x.shape[-2:]))
            maps.insert(0, x)
            y = self.heads[i](self.features[i](x))
            heatmaps.insert(0, self.norms[i](_resize(y, heatmap_hw)))  # BatchNorm comes after the resize
        return maps, heatmaps


class RefineNet(nn.Module):
    """Four maps of 256 channels, strides 4 … 32 → (B, K, H/4, W/4), through 0, 1, 2, 3 bottlenecks."""

    def __init__(self, num_keypoints: int):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(Bottleneck(WIDTH) for _ in range(depth))) for depth in range(len(SCALES))
        )
        self.mix = Bottleneck(len(SCALES) * WIDTH)
        self.head = nn.Conv2d(WIDTH, num_keypoints, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(num_keypoints)

    def forward(self, maps: list[Tensor]) -> Tensor:
        heatmap_hw = maps[0].shape[-2:]
        maps = [_resize(branch(x), heatmap_hw) for branch, x in zip(self.branches, maps, strict=True)]
        x = self.mix(torch.cat(maps, dim=1))  #    (B, 1024, H/4, W/4) → (B, 256, H/4, W/4)
        return self.norm(self.head(x))


class CPN(nn.Module):
    """The network; (B, 3, H, W) → (B, K, H/4, W/4), H and W multiples of 32.

    In training mode it returns five heatmaps: GlobalNet's, finest scale first, and RefineNet's, the answer, last.
    """

    def __init__(self, num_keypoints: int):
        super().__init__()
        resnet = torchvision_models().resnet50(weights=None)
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.stages = nn.ModuleList([resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4])
        self.global_net = GlobalNet(num_keypoints)
        self.refine_net = RefineNet(num_keypoints)
        self.global_net.apply(init_conv)  # the port leaves RefineNet to PyTorch

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        check_image_hw(x.shape[-2:])
        x = self.stem(x)  #                               (B, 64, H/4, W/4)
        scales = []
        for stage in self.stages:
            x = stage(x)
            scales.append(x)
        maps, heatmaps = self.global_net(scales)
        answer = self.refine_net(maps)
        return (*heatmaps, answer) if self.training else answer


def _resize(x: Tensor, hw: torch.Size) -> Tensor:
    """Resample bilinearly with aligned corners, as the code that this file follows does."""
    return F.interpolate(x, size=hw, mode="bilinear", align_corners=True)
