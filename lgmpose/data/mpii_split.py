"""The standard validation split of MPII: 2,958 persons, recognised by their joints in any list of MPII's persons."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lgmpose.data.mpii import MATCH_PX, MPIIPerson, joint_arrays
from lgmpose.errors import UserError

__all__ = ["VAL_LIST", "ValPerson", "find_persons", "mpii_split", "read_val_list"]

VAL_LIST = Path(__file__).with_name("mpii_val_2958.csv")


@dataclass(frozen=True)
class ValPerson:
    """One line of ``mpii_val_2958.csv``: how to recognise a person of the validation split.

    Attributes:
        picture: file name, or empty where it is not known (persons with a missing joint).
        joints: indices of two labelled joints.
        points_xy: (2, 2) their 1-based coordinates, rounded to 0.01 px.
    """

    picture: str
    joints: tuple[int, int]
    points_xy: np.ndarray


def read_val_list(path: str | Path = VAL_LIST) -> list[ValPerson]:
    """Return the 2,958 validation persons in their standard order, the order of ``gt_valid.mat``."""
    with open(path, encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))[1:]
    return [
        ValPerson(line[0], (int(line[1]), int(line[4])), np.array([line[2:4], line[5:7]], np.float64)) for line in lines
    ]


def find_persons(joints_xy: np.ndarray, joints: Sequence[int] | np.ndarray, points_xy: np.ndarray) -> np.ndarray:
    """Return the indices of all persons who have some joints at the given places.

    Args:
        joints_xy: (n, 16, 2) joints of all persons, infinite where not labelled.
        joints: m indices of joints.
        points_xy: (m, 2) their places; up to ``MATCH_PX`` away is the same place.
    """
    found = np.flatnonzero(np.abs(joints_xy[:, joints[0], 0] - points_xy[0, 0]) <= MATCH_PX)  # few, by one comparison
    return found[(np.abs(joints_xy[found][:, joints] - points_xy) <= MATCH_PX).all(axis=(1, 2))]


def mpii_split(persons: list[MPIIPerson], source: str | Path = "the list") -> tuple[list[int], list[int]]:
    """Divide persons into training and the standard 2,958-person validation split.

    A validation person is recognised by the coordinates of two joints, and by the picture's name where it is known.
    Persons who share a picture with a validation person belong to neither part, because training on validation pictures
    would improve the result. (HRNet's ``train.json`` has 22,246 persons; a list made from the official file may give
    another number.)

    Returns:
        Indices for training, in their order, and for validation, in the standard order.

    Raises:
        UserError: A validation person is found twice, or not at all.
    """
    joints_xy, labelled = joint_arrays(persons)
    joints_xy[~labelled] = np.inf
    names = np.array([Path(person.image).name for person in persons], dtype=object)
    val, lost = [], []
    for line, val_person in enumerate(read_val_list()):
        found = find_persons(joints_xy, val_person.joints, val_person.points_xy)
        if val_person.picture:
            found = found[names[found] == val_person.picture]
        if len(found) > 1:
            raise UserError(f"{source}: persons number {found[0]} and {found[1]} are the same validation person {line}")
        if len(found):
            val.append(int(found[0]))
        else:
            lost.append((line, val_person))
    if lost:
        line, val_person = lost[0]
        raise UserError(
            f"{source}: {len(lost)} of the 2,958 standard validation persons are not in it (first: number {line}, "
            f"picture {val_person.picture or 'not known'}, joint {val_person.joints[0]} at "
            f"{val_person.points_xy[0, 0]:g}, {val_person.points_xy[0, 1]:g}); these are not all of MPII's training "
            "annotations"
        )
    held_out = set(names[val])
    return [number for number, name in enumerate(names) if name not in held_out], val
