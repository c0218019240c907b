"""Exercises of lesson 13: a sign-flip test of two networks, and false discoveries in a table without differences."""

import numpy as np

from lgmpose.course.checks import Task, compare, compare_prediction


def check_p_value(attempt) -> None:
    rng = np.random.default_rng(121)
    for persons, draws, lead in ((4, 50, 0.0), (30, 400, 0.3), (30, 400, -0.3), (9, 100, -1.0)):
        lead_N = np.rint(rng.normal(lead, 1.5, persons)).astype(int)
        signs_DN = rng.choice((-1, 1), (draws, persons))
        # Not the obvious formula: count the rows whose sum is strictly smaller.
        inside = sum(abs(sum(s * v for s, v in zip(row, lead_N, strict=True))) < abs(sum(lead_N)) for row in signs_DN)
        case = f"called with leads of {persons} persons and {draws} rows of signs"
        compare(attempt(lead_N.copy(), signs_DN.copy()), 1 - inside / draws, case)


def check_false_discoveries(prediction) -> str:
    """Simulate tables of ten equal networks and count in per cent how many show a difference to the baseline."""
    figures = np.random.default_rng(122).normal(size=(50_000, 10))  # tables, networks; the first one is the baseline
    leads = (figures[:, 1:] - figures[:, :1]) / np.sqrt(2)
    return compare_prediction(prediction, 100 * (abs(leads) > 1.96).any(axis=1).mean(), atol=5)


TASKS = {"13.1": Task(check_p_value, "hard"), "13.2": Task(check_false_discoveries)}
