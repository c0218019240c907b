"""Downloads that are cut, wrong or too big, against a real local server; archives that want out of their folder."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import ssl
import stat
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from lgmpose.data.prepare import fetch as fetch_module
from lgmpose.data.prepare.fetch import extract, fetch
from lgmpose.errors import UserError

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server:
    """Serves CONTENT; can cut connections, ignore ranges, or answer with an error."""

    def __init__(self):
        self.requests: list[str | None] = []  # the Range header of each
        self.cut_after: list[int] = []  # for the next requests: bytes before the connection is dropped
        self.ranges, self.status, self.content = True, 200, CONTENT
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.bin"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler):
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if self.status != 200:
            handler.send_error(self.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        total = len(self.content)
        if start >= total:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{total}")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        handler.send_header("Content-Length", str(total - start))
        handler.end_headers()
        body = self.content[start:]
        if self.cut_after:
            body = body[: self.cut_after.pop(0)]
        with contextlib.suppress(ConnectionError):  # some tests hang up
            handler.wfile.write(body)

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def quick_fetch(*arguments, **options):
    return fetch(*arguments, wait_s=0.001, **options)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Behind a company's, urllib would ask it for this machine, too."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


def test_whole_file(server, tmp_path):
    target = tmp_path / "deep" / "file.bin"
    assert quick_fetch(server.url, target) == target
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["file.bin"]
    quick_fetch(server.url, target)  # there already
    assert server.requests == [None]


def test_cut_connections_are_resumed(server, tmp_path):
    server.cut_after = [100_000, 150_000]
    quick_fetch(server.url, tmp_path / "file.bin", retries=0)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requests[0] is None
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for wanted in server.requests[1:]]
    assert 0 < starts[0] < starts[1] <= 250_000


def test_interrupted_program_resumes(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:200_000])
    quick_fetch(server.url, tmp_path / "file.bin")
    assert server.requests == ["bytes=200000-"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT and os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("part", [CONTENT, bytes(len(CONTENT) + 1), b"x" * 1000])
def test_a_part_that_is_complete_too_long_or_cannot_be_continued(server, tmp_path, part):
    server.ranges = len(part) != 1000
    (tmp_path / "file.bin.part").write_bytes(part)
    quick_fetch(server.url, tmp_path / "file.bin")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.requests) == (2 if len(part) > len(CONTENT) else 1)


def test_gives_up_and_keeps_what_it_has(server, tmp_path, capsys):
    server.cut_after = [50_000] + [0] * 3
    with pytest.raises(UserError, match=r"file.bin.* 3 times .* 50000 bytes"):
        quick_fetch(server.url, tmp_path / "file.bin", retries=2)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:50_000]
    assert not (tmp_path / "file.bin").exists()
    pauses = [line.split()[-2] for line in capsys.readouterr().err.splitlines() if line.startswith(server.url)]
    assert pauses == ["0.001", "0.001", "0.002"]


def test_server_gone(tmp_path):
    server = Server()
    server.close()
    with pytest.raises(UserError, match=r"file.bin.* 3 times.*refused"):
        quick_fetch(server.url, tmp_path / "file.bin", retries=2)


def test_a_certificate_that_cannot_be_trusted_is_not_tried_again(tmp_path, monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed: it has expired"))

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(UserError, match="https://localhost/file.bin.*it has expired"):
        quick_fetch("https://localhost/file.bin", tmp_path / "file.bin")
    assert capsys.readouterr().err == ""


def test_a_network_that_is_lost_is_no_full_disk(server, tmp_path, monkeypatch):
    number = [errno.EHOSTUNREACH]

    class Lost(io.FileIO):
        def write(self, data):
            if number:
                raise OSError(number[0], os.strerror(number.pop()))
            return super().write(data)

    monkeypatch.setattr(fetch_module, "open", Lost, raising=False)  # it is read and written in one loop
    assert quick_fetch(server.url, tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_refusal_is_not_repeated(server, tmp_path):
    for status, tries in ((404, 1), (403, 1), (503, 3), (429, 3)):
        server.status, server.requests = status, []
        with pytest.raises(UserError, match=str(status)):
            quick_fetch(server.url, tmp_path / "file.bin", retries=2)
        assert len(server.requests) == tries


DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture
def full_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10**9, 10**9 - 10**6, 10**6))


def test_full_disk_stops_a_download_before_it_starts(server, tmp_path, full_disk):
    with pytest.raises(UserError, match="GB"):
        quick_fetch(server.url, tmp_path / "file.bin")
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_up_keeps_the_part(server, tmp_path, monkeypatch):
    class FullFile(io.FileIO):
        def write(self, data):
            if self.tell() >= 100_000:
                raise OSError(28, "No space left on device")
            return super().write(data[:100_000])

    monkeypatch.setattr(fetch_module, "CHUNK_BYTES", 50_000)
    monkeypatch.setattr(fetch_module, "open", FullFile, raising=False)
    with pytest.raises(UserError, match="file.bin.part.*No space left"):
        quick_fetch(server.url, tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()
    assert (tmp_path / "file.bin.part").stat().st_size == 100_000


# --- archives -----------------------------------------------------------------------------------------------------
def make_zip(path, members: dict[str, bytes], link: str | None = None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if link:
            info = zipfile.ZipInfo(link)
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc")
    return path


def make_tar(path, members: dict[str, bytes], link: str | None = None, kind: bytes = tarfile.SYMTYPE):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = kind, "/etc"
            archive.addfile(info)
    return path


MAKERS = pytest.mark.parametrize(("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar.gz")])


def everything_below(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@MAKERS
def test_extract(make, name, tmp_path):
    archive = make(tmp_path / name, {"images/a.jpg": b"aaa", "images/deep/b.jpg": b"bbbb", "joints.mat": b""})
    out = tmp_path / "out"
    extract(archive, out)
    assert everything_below(out) == ["images/a.jpg", "images/deep/b.jpg", "joints.mat"]
    assert (out / "images/deep/b.jpg").read_bytes() == b"bbbb"
    # Other files stay, and what is there of the same name is replaced.
    (out / "images/a.jpg").write_bytes(b"A")
    (out / "images/own.jpg").write_bytes(b"own")
    extract(archive, out)
    assert (out / "images/a.jpg").read_bytes() == b"aaa"
    assert everything_below(out) == ["images/a.jpg", "images/deep/b.jpg", "images/own.jpg", "joints.mat"]
    assert sorted(os.listdir(out)) == ["images", "joints.mat"]


@MAKERS
@pytest.mark.parametrize("member", ["../evil", "a/../../evil", "/etc/evil", "a/../../out_beside/evil"])
def test_members_outside_are_refused_or_land_inside(make, name, member, tmp_path):
    archive = make(tmp_path / name, {"good": b"1", member: b"2"})
    if make is make_zip or member.startswith("/"):  # zipfile and tarfile's filter change such names
        extract(archive, tmp_path / "out")
        inside = "/".join(part for part in member.split("/") if part not in ("", ".."))
        assert everything_below(tmp_path) == [name, *sorted(["out/good", f"out/{inside}"])]
        return
    with pytest.raises(UserError, match=f"{name}.*evil"):
        extract(archive, tmp_path / "out")
    assert everything_below(tmp_path) == [name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(kind, tmp_path):
    archive = make_tar(tmp_path / "a.tar.gz", {"good": b"1"}, link="odd", kind=kind)
    with pytest.raises(UserError, match="a.tar.gz"):
        extract(archive, tmp_path / "out")
    assert everything_below(tmp_path) == ["a.tar.gz"]


def test_a_link_in_a_zip_is_only_a_file(tmp_path):
    extract(make_zip(tmp_path / "a.zip", {}, link="images"), tmp_path / "out")
    assert not (tmp_path / "out/images").is_symlink() and (tmp_path / "out/images").read_text() == "/etc"


@MAKERS
def test_damaged_archives_leave_nothing(make, name, tmp_path):
    archive = make(tmp_path / name, {"a.bin": CONTENT[:200_000], "b.bin": CONTENT[200_000:300_000]})
    whole = archive.read_bytes()
    overwritten = whole[:1000] + bytes(10) + whole[1010:]
    checksum_wrong = whole[:-8] + bytes(4) + whole[-4:] if make is make_tar else overwritten
    for damaged in (whole[: len(whole) // 2], overwritten, checksum_wrong, b"<html>not found</html>", b""):
        archive.write_bytes(damaged)
        with pytest.raises(UserError, match=name):
            extract(archive, tmp_path / "out")
        assert everything_below(tmp_path) == [name]
    with pytest.raises(UserError, match="nowhere.zip"):
        extract(tmp_path / "nowhere.zip", tmp_path / "out")


@MAKERS
def test_full_disk_stops_unpacking_before_it_starts(make, name, tmp_path, full_disk):
    archive = make(tmp_path / name, {"a.bin": CONTENT})
    with pytest.raises(UserError, match="GB"):
        extract(archive, tmp_path / "out")
    assert everything_below(tmp_path) == [name]
