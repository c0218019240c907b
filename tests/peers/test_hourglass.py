"""Stacked Hourglass: published counts, and equality with a re-derivation that sees only the weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from peer_tools import macs_on_meta, num_params, random, randomise
from torch import nn
from torch.testing import assert_close

from lgmpose.peers.hourglass import Hourglass, StackedHourglass, hourglass_8

HW = (64, 128)  # small and not square


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small() -> StackedHourglass:
    """Three stacks of 32 channels."""
    return randomise(StackedHourglass(5, stacks=3, channels=32))


def on_meta(num_keypoints: int = 17, **options) -> StackedHourglass:
    with torch.device("meta"):
        net = StackedHourglass(num_keypoints, **options) if options else hourglass_8(num_keypoints, (256, 192))
        return net.eval()


# Counts


@pytest.mark.parametrize("num_keypoints, stacks, expected", [
    (17, None, 25_598_472), (16, 8, 25_594_624), (17, 2, 6_731_682), (17, 1, 3_587_217),
])  # fmt: skip
def test_parameters_equal_the_reference(num_keypoints, stacks, expected):
    assert num_params(on_meta(num_keypoints, **({"stacks": stacks} if stacks else {}))) == expected


@pytest.mark.slow
def test_macs_equal_the_reference():
    """Every stack after the first costs the same, so that two networks tell what eight stacks cost."""
    one, two = on_meta(stacks=1), on_meta(stacks=2)

    def eight(image_hw: tuple[int, int]) -> int:
        first = macs_on_meta(one, image_hw)
        return first + 7 * (macs_on_meta(two, image_hw) - first)

    assert eight((256, 192)) == pytest.approx(21.083e9, rel=1e-3)
    # 256 × 256 is the same network on 4/3 of the pixels: 28.110 GMAC.
    assert eight((256, 192)) * 4 / 3 == pytest.approx(28.110e9, rel=1e-3)
    # DarkPose's README: 4.9 "GFLOPs" (÷ 2³⁰) at 128 × 96.
    assert eight((128, 96)) / 2**30 == pytest.approx(4.90, abs=0.01)


# What it computes


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_with_empty_residuals_an_hourglass_is_a_sum_of_pyramid_levels(depth):
    net = randomise(Hourglass(8, depth=depth))
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.rsplit(".", 1)[0].endswith("layers.8"):  # each residual's last convolution
                p.zero_()
    x = random(2, 8, 32, 48)
    pyramid = [F.max_pool2d(x, 2**k) for k in range(depth + 1)]
    assert_close(net(x), sum(y.repeat_interleave(2**k, 2).repeat_interleave(2**k, 3) for k, y in enumerate(pyramid)))


def hourglasses_by_hand(x, p, *, remap=True, skip_residual=True, post_activation=False):
    """The network from its layout, recursion unrolled; the keywords make wrong versions."""

    def conv(x, name, stride=1):
        weight = p[f"{name}.weight"]
        return F.conv2d(x, weight, p[f"{name}.bias"], stride, weight.shape[-1] // 2)

    def norm(x, name):
        mean, var = p[f"{name}.running_mean"][:, None, None], p[f"{name}.running_var"][:, None, None]
        x = (x - mean) / (var + 1e-5).sqrt()
        return (x * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]).clamp(min=0)

    def residual(x, name):
        y = x
        for i in (0, 3, 6):
            y = conv(norm(y, f"{name}.layers.{i}"), f"{name}.layers.{i + 2}")
        y = y + (conv(x, f"{name}.skip") if f"{name}.skip.weight" in p else x)
        return y.clamp(min=0) if post_activation else y

    x = norm(conv(x, "stem.0", stride=2), "stem.1")
    x = F.max_pool2d(residual(x, "stem.3"), 2, 2)
    x = residual(residual(x, "stem.5"), "stem.6")
    s = 0
    while f"heads.{s}.weight" in p:
        levels, y = [], x
        for depth in range(4):  # down
            name = f"hourglasses.{s}.0" + ".inner" * depth
            levels.append(residual(y, f"{name}.skip") if skip_residual else y)
            y = residual(F.max_pool2d(y, 2, 2), f"{name}.before")
        y = residual(y, f"{name}.inner")
        for depth in reversed(range(4)):  # and up
            y = residual(y, f"hourglasses.{s}.0" + ".inner" * depth + ".after")
            y = levels[depth] + y.repeat_interleave(2, 2).repeat_interleave(2, 3)
        y = residual(y, f"hourglasses.{s}.1")
        y = norm(conv(y, f"hourglasses.{s}.2"), f"hourglasses.{s}.3")
        heatmaps = conv(y, f"heads.{s}")
        if f"remap_heatmaps.{s}.weight" in p:
            x = x + conv(y, f"remap_features.{s}") + (conv(heatmaps, f"remap_heatmaps.{s}") if remap else 0)
        s += 1
    return heatmaps


@torch.no_grad()
def test_it_is_the_network_that_the_layout_describes():
    net = small()
    x, p = random(2, 3, *HW), net.state_dict()
    assert_close(net(x), hourglasses_by_hand(x, p))
    for wrong in ({"remap": False}, {"skip_residual": False}, {"post_activation": True}):
        assert not torch.allclose(net(x), hourglasses_by_hand(x, p, **wrong), rtol=1e-3, atol=1e-3)


def test_training_mode_returns_every_stack_and_the_answer_last():
    net, x = small(), random(2, 3, *HW)
    answer = net(x)
    for module in net.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)
    outputs = net(x)
    assert isinstance(outputs, tuple) and [y.shape for y in outputs] == 3 * [(2, 5, 16, 32)]
    assert_close(outputs[-1], answer)
    assert not torch.allclose(outputs[0], answer)


def test_every_parameter_gets_a_gradient():
    """With BatchNorm in eval mode: in training mode it takes away what a bias before it adds, and its gradient."""
    net = small()
    for module in net.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)
    sum(y.square().sum() for y in net(random(1, 3, *HW))).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@torch.no_grad()
def test_a_map_of_odd_size():
    """384 × 288 makes a map of width 9, which the original's fixed doubling cannot come back to; here scaled down."""
    assert small()(random(1, 3, 96, 160)).shape == (1, 5, 24, 40)  # 24 × 40, 12 × 20, 6 × 10, 3 × 5, 1 × 2


@pytest.mark.parametrize("image_hw", [(256, 190), (100, 64), (32, 64), (64, 32), (0, 64)])
def test_sizes_that_do_not_fit_are_refused(image_hw):
    with pytest.raises(ValueError, match=f"{image_hw[0]} × {image_hw[1]}.*64"):
        hourglass_8(1, image_hw)
    with pytest.raises(ValueError, match=f"{image_hw[0]} × {image_hw[1]}"):
        on_meta(stacks=1)(torch.empty(1, 3, *image_hw, device="meta"))
