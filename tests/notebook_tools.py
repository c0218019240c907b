"""Helpers for writing and testing lessons: run the proofs, estimate minutes.

The proofs are a notebook's code cells tagged ``core``. They run in this process, whole or with a mistake put in.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

import matplotlib
import nbformat

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
LESSONS = [path.name[:2] for path in sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))]


def is_folded(cell) -> bool:
    """Return whether the site hides the code of a cell."""
    return "hide-input" in cell.metadata.get("tags", ())


def reading_minutes(notebook) -> float:
    """Estimate the minutes to read a lesson: 130 words a minute, 15 visible lines of code, and a minute for a figure.

    Folded text (hints, solutions, answers) does not count: it belongs to the tasks.
    """
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    words = len(re.sub(r"<details>.*?</details>", "", prose, flags=re.DOTALL).split())
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code" and not is_folded(cell)]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    figures = sum(any(kind.startswith("image/") for kind in output.get("data", ())) for output in outputs)
    return words / 130 + sum(len(source.splitlines()) for source in code) / 15 + figures


def notebook_path(number: str, folder: Path = FOLDER) -> Path:
    """The notebook of a lesson, "05" → …/notebooks/05_….ipynb."""
    (path,) = folder.glob(f"{number}_*.ipynb")
    return path


def run_core(number: str, *mistakes: tuple[str, str], folder: Path = FOLDER) -> dict:
    """Executes a lesson's core cells in order and returns their names.

    Args:
        number: "05".
        mistakes: (right text, wrong text); each right text must occur exactly once in the core cells.

    Raises:
        AssertionError: a proof that does not hold.
    """
    path = notebook_path(number, folder)
    cells = nbformat.read(path, as_version=4).cells
    sources = [cell.source for cell in cells if "core" in cell.metadata.get("tags", ())]
    assert sources, f"{path.name} has no cell tagged core"
    for right, wrong in mistakes:
        found = sum(source.count(right) for source in sources)
        if found != 1:  # not an AssertionError, which would pass for a proof that failed
            raise LookupError(f"{path.name}: {right!r} occurs {found} times in the core cells, not once")
        sources = [source.replace(right, wrong) for source in sources]
    sources = ["\n".join(line for line in source.splitlines() if not line.startswith("%")) for source in sources]
    matplotlib.use("Agg")
    namespace: dict = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(path.parent)  # where its kernel would start
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for source in sources:
                exec(compile(source, path.name, "exec"), namespace)
    finally:
        os.chdir(before)
    return namespace
