"""Exercises of lesson 01: a Gaussian from a peak and its neighbours, and the bias of the flip test at stride 8."""

import numpy as np

from lgmpose.course.checks import Task, compare, compare_prediction
from lgmpose.pose.codecs import DarkCodec, merge_flipped
from lgmpose.pose.geometry import flip_points
from lgmpose.pose.skeletons import LSP


def check_gaussian_at_peak(attempt) -> None:
    rng = np.random.default_rng(11)
    for H, W in ((9, 14), (16, 11), (7, 20)):
        x, y = rng.uniform(2, W - 3), rng.uniform(2, H - 3)
        sigma_x, sigma_y = rng.uniform(1, 1.6), rng.uniform(1.8, 2.6)
        rows, columns = np.mgrid[:H, :W]
        heatmap_HW = np.exp(-((columns - x) ** 2) / (2 * sigma_x**2) - (rows - y) ** 2 / (2 * sigma_y**2))
        got = attempt(rng.uniform(0.3, 2) * heatmap_HW)
        got = tuple(got) if isinstance(got, np.ndarray) else got
        compare(got, (x, y, sigma_x, sigma_y), f"called with a Gaussian on {H} × {W} pixels", atol=1e-4)


def check_flip_test_at_stride_8(prediction) -> str:
    return compare_prediction(prediction, tuple(abs(_flip_bias(8, shift)) for shift in (False, True)), atol=0.05)


def _flip_bias(stride: int, shift: bool) -> float:
    """Return the mean error along x, in crop pixels, of a network without errors of its own, with DARK's decoder."""
    H, W = 40, 48
    codec = DarkCodec((4 * H, 4 * W), sigma=2)  # has stride 4; the points are scaled to and from it
    seen = np.ones((8, 14))
    crop_xy = np.random.default_rng(5).uniform(12 * stride, (H - 12) * stride, (8, 14, 2))
    mirrored_xy, _ = flip_points(crop_xy, seen, W * stride, LSP.flip_permutation)
    maps, mirrored = (codec.encode(points * 4 / stride, seen)[0] for points in (crop_xy, mirrored_xy))
    decoded_xy = codec.decode(merge_flipped(maps, mirrored, LSP, shift=shift))[0] * stride / 4
    return float((decoded_xy - crop_xy)[..., 0].mean())


TASKS = {"01.1": Task(check_gaussian_at_peak, "hard"), "01.2": Task(check_flip_test_at_stride_8)}
