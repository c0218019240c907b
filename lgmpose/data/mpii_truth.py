"""MPII's validation truth (2,958 persons) from its MATLAB file, and PCKh as MPII's evaluation code computes it.

That evaluation counts pixels from 1. The head size is 0.6 × the diagonal of the annotated head box. Missing joints are
left out. Pelvis and thorax (but not the upper neck) are left out of the mean.

Source: Andriluka et al., "2D human pose estimation: new benchmark and state of the art analysis", CVPR 2014. The factor
and the joints are those of the evaluation code that all later papers share.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lgmpose.data.matlab import load_mat
from lgmpose.errors import UserError
from lgmpose.metrics.pck import PCKResult, pckh
from lgmpose.pose.skeletons import MPII

__all__ = ["HEAD_BOX_FACTOR", "MPIITruth", "load_mpii_truth", "mpii_pckh", "one_based"]

HEAD_BOX_FACTOR = 0.6  # head size / head box diagonal; "SC_BIAS" in MPII's evaluation code


@dataclass(frozen=True, eq=False)
class MPIITruth:
    """MPII's validation truth as in its MATLAB file: **1-based** pixels (the first pixel's centre is 1, 1).

    Attributes:
        keypoints_xy_1based: (n, 16, 2).
        visibility: (n, 16) int64, 1 labelled, 0 missing.
        head_boxes_xyxy: (n, 4) left, top, right, bottom.
        published_xy_1based: (n, 16, 2) predictions of one published method stored in the same file (pelvis and thorax
            are 0), or None.
    """

    keypoints_xy_1based: np.ndarray
    visibility: np.ndarray
    head_boxes_xyxy: np.ndarray
    published_xy_1based: np.ndarray | None = None

    @property
    def head_sizes(self) -> np.ndarray:
        """Head sizes (n,) in pixels: 0.6 × the diagonal of the head box."""
        return HEAD_BOX_FACTOR * np.linalg.norm(self.head_boxes_xyxy[:, 2:] - self.head_boxes_xyxy[:, :2], axis=1)


def load_mpii_truth(path: str | Path) -> MPIITruth:
    """Load ``pos_gt_src``, ``jnt_missing``, ``headboxes_src`` and, if present, ``pos_pred_src`` of ``gt_valid.mat``.

    Some labelled joints in it have a coordinate of 0, but another position in the original annotation. These are 12
    joints of 9 persons among those that can be compared. They are kept, because published figures are measured against
    them.

    Raises:
        UserError: The file is missing, is not a MATLAB file, or lacks one of these arrays in its known shape.
    """
    arrays = load_mat(path)
    count = getattr(arrays.get("headboxes_src"), "shape", ())[-1:] or (0,)
    head_boxes = _numbers(arrays, "headboxes_src", (2, 2, *count), path)  # corner × (x, y) × n
    joints_xy = _numbers(arrays, "pos_gt_src", (16, 2, *count), path).transpose(2, 0, 1)  # → (n, 16, 2)
    missing = _numbers(arrays, "jnt_missing", (16, *count), path).T
    published = None
    if "pos_pred_src" in arrays:
        published = _numbers(arrays, "pos_pred_src", (16, 2, *count), path).transpose(2, 0, 1)
    boxes_xyxy = head_boxes.transpose(2, 0, 1).reshape(-1, 4)
    return MPIITruth(joints_xy, np.where(missing == 0, 1, 0), boxes_xyxy, published)


def _numbers(arrays: dict[str, Any], name: str, shape: tuple[int, ...], path: str | Path) -> np.ndarray:
    """Return an array of finite numbers of the shape that MPII's truth has, as float64."""
    array = arrays.get(name)
    found = "none" if array is None else f"{getattr(array, 'dtype', type(array))}, shape {np.shape(array)}"
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or array.shape != shape:
        raise UserError(
            f"{path}: MPII's truth has arrays pos_gt_src (16, 2, n), jnt_missing (16, n), headboxes_src (2, 2, n) and "
            f"perhaps pos_pred_src (16, 2, n) of numbers; here {name} is {found}"
        )
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {name} holds a number that is NaN or infinite")
    return array.astype(np.float64)


def one_based(keypoints_xy: np.ndarray) -> np.ndarray:
    """Convert coordinates from 0-based pixels, which the package uses, to MPII's 1-based pixels."""
    return np.asarray(keypoints_xy, float) + 1


def mpii_pckh(predicted_xy_1based: np.ndarray, truth: MPIITruth, threshold: float = 0.5) -> PCKResult:
    """Return PCKh as MPII's evaluation defines it, of (n, 16, 2) predictions in the order of ``truth``.

    ``one_based`` converts the package's own predictions. The threshold is in head sizes.
    """
    return pckh(predicted_xy_1based, truth.keypoints_xy_1based, truth.visibility, truth.head_sizes, MPII, threshold)
