"""Exercises of lesson 12: a confidence interval of a median ratio, and how run times grow with the input size."""

import json
from pathlib import Path

import numpy as np

from lgmpose.course.checks import Task, compare, compare_prediction


def check_ratio_interval(attempt) -> None:
    """Compare with SciPy's confidence interval of a quantile, which inverts the same binomial test."""
    from scipy.stats import quantile_test

    rng = np.random.default_rng(5)
    for rounds, gaps in ((21, 0), (40, 3), (6, 0), (101, 10), (8, 2), (9, 4)):
        times_a, times_b = (rng.lognormal(3, 0.4, rounds).tolist() for _ in range(2))
        for gap in rng.permutation(rounds)[:gaps]:
            (times_a if gap % 2 else times_b)[gap] = None
        ratios = [a / b for a, b in zip(times_a, times_b, strict=True) if a is not None and b is not None]
        low, high = quantile_test(ratios, q=0.5, p=0.5).confidence_interval(0.95)
        expected = (-np.inf, np.inf) if np.isnan(low) else (float(low), float(high))
        got = attempt(list(times_a), list(times_b))
        if isinstance(got, (list, np.ndarray)):
            got = tuple(got)
        compare(got, expected, f"called with {rounds} rounds, {gaps} of them without a time")


def check_growth(prediction) -> str:
    """Read from the stored benchmark how times grow from 256 × 192 to 384 × 288: LGM-Pose, Dite-HRNet-18."""
    return compare_prediction(prediction, stored_growth(), rtol=1 / 3)


def stored_growth() -> tuple[float, float]:
    """Return the growth of LGM-Pose's and of Dite-HRNet-18's time."""
    own, other = (
        _stored_ms(label, (384, 288)) / _stored_ms(label, (256, 192)) for label in ("LGM-Pose", "Dite-HRNet-18")
    )
    return own, other


def _stored_ms(label: str, image_hw: tuple[int, int]) -> float:
    """Return a median time of the newest stored benchmark: eager mode, one thread."""
    file = max((Path(__file__).parents[3] / "results").glob("bench_*.json"))
    for row in json.loads(file.read_text(encoding="utf-8"))["rows"]:
        if (row["label"], row["image_hw"], row["backend"], row["threads"]) == (label, list(image_hw), "eager", 1):
            return row["median_ms"]
    raise FileNotFoundError(f"{file.name} has no row of {label} at {image_hw}")


TASKS = {"12.1": Task(check_ratio_interval, "hard"), "12.2": Task(check_growth)}
