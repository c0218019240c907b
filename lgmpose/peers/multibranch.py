"""What HRNet, Small HRNet, Lite-HRNet and Dite-HRNet share: branches of several resolutions that keep meeting.

HRNet (Sun et al. 2019, "Deep High-Resolution Representation Learning for Human Pose Estimation") never gives up its
1/4-resolution map. Stage by stage a branch of half the resolution joins; at the end of every module each branch
receives the sum of all. Its descendants keep this skeleton and replace what it is built of: the step from one
resolution to the next (``dense_step`` or ``separable_step``) and the blocks between two fusions.

Here "branches" are a list of tensors, highest resolution first: branch i is (B, C_i, H/4/2^i, W/4/2^i).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.layers import ConvNormAct, channel_shuffle

__all__ = [
    "LIGHT_MODULES", "Fusion", "HalfBlock", "IterativeHead", "LightHRNet", "Parallel", "Transition", "Trunk",
    "check_image_hw", "dense_step", "init_normal", "separable_step",
]  # fmt: skip

MULTIPLE = 32  # the fourth branch is at 1/32 of the picture; other sizes would not come back to the same map


def check_image_hw(network: str, image_hw: Sequence[int]) -> None:
    """Raises ValueError where the branches' maps of such a picture are not halves of each other."""
    H, W = image_hw
    if min(H, W) < MULTIPLE or H % MULTIPLE or W % MULTIPLE:
        raise ValueError(f"{network} takes heights and widths that are multiples of {MULTIPLE}, not {H} × {W}")


def init_normal(module: nn.Module) -> None:
    """For ``net.apply``: the family's initialisation, convolutions normal with σ 0.001; norms keep 1 and 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.001)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def dense_step(in_channels: int, out_channels: int, *, stride: int, activation: str | None = "relu") -> nn.Module:
    """HRNet's step between resolutions or widths: a 3×3; (B, C_in, H, W) → (B, C_out, H/s, W/s)."""
    return ConvNormAct(in_channels, out_channels, stride=stride, activation=activation)


def separable_step(in_channels: int, out_channels: int, *, stride: int, activation: str | None = "relu") -> nn.Module:
    """Lite-HRNet's: a depthwise 3×3, then a 1×1; (B, C_in, H, W) → (B, C_out, H/s, W/s)."""
    return nn.Sequential(
        ConvNormAct(in_channels, in_channels, stride=stride, groups=in_channels, activation=None),
        ConvNormAct(in_channels, out_channels, kernel=1, activation=activation),
    )


class Parallel(nn.ModuleList):
    """One module per branch, none sees another; branches → branches."""

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

    A lower resolution comes up by a 1×1 and nearest-neighbour upsampling, a higher one goes down by a chain of stride-2
    steps, whose width changes in the last step only and whose last step has no ReLU.

    ``quirk`` reproduces the accumulation in the published code of Lite- and Dite-HRNet. Its sum starts with branch 0
    and its loop then adds branch 0 again, for every target. For target 0 the addition happens in place, so what the
    later targets find in branch 0 is no longer the branch but the finished sum. Networks trained with it need it, and
    mmpose, which keeps it, notes that training without it costs 0.5–1 AP. Each path down from branch 0 runs twice, with
    equal results (but two updates of its running statistics in training): 22–25 % more MACs than a count that takes
    every layer once.

    Args:
        targets: how many branches, from the highest resolution, to compute; None for all.
        quirk: ``none`` is HRNet's plain sum; ``lite``: later targets find the sum before its ReLU; ``dite``: after it,
            for there the ReLU works in place, too.
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
        if quirk not in ("none", "lite", "dite"):
            raise ValueError(f"no fusion quirk {quirk!r}; there are none, lite, dite")
        self.quirk = quirk
        self.paths = nn.ModuleList()  # paths[target][source]
        for i in range(len(widths) if targets is None else targets):
            self.paths.append(nn.ModuleList(_path(widths, j, i, step) for j in range(len(widths))))
        self.relu = nn.ReLU()

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        outputs = []
        for i, paths in enumerate(self.paths):
            terms = [path(x) for path, x in zip(paths, branches, strict=True)]
            if self.quirk != "none":
                terms.insert(0, paths[0](branches[0]))
            total = reduce(torch.add, terms)
            outputs.append(self.relu(total))
            if i == 0 and self.quirk != "none":
                branches = [total if self.quirk == "lite" else outputs[0], *branches[1:]]
        return outputs


def _path(widths: Sequence[int], source: int, target: int, step: Callable[..., nn.Module]) -> nn.Module:
    """What a source branch goes through to be added to a target branch."""
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
        in_channels: of the one map that the first stage starts from.
        widths: of the last stage's branches; stage 2 has the first two of them, stage 3 the first three …
        modules: how many modules (blocks, then a fusion) stages 2, 3 … have.
        make_blocks: widths of a stage's branches → what its modules do between two fusions, branches → branches.
        step: ``dense_step`` or ``separable_step``.
        all_outputs: False: the last fusion computes branch 0 alone.
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
            for _ in range(number):
                is_last = len(self.stages) == len(modules) - 1 and len(stage) == 2 * number - 1
                targets = 1 if is_last and not all_outputs else None
                stage.extend([make_blocks(current), Fusion(current, step=step, targets=targets, quirk=quirk)])
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        branches = [x]
        for stage in self.stages:
            branches = stage(branches)
        return branches


# What only the two light networks share.


class HalfBlock(nn.Module):
    """ShuffleNetV2's idea for all branches at once: half of the channels are worked on, the other half passes.

    Branches → branches: split each in two, send the second halves through ``layers`` (branches → branches of the half
    widths), concatenate, shuffle, so that the next block works on a mixture.
    """

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        halves = [x.chunk(2, dim=1) for x in branches]
        worked = self.layers([second for _, second in halves])
        return [channel_shuffle(torch.cat([h[0], w], dim=1), 2) for h, w in zip(halves, worked, strict=True)]


class IterativeHead(nn.Module):
    """From the lowest resolution upwards: separable step to the next width, bilinear upsampling, addition.

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


# How many modules the three stages of the two published depths have; a module is two blocks and a fusion.
LIGHT_MODULES = {18: (2, 4, 2), 30: (3, 8, 3)}


class LightHRNet(nn.Module):
    """Stem → trunk of separable steps → iterative head → heatmaps; (B, 3, H, W) → (B, K, H/4, W/4).

    What Lite- and Dite-HRNet have in common: all but the three attributes that they set. H and W are multiples of 32;
    the weights do not depend on them.

    Args:
        modules: per stage, see ``LIGHT_MODULES``.
        official_fusion: as the published code fuses, branch 0 twice (see ``Fusion``); False: HRNet's plain sum.

    Raises (also in ``forward``):
        ValueError: other sizes.
    """

    make_stem: Callable[[], nn.Module]  # → (B, 3, H, W) → (B, 32, H/4, W/4)
    make_block: Callable[[Sequence[int]], nn.Module]  # a stage's widths → branches → branches
    official_quirk: str  # ``Fusion``'s

    def __init__(
        self,
        *,
        num_keypoints: int,
        image_hw: tuple[int, int],
        modules: Sequence[int],
        official_fusion: bool = True,
        widths: Sequence[int] = (40, 80, 160, 320),
    ):
        check_image_hw(type(self).__name__, image_hw)
        super().__init__()
        self.stem = self.make_stem()
        self.trunk = Trunk(
            32,
            widths=widths,
            modules=modules,
            make_blocks=lambda stage_widths: nn.Sequential(*(self.make_block(stage_widths) for _ in range(2))),
            step=separable_step,
            quirk=self.official_quirk if official_fusion else "none",
        )
        self.neck = IterativeHead(widths)
        self.head = nn.Conv2d(widths[0], num_keypoints, 1)
        self.apply(init_normal)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        check_image_hw(type(self).__name__, (H, W))
        return self.head(self.neck(self.trunk(self.stem(x))))
