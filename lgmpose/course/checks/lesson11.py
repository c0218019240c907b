"""Exercises of lesson 11: an interval for a median ratio, and how times grow with the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import lgmpose
from lgmpose.course.checks import Different, NotAttempted, compare
from lgmpose.lab.bench import load_results

__all__ = ["EXERCISES"]

TOLERANCE = 1 / 3  # of what was measured


def _ratio_interval(attempt) -> None:
    """Against SciPy's interval of a quantile, which turns the same binomial test round."""
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
        compare(got, expected, f"called with {rounds} rounds, {gaps} of them with a None")


def _growth(prediction) -> None:
    if isinstance(prediction, (tuple, list)) and any(value is None or value is ... for value in prediction):
        raise NotAttempted
    if np.shape(prediction) != (2,):
        raise Different("a prediction is two numbers: LGM-Pose's factor, and Dite-HRNet-18's")
    labels = ("LGM-Pose", "Dite-HRNet-18")
    measured = [_stored_ms(label, (384, 288)) / _stored_ms(label, (256, 192)) for label in labels]
    if not np.allclose(np.asarray(prediction, float), measured, rtol=TOLERANCE, atol=0):
        own, other = prediction
        raise Different(
            f"you said {own:g} for LGM-Pose and {other:g} for Dite-HRNet-18; measured were {measured[0]:.2f} and "
            f"{measured[1]:.2f} (right within a third)"
        )


def _stored_ms(label: str, image_hw: tuple[int, int]) -> float:
    """From the newest benchmark that comes with the package: eager, one thread."""
    stored = load_results(max((Path(lgmpose.__file__).parents[1] / "results").glob("bench_*.json")))
    wanted = (1, label, image_hw, "eager", 1)
    return next(r.median_ms for r in stored.rows if (r.table, r.label, r.image_hw, r.backend, r.threads) == wanted)


EXERCISES = {"11.1": _ratio_interval, "11.2": _growth}
