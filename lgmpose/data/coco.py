"""COCO keypoint annotations, and any data set written in their format, with the skeleton that it declares.

Boxes follow HRNet's reader: ground-truth boxes are clipped to the picture, detector boxes are used as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from lgmpose.data.images import find_pictures, folder_with_most
from lgmpose.data.records import PersonRecord, RecordSet, check_records
from lgmpose.errors import UserError
from lgmpose.files import as_type, read_json
from lgmpose.metrics.coco_format import (
    Category,
    CocoFile,
    Id,
    Person,
    Picture,
    one_skeleton,
    read_coco_file,
    read_persons,
    whole_ids,
)
from lgmpose.pose.geometry import LARGEST_PX, box_to_center_size, sanitize_box
from lgmpose.pose.skeletons import COCO, Skeleton, check_sigmas, skeleton_from_category

__all__ = ["load_coco", "picture_names"]


class _Detection(msgspec.Struct):
    image_id: Id
    bbox: tuple[float, float, float, float]
    score: float
    category_id: Id | None = None


def load_coco(  # more than half of it is the docstring
    annotations: str | Path,
    images: str | Path | Sequence[Path],
    *,
    detections: str | Path | None = None,
    categories: Sequence[str] = (),
) -> RecordSet:
    """Load persons from a COCO keypoint JSON, with its ground-truth boxes or a detector's.

    ``coco_format.read_persons`` decides which persons can be used. What is left out is counted in the result's
    ``notes``. Categories that list the same joints are read as one, unless ``categories`` chooses some of them.

    Coordinates are pixels of the picture with the JSON's ``height`` and ``width``. This is the picture as stored or, if
    only that fits, turned by its EXIF orientation. A picture of another size counts as unreadable when it is read.

    Args:
        annotations: ``person_keypoints_*.json``, or any JSON of that format. With ``detections``, the list of pictures
            alone (``image_info_test-dev2017.json``) is enough.
        images: folder that each ``file_name`` of the JSON is relative to; or several folders, of which the one with the
            most pictures is taken.
        detections: JSON list of ``{image_id, category_id, bbox, score}``. Its records carry no joints.
        categories: names of the categories to read, which must list the same joints; () for "person", or the only ones
            with joints.

    Returns:
        Records in the order of the annotations (or detections), with the JSON's ids (or positions in the list).

    Raises:
        UserError: A file or picture is missing or damaged, a picture has no id, name or size, a detection belongs to an
            unknown picture, joints lie elsewhere than boxes, or no person is left. With ``detections`` too, the persons
            of ``annotations`` must be usable, as AP is measured against them.
    """
    file = read_coco_file(read_json(annotations), annotations)
    chosen = _named_categories(file.categories, categories, annotations)
    category, skeleton = _person_category(chosen, annotations, keypoints_needed=detections is None)
    ids = one_skeleton(chosen, category)
    names = picture_names(file, annotations)
    persons, notes = read_persons(file.annotations or [], file.pictures, ids, skeleton.num_keypoints)
    notes += _merged(file, category, () if categories else ids - {category.id}, skeleton.num_keypoints)
    if detections is None:
        records, left_out = _true_records(persons, file.pictures)
        notes += left_out
    else:
        if not persons and set(notes) - {"another category"}:
            raise UserError(f"{annotations}: has no person to measure AP against ({dict(notes)})")
        records, left_out = _detected_records(detections, file.pictures, ids, skeleton, annotations)
        notes = left_out + Counter({f"annotations: {reason}": number for reason, number in notes.items()})
    records = _with_paths(records, images, names, annotations)
    record_set = RecordSet(
        name=Path(annotations).stem,
        skeleton=skeleton,
        records=tuple(records),
        box_source="ground-truth boxes" if detections is None else f"detector boxes ({Path(detections).name})",
        annotation_file=Path(annotations) if persons else None,  # the truth of test-dev is not public
        image_ids=tuple(file.pictures),
        category_id=category.id,
        category_ids=tuple(sorted(ids)),
        has_keypoints=detections is None,
        notes=dict(notes),
    )
    person_id, number = Counter(record.id for record in records).most_common(1)[0] if records else (0, 1)
    if number > 1:
        raise UserError(f"{annotations}: several annotations have the id {person_id}; give each its own")
    return check_records(record_set, annotations if detections is None else detections)


def _with_paths(
    records: list[PersonRecord], images: str | Path | Sequence[Path], names: list[str], annotations: str | Path
) -> list[PersonRecord]:
    """Return the records with the paths of their pictures, which are in the folder that has most of them."""
    folders = [Path(images)] if isinstance(images, str | Path) else list(images)
    folder = folder_with_most(folders, names)
    paths = find_pictures(folder, (record.image for record in records), annotations) if records else {}
    return [replace(record, image=paths[record.image]) for record in records]


def _merged(file: CocoFile, category: Category, others: Collection[int], num_keypoints: int) -> Counter[str]:
    """Return how many persons of other categories are read as this one although the user did not choose them."""
    notes = Counter[str]()
    for other in (other for other in file.categories if other.id in others):
        persons, _ = read_persons(file.annotations or [], file.pictures, {other.id}, num_keypoints)
        notes[f"of category {other.name or other.id}, read as category {category.name or category.id}"] = len(persons)
    return notes


def picture_names(file: CocoFile, source: str | Path) -> list[str]:
    """Return the file names of a file's pictures.

    Raises:
        UserError: A picture has no file name or no size.
    """
    for picture in file.images:
        for key in ("file_name", "height", "width"):
            if not getattr(picture, key):
                raise UserError(f"{source}: picture {picture.id} has no {key}")
    return [picture.file_name for picture in file.images]


def _named_categories(categories: list[Category], names: Sequence[str], source: str | Path) -> list[Category]:
    """Return the categories of these names, which must list the same joints; all of them without names."""
    if not names:
        return categories
    known = {category.name: category for category in categories if category.name}
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{source}: no category {unknown[0]!r}; it has {', '.join(sorted(known)) or 'none'}")
    chosen = [known[name] for name in names]
    if not all(category.keypoints and category.keypoints == chosen[0].keypoints for category in chosen):
        raise UserError(f"{source}: the categories {', '.join(names)} do not list the same joints; choose one of them")
    return chosen


def _person_category(
    categories: list[Category], source: str | Path, *, keypoints_needed: bool
) -> tuple[Category, Skeleton]:
    """Return the category whose members have joints: the one named person, else the only one that lists keypoints."""
    with_keypoints = [category for category in categories if category.keypoints]
    persons = [category for category in with_keypoints if category.name == "person"] or with_keypoints
    if len({tuple(category.keypoints or ()) for category in persons}) > 1:
        names = ", ".join(str(category.name or category.id) for category in persons)
        raise UserError(
            f"{source}: categories of several skeletons ({names}), and not one alone is named 'person'; choose with "
            "--categories NAME"
        )
    if persons:
        where = f"{source}: its category {persons[0].name or persons[0].id}"
        try:
            skeleton = skeleton_from_category(msgspec.to_builtins(persons[0]))
        except ValueError as error:
            raise UserError(f"{where} is not a skeleton: {error}") from error
        check_sigmas(skeleton.oks_sigmas, where)
        return persons[0], skeleton
    named = [category for category in categories if category.name == "person"]
    if not keypoints_needed and named:  # image_info_test-dev2017.json lists COCO's 80 categories without joints
        return named[0], COCO
    raise UserError(
        f"{source}: no category lists keypoints; use the keypoint annotations (person_keypoints_*.json), not those of "
        'instances or captions; where only the names are missing, add "keypoints": [...] to the persons\' category'
    )


def _record(
    picture: Picture, box_xywh: np.ndarray, joints: tuple[np.ndarray, np.ndarray], person_id: int, area: float,
    score: float = 1.0,
) -> PersonRecord:  # fmt: skip
    center_xy, size_wh = box_to_center_size(box_xywh)
    return PersonRecord(
        image=picture.file_name,
        center_xy=center_xy,
        size_wh=size_wh,
        keypoints_xy=joints[0],
        visibility=joints[1],
        id=person_id,
        image_id=picture.id,
        area=area,
        score=score,
        stated_hw=(picture.height, picture.width),
        as_shown=picture.as_shown,
    )


def _true_records(persons: list[Person], pictures: dict[int, Picture]) -> tuple[list[PersonRecord], Counter[str]]:
    records, notes = [], Counter[str]()
    for person in persons:
        picture = pictures[person.image_id]
        box_xywh = sanitize_box(person.box_xywh, (picture.height, picture.width))
        if person.is_crowd:
            notes["crowd"] += 1
        elif box_xywh is None or not person.visibility.any():  # read_persons has checked the boxes of all others
            notes["no labelled joint"] += 1
        else:
            joints = person.keypoints_xy, person.visibility
            records.append(_record(picture, box_xywh, joints, person.id, area=person.area))
    return records, notes


def _detected_records(
    source: str | Path,
    pictures: dict[int, Picture],
    category_ids: set[int],
    skeleton: Skeleton,
    annotations: str | Path,
) -> tuple[list[PersonRecord], Counter[str]]:
    detections = as_type(whole_ids(read_json(source)), list[_Detection], f"{source}: not a list of detections")
    if 0 not in category_ids and any(detection.category_id == 0 for detection in detections):
        raise UserError(
            f"{source}: has the category_id 0, but persons are {min(category_ids)} in {annotations}; give both files "
            "the same categories (COCO counts from 1)"
        )
    records, notes = [], Counter[str]()
    for number, detection in enumerate(detections):
        where = f"{source}: detection number {number}"
        if (picture := pictures.get(detection.image_id)) is None:
            raise UserError(
                f"{where} belongs to picture {detection.image_id}, which {annotations} does not list; do both files "
                "belong to the same split?"
            )
        if detection.category_id is not None and detection.category_id not in category_ids:
            notes["another category"] += 1
            continue
        x, y, width, height = detection.bbox
        if not (np.abs(detection.bbox).max() < LARGEST_PX and 0 <= detection.score <= 1):  # False for NaN
            raise UserError(
                f"{where} has the box {detection.bbox} and the score {detection.score}; give boxes in pixels and "
                "scores from 0 to 1"
            )
        if not (width > 0 and height > 0 and -width < x < picture.width and -height < y < picture.height):
            notes["box without area or outside the picture"] += 1
            continue
        no_joints = np.zeros((skeleton.num_keypoints, 2)), np.zeros(skeleton.num_keypoints, np.int64)
        box = np.array(detection.bbox)
        records.append(_record(picture, box, no_joints, number, area=width * height, score=detection.score))
    if records and max(record.size_wh.max() for record in records) < 2:
        raise UserError(f"{source}: no box is larger than 2 pixels; give boxes in pixels, not as fractions")
    if _are_corners(detections, pictures):
        raise UserError(f"{source}: the boxes are left, top, right, bottom; give x, y, width, height")
    return records, notes


def _are_corners(detections: list[_Detection], pictures: dict[int, Picture]) -> bool:
    """Return True if boxes hold two corners (x1, y1, x2, y2) instead of a corner and a size (x, y, w, h).

    They do if the second pair is beyond the first one, and if it would reach beyond the picture as a size.
    """
    boxes = np.array([detection.bbox for detection in detections]).reshape(-1, 4)
    sizes_wh = np.array([(pictures[d.image_id].width, pictures[d.image_id].height) for d in detections]).reshape(-1, 2)
    are_ordered = (boxes[:, 2:] > boxes[:, :2]).all() and (boxes[:, 2:] <= 1.05 * sizes_wh + 1).all()
    leave = (boxes[:, :2] + boxes[:, 2:] > 1.1 * sizes_wh + 1).any(1)
    return bool(len(boxes) >= 3 and are_ordered and leave.mean() > 0.25)
