"""PCK and PCKh: the percentage of joints that lie close enough to the truth, measured in torsos or in heads.

Both are one rule with two yardsticks. A joint is correct when its error divided by the person's size is at most the
threshold: PCK@0.2 takes the torso as size, PCKh@0.5 the head. Unlabelled joints never count. The mean is weighted by
counts: all labelled joints of all persons in one pool.

n persons, K joints; points are (x, y); sizes and distances are pixels; all figures are per cent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lgmpose.errors import UserError
from lgmpose.pose.skeletons import Skeleton

__all__ = [
    "PCKResult",
    "bootstrap_interval",
    "head_size_from_joints",
    "pck",
    "pck_joints",
    "pckh",
    "pckh_joints",
    "torso_size",
]

_LIMB_JOINTS = {
    f"{side}_{joint}" for side in ("left", "right") for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
}


@dataclass(frozen=True, eq=False)
class PCKResult:
    """What ``pck`` and ``pckh`` return.

    Attributes:
        threshold: largest error that is still correct, in sizes.
        joints: indices of the joints that the mean pools.
        mean_percent: percentage of correct ones among all counted joints in ``joints``; NaN if there are none.
        joint_percent: (K,) percentage per joint, also of those outside ``joints``; NaN where the count is 0.
        joint_counts: (K,) how many persons have the joint counted.
        num_persons: persons with a usable size.
        num_without_size: persons left out because their size is undefined (NaN) or not positive.
        correct: (n, K) bool; False wherever ``counted`` is.
        counted: (n, K) bool, labelled joints of persons with a usable size.
        sizes: (n,) what errors were measured by, pixels.
    """

    threshold: float
    joints: tuple[int, ...]
    mean_percent: float
    joint_percent: np.ndarray
    joint_counts: np.ndarray
    num_persons: int
    num_without_size: int
    correct: np.ndarray
    counted: np.ndarray
    sizes: np.ndarray

    def interval(self, seed: int | np.random.Generator = 0, num: int = 1000) -> tuple[float, float]:
        """95 % interval of ``mean_percent``; see ``bootstrap_interval``."""
        joints = list(self.joints)
        return bootstrap_interval(self.correct[:, joints], self.counted[:, joints], seed, num)


def pck_joints(skeleton: Skeleton) -> tuple[int, ...]:
    """Joints that PCK's mean pools: shoulders, elbows, wrists, hips, knees and ankles.

    These twelve are what COCO-17, MPII-16 and LSP-14 have in common, so that one figure can be compared between them;
    for LSP-14 they are all but neck and head top.
    """
    return tuple(i for i, name in enumerate(skeleton.joint_names) if name in _LIMB_JOINTS)


def pckh_joints(skeleton: Skeleton) -> tuple[int, ...]:
    """Joints that PCKh's mean pools: all but pelvis and thorax, as MPII has it.

    That is 14 of MPII-16 (upper neck included, though no named group shows it) and all 14 of LSP-14.
    """
    return tuple(i for i, name in enumerate(skeleton.joint_names) if name not in ("pelvis", "thorax"))


def torso_size(keypoints_xy: np.ndarray, visibility: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Size of each torso: the mean of the two distances from a hip to the opposite shoulder.

    Args:
        keypoints_xy: (n, K, 2) true joints, pixels.
        visibility: (n, K), 0 where a joint is not labelled.

    Returns:
        (n,) pixels; the one diagonal if only one is labelled at both ends, NaN if none is.

    Raises:
        UserError: the skeleton has no hips and shoulders.
    """
    if skeleton.torso_diagonals is None:
        raise UserError(
            f"skeleton {skeleton.name} has no hips and shoulders of those names, so PCK has no torso to measure by: "
            "evaluate it by OKS"
        )
    hips, shoulders = np.transpose(skeleton.torso_diagonals)
    keypoints_xy, labelled = np.asarray(keypoints_xy, float), np.asarray(visibility) > 0
    diagonals = np.linalg.norm(keypoints_xy[:, hips] - keypoints_xy[:, shoulders], axis=-1)  # (n, 2)
    known = labelled[:, hips] & labelled[:, shoulders]
    return _ratio(np.where(known, diagonals, 0).sum(axis=1), known.sum(axis=1))


def head_size_from_joints(true_xy: np.ndarray, visibility: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Size of each head for PCKh where no head box is annotated (LSP-14): the distance from neck to head top.

    Unlike MPII's head box diagonal this is the head's own length, so MPII's factor 0.6 does not apply.

    Args:
        true_xy: (n, K, 2) true joints, pixels.
        visibility: (n, K), 0 where a joint is not labelled.

    Returns:
        (n,) pixels; NaN where neck or head top is not labelled.

    Raises:
        UserError: the skeleton has no neck and head top.
    """
    if skeleton.head_segment is None:
        raise UserError(
            f"skeleton {skeleton.name} has no neck and head top, so PCKh has no head to measure by: evaluate it by "
            "PCK or OKS"
        )
    neck, head_top = skeleton.head_segment
    true_xy, labelled = np.asarray(true_xy, float), np.asarray(visibility) > 0
    length = np.linalg.norm(true_xy[:, neck] - true_xy[:, head_top], axis=-1)
    return np.where(labelled[:, neck] & labelled[:, head_top], length, np.nan)


def pck(
    predicted_xy: np.ndarray,
    true_xy: np.ndarray,
    visibility: np.ndarray,
    sizes: np.ndarray,
    threshold: float = 0.2,
    joints: Sequence[int] | None = None,
) -> PCKResult:
    """Percentage of correct keypoints: error / size ≤ threshold.

    Persons of undefined size are left out and counted in ``num_without_size``. A prediction of NaN is wrong.

    Args:
        predicted_xy: (n, K, 2) pixels.
        true_xy: (n, K, 2) pixels of the same picture; may be junk where ``visibility`` is 0.
        visibility: (n, K), 0 where a joint is not labelled.
        sizes: (n,) what errors are measured by, pixels: ``torso_size`` for PCK.
        threshold: in sizes.
        joints: joints that the mean pools; None pools all K. The project's PCK@0.2 uses ``pck_joints(skeleton)``.

    Raises:
        ValueError: shapes that do not fit together.
    """
    predicted_xy, true_xy = np.asarray(predicted_xy, float), np.asarray(true_xy, float)
    labelled, sizes = np.asarray(visibility) > 0, np.asarray(sizes, float)
    if not predicted_xy.shape == true_xy.shape == (*labelled.shape, 2) or sizes.shape != labelled.shape[:1]:
        raise ValueError(
            f"predicted_xy {predicted_xy.shape}, true_xy {true_xy.shape}, visibility {labelled.shape} and sizes "
            f"{sizes.shape} must be (n, K, 2), (n, K, 2), (n, K) and (n,)"
        )
    usable = np.isfinite(sizes) & (sizes > 0)
    counted = labelled & usable[:, None]
    error_px = np.linalg.norm(predicted_xy - true_xy, axis=-1)
    # Dividing (not multiplying the threshold) keeps an error of exactly threshold × size correct: 3 / 15 is 0.2.
    correct = counted & (error_px / np.where(usable, sizes, 1)[:, None] <= threshold)
    joints = tuple(range(labelled.shape[1])) if joints is None else tuple(int(joint) for joint in joints)
    pool = list(joints)
    return PCKResult(
        threshold=threshold,
        joints=joints,
        mean_percent=float(100 * _ratio(correct[:, pool].sum(), counted[:, pool].sum())),
        joint_percent=100 * _ratio(correct.sum(axis=0), counted.sum(axis=0)),
        joint_counts=counted.sum(axis=0),
        num_persons=int(usable.sum()),
        num_without_size=int((~usable).sum()),
        correct=correct,
        counted=counted,
        sizes=sizes,
    )


def pckh(
    predicted_xy: np.ndarray,
    true_xy: np.ndarray,
    visibility: np.ndarray,
    head_sizes: np.ndarray,
    skeleton: Skeleton,
    threshold: float = 0.5,
) -> PCKResult:
    """PCK by head sizes, its mean over ``pckh_joints(skeleton)``.

    Args:
        predicted_xy: (n, K, 2) pixels.
        true_xy: (n, K, 2) pixels of the same picture.
        visibility: (n, K), 0 where a joint is not labelled.
        head_sizes: (n,) pixels: the records' ``head_size`` for MPII, ``head_size_from_joints`` for LSP-14.
        threshold: in head sizes.
    """
    return pck(predicted_xy, true_xy, visibility, head_sizes, threshold, pckh_joints(skeleton))


def bootstrap_interval(
    correct: np.ndarray, counted: np.ndarray, seed: int | np.random.Generator, num: int = 1000
) -> tuple[float, float]:
    """95 % bootstrap interval (percentile method) of the pooled percentage of correct joints.

    Persons are drawn again with replacement, each with its correct and its counted joints as a pair: the joints of one
    person fail together, so drawing single joints would give too narrow an interval. Persons without a counted joint
    take no part.

    ``correct`` may also be a difference, ``correct_a.astype(int) - correct_b`` of two networks on the same persons:
    then the interval is that of a's lead over b in percentage points, with what both find hard cancelled out.

    Args:
        correct: (n, K) bool, or −1, 0, 1.
        counted: (n, K) bool.
        seed: of the drawing, or a generator.
        num: number of drawings.

    Returns:
        (low, high) per cent; NaN if nothing is counted.
    """
    counted = np.asarray(counted, bool)
    hits, totals = np.where(counted, correct, 0).sum(axis=1), counted.sum(axis=1)  # (n,) each
    hits, totals = hits[totals > 0], totals[totals > 0]
    if not len(totals):
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    percent = np.empty(num)
    for i in range(num):  # a loop, as all drawings at once would take num × n numbers of memory
        chosen = generator.integers(len(totals), size=len(totals))
        percent[i] = 100 * hits[chosen].sum() / totals[chosen].sum()
    low, high = np.percentile(percent, (2.5, 97.5))
    return float(low), float(high)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient, NaN (without a warning) where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
