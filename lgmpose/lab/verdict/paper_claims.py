"""The paper's claims that a laptop can test, and the rule that decides them.

Both are fixed before anything is measured. What a laptop cannot test is listed in ``NOT_TESTED``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple

import msgspec

from lgmpose.errors import UserError
from lgmpose.lab.paper import NOT_REPRODUCIBLE, ROWS, TABLES

__all__ = [
    "COUNT_SECTIONS", "LGM", "NOT_TESTED", "OPEN", "SETTINGS", "SMALL_HW", "Finding", "Timed",
    "VerdictConfig", "cost_findings", "interval", "judge", "planned_intervals", "rule", "speed_findings",
]  # fmt: skip

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decidable"
LGM, SMALL_HW, LARGE_HW = "lgm-pose-coco-256x192", (256, 192), (384, 288)
WITH_MOBILEVIT = "lgmpose.lab.verdict.claim_timing:with_mobilevit"
# The same on every machine. The widths were chosen so that the first come out, so they say nothing about the paper.
COUNT_SECTIONS = (
    "Parameters and FLOPs of LGM-Pose (it was rebuilt to have them; not in the totals)", "Shares that the text gives",
)  # fmt: skip
SETTINGS = {"eager": "PyTorch as it is (eager)", "fastest": "the fastest runtime installed"}
_SMALL, _LARGE = ({row.model: row for row in TABLES[1] if row.image_hw == hw} for hw in (SMALL_HW, LARGE_HW))
_BLOCKS = {row.name: row for row in TABLES[4]}
PEERS = tuple(model for model, row in _SMALL.items() if model and row.fps_cpu and model != LGM)
LARGE_PEERS = ("mobilenetv2", "lite-hrnet-18", "dite-hrnet-18")
QUICK_PEERS = ("mobilenetv2", "small-hrnet", "lite-hrnet-18")  # quick to export
GROWTH_PEERS = ("lite-hrnet-18", "dite-hrnet-18")  # the text compares how their speed falls with the input size
TEXT_RATIOS = {"lite-hrnet-18": "6x", "dite-hrnet-18": "8x"}  # what the text says in place of its Table 1

NOT_TESTED = {
    "AP on COCO val2017 and test-dev": "needs COCO (19 GB; test-dev also needs its server), and weights. The authors "
    "published none, so a training of 260 epochs (docs/reproduce.md)",
    "PCKh@0.5 on MPII, and the accuracies of Tables 4 and 5": "needs MPII (12 GB) and a training of 260 epochs per row",
    "FPS on a GPU": "needs a Tesla M10. For ratios on another GPU: `lgmpose bench --tables 1 --device cuda`",
    "FPS on the CPU as absolute figures": "needs an Intel Xeon Silver 4214 and the unknown number of threads",
    "parameters and FLOPs of the other networks": "needs no measurement: `lgmpose profile --table 1` (minutes)",
    ", ".join(NOT_REPRODUCIBLE): "needs their code, which is not public",
}  # fmt: skip


@dataclass(frozen=True)
class VerdictConfig:
    """Say how the claims are measured.

    Raises:
        UserError: fewer than 2 processes, or a number of threads below 1.
    """

    quick: bool = False  # three peers, one input size, four processes: one to two minutes
    processes: int | None = None  # fresh processes per setting: 6, with --quick 4. More give narrower intervals
    threads: int = 1  # CPU threads; the paper does not say how many it used

    def __post_init__(self):
        if self.processes is not None and self.processes < 2:
            raise UserError(f"processes {self.processes}: at least 2, because an interval needs their differences")
        if self.threads < 1:
            raise UserError(f"threads {self.threads}: at least 1")

    @property
    def repeats(self) -> int:
        """Return the number of fresh processes per setting."""
        return self.processes or (4 if self.quick else 6)

    @property
    def networks(self) -> dict[tuple[int, int], tuple[str, ...]]:
        """Return the networks to time at each input size, LGM-Pose first."""
        if self.quick:
            return {SMALL_HW: (LGM, *QUICK_PEERS)}
        return {SMALL_HW: (LGM, *PEERS, WITH_MOBILEVIT), LARGE_HW: (LGM, *LARGE_PEERS)}


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One claim, or two about the same figure.

    Attributes:
        section: heading.
        subject: what the claim is about, in words that do not depend on the machine.
        paper, here: the paper's figure and ours.
        verdicts: claim in words → verdict.
        ratio: what was measured: value, and lower and upper end of its interval.
        claimed: the ratio that the paper gives.
    """

    section: str
    subject: str
    paper: str
    here: str
    verdicts: dict[str, Literal["holds", "does not hold", "not decidable"]]
    ratio: tuple[float, float, float] | None = None
    claimed: float | None = None


# The rule


def planned_intervals(config: VerdictConfig) -> int:
    """Return the number of intervals on the card, which are simultaneous."""
    per_setting = sum(len(models) - 1 for models in config.networks.values())
    return len(SETTINGS) * (per_setting + (0 if config.quick else 1 + len(GROWTH_PEERS)))


def rule(config: VerdictConfig) -> str:
    """Return the rule of the verdicts in words, to be printed before the measurement."""
    return (
        "Counts: a claim holds if our count, rounded or truncated to the printed digits, is the printed figure; "
        f'"only N %" means at most N %. Times: each ratio is measured in {config.repeats} fresh processes. In a '
        "process, all networks take turns in rounds; its ratio is the median over the rounds of time / LGM-Pose's "
        f"time. The interval is the t interval of the mean logarithm over the {config.repeats} processes, and the "
        f"{planned_intervals(config)} intervals of the card hold together with 95 % (Bonferroni). A claim holds if "
        'the whole interval is on its side of the claimed number (1 for "faster", otherwise the paper\'s ratio), does '
        "not hold if the whole interval is on the other side, and is not decidable otherwise. The "
        "fastest runtime is the one in which LGM-Pose takes the least time here; all compute in 32-bit floats."
    )


def interval(ratios: Sequence[float], family: int) -> tuple[float, float, float] | None:
    """Return the geometric mean of independent ratios and the ends of its interval; None for fewer than 2 ratios.

    Args:
        ratios: one per process.
        family: number of intervals that hold together with 95 % probability (Bonferroni).
    """
    if len(ratios) < 2:
        return None
    from scipy.stats import t  # half a second; not for --help

    logs = [math.log(ratio) for ratio in ratios]
    n, mean = len(logs), fmean(logs)
    half = float(t.ppf(1 - 0.05 / 2 / family, n - 1)) * stdev(logs) / math.sqrt(n)
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def judge(ratio: tuple[float, float, float] | None, claimed: float, at_most: bool = False) -> str:
    """Return the verdict on "the ratio is at least ``claimed``" (or at most)."""
    if ratio is None or ratio[1] <= claimed <= ratio[2]:
        return OPEN
    return HOLDS if (ratio[2] < claimed) == at_most else FAILS


# Counts


class Share(NamedTuple):
    """A sentence of the paper about a share, in per cent: LGM-Pose's count divided by another network's."""

    words: str
    percent: int
    count: Literal["params", "true_macs"]
    image_hw: tuple[int, int]
    other: str
    changes: dict[str, str] = {}


_SQUARE, _MPII = (256, 256), "lgm-pose-mpii-256x256"
SHARES = (
    Share('"only 4% of their parameter count": Hourglass', 4, "params", SMALL_HW, "hourglass-8"),
    Share('"only 4% of their parameter count": CPN', 4, "params", SMALL_HW, "cpn-r50"),
    Share('"only 12% of the parameters" of MobileNetV2', 12, "params", SMALL_HW, "mobilenetv2"),
    Share('"only 61% of the parameter count" of Dite-HRNet-30', 61, "params", SMALL_HW, "dite-hrnet-30"),
    Share('"only 3% of the parameter count" of SimpleBaseline', 3, "params", LARGE_HW, "simplebaseline-r50"),
    Share('"fewest model parameters": Lite-HRNet-18 at 256×192', 100, "params", SMALL_HW, "lite-hrnet-18"),
    Share('"fewest model parameters": Lite-HRNet-18 at 384×288', 100, "params", LARGE_HW, "lite-hrnet-18"),
    Share("parameters reduced \"by more than half\" by MobileViM", 50, "params", _SQUARE, _MPII,
          {"global_block": "mobilevit"}),
    Share('"only half the computational cost" of the 3×3 convolution', 50, "true_macs", _SQUARE, _MPII,
          {"fusion": "conv3x3"}),
    Share('the shuffle is "without any additional computational cost"', 100, "true_macs", _SQUARE, _MPII,
          {"fusion": "dw2"}),
)  # fmt: skip


def cost_findings() -> list[Finding]:
    """Count LGM-Pose's rows of Tables 1, 3, 4 and 5, and judge what the text says about shares."""
    from lgmpose.lab.conventions import count_named  # PyTorch
    from lgmpose.lab.cost_tables import CostRow

    found = []
    for row in ROWS:
        if row.table == 2 or row.name == "MobileViM Block":  # the same networks as in Tables 1 and 3
            continue
        keypoints = 17 if row.table == 1 else 16
        counts = count_named(row.model, row.image_hw, keypoints, fusion=row.fusion, global_block=row.global_block)
        cost = CostRow(row.name, row.image_hw, keypoints, counts, counts, row)
        subject = f"Table {row.table}: {row.name}, {row.image_hw[0]}×{row.image_hw[1]}"
        verdicts = {"parameters": HOLDS if cost.params_match else FAILS, "FLOPs": HOLDS if cost.flops_match else FAILS}
        here = f"{counts.params:,}; {counts.true_macs / 1e9:.3f} G"
        found.append(Finding(COUNT_SECTIONS[0], subject, f"{row.params}; {row.flops}", here, verdicts))
    return found + [_share_finding(share) for share in SHARES]


def _count(share: Share, model: str, changes: dict[str, str]) -> int:
    import torch

    from lgmpose.lab.conventions import count_named
    from lgmpose.zoo.catalogue import create_model

    keypoints = 16 if share.image_hw == _SQUARE else 17
    if share.count == "true_macs":
        return count_named(model, share.image_hw, keypoints, **changes).true_macs
    with torch.device("meta"):  # parameters alone need no forward pass
        net = create_model(model, image_hw=share.image_hw, num_keypoints=keypoints, **changes)
    return sum(parameter.numel() for parameter in net.parameters())


def _share_finding(share: Share) -> Finding:
    from lgmpose.lab.cost_tables import matches

    fields: dict[str, Any] = {"section": COUNT_SECTIONS[1], "subject": share.words}
    fields["paper"] = f"{share.percent} %" if share.percent != 100 else "no more"
    try:
        ours = _count(share, _MPII if share.other == _MPII else LGM, {})
        other = _count(share, share.other, share.changes)
    except UserError as error:  # torchvision is not installed
        return Finding(**fields, here=str(error), verdicts={"": OPEN})
    percent = 100 * ours / other
    holds = percent <= share.percent or (share.percent < 100 and matches(str(share.percent), percent))
    here = f"{percent:.1f} %: {ours:,} / {other:,}"
    return Finding(**fields, here=here, verdicts={"": HOLDS if holds else FAILS})


# Times


class Timed(msgspec.Struct):
    """What one process measured: medians over its rounds."""

    setting: str
    backend: str
    image_hw: tuple[int, int]
    median_ms: dict[str, float] = {}
    ratios: dict[str, float] = {}  # network → its time / LGM-Pose's
    reasons: dict[str, str] = {}
    load: float | None = None
    load_after: float | None = None


def speed_findings(config: VerdictConfig, setting: str, processes: Sequence[Timed]) -> list[Finding]:
    """Judge the claims about speed in one of ``SETTINGS``."""
    family, found = planned_intervals(config), []
    own = {hw: [p for p in processes if (p.setting, p.image_hw) == (setting, hw)] for hw in config.networks}
    for image_hw, models in config.networks.items():
        section = f"Speed at {image_hw[0]}×{image_hw[1]}, {SETTINGS[setting]}"
        for model in models[1:]:
            name, claimed, note = _claimed_ratio(model, image_hw)
            ratio = interval([p.ratios[model] for p in own[image_hw] if model in p.ratios], family)
            verdicts = {"faster": judge(ratio, 1), f"at least {claimed:.2f} times": judge(ratio, claimed)}
            reasons = [process.reasons[model] for process in own[image_hw] if model in process.reasons]
            here = reasons[-1] if reasons else _with_interval(ratio)
            found.append(
                Finding(section, f"times as fast as {name}", f"{claimed:.2f}{note}", here, verdicts, ratio, claimed)
            )
        if image_hw == SMALL_HW and not config.quick:
            each = {finding.verdicts["faster"] for finding in found}
            verdict = FAILS if FAILS in each else OPEN if OPEN in each else HOLDS
            counted = sum(finding.verdicts["faster"] == HOLDS for finding in found)
            words, here = 'faster than all of them: "highest FPS on CPU"', f"than {counted} of {len(found)}"
            found.append(Finding(section, words, "yes", here, {"": verdict}))
    return found if config.quick else found + _growth_findings(config, setting, own[SMALL_HW], own[LARGE_HW])


def _claimed_ratio(model: str, image_hw: tuple[int, int]) -> tuple[str, float, str]:
    """Return a network's name, LGM-Pose's frames per second in the paper divided by its own, and a note."""
    if model == WITH_MOBILEVIT:
        name = "the same with MobileViT blocks"
        return name, _BLOCKS["MobileViM Block"].fps_cpu / _BLOCKS["MobileViT Block"].fps_cpu, " (at 256×256)"
    rows = {SMALL_HW: _SMALL, LARGE_HW: _LARGE}[image_hw]
    ours = next(row for row in rows.values() if row.name == "LGM-Pose")
    text = f' (text: "{TEXT_RATIOS[model]}")' if image_hw == SMALL_HW and model in TEXT_RATIOS else ""
    return rows[model].name.removesuffix(" 1"), ours.fps_cpu / rows[model].fps_cpu, text


def _growth_findings(
    config: VerdictConfig, setting: str, small: Sequence[Timed], large: Sequence[Timed]
) -> list[Finding]:
    """Judge how times grow with the input size, by processes that ran one after the other."""
    section, family = f"Input of 384×288 instead of 256×192, {SETTINGS[setting]}", planned_intervals(config)
    ours = [next(row for row in rows.values() if row.name == "LGM-Pose").fps_cpu for rows in (_SMALL, _LARGE)]
    pairs = list(zip(small, large, strict=False))  # after Ctrl-C, the last one is missing
    growth = [b.median_ms[LGM] / a.median_ms[LGM] for a, b in pairs if LGM in a.median_ms and LGM in b.median_ms]
    claimed, ratio = ours[0] / ours[1], interval(growth, family)
    words = 'LGM-Pose takes so many times as long: "minimal impact"'
    verdicts = {f"at most {claimed:.2f} times": judge(ratio, claimed, at_most=True)}
    found = [Finding(section, words, f"{claimed:.2f}", _with_interval(ratio), verdicts, ratio, claimed)]
    for model in GROWTH_PEERS:
        both = [(a.ratios[model], b.ratios[model]) for a, b in pairs if model in a.ratios and model in b.ratios]
        ratio = interval([a / b for a, b in both], family)
        printed = claimed * _LARGE[model].fps_cpu / _SMALL[model].fps_cpu
        words = f"LGM-Pose's growth / {_SMALL[model].name}'s: \"much less pronounced\""
        verdicts = {"less than 1": judge(ratio, 1, at_most=True)}
        found.append(
            Finding(section, words, f"< 1 (Table 1: {printed:.2f})", _with_interval(ratio), verdicts, ratio, 1)
        )
    return found


def _with_interval(ratio: tuple[float, float, float] | None) -> str:
    return "–" if ratio is None else f"{ratio[0]:.2f} ({ratio[1]:.2f} … {ratio[2]:.2f})"
