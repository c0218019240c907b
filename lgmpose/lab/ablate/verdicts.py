"""From runs to statements: paired differences with intervals, and what they say about the paper's ordering.

A difference counts as significant only if two kinds of chance cannot explain it: another sample of *persons* (paired
bootstrap), and other *seeds*, that is other initial weights and another order of the images (spread between runs that
differ only in the seed).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lgmpose.lab.ablate.rows import ABLATIONS, BASELINE, CHOICES, NETWORKS, OTHER_NETWORKS
from lgmpose.lab.paper import published
from lgmpose.metrics import bootstrap_interval

__all__ = ["METRICS", "Comparison", "Difference", "compare", "counts", "paired_bootstrap", "seed_margin", "verdict"]

METRICS = ("PCKh@0.5", "PCK@0.2")  # the first that the data allow decides the verdict
PAPER_PCKH = published("lgm-pose-mpii-256x256").pckh  # PCKh@0.5 of LGM-Pose itself


@dataclass(frozen=True)
class Difference:
    """A difference in percentage points with its 95 % interval."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.points:+.2f} ({self.low:+.2f} … {self.high:+.2f})".replace("-", "−")


def paired_bootstrap(
    correct_a: np.ndarray, correct_b: np.ndarray, counted: np.ndarray, *, seed: int = 0, num: int = 2000
) -> Difference:
    """Return how many points network a is better than network b on the same persons, with a 95 % bootstrap interval.

    Persons are resampled with both networks' results: what both find hard cancels, so the interval is narrower than
    those of the two figures suggest. Several runs (seeds) of a network are averaged per person first.

    Args:
        correct_a: (n,) correct joints of each person, or (S, n) for S runs.
        correct_b: (n,) or (S, n).
        counted: (n,) labelled joints of each person; persons without any are left out.
        seed: seed of the resampling.
        num: number of resamples.

    Raises:
        ValueError: shapes that do not fit together, or nothing counted.
    """
    a, b, counted = (np.asarray(values, float) for values in (correct_a, correct_b, counted))
    if counted.ndim != 1 or a.shape[-1:] != counted.shape or b.shape[-1:] != counted.shape or not counted.any():
        raise ValueError(f"correct_a {a.shape}, correct_b {b.shape} and counted {counted.shape} must share n persons")
    lead = np.where(counted > 0, np.atleast_2d(a).mean(axis=0) - np.atleast_2d(b).mean(axis=0), 0)
    return Difference(float(100 * lead.sum() / counted.sum()), *bootstrap_interval(lead, counted, seed, num))


def seed_margin(figures: Sequence[Sequence[float]], runs_a: int, runs_b: int) -> float | None:
    """Return the least difference of two means, in points, that is significant over seeds (at 95 %).

    This is Fisher's least significant difference. The variance between seeds is pooled over all networks, because a few
    runs of one network say little about it.

    Args:
        figures: per network, the figure of each of its runs.
        runs_a: number of runs in the first mean.
        runs_b: number of runs in the second mean.

    Returns:
        Points; None if no network has a second run.
    """
    from scipy.special import stdtrit  # here, because the command line imports this module

    freedom = sum(len(values) - 1 for values in figures if len(values))
    if freedom < 1:
        return None
    variance = sum(((np.asarray(values) - np.mean(values)) ** 2).sum() for values in figures if len(values)) / freedom
    return float(stdtrit(freedom, 0.975) * math.sqrt(variance * (1 / runs_a + 1 / runs_b)))


def verdict(paper_points: float | None, difference: Difference, margin: float | None) -> tuple[str, str]:
    """Return verdict and reason for one row.

    The verdict is "not significant", or else "holds" or "does not hold" if the paper has the row, and "better" or
    "worse" if it has not.

    Args:
        paper_points: the paper's difference to LGM-Pose; None if it has no such row.
        difference: ours.
        margin: from ``seed_margin``.
    """
    if difference.low <= 0 <= difference.high:
        return "not significant", "the interval contains 0"
    if margin is None:
        return "not significant", "with one seed each, the spread between seeds is unknown"
    if abs(difference.points) <= margin:
        return "not significant", f"other seeds may change the sign (± {margin:.2f})"
    sign = "better" if difference.points > 0 else "worse"
    reason = f"the network is {sign}, by more than other persons (interval) or other seeds (± {margin:.2f}) explain"
    if paper_points is None:
        return sign, reason
    return ("holds" if (paper_points > 0) == (difference.points > 0) else "does not hold"), reason


@dataclass(frozen=True)
class Comparison:
    """One row: a network compared with LGM-Pose.

    Attributes:
        name: name of the variant.
        seeds: seeds of its runs.
        figures: metric → mean over its runs, per cent.
        differences: metric → difference to LGM-Pose, over the seeds that both have; {} for LGM-Pose itself.
        per_seed: metric → difference with each of those seeds.
        margin: points of the first metric that other seeds may change, see ``seed_margin``.
        verdict: see ``verdict``; "" for LGM-Pose itself, or if the two have no seed in common.
        statement: the verdict in sentences.
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
    """Return (n,) joints per person from the results file's text: numbers with spaces between."""
    return np.array(text.split(), int)


def compare(results: dict[str, Any]) -> list[Comparison]:
    """Return a row for every network with a finished run, in the order of ``NETWORKS``.

    Args:
        results: content of a results file.
    """
    counted = {metric: counts(results["counted"][metric]) for metric in METRICS if metric in results["counted"]}
    runs = {name: {r["seed"]: r for r in results["runs"] if r["variant"] == name} for name in NETWORKS}
    rows = []
    for name in (name for name in NETWORKS if runs[name]):
        own, base = runs[name], runs[BASELINE]
        figures = {metric: float(np.mean([run["figures"][metric] for run in own.values()])) for metric in counted}
        shared = sorted(own.keys() & base.keys())
        differences, per_seed = {}, {}
        for metric in counted if shared and name != BASELINE else ():
            a, b = (np.stack([counts(of[seed]["correct"][metric]) for seed in shared]) for of in (own, base))
            differences[metric] = paired_bootstrap(a, b, counted[metric])
            per_seed[metric] = [float(100 * v / counted[metric].sum()) for v in (a - b).sum(axis=1)]
        row = Comparison(name, tuple(sorted(own)), figures, differences, per_seed)
        rows.append(_judged(row, runs, len(shared)) if differences else row)
    return rows


def _judged(row: Comparison, runs: dict[str, dict], num_shared: int) -> Comparison:
    """Return the row with its margin, verdict and statement."""
    metric, variant = next(iter(row.differences)), NETWORKS[row.name]
    # The seeds' spread comes from the row's own table: rows added to another table do not change its verdicts.
    table = next(group for group in (ABLATIONS, OTHER_NETWORKS, CHOICES) if row.name in group)
    figures = [[r["figures"][metric] for r in runs[name].values()] for name in {BASELINE: None} | table]
    margin = seed_margin(figures, num_shared, num_shared)
    found, reason = verdict(variant.paper_difference, row.differences[metric], margin)
    paper = "" if row.name in CHOICES else "The paper has no such row. "
    if variant.paper_difference is not None:
        points = f"{variant.paper_difference:+.1f}".replace("-", "−")
        paper = f"In the paper, PCKh differs by {points} points ({variant.paper_pckh} against {PAPER_PCKH}). "
    seeds = f"{num_shared} {'seed' if num_shared == 1 else 'seeds'}"
    ours = f"Here, {metric} differs by {row.differences[metric]} points over {seeds}"
    ending = {
        "not significant": f", which is not significant: {reason}.",
        "holds": f". The paper's ordering holds here: {reason}.",
        "does not hold": f". The paper's ordering does not hold here: {reason}.",
    }.get(found, f": {reason}.")
    return replace(row, margin=margin, verdict=found, statement=f"{variant.label}: {paper}{ours}{ending}")
