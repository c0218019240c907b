"""What Tables 4 and 5 put in place of the paper's modules: the MobileViT block and the other fusions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.layers import ConvNormAct, make_activation
from lgmpose.network.modules import SFusion, npt_op1

__all__ = ["ConvFusion", "MobileViTBlock", "NoFusion", "TransformerLayer", "make_fusion"]


class NoFusion(nn.Module):
    """Table 5's "None": the encoder's feature is not used at all."""

    def __init__(self, decoder_channels: int):
        super().__init__()
        self.out_channels = decoder_channels

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        return decoder


class ConvFusion(nn.Module):
    """Table 5's "Conv 3×3": concatenate, one plain 3×3; (B, C1, H, W), (B, C2, H, W) → (B, C1 + C2, H, W)."""

    def __init__(self, decoder_channels: int, encoder_channels: int, *, activation: str = "relu6"):
        super().__init__()
        channels = self.out_channels = decoder_channels + encoder_channels
        self.conv = ConvNormAct(channels, channels, activation=activation)

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        return self.conv(torch.cat([decoder, encoder], dim=1))


def make_fusion(name: str, decoder_channels: int, encoder_channels: int, *, activation: str) -> nn.Module:
    """The fusion of one row of Table 5; its ``out_channels`` tells the width it leaves."""
    if name == "none":
        return NoFusion(decoder_channels)
    if name == "conv3x3":
        return ConvFusion(decoder_channels, encoder_channels, activation=activation)
    return SFusion(
        decoder_channels,
        encoder_channels,
        shuffle=name == "sfusion",
        channels_per_group=1 if name == "dw1" else 2,
        activation=activation,
    )


class TransformerLayer(nn.Module):
    """Pre-norm encoder layer of MobileViT; (B, P, N, d) → (B, P, N, d), attention over N.

    The products are written out, not left to ``scaled_dot_product_attention``, so that every counter sees them. Its
    linear layers start as its authors' do, with a deviation of 0.02.
    """

    def __init__(
        self, width: int, *, heads: int = 4, ffn_ratio: int = 2, dropout: float = 0.1, activation: str = "silu"
    ):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, ffn_ratio * width)
        self.activation = make_activation(activation)
        self.project = nn.Linear(ffn_ratio * width, width)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.qkv, self.out, self.expand, self.project):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def attention(self, x: Tensor) -> Tensor:
        B, P, N, d = x.shape
        q, k, v = self.qkv(x).view(B, P, N, 3, self.heads, d // self.heads).permute(3, 0, 1, 4, 2, 5)
        weights = (q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5).softmax(dim=-1)  # (B, P, heads, N, N)
        return self.out((weights @ v).transpose(2, 3).reshape(B, P, N, d))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.project(self.activation(self.expand(self.norm2(x)))))


class MobileViTBlock(nn.Module):
    """MobileViT block (Mehta and Rastegari 2021), Table 4's rival of MobileViM; (B, C, H, W) → (B, C, H, W).

    Same widths as the MobileViM it replaces; patch 2 × 2, feed-forward width 2d, four heads, and its own 3×3 fusion.
    A map that the patches do not tile is stretched to one that they do, and back, as its authors do. In LGM-Pose that
    never happens (strides 8 and 16 of a multiple of 32); MobileViT itself meets 12 × 9, stride 32 of 384 × 288.
    """

    patch_hw = (2, 2)

    def __init__(
        self, channels: int, token_width: int, *, layers: int, dropout: float = 0.1, activation: str = "silu"
    ):
        super().__init__()
        self.local = ConvNormAct(channels, channels, activation=activation)
        self.project_up = nn.Conv2d(channels, token_width, 1, bias=False)
        settings = {"dropout": dropout, "activation": activation}
        self.layers = nn.Sequential(*(TransformerLayer(token_width, **settings) for _ in range(layers)))
        self.norm = nn.LayerNorm(token_width)
        self.project_down = ConvNormAct(token_width, channels, kernel=1, activation=activation)
        self.fuse = ConvNormAct(2 * channels, channels, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        h, w = self.patch_hw
        rows, columns = -(-H // h), -(-W // w)  #                   of patches, rounded up
        y = self.project_up(self.local(x))  #                       (B, d, H, W)
        y = _stretch(y, (rows * h, columns * w))
        y = npt_op1(y, self.patch_hw).transpose(2, 3)  #            (B, P, N, d): attention mixes equal positions
        y = self.norm(self.layers(y))
        y = y.reshape(B, h, w, rows, columns, -1)
        y = y.permute(0, 5, 3, 1, 4, 2).reshape(B, -1, rows * h, columns * w)
        y = _stretch(y, (H, W))  #                                  (B, d, H, W)
        return self.fuse(torch.cat([x, self.project_down(y)], dim=1))


def _stretch(x: Tensor, map_hw: tuple[int, int]) -> Tensor:
    """Bilinear resampling; (B, d, H, W) → (B, d, *map_hw). Does nothing to a map that has that size already."""
    if x.shape[-2:] == map_hw:
        return x
    return F.interpolate(x, size=map_hw, mode="bilinear", align_corners=False)
