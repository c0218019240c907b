"""From predicted poses to persons: the two steps of COCO's top-down protocol, rescoring and OKS-NMS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["JOINT_SCORE_THRESHOLD", "oks_nms", "rescore"]

JOINT_SCORE_THRESHOLD = 0.2  # joints at or below it do not count in a person's score
OKS_NMS_THRESHOLD = 0.9  # above it, two poses are of one person (SimpleBaseline, HRNet)
_TINY = np.spacing(1)  # allows an area of 0, as in pycocotools


def oks_nms(
    keypoints_xy: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    threshold: float = OKS_NMS_THRESHOLD,
) -> np.ndarray:
    """Suppress all but the best-scored of several predictions of one person in a picture.

    The best-scored pose is kept, and all poses whose OKS with it is *above* the threshold are dropped. This is repeated
    with the remaining poses (SimpleBaseline, HRNet). Two predicted poses are compared over all K joints, with the mean
    of their two areas as the scale.

    Known difference from the reference code: of poses with equal scores, the first comes first here. HRNet sorts by
    ``scores.argsort()[::-1]``, which takes the last one first or, for many poses, an arbitrary one. So of two identical
    poses with equal scores, the other one may be kept.

    Args:
        keypoints_xy: (n, K, 2) predicted poses of one picture, pixels.
        scores: (n,) rescored persons; of equal scores the first comes first.
        areas: (n,) areas of the padded boxes (as cropped), square pixels.
        sigmas: K per-joint constants.
        threshold: largest OKS that two kept poses may have.

    Returns:
        Indices of the kept persons, the best score first.
    """
    keypoints_xy, areas = np.asarray(keypoints_xy, float), np.asarray(areas, float)
    variances = (2 * np.asarray(sigmas, float)) ** 2
    left, kept = np.argsort(-np.asarray(scores, float), kind="stable"), []
    while len(left):
        best, others = left[0], left[1:]
        kept.append(best)
        squared = ((keypoints_xy[others] - keypoints_xy[best]) ** 2).sum(axis=-1)  # (others, K)
        scales = (areas[others] + areas[best]) / 2 + _TINY
        similarity = np.exp(squared / (-2 * variances) / scales[:, None]).mean(axis=-1)
        left = others[similarity <= threshold]
    return np.array(kept, int)


def rescore(joint_scores: np.ndarray, box_scores: np.ndarray, threshold: float = JOINT_SCORE_THRESHOLD) -> np.ndarray:
    """Return the score of each person: the mean of the joint confidences above the threshold, times the box's score.

    Args:
        joint_scores: (n, K) heatmap maxima.
        box_scores: (n,) confidences of the boxes.
        threshold: joints at or below it are left out of the mean.

    Returns:
        (n,); 0 where no joint is above the threshold.
    """
    joint_scores = np.asarray(joint_scores, float)
    confident = joint_scores > threshold
    total = np.where(confident, joint_scores, 0).sum(axis=1)
    return total / np.maximum(confident.sum(axis=1), 1) * np.asarray(box_scores, float)
