"""Tasks of lesson 13: the bootstrap, the spread between seeds, and false discoveries among nine rows."""

from __future__ import annotations

import numpy as np

from lgmpose.course.checks import compare, compare_prediction, task
from lgmpose.course.checks.comparison import Different

# The lesson's six persons: by how many joints one network leads, and how many are labelled.
SIX_LEAD, SIX_COUNTED = np.array([1, 0, 2, 0, -1, 2]), np.array([14, 14, 12, 14, 10, 14])


@task("13.1", "easy", way="Multiply persons by joints, and take a thousandth.")
def check_joints(prediction) -> str:
    return compare_prediction(prediction, 0.001 * 2958 * 14, atol=1, unit="joints")


@task("13.2", "easy", way="Sum the leads of the drawn persons, divide by the sum of their joints, times 100.")
def check_one_draw(prediction) -> str:
    drawn = [2, 2, 4, 5, 0, 1]
    measured = float(100 * SIX_LEAD[drawn].sum() / SIX_COUNTED[drawn].sum())
    return compare_prediction(prediction, measured, atol=0.05, unit="points")


@task("13.3", "medium")
def check_bootstrap(attempt) -> None:
    rng = np.random.default_rng(133)
    by_hand = np.array([[2, 3, 4, 5, 0, 0], [1, 4, 1, 2, 3, 3]])  # two draws that the lesson prints
    cases = [("the lesson's six persons and its first and third draw", SIX_LEAD, SIX_COUNTED, by_hand)]
    for persons, draws in ((6, 200), (40, 500)):
        lead, counted = np.rint(rng.normal(0.5, 2, persons)).astype(int), rng.integers(5, 15, persons)
        chosen = rng.integers(persons, size=(draws, persons))
        cases.append((f"{persons} persons and {draws} draws", lead, counted, chosen))
    for case, lead, counted, chosen in cases:
        points = [100 * sum(lead[m] for m in row) / sum(counted[m] for m in row) for row in chosen]
        low, high = np.percentile(points, [2.5, 97.5])
        compare(attempt(lead.copy(), counted.copy(), chosen.copy()), (float(low), float(high)), f"called with {case}")


@task("13.4", "easy", way="Think of a draw with many difficult persons: does it change both networks, or only one?")
def check_torn_pairs(prediction) -> str:
    return compare_prediction(prediction, "c")


@task("13.5", "medium")
def check_seed_variance(attempt) -> None:
    for figures in ([[27.64, 26.06]], [[27.6, 26.1], [19.3, 20.6], [28.6, 27.8]], [[30.0, 31.0, 33.0], [20.0, 22.0]]):
        squares = [sum((f - sum(runs) / len(runs)) ** 2 for f in runs) for runs in figures]
        variance = sum(squares) / sum(len(runs) - 1 for runs in figures)
        compare(attempt([list(runs) for runs in figures]), variance, f"called with {figures}")


@task("13.6", "medium", way="Begin with 1 − 0.95⁹ and think about what a common baseline changes.")
def check_false_discoveries(prediction) -> str:
    """Simulate tables of ten equal networks and count in per cent how many show a difference to the baseline."""
    figures = np.random.default_rng(122).normal(size=(50_000, 10))  # tables, networks; the first one is the baseline
    leads = (figures[:, 1:] - figures[:, :1]) / np.sqrt(2)
    return compare_prediction(prediction, 100 * (abs(leads) > 1.96).any(axis=1).mean(), atol=5, unit="%")


@task("13.7", "easy", way="Divide SFusion's FLOPs by those of the 3×3 convolution.")
def check_half_the_cost(prediction) -> str:
    if isinstance(prediction, float) and abs(prediction - 0.563) < 0.005:
        raise Different("this is the share of the counted MACs. Take the two figures that the paper prints")
    return compare_prediction(prediction, 0.90 / 1.5, atol=0.02)


@task("13.8", "medium")
def check_p_value(attempt) -> None:
    rng = np.random.default_rng(121)
    for persons, draws, lead in ((4, 50, 0.0), (30, 400, 0.3), (30, 400, -0.3), (9, 100, -1.0)):
        lead_M = np.rint(rng.normal(lead, 1.5, persons)).astype(int)
        signs_DM = rng.choice((-1, 1), (draws, persons))
        # Not the obvious formula: count the rows whose sum is strictly smaller.
        inside = sum(abs(sum(s * v for s, v in zip(row, lead_M, strict=True))) < abs(sum(lead_M)) for row in signs_DM)
        got, share = attempt(lead_M.copy(), signs_DM.copy()), 1 - inside / draws
        if isinstance(got, float) and np.isclose(got, (draws - inside + 1) / (draws + 1)) and got != share:
            raise Different(
                "returns (count + 1) / (D + 1). Many books recommend it, because it is never 0. Here the plain share "
                "count / D is asked for"
            )
        compare(got, share, f"called with leads of {persons} persons and {draws} rows of signs")


@task("13.9", "hard")
def check_seeds_needed(attempt) -> None:
    from scipy.stats import t

    for spread, difference in ((1.0, 2.0), (0.3, 0.5), (1.1, 1.0), (0.2, 0.2), (0.5, 5.0)):
        seeds = 2
        while t.isf(0.025 / 9, 10 * (seeds - 1)) * spread * (2 / seeds) ** 0.5 > difference:
            seeds += 1
        compare(
            attempt(spread, difference), seeds, f"called with a spread of {spread} and a difference of {difference}"
        )
