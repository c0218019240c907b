"""Exercises of lesson 11: non-maximum suppression by OKS, and how false persons change AP."""

import numpy as np

from lgmpose.course.checks import Task, compare, compare_prediction
from lgmpose.metrics import coco_ap, coco_results, oks_nms
from lgmpose.pose.skeletons import COCO


def check_pose_nms(attempt) -> None:
    rng, sigmas = np.random.default_rng(3), np.array(COCO.oks_sigmas)
    for case in range(8):
        num_people, copies = 3 + case % 2, 3
        people = rng.uniform(0, 300, (num_people, 17, 2))
        poses = np.repeat(people, copies, axis=0) + rng.normal(0, 4, (num_people * copies, 17, 2))
        areas = rng.uniform(2000, 40000, len(poses))
        order, scores = rng.permutation(len(poses)), rng.random(len(poses))
        poses = poses[order]
        threshold = (0.9, 0.6, 0.75, 0.3)[case % 4]
        got = attempt(poses.copy(), scores.copy(), areas.copy(), sigmas.copy(), threshold)
        expected = oks_nms(poses, scores, areas, sigmas, threshold)
        if got is not None and got is not ... and np.ndim(got) == 1:
            got = np.asarray(got)
        compare(got, expected, f"called with {len(poses)} poses and the threshold {threshold}")
    # Three poses in a row: the middle one is similar to both others and is dropped; the outer two are kept.
    chain = people[0] + np.arange(3)[:, None, None] * 4.0
    got = attempt(chain, np.array([0.9, 0.8, 0.7]), np.full(3, 5000.0), sigmas, 0.6)
    compare(np.asarray(got), np.array([0, 2]), "called with three poses, the middle one similar to both others")
    # Two equal poses have an OKS of exactly the threshold, 1; the third pose is far away.
    poses = np.concatenate([people[:1], people[:1], people[1:2] + 4000])
    got = attempt(poses, np.array([0.5, 0.9, 0.7]), np.full(3, 5000.0), sigmas, 1.0)
    compare(np.asarray(got), np.array([1, 2, 0]), "called with two equal poses and the threshold 1")


def check_false_persons(prediction) -> str:
    """Compute AP with false persons scored lower than all true persons, then higher."""
    return compare_prediction(prediction, tuple(_ap_with_false_persons(score) for score in (0.1, 0.95)), atol=0.02)


def _ap_with_false_persons(score: float) -> float:
    """Return the AP of ten exact poses scored 0.5 to 0.9, one per image, each with a false one of the given score."""
    people, ids = np.random.default_rng(4).uniform(0, 200, (10, 17, 2)), range(1, 11)
    joints = np.concatenate([people, np.full((10, 17, 1), 2.0)], axis=2)
    truth = {
        "images": [{"id": i} for i in ids],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "area": 5000.0, "bbox": [0, 0, 200, 200],
             "num_keypoints": 17, "keypoints": person.ravel().tolist()}
            for i, person in zip(ids, joints, strict=True)
        ],
    }  # fmt: skip
    poses = np.concatenate([people, people + 5000])
    scores = np.concatenate([np.linspace(0.5, 0.9, 10), np.full(10, score)])
    return coco_ap(coco_results([*ids, *ids], poses, np.ones((20, 17)), scores), truth)["AP"]


TASKS = {"11.1": Task(check_pose_nms, "hard"), "11.2": Task(check_false_persons)}
