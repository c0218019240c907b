"""Stacked Hourglass: Newell, Yang and Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016.

Eight times down to a sixteenth of the resolution and up again, each time ending in heatmaps that are trained on their
own and that the next hourglass gets to see. Every convolution has a bias, also those before a BatchNorm.

There are two Hourglasses. In the authors' Torch code the stem's three residuals are 128, 128 and 256 wide; in
pytorch-pose, its port, 128, 256 and 256. ``stem_channels`` chooses.

* the port's, the default: 25,598,472 parameters for 17 joints, 21.083 GMAC at 256 × 192. The counts that others quote,
  and published results, are this network's.
* the authors': 25,437,960 parameters, 20.592 GMAC.

Published tables say 25.1 M and 14.3 G, which is neither.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Hourglass", "PreActBottleneck", "StackedHourglass", "hourglass_8"]


class PreActBottleneck(nn.Module):
    """Residual whose norm and activation come before each convolution; (B, C_in, H, W) → (B, C_out, H, W).

    1×1 to half the output's width, 3×3, 1×1. Nothing follows the sum, so that the skips of all residuals form one clean
    path. A 1×1 without norm brings the skip to another width.
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
        B, C, H, W = x.shape
        y = self.before(F.max_pool2d(x, 2))  #      (B, C, ⌊H/2⌋, ⌊W/2⌋)
        y = self.after(self.inner(y))
        # To the skip's size, which is the original's × 2 wherever it is even. (An input of 384 × 288 has a map of 9.)
        y = F.interpolate(y, size=(H, W), mode="nearest")
        return self.skip(x) + y


class StackedHourglass(nn.Module):
    """The network; (B, 3, H, W) → (B, K, H/4, W/4).

    In training mode it returns every stack's heatmaps, the answer last: each has its own loss. No weight depends on the
    input's size; ``image_hw`` is checked and no more.

    Args:
        num_keypoints: K.
        image_hw: the input's height and width.
        stacks: how many hourglasses.
        channels: their width.
        stem_channels: widths of the stem's first two residuals; (128, 128) is the original's.

    Raises (also in ``forward``):
        ValueError: not a multiple of 32, or below 64: nothing would be left after four halvings of a quarter.
    """

    def __init__(
        self,
        *,
        num_keypoints: int,
        image_hw: tuple[int, int],
        stacks: int = 8,
        channels: int = 256,
        stem_channels: tuple[int, int] = (128, 256),
    ):
        super().__init__()
        _check_size(image_hw)
        first, second = stem_channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3),
            *_norm_act(64),
            PreActBottleneck(64, first),  #      at H/2
            nn.MaxPool2d(2),
            PreActBottleneck(first, second),  # at H/4, as all that follows
            PreActBottleneck(second, channels),
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
        # What a stack found goes back into the next one's input, features and heatmaps alike.
        self.remap_features = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1))
        self.remap_heatmaps = nn.ModuleList(nn.Conv2d(num_keypoints, channels, 1) for _ in range(stacks - 1))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        _check_size(x.shape[-2:])
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


def _check_size(image_hw: tuple[int, int]) -> None:
    H, W = image_hw
    if min(H, W) < 64 or H % 32 or W % 32:
        raise ValueError(
            f"pictures of {H} × {W} do not fit this network: height and width must be multiples of 32, 64 at least"
        )


def hourglass_8(num_keypoints: int, image_hw: tuple[int, int]) -> StackedHourglass:
    """Eight stacks, as pytorch-pose has them."""
    return StackedHourglass(num_keypoints=num_keypoints, image_hw=image_hw)
