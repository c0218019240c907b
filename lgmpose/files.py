"""Read JSON, write files atomically, lock them against other processes, and print to any console."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import secrets
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
from filelock import FileLock, Timeout

from lgmpose.errors import UserError

__all__ = [
    "as_type", "check_writable", "lock", "open_atomically", "print_anywhere", "read_json", "read_table", "read_text",
    "read_toml", "write_atomically",
]  # fmt: skip

T = TypeVar("T")


def print_anywhere() -> None:
    """Make ``print`` write "?" for characters that the output's encoding lacks ("σ" in a pipe on Windows)."""
    if hasattr(sys.stdout, "reconfigure"):  # a notebook replaces stdout by an object without it
        sys.stdout.reconfigure(errors="replace")


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file. A byte-order mark at its beginning is allowed.

    Raises:
        UserError: The file is missing, cannot be read, or is not JSON (cut short, an HTML error page, ...).
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also JSONDecodeError
        raise UserError(f"{path}: not valid JSON ({error}); fetch or copy the file again") from error


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the content of a TOML file. A byte-order mark at its beginning is allowed.

    Raises:
        UserError: The file is missing, cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # ValueError: also TOMLDecodeError
        raise UserError(f"{path}: not TOML ({error})") from error


def read_text(path: str | Path) -> str:
    """Return the content of a text file in UTF-8, with or without a byte-order mark.

    Raises:
        UserError: The file is missing, cannot be read, or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text in UTF-8 ({error.reason} at byte {error.start})") from error


def read_table(path: str | Path, kind: type[T], *, empty_cells: bool = False) -> list[T]:
    """Return the rows of a CSV file with a line of names, each as a type of msgspec.

    Empty cells are left out, unless ``empty_cells`` is set.

    Raises:
        UserError: The file is missing or cannot be read, or a row does not fit the type. The message names its line.
    """
    reader = csv.DictReader(io.StringIO(read_text(path)))
    rows: list[T] = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{path}: line {reader.line_num} has not {len(reader.fieldnames or ())} cells")
            cells = {name: value for name, value in row.items() if value or empty_cells}
            rows.append(as_type(cells, kind, f"{path}: line {reader.line_num}"))
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is not CSV ({error})") from error
    return rows


def as_type(content: Any, kind: type[T], source: str | Path, *, strict: bool = False) -> T:
    """Check decoded JSON against a type such as a ``msgspec.Struct``, and return it as an object of this type.

    Numbers may be given as text, unless ``strict`` is set.

    Raises:
        UserError: The content does not have this type. The message names the file and the wrong entry.
    """
    try:
        return msgspec.convert(content, kind, strict=strict)
    except (msgspec.ValidationError, UnicodeEncodeError, RecursionError) as error:
        raise UserError(f"{source}: {error} ($ is the whole content, [0] the first entry of a list)") from error


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write a file so that an interruption or a full disk leaves either the old file or the new one, complete.

    Its folder is created if missing.

    Raises:
        UserError: disk full, or folder not writable; the old file is unchanged.
    """
    with open_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomically(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file for ``write_atomically``, to be written piece by piece. After an error inside, the old file stays.

    Raises:
        UserError: as for ``write_atomically``.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: only their owner may read its files, and chmod would need the umask, and some disks refuse it.
        with open(path.parent / f".{path.name}.{secrets.token_hex(4)}", "xb") as file:
            temporary = file.name
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        kept = "; the previous file is unchanged" if os.path.exists(path) else ""  # Path.exists may raise
        raise UserError(f"{path}: cannot be written ({error.strerror or error}){kept}") from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def check_writable(path: str | Path) -> None:
    """Check, before long work, that a file can be written. Its folder is created if missing.

    Raises:
        UserError: it cannot.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise UserError(f"{path}: a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def lock(path: str | Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file: of several processes, one at a time is inside the block. A killed process releases its lock.

    Where the file system has no locks, the block runs without one.

    The lock file is created, with its folder, and stays there. ``wait`` False refuses instead of waiting.

    Raises:
        UserError: another process holds the lock (``wait=False``), or the file cannot be written.
    """
    path = Path(path)
    file_lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file_lock.acquire()
    except Timeout:
        raise UserError(f"{path.parent}: another process is working in this folder; choose another folder") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    try:
        yield
    finally:
        file_lock.release()
