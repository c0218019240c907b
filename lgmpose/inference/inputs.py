"""What a user hands over: pictures of many kinds, lists of files, boxes; checked and brought to one form."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lgmpose.data.images import read_image
from lgmpose.errors import UserError
from lgmpose.files import read_json

__all__ = [
    "as_boxes", "check_boxes", "is_own_drawing", "is_video", "list_inputs", "load_picture", "overlaps", "own_result",
    "read_detections",
]  # fmt: skip

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


def own_result(json_file: Path) -> dict[str, Any] | None:
    """What ``lgmpose predict`` wrote to a JSON: its keys; None where there is no such file, or another program's."""
    try:
        content = read_json(json_file)
    except UserError:
        return None
    ours = isinstance(content, dict) and "weights" in content and isinstance(content.get("path"), str)
    return content if ours and ("people" in content or "frames" in content) else None


def is_own_drawing(path: Path) -> bool:
    """Whether ``X_pose.jpg`` or ``X_pose.mp4`` was drawn by ``lgmpose predict``: then its ``X.json`` lies beside it.

    The name alone does not tell: ``tree_pose.jpg`` may be a photograph of a yogi.
    """
    key = {"_pose.jpg": "people", "_pose.mp4": "frames"}.get(path.name[-9:])
    result = own_result(path.with_name(f"{path.name[:-9]}.json")) if key else None
    return result is not None and key in result


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
                found = [path for path in found if not is_own_drawing(path)]
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
    """Boxes (n, 4) and scores (n,) per picture.

    Raises:
        UserError: no list of detections, a picture without a box, or boxes that may be one picture's or another's.
    """
    content = read_json(source)
    if not isinstance(content, list) or not all(isinstance(detection, dict) for detection in content):
        raise UserError(f"{source}: not a list of detections (image_id or file_name, bbox, score each)")
    categories = [detection.get("category_id", 1) for detection in content]
    several = any(category != categories[0] for category in categories)  # else they are persons, whatever their number
    by_key: dict[str | Path, list] = {}
    of_others = 0
    for number, (detection, category) in enumerate(zip(content, categories, strict=True)):
        where = f"{source}: detection number {number}"
        score, box = detection.get("score"), detection.get("bbox")
        if not isinstance(score, (int, float)) or not math.isfinite(score):
            raise UserError(f"{where} has no finite 'score'")
        if score < DETECTION_THRESHOLD:
            continue
        if several and category != 1:  # 1 is COCO's person
            of_others += 1
            continue
        try:
            (box,) = as_boxes([box])
        except (UserError, ValueError):
            raise UserError(f"{where} has a 'bbox' that is not x, y, width, height of some area: {box!r}") from None
        file_name = detection.get("file_name")
        key = Path(file_name) if isinstance(file_name, str) else _as_number(detection.get("image_id"))
        by_key.setdefault(key, []).append((box, score))
    found = {}
    for path, key in _match(by_key, [path for path in paths if not is_video(path)], source).items():
        found[path] = np.stack([box for box, _ in by_key[key]]), np.array([score for _, score in by_key[key]])
    without = [path.name for path in paths if path not in found]
    if without:
        names = ", ".join(without[:5]) + (", …" if len(without) > 5 else "")
        others = f" ({of_others} left out: their category_id is not 1, a person's)" if of_others else ""
        raise UserError(
            f"{source}: no box with a score of {DETECTION_THRESHOLD:g} or more for {len(without)} of {len(paths)} "
            f"inputs ({names}){others}; image_id must be the picture's name as a number, or file_name its name"
        )
    return found


def _as_number(image_id) -> str:
    """A picture's number as text: 7 and "000007" and pandas' 7.0 are "7"; other names stay as they are."""
    text = str(int(image_id)) if isinstance(image_id, float) and image_id.is_integer() else str(image_id)
    return str(int(text)) if text.isdecimal() else text


def _match(keys: Collection[str | Path], pictures: list[Path], source: str | Path) -> dict[Path, str | Path]:
    """The key of each picture that has one: the file name whose end is longest the same as its path's, or its number.

    Each must be the other's best, since a file may hold boxes of more folders than are among the inputs.

    Args:
        keys: file names as paths; numbers, or other names, as text.

    Raises:
        UserError: a key that fits two pictures, or a picture that two keys fit.
    """
    known = {end for key in keys for end in _ends(key)}
    sharing: dict[tuple, list[Path]] = {}  # by every end that a key has, the pictures that end so
    best: dict[tuple, list[Path]] = {}  # by the longest such end of the picture
    for path in pictures:
        ends = (*_ends(path.absolute()), (_as_number(path.stem),))
        ends = [end for end in dict.fromkeys(ends) if end in known]
        for end in ends:
            sharing.setdefault(end, []).append(path)
        if ends:
            best.setdefault(ends[0], []).append(path)
    found: dict[Path, str | Path] = {}
    how = "write more of the pictures' paths into file_name"
    for key in keys:
        end = next((end for end in _ends(key) if end in sharing), None)
        wanted = best.get(end, [])
        if end in _ends(key)[:1] and not wanted:  # all of it fits, but another key fits better
            raise UserError(f"{source}: boxes of {key} may be those of {sharing[end][0]}, which another fits; {how}")
        if wanted and len(sharing[end]) > 1:
            raise UserError(f"{source}: boxes of {key} fit both {sharing[end][0]} and {sharing[end][1]}; {how}")
        for path in wanted:
            if path in found:
                raise UserError(f"{source}: boxes of both {found[path]} and {key} fit {path}; {how}")
            found[path] = key
    return found


def _ends(key: str | Path) -> list[tuple[str, ...]]:
    """A path's ends, the longest first; a number stands for itself."""
    parts = key.parts if isinstance(key, Path) else (key,)
    return [parts[i:] for i in range(len(parts))]
