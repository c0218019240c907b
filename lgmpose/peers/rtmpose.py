"""RTMPose-t and -s: the backbone CSPNeXt, and a head that classifies each joint's x and y (``network.simcc``).

Jiang et al., "RTMPose: Real-Time Multi-Person Pose Estimation based on MMPose", 2023. The backbone is a plain chain to
stride 32 with cheap 5×5 depthwise convolutions. The networks are trained with ``--codec simcc``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.config import check_image_hw
from lgmpose.network.layers import ConvNormAct
from lgmpose.network.simcc import SimCCHead

__all__ = [
    "CSPBlock", "CSPLayer", "CSPNeXt", "ChannelAttention", "RTMPose", "SpatialPyramid", "rtmpose_s", "rtmpose_t",
]  # fmt: skip


class ChannelAttention(nn.Module):
    """Multiply each channel by a factor in [0, 1] from the means of all channels; (B, C, H, W) → same."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.conv(F.adaptive_avg_pool2d(x, 1)))


class CSPBlock(nn.Module):
    """3×3 → depthwise 5×5 → 1×1, with the input added unless ``residual`` is False; (B, C, H, W) → same."""

    def __init__(self, channels: int, *, residual: bool):
        super().__init__()
        self.layers = nn.Sequential(
            ConvNormAct(channels, channels, activation="silu"),
            ConvNormAct(channels, channels, kernel=5, groups=channels, activation="silu"),
            ConvNormAct(channels, channels, kernel=1, activation="silu"),
        )
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.layers(x)) if self.residual else self.layers(x)


class CSPLayer(nn.Module):
    """Blocks on one half of the width, a 1×1 on the other, then attention over both; (B, C, H, W) → same."""

    def __init__(self, channels: int, *, blocks: int, residual: bool):
        super().__init__()
        half = channels // 2
        self.main = nn.Sequential(
            ConvNormAct(channels, half, kernel=1, activation="silu"),
            *(CSPBlock(half, residual=residual) for _ in range(blocks)),
        )
        self.short = ConvNormAct(channels, half, kernel=1, activation="silu")
        self.attention = ChannelAttention(channels)
        self.final = ConvNormAct(channels, channels, kernel=1, activation="silu")

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.attention(torch.cat([self.main(x), self.short(x)], dim=1)))


class SpatialPyramid(nn.Module):
    """Concatenate a map with its maxima over 5×5, 9×9 and 13×13; (B, C, H, W) → same."""

    def __init__(self, channels: int):
        super().__init__()
        self.narrow = ConvNormAct(channels, channels // 2, kernel=1, activation="silu")
        self.widen = ConvNormAct(2 * channels, channels, kernel=1, activation="silu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.narrow(x)
        return self.widen(torch.cat([x, *(F.max_pool2d(x, k, stride=1, padding=k // 2) for k in (5, 9, 13))], dim=1))


class CSPNeXt(nn.Sequential):
    """The backbone: (B, 3, H, W) → (B, 8C, H/32, W/32), where C is the width of the first stage."""

    def __init__(self, width: int, *, blocks: tuple[int, int, int, int]):
        layers: list[nn.Module] = [
            ConvNormAct(3, width // 4, stride=2, activation="silu"),
            ConvNormAct(width // 4, width // 4, activation="silu"),
            ConvNormAct(width // 4, width // 2, activation="silu"),
        ]
        for stage, number in enumerate(blocks):
            channels, is_last = width * 2**stage, stage == len(blocks) - 1
            layers.append(ConvNormAct(channels // 2, channels, stride=2, activation="silu"))
            if is_last:
                layers.append(SpatialPyramid(channels))
            layers.append(CSPLayer(channels, blocks=number, residual=not is_last))
        super().__init__(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.weight, -bound, bound)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class RTMPose(nn.Sequential):
    """Backbone and head; (B, 3, H, W) → (B, K, 2W + 2H), for one input size.

    Raises:
        ValueError: height or width is not a multiple of 32.
    """

    def __init__(
        self, num_keypoints: int, image_hw: tuple[int, int], *, width: int, blocks: tuple[int, int, int, int]
    ):
        check_image_hw(image_hw)
        head = SimCCHead(8 * width, num_keypoints=num_keypoints, image_hw=image_hw)
        super().__init__(CSPNeXt(width, blocks=blocks), head)


def rtmpose_t(num_keypoints: int = 17, image_hw: tuple[int, int] = (256, 192)) -> RTMPose:
    """Return RTMPose-t: 3.34 M parameters at 256×192."""
    return RTMPose(num_keypoints, image_hw, width=48, blocks=(1, 1, 1, 1))


def rtmpose_s(num_keypoints: int = 17, image_hw: tuple[int, int] = (256, 192)) -> RTMPose:
    """Return RTMPose-s: 5.47 M parameters at 256×192."""
    return RTMPose(num_keypoints, image_hw, width=64, blocks=(1, 2, 2, 1))
