"""PCKh as MPII's own evaluation has it, against the truth of the validation split in a MATLAB file.

Its quirks: pixels count from 1, the head size is 0.6 × the diagonal of an annotated head box, missing joints are left
out, and the mean leaves out pelvis and thorax but counts the upper neck, which no named group shows.
Source: Andriluka et al., "2D human pose estimation: new benchmark and state of the art analysis", CVPR 2014; the
factor and the mask are those of the evaluation code that all later papers share.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lgmpose.errors import UserError
from lgmpose.metrics.joint_accuracy import PCKResult, pckh
from lgmpose.skeletons import MPII

__all__ = ["HEAD_BOX_FACTOR", "MPIITruth", "load_mpii_truth", "mpii_pckh", "one_based"]

HEAD_BOX_FACTOR = 0.6  # head size / head box diagonal; "SC_BIAS" in MPII's evaluation code


@dataclass(frozen=True, eq=False)
class MPIITruth:
    """MPII's validation truth as its MATLAB file has it: **1-based** pixels (the first pixel's centre is 1, 1).

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
        """(n,) pixels: 0.6 × the diagonal of the head box."""
        return HEAD_BOX_FACTOR * np.linalg.norm(self.head_boxes_xyxy[:, 2:] - self.head_boxes_xyxy[:, :2], axis=1)


def load_mpii_truth(path: str | Path) -> MPIITruth:
    """Reads ``pos_gt_src``, ``jnt_missing``, ``headboxes_src`` and, if there, ``pos_pred_src`` from a MATLAB file.

    Raises:
        UserError: the file is missing, no MATLAB file, or lacks one of these arrays in its known shape.
    """
    from scipy.io import loadmat  # here, because it is slow to import and only MPII needs it
    from scipy.io.matlab import MatReadError

    try:
        arrays = loadmat(str(path), appendmat=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    # A damaged file may trip the reader in any of these ways; MATLAB's newer HDF5 files are NotImplementedError.
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError, zlib.error) as error:
        raise UserError(f"{path}: not a MATLAB file that can be read ({error}); fetch it again") from error
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
    """0-based pixels, as used everywhere else in the package, to MATLAB's 1-based ones that MPII's truth is in."""
    return np.asarray(keypoints_xy, float) + 1


def mpii_pckh(predicted_xy_1based: np.ndarray, truth: MPIITruth, threshold: float = 0.5) -> PCKResult:
    """PCKh as MPII defines it: head box diagonal × 0.6, missing joints left out, pelvis and thorax not in the mean.

    Args:
        predicted_xy_1based: (n, 16, 2) in the order of ``truth``; ``one_based`` converts the package's own.
        threshold: in head sizes.
    """
    return pckh(
        predicted_xy_1based, truth.keypoints_xy_1based, truth.visibility, truth.head_sizes, MPII, threshold
    )
