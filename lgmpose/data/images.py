"""Find and read pictures, in a folder or in a zip, as (H, W, 3) uint8 RGB; normalise crops for a network."""

from __future__ import annotations

import functools
import lzma
import os
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from lgmpose.errors import UserError

__all__ = [
    "IMAGE_MEAN", "IMAGE_STD", "PAD_VALUE", "ZIP_ERRORS", "ZIP_SEPARATOR", "decode_image", "find_pictures",
    "folder_with_most", "normalise", "read_annotated", "read_image",
]  # fmt: skip

IMAGE_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, RGB in 0..1, as in every pipeline of the field
IMAGE_STD = (0.229, 0.224, 0.225)
PAD_VALUE = 114  # grey beside a detector's picture, as in the training of YOLOX and RTMDet
ZIP_SEPARATOR = ".zip!"  # ".../lspet_dataset.zip!images/im00001.jpg"
# What ``zipfile`` raises for a damaged or encrypted zip. ValueError: a name that is no text, a negative place.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
_JPEG_SEGMENT = re.compile(rb"\xff[^\x00\xff]")  # the two bytes of its start; the next two state its length
_JPEG_END = b"\xff\xd9"


@functools.lru_cache(maxsize=8)
def _open_zip(path: str, process_id: int) -> zipfile.ZipFile:
    # Keyed by process: a forked loader worker must not share its parent's file position.
    return zipfile.ZipFile(path)


def folder_with_most(folders: Sequence[Path], names: Sequence[str]) -> Path:
    """Return the folder that has most of the pictures, judged by the first 20 names; see ``find_pictures``."""
    return max(folders, key=lambda folder: sum(_find_picture(folder, name) is not None for name in names[:20]))


def _find_picture(folder: str | Path, name: str) -> str | None:
    """Return the path of a picture, whose name may be spelt as ``find_pictures`` allows; None: it is not there."""
    slashes = name.replace("\\", "/")
    spellings = (name, slashes, *(unicodedata.normalize(form, slashes) for form in ("NFC", "NFD")))
    return next((path for s in spellings if os.path.isfile(path := os.path.join(folder, s))), None)


def find_pictures(folder: str | Path, names: Iterable[str], annotations: str | Path) -> dict[str, str]:
    """Return name → path of each picture that annotations name.

    A name may have backslashes for slashes (written on Windows), and accents in another Unicode form than on the disk
    (written on macOS).

    Args:
        folder: where the pictures are.
        names: file names relative to ``folder``, as the annotations give them.
        annotations: the annotation file; errors name it.

    Raises:
        UserError: Pictures are missing. The message names the first one and how many there are.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder of pictures")
    names = sorted(set(names))
    found = {name: _find_picture(folder, name) for name in names}
    paths = {name: path for name, path in found.items() if path is not None}
    if missing := [name for name in names if name not in paths]:
        raise UserError(
            f"{os.path.join(folder, missing[0])}: no such picture ({len(missing)} of the {len(names)} that "
            f"{annotations} names are missing); is {folder} the right folder?"
        )
    return paths


def decode_image(data: bytes, name: str, *, apply_exif: bool = True) -> np.ndarray:
    """Decode a JPEG, PNG or any other format that OpenCV knows; return (H, W, 3) uint8 RGB.

    Grey pictures become RGB, an alpha channel is dropped, 16 bits become 8. ``apply_exif`` turns the picture as its
    EXIF orientation says, as a user's photograph must be. The annotations of data sets were made on the pixels as
    stored (but see ``read_annotated``).

    Raises:
        UserError: It is not a picture, or it is damaged.
    """
    flags = cv2.IMREAD_COLOR if apply_exif else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:  # not raised for damage, which gives None
        raise UserError(f"{name}: too large to be read ({error.err})") from error
    if image is None:
        raise UserError(f"{name}: not a picture that can be read (damaged, cut short, or of an unknown format)")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return _turn_avif(image, data) if apply_exif and data[4:8] == b"ftyp" else image


def _turn_avif(image: np.ndarray, data: bytes) -> np.ndarray:
    """Turn and mirror an AVIF picture as its properties ``irot`` and ``imir`` say. OpenCV does not.

    Source: ISO/IEC 23008-12, image properties. A box is its size (4 bytes), its type (4 bytes) and its content.
    """
    start = data.find(b"ipco") - 4  # the box of all properties
    position, end = start + 8, start + int.from_bytes(data[max(start, 0) : max(start, 0) + 4], "big")
    while start >= 0 and position + 8 < min(end, len(data)):
        size, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        value = data[position + 8]
        if kind == b"irot":
            image = np.rot90(image, value & 3)  # quarter turns against the clock
        elif kind == b"imir":
            image = image[:, ::-1] if value & 1 else image[::-1]
        position += max(size, 8)
    return np.ascontiguousarray(image)


def read_image(path: str | Path, *, apply_exif: bool = True) -> np.ndarray:
    """Read a picture; ``archive.zip!member`` names one inside a zip. See ``decode_image``.

    Raises:
        UserError: The file is missing, cannot be read, or is not a picture.
    """
    path = str(path)
    try:
        if ZIP_SEPARATOR in path:
            archive, member = path.split(ZIP_SEPARATOR, 1)
            data = _open_zip(archive + ".zip", os.getpid()).read(member)
        else:
            data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, KeyError, *ZIP_ERRORS) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if data.startswith(b"\xff\xd8") and not _is_whole_jpeg(data):  # a JPEG, whatever its name
        # OpenCV 4 fills the missing part with grey and reports no error; OpenCV 5 refuses the picture.
        raise UserError(f"{path}: the JPEG is cut short")
    return decode_image(data, path, apply_exif=apply_exif)


def read_annotated(path: str | Path, stated_hw: tuple[int, int] | None, as_shown: bool = False) -> np.ndarray:
    """Read a picture in the orientation of its annotations: as stored, or turned by EXIF if only that has their size.

    Args:
        path: as for ``read_image``.
        stated_hw: (H, W) that the annotations state; None: any.
        as_shown: the annotations were made on the picture as it is shown, so that the turned one is tried first. The
            size alone does not tell of a picture that is stored upside down.

    Raises:
        UserError: As for ``read_image``, or the picture has another size in both orientations.
    """
    first = read_image(path, apply_exif=as_shown)
    if stated_hw is None or first.shape[:2] == stated_hw:
        return first
    second = read_image(path, apply_exif=not as_shown)
    if second.shape[:2] == stated_hw:
        return second
    (height, width), (stated_height, stated_width) = first.shape[:2], stated_hw
    raise UserError(
        f"{path}: {height} high and {width} wide, but its annotations state height {stated_height} and width "
        f"{stated_width}; use the picture that was annotated, or correct the annotations"
    )


def _is_whole_jpeg(data: bytes) -> bool:
    """Return True if a JPEG has an end marker after its scan (thumbnails in the header have their own).

    Data after it are allowed: the film of a motion photo, a depth map.
    """
    position = 2
    while segment := _JPEG_SEGMENT.search(data, position):
        if segment[0] in (b"\xff\xda", _JPEG_END):  # a scan, whose data hold no other FF D9
            return data.find(_JPEG_END, segment.start()) >= 0
        position = segment.end() + int.from_bytes(data[segment.end() : segment.end() + 2], "big")
    return False


def normalise(crops: np.ndarray, mean: Sequence[float] = IMAGE_MEAN, std: Sequence[float] = IMAGE_STD) -> np.ndarray:
    """Return the network's input (B, 3, H, W) float32 of crops (B, H, W, 3) uint8 RGB, as ``batches.to_input`` does."""
    mean_3, std_3 = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    scale, shift = 1 / (255 * std_3), mean_3 / std_3
    B, H, W, C = crops.shape
    inputs = np.empty((B, C, H, W), np.float32)
    for crop, planes in zip(crops, inputs, strict=True):
        for channel, plane in enumerate(cv2.split(crop)):  # several times as fast as NumPy at taking pixels apart
            np.multiply(plane, scale[channel], out=planes[channel])
            planes[channel] -= shift[channel]
    return inputs
