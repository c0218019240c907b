"""The CSV logs of a run's folder, and requests to stop a run."""

from __future__ import annotations

import csv
import io
import signal
from pathlib import Path
from typing import Any

from lgmpose.errors import UserError
from lgmpose.files import read_table, read_text, write_atomically

__all__ = ["LOSS_COLUMNS", "StopRequest", "append_epoch", "append_losses", "read_log", "start_losses"]

LOSS_COLUMNS = ("step", "epoch", "learning_rate", "loss")


class StopRequest:
    """Defers Ctrl-C and SIGTERM: within the block they set ``asked``. A second signal raises KeyboardInterrupt."""

    asked = False

    def __enter__(self) -> StopRequest:
        self._handlers: dict[signal.Signals, Any] = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask)
        except ValueError:  # only the main thread can handle signals
            pass
        return self

    def _ask(self, number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def append_epoch(path: Path, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Add the row of an epoch to ``log.csv``, after the rows of earlier epochs; return all rows.

    Rows of this epoch and later ones were left by an interrupted run and are dropped.

    Raises:
        UserError: see ``read_log``, or the file cannot be written.
    """
    rows: list[dict[str, Any]] = []
    if path.exists():
        texts = read_table(path, dict[str, str], empty_cells=True)  # as they were written: no digit changes
        rows = [old for old, read in zip(texts, read_log(path), strict=True) if read["epoch"] < row["epoch"]]
    rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")  # quotes names that contain a comma
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
    return rows


def read_log(path: str | Path) -> list[dict[str, int | float]]:
    """Return the rows of ``log.csv``, one per epoch. What an epoch did not measure is left out.

    Raises:
        UserError: the file is missing or damaged, or a row has no epoch.
    """
    rows = read_table(path, dict[str, int | float])
    for number, row in enumerate(rows):
        if not isinstance(row.get("epoch"), int):
            raise UserError(f"{path}: row {number + 1} has no epoch, a whole number")
    return rows


def start_losses(path: Path, step: int) -> None:
    """Begin ``loss.csv``, or keep its rows before ``step`` and drop what an interrupted run has left after it.

    Raises:
        UserError: the file cannot be read or written, or a row is damaged.
    """
    kept = []
    if step and path.exists():
        lines = [line.split(",") for line in read_text(path).splitlines()]
        for number, row in enumerate(lines[1:], 2):
            if len(row) != len(LOSS_COLUMNS) or not row[0].isdecimal():
                if number == len(lines):  # the last may be incomplete
                    break
                raise UserError(f"{path}: line {number} is damaged; move this file away to resume without it")
            if int(row[0]) < step:
                kept.append(row)
    write_atomically(path, "".join(",".join(row) + "\n" for row in [LOSS_COLUMNS, *kept]).encode())


def append_losses(path: Path, rows: list[tuple]) -> None:
    """Add rows of ``LOSS_COLUMNS`` to ``loss.csv``.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with path.open("a") as file:
            file.writelines(",".join(map(str, row)) + "\n" for row in rows)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
