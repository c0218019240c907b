"""Dite-HRNet-18 and -30: Lite-HRNet's skeleton, with kernels that depend on the image and attention pooling.

Li et al., "Dite-HRNet: Dynamic Lightweight High-Resolution Network for Human Pose Estimation", IJCAI 2022. Its new
parts: ``DynamicConv`` (the paper's dynamic kernel aggregation), ``GlobalContext`` (global context modeling) and
``DenseContext`` (dense context modeling, which replaces Lite-HRNet's cross-resolution weighting).

Three properties of the published code are kept. Every fusion adds branch 0 twice (see ``quirk`` of
``multibranch.Fusion``). ``DenseContext`` gathers by reshaping, which does not bring neighbouring pixels together. Every
``DenseContext`` has a mask for the lowest branch that it never uses, so its parameters require no gradient. (The bias
of a used mask gets a gradient of zero, because softmax ignores what is added to all pixels.)

Training needs more than one image per batch: the norms after a global pooling see one value per channel and image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.layers import ConvNormAct, channel_shuffle, make_activation
from lgmpose.peers.multibranch import HalfBlock, LightHRNet, Parallel

__all__ = [
    "DenseContext", "DiteHRNet", "DiteStem", "DynamicConv", "GlobalContext", "SplitConv", "context_block",
]  # fmt: skip


class DynamicConv(nn.Module):
    """Convolution with a sum of n kernels, weighted for each image; (B, C_in, H, W) → (B, C_out, H/s, W/s).

    The weights come from the means of the input's channels through a sigmoid, not a softmax. All images of a batch are
    convolved at once, as groups of one image with B · C_in channels.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, num_kernels: int, stride: int = 1, groups: int = 1
    ):
        super().__init__()
        self.stride, self.groups = stride, groups
        hidden = in_channels // 4
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            ConvNormAct(in_channels, hidden, kernel=1, activation="relu"),
            nn.Conv2d(hidden, num_kernels, 1),
            nn.Sigmoid(),
            nn.Flatten(),
        )
        self.kernels = nn.Parameter(torch.empty(num_kernels, out_channels, in_channels // groups, kernel, kernel))
        for weight in self.kernels:
            nn.init.kaiming_uniform_(weight)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        n, C_out, C_group, k, _ = self.kernels.shape
        weight = self.attention(x) @ self.kernels.flatten(1)  #  (B, n) × (n, C_out · C_group · k²)
        weight = weight.view(B * C_out, C_group, k, k)
        x = x.reshape(1, B * C, H, W)
        x = F.conv2d(x, weight, stride=self.stride, padding=k // 2, groups=B * self.groups)
        return x.view(B, C_out, *x.shape[-2:])


class DynamicConvNormAct(nn.Sequential):
    """``ConvNormAct`` with a dynamic convolution; ``options``: its stride and groups."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int = 3, num_kernels: int = 4,
        activation: str | None = None, **options: int,
    ):  # fmt: skip
        conv = DynamicConv(in_channels, out_channels, kernel=kernel, num_kernels=num_kernels, **options)
        last = [] if activation is None else [make_activation(activation)]
        super().__init__(conv, nn.BatchNorm2d(out_channels), *last)


def _gate(channels: int, hidden: int) -> nn.Sequential:
    """Return a module that computes factors in (0, 1) by two 1×1 convolutions; (B, C, h, w) → same."""
    return nn.Sequential(
        ConvNormAct(channels, hidden, kernel=1, activation="relu"), nn.Conv2d(hidden, channels, 1), nn.Sigmoid()
    )


class GlobalContext(nn.Module):
    """Multiply each channel by a factor from an attention-weighted mean over the pixels; (B, C, H, W) → same."""

    def __init__(self, channels: int, *, reduction: int):
        super().__init__()
        self.mask = nn.Conv2d(channels, 1, 1)
        self.gate = _gate(channels, channels // reduction)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        attention = self.mask(x).flatten(2).softmax(dim=-1)  #   (B, 1, HW)
        context = x.flatten(2) @ attention.transpose(1, 2)  #    (B, C, 1)
        return self.norm(x * self.gate(context.unsqueeze(-1)))


class DenseContext(nn.Module):
    """Weight each channel in each cell of the lowest resolution's grid; the branches keep their shapes.

    The factors come from all branches together. Each higher branch is reduced to h · w = P cells by a sum over the r =
    HW / P pixels of a cell, weighted by a softmax over the whole map. The published code forms "cells" by a plain
    reshape: of the map (B, C, HW) to (B, P, C, r), of the mask (B, HW) to (B, P, r). This has two side effects. The
    mask's cells are r consecutive pixels in reading order instead of squares. Most values of the map move to another
    channel, where the mask's values of other pixels weight them. We keep this, because trained weights rely on it.
    """

    def __init__(self, widths: Sequence[int], *, reduction: int = 8):
        super().__init__()
        self.widths = list(widths)
        total = sum(widths)
        self.masks = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in widths)
        self.masks[-1].requires_grad_(False)  # never used; several processes would wait for its gradient
        self.gate = _gate(total, total // reduction)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        h, w = branches[-1].shape[-2:]
        gathered = [_gather(x, mask(x), (h, w)) for x, mask in zip(branches[:-1], self.masks[:-1], strict=True)]
        weights = self.gate(torch.cat([*gathered, branches[-1]], dim=1)).split(self.widths, dim=1)
        return [x * F.interpolate(a, size=x.shape[-2:]) for x, a in zip(branches, weights, strict=True)]


def _gather(x: Tensor, mask: Tensor, cells_hw: tuple[int, int]) -> Tensor:
    """Reduce (B, C, H, W) by a mask (B, 1, H, W) to (B, C, h, w)."""
    B, C, H, W = x.shape
    h, w = cells_hw
    attention = mask.flatten(1).softmax(dim=-1).view(B, h * w, -1, 1)  #  (B, P, r, 1)
    x = x.reshape(B, h * w, C, -1) @ attention  #                         (B, P, C, 1)
    return x.transpose(1, 2).reshape(B, C, h, w)


class SplitConv(nn.Module):
    """Depthwise convolutions of 3×3, 5×5, … on equal groups of the channels, then a shuffle; (B, C, H, W) → same."""

    def __init__(self, channels: int, *, groups: int, num_kernels: int):
        super().__init__()
        width = channels // groups
        self.convs = nn.ModuleList()
        for kernel in range(3, 3 + 2 * groups, 2):
            conv: nn.Module
            if num_kernels == 1:  # nothing to weight: an ordinary convolution
                conv = ConvNormAct(width, width, kernel=kernel, groups=width, activation=None)
            else:
                conv = DynamicConvNormAct(width, width, kernel=kernel, groups=width, num_kernels=num_kernels)
            self.convs.append(conv)

    def forward(self, x: Tensor) -> Tensor:
        groups = len(self.convs)
        parts = [conv(part) for conv, part in zip(self.convs, x.chunk(groups, dim=1), strict=True)]
        return channel_shuffle(torch.cat(parts, dim=1), groups)


# Per branch, highest resolution first. Lower resolutions have more kernel sizes and fewer kernels per convolution.
_GROUPS = (1, 1, 2, 4)
_NUM_KERNELS = (4, 4, 2, 1)
_CONTEXT_REDUCTION = (4, 4, 8, 8)


def context_block(widths: Sequence[int]) -> HalfBlock:
    """Return the paper's dynamic multi-scale context block, which keeps number and shapes of the branches."""
    half = [width // 2 for width in widths]
    return HalfBlock(
        DenseContext(half),
        Parallel(SplitConv(C, groups=_GROUPS[i], num_kernels=_NUM_KERNELS[i]) for i, C in enumerate(half)),
        Parallel(GlobalContext(C, reduction=_CONTEXT_REDUCTION[i]) for i, C in enumerate(half)),
    )


class DiteStem(nn.Module):
    """A 3×3 to 1/2, then two paths of dynamic convolutions to 1/4; (B, 3, H, W) → (B, C, H/4, W/4)."""

    def __init__(self, channels: int = 32):
        super().__init__()
        half = channels // 2
        self.conv = ConvNormAct(3, channels, stride=2, activation="relu")
        self.first = nn.Sequential(
            DynamicConvNormAct(half, half, stride=2, groups=half),
            GlobalContext(half, reduction=4),
            DynamicConvNormAct(half, half, kernel=1, activation="relu"),
        )
        self.second = nn.Sequential(
            DynamicConvNormAct(half, half, groups=half),
            GlobalContext(half, reduction=4),
            DynamicConvNormAct(half, half // 4, kernel=1, activation="relu"),
            DynamicConvNormAct(half // 4, half, kernel=1),
            DynamicConvNormAct(half, half, stride=2, groups=half, activation="relu"),
        )

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, dim=1)
        return channel_shuffle(torch.cat([self.first(a), self.second(b)], dim=1), 2)


class DiteHRNet(LightHRNet):
    """Dite-HRNet; (B, 3, H, W) → (B, K, H/4, W/4). Arguments and errors: see ``LightHRNet``."""

    make_stem, make_block, quirk = DiteStem, staticmethod(context_block), "dite"
