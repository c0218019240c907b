"""Visibility: which joints can be seen, read off the part map after everything is painted."""

from __future__ import annotations

import numpy as np

from lgmpose.data.synthetic.body import PARTS
from lgmpose.data.synthetic.painting import SUPERSAMPLING, to_canvas
from lgmpose.pose.skeletons import COCO

__all__ = ["joint_visibility"]

# Seen through the limb itself, a joint is visible from any side. Trousers and skirts show where a knee is.
_THROUGH_LIMB = {
    "ear": ("{side}_ear",), "shoulder": ("{side}_upper_arm",), "elbow": ("{side}_upper_arm", "{side}_forearm"),
    "wrist": ("{side}_forearm", "{side}_hand"), "hip": ("{side}_thigh",),
    "knee": ("{side}_thigh", "{side}_shin", "skirt"), "ankle": ("{side}_shin", "{side}_foot"),
}  # fmt: skip
# Through trunk and head it is visible only from the side it lies on.
_THROUGH_TRUNK = {"nose": ("head",), "eye": ("head",), "shoulder": ("torso",), "hip": ("torso", "pelvis", "skirt")}


def _own_parts(joint_name: str, faces_camera: bool) -> list[int]:
    """Indices in ``PARTS`` of the parts through which a joint counts as seen."""
    side, _, kind = joint_name.rpartition("_")
    names = _THROUGH_LIMB.get(kind, ()) + (_THROUGH_TRUNK.get(kind, ()) if faces_camera else ())
    return [PARTS.index(name.format(side=side)) for name in names]


def joint_visibility(
    part_map: np.ndarray, joints_xy: np.ndarray, first_number: int, faces_camera: np.ndarray
) -> np.ndarray:
    """COCO's flag per joint, from who owns the pixels around it.

    Args:
        part_map: (h, w) uint16 of the canvas.
        joints_xy: (17, 2) picture pixels.
        first_number: the person's part 0 in the map.
        faces_camera: (17,) bool; False hides a joint that lies behind the head or trunk it belongs to.

    Returns:
        (17,) int64: 0 outside the picture, 1 hidden, 2 visible: at least half of the nine canvas pixels around the
        joint, those of the background aside, belong to its own parts.
    """
    height, width = (length // SUPERSAMPLING for length in part_map.shape)
    flags = np.zeros(len(joints_xy), np.int64)
    for joint, (x, y) in enumerate(joints_xy):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        column, row = (round(to_canvas(float(v))) for v in (x, y))
        window = part_map[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        painted = window[window > 0]
        own_numbers = [first_number + part for part in _own_parts(COCO.joint_names[joint], faces_camera[joint])]
        own = np.isin(painted, own_numbers)
        flags[joint] = 2 if own.any() and own.mean() >= 0.5 else 1
    return flags
