"""COCO keypoint annotations, and any data set written in their format, with whatever skeleton it declares.

Boxes follow HRNet's reader: ground-truth boxes are clipped to the picture, detector boxes are used as they come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lgmpose.data.reading import read_coco, require_pictures
from lgmpose.data.records import PersonRecord, RecordSet, check_records
from lgmpose.errors import UserError
from lgmpose.files import read_json
from lgmpose.pose import geometry
from lgmpose.pose.skeletons import COCO, Skeleton, skeleton_from_category

__all__ = ["load_coco", "pictures_by_id"]


def load_coco(
    annotations: str | Path,
    images: str | Path,
    *,
    detections: str | Path | None = None,
    score_threshold: float = 0.0,
    elsewhere: Iterable[Path] = (),
) -> RecordSet:
    """Reads persons from a COCO keypoint JSON, with its ground-truth boxes or a detector's.

    What is left out is counted in the result's ``notes``: crowds, other categories, persons without a labelled joint,
    boxes of no area or outside the picture.

    Coordinates are pixels of the picture that has the JSON's ``height`` and ``width``: as stored, or, where only that
    fits, turned as its EXIF orientation says (tools that show photographs upright write such files). A picture of
    another size is treated as one that cannot be read, when it is read.

    Args:
        annotations: ``person_keypoints_*.json``, or any JSON of that format. With ``detections`` the picture list alone
            (``image_info_test-dev2017.json``) is enough.
        images: folder that the JSON's ``file_name``s are relative to.
        detections: JSON list of ``{image_id, category_id, bbox, score}``. Its boxes are used raw, and the records carry
            no joints.
        score_threshold: detector boxes below this score are left out.
        elsewhere: folders to take instead of ``images`` where the JSON's first picture is not there but in one of them.

    Returns:
        Records in the order of the annotations (or detections), ids as in the JSON (or the position in the list).

    Raises:
        UserError: a file or picture is missing or damaged, a person has the wrong number of keypoints, a coordinate is
            not finite, a person or detection refers to an unknown picture, a picture or the category has no whole
            number, a picture no name or size, joints lie elsewhere than the boxes, or nobody is left. With detections,
            too, the annotations must be such that AP can be measured.
    """
    content = read_coco(annotations)
    category_id, skeleton = _person_category(content, annotations, keypoints_needed=detections is None)
    pictures = pictures_by_id(content["images"], annotations)
    first = next((picture["file_name"] for picture in pictures.values()), "")
    images = next((folder for folder in (Path(images), *elsewhere) if (folder / first).is_file()), Path(images))
    has_truth = any(item.get("category_id") == category_id for item in content.get("annotations") or ())
    if has_truth or detections is None:  # where detections are read, to refuse now what AP would fail on later
        records, notes = _ground_truth(content, pictures, category_id, skeleton, annotations, Path(images))
    if detections is None:
        box_source, source = "ground-truth boxes", annotations
    else:
        records, notes = _detected(
            read_json(detections), pictures, category_id, skeleton, detections, annotations, Path(images),
            score_threshold,
        )  # fmt: skip
        box_source, source = f"detector boxes ({Path(detections).name})", detections
    record_set = RecordSet(
        name=Path(annotations).stem,
        skeleton=skeleton,
        records=tuple(records),
        box_source=box_source,
        annotation_file=Path(annotations) if has_truth else None,  # test-dev's truth is the server's
        category_id=category_id,
        has_keypoints=detections is None,
        notes={reason: count for reason, count in notes.items() if count},
    )
    check_records(record_set, source)
    used = {record.image_id for record in records}
    require_pictures(images, (pictures[image_id]["file_name"] for image_id in used), annotations)
    return record_set


def _person_category(content: dict, source: str | Path, *, keypoints_needed: bool) -> tuple[int, Skeleton]:
    """The category whose members have joints: the one named person, else the only one that lists keypoints."""
    categories = content.get("categories") or []
    with_keypoints = [category for category in categories if category.get("keypoints")]
    persons = [category for category in with_keypoints if category.get("name") == "person"] or with_keypoints
    if len(persons) == 1:
        category_id = _id(persons[0], f"{source}: its category {persons[0].get('name')}")
        try:
            return category_id, skeleton_from_category(persons[0])
        except (TypeError, ValueError) as error:
            raise UserError(f"{source}: its category cannot be read as a skeleton ({error})") from error
    if len(persons) > 1:
        names = ", ".join(str(category.get("name")) for category in persons)
        raise UserError(f"{source}: several categories list keypoints ({names}) and not one alone is named 'person'")
    persons = [category for category in categories if category.get("name") == "person"]
    if not keypoints_needed and persons:  # image_info_test-dev2017.json lists COCO's 80 categories without joints
        return _id(persons[0], f"{source}: its category person"), COCO
    raise UserError(
        f"{source}: no category lists keypoints; use the keypoint annotations (person_keypoints_*.json), "
        "not those of instances or captions"
    )


def _id(item: dict, where: str) -> int:
    """A picture's or a category's number, of the kind that COCO's results format and its evaluation take."""
    value = item.get("id")
    if not (isinstance(value, int | float) and value >= 0 and float(value).is_integer()):
        raise UserError(f"{where} has the id {value!r}; number pictures and categories by whole numbers from 0")
    return int(value)


def pictures_by_id(images: list[dict], source: str | Path) -> dict[int, dict]:
    """The list of pictures of COCO's format, each checked to have a number of its own, a name and a size."""
    pictures = {}
    for number, picture in enumerate(images):
        keys = picture if isinstance(picture, dict) else ()
        lacking = [key for key in ("id", "file_name", "height", "width") if key not in keys]
        if lacking:
            raise UserError(f"{source}: picture number {number} of its list has no {lacking[0]!r}")
        image_id = _id(picture, f"{source}: picture {picture['file_name']}")
        if image_id in pictures:
            raise UserError(f"{source}: two pictures have the id {image_id}")
        if not (isinstance(picture["file_name"], str) and picture["file_name"]):
            raise UserError(f"{source}: picture {image_id} has the file_name {picture['file_name']!r}; give its file")
        for key in ("height", "width"):
            if not (isinstance(picture[key], int | float) and 0 < picture[key] < np.inf):
                raise UserError(f"{source}: picture {image_id} has the {key} {picture[key]!r}; give it in pixels")
        pictures[image_id] = picture
    return pictures


def _box(item: dict, where: str) -> np.ndarray:
    """(4,) float64 x, y, w, h."""
    try:
        box_xywh = np.asarray(item["bbox"], np.float64)
    except KeyError:
        raise UserError(f"{where} has no 'bbox'") from None
    except (TypeError, ValueError):
        raise UserError(f"{where} has a 'bbox' that is not four numbers: {item['bbox']!r}") from None
    if box_xywh.shape != (4,):
        raise UserError(f"{where} has a 'bbox' that is not four numbers: {item['bbox']!r}")
    if not np.isfinite(box_xywh).all():
        raise UserError(f"{where} has a box with a NaN or infinite coordinate")
    return box_xywh


def _overlaps(box_xywh: np.ndarray, picture: dict) -> bool:
    x, y, width, height = box_xywh
    right, bottom = min(x + width, picture["width"]), min(y + height, picture["height"])
    return width > 0 and height > 0 and max(x, 0) < right and max(y, 0) < bottom


def _keypoints(item: dict, skeleton: Skeleton, where: str) -> tuple[np.ndarray, np.ndarray]:
    """(K, 2) float64 keypoints_xy and (K,) int64 visibility."""
    num_keypoints = skeleton.num_keypoints
    values = item.get("keypoints")
    if values is None:
        raise UserError(f"{where} has no 'keypoints'; use the keypoint annotations (person_keypoints_*.json)")
    if len(values) != 3 * num_keypoints:
        raise UserError(
            f"{where} has {len(values)} keypoint values; its category's {num_keypoints} keypoints need "
            f"{3 * num_keypoints} (x, y, visibility each)"
        )
    try:
        keypoints = np.asarray(values, np.float64).reshape(num_keypoints, 3)
    except (TypeError, ValueError):
        raise UserError(f"{where} has a keypoint value that is not a number") from None
    visibility = keypoints[:, 2]
    if not np.isin(visibility, (0, 1, 2)).all():
        raise UserError(f"{where} has a visibility other than 0, 1, 2")
    if not np.isfinite(keypoints[visibility > 0]).all():
        raise UserError(f"{where} has a labelled joint whose coordinate is NaN or infinite")
    return keypoints[:, :2].copy(), visibility.astype(np.int64)


def _ground_truth(
    content: dict, pictures: dict, category_id: int, skeleton: Skeleton, source: str | Path, images: Path
) -> tuple[list[PersonRecord], Counter]:
    if not isinstance(content.get("annotations"), list):
        raise UserError(f"{source}: no list of 'annotations'; a list of pictures alone needs a detector file")
    records, notes, seen_ids = [], Counter(), set()
    for number, annotation in enumerate(content["annotations"]):
        where = f"{source}: annotation {annotation.get('id', f'number {number}')}"
        if annotation.get("category_id") != category_id:
            notes["another category"] += 1
            continue
        picture = pictures.get(annotation.get("image_id"))
        if picture is None:
            raise UserError(f"{where} belongs to picture {annotation.get('image_id')}, which the file does not list")
        if annotation.get("iscrowd", 0):
            notes["crowd"] += 1
            continue
        if annotation.get("id") is None or annotation["id"] in seen_ids:
            raise UserError(f"{where} has no id of its own (missing, or used twice)")
        seen_ids.add(annotation["id"])
        keypoints_xy, visibility = _keypoints(annotation, skeleton, where)
        box_xywh = _box(annotation, where)
        if not visibility.any():
            notes["no labelled joint"] += 1
            continue
        inside = _overlaps(box_xywh, picture)  # sanitize_box would move a box on the far left into the picture
        box_xywh = geometry.sanitize_box(box_xywh, (picture["height"], picture["width"]))
        if box_xywh is None or not inside:
            notes["box of no area or outside the picture"] += 1
            continue
        center_xy, size_wh = geometry.box_to_center_size(box_xywh)
        records.append(
            PersonRecord(
                image=str(images / picture["file_name"]),
                center_xy=center_xy,
                size_wh=size_wh,
                keypoints_xy=keypoints_xy,
                visibility=visibility,
                id=annotation["id"],
                image_id=picture["id"],
                stated_hw=(picture["height"], picture["width"]),
                area=float(annotation.get("area") or box_xywh[2] * box_xywh[3]),
            )
        )
    return records, notes


def _detected(
    detections: list[dict], pictures: dict, category_id: int, skeleton: Skeleton, source: str | Path,
    annotations: str | Path, images: Path, score_threshold: float,
) -> tuple[list[PersonRecord], Counter]:  # fmt: skip
    if not isinstance(detections, list) or not all(isinstance(detection, dict) for detection in detections):
        raise UserError(f"{source}: not a list of detections (image_id, category_id, bbox, score each)")
    records, notes = [], Counter()
    num_keypoints = skeleton.num_keypoints
    for number, detection in enumerate(detections):
        where = f"{source}: detection number {number}"
        picture = pictures.get(detection.get("image_id"))
        if picture is None:
            raise UserError(
                f"{where} belongs to picture {detection.get('image_id')}, which {annotations} does not list; "
                "do both files belong to the same split?"
            )
        if detection.get("category_id", category_id) != category_id:
            notes["another category"] += 1
            continue
        box_xywh = _box(detection, where)
        score = detection.get("score")
        if not isinstance(score, (int, float)) or not np.isfinite(score):
            raise UserError(f"{where} has no finite 'score'")
        if score < score_threshold:
            notes[f"score below {score_threshold:g}"] += 1
            continue
        if not _overlaps(box_xywh, picture):
            notes["box of no area or outside the picture"] += 1
            continue
        center_xy, size_wh = geometry.box_to_center_size(box_xywh)
        records.append(
            PersonRecord(
                image=str(images / picture["file_name"]),
                center_xy=center_xy,
                size_wh=size_wh,
                keypoints_xy=np.zeros((num_keypoints, 2)),
                visibility=np.zeros(num_keypoints, np.int64),
                id=number,
                image_id=picture["id"],
                stated_hw=(picture["height"], picture["width"]),
                area=float(box_xywh[2] * box_xywh[3]),
                score=float(score),
            )
        )
    return records, notes
