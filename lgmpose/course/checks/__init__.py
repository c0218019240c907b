"""Check the exercises of the course. ``check("05.1", yours)`` prints a verdict and never raises.

The verdict is "not attempted yet", "correct", or the first difference: a shape, or an index with both values. The
module ``lessonNN`` has the exercises of a lesson: its ``EXERCISES`` maps each number to a function that takes the
attempt and calls it with random weights and sizes with H ≠ W.
"""

from __future__ import annotations

import importlib
import numbers
import traceback

import numpy as np
import torch
from torch import nn

__all__ = ["Different", "NotAttempted", "check", "compare", "compare_prediction", "randomised", "verdict"]


class NotAttempted(Exception):
    """The exercise is still the empty stub."""


class Different(Exception):
    """The attempt gives a wrong result. The message names the first difference."""


def check(exercise: str, attempt) -> None:
    """Print the verdict on an exercise.

    Args:
        exercise: lesson and number, for example "05.1".
        attempt: the reader's function, class or value. An empty stub (None, ``...``, or a function that returns one of
            them) counts as not attempted.
    """
    print(f"{exercise}: {verdict(exercise, attempt)}")


def verdict(exercise: str, attempt) -> str:
    """Return the verdict on an exercise: "correct", "not attempted yet", or what is wrong. See ``check``."""
    exercises = importlib.import_module(f"lgmpose.course.checks.lesson{exercise.partition('.')[0]}").EXERCISES
    try:
        if attempt is None or attempt is ...:
            raise NotAttempted
        exercises[exercise](attempt)
    except NotAttempted:
        return "not attempted yet"
    except Different as difference:
        return str(difference)
    except Exception as error:  # an error in the reader's code is a result like any other
        return f"stops with {type(error).__name__}: {error}{_where(error)}"
    return "correct"


def _where(error: Exception) -> str:
    """Return the line of the reader's own code that led to the error. Code in a notebook cell has no file."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if "ipykernel" in frame.filename or frame.filename.startswith("<")
    ]
    return f" (line {lines[-1]} of its cell)" if lines else ""


def compare(got, expected, case: str, *, atol: float = 1e-5) -> None:
    """Raise an exception unless both are equal within ``atol``.

    Args:
        got: what the attempt returned: a tensor, an array, a number, a string or a bool, or a tuple, list or dict of
            these.
        expected: the right result.
        case: what the attempt was called with, in words, for the message.
        atol: absolute tolerance for small numbers; for large numbers the same value is a relative tolerance.

    Raises:
        NotAttempted: ``got`` is None or ``...``.
        Different: the type, the shape or a value is wrong.
    """
    if got is None or got is ...:
        raise NotAttempted
    if isinstance(expected, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            size = f"{len(got)} values" if isinstance(got, (tuple, list)) else f"a {type(got).__name__}"
            raise Different(f"{case}: returns {size}, expected a {type(expected).__name__} of {len(expected)}")
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            compare(one, other, f"{case}, result[{index}]", atol=atol)
    elif isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            raise Different(f"{case}: expected a dict with the keys {', '.join(map(repr, expected))}")
        for key, value in expected.items():
            compare(got[key], value, f"{case}, {key!r}", atol=atol)
    elif isinstance(expected, (torch.Tensor, np.ndarray, numbers.Number)) and not isinstance(expected, bool):
        _compare_numbers(got, expected, case, atol)
    elif type(got) is not type(expected) or got != expected:
        raise Different(f"{case}: returns {got!r}, expected {expected!r}")


def _compare_numbers(got, expected, case: str, atol: float) -> None:
    try:
        theirs, ours = (
            np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value, np.float64)
            for value in (got, expected)
        )
    except (TypeError, ValueError):
        raise Different(f"{case}: returns a {type(got).__name__}, expected numbers") from None
    if theirs.shape != ours.shape:
        raise Different(f"{case}: the shape is {theirs.shape}, expected {ours.shape}")
    wrong = np.argwhere(~np.isclose(theirs, ours, rtol=atol, atol=atol, equal_nan=True))
    if len(wrong):
        index = tuple(int(i) for i in wrong[0])
        where = f" at index {index}" if index else ""
        raise Different(f"{case}: {theirs[index]:.6g}{where}, expected {ours[index]:.6g}")


def compare_prediction(prediction, measured, *, atol: float = 0.0, rtol: float = 0.0) -> None:
    """Raise an exception unless a predicted number, or tuple of numbers, is close to what was measured.

    Args:
        prediction: a number or a tuple of numbers.
        measured: the right number or numbers.
        atol: accepted absolute difference.
        rtol: accepted difference relative to ``measured``.

    Raises:
        NotAttempted: a number is still None or ``...``.
        Different: another number of values, or a value too far from the measured one.
    """
    values = tuple(prediction) if isinstance(prediction, (tuple, list, np.ndarray)) else (prediction,)
    if any(value is None or value is ... for value in values):
        raise NotAttempted
    size = np.size(measured)
    if not all(isinstance(value, numbers.Real) for value in values) or np.shape(prediction) != np.shape(measured):
        raise Different(f"a prediction is {'one number' if size == 1 else f'a tuple of {size} numbers'} here")
    if not np.allclose(prediction, measured, rtol=rtol, atol=atol):
        said, found = (", ".join(f"{value:.4g}" for value in np.ravel(row)) for row in (prediction, measured))
        within = f"{rtol:.0%}" if rtol else f"{atol:g}"
        raise Different(f"predicted {said}; measured {found} (accepted within {within})")


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
