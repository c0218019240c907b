"""Read the boxes of persons from a detection file in COCO's results format, and find the picture of each."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lgmpose.errors import UserError
from lgmpose.files import as_type, read_json
from lgmpose.inference.inputs import as_boxes

__all__ = ["read_detections"]

DETECTION_THRESHOLD = 0.5  # detections with a lower score are left out
PERSON = 1  # COCO's number of the category


def read_detections(source: str | Path, pictures: Sequence[Path]) -> dict[Path, tuple[np.ndarray, np.ndarray]]:
    """Return the boxes (n, 4) and scores (n,) of the persons in each picture.

    COCO's results format cannot state that a picture shows nobody. So a picture without a detection in the file has no
    boxes. One line on stderr counts these pictures.

    A detection belongs to the picture whose path ends with its ``file_name``. Without a ``file_name``, it belongs to
    the picture whose name without suffix is its ``image_id``, as text or as a number (000007.jpg is 7).

    Left out are detections of other pictures, those with a score below 0.5, and, if there are several categories, those
    of other categories than 1.

    The file is a JSON list of ``bbox`` (x, y, w, h in pixels), ``score`` (0..1), and ``file_name`` or ``image_id``.

    Raises:
        UserError: the file is not such a list. Boxes, scores or categories have another convention. A detection belongs
            to several pictures. None of the pictures has a detection in the file.
    """
    content = as_type(read_json(source), list[dict[str, Any]], f"{source}: not a list of detections")
    detections = [as_type(one, _Detection, f"{source}: detection {i} cannot be read") for i, one in enumerate(content)]
    boxes, scores, persons = _checked(detections, source)
    by_name: dict[str, list[Path]] = {}
    for path in pictures:
        for name in {_plain(path.name), _plain(path.stem), _number(path.stem)}:
            by_name.setdefault(name, []).append(path)
    chosen: dict[Path, list[int]] = {}
    several = 0
    for i, detection in enumerate(detections):
        found = _pictures_of(detection, by_name)
        several += len(found) > 1
        for path in found:
            chosen.setdefault(path, []).append(i)
    if several:
        raise UserError(
            f"{source}: {several} of {len(content)} detections belong to more than one picture; "
            "write as much of each picture's path into file_name as tells them apart"
        )
    if missing := [path.name for path in pictures if path not in chosen]:
        names = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        message = f"{source}: no detection for {len(missing)} of {len(pictures)} pictures ({names})"
        if not chosen:
            raise UserError(f"{message}; file_name must be a picture's name, or image_id its name as a number")
        print(f"{message}: they are treated as showing no person", file=sys.stderr)
    kept = {path: [i for i in chosen.get(path, ()) if persons[i]] for path in pictures}
    return {path: (boxes[indices], scores[indices]) for path, indices in kept.items()}


class _Detection(msgspec.Struct):
    bbox: tuple[float, float, float, float]
    score: float
    image_id: Any = None  # of any type that can be a name
    file_name: Any = None
    category_id: int | None = PERSON


def _checked(detections: list[_Detection], source: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (n, 4), scores (n,), and whether each is a person to be used (n,)."""
    for i, detection in enumerate(detections):
        score, box = detection.score, detection.bbox
        if not 0 <= score <= 1:  # False for NaN
            raise UserError(f"{source}: detection {i} has 'score' {score!r}; give 0 to 1, and divide per cent by 100")
        try:
            as_boxes([box])
        except UserError:
            raise UserError(f"{source}: detection {i} has a 'bbox' that is not x, y, width, height: {box!r}") from None
    boxes = as_boxes([detection.bbox for detection in detections])
    scores = np.array([detection.score for detection in detections], float)
    if len(boxes) and boxes.max() <= 1:
        raise UserError(f"{source}: no box is larger than a pixel; give boxes in pixels, not as shares of the picture")
    categories = [PERSON if d.category_id is None else d.category_id for d in detections]
    if 0 in categories and any(category != 0 for category in categories):
        raise UserError(f"{source}: has a category_id 0; count categories from 1, COCO's number for persons")
    several = any(category != categories[0] for category in categories)  # a single category is that of persons
    persons = np.array([not several or category == PERSON for category in categories], bool)
    return boxes, scores, persons & (scores >= DETECTION_THRESHOLD)


def _pictures_of(detection: _Detection, by_name: dict[str, list[Path]]) -> list[Path]:
    """Return the pictures that a detection belongs to: one, or none, or several if its name is ambiguous."""
    file_name = detection.file_name
    if not isinstance(file_name, str):
        return by_name.get(_number(detection.image_id), [])
    parts = Path(_plain(file_name).replace("\\", "/")).parts
    candidates = by_name.get(parts[-1], []) if parts else []
    return [path for path in candidates if Path(_plain(str(path.absolute()))).parts[-len(parts) :] == parts]


def _number(image_id) -> str:
    """Return an ``image_id`` or name as text, numbers without leading zeros: 7, "000007" and 7.0 are "7"."""
    text = f"{image_id:.0f}" if isinstance(image_id, float) and image_id.is_integer() else _plain(str(image_id))
    return str(int(text)) if text.isdecimal() else text


def _plain(text: str) -> str:
    """Return a name in Unicode's composed form: macOS writes "ä" as two characters."""
    return unicodedata.normalize("NFC", text)
