"""Mark handed-in notebooks: run each in its own process, and check its attempts from outside of it.

Verdicts that the notebook prints are ignored. The notebook's process hands over its attempts, and this process calls
them with the checks' own inputs. See ``notebooks/README.md`` for what is isolated and what is not.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import torch

from lgmpose.course.attempts import receive, restored, send
from lgmpose.course.checks import Different, Verdict, tasks_of, verdict
from lgmpose.errors import UserError
from lgmpose.files import check_writable, write_atomically

__all__ = ["Mark", "isolation", "mark_folder", "mark_notebook", "write_csv"]

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")


@dataclass
class Mark:
    """What a handed-in notebook is worth.

    Attributes:
        file: the notebook, relative to the folder.
        lesson: "05", or "" if it is none of the lessons.
        verdicts: for each task of the lesson, in order; without those that were never checked.
        problems: what a teacher should look at.
    """

    file: str
    lesson: str
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def points(self) -> int:
        """Return the sum of points of the correct tasks."""
        return sum(tasks_of(task)[task].points for task, said in self.verdicts.items() if said.status == "correct")

    @property
    def possible(self) -> int:
        """Return the points of all tasks of the lesson."""
        return sum(task.points for task in tasks_of(self.lesson).values())


@cache
def isolation() -> tuple[str, ...]:
    """Return the command that takes network and other processes away from a program; empty if this system has none."""
    if not shutil.which("unshare"):
        return ()
    tried = subprocess.run([*NAMESPACES, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return NAMESPACES if tried.returncode == 0 else ()


def mark_folder(folder: Path, seconds: float, file: Path) -> list[Mark]:
    """Mark every notebook in a folder and its subfolders, print a line for each, and return the marks.

    Args:
        folder: the handed-in notebooks.
        seconds: time limit of one notebook.
        file: the CSV file of the marks; written after each notebook, so that Ctrl-C loses none.

    Raises:
        UserError: the folder has no notebook, the time limit is not above 0, or the file cannot be written.
    """
    if not 0 < seconds < math.inf:
        raise UserError(f"seconds {seconds:g}: give a positive number")
    paths = sorted(path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    if not paths:
        raise UserError(f"{folder}: no notebook in this folder; hand over the folder with the students' .ipynb files")
    check_writable(file)
    if not isolation():
        print("No network isolation on this system (it needs Linux with unshare): use a machine without secrets.")
    marks = []
    for path in paths:
        mark = mark_notebook(path, path.relative_to(folder).as_posix(), seconds)
        print(f"{mark.file:40s} {mark.points:3d} of {mark.possible:3d} points  {'; '.join(mark.problems)}", flush=True)
        marks.append(mark)
        write_csv(marks, file)
    return marks


def mark_notebook(path: Path, name: str, seconds: float) -> Mark:
    """Run a notebook in its own process, and check each attempt that it hands over."""
    try:
        notebook = nbformat.read(path, as_version=4)
        text = "\n".join(cell.source for cell in notebook.cells)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    except Exception as error:  # whatever a file that is no notebook makes nbformat raise
        return Mark(name, "", problems=[f"no readable notebook: {str(error).splitlines()[0]}"])
    number = re.search(r"^# (\d\d) ·", text, re.MULTILINE) or re.search(r'check\("(\d\d)\.\d', text)
    mark = Mark(name, number[1] if number and tasks_of(number[1]) else "")
    if not mark.lesson:
        mark.problems.append("not a lesson: no title like '# 05 · ...'")
        return mark
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "handed_in.ipynb"
        shutil.copyfile(path, copy)
        with _started(copy, seconds) as (process, late):
            try:
                _exchange(process, mark)
            except (EOFError, OSError):
                reason = f"stopped after {seconds:g} s" if late.is_set() else "its process ended early"
                mark.problems.append(reason)
    claimed = set(re.findall(r"(\d\d\.\d+): correct", str(outputs)))
    forged = [task for task in sorted(claimed) if mark.verdicts.get(task, Verdict("", "")).status != "correct"]
    if forged:
        mark.problems.append(f"printed 'correct', but is not: {', '.join(forged)}")
    return mark


@contextlib.contextmanager
def _started(path: Path, seconds: float):
    """Yield the process that runs a notebook, and an event that is set when its time is over. Kill it at the end."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "SYSTEMROOT", "OMP_WAIT_POLICY") if key in os.environ}
    home = str(path.parent)
    environment = {**kept, "HOME": home, "IPYTHONDIR": home, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    process = subprocess.Popen(
        [*isolation(), sys.executable, "-m", "lgmpose.course.attempts", str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        cwd=path.parent, env=environment, start_new_session=True,
    )  # fmt: skip
    late = threading.Event()

    def stop() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()

    timer = threading.Timer(seconds, lambda: (late.set(), stop()))
    timer.start()
    try:
        yield process, late
    finally:
        timer.cancel()
        stop()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # unsent bytes for a process that is gone
                stream.close()


def _exchange(process: subprocess.Popen, mark: Mark) -> None:
    """Take attempts from a notebook's process and check them, until it says that it has ended."""

    def receive_message() -> dict[str, Any]:
        try:
            message = torch.load(io.BytesIO(receive(process.stdout)), weights_only=True)
            return {key: restored(value) for key, value in message.items()}
        except Exception as error:  # also no message of ours: the student's code wrote to the stream
            raise EOFError from error

    def call(*arguments: Any, **keywords: Any) -> Any:
        send(process.stdin, pickle.dumps((arguments, keywords, torch.is_grad_enabled())))
        reply = receive_message()
        if "different" in reply:
            raise Different(str(reply["different"]))
        if "error" in reply:
            raise RuntimeError(str(reply["error"]))
        return reply.get("result")

    while "end" not in (message := receive_message()):
        task = str(message.get("task"))
        attempt: Callable | Any = call if message.get("callable") else message.get("value")
        if task in tasks_of(mark.lesson):
            mark.verdicts[task] = verdict(task, attempt, misses=2)
        send(process.stdin, pickle.dumps(None))
    if message["end"]:
        mark.problems.append(str(message["end"]).splitlines()[0])


def write_csv(marks: list[Mark], file: Path) -> None:
    """Write one row for each notebook: file, lesson, points, possible points, problems, and a verdict for each task."""
    columns = max(len(tasks_of(mark.lesson)) for mark in marks)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["file", "lesson", "points", "of", "problems", *(f"task {i + 1}" for i in range(columns))])
    for mark in marks:
        said = [mark.verdicts.get(task, Verdict("missing", "missing")) for task in tasks_of(mark.lesson)]
        texts = [s.text if s.status != "wrong" else f"wrong: {s.text}" for s in said]
        cells = [mark.file, mark.lesson, mark.points, mark.possible, "; ".join(mark.problems), *texts]
        # A cell that starts with "=" would be a formula to a spreadsheet.
        writer.writerow([f"'{cell}" if str(cell)[:1] in "=+-@" and cell else cell for cell in cells])
    write_atomically(file, text.getvalue().encode())
