"""Spoil input files in many small ways and open them. Each case must end in a result or in the project's own error.

    python tests/fuzz.py --cases 10000               all kinds; about 20 minutes on one core
    python tests/fuzz.py --cases 500 --kinds coco    one kind
    python tests/fuzz.py --kinds coco --only 1234    one case again, with its traceback

A case is a kind and a number, which seeds its random changes, so that every case can be repeated. Each kind runs in a
process of its own: a library that ends the process is a fault, too. How the kinds' files are made and opened is in
``fuzz_kinds.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Outcome", "run_case", "spoil_bytes", "spoil_json", "spoil_text", "spoil_tree"]

Outcome = tuple[str, str]  # "result", "refused" or "fault", and the error's text
SECONDS = 60  # a case that takes longer is a fault

# What takes the place of a value: other types, numbers at the limits, texts that are no names.
WEIRD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**53 + 1, 10**30, -(10**30), 0.5, -0.0, 1e-300, 1e308, math.nan, math.inf,
    -math.inf, "", "a", "1", "-1", "nan", "1e400", "\ud800", "ä", "person", "../../x", "a/" * 300, "x" * 5000, [], {},
    [1], [[]], [None], {"a": 1}, {"id": 1}, [1, 2, 3, 4], ["a", "b"],
)  # fmt: skip


def spoil_tree(rng: random.Random, tree: Any, depth: int = 12) -> Any:
    """Change one to three places of nested dicts and lists in place; return the tree, or what has replaced it."""
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.02 or not isinstance(tree, dict | list) or not tree:
            return rng.choice(WEIRD)
        _spoil_place(rng, tree, depth)
    return tree


def _spoil_place(rng: random.Random, tree: Any, depth: int) -> None:
    node = tree
    for _ in range(depth):
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        child = node[key]
        if not isinstance(child, dict | list) or not child or rng.random() < 0.15:
            break
        node = child
    change = rng.random()
    if change < 0.6:
        node[key] = rng.choice(WEIRD)
    elif change < 0.75:
        del node[key]
    elif change < 0.8 and isinstance(child, str | int | float):
        node[key] = str(child) if not isinstance(child, str) else [child]
    elif change < 0.85 and isinstance(child, int | float) and not isinstance(child, bool):
        node[key] = child * rng.choice((-1, 0, 1e-9, 1000, 10**12))
    elif change < 0.9:
        node[key] = [child]
    elif isinstance(node, list):
        node.extend([child] * rng.choice((1, 30)))
    else:
        node[f"{key} "] = node.pop(key)


def spoil_bytes(rng: random.Random, data: bytes) -> bytes:
    """Change a file's bytes in one to three ways: flipped, cut short, removed, repeated, inserted or blanked."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        # Headers hold what decides how the rest is read, so that half of the changes are there.
        at = rng.randrange(min(len(changed), 200) if rng.random() < 0.5 else len(changed)) if changed else 0
        length = rng.choice((1, 2, 4, 16, 200))
        change = rng.randrange(7)
        if change == 0:
            for _ in range(length):
                if changed:
                    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        elif change == 1:
            del changed[at:]
        elif change == 2:
            del changed[at : at + length]
        elif change == 3:
            changed[at:at] = changed[at : at + length]
        elif change == 4:
            changed[at:at] = rng.randbytes(length)
        elif change == 5:
            changed[at : at + length] = bytes([rng.choice((0, 0xFF, 0x7F, 0x80))]) * min(length, len(changed) - at)
        elif at < len(changed):
            changed[at] = rng.randrange(256)
    return bytes(changed)


def spoil_json(rng: random.Random, content: Any) -> bytes:
    """Return JSON with changed values; in one case of eight its text is changed instead."""
    if rng.random() < 0.125:
        text = json.dumps(content).encode()
        return rng.choice((lambda: spoil_bytes(rng, text), lambda: b"\xef\xbb\xbf" + text, lambda: b"[" * 100_000))()
    return json.dumps(spoil_tree(rng, json.loads(json.dumps(content)))).encode()


def spoil_text(rng: random.Random, text: str) -> bytes:
    """Return a text file of lines and words (CSV, YAML, labels) with changed words or lines, or changed bytes."""
    if rng.random() < 0.25:
        return spoil_bytes(rng, text.encode())
    lines = text.split("\n")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        change = rng.randrange(4)
        if change == 0:
            del lines[at]
            lines = lines or [""]
        elif change == 1:
            lines.insert(at, rng.choice(lines))
        else:
            separator = "," if "," in lines[at] else " "
            words = lines[at].split(separator)
            word = str(rng.choice(WEIRD)).encode("utf-8", "replace").decode()
            words[rng.randrange(len(words))] = rng.choice((word, ""))
            lines[at] = separator.join(words)
    return "\n".join(lines).encode("utf-8", "replace")


def run_case(kind: Any, number: int, folder: Path) -> Outcome:
    """Spoil a file of a kind and open it.

    Args:
        kind: of ``fuzz_kinds.KINDS``, whose ``build`` has filled the folder.
        number: of the case.
        folder: of the kind's files.
    """
    from lgmpose.errors import UserError

    rng = random.Random(f"{kind.name} {number}")
    case = folder / "case"
    case.mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _no_warnings():
        file = kind.spoil(rng, folder, case, number)
        try:
            kind.use(file, folder)
        except UserError as error:
            # One line; and the place that is named must be the file, not only what is wrong with it.
            text = str(error)
            return ("refused", text) if "\n" not in text.strip() else ("fault", f"an error of several lines: {text}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return "fault", traceback.format_exc()
        finally:
            shutil.rmtree(case, ignore_errors=True)
    return "result", ""


@contextlib.contextmanager
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _run_kind(name: str, first: int, last: int, write: Callable[[str], object]) -> None:
    """Run cases of one kind in this process; write one line of JSON before and after each."""
    from fuzz_kinds import KINDS

    kind = KINDS[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        kind.build(folder)
        for number in range(first, last):
            write(json.dumps(["begin", number, 0]))
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            start = time.perf_counter()
            outcome = run_case(kind, number, folder)
            faulthandler.cancel_dump_traceback_later()
            write(json.dumps([*outcome, time.perf_counter() - start]))


def _supervise(name: str, count: int) -> tuple[Counter[str], list[tuple[int, str]], float]:
    """Run cases of one kind in processes; a process that ends early costs one case.

    Returns:
        How many cases had which outcome, the faults, and the longest time of a case.
    """
    outcomes, faults, longest, done = Counter[str](), [], 0.0, 0
    while done < count:
        command = [sys.executable, __file__, "--worker", name, str(done), str(count)]
        with tempfile.TemporaryFile() as errors:
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            assert worker.stdout is not None
            at = None
            for line in worker.stdout:
                kind, text, seconds = json.loads(line)
                if kind == "begin":
                    at = text
                    continue
                done, at, longest = done + 1, None, max(longest, seconds)
                outcomes[kind] += 1
                if kind == "fault":
                    faults.append((done - 1, text))
            status = worker.wait()
            if status and at is None:  # before the first case, or between two
                errors.seek(0)
                raise SystemExit(f"{name}: {errors.read().decode(errors='replace')}")
            if at is not None:
                errors.seek(0)
                outcomes["fault"] += 1
                faults.append(
                    (at, f"the process ended with status {status}: {errors.read()[-600:].decode(errors='replace')}")
                )
                done = at + 1
    return outcomes, faults, longest


def main() -> int:
    """Run the cases and print how each kind ended; return 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="number of cases, shared by the kinds")
    parser.add_argument("--kinds", nargs="*", help="only these kinds")
    parser.add_argument("--only", type=int, help="one case, with its traceback; needs one kind")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        out = sys.stdout
        name, first, last = options.worker[0], int(options.worker[1]), int(options.worker[2])
        _run_kind(name, first, last, lambda line: print(line, file=out, flush=True))
        return 0
    from fuzz_kinds import KINDS

    names = options.kinds or list(KINDS)
    if options.only is not None:
        with tempfile.TemporaryDirectory() as temporary:
            KINDS[names[0]].build(Path(temporary))
            print(*run_case(KINDS[names[0]], options.only, Path(temporary)), sep="\n")
        return 0
    total, shares, failed = sum(KINDS[name].share for name in names), {}, False
    for name in names:
        shares[name] = max(1, round(options.cases * KINDS[name].share / total))
    print(
        f"{'kind':<22}{'cases':>7}{'results':>9}{'refused':>9}{'faults':>8}{'minutes':>9}{'longest s':>11}", flush=True
    )
    for name in names:
        start = time.perf_counter()
        outcomes, faults, longest = _supervise(name, shares[name])
        minutes = (time.perf_counter() - start) / 60
        print(f"{name:<22}{shares[name]:>7}{outcomes['result']:>9}{outcomes['refused']:>9}{outcomes['fault']:>8}"
              f"{minutes:>9.1f}{longest:>11.1f}", flush=True)  # fmt: skip
        for number, text in faults[:20]:
            print(f"\n{name} {number}:\n{text}", flush=True)
        failed = failed or bool(faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
