"""Codecs: round trips within the stated bounds, targets against slow loops of the protocol, mirrors."""

from __future__ import annotations

import warnings
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgmpose.pose.codecs import CODECS, CodecName, make_codec
from lgmpose.pose.geometry import flip_points
from lgmpose.pose.skeletons import LSP

IMAGE_HW = (128, 96)
HEATMAP_HW = (32, 24)
K = 17


def round_trip_errors(codec, points_xy: np.ndarray) -> np.ndarray:
    """|decoded − encoded| in crop pixels, (n, 2)."""
    heatmaps, weights = codec.encode(points_xy[None], np.ones((1, len(points_xy))))
    assert (weights == 1).all()
    return np.abs(codec.decode(heatmaps)[0][0] - points_xy)


# --- round trips --------------------------------------------------------------------------------------------------
def positions(length: int) -> st.SearchStrategy[float]:
    """Anywhere on an axis, with the borders, pixel centres and half pixels often."""
    return st.one_of(
        st.floats(0, length - 1), st.floats(0, 10), st.floats(length - 11, length - 1),
        st.integers(0, 2 * (length - 1)).map(lambda i: i / 2),
    )  # fmt: skip


# Crop pixels, anywhere in the crop, as the docstrings say.
BOUNDS = {"standard": 3.0 + 1e-6, "dark": 4.0, "udp": 6.5, "simcc": 0.25}

points_in_the_crop = st.lists(
    st.tuples(positions(IMAGE_HW[1]), positions(IMAGE_HW[0])), min_size=1, max_size=20
).map(np.array)


@settings(max_examples=150, deadline=None)
@given(points_in_the_crop, st.sampled_from([1.5, 2.0, 3.0]))
def test_standard_is_within_half_a_heatmap_pixel(points_xy, sigma):
    """2 crop pixels; 3 where the crop reaches beyond the map's last pixel (crop pixel 4 · (w - 1))."""
    errors = round_trip_errors(make_codec("standard", IMAGE_HW, sigma), points_xy)
    last = 4 * (np.array(HEATMAP_HW[::-1]) - 1)
    assert (errors <= np.where(points_xy > last + 2, 3.0, 2.0) + 1e-6).all()


@settings(max_examples=150, deadline=None)
@given(points_in_the_crop, st.sampled_from([2.0, 4.0, 6.0]))
def test_simcc_is_within_half_a_bin(points_xy, sigma):
    assert round_trip_errors(make_codec("simcc", IMAGE_HW, sigma), points_xy).max() <= BOUNDS["simcc"]


@settings(max_examples=150, deadline=None)
@given(points_in_the_crop, st.sampled_from([1.5, 2.0, 3.0]), st.sampled_from(["dark", "udp"]))
def test_dark_and_udp_are_exact_inside_and_bounded_at_borders(points_xy, sigma, name):
    codec = make_codec(name, IMAGE_HW, sigma)
    errors = round_trip_errors(codec, points_xy)
    assert errors.max() < BOUNDS[name]
    # Where the blur (half a kernel) and the differences (two pixels) stay inside, only its truncation is left.
    inside_by = np.minimum(points_xy, np.array(IMAGE_HW[::-1]) - 4 - points_xy).min(axis=-1) / 4
    well_inside = inside_by > int(2.75 * sigma) + 2.5
    assert (errors[well_inside] < 0.01).all()


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("image_hw", [(384, 288), (256, 192), (64, 128)])
def test_bounds_hold_at_the_sizes_in_use(name, image_hw):
    """All along both edges, in the corners and on a sub-pixel grid; 384 rows take sigma 3."""
    codec = make_codec(name, image_hw)
    H, W = image_hw
    assert codec.sigma == ((H / 8) ** 0.5 if name == "simcc" else 3 if H == 384 else 2)
    xs, ys = np.linspace(0, W - 1, 41), np.linspace(0, H - 1, 43)
    edges = [np.stack(np.meshgrid(xs, [0, 0.3, H - 1.7, H - 1]), -1), np.stack(np.meshgrid([0, 3.1, W - 1], ys), -1)]
    points = np.concatenate([part.reshape(-1, 2) for part in (*edges, np.stack(np.meshgrid(xs[::4], ys[::4]), -1))])
    assert round_trip_errors(codec, points).max() <= BOUNDS[name]


# --- encoding -----------------------------------------------------------------------------------------------------
def standard_target_loop(point_xy, sigma: int, heatmap_hw) -> tuple[np.ndarray, float]:
    """Section 3: a patch of side 6 sigma + 1, pasted around the rounded centre."""
    h, w = heatmap_hw
    heatmap = np.zeros(heatmap_hw)
    cx, cy = int(point_xy[0] / 4 + 0.5), int(point_xy[1] / 4 + 0.5)
    reach = 3 * sigma
    touched = False
    for y in range(cy - reach, cy + reach + 1):
        for x in range(cx - reach, cx + reach + 1):
            if 0 <= x < w and 0 <= y < h:
                heatmap[y, x] = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
                touched = True
    return heatmap, float(touched)


@pytest.mark.parametrize("sigma", [2, 3])
def test_standard_targets_equal_the_pasted_patch(sigma):
    points = np.random.default_rng(0).uniform(-45, 170, (6, K, 2))  # half of them outside
    points[0, :8] = [[-24, 5], [-30, 5], [-31, 5], [118, 9], [121.9, 9], [122.1, 9], [3, -5.9], [2, 2]]
    heatmaps, weights = make_codec("standard", IMAGE_HW, sigma).encode(points, np.ones((6, K)))
    assert heatmaps.shape == (6, K, *HEATMAP_HW) and heatmaps.dtype == weights.dtype == np.float32
    for index in np.ndindex(6, K):
        expected, weight = standard_target_loop(points[index], sigma, HEATMAP_HW)
        assert weights[index] == weight
        np.testing.assert_allclose(heatmaps[index], expected, atol=1e-6)
    assert 0.2 < weights.mean() < 0.8


def test_dark_and_udp_targets_are_the_formula():
    points = np.random.default_rng(1).uniform(-10, 130, (2, K, 2))
    y, x = np.mgrid[: HEATMAP_HW[0], : HEATMAP_HW[1]]
    dark, dark_weights = make_codec("dark", IMAGE_HW).encode(points, np.ones((2, K)))
    udp, udp_weights = make_codec("udp", IMAGE_HW).encode(points, np.ones((2, K)))
    for index in np.ndindex(2, K):
        if dark_weights[index]:
            cx, cy = points[index] / 4
            np.testing.assert_allclose(dark[index], np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8), atol=1e-6)
        if udp_weights[index]:
            cx, cy = points[index] * [23 / 95, 31 / 127]  # counted between pixel centres
            patch = (abs(x - np.floor(cx + 0.5)) <= 6) & (abs(y - np.floor(cy + 0.5)) <= 6)
            np.testing.assert_allclose(udp[index], patch * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8), atol=1e-6)
    assert dark_weights.mean() > 0.5 and udp_weights.mean() > 0.5


@pytest.mark.parametrize("name", CODECS)
def test_unlabelled_and_impossible_joints_weigh_nothing(name):
    points = np.full((1, 5, 2), 40.0)
    points[0, 1:] = [[np.nan, 3], [3, np.inf], [1e9, -1e9], [40, 40]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heatmaps, weights = make_codec(name, IMAGE_HW).encode(points, np.array([[2, 2, 1, 2, 0]]))
    np.testing.assert_array_equal(weights, [[1, 0, 0, 0, 0]])
    assert (heatmaps[0, 1:] == 0).all() and heatmaps[0, 0].max() > 0.9


# --- mirrors and names --------------------------------------------------------------------------------------------
def test_mirrored_joints_give_mirrored_maps_where_the_alignment_allows():
    """With UDP exactly; with the ordinary alignment the mirrored-back map lies 3/4 of a heatmap pixel to the left."""
    points = np.random.default_rng(5).uniform(20, 75, (2, 14, 2))
    visible = np.ones((2, 14), int)
    order = list(LSP.flip_permutation)
    for name, offset in (("udp", 0.0), ("dark", -3.0)):
        codec = make_codec(name, IMAGE_HW)
        mirrored = codec.encode(*flip_points(points, visible, IMAGE_HW[1], order))[0]
        back = mirrored[:, order][..., ::-1]
        np.testing.assert_array_equal(back[:, order][..., ::-1], mirrored)  # twice is the identity
        expected = codec.encode(points + [offset, 0], visible)[0]
        np.testing.assert_allclose(back, expected, atol=1e-5)


def test_names():
    assert {name: (codec.aligned, codec.flip_shift) for name, codec in CODECS.items()} == {
        "standard": (False, True), "dark": (False, True), "udp": (True, False), "simcc": (False, True),
    }  # fmt: skip
    assert get_args(CodecName) == tuple(CODECS), "options and cards have the type CodecName"
    assert "sigma=2" in repr(make_codec("udp", (256, 192)))
    with pytest.raises(ValueError, match="argmax.*standard, dark, udp, simcc"):
        make_codec("argmax", IMAGE_HW)
