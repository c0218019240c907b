"""A run's small files and manners: CSV logs that survive a kill, a polite stop, time worked and time left."""

from __future__ import annotations

import contextlib
import csv
import errno
import signal
import time
from pathlib import Path
from typing import Any

from lgmpose.errors import UserError
from lgmpose.files import write_atomically

__all__ = ["CsvLog", "StopRequest", "Stopwatch", "append_epoch", "duration", "exclusive", "one_at_a_time"]


@contextlib.contextmanager
def exclusive(run_dir: Path):
    """Holds a run's folder for this process; a kill lets go of it. (Without locks, as on Windows, it does nothing.)

    Raises:
        UserError: another process is training there, or the folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = run_dir / ".lock"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise UserError(f"{run_dir}: cannot be written ({error.strerror or error})") from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, not kept alive by loader processes
        except OSError as error:  # of another kind where the file system (a network's, say) has no locks
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise UserError(f"{run_dir}: another process is training there; choose another --out") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def one_at_a_time(lock_file: Path):
    """Waits until no other process is within the same block. (Without locks, as on Windows, it does nothing.)"""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


class StopRequest:
    """Turns Ctrl-C and SIGTERM into a wish that is granted at the end of a step, when the state is whole."""

    def __enter__(self):
        self.asked = False
        self._old = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._ask)
        except ValueError:  # not in the main thread: nothing to catch there
            pass
        return self

    def _ask(self, number, frame):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)


class Stopwatch:
    """The seconds that a run has worked, over all resumptions, and the pace of this process, which says what is left.

    Time that the process lay stopped (Ctrl-Z, SIGSTOP) is no work: the step that it fell into counts as an average one.
    """

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self._laps, self._worked, self._paused, self._old = 0, 0.0, False, None

    def __enter__(self):
        # Not on Windows, where nothing stops a process; nor, like all signals, outside the main thread.
        with contextlib.suppress(AttributeError, ValueError):
            self._old = signal.signal(signal.SIGCONT, self._go_on)
        return self

    def _go_on(self, number, frame):
        self._paused = True

    def __exit__(self, *_):
        if self._old is not None:
            signal.signal(signal.SIGCONT, self._old)

    def start(self) -> None:
        """Starts the next lap now: what has passed since the last one (an evaluation) was no training."""
        self._last, self._paused = time.monotonic(), False

    def lap(self) -> None:
        """Ends a lap, which is a step, and starts the next."""
        now = time.monotonic()
        elapsed = self.pace if self._paused else now - self._last
        self.seconds, self._worked, self._laps = self.seconds + elapsed, self._worked + elapsed, self._laps + 1
        self._last, self._paused = now, False

    @property
    def pace(self) -> float:
        """Seconds per step since this process began; 0 before the first."""
        return self._worked / max(self._laps, 1)


def append_epoch(path: Path, row: dict[str, Any]) -> None:
    """Adds an epoch's row; rows of epochs that a killed run had already logged are replaced."""
    rows = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < row["epoch"]]
    columns = list(dict.fromkeys(name for r in [*rows, row] for name in r))
    lines = [",".join("" if r.get(name) is None else str(r[name]) for name in columns) for r in [*rows, row]]
    write_atomically(path, ("\n".join([",".join(columns), *lines]) + "\n").encode())


class CsvLog:
    """A CSV that grows by rows; rows from ``position`` on, left by a killed run, are dropped at the start."""

    def __init__(self, path: Path, columns: tuple[str, ...], key: str, position: int, active: bool):
        self.active = active
        if not active:
            return
        kept = []
        if position and path.exists():
            with path.open(newline="") as file:
                kept = [r for r in csv.reader(file) if len(r) == len(columns)][1:]
            kept = [r for r in kept if int(r[columns.index(key)]) < position]
        write_atomically(path, "".join(",".join(r) + "\n" for r in [columns, *kept]).encode())
        self.file = path.open("a")

    def write(self, *values) -> None:
        if self.active:
            self.file.write(",".join(map(str, values)) + "\n")

    def flush(self) -> None:
        """Raises UserError where the disk is full."""
        try:
            if self.active:
                self.file.flush()
        except OSError as error:
            raise UserError(f"{self.file.name}: cannot be written ({error.strerror or error})") from error


def duration(seconds: float) -> str:
    """``2h05`` or ``3m20s``."""
    minutes = int(seconds // 60)
    return f"{minutes // 60}h{minutes % 60:02d}" if minutes >= 60 else f"{minutes}m{int(seconds % 60):02d}s"
