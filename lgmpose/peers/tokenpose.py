"""TokenPose-B and -L/D6: Li et al., "TokenPose: Learning Keypoint Tokens for Human Pose Estimation", ICCV 2021.

A truncated HRNet makes a map at 1/4 of the resolution; its patches become visual tokens. Every joint has a learned
token of its own, which attends to the visual tokens and to the other joints' tokens. A linear head turns each joint's
token into a heatmap. The table of positions is fixed, but stored as a parameter, as in the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.modules import npt_op1, patch_grid
from lgmpose.peers.hrnet import HRNetStem3

__all__ = ["EncoderLayer", "TokenPose", "choose_patch_hw", "sine_positions"]


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer; (B, N, d) → (B, N, d).

    The attention's products are written out, instead of calling ``scaled_dot_product_attention``, so that every counter
    of MACs sees them.
    """

    def __init__(self, width: int, *, heads: int = 8, mlp_ratio: int = 3):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))

    def attention(self, x: Tensor) -> Tensor:
        B, N, d = x.shape
        q, k, v = self.qkv(x).view(B, N, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5).softmax(dim=-1)  # (B, heads, N, N)
        return self.out((weights @ v).transpose(1, 2).reshape(B, N, d))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TokenPose(nn.Module):
    """The network; (B, 3, H, W) → (B, K, H/4, W/4), for the one input size it was built for.

    Args:
        num_keypoints: number of joints, K.
        image_hw: the input's height and width.
        layers: number of transformer layers in each group. The head reads the keypoint tokens after each group.
        backbone_width: width of HRNet's 1/4-resolution branch: 32 or 48.
        width: width of a token, d.
        heads: number of heads of the attention; a divisor of ``width``.

    Raises:
        ValueError: ``forward`` gets an input of another size.
    """

    def __init__(
        self,
        *,
        num_keypoints: int,
        image_hw: tuple[int, int],
        layers: Sequence[int],
        backbone_width: int = 32,
        width: int = 192,
        heads: int = 8,
    ):
        super().__init__()
        H, W = image_hw[0] // 4, image_hw[1] // 4
        h, w = choose_patch_hw((H, W))
        self.image_hw, self.map_hw, self.patch_hw = image_hw, (H, W), (h, w)

        self.backbone = HRNetStem3(width=backbone_width)
        self.embed = nn.Linear(h * w * backbone_width, width)
        self.keypoint_tokens = nn.Parameter(torch.empty(1, num_keypoints, width))
        self.positions = nn.Parameter(sine_positions(patch_grid((H, W), (h, w)), width), requires_grad=False)
        self.groups = nn.ModuleList(
            nn.ModuleList(EncoderLayer(width, heads=heads) for _ in range(depth)) for depth in layers
        )
        self.head = _make_head(len(layers) * width, H * W)

        nn.init.trunc_normal_(self.keypoint_tokens, std=0.02)
        for part in (self.embed, self.groups, self.head):
            part.apply(_init_weights)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        if (H, W) != self.image_hw:
            raise ValueError(
                f"this network was built for crops of {self.image_hw[0]} × {self.image_hw[1]}, got {H} × {W}; its "
                "positions and its head fit one size only"
            )
        K = self.keypoint_tokens.shape[1]
        x = self.backbone(x)  #                                                (B, C, H/4, W/4)
        x = npt_op1(x, self.patch_hw).permute(0, 3, 1, 2).flatten(2)  #        (B, N, P · C)
        x = torch.cat([self.keypoint_tokens.expand(B, -1, -1), self.embed(x)], dim=1)  # (B, K + N, d)
        positions = F.pad(self.positions, (0, 0, K, 0))  # none for the keypoint tokens
        x = x + positions
        found = []
        for group in self.groups:
            assert isinstance(group, nn.ModuleList)
            for i, layer in enumerate(group):
                # Again before each layer, but not before the first of a later group, as in the authors' code.
                x = layer(x + positions if i else x)
            found.append(x[:, :K])
        return self.head(torch.cat(found, dim=2)).view(B, K, *self.map_hw)


def choose_patch_hw(map_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the authors' patch size: the largest that tiles the map with at least 16 patches on either axis.

    4 × 3 for an input of 256 × 192, 4 × 4 for 256 × 256 and 6 × 4 for 384 × 288.
    """
    H, W = (max(d for d in range(1, max(side // 16, 1) + 1) if side % d == 0) for side in map_hw)
    return H, W


def sine_positions(grid_hw: tuple[int, int], width: int) -> Tensor:
    """Return DETR's fixed table of a grid's positions, row by row, (1, N, width).

    The first half of the channels encodes y, the second x. Channel pairs hold sine and cosine of the position, which
    runs over (0, 2π], divided by 1 … 10,000.
    """
    H, W = grid_hw
    half = width // 2
    slowness = 10_000 ** (2 * (torch.arange(half) // 2) / half)
    rows, columns = (
        _sines(torch.arange(1, side + 1)[:, None] / (side + 1e-6) * (2 * math.pi) / slowness) for side in grid_hw
    )
    table = torch.cat([rows[:, None].expand(H, W, half), columns[None].expand(H, W, half)], dim=2)
    return table.reshape(1, H * W, 2 * half)


def _sines(angles: Tensor) -> Tensor:
    """Return the sine of even channels and the cosine of odd ones."""
    return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)


def _make_head(in_features: int, map_pixels: int) -> nn.Sequential:
    """Return (B, K, in_features) → (B, K, map_pixels), with a hidden layer if it is at least twice as wide."""
    hidden = map_pixels // 8
    if 2 * in_features > hidden:
        return nn.Sequential(nn.LayerNorm(in_features), nn.Linear(in_features, map_pixels))
    return nn.Sequential(
        nn.LayerNorm(in_features), nn.Linear(in_features, hidden), nn.LayerNorm(hidden), nn.Linear(hidden, map_pixels)
    )


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
