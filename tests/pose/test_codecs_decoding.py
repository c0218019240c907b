"""Decoding of maps as a network makes them: against slow loops of the protocol, in batches, and of useless maps."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest

from lgmpose.pose.codecs import make_codec

IMAGE_HW = (128, 96)
HEATMAP_HW = (32, 24)
KERNELS = {1.5: 9, 2.0: 11, 3.0: 17}  # taps of the blur by sigma; published: 11, and mmpose's advice of 17
STEPS: list[float] = []  # lengths of the steps that the loops below found, before they are cut
WIDTHS = {9: 1.7, 11: 2.0, 17: 2.9}  # what OpenCV documents for sigma 0, where it tabulates (rounded) up to 9 taps


def heatmaps_like_a_networks(seed: int, shape=(3, 5, *HEATMAP_HW), margin: float = 7.0) -> np.ndarray:
    """Gaussians of unequal widths and heights anywhere, a second weaker one beside, and noise; float32."""
    rng = np.random.default_rng(seed)
    *lead, h, w = shape
    y, x = np.mgrid[:h, :w]
    total = np.zeros(shape)
    for strength in (1.0, 0.3):
        cx, cy = (rng.uniform(margin, n - 1 - margin, (*lead, 1, 1)) for n in (w, h))
        sx, sy, amplitude = (rng.uniform(*r, (*lead, 1, 1)) for r in ((1.5, 2.5), (1.5, 2.5), (0.2, 1.1)))
        total += strength * amplitude * np.exp(-((x - cx) ** 2) / (2 * sx**2) - (y - cy) ** 2 / (2 * sy**2))
    return (total + 0.01 * rng.standard_normal(shape)).astype(np.float32)


def standard_loop(heatmap: np.ndarray) -> np.ndarray:
    """Section 5, one map: argmax, a quarter pixel towards the higher neighbour."""
    h, w = heatmap.shape
    py, px = np.unravel_index(heatmap.argmax(), heatmap.shape)
    point = np.array([px, py], float)
    if heatmap.max() <= 0:
        return np.zeros(2)
    if 1 < px < w - 1 and 1 < py < h - 1:
        point[0] += 0.25 * np.sign(heatmap[py, px + 1] - heatmap[py, px - 1])
        point[1] += 0.25 * np.sign(heatmap[py + 1, px] - heatmap[py - 1, px])
    return point


def blur(heatmap: np.ndarray, kernel: int) -> np.ndarray:
    """OpenCV's Gaussian blur of a map with zeros around."""
    edge = kernel // 2
    return cv2.GaussianBlur(np.pad(heatmap, edge), (kernel, kernel), WIDTHS[kernel])[edge:-edge, edge:-edge]


def dark_loop(heatmap: np.ndarray, sigma: float) -> np.ndarray:
    """Section 7, one map."""
    h, w = heatmap.shape
    blurred = blur(heatmap, KERNELS[sigma])
    log = np.log(np.maximum(blurred * heatmap.max() / blurred.max(), 1e-10)).astype(float)
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    point = np.array([x, y], float)
    if not (1 < x < w - 2 and 1 < y < h - 2):
        return point
    dx, dy = 0.5 * (log[y, x + 1] - log[y, x - 1]), 0.5 * (log[y + 1, x] - log[y - 1, x])
    dxx = 0.25 * (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2])
    dyy = 0.25 * (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x])
    dxy = 0.25 * (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1])
    return point + step_to_the_top([dx, dy], [[dxx, dxy], [dxy, dyy]])


def step_to_the_top(gradient, hessian) -> np.ndarray:
    """Newton's step, at most one pixel either way; none where the map has no peak."""
    if np.linalg.det(hessian) <= 1e-12 or hessian[0][0] >= 0:
        return np.zeros(2)
    step = -np.linalg.solve(hessian, gradient)
    STEPS.append(np.abs(step).max())
    return np.clip(step, -1, 1)


def udp_loop(heatmap: np.ndarray, sigma: float) -> np.ndarray:
    """Section 7, one map: blur, clip, log, edges repeated, second differences over one pixel."""
    blurred = blur(heatmap, KERNELS[sigma])
    log = np.pad(np.log(np.clip(blurred, 1e-3, 50)).astype(float), 1, mode="edge")
    peak = np.unravel_index(heatmap.argmax(), heatmap.shape)
    y, x = peak[0] + 1, peak[1] + 1
    gradient = [0.5 * (log[y, x + 1] - log[y, x - 1]), 0.5 * (log[y + 1, x] - log[y - 1, x])]
    dxx, dyy = (log[y, x + 1] - 2 * log[y, x] + log[y, x - 1]), (log[y + 1, x] - 2 * log[y, x] + log[y - 1, x])
    dxy = 0.5 * (
        log[y + 1, x + 1] - log[y, x + 1] - log[y + 1, x] + 2 * log[y, x] - log[y, x - 1] - log[y - 1, x]
        + log[y - 1, x - 1]
    )  # fmt: skip
    hessian = np.array([[dxx, dxy], [dxy, dyy]]) + np.finfo(np.float32).eps * np.eye(2)
    return np.array(peak[::-1]) + step_to_the_top(gradient, hessian)


def test_standard_decoding_equals_the_loop():
    codec = make_codec("standard", IMAGE_HW)
    for seed in range(4):
        heatmaps = heatmaps_like_a_networks(seed, margin=-1.0)
        points, scores = codec.decode(heatmaps)
        expected = [[4 * standard_loop(heatmap) for heatmap in maps] for maps in heatmaps]
        np.testing.assert_allclose(points, expected, atol=1e-9)
        np.testing.assert_array_equal(scores, heatmaps.max(axis=(2, 3)))


@pytest.mark.parametrize("sigma", [1.5, 2.0, 3.0])
@pytest.mark.parametrize(("name", "loop"), [("dark", dark_loop), ("udp", udp_loop)])
def test_dark_and_udp_decoding_equal_the_loops(name, loop, sigma):
    """Near borders too, and with steps that the map's noise makes longer than a pixel."""
    STEPS.clear()
    codec = make_codec(name, IMAGE_HW, sigma)
    unit = codec.to_crop(np.ones(2))
    for seed, noise in enumerate((0, 0, 0, 0.1, 0.2, 0.3)):
        heatmaps = heatmaps_like_a_networks(seed, margin=-1.0)
        heatmaps += noise * np.random.default_rng(seed).standard_normal(heatmaps.shape, np.float32)
        points, _ = codec.decode(heatmaps)
        expected = [[loop(heatmap, sigma) for heatmap in maps] for maps in heatmaps]
        np.testing.assert_allclose(points / unit, expected, atol=2e-4)
    assert len(STEPS) > 40 and max(STEPS) > 1


def test_dark_decoding_where_its_logarithm_is_cut():
    """A peak among negative numbers, as of a network that is unsure: there the rescaling changes the step."""
    codec, y, x = make_codec("dark", IMAGE_HW, 2.0), *np.mgrid[:32, :24]
    changed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        cx, cy = rng.uniform(4, 12), rng.uniform(4, 20)
        heatmap = 0.5 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 4) - rng.uniform(0.115, 0.14)
        heatmap[-3:, -3:] = 0.3  # a lower hill, but the higher one of the blurred map
        heatmap = heatmap.astype(np.float32)
        (point,), _ = codec.decode(heatmap[None, None])
        peak = np.array(np.unravel_index(heatmap.argmax(), (32, 24))[::-1])
        with np.errstate(all="ignore"):
            expected = dark_loop(heatmap, 2.0)
        if (point[0] / 4 != peak).any():
            np.testing.assert_allclose(point[0] / 4, expected, atol=2e-3)
            near = blur(heatmap, 11)[peak[1] - 2 : peak[1] + 3, peak[0] - 2 : peak[0] + 3]
            changed += near.min() < 0
    assert changed > 3


@pytest.mark.parametrize("name", ["standard", "dark", "udp"])
def test_a_batch_is_decoded_and_encoded_as_one_by_one(name):
    codec = make_codec(name, IMAGE_HW)
    heatmaps = heatmaps_like_a_networks(7, margin=-1.0)
    points, scores = codec.decode(heatmaps)
    visible = np.array([[1, 0, 2, 1, 1]] * 3)
    targets, weights = codec.encode(points, visible)
    for b, k in np.ndindex(3, 5):
        one, score = codec.decode(heatmaps[b : b + 1, k : k + 1])
        np.testing.assert_array_equal(one[0, 0], points[b, k])
        assert score == scores[b, k]
        target, weight = codec.encode(points[b : b + 1, k : k + 1], visible[b : b + 1, k : k + 1])
        np.testing.assert_array_equal(target[0, 0], targets[b, k])
        assert weight == weights[b, k]


@pytest.mark.parametrize("name", ["standard", "dark", "udp"])
def test_empty_negative_and_nan_maps_do_no_harm(name):
    heatmaps = heatmaps_like_a_networks(3, (1, 6, *HEATMAP_HW))
    good = heatmaps[0, 5]
    heatmaps[0, 0] = 0
    heatmaps[0, 1] = -1 - good**2
    heatmaps[0, 2] = np.nan
    heatmaps[0, 3, 4, 4] = np.nan
    heatmaps[0, 4] = 0.5  # flat: no step
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points, scores = make_codec(name, IMAGE_HW).decode(heatmaps)
    assert np.isfinite(points).all()
    assert (points[0, :5] == 0).all()
    assert scores[0, 0] == 0 and scores[0, 1] < 0 and np.isnan(scores[0, 2:4]).all()
    np.testing.assert_array_equal(points[0, 5], make_codec(name, IMAGE_HW).decode(good[None, None])[0][0, 0])
