"""The course builder, on notebooks written for the purpose."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lgmpose.cli import main
from lgmpose.course import site as course_module
from lgmpose.course.site import build_course, execute, find_notebooks, read_lesson, refresh_notebooks, thumbnail
from lgmpose.errors import UserError

PROSE = r"""# 00 · What is a pose?

**Time:** 15 minutes. The crop is $x \in \mathbb{R}^{3 \times H \times W}$, a price is `$5 or $6`.

$$\begin{aligned} a &= b \\ c &= d \end{aligned}$$

Next: [the second](01_second.ipynb#start), and [some code](../code.py).
"""
FIGURE = "import matplotlib.pyplot as plt\nplt.figure(figsize=(1, 1))\nplt.plot([0, 1])\nplt.show()"


def write_notebook(path: Path, *cells) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=list(cells), metadata={"kernelspec": kernel}), path)


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> tuple[Path, Path, dict[Path, str], dict[str, bytes]]:
    """(folder, output, failures, the notebooks' bytes before) of a course of three notebooks, the second one broken."""
    root = tmp_path_factory.mktemp("project")
    folder, output = root / "notebooks", root / "build" / "course"
    (root / "code.py").write_text("x = 1\n")
    write_notebook(folder / "00_first.ipynb", new_markdown_cell(PROSE), new_code_cell(FIGURE), new_code_cell("6 * 7"))
    write_notebook(
        folder / "01_second.ipynb",
        new_markdown_cell("# 01 · Does it fail?"),
        new_code_cell("done = 'so far so good'\nprint(done)"),
        new_code_cell("1 / 0"),
        new_code_cell("print(done)", outputs=[new_output("stream", text="an old output")]),
    )
    write_notebook(folder / "solutions" / "01_second.ipynb", new_markdown_cell("# 01 · No"), new_code_cell("1 / 1"))
    write_notebook(folder / "scratch.ipynb", new_code_cell("raise SystemExit"))
    before = {str(path): path.read_bytes() for path in folder.rglob("*.ipynb")}
    return folder, output, build_course(folder, output), before


class References(HTMLParser):
    """Collects what a page links to and what it would fetch."""

    def __init__(self, page: Path):
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        elif tag == "link" and attributes.get("href"):
            self.fetched.append(attributes["href"])
        if "src" in attributes:
            self.fetched.append(attributes["src"])


def test_notebooks_come_in_reading_order_and_scratch_is_left_out(course):
    names = [path.as_posix() for path in find_notebooks(course[0])]
    assert names == ["00_first.ipynb", "01_second.ipynb", "solutions/01_second.ipynb"]


def test_only_the_broken_notebook_fails_and_its_cell_is_named(course):
    assert course[2] == {Path("01_second.ipynb"): "code cell 2: ZeroDivisionError: division by zero"}


def test_a_failed_notebook_is_rendered_as_far_as_it_came(course):
    page = (course[1] / "01_second.html").read_text()
    assert "so far so good" in page and "ZeroDivisionError" in page and "an old output" not in page


def test_the_notebooks_themselves_stay_untouched(course):
    folder, _, _, before = course
    assert {str(path): path.read_bytes() for path in folder.rglob("*.ipynb")} == before


def test_pages_fetch_nothing(course):
    for page in course[1].rglob("*.html"):
        assert [source for source in References(page).fetched if not source.startswith("data:")] == []
        assert not re.search(r"@import|url\(\s*['\"]?https?:|import\(", page.read_text(encoding="utf-8")), page


def test_the_figure_and_the_result_are_in_the_page(course):
    page = (course[1] / "00_first.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<img [^>]*src="data:image/png;base64,', page)) == 1
    assert re.search(r"<pre>42\s*</pre>", page)


def test_formulas_become_mathml_and_code_keeps_its_dollars(course):
    page = (course[1] / "00_first.html").read_text(encoding="utf-8")
    assert "<mi>ℝ</mi>" in page and page.count("<mtr>") == 2 and "\\begin" not in page
    assert "<code>$5 or $6</code>" in page


def test_every_link_leads_to_a_file(course):
    output = course[1]
    for page in output.rglob("*.html"):
        links = References(page).links
        assert links, page
        for link in links:
            assert (page.parent / link.split("#")[0]).resolve().is_file(), (page, link)
    links = References(output / "00_first.html").links
    assert "01_second.html#start" in links and "../../code.py" in links
    around = References(output / "01_second.html").links
    assert around == ["00_first.html", "index.html", "solutions/01_second.html"] * 2
    around = References(output / "solutions" / "01_second.html").links  # the same twice: above and below the lesson
    assert around == ["../01_second.html", "../index.html"] * 2


def test_the_index_shows_titles_pictures_minutes_solutions_and_failures(course):
    index = (course[1] / "index.html").read_text(encoding="utf-8")
    links = References(course[1] / "index.html").links
    assert links == ["00_first.html"] * 2 + ["01_second.html"] * 2 + ["solutions/01_second.html"]
    first, second = re.findall(r"<article>.*?</article>", index)
    assert "00 · What is a pose?</a>" in first and "<p>15 minutes to read · ran in " in first
    assert '<img src="data:image/jpeg;base64,' in first and "<img" not in second
    assert "failed: code cell 2: ZeroDivisionError" in second and "failed" not in first


def test_the_index_shows_the_picture_worth_keeping():
    def cell(colour):
        image = cv2.imencode(".png", np.full((40, 80, 3), colour, np.uint8))[1].tobytes()
        data = {"image/png": base64.b64encode(image).decode()}
        return new_code_cell("plot", outputs=[new_output("display_data", data=data)])

    def colour_of(*cells):
        data = base64.b64decode(thumbnail(new_notebook(cells=list(cells))).partition(",")[2])
        return int(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[20, 40, 0])

    heading = new_markdown_cell("## A picture worth keeping")
    assert colour_of(cell(10), heading, cell(100), cell(200)) == 100
    assert colour_of(new_markdown_cell("## A picture's way through it"), cell(10), heading, cell(100)) == 100
    assert colour_of(cell(10), cell(100), cell(200)) == 200
    assert thumbnail(new_notebook(cells=[heading])) is None


def test_title_and_minutes_fall_back(tmp_path):
    lesson = read_lesson(new_notebook(cells=[new_code_cell("# no heading")]), Path("03_which_parts.ipynb"))
    assert (lesson.number, lesson.title, lesson.minutes) == ("03", "which parts", None)


def test_refresh_stores_outputs_but_nothing_of_the_machine(tmp_path):
    write_notebook(tmp_path / "00_a.ipynb", new_markdown_cell("# 00 · A"), new_code_cell("6 * 7"))
    write_notebook(tmp_path / "01_b.ipynb", new_markdown_cell("# 01 · B"), new_code_cell("1 / 0"))
    broken = (tmp_path / "01_b.ipynb").read_bytes()
    assert list(refresh_notebooks(tmp_path)) == [Path("01_b.ipynb")]
    assert (tmp_path / "01_b.ipynb").read_bytes() == broken
    stored = nbformat.read(tmp_path / "00_a.ipynb", as_version=4)
    assert stored.cells[1].execution_count == 1 and stored.cells[1].outputs[0].data["text/plain"] == "42"
    assert stored.metadata.language_info == {"name": "python"} and stored.cells[1].metadata == {}
    once = (tmp_path / "00_a.ipynb").read_bytes()
    refresh_notebooks(tmp_path)
    assert (tmp_path / "00_a.ipynb").read_bytes() == once


def test_a_kernel_that_does_not_start_fails_its_notebook_alone(tmp_path, capsys, monkeypatch):
    """Short of memory, or a slow disk: nbclient then raises what it raises nowhere else."""
    start, starts = NotebookClient.async_start_new_kernel, []

    async def second_dies(self, **options):
        starts.append(self)
        if len(starts) == 2:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return await start(self, **options)

    monkeypatch.setattr(NotebookClient, "async_start_new_kernel", second_dies)
    for name in ("00_a", "01_b", "02_c"):
        write_notebook(tmp_path / f"{name}.ipynb", new_markdown_cell(f"# {name[:2]} · A"), new_code_cell("6 * 7"))
    failures = build_course(tmp_path, tmp_path / "out")
    assert list(failures) == [Path("01_b.ipynb")] and "did not start" in failures[Path("01_b.ipynb")]
    assert "Kernel died before" in capsys.readouterr().out and (tmp_path / "out" / "index.html").is_file()
    assert (tmp_path / "out" / "02_c.html").is_file()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak memory")
def test_the_kernels_peak_memory_is_measured_printed_and_shown(tmp_path, capsys):
    """A kernel that held 300 MB for a moment has a peak above that of one that did not, by about so much."""
    hold = new_code_cell("held = b'x' * 300_000_000\ndel held")
    write_notebook(tmp_path / "00_a.ipynb", new_markdown_cell("# 00 · A"), new_code_cell("6 * 7"))
    write_notebook(tmp_path / "01_b.ipynb", new_markdown_cell("# 01 · B"), hold, new_code_cell("1 / 0"))
    peaks = {}
    for name in ("00_a.ipynb", "01_b.ipynb"):
        execute(nbformat.read(tmp_path / name, as_version=4), tmp_path, peaks.setdefault(name, []).append)
    small, large = (max(values) for values in peaks.values())
    assert 0.02 < small < 1 and 0.25 < large - small < 0.4  # a kernel alone takes some dozen MB
    assert len(peaks["01_b.ipynb"]) == 2, "also of a cell that fails"
    build_course(tmp_path, tmp_path / "out")
    printed, index = capsys.readouterr().out, (tmp_path / "out" / "index.html").read_text()
    assert re.search(r"00_a\.ipynb +[\d.]+ s, 0\.\d GB\n", printed)
    assert re.search(r"01_b\.ipynb +[\d.]+ s, 0\.\d GB  FAILED, code cell 2", printed)
    assert len(re.findall(r"ran in \d+ s, 0\.\d GB", index)) == 2


def test_where_the_peak_memory_is_not_known_it_is_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lgmpose.course.site.peak_memory_gb", lambda pid: None)
    write_notebook(tmp_path / "00_a.ipynb", new_markdown_cell("# 00 · A"), new_code_cell("6 * 7"))
    build_course(tmp_path, tmp_path / "out")
    assert re.search(r"00_a\.ipynb +[\d.]+ s\n", capsys.readouterr().out)
    assert "GB" not in (tmp_path / "out" / "index.html").read_text()


def test_a_formula_that_cannot_be_shown_is_named(tmp_path, capsys):
    write_notebook(tmp_path / "00_a.ipynb", new_markdown_cell(r"# A" "\n\n" r"so $\left( x$"))
    assert main(["course", "build", str(tmp_path), str(tmp_path / "out")]) == 1
    assert r"the formula '\\left( x' cannot be shown" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_before_any_notebook_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(course_module, "execute", lambda *_: pytest.fail("a notebook ran"))
    write_notebook(tmp_path / "00_a.ipynb", new_markdown_cell("# A"))
    (tmp_path / "taken").write_text("")
    assert main(["course", "build", str(tmp_path), str(tmp_path / "taken")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "taken" in line and "cannot be written" in line


@pytest.mark.skipif(os.name == "nt", reason="a signal of Unix")
def test_ctrl_c_amid_a_cell_stops_it_all(tmp_path):
    """Left alone, nbclient would end that notebook's kernel only, and the next notebook would run."""
    stop = new_code_cell("import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(60)")
    write_notebook(tmp_path / "00_a.ipynb", new_markdown_cell("# 00 · A"), stop)
    write_notebook(tmp_path / "01_b.ipynb", new_markdown_cell("# 01 · B"), new_code_cell("1"))
    words = [sys.executable, "-m", "lgmpose", "course", "build", str(tmp_path), str(tmp_path / "out")]
    run = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (run.returncode, run.stderr.splitlines()) == (130, ["stopped"]) and "01_b" not in run.stdout


@pytest.mark.parametrize("error, status", [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 2)])
def test_what_was_done_before_a_stop_has_an_index(tmp_path, capsys, monkeypatch, error, status):
    def stop_at_third(notebook, *_):
        if "# C" in notebook.cells[0].source:
            raise error

    monkeypatch.setattr(course_module, "execute", stop_at_third)
    for name in "abc":
        write_notebook(tmp_path / f"00_{name}.ipynb", new_markdown_cell(f"# {name.upper()}"))
    write_notebook(tmp_path / "solutions" / "00_a.ipynb", new_markdown_cell("# A"))
    assert main(["course", "build", str(tmp_path), str(tmp_path / "out")]) == status
    message = capsys.readouterr().err
    assert message.splitlines() == ["stopped" if status == 130 else "error: [Errno 28] No space left on device"]
    assert References(tmp_path / "out" / "index.html").links == ["00_a.html"] * 2 + ["00_b.html"] * 2
    with monkeypatch.context() as patch:
        patch.setattr(course_module, "execute", lambda *_: None)
        assert main(["course", "build", str(tmp_path), str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert main(["course", "build", str(tmp_path), str(tmp_path / "out")]) == status
    # the pages are still there, and so is their index
    links = References(tmp_path / "out" / "index.html").links
    assert {"00_a.html", "00_b.html", "00_c.html", "solutions/00_a.html"} <= set(links)


def test_a_folder_without_notebooks_is_refused(tmp_path, capsys):
    with pytest.raises(UserError, match="no notebook named like"):
        find_notebooks(tmp_path)
    assert main(["course", "build", str(tmp_path)]) == 2
    assert "no notebook named like 00_start_here.ipynb" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5}', "[]"])
def test_a_file_that_is_no_notebook_is_refused(tmp_path, capsys, content):
    (tmp_path / "00_a.ipynb").write_text(content)
    assert main(["course", "build", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "00_a.ipynb: not a valid notebook" in capsys.readouterr().err
