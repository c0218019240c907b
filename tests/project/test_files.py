"""Files of the package: locks that processes share."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest
from filelock import FileLock

from lgmpose.errors import UserError
from lgmpose.files import lock

TAKING_TURNS = """
import json, sys
from pathlib import Path
from lgmpose.files import lock
lock_file, file, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
for _ in range(20):
    with lock(lock_file):
        file.write_text(json.dumps([*json.loads(file.read_text()), name]))
"""


def test_processes_take_turns_behind_a_lock(tmp_path):
    file = tmp_path / "names.json"
    file.write_text("[]")
    command = [sys.executable, "-c", TAKING_TURNS, str(tmp_path / "folder" / ".lock"), str(file)]
    children = [subprocess.Popen([*command, name]) for name in ("a", "b")]
    assert [child.wait(60) for child in children] == [0, 0]
    assert sorted(json.loads(file.read_text())) == ["a"] * 20 + ["b"] * 20


def test_a_lock_that_is_held_is_refused_and_one_that_is_released_is_not(tmp_path):
    with lock(tmp_path / "run" / ".lock"):
        with pytest.raises(UserError, match="run: "), lock(tmp_path / "run" / ".lock", wait=False):
            pytest.fail("two inside")
    with lock(tmp_path / "run" / ".lock", wait=False):
        pass


@pytest.mark.parametrize("number, runs", [(errno.ENOLCK, True), (errno.EOPNOTSUPP, True), (errno.EROFS, False)])
def test_a_file_system_without_locks_is_no_error_but_one_that_cannot_be_written_is(tmp_path, monkeypatch, number, runs):
    def acquire(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", acquire)
    inside = []
    try:
        with lock(tmp_path / ".lock"):
            inside.append(1)
    except UserError as error:
        assert not runs and f"{tmp_path / '.lock'}: " in str(error)
    assert bool(inside) == runs
