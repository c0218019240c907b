"""From poses of boxes to persons in COCO's results format: rescored and, where a detector gave the boxes, each once.

All at once for a whole data set; nothing loops over boxes but the reading of records and the writing of results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lgmpose.metrics.average_precision import coco_results
from lgmpose.metrics.oks import oks_nms, rescore
from lgmpose.pose.geometry import fit_aspect

if TYPE_CHECKING:
    from lgmpose.data.records import RecordSet

__all__ = ["coco_persons", "kept_persons"]


def coco_persons(
    keypoints_xy: np.ndarray,
    joint_scores: np.ndarray,
    record_set: RecordSet,
    sigmas: Sequence[float],
    image_hw: tuple[int, int],
) -> list[dict]:
    """Persons of a record set as ``coco_results`` has them; those whose pose or scores are NaN are left out.

    Args:
        keypoints_xy: (n, K, 2) predicted poses, picture pixels, one per record.
        joint_scores: (n, K) heatmap maxima.
        record_set: where the boxes came from, and the number of their category. Ground-truth boxes keep their order;
            a detector's go through OKS-NMS, and come by picture, there the best first.
        sigmas: K per-joint constants.
        image_hw: the network's input, whose aspect ratio the boxes were given.
    """
    keep, scores = kept_persons(keypoints_xy, joint_scores, record_set, sigmas, image_hw)
    image_ids = np.array([record.image_id for record in record_set.records])
    return coco_results(image_ids[keep], keypoints_xy[keep], joint_scores[keep], scores[keep], record_set.category_id)


def kept_persons(
    keypoints_xy: np.ndarray,
    joint_scores: np.ndarray,
    record_set: RecordSet,
    sigmas: Sequence[float],
    image_hw: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """The choice that ``coco_persons`` makes: indices of the persons kept, and the scores (n,) of all."""
    records = record_set.records
    scores = rescore(joint_scores, np.array([record.score for record in records]))
    keep = np.flatnonzero(np.isfinite(keypoints_xy).all(axis=(1, 2)) & np.isfinite(joint_scores).all(axis=1))
    if not record_set.has_keypoints:
        # The area is that of the padded box in the network's aspect ratio, as HRNet has it.
        areas = fit_aspect(np.array([record.size_wh for record in records]), image_hw).prod(axis=1)
        picture_ids = np.array([records[i].image_id for i in keep], int)
        by_picture = keep[np.argsort(picture_ids, kind="stable")]
        starts = np.unique(np.sort(picture_ids), return_index=True)[1][1:]
        alone = [
            boxes[oks_nms(keypoints_xy[boxes], scores[boxes], areas[boxes], sigmas)]
            for boxes in np.split(by_picture, starts)
        ]
        keep = np.concatenate(alone)
    return keep, scores
