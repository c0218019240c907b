"""Object keypoint similarity (OKS), and the two steps of COCO's top-down protocol around it: NMS and rescoring.

OKS is the mean over the labelled joints of exp(−d² / (2 · area · (2σ)²)): 1 for a perfect pose, near 0 for a far one.
Each joint has its own σ (eyes are located more precisely than hips), and the person's area gives the scale.
Definition: https://cocodataset.org/#keypoints-eval
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lgmpose.errors import UserError

__all__ = ["JOINT_SCORE_THRESHOLD", "check_sigmas", "oks", "oks_nms", "rescore"]

JOINT_SCORE_THRESHOLD = 0.2  # joints at or below it do not count in a person's score
OKS_NMS_THRESHOLD = 0.9  # above it, two poses are of one person (SimpleBaseline, HRNet)
LARGEST_SIGMA = 0.2  # COCO's largest is 0.107; far larger ones make OKS 1 for any pose
_TINY = np.spacing(1)  # pycocotools adds it to an area, so that it can divide by an area of 0


def check_sigmas(sigmas: Sequence[float] | np.ndarray, source: str) -> None:
    """Refuse OKS constants that make every pose right or wrong.

    Args:
        sigmas: K per-joint constants.
        source: where they come from, named in the error.

    Raises:
        UserError: One is not in (0, 0.2].
    """
    values = np.asarray(sigmas, float)
    wrong = values[~((values > 0) & (values <= LARGEST_SIGMA))]  # also NaN
    if wrong.size:
        raise UserError(
            f"{source}: the OKS constant (sigma) {wrong[0]:g} is not above 0 and at most {LARGEST_SIGMA}; COCO's lie "
            "between 0.025 and 0.107"
        )


def oks(
    predicted: np.ndarray,
    truth: np.ndarray,
    visibility: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    boxes: np.ndarray | None = None,
) -> np.ndarray:
    """Return the OKS of every prediction with every true person, as ``COCOeval.computeOks`` of pycocotools does.

    A true person without a labelled joint has no pose to compare with. There, a predicted joint within the person's
    box, doubled in each direction, has distance 0, and one outside has its distance to that box. COCO ignores such
    matches, so that a prediction on an unlabelled person is not a false positive.

    Args:
        predicted: (n, K, 2) pixels.
        truth: (m, K, 2) pixels; not used where ``visibility`` is 0.
        visibility: (m, K), 0 where a joint is not labelled.
        areas: (m,) segment areas, square pixels.
        sigmas: K per-joint constants (``Skeleton.oks_sigmas``).
        boxes: (m, 4) x, y, w, h of the true persons; needed if one of them has no labelled joint.

    Returns:
        (n, m) float64 in [0, 1].

    Raises:
        ValueError: A person has no labelled joint, and no boxes are given.
    """
    predicted, truth = np.asarray(predicted, float), np.asarray(truth, float)
    labelled = np.asarray(visibility) > 0
    areas = np.asarray(areas, float)
    variances = (2 * np.asarray(sigmas, float)) ** 2  # (K,)

    offsets = predicted[:, None] - np.where(labelled[..., None], truth, 0)  # (n, m, K, 2)
    unlabelled = np.asarray(~labelled.any(axis=1))
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
    sigmas: Sequence[float] | np.ndarray,
    threshold: float = OKS_NMS_THRESHOLD,
) -> np.ndarray:
    """Suppress all but the best-scored of several predictions of one person in a picture.

    The best-scored pose is kept, all poses whose OKS with it is *above* the threshold are dropped, and so on with those
    that are left (SimpleBaseline, HRNet). Two predicted poses are compared over all K joints, with the mean of their
    two areas as the scale.

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
