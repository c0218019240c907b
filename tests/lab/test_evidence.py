"""Evidence: intervals, error rate, power and verdicts, against scipy's Dunnett test and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import dunnett

from lgmpose.lab import evidence
from lgmpose.lab.evidence import Contrast, Family, judge, verdict

ROWS = ("a", "b", "c", "d")
FAMILY = Family("made-up", "Made up", "base", ROWS)


def made_up_runs(rng, *, persons=40, seeds=(5, 3), lead=0.0, spread=1.0, person_spread=1.0, noise=1.0):
    """Return runs of five networks with 100 joints per person: seeds, persons × networks, and noise differ.

    ``lead`` is the advantage of row a in points; a spread of 1 is one point.
    """
    hard = 10 * rng.standard_normal(persons)
    runs = {}
    for name in ("base", *ROWS):
        count = seeds[0] if name == "base" else seeds[1]
        own = person_spread * rng.standard_normal(persons)
        figure = 50 + lead * (name == "a") + hard + own
        runs[name] = figure + spread * rng.standard_normal((count, 1)) + noise * rng.standard_normal((count, persons))
    return runs, np.full(persons, 100.0)


def test_without_persons_variance_it_is_dunnetts_test():
    runs, counted = made_up_runs(np.random.default_rng(1), lead=2, person_spread=0, noise=0)
    ours = judge(FAMILY, runs, counted)
    figures = {name: values.mean(axis=1) for name, values in runs.items()}
    test = dunnett(*(figures[row] for row in ROWS), control=figures["base"], rng=np.random.default_rng(0))
    interval = test.confidence_interval(0.95)
    assert [c.p for c in ours] == pytest.approx(test.pvalue, abs=0.005)
    assert [c.low for c in ours] == pytest.approx(interval.low, abs=0.05)
    assert [c.high for c in ours] == pytest.approx(interval.high, abs=0.05)
    assert [c.points for c in ours] == pytest.approx([figures[row].mean() - figures["base"].mean() for row in ROWS])


def test_the_persons_part_is_that_of_the_paired_bootstrap():
    rng = np.random.default_rng(2)
    counted = rng.integers(0, 15, 300).astype(float)
    easy = rng.beta(3, 3, 300)
    correct = np.stack([rng.binomial(counted.astype(int), easy) for _ in range(2)])[:, None].astype(float)
    lead = 100 * (correct[1, 0] - correct[0, 0])
    drawn = rng.integers(0, 300, (4000, 300))
    by_bootstrap = np.std(lead[drawn].sum(1) / counted[drawn].sum(1))
    points = np.array([lead.sum() / counted.sum()])
    ours = np.sqrt(evidence._person_covariance(correct[:, 0], points, counted))[0, 0]
    assert ours == pytest.approx(by_bootstrap, rel=0.05)


def simulate(number: int, **options) -> tuple[float, float, float]:
    """Return in how many families any row is significant, in how many row a is, and the mean detectable difference."""
    rng, wrong, found, detectable = np.random.default_rng(3), 0, 0, 0.0
    for _ in range(number):
        runs, counted = made_up_runs(rng, **options)
        contrasts = judge(FAMILY, runs, counted, draws=2000)
        wrong += any(c.significant for c in contrasts)
        found += contrasts[0].significant
        detectable += contrasts[0].detectable / number
    return wrong / number, found / number, detectable


@pytest.mark.slow
@pytest.mark.parametrize("options, least", [
    ({"noise": 0.0}, 0.035),  # seeds and persons
    ({"noise": 0.0, "person_spread": 6.0}, 0.03),  # persons above all
    ({"noise": 3.0, "seeds": (2, 2)}, 0.005),  # noise of single runs, which is counted twice
])  # fmt: skip
def test_under_no_difference_one_family_in_twenty_is_wrong(options, least):
    wrong, _, _ = simulate(10_000, **options)
    assert least <= wrong <= 0.05 + 3 * (0.05 * 0.95 / 10_000) ** 0.5


@pytest.mark.slow
def test_the_detectable_difference_is_found_four_times_in_five():
    _, _, detectable = simulate(500, noise=0.0)
    _, found, _ = simulate(10_000, noise=0.0, lead=detectable)
    assert found == pytest.approx(0.8, abs=0.05)


def test_error_rate_and_power_of_a_few_families():
    wrong, _, detectable = simulate(150, noise=0.0)
    assert wrong <= 0.11
    _, found, _ = simulate(50, noise=0.0, lead=detectable)
    assert 0.6 <= found <= 0.95


def test_other_rows_change_no_verdict_unless_the_family_names_them():
    runs, counted = made_up_runs(np.random.default_rng(4), lead=3)
    alone = judge(FAMILY, runs, counted)
    more = {**runs, "late": runs["a"] + 50 * np.arange(3)[:, None]}
    assert judge(FAMILY, more, counted) == alone
    assert judge(Family("new", "", "base", (*ROWS, "late")), more, counted)[:4] != alone


@pytest.mark.parametrize("counted", [[5], [5, 0]])
def test_one_labelled_person_finds_nothing(counted):
    runs = {name: np.array([[3], [wins]]) * (np.array(counted) > 0) for name, wins in (("base", 2), ("a", 1))}
    (found,) = judge(FAMILY, runs, np.array(counted))
    assert (found.low, found.high, found.p, found.points) == (-np.inf, np.inf, 1.0, -10.0) and not found.significant


def test_more_seeds_find_smaller_differences_and_one_seed_finds_none():
    few, counted = made_up_runs(np.random.default_rng(5), seeds=(2, 2))
    many, _ = made_up_runs(np.random.default_rng(5), seeds=(20, 20))
    assert judge(FAMILY, many, counted)[0].detectable < judge(FAMILY, few, counted)[0].detectable
    one, _ = made_up_runs(np.random.default_rng(5), seeds=(1, 1), lead=90)
    assert not any(c.significant for c in judge(FAMILY, one, counted))
    assert [c.row for c in judge(FAMILY, {"base": one["base"], "c": one["c"]}, counted)] == ["c"]
    same = np.ones((2, len(counted)))
    assert not judge(FAMILY, {"base": same, "a": same}, counted)[0].significant
    assert judge(FAMILY, {"base": same}, counted) == []


@pytest.mark.parametrize("points, low, high, paper, expected", [
    (-2.0, -3.0, -1.0, -0.5, evidence.SAME),
    (2.0, 1.0, 3.0, 0.1, evidence.SAME),
    (2.0, 1.0, 3.0, -0.1, evidence.OPPOSITE),
    (-2.0, -3.0, -1.0, None, evidence.UNKNOWN_TO_PAPER),
    (-2.0, -4.1, 0.1, -0.5, evidence.NOT_SIGNIFICANT),
    (2.0, 0.0, 4.0, -0.5, evidence.NOT_SIGNIFICANT),
])  # fmt: skip
def test_verdicts(points, low, high, paper, expected):
    contrast = Contrast("a", 3, 50.0, points, low, high, 0.01, 1.0)
    assert verdict(contrast, paper) == expected and f"{points:+.1f}".replace("-", "−") in str(contrast)
