"""Compare what a student's code returned, or what a student predicted, with what is right, and say what differs."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["Different", "Missed", "NotAttempted", "ReturnsNothing", "a_type", "compare", "compare_prediction", "passed"]

passed: list[str] = []  # the tests of the present attempt that came out right; ``verdict`` empties it


class NotAttempted(Exception):
    """The task is still the empty stub."""


class ReturnsNothing(NotAttempted):
    """The attempt returned None. If it has code, a ``return`` is missing."""


class Different(Exception):
    """The attempt gives a wrong result. The message names the first difference."""


class Missed(Different):
    """A prediction is wrong. The message says in which direction; ``answer`` is the right answer as text."""

    def __init__(self, message: str, answer: str):
        super().__init__(message)
        self.answer = answer


def compare(got: Any, expected: Any, case: str, *, atol: float = 1e-5) -> None:
    """Raise an exception unless both are equal within ``atol``. Each call counts as one test.

    Args:
        got: what the attempt returned: a tensor, an array, a number, a string or a bool, or a tuple, list or dict of
            these.
        expected: the right result.
        case: what the attempt was called with, in words, for the message.
        atol: accepted difference: ``atol`` + ``atol`` × the expected value.

    Raises:
        NotAttempted: ``got`` is None or ``...``.
        Different: the type, the shape, the dtype or a value is wrong.
    """
    if got is None:
        raise ReturnsNothing(f"{case}: returns None. Is a `return` missing?")
    _compare(got, expected, case, atol)
    passed.append(case)


def _compare(got: Any, expected: Any, case: str, atol: float) -> None:
    if got is ...:
        raise NotAttempted
    if got is None:
        raise ReturnsNothing(f"{case} is None, expected a value")
    if isinstance(expected, (tuple, list)):
        if isinstance(got, (torch.Tensor, np.ndarray)):
            got = _listed(got)
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            size = f"{len(got)} values" if isinstance(got, (tuple, list)) else a_type(got)
            raise Different(f"{case}: returns {size}, expected {a_type(expected)} of {len(expected)}")
        for index, (one, other) in enumerate(zip(got, expected, strict=True)):
            _compare(one, other, f"{case}, result[{index}]", atol)
    elif isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            raise Different(f"{case}: expected a dict with the keys {', '.join(map(repr, expected))}")
        for key, value in expected.items():
            _compare(got[key], value, f"{case}, {key!r}", atol)
    elif isinstance(expected, (torch.Tensor, np.ndarray, numbers.Number)) and not isinstance(expected, bool):
        _compare_numbers(got, expected, case, atol)
    elif type(got := _plain(got)) is not type(expected):  # a bool of NumPy or PyTorch is as good as Python's
        raise Different(f"{case}: returns {got!r}, which is {a_type(got)}, expected {a_type(expected)}, {expected!r}")
    elif got != expected:
        raise Different(f"{case}: returns {got!r}, expected {expected!r}")


def _compare_numbers(got: Any, expected: Any, case: str, atol: float) -> None:
    try:
        theirs, ours = (
            np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value) for value in (got, expected)
        )
        theirs_float, ours_float = theirs.astype(np.float64), ours.astype(np.float64)
    except (TypeError, ValueError):
        raise Different(f"{case}: returns {a_type(got)}, expected numbers") from None
    if theirs.shape != ours.shape:
        if ours.ndim == 0:
            raise Different(f"{case}: an array of shape {theirs.shape}, expected one number")
        help_text = _rearranged(theirs_float, ours_float, atol)
        raise Different(f"{case}: the shape is {theirs.shape}, expected {ours.shape}{help_text}")
    wrong = np.argwhere(~np.isclose(theirs_float, ours_float, rtol=atol, atol=atol, equal_nan=True))
    if len(wrong):
        index = tuple(int(i) for i in wrong[0])
        help_text = _rearranged(theirs_float, ours_float, atol)
        cut = any(np.array_equal(theirs_float, to_whole(ours_float)) for to_whole in (np.round, np.floor, np.trunc))
        if theirs.dtype.kind in "biu" and ours.dtype.kind == "f" and cut:
            help_text += f"; its dtype is {theirs.dtype}, which has no fractions, expected {ours.dtype}"
        if abs(theirs_float[index] - ours_float[index]) <= 0.001 * abs(ours_float[index]):
            help_text += f"; nearly, but only {atol:g} + {atol:g} × the expected value is accepted"
        where = f" at index {index}" if index else ""
        theirs_shown, ours_shown = (_with_unit(values[index], "") for values in (theirs_float, ours_float))
        raise Different(f"{case}: {theirs_shown}{where}, expected {ours_shown}{help_text}")


def _rearranged(theirs: np.ndarray, ours: np.ndarray, atol: float) -> str:
    """Return how the right numbers have to be rearranged to give the student's array, or an empty text."""

    def same(candidate: np.ndarray) -> bool:
        return candidate.shape == theirs.shape and np.allclose(theirs, candidate, rtol=atol, atol=atol)

    if theirs.size != ours.size or ours.ndim == 0 or np.ptp(ours) == 0:
        return ""
    if theirs.shape != ours.shape and same(ours.reshape(theirs.shape)):
        return "; these are the right numbers in another shape"
    for order in itertools.permutations(range(ours.ndim)):
        if order != tuple(range(ours.ndim)) and same(ours.transpose(order)):
            return f"; these are the right numbers with the axes in the order {order}"
    for axis in range(ours.ndim):
        if same(np.flip(ours, axis)):
            return f"; these are the right numbers in reverse order along axis {axis}"
    return ""


def compare_prediction(
    prediction: Any,
    answer: Any,
    *,
    atol: float = 0.0,
    rtol: float = 0.0,
    unit: str = "",
    labels: bool = False,
    choices: Sequence[str] = (),
) -> str:
    """Raise an exception unless a prediction is close to the right answer. Its message never names the answer.

    Args:
        prediction: a number, a word, or a tuple, array, tensor or dict of them. Capitals do not matter in words.
        answer: the right answer, of the same kind.
        atol: accepted absolute difference.
        rtol: accepted difference relative to ``answer``.
        unit: printed behind the numbers, for example "%" or "pixels".
        labels: the numbers are names, for example of channels: none is too high or too low.
        choices: the words that the task offers. Another word gets a message that lists them.

    Returns:
        The answer and the tolerance: a sentence to print after "correct".

    Raises:
        NotAttempted: a number is still None or ``...``.
        Different: not the kind of answer that is asked for, or none of the choices.
        Missed: too high, too low, or another word.
    """
    pairs = prediction if isinstance(prediction, dict) else dict(enumerate(_listed(prediction)))
    values = {key: _plain(value) for key, value in pairs.items()}
    right = answer if isinstance(answer, dict) else dict(enumerate(_listed(answer)))
    if any(value is None or value is ... for value in values.values()):
        raise NotAttempted
    words = all(isinstance(value, str) for value in right.values())
    kind, name = (str, "word") if words else (numbers.Real, "number")
    if values.keys() != right.keys() or not all(isinstance(value, kind) for value in values.values()):
        wanted = f"{len(right)} {name}s" if isinstance(answer, (dict, tuple, list, np.ndarray)) else f"one {name}"
        wanted += " in quotation marks" if words else ""
        keys = f", with the keys {', '.join(map(repr, answer))}" if isinstance(answer, dict) else ""
        raise Different(f"the answer is {wanted} here{keys}")
    if others := [word for word in values.values() if choices and word.strip().lower() not in choices]:
        raise Different(f"{others[0]!r} is none of the choices: {', '.join(choices)}")
    judged, hits = [], 0
    for key, value in values.items():
        if words:
            hit = value.strip().lower() == right[key].lower()
        else:
            hit = bool(np.isclose(value, right[key], rtol=rtol, atol=atol))
        wrong = "wrong" if words or labels else "too high" if value > right[key] else "too low"
        hits += hit
        shown = f"{key!r}: " if isinstance(answer, dict) else ""
        shown += repr(value) if words else _with_unit(value, unit, digits=6)
        judged.append(f"{shown} is {'correct' if hit else wrong}")
    found = ", ".join(str(value) if words else _with_unit(value, unit, digits=4) for value in right.values())
    absolute = _with_unit(atol, "percentage points" if unit == "%" else unit)  # "5 %" would read as a relative one
    tolerance = f" ({f'{100 * rtol:g} %' if rtol else absolute} more or less is accepted)" if rtol or atol else ""
    if hits < len(right):
        raise Missed(", ".join(judged) + tolerance, found)
    return f"the answer is {found}{tolerance}"


def _with_unit(value: float, unit: str, digits: int = 6) -> str:
    whole = float(value).is_integer() and abs(value) < 1e15  # beyond, a float does not hold every digit
    number = f"{value:,.0f}" if whole else f"{value:.{digits}g}"
    one = value == 1 and len(unit) > 2  # "1 pixel", but "1 ms"
    return f"{number} {unit.removesuffix('s') if one else unit}".rstrip()


def _listed(value: Any) -> list:
    value = _plain(value)
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else [value]


def _plain(value: Any) -> Any:
    """Return a tensor or an array as a list, or as a number if it has no axes; and everything else as it is."""
    return value.tolist() if isinstance(value, (torch.Tensor, np.ndarray, np.generic)) else value


def a_type(value: Any) -> str:
    """Return the name of a value's type with its article, as in "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
