"""CPN: published counts, and equality with a re-derivation that sees only the weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from peer_tools import blank, macs_on_meta, num_params, random, randomise
from torch import nn
from torch.testing import assert_close

from lgmpose.peers.cpn import CPN, GlobalNet, RefineNet

models = pytest.importorskip("torchvision").models

HW = (32, 64)  # small and not square
WIDTHS = (256, 512, 1024, 2048)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def scales() -> list[torch.Tensor]:
    """What ResNet-50 would return for an image of 32 × 64."""
    return [random(2, C, 8 // 2**i, 16 // 2**i) for i, C in enumerate(WIDTHS)]


def on_meta(num_keypoints: int = 17) -> CPN:
    with torch.device("meta"):
        return CPN(num_keypoints).eval()


# Counts


def test_parameters_are_the_published_ones():
    net = on_meta()
    assert num_params(net) == 27_406_826
    # The authors' code has no projection in the six bottlenecks whose width stays: no 1×1 and no BatchNorm there.
    projections = [part.skip for branch in net.refine_net.branches for part in branch]
    assert len(projections) == 6 and 27_406_826 - sum(map(num_params, projections)) == 27_010_538
    # A joint is, on each of five predictions, a row of a 3×3 without bias and a channel of a BatchNorm.
    assert num_params(on_meta(16)) == 27_406_826 - 5 * (9 * 256 + 2)


@pytest.mark.parametrize("image_hw, giga_macs", [((256, 192), 7.316), ((384, 288), 16.460)])
def test_macs_are_the_references(image_hw, giga_macs):
    assert macs_on_meta(on_meta(), image_hw) / 1e9 == pytest.approx(giga_macs, rel=1e-3)


# What it computes


def test_the_backbone_is_torchvisions_resnet50():
    net = blank(lambda: CPN(3))
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
        assert net(x).shape == (1, 3, 8, 16)
        assert [tuple(s.shape[1:]) for s in taken["scales"]] == [(C, 8 >> i, 16 >> i) for i, C in enumerate(WIDTHS)]
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
    net, inputs = randomise(GlobalNet(3)), scales()
    maps, heatmaps = net(inputs)
    assert [y.shape for y in heatmaps] == 4 * [(2, 3, 8, 16)]
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
def test_refine_net_is_what_the_layout_describes():
    net = randomise(RefineNet(3))
    maps = [random(2, 256, 8 // 2**i, 16 // 2**i) for i in range(4)]
    assert_close(net(maps), refine_net_by_hand(maps, net.state_dict()))
    wrong = refine_net_by_hand(maps, net.state_dict(), reverse=True)
    assert not torch.allclose(net(maps), wrong, rtol=1e-3, atol=1e-3)


def test_training_returns_five_predictions_the_answer_last():
    net, x = blank(lambda: CPN(3)).float(), torch.randn(1, 3, *HW)
    with torch.no_grad():
        answer = net(x)
        net.training = True  # itself alone: its BatchNorms stay in eval mode
        outputs = net(x)
    assert isinstance(outputs, tuple) and [y.shape for y in outputs] == 5 * [(1, 3, HW[0] // 4, HW[1] // 4)]
    assert torch.equal(outputs[-1], answer) and not torch.allclose(outputs[0], answer)


@pytest.mark.parametrize("image_hw", [(256, 190), (100, 64), (16, 32), (0, 64)])
def test_sizes_that_do_not_fit_are_refused(image_hw):
    with pytest.raises(ValueError, match=f"{image_hw[0]} × {image_hw[1]}"):
        on_meta()(torch.empty(1, 3, *image_hw, device="meta"))


def test_global_net_starts_as_in_the_port():
    """Normal with variance 2 / fan_out; the port leaves RefineNet to PyTorch."""
    for conv in CPN(3).global_net.modules():
        if isinstance(conv, nn.Conv2d) and conv.out_channels == 256:
            fan_out = conv.kernel_size[0] * conv.kernel_size[1] * 256
            assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.02)
