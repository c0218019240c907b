"""What HRNet, Small HRNet, Lite-HRNet, Dite-HRNet and PP-TinyPose share: branches of several resolutions.

HRNet (Sun et al. 2019, "Deep High-Resolution Representation Learning for Human Pose Estimation") keeps a map at 1/4 of
the resolution throughout. Stage by stage, a branch of half the resolution is added. At the end of every module, each
branch receives the sum of all. The light networks keep this structure. They replace the step from one resolution to the
next (``dense_step`` or ``separable_step``), and the blocks between two fusions.

Here "branches" are a list of tensors, highest resolution first: branch i is (B, C_i, H/4/2^i, W/4/2^i).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.config import check_image_hw
from lgmpose.network.layers import ConvNormAct, channel_shuffle

__all__ = [
    "Fusion", "HalfBlock", "IterativeHead", "LightHRNet", "Parallel", "Transition", "Trunk",
    "dense_step", "init_normal", "separable_step",
]  # fmt: skip


def init_normal(module: nn.Module) -> None:
    """Initialise a convolution as this family does, normal with σ 0.001; for ``net.apply``."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.001)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def dense_step(in_channels: int, out_channels: int, *, stride: int, activation: str | None = "relu") -> nn.Module:
    """Return HRNet's step between resolutions or widths, a 3×3; (B, C_in, H, W) → (B, C_out, H/s, W/s)."""
    return ConvNormAct(in_channels, out_channels, stride=stride, activation=activation)


def separable_step(in_channels: int, out_channels: int, *, stride: int, activation: str | None = "relu") -> nn.Module:
    """Return Lite-HRNet's step, a depthwise 3×3 and a 1×1; (B, C_in, H, W) → (B, C_out, H/s, W/s)."""
    return nn.Sequential(
        ConvNormAct(in_channels, in_channels, stride=stride, groups=in_channels, activation=None),
        ConvNormAct(in_channels, out_channels, kernel=1, activation=activation),
    )


class Parallel(nn.ModuleList):
    """One module per branch, independent of the others; branches → branches."""

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        return [module(x) for module, x in zip(self, branches, strict=True)]


class Transition(nn.Module):
    """Brings the branches to the next stage's widths and adds one below; n branches → n + 1 branches."""

    def __init__(self, in_widths: Sequence[int], out_widths: Sequence[int], *, step: Callable[..., nn.Module]):
        super().__init__()
        self.adjust = Parallel(
            nn.Identity() if before == after else step(before, after, stride=1)
            for before, after in zip(in_widths, out_widths[:-1], strict=True)
        )
        self.descend = step(in_widths[-1], out_widths[-1], stride=2)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        return [*self.adjust(branches), self.descend(branches[-1])]


class Fusion(nn.Module):
    """Every target branch becomes ReLU of the sum of all branches, brought to its resolution and width.

    A lower resolution comes up through a 1×1 and nearest-neighbour upsampling. A higher one goes down through a chain
    of stride-2 steps. Only the last step changes the width, and it has no ReLU.

    ``quirk`` reproduces the sum in the published code of Lite-HRNet, Dite-HRNet and PP-TinyPose. It starts with branch
    0, and its loop adds branch 0 again, for every target. For target 0 the addition happens in place, so the later
    targets find the finished sum where branch 0 was. Networks trained with it need it, and mmpose, which keeps it,
    notes that training without it costs 0.5–1 AP. In the first two, each path down from branch 0 runs twice, with equal
    results. In training, its running statistics are updated twice. This costs 22–25 % more MACs than a count that takes
    every layer once.

    Args:
        widths: widths of the branches.
        step: ``dense_step`` or ``separable_step``.
        targets: how many branches to compute, from the highest resolution; None for all.
        quirk: ``none`` is HRNet's plain sum. With ``lite``, later targets find the sum before its ReLU; with ``dite``,
            after it, because there the ReLU works in place, too. ``tiny``, of PP-TinyPose, computes what ``lite`` does,
            but runs each path once and doubles its result.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        step: Callable[..., nn.Module],
        targets: int | None = None,
        quirk: str = "none",
    ):
        super().__init__()
        self.quirk = quirk
        self.paths = nn.ModuleList(  # paths[target][source]
            nn.ModuleList(_path(widths, source, target, step) for source in range(len(widths)))
            for target in range(len(widths) if targets is None else targets)
        )
        self.relu = nn.ReLU()

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        outputs = []
        for i, paths in enumerate(self.paths):
            assert isinstance(paths, nn.ModuleList)
            terms = [path(x) for path, x in zip(paths, branches, strict=True)]
            if self.quirk == "tiny":
                terms[0] = 2 * terms[0]
            elif self.quirk != "none":
                terms.insert(0, paths[0](branches[0]))
            total = reduce(torch.add, terms)
            outputs.append(self.relu(total))
            if i == 0 and self.quirk != "none":
                branches = [outputs[0] if self.quirk == "dite" else total, *branches[1:]]
        return outputs


def _path(widths: Sequence[int], source: int, target: int, step: Callable[..., nn.Module]) -> nn.Module:
    """Return the layers that convert a source branch to the resolution and width of a target branch."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            ConvNormAct(widths[source], widths[target], kernel=1, activation=None),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    steps = [step(widths[source], widths[source], stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, step(widths[source], widths[target], stride=2, activation=None))


class Trunk(nn.Module):
    """The stages: (B, C, H/4, W/4) → the last stage's branches.

    Args:
        in_channels: channels of the input, C.
        widths: of the last stage's branches. Stage 2 has the first two of them, stage 3 the first three, and so on.
        modules: number of modules (blocks, then a fusion) of stages 2, 3, …
        make_blocks: widths of a stage's branches → what its modules do between two fusions, branches → branches.
        step: ``dense_step`` or ``separable_step``.
        all_outputs: False: the last fusion computes branch 0 only.
        quirk: see ``Fusion``.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        widths: Sequence[int],
        modules: Sequence[int],
        make_blocks: Callable[[Sequence[int]], nn.Module],
        step: Callable[..., nn.Module],
        all_outputs: bool = True,
        quirk: str = "none",
    ):
        super().__init__()
        self.stages = nn.ModuleList()
        current: Sequence[int] = (in_channels,)
        for number in modules:
            before, current = current, widths[: len(current) + 1]
            stage = nn.Sequential(Transition(before, current, step=step))
            for module in range(number):
                is_last = len(self.stages) == len(modules) - 1 and module == number - 1
                targets = 1 if is_last and not all_outputs else None
                stage.extend([make_blocks(current), Fusion(current, step=step, targets=targets, quirk=quirk)])
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        branches = [x]
        for stage in self.stages:
            branches = stage(branches)
        return branches


# What only the light networks share.


class HalfBlock(nn.Module):
    """ShuffleNetV2's idea for all branches at once: process half of the channels, pass the other half on.

    Branches → branches: split each in two, and send the second halves through ``layers`` (branches → branches of the
    half widths). Then concatenate and shuffle, so that the next block processes a mixture.
    """

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        halves = [x.chunk(2, dim=1) for x in branches]
        processed = self.layers([second for _, second in halves])
        return [channel_shuffle(torch.cat([h[0], p], dim=1), 2) for h, p in zip(halves, processed, strict=True)]


class IterativeHead(nn.Module):
    """Fuse branches from the lowest resolution up: separable step to the next width, bilinear upsampling, addition.

    Branches → (B, C_0, H/4, W/4).
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.steps = nn.ModuleList(
            separable_step(width, widths[max(i - 1, 0)], stride=1) for i, width in enumerate(widths)
        )

    def forward(self, branches: list[Tensor]) -> Tensor:
        x = self.steps[-1](branches[-1])
        for step, branch in zip(self.steps[-2::-1], branches[-2::-1], strict=True):
            x = F.interpolate(x, size=branch.shape[-2:], mode="bilinear", align_corners=True)
            x = step(branch + x)
        return x


class LightHRNet(nn.Module):
    """Stem → trunk of separable steps → iterative head → heatmaps; (B, 3, H, W) → (B, K, H/4, W/4).

    H and W are multiples of 32; the weights do not depend on them.

    Attributes:
        make_stem: returns (B, 3, H, W) → (B, 32, H/4, W/4).
        make_block: widths of a stage's branches → a block, branches → branches.
        quirk: see ``Fusion``.

    Args:
        num_keypoints: number of joints, K.
        modules: number of modules per stage. A module is two blocks and a fusion.
        widths: widths of the branches.

    Raises:
        ValueError: ``forward`` gets an input of another size.
    """

    make_stem: Callable[[], nn.Module]
    make_block: Callable[[Sequence[int]], nn.Module]
    quirk: str

    def __init__(self, num_keypoints: int, *, modules: Sequence[int], widths: Sequence[int] = (40, 80, 160, 320)):
        super().__init__()
        self.stem = self.make_stem()
        self.trunk = Trunk(
            32,
            widths=widths,
            modules=modules,
            make_blocks=lambda stage_widths: nn.Sequential(*(self.make_block(stage_widths) for _ in range(2))),
            step=separable_step,
            quirk=self.quirk,
        )
        self.neck = IterativeHead(widths)
        self.head = nn.Conv2d(widths[0], num_keypoints, 1)
        self.apply(init_normal)

    def forward(self, x: Tensor) -> Tensor:
        check_image_hw(x.shape[-2:])
        return self.head(self.neck(self.trunk(self.stem(x))))
