"""The three conventions against closed forms for single modules, and against what papers print for networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from peer_tools import Call
from torch import nn

import lgmpose
from lgmpose.lab.conventions import Conventions, count_by_conventions, count_named, in_giga, in_unit_of
from lgmpose.lab.cost_tables import matches
from lgmpose.lab.macs import count_macs
from lgmpose.peers.ditehrnet import DynamicConv
from lgmpose.peers.hrnet import HRNet

pytest.importorskip("torchvision")  # the backbones of some

IMAGE_HW = (8, 12)
SMALL, LARGE, MPII = (256, 192), (384, 288), (256, 256)
GIBI, MEBI = 2**30, 2**20


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


def test_a_module_called_twice():
    """It costs twice; torchstat counts one call."""
    c = count_by_conventions(Call(lambda net, x: net.m(net.m(x)), m=nn.Conv2d(3, 3, 1, bias=False)), IMAGE_HW)
    once = 96 * 9
    assert (c.true_macs, c.hrnet_tool, c.torchstat, c.activations) == (2 * once, 2 * once, once, 2 * 288)


def test_dynamic_convolution_counts_for_torchstat_as_one_kernel():
    conv = DynamicConv(8, 16, kernel=3, num_kernels=4, stride=2, groups=4)
    c = count_by_conventions(Call(lambda net, x: net.m(net.widen(x)), widen=nn.Conv2d(3, 8, 1), m=conv), IMAGE_HW)
    one_kernel = (4 * 6) * 16 * (8 // 4) * 9
    without = Call(lambda net, x: net.m.attention(net.widen(x)), widen=nn.Conv2d(3, 8, 1), m=conv)
    assert c.torchstat - count_by_conventions(without, IMAGE_HW).torchstat == one_kernel


def test_weights_are_counted_apart():
    c = count_by_conventions(nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)).half(), IMAGE_HW)
    assert c.weight_bytes == 4 * (18 + 6 + 6 + 6 + 6 + 6) + 8, "BatchNorm has weight, bias, two statistics, a counter"


# Whole networks: what the reference code was counted at, and what papers print.

slow = pytest.mark.slow


@pytest.mark.parametrize("name, image_hw, gibi", [
    ("simplebaseline-r50", SMALL, 8.991), ("simplebaseline-r50", LARGE, 20.23), ("simplebaseline-r50", MPII, 11.99),
    pytest.param("hrnet-w32", SMALL, 7.120, marks=slow), pytest.param("hrnet-w32", LARGE, 16.020, marks=slow),
    pytest.param("hrnet-w32", MPII, 9.493, marks=slow), pytest.param("tokenpose-b", SMALL, 5.655, marks=slow),
    pytest.param("tokenpose-l-d6", SMALL, 9.064, marks=slow),
])  # fmt: skip
def test_counted_by_hrnets_tool(name, image_hw, gibi):
    """SimpleBaseline's "8.9 GFLOPs" are 5.43 G."""
    c = count_named(name, image_hw, 17)
    digits = len(str(gibi).partition(".")[2])
    assert round(c.hrnet_tool / GIBI, digits) == pytest.approx(gibi)
    assert (c.true_macs < 0.61 * c.hrnet_tool) == (name == "simplebaseline-r50")


PUBLISHED = {  # in Mi: COCO 256 × 192 and 384 × 288, MPII 256 × 256
    "lite-hrnet-18": (205.2, 461.6, 273.4),
    "lite-hrnet-30": (319.2, 717.8, 425.3),
    "dite-hrnet-18": (209.8, 471.8, 279.5),
    "dite-hrnet-30": (329.8, 741.7, 439.5),
}


@slow
@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("case", [0, 1, 2])
def test_published_by_torchstat(name, case):
    """To the last digit printed, rounded or truncated."""
    num_keypoints, image_hw = [(17, SMALL), (17, LARGE), (16, MPII)][case]
    ours, mebi = count_named(name, image_hw, num_keypoints).torchstat / MEBI, PUBLISHED[name][case]
    assert round(ours, 1) == mebi or int(10 * ours) / 10 == mebi


@pytest.mark.parametrize("name, published", [
    pytest.param("mobilenetv2", (1.478, 3.326, 1.970), marks=slow), ("shufflenetv2", (1.277, 2.874, 1.702)),
    pytest.param("small-hrnet", (0.540, 1.215, 0.720), marks=slow),
])  # fmt: skip
def test_published_by_torchstat_in_gibi(name, published):
    for (num_keypoints, image_hw), gibi in zip([(17, SMALL), (17, LARGE), (16, MPII)], published, strict=True):
        assert round(count_named(name, image_hw, num_keypoints).torchstat / GIBI, 3) == gibi


@slow
def test_darks_row_is_hrnet_w48s():
    """Table 2's 63.6 M and 32.9 G belong to no network of DARK's own."""
    with torch.device("meta"):
        net = HRNet(17, widths=(48, 96, 192, 384), modules=(1, 4, 3))
    c = count_by_conventions(net, LARGE)
    assert matches("63.6 M", c.params / 1e6) and matches("32.9 G", c.hrnet_tool / GIBI)


def test_torchvisions_resnet50():
    """4.089 GMAC by torchvision's own table (``_ops``). HRNet's tool sees all: there is no deconvolution."""
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        c = count_by_conventions(models.resnet50(weights=None), (224, 224))
    assert c.true_macs == c.hrnet_tool
    assert c.true_macs / 1e9 == pytest.approx(models.ResNet50_Weights.DEFAULT.meta["_ops"], abs=0.5e-3)
    assert c.params == models.ResNet50_Weights.DEFAULT.meta["num_params"]


def test_lgm_poses_deconvolutions_count_four_times_too():
    """They do not overlap, 2 × 2 with stride 2, but HRNet's tool counts them at output resolution all the same."""
    net = lgmpose.create_model("lgm-pose-coco-256x192")
    c = count_by_conventions(net)
    assert (c.network, c.image_hw, c.params) == ("LGMPose", SMALL, 1_054_929)
    macs = count_macs(net, SMALL)
    deconvs = sum(macs[n].total() for n, m in net.named_modules() if isinstance(m, nn.ConvTranspose2d))
    linear = [n for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    assert len(linear) == 8 and c.true_macs == macs[""].total()
    without_linear = c.true_macs - sum(macs[n].total() for n in linear) + 3 * deconvs
    assert 0 < c.hrnet_tool - without_linear < 0.2 * c.hrnet_tool


def test_units():
    c = Conventions("SimpleBaseline", SMALL, 33_999_697, 5_426_380_800, 9_654_239_232, 551_550_976, 39_972_864,
                    10_813_440, 136_217_860)  # fmt: skip
    assert c.as_text().startswith("SimpleBaseline, input 256 × 192, 33,999,697 parameters\n")
    figures = {"true MACs": "5.426 G ", "HRNet tool": "8.991 Gi ", "torchstat": "526.0 Mi ", "activations": "40.0 M ",
               "peak memory": "10.8 MB ", "weights": "136.2 MB "}  # fmt: skip
    for name, figure in figures.items():
        (line,) = [line for line in c.as_table().splitlines() if line.startswith(name)]
        assert figure in line
    more = replace(c, true_macs=999_999_999, torchstat=GIBI)
    assert "1000.0 M" in more.as_table() and "1.000 Gi" in more.as_table()
    assert in_unit_of("hrnet_tool", c, digits=2) == "8.99 Gi"
    giga = {name: in_giga(name, c) for name in ("true_macs", "hrnet_tool", "torchstat", "torchstat_mebi")}
    expected = {"true_macs": 5.42638, "hrnet_tool": 8.99121, "torchstat": 0.51367, "torchstat_mebi": 0.526}
    assert giga == pytest.approx(expected, abs=1e-5)


def test_bad_input():
    with pytest.raises(ValueError, match="image_hw"):
        count_by_conventions(nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="64 × 64"):
        count_by_conventions(lgmpose.create_model("lgm-pose-coco-256x192"), (64, 64))
