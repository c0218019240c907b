"""The notebooks as files: stored clean, built alike, quoting the paper word for word, no figure without its source."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from pathlib import Path

import nbformat
import pytest
from conftest import SHARED_DATA
from notebook_tools import FOLDER, is_folded, reading_minutes

from lgmpose.course.checks import tasks_of
from lgmpose.lab.paper import TABLES

LESSONS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("[0-9][0-9]_*.ipynb"))
PAPER = SHARED_DATA.parent / "specs" / "paper.txt"


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


every_notebook = pytest.mark.parametrize("path", LESSONS + SOLUTIONS, ids=name_of)
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=name_of)


def read(path: Path):
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def prose_of(notebook) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def text_of(output) -> str:
    """What an output shows as text."""
    if output.output_type == "stream":
        return output.text
    return "\n".join(str(value) for mime, value in output.get("data", {}).items() if mime.startswith("text/"))


# Stored clean


@every_notebook
def test_notebook_is_stored_clean(path):
    """nbval compares only what was stored whole: a cell without an execution count is never compared."""
    assert path.stat().st_size <= 300 * 1024, "more than 300 KB: draw fewer or smaller figures"
    nbformat.validate(json.loads(path.read_text(encoding="utf-8")))
    notebook = read(path)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5), "cells have no ids"
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.source.strip() for cell in code), "an empty code cell"
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "not run in order: make notebooks"
    outputs = [output for cell in code for output in cell.outputs]
    assert [output.evalue for output in outputs if output.output_type == "error"] == []
    assert [output.text for output in outputs if output.get("name") == "stderr"] == [], "warnings or progress bars"
    assert len(code) <= 60 and max(len(cell.source.splitlines()) for cell in code) <= 25


@every_notebook
def test_compared_cells_have_something_to_compare(path):
    compared = [cell for cell in read(path).cells if "nbval-check-output" in cell.metadata.get("tags", ())]
    assert compared, "no cell is compared with what it printed"
    for cell in compared:
        shown = "".join(map(text_of, cell.outputs))
        assert shown.strip(), f"a compared cell prints nothing: {cell.source[:60]!r}"


# Built alike

PARTS = (
    r"^# \d\d · .*\?$", r"\*\*You will be able to\*\*",
    r"\*\*About \d+ minutes of reading, \d+ minutes of tasks, \d+ minutes of exercises\.\*\*", r"^## 1 · ",
    r"^\*\*Task \d\d\.1\*\*", r"^## Exercises", r"^## Questions for yourself", r"^## Three things to remember",
    r"^\*\*Next:\*\*",
)  # fmt: skip
BESIDE = re.compile(r"\b(plt|ax|axis|axes|figure|fig)\b[.\[]|\bassert\b|\bassert_\w+\(")  # plots or proves
TASK = re.compile(r"\*\*(Task|Exercise) (\d\d\.\d+)\*\* · (easy|medium|hard) · (\d+) minutes\.")


def task_blocks(prose: str) -> dict[str, tuple[re.Match, str]]:
    """Return for each task the match of its first line, and the text up to the next task."""
    found = list(TASK.finditer(prose))
    ends = [match.start() for match in found[1:]] + [len(prose)]
    return {match[2]: (match, prose[match.start() : end]) for match, end in zip(found, ends, strict=True)}


@every_lesson
def test_a_lesson_has_its_parts_in_order(path):
    prose, position = prose_of(read(path)), 0
    for pattern in PARTS:
        match = re.compile(pattern, re.MULTILINE).search(prose, position)
        assert match, f"no {pattern!r} after {prose[max(0, position - 60) : position]!r}"
        position = match.start()
    following = [other.name for other in LESSONS if other.name > path.name][:2]
    assert not following or any(f"]({name})" in prose[position:] for name in following), "no link to the next lesson"
    questions = prose.partition("## Questions for yourself")[2].partition("\n## ")[0]
    assert questions.count("<details><summary>") >= 3, "three questions with folded answers"


@every_lesson
def test_tasks_are_numbered_as_declared_with_hints_and_minutes(path):
    notebook = read(path)
    prose, tasks = prose_of(notebook), tasks_of(path.name[:2])
    blocks = task_blocks(prose)
    assert list(blocks) == list(tasks) == [f"{path.name[:2]}.{number}" for number in range(1, len(tasks) + 1)]
    kinds = [match[1] for match, _ in blocks.values()]
    assert 8 <= len(kinds) <= 10 and kinds == ["Task"] * (len(kinds) - 2) + ["Exercise"] * 2
    for name, (match, block) in blocks.items():
        assert match[3] == tasks[name].level, name
        assert re.findall(r"<details><summary>Hint (\d)</summary>.+</details>", block) == ["1", "2", "3"], name
        assert match[1] == "Exercise" or "<details><summary>Solution</summary>" in block, name
    stated = re.search(r"About (\d+) minutes of reading, (\d+) minutes of tasks, (\d+) minutes of exercises", prose)
    reading, *practice = map(int, stated.groups())
    minutes = [[int(match[4]) for match, _ in blocks.values() if match[1] == kind] for kind in ("Task", "Exercise")]
    assert practice == [sum(minutes[0]), sum(minutes[1])]
    estimate = reading_minutes(notebook)
    assert abs(reading - estimate) <= max(3, 0.2 * estimate), f"reading takes {estimate:.0f} minutes"


@every_lesson
def test_visible_cells_are_short_and_teach(path):
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    plots = taught = 0
    for cell in code:
        if is_folded(cell):
            assert cell.metadata.get("jupyter", {}).get("source_hidden"), "folded on the site, but not in JupyterLab"
            continue
        lines = cell.source.splitlines()
        assert len(lines) <= 15 and max(map(len, lines)) <= 90 and "fmt: skip" not in cell.source, cell.source
        plots += sum(bool(BESIDE.search(line)) for line in lines)
        taught += len(lines)
    assert plots <= 0.2 * taught, f"{plots} of {taught} visible lines plot or prove"


@every_lesson
def test_figures_are_described(path):
    for cell in read(path).cells:
        pictures = [o for o in cell.get("outputs", ()) if any(m.startswith("image/") for m in o.get("data", {}))]
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        assert not pictures or len(alt) >= 20, f"no alternative text: {cell.source[:60]!r}"


def anchor(heading: str) -> str:
    """Return the anchor that GitHub and MyST give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@every_notebook
def test_links_to_the_glossary_name_a_term(path):
    terms = re.findall(r"^## (.*)$", (FOLDER.parent / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    links = re.findall(r"docs/glossary\.md#([^)\s]*)", prose_of(read(path)))
    assert set(links) <= set(map(anchor, terms))


def test_every_lesson_has_its_solutions_and_its_checks():
    assert [path.name for path in SOLUTIONS] == [path.name for path in LESSONS]
    for lesson, solution in zip(LESSONS, SOLUTIONS, strict=True):
        tasks = list(tasks_of(lesson.name[:2]))
        for path, checked, verdict in ((lesson, tasks, "not attempted yet"), (solution, tasks[-2:], "correct")):
            for task in checked:
                call = f'check("{task}"'
                cells = [cell for cell in read(path).cells if cell.cell_type == "code" and call in cell.source]
                assert len(cells) == 1, f"{name_of(path)}: {call}) in {len(cells)} cells"
                shown = "".join(map(text_of, cells[0].outputs))
                assert f"{task}: {verdict}" in shown, f"{name_of(path)}: {shown!r}"


def test_no_helper_is_written_twice():
    homes = defaultdict(set)
    for path in LESSONS:
        for cell in read(path).cells:
            if cell.cell_type != "code":
                continue
            source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef) and len(node.body) > 1:
                    homes[ast.dump(ast.Module(node.body, []))].add(f"{path.name}: {node.name}")
    assert [sorted(names) for names in homes.values() if len(names) > 1] == []


# What the prose says

NAMES = (
    "LGM-Pose", "MobileViM", "MobileViT", "LARM", "SFusion", "NPT-Op", "SimpleBaseline", "HRNet", "Lite-HRNet",
    "Dite-HRNet", "MobileNetV2", "ShuffleNetV2", "TokenPose", "BatchNorm", "ReLU6",
)  # fmt: skip


def bare_prose(notebook) -> str:
    """Without code, formulas, quotations, headings, link targets, and the hints and solutions that ``check`` checks."""
    prose = re.sub(r"```.*?```", " ", prose_of(notebook), flags=re.DOTALL)
    prose = re.sub(r"<details><summary>(Hint|Solution).*?</details>", " ", prose, flags=re.DOTALL)
    prose = re.sub(r"\$\$.*?\$\$|`[^`]*`|\$[^$\n]+\$", " ", prose, flags=re.DOTALL)
    prose = re.sub(r"^(>|#).*$", " ", prose, flags=re.MULTILINE)
    return re.sub(r"\]\([^)]*\)", "] ", prose)


@every_notebook
def test_names_are_spelt_as_the_paper_spells_them(path):
    prose = bare_prose(read(path))
    for name in NAMES:
        spelt = set(re.findall(rf"(?i)(?<![\w-]){re.escape(name)}(?![\w-])", prose))
        assert spelt <= {name}, spelt


def numbers_in(text: str) -> set[str]:
    return {number.replace(",", "") for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}


def figures_in(prose: str) -> list[str]:
    """Numbers that somebody must have computed: with a decimal point, a thousands comma, per cent, or three digits."""
    # Not parts of names (PCK@0.2, val2017), and not where the paper or this course is pointed at.
    pointers = r"(?i)\b(?:lessons?|sections?|tables?|equations?|figures?|python) [\d.]+(?:(?:,| and| to) [\d.]+)*"
    prose = re.sub(pointers, " ", prose)
    found = re.findall(r"(?<![\w@.\-])(\d[\d,]*(?:\.\d+)?)(\s?%)?(?![\w])", prose)
    figures = [(number.rstrip(","), bool(percent)) for number, percent in found]
    return [
        number for number, percent in figures
        if (percent or "." in number or "," in number or len(number) >= 3) and not re.fullmatch(r"(19|20)\d\d", number)
    ]  # fmt: skip


@every_notebook
def test_no_figure_in_the_prose_without_a_source(path):
    """Each stands in an output or in the code of the notebook, in its checks or hints, or in the paper's tables."""
    notebook = read(path)
    checks = FOLDER.parent / "lgmpose" / "course" / "checks" / f"lesson{path.name[:2]}.py"
    hints = re.findall(r"<summary>Hint \d</summary>(.*?)</details>", prose_of(notebook), re.DOTALL)
    sources = numbers_in(str(TABLES)) | numbers_in(checks.read_text(encoding="utf-8")) | numbers_in(" ".join(hints))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            sources |= numbers_in(cell.source).union(*(numbers_in(text_of(output)) for output in cell.outputs))
    figures = figures_in(bare_prose(notebook))
    assert [figure for figure in figures if figure.replace(",", "") not in sources] == []


def plain(text: str) -> str:
    """Letters and digits only: line breaks, hyphens and formulas are set differently in every copy of the paper."""
    return re.sub(r"[\W_]+", "", text)


@every_notebook
def test_quotations_are_the_papers_own_words(path):
    if not PAPER.is_file():
        pytest.skip("the paper's text is not beside the checkout")
    paper = plain(PAPER.read_text(encoding="utf-8"))
    for quotation in re.findall(r"(?:^>.*\n?)+", prose_of(read(path)), re.MULTILINE):
        lines = [line.lstrip("> ").strip() for line in quotation.splitlines()]
        said = " ".join(line for line in lines if not line.startswith("—"))
        for part in re.split(r"\[…\]|\[\.\.\.\]", said):
            assert plain(part) in paper, f"not in the paper: {part!r}"


def test_the_source_check_has_teeth():
    assert figures_in("It costs 1,054,929 parameters, 2.5 % and 0.66 G in lesson 08, PCK@0.2 of Table 3, in 2017.") == [
        "1,054,929", "2.5", "0.66",
    ]  # fmt: skip
    assert figures_in("5 % of 128 pictures; 3 of them") == ["5", "128"]
