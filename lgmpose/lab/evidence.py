"""Judge differences between trained networks: over other persons and other seeds, for several comparisons at once.

A ``Family`` is the set of comparisons that is judged together. It is declared in the file that runs it, before its
runs. A row that is added or trained again later belongs to a new family: it changes no verdict of the old one.

The variance of a difference has two parts. *Seeds*: runs of a network differ by their initial weights and the order of
the pictures; this variance is pooled over the family. *Persons*: the difference varies between the validation persons.
The noise of single runs is in both parts, so intervals are slightly too wide.

The intervals are simultaneous: all of a family's intervals contain the true differences with 95 % probability. They
come from the largest of several correlated t values (Hothorn, Bretz and Westfall 2008). Where persons do not vary, this
is Dunnett's test (``scipy.stats.dunnett``). Comparisons without a common baseline would need Holm's correction instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["NOT_SIGNIFICANT", "OPPOSITE", "SAME", "UNKNOWN_TO_PAPER", "Contrast", "Family", "judge", "verdict"]

SAME = "significant, same direction as the paper"
OPPOSITE = "significant, opposite direction to the paper"
UNKNOWN_TO_PAPER = "significant; the paper has no such row"
NOT_SIGNIFICANT = "not significant (the interval includes both directions)"
POWER = 0.8
DRAWS = 100_000  # of the largest t value; the critical value is then precise to about 0.01


@dataclass(frozen=True)
class Family:
    """Comparisons with one baseline that are judged together.

    Attributes:
        name: short name.
        heading: title of its table.
        baseline: the row that all others are compared with.
        rows: the other rows.
        baseline_seeds, row_seeds: how many seeds the family needs; results with fewer are preliminary.
        exploratory: the rows get intervals but no verdicts, because they were chosen after looking at results.
    """

    name: str
    heading: str
    baseline: str
    rows: tuple[str, ...]
    baseline_seeds: int = 5
    row_seeds: int = 3
    exploratory: bool = False


@dataclass(frozen=True)
class Contrast:
    """One row of a family against the baseline, in percentage points.

    Attributes:
        row: name.
        seeds: number of its runs.
        figure: mean over its runs, per cent.
        points: difference to the baseline's mean.
        low, high: its simultaneous 95 % interval.
        p: its p value, adjusted for the family.
        detectable: the true difference that would be found significant with a probability of 80 %.
    """

    row: str
    seeds: int
    figure: float
    points: float
    low: float
    high: float
    p: float
    detectable: float

    @property
    def significant(self) -> bool:
        return not self.low <= 0 <= self.high

    def __str__(self) -> str:
        return f"{self.points:+.1f} ({self.low:+.1f} … {self.high:+.1f})".replace("-", "−")


def judge(family: Family, runs: Mapping[str, np.ndarray], counted: np.ndarray, *, draws: int = DRAWS) -> list[Contrast]:
    """Compare the rows of a family that have runs with its baseline.

    Args:
        family: what is compared.
        runs: row → (S, n) correct joints of each person in each of its S runs.
        counted: (n,) labelled joints of each person.
        draws: number of draws of the largest t value.

    Returns:
        A ``Contrast`` for each row that has runs. Intervals are infinite if no network has a second run, if fewer than
        two persons have a labelled joint, or if a row's runs and persons do not differ at all from the baseline's.
    """
    from scipy.special import nctdtrinc
    from scipy.stats import multivariate_t  # here, because it takes a second to import

    rows = [row for row in family.rows if row in runs]
    if not rows:
        return []
    every = [np.asarray(runs[row], float) for row in (family.baseline, *rows)]
    counted = np.asarray(counted, float)
    figures = [100 * run.sum(axis=1) / counted.sum() for run in every]
    means, sizes = np.array([f.mean() for f in figures]), np.array([len(f) for f in figures])
    points, freedom = means[1:] - means[0], int((sizes - 1).sum())
    spread = sum(((f - f.mean()) ** 2).sum() for f in figures) / max(freedom, 1)
    by_seeds = spread * (np.diag(1 / sizes[1:]) + 1 / sizes[0])  # (rows, rows) covariances
    persons_counted = np.count_nonzero(counted)
    by_persons = np.zeros_like(by_seeds)
    if persons_counted > 1:
        by_persons = _person_covariance(np.stack([run.mean(axis=0) for run in every]), points, counted)
    covariance = by_seeds + by_persons
    total, seeds, persons = (np.diag(part) for part in (covariance, by_seeds, by_persons))
    if freedom == 0 or persons_counted < 2 or not total.all():
        found = zip(rows, sizes[1:].tolist(), means[1:].tolist(), points.tolist(), strict=True)
        return [Contrast(*row, -np.inf, np.inf, 1.0, np.inf) for row in found]
    # Satterthwaite's degrees of freedom; the least of all rows is on the safe side
    freedom = float((total**2 / (seeds**2 / freedom + persons**2 / (persons_counted - 1))).min())
    errors = np.sqrt(total)
    correlation = covariance / errors[:, None] / errors
    values = multivariate_t.rvs(shape=correlation, df=freedom, size=draws, random_state=np.random.default_rng(0))
    largest = np.abs(values.reshape(draws, -1)).max(axis=1)
    critical = float(np.quantile(largest, 0.95))
    found = nctdtrinc(freedom, 1 - POWER, critical) * errors  # the true t value that exceeds ``critical`` so often
    return [
        Contrast(row, int(sizes[i + 1]), float(means[i + 1]), float(points[i]),
                 float(points[i] - critical * errors[i]), float(points[i] + critical * errors[i]),
                 float((largest >= abs(points[i]) / errors[i]).mean()), float(found[i]))
        for i, row in enumerate(rows)
    ]  # fmt: skip


def _person_covariance(correct: np.ndarray, points: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Return the covariances (rows, rows) of the differences under another draw of persons, by linearisation.

    ``correct`` (rows + 1, n) has the mean over the runs, the baseline first.
    """
    counts = counted > 0
    lead = 100 * (correct[1:] - correct[0]) - points[:, None] * counted  # of each person, beyond the mean difference
    return np.atleast_2d(np.cov(lead[:, counts])) * counts.sum() / counted.sum() ** 2


def verdict(contrast: Contrast, paper_points: float | None) -> str:
    """Return the verdict in its standard wording.

    Args:
        contrast: a row's difference to the baseline.
        paper_points: the paper's difference; None if it has no such row.
    """
    if not contrast.significant:
        return NOT_SIGNIFICANT
    if paper_points is None:
        return UNKNOWN_TO_PAPER
    return SAME if (contrast.points > 0) == (paper_points > 0) else OPPOSITE
