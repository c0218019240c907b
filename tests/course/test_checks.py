"""``check`` and ``hint``: empty stubs, right, wrong and crashing attempts, and which difference a verdict names."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nbformat import write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from notebook_tools import run_core
from torch import nn

from lgmpose.course import checks
from lgmpose.course.checks import check, compare, compare_prediction, hint, randomised, task, verdict
from lgmpose.course.checks.comparison import Different, NotAttempted
from lgmpose.network.modules import npt_op1

X = torch.arange(6.0).reshape(2, 3)
FOLDED = """**Task 99.1** · easy.
<details><summary>Hint 1</summary>Look at the shape.</details>
<details><summary>Hint 2</summary>Use <code>sum</code> if a &lt; b.</details>
<details><summary>Solution</summary>2 * x</details>"""


def double(x):
    return 2 * x


def forgets_return(x):
    double(x)


@pytest.fixture(autouse=True)
def lesson(monkeypatch):
    """A lesson 99: to double a tensor in two tests, a prediction, a forbidden function."""
    monkeypatch.setitem(checks._declared, "99", {})

    @task("99.1", "easy")
    def check_double(attempt) -> None:
        compare(attempt(X), 2 * X, "called with (2, 3)")
        compare(attempt(X[0]), 2 * X[0], "called with (3,)")

    @task("99.2", "medium", way="Count the rows.")
    def check_ten(prediction) -> str:
        return compare_prediction(prediction, 10, atol=1, unit="%")

    @task("99.3", "medium", forbidden=("softmax", "npt_op1"))
    def check_softmax(attempt) -> None:
        compare(attempt(X), X.softmax(1), "called")

    monkeypatch.setattr(checks, "_hinted", Counter())
    monkeypatch.setattr(checks, "_missed", defaultdict(set))


@pytest.mark.parametrize("blank", [None, ..., lambda x: None, lambda x: ...])
def test_an_empty_stub_is_not_attempted(blank):
    assert verdict("99.1", blank).status == "not attempted"


def test_a_forgotten_return_is_no_empty_stub():
    status, text = verdict("99.1", forgets_return)
    assert status == "wrong" and "return" in text


def test_right_is_correct_and_check_prints_it(capsys):
    assert verdict("99.1", lambda x: (x + x).numpy()).status == "correct"
    check("99.1", lambda x: x + x)
    assert capsys.readouterr().out == "99.1: correct\n"


@pytest.mark.parametrize(
    "wrong, named",
    [
        (lambda x: 2 * x.T, ["(3, 2)", "(2, 3)", "(1, 0)"]),
        (lambda x: (2 * x).flatten(), ["(6,)", "(2, 3)", "another shape"]),
        (lambda x: (2 * x).flip(-1), ["axis 1"]),
        (lambda x: x**2 + (x == 1), ["9", "(1, 0)", "6"]),
        (lambda x: 2.0001 * x, ["1e-05"]),
        (lambda x: "twice", ["str"]),
        (lambda x: x / "2", ["TypeError"]),
        (3, ["function", "an int"]),
        (X, ["function", "Tensor"]),
        (lambda x: 2 * x if x.ndim == 2 else x, ["test 1", "test 2", "(3,)"]),
        (lambda x: 2 * x if x.ndim == 2 else x / "2", ["test 1", "test 2", "TypeError"]),
    ],
)
def test_a_verdict_names_the_first_difference(wrong, named):
    status, text = verdict("99.1", wrong)
    assert status == "wrong" and all(word in text for word in named), text


def test_an_unknown_task_gives_one_line(capsys):
    for number in ("1.1", "99.7", "5", "", "lesson", "55.1", 5.1, 99.1):
        check(number, double)
        hint(number)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 16 and "99.1, 99.2, 99.3" in lines[2] and "01.1" in lines[0] and lines[14] == "99.1: correct"
    assert lines[:14:2] == lines[1:14:2], "both say the same"


def test_a_wrong_prediction_gets_a_direction_then_a_way_then_the_answer(capsys):
    for guess in (20, 2, 2, 3, 9.5):
        check("99.2", guess)
    first, second, again, third, right = capsys.readouterr().out.splitlines()
    assert "high" in first and "10" not in first and "Count" not in first
    assert "low" in second and "Count the rows." in second and "10" not in second
    assert again == second, "running the cell again is no new guess"
    assert third.endswith("Count the rows. Answer: 10 %") and ".." not in third
    assert right.startswith("99.2: correct: the answer is 10 %")


def test_a_way_that_ends_with_a_question_gets_no_full_stop():
    task("99.2", "easy", way="Why?")(lambda prediction: compare_prediction(prediction, 1))
    assert verdict("99.2", 3, misses=2).text.endswith("Why? Answer: 1")


def test_a_function_that_changes_its_input_is_wrong():
    @task("99.1", "easy")
    def check_double(attempt) -> None:
        for x in (X.clone(), X.clone().numpy()):
            compare(attempt(x), 2 * X, "x")

    assert verdict("99.1", lambda x: x * 2).status == "correct"
    for wrong in (lambda x: x.mul_(2), lambda x: np.multiply(x, 2, out=x) if isinstance(x, np.ndarray) else 2 * x):
        status, text = verdict("99.1", wrong)
        assert status == "wrong" and "input" in text


def test_whole_numbers_are_printed_in_full_with_their_unit():
    for value, unit, shown in ((41472, "weights", "41,472 weights"), (1, "pixels", "1 pixel"), (1, "ms", "1 ms")):
        assert compare_prediction(value, value, unit=unit) == f"the answer is {shown}"


def test_an_absolute_tolerance_in_per_cent_is_printed_in_percentage_points():
    assert compare_prediction(30, 27, atol=5, unit="%").endswith("(5 percentage points more or less is accepted)")
    assert compare_prediction(30, 30, rtol=0.05, unit="ms").endswith("(5 % more or less is accepted)")


def test_a_list_in_place_of_a_set_is_named():
    with pytest.raises(Different, match="which is a list, expected a set"):
        compare(["a"], {"a"}, "called")


def test_two_whole_numbers_that_differ_by_one_are_told_apart():
    with pytest.raises(Different, match="4,718,593.*4,718,592"):
        compare(4_718_593, 4_718_592, "called", atol=1e-9)


def test_a_word_that_the_task_does_not_offer_gets_the_list_of_choices():
    compare_prediction("Stage 4 ", "stage 4", choices=("stem", "stage 4"))
    for prediction in ("stage4", {"a": "stage4"}):
        answer = {"a": "stage 4"} if isinstance(prediction, dict) else "stage 4"
        with pytest.raises(Different, match="stem, stage 4"):
            compare_prediction(prediction, answer, choices=("stem", "stage 4"))


def test_forbidden_functions_are_found_however_they_are_called():
    def by_hand(x):
        return x.exp() / x.exp().sum(1, keepdim=True)

    def softmax(x):  # a reader's own function may have the name
        return by_hand(x)

    assert verdict("99.3", by_hand).status == verdict("99.3", softmax).status == "correct"
    for wrong in (
        lambda x: torch.softmax(x, 1), lambda x: x.softmax(1), lambda x: F.softmax(x, 1), nn.Softmax(1),
        lambda x: (npt_op1(x[None, None], (1, 1)), by_hand(x))[1],
    ):  # fmt: skip
        status, text = verdict("99.3", wrong)
        assert status == "wrong" and ("softmax" in text or "npt_op1" in text)


def test_hints_of_the_notebook_come_one_after_the_other(capsys, tmp_path, monkeypatch):
    cells = [new_markdown_cell(text) for text in ("Text", FOLDED, FOLDED.replace("Task 99.1", "Exercise 99.3"))]
    write(new_notebook(cells=cells), tmp_path / "99_test.ipynb")
    monkeypatch.chdir(tmp_path)
    for number in ("99.1", "99.1", "99.1", "99.3", "99.3", "99.3", "99.2"):
        hint(number)
    first, second, no_more, _, _, exercise, unknown = capsys.readouterr().out.splitlines()
    assert first.endswith("1 of 2: Look at the shape.") and second.endswith("Use `sum` if a < b.")
    assert "below" in no_more and "notebooks/solutions/99_" in exercise and "notebooks/99_" in unknown


def test_hints_of_a_lesson_are_found_beside_the_package(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hint("05.1")
    assert capsys.readouterr().out.startswith("05.1, hint 1 of 3: ")


def test_a_verdict_speaks_of_the_dtype_only_where_fractions_were_lost():
    for got, named in ((np.array([1, 2]), True), (np.array([2, 3]), True), (np.array([150, 250]), False)):
        with pytest.raises(Different) as error:
            compare(got, np.array([1.5, 2.6]), "x")
        assert ("dtype" in str(error.value)) == named


def test_a_none_inside_a_result_is_no_missing_return():
    def halves(x):
        return (x.sum(), None) if len(x) else None

    task("99.1", "easy")(lambda attempt: compare(attempt(X), (15.0, 1.0), "x"))
    status, text = verdict("99.1", halves)
    assert status == "wrong" and "return`" not in text and "result[1]" in text


def test_an_error_is_shown_with_the_line_of_the_readers_cell():
    namespace = {}
    exec(compile("def g(x):\n    return x.nothing\n\ndef f(x):\n    return g(x)", "<cell>", "exec"), namespace)
    assert "line 2" in verdict("99.1", namespace["f"]).text  # where it happens, not where it is called


def test_compare_goes_into_tuples_lists_and_dicts():
    compare((1, [2.0, np.nan]), (1, [2.0, np.nan]), "x")
    compare({"a": torch.ones(2)}, {"a": torch.ones(2)}, "x")
    for true in (True, np.True_, torch.tensor(True)):
        compare(true, True, "x")
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
    compare_prediction({"a": 1, "b": 2}, {"b": 2, "a": 1})
    compare_prediction("LARM", "LARM")
    compare_prediction(" Left", "left")
    compare_prediction(torch.tensor([2.0, 4.0], requires_grad=True), (2, 4))
    compare_prediction((torch.tensor(2), np.float32(4)), (2, 4))
    compare_prediction({"a": torch.tensor(1)}, {"a": 1})
    compare(torch.tensor([1, 2]), (1, 2), "x")
    with pytest.raises(Different, match="1 is correct, 4 is wrong"):
        compare_prediction((1, 4), (1, 5), labels=True)
    for prediction, measured in (
        (1.11, 1), (0.89, 1), ((1, 1.2), (1, 1)), ((1, 1), 1), (1, (1, 1)), ("1", 1), ({"a": 1}, {"b": 1}), ("x", "y"),
        (float("nan"), 1), (1, "x"),
    ):  # fmt: skip
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
