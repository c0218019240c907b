"""Read the persons of a COCO annotation file, by the same rules for data sets and for average precision.

Official COCO files state everything. Files of other tools leave fields out, write numbers as text, or give areas that
are not in square pixels. Values with only one possible meaning are read. A person that cannot be used is left out and
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from lgmpose.errors import UserError
from lgmpose.files import as_type
from lgmpose.pose.geometry import LARGEST_PX, box_around_points, sanitize_box

__all__ = [
    "Category", "CocoFile", "Id", "Person", "Picture", "is_usable_box", "one_skeleton", "read_coco_file",
    "read_persons", "usable_area", "whole_ids",
]  # fmt: skip

Id = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
# Segment area / box area. In COCO it lies between about 0.1 and 1; outside these limits the area is in another unit.
AREA_SHARES = (0.005, 2.0)


class Picture(msgspec.Struct):
    """One entry of ``images``. ``height`` and ``width`` are pixels; 0 where the file does not state them.

    ``as_shown`` is not COCO's: the picture was annotated as shown, turned by EXIF (``images.read_annotated``).
    """

    id: Id
    file_name: str = ""
    height: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    width: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    as_shown: bool = False


class Category(msgspec.Struct):
    """One entry of ``categories``."""

    id: Id
    name: str | None = None
    keypoints: list[str] | None = None
    skeleton: list[tuple[int, int]] | None = None
    sigmas: list[float] | None = None
    flip_pairs: list[tuple[str, str]] | None = None


class _Annotation(msgspec.Struct):
    id: Id | None = None
    image_id: Id | None = None
    category_id: Id | None = None
    keypoints: list[float | None] | None = None
    bbox: list[float] | None = None
    area: float | None = None
    iscrowd: int | bool | None = 0


class CocoFile(msgspec.Struct):
    """A COCO annotation file whose pictures and categories are checked; ``annotations`` are as they were."""

    images: list[Picture]
    categories: list[Category] = []
    annotations: list[Any] | None = None

    @property
    def pictures(self) -> dict[int, Picture]:
        return {picture.id: picture for picture in self.images}


@dataclass(frozen=True, eq=False)
class Person:
    """One usable person of a COCO annotation file.

    Attributes:
        id: number of the annotation, or its position in the list.
        image_id: number of the picture.
        is_crowd: whether it stands for a group of people, which no pose is compared with.
        keypoints_xy: (K, 2) pixels; 0 where the file has null.
        visibility: (K,) int64: 0 not labelled, 1 hidden, 2 visible.
        box_xywh: (4,) pixels: the stated box, or one around the joints where that cannot be used.
        area: segment area in square pixels, or the box's where the stated area cannot be used.
    """

    id: int
    image_id: int
    is_crowd: bool
    keypoints_xy: np.ndarray
    visibility: np.ndarray
    box_xywh: np.ndarray
    area: float


def read_coco_file(content: Any, source: str | Path) -> CocoFile:
    """Check the pictures and categories of a decoded COCO annotation file; errors name its source.

    Raises:
        UserError: An entry has a wrong type or lacks its id, or two pictures have the same id.
    """
    if isinstance(content, dict):
        content = {key: whole_ids(value) for key, value in content.items()}
    file = as_type(content, CocoFile, f"{source}: not a COCO annotation file")
    if len(file.pictures) < len(file.images):
        twice = Counter(picture.id for picture in file.images).most_common(1)[0][0]
        raise UserError(f"{source}: two pictures have the id {twice}; give each its own")
    return file


def whole_ids(entries: Any) -> Any:
    """Return a list of entries whose ids in quotes are numbers, also with leading zeros: "000000000785" is 785."""
    if not isinstance(entries, list):
        return entries
    return [_with_whole_ids(entry) if isinstance(entry, dict) else entry for entry in entries]


def _with_whole_ids(entry: dict) -> dict:
    changes = {}
    for key in ("id", "image_id", "category_id"):
        value = entry.get(key)
        if isinstance(value, str) and value.isdecimal() and len(value) < 20:
            changes[key] = int(value)
    return entry | changes if changes else entry


def one_skeleton(categories: list[Category], chosen: Category) -> set[int]:
    """Return the ids of all categories with the same joints as the chosen one; they are read as one category."""
    return {chosen.id} | {c.id for c in categories if c.keypoints and c.keypoints == chosen.keypoints}


def read_persons(
    annotations: list, pictures: Mapping[int, Picture], category_ids: set[int], num_keypoints: int
) -> tuple[list[Person], Counter[str]]:
    """Read the persons of a COCO annotation file.

    Returns:
        The persons in the file's order, and how many were left out or completed, by reason.
    """
    persons: list[Person] = []
    stated: list[float | None] = []
    notes = Counter[str]()
    for number, entry in enumerate(annotations):
        try:
            annotation = msgspec.convert(entry, _Annotation, strict=False)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            notes[f"entry that cannot be read: {error}"] += 1
            continue
        if annotation.category_id not in category_ids:
            notes["another category"] += 1
            continue
        if (picture := pictures.get(annotation.image_id)) is None:  # type: ignore[arg-type]
            notes["in a picture that the file does not list"] += 1
            continue
        person = _person(annotation, number, picture, num_keypoints, notes)
        if isinstance(person, str):
            notes[person] += 1
        else:
            persons.append(person)
            stated.append(annotation.area)
    if _is_placeholder(stated, persons):
        persons = [replace(person, area=float(person.box_xywh[2] * person.box_xywh[3])) for person in persons]
        notes["area of the box, as the file states one area for all persons"] += len(persons)
    return persons, notes


def _is_placeholder(stated: list[float | None], persons: list[Person]) -> bool:
    """Return True if all persons have the same area, which was believed, although their boxes differ much."""
    if len(persons) < 3 or len({*stated, *(person.area for person in persons)}) > 1:
        return False
    sizes = [float(person.box_xywh[2] * person.box_xywh[3]) for person in persons]
    return max(sizes) > 4 * min(sizes)


def _person(
    annotation: _Annotation, number: int, picture: Picture, num_keypoints: int, notes: Counter[str]
) -> Person | str:
    """Return the person, or the reason why it cannot be used."""
    values, is_crowd = annotation.keypoints or [], bool(annotation.iscrowd)
    if is_crowd and len(values) != 3 * num_keypoints:
        values = [0.0] * (3 * num_keypoints)  # as COCO's own crowds
    if not values:
        return "no keypoints"
    if len(values) != 3 * num_keypoints:
        return f"{len(values)} keypoint values instead of {3 * num_keypoints}"
    if not {0, 1, 2}.issuperset(values[2::3]):
        return "visibility other than 0, 1, 2"
    joints = np.array(values, np.float64).reshape(num_keypoints, 3)  # None becomes NaN
    labelled_xy = joints[joints[:, 2] > 0, :2]
    if not (np.abs(labelled_xy) < LARGEST_PX).all():  # False for NaN
        return "labelled joint that is NaN, infinite or far outside"
    joints[~np.isfinite(joints)] = 0
    box_xywh = annotation.bbox
    if not is_usable_box(box_xywh, picture, for_crop=len(labelled_xy) > 0):
        box_xywh = box_around_points(labelled_xy).tolist() if len(labelled_xy) > 1 else None
        if not is_usable_box(box_xywh, picture, for_crop=True):
            return "no box in the picture, and none from the joints"
        notes["box around the joints instead of the stated one"] += 1
    assert box_xywh is not None  # it is usable
    return Person(
        id=number if annotation.id is None else annotation.id,
        image_id=picture.id,
        is_crowd=is_crowd,
        keypoints_xy=joints[:, :2].copy(),
        visibility=joints[:, 2].astype(np.int64),
        box_xywh=np.array(box_xywh),
        area=usable_area(annotation.area, box_xywh[2] * box_xywh[3], labelled_xy, notes),
    )


def is_usable_box(box_xywh: Sequence[float] | None, picture: Picture, *, for_crop: bool) -> bool:
    """Return True if a box has an area and lies, at least in part, in its picture."""
    if not box_xywh or len(box_xywh) != 4 or not all(abs(value) < LARGEST_PX for value in box_xywh):  # False for NaN
        return False
    x, y, width, height = box_xywh
    if not (width > 0 and height > 0):
        return False
    if not (picture.height and picture.width):  # not stated
        return True
    if for_crop and sanitize_box(box_xywh, (picture.height, picture.width)) is None:
        return False
    return -width < x < picture.width and -height < y < picture.height


def usable_area(stated: float | None, box_area: float, labelled_xy: np.ndarray, notes: Counter[str]) -> float:
    """Return a person's stated area, or the box's if it states none or one in another unit, which is counted."""
    if stated is None:
        return box_area
    if AREA_SHARES[0] * box_area <= stated <= AREA_SHARES[1] * box_area:  # False for NaN
        return stated
    if len(labelled_xy) > 1 and box_area < stated < np.inf:  # the box may be of the head alone
        joints_box = box_around_points(labelled_xy)
        if stated <= AREA_SHARES[1] * joints_box[2] * joints_box[3]:
            return stated
    notes["area of the box instead of the stated one, which is not in square pixels"] += 1
    return box_area
