"""Every proof and every exercise of the lessons rejects named wrong versions, and accepts the right ones.

``cases_NN.py`` has them: MISTAKES (wrong texts of the proofs' cells), PACKAGE (changes of the package that the proofs
must notice), RIGHT, BLANK and WRONG (attempts at the exercises).
"""

from __future__ import annotations

import importlib

import pytest
import torch
from notebook_tools import LESSONS, run_core

from lgmpose.course.checks import verdict
from lgmpose.course.checks.lesson00 import joints_found_upside_down

CASES = {number: importlib.import_module(f"cases_{number}") for number in LESSONS}
EXERCISES = [f"{number}.{exercise}" for number in LESSONS for exercise in (1, 2)]
NO_ATTEMPT = "not attempted yet"


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors are faster so, and lesson 10 compares losses bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def cases_of(exercise: str, name: str):
    return getattr(CASES[exercise[:2]], name, {}).get(exercise, [])


# Proofs. Each case runs the cells of a whole lesson up to the failing proof.


@pytest.mark.slow
@pytest.mark.parametrize("number", LESSONS)
def test_the_proofs_hold(number):
    run_core(number)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, mistake", [pytest.param(n, m, id=f"{n}: {m}") for n in LESSONS for m in CASES[n].MISTAKES]
)
def test_a_wrong_text_breaks_a_proof(number, mistake):
    with pytest.raises(AssertionError):
        run_core(number, CASES[number].MISTAKES[mistake])


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, change",
    [pytest.param(n, c, id=f"{n}: {c.__name__}") for n in LESSONS for c in getattr(CASES[n], "PACKAGE", ())],
)
def test_a_changed_package_breaks_a_proof(number, change, monkeypatch):
    change(monkeypatch)
    with pytest.raises(AssertionError):
        run_core(number)


# Exercises


@pytest.mark.parametrize("exercise", EXERCISES)
def test_empty_stubs_are_not_attempted(exercise):
    blanks = [None, ..., *cases_of(exercise, "BLANK")]
    for right in cases_of(exercise, "RIGHT")[:1]:
        if callable(right):
            blanks += [lambda *arguments: None, lambda *arguments: ...]
        elif isinstance(right, tuple):
            blanks.append((...,) * len(right))
    for blank in blanks:
        assert verdict(exercise, blank) == NO_ATTEMPT


@pytest.mark.parametrize("exercise", EXERCISES)
def test_right_attempts_are_correct(exercise):
    for right in cases_of(exercise, "RIGHT"):
        assert verdict(exercise, right) == "correct"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_wrong_attempts_are_rejected(exercise):
    cases = cases_of(exercise, "WRONG")
    assert cases
    for name, wrong in cases.items():
        answer = verdict(exercise, wrong)
        assert answer not in ("correct", NO_ATTEMPT), name
        assert answer.startswith("stops with") == name.endswith("(crashes)"), f"{name}: {answer}"


def test_the_prediction_of_lesson_00_is_measured():
    found = joints_found_upside_down()
    assert verdict("00.2", found) == verdict("00.2", found + 1) == "correct"
    assert str(found) in verdict("00.2", found + 2)
