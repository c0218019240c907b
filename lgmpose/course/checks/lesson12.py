"""Tasks of lesson 12: a clock that is hard to fool, the bill of a network, and two runs that disagree."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lgmpose.course.checks import compare, compare_prediction, task
from lgmpose.lab.bench import load_results


@task("12.1", "easy", way="Compare the machine's heat while old runs with its heat while new runs.")
def check_naive_order(prediction) -> str:
    return compare_prediction(prediction, "c")


@task("12.2", "easy")
def check_fair_ratio(attempt) -> None:
    rng = np.random.default_rng(122)
    five = [10, 10, 80, 20, 20], [20, 20, 20, 40, 40]
    compare(attempt(*map(list, five)), 0.5, "called with the five rounds above")
    for rounds, gaps in ((9, ()), (8, ()), (20, (3, 11, 12))):
        times_a, times_b = (rng.lognormal(3, 0.6, rounds).round(2).tolist() for _ in range(2))
        for gap in gaps:
            (times_a if gap % 2 else times_b)[gap] = None
        ratios = sorted(a / b for a, b in zip(times_a, times_b, strict=True) if None not in (a, b))
        middle = (ratios[(len(ratios) - 1) // 2] + ratios[len(ratios) // 2]) / 2
        compare(attempt(times_a, times_b), middle, f"called with {rounds} rounds, {len(gaps)} of them without a time")


@task(
    "12.3", "easy", way="The place is 0.25 × (number of values − 1); go in a straight line between the two neighbours."
)
def check_percentile(prediction) -> str:
    return compare_prediction(prediction, float(np.percentile([10, 20, 40, 80], 25)), atol=0.01, unit="ms")


class Pretended:
    """A clock that moves only when ``wait`` is called. A call waits 1 second more for each call before it."""

    def __init__(self):
        self.seconds, self.calls = 100.0, 0

    def clock(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += self.calls + seconds
        self.calls += 1


@task("12.4", "medium")
def check_one_round(attempt) -> None:
    for order in ((0, 1, 2), (2, 0, 1), (3, 1, 0, 2)):
        machine, seconds = Pretended(), [0.25, 0.5, 0.125, 1.0][: len(order)]
        calls: list[Callable[[], None]] = [functools.partial(machine.wait, s) for s in seconds]
        case = f"called with functions of {seconds} seconds, and 1 more per earlier call, in the order {list(order)}"
        # The times also show the order. In marking, nothing else does: the attempt gets a copy of the clock.
        expected = [1e3 * (order.index(i) + s) for i, s in enumerate(seconds)]
        compare(attempt(calls, list(order), machine.clock), expected, case)


@task("12.5", "easy", way="MACs / (MACs per second) gives seconds. A second has a million microseconds.")
def check_arithmetic(prediction) -> str:
    return compare_prediction(prediction, 16 * 16 * 8 * 6 / 20e9 * 1e6, rtol=0.05, unit="µs")


@task("12.6", "medium", way="A statement about small networks in general needs an interval that does not contain 0.")
def check_conclusion(prediction) -> str:
    return compare_prediction(prediction, "a")


@task("12.7", "easy")
def check_agreed(attempt) -> None:
    first = {"a": (1.1, 1.3), "b": (0.7, 0.9), "c": (1.2, 1.4), "d": (0.98, 1.2), "e": (1.1, 1.2)}
    first |= {"g": (1.0, 1.2), "h": (0.8, 1.0)}  # an interval that ends at 1 is on no side
    first |= {"i": (0.7, 0.9), "j": (0.9, 1.05)}  # each is below 1 in one run, and on no side in the other
    second = {"a": (1.2, 1.5), "b": (1.05, 1.1), "c": (0.99, 1.4), "d": (1.1, 1.2), "f": (2.0, 2.1)}
    second |= {"i": (0.95, 1.2), "j": (0.7, 0.8)}
    for other, expected, case in (
        (first, {"a", "b", "c", "e", "i"}, "called with the same run twice"),
        (second, {"a"}, "called with two runs that do not agree everywhere"),
    ):
        compare(attempt(dict(first), dict(other)), expected, case)


@task("12.8", "hard")
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
        compare(got, expected, f"called with {rounds} rounds, {gaps} of them without a time")


@task(
    "12.9", "medium", way="Multiply arithmetic and memory by 2.25, leave the calls as they are, divide by the old sum."
)
def check_growth(prediction) -> str:
    return compare_prediction(prediction, stored_growth(), rtol=0.2, unit="times")


def stored_growth() -> tuple[float, float]:
    """Return how LGM-Pose's and Dite-HRNet-18's times grow from 256 × 192 to 384 × 288 in the stored benchmark."""
    rows = load_results(max((Path(__file__).parents[3] / "results").glob("bench_*.json"))).rows
    ms = {(row.label, row.image_hw): row.median_ms for row in rows if (row.backend, row.threads) == ("eager", 1)}
    own, other = (ms[label, (384, 288)] / ms[label, (256, 192)] for label in ("LGM-Pose", "Dite-HRNet-18"))
    return own, other
