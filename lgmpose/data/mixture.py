"""Several data sets that train one network: the file that lists them, and the set that they are joined to.

The file is TOML, with one table per set:

    [[train]]
    data = "coco:data/coco"
    weight = 2

    [[train]]
    data = "mpii:data/mpii"

    [[val]]
    data = "coco:data/coco"

Joints are matched by name (``pose.joint_matching``). The network has the joints of all training sets, in their order.
With ``joints = "first"``, it has those of the first set. A joint that a set does not label has weight 0 in its persons'
loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.files import as_type, read_toml
from lgmpose.pose.joint_matching import match_joints
from lgmpose.pose.skeletons import Skeleton

__all__ = ["Entry", "MixtureFile", "join_sets", "join_skeletons", "read_mixture", "with_skeleton"]


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One set of the file.

    Attributes:
        data: KIND:PATH; relative paths start at the current folder, as on the command line.
        split: ``train``, ``val`` or ``all``; by default that of the table.
        annotations: annotation file, if it is not in its usual place.
        categories: names of the categories to read (COCO only).
        detections: COCO detection file whose boxes are persons without joints, for a training with a teacher.
        weight: how often a person is drawn: 2 is twice as often as 1; 0: never. For training sets only.
        name: name of the set in ``log.csv``; by default made from the data's.
        limit: use at most so many persons, those of the first pictures.
    """

    data: str
    split: Literal["train", "val", "all"] | None = None
    annotations: str | None = None
    categories: list[str] = []
    detections: str | None = None
    weight: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 1.0
    name: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


class MixtureFile(msgspec.Struct, forbid_unknown_fields=True):
    """The file: sets to train on, and sets to validate on.

    Attributes:
        train: the sets to train on.
        val: the sets to validate on.
        joints: ``all``: the network has the joints of all training sets; ``first``: only those of the first one.
    """

    train: Annotated[list[Entry], msgspec.Meta(min_length=1)]
    val: Annotated[list[Entry], msgspec.Meta(min_length=1)]
    joints: Literal["all", "first"] = "all"


def read_mixture(path: str | Path) -> MixtureFile:
    """Read a file of data sets.

    Raises:
        UserError: it is missing, is not TOML, or has other entries than ``Entry``.
    """
    file = as_type(read_toml(path), MixtureFile, f"{path}: not a list of data sets")
    for entry in (*file.train, *file.val):
        if entry.data.startswith("mix:"):
            raise UserError(f"{path}: {entry.data} is itself a list of data sets; name the sets")
    if weighted := [entry.data for entry in file.val if entry.weight != 1]:
        raise UserError(f"{path}: {weighted[0]} has a weight, which only sets to train on take; remove it")
    if not any(entry.weight for entry in file.train):
        raise UserError(f"{path}: all sets to train on have weight 0, so no person would be drawn")
    return file


def join_skeletons(skeletons: Sequence[Skeleton]) -> Skeleton:
    """Return the skeleton with the joints of all: those of the first, then what each other one adds.

    Raises:
        UserError: two skeletons pair a joint differently.
    """
    joined = skeletons[0]
    for other in skeletons[1:]:
        matched = match_joints(other, joined)
        new = [i for i in range(other.num_keypoints) if i not in matched]
        if not new:
            continue
        place = matched | {i: joined.num_keypoints + n for n, i in enumerate(new)}
        names = (*joined.joint_names, *(other.joint_names[i] for i in new))
        if len(set(names)) < len(names):
            raise UserError(f"{other.name} and {joined.name} have different joints of one name; rename them")
        pairs = {(min(pair), max(pair)) for pair in joined.flip_pairs}
        pairs |= {(min(place[a], place[b]), max(place[a], place[b])) for a, b in other.flip_pairs}
        edges = {frozenset(edge): edge for edge in joined.edges}
        for a, b in other.edges:
            edges.setdefault(frozenset((place[a], place[b])), (place[a], place[b]))
        try:
            joined = Skeleton(
                name=f"joined-{len(names)}",
                joint_names=names,
                edges=tuple(edges.values()),
                flip_pairs=tuple(sorted(pairs)),
                oks_sigmas=(*joined.oks_sigmas, *(other.oks_sigmas[i] for i in new)),
                upper_body=tuple(sorted({*joined.upper_body, *(place[i] for i in other.upper_body)})),
            )
        except ValueError as error:
            raise UserError(f"{other.name} and {joined.name} do not fit each other: {error}") from error
    return joined


def join_sets(record_sets: Sequence[RecordSet], weights: Sequence[float], *, joints: str = "all") -> RecordSet:
    """Return one set with the persons of all, to train on; the weights say how often a person of each set is drawn.

    Persons whose labelled joints are all missing in the skeleton are left out and counted.
    """
    skeletons = [record_set.skeleton for record_set in record_sets]
    skeleton = join_skeletons(skeletons) if joints == "all" else skeletons[0]
    placed, parts = list[PersonRecord](), list[tuple[int, float]]()
    notes: dict[str, int] = {}
    for given, weight in zip(record_sets, weights, strict=True):
        pairs = zip(given.records, with_skeleton(given, skeleton).records, strict=True)
        kept = [new for old, new in pairs if new.visibility.any() or not old.visibility.any()]
        placed += kept
        parts += [(len(kept), float(weight))] if kept else []
        notes |= {f"{given.name}: {reason}": number for reason, number in given.notes.items()}
        if len(kept) < len(given):
            notes[f"{given.name}: none of the network's joints is labelled"] = len(given) - len(kept)
    return RecordSet(
        name=" + ".join(record_set.name for record_set in record_sets),
        skeleton=skeleton,
        records=tuple(replace(record, id=i) for i, record in enumerate(placed)),
        box_source=record_sets[0].box_source,
        notes=notes,
        parts=tuple(parts),
    )


def with_skeleton(record_set: RecordSet, skeleton: Skeleton) -> RecordSet:
    """Return the set with the joints of another skeleton, matched by name. Joints that it lacks are not labelled."""
    place = match_joints(record_set.skeleton, skeleton)
    ours, theirs = list(place.values()), list(place)
    records = []
    for record in record_set.records:
        keypoints_xy = np.zeros((skeleton.num_keypoints, 2))
        visibility = np.zeros(skeleton.num_keypoints, np.int64)
        keypoints_xy[ours], visibility[ours] = record.keypoints_xy[theirs], record.visibility[theirs]
        records.append(replace(record, keypoints_xy=keypoints_xy, visibility=visibility))
    return replace(record_set, skeleton=skeleton, records=tuple(records))
