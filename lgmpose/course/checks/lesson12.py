"""Exercises of lesson 12: a sign-flip test of two networks, and how often a table without differences shows one."""

from __future__ import annotations

import numbers

import numpy as np

from lgmpose.course.checks import Different, compare

TOLERANCE = 5.0  # per cent of the tables


def _p_value(attempt) -> None:
    rng = np.random.default_rng(121)
    for persons, draws, lead in ((4, 50, 0.0), (30, 400, 0.3), (30, 400, -0.3), (9, 100, -1.0)):
        lead_N = np.rint(rng.normal(lead, 1.5, persons)).astype(int)
        signs_DN = rng.choice((-1, 1), (draws, persons))
        # Written otherwise than one would at first: count the rows that stay strictly inside.
        inside = sum(abs(sum(s * v for s, v in zip(row, lead_N, strict=True))) < abs(sum(lead_N)) for row in signs_DN)
        case = f"called with leads of {persons} persons and {draws} rows of signs"
        compare(attempt(lead_N.copy(), signs_DN.copy()), 1 - inside / draws, case)


def _false_discoveries(attempt) -> None:
    if isinstance(attempt, bool) or not isinstance(attempt, numbers.Real):
        raise Different(f"gives a {type(attempt).__name__} where a number is right")
    figures = np.random.default_rng(122).normal(size=(50_000, 10))  # tables, networks; the first is the baseline
    leads = (figures[:, 1:] - figures[:, :1]) / np.sqrt(2)
    measured = 100 * (abs(leads) > 1.96).any(axis=1).mean()
    if not abs(attempt - measured) <= TOLERANCE:
        raise Different(f"predicts {attempt:g} % of the tables; measured: {measured:.0f} %")


EXERCISES = {"12.1": _p_value, "12.2": _false_discoveries}
