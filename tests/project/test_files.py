"""Files written atomically, and locks that processes share."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys

import pytest
from filelock import FileLock

from lgmpose.errors import UserError
from lgmpose.files import lock, read_json, read_toml, write_atomically

TAKING_TURNS = """
import json, sys
from pathlib import Path
from lgmpose.files import lock, read_json, write_atomically
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


@pytest.mark.skipif(sys.platform == "win32", reason="no umask there")
def test_files_have_the_rights_that_new_ones_have(tmp_path, monkeypatch):
    def chmod(*_, **__):  # as on vfat
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chmod", chmod)
    for umask, mode in ((0o022, 0o644), (0o027, 0o640), (0o002, 0o664)):
        before = os.umask(umask)
        try:
            write_atomically(tmp_path / "file", b"x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "last.pt"
    write_atomically(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # a file may grow to 4 KB: the write fails midway
    try:
        with pytest.raises(UserError, match="last.pt: "):
            write_atomically(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_json_is_read_with_or_without_a_byte_order_mark(tmp_path):
    for start in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "x.json").write_bytes(start + '{"σ": 2}'.encode())
        assert read_json(tmp_path / "x.json") == {"σ": 2}
    for content in (b"{", b"<html>", b"\xff\xfe{", b"[" * 100_000):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(UserError, match="x.json"):
            read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match="none.json"):
        read_json(tmp_path / "none.json")


def test_toml_with_and_without_a_byte_order_mark(tmp_path):
    file = tmp_path / "sets.toml"
    for start in ("", "\ufeff"):
        file.write_text(f"{start}a = 1\n", encoding="utf-8")
        assert read_toml(file) == {"a": 1}
    for content in (b"a = ", b"\xff", b"a = " + b"[" * 5000):
        file.write_bytes(content)
        with pytest.raises(UserError, match="sets.toml: not "):
            read_toml(file)
    with pytest.raises(UserError, match="none.toml: no such file"):
        read_toml(tmp_path / "none.toml")
