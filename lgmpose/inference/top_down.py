"""From poses of boxes to persons in COCO's results format: rescored, each once if a detector gave the boxes."""

from __future__ import annotations

import numpy as np

from lgmpose.data.records import RecordSet
from lgmpose.inference.figures import Predictions
from lgmpose.metrics.average_precision import coco_results
from lgmpose.pose.geometry import fit_aspect
from lgmpose.pose.persons import oks_nms, rescore

__all__ = ["coco_persons", "kept_persons"]


def coco_persons(predictions: Predictions, record_set: RecordSet, image_hw: tuple[int, int]) -> list[dict]:
    """Return the persons of a record set in COCO's results format; see ``kept_persons`` for the arguments."""
    keep, scores = kept_persons(predictions, record_set, image_hw)
    image_ids = np.array([record.image_id for record in record_set.records])
    keypoints_xy, joint_scores = predictions.keypoints_xy[keep], predictions.scores[keep]
    return coco_results(image_ids[keep], keypoints_xy, joint_scores, scores[keep], record_set.category_id)


def kept_persons(
    predictions: Predictions, record_set: RecordSet, image_hw: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the persons that are kept, and the scores (n,) of all.

    Persons whose pose or scores are NaN are left out. Persons of ground-truth boxes keep their order. Persons of a
    detector's boxes go through OKS-NMS and are sorted by picture and score.

    Known difference from the reference code: HRNet runs OKS-NMS with ground-truth boxes, too. Here each of these boxes
    is one person, also if two poses are almost the same.

    Args:
        predictions: the poses, one per record.
        record_set: where the boxes come from.
        image_hw: the network's input size, whose aspect ratio the boxes were given.
    """
    records, keypoints_xy, joint_scores = record_set.records, predictions.keypoints_xy, predictions.scores
    scores = rescore(joint_scores, np.array([record.score for record in records]))
    keep = np.flatnonzero(np.isfinite(keypoints_xy).all(axis=(1, 2)) & np.isfinite(joint_scores).all(axis=1))
    if not record_set.has_keypoints:
        # As in HRNet, the area is that of the padded box in the network's aspect ratio.
        areas = fit_aspect(np.array([record.size_wh for record in records]), image_hw).prod(axis=1)
        picture_ids = np.array([records[i].image_id for i in keep], int)
        sigmas = record_set.skeleton.oks_sigmas
        by_picture = keep[np.argsort(picture_ids, kind="stable")]
        starts = np.unique(np.sort(picture_ids), return_index=True)[1][1:]
        keep = np.concatenate([
            boxes[oks_nms(keypoints_xy[boxes], scores[boxes], areas[boxes], sigmas)]
            for boxes in np.split(by_picture, starts)
        ])  # fmt: skip
    return keep, scores
