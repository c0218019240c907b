"""Object keypoint similarity (OKS), and the two steps of COCO's top-down protocol around it: NMS and rescoring.

OKS is the mean over the labelled joints of exp(−d² / (2 · area · (2σ)²)): 1 for a perfect pose, about 0 for a far one.
Each joint has its own σ (eyes are placed more exactly than hips), the person's area gives the scale.
Definition: https://cocodataset.org/#keypoints-eval
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["JOINT_SCORE_THRESHOLD", "oks", "oks_nms", "rescore"]

JOINT_SCORE_THRESHOLD = 0.2  # joints at or below it do not count in a person's score
OKS_NMS_THRESHOLD = 0.9  # more alike than this, two poses are of one person (SimpleBaseline, HRNet)
_TINY = np.spacing(1)  # what pycocotools adds to an area, so that 0 can be divided by


def oks(
    predicted: np.ndarray,
    truth: np.ndarray,
    visibility: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float],
    boxes: np.ndarray | None = None,
) -> np.ndarray:
    """OKS of every prediction with every true person, as ``COCOeval.computeOks`` of pycocotools has it.

    A true person without a labelled joint has no pose to compare with: there a predicted joint costs nothing within
    the person's box doubled in each direction, and its distance to it outside (COCO ignores such matches, so that a
    prediction on an unlabelled person is no false alarm).

    Args:
        predicted: (n, K, 2) pixels.
        truth: (m, K, 2) pixels; may be junk where ``visibility`` is 0.
        visibility: (m, K), 0 where a joint is not labelled.
        areas: (m,) segment areas, square pixels.
        sigmas: K per-joint constants (``Skeleton.oks_sigmas``).
        boxes: (m, 4) x, y, w, h of the true persons; needed if one of them has no labelled joint.

    Returns:
        (n, m) float64 in [0, 1].

    Raises:
        ValueError: a person without labelled joints, and no boxes.
    """
    predicted, truth = np.asarray(predicted, float), np.asarray(truth, float)
    labelled, areas = np.asarray(visibility) > 0, np.asarray(areas, float)
    variances = (2 * np.asarray(sigmas, float)) ** 2  # (K,)

    offsets = predicted[:, None] - np.where(labelled[..., None], truth, 0)  # (n, m, K, 2)
    unlabelled = ~labelled.any(axis=1)
    if unlabelled.any():
        if boxes is None:
            raise ValueError("a true person has no labelled joint: OKS needs the persons' boxes")
        boxes = np.asarray(boxes, float)[unlabelled]
        low, high = boxes[:, :2] - boxes[:, 2:], boxes[:, :2] + 2 * boxes[:, 2:]  # (u, 2) corners of the doubled box
        points = predicted[:, None]  # (n, 1, K, 2) against (u, 1, 2)
        offsets[:, unlabelled] = np.maximum(low[:, None] - points, 0) + np.maximum(points - high[:, None], 0)
        labelled = labelled | unlabelled[:, None]  # there all K joints count

    exponents = (offsets**2).sum(axis=-1) / variances / (areas[:, None] + _TINY) / 2  # (n, m, K)
    return np.where(labelled, np.exp(-exponents), 0).sum(axis=-1) / labelled.sum(axis=-1)


def oks_nms(
    keypoints_xy: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float],
    threshold: float = OKS_NMS_THRESHOLD,
    picture_ids: np.ndarray | None = None,
) -> np.ndarray:
    """Non-maximum suppression by pose: the best-scored person of a picture is kept, those too like it are dropped.

    Two predicted poses are compared over all K joints, with the mean of their two areas as the scale; a pose goes
    when its OKS with a kept one is *above* the threshold (SimpleBaseline, HRNet).

    All pictures take each step together: in one pass over all poses left, every picture keeps its best. So there are
    as many passes as persons kept in the fullest picture, and no loop over pictures or boxes.

    Args:
        keypoints_xy: (n, K, 2) predicted poses, pixels.
        scores: (n,) rescored persons; among equals the first comes first.
        areas: (n,) areas of the padded boxes (as cropped), square pixels.
        sigmas: K per-joint constants.
        threshold: largest OKS that two kept poses may have.
        picture_ids: (n,) numbers of the pictures the poses are in; None: all are in one.

    Returns:
        Indices of the kept persons, by picture, there the best score first.
    """
    keypoints_xy, areas, scores = (np.asarray(values, float) for values in (keypoints_xy, areas, scores))
    picture_ids = np.zeros(len(scores), int) if picture_ids is None else np.asarray(picture_ids)
    variances = (2 * np.asarray(sigmas, float)) ** 2
    order = np.lexsort((-scores, picture_ids))  # stable
    poses, areas, picture_ids = keypoints_xy.take(order, axis=0), areas[order], picture_ids[order]
    left, kept = np.arange(len(order)), np.zeros(len(order), bool)
    while len(left):
        picture = picture_ids[left]
        is_best = np.append(True, picture[1:] != picture[:-1])
        best, others = left[is_best], left[~is_best]
        kept[best] = True
        rivals = best[np.cumsum(is_best)[~is_best] - 1]  # the best of each one's own picture
        offsets = poses.take(others, axis=0)  # (others, K, 2), and all in place, for these are large
        offsets -= poses.take(rivals, axis=0)
        offsets *= offsets
        exponents = offsets[..., 0] + offsets[..., 1]  # (others, K)
        exponents /= -2 * variances
        exponents /= ((areas[others] + areas[rivals]) / 2 + _TINY)[:, None]
        similarity = np.exp(exponents, out=exponents).mean(axis=-1)
        left = others[similarity <= threshold]
    return order[kept]


def rescore(joint_scores: np.ndarray, box_scores: np.ndarray, threshold: float = JOINT_SCORE_THRESHOLD) -> np.ndarray:
    """Score of a person: the mean of the joint confidences above the threshold, times the box's score.

    Args:
        joint_scores: (n, K) heatmap maxima.
        box_scores: (n,) confidences of the boxes.
        threshold: joints at or below it take no part.

    Returns:
        (n,); 0 where no joint is above the threshold.
    """
    joint_scores = np.asarray(joint_scores, float)
    confident = joint_scores > threshold
    total = np.where(confident, joint_scores, 0).sum(axis=1)
    return total / np.maximum(confident.sum(axis=1), 1) * np.asarray(box_scores, float)
