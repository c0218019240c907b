"""Draw the persons that a network predicts worst and best, beside the truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lgmpose.data.images import read_annotated
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.inference.drawing import OUTLINE, draw_poses
from lgmpose.inference.predictor import Pose
from lgmpose.pose.geometry import crop_matrix, transform_points, warp_image
from lgmpose.pose.skeletons import Skeleton

__all__ = ["choose_extremes", "mean_errors", "require_truth", "save_extremes"]

CROP_HW = (224, 224)
COLUMNS, TITLE_HEIGHT, GAP = 4, 18, 8


def mean_errors(record_set: RecordSet, keypoints_xy: np.ndarray) -> np.ndarray:
    """Return each person's mean distance of labelled joints from the truth, in shares of the crop's longer side.

    Returns:
        (n,) float64; NaN for persons without a labelled joint or without a prediction.
    """
    errors = np.full(len(record_set), np.nan)
    for i, record in enumerate(record_set.records):
        labelled = record.visibility > 0
        if labelled.any():
            distance = np.linalg.norm(keypoints_xy[i] - record.keypoints_xy, axis=-1)[labelled]
            errors[i] = distance.mean() / record.size_wh.max()
    return errors


def choose_extremes(errors: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """Return the indices of the worst and of the best persons, at most ``count`` of each, most extreme first.

    NaN is left out. No person is in both lists.
    """
    order = [int(i) for i in np.argsort(-errors, kind="stable") if np.isfinite(errors[i])]
    num_worst = min(count, (len(order) + 1) // 2)
    return order[:num_worst], order[num_worst:][::-1][:count]


def require_truth(record_set: RecordSet) -> None:
    """Raise UserError if there is no truth to compare with."""
    if not record_set.has_keypoints:
        raise UserError(f"{record_set.name}: detector boxes have no true joints, so there is no worst and no best")


def save_extremes(record_set: RecordSet, keypoints_xy: np.ndarray, png: str | Path, count: int = 24) -> None:
    """Write a sheet of the ``count`` worst persons, then the ``count`` best, each as truth (left) and prediction.

    Raises:
        UserError: the set has no truth to compare with, nobody was predicted, or the file cannot be written.
    """
    require_truth(record_set)
    errors = mean_errors(record_set, keypoints_xy)
    tiles = []
    for side, indices in zip(("worst", "best"), choose_extremes(errors, count), strict=True):
        for i in indices:
            record = record_set.records[i]
            title = f"{side}: person {record.id}, mean error {100 * errors[i]:.1f} % of the crop"
            tiles.append(_tile(record, keypoints_xy[i], record_set.skeleton, title))
    if not tiles:
        raise UserError(f"{png}: nobody to draw: no person of {record_set.name} has a labelled joint and a prediction")
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    sheet = np.vstack([np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)])
    write_atomically(png, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


def _tile(record: PersonRecord, predicted_xy: np.ndarray, skeleton: Skeleton, title: str) -> np.ndarray:
    """Return the truth and the prediction on the person's crop, side by side, with a title below."""
    matrix = crop_matrix(record.center_xy, record.size_wh, CROP_HW)
    crop = warp_image(read_annotated(record.image, record.stated_hw, record.as_shown), matrix, CROP_HW)
    halves = []
    for points, scores in ((record.keypoints_xy, record.visibility > 0), (predicted_xy, np.ones(len(predicted_xy)))):
        pose = Pose(transform_points(matrix, points), scores.astype(float), np.zeros(4), 1.0, skeleton)
        halves.append(draw_poses(crop, [pose]))
    pair = np.hstack(halves)
    tile = cv2.copyMakeBorder(pair, 0, TITLE_HEIGHT + GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    return cv2.putText(tile, title, (0, len(pair) + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, OUTLINE, 1, cv2.LINE_AA)
