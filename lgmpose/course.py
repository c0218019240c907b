"""The course as web pages: runs every notebook and renders each to one HTML file that needs no network.

``python -m lgmpose.course notebooks build/course`` is what ``make course`` calls. The notebooks themselves stay as they
are; with ``--in-place`` they are stored with their new outputs instead, and no page is written.

What a page takes from its notebook: the title is the first ``# heading`` (a question, by the house's custom), the
reading time is the first "NN minutes" or "NN min" in the text.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from latex2mathml.converter import convert as latex_to_mathml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from lgmpose.errors import UserError

__all__ = ["Lesson", "build_course", "execute", "find_notebooks", "read_lesson", "refresh_notebooks", "render"]

CELL_TIMEOUT_S = 600

# nbconvert's page fetches MathJax, RequireJS and Mermaid from the web; ours has formulas as MathML and needs none.
PAGE_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block extra_css -%}
<style>
nav.course { display: flex; justify-content: space-between; gap: 2em; padding: 0.8em 1.5em; font: 14px sans-serif; }
nav.course a { color: #1a56a8; }
body.jp-Notebook main { max-width: 60em; margin: 0 auto; }
math[display="block"] { margin: 0.8em 0; font-size: 1.1em; }
mtd[columnalign="right"] { text-align: right; padding-right: 0; }
mtd[columnalign="left"] { text-align: left; padding-left: 0.3em; }
</style>
{%- endblock -%}
{%- block body_header -%}{{ super() }}{{ resources.course_navigation }}{%- endblock -%}
{%- block body_footer -%}{{ resources.course_navigation }}{{ super() }}{%- endblock -%}
"""

INDEX_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1.0">
<title>LGM-Pose: the course</title>
<style>
body {{ max-width: 46em; margin: 3em auto; padding: 0 1em; font: 16px/1.5 sans-serif; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: 0.4em 0.8em; border-bottom: 1px solid #ddd; vertical-align: top; }}
td.number {{ text-align: right; white-space: nowrap; }}
.failed {{ color: #b00; }}
</style>
</head>
<body>
<h1>LGM-Pose: the course</h1>
<p>Each page is a notebook, run on this machine just now. To change and run one yourself: <code>make lab</code>.</p>
<table>
<tr><th></th><th>question</th><th>minutes to read</th><th>seconds to run</th></tr>
{rows}
</table>
</body>
</html>
"""


@dataclass(frozen=True)
class Lesson:
    """One notebook of the course."""

    path: Path  # of the notebook, relative to the folder of notebooks
    title: str
    minutes: int | None  # to read, as the notebook says; None where it does not

    @property
    def number(self) -> str:
        return self.path.name[:2]

    @property
    def page(self) -> Path:
        """The page's path relative to the index."""
        return self.path.with_suffix(".html")


def find_notebooks(folder: Path) -> list[Path]:
    """The course's notebooks in reading order, relative to ``folder``: ``NN_*.ipynb``, then ``solutions/NN_*.ipynb``.

    Raises:
        UserError: there is none.
    """
    paths = [*sorted(folder.glob("[0-9][0-9]_*.ipynb")), *sorted(folder.glob("solutions/[0-9][0-9]_*.ipynb"))]
    if not paths:
        raise UserError(f"{folder}: no notebook named like 00_start_here.ipynb in this folder")
    return [path.relative_to(folder) for path in paths]


def read_notebook(path: Path) -> NotebookNode:
    """Reads and validates a notebook.

    Raises:
        UserError: not a notebook, or one that breaks the format.
    """
    text = path.read_text(encoding="utf-8")
    try:
        nbformat.validate(json.loads(text))  # `reads` alone would only log what is wrong
    except (ValueError, TypeError, AttributeError, nbformat.ValidationError) as error:  # it trusts that lists are lists
        raise UserError(f"{path}: not a valid notebook ({str(error).splitlines()[0]})") from error
    return nbformat.reads(text, as_version=4)


def read_lesson(notebook: NotebookNode, path: Path) -> Lesson:
    """Title and reading time of a notebook; ``path`` is relative to the folder of notebooks."""
    prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^#\s+(.+)$", prose, re.MULTILINE)
    title = heading.group(1).strip() if heading else path.stem.replace("_", " ")
    minutes = re.search(r"(\d+)\s*min(?:ute)?s?\b", prose)
    # The number is shown beside the title, so "03 · Which parts are borrowed?" gives it up.
    return Lesson(path, re.sub(r"^\d\d\s*[·:.–-]?\s*", "", title), int(minutes.group(1)) if minutes else None)


def execute(notebook: NotebookNode, folder: Path) -> str | None:
    """Runs a notebook in a fresh kernel and stores the outputs in ``notebook``; old outputs are dropped first.

    Args:
        notebook: is changed.
        folder: the kernel's working directory.

    Returns:
        None if all went well, else one line: the failing cell's number and its error. Cells after it have no output.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    started: list[int] = []
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,  # times of day would change the file at every run
        extra_arguments=["--log-level=ERROR"],  # else every kernel remarks that it talks over TCP, in the progress line
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=lambda cell, cell_index: started.append(cell_index),
    )
    try:
        client.execute()
    except CellExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".splitlines()[0]
    except CellTimeoutError:
        reason = f"took longer than {CELL_TIMEOUT_S} s"
    except DeadKernelError:
        reason = "the kernel died (out of memory?)"
    else:
        return None
    code_cells = [cell for cell in notebook.cells[: started[-1] + 1] if cell.cell_type == "code"]
    return f"code cell {len(code_cells)}: {reason}"


def _mathml(tex: str, display: str) -> str:
    tex = tex.replace("{aligned}", "{align*}")  # the same picture; the converter knows only the second
    try:
        return latex_to_mathml(tex, display=display)
    except Exception as error:  # the converter has a dozen exceptions without a common base
        raise UserError(f"the formula {tex.strip()!r} cannot be shown ({type(error).__name__})") from error


class _Renderer(IPythonRenderer):
    """Formulas as MathML, which every browser draws by itself."""

    def inline_math(self, body: str) -> str:
        return _mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return _mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return _mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")


def _relink(page_html: str, source_folder: Path, page_folder: Path, pages: set[Path]) -> str:
    """Links to other notebooks become links to their pages; links to other files are seen from the page's folder."""

    def moved(match: re.Match[str]) -> str:
        target, fragment = html.unescape(match.group(1)), match.group(2) or ""
        file = (source_folder / target).resolve()
        if file in pages:
            return f'href="{html.escape(str(Path(target).with_suffix(".html").as_posix()))}{fragment}"'
        if file.exists():
            return f'href="{html.escape(Path(os.path.relpath(file, page_folder)).as_posix())}{fragment}"'
        return match.group(0)

    return re.sub(r'href="([^"#:]+)(#[^"]*)?"', moved, page_html)


def render(notebook: NotebookNode, *, source_folder: Path, page: Path, navigation: str = "", pages: set[Path]) -> None:
    """Writes a notebook as one HTML file: figures embedded, formulas as MathML, nothing fetched from the web.

    Args:
        notebook: with its outputs.
        source_folder: where the notebook lies; pictures that its text names are looked for there.
        page: the file to write; its folder is made.
        navigation: HTML shown at the top and at the bottom.
        pages: absolute paths of all the notebooks that have a page, for the links between them.

    Raises:
        UserError: a formula cannot be converted.
    """

    def markdown_to_html(source: str) -> str:
        renderer = _Renderer(escape=False, embed_images=True, path=str(source_folder), exclude_anchor_links=True)
        text = MarkdownWithMath(renderer=renderer).render(source)
        return _relink(text, source_folder.resolve(), page.parent.resolve(), pages)

    template = DictLoader({"course.html.j2": PAGE_TEMPLATE})
    exporter = HTMLExporter(extra_loaders=[template], template_file="course.html.j2")
    exporter.register_filter("markdown2html", markdown_to_html)
    name = page.stem.replace("_", " ")
    text, _ = exporter.from_notebook_node(notebook, {"course_navigation": navigation, "metadata": {"name": name}})
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, encoding="utf-8")


def _navigation(lessons: list[Lesson], position: int) -> str:
    def link(index: int, text: str) -> str:
        if not 0 <= index < len(lessons):
            return "<span></span>"
        href = Path(os.path.relpath(lessons[index].page, lessons[position].page.parent)).as_posix()
        return f'<a href="{href}">{text.format(html.escape(lessons[index].title))}</a>'

    index_href = Path(os.path.relpath("index.html", lessons[position].page.parent)).as_posix()
    index = f'<a href="{index_href}">all lessons</a>'
    return f'<nav class="course">{link(position - 1, "← {}")}{index}{link(position + 1, "{} →")}</nav>'


def _index_row(lesson: Lesson, seconds: float, failure: str | None) -> str:
    title = f'<a href="{lesson.page.as_posix()}">{html.escape(lesson.title)}</a>'
    if lesson.path.parent.name == "solutions":
        title += " (solutions)"
    if failure:
        title += f'<br><span class="failed">failed: {html.escape(failure)}</span>'
    minutes = "" if lesson.minutes is None else lesson.minutes
    return (
        f"<tr><td>{lesson.number}</td><td>{title}</td>"
        f'<td class="number">{minutes}</td><td class="number">{seconds:.0f}</td></tr>'
    )


def build_course(folder: Path, output: Path) -> dict[Path, str]:
    """Runs and renders all notebooks and writes ``output/index.html``; prints one line per notebook.

    A notebook that fails is rendered as far as it came, and the others go on. The notebooks' own files stay untouched.

    Args:
        folder: of the notebooks.
        output: where the pages go; made if missing.

    Returns:
        What failed: notebook (relative to ``folder``) → one line saying which cell and why. Empty when all went well.

    Raises:
        UserError: no notebook in ``folder``, or one that is none.
    """
    notebooks = {path: read_notebook(folder / path) for path in find_notebooks(folder)}
    lessons = [read_lesson(notebook, path) for path, notebook in notebooks.items()]
    pages = {(folder / lesson.path).resolve() for lesson in lessons}
    failures: dict[Path, str] = {}
    rows = []
    for position, lesson in enumerate(lessons):
        notebook, source_folder = notebooks[lesson.path], (folder / lesson.path).parent
        started = _announce(position, len(lessons), lesson.path)
        failure = execute(notebook, source_folder)
        page, navigation = output / lesson.page, _navigation(lessons, position)
        try:
            render(notebook, source_folder=source_folder, page=page, navigation=navigation, pages=pages)
        except UserError as error:
            failure = failure or str(error)
        seconds = _report(started, failure)
        if failure:
            failures[lesson.path] = failure
        rows.append(_index_row(lesson, seconds, failure))
    output.mkdir(parents=True, exist_ok=True)
    (output / "index.html").write_text(INDEX_TEMPLATE.format(rows="\n".join(rows)), encoding="utf-8")
    return failures


def refresh_notebooks(folder: Path) -> dict[Path, str]:
    """Runs all notebooks and stores each with its new outputs; one that fails keeps its file as it was.

    Returns and raises as ``build_course``.
    """
    paths = find_notebooks(folder)
    failures: dict[Path, str] = {}
    for position, path in enumerate(paths):
        notebook = read_notebook(folder / path)
        started = _announce(position, len(paths), path)
        failure = execute(notebook, (folder / path).parent)
        _report(started, failure)
        if failure:
            failures[path] = failure
            continue
        # What differs from machine to machine stays out of the file.
        notebook.metadata = nbformat.from_dict(
            {
                "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                "language_info": {"name": "python"},
            }
        )
        nbformat.write(notebook, folder / path)
    return failures


def _announce(position: int, total: int, path: Path) -> float:
    print(f"[{position + 1}/{total}] {path.as_posix():40s} ", end="", flush=True)
    return time.monotonic()


def _report(started: float, failure: str | None) -> float:
    seconds = time.monotonic() - started
    print(f"{seconds:6.1f} s" + (f"  FAILED, {failure}" if failure else ""), flush=True)
    return seconds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lgmpose.course", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path, help="folder of the notebooks")
    parser.add_argument("output", type=Path, nargs="?", default=Path("build/course"), help="where the pages go")
    parser.add_argument("--in-place", action="store_true", help="store outputs in the notebooks instead")
    options = parser.parse_args(arguments)
    try:
        if options.in_place:
            failures = refresh_notebooks(options.notebooks)
        else:
            failures = build_course(options.notebooks, options.output)
            print(f"Open {(options.output / 'index.html').resolve().as_uri()}")
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for path, reason in failures.items():
        print(f"{options.notebooks / path}: {reason}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
