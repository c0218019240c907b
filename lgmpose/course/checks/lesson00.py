"""Exercises of lesson 00: how sharp a heatmap is, and what is left of an astronaut upside down."""

from __future__ import annotations

import numpy as np

from lgmpose.course.checks import Different, compare

__all__ = ["EXERCISES"]


def sharpness(attempt) -> None:
    rng = np.random.default_rng(0)
    for H, W in ((9, 7), (6, 11)):
        heatmap_HW = rng.normal(0.1, 0.3, (H, W)).astype(np.float32)
        row, column = H // 2, W // 2 + 1
        heatmap_HW[row, column] = 2.0
        compare(attempt(heatmap_HW), _share(heatmap_HW, row, column), f"called with a random ({H}, {W})")
    corner_HW = np.zeros((5, 8), np.float32)
    corner_HW[0, 7], corner_HW[4, 0], corner_HW[2, 5] = 0.5, 0.25, 0.25
    compare(attempt(corner_HW), 0.75, "called with a peak in a corner of (5, 8)")


def _share(heatmap_HW: np.ndarray, row: int, column: int) -> float:
    positive_HW = heatmap_HW.clip(0)
    around_HW = positive_HW[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
    return float(around_HW.sum() / positive_HW.sum())


def upside_down(attempt) -> None:
    if attempt not in range(15):  # 6.0 and NumPy's integers are whole, too
        raise Different("a prediction is a whole number from 0 to 14")
    found = joints_found_upside_down()
    if abs(attempt - found) > 1:  # a score beside the threshold may fall either side on another processor
        raise Different(f"you said {attempt}; measured: {found} of the 14 joints have a score above 0.2")


def joints_found_upside_down() -> int:
    """Measured with the shipped weights."""
    import skimage.data

    from lgmpose import Predictor

    (pose,) = Predictor()(np.ascontiguousarray(skimage.data.astronaut()[::-1, ::-1]))
    return int((pose.scores > 0.2).sum())


EXERCISES = {"00.1": sharpness, "00.2": upside_down}
