"""The instructor's page, notebooks/README.md: its tables say what the notebooks and the checkers say."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from notebook_tools import FOLDER

from lgmpose.course.checks import verdict

PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
LESSONS = sorted(path.name for path in FOLDER.glob("[0-9][0-9]_*.ipynb"))


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its two head lines."""
    table = re.search(r"(?:^\|.*\n?)+", PAGE.partition(f"\n## {heading}\n")[2], re.MULTILINE).group(0)
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


def lessons_in(text: str) -> set[str]:
    """Two-digit lesson numbers, ranges such as "02 to 06" written out."""
    text = re.sub(r"(\d\d) to (\d\d)", lambda m: " ".join(f"{n:02}" for n in range(int(m[1]), int(m[2]) + 1)), text)
    return set(re.findall(r"(?<![\d.])\d\d(?!\d|\.\d)", text))


NEEDS = {row[0][1:3]: lessons_in(row[3]) & {name[:2] for name in LESSONS} for row in rows_of("Which lessons")}


def test_lessons_are_listed_with_question_minutes_and_prerequisites_of_the_notebook():
    rows = rows_of("Which lessons")
    assert [row[0] for row in rows] == [f"[{name[:2]}]({name})" for name in LESSONS]
    for name, (_, question, minutes, needs, _) in zip(LESSONS, rows, strict=True):
        notebook = nbformat.read(FOLDER / name, as_version=4)
        title, said_minutes = re.search(r"# \d\d · (.*)\n[^§]*?About (\d+) minutes", notebook.cells[0].source).groups()
        assert (question, minutes) == (title, said_minutes), name
        said = re.search(r"You need (.*?)(?:\n\n|\Z)", notebook.cells[0].source, re.DOTALL).group(1)
        assert lessons_in(needs) == lessons_in(re.sub(r"\]\([^)]*\)", "", said)), name
        assert all(number < name[:2] for number in lessons_in(needs)), "needs a later lesson"


def test_short_courses_hold_what_their_lessons_need():
    part = PAGE.partition("**Short courses.**")[2].partition("\n## ")[0]
    courses = re.findall(r"^\* .*: (\d\d, .*)$", part, re.MULTILINE)
    assert len(courses) == 4
    for course in courses:
        taught = re.findall(r"\d\d", course.partition("(")[0])
        assert taught == sorted(taught)
        # What is needed of a lesson that is left out, and of those before it, is said in brackets.
        assert set().union(*(NEEDS[number] for number in taught)) <= lessons_in(course), course


def test_meetings_take_every_lesson_once_in_order_and_add_up():
    taken = []
    for _, before, _, handed_in in rows_of("Four weeks"):
        numbers, minutes = re.fullmatch(r"(.*) \((\d+) min\)", before).groups()
        lessons = re.findall(r"\d\d", numbers)
        assert int(minutes) == sum(int(row[2]) for row in rows_of("Which lessons") if row[0][1:3] in lessons) <= 90
        assert set(re.findall(r"(\d\d)\.\d+", handed_in)) <= set(lessons)
        taken += lessons
    assert taken == [name[:2] for name in LESSONS]


# Of the first, measured on weights that change, the page gives no number.
@pytest.mark.parametrize("exercise, right, tempting", rows_of("What students should get")[1:])
def test_predictions_are_what_the_checker_takes_and_refuses(exercise, right, tempting):
    def values(cell):
        return [ast.literal_eval(code) for code in re.findall(r"`([^`a-z]*|\{[^`]*\})`", cell)]

    (answer,) = values(right)
    assert verdict(exercise, answer).status == "correct"
    assert values(tempting)
    for value in values(tempting):
        assert verdict(exercise, value).status == "wrong"


def test_every_lessons_prediction_and_cost_is_listed():
    numbers = [name[:2] for name in LESSONS]
    assert [row[0][:2] for row in rows_of("What students should get")] == numbers
    assert [row[0] for row in rows_of("What it takes")] == numbers


def test_the_handout_has_the_lessons_and_no_solutions(tmp_path):
    root, handout = FOLDER.parent, tmp_path / "handout"
    if not shutil.which("git"):
        pytest.skip("no git here, so there is no list of what is committed")
    committed = subprocess.run(["git", "ls-tree", "--name-only", "HEAD", "notebooks/"], cwd=root, capture_output=True)
    names = [Path(line).name for line in committed.stdout.decode().split()]
    if "README.md" not in names:
        pytest.skip("not a checkout of the project, or this page is not committed yet")
    commands = re.search(r"```bash\n(mkdir.*?)```", PAGE, re.DOTALL).group(1)
    subprocess.run(["bash", "-ec", commands.replace("../handout", str(handout))], check=True, cwd=root)
    notebooks = handout / "notebooks"
    assert {path.name for path in notebooks.iterdir()} == {name for name in names if name.endswith(".ipynb")}
    for path in notebooks.iterdir():
        cells = nbformat.read(path, as_version=4).cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for link in re.findall(r"\]\(([^):#]+)\)", prose):
            assert (notebooks / link).exists(), f"{path.name} links to {link}"
    assert (handout / "lgmpose" / "course" / "checks" / "lesson00.py").is_file() and (handout / "Makefile").is_file()
    assert not list(handout.rglob("solutions")) and not (handout / "tests").exists()
