"""Marking: attempts are called from outside, a forged verdict counts for nothing, an endless loop ends."""

import csv
import math
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lgmpose.course import marking
from lgmpose.course.attempts import plain, restored
from lgmpose.course.checks import Verdict, tasks_of
from lgmpose.course.marking import Mark, mark_folder, mark_notebook, write_csv
from lgmpose.errors import UserError

IMPORTS = "import torch\nfrom lgmpose.course.checks import check"
BY_SLICES = """def by_slices(x, patch_hw):
    h, w = patch_hw
    return torch.stack([x[:, :, i::h, j::w].flatten(2) for i in range(h) for j in range(w)], dim=1)
check("04.8", by_slices)"""
FORGED = """import lgmpose.course.checks as checks
checks.verdict = checks.compare = lambda *args, **options: "correct"
checks.check = check = lambda task, attempt: print(task + ": correct")
check("04.1", None)"""


def hand_in(path: Path, *cells: str, printed: str = "") -> Path:
    sources = [new_code_cell(IMPORTS), *map(new_code_cell, cells)]
    sources[-1].outputs = [new_output("stream", text=printed)] if printed else []
    nbformat.write(new_notebook(cells=[new_markdown_cell("# 04 · Can ...?"), *sources]), path)
    return path


@pytest.mark.slow
def test_a_mark_is_made_outside_of_the_notebooks_process(tmp_path):
    wrong = 'check("04.5", (16, 12))'
    mark = mark_notebook(hand_in(tmp_path / "a.ipynb", BY_SLICES, "1 / 0", wrong), "a", 120)
    assert [said.status for said in mark.verdicts.values()] == ["correct", "wrong"]
    assert (mark.lesson, mark.points) == ("04", tasks_of("04")["04.8"].points) and "ZeroDivisionError" in mark.problems[
        0
    ]


@pytest.mark.slow
def test_a_forged_verdict_is_worth_nothing_and_is_named(tmp_path):
    mark = mark_notebook(hand_in(tmp_path / "a.ipynb", FORGED, printed="04.1: correct\n"), "a", 120)
    assert mark.points == 0 and "04.1" in mark.problems[0]


@pytest.mark.slow
def test_an_endless_loop_is_stopped(tmp_path):
    mark = mark_notebook(hand_in(tmp_path / "a.ipynb", "while True:\n    pass"), "a", 15)
    assert mark.points == 0 and "15 s" in mark.problems[0]


def test_what_comes_from_a_notebook_is_data():
    value = (1, 2.5, True, None, "a", [torch.ones(2), np.arange(3.0)], {"x": ..., 3: np.float64(2)}, {"a", (1, ...)})
    back = restored(plain(value))
    assert back[:5] == value[:5] and torch.equal(back[5][0], torch.ones(2))
    assert back[6:] == ({"x": ..., 3: 2.0}, {"a", (1, ...)}) and restored(plain({torch.Size([2])})) == {(2,)}
    np.testing.assert_array_equal(back[5][1], np.arange(3.0))
    assert (
        plain(open) == "a builtin_function_or_method" and type(plain(torch.nn.Parameter(torch.ones(1)))) is torch.Tensor
    )


def test_csv_has_a_row_for_each_notebook_and_no_formulas(tmp_path):
    marks = [
        Mark("=a.ipynb", "04", {"04.2": Verdict("correct", "correct")}),
        Mark("b.ipynb", "", problems=["no lesson"]),
    ]
    write_csv(marks, tmp_path / "marks.csv")
    head, first, second = csv.reader((tmp_path / "marks.csv").open(encoding="utf-8"))
    points = {task: entry.points for task, entry in tasks_of("04").items()}
    assert first[:4] == ["'=a.ipynb", "04", str(points["04.2"]), str(sum(points.values()))]
    assert first[5:7] == ["missing", "correct"]
    assert head[5] == "task 1" and second[4] == "no lesson"


def test_files_that_are_no_lessons_are_named(tmp_path):
    with pytest.raises(UserError, match="notebook"):
        mark_folder(tmp_path, 10, tmp_path / "marks.csv")
    (tmp_path / "a.ipynb").write_text("{")
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Mine")]), tmp_path / "b.ipynb")
    marks = mark_folder(tmp_path, 10, tmp_path / "marks.csv")
    assert [mark.lesson for mark in marks] == ["", ""] and all(mark.problems for mark in marks)


def test_marks_are_kept_after_each_notebook(tmp_path, monkeypatch):
    """A teacher who stops the command after an hour has the marks of that hour."""
    names, marked = ("a.ipynb", "b.ipynb", "c.ipynb"), []
    for name in names:
        (tmp_path / name).write_text("{}")

    def stop_at_the_third(path, name, seconds):
        marked.append(name)
        if len(marked) == 3:
            raise KeyboardInterrupt
        return Mark(name, "04")

    monkeypatch.setattr(marking, "mark_notebook", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        mark_folder(tmp_path, 10, tmp_path / "marks.csv")
    rows = list(csv.reader((tmp_path / "marks.csv").open(encoding="utf-8")))
    assert [row[0] for row in rows[1:]] == ["a.ipynb", "b.ipynb"]


def test_what_cannot_be_marked_is_refused_before_the_first_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(marking, "mark_notebook", None)
    (tmp_path / "a.ipynb").write_text("{}")
    for seconds, file, named in (
        (-1, "marks.csv", "seconds"), (math.nan, "marks.csv", "seconds"), (10, "a.ipynb/marks.csv", "marks.csv"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=named):
            mark_folder(tmp_path, seconds, tmp_path / file)
