"""The persons a network does worst and best on, beside the truth: figures say how often, pictures say why."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lgmpose.data.images import read_annotated
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.inference.drawing import contact_sheet, draw_poses
from lgmpose.inference.predictor import Pose
from lgmpose.pose.geometry import crop_matrix, transform_points, warp_image
from lgmpose.pose.skeletons import Skeleton

__all__ = ["mean_errors", "require_truth", "save_extremes"]

TILE_HW = (224, 224)


def mean_errors(record_set: RecordSet, keypoints_xy: np.ndarray) -> np.ndarray:
    """(n,) mean distance of a person's labelled joints from the truth, in shares of the longer side of the crop.

    NaN for persons without a labelled joint or without a prediction.
    """
    errors = np.full(len(record_set), np.nan)
    for i, record in enumerate(record_set.records):
        labelled = record.visibility > 0
        if labelled.any():
            distance = np.linalg.norm(keypoints_xy[i] - record.keypoints_xy, axis=-1)[labelled]
            errors[i] = distance.mean() / record.size_wh.max()
    return errors


def require_truth(record_set: RecordSet) -> None:
    """Raises UserError where there is no truth to compare with."""
    if not record_set.has_keypoints:
        raise UserError(f"{record_set.name}: detector boxes carry no true joints, so no worst and best can be told")


def save_extremes(record_set: RecordSet, keypoints_xy: np.ndarray, png: str | Path, count: int = 24) -> None:
    """Writes a sheet: the ``count`` worst persons, then the ``count`` best, each as truth (left) and prediction.

    Raises:
        UserError: the set has no truth to compare with, or the file cannot be written.
    """
    require_truth(record_set)
    errors = mean_errors(record_set, keypoints_xy)
    order = [i for i in np.argsort(-errors, kind="stable") if np.isfinite(errors[i])]
    chosen = order[:count] + order[-count:][::-1] if len(order) > 2 * count else order
    tiles, titles = [], []
    for position, i in enumerate(chosen):
        record = record_set.records[i]
        tiles.append(_pair(record, keypoints_xy[i], record_set.skeleton))
        side = "worst" if position < min(count, (len(chosen) + 1) // 2) else "best"
        titles.append(f"{side}: person {record.id}, mean error {100 * errors[i]:.1f} % of the crop")
    sheet = contact_sheet(tiles, 4, titles)
    write_atomically(png, cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())


def _pair(record: PersonRecord, predicted_xy: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    matrix = crop_matrix(record.center_xy, record.size_wh, TILE_HW)
    crop = warp_image(read_annotated(record.image, record.stated_hw), matrix, TILE_HW)
    halves = []
    for points, scores in ((record.keypoints_xy, record.visibility > 0), (predicted_xy, np.ones(len(predicted_xy)))):
        pose = Pose(transform_points(matrix, points), scores.astype(float), np.zeros(4), 1.0, skeleton)
        halves.append(draw_poses(crop, [pose]))
    return np.hstack(halves)
