"""Run a handed-in notebook, and let the marking process call the attempts in it.

``lgmpose.course.marking`` starts this module as a program. The two processes talk by framed messages. What comes from
here is read without pickle, so that it can be nothing but numbers, texts and containers.
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import sys
from pathlib import Path
from types import EllipsisType
from typing import Any, BinaryIO

import numpy as np
import torch

from lgmpose.course import checks

__all__ = ["MAX_BYTES", "receive", "reply", "restored", "run", "send", "serve"]

MAX_BYTES = 1 << 28  # of one message


def send(stream: BinaryIO, data: bytes) -> None:
    """Write one message: its length in eight bytes, then the bytes."""
    stream.write(len(data).to_bytes(8, "big") + data)
    stream.flush()


def receive(stream: BinaryIO) -> bytes:
    """Read one message; raises EOFError if the other side is gone or the message is too long."""
    size = int.from_bytes(stream.read(8), "big")
    data = stream.read(size) if 0 < size <= MAX_BYTES else b""
    if not data or len(data) < size:
        raise EOFError("no further message")
    return data


def plain(value: Any) -> Any:
    """Return a value as numbers, texts, tensors and containers; a text for anything else."""
    if type(value) in (bool, int, float, str, type(None)):
        return value
    if isinstance(value, EllipsisType):
        return {"ellipsis": True}
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"array": torch.from_numpy(np.ascontiguousarray(value))}
    if isinstance(value, (tuple, list)):
        return (list if isinstance(value, list) else tuple)(map(plain, value))
    if isinstance(value, set):
        return {"set": list(map(plain, value))}
    if isinstance(value, dict):
        return {"dict": {plain(key): plain(item) for key, item in value.items()}}
    return f"a {type(value).__name__}"


def restored(value: Any) -> Any:
    """Undo ``plain``."""
    if isinstance(value, dict):
        if "array" in value:
            return value["array"].numpy()
        if "set" in value:
            return set(map(restored, value["set"]))
        return ... if "ellipsis" in value else {key: restored(item) for key, item in value["dict"].items()}
    return type(value)(map(restored, value)) if isinstance(value, (tuple, list)) else value


def reply(stream: BinaryIO, **message: Any) -> None:
    """Send values to the marking process."""
    data = io.BytesIO()
    torch.save({key: plain(value) for key, value in message.items()}, data)
    send(stream, data.getvalue())


def serve(requests: BinaryIO, replies: BinaryIO, task: str, attempt: Any) -> None:
    """Hand over an attempt, and call it as often as the marking process asks for it."""
    task = str(task)
    declared = checks.tasks_of(task).get(task)
    guarded = checks.guarded(attempt, declared) if declared else attempt
    reply(replies, task=task, value=... if callable(attempt) else attempt, callable=callable(attempt))
    while request := pickle.loads(receive(requests)):
        arguments, keywords, gradients = request
        try:
            with torch.set_grad_enabled(gradients):
                result = guarded(*arguments, **keywords)
            reply(replies, result=... if result is None and not checks.has_code(attempt) else result)
        except checks.Different as difference:
            reply(replies, different=str(difference))
        except Exception as error:
            reply(replies, error=f"{type(error).__name__}: {error}")


def run(path: Path, requests: BinaryIO, replies: BinaryIO) -> None:
    """Run all cells of a notebook. Each ``check`` waits until the marking process has called the attempt."""
    import nbformat
    from IPython.core.interactiveshell import InteractiveShell

    checks.check = functools.partial(serve, requests, replies)
    shell = InteractiveShell.instance()
    problem = ""
    for number, cell in enumerate((c for c in nbformat.read(path, 4).cells if c.cell_type == "code"), 1):
        outcome = shell.run_cell(cell.source, store_history=False)
        error = outcome.error_before_exec or outcome.error_in_exec
        if error and not problem:
            problem = f"code cell {number}: {type(error).__name__}: {error}"
    reply(replies, end=problem)


if __name__ == "__main__":
    # Prints of the notebook must not mix with messages.
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    run(Path(sys.argv[1]), incoming, outgoing)
