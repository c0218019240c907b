"""Measure a detector on COCO data: ``lgmpose eval-detector``."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lgmpose.data.boxes import BoxSet
from lgmpose.data.images import read_annotated
from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.inference.detectors import Detector, detect_people
from lgmpose.inference.figures import Evaluation
from lgmpose.machine import machine_header
from lgmpose.metrics.box_precision import box_ap

__all__ = ["MAX_BOXES", "evaluate_detector", "save_figures"]

MAX_BOXES = 100  # best boxes of a picture that COCO evaluates


def evaluate_detector(
    detector: Detector, box_set: BoxSet, *, bad_images: str = "refuse", progress: bool = True
) -> Evaluation:
    """Return the figures of ``box_precision.box_ap``, and the median time per picture among the conditions.

    Raises:
        UserError: a picture cannot be read and ``bad_images`` is ``refuse``, none can be read, or the detector returns
            something else than boxes and scores.
    """
    truth, found, seconds, read = [], [], [], []
    hidden = None if progress else True  # None: shown in a terminal only
    for picture in tqdm(box_set.pictures, desc="detect", unit="picture", disable=hidden, leave=False):
        try:
            pixels = read_annotated(picture.image, picture.hw, picture.as_shown)
        except UserError:
            if bad_images == "refuse":
                raise
            continue
        read.append(picture.id)
        rows = zip(picture.boxes_xywh.tolist(), picture.areas.tolist(), picture.is_crowd.tolist(), strict=True)
        for box, area, is_crowd in rows:
            truth.append({"image_id": picture.id, "bbox": box, "area": area, "iscrowd": int(is_crowd)})
        start = time.perf_counter()
        boxes, scores = detect_people(detector, pixels)
        seconds.append(time.perf_counter() - start)
        for i in np.argsort(-scores, kind="stable")[:MAX_BOXES]:
            found.append({"image_id": picture.id, "bbox": boxes[i].tolist(), "score": float(scores[i])})
    if not read:
        raise UserError(f"{box_set.name}: none of the pictures could be read, so there is nothing to evaluate")
    figures = box_ap(truth, found, read)
    conditions = {
        "data": box_set.name,
        "pictures": str(len(read)),
        "persons": str(sum(not person["iscrowd"] for person in truth)),
        "median time per picture": f"{1000 * float(np.median(seconds)):.1f} ms",
    }
    if len(read) < len(box_set):
        conditions["unreadable pictures skipped"] = str(len(box_set) - len(read))
    return Evaluation(figures, conditions)


def save_figures(evaluation: Evaluation, detector: str, path: Path) -> None:
    """Write the figures of a detector, with their conditions and this machine."""
    content = {"detector": Path(detector).name, **evaluation.as_json()} | machine_header()
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
