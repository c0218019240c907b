"""PCK and PCKh: the percentage of joints that lie close enough to the truth, relative to the torso or the head.

A joint is correct if its error divided by the person's size is at most the threshold. ``PCK@0.2`` takes the torso as
size, ``PCKh@0.5`` the head. Unlabelled joints never count. The mean pools all labelled joints of all persons.

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
    """The result of ``pck`` and ``pckh``.

    Attributes:
        threshold: largest error that is still correct, in sizes.
        joints: indices of the joints that the mean pools.
        mean_percent: percentage of correct joints among all counted joints in ``joints``; NaN if there are none.
        joint_percent: (K,) percentage per joint, also of those outside ``joints``; NaN where none is counted.
        num_persons: persons with a usable size. The others, of size NaN or not positive, are left out.
        correct: (n, K) bool; False where ``counted`` is False.
        counted: (n, K) bool, labelled joints of persons with a usable size.
        sizes: (n,) the persons' sizes, pixels.
    """

    threshold: float
    joints: tuple[int, ...]
    mean_percent: float
    joint_percent: np.ndarray
    num_persons: int
    correct: np.ndarray
    counted: np.ndarray
    sizes: np.ndarray

    def interval(self, seed: int | np.random.Generator = 0, num: int = 1000) -> tuple[float, float]:
        """Return the 95 % interval of ``mean_percent``; see ``bootstrap_interval``."""
        joints = list(self.joints)
        return bootstrap_interval(self.correct[:, joints], self.counted[:, joints], seed, num)


def pck_joints(skeleton: Skeleton) -> tuple[int, ...]:
    """Return the joints that PCK's mean pools: shoulders, elbows, wrists, hips, knees and ankles.

    COCO-17, MPII-16 and LSP-14 all have these twelve, so the figure can be compared between them. LSP-14 has two more,
    neck and head top.
    """
    return tuple(i for i, name in enumerate(skeleton.joint_names) if name in _LIMB_JOINTS)


def pckh_joints(skeleton: Skeleton) -> tuple[int, ...]:
    """Return the joints that PCKh's mean pools: all but pelvis and thorax, as in MPII's evaluation.

    These are 14 of MPII-16 (with the upper neck, which no named group of joints includes) and all 14 of LSP-14.
    """
    return tuple(i for i, name in enumerate(skeleton.joint_names) if name not in ("pelvis", "thorax"))


def torso_size(keypoints_xy: np.ndarray, visibility: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return the size of each torso: the mean of the two distances from a hip to the opposite shoulder.

    Args:
        keypoints_xy: (n, K, 2) true joints, pixels.
        visibility: (n, K), 0 where a joint is not labelled.

    Returns:
        (n,) pixels; one distance alone if only that one is labelled at both ends, NaN if none is.

    Raises:
        UserError: The skeleton has no hips and shoulders.
    """
    if skeleton.torso_diagonals is None:
        raise UserError(f"skeleton {skeleton.name}: PCK needs left and right hip and shoulder; use OKS instead")
    hips, shoulders = np.transpose(skeleton.torso_diagonals)
    keypoints_xy, labelled = np.asarray(keypoints_xy, float), np.asarray(visibility) > 0
    diagonals = np.linalg.norm(keypoints_xy[:, hips] - keypoints_xy[:, shoulders], axis=-1)  # (n, 2)
    known = labelled[:, hips] & labelled[:, shoulders]
    return _ratio(np.where(known, diagonals, 0).sum(axis=1), known.sum(axis=1))


def head_size_from_joints(true_xy: np.ndarray, visibility: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return the size of each head where no head box is annotated (LSP-14): the distance from neck to head top.

    This is the head's length, so the factor 0.6 of MPII's head box diagonal does not apply. The arguments are those of
    ``torso_size``.

    Returns:
        (n,) pixels; NaN where neck or head top is not labelled.

    Raises:
        UserError: The skeleton has no neck and head top.
    """
    if skeleton.head_segment is None:
        raise UserError(f"skeleton {skeleton.name}: PCKh needs the joints neck and head_top; use PCK or OKS instead")
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
    """Return the percentage of correct keypoints: those with error / size ≤ threshold.

    Persons of undefined size are left out. A prediction of NaN is wrong.

    Args:
        predicted_xy: (n, K, 2) pixels.
        true_xy: (n, K, 2) pixels of the same picture; not used where ``visibility`` is 0.
        visibility: (n, K), 0 where a joint is not labelled.
        sizes: (n,) sizes of the persons, pixels: ``torso_size`` for PCK.
        threshold: largest error of a correct joint, as a multiple of the size.
        joints: joints that the mean pools; None pools all K. ``PCK@0.2`` uses ``pck_joints(skeleton)``.

    Raises:
        ValueError: The shapes do not fit together.
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
    # Divide the error, do not multiply the threshold: an error of exactly threshold × size is correct (3 / 15 is 0.2).
    correct = counted & (error_px / np.where(usable, sizes, 1)[:, None] <= threshold)
    joints = tuple(range(labelled.shape[1])) if joints is None else tuple(int(joint) for joint in joints)
    pool = list(joints)
    return PCKResult(
        threshold=threshold,
        joints=joints,
        mean_percent=float(100 * _ratio(correct[:, pool].sum(), counted[:, pool].sum())),
        joint_percent=100 * _ratio(correct.sum(axis=0), counted.sum(axis=0)),
        num_persons=int(usable.sum()),
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
    """Return PCK relative to head sizes, its mean over ``pckh_joints(skeleton)``; see ``pck`` for the arguments.

    ``head_sizes`` (n,) are pixels: 0.6 × head box diagonal for MPII, ``head_size_from_joints`` for LSP-14.
    """
    return pck(predicted_xy, true_xy, visibility, head_sizes, threshold, pckh_joints(skeleton))


def bootstrap_interval(
    correct: np.ndarray, counted: np.ndarray, seed: int | np.random.Generator = 0, num: int = 1000
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval (percentile method) of the pooled percentage of correct joints.

    Persons are drawn with replacement, each with all its joints. The joints of one person are often wrong together, so
    drawing single joints would give too narrow an interval. Persons without a counted joint are left out.

    ``correct`` may also be a difference, ``correct_a.astype(int) - correct_b`` of two networks on the same persons. The
    interval is then that of a's lead over b in percentage points.

    Args:
        correct: (n, K) bool or numbers, or (n,) correct joints of each person.
        counted: (n, K) bool, or (n,) number of counted joints of each person.
        seed: seed of the drawing, or a generator.
        num: number of drawings.

    Returns:
        (low, high) per cent; NaN if nothing is counted.
    """
    from scipy.stats import bootstrap  # here, because it takes a second to import

    counted = np.asarray(counted)
    hits, totals = (
        values.reshape(len(counted), -1).sum(axis=1) for values in (np.where(counted, correct, 0), counted)
    )  # (n,) each
    hits, totals = hits[totals > 0], totals[totals > 0]
    if len(totals) < 2:  # scipy needs two
        percent = float(100 * _ratio(hits.sum(), totals.sum()))
        return percent, percent
    interval = bootstrap(
        (hits, totals),
        lambda hits, totals, axis: 100 * hits.sum(axis) / totals.sum(axis),
        n_resamples=num,
        batch=100,  # of drawings at a time: all at once would take num × n numbers of memory
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the elementwise quotient, NaN (without a warning) where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
