"""The persons that evaluation keeps, against a loop over boxes, on simulated boxes of a detector."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lgmpose import metrics
from lgmpose.inference.figures import Predictions
from lgmpose.inference.top_down import coco_persons, kept_persons
from lgmpose.pose.geometry import fit_aspect
from lgmpose.pose.skeletons import COCO

IMAGE_HW = (96, 64)
# val2017 has 5,000 pictures with 11,004 persons; the field shares a file of 104,125 detected boxes for them.
BOXES_PER_PICTURE, PERSONS_PER_PICTURE, PICTURE_HW = 20.8, 2.2, (480, 640)


def simulate(num_pictures: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Draw persons, and a detector's boxes that show each of them several times, more or less exactly.

    Returns:
        The truth as a COCO annotation file, and the detections: ``image_id`` (n,), ``box_xywh`` (n, 4), ``score`` (n,),
        ``keypoints_xy`` (n, 17, 2) in picture pixels, where the network's heatmaps peak, and ``joint_scores`` (n, 17).
    """
    rng = np.random.default_rng(0)
    persons, boxes = (max(1, round(rate * num_pictures)) for rate in (PERSONS_PER_PICTURE, BOXES_PER_PICTURE))
    height = np.clip(rng.lognormal(4.4, 0.8, persons), 16, PICTURE_HW[0])
    size = np.stack([height * rng.uniform(0.3, 0.7, persons), height], axis=1)
    corner = rng.random((persons, 2)) * (np.array(PICTURE_HW[::-1]) - size)
    joints = corner[:, None] + rng.random((persons, 17, 2)) * size[:, None]
    picture = rng.integers(1, num_pictures + 1, persons)
    who = rng.integers(0, persons, boxes)
    error = rng.exponential(0.05, (boxes, 1))  # of a box and its pose, in box sizes
    detections = {
        "image_id": picture[who],
        "box_xywh": np.hstack([corner[who] + rng.normal(0, 1, (boxes, 2)) * error * size[who], size[who]]),
        "score": rng.beta(5, 2, boxes) * np.exp(-4 * error[:, 0]),
        "keypoints_xy": joints[who] + rng.normal(0, 1, (boxes, 17, 2)) * error[..., None] * size[who, None],
        "joint_scores": rng.beta(6, 2, (boxes, 17)),
    }
    annotations = [
        {
            "id": i + 1, "image_id": int(picture[i]), "category_id": 1, "bbox": [*map(float, (*corner[i], *size[i]))],
            "keypoints": np.column_stack([joints[i], np.full(17, 2)]).ravel().tolist(),
        }
        for i in range(persons)
    ]  # fmt: skip
    pictures = [{"id": i + 1} for i in range(num_pictures)]
    return {"images": pictures, "categories": [{"id": 1, "name": "person"}], "annotations": annotations}, detections


def as_record_set(found: dict[str, np.ndarray]) -> Any:
    """Return what ``kept_persons`` reads of a record set, for the boxes of ``simulate``."""
    columns = found["image_id"].tolist(), found["box_xywh"][:, 2:], found["score"].tolist()
    names = ("image_id", "size_wh", "score")
    records = [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
    return SimpleNamespace(records=records, has_keypoints=False, category_id=1, skeleton=COCO)


def as_predictions(found: dict[str, np.ndarray]) -> Predictions:
    return Predictions(found["keypoints_xy"].copy(), found["joint_scores"], np.zeros(len(found["score"]), bool))


@pytest.fixture(scope="module")
def job():
    return simulate(60)


def kept_box_by_box(found):
    """``kept_persons`` as one writes it first: picture by picture, person by person, pair by pair."""
    variances = [(2 * sigma) ** 2 for sigma in COCO.oks_sigmas]
    scores, areas, by_picture = [], [], {}
    for i, joint_scores in enumerate(found["joint_scores"]):
        confident = [score for score in joint_scores.tolist() if score > 0.2]
        scores.append(sum(confident) / len(confident) * found["score"][i] if confident else 0.0)
        width, height = fit_aspect(found["box_xywh"][i, 2:], IMAGE_HW)
        areas.append(float(width * height))
        by_picture.setdefault(int(found["image_id"][i]), []).append(i)

    def likeness(i: int, j: int) -> float:
        squared = ((found["keypoints_xy"][i] - found["keypoints_xy"][j]) ** 2).sum(axis=1)
        return float(np.mean(np.exp(-squared / variances / ((areas[i] + areas[j]) / 2) / 2)))

    keep = []
    for picture in sorted(by_picture):
        left = sorted(by_picture[picture], key=lambda i: -scores[i])
        while left:
            best, *others = left
            keep.append(best)
            left = [other for other in others if likeness(other, best) <= 0.9]
    return keep, scores


def test_the_persons_kept_are_those_of_the_loop_over_boxes(job):
    found = job[1]
    keep, scores = kept_persons(as_predictions(found), as_record_set(found), IMAGE_HW)
    slow_keep, slow_scores = kept_box_by_box(found)
    assert keep.tolist() == slow_keep and 0.3 * len(scores) < len(keep) < 0.9 * len(scores)
    np.testing.assert_allclose(scores, slow_scores, rtol=1e-12)


def test_ground_truth_boxes_are_all_kept_and_unreadable_pictures_left_out(job):
    predictions, record_set = as_predictions(job[1]), as_record_set(job[1])
    predictions.keypoints_xy[[2, 5]] = np.nan
    detected = coco_persons(predictions, record_set, IMAGE_HW)
    order = [(person["image_id"], -person["score"]) for person in detected]
    assert order == sorted(order) and np.isfinite([person["keypoints"] for person in detected]).all()
    record_set.has_keypoints = True
    keep, scores = kept_persons(predictions, record_set, IMAGE_HW)
    assert keep.tolist() == [i for i in range(len(scores)) if i not in (2, 5)]


def test_simulated_detections_show_the_persons(job):
    truth, found = job
    persons = coco_persons(as_predictions(found), as_record_set(found), IMAGE_HW)
    assert 0.5 < metrics.coco_ap(persons, truth)["AP"] < 0.95
    assert len(truth["annotations"]) == 132 and len(found["score"]) == 1248
