"""COCO exports of the VGG Image Annotator (VIA), which has points and boxes, but no persons.

In such a file each labelled point is an annotation of its own, with three keypoint values, and its category is the
name of the joint. Rectangles are annotations with a box. Points are gathered into persons here.
Source: the function that exports COCO in VIA 2, and the project's documentation.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from lgmpose.errors import UserError
from lgmpose.files import as_type, read_json, write_atomically
from lgmpose.metrics.coco_format import Category, Id, Picture

__all__ = ["gather_points"]


class _Region(msgspec.Struct):
    image_id: Id
    category_id: Id
    keypoints: list[float] = []
    bbox: list[float] = []


class _ViaFile(msgspec.Struct):
    images: list[Picture]
    categories: list[Category]
    annotations: list[_Region]


def gather_points(file: str | Path) -> Path:
    """Write a COCO file whose persons are made from the points of a VIA export.

    A point belongs to the smallest rectangle of its picture that contains it. Where a picture has no rectangle, all its
    points are one person.

    Returns:
        The new file, ``lgmpose-NAME.json`` beside the old one.

    Raises:
        UserError: there are no points, a point lies in no rectangle, or a person has two points of one joint.
    """
    file = Path(file)
    content = as_type(read_json(file), _ViaFile, f"{file}: not a COCO export of VIA")
    is_point = [len(region.keypoints) == 3 for region in content.annotations]
    points = [region for region, point in zip(content.annotations, is_point, strict=True) if point]
    boxes = [r for r, point in zip(content.annotations, is_point, strict=True) if not point and len(r.bbox) == 4]
    used = {point.category_id for point in points}
    joints = [category for category in content.categories if category.id in used]
    if not joints:
        raise UserError(f"{file}: holds no points; label joints as points, each with the joint's name as its attribute")
    index = {category.id: i for i, category in enumerate(joints)}
    if unknown := used - index.keys():
        raise UserError(f"{file}: a point has the category {min(unknown)}, which the file does not list")
    annotations: list[dict[str, Any]] = []
    for picture in content.images:
        own = [box.bbox for box in boxes if box.image_id == picture.id]
        persons: dict[int | None, list[_Region]] = {}
        for point in points:
            if point.image_id == picture.id:
                persons.setdefault(_box_of(point, own, f"{file}: picture {picture.file_name}"), []).append(point)
        for number, members in persons.items():
            where = f"{file}: picture {picture.file_name}"
            person = _person(members, index, [str(joint.name) for joint in joints], where)
            box = {} if number is None else {"bbox": own[number]}
            annotations.append(person | box | {"id": len(annotations) + 1, "image_id": picture.id})
    category = {"id": 1, "name": "person", "keypoints": [str(joint.name) for joint in joints], "skeleton": []}
    images = [msgspec.to_builtins(picture) | {"as_shown": True} for picture in content.images]  # by a browser
    result = {"images": images, "categories": [category], "annotations": annotations}
    gathered = file.with_name(f"lgmpose-{file.name}")
    write_atomically(gathered, json.dumps(result).encode())
    return gathered


def _box_of(point: _Region, boxes: list[list[float]], where: str) -> int | None:
    """Return the number of the smallest box that contains a point; None if the picture has no box."""
    if not boxes:
        return None
    px, py = point.keypoints[:2]
    around = [(w * h, i) for i, (x, y, w, h) in enumerate(boxes) if x <= px <= x + w and y <= py <= y + h]
    if not around:
        raise UserError(f"{where}: the point ({px:g}, {py:g}) lies in no rectangle; enlarge its person's")
    return min(around)[1]


def _person(members: list[_Region], index: dict[int, int], names: list[str], where: str) -> dict[str, Any]:
    joint, count = Counter(index[point.category_id] for point in members).most_common(1)[0]
    if count > 1:
        raise UserError(f"{where}: a person has {count} points named {names[joint]}; draw a rectangle around each")
    keypoints = [0.0] * 3 * len(names)
    for point in members:
        start = 3 * index[point.category_id]
        keypoints[start : start + 3] = point.keypoints
    return {"category_id": 1, "iscrowd": 0, "keypoints": keypoints}
