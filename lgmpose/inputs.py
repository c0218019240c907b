"""What a user hands over: pictures of many kinds, lists of files, boxes; checked and brought to one form."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lgmpose.datasets.files import read_json
from lgmpose.datasets.images import read_image
from lgmpose.errors import UserError

__all__ = ["as_boxes", "check_boxes", "is_video", "list_inputs", "load_picture", "overlaps", "read_detections"]

DETECTION_THRESHOLD = 0.5  # detector boxes below it are left out: a score for showing, not for AP
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts", ".3gp",
)  # fmt: skip


def load_picture(image) -> tuple[np.ndarray, str]:
    """(H, W, 3) uint8 RGB, and what to call the picture in an error."""
    if isinstance(image, (str, os.PathLike)):
        return read_image(image), str(image)
    if hasattr(image, "getexif") and hasattr(image, "convert"):  # Pillow's; it is no dependency of ours
        name = str(getattr(image, "filename", "") or "the picture")
        return _from_pillow(image, name), name
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.size:
            return np.ascontiguousarray(image), "the picture"
    what = f"an array of {image.dtype}, shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"the picture is {what}; give a path, a Pillow image, or an (H, W, 3) uint8 RGB array")


def _from_pillow(image, name: str) -> np.ndarray:
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits, in one of Pillow's ways
            grey = (np.clip(np.asarray(image), 0, 65535) // 256).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        if image.mode == "F":
            raise UserError(f"{name}: a Pillow image of floats, whose white is unknown; convert it to 8 bits first")
        return np.ascontiguousarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # what Pillow raises when it reads a damaged file, which it does only now
        raise UserError(f"{name}: not a picture that can be read ({error})") from error


def overlaps(box_xywh: np.ndarray, picture_hw: tuple[int, int]) -> bool:
    x, y, w, h = box_xywh
    return x < picture_hw[1] and y < picture_hw[0] and x + w > 0 and y + h > 0


def as_boxes(boxes) -> np.ndarray:
    """(n, 4) float64, checked as far as that goes without a picture."""
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"boxes are rows of four numbers x, y, w, h; got {boxes!r}") from None
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise UserError(f"boxes are (n, 4) numbers x, y, w, h, one row per person; got an array of shape {array.shape}")
    for number, box in enumerate(array):
        if not np.isfinite(box).all():
            raise UserError(f"box {number} ({_as_text(box)}) has a coordinate that is NaN or infinite")
        if not (box[2:] > 0).all():
            raise UserError(f"box {number} ({_as_text(box)}) has no area; boxes are x, y, width, height")
    return array


def check_boxes(boxes, picture_hw: tuple[int, int], name: str) -> np.ndarray:
    try:
        array = as_boxes(boxes)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    for number, box in enumerate(array):
        if not overlaps(box, picture_hw):
            size = f"{picture_hw[1]} wide and {picture_hw[0]} high"
            raise UserError(f"{name}: box {number} ({_as_text(box)}) lies outside the picture, which is {size}")
    return array


def _as_text(box: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in box)


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def list_inputs(inputs: Iterable[str | Path], out: Path, figure: Path | None = None) -> list[Path]:
    """Every file once, in the order given, folders by name.

    A second call must not take for an input what the first one drew: a listed folder gives neither annotated copies,
    where it is ``out``, nor ``figure``; nor hidden files, among them a Mac's ``._photo.jpg``, which is no picture.
    """
    paths = []
    for given in map(Path, [inputs] if isinstance(inputs, (str, Path)) else inputs):
        if given.is_dir():
            found = sorted(
                path for path in given.iterdir()
                if path.suffix.lower() in PICTURE_SUFFIXES + VIDEO_SUFFIXES and not path.name.startswith(".")
            )  # fmt: skip
            if out.exists() and given.samefile(out):
                found = [path for path in found if not path.name.endswith(("_pose.jpg", "_pose.mp4"))]
            if figure is not None:
                found = [path for path in found if path.resolve() != figure.resolve()]
            if not found:
                known = " ".join(PICTURE_SUFFIXES + VIDEO_SUFFIXES)
                raise UserError(f"{given}: no picture or video in this folder (looked for {known})")
            paths += found
        elif given.exists():
            paths.append(given)
        else:
            raise UserError(f"{given}: no such file or folder")
    if not paths:
        raise UserError("no picture given")
    first: dict[Path, Path] = {}
    for path in paths:
        first.setdefault(path.resolve(), path)
    return list(first.values())


def read_detections(source: str | Path, paths: list[Path]) -> dict[Path, tuple[np.ndarray, np.ndarray]]:
    """Boxes (n, 4) and scores (n,) per picture."""
    content = read_json(source)
    if not isinstance(content, list) or not all(isinstance(detection, dict) for detection in content):
        raise UserError(f"{source}: not a list of detections (image_id or file_name, bbox, score each)")
    by_key: dict[Any, list] = {}
    for number, detection in enumerate(content):
        where = f"{source}: detection number {number}"
        score, box = detection.get("score"), detection.get("bbox")
        if not isinstance(score, (int, float)) or not math.isfinite(score):
            raise UserError(f"{where} has no finite 'score'")
        if score < DETECTION_THRESHOLD or detection.get("category_id", 1) != 1:  # 1 is COCO's person
            continue
        try:
            (box,) = as_boxes([box])
        except (UserError, ValueError):
            raise UserError(f"{where} has a 'bbox' that is not x, y, width, height of some area: {box!r}") from None
        file_name = detection.get("file_name")
        key = Path(file_name).name if isinstance(file_name, str) else str(detection.get("image_id"))
        by_key.setdefault(key, []).append((box, score))
    found = {}
    for path in paths:
        number = str(int(path.stem)) if path.stem.isdecimal() else path.stem
        rows = by_key.get(path.name) or by_key.get(number)
        if rows and not is_video(path):
            found[path] = np.stack([box for box, _ in rows]), np.array([score for _, score in rows])
    without = [path.name for path in paths if path not in found]
    if without:
        names = ", ".join(without[:5]) + (", …" if len(without) > 5 else "")
        raise UserError(
            f"{source}: no box with a score of {DETECTION_THRESHOLD:g} or more for {len(without)} of {len(paths)} "
            f"inputs ({names}); image_id must be the picture's name as a number, or file_name its name"
        )
    return found
