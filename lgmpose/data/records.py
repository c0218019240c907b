"""The record: one person in one picture, the form that every data set is turned into."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from lgmpose.errors import UserError
from lgmpose.pose.geometry import LARGEST_PX, PADDING
from lgmpose.pose.skeletons import Skeleton

__all__ = ["PADDING", "PersonRecord", "RecordSet", "check_records"]


@dataclass(frozen=True)
class PersonRecord:
    """One person to crop, train on or evaluate. All coordinates are picture pixels, 0-based, points (x, y).

    Attributes:
        image: path of the picture; ``archive.zip!member`` names a picture inside a zip.
        center_xy: (2,) float64, centre of the crop.
        size_wh: (2,) float64, extent of the crop *before* it takes the network's aspect ratio, padding included
            (HRNet's ``scale`` × 200).
        keypoints_xy: (K, 2) float64; arbitrary where ``visibility`` is 0.
        visibility: (K,) int64, 0 not labelled, 1 labelled but hidden, 2 visible.
        id: unique number of the person within its data set.
        image_id: number of the picture, shared by its persons.
        area: the person's segment area in square pixels (COCO), else the box area; OKS divides by it.
        head_size: PCKh's head size by MPII's head box, pixels, or NaN. If no record of a set has one, heads are
            measured from neck to head top; else persons without one do not count.
        score: confidence of the box: 1 for ground truth, the detector's otherwise.
        stated_hw: (H, W) of the picture as the annotations state it, or None; see ``images.read_annotated``.
        as_shown: whether the picture was annotated as shown, turned by EXIF; see ``images.read_annotated``.
    """

    image: str
    center_xy: np.ndarray
    size_wh: np.ndarray
    keypoints_xy: np.ndarray
    visibility: np.ndarray
    id: int
    image_id: int
    area: float = float("nan")
    head_size: float = float("nan")
    score: float = 1.0
    stated_hw: tuple[int, int] | None = None
    as_shown: bool = False


@dataclass(frozen=True)
class RecordSet:
    """Records with the skeleton they share and where they came from.

    Attributes:
        name: data set and split, as printed beside figures: ``lspet-val``.
        skeleton: the joints.
        records: the persons.
        box_source: ``ground-truth boxes``, ``detector boxes (FILE)``, ...
        annotation_file: the COCO JSON that AP is measured against, if there is one.
        image_ids: the pictures that AP covers, those without a box too; None is all that the file lists.
        category_id: id of the persons' category in that file; results in COCO's format carry it.
        category_ids: the categories whose members count as persons in that file; None: those with the same joints.
        has_keypoints: False for detector boxes, whose records carry no joints.
        notes: what was left out or replaced while reading, and why: ``{"no labelled joint": 3}``.
        parts: (number of records, weight) of the sets that a mixture was joined from; empty for a single set.
    """

    name: str
    skeleton: Skeleton
    records: tuple[PersonRecord, ...]
    box_source: str
    annotation_file: Path | None = None
    image_ids: tuple[int, ...] | None = None
    category_id: int = 1
    category_ids: tuple[int, ...] | None = None
    has_keypoints: bool = True
    notes: dict[str, int] = field(default_factory=dict)
    parts: tuple[tuple[int, float], ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def images(self) -> frozenset[str]:
        """The absolute paths of the pictures."""
        return frozenset(os.path.abspath(record.image) for record in self.records)

    @property
    def left_out(self) -> str:
        """The notes in one line, for printing: ``3 no labelled joint, 1 crowd``; empty if there are none."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.notes.items())

    def print_left_out(self) -> None:
        """Print what was left out or replaced while reading, if anything was."""
        if self.notes:
            print(f"{self.name}: left out or replaced: {self.left_out}", flush=True)

    def subset(self, indices: Iterable[int], name: str | None = None) -> RecordSet:
        """Return the set with only the given records, in the order given; AP covers their pictures."""
        records = tuple(self.records[i] for i in indices)
        image_ids = tuple(sorted({record.image_id for record in records}))
        return replace(self, records=records, name=name or self.name, image_ids=image_ids, parts=())

    def first(self, count: int) -> RecordSet:
        """Return the persons of the first pictures, at most ``count``. The first picture is always included.

        All persons of a picture are returned or none, because AP counts a person that is left out as missed.
        """
        if count >= len(self):
            return self
        persons_in = Counter(record.image_id for record in self.records)  # pictures in the order they come
        totals = accumulate(persons_in.values())
        chosen = {picture for picture, total in zip(persons_in, totals, strict=True) if total <= count}
        chosen = chosen or {self.records[0].image_id}
        return self.subset([i for i, record in enumerate(self.records) if record.image_id in chosen])


def check_records(record_set: RecordSet, source: str | Path) -> RecordSet:
    """Return the record set, but refuse one that would spoil a long run later; messages name its source.

    Raises:
        UserError: There are no persons, a person has arrays of a wrong shape, a coordinate that is not finite or a box
            without area, or most persons have their joints elsewhere than their boxes. The message names the person.
    """
    if not record_set.records:
        raise UserError(f"{source}: no person left to use ({record_set.left_out or 'the list is empty'})")
    num_keypoints = record_set.skeleton.num_keypoints
    for record in record_set.records:
        where = f"{source}: person {record.id}"
        if record.keypoints_xy.shape != (num_keypoints, 2) or record.visibility.shape != (num_keypoints,):
            raise UserError(
                f"{where} has keypoints of shape {record.keypoints_xy.shape}; skeleton {record_set.skeleton.name} "
                f"needs ({num_keypoints}, 2)"
            )
        if not (np.abs(record.keypoints_xy[record.visibility > 0]) < LARGEST_PX).all():  # False for NaN
            raise UserError(f"{where} has a labelled joint whose coordinate is NaN, infinite or far outside")
        if not (np.abs([record.center_xy, record.size_wh]) < 4 * LARGEST_PX).all():  # a box may be padded
            raise UserError(f"{where} has a box whose coordinates are NaN, infinite or far outside")
        if not (record.size_wh > 0).all():
            raise UserError(f"{where} has a box without area ({record.size_wh[0]:g} × {record.size_wh[1]:g})")
    if record_set.has_keypoints:
        _check_units(record_set, source)
    return record_set


def _check_units(record_set: RecordSet, source: str | Path) -> None:
    """Refuse joints that are fractions, or counted from another corner than the boxes: heatmaps would be empty."""
    records = record_set.records[:: 1 + len(record_set) // 1000]  # enough to know, and quick for 150,000 persons
    xy = np.stack([record.keypoints_xy for record in records])  # (n, K, 2)
    labelled = np.stack([record.visibility for record in records]) > 0
    offset = np.abs(xy - np.stack([record.center_xy for record in records])[:, None])
    near = offset <= np.stack([record.size_wh for record in records])[:, None]  # twice the padded box: generous
    # A large box at the picture's corner contains all fractions, so that a joint must be beyond 1 pixel, too.
    plausible = near.all(2) & (xy > 1).any(2) & labelled
    astray = int((~plausible.any(1)).sum())
    if 2 * astray > len(records):
        raise UserError(
            f"{source}: {astray} of the {len(records)} persons looked at have no labelled joint in or near their box; "
            "give boxes and keypoints in pixels of the picture"
        )
