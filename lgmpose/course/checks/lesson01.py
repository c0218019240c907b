"""Tasks of lesson 01: write a joint as a heatmap, read it back, and the error of the flip test."""

import numpy as np

from lgmpose.course.checks import compare, compare_prediction, task
from lgmpose.pose.codecs import DarkCodec, merge_flipped
from lgmpose.pose.geometry import flip_points
from lgmpose.pose.skeletons import LSP


@task("01.1", "easy")
def check_bump(attempt) -> None:
    for x_true, width, sigma in ((3.3, 7, 1), (0.0, 5, 2.5), (9.6, 12, 1.5), (-1.2, 6, 2)):
        expected = np.exp(-((np.arange(width) - x_true) ** 2) / (2 * sigma**2))
        compare(attempt(x_true, width, sigma), expected, f"called with {x_true}, {width}, {sigma}")


@task(
    "01.2",
    "easy",
    way="Take the distance along x and along y in heatmap pixels, then the root of the sum of squares, times 4.",
)
def check_rounding_loss(prediction) -> str:
    return compare_prediction(prediction, 4 * float(np.hypot(0.3, 0.2)), atol=0.05, unit="crop pixels")


def _bump_map(x: float, y: float, heatmap_hw: tuple[int, int], sigma_xy=(1.5, 1.5), height: float = 1.0) -> np.ndarray:
    rows, columns = np.mgrid[: heatmap_hw[0], : heatmap_hw[1]]
    return height * np.exp(-((columns - x) ** 2) / (2 * sigma_xy[0] ** 2) - (rows - y) ** 2 / (2 * sigma_xy[1] ** 2))


@task("01.3", "medium")
def check_quarter_offset(attempt) -> None:
    cases = ((3.3, 1.8, (5, 7), (3.25, 1.75)), (6.7, 3.2, (8, 11), (6.75, 3.25)), (3.0, 4.0, (9, 8), (3.0, 4.0)))
    for x, y, heatmap_hw, expected in cases:
        case = f"called with a bump at ({x}, {y}) on {heatmap_hw[0]} × {heatmap_hw[1]} pixels"
        compare(attempt(_bump_map(x, y, heatmap_hw)), expected, case)


@task(
    "01.4",
    "easy",
    way=(
        "In a map with rounded centre both neighbours of the peak are equal, so look at what the quarter offset "
        "does then."
    ),
)
def check_no_reduction(prediction) -> str:
    return compare_prediction(prediction, 0.0, atol=0.05, unit="crop pixels")


@task("01.5", "medium")
def check_offset_from_peak(attempt) -> None:
    rng = np.random.default_rng(7)
    for offset in (0.3, -0.45, 0.0, 0.2):
        sigma, height = rng.uniform(1, 2.5), rng.uniform(0.3, 2)
        left, middle, right = (height * float(np.exp(-((i - offset) ** 2) / (2 * sigma**2))) for i in (-1, 0, 1))
        case = f"called with {left:.3f}, {middle:.3f}, {right:.3f}"
        compare(attempt(left, middle, right), offset, case)


@task(
    "01.6",
    "easy",
    way=(
        "Argmax leaves the whole distance from the pixel's centre; the quarter offset takes a quarter of the "
        "stride away."
    ),
)
def check_errors_at_stride_8(prediction) -> str:
    return compare_prediction(prediction, (3.0, 1.0), atol=0.05, unit="crop pixels")


@task("01.7", "medium", way="The logarithm at -2, 0 and 2 is -(-2)²/8, 0 and -(2²)/8; put these into DARK's formula.")
def check_curvature(prediction) -> str:
    return compare_prediction(prediction, -0.25, atol=0.005)


@task("01.8", "medium")
def check_mirrored_back(attempt) -> None:
    for width, stride in ((7, 4), (6, 8), (9, 2)):
        expected = (width * stride - 1 - stride * np.arange(width))[::-1]
        compare(attempt(width, stride), expected, f"called with {width}, {stride}")


@task("01.9", "hard")
def check_gaussian_at_peak(attempt) -> None:
    rng = np.random.default_rng(11)
    for H, W in ((9, 14), (16, 11), (7, 20)):
        x, y = rng.uniform(2, W - 3), rng.uniform(2, H - 3)
        sigma_x, sigma_y = rng.uniform(1, 1.6), rng.uniform(1.8, 2.6)
        got = attempt(_bump_map(x, y, (H, W), (sigma_x, sigma_y), height=rng.uniform(0.3, 2)))
        compare(got, (x, y, sigma_x, sigma_y), f"called with a Gaussian on {H} × {W} pixels", atol=1e-4)


@task(
    "01.10",
    "medium",
    way="Write the crop pixels that both heatmaps stand for, as in section 6; the error is half of their distance.",
)
def check_flip_test_at_stride_8(prediction) -> str:
    return compare_prediction(
        prediction, tuple(abs(_flip_bias(8, shift)) for shift in (False, True)), atol=0.05, unit="crop pixels"
    )


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
