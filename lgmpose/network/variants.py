"""What Tables 4 and 5 put in the place of the paper's modules, and LARM with parts left out.

Whole modules are replaced here, from outside. ``modules.py`` has arguments only for the residual connections of LARM's
two MLP Blocks and for the n and k of SFusion.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.layers import ConvNormAct, make_activation
from lgmpose.network.modules import MobileViM, SFusion, npt_op1, npt_op2, npt_op3

__all__ = [
    "ConvFusion", "MobileViTBlock", "NoFusion", "TransformerLayer", "keep_of_larm", "make_fusion",
    "restart_linear_layers",
]  # fmt: skip


class NoFusion(nn.Module):
    """Table 5's "None": the encoder's feature is not used; (B, C1, H, W), (B, C2, H, W) → (B, C1, H, W)."""

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        return decoder


class ConvFusion(nn.Module):
    """Table 5's "Conv 3×3": concatenate, one plain 3×3; (B, C1, H, W), (B, C2, H, W) → (B, C1 + C2, H, W)."""

    def __init__(self, decoder_channels: int, encoder_channels: int, *, activation: str = "relu6"):
        super().__init__()
        channels = decoder_channels + encoder_channels
        self.conv = ConvNormAct(channels, channels, activation=activation)

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        return self.conv(torch.cat([decoder, encoder], dim=1))


def make_fusion(name: str, decoder_channels: int, encoder_channels: int, *, activation: str) -> nn.Module:
    """Return a fusion by its name in ``config.FUSIONS``: the rows of Table 5.

    Raises:
        ValueError: no module has this name.
    """
    if name == "none":
        return NoFusion()
    if name == "conv3x3":
        return ConvFusion(decoder_channels, encoder_channels, activation=activation)
    # "DW g=1" and "DW g=2" are SFusion without the shuffle, with 1 and 2 channels per group.
    shuffle_and_group = {"sfusion": (2, 2), "dw1": (1, 1), "dw2": (1, 2)}
    if name not in shuffle_and_group:
        raise ValueError(f"fusion {name!r}: make_fusion has no module of this name")
    n, k = shuffle_and_group[name]
    return SFusion(decoder_channels, encoder_channels, shuffle_groups=n, channels_per_group=k, activation=activation)


def keep_of_larm(block: MobileViM, part: str) -> nn.Module:
    """Keep one of ``config.LARM_PARTS`` of a block's LARM and put the identity in place of the rest.

    The block is changed and returned. The weights that it keeps start as those of the whole block.
    """
    if part == "identity":
        block.larm = nn.Identity()
    elif part == "between_patches":
        block.larm.within_patch = nn.Identity()
    elif part == "within_patch":
        block.larm.between_patches = nn.Identity()
    return block


def restart_linear_layers(module: nn.Module, *, small: bool) -> None:
    """Give all linear layers of a module new initial weights: small ones (standard deviation 0.02), or PyTorch's."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and small:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            layer.reset_parameters()


class TransformerLayer(nn.Module):
    """Pre-norm encoder layer of MobileViT; (B, P, N, d) → (B, P, N, d), attention over N.

    The attention's products are written out, instead of calling ``scaled_dot_product_attention``, so that every
    counter of MACs sees them. The linear layers start as in its authors' code, with a standard deviation of 0.02.
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
        restart_linear_layers(self, small=True)

    def attention(self, x: Tensor) -> Tensor:
        B, P, N, d = x.shape
        q, k, v = self.qkv(x).view(B, P, N, 3, self.heads, d // self.heads).permute(3, 0, 1, 4, 2, 5)
        weights = (q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5).softmax(dim=-1)  # (B, P, heads, N, N)
        return self.out((weights @ v).transpose(2, 3).reshape(B, P, N, d))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.project(self.activation(self.expand(self.norm2(x)))))


class MobileViTBlock(nn.Module):
    """MobileViT block (Mehta and Rastegari 2021), which Table 4 compares with MobileViM; (B, C, H, W) → (B, C, H, W).

    It has the widths of the MobileViM that it replaces, 2 × 2 patches, feed-forward width 2d, four heads, and its own
    3×3 fusion. A map that the patches do not tile is resized to one that they do, and back, as in its authors' code.
    This never happens in LGM-Pose, but it does in MobileViT: stride 32 of 384 × 288 is 12 × 9.
    """

    patch_hw = (2, 2)

    def __init__(
        self, channels: int, token_width: int, *, layers: int, dropout: float = 0.1, activation: str = "silu"
    ):
        super().__init__()
        self.local = ConvNormAct(channels, channels, activation=activation)
        self.project_up = nn.Conv2d(channels, token_width, 1, bias=False)
        self.layers = nn.Sequential(
            *(TransformerLayer(token_width, dropout=dropout, activation=activation) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(token_width)
        self.project_down = ConvNormAct(token_width, channels, kernel=1, activation=activation)
        self.fuse = ConvNormAct(2 * channels, channels, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        h, w = self.patch_hw
        even_hw = (-(-H // h) * h, -(-W // w) * w)  #               rounded up to whole patches
        y = self.project_up(self.local(x))  #                       (B, d, H, W)
        y = _resize(y, even_hw)
        y = npt_op1(y, self.patch_hw).transpose(2, 3)  #            (B, P, N, d): attention mixes equal positions
        y = self.norm(self.layers(y)).transpose(2, 3)  #            (B, P, d, N)
        y = npt_op3(npt_op2(y), self.patch_hw, even_hw)
        y = _resize(y, (H, W))  #                                   (B, d, H, W)
        return self.fuse(torch.cat([x, self.project_down(y)], dim=1))


def _resize(x: Tensor, map_hw: tuple[int, int]) -> Tensor:
    """Resample bilinearly, (B, d, H, W) → (B, d, *map_hw), unless the map has that size already."""
    if x.shape[-2:] == map_hw:
        return x
    return F.interpolate(x, size=map_hw, mode="bilinear", align_corners=False)
