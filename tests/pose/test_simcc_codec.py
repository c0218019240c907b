"""SimCC's codec: targets and scores against slow loops, useless scores, and the flip test of a perfect network."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from lgmpose.pose.codecs import make_codec
from lgmpose.pose.geometry import flip_points
from lgmpose.pose.skeletons import LSP

H, W = 64, 96
K = LSP.num_keypoints
VISIBLE = np.ones((5, K), int)


@pytest.fixture
def codec():
    return make_codec("simcc", (H, W), 3.0)


@pytest.fixture
def points():
    """Crop pixels, (5, K, 2)."""
    return np.random.default_rng(0).uniform((1, 1), (W - 2, H - 2), (5, K, 2))


def test_a_target_is_a_gaussian_along_x_and_then_one_along_y(codec, points):
    targets, weights = codec.encode(points, VISIBLE)
    assert targets.shape == (5, K, *codec.output_shape) and targets.dtype == weights.dtype == np.float32
    assert (weights == 1).all()
    for x, y, target in zip(*points[0].T, targets[0], strict=True):
        bins = [(i - int(2 * x + 0.5), i) for i in range(2 * W)] + [(i - int(2 * y + 0.5), i) for i in range(2 * H)]
        np.testing.assert_allclose(target, [math.exp(-(d**2) / (2 * 9)) for d, _ in bins], atol=1e-6)


def test_decoding_takes_the_highest_bins_and_the_flatter_axis_scores(codec, points):
    scores = 0.8 * codec.encode(points, VISIBLE)[0]
    scores += np.random.default_rng(1).uniform(-0.1, 0.1, scores.shape).astype(np.float32)
    found, heights = codec.decode(scores)

    def peak(values):
        return max(math.exp(10 * value) for value in values) / sum(math.exp(10 * value) for value in values)

    perfect = [peak([math.exp(-((i - n // 2) ** 2) / 18) for i in range(n)]) for n in (2 * W, 2 * H)]
    for index in np.ndindex(5, K):
        along_x, along_y = scores[index][: 2 * W], scores[index][2 * W :]
        np.testing.assert_array_equal(found[index], [along_x.argmax() / 2, along_y.argmax() / 2])
        expected = min(peak(along_x) / perfect[0], peak(along_y) / perfect[1])
        assert heights[index] == pytest.approx(min(expected, 1), rel=1e-4)
    assert heights.min() < 0.6 and heights.max() == 1
    constant = codec.decode(scores + 5)  # the loss does not see it
    np.testing.assert_array_equal(constant[0], found)
    np.testing.assert_allclose(constant[1], heights, rtol=1e-4)
    one = codec.decode(scores[2:3, 4:5])
    assert (one[0][0, 0] == found[2, 4]).all() and one[1][0, 0] == heights[2, 4]


def test_useless_scores_do_no_harm(codec, points):
    scores = codec.encode(points, VISIBLE)[0][0]
    scores[0], scores[1], scores[2, 3], scores[3, 4] = 0, np.nan, np.nan, np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, heights = codec.decode(scores[None])
    assert (found[0, :4] == 0).all() and heights[0, 0] < 0.05 and np.isnan(heights[0, 1:4]).all()
    np.testing.assert_array_equal(found[0, 4:], codec.decode(scores[None, 4:])[0][0])


def test_the_flip_test_leaves_a_perfect_network_as_it_is(codec, points):
    points = np.round(2 * points) / 2  # where a bin's centre is
    targets = codec.encode(points, VISIBLE)[0]
    mirrored = codec.encode(*flip_points(points, VISIBLE, W, LSP.flip_permutation))[0]
    merged = codec.merge_flipped(targets, mirrored, LSP)
    last = 2 * W - 1  # has no mirror image
    np.testing.assert_allclose(np.delete(merged, last, -1), np.delete(targets, last, -1), atol=1e-6)
    np.testing.assert_array_equal(codec.decode(merged)[0], points)
