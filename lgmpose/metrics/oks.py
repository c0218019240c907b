"""Object keypoint similarity (OKS) of predictions with true persons.

OKS is the mean over the labelled joints of exp(−d² / (2 · area · (2σ)²)): 1 for a perfect pose, near 0 for a far one.
Each joint has its own σ (eyes are located more precisely than hips), and the person's area gives the scale.
Definition: https://cocodataset.org/#keypoints-eval
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["oks"]

_TINY = np.spacing(1)  # pycocotools adds it to an area, so that it can divide by an area of 0


def oks(
    predicted: np.ndarray,
    truth: np.ndarray,
    visibility: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    boxes: np.ndarray | None = None,
) -> np.ndarray:
    """Return the OKS of every prediction with every true person, as ``COCOeval.computeOks`` of pycocotools does.

    A true person without a labelled joint has no pose to compare with. There, the person's box is
    enlarged by its width to the left and right, and by its height upwards and downwards. A predicted joint in it has
    distance 0; one outside has its distance to that box. COCO ignores such matches, so that a prediction on an
    unlabelled person is not a false positive.

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
