"""The official MATLAB file of MPII Human Pose, converted to the list of persons that ``load_mpii`` reads."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from lgmpose.data.matlab import load_mat
from lgmpose.data.mpii import MPIIPerson
from lgmpose.errors import UserError
from lgmpose.files import as_type
from lgmpose.pose.skeletons import MPII

__all__ = ["convert_mpii_mat"]

NUM_KEYPOINTS = MPII.num_keypoints


def convert_mpii_mat(mat_path: str | Path) -> tuple[list[MPIIPerson], Counter[str]]:
    """Convert the official ``mpii_human_pose_v1_u12_1.mat``; all coordinates stay 1-based.

    Returns:
        The persons, and what was left out, by reason. Test pictures are left out, as their joints are not public.

    Raises:
        UserError: The file is missing, damaged, or without the structure RELEASE, or a joint number is outside 0..15.
    """
    release = load_mat(mat_path, struct_as_record=False, squeeze_me=True).get("RELEASE")
    annolist, in_train = _field(release, "annolist"), _field(release, "img_train")
    if annolist is None or in_train is None:
        raise UserError(f"{mat_path}: no RELEASE with annolist and img_train; use mpii_human_pose_v1_u12_1.mat")
    pictures, flags = _items(annolist), np.atleast_1d(in_train)
    if flags.shape != (len(pictures),) or flags.dtype.kind not in "biuf":
        raise UserError(f"{mat_path}: {len(pictures)} pictures, but img_train is no list of as many numbers")
    entries, notes = [], Counter[str]()
    for index, (picture, is_train) in enumerate(zip(pictures, flags, strict=True)):
        if not is_train:
            notes["test picture"] += 1
            continue
        name = _field(_field(picture, "image"), "name")
        if not isinstance(name, str):
            raise UserError(f"{mat_path}: picture number {index} has no image with a name")
        for number, person in enumerate(_items(_field(picture, "annorect")), start=1):
            points = _items(_field(_field(person, "annopoints"), "point"))
            position, scale = _field(person, "objpos"), _field(person, "scale")
            where = f"{mat_path}: {name}, person {number}"
            if not points:
                notes["person without joints"] += 1
            elif position is None or scale is None:
                notes["person without position or scale"] += 1
            else:
                corners = [_field(person, key) for key in ("x1", "y1", "x2", "y2")]
                stated = all(corner is not None for corner in corners)
                entries.append({
                    "image": name,
                    "person": number,
                    "center": [_number(position, "x", where), _number(position, "y", where)],
                    "scale": _number(person, "scale", where),
                    "headbox": [_number(person, key, where) for key in ("x1", "y1", "x2", "y2")] if stated else None,
                    **_joints(points, where),
                })  # fmt: skip
    if not entries:
        raise UserError(f"{mat_path}: no person with joints in it ({dict(notes)})")
    return as_type(entries, list[MPIIPerson], mat_path), notes


def _field(struct: Any, name: str) -> Any:
    """Return a MATLAB field's value; None where it is absent or an empty array, which MATLAB uses alike."""
    value = getattr(struct, name, None)
    return None if isinstance(value, np.ndarray) and value.size == 0 else value


def _number(struct: Any, name: str, where: str) -> float:
    """Return a field that must be a finite number; raise UserError otherwise."""
    value = _field(struct, name)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: {name} is not a number")
    return number


def _items(value: Any) -> list[Any]:
    """Return a MATLAB struct array as a list; ``squeeze_me`` has made arrays of one element bare structs."""
    if value is None:
        return []
    return list(value.ravel()) if isinstance(value, np.ndarray) else [value]


def _joints(points: list[Any], where: str) -> dict[str, list]:
    joints = [[-1.0, -1.0] for _ in range(NUM_KEYPOINTS)]  # -1 stands for a missing joint, as in HRNet's JSON
    labelled, visible = [0] * NUM_KEYPOINTS, [0] * NUM_KEYPOINTS
    for point in points:
        joint = int(_number(point, "id", where))
        if not 0 <= joint < NUM_KEYPOINTS:
            raise UserError(f"{where} has a joint with the number {joint}; MPII's are 0 to {NUM_KEYPOINTS - 1}")
        joints[joint] = [_number(point, "x", where), _number(point, "y", where)]
        labelled[joint] = 1
        # The file mixes numbers, the characters '0' and '1', and nothing at all (head top and upper neck, which come
        # from the head box). Nothing counts as visible.
        flag = _field(point, "is_visible")
        nothing = flag is None or (isinstance(flag, str) and not flag)
        visible[joint] = 1 if nothing else int(_number(point, "is_visible", where) > 0)
    return {"joints": joints, "joints_vis": labelled, "joints_visible": visible}
