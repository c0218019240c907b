"""Downloads that are cut, wrong or too big, against a real local server; archives that want out of their folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
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
from scipy.io import savemat

from lgmpose.cli import main
from lgmpose.data import fetch as fetch_module
from lgmpose.data import load_records, prepare
from lgmpose.data.prepare.fetch import HASH_FILE, check_sha256, extract, fetch, record_sha256
from lgmpose.errors import UserError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


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
    return fetch(*arguments, wait_s=0.001, progress=False, **options)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Behind a company's, urllib would ask it for this machine, too."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


def test_whole_file(server, tmp_path):
    target = tmp_path / "deep" / "file.bin"
    assert quick_fetch(server.url, target, size=len(CONTENT), sha256=SHA256.upper()) == target
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["file.bin"]  # a hash is recorded only when the file has been used
    record_sha256(target, record_in=target.parent)
    assert (target.parent / HASH_FILE).read_text() == f"{SHA256}  file.bin\n"
    quick_fetch(server.url, target)  # there already
    assert len(server.requests) == 1


def test_cut_connections_are_resumed(server, tmp_path):
    server.cut_after = [1_000_000, 1_500_000]
    quick_fetch(server.url, tmp_path / "file.bin", sha256=SHA256, retries=0)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requests[0] is None
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for wanted in server.requests[1:]]
    assert 0 < starts[0] < starts[1] <= 2_500_000


def test_interrupted_program_goes_on_where_it_stopped(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:2_000_000])
    quick_fetch(server.url, tmp_path / "file.bin", sha256=SHA256)
    assert server.requests == ["bytes=2000000-"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_complete_part_is_only_renamed(server, tmp_path, size):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    quick_fetch(server.url, tmp_path / "file.bin", size=size, sha256=SHA256)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.requests) == (1 if size is None else 0)


def test_part_of_another_file_is_replaced(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(bytes(len(CONTENT) + 1))
    quick_fetch(server.url, tmp_path / "file.bin", sha256=SHA256)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_server_without_ranges(server, tmp_path):
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    quick_fetch(server.url, tmp_path / "file.bin", sha256=SHA256)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_gives_up_and_keeps_what_it_has(server, tmp_path):
    server.cut_after = [500_000] + [0] * 3
    with pytest.raises(UserError, match="broke off 3 times in a row .*go on from 500000 bytes"):
        quick_fetch(server.url, tmp_path / "file.bin", retries=2)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:500_000]
    assert not (tmp_path / "file.bin").exists()


def test_server_gone(tmp_path, capsys):
    server = Server()
    server.close()
    with pytest.raises(UserError, match=r"cannot be reached \(.*refused\), 3 times in a row: is there a network"):
        quick_fetch(server.url, tmp_path / "file.bin", retries=2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == ["next try in 0.001 s", "next try in 0.002 s"]
    assert all(line.startswith(server.url) and "refused" in line for line in lines)


def test_a_certificate_that_cannot_be_trusted_is_not_tried_again(tmp_path, monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise urllib.error.URLError(ssl.SSLCertVerificationError(1, "certificate verify failed: it has expired"))

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(UserError, match="certificate cannot be trusted .*it has expired.*clock"):
        quick_fetch("https://localhost/file.bin", tmp_path / "file.bin")
    assert capsys.readouterr().err == ""


def test_refusal_is_not_repeated(server, tmp_path):
    server.status = 404
    with pytest.raises(UserError, match="answers 404"):
        quick_fetch(server.url, tmp_path / "file.bin")
    assert len(server.requests) == 1
    server.status = 503
    with pytest.raises(UserError, match="answers 503.*try again later"):
        quick_fetch(server.url, tmp_path / "file.bin", retries=2)
    assert len(server.requests) == 4


def test_wrong_size(server, tmp_path):
    with pytest.raises(UserError, match="3000000 bytes instead of 2999999"):
        quick_fetch(server.url, tmp_path / "file.bin", size=len(CONTENT) - 1)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file.bin").write_bytes(b"old")
    with pytest.raises(UserError, match="3 bytes instead of 3000000"):
        quick_fetch(server.url, tmp_path / "file.bin", size=len(CONTENT))


def test_wrong_hash(server, tmp_path):
    with pytest.raises(UserError, match="SHA-256 .* instead of 0000"):
        quick_fetch(server.url, tmp_path / "file.bin", sha256="0" * 64)
    assert list(tmp_path.iterdir()) == []  # so that the next try starts from nothing


def test_recorded_hash_is_compared(server, tmp_path):
    target = tmp_path / "file.bin"
    quick_fetch(server.url, target)
    record_sha256(target, record_in=tmp_path)
    target.write_bytes(CONTENT[:-1] + b"?")
    message = f"instead of {SHA256}, which {tmp_path / HASH_FILE} has recorded .*delete that line to accept"
    with pytest.raises(UserError, match=message):
        quick_fetch(server.url, target)
    target.unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(UserError, match=message):
        quick_fetch(server.url, target)
    # The record may be the wrong one of the two: the download is kept, and used once the line is gone.
    assert target.read_bytes() == CONTENT[::-1]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file.bin").write_bytes(b"another")
    with pytest.raises(UserError, match=message):
        check_sha256(elsewhere / "file.bin", record_in=tmp_path)
    (tmp_path / HASH_FILE).unlink()
    quick_fetch(server.url, target)
    assert len(server.requests) == 2


DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture
def full_disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10**9, 10**9 - 10**6, 10**6))


def test_full_disk_stops_a_download_before_it_starts(server, tmp_path, full_disk):
    with pytest.raises(UserError, match="0.00 GB needed but 0.00 GB free"):
        quick_fetch(server.url, tmp_path / "file.bin")
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_up_keeps_the_part(server, tmp_path, monkeypatch):
    class FullFile(io.FileIO):
        def write(self, data):
            if self.tell() >= 1_000_000:
                raise OSError(28, "No space left on device")
            return super().write(data[:1_000_000])

    monkeypatch.setattr(fetch_module, "open", FullFile, raising=False)
    with pytest.raises(UserError, match="file.bin.part: cannot be written .No space left"):
        quick_fetch(server.url, tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()
    assert (tmp_path / "file.bin.part").stat().st_size == 1_000_000


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


def files_below(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@MAKERS
def test_extract(make, name, tmp_path):
    archive = make(tmp_path / name, {"images/a.jpg": b"aaa", "images/deep/b.jpg": b"bbbb", "joints.mat": b""})
    out = tmp_path / "out"
    files = extract(archive, out, progress=False)
    assert files == [out / "images/a.jpg", out / "images/deep/b.jpg", out / "joints.mat"]
    assert files_below(out) == ["images/a.jpg", "images/deep/b.jpg", "joints.mat"]
    assert (out / "images/deep/b.jpg").read_bytes() == b"bbbb"
    # An interrupted extraction goes on: what has its size is kept, the rest written.
    (out / "images/a.jpg").write_bytes(b"AAA")
    (out / "images/deep/b.jpg").write_bytes(b"b")
    assert extract(archive, out, progress=False) == files
    assert (out / "images/a.jpg").read_bytes() == b"AAA"
    assert (out / "images/deep/b.jpg").read_bytes() == b"bbbb"


@MAKERS
@pytest.mark.parametrize(
    "member", ["../evil", "a/../../evil", "/etc/evil", "C:\\evil", "..\\evil", "a/../../out_beside/evil"]
)
def test_members_outside_are_refused(make, name, member, tmp_path):
    archive = make(tmp_path / name, {"good": b"1", member: b"2"})
    with pytest.raises(UserError, match="would be written outside .*nothing was unpacked"):
        extract(archive, tmp_path / "out", progress=False)
    assert files_below(tmp_path) == [name]


@MAKERS
def test_links_are_refused(make, name, tmp_path):
    archive = make(tmp_path / name, {"good": b"1"}, link="images")
    with pytest.raises(UserError, match="'images' is a link; nothing was unpacked"):
        extract(archive, tmp_path / "out", progress=False)
    assert files_below(tmp_path) == [name]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_other_kinds_are_refused(kind, tmp_path):
    archive = make_tar(tmp_path / "a.tar.gz", {"good": b"1"}, link="odd", kind=kind)
    with pytest.raises(UserError, match="'odd' is .*nothing was unpacked"):
        extract(archive, tmp_path / "out", progress=False)


@MAKERS
def test_link_already_in_the_folder_is_not_followed(make, name, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "images").symlink_to(tmp_path / "elsewhere")
    archive = make(tmp_path / name, {"images/a.jpg": b"1"})
    with pytest.raises(UserError, match="outside"):
        extract(archive, tmp_path / "out", progress=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@MAKERS
def test_damaged_archives(make, name, tmp_path):
    archive = make(tmp_path / name, {"a.bin": CONTENT[:200_000], "b.bin": CONTENT[200_000:300_000]})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="fetch it again"):
        extract(archive, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "b.bin").exists()
    damaged = bytearray(whole)
    damaged[1000:1010] = bytes(10)
    archive.write_bytes(damaged)
    with pytest.raises(UserError, match="fetch it again"):
        extract(archive, tmp_path / "out2", progress=False)
    archive.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="not a zip or tar archive"):
        extract(archive, tmp_path / "out3", progress=False)
    with pytest.raises(UserError, match="no such file"):
        extract(tmp_path / "nowhere.zip", tmp_path / "out", progress=False)


@MAKERS
def test_full_disk_stops_unpacking_before_it_starts(make, name, tmp_path, full_disk):
    archive = make(tmp_path / name, {"a.bin": CONTENT})
    with pytest.raises(UserError, match="GB free"):
        extract(archive, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tiny_coco(tmp_path, monkeypatch):
    """Official archives of a COCO whose val2017 has two pictures."""
    person = {"id": 1, "name": "person", "keypoints": ["head", "foot"]}
    content = {
        "categories": [person],
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 60} for i in (1, 2)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 20], "keypoints": [3, 4, 2, 5, 6, 1]}
            for i in (1, 2)
        ],
    }
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    annotations = {"annotations/person_keypoints_val2017.json": json.dumps(content).encode()}
    make_zip(downloads / "annotations_trainval2017.zip", annotations)
    make_zip(downloads / "val2017.zip", {"val2017/1.jpg": b"1", "val2017/2.jpg": b"2"})
    monkeypatch.setitem(prepare.COCO_COUNTS, "val2017", 2)
    return downloads


def test_prepare_coco(tiny_coco, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--from", str(tiny_coco), "--splits", "val2017"]
    assert main(["data", "coco", *arguments]) == 0
    assert "val2017: 2 persons in 2 pictures; left out: none" in capsys.readouterr().out
    assert set(os.listdir(out)) == {"annotations", "val2017", HASH_FILE}
    # A half-unpacked folder is completed; without the archive, the missing picture is named.
    (out / "val2017" / "2.jpg").unlink()
    assert main(["data", "coco", *arguments]) == 0
    (out / "val2017" / "2.jpg").unlink()
    (tiny_coco / "val2017.zip").unlink()
    assert main(["data", "coco", *arguments]) == 2
    assert "2.jpg: no such picture (1 of the 2 " in capsys.readouterr().err
    # The unpacked layout is used in place.
    (out / "val2017" / "2.jpg").touch()
    records = prepare.prepare_coco(tmp_path / "new", sources=[out], splits=["val2017"])
    assert records["val2017"].records[0].image == str(out / "val2017" / "1.jpg")


@pytest.mark.parametrize("empty", ["val2017", "images/val2017"])
def test_an_empty_folder_of_pictures_is_not_in_the_way(tiny_coco, tmp_path, empty):
    source, out = tmp_path / "source", tmp_path / "out"
    prepare.prepare_coco(source, sources=[tiny_coco], splits=["val2017"])
    (out / empty).mkdir(parents=True)
    prepare.prepare_coco(out, sources=[source], splits=["val2017"])
    assert len(load_records(f"coco:{out}", "val")) == 2


def test_another_folder_in_the_pictures_place_is_refused(tiny_coco, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    prepare.prepare_coco(source, sources=[tiny_coco], splits=["val2017"])
    (out / "val2017").mkdir(parents=True)
    (out / "val2017" / "holiday.jpg").touch()
    with pytest.raises(UserError, match="out/val2017: .*holds other files.* move it"):
        prepare.prepare_coco(out, sources=[source], splits=["val2017"])
    assert os.listdir(out / "val2017") == ["holiday.jpg"]


def test_another_folder_beside_the_pictures_is_in_nobodys_way(tiny_coco, tmp_path):
    out = tmp_path / "out"
    prepare.prepare_coco(out, sources=[tiny_coco], splits=["val2017"])
    pictures = (out / "val2017").resolve()
    (out / "val2017").unlink() if (out / "val2017").is_symlink() else (out / "val2017").rename(tmp_path / "pictures")
    shutil.copytree(pictures if pictures.exists() else tmp_path / "pictures", out / "images" / "val2017")
    (out / "val2017").mkdir()
    (out / "val2017" / "masks.png").touch()
    prepare.prepare_coco(out, splits=["val2017"])
    assert len(load_records(f"coco:{out}", "val")) == 2


@pytest.mark.parametrize("content", ["{}", "[]", '{"images": 2}', '{"images": [{"id": 1}, {"id": 2}]}'])
def test_annotations_without_pictures_are_refused(tiny_coco, tmp_path, content):
    (tmp_path / "out" / "annotations").mkdir(parents=True)
    (tmp_path / "out" / "annotations" / "person_keypoints_val2017.json").write_text(content)
    with pytest.raises(UserError, match="person_keypoints_val2017.json: "):
        prepare.prepare_coco(tmp_path / "out", sources=[tiny_coco], splits=["val2017"])


def test_prepare_says_what_is_missing_and_where_it_is(tiny_coco, tmp_path, capsys):
    for dataset, names in {
        "coco": ("annotations_trainval2017.zip", "train2017.zip", "val2017.zip", "cocodataset.org", "--download"),
        "mpii": ("mpii_human_pose_v1_u12_2.zip", "mpii_human_pose_v1.tar.gz", "human-pose.mpi-inf.mpg.de"),
        "lspet": ("lspet_dataset.zip", "sam.johnson.io/research/lspet.html"),
    }.items():
        assert main(["data", dataset, "--out", str(tmp_path / "nothing")]) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        for name in names:
            assert name in message
        assert main(["data", dataset, "--from", str(tmp_path / "nowhere")]) == 2
        assert "nowhere: no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()
    wrong = ["--out", str(tmp_path / "out"), "--from", str(tiny_coco), "--splits", "val2017"]
    assert main(["data", "coco", *wrong, "--sha256", f"val2017.zip={'0' * 64}"]) == 2
    assert "val2017.zip: SHA-256" in capsys.readouterr().err
    assert main(["data", "coco", *wrong, "--sha256", "val2017.zip"]) == 2


def test_prepare_coco_downloads(tiny_coco, server, tmp_path, monkeypatch):
    """The pictures' archive comes from the server, cut once on the way."""
    server.content, server.cut_after = (tiny_coco / "val2017.zip").read_bytes(), [50]
    (tiny_coco / "val2017.zip").unlink()
    monkeypatch.setattr(fetch_module.time, "sleep", lambda seconds: None)
    archive = prepare.Archive("val2017.zip", server.url, prepare.COCO_PAGE)
    monkeypatch.setitem(prepare.COCO_PICTURES, "val2017", archive)
    records = prepare.prepare_coco(
        tmp_path / "out", sources=[tiny_coco], splits=["val2017"], download=True, progress=False
    )
    assert len(records["val2017"]) == 2
    assert len(server.requests) == 2


def test_archives_that_are_not_whole_are_not_recorded(tiny_coco, tmp_path, capsys):
    """Half a zip, then an error page of a server, then the real one: nothing of the first two stands in its way."""
    out, archive = tmp_path / "out", tiny_coco / "val2017.zip"
    arguments = ["--out", str(out), "--from", str(tiny_coco), "--splits", "val2017"]
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>moved</html>"):
        archive.write_bytes(content)
        assert main(["data", "coco", *arguments]) == 2
        assert "val2017.zip: not a zip or tar archive, or cut short; delete it" in capsys.readouterr().err
        assert "  val2017.zip" not in (out / HASH_FILE).read_text()
    archive.write_bytes(whole)
    assert main(["data", "coco", *arguments]) == 0
    assert f"{hashlib.sha256(whole).hexdigest()}  val2017.zip" in (out / HASH_FILE).read_text().splitlines()


def test_a_folder_that_may_not_be_read_is_passed_over(tiny_coco, tmp_path, monkeypatch):
    """A disk's ``lost+found`` belongs to root, who runs some of these tests: its refusal is stood in for."""
    (tiny_coco / "lost+found").mkdir()
    real_stat = os.stat

    def stat_as_a_user(path, *arguments, **options):
        if "lost+found/" in os.fspath(path):
            raise PermissionError(13, "Permission denied", path)
        return real_stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat_as_a_user)
    assert len(prepare.prepare_coco(tmp_path / "out", sources=[tiny_coco], splits=["val2017"])["val2017"]) == 2


def make_lspet(path, count: int):
    """An archive like the official one, of ``count`` persons."""
    joints = io.BytesIO()
    savemat(joints, {"joints": np.arange(14 * 3 * count, dtype=float).reshape(14, 3, count) + 1})
    pictures = {f"images/im{i + 1:05d}.jpg": bytes([i]) for i in range(count)}
    return make_zip(path, {"joints.mat": joints.getvalue(), **pictures})


def test_another_lspet_of_the_same_name_says_how_to_accept_it(tmp_path, capsys):
    archive = tmp_path / "lspet_dataset.zip"
    arguments = ["--out", str(tmp_path / "out"), "--from", str(archive)]
    archive.write_bytes(make_lspet(tmp_path / "whole.zip", 9).read_bytes()[:-100])
    assert main(["data", "lspet", *arguments]) == 2
    assert not (tmp_path / "out").exists()
    for count, code in ((9, 0), (10, 2)):
        make_lspet(archive, count)
        assert main(["data", "lspet", *arguments]) == code
    hash_file = tmp_path / "out" / HASH_FILE
    assert f"which {hash_file} has recorded" in capsys.readouterr().err
    hash_file.write_text("")
    assert main(["data", "lspet", *arguments]) == 0


def test_plain_lsp_beside_it_is_not_taken_for_lspet(tmp_path):
    archive = make_lspet(tmp_path / "lspet_dataset.zip", 9)
    (tmp_path / "lsp_dataset").mkdir()
    savemat(tmp_path / "lsp_dataset" / "joints.mat", {"joints": np.ones((3, 14, 20))})
    for _ in ("the zip", "the folder that it was unpacked to"):
        found = prepare.prepare_lspet(tmp_path / "out", sources=[tmp_path])
        assert len(found["train"]) + len(found["val"]) == 9
        if archive.exists():
            extract(archive, tmp_path / "lspet_dataset", progress=False)
            archive.unlink()


def test_prepare_lspet_takes_the_real_zip_in_place(shared_data, tmp_path):
    records = prepare.prepare_lspet(tmp_path / "out", sources=[shared_data / "lspet_dataset.zip"])
    assert len(records["val"]) == 500
    assert len(records["train"]) + len(records["val"]) <= 9_000
    assert os.listdir(tmp_path / "out") == [HASH_FILE]


def test_a_hash_for_no_archive_is_refused_and_one_by_the_given_name_is_used(tiny_coco, tmp_path, capsys):
    archive = make_lspet(tmp_path / "saved as.zip", 9)
    out = ["--out", str(tmp_path / "out")]
    for name in (archive.name, "lspet_dataset.zip"):
        assert main(["data", "lspet", *out, "--from", str(archive), "--sha256", f"{name}={'0' * 64}"]) == 2
        assert archive.name in capsys.readouterr().err
    assert main(["data", "lspet", *out, "--from", str(archive)]) == 0
    for kind in ("coco", "mpii", "lspet"):
        assert main(["data", kind, *out, "--sha256", f"val.zip={'0' * 64}"]) == 2
        assert "val.zip: a hash for none of this data set's archives" in capsys.readouterr().err
