"""Make slides for a lecture from the figures that are stored in the lessons."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lgmpose.course.notebooks import find_notebooks

__all__ = ["make_slides"]

SLIDE = {"slideshow": {"slide_type": "slide"}}


def make_slides(folder: Path, output: Path, lessons: Sequence[str] = (), figures: int = 2) -> int:
    """Write slides: for each lesson its question, its first figures with their texts, and three things to remember.

    Args:
        folder: the folder of the lessons, with stored outputs.
        output: HTML file, shown by reveal.js.
        lessons: numbers of the lessons; none: all.
        figures: at most so many of each lesson.

    Returns:
        The number of slides.

    Raises:
        UserError: the folder has no lesson, or not one of those.
    """
    from nbconvert import SlidesExporter  # takes a second to import

    cells: list[NotebookNode] = []
    for path in find_notebooks(folder, lessons):
        if path.parent.name != "solutions":
            cells += _slides_of(nbformat.read(folder / path, as_version=4), figures)
    exporter = SlidesExporter(exclude_input=True, exclude_output_prompt=True, embed_images=True)
    text, _ = exporter.from_notebook_node(new_notebook(cells=cells))
    output.write_text(text, encoding="utf-8")
    return sum(cell.metadata == SLIDE for cell in cells)


def _slides_of(notebook: NotebookNode, figures: int) -> list[NotebookNode]:
    title = notebook.cells[0].source.splitlines()[0]
    cells, shown = [new_markdown_cell(title, metadata=SLIDE)], 0
    for cell in notebook.cells:
        pictures = [o for o in cell.get("outputs", ()) if any(kind.startswith("image/") for kind in o.get("data", {}))]
        if pictures and shown < figures:
            shown += 1
            cells.append(new_code_cell(outputs=pictures, metadata=SLIDE))
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            cells.append(new_markdown_cell(alt, metadata={"slideshow": {"slide_type": "notes"}}))
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    remember = re.search(r"## Three things to remember\n.*?(?=\n\*\*Next|\n## |\Z)", prose, re.DOTALL)
    return [*cells, new_markdown_cell(remember[0], metadata=SLIDE)] if remember else cells
