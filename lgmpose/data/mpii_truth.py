"""MPII's validation truth (2,958 persons) from its MATLAB file, and PCKh as MPII's evaluation code computes it.

That evaluation counts pixels from 1, takes 0.6 × the diagonal of the annotated head box as head size, leaves missing
joints out, and leaves pelvis and thorax (but not the upper neck) out of the mean.
Source: Andriluka et al., "2D human pose estimation: new benchmark and state of the art analysis", CVPR 2014; the factor
and the joints are those of the evaluation code that all later papers share.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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

    Some labelled joints in it have a coordinate of 0 where the original annotation lies elsewhere (12 joints of 9
    persons among those that can be compared). They are kept, because published figures are measured against them.

    Raises:
        UserError: The file is missing, is not a MATLAB file, or lacks one of these arrays in its known shape.
    """
    arrays = load_mat(path)
    try:
        joints_xy = arrays["pos_gt_src"].transpose(2, 0, 1).astype(float)  # (16, 2, n) → (n, 16, 2)
        visibility = 1 - arrays["jnt_missing"].T.astype(np.int64)
        head_boxes = arrays["headboxes_src"].transpose(2, 0, 1).reshape(-1, 4).astype(float)  # corner × (x, y) × n
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path}: MPII's truth has arrays pos_gt_src (16, 2, n), jnt_missing (16, n), headboxes_src (2, 2, n); "
            f"this file does not ({error})"
        ) from error
    num_persons = len(head_boxes)
    if joints_xy.shape != (num_persons, 16, 2) or visibility.shape != (num_persons, 16):
        raise UserError(
            f"{path}: joints of shape {joints_xy.shape} and flags of shape {visibility.shape} do not fit "
            f"{num_persons} head boxes; MPII's truth has 16 joints per person"
        )
    published = arrays.get("pos_pred_src")
    return MPIITruth(joints_xy, visibility, head_boxes, None if published is None else published.transpose(2, 0, 1))


def one_based(keypoints_xy: np.ndarray) -> np.ndarray:
    """Convert coordinates from 0-based pixels, which the package uses, to MPII's 1-based pixels."""
    return np.asarray(keypoints_xy, float) + 1


def mpii_pckh(predicted_xy_1based: np.ndarray, truth: MPIITruth, threshold: float = 0.5) -> PCKResult:
    """Return PCKh as MPII's evaluation defines it.

    Args:
        predicted_xy_1based: (n, 16, 2) in the order of ``truth``; ``one_based`` converts the package's own.
        truth: joints and head boxes.
        threshold: in head sizes.
    """
    return pckh(predicted_xy_1based, truth.keypoints_xy_1based, truth.visibility, truth.head_sizes, MPII, threshold)
