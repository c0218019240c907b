"""Run a detector over a COCO data set, and evaluate with its boxes: ``lgmpose eval --detector``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lgmpose.data import load_records
from lgmpose.data.coco import picture_names
from lgmpose.data.images import find_pictures, read_annotated
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.files import read_json
from lgmpose.inference.detectors import Detector, detect_people
from lgmpose.inference.options import EvalConfig
from lgmpose.metrics.coco_format import read_coco_file

# AP counts the 20 best poses of a picture. Further boxes cost time: RTMDet finds 66 of 0.05 and more in a picture.
MAX_BOXES = 30

__all__ = ["with_detected_boxes"]


def with_detected_boxes(truth: RecordSet, config: EvalConfig, detector: Detector) -> RecordSet:
    """Return the records of a COCO data set with the boxes that a detector finds in all pictures of the set.

    The 30 best boxes of each picture are used.

    Args:
        truth: the same data with ground-truth boxes.
        config: names the data and the detector.
        detector: finds the people.

    Raises:
        UserError: not COCO data, a picture that cannot be read, or the detector finds no person in any of them.
    """
    name = str(config.detector)
    if config.data.partition(":")[0] != "coco" or truth.annotation_file is None:
        raise UserError(f"--detector {name}: {config.data} is not coco data, the only kind whose AP takes any boxes")
    file = read_coco_file(read_json(truth.annotation_file), truth.annotation_file)
    record = truth.records[0]
    names = picture_names(file, truth.annotation_file)
    depth = len(Path(file.pictures[record.image_id].file_name.replace("\\", "/")).parts)
    paths = find_pictures(Path(record.image).parents[depth - 1], names, truth.annotation_file)
    rows = []
    for picture in tqdm(file.images, desc="detect", unit="picture", disable=None, leave=False):
        pixels = read_annotated(paths[picture.file_name], (picture.height, picture.width))
        boxes, scores = detect_people(detector, pixels)
        best = np.argsort(-scores, kind="stable")[:MAX_BOXES]
        for box, score in zip(boxes[best].tolist(), scores[best].tolist(), strict=True):
            rows.append({"image_id": picture.id, "category_id": truth.category_id, "bbox": box, "score": score})
    if not rows:
        raise UserError(f"{config.data}: the detector {name} finds no person in {len(paths)} pictures")
    with tempfile.TemporaryDirectory() as folder:
        detections = Path(folder) / Path(name).name.replace(":", "-")  # its name is printed beside the figures
        detections.write_text(json.dumps(rows), encoding="utf-8")
        return load_records(
            config.data, config.split, detections=str(detections), annotations=config.annotations,
            categories=config.categories,
        )  # fmt: skip
