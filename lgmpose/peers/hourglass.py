"""Stacked Hourglass: Newell, Yang and Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016.

Eight times down to 1/16 of the resolution and up again. Each hourglass ends in heatmaps with a loss of their own, and
the next hourglass gets them as input. Every convolution has a bias, also those before a BatchNorm.

This is bearpaw/pytorch-pose, the PyTorch port, whose counts and results are published: 25,598,472 parameters for 17
joints, 21.083 GMAC at 256 × 192. In the authors' Torch code the stem's residuals are 128, 128 and 256 wide instead of
128, 256 and 256: 25,437,960 parameters, 20.592 GMAC. Published tables say 25.1 M and 14.3 G, which fits neither.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.config import check_image_hw

__all__ = ["Hourglass", "PreActBottleneck", "StackedHourglass", "hourglass_8"]

SMALLEST = 64  # pixels on a side: a quarter of it can be halved four times


class PreActBottleneck(nn.Module):
    """Residual whose norm and activation come before each convolution; (B, C_in, H, W) → (B, C_out, H, W).

    1×1 to half the output's width, 3×3, 1×1. Nothing follows the sum. If the widths differ, a 1×1 without norm brings
    the skip to the output's width.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        hidden = out_channels // 2
        self.layers = nn.Sequential(
            *_norm_act(in_channels), nn.Conv2d(in_channels, hidden, 1),
            *_norm_act(hidden), nn.Conv2d(hidden, hidden, 3, padding=1),
            *_norm_act(hidden), nn.Conv2d(hidden, out_channels, 1),
        )  # fmt: skip
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.layers(x)


class Hourglass(nn.Module):
    """``depth`` halvings and as many doublings, with a residual on every skip; (B, C, H, W) → (B, C, H, W).

    An hourglass contains the next smaller one: 3 × depth + 1 residuals in all.
    """

    def __init__(self, channels: int, *, depth: int = 4):
        super().__init__()
        self.skip = PreActBottleneck(channels, channels)
        self.before = PreActBottleneck(channels, channels)
        self.inner = Hourglass(channels, depth=depth - 1) if depth > 1 else PreActBottleneck(channels, channels)
        self.after = PreActBottleneck(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        y = self.before(F.max_pool2d(x, 2))  #      (B, C, ⌊H/2⌋, ⌊W/2⌋)
        y = self.after(self.inner(y))
        # To the skip's size. The port doubles, which is the same for even sizes, but 384 × 288 has a map of 9.
        y = F.interpolate(y, size=(H, W), mode="nearest")
        return self.skip(x) + y


class StackedHourglass(nn.Module):
    """The network; (B, 3, H, W) → (B, K, H/4, W/4).

    In training mode it returns the heatmaps of every stack, the final ones last. Each has its own loss.

    Args:
        num_keypoints: number of joints, K.
        stacks: number of hourglasses.
        channels: their width; the port's is 256.

    Raises:
        ValueError: ``forward`` gets an input whose H or W is not a multiple of 32, or is below 64.
    """

    def __init__(self, num_keypoints: int, *, stacks: int = 8, channels: int = 256):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3),
            *_norm_act(64),
            PreActBottleneck(64, 128),  #       at H/2
            nn.MaxPool2d(2),
            PreActBottleneck(128, channels),  # at H/4, as all that follows
            PreActBottleneck(channels, channels),
        )
        self.hourglasses = nn.ModuleList(
            nn.Sequential(
                Hourglass(channels),
                PreActBottleneck(channels, channels),
                nn.Conv2d(channels, channels, 1),
                *_norm_act(channels),
            )
            for _ in range(stacks)
        )
        self.heads = nn.ModuleList(nn.Conv2d(channels, num_keypoints, 1) for _ in range(stacks))
        # A stack's features and heatmaps are added to the next one's input.
        self.remap_features = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1))
        self.remap_heatmaps = nn.ModuleList(nn.Conv2d(num_keypoints, channels, 1) for _ in range(stacks - 1))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        check_image_hw(x.shape[-2:], SMALLEST)
        x = self.stem(x)  #                                 (B, channels, H/4, W/4)
        outputs = []
        for i, (hourglass, head) in enumerate(zip(self.hourglasses, self.heads, strict=True)):
            features = hourglass(x)
            outputs.append(head(features))  #               (B, K, H/4, W/4)
            if i < len(self.remap_features):
                x = x + self.remap_features[i](features) + self.remap_heatmaps[i](outputs[-1])
        return tuple(outputs) if self.training else outputs[-1]


def _norm_act(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU(inplace=True)


def hourglass_8(num_keypoints: int, image_hw: tuple[int, int]) -> StackedHourglass:
    """Return eight stacks, as in pytorch-pose.

    Raises:
        ValueError: a size below 64.
    """
    check_image_hw(image_hw, SMALLEST)
    return StackedHourglass(num_keypoints)
