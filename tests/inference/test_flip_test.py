"""The flip test with networks made by hand: what averaging with the mirrored picture must and must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from lgmpose.inference.backends import flip_tested
from lgmpose.pose.codecs import make_codec, merge_flipped
from lgmpose.pose.geometry import flip_points
from lgmpose.pose.skeletons import LSP, Skeleton, skeleton_from_category

H, W = 96, 128
DOT = skeleton_from_category({"keypoints": ["dot"]})
SIDES = skeleton_from_category({"keypoints": ["left_ear", "nose", "right_ear"]})


def blob(x: float, y: float) -> torch.Tensor:
    """(1, 1, H, W) picture of a wide Gaussian."""
    v, u = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    return torch.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 8.0**2))[None, None]


def centroid_x(heatmaps: torch.Tensor) -> float:
    columns = heatmaps[0, 0].sum(0)
    return float((columns * torch.arange(len(columns))).sum() / columns.sum())


def at_every_fourth(x: torch.Tensor) -> torch.Tensor:
    """An ideal network of the ordinary alignment: heatmap pixel i sees crop pixel 4 i."""
    return x[..., ::4, ::4]


def between_pixel_centres(x: torch.Tensor) -> torch.Tensor:
    """An ideal network of UDP's alignment: first and last heatmap pixels lie on the crop's."""
    return torch.nn.functional.interpolate(x, (H // 4, W // 4), mode="bilinear", align_corners=True)


def pooled(x: torch.Tensor) -> torch.Tensor:
    return avg_pool2d(x, 4)


def merged(net, x: torch.Tensor, shift: bool, skeleton: Skeleton = DOT) -> torch.Tensor:
    return merge_flipped(net(x), net(x.flip(-1)), skeleton, shift=shift)


@pytest.mark.parametrize("net", [pooled, between_pixel_centres])
def test_networks_that_a_mirror_commutes_with_need_no_shift(net):
    x = blob(50.3, 41)
    plain = net(x)
    torch.testing.assert_close(merged(net, x, shift=False), plain, atol=1e-6, rtol=1e-5)
    assert centroid_x(merged(net, x, shift=True)) - centroid_x(plain) == pytest.approx(0.5, abs=0.01)


def test_the_ordinary_alignment_is_off_by_three_eighths_without_the_shift_and_one_eighth_with_it():
    """Joint x lies at x / 4. Seen in the mirror it lies at (W - 1 - x) / 4, mirrored back at x / 4 - 3/4."""
    for x in (40.0, 50.3, 61.7):
        assert centroid_x(merged(at_every_fourth, blob(x, 48), shift=False)) == pytest.approx(x / 4 - 3 / 8, abs=0.01)
        assert centroid_x(merged(at_every_fourth, blob(x, 48), shift=True)) == pytest.approx(x / 4 + 1 / 8, abs=0.01)


def test_the_shift_keeps_the_first_column():
    x = torch.rand(1, 1, H, W, generator=torch.Generator().manual_seed(0))
    back = pooled(x.flip(-1)).flip(-1)
    shifted = 2 * merged(pooled, x, shift=True) - pooled(x)
    torch.testing.assert_close(shifted[..., 1:], back[..., :-1])
    torch.testing.assert_close(shifted[..., :1], back[..., :1])


def test_left_and_right_are_swapped_back():
    x = torch.rand(2, 3, H, W, generator=torch.Generator().manual_seed(1))
    left, nose, right = pooled(x).unbind(1)  # a network that does not know its sides: both come out as their mean
    expected = torch.stack([(left + right) / 2, nose, (left + right) / 2], dim=1)
    torch.testing.assert_close(merged(pooled, x, shift=False, skeleton=SIDES), expected)


@pytest.mark.parametrize("name", ["standard", "dark", "udp"])
def test_each_codecs_own_setting_is_the_better_one(name):
    """A perfect network, that gives a codec's targets for the picture and for its mirror image."""
    codec = make_codec(name, (H, W), 2.0)
    points = np.random.default_rng(0).uniform((30, 30), (W - 30, H - 30), (16, 14, 2))
    visible = np.ones((16, 14), int)
    seen = [points, flip_points(points, visible, W, LSP.flip_permutation)[0]]
    error = {}
    for shift in (False, True):
        answers = iter(seen)
        heatmaps = merged(
            lambda x, answers=answers: torch.from_numpy(codec.encode(next(answers), visible)[0]),
            torch.zeros(16, 3, H, W), shift, LSP,
        )  # fmt: skip
        decoded, _ = codec.decode(heatmaps.numpy())
        error[shift] = np.linalg.norm(decoded - points, axis=-1).mean()
    assert error[codec.flip_shift] < 0.8 * error[not codec.flip_shift]
    bound = {"standard": 2.1, "dark": 0.55, "udp": 0.01}[name]  # dark: 1/8 heatmap pixel = 0.5 crop pixels
    assert error[codec.flip_shift] < bound


@pytest.mark.parametrize("name", ["dark", "udp"])
def test_crops_are_mirrored_joints_swapped_and_the_codecs_shift_taken(name):
    """Heatmaps of a backend for uint8 crops, against the same steps written out."""
    codec, asked = make_codec(name, (H, W)), []
    crops = np.random.default_rng(0).integers(0, 256, (2, H, W, 3), dtype=np.uint8)

    def heatmaps(crops):
        asked.append(crops)
        return crops[:, ::4, ::4].transpose(0, 3, 1, 2).astype(np.float32)

    found = flip_tested(heatmaps, crops, SIDES, codec)
    np.testing.assert_array_equal(asked[0], crops)
    np.testing.assert_array_equal(asked[1], crops[:, :, ::-1])
    plain, mirrored = heatmaps(crops), heatmaps(crops[:, :, ::-1])[:, [2, 1, 0], :, ::-1]
    if codec.flip_shift:
        mirrored = np.concatenate([mirrored[..., :1], mirrored[..., :-1]], axis=-1)
    np.testing.assert_allclose(found, (plain + mirrored) / 2, rtol=1e-6)
