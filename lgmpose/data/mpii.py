"""MPII Human Pose: the JSON of the HRNet code, the official MATLAB file, and the standard validation split.

MPII's coordinates are 1-based MATLAB pixels; the JSON keeps them so, and ``load_mpii`` takes the 1 off. In the JSON a
person's ``scale`` is the person's height / 200 px and ``center`` the rough middle of the body.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lgmpose.data.mpii_truth import HEAD_BOX_FACTOR, MPIITruth, load_mpii_truth
from lgmpose.data.reading import load_mat, require_pictures
from lgmpose.data.records import PADDING, PersonRecord, RecordSet, check_records
from lgmpose.errors import UserError
from lgmpose.files import read_json
from lgmpose.pose.skeletons import MPII

__all__ = [
    "VAL_LIST",
    "JointIndex",
    "ValPerson",
    "convert_mpii_mat",
    "load_mpii",
    "mpii_split",
    "read_val_list",
]

VAL_LIST = Path(__file__).with_name("mpii_val_2958.csv")
PIXELS_PER_SCALE = 200.0
MATCH_PX = 0.05  # the list is rounded to 0.01 px; neighbours' joints are whole pixels apart
NUM_KEYPOINTS = MPII.num_keypoints


def load_mpii(
    annotations: str | Path, images: str | Path, *, truth: str | Path | None = None, split: str = "all"
) -> RecordSet:
    """Reads persons from HRNet's ``train.json``/``valid.json``, or from what ``convert_mpii_mat`` makes.

    The crop is HRNet's: the centre moves down by 15 × scale, its side is 200 × scale × 1.25. Centre and joints lose
    MATLAB's 1.

    Args:
        annotations: JSON list of ``{image, center, scale, joints, joints_vis}``; optional per person:
            ``joints_visible`` (0 for hidden joints) and ``headbox`` (x1, y1, x2, y2).
        images: folder of the pictures.
        truth: ``gt_valid.mat``. The persons must then be its first ones, in its order; they take its joints, its
            missing joints and its head sizes, so that PCKh is measured as published. Where the list has no head boxes
            (HRNet's has none), it is looked for beside the list and in ``annot`` beside ``images``.
        split: ``all`` of the list, or ``train``/``val`` by ``mpii_split``.

    Raises:
        UserError: a file or picture is missing or damaged, a person has not 16 joints, a value is not finite, the list
            does not fit ``truth``, or nobody is left.
    """
    entries = read_json(annotations)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{annotations}: not a list of persons (image, center, scale, joints, joints_vis each)")
    if split not in ("all", "train", "val"):
        raise UserError(f"MPII has no split {split!r}; choose all, train or val")
    joints, labelled, visible = _joint_arrays(entries, annotations)
    indices = range(len(entries))
    if split != "all":
        train, val = mpii_split(entries, annotations)
        indices = train if split == "train" else val
    if truth is None and not any(entry.get("headbox") for entry in entries):
        truth = _find_truth(Path(annotations), Path(images))
    ground_truth = None if truth is None else load_mpii_truth(truth)
    if ground_truth is not None:
        _check_order(ground_truth, joints[list(indices)], labelled[list(indices)], annotations, truth)

    records, notes, image_ids = [], Counter(), {}
    for position, index in enumerate(indices):
        entry, where = entries[index], f"{annotations}: person number {index}"
        center_xy, scale = _center_and_scale(entry, where)
        if center_xy[0] == -1 or scale <= 0:
            notes["no position or scale"] += 1
            continue
        keypoints_xy, visibility = joints[index], np.where(labelled[index], 1 + visible[index], 0)
        head_size = _head_size(entry, where)
        if ground_truth is not None:
            keypoints_xy = ground_truth.keypoints_xy_1based[position]
            visibility = np.where(ground_truth.visibility[position] > 0, np.where(visibility > 0, visibility, 2), 0)
            head_size = float(ground_truth.head_sizes[position])
        if not visibility.any():
            notes["no labelled joint"] += 1
            continue
        side = PIXELS_PER_SCALE * scale
        records.append(
            PersonRecord(
                image=str(Path(images) / entry["image"]),
                center_xy=center_xy + (0, 15 * scale) - 1,
                size_wh=np.full(2, side * PADDING),
                keypoints_xy=keypoints_xy - 1,
                visibility=visibility.astype(np.int64),
                id=index,
                image_id=image_ids.setdefault(entry["image"], len(image_ids)),
                area=side**2,
                head_size=head_size,
            )
        )
    record_set = RecordSet(
        name="mpii-" + (split if split != "all" else Path(annotations).stem.removeprefix("mpii_")),
        skeleton=MPII,
        records=tuple(records),
        box_source="ground-truth centre and scale",
        notes=dict(notes),
    )
    check_records(record_set, annotations)
    require_pictures(images, (entries[record.id]["image"] for record in records), annotations)
    return record_set


def _find_truth(annotations: Path, images: Path) -> Path | None:
    """The ``gt_valid.mat`` of HRNet's ``valid.json``, or of this project's ``mpii_val.json``; no other list has one."""
    if annotations.name not in ("valid.json", "mpii_val.json"):
        return None
    candidates = (annotations.with_name("gt_valid.mat"), images.parent / "annot" / "gt_valid.mat")
    return next((path for path in candidates if path.is_file()), None)


def _joint_arrays(entries: list[dict], source: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, 16, 2) float64 1-based joints, (n, 16) bool labelled, (n, 16) bool visible."""
    joints = np.full((len(entries), NUM_KEYPOINTS, 2), -1.0)
    labelled = np.zeros((len(entries), NUM_KEYPOINTS), bool)
    visible = np.zeros_like(labelled)
    for index, entry in enumerate(entries):
        where = f"{source}: person number {index}"
        lacking = [key for key in ("image", "joints", "joints_vis", "center", "scale") if key not in entry]
        if lacking:
            raise UserError(f"{where} has no {lacking[0]!r}; lists of MPII's test pictures, for one, have no joints")
        try:
            own_joints = np.asarray(entry["joints"], np.float64)
            own_labelled = np.asarray(entry["joints_vis"], np.float64)
            own_visible = np.asarray(entry.get("joints_visible", entry["joints_vis"]), np.float64)
        except (TypeError, ValueError):
            raise UserError(f"{where} has a joint that is not made of numbers") from None
        if own_joints.shape != (NUM_KEYPOINTS, 2) or own_labelled.shape != (NUM_KEYPOINTS,):
            raise UserError(
                f"{where} has joints of shape {own_joints.shape} and joints_vis of shape {own_labelled.shape}; MPII "
                f"needs ({NUM_KEYPOINTS}, 2) and ({NUM_KEYPOINTS},)"
            )
        if own_visible.shape != (NUM_KEYPOINTS,):
            raise UserError(f"{where} has joints_visible of shape {own_visible.shape}, not ({NUM_KEYPOINTS},)")
        if not np.isfinite(own_joints[own_labelled > 0]).all():
            raise UserError(f"{where} has a labelled joint whose coordinate is NaN or infinite")
        joints[index], labelled[index], visible[index] = own_joints, own_labelled > 0, own_visible > 0
    return joints, labelled, visible


def _center_and_scale(entry: dict, where: str) -> tuple[np.ndarray, float]:
    try:
        center_xy, scale = np.asarray(entry["center"], np.float64), float(entry["scale"])
    except (TypeError, ValueError):
        raise UserError(f"{where} has a center or scale that is not a number") from None
    if center_xy.shape != (2,) or not np.isfinite(center_xy).all() or not np.isfinite(scale):
        raise UserError(f"{where} has center {entry['center']} and scale {entry['scale']}; finite numbers needed")
    return center_xy, scale


def _head_size(entry: dict, where: str) -> float:
    if entry.get("headbox") is None:
        return float("nan")
    box = np.asarray(entry["headbox"], np.float64)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise UserError(f"{where} has a headbox that is not four finite numbers: {entry['headbox']}")
    return HEAD_BOX_FACTOR * float(np.hypot(box[2] - box[0], box[3] - box[1]))


def _check_order(
    truth: MPIITruth, joints: np.ndarray, labelled: np.ndarray, annotations: str | Path, truth_path: str | Path
) -> None:
    """Persons must be those of the ground truth, in its order: PCKh of shuffled persons looks like a bad network."""
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


@dataclass(frozen=True)
class ValPerson:
    """One line of ``mpii_val_2958.csv``: how to know a person of the validation split again.

    Attributes:
        picture: file name, or empty where it is not known (persons with a missing joint).
        joints: indices of two labelled joints.
        points_xy: (2, 2) their 1-based coordinates, rounded to 0.01 px.
    """

    picture: str
    joints: tuple[int, int]
    points_xy: np.ndarray


def read_val_list(path: str | Path = VAL_LIST) -> list[ValPerson]:
    """The 2,958 validation persons in their standard order, the order of ``gt_valid.mat``."""
    with open(path, encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))[1:]
    return [
        ValPerson(line[0], (int(line[1]), int(line[4])), np.array([line[2:4], line[5:7]], np.float64)) for line in lines
    ]


class JointIndex:
    """Finds persons by where some of their joints lie, without comparing with everybody.

    Args:
        joints_xy: (n, 16, 2) of all persons, infinite where not labelled.
    """

    def __init__(self, joints_xy: np.ndarray):
        self.joints_xy = joints_xy
        self.order = np.argsort(joints_xy[:, :, 0], axis=0)  # per joint, persons from left to right
        self.sorted_x = np.take_along_axis(joints_xy[:, :, 0], self.order, axis=0)

    def find(self, joints, points_xy: np.ndarray) -> np.ndarray:
        """Indices of all persons whose ``joints`` (m indices) lie within ``MATCH_PX`` of ``points_xy`` (m, 2)."""
        first, x = joints[0], points_xy[0, 0]
        begin = np.searchsorted(self.sorted_x[:, first], x - MATCH_PX)
        end = np.searchsorted(self.sorted_x[:, first], x + MATCH_PX, side="right")
        candidates = self.order[begin:end, first]
        distance = np.abs(self.joints_xy[candidates][:, joints] - points_xy).max((1, 2))
        return np.sort(candidates[distance <= MATCH_PX])


def mpii_split(
    entries: list[dict], source: str | Path = "the list", *, allow_missing: bool = False
) -> tuple[list[int], list[int]]:
    """Divides persons into training and the standard 2,958-person validation split.

    A validation person is recognised by two joints' coordinates, and by the picture's name where the list has it.
    Persons who share a picture with a validation person belong to neither part: training on the validation pictures
    would flatter the result. (HRNet's ``train.json`` has 22,246 persons; a list made from the official file may give
    another number.)

    Args:
        entries: persons as in the JSON: ``image``, ``joints`` (1-based), ``joints_vis``.
        source: what to call them in an error.
        allow_missing: leave out validation persons that are not found instead of refusing.

    Returns:
        Indices for training, in their order, and for validation, in the standard order.

    Raises:
        UserError: a validation person is found twice, or (without ``allow_missing``) not at all.
    """
    joints, labelled, _ = _joint_arrays(entries, source)
    joints[~labelled] = np.inf
    names = np.array([Path(entry["image"]).name for entry in entries])
    index, val, lost = JointIndex(joints), [], []
    for line, person in enumerate(read_val_list()):
        found = index.find(person.joints, person.points_xy)
        if person.picture:
            found = found[names[found] == person.picture]
        if len(found) > 1:
            raise UserError(f"{source}: persons number {found[0]} and {found[1]} are the same validation person {line}")
        if len(found):
            val.append(int(found[0]))
        else:
            lost.append((line, person))
    if lost and not allow_missing:
        line, person = lost[0]
        raise UserError(
            f"{source}: {len(lost)} of the 2,958 standard validation persons are not in it (first: number {line}, "
            f"picture {person.picture or 'not known'}, joint {person.joints[0]} at "
            f"{person.points_xy[0, 0]:g}, {person.points_xy[0, 1]:g}); these are not all of MPII's training annotations"
        )
    held_out = set(names[val])
    train = [position for position, name in enumerate(names) if name not in held_out]
    return train, val


def convert_mpii_mat(mat_path: str | Path) -> tuple[list[dict], dict[str, int]]:
    """Converts the official ``mpii_human_pose_v1_u12_1.mat`` into a list that ``load_mpii`` reads.

    Keys are those of HRNet's JSON, plus ``joints_visible`` (0 for joints that are labelled but hidden; ``joints_vis``
    is 1 for both), ``headbox`` (x1, y1, x2, y2) and ``person`` (1-based number within the picture's ``annorect``). All
    coordinates stay 1-based. Test pictures, whose joints are not public, are left out.

    Returns:
        The persons, and what was left out: ``{reason: count}``.

    Raises:
        UserError: missing, damaged, or without the structure RELEASE; a joint number outside 0..15.
    """
    content = load_mat(mat_path, struct_as_record=False, squeeze_me=True)
    release = content.get("RELEASE")
    if _field(release, "annolist") is None or _field(release, "img_train") is None:
        raise UserError(f"{mat_path}: no RELEASE with annolist and img_train; use mpii_human_pose_v1_u12_1.mat")
    pictures, in_train = _items(release.annolist), np.atleast_1d(release.img_train)
    if len(pictures) != len(in_train):
        raise UserError(f"{mat_path}: {len(pictures)} pictures but {len(in_train)} entries in img_train")
    entries, notes = [], Counter()
    for picture, is_train in zip(pictures, in_train, strict=True):
        if not is_train:
            notes["test picture"] += 1
            continue
        name = str(picture.image.name)
        for number, person in enumerate(_items(_field(picture, "annorect")), start=1):
            points = _items(_field(_field(person, "annopoints"), "point"))
            position, scale = _field(person, "objpos"), _field(person, "scale")
            if not points:
                notes["person without joints"] += 1
            elif position is None or scale is None:
                notes["person without position or scale"] += 1
            else:
                joints, labelled, visible = _points(points, f"{mat_path}: {name}, person {number}")
                corners = [_field(person, key) for key in ("x1", "y1", "x2", "y2")]
                entries.append(
                    {
                        "image": name,
                        "person": number,
                        "center": [float(position.x), float(position.y)],
                        "scale": float(scale),
                        "joints": joints,
                        "joints_vis": labelled,
                        "joints_visible": visible,
                        "headbox": None if None in corners else [float(value) for value in corners],
                    }
                )
    if not entries:
        raise UserError(f"{mat_path}: no person with joints in it ({dict(notes)})")
    return entries, dict(notes)


def _field(struct, name: str):
    """A MATLAB field's value; None where the field is absent or an empty array, which MATLAB uses alike."""
    value = getattr(struct, name, None)
    return None if isinstance(value, np.ndarray) and value.size == 0 else value


def _items(value) -> list:
    """A MATLAB struct array as a list; squeezing has made arrays of one element bare structs."""
    if value is None:
        return []
    return list(value.ravel()) if isinstance(value, np.ndarray) else [value]


def _points(points: list, where: str) -> tuple[list[list[float]], list[int], list[int]]:
    joints = [[-1.0, -1.0] for _ in range(NUM_KEYPOINTS)]  # -1 stands for a missing joint, as in HRNet's JSON
    labelled, visible = [0] * NUM_KEYPOINTS, [0] * NUM_KEYPOINTS
    for point in points:
        joint = int(point.id)
        if not 0 <= joint < NUM_KEYPOINTS:
            raise UserError(f"{where} has a joint with the number {joint}; MPII's are 0 to {NUM_KEYPOINTS - 1}")
        joints[joint] = [float(point.x), float(point.y)]
        labelled[joint] = 1
        # The file mixes numbers, the characters '0' and '1', and nothing at all (head top and upper neck, which come
        # from the head box): nothing said counts as visible.
        flag = _field(point, "is_visible")
        visible[joint] = 1 if flag is None or flag == "" else int(int(flag) > 0)
    return joints, labelled, visible
