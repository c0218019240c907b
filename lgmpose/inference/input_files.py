"""List the pictures and videos among what a user names on the command line: files, folders, cameras, addresses."""

from __future__ import annotations

import http.client
import sys
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

from lgmpose.data.images import decode_image, read_image
from lgmpose.errors import UserError
from lgmpose.inference.outputs import is_own_drawing
from lgmpose.inference.video import STREAM_TIMEOUT_S, is_camera, is_stream, is_video, without_password

__all__ = ["Source", "kind_of", "list_inputs", "list_sources", "read_source"]

# Only for files whose content shows nothing, so that a damaged picture or video is named and not left out.
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".avif", ".gif", ".jp2", ".tif", ".tiff", ".ppm",
    ".pgm", ".pbm", ".pnm",
)  # fmt: skip


VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts", ".ts", ".flv", ".ogv",
    ".3gp",
)  # fmt: skip
RESULT_SUFFIXES = (".json", ".csv")  # of a folder, not even named as left out
Kind = Literal["picture", "video"]


@dataclass(frozen=True)
class Source:
    """One input: a file, the number of a camera, or the address of a picture or stream."""

    where: Path | str
    kind: Kind

    @property
    def name(self) -> str:
        """The file's name, or the end of the address."""
        if isinstance(self.where, Path):
            return self.where.name
        if is_stream(self.where):
            parts = urlsplit(self.place)
            return unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.hostname or "stream"
        return f"camera{self.where}"

    @property
    def place(self) -> str:
        """The absolute path; or the address, without user name and password."""
        if isinstance(self.where, Path):
            return str(self.where.absolute())
        return without_password(self.where) if is_stream(self.where) else self.name


def list_sources(inputs: str | Path | Iterable[str | Path]) -> list[Source]:
    """Return every input once: cameras and addresses in the order given, after them the files of ``list_inputs``.

    A number is a camera, unless a file has that name. An address of which the server says that it is a picture is one.

    Raises:
        UserError: as ``list_inputs``, or an address that does not answer.
    """
    words = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    live = [word for word in words if is_stream(word) or is_camera(word)]
    files = [word for word in words if word not in live]
    sources = [Source(str(word), _kind_of_address(str(word))) for word in dict.fromkeys(live)]
    if files or not live:
        sources += [Source(path, kind_of(path) or "picture") for path in list_inputs(files)]
    return sources


def read_source(source: Source) -> np.ndarray:
    """Return a picture, (H, W, 3) uint8 RGB, turned as its EXIF orientation says.

    Raises:
        UserError: it cannot be read.
    """
    if isinstance(source.where, Path):
        return read_image(source.where)
    return decode_image(_fetch(source.where)[1], source.place)


def _kind_of_address(word: str) -> Kind:
    try:
        scheme = urlsplit(word).scheme
    except ValueError as error:
        raise UserError(f"{without_password(word)}: not a valid address ({error})") from None
    if scheme not in ("http", "https"):
        return "video"
    media = _fetch(word, num_bytes=0)[0]
    return "picture" if media.startswith("image/") and media != "image/gif" else "video"


def _fetch(address: str, num_bytes: int | None = None) -> tuple[str, bytes]:
    """Return the media type that a server states, and the content. User name and password are sent if it asks."""
    place, parts = without_password(address), urlsplit(address)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        passwords.add_password(None, place, unquote(parts.username), unquote(parts.password or ""))
    kinds = urllib.request.HTTPBasicAuthHandler, urllib.request.HTTPDigestAuthHandler
    opener = urllib.request.build_opener(*(kind(passwords) for kind in kinds))
    try:
        with opener.open(place, timeout=STREAM_TIMEOUT_S) as response:
            return response.headers.get_content_type(), response.read(num_bytes)
    except http.client.InvalidURL:  # its text may hold a part of the password
        raise UserError(f"{place}: not a valid address; write a space as %20") from None
    except http.client.HTTPException as error:
        raise UserError(f"{place}: the answer is cut short or is not HTTP ({type(error).__name__})") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{place}: cannot be fetched ({getattr(error, 'reason', None) or error})") from error


def kind_of(path: Path) -> Kind | None:
    """Return what a file is, judged by its content, or by its suffix if the content does not tell; None: neither."""
    can_be_named = str(path).isprintable()  # OpenCV crashes on names that are not UTF-8
    is_picture = can_be_named and path.is_file() and cv2.haveImageReader(str(path))
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError:  # no permission, a broken disk: reported when the whole file is read
        head = b""
    # A GIF may be animated, and OpenCV takes a damaged MP4 for AVIF, whose container is the same.
    may_move = head.startswith(b"GIF8") or (head[4:8] == b"ftyp" and head[8:] not in (b"avif", b"avis"))
    if is_picture and not may_move:
        return "picture"
    suffix = path.suffix.lower()
    if is_video(path) or suffix in VIDEO_SUFFIXES:
        return "video"
    return "picture" if is_picture or suffix in PICTURE_SUFFIXES else None


def list_inputs(inputs: str | Path | Iterable[str | Path], skip: Path | None = None) -> list[Path]:
    """Return every file once, in the given order; files of a folder by name, without its subfolders.

    A file is recognised by its content, whatever its suffix. Hidden files of a folder are left out. Drawings of
    ``lgmpose predict`` are also left out: a second call must not use them as inputs. Other files that are neither
    pictures nor videos are listed on stderr. ``skip`` is a file to leave out of folders.

    Raises:
        UserError: no such file, or a folder without pictures and videos.
    """
    paths: list[Path] = []
    for given in map(Path, [inputs] if isinstance(inputs, (str, Path)) else inputs):
        if given.is_dir():
            paths += _in_folder(given, skip)
        elif given.exists():
            paths.append(given)
        else:
            raise UserError(f"{given}: no such file or folder")
    if not paths:
        raise UserError("no picture given")
    unique: dict[Path, Path] = {}
    for path in paths:
        unique.setdefault(path.resolve(), path)
    return list(unique.values())


def _in_folder(folder: Path, skip: Path | None) -> list[Path]:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    known = [path for path in files if kind_of(path) is not None]
    others = [path.name for path in files if path not in known and path.suffix.lower() not in RESULT_SUFFIXES]
    if others:
        names = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        print(f"{folder}: left out {len(others)} files that are neither pictures nor videos: {names}", file=sys.stderr)
    found = [path for path in known if not is_own_drawing(path)]
    if skip is not None:
        found = [path for path in found if path.resolve() != skip.resolve()]
    if not found:
        raise UserError(f"{folder}: no picture or video in this folder")
    return found
