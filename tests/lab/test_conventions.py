"""The three conventions against closed forms for one module each, and against what papers print for whole networks."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from peer_tools import Call
from torch import nn

import lgmpose
from lgmpose.lab.conventions import Conventions, count_by_conventions
from lgmpose.lab.cost_tables import as_text, count, matches, paper_costs
from lgmpose.lab.macs import count_macs
from lgmpose.lab.paper import TABLES
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


# Memory, by hand. All numbers are 4 bytes; the picture, (1, 3, 8, 12), has 288 of them.

PICTURE, MAP = 4 * 288, 4 * 96  # a map is one channel at full size


def residual(net, x):
    return x + net.b(net.a(x))


MEMORY = {
    # While the second runs: picture (the caller keeps it), its input, its output.
    "two convolutions": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1)), PICTURE + (6 + 5) * MAP),
    # The first's output is gone when the third runs: 6 + 5 is the worst, not 5 + 2.
    "three convolutions": (
        nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 2, 1)), PICTURE + (6 + 5) * MAP,
    ),
    "the widest is in the middle": (
        nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 9, 1), nn.Conv2d(9, 8, 1), nn.Conv2d(8, 1, 1)),
        PICTURE + (9 + 8) * MAP,
    ),
    "stride": (nn.Sequential(nn.Conv2d(3, 8, 1, 2), nn.Conv2d(8, 6, 1)), PICTURE + (8 + 6) * MAP // 4),
    "ReLU": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU()), PICTURE + 12 * MAP),
    "ReLU in place": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(inplace=True)), PICTURE + 6 * MAP),
    "BatchNorm": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)), PICTURE + 12 * MAP),
    "max pooling, with its 8-byte indices": (nn.MaxPool2d(2), PICTURE + 3 * 24 * (4 + 8)),
    "views": (Call(lambda net, x: x.flatten(2).transpose(1, 2)[:, 3:]), PICTURE),
    # The picture is the skip. Inside: 7 channels and 3; then 3 and the sum.
    "a residual block": (Call(residual, a=nn.Conv2d(3, 7, 1), b=nn.Conv2d(7, 3, 1)), PICTURE + (7 + 3) * MAP),
    # Here the skip is a tensor that only the block still needs: 4 + 4 + 4, against 3 + 3 + 3 without it.
    "a residual block inside": (
        nn.Sequential(nn.Conv2d(3, 4, 1), Call(residual, a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 4, 1))),
        PICTURE + (4 + 4 + 4) * MAP,
    ),
    "two branches": (
        Call(lambda net, x: torch.cat([net.a(x), net.b(x)], 1), a=nn.Conv2d(3, 2, 1), b=nn.Conv2d(3, 5, 1)),
        PICTURE + (2 + 5 + 7) * MAP,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MEMORY)
def test_peak_memory_by_hand(case):
    net, expected = MEMORY[case]
    assert count_by_conventions(net, IMAGE_HW).peak_bytes == expected


@pytest.mark.parametrize("case", ["three convolutions", "a residual block inside", "two branches"])
def test_peak_memory_is_what_the_cpus_allocator_sees(case):
    """PyTorch's own record of every allocation and release; the picture, made before it starts, comes on top."""
    net, expected = MEMORY[case]
    image = torch.rand(1, 3, *IMAGE_HW)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.no_grad(), torch.profiler.profile(activities=activities, profile_memory=True) as prof:
        net(image)
    events = [e for e in prof.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    assert peak + PICTURE == expected


def test_weights_are_counted_apart():
    c = count_by_conventions(nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)).half(), IMAGE_HW)
    assert c.weight_bytes == 4 * (18 + 6 + 6 + 6 + 6 + 6) + 8, "BatchNorm has weight, bias, two statistics, a counter"


# Whole networks: what the reference code was counted at, what papers print, and the paper's tables.


@pytest.mark.parametrize("name, image_hw, gibi", [
    ("simplebaseline-r50", SMALL, 8.991), ("simplebaseline-r50", LARGE, 20.23), ("simplebaseline-r50", MPII, 11.99),
    ("hrnet-w32", SMALL, 7.120), ("hrnet-w32", LARGE, 16.020), ("hrnet-w32", MPII, 9.493),
    ("tokenpose-b", SMALL, 5.655), ("tokenpose-l-d6", SMALL, 9.064),
])  # fmt: skip
def test_counted_by_hrnets_tool(name, image_hw, gibi):
    """SimpleBaseline's "8.9 GFLOPs" are 5.43 G."""
    c = count(name, image_hw, 17)
    digits = len(str(gibi).partition(".")[2])
    assert round(c.hrnet_tool / GIBI, digits) == pytest.approx(gibi)
    assert (c.true_macs < 0.61 * c.hrnet_tool) == (name == "simplebaseline-r50")


@pytest.mark.parametrize("name, published", [  # in Mi: COCO 256 × 192 and 384 × 288, MPII 256 × 256
    ("lite-hrnet-18", (205.2, 461.6, 273.4)),
    ("lite-hrnet-30", (319.2, 717.8, 425.3)),
    ("dite-hrnet-18", (209.8, 471.8, 279.5)),
    ("dite-hrnet-30", (329.8, 741.7, 439.5)),
])  # fmt: skip
def test_published_by_torchstat(name, published):
    """To the last digit printed, rounded or truncated."""
    for (num_keypoints, image_hw), mebi in zip([(17, SMALL), (17, LARGE), (16, MPII)], published, strict=True):
        ours = count(name, image_hw, num_keypoints).torchstat / MEBI
        assert round(ours, 1) == mebi or int(10 * ours) / 10 == mebi


@pytest.mark.parametrize("name, published", [
    ("mobilenetv2", (1.478, 3.326, 1.970)), ("shufflenetv2", (1.277, 2.874, 1.702)),
    ("small-hrnet", (0.540, 1.215, 0.720)),
])  # fmt: skip
def test_published_by_torchstat_in_gibi(name, published):
    for (num_keypoints, image_hw), gibi in zip([(17, SMALL), (17, LARGE), (16, MPII)], published, strict=True):
        assert round(count(name, image_hw, num_keypoints).torchstat / GIBI, 3) == gibi


NO_NETWORK = {(1, "MSFNet"), (1, "EDite-HRNet-s"), (1, "LMFormer-L"), (3, "EDite-HRNet-s"), (3, "LMFormer-L"),
              (2, "CPN"), (2, "UDP"), (2, "DARK")}  # fmt: skip
OTHER_FLOPS = {(1, "Hourglass"), (1, "CPN")}
OTHER_PARAMS = {(1, "Hourglass"), (1, "CPN"), (2, "MobileNetV2 1")}


@pytest.mark.parametrize("table", [1, 2, 3, 4, 5])
def test_every_row_of_the_papers_tables_is_given_by_its_convention_or_says_why_not(table):
    rows = paper_costs(table)
    assert [row.paper for row in rows] == list(TABLES[table])
    for row in rows:
        key = (table, row.name)
        assert (row.counts is None) == (key in NO_NETWORK)
        if key not in NO_NETWORK:
            assert row.flops_match == (key not in OTHER_FLOPS), row.name
            assert row.params_match == (key not in OTHER_PARAMS), row.name
        assert bool(row.why) == (key in NO_NETWORK | OTHER_FLOPS | OTHER_PARAMS), row.name
    text = as_text(rows, title="title")
    for row in rows:
        assert not row.why or text.count(f"] {row.why}") == 1, "once, below the table"
        assert row.counts is None or f"{row.counts.params:,}" in text


def test_darks_row_is_hrnet_w48s():
    """Table 2's 63.6 M and 32.9 G belong to no network of DARK's own."""
    with torch.device("meta"):
        net = HRNet(17, widths=(48, 96, 192, 384))
    c = count_by_conventions(net, LARGE)
    assert matches("63.6 M", c.params / 1e6) and matches("32.9 G", c.hrnet_tool / GIBI)


@pytest.mark.parametrize("printed, value, expected", [
    ("8.9 G", 8.991, True), ("8.9 G", 8.86, True), ("8.9 G", 8.84, False), ("8.9 G", 9.0, False),
    ("16.0 G", 16.02, True), ("0.27 G", 0.2795, True), ("0.27 G", 0.28, False), ("1.1 M", 1.2, False),
])  # fmt: skip
def test_a_printed_figure_is_rounded_or_cut(printed, value, expected):
    assert matches(printed, value) == expected


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
    counts = Conventions(
        "SimpleBaseline", SMALL, 33_999_697, 5_426_380_800, 9_654_239_232, 551_550_976, 39_972_864, 10_813_440,
        136_217_860, (),
    )  # fmt: skip
    assert counts.as_text().splitlines() == [
        "SimpleBaseline, input 256 × 192, 33,999,697 parameters",
        "",
        "true MACs       5.426 G  multiply–accumulates, ÷ 10⁹ or 10⁶",
        "HRNet tool     8.991 Gi  ÷ 2³⁰; deconvolutions at output resolution: ×4",
        "torchstat      526.0 Mi  ÷ 2³⁰ or 2²⁰; with BatchNorm, ReLU, pooling; each module once",
        "activations      40.0 M  numbers written to memory",
        "peak memory     10.8 MB  tensors alive at once for one picture, weights apart",
        "weights        136.2 MB  parameters and BatchNorm's statistics, 32-bit",
    ]


def test_bad_input():
    with pytest.raises(ValueError, match="does not say its input size"):
        count_by_conventions(nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="64 × 64"):
        count_by_conventions(lgmpose.create_model("lgm-pose-coco-256x192"), (64, 64))
