"""HRNet-W32 and Small HRNet; and ``HRNetStem3``, the part of HRNet that TokenPose uses.

HRNet: Sun, Xiao, Liu, Wang, "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019. Small
HRNet: the authors' smallest layout for segmentation ("W18 small v1") with the pose head. Its branches are in fact 16,
32, 64 and 128 wide. The Lite-HRNet paper compares itself with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from lgmpose.network.config import check_image_hw
from lgmpose.network.layers import ConvNormAct
from lgmpose.peers.multibranch import Parallel, Trunk, dense_step, init_normal

__all__ = [
    "HRNet", "HRNetBackbone", "HRNetStem3", "Residual", "basic_block", "bottleneck_block",
]  # fmt: skip


class Residual(nn.Module):
    """ResNet's block: ReLU(body(x) + shortcut(x))."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


def basic_block(width: int) -> Residual:
    """Return two 3×3 with a residual; (B, C, H, W) → same."""
    return Residual(
        nn.Sequential(
            ConvNormAct(width, width, activation="relu"),
            ConvNormAct(width, width, activation=None),
        )
    )


def bottleneck_block(in_channels: int, width: int) -> Residual:
    """Return 1×1 narrow → 3×3 → 1×1 to 4 · width, with a residual; (B, C_in, H, W) → (B, 4 · width, H, W)."""
    out_channels = 4 * width
    return Residual(
        nn.Sequential(
            ConvNormAct(in_channels, width, kernel=1, activation="relu"),
            ConvNormAct(width, width, activation="relu"),
            ConvNormAct(width, out_channels, kernel=1, activation=None),
        ),
        None if in_channels == out_channels else ConvNormAct(in_channels, out_channels, kernel=1, activation=None),
    )


class HRNetBackbone(nn.Module):
    """Stem, bottlenecks at 1/4, stages of parallel branches; (B, 3, H, W) → (B, widths[0], H/4, W/4).

    Args:
        widths: widths of the branches, highest resolution first.
        modules: per stage, from stage 2 on.
        blocks: basic blocks per branch and module.
        bottlenecks: their number, before the first branching.
        bottleneck_width: width of their 3×3; their output is four times as wide.

    Raises:
        ValueError: ``forward`` gets an input whose H or W is not a multiple of 32.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int],
        modules: Sequence[int],
        blocks: int = 4,
        bottlenecks: int = 4,
        bottleneck_width: int = 64,
    ):
        super().__init__()
        self.stem = nn.Sequential(
            ConvNormAct(3, 64, stride=2, activation="relu"),
            ConvNormAct(64, 64, stride=2, activation="relu"),
        )
        channels = 4 * bottleneck_width
        self.layer1 = nn.Sequential(
            *(bottleneck_block(64 if i == 0 else channels, bottleneck_width) for i in range(bottlenecks))
        )

        def make_blocks(stage_widths: Sequence[int]) -> Parallel:
            return Parallel(nn.Sequential(*(basic_block(width) for _ in range(blocks))) for width in stage_widths)

        self.trunk = Trunk(
            channels, widths=widths, modules=modules, make_blocks=make_blocks, step=dense_step, all_outputs=False
        )
        self.apply(init_normal)

    def forward(self, x: Tensor) -> Tensor:
        check_image_hw(x.shape[-2:])
        x = self.layer1(self.stem(x))  #    (B, 256, H/4, W/4)
        return self.trunk(x)[0]  #          (B, widths[0], H/4, W/4)


class HRNetStem3(HRNetBackbone):
    """HRNet up to stage 3, whose last fusion computes the 1/4-resolution branch only: TokenPose's features.

    (B, 3, H, W) → (B, width, H/4, W/4), ``width`` 32 (TokenPose-B) or 48 (TokenPose-L).
    """

    def __init__(self, *, width: int = 32):
        super().__init__(widths=(width, 2 * width, 4 * width), modules=(1, 4))


class HRNet(nn.Module):
    """The backbone and a 1×1 convolution to heatmaps; (B, 3, H, W) → (B, K, H/4, W/4).

    H and W are multiples of 32; the weights do not depend on them. ``layout``: the arguments of ``HRNetBackbone``.
    """

    def __init__(self, num_keypoints: int, *, widths: Sequence[int], modules: Sequence[int], **layout: int):
        super().__init__()
        self.backbone = HRNetBackbone(widths=widths, modules=modules, **layout)
        self.head = nn.Conv2d(widths[0], num_keypoints, 1)
        init_normal(self.head)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))
