"""A made-up evaluation job of the size and shape of COCO val2017's: truth, a detector's boxes, a network's heatmaps.

Half of the pictures are empty, the others hold a few persons; the detector finds each of them several times, and half
as much again where nobody is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.pose.codecs import StandardCodec
from lgmpose.pose.geometry import PADDING, crop_matrix, transform_points
from lgmpose.pose.skeletons import COCO

__all__ = ["BOXES_PER_PICTURE", "Simulation", "heatmap_batches", "simulate"]

# val2017 and the detections that the field shares: 104,125 boxes on 5,000 pictures; 2,693 of these show 11,004 persons,
# of whom 6,352 have labelled joints.
BOXES_PER_PICTURE = 20.8
SHARE_WITH_PEOPLE, PERSONS_EACH, SHARE_LABELLED, COPIES = 0.54, 4.1, 0.58, 6
PICTURE_HW = (480, 640)
# (17, 2): a person standing in a box of width and height 1, joints in COCO's order.
STANDING = np.array([
    (0.5, 0.08), (0.54, 0.06), (0.46, 0.06), (0.6, 0.08), (0.4, 0.08), (0.75, 0.22), (0.25, 0.22), (0.85, 0.38),
    (0.15, 0.38), (0.9, 0.52), (0.1, 0.52), (0.65, 0.53), (0.35, 0.53), (0.66, 0.75), (0.34, 0.75), (0.66, 0.96),
    (0.34, 0.96),
])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Simulation:
    """Who is where, and what a network sees in each of a detector's boxes.

    Attributes:
        truth: a COCO annotation file as a dict.
        record_set: the detector's n boxes, as ``load_coco`` reads them.
        matrices: (n, 2, 3), picture → crop.
        seen_xy: (n, 17, 2), where the network's heatmaps will peak, crop pixels.
        confidence: (n, 17), how high.
    """

    truth: dict
    record_set: RecordSet
    matrices: np.ndarray
    seen_xy: np.ndarray
    confidence: np.ndarray


def simulate(num_pictures: int, image_hw: tuple[int, int], *, seed: int = 0) -> Simulation:
    """Draws a job of so many pictures for a network of that input size."""
    rng = np.random.default_rng(seed)
    num_boxes = round(BOXES_PER_PICTURE * num_pictures)
    persons_in = np.minimum(rng.geometric(1 / PERSONS_EACH, num_pictures), 20)
    persons_in *= rng.random(num_pictures) < SHARE_WITH_PEOPLE
    picture_of = np.repeat(np.arange(num_pictures), persons_in)  # (p,) of each person
    boxes = _boxes(rng, len(picture_of))
    joints = boxes[:, None, :2] + (STANDING + rng.normal(0, 0.05, (len(boxes), 17, 2))) * boxes[:, None, 2:]

    person = np.repeat(np.arange(len(boxes)), rng.poisson(COPIES, len(boxes)))[:num_boxes]  # (c,) whom a box shows
    away = rng.exponential(0.06, (len(person), 1))  # how far off it is, in box sizes
    sizes = boxes[person, 2:]
    corners = boxes[person, :2] + rng.normal(0, 1, sizes.shape) * away * sizes
    near = np.hstack([corners, np.maximum(sizes * (1 + rng.normal(0, away)), 2)])
    near_xy = joints[person] + rng.normal(0, 1, (len(person), 17, 2)) * (0.01 + 0.25 * away[..., None]) * sizes[:, None]
    false = _boxes(rng, num_boxes - len(person))
    false_xy = false[:, None, :2] + (STANDING + rng.normal(0, 0.2, (len(false), 17, 2))) * false[:, None, 2:]

    box_xywh, seen_xy = np.concatenate([near, false]), np.concatenate([near_xy, false_xy])
    picture = np.concatenate([picture_of[person], rng.integers(0, num_pictures, len(false))])
    score = np.concatenate([rng.beta(5, 2, len(near)) * np.exp(-4 * away[:, 0]), rng.beta(1, 6, len(false))])
    confidence = np.concatenate([rng.beta(6, 2, (len(near), 17)), rng.beta(1, 5, (len(false), 17))])
    order = np.argsort(picture, kind="stable")
    box_xywh, seen_xy, picture, score, confidence = (a[order] for a in (box_xywh, seen_xy, picture, score, confidence))

    centres, extents = box_xywh[:, :2] + box_xywh[:, 2:] / 2, box_xywh[:, 2:] * PADDING
    matrices = np.stack([crop_matrix(*box, image_hw) for box in zip(centres, extents, strict=True)])
    nothing = np.zeros((17, 2)), np.zeros(17, int)
    records = tuple(
        PersonRecord("", centres[i], extents[i], *nothing, id=i, image_id=int(picture[i]) + 1, score=float(score[i]))
        for i in range(num_boxes)
    )
    record_set = RecordSet("simulated", COCO, records, "detector boxes (simulated)", has_keypoints=False)
    truth = _annotations(rng, num_pictures, picture_of, boxes, joints)
    return Simulation(truth, record_set, matrices, transform_points(matrices, seen_xy), confidence)


def heatmap_batches(
    simulation: Simulation, codec: StandardCodec, batch_size: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """The network's answer batch by batch: which boxes, and their heatmaps (B, 17, h, w) with a little noise."""
    noise = np.random.default_rng(1).normal(0, 0.003, (batch_size, 17, *codec.heatmap_hw)).astype(np.float32)
    for start in range(0, len(simulation.seen_xy), batch_size):
        boxes = slice(start, start + batch_size)
        confidence = simulation.confidence[boxes]
        heatmaps, _ = codec.encode(simulation.seen_xy[boxes], np.ones(confidence.shape))
        heatmaps *= confidence[..., None, None].astype(np.float32)
        heatmaps += noise[: len(heatmaps)]
        yield boxes, heatmaps


def _boxes(rng: np.random.Generator, num: int) -> np.ndarray:
    """(num, 4) x, y, w, h of upright persons, small ones the most, somewhere in the picture."""
    height = np.clip(rng.lognormal(4.4, 0.8, num), 16, PICTURE_HW[0])
    size = np.stack([height * rng.uniform(0.3, 0.7, num), height], axis=1)
    return np.hstack([rng.random((num, 2)) * (np.array(PICTURE_HW[::-1]) - size), size])


def _annotations(rng, num_pictures: int, picture_of: np.ndarray, boxes: np.ndarray, joints: np.ndarray) -> dict:
    visible = 2 * (rng.random((len(boxes), 17)) < 0.75) * (rng.random((len(boxes), 1)) < SHARE_LABELLED)
    rows = np.concatenate([joints, visible[..., None]], axis=-1).reshape(len(boxes), -1)
    persons = [
        {
            "id": i + 1, "image_id": int(picture_of[i]) + 1, "category_id": 1, "iscrowd": 0, "bbox": boxes[i].tolist(),
            "area": float(0.5 * boxes[i, 2:].prod()), "keypoints": rows[i].tolist(),
            "num_keypoints": int((visible[i] > 0).sum()),
        }
        for i in range(len(boxes))
    ]  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO.joint_names), "skeleton": []}
    pictures = [{"id": i + 1, "height": PICTURE_HW[0], "width": PICTURE_HW[1]} for i in range(num_pictures)]
    return {"images": pictures, "categories": [category], "annotations": persons}
