"""Lesson 01: the Gaussian through a peak and its neighbours, and what the flip test leaves behind at stride 8."""

from __future__ import annotations

import numpy as np

from lgmpose.course.checks import Different, NotAttempted, compare
from lgmpose.pose.codecs import DarkCodec, merge_flipped
from lgmpose.pose.geometry import flip_points
from lgmpose.pose.skeletons import LSP

__all__ = ["EXERCISES"]


def _gaussian_at_peak(attempt) -> None:
    rng = np.random.default_rng(11)
    for h, w in ((9, 14), (16, 11), (7, 20)):
        x, y = rng.uniform(2, w - 3), rng.uniform(2, h - 3)
        sigma_x, sigma_y = rng.uniform(1, 1.6), rng.uniform(1.8, 2.6)
        rows, columns = np.mgrid[:h, :w]
        heatmap = np.exp(-((columns - x) ** 2) / (2 * sigma_x**2) - (rows - y) ** 2 / (2 * sigma_y**2))
        case = f"called with a bump on {h} × {w} pixels"
        got = attempt(rng.uniform(0.3, 2) * heatmap)
        got = tuple(got) if isinstance(got, np.ndarray) else got  # an array of four will do as well
        compare(got, (x, y, sigma_x, sigma_y), case, atol=1e-4)


def _flip_test_at_stride_8(prediction) -> None:
    if isinstance(prediction, (tuple, list)) and any(value is None or value is ... for value in prediction):
        raise NotAttempted
    if np.shape(prediction) != (2,):
        raise Different("a prediction is two numbers: without the shift, with it")
    measured = [abs(_flip_bias(8, shift)) for shift in (False, True)]
    if not np.allclose(np.asarray(prediction, float), measured, rtol=0, atol=0.05):
        without, shifted = prediction
        raise Different(
            f"you said {without:g} without the shift and {shifted:g} with it; measured were {measured[0]:.2f} and "
            f"{measured[1]:.2f} (right within 0.05)"
        )


def _flip_bias(stride: int, shift: bool) -> float:
    """Mean error along x in crop pixels of a perfect network of any stride with DARK: a crop of (160, 192) pixels."""
    h, w = 40, 48
    codec = DarkCodec((4 * h, 4 * w), sigma=2)  # works at stride 4; points are scaled to and from it
    seen = np.ones((8, 14))
    crop_xy = np.random.default_rng(5).uniform(12 * stride, (h - 12) * stride, (8, 14, 2))
    mirrored_xy, _ = flip_points(crop_xy, seen, w * stride, LSP.flip_permutation)
    maps, mirrored = (codec.encode(points * 4 / stride, seen)[0] for points in (crop_xy, mirrored_xy))
    decoded_xy = codec.decode(merge_flipped(maps, mirrored, LSP, shift=shift))[0] * stride / 4
    return float((decoded_xy - crop_xy)[..., 0].mean())


EXERCISES = {"01.1": _gaussian_at_peak, "01.2": _flip_test_at_stride_8}
