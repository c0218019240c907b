"""Counts against closed forms, torchvision's published figures and fvcore."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from peer_tools import Call
from torch import nn

import lgmpose
from lgmpose.lab.macs import SecondOpinion, ask_fvcore, count_macs, run_on_meta, stand_in

IMAGE_HW = (8, 12)


def tokens(x):
    """(1, 3, 8, 12) → (1, 8, 36): eight tokens, 36 wide."""
    return x.transpose(1, 2).flatten(2)


def attention(_, x):
    return F.scaled_dot_product_attention(tokens(x), tokens(x), tokens(x))


def mha(**options):
    module = nn.MultiheadAttention(36, 4, batch_first=True)
    return Call(lambda net, x: net.mha(*[tokens(x)] * 3, **options)[0], mha=module)


# L = 8 tokens of width E = 36; attention's two products cost 2 L² E, its four projections 4 L E²
PRODUCTS, PROJECTIONS = 2 * 8 * 8 * 36, 4 * 8 * 36**2
CLOSED_FORMS = {
    "conv": (lambda: nn.Conv2d(3, 6, 3, padding=1), 8 * 12 * 6 * 3 * 9),
    "conv with stride": (lambda: nn.Conv2d(3, 6, (3, 5), stride=2, padding=(1, 2)), 4 * 6 * 6 * 3 * 15),
    "grouped conv": (lambda: nn.Conv2d(3, 6, 3, padding=1, groups=3), 8 * 12 * 6 * 9),
    "conv, padding same": (lambda: nn.Conv2d(3, 6, 3, padding="same"), 8 * 12 * 6 * 3 * 9),
    "deconv, at input resolution": (lambda: nn.ConvTranspose2d(3, 6, 4, stride=2, padding=1), 8 * 12 * 6 * 3 * 16),
    "linear on the last axis": (lambda: nn.Linear(12, 5), 3 * 8 * 12 * 5),
    "matmul": (lambda: Call(lambda _, x: x @ x.transpose(-1, -2)), 3 * 8 * 8 * 12),
    "matmul, broadcast": (lambda: Call(lambda _, x: x[0, 0] @ x.transpose(-1, -2)), 3 * 8 * 8 * 12),
    "bmm": (lambda: Call(lambda _, x: torch.bmm(x[0], x[0].transpose(-1, -2))), 3 * 8 * 8 * 12),
    "baddbmm": (lambda: Call(lambda _, x: torch.baddbmm(x[0, :, :, :8], x[0], x[0].mT)), 3 * 8 * 8 * 12),
    "addmm": (lambda: Call(lambda _, x: torch.addmm(x[0, 0, 0, :8], x[0, 0], x[0, 0].mT)), 8 * 8 * 12),
    "einsum": (lambda: Call(lambda _, x: torch.einsum("bchw,bcvw->bchv", x, x)), 3 * 8 * 8 * 12),
    "LSTM": (
        lambda: Call(lambda net, x: net.lstm(tokens(x))[0], lstm=nn.LSTM(36, 5, batch_first=True)),
        8 * 4 * 5 * (36 + 5),
    ),
    "fused attention": (lambda: Call(attention), PRODUCTS),
    "nn.MultiheadAttention, fused": (lambda: mha(need_weights=False), PROJECTIONS + PRODUCTS),
    "nn.MultiheadAttention, with weights": (lambda: mha(), PROJECTIONS + PRODUCTS),
    "nn.TransformerEncoderLayer": (
        lambda: Call(lambda net, x: net.t(tokens(x)), t=nn.TransformerEncoderLayer(36, 4, 50, batch_first=True)),
        PROJECTIONS + PRODUCTS + 2 * 8 * 36 * 50,
    ),
    "norms, activations, pooling and resampling": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(3), nn.ReLU6(), nn.SiLU(), nn.LayerNorm(12), nn.GELU(), nn.MaxPool2d(2),
            nn.Upsample(scale_factor=2), nn.Softmax(-1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Sigmoid(),
        ),
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_counts_equal_closed_forms(name):
    make, macs = CLOSED_FORMS[name]
    assert count_macs(make(), IMAGE_HW)[""].total() == macs


@pytest.mark.parametrize(
    "name", ["conv with stride", "grouped conv", "deconv, at input resolution", "linear on the last axis", "matmul"]
)
def test_fvcore_agrees(name):
    pytest.importorskip("fvcore")
    make, macs = CLOSED_FORMS[name]
    assert ask_fvcore(make(), IMAGE_HW) == SecondOpinion(macs, {}, ())


def test_where_fvcore_differs_it_is_said():
    pytest.importorskip("fvcore")
    norm = ask_fvcore(nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm(12)), IMAGE_HW)
    assert norm.macs == 8 * 12 * 12 and norm.others.keys() == {"layer_norm"} and "layer_norm" in norm.as_text(norm.macs)
    fused = ask_fvcore(Call(attention), IMAGE_HW)
    assert fused.macs == 0 and fused.unknown == ("aten::scaled_dot_product_attention",)
    assert f"{PRODUCTS:,} fewer" in fused.as_text(PRODUCTS) and fused.unknown[0] in fused.as_text(PRODUCTS)
    assert ask_fvcore(mha(need_weights=False), IMAGE_HW).unknown, "PyTorch's fast path is one operator"
    assert "7 more" in SecondOpinion(10, {}, ()).as_text(3)
    assert not {"fewer", "more"} & set(SecondOpinion(10, {}, ()).as_text(10).split())


def test_without_fvcore_there_is_no_second_opinion(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert ask_fvcore(nn.Conv2d(3, 4, 1), IMAGE_HW) is None


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "swin_t"])
def test_counts_equal_what_torchvision_publishes(name):
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        net = models.get_model(name, weights=None)
    macs = count_macs(net, (224, 224))[""].total()
    assert round(macs / 1e9, 3) == models.get_model_weights(name).DEFAULT.meta["_ops"]


def test_operators_that_return_no_tensor_are_passed_over():
    net = Call(lambda _, x: torch.ops.aten._assert_async(x.sum() > 0) or (x if x.is_same_size(x) else -x))
    assert count_macs(net, IMAGE_HW)[""].total() == 0


@pytest.mark.parametrize("function", [
    lambda _, x: torch.cdist(x, x), lambda _, x: torch.fft.fft(x).real, lambda _, x: x @ x[0, 0, 0],
])  # fmt: skip
def test_an_operator_that_multiplies_and_is_not_counted_is_refused(function):
    with pytest.raises(NotImplementedError):
        count_macs(Call(function), IMAGE_HW)


def test_counts_are_given_for_each_module():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU(), nn.Conv2d(5, 1, 1)))
    macs = {name: counts.total() for name, counts in count_macs(net, IMAGE_HW).items()}
    assert macs == {"": 96 * 37, "0": 96 * 12, "1": 96 * 25, "1.0": 96 * 20, "1.1": 0, "1.2": 96 * 5}


def test_counting_leaves_the_network_alone():
    net = lgmpose.create_model("lgm-pose-coco-256x192", image_hw=(64, 96)).half()
    net.stages[0].eval()  # modes are mixed, as with a frozen stage
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    filters = list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        cost = lgmpose.profile(net)
    assert not seen, "users cannot change fvcore's deprecations"
    assert cost.image_hw == (64, 96) and warnings.filters == filters
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert net.head.weight.dtype == torch.float16 and not any(module._forward_hooks for module in net.modules())


# Activations and memory, by hand. All numbers are 4 bytes; the picture, (1, 3, 8, 12), has 288 of them.

PICTURE, MAP = 4 * 288, 4 * 96  # a map is one channel at full size


def residual(net, x):
    return x + net.b(net.a(x))


MEMORY = {
    # While the second runs: picture (the caller keeps it), its input, its output.
    "two convolutions": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1)), PICTURE + (6 + 5) * MAP),
    # The first's output is freed before the third runs, so the largest moment is 6 + 5.
    "three convolutions": (
        nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 2, 1)), PICTURE + (6 + 5) * MAP,
    ),
    "the widest is in the middle": (
        nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 9, 1), nn.Conv2d(9, 8, 1), nn.Conv2d(8, 1, 1)),
        PICTURE + (9 + 8) * MAP,
    ),
    "ReLU": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU()), PICTURE + 12 * MAP),
    "ReLU in place": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(inplace=True)), PICTURE + 6 * MAP),
    "BatchNorm": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)), PICTURE + 12 * MAP),
    "max pooling, with its 8-byte indices": (nn.MaxPool2d(2), PICTURE + 3 * 24 * (4 + 8)),
    "views": (Call(lambda net, x: x.flatten(2).transpose(1, 2)[:, 3:]), PICTURE),
    "a weight as a view": (Call(lambda net, x: net.a.weight.view(7, 3), a=nn.Conv2d(3, 7, 1)), PICTURE),
    # The skip is a tensor that only the block needs: 4 + 4 + 4 channels, against 3 + 3 + 3 without it.
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
    assert run_on_meta(stand_in(net), IMAGE_HW).peak_bytes == expected


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
