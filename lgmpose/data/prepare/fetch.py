"""Downloading big files so that an interruption costs nothing, and unpacking archives that may not be trusted."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import lzma
import os
import shutil
import ssl
import stat
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from tqdm import tqdm

from lgmpose.errors import UserError

__all__ = ["HASH_FILE", "check_disk_space", "check_sha256", "extract", "fetch", "file_sha256", "record_sha256"]

HASH_FILE = "SHA256SUMS"  # the format of the sha256sum tool, so `sha256sum -c SHA256SUMS` works too
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0
SPARE_BYTES = 50 << 20  # left free on the disk


def fetch(
    url: str,
    target: str | Path,
    size: int | None = None,
    sha256: str | None = None,
    *,
    retries: int = 5,
    wait_s: float = 2.0,
    progress: bool = True,
) -> Path:
    """Downloads a file; called again after an interruption, it goes on where it stopped.

    The bytes go to ``<target>.part``, which becomes ``target`` only when size and hash are right. A ``target`` that is
    there already is checked and not downloaded again. A hash that ``record_sha256`` has put in ``SHA256SUMS`` beside
    the file is compared too.

    Args:
        url: what to download.
        target: file to write.
        size: bytes it must have; without it, the length that the server states.
        sha256: hash it must have, in hexadecimal.
        retries: how many times in a row a broken connection is tried again without a single new byte.
        wait_s: pause before the first of these, doubled each time.
        progress: show a bar with the time left.

    Raises:
        UserError: the server refuses, the connection stays broken, the disk is too small, or size or hash is wrong.
    """
    target = Path(target)
    part = target.with_name(target.name + ".part")
    if target.exists():
        if size is not None and target.stat().st_size != size:
            raise UserError(f"{target}: {target.stat().st_size} bytes instead of {size}; delete it and fetch it again")
        check_sha256(target, sha256)
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target.parent}: cannot be made a folder ({error.strerror or error})") from error
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _download_rest(url, part, size, progress)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise UserError(f"{url}: the server answers {error.code} ({error.reason})") from error
            reason, advice = f"the server answers {error.code}", "try again later"
        except (
            urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError,
        ) as error:  # fmt: skip
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(cause, ssl.SSLCertVerificationError):  # the next try would end in the same way
                raise UserError(
                    f"{url}: the server's certificate cannot be trusted ({cause}); check this computer's clock and "
                    "certificates, or fetch the file by other means"
                ) from error
            reason, advice = str(cause) or type(cause).__name__, "is there a network?"
        except OSError as error:
            raise UserError(f"{part}: cannot be written ({error.strerror or error}); what is there is kept") from error
        # A long download may be cut many times; only standing still counts against it.
        received = part.stat().st_size if part.exists() else 0
        failures = 0 if received > before else failures + 1
        if failures > retries and not received:
            raise UserError(f"{url}: cannot be reached ({reason}), {failures} times in a row: {advice}")
        if failures > retries:
            raise UserError(
                f"{url}: the download broke off {failures} times in a row ({reason}); run it again to go on from "
                f"{received} bytes"
            )
        pause_s = wait_s * 2 ** max(failures - 1, 0)
        print(f"{url}: {reason}; next try in {pause_s:g} s", file=sys.stderr, flush=True)
        time.sleep(pause_s)
    if sha256 is not None and (digest := file_sha256(part, progress=progress)) != sha256.lower():
        part.unlink()
        raise UserError(f"{url}: SHA-256 {digest} instead of {sha256}; the download was removed, nothing is used")
    os.replace(part, target)
    if sha256 is None:
        check_sha256(target)
    return target


def _download_rest(url: str, part: Path, size: int | None, progress: bool) -> None:
    """One connection: appends what is missing in ``part``. Returns when it is complete, raises when it is not."""
    start = part.stat().st_size if part.exists() else 0
    if size is not None and start == size:
        return
    if size is not None and start > size:
        part.unlink()
        start = 0
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        # Nothing left to send: complete, if the server's total says so; else the file there is another one by now.
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total.isdigit() and int(total) == start and size is None:
            return
        part.unlink()
        raise ConnectionError(f"the part already there ({start} bytes) does not fit the server's file") from error
    with response:
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0  # the server does not do ranges: from the beginning
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if size is not None and total is not None and total != size:
            raise UserError(f"{url}: the server has {total} bytes instead of {size}; it is not the file expected")
        total = size if total is None else total
        if total is not None:
            check_disk_space(part.parent, total - start)
        bar = tqdm(
            total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=not progress, mininterval=0.5
        )
        with open(part, "ab" if start else "wb") as file, bar:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
    received = part.stat().st_size
    if total is not None and received < total:
        raise ConnectionError(f"cut off after {received} of {total} bytes")
    if total is not None and received > total:
        part.unlink()
        raise ConnectionError(f"{received} bytes instead of {total}")


def check_disk_space(folder: str | Path, needed_bytes: int) -> None:
    """Refuses to start what cannot end: raises UserError unless ``needed_bytes`` and a little more are free."""
    folder = Path(folder)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes + SPARE_BYTES:
        raise UserError(
            f"{folder}: {needed_bytes / 1e9:.2f} GB needed but {free / 1e9:.2f} GB free; make room or choose another "
            "folder"
        )


def file_sha256(path: str | Path, *, progress: bool = False) -> str:
    """SHA-256 of a file in hexadecimal, read in pieces."""
    digest, path = hashlib.sha256(), Path(path)
    bar = tqdm(
        total=path.stat().st_size, unit="B", unit_scale=True, desc=f"hash of {path.name}", disable=not progress,
        leave=False, delay=2,
    )  # fmt: skip
    with open(path, "rb") as file, bar:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def check_sha256(path: str | Path, sha256: str | None = None, *, record_in: str | Path | None = None) -> None:
    """Compares a file's hash with the one given, else with the one recorded, if there is one.

    Args:
        path: the file.
        sha256: hash it must have.
        record_in: folder of the ``SHA256SUMS`` to use, by default the file's own.

    Raises:
        UserError: another hash. The file is left as it is.
    """
    path = Path(path)
    hash_file = (path.parent if record_in is None else Path(record_in)) / HASH_FILE
    known = sha256 or _recorded_hashes(hash_file).get(path.name)
    if known is None or (digest := file_sha256(path)) == known.lower():
        return
    if sha256 is not None:
        raise UserError(f"{path}: SHA-256 {digest} instead of {known}; it is damaged or another file: fetch it again")
    # The record may be of an earlier copy that was not the better one, so the user decides.
    raise UserError(
        f"{path}: SHA-256 {digest} instead of {known}, which {hash_file} has recorded for an earlier file of this "
        "name; delete that line to accept this file, or fetch the file again (it is kept as it is)"
    )


def record_sha256(path: str | Path, *, record_in: str | Path) -> None:
    """Adds a file's hash to the ``SHA256SUMS`` in a folder, unless it has one for this name.

    To be called when the file has proved good: what is recorded is what later files of this name are held against.
    """
    path, hash_file = Path(path), Path(record_in) / HASH_FILE
    if path.name in _recorded_hashes(hash_file):
        return
    # A folder of downloads may be read-only; then there is simply no record.
    with contextlib.suppress(PermissionError):
        hash_file.parent.mkdir(parents=True, exist_ok=True)
        with open(hash_file, "a", encoding="utf-8") as file:
            file.write(f"{file_sha256(path)}  {path.name}\n")


def _recorded_hashes(hash_file: Path) -> dict[str, str]:
    if not hash_file.exists():
        return {}
    lines = (line.split(maxsplit=1) for line in hash_file.read_text(encoding="utf-8").splitlines())
    return {line[1].strip().lstrip("*"): line[0].lower() for line in lines if len(line) == 2}


def extract(archive: str | Path, folder: str | Path, *, progress: bool = True) -> list[Path]:
    """Unpacks a zip or tar archive, every member of which must land inside ``folder``.

    All members are checked before the first is written: absolute paths, ``..``, links and devices are refused. Each
    file is written under another name and renamed when complete; files already there with the right size are kept, so
    an interrupted extraction goes on where it stopped.

    Returns:
        The files, in the archive's order.

    Raises:
        UserError: no archive, damaged, a member that may not be written, or too little room on the disk.
    """
    archive, folder = Path(archive), Path(folder)
    if not archive.is_file():
        raise UserError(f"{archive}: no such file")
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                members = [
                    _Member(info.filename, info.file_size, info.is_dir(), _zip_kind(info)) for info in opened.infolist()
                ]
                return _extract_members(archive, folder, members, _zip_streams(opened), progress)
        if archive.name.endswith(".zip") or not tarfile.is_tarfile(archive):
            raise UserError(f"{archive}: not a zip or tar archive, or cut short; delete it and fetch it again")
        with tarfile.open(archive) as opened:
            members = [_Member(info.name, info.size, info.isdir(), _tar_kind(info)) for info in opened]
            while opened.fileobj.read(CHUNK_BYTES):  # gzip's checksum stands behind the last byte
                pass
        return _extract_members(archive, folder, members, _tar_streams(archive), progress)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error) as error:
        raise UserError(f"{archive}: damaged or cut short ({error}); delete it and fetch it again") from error
    except OSError as error:
        raise UserError(f"{archive}: cannot be unpacked into {folder} ({error.strerror or error})") from error


class _Member:
    """One entry of an archive. ``refused`` says why it may not be written, or is None."""

    def __init__(self, name: str, size_bytes: int, is_folder: bool, refused: str | None):
        self.name, self.size_bytes, self.is_folder, self.refused = name, size_bytes, is_folder, refused


def _zip_kind(info: zipfile.ZipInfo) -> str | None:
    # The upper half of a zip's external attributes holds Unix's file mode, where there is one.
    return "a link" if stat.S_ISLNK(info.external_attr >> 16) else None


def _tar_kind(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return "a link"
    return None if info.isfile() or info.isdir() else "neither file nor folder"


def _zip_streams(opened: zipfile.ZipFile) -> Iterator[BinaryIO]:
    for info in opened.infolist():
        with opened.open(info) as stream:
            yield stream


def _tar_streams(archive: Path) -> Iterator[BinaryIO | None]:
    # Opened anew, so that a compressed tar is read from front to back instead of being wound back per member.
    with tarfile.open(archive) as opened:
        for info in opened:
            yield opened.extractfile(info)


def _extract_members(archive: Path, folder: Path, members: list[_Member], streams, progress: bool) -> list[Path]:
    root = folder.resolve()
    targets = [_safe_target(archive, root, member) for member in members]
    files = [(target, member) for target, member in zip(targets, members, strict=True) if not member.is_folder]
    missing = [
        member.size_bytes
        for target, member in files
        if not (target.is_file() and target.stat().st_size == member.size_bytes)
    ]
    if not missing:
        return [target for target, _ in files]
    check_disk_space(folder, sum(missing))
    root.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=len(members), unit="file", desc=f"unpacking {archive.name}", disable=not progress, mininterval=0.5)
    with bar:
        for target, member, stream in zip(targets, members, streams, strict=True):
            bar.update()
            if member.is_folder:
                target.mkdir(parents=True, exist_ok=True)
            elif not (target.is_file() and target.stat().st_size == member.size_bytes):
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(target.name + ".part")
                with open(part, "wb") as file:
                    shutil.copyfileobj(stream, file, CHUNK_BYTES)
                if part.stat().st_size != member.size_bytes:
                    raise UserError(f"{archive}: its member {member.name!r} is cut short; fetch it again")
                os.replace(part, target)
    return [target for target, _ in files]


def _safe_target(archive: Path, root: Path, member: _Member) -> Path:
    """Where a member goes. ``resolve`` also follows links that lie in the folder already."""
    path, windows_path = PurePosixPath(member.name), PureWindowsPath(member.name)
    outside = path.is_absolute() or windows_path.anchor or ".." in windows_path.parts or ".." in path.parts
    target = root / path
    if outside or "\0" in member.name or not target.resolve().is_relative_to(root):
        raise UserError(f"{archive}: its member {member.name!r} would be written outside {root}; nothing was unpacked")
    if member.refused:
        raise UserError(f"{archive}: its member {member.name!r} is {member.refused}; nothing was unpacked")
    return target
