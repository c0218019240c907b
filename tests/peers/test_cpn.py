"""CPN: counts with both kinds of shortcuts, and equality with a re-derivation that sees only the weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from peer_tools import random, randomise
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from lgmpose.peers.cpn import CPN, SHORTCUTS, Bottleneck, GlobalNet, RefineNet, cpn_r50

models = pytest.importorskip("torchvision").models

HW = (64, 96)  # small and not square
WIDTHS = (256, 512, 1024, 2048)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def scales() -> list[torch.Tensor]:
    """What ResNet-50 would hand on, for a picture of 64 × 96."""
    return [random(2, C, 16 // 2**i, 24 // 2**i) for i, C in enumerate(WIDTHS)]


def on_meta(num_keypoints: int = 17, **options) -> CPN:
    with torch.device("meta"):
        return CPN(num_keypoints=num_keypoints, image_hw=(256, 192), **options).eval()


def randomised(**options) -> CPN:
    """Three joints; without the time that initialisation takes."""
    return randomise(on_meta(3, **options).to_empty(device="cpu"))


def params(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def macs(net: nn.Module, image_hw: tuple[int, int]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as mode:
        y = net(torch.empty(1, 3, *image_hw, device="meta"))
    assert y.shape[-2:] == (image_hw[0] // 4, image_hw[1] // 4)
    return mode.get_total_flops() // 2


# Counts


def test_parameters_of_both_shortcuts_equal_the_references():
    assert params(on_meta()) == 27_406_826
    # Six bottlenecks lose a 1×1 of 256 × 256 and its BatchNorm; the seventh changes its width and keeps it.
    assert params(on_meta(shortcuts="identity")) == 27_406_826 - 6 * (256 * 256 + 2 * 256) == 27_010_538


def test_parameters_for_mpii():
    """A joint is, on each of five predictions, a row of a 3×3 without bias and a channel of a BatchNorm."""
    assert params(on_meta(16)) == 27_406_826 - 5 * (9 * 256 + 2)
    with torch.device("meta"):
        assert params(cpn_r50(16, (256, 256))) == params(on_meta(16))


def test_macs_of_both_shortcuts_equal_the_references():
    assert macs(on_meta(), (256, 192)) == pytest.approx(7.316e9, rel=1e-3)
    assert macs(on_meta(), (384, 288)) == pytest.approx(16.460e9, rel=1e-3)
    assert macs(on_meta(shortcuts="identity"), (256, 192)) / 2**30 == pytest.approx(6.73, abs=0.005)


# What it computes


def test_the_backbone_is_torchvisions_resnet50():
    net = randomised()
    with torch.device("meta"):
        resnet = models.resnet50(weights=None).eval().double()
    resnet.fc = nn.Identity()
    resnet = resnet.to_empty(device="cpu")
    names = ["stem.0", "stem.1", "stages.0", "stages.1", "stages.2", "stages.3"]
    for name, part in zip(names, ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"], strict=True):
        resnet.get_submodule(part).load_state_dict(net.get_submodule(name).state_dict())
    taken = {}
    net.global_net.register_forward_pre_hook(lambda module, inputs: taken.update(scales=inputs[0]))
    x = random(1, 3, *HW)
    with torch.no_grad():
        assert net(x).shape == (1, 3, 16, 24)
        assert [tuple(s.shape[1:]) for s in taken["scales"]] == [(C, 16 >> i, 24 >> i) for i, C in enumerate(WIDTHS)]
        assert_close(taken["scales"][-1].mean(dim=(2, 3)), resnet(x))


def conv(x, p, name):
    weight = p[f"{name}.weight"]
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


def norm(x, p, name):
    mean, var, weight, bias = (p[f"{name}.{key}"][:, None, None] for key in
                               ("running_mean", "running_var", "weight", "bias"))  # fmt: skip
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def resize(x, hw, align_corners=True):
    return F.interpolate(x, size=hw, mode="bilinear", align_corners=align_corners)


def global_net_by_hand(scales, p, *, top_relu=False, norm_before_resize=False, align_corners=True):
    """→ maps and heatmaps, finest first; the keywords make wrong versions."""
    heatmap_hw, above, maps, heatmaps = scales[0].shape[-2:], None, [], []
    for i in (3, 2, 1, 0):
        x = norm(conv(scales[i], p, f"laterals.{i}.0"), p, f"laterals.{i}.1").relu()
        if above is not None:
            top = resize(above, x.shape[-2:], align_corners)
            top = norm(conv(top, p, f"tops.{i}.0"), p, f"tops.{i}.1")
            x = x + (top.relu() if top_relu else top)
        above = x
        y = norm(conv(x, p, f"features.{i}.0"), p, f"features.{i}.1").relu()
        y = conv(y, p, f"heads.{i}")
        y = norm(y, p, f"norms.{i}") if norm_before_resize else y
        y = resize(y, heatmap_hw, align_corners)
        maps.append(x)
        heatmaps.append(y if norm_before_resize else norm(y, p, f"norms.{i}"))
    return maps[::-1] + heatmaps[::-1]


@torch.no_grad()
def test_global_net_is_what_the_layout_describes():
    net, inputs = randomise(GlobalNet(num_keypoints=3)), scales()
    maps, heatmaps = net(inputs)
    assert [y.shape for y in heatmaps] == 4 * [(2, 3, 16, 24)]
    assert_close(maps + heatmaps, global_net_by_hand(inputs, net.state_dict()))
    for wrong in ({"top_relu": True}, {"align_corners": False}):
        other = global_net_by_hand(inputs, net.state_dict(), **wrong)
        assert not torch.allclose(maps[0], other[0], rtol=1e-3, atol=1e-3)
    # BatchNorm and bilinear resizing commute: both are affine and the resizing's weights add up to 1.
    assert_close(maps + heatmaps, global_net_by_hand(inputs, net.state_dict(), norm_before_resize=True))


def refine_net_by_hand(maps, p, *, reverse=False):
    def bottleneck(x, name):
        y = norm(conv(x, p, f"{name}.layers.0.0"), p, f"{name}.layers.0.1").relu()
        y = norm(conv(y, p, f"{name}.layers.1.0"), p, f"{name}.layers.1.1").relu()
        y = norm(conv(y, p, f"{name}.layers.2.0"), p, f"{name}.layers.2.1")
        if f"{name}.skip.0.weight" in p:
            x = norm(conv(x, p, f"{name}.skip.0"), p, f"{name}.skip.1")
        return (x + y).relu()

    resized = []
    for i, x in enumerate(maps):
        for j in range(i):
            x = bottleneck(x, f"branches.{i}.{j}")
        resized.append(resize(x, maps[0].shape[-2:]))
    x = bottleneck(torch.cat(resized[::-1] if reverse else resized, dim=1), "mix")
    return norm(conv(x, p, "head"), p, "norm")


@torch.no_grad()
@pytest.mark.parametrize("shortcuts", SHORTCUTS)
def test_refine_net_is_what_the_layout_describes(shortcuts):
    net = randomise(RefineNet(num_keypoints=3, project=shortcuts == "projection"))
    maps = [random(2, 256, 16 // 2**i, 24 // 2**i) for i in range(4)]
    assert_close(net(maps), refine_net_by_hand(maps, net.state_dict()))
    wrong = refine_net_by_hand(maps, net.state_dict(), reverse=True)
    assert not torch.allclose(net(maps), wrong, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_projection_by_one_is_an_identity():
    """The two kinds of shortcuts are one network, of which the port frees six matrices that the original sets to 1."""
    identity = randomise(Bottleneck(256, project=False))
    projection = Bottleneck(256, project=True).eval().double()
    projection.load_state_dict(identity.state_dict(), strict=False)
    projection.skip[0].weight.copy_(torch.eye(256)[:, :, None, None])
    projection.skip[1].eps = 0
    x = random(2, 256, 4, 6)
    assert_close(projection(x), identity(x))


def test_every_parameter_gets_a_gradient_and_training_returns_five_predictions():
    net = randomised().float().train()
    outputs = net(torch.randn(2, 3, *HW))
    assert isinstance(outputs, tuple) and [y.shape for y in outputs] == 5 * [(2, 3, 16, 24)]
    sum((y * torch.randn_like(y)).sum() for y in outputs).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@torch.no_grad()
def test_the_answer_is_the_last_of_the_five():
    net, x = randomised(shortcuts="identity").float(), torch.randn(1, 3, *HW)
    answer = net(x)
    net.training = True  # itself alone: its BatchNorms stay in eval mode
    assert torch.equal(net(x)[-1], answer)
    assert not torch.allclose(net(x)[0], answer)


@pytest.mark.parametrize("image_hw", [(256, 190), (100, 64), (16, 32), (0, 64)])
def test_sizes_that_do_not_fit_are_refused(image_hw):
    with pytest.raises(ValueError, match="multiples of 32"):
        CPN(num_keypoints=1, image_hw=image_hw)
    with pytest.raises(ValueError, match="multiples of 32"):
        on_meta()(torch.empty(1, 3, *image_hw, device="meta"))


def test_unknown_shortcuts_are_refused():
    with pytest.raises(ValueError, match="projection, identity"):
        on_meta(shortcuts="none")
