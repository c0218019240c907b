"""From runs to statements: paired differences with intervals, and what they say about the paper's ordering.

Two kinds of chance are at work, and a difference must survive both before it is called one. Another draw of *persons*
would give another figure: the paired bootstrap. Another draw of *seeds* (first weights, order of pictures) would give
another network: the spread between runs that differ in nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lgmpose.lab.ablate.recipe_rows import ABLATIONS, BASELINE, CHOICES, NETWORKS, PEERS
from lgmpose.lab.paper import published
from lgmpose.metrics import bootstrap_interval

__all__ = ["METRICS", "Comparison", "Difference", "compare", "counts", "paired_bootstrap", "seed_margin", "verdict"]

METRICS = ("PCKh@0.5", "PCK@0.2")  # the first that the data allow is the one that is judged by


@dataclass(frozen=True)
class Difference:
    """A lead in percentage points with its 95 % interval."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.points:+.2f} ({self.low:+.2f} … {self.high:+.2f})".replace("-", "−")


def paired_bootstrap(
    correct_a: np.ndarray, correct_b: np.ndarray, counted: np.ndarray, *, seed: int = 0, num: int = 2000
) -> Difference:
    """How many points network a leads network b by, on the same persons, with a 95 % bootstrap interval.

    Persons are drawn again with replacement, each with its figures for both networks: what both find hard cancels out,
    so the interval is narrower than those of the two figures suggest. Several runs (seeds) of a network are averaged
    person by person first.

    Args:
        correct_a: (n,) correct joints of each person, or (S, n) for S runs.
        correct_b: (n,) or (S, n).
        counted: (n,) labelled joints of each person; those without any take no part.
        seed: of the drawing.
        num: number of drawings.

    Raises:
        ValueError: shapes that do not fit together, or nothing counted.
    """
    a, b, counted = (np.asarray(values, float) for values in (correct_a, correct_b, counted))
    if counted.ndim != 1 or a.shape[-1:] != counted.shape or b.shape[-1:] != counted.shape or not counted.any():
        raise ValueError(f"correct_a {a.shape}, correct_b {b.shape} and counted {counted.shape} must share n persons")
    lead = np.atleast_2d(a).mean(axis=0) - np.atleast_2d(b).mean(axis=0)  # (n,) joints
    lead[counted <= 0] = 0
    return Difference(float(100 * lead.sum() / counted.sum()), *bootstrap_interval(lead, counted, seed, num))


def seed_margin(figures: Sequence[Sequence[float]], runs_a: int, runs_b: int) -> float | None:
    """How many points two means must lie apart before another choice of seeds is no likely reason (at 95 %).

    Fisher's least significant difference: the spread between seeds is pooled over all networks, as two or three runs
    of one network say little about it, and t's tail allows for how few they are in all.

    Args:
        figures: per network, the figure of each of its runs.
        runs_a: how many runs the one mean is of.
        runs_b: how many the other.

    Returns:
        Points; None where no network has a second run, so that nothing is known of the spread.
    """
    from scipy.special import stdtrit  # here, for the command line imports this module for its help

    freedom = sum(len(values) - 1 for values in figures if len(values))
    if freedom < 1:
        return None
    variance = sum(((np.asarray(values) - np.mean(values)) ** 2).sum() for values in figures if len(values)) / freedom
    return float(stdtrit(freedom, 0.975) * math.sqrt(variance * (1 / runs_a + 1 / runs_b)))


def verdict(paper_points: float | None, difference: Difference, margin: float | None) -> tuple[str, str]:
    """(verdict, reason) for one row.

    The verdict is ``holds`` or ``does not hold`` where the paper has the row, ``better`` or ``worse`` where it has not,
    and ``cannot be told`` in both cases. The reason is the rest of a sentence.

    Args:
        paper_points: the paper's difference to LGM-Pose; None where it has no such row.
        difference: ours.
        margin: from ``seed_margin``.
    """
    if difference.low <= 0 <= difference.high:
        return "cannot be told", "the interval contains 0"
    if margin is None:
        return "cannot be told", "one seed each: nothing is known of how much another seed would change"
    if abs(difference.points) <= margin:
        return "cannot be told", f"other persons would not change the sign, but other seeds may (± {margin:.2f})"
    sign = "better" if difference.points > 0 else "worse"
    reason = f"here it is {sign}, by more than persons (the interval) or seeds (± {margin:.2f}) explain"
    if paper_points is None:
        return sign, reason
    return ("holds" if (paper_points > 0) == (difference.points > 0) else "does not hold"), reason


@dataclass(frozen=True)
class Comparison:
    """One row: a network beside LGM-Pose.

    Attributes:
        name: of the variant.
        seeds: of its runs.
        figures: metric → mean over its runs, per cent.
        differences: metric → lead over LGM-Pose, over the seeds that both have; {} for LGM-Pose itself.
        per_seed: metric → lead with each of those seeds.
        margin: points of the first metric that other seeds may change, see ``seed_margin``; None where nobody knows.
        verdict: see ``verdict``; "" for LGM-Pose itself, or where the two have no seed in common.
        statement: the verdict as plain sentences.
    """

    name: str
    seeds: tuple[int, ...]
    figures: dict[str, float]
    differences: dict[str, Difference]
    per_seed: dict[str, list[float]]
    margin: float | None = None
    verdict: str = ""
    statement: str = ""


def counts(text: str) -> np.ndarray:
    """(n,) joints per person, as the results file holds them: numbers with spaces between."""
    return np.array(text.split(), int)


def compare(results: dict[str, Any]) -> list[Comparison]:
    """Rows for all networks with a finished run, in the order of ``NETWORKS``.

    Args:
        results: content of a results file.
    """
    counted = {metric: counts(text) for metric, text in results["counted"].items()}
    runs = {name: {r["seed"]: r for r in results["runs"] if r["variant"] == name} for name in NETWORKS}
    rows = []
    for name, own in runs.items():
        if not own:
            continue
        figures = {m: float(np.mean([run["figures"][m] for run in own.values()])) for m in METRICS if m in counted}
        shared = sorted(own.keys() & runs[BASELINE].keys())
        differences, per_seed = {}, {}
        for metric in figures if shared and name != BASELINE else ():
            a, b = (np.stack([counts(of[s]["correct"][metric]) for s in shared]) for of in (own, runs[BASELINE]))
            differences[metric] = paired_bootstrap(a, b, counted[metric])
            per_seed[metric] = [float(100 * v / counted[metric].sum()) for v in (a - b).sum(axis=1)]
        row = Comparison(name, tuple(sorted(own)), figures, differences, per_seed)
        rows.append(_judged(row, runs, len(shared)) if differences else row)
    return rows


def _judged(row: Comparison, runs: dict, num_shared: int) -> Comparison:
    """The row with its verdict and statement."""
    metric, variant = next(iter(row.differences)), NETWORKS[row.name]
    difference, paper = row.differences[metric], variant.paper_difference
    # Of its own table alone: other networks may scatter more, and rows added later must not change what was told.
    (table,) = (group for group in (ABLATIONS, PEERS, CHOICES) if row.name in group)
    kin = [of for name, of in runs.items() if name in table or name == BASELINE]
    spread = [[run["figures"][metric] for run in of.values()] for of in kin]
    margin = seed_margin(spread, num_shared, num_shared)
    found, reason = verdict(paper, difference, margin)
    says = "" if row.name in CHOICES else "the paper has no such row; "
    if paper is not None:
        says = f"the paper's PCKh differs by {paper:+.1f} points ({variant.paper_pckh} against {published_pckh()}); "
    ours = f"ours differs by {difference} points of {metric} over {num_shared} {'seed' if num_shared == 1 else 'seeds'}"
    ending = {
        "cannot be told": f"Cannot be told at this size: {reason}.",
        "holds": f"The paper's ordering holds here: {reason}.",
        "does not hold": f"The paper's ordering does not hold here: {reason}.",
    }.get(found, f"{reason[0].upper()}{reason[1:]}.")
    sentence = f"{says}{ours}. {ending}".replace("-", "−")
    return replace(row, margin=margin, verdict=found, statement=f"{variant.label}: {sentence}")


def published_pckh() -> float:
    """The paper's PCKh@0.5 of LGM-Pose itself."""
    return published("lgm-pose-mpii-256x256").pckh
