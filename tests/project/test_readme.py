"""README and docs: generated parts are current, commands parse, links lead somewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from lgmpose.cli import main
from lgmpose.data import KINDS
from lgmpose.zoo.catalogue import list_models

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "api").glob("*.md"),
    ROOT / "notebooks" / "README.md", *(ROOT / "lgmpose" / "weights").glob("*.md"),
]  # fmt: skip
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
figures_spec = importlib.util.spec_from_file_location("docs_figures", ROOT / "docs" / "figures.py")
figures = importlib.util.module_from_spec(figures_spec)
figures_spec.loader.exec_module(figures)


def commands_in(path: Path) -> list[str]:
    """Return the shell commands of a document, without comments; a line that ends in a backslash continues."""
    commands = []
    for block in re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        lines = re.sub(r"\\\n", " ", block).splitlines()
        commands += [words for line in lines if (words := re.sub(r"(^|\s)#.*", "", line).strip())]
    if path.name == "results.md":  # its table has whole commands
        commands += re.findall(r"`(lgmpose [^`]*)`", path.read_text(encoding="utf-8"))
    return commands


@cache
def help_of(*command: str) -> str:
    """Return the help of a command; fails where there is no such command."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert not end.value.code, command
    return output.getvalue()


# architecture.md counts eight networks, which takes seconds.
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] * (p.name == "architecture.md")) for p in figures.documents()],
    ids=lambda path: path.name,
)
def test_generated_parts_are_current(path):
    text = path.read_text(encoding="utf-8")
    assert figures.current(text) == text, "run: make docs-figures"


def test_every_generated_part_is_shown_and_the_marks_are_whole():
    shown = set()
    for path in figures.documents():
        text = path.read_text(encoding="utf-8")
        shown.update(re.findall(r"<!-- begin: ([\w-]+) -->", text))
        assert text.count("<!-- begin: ") == text.count("<!-- end -->") == len(figures.MARKED.findall(text)), path
    assert shown == set(figures.BLOCKS)


def test_the_picture_is_current():
    data = figures.PICTURE.read_bytes()
    assert figures.digest(figures.picture_data()).encode() in data, "run: make docs-figures"


@every_document
def test_commands_exist_with_their_options(path):
    for command in commands_in(path):
        words = shlex.split(command)
        if words[0] == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            assert set(words[1:2]) <= set(targets), command
        if "lgmpose" not in words or words[0] not in ("lgmpose", "torchrun", "python"):
            continue
        words = words[words.index("lgmpose") + 1 :]
        if words[:1] == ["--version"]:
            continue
        nested = 2 if words[0] in ("data", "lab", "course") else 1
        text = help_of(*words[:nested])
        for word in words[nested:]:
            if word.startswith("--"):
                assert re.search(rf"(?<![\w-]){word.partition('=')[0]}(?![\w-])", text), f"{command}: no {word}"
        for option, value in zip(words, words[1:], strict=False):
            if option == "--model" and value.islower() and ":" not in value:
                assert value in list_models(), command
            if option in ("--weights", "--init-weights") and value.startswith("lgm-pose"):
                assert (ROOT / "lgmpose" / "weights" / value).is_file(), command


@every_document
def test_links_lead_to_files_and_headings(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, heading = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles]
            assert heading in slugs, link


def test_files_named_in_code_spans_exist():
    """A span such as `lgmpose/network/config.py` or `docs/figures.py` names a file or folder of the project."""
    for path in DOCUMENTS:
        for name in re.findall(r"`((?:lgmpose|docs|tests|notebooks|results|data_scripts|\.github)/[\w./-]+)`",
                               path.read_text(encoding="utf-8")):  # fmt: skip
            assert (ROOT / name).exists() or "NN" in name, f"{path.name}: {name}"


def test_the_page_on_training_names_every_kind_of_data():
    text = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    table = text.partition("## Kinds of data")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == set(KINDS)


def test_readmes_python_runs_as_far_as_syntax_goes():
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL):
        compile(block, "README.md", "exec")


def test_the_python_of_extending_runs(tmp_path, monkeypatch, capsys):
    """All blocks of the page, one after another. The embedded data set is replaced by a few pictures."""
    from lgmpose.data.synthetic import make_synthetic

    monkeypatch.chdir(tmp_path)
    make_synthetic(tmp_path / "synthetic", 24)
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    exec(compile(code, "extending.md", "exec"), {"__name__": "extending"})
    assert "four persons" in capsys.readouterr().out
