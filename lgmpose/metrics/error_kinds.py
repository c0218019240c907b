"""Kinds of errors of a network: a wrong joint near its true place, or at the place of another joint.

After M. R. Ronchi and P. Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation" (ICCV 2017), who
measure by OKS. Here the measure is PCK's threshold, and one person at a time is considered.
"""

from __future__ import annotations

import numpy as np

from lgmpose.metrics.pck import PCKResult
from lgmpose.pose.skeletons import Skeleton

__all__ = ["ERROR_KINDS", "error_kinds"]

ERROR_KINDS = {
    "side": "where the same joint of the other side is",
    "name": "where another joint of the person is",
    "near": "less than twice the threshold away",
    "lost": "elsewhere",
}


def error_kinds(
    result: PCKResult, predicted_xy: np.ndarray, true_xy: np.ndarray, skeleton: Skeleton
) -> dict[str, float]:
    """Return how many joints are wrong in which way.

    "Where a joint is" means within the result's threshold of its labelled place. A wrong joint is of the first of
    ``ERROR_KINDS`` that fits.

    Args:
        result: the result of ``pck`` or ``pckh``, for the next two arguments.
        predicted_xy: (n, K, 2) pixels; NaN counts as lost.
        true_xy: (n, K, 2) pixels.
        skeleton: the joints.

    Returns:
        Per cent of all joints that the result's mean counts, by kind; with ``result.mean_percent`` they sum to 100.
    """
    usable = result.counted.any(axis=1)
    predicted_xy, true_xy = np.asarray(predicted_xy, float)[usable], np.asarray(true_xy, float)[usable]
    counted, correct = result.counted[usable], result.correct[usable]
    offset = predicted_xy[:, :, None] - true_xy[:, None]  # (n, K, K, 2): from each true joint to each predicted one
    distance = np.linalg.norm(offset, axis=-1) / result.sizes[usable, None, None]
    hits = (distance <= result.threshold) & counted[:, None]  # (n, K, K)
    own = np.arange(counted.shape[1])
    twin = np.array(skeleton.flip_permutation)
    found = {
        "side": hits[:, own, twin],  # a joint without a twin is its own, and there a wrong joint never hits
        "name": hits.any(axis=2),
        "near": distance[:, own, own] <= 2 * result.threshold,
        "lost": np.ones_like(counted),
    }
    left, shares, pool = counted & ~correct, {}, list(result.joints)
    total = counted[:, pool].sum()
    for kind in ERROR_KINDS:
        of_this_kind = left & found[kind]
        shares[kind] = float(100 * of_this_kind[:, pool].sum() / total) if total else float("nan")
        left = left & ~of_this_kind
    return shares
