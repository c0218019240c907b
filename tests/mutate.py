"""Change the code in small ways and count the changes that no test notices: ``make mutate``.

Two kinds of change are tried, each in a copy of the project: those listed in ``tests/known_mutations.toml``, which once
passed unnoticed, and random ones of the rooms that are named. A random change exchanges an operator, shifts a number,
flips a truth value, drops a keyword argument (an option that is ignored), or drops a call. Coverage tells which quick
tests reach the changed lines; only these run. Where there are none, all tests of the room run, the slow ones too.

    python tests/mutate.py --known                   the listed changes
    python tests/mutate.py --random 100 --seed 1     random ones
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import copy
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parents[1]
KNOWN = Path(__file__).with_name("known_mutations.toml")
PLACES = ("training", "inference/evaluate.py", "inference/predictor.py", "inference/inputs.py", "data", "zoo")
SKIPPED = ("data/synthetic", "data/prepare", "training/curve.py")  # drawings are looked at, not tested
TIMEOUT_S = 900
COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
COMPARISONS |= {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult}


@dataclass(frozen=True)
class Mutation:
    """One change: ``new`` takes the place of ``old`` in ``file``, which holds it ``count`` times before that."""

    file: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}: {' '.join(self.old.split())[:90]}  ->  {' '.join(self.new.split())[:90]}"


def known_mutations() -> list[Mutation]:
    """Return the listed changes.

    Raises:
        SystemExit: a listed text does not occur exactly once; the list must follow the code.
    """
    found = []
    for entry in tomllib.loads(KNOWN.read_text(encoding="utf-8"))["mutation"]:
        text = (ROOT / "lgmpose" / entry["file"]).read_text(encoding="utf-8")
        if text.count(entry["old"]) != 1:
            raise SystemExit(
                f"{KNOWN.name}: {entry['old']!r} occurs {text.count(entry['old'])} times in {entry['file']}"
            )
        found.append(Mutation(entry["file"], entry["old"], entry["new"]))
    return found


def random_mutations(number: int, seed: int, places: tuple[str, ...]) -> list[Mutation]:
    """Return random changes of the files below ``places`` (paths in the package), each place in turn."""
    candidates = []
    for place in places:
        of_place = []
        for file in sorted((ROOT / "lgmpose").rglob("*.py")):
            name = file.relative_to(ROOT / "lgmpose").as_posix()
            if name.startswith(place) and not name.startswith(SKIPPED):
                of_place += _changes(name, file.read_text(encoding="utf-8"))
        random.Random(seed).shuffle(of_place)
        candidates.append(of_place)
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*candidates))
    return [mutation for mutation in in_turn if mutation is not None][:number]


def _changes(name: str, text: str) -> list[Mutation]:
    tree = ast.parse(text)
    found = []
    for statement in ast.walk(tree):
        # Only statements that stand alone: their text can be replaced as a whole.
        if not isinstance(statement, (ast.Assign, ast.AugAssign, ast.Return, ast.Expr, ast.AnnAssign)):
            if not isinstance(statement, (ast.If, ast.While)):
                continue
            statement = statement.test
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        source = ast.get_source_segment(text, statement)
        if source is None or source.startswith("__all__") or text.count(source) != 1:
            continue
        for changed in _variants(statement):
            new = ast.unparse(changed)
            if new != ast.unparse(statement) and "\n" not in new:
                found.append(Mutation(name, source, new if not isinstance(statement, ast.expr) else f"({new})"))
    return found


def _variants(statement: ast.AST) -> list[ast.AST]:
    """Return copies of a statement with one change each."""
    variants = []
    nodes = list(ast.walk(statement))
    for index, node in enumerate(nodes):
        for change in _edits(node):
            other = copy.deepcopy(statement)
            change(list(ast.walk(other))[index])
            variants.append(ast.fix_missing_locations(other))
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        variants.append(ast.parse("None").body[0])  # the call is dropped
    return variants


def _edits(node: ast.AST):
    """Yield functions that change a copy of the node in place."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        yield lambda n: n.ops.__setitem__(0, COMPARISONS[type(n.ops[0])]())
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not _holds_text(node):
        yield lambda n: setattr(n, "op", ARITHMETIC[type(n.op)]())
    if isinstance(node, ast.BoolOp):
        yield lambda n: setattr(n, "op", ast.And() if isinstance(n.op, ast.Or) else ast.Or())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield lambda n: setattr(n, "operand", ast.UnaryOp(ast.Not(), n.operand))
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield lambda n: setattr(n, "value", not n.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield lambda n: setattr(n, "value", n.value * 2 + 1 if isinstance(n.value, int) else n.value * 1.5 + 0.1)
    if isinstance(node, ast.Call):
        for i, keyword in enumerate(node.keywords):
            if keyword.arg not in (None, "desc", "unit", "leave", "encoding", "strict"):  # looks, and guards
                yield lambda n, i=i: n.keywords.pop(i)
    if isinstance(node, ast.IfExp):
        yield lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))


def _holds_text(node: ast.AST) -> bool:
    """Return True for joined texts and paths, whose operators mean something else."""
    return any(isinstance(n, ast.JoinedStr) or isinstance(getattr(n, "value", None), str) for n in ast.walk(node))


def _copy_project(folder: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    if (ROOT.parent / "shared").exists():
        (folder.parent / "shared").symlink_to(ROOT.parent / "shared")


def _pytest(folder: Path, *arguments: str) -> tuple[bool, str]:
    """Run tests in a copy of the project, and return True if they pass, and what they print.

    Raises:
        SystemExit: pytest could not run the tests.
    """
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    try:
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False, f"no end within {TIMEOUT_S} s"
    if run.returncode not in (0, 1, 2, 4):  # 4: a named test is not found, as its file cannot be imported
        raise SystemExit(f"pytest ended with {run.returncode}: {run.stdout.decode()[-2000:]}")
    return run.returncode == 0, run.stdout.decode(errors="replace")


def reached_lines() -> dict[str, dict[int, list[str]]]:
    """Return, for each file of the package, the tests that reach each line.

    Raises:
        SystemExit: the tests fail in a copy without any change, so they cannot judge a change.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        _copy_project(folder)
        passed, output = _pytest(folder, "tests", "--cov", "--cov-context=test", "--cov-report=")
        if not passed:
            raise SystemExit(f"{output[-3000:]}\nThe tests fail without any change, so they cannot judge a change.")
        data = coverage.CoverageData(str(folder / ".coverage"))
        data.read()
        return {
            Path(file).relative_to(folder / "lgmpose").as_posix(): data.contexts_by_lineno(file)
            for file in data.measured_files()
        }


def noticed(mutation: Mutation, reached: dict[str, dict[int, list[str]]]) -> bool:
    """Return True if a test fails with this change, or does not end in time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        _copy_project(folder)
        file = folder / "lgmpose" / mutation.file
        text = file.read_text(encoding="utf-8")
        first = text[: text.index(mutation.old)].count("\n") + 1
        lines = range(first, first + mutation.old.count("\n") + 1)
        contexts = {context for line in lines for context in reached.get(mutation.file, {}).get(line, [])}
        tests = sorted({context.rpartition("|")[0] for context in contexts} - {""})
        room = f"tests/{mutation.file.split('/')[0]}/"
        tests.sort(key=lambda test: not test.startswith(room))  # those of its room first
        file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        if not tests:  # it runs at import, in another process, or in slow tests only
            tests = ["-m", "not long", room]
        return not _pytest(folder, "-x", "-n", "0", *tests)[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", action="store_true", help="try the listed changes")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="try N random changes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--places", nargs="+", default=PLACES, help="paths in lgmpose/ for the random changes")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    mutations = known_mutations() if options.known else []
    mutations += random_mutations(options.random, options.seed, tuple(options.places))
    reached = reached_lines() if mutations else {}
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(options.processes) as pool:
        results = pool.map(noticed, mutations, itertools.repeat(reached))
        for number, (mutation, seen) in enumerate(zip(mutations, results, strict=True), 1):
            missed += not seen
            print(f"[{number}/{len(mutations)}] {'noticed' if seen else 'MISSED '}  {mutation}", flush=True)
    print(f"{len(mutations) - missed} of {len(mutations)} changes noticed by the tests")
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
