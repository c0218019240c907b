"""Check the tasks of the course and give hints. ``check("05.1", yours)`` prints a verdict and never raises.

The module ``lessonNN`` has the tasks of a lesson: ``task`` decorates the function that checks one. CONTRIBUTING.md has
an example.
"""

from __future__ import annotations

import dis
import functools
import html
import importlib.util
import json
import re
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lgmpose.course.checks import comparison
from lgmpose.course.checks.comparison import (
    Different,
    Missed,
    NotAttempted,
    ReturnsNothing,
    a_type,
    compare,
    compare_prediction,
)

__all__ = [
    "Different", "Task", "Verdict", "check", "compare", "compare_prediction", "guarded", "has_code", "hint",
    "random_tensor", "randomised", "task", "tasks_of", "verdict",
]  # fmt: skip

LIBRARIES = {"lgmpose", "numpy", "scipy", "torch", "torchvision"}
POINTS = {"easy": 1, "medium": 2, "hard": 3}


@dataclass(frozen=True)
class Task:
    """A task of a lesson: how an attempt is checked, and what helps a student.

    Attributes:
        check: takes the attempt, a function or a value. It calls ``compare`` once for each test, or returns what
            ``compare_prediction`` returns.
        level: "easy", "medium" or "hard", as the notebook says it.
        way: for a prediction: how to find the answer. It is printed after the second wrong answer.
        forbidden: names of functions that the attempt must not call, for example "softmax" or "npt_op1".
        rule: what else is forbidden: a function of the attempt that returns a context manager, in which each call of
            the attempt runs. It raises ``Different``. Marking enters it in the process that runs the attempt.
    """

    check: Callable[[Any], str | None]
    level: str
    way: str = ""
    forbidden: tuple[str, ...] = ()
    rule: Callable[[Any], AbstractContextManager] = nullcontext

    @property
    def points(self) -> int:
        """Return 1, 2 or 3 points for the level."""
        return POINTS[self.level]


_declared: defaultdict[str, dict[str, Task]] = defaultdict(dict)  # lesson → number → task, in order of definition


def task(number: str, level: str, **options: Any) -> Callable[[Callable], Callable]:
    """Declare the function below as the check of a task.

    Args:
        number: lesson and number, for example "05.1".
        level: see ``Task``.
        options: ``way``, ``forbidden`` and ``rule``, see ``Task``.
    """

    def declare(function: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
        _declared[number[:2]][number] = Task(function, level, **options)
        return function

    return declare


class Verdict(NamedTuple):
    """What a check says: a status ("correct", "wrong", "not attempted" or "unknown task"), and a sentence."""

    status: str
    text: str


_hinted: Counter[str] = Counter()
_missed: defaultdict[str, set[str]] = defaultdict(set)


def check(task: str, attempt: Any) -> None:
    """Print the verdict on a task.

    After the first wrong prediction, it says whether the prediction is too high or too low. After the second, it says
    how to find the answer. After the third, it gives the answer.

    Args:
        task: lesson and number, for example "05.1".
        attempt: the reader's function or value. An empty stub (None, ``...``, or a function that returns one of them)
            counts as not attempted.
    """
    others = _missed[task] - {repr(attempt)}
    status, text = verdict(task, attempt, len(others))
    if status == "wrong":
        _missed[task].add(repr(attempt))
    print(f"{task}: {text}")


def hint(task: str) -> None:
    """Print the next hint for a task, for example "05.1". The lesson's notebook has all of them, folded."""
    task = str(task)
    tasks = tasks_of(task)
    hints = _folded_hints(task) if task in tasks else []
    if task not in tasks:
        print(f"{task}: {_unknown(task)}")
    elif not hints:
        print(f"{task}: the hints are folded below the task, in notebooks/{task[:2]}_*.ipynb")
    elif _hinted[task] < len(hints):
        _hinted[task] += 1
        print(f"{task}, hint {_hinted[task]} of {len(hints)}: {hints[_hinted[task] - 1]}")
    else:
        exercise = task in list(tasks)[-2:]  # each lesson ends with two exercises, whose solutions are not folded
        place = f"in notebooks/solutions/{task[:2]}_*.ipynb" if exercise else "folded below the task"
        print(f"{task}: no more hints. The solution is {place}.")


def _folded_hints(task: str) -> list[str]:
    """Return what the notebook has folded below a task. It is looked for here and beside the package."""
    folders = (Path.cwd(), Path.cwd() / "notebooks", Path(__file__).parents[3] / "notebooks")
    paths = [path for folder in folders for path in folder.glob(f"{task[:2]}_*.ipynb")]
    cells = json.loads(paths[0].read_text(encoding="utf-8"))["cells"] if paths else []
    texts = re.split(r"\*\*(?:Task|Exercise) ([\d.]+)\*\*", "\n".join("".join(cell["source"]) for cell in cells))
    text = dict(zip(texts[1::2], texts[2::2], strict=True)).get(task, "")
    hints = re.findall(r"<summary>Hint \d</summary>(.*?)</details>", text, re.DOTALL)
    return [html.unescape(re.sub("</?code>", "`", hint)) for hint in hints]


def tasks_of(task: str) -> dict[str, Task]:
    """Return all tasks of a task's lesson; none if there is no such lesson."""
    lesson = task[:2]
    name = f"lgmpose.course.checks.lesson{lesson}"
    if lesson.isdecimal() and lesson not in _declared and importlib.util.find_spec(name):
        importlib.import_module(name)
    return _declared.get(lesson, {})


def _unknown(task: str) -> str:
    known = tasks_of(task[:2]) or tasks_of(f"0{task[:1]}")
    shown = f"; known are {', '.join(known)}" if known else '; a lesson has two digits, as in "05.1"'
    return f"there is no such task{shown}"


def verdict(task: str, attempt: Any, misses: int = 0) -> Verdict:
    """Return the verdict on a task, see ``check``; ``misses`` is the number of wrong predictions before this one."""
    task = str(task)
    tasks = tasks_of(task)
    if task not in tasks:
        return Verdict("unknown task", _unknown(task))
    comparison.passed.clear()
    try:
        if attempt is None or attempt is ...:
            raise NotAttempted
        said = tasks[task].check(guarded(attempt, tasks[task]))
    except ReturnsNothing as nothing:
        if not has_code(attempt):
            return Verdict("not attempted", "not attempted yet")
        return Verdict("wrong", f"{_so_far()}{nothing}")
    except NotAttempted:
        return Verdict("not attempted", "not attempted yet")
    except Missed as missed:
        text = f"{missed}. {tasks[task].way}" if misses and tasks[task].way else str(missed)
        stop = "" if text.endswith((".", "?")) else "."
        return Verdict("wrong", f"{text}{stop} Answer: {missed.answer}" if misses >= 2 else text)
    except Different as difference:
        return Verdict("wrong", f"{_so_far()}{difference}")
    except Exception as error:  # an error in the reader's code is a result like any other
        if isinstance(error, TypeError) and not callable(attempt) and "not callable" in str(error):
            return Verdict("wrong", f"hand over the function itself, without brackets, not {a_type(attempt)}")
        return Verdict("wrong", f"{_so_far()}stops with {type(error).__name__}: {error}{_where(error)}")
    return Verdict("correct", f"correct: {said}" if said else "correct")


def _so_far() -> str:
    number = len(comparison.passed)
    return f"passes {'test 1' if number == 1 else f'tests 1 to {number}'}, fails test {number + 1}: " if number else ""


def _where(error: Exception) -> str:
    """Return the line of the reader's own code that led to the error. Code in a notebook cell has no file."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if "ipykernel" in frame.filename or frame.filename.startswith("<")
    ]
    return f" (line {lines[-1]} of its cell)" if lines else ""


def has_code(attempt: Any) -> bool:
    """Return whether a function does more than to return None."""
    code: CodeType | None = getattr(attempt, "__code__", None)
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP"}
    return code is not None and any(step.opname not in idle for step in dis.get_instructions(code))


def guarded(attempt: Any, task: Task) -> Any:
    """Return the attempt. A function raises ``Different`` if it does what the task forbids, or changes its input."""
    if not callable(attempt):
        return attempt

    @functools.wraps(attempt, updated=())
    def watched(*args, **kwargs):
        used: list[str] = []

        def watch(frame: FrameType, event: str, function: Any) -> None:
            if event == "c_call":
                names = [getattr(function, "__name__", "")]
            elif event == "call" and str(frame.f_globals.get("__name__")).partition(".")[0] in LIBRARIES:
                names = frame.f_code.co_qualname.split(".")  # a reader's own function may have the same name
            else:
                return
            used.extend(name for name in names if name in task.forbidden)

        given, profile = _contents(args), sys.getprofile()
        sys.setprofile(watch if task.forbidden else profile)
        try:
            with task.rule(attempt):
                result = attempt(*args, **kwargs)
        finally:
            sys.setprofile(profile)
        if used:
            raise Different(f"calls {used[0]}, which this task asks you to write yourself")
        if _contents(args) != given:
            raise Different("changes its input. Work on a copy: `x.clone()` of a tensor, `x.copy()` of an array")
        return result

    return watched


def _contents(values: tuple) -> list[bytes]:
    """Return the bytes of each tensor and array."""
    tensors = (value.detach() if isinstance(value, torch.Tensor) else value for value in values)
    return [np.asarray(tensor).tobytes() for tensor in tensors if isinstance(tensor, (torch.Tensor, np.ndarray))]


def random_tensor(seed: int, *shape: int) -> torch.Tensor:
    """Return standard normal random numbers. A seed always gives the same ones."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Fill a network with random weights, biases and running statistics, set eval mode, and return it.

    Initial values hide many mistakes: a BatchNorm that is left out changes nothing, and a bias adds 0.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if tensor.ndim > 1:  # keeps the standard deviation of activations near 1
                tensor.normal_(std=tensor[0].numel() ** -0.5, generator=generator)
            elif name.endswith(("running_var", "weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(std=0.3, generator=generator)
    return net.eval()
