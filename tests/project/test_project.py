"""The project's own order: one list of dependencies, portable files, clean notebooks, a command that starts at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def project_files() -> list[Path]:
    """What git tracks, and what it would if everything were added now."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("git does not know this folder, so there is no list of the project's files")
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def texts(paths: list[Path], *suffixes: str) -> list[tuple[str, str]]:
    """(path relative to the project, content) of the text files among ``paths``, all of them or those with a suffix."""
    found = []
    for path in paths:
        if not suffixes or path.suffix in suffixes:
            try:
                found.append((path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                assert path.suffix not in {".py", ".ipynb", ".md", ".toml", ".yml"}, path
    return found


# The environment


def test_environment_yml_installs_exactly_what_pyproject_lists():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    python, pip, by_pip = dependencies
    version = python.removeprefix("python=")
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{version}.0"), "conda's Python is one pyproject refuses"
    assert pip == "pip" and by_pip == {"pip": ["-e .[all]"]}, "conda gives Python only, pip what pyproject.toml lists"


def test_the_extra_named_all_holds_every_other_extra():
    extras = PROJECT["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    not_everywhere = {"executorch", "coreml"}  # pyproject.toml says why
    assert everything.name == PROJECT["name"] and everything.extras == extras.keys() - {"all"} - not_everywhere


def test_the_makefile_accepts_the_pythons_that_pyproject_accepts():
    (floor,) = SpecifierSet(PROJECT["requires-python"])
    major, minor = floor.version.split(".")
    assert floor.operator == ">="
    assert f"sys.version_info < ({major}, {minor})" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_weights_and_lists_are_part_of_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    covered = {path for pattern in settings["package-data"]["lgmpose"] for path in (ROOT / "lgmpose").glob(pattern)}
    data = {
        path
        for path in (ROOT / "lgmpose").rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert data <= covered, sorted(str(path.relative_to(ROOT)) for path in data - covered)
    for folder in (ROOT / "lgmpose").rglob("*/"):
        if any(folder.glob("*.py")):
            assert (folder / "__init__.py").is_file(), f"{folder.relative_to(ROOT)} would not be installed"


# The files


def test_no_file_holds_a_path_of_somebodys_machine(project_files):
    usual = r"(home|Users|root|mnt|tmp|work|workspace|private|var/folders)/\w"
    folders = [folder for folder in (ROOT, Path(os.path.expanduser("~"))) if len(folder.parts) > 1]  # a home may be /
    here = "|".join(re.escape(f"{folder}/".lstrip("/")) for folder in folders)
    pattern = re.compile(rf"(?<![\w.:/~-])/({usual}|{here})|file:///\w|\b[A-Z]:\\+Users\\")
    found = [(name, match.group()) for name, text in texts(project_files) for match in pattern.finditer(text)]
    assert found == []


def test_nothing_bends_the_import_path(project_files):
    bending = re.compile(r"sys\s*\.\s*path\s*(\.\s*(insert|append|extend)|\+=|\[)|site\.addsitedir")
    # For a user's own module:function the current folder is searched while it is imported, as uvicorn and gunicorn do.
    allowed = "lgmpose/zoo/outside_networks.py"
    found = [name for name, text in texts(project_files, ".py", ".ipynb") if bending.search(text)]
    assert [name for name in found if str(name) != allowed] == []


def test_no_file_is_large(project_files):
    assert [path.relative_to(ROOT).as_posix() for path in project_files if path.stat().st_size > 10e6] == []


def test_ci_runs_what_a_contributor_runs():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100, "not executable"
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    commands = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    assert "make test" in script.read_text(encoding="utf-8") and any("make test" in command for command in commands)
    for python in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]:
        assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")


def test_the_version_is_the_same_everywhere(capsys):
    from lgmpose.cli import main

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split()[-1] == PROJECT["version"] == citation["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_yaml_and_json_files_of_tools_are_valid():
    for path in [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]:
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path
    assert json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


# What starting costs

HEAVY = """
import sys
def heavy():
    return sorted({"torch", "torchvision", "matplotlib", "IPython"} & set(sys.modules))
"""
COMMANDS = (
    "data", "train", "resume", "eval", "predict", "compare", "export", "profile", "bench", "ablate", "lab", "course",
)  # fmt: skip
HELP = """
from lgmpose.cli import main
for command in COMMANDS:
    try:
        main([*command, "--help"])
    except SystemExit as end:
        assert not end.code
    assert not heavy(), (command, heavy())
"""


def run_python(code: str) -> None:
    run = subprocess.run([sys.executable, "-c", HEAVY + code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


def test_help_is_quick_because_nothing_heavy_is_imported():
    run_python(f"COMMANDS = {[[], *([name] for name in COMMANDS)]}" + HELP)


@pytest.mark.parametrize(
    "module",
    ["", ".data", ".inference.predictor", ".inference.predict_files", ".metrics", ".pose.codecs", ".zoo", ".zoo.cards"],
)
def test_modules_that_need_no_torch_import_none(module):
    run_python(f"import lgmpose{module}\nassert not heavy(), heavy()")
