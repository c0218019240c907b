"""Every proof and every task of the lessons rejects named wrong versions, and accepts the right ones.

``cases_NN.py`` has them: MISTAKES (wrong texts of the proofs' cells), PACKAGE (changes of the package that the proofs
must notice), RIGHT, BLANK and WRONG (attempts at the tasks).
"""

from __future__ import annotations

import importlib
import os
import threading
from types import SimpleNamespace

import pytest
import torch
from notebook_tools import LESSONS, run_core

from lgmpose.course import attempts, marking
from lgmpose.course.checks import Verdict, tasks_of, verdict

CASES = {number: importlib.import_module(f"cases_{number}") for number in LESSONS}
TASKS = [task for number in LESSONS for task in tasks_of(number)]


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


# Tasks


@pytest.mark.parametrize("task", TASKS)
def test_empty_stubs_are_not_attempted(task):
    blanks = [None, ..., *cases_of(task, "BLANK")]
    for right in cases_of(task, "RIGHT")[:1]:
        if callable(right):
            blanks += [lambda *arguments: None, lambda *arguments: ...]
        elif isinstance(right, tuple):
            blanks.append((...,) * len(right))
        elif isinstance(right, dict):
            blanks.append(dict.fromkeys(right, ...))
    for blank in blanks:
        assert verdict(task, blank).status == "not attempted"


@pytest.mark.parametrize("task", TASKS)
def test_right_attempts_are_correct(task):
    for right in cases_of(task, "RIGHT"):
        assert verdict(task, right).status == "correct"


@pytest.mark.parametrize("task", TASKS)
def test_wrong_attempts_are_rejected(task):
    cases = cases_of(task, "WRONG")
    assert len(cases) >= 3, "name three wrong answers that a student would give"
    for name, wrong in cases.items():
        status, text = verdict(task, wrong)
        assert status == "wrong", name
        assert ("stops with" in text) == name.endswith("(crashes)"), f"{name}: {text}"


def marked(task: str, attempt) -> Verdict:
    """Return the verdict of ``lgmpose course mark``. A thread behind two pipes stands for the notebook's process."""
    mark = marking.Mark("", task[:2])
    (asked, asking), (heard, answering) = os.pipe(), os.pipe()

    def hand_over() -> None:
        with os.fdopen(asked, "rb") as requests, os.fdopen(answering, "wb") as replies:
            attempts.serve(requests, replies, task, attempt)
            attempts.reply(replies, end="")

    notebook = threading.Thread(target=hand_over)
    notebook.start()
    with os.fdopen(asking, "wb") as stdin, os.fdopen(heard, "rb") as stdout:
        marking._exchange(SimpleNamespace(stdin=stdin, stdout=stdout), mark)
    notebook.join()
    return mark.verdicts[task]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_marking_comes_to_the_same_verdicts(task):
    for blank in (None, ..., *cases_of(task, "BLANK")):
        assert marked(task, blank).status == "not attempted"
    for right in cases_of(task, "RIGHT"):
        assert marked(task, right).status == "correct"
    for name, wrong in cases_of(task, "WRONG").items():
        status, text = marked(task, wrong)
        assert status == "wrong", name
        assert ("stops with" in text) == name.endswith("(crashes)"), f"{name}: {text}"
