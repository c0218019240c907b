"""The instructor's page, notebooks/README.md: plans, prerequisites, exam, slides and the handout."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_tools import FOLDER

from lgmpose.course.slides import make_slides

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


NEEDS = {row[0][1:3]: lessons_in(row[5]) & {name[:2] for name in LESSONS} for row in rows_of("Which lessons")[:-1]}


def test_no_lesson_needs_a_later_one():
    assert list(NEEDS) == [name[:2] for name in LESSONS]
    assert all(needed < number for number, needs in NEEDS.items() for needed in needs)


def test_short_courses_hold_what_their_lessons_need():
    part = PAGE.partition("**Short courses.**")[2].partition("\n## ")[0]
    courses = re.findall(r"^\* .*: (\d\d, .*)$", part, re.MULTILINE)
    assert len(courses) == 4
    for course in courses:
        taught = re.findall(r"\d\d", course.partition("(")[0])
        assert taught == sorted(taught)
        # What is needed of a lesson that is left out, and of those before it, is said in brackets.
        assert set().union(*(NEEDS[number] for number in taught)) <= lessons_in(course), course


@pytest.mark.parametrize("plan", ["Four weeks", "Nine weeks"])
def test_plans_take_every_lesson_once_in_order(plan):
    assert ", ".join(row[1] for row in rows_of(plan)) == ", ".join(name[:2] for name in LESSONS)


def test_the_exam_asks_about_every_lesson_in_order():
    asked = re.findall(
        r"^\d+\. \((\d\d)\)", (FOLDER / "solutions" / "exam.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert asked == sorted(asked) and set(asked) == {name[:2] for name in LESSONS}


def test_slides_have_the_question_the_figures_and_what_to_remember(tmp_path):
    picture = new_output("display_data", data={"image/png": "iVBORw0KGgo="})
    figure = new_code_cell(outputs=[picture], metadata={"mystnb": {"image": {"alt": "a drawn knee"}}})
    remember = new_markdown_cell("## Three things to remember\n\n1. Knees.\n\n**Next:** hips")
    cells = [new_markdown_cell("# 00 · Where are knees?\n\nLong text."), figure, figure, figure, remember]
    nbformat.write(new_notebook(cells=cells), tmp_path / "00_knees.ipynb")
    assert make_slides(tmp_path, tmp_path / "slides.html", ["00"]) == 4
    page = (tmp_path / "slides.html").read_text(encoding="utf-8")
    assert "Where are knees?" in page and page.count("a drawn knee") == 2 and "Knees." in page
    assert "hips" not in page and "Long text" not in page


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
            assert link.startswith("solutions/") or (notebooks / link).exists(), f"{path.name} links to {link}"
    assert (handout / "lgmpose" / "course" / "checks" / "lesson00.py").is_file() and (handout / "Makefile").is_file()
    assert not list(handout.rglob("solutions")) and not (handout / "tests").exists()
