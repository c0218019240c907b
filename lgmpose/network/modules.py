"""The paper's own modules, in the paper's order: NPT-Op, MLP Block, LARM, MobileViM, SFusion.

Dimension key: B batch, C channels, H W rows and columns, P pixels per patch, N patches, d token width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lgmpose.network.layers import ConvNormAct, channel_shuffle

__all__ = ["LARM", "MLPBlock", "MobileViM", "SFusion", "npt_op1", "npt_op2", "npt_op3"]


def npt_op1(x: Tensor, patch_hw: tuple[int, int]) -> Tensor:
    """NPT-Op.1 (section 3.2.2): cut into patches; (B, d, H, W) → (B, P, d, N).

    The last axis runs over the patches, so a linear layer on it mixes the pixels that hold the same position in
    different patches. Pixels within a patch and patches within the map are both counted row by row.

    Raises:
        ValueError: the patch does not divide the map.
    """
    B, d, H, W = x.shape
    h, w = patch_hw
    if H % h or W % w:
        raise ValueError(f"patches of {h} × {w} do not tile a map of {H} × {W}")
    x = x.reshape(B, d, H // h, h, W // w, w)  #  rows → (patch row, row in patch), columns likewise
    x = x.permute(0, 3, 5, 1, 2, 4)  #           (B, h, w, d, H/h, W/w)
    return x.reshape(B, h * w, d, (H // h) * (W // w))


def npt_op2(x: Tensor) -> Tensor:
    """NPT-Op.2: turn the block; (B, P, d, N) → (B, N, d, P). Now the last axis runs over the pixels of one patch."""
    return x.transpose(1, 3)


def npt_op3(x: Tensor, patch_hw: tuple[int, int], map_hw: tuple[int, int]) -> Tensor:
    """NPT-Op.3: fold back; (B, N, d, P) → (B, d, H, W). ``npt_op3(npt_op2(npt_op1(x)))`` is x.

    Raises:
        ValueError: N and P are not those of such patches on such a map.
    """
    B, N, d, P = x.shape
    (h, w), (H, W) = patch_hw, map_hw
    if H % h or W % w or P != h * w or N * P != H * W:
        raise ValueError(f"{N} patches of {P} pixels do not fold into a map of {H} × {W} with patches of {h} × {w}")
    x = x.reshape(B, H // h, W // w, d, h, w)
    x = x.permute(0, 3, 1, 4, 2, 5)  #           (B, d, H/h, h, W/w, w)
    return x.reshape(B, d, H, W)


class MLPBlock(nn.Module):
    """Equation 1: Linear(GELU(Linear(LayerNorm(x)))) on the last axis; (…, length) → (…, length).

    Equation 1 adds no residual; ``residual`` adds one, as the transformer that the block replaces has.
    """

    def __init__(self, length: int, *, ratio: int = 4, residual: bool = True):
        super().__init__()
        self.residual = residual
        self.norm = nn.LayerNorm(length)
        self.expand = nn.Linear(length, ratio * length)
        self.activation = nn.GELU()
        self.project = nn.Linear(ratio * length, length)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.activation(self.expand(self.norm(x))))
        return x + y if self.residual else y


class LARM(nn.Module):
    """Lightweight Attentional Representation Module (section 3.2.1); (B, d, H, W) → (B, d, H, W).

    Two MLP Blocks see the whole map: the first mixes equal positions of all patches, the second all positions of one
    patch. Channels are never mixed. The weights depend on the number of patches, so a LARM fits one map size.
    ``parts`` leaves one of the two out: ``between_patches`` keeps the first alone, ``within_patch`` the second.
    """

    def __init__(
        self,
        map_hw: tuple[int, int],
        patch_hw: tuple[int, int],
        *,
        ratio: int = 4,
        residual: bool = True,
        parts: str = "both",
    ):
        super().__init__()
        (H, W), (h, w) = map_hw, patch_hw
        if H % h or W % w:
            raise ValueError(f"patches of {h} × {w} do not tile a map of {H} × {W}")
        self.map_hw, self.patch_hw = tuple(map_hw), tuple(patch_hw)
        first, second = {"both": (True, True), "between_patches": (True, False), "within_patch": (False, True)}[parts]
        count, pixels = (H // h) * (W // w), h * w
        self.between_patches = MLPBlock(count, ratio=ratio, residual=residual) if first else nn.Identity()
        self.within_patch = MLPBlock(pixels, ratio=ratio, residual=residual) if second else nn.Identity()

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.map_hw[0] // self.patch_hw[0], self.map_hw[1] // self.patch_hw[1]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != self.map_hw:
            raise ValueError(
                f"this LARM was built for maps of {self.map_hw[0]} × {self.map_hw[1]}, not "
                f"{x.shape[-2]} × {x.shape[-1]}: its weights hold one row per patch. LGMPose.resized(image_hw) moves a "
                "network to another input size"
            )
        x = npt_op1(x, self.patch_hw)  #                 (B, P, d, N)
        x = self.between_patches(x)
        x = npt_op2(x)  #                                (B, N, d, P)
        x = self.within_patch(x)
        return npt_op3(x, self.patch_hw, self.map_hw)  # (B, d, H, W)


class MobileViM(nn.Module):
    """MobileViM Block (section 3.2): local convolution, global LARM, fused with the input; (B, C, H, W) → same.

    The 1×1 that ends it is recovered; the order of the concatenation (input first), which no cost tells, is chosen.
    ``larm`` is one of ``config.LARM_PARTS``; ``identity`` leaves LARM out and the convolutions as they are.
    """

    def __init__(
        self,
        channels: int,
        token_width: int,
        map_hw: tuple[int, int],
        patch_hw: tuple[int, int],
        *,
        mlp_ratio: int = 4,
        residual: bool = True,
        larm: str = "both",
        activation: str = "relu6",
    ):
        super().__init__()
        self.local = ConvNormAct(channels, channels, activation=activation)
        self.project_up = nn.Conv2d(channels, token_width, 1, bias=False)
        self.larm = nn.Identity()
        if larm != "identity":
            self.larm = LARM(map_hw, patch_hw, ratio=mlp_ratio, residual=residual, parts=larm)
        self.project_down = ConvNormAct(token_width, channels, kernel=1, activation=activation)
        self.fuse = ConvNormAct(2 * channels, channels, kernel=1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project_up(self.local(x))  #            (B, d, H, W)
        y = self.project_down(self.larm(y))  #           (B, C, H, W)
        return self.fuse(torch.cat([x, y], dim=1))


class SFusion(nn.Module):
    """Shuffle-Integrated Fusion Module (section 3.3).

    Concatenate → channel shuffle → grouped 3×3 → 1×1: (B, C1, H, W), (B, C2, H, W) → (B, C1 + C2, H, W).

    The text ends at the grouped convolution; the 1×1 is read from Table 5's costs, as the widths are; that no
    activation stands before it is chosen. Table 5 sets both the shuffle's groups n and the convolution's k to 2. Two
    *groups* would add half of what a plain 3×3 adds before any 1×1, Table 5 shows a quarter in all, and the text speaks
    of "a large number of groups": k is the channels per group.
    ``shuffle=False`` with two channels or one per group gives Table 5's "DW g=2" and "DW g=1".
    """

    def __init__(
        self,
        decoder_channels: int,
        encoder_channels: int,
        *,
        shuffle: bool = True,
        channels_per_group: int = 2,
        activation: str = "relu6",
    ):
        super().__init__()
        channels = self.out_channels = decoder_channels + encoder_channels
        self.shuffle = shuffle
        self.grouped = ConvNormAct(channels, channels, groups=channels // channels_per_group, activation=None)
        self.pointwise = ConvNormAct(channels, channels, kernel=1, activation=activation)

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        x = torch.cat([decoder, encoder], dim=1)
        if self.shuffle:
            x = channel_shuffle(x, 2)
        return self.pointwise(self.grouped(x))
