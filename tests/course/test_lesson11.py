"""Lesson 11: its proofs and exercises reject named wrong versions, and a package gone wrong turns it red."""

from __future__ import annotations

import math

import numpy as np
import pytest
from notebook_tools import run_core, verdict

import lgmpose.lab.bench.result
import lgmpose.lab.bench.worker
from lgmpose.course.checks import lesson11


def test_core_runs_by_itself():
    assert {"paired_ratio", "summary_by_hand", "rounds_by_hand"} <= set(run_core("11"))


@pytest.mark.parametrize(
    "mistake",
    [
        # the statistics
        pytest.param(("values = sorted(values)", "values = list(values)"), id="not sorted"),
        pytest.param(("(place - below) * (values[above] - values[below])", "0"), id="no straight line between"),
        pytest.param(("/ 100 * (len(values) - 1)", "/ 100 * len(values) - 0.5"), id="other percentiles"),
        pytest.param(("for p in (25, 50, 75, 95)", "for p in (25, 50, 75, 90)"), id="90th for the 95th"),
        pytest.param(("for p in (25, 50, 75, 95)", "for p in (16, 50, 84, 95)"), id="sigmas for quartiles"),
        pytest.param(('"iqr_ms": high - low', '"iqr_ms": (high - low) / 2'), id="half the range"),
        pytest.param(('"median_ms": median', '"median_ms": sum(times_ms) / len(times_ms)'), id="mean for median"),
        pytest.param(('"fps": 1000 / median', '"fps": 1000 * len(times_ms) / sum(times_ms)'), id="FPS of the mean"),
        # the pairs
        pytest.param(("[a / b for a, b in zip", "[b / a for a, b in zip"), id="ratio turned round"),
        pytest.param(("zip(times_a, times_b, strict=True)",
                      "zip(*(sorted(filter(None, t)) for t in [times_a, times_b]))"), id="pairs torn apart"),
        pytest.param(("for p in (50, 25, 75))", "for p in (50, 75, 25))"), id="quartiles exchanged"),
        # the rounds
        pytest.param(("        shuffle(order)\n", ""), id="always the same order"),
        pytest.param(("times_N[i] = 1e3 *", "times_N[i] ="), id="seconds for milliseconds"),
        pytest.param(("            start = clock()\n", "            start = clock() if i == order[0] else start\n"),
                     id="clock never set back within a round"),
        pytest.param(("            calls[i]()\n", "            calls[i](), calls[i]()\n"), id="two runs timed as one"),
        # the truth
        pytest.param(("paired_ratio(times_RN[:, 1], times_RN[:, 0])", "paired_ratio(times_RN[:, 0], times_RN[:, 1])"),
                     id="the wrong network called the new one"),
    ],
)  # fmt: skip
def test_proofs_reject(mistake):
    with pytest.raises(AssertionError):
        run_core("11", mistake)


def ratio_of_medians(times, reference):
    times, reference = ([t for t in values if t is not None] for values in (times, reference))
    return (float(np.median(times) / np.median(reference)),) * 3


def one_after_the_other(calls, *, runs, on_round, clock, **_):
    times = np.empty((runs, len(calls)))
    for i, call in enumerate(calls):
        for number in range(runs):
            start = clock()
            call()
            times[number, i] = 1e3 * (clock() - start)
    for row in times:
        on_round(row.tolist(), 1.0)


@pytest.mark.parametrize(
    ("home", "name", "wrong"),
    [
        pytest.param(lgmpose.lab.bench.result, "paired_ratio", ratio_of_medians, id="ratio of medians"),
        pytest.param(lgmpose.lab.bench.worker, "measure_rounds", one_after_the_other, id="one after the other"),
    ],
)
def test_a_wrong_package_turns_it_red(monkeypatch, home, name, wrong):
    monkeypatch.setattr(home, name, wrong)
    with pytest.raises(AssertionError):
        run_core("11")


def ratio_interval(times_a, times_b, *, tail=0.025, shift=0, ratio=lambda a, b: a / b):
    ratios = sorted(ratio(a, b) for a, b in zip(times_a, times_b, strict=True) if a is not None and b is not None)
    n, k = len(ratios), 0
    while sum(math.comb(n, heads) for heads in range(k + 1)) / 2**n <= tail:
        k += 1
    k = max(0, k + shift)
    return (ratios[k - 1], ratios[n - k]) if k else (-math.inf, math.inf)


def quartiles(times_a, times_b):
    ratios = [a / b for a, b in zip(times_a, times_b, strict=True) if a is not None and b is not None]
    return tuple(np.percentile(ratios, [25, 75]).tolist())


def torn_apart(times_a, times_b):
    times_a, times_b = ([t for t in times if t is not None] for times in (times_a, times_b))
    return ratio_interval(*zip(*zip(times_a, times_b, strict=False), strict=True))


def test_exercise_1():
    assert verdict("11.1", ratio_interval) == "correct"
    assert verdict("11.1", lambda *args: np.array(ratio_interval(*args))) == "correct"
    assert verdict("11.1", lambda *args: ...) == verdict("11.1", None) == "not attempted yet"
    for name, wrong in {
        "quartiles": quartiles,
        "90 per cent": lambda *args: ratio_interval(*args, tail=0.05),
        "one rank too wide": lambda *args: ratio_interval(*args, shift=-1),
        "one rank too narrow": lambda *args: ratio_interval(*args, shift=1),
        "ratio turned round": lambda *args: ratio_interval(*args, ratio=lambda a, b: b / a),
        "rounds with None torn apart": torn_apart,
    }.items():
        assert verdict("11.1", wrong).startswith("called with"), name


def test_exercise_2():
    assert verdict("11.2", ...) == verdict("11.2", (..., ...)) == "not attempted yet"
    assert "two numbers" in verdict("11.2", 2.25)
    sizes = ((384, 288), (256, 192))
    own, other = (
        np.divide(*(lesson11._stored_ms(label, size) for size in sizes)) for label in ("LGM-Pose", "Dite-HRNet-18")
    )
    assert verdict("11.2", (own, other)) == verdict("11.2", (1.2 * own, 0.8 * other)) == "correct"
    for wrong in ((1.0, 1.0), (other, own), (own, 1.5 * other), (0.6 * own, other), (own, math.nan)):
        assert f"measured were {own:.2f} and {other:.2f}" in verdict("11.2", wrong)
