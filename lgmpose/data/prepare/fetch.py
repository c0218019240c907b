"""Download large files with resumption, and unpack archives that may not be trusted."""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import ssl
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from tqdm import tqdm

from lgmpose.data.images import ZIP_ERRORS
from lgmpose.errors import UserError

__all__ = ["extract", "fetch"]

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0
SPARE_BYTES = 50 << 20  # left free on the disk
# Errors of a network that is lost while bytes arrive; the others have classes of their own.
NETWORK_ERRORS = (errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH)


def fetch(url: str, target: str | Path, *, retries: int = 5, wait_s: float = 2.0) -> Path:
    """Download a file. Called again after an interruption, it resumes.

    The bytes go to ``<target>.part``, which becomes ``target`` when it is complete. A ``target`` that exists is not
    downloaded again.

    ``retries`` failed attempts in a row are repeated, after pauses of ``wait_s``, twice that, and so on. A new byte
    resets the count.

    Raises:
        UserError: The server refuses, the connection stays broken, or the disk is too small.
    """
    target = Path(target)
    part = target.with_name(target.name + ".part")
    failures = 0
    while not target.exists():
        before = _size(part)
        reason = _download_rest(url, part)
        if reason is None:
            os.replace(part, target)
            break
        # A long download may be cut many times. Only attempts without a new byte count.
        failures = 0 if _size(part) > before else failures + 1
        if failures > retries:
            raise UserError(
                f"{url}: the download failed {failures} times in a row ({reason}); check the network and run it again, "
                f"it continues after {_size(part)} bytes"
            )
        pause_s = wait_s * 2 ** max(failures - 1, 0)
        print(f"{url}: {reason}; next try in {pause_s:g} s", file=sys.stderr, flush=True)
        time.sleep(pause_s)
    return target


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _download_rest(url: str, part: Path) -> str | None:
    """Append what is missing in ``part`` over one connection; return None when complete, else why it is not."""
    start, headers = _size(part), {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S) as response:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                start = 0  # the server cannot continue: from the beginning
            length = response.headers.get("Content-Length")
            total = None if length is None else start + int(length)
            _check_disk_space(part.parent, 0 if total is None else total - start)
            bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None)
            with open(part, "ab" if start else "wb") as file, bar:
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    bar.update(len(chunk))
        return None if total is None or _size(part) == total else f"cut off after {_size(part)} of {total} bytes"
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing left to send: complete, if the server's total is this size
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(start):
                return None
            part.unlink()
            return f"the {start} bytes already here do not fit the server's file"
        if error.code >= 500 or error.code == 429:
            return f"the server answers {error.code}"
        raise UserError(f"{url}: the server answers {error.code} ({error.reason})") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):  # the next try would end in the same way
            raise UserError(f"{url}: {cause}; check this computer's clock and certificates") from error
        return str(cause) or type(cause).__name__
    except OSError as error:
        if error.errno in NETWORK_ERRORS:
            return str(error.strerror)
        raise UserError(f"{part}: cannot be written ({error.strerror or error})") from error


def _check_disk_space(folder: Path, needed_bytes: int) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes + SPARE_BYTES:
        raise UserError(f"{folder}: {needed_bytes / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free; make room first")


def extract(archive: str | Path, folder: str | Path) -> None:
    """Unpack a zip or tar archive into a folder.

    The files are unpacked into a temporary folder first and moved when all are complete, so that an interruption leaves
    no half-unpacked files.

    Raises:
        UserError: It is not an archive or damaged, a member of a tar archive would land outside the folder or is a
            device or such a link, or the disk is too small.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as temporary:
            if zipfile.is_zipfile(archive):
                _extract_zip(archive, temporary)
            else:
                _extract_tar(archive, temporary)
            for file in sorted(Path(temporary).rglob("*")):
                if not file.is_dir():
                    target = folder / file.relative_to(temporary)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(file, target)
    except tarfile.FilterError as error:
        raise UserError(f"{archive}: {error}; nothing was unpacked") from error
    except (tarfile.TarError, *ZIP_ERRORS) as error:
        raise UserError(f"{archive}: not a whole zip or tar archive ({error}); delete it and fetch it again") from error
    except OSError as error:
        raise UserError(f"{archive}: cannot be unpacked into {folder} ({error.strerror or error})") from error


def _extract_zip(archive: Path, folder: str) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        _check_disk_space(Path(folder), sum(info.file_size for info in members))
        for info in tqdm(members, desc=f"unpacking {archive.name}", unit="file", disable=None):
            opened.extract(info, folder)  # never outside: zipfile leaves out "..", drives and leading slashes


def _extract_tar(archive: Path, folder: str) -> None:
    with tarfile.open(archive) as opened:
        _check_disk_space(Path(folder), archive.stat().st_size)  # pictures do not shrink in an archive
        for info in tqdm(opened, desc=f"unpacking {archive.name}", unit="file", disable=None):
            opened.extract(info, folder, filter="data")
        while opened.fileobj is not None and opened.fileobj.read(CHUNK_BYTES):  # gzip's checksum comes last
            pass
