"""PCKh as MPII's own evaluation has it, against the truth of the validation split in a MATLAB file.

Its quirks: pixels count from 1, the head size is 0.6 × the diagonal of an annotated head box, missing joints are left
out, and the mean leaves out pelvis and thorax but counts the upper neck, which no named group shows.
Source: Andriluka et al., "2D human pose estimation: new benchmark and state of the art analysis", CVPR 2014; the
factor and the mask are those of the evaluation code that all later papers share.
"""

from __future__ import annotations

import numpy as np

from lgmpose.data.mpii_truth import MPIITruth
from lgmpose.metrics.pck import PCKResult, pckh
from lgmpose.pose.skeletons import MPII

__all__ = ["mpii_pckh", "one_based"]


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
