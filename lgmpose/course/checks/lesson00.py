"""Exercises of lesson 00: how sharp a heatmap is, and how many joints are found in an image turned upside down."""

from functools import cache

import numpy as np

from lgmpose.course.checks import Task, compare, compare_prediction


def check_sharpness(attempt) -> None:
    rng = np.random.default_rng(0)
    for H, W in ((9, 7), (6, 11)):
        heatmap_HW = rng.normal(0.1, 0.3, (H, W)).astype(np.float32)
        row, column = H // 2, W // 2 + 1
        heatmap_HW[row, column] = 2.0
        positive_HW = heatmap_HW.clip(0)
        around_HW = positive_HW[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        compare(attempt(heatmap_HW), float(around_HW.sum() / positive_HW.sum()), f"called with a random ({H}, {W})")
    corner_HW = np.zeros((5, 8), np.float32)
    corner_HW[0, 7], corner_HW[4, 0], corner_HW[2, 5] = 0.5, 0.25, 0.25
    compare(attempt(corner_HW), 0.75, "called with a peak in a corner of (5, 8)")


def check_upside_down(prediction) -> str:
    # A score next to the threshold may fall on either side on another processor.
    return compare_prediction(prediction, joints_found_upside_down(), atol=1)


@cache
def joints_found_upside_down() -> int:
    """Return how many joints the shipped weights find in the photograph turned by 180°."""
    import skimage.data

    from lgmpose import Predictor

    (pose,) = Predictor(detector="none")(np.ascontiguousarray(skimage.data.astronaut()[::-1, ::-1]))
    return int((pose.scores > 0.2).sum())


TASKS = {"00.1": Task(check_sharpness, "hard"), "00.2": Task(check_upside_down)}
