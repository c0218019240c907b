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
) -> np.ndarray:
    """Return the OKS of every prediction with every true person, as ``COCOeval.computeOks`` of pycocotools does.

    Args:
        predicted: (n, K, 2) pixels.
        truth: (m, K, 2) pixels; not used where ``visibility`` is 0.
        visibility: (m, K), 0 where a joint is not labelled.
        areas: (m,) segment areas, square pixels.
        sigmas: K per-joint constants (``Skeleton.oks_sigmas``).

    Returns:
        (n, m) float64 in [0, 1].

    Raises:
        ValueError: A person has no labelled joint, so there is no pose to compare with.
    """
    predicted, truth = np.asarray(predicted, float), np.asarray(truth, float)
    labelled, areas = np.asarray(visibility) > 0, np.asarray(areas, float)
    if not labelled.any(axis=1).all():
        raise ValueError("a true person has no labelled joint, so there is no pose to compare with")
    variances = (2 * np.asarray(sigmas, float)) ** 2  # (K,)
    offsets = predicted[:, None] - np.where(labelled[..., None], truth, 0)  # (n, m, K, 2)
    exponents = (offsets**2).sum(axis=-1) / variances / (areas[:, None] + _TINY) / 2  # (n, m, K)
    return np.where(labelled, np.exp(-exponents), 0).sum(axis=-1) / labelled.sum(axis=-1)
