"""Boxes other than the annotated ones, for ``lgmpose eval``: a detector's, shifted ones, or none at all."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lgmpose.data import load_records
from lgmpose.data.batches import count_errors
from lgmpose.data.coco import picture_names
from lgmpose.data.images import find_pictures, read_annotated
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.files import read_json
from lgmpose.inference.backends import Backend
from lgmpose.inference.detectors import Detector, detect_people
from lgmpose.inference.figures import Predictions
from lgmpose.inference.options import EvalConfig
from lgmpose.inference.predictor import Predictor
from lgmpose.metrics.coco_format import read_coco_file
from lgmpose.pose.geometry import PADDING

__all__ = ["predict_without_boxes", "shift_boxes", "with_detected_boxes"]

# AP counts the 20 best poses of a picture. Further boxes cost time: RTMDet finds 66 of 0.05 and more in a picture.
MAX_BOXES = 30
SHIFT = 0.1  # largest move of a box's centre, as a share of its width and of its height
FACTOR = 1.25  # largest factor of a box's size; the smallest is its inverse


def with_detected_boxes(truth: RecordSet, config: EvalConfig, detector: Detector) -> RecordSet:
    """Return the records of a COCO data set with the boxes that a detector finds in all pictures of the set.

    The 30 best boxes of each picture are used. ``truth`` is the same data with ground-truth boxes. A picture that
    cannot be read gets one box, if ``config.bad_images`` is ``skip``: the evaluation then counts it and leaves it out.

    Raises:
        UserError: not COCO data; a picture cannot be read and ``config.bad_images`` is ``refuse``; or the detector
            finds no person in any of them.
    """
    name = str(config.detector)
    if config.data.partition(":")[0] != "coco" or truth.annotation_file is None:
        raise UserError(f"--detector {name}: {config.data} is not coco data, the only kind whose AP takes any boxes")
    file = read_coco_file(read_json(truth.annotation_file), truth.annotation_file)
    record = truth.records[0]
    names = picture_names(file, truth.annotation_file)
    depth = len(Path(file.pictures[record.image_id].file_name.replace("\\", "/")).parts)
    paths = find_pictures(Path(record.image).parents[depth - 1], names, truth.annotation_file)
    rows, found_any = [], False
    for picture in tqdm(file.images, desc="detect", unit="picture", disable=None, leave=False):
        row = {"image_id": picture.id, "category_id": truth.category_id}
        try:
            hw = picture.height, picture.width
            pixels = read_annotated(paths[picture.file_name], hw, picture.as_shown)
        except UserError as error:
            count_errors({"errors": [str(error)]}, config.bad_images)
            rows.append(row | {"bbox": [0, 0, picture.width, picture.height], "score": 0})
            continue
        boxes, scores = detect_people(detector, pixels)
        best = np.argsort(-scores, kind="stable")[:MAX_BOXES]
        for box, score in zip(boxes[best].tolist(), scores[best].tolist(), strict=True):
            rows.append(row | {"bbox": box, "score": score})
            found_any = True
    if not found_any:
        raise UserError(f"{config.data}: the detector {name} finds no person in {len(paths)} pictures")
    with tempfile.TemporaryDirectory() as folder:
        detections = Path(folder) / Path(name).name.replace(":", "-")  # its name is printed beside the figures
        detections.write_text(json.dumps(rows), encoding="utf-8")
        return load_records(
            config.data, config.split, detections=str(detections), annotations=config.annotations,
            categories=config.categories,
        )  # fmt: skip


def shift_boxes(record_set: RecordSet, seed: int = 0) -> RecordSet:
    """Move and scale every box at random, as an inexact detector would.

    The centre moves by up to 10 % of the box's width and height. Width and height are multiplied by one factor from 0.8
    to 1.25. A person's change depends on the seed and on the person's position in the set, not on the set's size. So
    the first persons of ``--limit N`` get the same boxes as in the whole set.

    Returns:
        The set with the new boxes, and with a ``box_source`` that says so.
    """
    drawn = np.random.default_rng(seed).uniform(-1, 1, (len(record_set), 3))  # row by row
    moves, factors = SHIFT * drawn[:, :2], FACTOR ** drawn[:, 2]
    records = tuple(  # a move is a share of the box, and size_wh has its padding
        replace(record, center_xy=record.center_xy + move * record.size_wh / PADDING, size_wh=record.size_wh * factor)
        for record, move, factor in zip(record_set.records, moves, factors, strict=True)
    )
    source = f"{record_set.box_source}, shifted by up to {SHIFT:.0%}, scaled by {1 / FACTOR:g} to {FACTOR:g}"
    return replace(record_set, records=records, box_source=source)


def predict_without_boxes(
    backend: Backend,
    record_set: RecordSet,
    *,
    flip_test: bool = True,
    bad_images: str = "refuse",
    progress: bool = True,
) -> Predictions:
    """Predict the person of every picture as ``Predictor`` does without a box and without a detector.

    The poses have all joints of the network, whatever those of the data are.

    Raises:
        UserError: a picture shows several persons, or it cannot be read and ``bad_images`` is ``refuse``.
    """
    if len({record.image_id for record in record_set.records}) < len(record_set):
        raise UserError(f"--boxes none is for one person per picture; some pictures of {record_set.name} show several")
    predictor = Predictor(backend, detector="none", flip_test=flip_test)
    n, K = len(record_set), backend.skeleton.num_keypoints
    keypoints_xy, scores, unread = np.full((n, K, 2), np.nan), np.zeros((n, K)), np.ones(n, bool)
    for i, record in enumerate(tqdm(record_set.records, desc="evaluate", disable=not progress, leave=False)):
        try:
            picture = read_annotated(record.image, record.stated_hw, record.as_shown)
        except UserError as error:
            count_errors({"errors": [str(error)]}, bad_images)
            continue
        (pose,) = predictor(picture)
        keypoints_xy[i], scores[i], unread[i] = pose.keypoints_xy, pose.scores, False
    return Predictions(keypoints_xy, scores, unread)
