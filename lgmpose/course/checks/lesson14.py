"""Tasks of lesson 14: labels, boxes and splits of own pictures, and what a measurement on few persons says."""

from __future__ import annotations

import numpy as np

from lgmpose.course.checks import compare, compare_prediction, task
from lgmpose.metrics import bootstrap_interval

NAMES = ["face", "belt", "left_glove", "right_glove", "left_boot", "right_boot"]


@task("14.1", "easy")
def check_mirror_pairs(attempt) -> None:
    for names, pairs in (
        (NAMES, [(2, 3), (4, 5)]),
        (["right_ear", "tail", "left_ear", "left_paw"], [(2, 0)]),
        (["face", "belt"], []),
        (["handle_left", "handle_right", "left_foot", "left_hand", "right_hand", "right_foot"], [(2, 5), (3, 4)]),
    ):
        compare(attempt(list(names)), pairs, f"called with {names}")


@task("14.2", "easy")
def check_coco_keypoints(attempt) -> None:
    points = {"face": (31.5, 20.0), "right_glove": (12.0, 44.5), "belt": (30.0, 61.0), "left_glove": (50.5, 48.0)}
    points |= {"left_boot": (38.0, 118.5), "right_boot": (22.0, 120.0)}
    for missing, hidden in ((), {"belt"}), (("left_boot",), {"face", "right_glove"}), (("face", "belt"), set()):
        labelled = {name: xy for name, xy in points.items() if name not in missing}
        flat: list[float] = []
        for name in NAMES:
            flat += [*labelled[name], 1 if name in hidden else 2] if name in labelled else [0, 0, 0]
        case = f"called with {len(labelled)} labelled joints, {len(hidden)} of them hidden"
        compare(attempt(dict(labelled), set(hidden), list(NAMES)), flat, case)


@task("14.3", "medium")
def check_box_around(attempt) -> None:
    rng = np.random.default_rng(143)
    for margin, unlabelled in ((0.0, 0), (0.2, 0), (0.6, 2)):
        points = np.column_stack([rng.uniform(2, 72, (6, 2)).round(1), np.full(6, 2.0)])
        points[:unlabelled] = 0
        xy = points[unlabelled:, :2]
        low, size = xy.min(axis=0), np.ptp(xy, axis=0)
        points[unlabelled + xy[:, 0].argmin(), 2] = 1  # a hidden joint counts
        expected = tuple(map(float, (*(low - margin * size), *(size * (1 + 2 * margin)))))
        case = f"called with margin {margin}, {unlabelled} joints without a label"
        compare(attempt(points.copy(), margin), expected, case)


@task("14.4", "easy", way="Compare a validation picture with its two neighbours in the training set.")
def check_split(prediction) -> str:
    return compare_prediction(prediction, "b")


@task(
    "14.5",
    "easy",
    way="Steps: epochs × persons per epoch / batch size. Uses: epochs × persons per epoch / labelled persons.",
)
def check_steps(prediction) -> str:
    return compare_prediction(prediction, (4 * 160 / 16, 4 * 160 / 10))


@task("14.6", "medium")
def check_share_right(attempt) -> None:
    rng = np.random.default_rng(146)
    for persons, labelled_share, limit in ((5, 1.0, 0.1), (8, 0.7, 0.1), (4, 1.0, 0.25)):
        true = rng.uniform(0, 100, (persons, 6, 2))
        found = true + rng.normal(0, 8, true.shape)
        labelled, height = rng.random((persons, 6)) < labelled_share, rng.uniform(60, 140, persons)
        case = f"{persons} persons, {labelled.sum()} labelled joints and the limit {limit}"
        if limit == 0.25:
            height[0], true[0, 0], found[0, 0] = 80, (30, 30), (42, 46)  # 20 pixels away
            case += ", an error exactly on it"
        right = [
            ((found[m, k] - true[m, k]) ** 2).sum() ** 0.5 <= limit * height[m]
            for m in range(persons)
            for k in range(6)
            if labelled[m, k]
        ]
        got = attempt(found.copy(), true.copy(), labelled.copy(), height.copy(), limit)
        compare(got, 100 * sum(right) / len(right), f"called with {case}")


@task("14.7", "easy", way="Multiply the parameters by the bytes of one number.")
def check_file_size(prediction) -> str:
    return compare_prediction(prediction, 4.08, rtol=0.1, unit="MB")


@task("14.8", "medium")
def check_find_swapped(attempt) -> None:
    rng = np.random.default_rng(148)
    for pairs, swapped in (([(2, 3)], [1]), ([(2, 3), (4, 5)], [0, 4]), ([(2, 3), (4, 5)], [])):
        true = rng.uniform(0, 100, (6, 6, 2))
        true[:, 3], true[:, 5] = true[:, 2] + (30, 0), true[:, 4] + (28, 9)
        true[5, 3] = true[5, 2] + (5, 4)  # the gloves of the last person are close together
        found, labels = true + rng.normal(0, 3, true.shape), true.copy()
        for left, right in pairs:
            labels[np.ix_(swapped, [left, right])] = labels[np.ix_(swapped, [right, left])]
        if len(pairs) == 2:
            found[5, [2, 3]] = found[5, [3, 2]]  # and the network exchanged them; the labels are right
        case = f"called with {len(pairs)} pair(s), {len(swapped)} of 6 persons exchanged"
        compare(attempt(labels.copy(), found.copy(), list(pairs)), swapped, case)
    # x of (left, right) of two pairs; y is 0. Only the middle person has the smaller sum after the exchange: 88 for 92.
    labels_x = [[10, 10, 40, 40], [0, 30, 0, 30], [0, 30, 0, 20]]
    found_x = [[12, 15, 41, 47], [16, 14, 40, 50], [30, 30, 0, 20]]
    labels, found = (np.array([[[x, 0.0] for x in person] for person in rows]) for rows in (labels_x, found_x))
    got = attempt(labels.copy(), found.copy(), [(0, 1), (2, 3)])
    compare(got, [1], f"called with three persons, x of the labels {labels_x}, found {found_x}, y 0")


@task("14.9", "medium", way="Take the root of the ratio of the numbers of persons.")
def check_interval_width(prediction) -> str:
    """Accept what is within 15 % of the measured ratios."""
    return compare_prediction(prediction, width_ratios(), rtol=0.15, unit="times")


def width_ratios() -> tuple[float, float]:
    """Return how much wider the interval is with 10 instead of 50 persons, and narrower with 200; mean of many sets."""
    rng, widths = np.random.default_rng(149), {}
    for persons in (10, 50, 200):
        ends = []
        for _ in range(60):
            easy = rng.beta(2, 1, (persons, 1))  # a person's joints are found or missed together
            low, high = bootstrap_interval(rng.random((persons, 6)) < easy, np.ones((persons, 6), bool), rng, 200)
            ends.append(high - low)
        widths[persons] = float(np.mean(ends))
    return widths[10] / widths[50], widths[50] / widths[200]
