"""List the pictures and videos among what a user names on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from lgmpose.errors import UserError
from lgmpose.inference.outputs import is_own_drawing
from lgmpose.inference.video import VIDEO_SUFFIXES

__all__ = ["list_inputs"]

# What OpenCV reads. It recognises a file by its content, so a picture with another suffix can be named by itself.
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".avif", ".gif", ".jp2", ".tif", ".tiff", ".ppm",
    ".pgm", ".pbm", ".pnm",
)  # fmt: skip


def list_inputs(inputs: str | Path | Iterable[str | Path], skip: Path | None = None) -> list[Path]:
    """Return every input once: files in the order given, those of a folder by name (not of its subfolders).

    Hidden files of a folder are left out, and so are drawings of ``lgmpose predict``: a second call must not take them
    for inputs. Other files that are neither pictures nor videos are listed on stderr.

    Args:
        inputs: pictures, videos and folders of them.
        skip: a file to leave out of folders.

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
    known = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES + VIDEO_SUFFIXES]
    others = [path.name for path in files if path not in known and path.suffix.lower() != ".json"]
    if others:
        names = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        print(f"{folder}: left out {len(others)} files that are neither pictures nor videos: {names}", file=sys.stderr)
    found = [path for path in known if not is_own_drawing(path)]
    if skip is not None:
        found = [path for path in found if path.resolve() != skip.resolve()]
    if not found:
        raise UserError(f"{folder}: no picture or video in this folder")
    return found
