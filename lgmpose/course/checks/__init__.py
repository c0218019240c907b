"""Checks what a reader of the course wrote: ``check("05.1", yours)`` prints a verdict and never raises.

The verdict is *not attempted yet*, *correct*, or what differs first: the shape, else the first index and both values.
Each lesson's exercises are in a module of their own, ``lessonNN``, whose ``EXERCISES`` says how each is tried: on
random weights and sizes with H ≠ W, by ``compare``.
"""

from __future__ import annotations

import importlib
import numbers
import traceback

import numpy as np
import torch
from torch import nn

__all__ = ["Different", "NotAttempted", "check", "compare", "randomised"]


class NotAttempted(Exception):
    """The exercise is still the stub it was handed out as."""


class Different(Exception):
    """The attempt gives something else than it should; the message says what differs first."""


def check(exercise: str, attempt) -> None:
    """Prints what becomes of an exercise.

    Args:
        exercise: lesson and number, "05.1".
        attempt: the reader's function, class or value; a blank stub (None, ``...``, or a function that returns them)
            counts as not attempted.
    """
    exercises = importlib.import_module(f"lgmpose.course.checks.lesson{exercise.partition('.')[0]}").EXERCISES
    try:
        if attempt is None or attempt is ...:
            raise NotAttempted
        exercises[exercise](attempt)
        verdict = "correct"
    except NotAttempted:
        verdict = "not attempted yet"
    except Different as difference:
        verdict = str(difference)
    except Exception as error:  # whatever the reader's code raises is an answer, too
        verdict = f"stops with {type(error).__name__}: {error}{_where(error)}"
    print(f"{exercise}: {verdict}")


def _where(error: Exception) -> str:
    """The last line of the reader's own code, which has no file, that led to the error."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if "ipykernel" in frame.filename or frame.filename.startswith("<")
    ]
    return f" (line {lines[-1]} of its cell)" if lines else ""


def compare(got, expected, case: str, *, atol: float = 1e-5) -> None:
    """Raises unless both are equal to ``atol``.

    Args:
        got: what the attempt gave: a tensor, an array, a number, a string or a bool, or a tuple, list or dict of these.
        expected: what is right.
        case: what the attempt was called with, in words, for the message.

    Raises:
        NotAttempted: ``got`` is None or ``...``.
        Different: another type, shape or value.
    """
    if got is None or got is ...:
        raise NotAttempted
    if isinstance(expected, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            size = f"{len(got)} things" if isinstance(got, (tuple, list)) else f"a {type(got).__name__}"
            raise Different(f"{case}: gives {size} where a {type(expected).__name__} of {len(expected)} is right")
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            compare(one, other, f"{case}, result[{index}]", atol=atol)
    elif isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            raise Different(f"{case}: gives other keys than {', '.join(map(repr, expected))}")
        for key, value in expected.items():
            compare(got[key], value, f"{case}, {key!r}", atol=atol)
    elif isinstance(expected, (torch.Tensor, np.ndarray, numbers.Number)) and not isinstance(expected, bool):
        _compare_numbers(got, expected, case, atol)
    elif type(got) is not type(expected) or got != expected:
        raise Different(f"{case}: gives {got!r} where {expected!r} is right")


def _compare_numbers(got, expected, case: str, atol: float) -> None:
    try:
        ours, theirs = (
            np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value, np.float64)
            for value in (expected, got)
        )
    except (TypeError, ValueError):
        raise Different(f"{case}: gives a {type(got).__name__} where numbers are right") from None
    if theirs.shape != ours.shape:
        raise Different(f"{case}: has the shape {theirs.shape} where {ours.shape} is right")
    # An absolute tolerance for small numbers, the same relative one for large.
    wrong = np.argwhere(~np.isclose(theirs, ours, rtol=atol, atol=atol, equal_nan=True))
    if len(wrong):
        index = tuple(int(i) for i in wrong[0])
        where = f" at index {index}" if index else ""
        raise Different(f"{case}: {theirs[index]:.6g}{where} where {ours[index]:.6g} is right")


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Fills a network with random weights, biases and running statistics; eval mode. Changes ``net`` and returns it.

    At their initial values, many mistakes cannot be seen: a BatchNorm that is left out changes nothing, a bias adds 0.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if tensor.ndim > 1:  # keeps the spread of what flows through about 1
                tensor.normal_(std=tensor[0].numel() ** -0.5, generator=generator)
            elif name.endswith(("running_var", "weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(std=0.3, generator=generator)
    return net.eval()
