"""The three conventions against closed forms for one module each, and against what papers print for whole networks."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lgmpose
from lgmpose.conventions import Conventions, count_by_conventions
from lgmpose.macs import count_macs
from lgmpose.peers.ditehrnet import DynamicConv, dite_hrnet_18, dite_hrnet_30
from lgmpose.peers.hrnet import hrnet_w32, small_hrnet
from lgmpose.peers.litehrnet import lite_hrnet_18, lite_hrnet_30
from lgmpose.peers.tokenpose import tokenpose_b, tokenpose_l_d6

IMAGE_HW = (8, 12)
SMALL, LARGE, MPII = (256, 192), (384, 288), (256, 256)
GIBI, MEBI = 2**30, 2**20


class Call(nn.Module):
    """A network that is one function, with the modules it uses."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x)


def only(module: nn.Module) -> Call:
    return Call(lambda net, x: net.m(x), m=module)


# One module on (1, 3, 8, 12) → true MACs, HRNet's tool, torchstat, elements written.
CLOSED_FORMS = {
    "conv": (only(nn.Conv2d(3, 6, 3, padding=1, bias=False)), 96 * 162, 96 * 162, 96 * 162, 576),
    "conv with bias and stride": (only(nn.Conv2d(3, 6, (3, 5), (2, 3), (1, 2))), 16 * 270, 16 * 270, 16 * 276, 96),
    "grouped conv": (only(nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False)), 96 * 54, 96 * 54, 96 * 54, 576),
    "deconv": (
        only(nn.ConvTranspose2d(3, 6, 4, stride=2, padding=1, bias=False)), 96 * 288, 4 * 96 * 288, 96 * 288, 4 * 576,
    ),
    "deconv with bias": (
        only(nn.ConvTranspose2d(3, 6, 2, stride=2)), 96 * 72, 4 * 96 * 72, 96 * 72 + 4 * 576, 4 * 576,
    ),
    # (1, 3, 8, 12): the tool takes the second axis, 3, for the 12 features
    "linear on the last axis": (only(nn.Linear(12, 5)), 24 * 60, 24 * 5 * 3, 24 * 60, 24 * 5),
    "linear on (B, C)": (Call(lambda net, x: net.m(x.mean((2, 3))), m=nn.Linear(3, 5)), 15, 15, 15, 3 + 5),
    "BatchNorm": (only(nn.BatchNorm2d(3)), 0, 0, 2 * 288, 288),
    "LayerNorm": (only(nn.LayerNorm(12)), 0, 0, 0, 288),
    "ReLU": (only(nn.ReLU()), 0, 0, 288, 288),
    "ReLU6, in place": (Call(lambda net, x: net.m(x), m=nn.ReLU6(inplace=True)), 0, 0, 288, 288),
    "SiLU": (only(nn.SiLU()), 0, 0, 0, 288),
    "sigmoid": (only(nn.Sigmoid()), 0, 0, 0, 288),
    "max pooling": (only(nn.MaxPool2d(3, 2, 1)), 0, 0, 3 * 24 * 9, 72),
    "average pooling": (only(nn.AvgPool2d((2, 3))), 0, 0, 3 * 16 * 6, 48),
    "global average pooling": (only(nn.AdaptiveAvgPool2d(1)), 0, 0, 3 * 9 * 13, 3),
    "adaptive pooling": (only(nn.AdaptiveAvgPool2d((4, 3))), 0, 0, 3 * (4 * 3) * (3 * 5), 36),
    # rows 8 → 3: windows 0–3, 2–6, 5–8, of 3, 4 and 3
    "adaptive pooling, overlapping windows": (only(nn.AdaptiveAvgPool2d((3, 12))), 0, 0, 3 * (4 + 5 + 4) * 24, 108),
    "upsampling forgets channels": (only(nn.Upsample(scale_factor=2)), 0, 0, 16 * 24, 3 * 16 * 24),
    "views write nothing": (
        Call(lambda net, x: x.view(3, 8, 12).transpose(0, 1)[2:].chunk(2)[0].unsqueeze(0)), 0, 0, 0, 0,
    ),
    "a reshape that has to copy": (Call(lambda net, x: x.transpose(2, 3).reshape(1, -1)), 0, 0, 0, 288),
    "functions are no modules": (Call(lambda net, x: F.relu(x) + x), 0, 0, 0, 2 * 288),
    "a product": (Call(lambda net, x: x @ x.mT), 3 * 8 * 8 * 12, 0, 0, 192),
}  # fmt: skip


@pytest.mark.parametrize("case", CLOSED_FORMS)
def test_closed_forms(case):
    net, *expected = CLOSED_FORMS[case]
    c = count_by_conventions(net, IMAGE_HW)
    assert [c.true_macs, c.hrnet_tool, c.torchstat, c.activations] == expected
    for field in ("true_macs", "hrnet_tool", "torchstat", "activations"):
        assert sum(getattr(m, field) for m in c.modules) == getattr(c, field)


def test_a_module_called_twice():
    """Costs twice, of which torchstat sees one."""
    c = count_by_conventions(Call(lambda net, x: net.m(net.m(x)), m=nn.Conv2d(3, 3, 1, bias=False)), IMAGE_HW)
    once = 96 * 9
    assert (c.true_macs, c.hrnet_tool, c.torchstat, c.activations) == (2 * once, 2 * once, once, 2 * 288)
    assert [(m.name, m.kind, m.calls) for m in c.modules] == [("m", "Conv2d", 2)]


def test_hidden_attention_products_are_seen():
    net = Call(
        lambda net, x: net.mha(*[x.transpose(1, 2).flatten(2)] * 3, need_weights=False)[0],
        mha=nn.MultiheadAttention(36, 4, batch_first=True),
    )
    assert count_by_conventions(net, IMAGE_HW).true_macs == 4 * 8 * 36**2 + 2 * 8 * 8 * 36


def test_dynamic_convolution_counts_for_torchstat_as_one_kernel():
    net = only(DynamicConv(8, 16, kernel=3, num_kernels=4, stride=2, groups=4))
    wide = Call(lambda net, x: net.m(net.widen(x)), widen=nn.Conv2d(3, 8, 1), m=net.m)
    module = {m.name: m for m in count_by_conventions(wide, IMAGE_HW).modules}["m"]
    assert module.torchstat == (4 * 6) * 16 * (8 // 4) * 9
    assert module.true_macs == module.torchstat + 4 * 16 * (8 // 4) * 9  # and mixing the four kernels


# Whole networks: what is printed of them, and what the reference code was counted at.


def count(make, num_keypoints: int, image_hw: tuple[int, int]) -> Conventions:
    with torch.device("meta"):
        return count_by_conventions(make(num_keypoints, image_hw), image_hw)


@pytest.mark.parametrize("name, num_keypoints, image_hw, gibi", [
    ("simplebaseline_r50", 17, SMALL, 8.991), ("simplebaseline_r50", 17, LARGE, 20.23),
])  # fmt: skip
def test_published_by_hrnets_tool_deconvolutions(name, num_keypoints, image_hw, gibi):
    """SimpleBaseline's "8.9 GFLOPs" are 5.43 G."""
    pytest.importorskip("torchvision")
    from lgmpose.peers import deconv

    c = count(getattr(deconv, name), num_keypoints, image_hw)
    assert c.hrnet_tool / GIBI == pytest.approx(gibi, abs=0.5e-2)
    assert c.true_macs < 0.6 * c.hrnet_tool


@pytest.mark.parametrize("make, num_keypoints, image_hw, gibi", [
    (hrnet_w32, 17, SMALL, 7.120), (tokenpose_b, 17, SMALL, 5.655), (tokenpose_l_d6, 17, SMALL, 9.064),
])  # fmt: skip
def test_published_by_hrnets_tool(make, num_keypoints, image_hw, gibi):
    assert count(make, num_keypoints, image_hw).hrnet_tool / GIBI == pytest.approx(gibi, abs=0.5e-3)


@pytest.mark.parametrize("make, published", [  # in Mi: COCO 256 × 192 and 384 × 288, MPII 256 × 256
    (lite_hrnet_18, (205.2, 461.6, 273.4)),
    (lite_hrnet_30, (319.2, 717.8, 425.3)),
    (dite_hrnet_18, (209.8, 471.8, 279.5)),
    (dite_hrnet_30, (329.8, 741.7, 439.5)),
])  # fmt: skip
def test_published_by_torchstat(make, published):
    """To the last digit printed, rounded or truncated. Of -30 the smallest input alone."""
    with torch.device("meta"):
        net = make(17, SMALL)
    for image_hw, mebi in zip([SMALL, LARGE, MPII][: 3 if "18" in make.__name__ else 1], published, strict=False):
        if image_hw == MPII:
            net.head = nn.Conv2d(40, 16, 1, device="meta")
        ours = count_by_conventions(net, image_hw).torchstat / MEBI
        assert round(ours, 1) == mebi or int(10 * ours) / 10 == mebi


def test_published_by_torchstat_small_hrnet():
    for (num_keypoints, image_hw), gibi in {(17, SMALL): 0.54, (17, LARGE): 1.215, (16, MPII): 0.72}.items():
        assert count(small_hrnet, num_keypoints, image_hw).torchstat / GIBI == pytest.approx(gibi, abs=0.5e-2)


@pytest.mark.parametrize("name, published", [
    ("mobilenetv2", (1.478, 3.326, 1.970)), ("shufflenetv2", (1.277, 2.874, 1.702)),
])  # fmt: skip
def test_published_by_torchstat_deconvolutions(name, published):
    pytest.importorskip("torchvision")
    from lgmpose.peers import deconv

    for (num_keypoints, image_hw), gibi in zip([(17, SMALL), (17, LARGE), (16, MPII)], published, strict=True):
        ours = count(getattr(deconv, name), num_keypoints, image_hw).torchstat / GIBI
        assert ours == pytest.approx(gibi, abs=0.5e-3)


def test_torchvisions_resnet50():
    """4.089 GMAC by torchvision's own table (``_ops``), and all of it HRNet's tool sees: there is no deconvolution."""
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        c = count_by_conventions(models.resnet50(weights=None), (224, 224))
    assert c.true_macs == c.hrnet_tool
    assert c.true_macs / 1e9 == pytest.approx(models.ResNet50_Weights.DEFAULT.meta["_ops"], abs=0.5e-3)
    assert c.params == models.ResNet50_Weights.DEFAULT.meta["num_params"]


def test_lgm_pose_and_that_its_network_is_left_alone():
    net = lgmpose.create_model("lgm-pose-coco-256x192").train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    c = count_by_conventions(net, name="LGM-Pose")
    assert c.image_hw == (256, 192) and c.params == 1_054_929
    assert c.true_macs == count_macs(net, (256, 192), counter="FlopCounterMode")[""].total()
    # Its deconvolutions do not overlap, 2 × 2 with stride 2, but are counted at output resolution all the same.
    macs = Counter()
    for m in c.modules:
        macs[m.kind] += m.true_macs
    assert c.hrnet_tool - macs["Conv2d"] - 4 * macs["ConvTranspose2d"] == sum(
        m.hrnet_tool for m in c.modules if m.kind == "Linear"
    )
    assert net.training and all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_as_text():
    counts = Conventions("SimpleBaseline", SMALL, 33_999_697, 5_426_380_800, 9_654_239_232, 551_550_976, 39_972_864, ())
    assert counts.as_text().splitlines() == [
        "SimpleBaseline, input 256 × 192, 33,999,697 parameters",
        "",
        "true MACs       5.426 G  multiply–accumulates, ÷ 10⁹ or 10⁶",
        "HRNet tool     8.991 Gi  ÷ 2³⁰; deconvolutions at output resolution: ×4",
        "torchstat      526.0 Mi  ÷ 2³⁰ or 2²⁰; with BatchNorm, ReLU, pooling; each module once",
        "activations      40.0 M  numbers written to memory",
    ]


def test_bad_input():
    with pytest.raises(ValueError, match="does not say its input size"):
        count_by_conventions(nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="64 × 64"):
        count_by_conventions(lgmpose.create_model("lgm-pose-coco-256x192"), (64, 64))
