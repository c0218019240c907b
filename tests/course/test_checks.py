"""``check``: empty stubs, right, wrong and crashing attempts, and which difference a verdict names."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook
from notebook_tools import run_core
from torch import nn

from lgmpose.course.checks import Different, NotAttempted, check, compare, compare_prediction, randomised, verdict

X = torch.arange(6.0).reshape(2, 3)


@pytest.fixture(autouse=True)
def lesson(monkeypatch):
    """A lesson 99 whose first exercise is to double a tensor."""
    module = ModuleType("lgmpose.course.checks.lesson99")
    module.EXERCISES = {"99.1": lambda attempt: compare(attempt(X), 2 * X, "called with (2, 3)")}
    monkeypatch.setitem(sys.modules, "lgmpose.course.checks.lesson99", module)


@pytest.mark.parametrize("blank", [None, ..., lambda x: None, lambda x: ...])
def test_an_empty_stub_is_not_attempted(blank):
    assert verdict("99.1", blank) == "not attempted yet"


def test_right_is_correct_and_check_prints_it(capsys):
    assert verdict("99.1", lambda x: (x + x).numpy()) == "correct"
    check("99.1", lambda x: x + x)
    assert capsys.readouterr().out == "99.1: correct\n"


@pytest.mark.parametrize(
    "wrong, named",
    [
        (lambda x: 2 * x.T, ["(3, 2)", "(2, 3)"]),
        (lambda x: x**2 + (x == 1), ["9", "(1, 0)", "6"]),
        (lambda x: "twice", ["str"]),
        (lambda x: x / "2", ["TypeError"]),
        (3, ["TypeError", "'int'"]),
    ],
)
def test_a_verdict_names_the_first_difference(wrong, named):
    assert all(word in verdict("99.1", wrong) for word in named)


def test_an_error_is_shown_with_the_line_of_the_readers_cell():
    namespace = {}
    exec(compile("def g(x):\n    return x.nothing\n\ndef f(x):\n    return g(x)", "<cell>", "exec"), namespace)
    assert "line 2" in verdict("99.1", namespace["f"])  # where it happens, not where it is called


def test_compare_goes_into_tuples_lists_and_dicts():
    compare((1, [2.0, np.nan]), (1, [2.0, np.nan]), "x")
    compare({"a": torch.ones(2)}, {"a": torch.ones(2)}, "x")
    compare(True, True, "x")
    for got, expected in (
        ((1, 2), (1, 3)), ((1,), (1, 2)), (1, (1, 2)), ({"b": 1}, {"a": 1}), ("a", "b"), (1, True), (False, True),
        ({"a": 1, "b": 2}, {"a": 1}),
    ):  # fmt: skip
        with pytest.raises(Different):
            compare(got, expected, "x")
    with pytest.raises(NotAttempted):
        compare((1, None), (1, 2), "x")


def test_compare_is_relative_for_large_numbers_and_absolute_for_small_ones():
    compare(1e6 + 1, 1e6, "x")
    compare(1e-6, 0, "x")
    for got, expected in ((1e6 + 100, 1e6), (1e-4, 0)):
        with pytest.raises(Different):
            compare(got, expected, "x")


def test_predictions_are_compared_within_their_tolerance():
    compare_prediction(1.09, 1, atol=0.1)
    compare_prediction(np.array([2.0, 4.3]), (2, 4), rtol=0.1)
    for prediction, measured in ((1.11, 1), (0.89, 1), ((1, 1.2), (1, 1)), ((1, 1), 1), (1, (1, 1)), ("1", 1)):
        with pytest.raises(Different):
            compare_prediction(prediction, measured, atol=0.1)
    with pytest.raises(Different):
        compare_prediction(4.5, 4, rtol=0.1)
    for blank in (None, ..., (1, ...)):
        with pytest.raises(NotAttempted):
            compare_prediction(blank, (1, 1), atol=0.1)


def test_randomised_leaves_no_number_at_its_initial_value():
    def make():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))

    fresh = make()
    net = randomised(make())
    assert not net.training
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            assert (tensor != fresh.state_dict()[name]).all(), name
    torch.testing.assert_close(net.state_dict(), randomised(make()).state_dict(), rtol=0, atol=0)
    assert (net[1].running_var > 0).all()


def test_core_cells_are_run_with_their_mistakes(tmp_path):
    core = {"tags": ["core"]}
    cells = [
        new_code_cell("def double(x):\n    return 2 * x", metadata=core),
        new_code_cell("1 / 0"),
        new_code_cell("assert double(3) == 6", metadata=core),
    ]
    write(new_notebook(cells=cells), tmp_path / "99_proof.ipynb")
    assert run_core("99", folder=tmp_path)["double"](4) == 8
    with pytest.raises(AssertionError):
        run_core("99", ("2 * x", "3 * x"), folder=tmp_path)
    with pytest.raises(LookupError):  # a text that is not there must not pass for a proof that failed
        run_core("99", ("4 * x", "3 * x"), folder=tmp_path)
