"""The paper's own modules, in the paper's order: NPT-Op, MLP Block, LARM, MobileViM, SFusion.

Dimension key: B batch, C channels, H W rows and columns, P pixels per patch, N patches, d token width, which is the
number of channels inside LARM. NPT-Op is the paper's Non-Parametric Transformation Operation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lgmpose.network.layers import ConvNormAct, channel_shuffle

__all__ = ["LARM", "MLPBlock", "MobileViM", "SFusion", "npt_op1", "npt_op2", "npt_op3", "patch_grid"]


def patch_grid(map_hw: tuple[int, int], patch_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of patches on a map.

    Raises:
        ValueError: the patches do not tile the map.
    """
    (H, W), (h, w) = map_hw, patch_hw
    if H % h or W % w:
        raise ValueError(f"patches of {h} × {w} do not tile a map of {H} × {W}")
    return H // h, W // w


def npt_op1(x: Tensor, patch_hw: tuple[int, int]) -> Tensor:
    """Apply NPT-Op.1 (section 3.2.2), which cuts a map into patches: (B, d, H, W) → (B, P, d, N).

    The last axis runs over the patches. So a linear layer on it mixes the pixels that have the same position in
    different patches. Pixels within a patch, and patches within the map, are counted row by row.

    Raises:
        ValueError: the patches do not tile the map.
    """
    B, d, H, W = x.shape
    h, w = patch_hw
    rows, columns = patch_grid((H, W), patch_hw)
    x = x.reshape(B, d, rows, h, columns, w)
    x = x.permute(0, 3, 5, 1, 2, 4)  # (B, h, w, d, rows, columns)
    return x.reshape(B, h * w, d, rows * columns)


def npt_op2(x: Tensor) -> Tensor:
    """Apply NPT-Op.2: (B, P, d, N) → (B, N, d, P). Now the last axis runs over the pixels of one patch."""
    return x.transpose(1, 3)


def npt_op3(x: Tensor, patch_hw: tuple[int, int], map_hw: tuple[int, int]) -> Tensor:
    """Apply NPT-Op.3, which folds patches back into a map: (B, N, d, P) → (B, d, H, W).

    ``npt_op3(npt_op2(npt_op1(x, patch_hw)), patch_hw, map_hw)`` is ``x``.

    Raises:
        ValueError: N and P do not fit such patches on such a map.
    """
    B, N, d, P = x.shape
    (h, w), (H, W) = patch_hw, map_hw
    rows, columns = patch_grid(map_hw, patch_hw)
    if P != h * w or N != rows * columns:
        raise ValueError(f"{N} patches of {P} pixels do not fold into a map of {H} × {W} with patches of {h} × {w}")
    x = x.reshape(B, rows, columns, d, h, w)
    x = x.permute(0, 3, 1, 4, 2, 5)  # (B, d, rows, h, columns, w)
    return x.reshape(B, d, H, W)


class MLPBlock(nn.Module):
    """Equation 1: Linear(GELU(Linear(LayerNorm(x)))) on the last axis; (…, length) → (…, length).

    ``residual`` adds the input to the result. Equation 1 does not; the transformer that the block replaces does. The
    default, True, is ``chosen``: our trainings do not show which is better (``docs/ablations.md``).
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
        return (x + y) if self.residual else y


class LARM(nn.Module):
    """Lightweight Attentional Representation Module (section 3.2.1); (B, d, H, W) → (B, d, H, W).

    The first MLP Block mixes the pixels at the same position of all patches, the second the pixels of one patch. So
    each output depends on the whole map of its channel. The channel axis is d: the MLP Blocks never mix channels, and
    all channels share their weights. The weights depend on the number of patches, so a LARM fits one map size.
    ``ratio`` is hidden width / axis length; for ``residual`` see ``MLPBlock``.

    Raises:
        ValueError: the patches do not tile the map; in ``forward``, a map of another size.
    """

    def __init__(
        self, map_hw: tuple[int, int], patch_hw: tuple[int, int], *, ratio: int = 4, residual: bool = True
    ):
        super().__init__()
        self.map_hw, self.patch_hw = map_hw, patch_hw
        self.grid_hw = patch_grid(map_hw, patch_hw)
        P, N = patch_hw[0] * patch_hw[1], self.grid_hw[0] * self.grid_hw[1]
        self.between_patches: nn.Module = MLPBlock(N, ratio=ratio, residual=residual)
        self.within_patch: nn.Module = MLPBlock(P, ratio=ratio, residual=residual)

    def forward(self, x: Tensor) -> Tensor:
        B, d, H, W = x.shape
        if (H, W) != self.map_hw:
            raise ValueError(
                f"this LARM was built for maps of {self.map_hw[0]} × {self.map_hw[1]}, not {H} × {W}: its weights hold "
                "one row per patch. LGMPose.resized(image_hw) moves a network to another input size"
            )
        x = npt_op1(x, self.patch_hw)  #                 (B, P, d, N)
        x = self.between_patches(x)
        x = npt_op2(x)  #                                (B, N, d, P)
        x = self.within_patch(x)
        return npt_op3(x, self.patch_hw, self.map_hw)  # (B, d, H, W)


class MobileViM(nn.Module):
    """MobileViM Block (section 3.2): local convolution, global LARM, fused with the input; (B, C, H, W) → same.

    ``fuse_kernel``: chosen, the convolution at the end is a 1×1; networks with a 3×3 meet the printed costs, too. The
    1×1 back to C channels (as in MobileViT) and the order of the concatenation, input first, are chosen.
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
        activation: str = "relu6",
    ):
        super().__init__()
        self.local = ConvNormAct(channels, channels, activation=activation)
        self.project_up = nn.Conv2d(channels, token_width, 1, bias=False)
        self.larm: nn.Module = LARM(map_hw, patch_hw, ratio=mlp_ratio, residual=residual)
        self.project_down = ConvNormAct(token_width, channels, kernel=1, activation=activation)
        self.fuse = ConvNormAct(2 * channels, channels, kernel=1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project_up(self.local(x))  #            (B, d, H, W)
        y = self.project_down(self.larm(y))  #           (B, C, H, W)
        return self.fuse(torch.cat([x, y], dim=1))


class SFusion(nn.Module):
    """Shuffle-Integrated Fusion Module (section 3.3); (B, C1, H, W), (B, C2, H, W) → (B, C1 + C2, H, W).

    Concatenate → channel shuffle → grouped 3×3 → 1×1. The paper's text ends at the grouped convolution.

    * ``pointwise``: recovered. ``lgmpose lab search`` found no network without the 1×1 that has the printed costs. That
      no activation stands before the 1×1 is chosen.
    * ``grouping``: recovered. The costs exclude two groups; two channels per group is the other reading of the 2.

    Args:
        decoder_channels: C1, from the deconvolution.
        encoder_channels: C2, from the stage of the same map size.
        shuffle_groups: the paper's n. With 1, the shuffle changes nothing.
        channels_per_group: the paper's k. The paper calls it a number of groups, but with 2 groups the grouped
            convolution alone would add half of what Table 5's plain 3×3 adds. By Table 5's rounded figures SFusion
            adds about a quarter in all (by our counts a sixth), and the text speaks of "a large number of groups".
    """

    def __init__(
        self,
        decoder_channels: int,
        encoder_channels: int,
        *,
        shuffle_groups: int = 2,
        channels_per_group: int = 2,
        activation: str = "relu6",
    ):
        super().__init__()
        channels = decoder_channels + encoder_channels
        self.shuffle_groups, self.channels_per_group = shuffle_groups, channels_per_group
        self.grouped = ConvNormAct(channels, channels, groups=channels // channels_per_group, activation=None)
        self.pointwise = ConvNormAct(channels, channels, kernel=1, activation=activation)

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        x = torch.cat([decoder, encoder], dim=1)
        x = channel_shuffle(x, self.shuffle_groups)
        return self.pointwise(self.grouped(x))
