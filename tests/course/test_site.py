"""The course: notebooks are run by this Python, failures are named, and the pages need no network."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lgmpose.cli import main
from lgmpose.course.notebooks import find_notebooks, run_notebooks
from lgmpose.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def write_notebook(path: Path, *cells) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells)), path)


def read(path: Path):
    return nbformat.read(path, as_version=4)


# Running


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, output, failures) of four notebooks: two that run, one with an error, one whose kernel dies.

    The kernel name "python3" is registered for a program that is no Python.
    """
    root = tmp_path_factory.mktemp("project")
    folder, output = root / "notebooks", root / "out"
    spec = root / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["false", "{connection_file}"], "display_name": "x", "language": "python"}))
    write_notebook(folder / "00_first.ipynb", new_markdown_cell("# 00"), new_code_cell("import sys\nsys.executable"))
    stale = new_code_cell("print('late')", outputs=[new_output("stream", text="an old output")])
    write_notebook(folder / "01_error.ipynb", new_code_cell("print('early')"), new_code_cell("1 / 0"), stale)
    write_notebook(folder / "02_dies.ipynb", new_code_cell("import os\nos._exit(3)"))
    write_notebook(folder / "solutions" / "01_error.ipynb", new_code_cell("import os\nos.getcwd()"))
    write_notebook(folder / "scratch.ipynb", new_code_cell("raise SystemExit"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(root / "jupyter"))
        return folder, output, run_notebooks(folder, output)


@pytest.mark.slow
def test_notebooks_come_in_reading_order_and_others_are_left_out(run):
    names = [path.as_posix() for path in find_notebooks(run[0])]
    assert names == ["00_first.ipynb", "01_error.ipynb", "02_dies.ipynb", "solutions/01_error.ipynb"]


@pytest.mark.slow
def test_the_kernel_is_this_python_whatever_is_registered_as_python3(run):
    (shown,) = read(run[1] / "00_first.ipynb").cells[1].outputs
    assert shown.data["text/plain"] == repr(sys.executable)


@pytest.mark.slow
def test_only_failing_notebooks_are_named_with_their_cell(run):
    assert list(run[2]) == [Path("01_error.ipynb"), Path("02_dies.ipynb")]
    assert "code cell 2: ZeroDivisionError" in run[2][Path("01_error.ipynb")]
    assert "code cell 1" in run[2][Path("02_dies.ipynb")]


@pytest.mark.slow
def test_a_failed_notebook_is_written_as_far_as_it_came(run):
    early, failed, late = read(run[1] / "01_error.ipynb").cells
    assert early.outputs[0].text == "early\n" and failed.outputs[0].ename == "ZeroDivisionError" and late.outputs == []
    assert read(run[0] / "01_error.ipynb").cells[2].outputs, "the notebook itself is as it was"


@pytest.mark.slow
def test_a_kernel_starts_in_its_notebooks_folder(run):
    (shown,) = read(run[1] / "solutions" / "01_error.ipynb").cells[0].outputs
    assert shown.data["text/plain"] == repr(str(run[0] / "solutions"))


@pytest.mark.slow
def test_run_in_place_stores_outputs_and_nothing_of_the_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "notebooks" / "00_a.ipynb", new_code_cell("6 * 7"))
    write_notebook(tmp_path / "notebooks" / "01_b.ipynb", new_code_cell("1 / 0"))
    broken = (tmp_path / "notebooks" / "01_b.ipynb").read_bytes()
    assert main(["course", "run"]) == 2
    printed = capsys.readouterr()
    assert re.search(r"\[1/2\] 00_a\.ipynb +[\d.]+ s\n", printed.out) and "01_b.ipynb" in printed.err
    assert (tmp_path / "notebooks" / "01_b.ipynb").read_bytes() == broken
    stored = read(tmp_path / "notebooks" / "00_a.ipynb")
    assert stored.cells[0].execution_count == 1 and stored.cells[0].outputs[0].data["text/plain"] == "42"
    assert stored.metadata.kernelspec.name == "python3" and stored.metadata.language_info == {"name": "python"}
    assert stored.cells[0].metadata == {}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a signal of Unix")
def test_ctrl_c_in_a_cell_stops_everything(tmp_path):
    stop = new_code_cell("import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(60)")
    write_notebook(tmp_path / "notebooks" / "00_a.ipynb", stop)
    write_notebook(tmp_path / "notebooks" / "01_b.ipynb", new_code_cell("1"))
    command = [sys.executable, "-m", "lgmpose", "course", "run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert run.returncode == 130 and "01_b" not in run.stdout


def test_a_folder_without_notebooks_is_refused(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        find_notebooks(tmp_path)


def test_lessons_are_chosen_by_number(tmp_path):
    for name in ("00_a.ipynb", "01_b.ipynb", "solutions/01_b.ipynb"):
        write_notebook(tmp_path / name)
    found = find_notebooks(tmp_path, ["01"])
    assert [path.as_posix() for path in found] == ["01_b.ipynb", "solutions/01_b.ipynb"]
    with pytest.raises(UserError, match="02"):
        find_notebooks(tmp_path, ["01", "02"])


def test_the_site_is_built_in_a_checkout_only(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["course", "build", "--no-run"]) == 2
    assert "docs/conf.py" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, named", [([], "docs/conf.py"), (["."], "."), (["docs/conf.py"], "docs/conf.py")])
def test_what_cannot_be_built_is_refused_before_the_lessons_run(tmp_path, monkeypatch, capsys, arguments, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lgmpose.course.notebooks.run_notebooks", None)
    if arguments:
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "conf.py").touch()
    assert main(["course", "build", *arguments]) == 2
    assert named in capsys.readouterr().err


# The pages


class Page(HTMLParser):
    """Collects what a page links to, what it would fetch, and its pictures."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.pictures: list[dict] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "img":
            self.pictures.append(attributes)
        if tag == "link" and "stylesheet" in attributes.get("rel", ""):
            self.fetched.append(attributes["href"])
        if "src" in attributes:
            self.fetched.append(attributes["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The whole site, built from the stored outputs; lesson 00 is replaced by one "as it was run just now"."""
    from lgmpose.course.site import build_site

    folder = tmp_path_factory.mktemp("site")
    executed = read(ROOT / "notebooks" / "00_start_here.ipynb")
    formula = r"A price is `$5 or $6`, and $x \in \mathbb{R}^2$.\n\n$$\begin{aligned} a &= b \\ c &= d \end{aligned}$$"
    executed.cells.append(new_markdown_cell("## Run just now\n\n" + formula.replace(r"\n", "\n")))
    path = folder / "executed" / "notebooks" / "00_start_here.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(executed, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        build_site(folder / "pages", folder / "executed")  # raises if Sphinx has a warning
    return folder / "pages"


@pytest.mark.slow
def test_the_site_has_no_warnings_and_needs_no_network(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        assert [address for address in page.fetched if re.match(r"(https?:)?//", address)] == [], path
        assert [picture for picture in page.pictures if not picture.get("alt")] == [], path
        for link in page.links:
            assert not link.startswith("mailto:"), f"{path}: {link}"  # PCK@0.2 is none
            target, _, _ = link.partition("#")
            if target and not re.match(r"[a-z]+:", target):
                assert (path.parent / target.partition("?")[0]).exists(), f"{path}: {link}"
    lessons = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert sorted(path.stem for path in (site / "notebooks").glob("[01]*.html")) == lessons
    assert (site / "index.html").is_file() and (site / "searchindex.js").is_file()


@pytest.mark.slow
def test_a_lesson_is_shown_as_it_was_run_and_formulas_are_mathml(site):
    page = html.unescape((site / "notebooks" / "00_start_here.html").read_text(encoding="utf-8"))
    assert "Run just now" in page and "<mi>ℝ</mi>" in page and page.count("<mtr>") >= 2
    assert r"\begin" not in page and ">$5</span>" in page, "code keeps its dollars"
    assert "Run just now" not in (site / "notebooks" / "01_how_a_network_points.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_module_is_in_the_api_reference(site):
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "docs" / "api").glob("*.html"))
    for module in (ROOT / "lgmpose").glob("*/**/*.py"):
        if module.name not in ("__main__.py", "__init__.py"):
            name = ".".join(module.relative_to(ROOT).with_suffix("").parts)
            assert f'id="module-{name}"' in text, name
    assert "Alias for field" not in text
