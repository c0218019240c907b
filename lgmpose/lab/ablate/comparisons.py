"""The stored runs as comparisons with LGM-Pose, family by family, and their tables."""

from __future__ import annotations

from typing import Any

import numpy as np
from tabulate import tabulate

from lgmpose.lab.ablate.rows import BASELINE, FAMILIES, NETWORKS
from lgmpose.lab.evidence import Contrast, Family, judge, verdict
from lgmpose.lab.paper import published

__all__ = [
    "METRICS", "PAPER_PCKH", "contrasts", "counts", "family_note", "family_section", "family_table", "joint_verdict",
    "judged_families", "mean_figures",
]  # fmt: skip

METRICS = ("PCKh@0.5", "PCK@0.2")  # both are shown; verdicts say so where they disagree
PAPER_PCKH = published("lgm-pose-mpii-256x256").pckh  # PCKh@0.5 of LGM-Pose itself


def counts(text: str) -> np.ndarray:
    """Return (n,) joints per person from the results file's text: numbers with spaces between."""
    return np.array(text.split(), int)


def contrasts(results: dict[str, Any], family: Family) -> dict[str, list[Contrast]]:
    """Return metric → the rows of a family with runs, compared with LGM-Pose.

    Args:
        results: content of a results file.
        family: one of ``judged_families``.
    """
    found = {}
    for metric in (metric for metric in METRICS if metric in results["counted"]):
        runs: dict[str, list[np.ndarray]] = {}
        for run in results["runs"]:
            runs.setdefault(run["variant"], []).append(counts(run["correct"][metric]))
        stacked = {name: np.stack(values) for name, values in runs.items()}
        found[metric] = judge(family, stacked, counts(results["counted"][metric]))
    return found


def judged_families(results: dict[str, Any]) -> list[Family]:
    """Return the families of which a row has runs."""
    trained = {run["variant"] for run in results["runs"]}
    return [family for family in FAMILIES.values() if BASELINE in trained and trained & {*family.rows}]


def mean_figures(results: dict[str, Any], name: str) -> dict[str, float]:
    """Return metric → a network's mean over its runs, per cent."""
    runs = [run["figures"] for run in results["runs"] if run["variant"] == name]
    return {metric: float(np.mean([run[metric] for run in runs])) for metric in METRICS if metric in results["counted"]}


def joint_verdict(rows: dict[str, Contrast], paper_points: float | None) -> str:
    """Return the verdict on one row by all metrics: one wording if they agree, else each metric's.

    Args:
        rows: metric → the row's contrast.
        paper_points: the paper's difference; None if it has no such row.
    """
    verdicts = {metric: verdict(row, paper_points) for metric, row in rows.items()}
    if len(set(verdicts.values())) == 1:
        return next(iter(verdicts.values()))
    return "; ".join(f"{metric}: {text}" for metric, text in verdicts.items())


def family_table(results: dict[str, Any], family: Family) -> str:
    """Return a Markdown table: both metrics with simultaneous intervals and adjusted p, and the verdict."""
    by_metric = contrasts(results, family)
    metrics, judged = list(by_metric), not family.exploratory
    base = mean_figures(results, family.baseline)
    runs = sum(run["variant"] == family.baseline for run in results["runs"])
    head = ["network", *["the paper"] * judged]
    first = [NETWORKS[family.baseline].label, *[str(PAPER_PCKH)] * judged]
    for metric in metrics:
        head += [metric, "difference (95 %)", *["p"] * judged]
        first += [f"{base[metric]:.1f}", "–", *["–"] * judged]
    lines = [[*first, runs, *["–"] * judged]]
    for rows in zip(*by_metric.values(), strict=True):
        variant = NETWORKS[rows[0].row]
        reported = variant.paper_difference
        paper = "–" if reported is None else f"{variant.paper_pckh} ({reported:+.1f})".replace("-", "−")
        line = [variant.label, *[paper] * judged]
        for row in rows:
            p = "< 0.001" if row.p < 0.001 else f"{row.p:.3f}" if row.p < 0.1 else f"{row.p:.2f}"
            line += [f"{row.figure:.1f}", str(row), *[p] * judged]
        line += [rows[0].seeds, *[joint_verdict(dict(zip(metrics, rows, strict=True)), reported)] * judged]
        lines.append(line)
    return tabulate(lines, [*head, "seeds", *["verdict"] * judged], "pipe", disable_numparse=True)


def family_note(results: dict[str, Any], family: Family) -> str:
    """Return what a family's table could have found, and what it lacks."""
    power = []
    for metric, rows in contrasts(results, family).items():
        found = sorted(row.detectable for row in rows)
        same = f"{found[0]:.1f}" == f"{found[-1]:.1f}"
        power.append(f"{found[0]:.1f} points of {metric}" if same else
                     f"{found[0]:.1f} to {found[-1]:.1f} points of {metric}")  # fmt: skip
    note = (
        f"Power, by row: a true difference of {' or '.join(power)} is found significant in 80 % of such experiments."
    )
    seeds = [sum(run["variant"] == name for run in results["runs"]) for name in (family.baseline, *family.rows)]
    fewest = min(number for number in seeds[1:] if number)
    if family.exploratory:
        note += " The rows are exploratory and get no verdict."
    elif seeds[0] < family.baseline_seeds or fewest < family.row_seeds:
        note += (
            f" Preliminary: the family needs {family.baseline_seeds} seeds of {NETWORKS[family.baseline].label} and "
            f"{family.row_seeds} of each row; here are {seeds[0]} and {fewest}."
        )
    return note


def family_section(results: dict[str, Any], family: Family) -> str:
    """Return a family's heading, table and note."""
    return f"## {family.heading}\n\n{family_table(results, family)}\n\n{family_note(results, family)}"
