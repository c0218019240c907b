"""Tasks of lesson 12: a clock that is hard to fool, the bill of a network, and two runs that disagree."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lgmpose.course.checks import Task, compare, compare_prediction


def check_naive_order(prediction) -> str:
    return compare_prediction(prediction, "c")


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


def check_percentile(prediction) -> str:
    return compare_prediction(prediction, float(np.percentile([10, 20, 40, 80], 25)), atol=0.01, unit="ms")


class Pretended:
    """A clock that moves only when one of its functions is called."""

    def __init__(self):
        self.seconds, self.called = 100.0, []

    def clock(self) -> float:
        return self.seconds

    def wait(self, number: int, seconds: float) -> None:
        self.seconds += seconds
        self.called.append(number)


def check_one_round(attempt) -> None:
    for order in ((0, 1, 2), (2, 0, 1), (3, 1, 0, 2)):
        machine, seconds = Pretended(), [0.25, 0.5, 0.125, 1.0][: len(order)]
        calls: list[Callable[[], None]] = [functools.partial(machine.wait, i, s) for i, s in enumerate(seconds)]
        case = f"called with functions of {seconds} seconds in the order {list(order)}"
        got = attempt(calls, list(order), machine.clock)
        compare(got, [1e3 * s for s in seconds], case)
        compare(machine.called, list(order), f"{case}: the functions in the order in which they ran")


def check_arithmetic(prediction) -> str:
    return compare_prediction(prediction, 16 * 16 * 8 * 6 / 20e9 * 1e6, rtol=0.05, unit="µs")


def check_conclusion(prediction) -> str:
    return compare_prediction(prediction, "a")


def check_agreed(attempt) -> None:
    first = {"a": (1.1, 1.3), "b": (0.7, 0.9), "c": (1.2, 1.4), "d": (0.98, 1.2), "e": (1.1, 1.2)}
    second = {"a": (1.2, 1.5), "b": (1.05, 1.1), "c": (0.99, 1.4), "d": (1.1, 1.2), "f": (2.0, 2.1)}
    for other, expected, case in (
        (first, {"a", "b", "c", "e"}, "called with the same run twice"),
        (second, {"a"}, "called with two runs that do not agree everywhere"),
    ):
        compare(attempt(dict(first), dict(other)), expected, case)


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


def check_growth(prediction) -> str:
    return compare_prediction(prediction, stored_growth(), rtol=0.2, unit="times")


def stored_growth() -> tuple[float, float]:
    """Return how LGM-Pose's and Dite-HRNet-18's times grow from 256 × 192 to 384 × 288 in the stored benchmark."""
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


TASKS = {
    "12.1": Task(
        check_naive_order,
        "easy",
        hints=(
            "The machine is cold and fresh at the start. Which of the two networks runs then?",
            "Both networks have one very slow first run. What else differs between the first three seconds and later?",
            "Heat costs up to 40 %. The true difference is only 10 %. Which of the two is larger?",
        ),
        way="Compare the machine's heat while old runs with its heat while new runs.",
    ),
    "12.2": Task(
        check_fair_ratio,
        "easy",
        hints=(
            "`zip(times_a, times_b)` walks through two lists together.",
            "First collect the ratios in a list, without the rounds that have a `None`. Then take one median.",
            '"I get 1.0 for the five rounds": you took two medians and divided them. Divide first. "I get 2.0": you '
            "divided b by a.",
        ),
    ),
    "12.3": Task(
        check_percentile,
        "easy",
        hints=(
            "The four times stand at the places 0, 1, 2 and 3. Place 0 is the 0th percentile, place 3 the 100th.",
            "The 25th percentile stands at place 0.25 × 3 = 0.75. Between which two times is that?",
            "Go three quarters of the way from 10 to 20.",
        ),
        way="The place is 0.25 × (number of values − 1); go in a straight line between the two neighbours.",
    ),
    "12.4": Task(
        check_one_round,
        "medium",
        hints=(
            "Read the clock directly before and directly after each call. The difference is the time.",
            "Prepare `times_ms = [None] * len(calls)` and write each time at its own index.",
            '"I pass tests 1 and 2 but fail test 3": you append the times in the order of running. And one second has '
            "1000 milliseconds.",
        ),
    ),
    "12.5": Task(
        check_arithmetic,
        "easy",
        hints=(
            "A 1×1 convolution has input channels × output channels × pixels MACs.",
            "16 × 16 × 8 × 6 = 12,288 MACs. Divide by 20 billion per second.",
            "12,288 / 20,000,000,000 = 0.0000006144 seconds. How many millionths is that?",
        ),
        way="MACs / (MACs per second) gives seconds. A second has a million microseconds.",
    ),
    "12.6": Task(
        check_conclusion,
        "medium",
        hints=(
            "Eight points are few. Could networks whose MACs and times are unrelated give the same figure?",
            "Is it plausible that a network gets slower because it multiplies less? What would you have to keep fixed?",
            "The next cell computes an interval. It reaches from strongly negative to positive.",
        ),
        way="A statement about small networks in general needs an interval that does not contain 0.",
    ),
    "12.7": Task(
        check_agreed,
        "easy",
        hints=(
            "`first.keys() & second.keys()` are the names that both have.",
            "An interval is above 1 if its lower end is above 1. It is below 1 if its upper end is below 1.",
            '"A name with an interval like (0.98, 1.2) is in my set": it is on neither side.',
        ),
    ),
    "12.8": Task(
        check_ratio_interval,
        "hard",
        hints=(
            "The probability of exactly h heads is `math.comb(n, h) / 2**n`. Fewer than k means h = 0 … k − 1.",
            'Start with k = 0. Raise k while "fewer than k + 1 heads" has a probability of at most 0.025.',
            '"I pass test 1 but fail test 2": n counts the complete rounds only. The k-th smallest is `ratios[k - 1]`, '
            "the k-th largest `ratios[n - k]`.",
        ),
    ),
    "12.9": Task(
        check_growth,
        "medium",
        hints=(
            "Section 6 prints the three parts of the bill for both networks at 256×192.",
            "New time = 2.25 × (arithmetic + memory) + calls. Divide it by the old time.",
            "For which of the two are the calls the largest part? Its time grows less.",
        ),
        way="Multiply arithmetic and memory by 2.25, leave the calls as they are, divide by the old sum.",
    ),
}
