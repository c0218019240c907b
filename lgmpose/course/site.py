"""The course as web pages: runs every notebook and renders each to one HTML file that needs no network.

``lgmpose course build notebooks build/course`` is what ``make course`` calls. The notebooks themselves stay as they
are; with ``--in-place`` they are stored with their new outputs instead, and no page is written.

What a page takes from its notebook: the title is the first ``# heading`` (a question, by the house's custom), the
reading time is the first "NN minutes" or "NN min" in the text.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import html
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import nbformat
import numpy as np
from jinja2 import DictLoader
from latex2mathml.converter import convert as latex_to_mathml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from lgmpose.errors import UserError
from lgmpose.files import check_writable

__all__ = ["Lesson", "build_course", "execute", "find_notebooks", "read_lesson", "refresh_notebooks", "render"]

CELL_TIMEOUT_S = 600
THUMBNAIL_WIDTH = 720

# nbconvert's page fetches MathJax, RequireJS and Mermaid from the web; ours has formulas as MathML and needs none.
PAGE_TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block extra_css -%}
<style>
.jp-RenderedMarkdown h1 { line-height: 1.2; }
nav.course { display: grid; grid-template-columns: 1fr auto 1fr; gap: 2em; padding: 0.8em 0.5em; font: 14px sans-serif }
nav.course a { color: #1a56a8; }
nav.course > :last-child { text-align: right; }
/* Room for code lines of 120 characters; prose stays narrower, since long lines are hard to read. */
body.jp-Notebook main { max-width: 1050px; margin: 0 auto; }
.jp-RenderedMarkdown > :not(table) { max-width: 52em; }
/* In a narrow window code and output can be scrolled; nbconvert's own style cuts the one and breaks the other. */
.jp-InputArea-editor .highlight pre { overflow-x: auto; }
.jp-RenderedText.jp-OutputArea-output pre { white-space: pre; }
@media (max-width: 800px) { .jp-InputPrompt.jp-InputPrompt, .jp-OutputPrompt.jp-OutputPrompt { display: none; } }
/* Indices sit right only with a font made for formulas, and Chromium on Linux does not look for one by itself. */
math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }
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
body {{ max-width: 68em; margin: 2.5em auto; padding: 0 1em; font: 16px/1.45 sans-serif; color: #222; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26em, 100%), 1fr)); gap: 1.2em; }}
article {{ border: 1px solid #ddd; border-radius: 8px; overflow: hidden; display: flex; flex-direction: column; }}
article img, article .none {{ width: 100%; height: 11em; padding-top: 0.6em; box-sizing: border-box; display: block; }}
article img {{ object-fit: contain; }}
article h2 {{ font-size: 1.05em; margin: 0.7em 0.9rem 0.2em; }}
article p {{ margin: 0 0.9rem 0.9em; font-size: 0.88em; color: #666; }}
a {{ color: #1a56a8; text-decoration: none; }}
a:hover {{ text-decoration: underline; }}
article .failed {{ color: #b00; }}
</style>
</head>
<body>
<h1>LGM-Pose: the course</h1>
<p>Each page is a notebook, run on this machine just now. To change and run one yourself: <code>make lab</code>.</p>
<main>
{cards}
</main>
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
    def is_solution(self) -> bool:
        return self.path.parent.name == "solutions"

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


def peak_memory_gb(pid: int | None) -> float | None:
    """The most memory that a process ever held, in GB (10⁹ bytes); None where no /proc tells (Linux has it)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)  # "high water mark" of the resident set
    return int(peak.group(1)) * 1024 / 1e9 if peak else None


def execute(notebook: NotebookNode, folder: Path, on_memory: Callable[[float], None] | None = None) -> str | None:
    """Runs a notebook in a fresh kernel and stores the outputs in ``notebook``; old outputs are dropped first.

    Args:
        notebook: is changed.
        folder: the kernel's working directory.
        on_memory: is called after every cell with the kernel's peak memory so far, in GB; never where it is not known.

    Returns:
        None if all went well, else one line: the failing cell's number and its error. Cells after it have no output.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    started: list[int] = []

    def tell_memory(**_) -> None:
        if on_memory and (peak_gb := peak_memory_gb(getattr(client.km.provisioner, "pid", None))):
            on_memory(peak_gb)

    def let_ctrl_c_stop_us(**_) -> None:
        """nbclient would only shut the kernel down, and the next notebook would start."""
        with contextlib.suppress(NotImplementedError):  # Windows, where it leaves Ctrl-C alone
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,  # times of day would change the file at every run
        coalesce_streams=True,  # else lines printed in a loop arrive as many outputs on a busy machine
        extra_arguments=["--log-level=ERROR"],  # else every kernel remarks that it talks over TCP, in the progress line
        resources={"metadata": {"path": str(folder)}},
        on_notebook_start=let_ctrl_c_stop_us,
        on_cell_start=lambda cell, cell_index: started.append(cell_index),
        on_cell_executed=tell_memory,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".splitlines()[0]
    except CellTimeoutError:
        reason = f"took longer than {CELL_TIMEOUT_S} s"
    except DeadKernelError:
        reason = "the kernel died (out of memory?)"
    except (RuntimeError, AssertionError) as error:  # nbclient: a kernel that dies or dawdles at its start
        reason = f"the kernel did not start, or not in time ({str(error).strip()})"
    except KeyboardInterrupt:
        client.shutdown_kernel = "immediate"  # asked to end amid its work, a kernel prints a traceback of its own
        raise
    else:
        return None
    if not started:
        return reason
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
    """The lessons before and after, in the middle the index and the lesson's solutions or the solution's lesson."""
    here = lessons[position]
    row = [lesson for lesson in lessons if lesson.is_solution == here.is_solution]
    place = row.index(here)

    def link(page: Path, text: str) -> str:
        href = Path(os.path.relpath(page, here.page.parent)).as_posix()
        return f'<a href="{href}">{html.escape(text)}</a>'

    def neighbour(index: int, text: str) -> str:
        if not 0 <= index < len(row):
            return "<span></span>"
        return link(row[index].page, text.format(f"{row[index].number} · {row[index].title}"))

    middle = [link(Path("index.html"), "all lessons")]
    for other in lessons:
        if other.path.name == here.path.name and other is not here:
            middle.append(link(other.page, "solutions" if other.is_solution else "the lesson"))
    middle_html = " · ".join(reversed(middle) if here.is_solution else middle)
    return (
        f'<nav class="course">{neighbour(place - 1, "← {}")}<span>{middle_html}</span>'
        f"{neighbour(place + 1, '{} →')}</nav>"
    )


def thumbnail(notebook: NotebookNode) -> str | None:
    """The lesson's picture, small, as a data URI: the first figure after "A picture worth keeping", else the last one.

    None where there is no figure.
    """
    figures, wanted = [], False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            wanted = wanted or re.search(r"^## A picture worth keeping", cell.source, re.MULTILINE) is not None
            continue
        for output in cell.outputs:
            for mime in ("image/png", "image/jpeg"):
                if mime in output.get("data", {}):
                    figures.append((wanted, output.data[mime]))
    if not figures:
        return None
    chosen = next((data for after, data in figures if after), figures[-1][1])
    image = cv2.imdecode(np.frombuffer(base64.b64decode(chosen), np.uint8), cv2.IMREAD_COLOR)
    scale = min(1.0, THUMBNAIL_WIDTH / image.shape[1])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _card(lesson: Lesson, picture: str | None, cost: str, failure: str | None, solution: Lesson | None) -> str:
    """A lesson in the index: picture, question, times, link to its solutions."""
    href = lesson.page.as_posix()
    image = f'<img src="{picture}" alt="">' if picture else '<div class="none"></div>'
    # One link is enough for readers who hear the page: the picture's is hidden from them.
    shown = f'<a href="{href}" aria-hidden="true" tabindex="-1">{image}</a>'
    facts = [f"{lesson.minutes} minutes to read"] if lesson.minutes else []
    facts.append(f"ran in {cost}")
    if solution:
        facts.append(f'<a href="{solution.page.as_posix()}">solutions</a>')
    failed = f'<p class="failed">failed: {html.escape(failure)}</p>' if failure else ""
    title = f'<h2><a href="{href}">{lesson.number} · {html.escape(lesson.title)}</a></h2>'
    return f"<article>{shown}{title}<p>{' · '.join(facts)}</p>{failed}</article>"


def _write_index(output: Path, lessons: list[Lesson], results: list[tuple[str | None, str, str | None]]) -> None:
    """``index.html`` of the lessons that have a page. Their results: picture, cost and failure."""
    solutions = {lesson.path.name: lesson for lesson in lessons if lesson.is_solution}
    cards = [
        _card(lesson, *result, None if lesson.is_solution else solutions.get(lesson.path.name))
        for lesson, result in zip(lessons, results, strict=True)
        if not lesson.is_solution or result[2]  # a solution has a card of its own only where it failed
    ]
    (output / "index.html").write_text(INDEX_TEMPLATE.format(cards="\n".join(cards)), encoding="utf-8")


def build_course(folder: Path, output: Path) -> dict[Path, str]:
    """Runs and renders all notebooks and writes ``output/index.html``; prints one line per notebook.

    A notebook that fails is rendered as far as it came, and the others go on. The notebooks' own files stay untouched.
    The first index grows with every page, so that what was done before a Ctrl-C can be read.

    Args:
        folder: of the notebooks.
        output: where the pages go; made if missing.

    Returns:
        What failed: notebook (relative to ``folder``) → one line saying which cell and why. Empty when all went well.

    Raises:
        UserError: no notebook in ``folder``, or one that is none; or ``output`` cannot be written.
    """
    notebooks = {path: read_notebook(folder / path) for path in find_notebooks(folder)}
    lessons = [read_lesson(notebook, path) for path, notebook in notebooks.items()]
    pages = {(folder / lesson.path).resolve() for lesson in lessons}
    check_writable(output / "index.html")
    is_new = not (output / "index.html").exists()
    failures: dict[Path, str] = {}
    results: list[tuple[str | None, str, str | None]] = []
    for position, lesson in enumerate(lessons):
        notebook, source_folder = notebooks[lesson.path], (folder / lesson.path).parent
        started, peaks_gb = _announce(position, len(lessons), lesson.path), []
        failure = execute(notebook, source_folder, peaks_gb.append)
        page, navigation = output / lesson.page, _navigation(lessons, position)
        try:
            render(notebook, source_folder=source_folder, page=page, navigation=navigation, pages=pages)
        except UserError as error:
            failure = failure or str(error)
        cost = _report(started, peaks_gb, failure)
        if failure:
            failures[lesson.path] = failure
        results.append((thumbnail(notebook), cost, failure))
        if is_new or len(results) == len(lessons):
            _write_index(output, lessons[: len(results)], results)
    return failures


def refresh_notebooks(folder: Path) -> dict[Path, str]:
    """Runs all notebooks and stores each with its new outputs; one that fails keeps its file as it was.

    Returns and raises as ``build_course``.
    """
    paths = find_notebooks(folder)
    failures: dict[Path, str] = {}
    for position, path in enumerate(paths):
        notebook = read_notebook(folder / path)
        started, peaks_gb = _announce(position, len(paths), path), []
        failure = execute(notebook, (folder / path).parent, peaks_gb.append)
        _report(started, peaks_gb, failure)
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


def _report(started: float, peaks_gb: list[float], failure: str | None) -> str:
    seconds = time.monotonic() - started
    memory = f", {max(peaks_gb):.1f} GB" if peaks_gb else ""
    print(f"{seconds:6.1f} s{memory}" + (f"  FAILED, {failure}" if failure else ""), flush=True)
    return f"{seconds:.0f} s{memory}"


def build_site(notebooks: Path, output: Path, *, in_place: bool) -> bool:
    """Build the pages, or store outputs in the notebooks, and print what failed. Return True if nothing did.

    Args:
        notebooks: folder of the notebooks.
        output: folder of the pages.
        in_place: store the outputs in the notebooks; write no page.

    Raises:
        UserError: no notebooks, or a notebook that is not valid.
    """
    if in_place:
        failures = refresh_notebooks(notebooks)
    else:
        failures = build_course(notebooks, output)
        print(f"Open {(output / 'index.html').resolve().as_uri()}")
    for path, reason in failures.items():
        print(f"{notebooks / path}: {reason}", file=sys.stderr)
    return not failures
