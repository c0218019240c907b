"""Check the layout of docs/design.md: one direction between rooms, no circles, short functions, unique names."""

from __future__ import annotations

import ast
import graphlib
import re
from collections import Counter
from pathlib import Path

import pytest
from mutate import known_mutations

ROOT = Path(__file__).resolve().parents[2]
# A room imports only from the rooms before it.
ROOMS = (
    "errors",
    "files",
    "machine",
    "network",
    "peers",
    "pose",
    "metrics",
    "data",
    "zoo",
    "inference",
    "training",
    "lab",
    "course",
    "cli",
)
MAX_LINES, MAX_PARAMETERS = 60, 8
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / "lgmpose").rglob("*.py"))
}
FUNCTIONS = [
    (name, node, file.read_text(encoding="utf-8").splitlines())
    for name, file in MODULES.items()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    if isinstance(node, ast.FunctionDef)
]


def imported_modules(name: str) -> set[str]:
    """Return the package's modules that a module imports, also inside functions, but not for type checking alone."""
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lgmpose"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name in MODULES)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    return found - {name, "lgmpose"}


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_rooms_import_only_from_the_rooms_before_them():
    wrong = [
        f"{module} -> {imported}"
        for module in MODULES
        if module not in ("lgmpose", "lgmpose.__main__")
        for imported in imported_modules(module)
        if ROOMS.index(room_of(imported)) > ROOMS.index(room_of(module)) and module != "lgmpose.cli"
    ]
    assert not wrong


def test_no_circles():
    graph = {module: imported_modules(module) for module in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_module_names_are_unique():
    # lgmpose.cli registers the module ``commands`` of each room that has one.
    convention = ("__init__.py", "commands.py")
    names = Counter(name.rsplit(".", 1)[-1] for name in MODULES if MODULES[name].name not in convention)
    assert not {name: count for name, count in names.items() if count > 1}


@pytest.mark.parametrize("limit", ["lines", "parameters"])
def test_functions_are_short_or_say_why_not(limit):
    """A longer function carries a comment with the reason on the line before it or on its first line."""
    wrong = []
    for module, node, lines in FUNCTIONS:
        arguments = node.args
        parameters = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
        parameters = [argument for argument in parameters if argument.arg not in ("self", "cls")]
        length = node.end_lineno - node.lineno + 1
        too_much = length > MAX_LINES if limit == "lines" else len(parameters) > MAX_PARAMETERS
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        has_reason = "#" in lines[node.lineno - 1] or lines[first - 2].lstrip().startswith("#")
        if too_much and not has_reason:
            wrong.append(f"{module}.{node.name}: {length} lines, {len(parameters)} parameters")
    assert not wrong


def test_tests_use_public_names():
    pattern = re.compile(r"from lgmpose[\w.]* import [^#\n]*\b_[a-z]\w*")
    wrong = [
        f"{file.relative_to(ROOT)}: {found.group()}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for found in pattern.finditer(file.read_text(encoding="utf-8"))
    ]
    assert not wrong


def test_known_mutations_fit_the_code():
    assert known_mutations()  # SystemExit where a listed text is no longer in the code


def test_the_room_with_most_files_names_each_of_them():
    """The names in ``inference`` are alike, so its docstring says what each file does."""
    folder = ROOT / "lgmpose" / "inference"
    text = (folder / "__init__.py").read_text(encoding="utf-8")
    files = {path.stem for path in folder.iterdir() if path.stem not in ("__init__", "__pycache__")}
    assert {name for name in files if f"``{name}``" not in text} == set()
