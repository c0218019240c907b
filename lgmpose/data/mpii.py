"""MPII Human Pose, as a list of persons in the JSON format of the HRNet code.

MPII's coordinates are 1-based MATLAB pixels. The JSON keeps them, and ``load_mpii`` subtracts the 1. The ``scale`` of a
person is the person's height / 200 px, and ``center`` is roughly the middle of the body.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from lgmpose.data.images import find_pictures
from lgmpose.data.mpii_truth import HEAD_BOX_FACTOR, MPIITruth, load_mpii_truth
from lgmpose.data.records import PADDING, PersonRecord, RecordSet, check_records
from lgmpose.errors import UserError
from lgmpose.files import as_type, read_json
from lgmpose.pose.skeletons import MPII

__all__ = ["MATCH_PX", "MPIIPerson", "joint_arrays", "load_mpii"]

PIXELS_PER_SCALE = 200.0
MATCH_PX = 0.05  # lists of joints are rounded to 0.01 px; the joints of neighbours are whole pixels apart
NUM_KEYPOINTS = MPII.num_keypoints
_OfEachJoint = msgspec.Meta(min_length=NUM_KEYPOINTS, max_length=NUM_KEYPOINTS)


class MPIIPerson(msgspec.Struct):
    """One entry of the list; all coordinates are 1-based.

    Attributes:
        image: file name of the picture.
        center: (x, y), or -1 if not annotated.
        scale: the person's height / 200 px.
        joints: 16 points (x, y), in MPII's order.
        joints_vis: 16 flags, 0 where a joint is not labelled.
        joints_visible: 16 flags, 0 where a labelled joint is hidden; HRNet's lists have none.
        headbox: left, top, right, bottom; HRNet's lists have none.
        person: 1-based number of the person within the picture in the official file; 0 if not known.
    """

    image: str
    center: tuple[float, float]
    scale: float
    joints: Annotated[list[tuple[float, float]], _OfEachJoint]
    joints_vis: Annotated[list[float], _OfEachJoint]
    joints_visible: Annotated[list[float], _OfEachJoint] | None = None
    headbox: tuple[float, float, float, float] | None = None
    person: int = 0


def joint_arrays(persons: list[MPIIPerson]) -> tuple[np.ndarray, np.ndarray]:
    """Return the joints (n, 16, 2) float64, 1-based, and whether they are labelled (n, 16) bool."""
    joints = np.array([person.joints for person in persons], np.float64).reshape(-1, NUM_KEYPOINTS, 2)
    return joints, np.array([person.joints_vis for person in persons]).reshape(-1, NUM_KEYPOINTS) > 0


def load_mpii(annotations: str | Path, images: str | Path, *, truth: str | Path | None = None) -> RecordSet:
    """Load persons from HRNet's ``train.json``/``valid.json``, or from the lists that ``lgmpose data mpii`` writes.

    The crop is HRNet's: the centre moves down by 15 × scale, its side is 200 × scale × 1.25.

    Args:
        annotations: JSON list of ``MPIIPerson``.
        images: folder of the pictures.
        truth: ``gt_valid.mat``. The persons must be its first ones, in its order. They take its joints, its missing
            joints and its head sizes, so that PCKh is measured as published. For ``valid.json`` and ``mpii_val.json``
            without head boxes, it is looked for beside the list and in ``annot`` beside ``images``.

    Raises:
        UserError: A file or picture is missing or damaged, a value has a wrong type or is not finite, the list does not
            fit ``truth``, or no person is left.
    """
    persons = as_type(read_json(annotations), list[MPIIPerson], f"{annotations}: not a list of persons with joints")
    joints, labelled = joint_arrays(persons)
    seen = np.array([person.joints_visible or person.joints_vis for person in persons]).reshape(labelled.shape) > 0
    visibility = np.where(labelled, 1 + seen, 0)
    head_sizes = np.array([_head_size(person) for person in persons])
    if truth is None and not any(person.headbox for person in persons):
        truth = _find_truth(Path(annotations), Path(images))
    if truth is not None:
        ground_truth, count = load_mpii_truth(truth), len(persons)
        _check_order(ground_truth, joints, labelled, annotations, truth)
        joints, head_sizes = ground_truth.keypoints_xy_1based[:count], ground_truth.head_sizes[:count]
        visibility = np.where(ground_truth.visibility[:count] > 0, np.where(visibility > 0, visibility, 2), 0)

    notes, used = Counter[str](), []
    for number, person in enumerate(persons):
        if person.center[0] == -1 or person.scale <= 0:
            notes["no position or scale"] += 1
        elif not visibility[number].any():
            notes["no labelled joint"] += 1
        else:
            used.append(number)
    paths = find_pictures(images, (persons[number].image for number in used), annotations) if used else {}
    image_ids = {name: i for i, name in enumerate(dict.fromkeys(persons[number].image for number in used))}
    records = []
    for number in used:
        person = persons[number]
        side = PIXELS_PER_SCALE * person.scale
        records.append(
            PersonRecord(
                image=paths[person.image],
                center_xy=np.array(person.center) + (0, 15 * person.scale) - 1,
                size_wh=np.full(2, side * PADDING),
                keypoints_xy=joints[number] - 1,
                visibility=visibility[number].astype(np.int64),
                id=number,
                image_id=image_ids[person.image],
                area=side**2,
                head_size=float(head_sizes[number]),
            )
        )
    name = f"mpii-{Path(annotations).stem.removeprefix('mpii_')}"
    record_set = RecordSet(name, MPII, tuple(records), "ground-truth centre and scale", notes=dict(notes))
    return check_records(record_set, annotations)


def _head_size(person: MPIIPerson) -> float:
    if person.headbox is None:
        return float("nan")
    left, top, right, bottom = person.headbox
    return HEAD_BOX_FACTOR * float(np.hypot(right - left, bottom - top))


def _find_truth(annotations: Path, images: Path) -> Path | None:
    """Return the ``gt_valid.mat`` of HRNet's ``valid.json`` or of this project's ``mpii_val.json``, if it is there."""
    if annotations.name not in ("valid.json", "mpii_val.json"):
        return None
    candidates = (annotations.with_name("gt_valid.mat"), images.parent / "annot" / "gt_valid.mat")
    return next((path for path in candidates if path.is_file()), None)


def _check_order(
    truth: MPIITruth, joints: np.ndarray, labelled: np.ndarray, annotations: str | Path, truth_path: str | Path
) -> None:
    """Refuse persons that are not those of the ground truth, in its order: their PCKh would be wrong."""
    count = len(joints)
    if count > len(truth.visibility):
        raise UserError(f"{annotations}: {count} persons, but {truth_path} has {len(truth.visibility)}")
    # A coordinate of 0 in the truth may be one of its overwritten ones.
    comparable = labelled & (truth.visibility[:count] > 0) & (truth.keypoints_xy_1based[:count] > 0.5).all(2)
    distance = np.abs(joints - truth.keypoints_xy_1based[:count]).max(2)
    wrong = np.flatnonzero((comparable & (distance > MATCH_PX)).any(1) | ~comparable.any(1))
    if wrong.size:
        raise UserError(
            f"{annotations}: person number {wrong[0]} is not person {wrong[0]} of {truth_path} ({wrong.size} differ); "
            "use the standard validation list in its own order, or take that file away (heads are then measured from "
            "neck to head top)"
        )
