"""Lite-HRNet-18 and -30: HRNet's branches, without the 1×1 convolutions that make ShuffleNet's blocks expensive.

Yu et al., "Lite-HRNet: A Lightweight High-Resolution Network", CVPR 2021. A ShuffleNetV2 block spends most of its MACs
in two 1×1 convolutions, which mix channels at every pixel. Here channels are *weighted* instead, by two kinds of
factors. ``CrossResolutionWeighting`` computes factors on a coarse grid from all resolutions together.
``SpatialWeighting`` computes factors for the whole map from each branch alone. Both are cheap. Between them is one
depthwise 3×3.

As in the published code, every fusion adds branch 0 twice (see ``quirk`` of ``multibranch.Fusion``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.layers import ConvNormAct, channel_shuffle
from lgmpose.peers.multibranch import HalfBlock, LightHRNet, Parallel

__all__ = [
    "CrossResolutionWeighting", "LiteHRNet", "LiteStem", "SpatialWeighting", "weighting_block",
]  # fmt: skip


class SpatialWeighting(nn.Module):
    """Squeeze and excitation: multiply each channel by a factor in (0, 1) from its mean; (B, C, H, W) → same."""

    def __init__(self, channels: int, *, reduction: int = 4):
        super().__init__()
        hidden = channels // reduction
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)  # (B, C, 1, 1) broadcast


class CrossResolutionWeighting(nn.Module):
    """Multiply by a factor in (0, 1) per channel and cell of the lowest resolution; branches → same.

    The factors come from all branches together.
    """

    def __init__(self, widths: Sequence[int], *, reduction: int = 8):
        super().__init__()
        self.widths = list(widths)
        total = sum(widths)
        self.weights = nn.Sequential(
            ConvNormAct(total, total // reduction, kernel=1, activation="relu"),
            ConvNormAct(total // reduction, total, kernel=1, activation=None),
            nn.Sigmoid(),
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        h, w = branches[-1].shape[-2:]
        pooled = [F.adaptive_avg_pool2d(x, (h, w)) for x in branches[:-1]]
        weights = self.weights(torch.cat([*pooled, branches[-1]], dim=1))  # (B, ΣC, h, w)
        weights = weights.split(self.widths, dim=1)
        return [x * F.interpolate(a, size=x.shape[-2:]) for x, a in zip(branches, weights, strict=True)]


def weighting_block(widths: Sequence[int]) -> HalfBlock:
    """Return the paper's conditional channel weighting; branches → same."""
    half = [width // 2 for width in widths]
    return HalfBlock(
        CrossResolutionWeighting(half),
        Parallel(ConvNormAct(width, width, groups=width, activation=None) for width in half),
        Parallel(SpatialWeighting(width) for width in half),
    )


class LiteStem(nn.Module):
    """A 3×3 convolution to stride 2, then a ShuffleNetV2 unit to stride 4; (B, 3, H, W) → (B, C, H/4, W/4)."""

    def __init__(self, channels: int = 32):
        super().__init__()
        half = channels // 2
        self.conv = ConvNormAct(3, channels, stride=2, activation="relu")
        self.first = nn.Sequential(
            ConvNormAct(half, half, stride=2, groups=half, activation=None),
            ConvNormAct(half, half, kernel=1, activation="relu"),
        )
        self.second = nn.Sequential(
            ConvNormAct(half, channels, kernel=1, activation="relu"),
            ConvNormAct(channels, channels, stride=2, groups=channels, activation=None),
            ConvNormAct(channels, half, kernel=1, activation="relu"),
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, dim=1)
        return channel_shuffle(torch.cat([self.first(a), self.second(b)], dim=1), 2)


class LiteHRNet(LightHRNet):
    """Lite-HRNet; (B, 3, H, W) → (B, K, H/4, W/4). Arguments and errors: see ``LightHRNet``."""

    make_stem, make_block, quirk = LiteStem, staticmethod(weighting_block), "lite"
