"""Figures of predictions on a record set: PCK, PCKh and kinds of errors, with their conditions, as text and JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.metrics import (
    ERROR_KINDS,
    PCKResult,
    error_kinds,
    head_size_from_joints,
    pck,
    pck_joints,
    pckh,
    torso_size,
)
from lgmpose.pose.skeletons import Skeleton

__all__ = [
    "Evaluation", "Predictions", "figure_text", "has_head_boxes", "joint_metrics", "joint_results", "summary",
]  # fmt: skip


def figure_text(metric: str, value: float) -> str:
    """Return ``66.24 %`` for PCK and PCKh, which are in per cent, and ``0.6624`` for all others, such as AP and AR.

    AP of persons of a size that the data do not have is -1, and is printed as a dash.
    """
    if value == -1:
        return "–"
    return f"{value:.2f} %" if metric.startswith("PCK") else f"{value:.4f}"


@dataclass(frozen=True)
class Predictions:
    """One pose per record; NaN with score 0 for a person whose picture could not be read.

    Attributes:
        keypoints_xy: (n, K, 2) picture pixels.
        scores: (n, K) heatmap maxima.
        unread: (n,) bool, persons whose picture could not be read.
    """

    keypoints_xy: np.ndarray
    scores: np.ndarray
    unread: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Figures with the conditions they hold under.

    Attributes:
        figures: metric name → value; PCK and PCKh in per cent, AP and AR in 0..1.
        conditions: data, skeleton, boxes, flip test, codec, input size, persons … as printed beside the figures.
        per_joint: metric name → joint name → per cent.
        intervals: metric name → 95 % bootstrap interval, over persons; AP's over pictures.
        errors: metric name → kind (``metrics.ERROR_KINDS``) → per cent of all joints that are wrong in this way.
        predictions: the poses.
    """

    figures: dict[str, float]
    conditions: dict[str, str]
    per_joint: dict[str, dict[str, float]] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    predictions: Predictions | None = None

    def as_text(self) -> str:
        """Return a few lines: conditions, figures with intervals, a table of joints."""
        lines = ["  ".join(f"{name}: {value}" for name, value in self.conditions.items())]
        for name, value in self.figures.items():
            interval = ""
            if name in self.intervals:
                low, high = (figure_text(name, end).removesuffix(" %") for end in self.intervals[name])
                interval = f"  (95 % interval {low} … {high})"
            lines.append(f"{name:10} {figure_text(name, value)}{interval}")
        for name, kinds in self.errors.items():
            shares = ", ".join(f"{value:.2f} % {ERROR_KINDS[kind]}" for kind, value in kinds.items())
            lines.append(f"wrong by {name}: {shares}")
        if self.per_joint:
            lines.append(f"{'joint':16}" + "".join(f"{metric:>12}" for metric in self.per_joint))
            for joint in next(iter(self.per_joint.values())):
                values = (joints[joint] for joints in self.per_joint.values())
                row = (f"{'–':>12}" if math.isnan(value) else f"{value:12.2f}" for value in values)
                lines.append(f"{joint:16}{''.join(row)}")
        return "\n".join(lines)

    @property
    def headline(self) -> str:
        """The figure to judge a network by: AP where there is one, PCKh@0.5 on MPII, else PCK@0.2."""
        order = ("AP", "PCK@0.2", "PCKh@0.5")
        if self.conditions.get("skeleton") == "mpii-16":
            order = ("PCKh@0.5", "PCK@0.2", "AP")
        found = [name for name in order if name in self.figures]
        if not found:
            raise UserError(f"{self.conditions['data']}: no figure to judge by: nobody's torso or head is labelled")
        return found[0]

    def as_json(self) -> dict:
        """Return everything but the predictions for a JSON file."""
        return {
            "figures": {name: round(value, 4) for name, value in self.figures.items()},
            "intervals_95": {
                name: [round(v, 4 if name == "AP" else 2) for v in pair] for name, pair in self.intervals.items()
            },
            "per_joint": {  # JSON has no NaN, the value of a joint that is labelled nowhere
                metric: {joint: None if math.isnan(v) else round(v, 2) for joint, v in values.items()}
                for metric, values in self.per_joint.items()
            },
            "errors": {m: {kind: round(v, 2) for kind, v in values.items()} for m, values in self.errors.items()},
            "conditions": self.conditions,
        }


def joint_results(predictions: Predictions, record_set: RecordSet, skeleton: Skeleton) -> dict[str, PCKResult]:
    """Compute PCK@0.2 and PCKh@0.5, whichever the skeleton and the labels allow.

    A metric for which no joint of its mean counts is left out.
    """
    truth = np.stack([record.keypoints_xy for record in record_set.records])
    visibility = np.stack([record.visibility for record in record_set.records])
    results = {}
    if skeleton.torso_diagonals is not None:
        sizes = torso_size(truth, visibility, skeleton)
        results["PCK@0.2"] = pck(predictions.keypoints_xy, truth, visibility, sizes, 0.2, pck_joints(skeleton))
    head_sizes = np.array([record.head_size for record in record_set.records])
    if not has_head_boxes(record_set) and skeleton.head_segment is not None:
        head_sizes = head_size_from_joints(truth, visibility, skeleton)
    if np.isfinite(head_sizes).any():
        results["PCKh@0.5"] = pckh(predictions.keypoints_xy, truth, visibility, head_sizes, skeleton, 0.5)
    return {name: result for name, result in results.items() if result.counted[:, list(result.joints)].any()}


def joint_metrics(record_set: RecordSet) -> tuple[str, ...]:
    """Return the metrics that ``joint_results`` will have, whatever is predicted."""
    shape = (len(record_set), record_set.skeleton.num_keypoints)
    nothing = Predictions(np.full((*shape, 2), np.nan), np.zeros(shape), np.zeros(shape[0], bool))
    return tuple(joint_results(nothing, record_set, record_set.skeleton))


def has_head_boxes(record_set: RecordSet) -> bool:
    """Return True if heads are measured by annotated boxes (MPII), False if from neck to head top."""
    return any(np.isfinite(record.head_size) for record in record_set.records)


def summary(
    results: dict[str, PCKResult], predicted_xy: np.ndarray, record_set: RecordSet, skeleton: Skeleton
) -> tuple[dict, dict, dict]:
    """Return an evaluation's ``figures``, ``per_joint`` and ``errors``."""
    figures = {name: result.mean_percent for name, result in results.items()}
    per_joint = {
        name: {joint: float(v) for joint, v in zip(skeleton.joint_names, result.joint_percent, strict=True)}
        for name, result in results.items()
    }
    true_xy = [record.keypoints_xy for record in record_set.records]
    errors = {name: error_kinds(result, predicted_xy, np.stack(true_xy), skeleton) for name, result in results.items()}
    return figures, per_joint, errors
