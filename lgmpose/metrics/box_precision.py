"""Average precision of boxes by COCO's rules (pycocotools), and the recall that a precision of 0.9 leaves."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

__all__ = ["LARGE_SIDE", "LEAST_PRECISION", "box_ap"]

LARGE_SIDE = 64  # pixels; persons whose box has this area or more are searched for with LEAST_PRECISION
LEAST_PRECISION = 0.9


def box_ap(truth: list[dict], found: list[dict], image_ids: Sequence[int]) -> dict[str, float]:
    """Return how well boxes are found.

    Args:
        truth: ``image_id``, ``bbox`` (x, y, w, h), ``area`` and ``iscrowd`` of every person. A box found in a crowd
            counts neither as right nor as wrong.
        found: ``image_id``, ``bbox`` and ``score``.
        image_ids: all pictures, also those without persons.

    Returns:
        AP, AP50, AP75, APM, APL and AR (100 boxes per picture), in 0..1, and "large recall": the largest recall at IoU
        0.5 whose precision is 0.9 or more, over persons whose box covers 64×64 pixels or more.
    """
    names = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR")
    if not found:  # pycocotools fails on an empty list
        return {name: 0.0 for name in names if name not in ("APS", "AR1", "AR10")} | {"large recall": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _evaluation(truth, found, image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        by_box = [person | {"area": person["bbox"][2] * person["bbox"][3]} for person in truth]
        large = _evaluation(by_box, found, image_ids)
        large.params.areaRng, large.params.areaRngLbl = [[LARGE_SIDE**2, 1e10]], ["large"]
        large.params.iouThrs, large.params.maxDets = large.params.iouThrs[:1], [100]
        large.evaluate()
        large.accumulate()
    stats = dict(zip(names, evaluation.stats.tolist(), strict=False))
    precision = large.eval["precision"][0, :, 0, 0, 0]  # at recalls 0, 0.01 … 1; 0 where a recall is not reached
    reached = large.params.recThrs[precision >= LEAST_PRECISION]
    figures = {name: stats[name] for name in names if name not in ("APS", "AR1", "AR10")}
    return figures | {"large recall": float(reached.max(initial=0))}


def _evaluation(truth: list[dict], found: list[dict], image_ids: Sequence[int]) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval  # slow to import, and only this function needs it

    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in image_ids],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [person | {"id": number, "category_id": 1} for number, person in enumerate(truth, 1)],
    }
    coco.createIndex()
    return COCOeval(coco, coco.loadRes([box | {"category_id": 1} for box in found]), "bbox")
