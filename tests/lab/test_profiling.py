"""Counts against closed forms and torchvision's published figures; the clock against a network that sleeps."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from peer_tools import Call
from torch import nn

import lgmpose
import lgmpose.lab.macs
from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.lab import cost_tables
from lgmpose.lab.conventions import count_by_conventions
from lgmpose.lab.cost_tables import catalogue_costs
from lgmpose.lab.macs import count_macs
from lgmpose.lab.paper import NOT_REPRODUCIBLE, ROWS, published
from lgmpose.lab.profiling import Profile, measure_fps, profile
from lgmpose.machine import cpu_name
from lgmpose.network.config import FUSIONS, GLOBAL_BLOCKS
from lgmpose.peers import PEERS

IMAGE_HW = (8, 12)
COUNTERS = ("fvcore", "FlopCounterMode")


def tokens(x):
    """(1, 3, 8, 12) → (1, 8, 36): eight tokens, 36 wide."""
    return x.transpose(1, 2).flatten(2)


# L = 8 tokens of width E = 36; attention's two products cost 2 L² E, its four projections 4 L E²
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
    "fused attention": (
        lambda: Call(lambda _, x: F.scaled_dot_product_attention(tokens(x), tokens(x), tokens(x))),
        2 * 8 * 8 * 36,
    ),
    "nn.MultiheadAttention, fused": (
        lambda: Call(
            lambda net, x: net.mha(*[tokens(x)] * 3, need_weights=False)[0],
            mha=nn.MultiheadAttention(36, 4, batch_first=True),
        ),
        4 * 8 * 36**2 + 2 * 8 * 8 * 36,
    ),
    "nn.MultiheadAttention, with weights": (
        lambda: Call(lambda net, x: net.mha(*[tokens(x)] * 3)[0], mha=nn.MultiheadAttention(36, 4, batch_first=True)),
        4 * 8 * 36**2 + 2 * 8 * 8 * 36,
    ),
    "nn.TransformerEncoderLayer": (
        lambda: Call(lambda net, x: net.t(tokens(x)), t=nn.TransformerEncoderLayer(36, 4, 50, batch_first=True)),
        4 * 8 * 36**2 + 2 * 8 * 8 * 36 + 2 * 8 * 36 * 50,
    ),
    "norms, activations, pooling and resampling are free": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(3), nn.ReLU6(), nn.SiLU(), nn.LayerNorm(12), nn.GELU(), nn.MaxPool2d(2),
            nn.Upsample(scale_factor=2), nn.Softmax(-1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Sigmoid(),
        ),
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_counts_equal_closed_forms(name, counter):
    make, macs = CLOSED_FORMS[name]
    assert count_macs(make(), IMAGE_HW, counter=counter)[""].total() == macs


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x1_0", "swin_t"])
def test_counts_equal_what_torchvision_publishes(name):
    models = pytest.importorskip("torchvision").models
    weights = models.get_model_weights(name).DEFAULT
    with torch.device("meta"):  # no memory, no weights, and it counts all the same
        net = models.get_model(name, weights=None)
    cost = profile(net, (224, 224))
    assert cost.params == weights.meta["num_params"]
    assert cost.macs == cost.macs_flop_counter
    assert round(cost.macs / 1e9, 3) == weights.meta["_ops"]


@pytest.mark.parametrize(
    "net, name",
    [
        (Call(lambda _, x: torch.cdist(x, x)), "aten::cdist"),
        (Call(lambda _, x: torch.fft.fft(x).real), "aten::fft_fft"),
        (Call(lambda net, x: net.lstm(tokens(x))[0], lstm=nn.LSTM(36, 5, batch_first=True)), "aten::lstm"),
    ],
)
def test_an_operator_of_unknown_cost_is_refused_by_name(net, name):
    with pytest.raises(NotImplementedError, match=name):
        profile(net, IMAGE_HW)
    assert torch.backends.mha.get_fastpath_enabled(), "left switched off after an error"


def test_counting_leaves_no_trace():
    net = lgmpose.create_model("lgm-pose-coco-256x192", image_hw=(64, 96))
    net.stages[0].eval()  # modes are mixed, as with a frozen stage
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    filters = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # fvcore's deprecations are not the user's business
        cost = profile(net)
    assert cost.image_hw == (64, 96)
    assert warnings.filters == filters
    assert torch.backends.mha.get_fastpath_enabled()
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_half_precision_networks_are_counted():
    net = lgmpose.create_model("lgm-pose-coco-256x192")
    assert profile(net.half()).macs == 657_447_936
    assert net.head.weight.dtype == torch.float16


def test_stages_are_the_networks_and_add_up():
    cost = lgmpose.profile(lgmpose.create_model("lgm-pose-coco-256x192"))
    assert [stage.name for stage in cost.per_stage] == [
        "stem", *(f"stage {i}" for i in range(1, 6)), *(f"decoder {i}" for i in range(1, 4)), "head",
    ]  # fmt: skip
    assert sum(stage.params for stage in cost.per_stage) == cost.params == 1_054_929
    assert sum(stage.macs for stage in cost.per_stage) == cost.macs == 657_447_936
    stages = {stage.name: stage for stage in cost.per_stage}
    assert (stages["stem"].params, stages["stem"].macs) == (3 * 16 * 9 + 2 * 16, 128 * 96 * 3 * 16 * 9)
    assert (stages["head"].params, stages["head"].macs) == (100 * 17 + 17, 64 * 48 * 100 * 17)
    deconv, grouped, pointwise = 8 * 6 * 144 * 208 * 4, 16 * 12 * 304 * 2 * 9, 16 * 12 * 304 * 304
    assert stages["decoder 1"].macs == deconv + grouped + pointwise


def test_other_networks_go_by_their_children_and_the_rest():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)
            self.second = nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU())
            self.scale = nn.Parameter(torch.ones(7))

        def forward(self, x):
            x = self.second(self.first(x))
            return x @ x.mT

    cost = profile(Net(), IMAGE_HW)
    assert [(stage.name, stage.params, stage.macs) for stage in cost.per_stage] == [
        ("first", 16, 8 * 12 * 12),
        ("second", 25, 8 * 12 * 20),
        ("rest", 7, 5 * 8 * 8 * 12),
    ]
    assert cost.params == 48


def test_the_input_size_must_be_known_and_fit():
    with pytest.raises(ValueError, match="image_hw"):
        profile(nn.Conv2d(3, 4, 1))
    with pytest.raises(ValueError, match="image_hw"):
        measure_fps(nn.Conv2d(3, 4, 1))
    small = lgmpose.create_model("lgm-pose-coco-256x192", image_hw=(64, 96))
    assert measure_fps(small, seconds=0)["image_hw"] == (64, 96)
    with pytest.raises(ValueError, match="256 × 192"):
        profile(lgmpose.create_model("lgm-pose-coco-256x192"), (128, 128))


@pytest.fixture
def without_fvcore(monkeypatch):
    find_spec = lgmpose.lab.macs.importlib.util.find_spec
    monkeypatch.setattr(
        lgmpose.lab.macs.importlib.util, "find_spec", lambda name, *a: None if name == "fvcore" else find_spec(name, *a)
    )


def test_without_fvcore_the_other_counter_does_it_and_says_so(without_fvcore):
    cost = profile(lgmpose.create_model("lgm-pose-mpii-256x256", global_block="mobilevit"))
    assert cost.counter == "FlopCounterMode"
    assert cost.macs == cost.macs_flop_counter == 1_459_720_192
    assert sum(stage.macs for stage in cost.per_stage) == cost.macs, "per stage, too"
    assert "fvcore, the second opinion, is not installed" in cost.as_text()


def test_text_holds_every_figure_and_its_meaning():
    cost = profile(lgmpose.create_model("lgm-pose-coco-256x192"))
    text = cost.as_text(published=published("lgm-pose-coco-256x192"))
    assert "1,054,929" in text and text.count("657,447,936") == 2, "in all, and once more as both counters' agreement"
    assert "multiply–accumulates of convolutions" in text
    assert "Table 1, LGM-Pose, 256 × 192): 1.1 M, 0.6 G, 68.6 AP on COCO val2017" in text
    assert "not comparable" not in text
    assert all(stage.name in text and f"{stage.macs:,}" in text for stage in cost.per_stage)

    small = profile(lgmpose.create_model("lgm-pose-coco-256x192", image_hw=(64, 96)))
    text = small.as_text(published=published("lgm-pose-coco-256x192"))
    assert "for another input size than 64 × 96: not comparable" in text


def test_counters_that_disagree_are_both_shown():
    cost = replace(profile(nn.Conv2d(3, 4, 1), IMAGE_HW), macs_flop_counter=1)
    assert "fvcore counts 1,152 MACs, FlopCounterMode / 2 1" in cost.as_text()


def test_headline_says_it_as_the_paper_counts_it():
    pytest.importorskip("torchvision")
    with torch.device("meta"):
        net = lgmpose.create_model("simplebaseline-r50")
    cost = profile(net)
    row = published("simplebaseline-r50")
    expected = "5.43 GMAC; 8.99 Gi as the paper counts it (the HRNet repository's summary tool)"
    assert cost.headline(row) == expected
    lines = cost.as_text(published=row).splitlines()
    assert lines[:2] == ["simplebaseline-r50 (17 keypoints), input 256 × 192", expected]
    assert [line.split()[0] for line in lines[3:6]] == ["parameters", "backbone", "head"]
    assert "Table 1, SimpleBaseline, 256 × 192): 34.0 M, 8.9 G, 70.4 AP" in lines[-3]
    words = [line.split()[:-1] for line in lines]
    for count in ("HRNet tool 8.991 Gi", "torchstat 5.084 Gi", "activations 39.9 M", "peak memory 10.8 MB"):
        assert any(" ".join(line).startswith(count) for line in words), count
    assert cost.headline() == cost.headline(published("simplebaseline-r50", image_hw=(256, 256))) == "5.43 GMAC"

    data = json.loads(json.dumps(cost.as_json(published=row)))
    assert (data["params"], data["true_macs"], data["hrnet_tool"]) == (33_999_697, 5_426_380_800, 9_654_239_232)
    assert data["published"]["flops"] == "8.9 G" and data["fps"] is None
    assert sum(stage["macs"] for stage in data["per_stage"]) == data["macs"] == data["true_macs"]


def test_headlines_of_other_conventions():
    for name, expected in (
        ("lgm-pose-coco-256x192", "657 MMAC, as the paper counts it"),
        ("lite-hrnet-18", "242 MMAC; 205.2 Mi as the paper counts it (Lite-HRNet's torchstat)"),
        ("mobilevit-xxs", "1.33 GMAC"),
    ):
        with torch.device("meta"):
            net = lgmpose.create_model(name)
        counts = count_by_conventions(net)
        cost = Profile(name, (256, 192), 0, counts.true_macs, counts.true_macs, "fvcore", (), counts)
        assert cost.headline(published(name)).startswith(expected), name


# Many networks


def test_every_network_of_the_catalogue_in_one_table(capsys, tmp_path):
    pytest.importorskip("torchvision")
    path = tmp_path / "costs.json"
    assert main(["profile", "--all", "--json", str(path)]) == 0
    out, rows = capsys.readouterr().out, json.loads(path.read_text())
    own = [row for row in rows if row["name"].startswith("lgm-pose")]
    names = ["lgm-pose-coco-256x192", "lgm-pose-fast-coco-256x192"]
    assert [row["name"] for row in own] == names, "its other variants differ by size alone"
    assert [row["name"] for row in rows[2:]] == [*PEERS, *NOT_REPRODUCIBLE]
    for row in rows:
        (line,) = [line for line in out.splitlines() if line.startswith(row["name"] + " ")]
        if row["name"] in NOT_REPRODUCIBLE:
            assert row["why"] == NOT_REPRODUCIBLE[row["name"]] and row["why"] in out and "params" not in row
        else:
            assert f"{row['params']:,}" in line
        if row["published"]:
            assert row["published"]["flops"] in line
            given = row["name"] not in ("hourglass-8", "cpn-r50", *NOT_REPRODUCIBLE)
            assert bool(row["flops_match"]) == given
    assert "5.426 G    8.991 Gi   5.084 Gi" in out


def test_other_sizes_and_those_that_not_all_take(monkeypatch):
    monkeypatch.setattr(cost_tables, "list_models", lambda: ["small-hrnet", "hourglass-8"])
    rows = {row.name: row for row in catalogue_costs((32, 64), 5)}
    assert rows["hourglass-8"].counts is None and "64 at least" in rows["hourglass-8"].why
    assert rows["small-hrnet"].counts.image_hw == (32, 64) and rows["small-hrnet"].paper is None
    with pytest.raises(UserError, match="100 × 100.*multiples of 32"):
        catalogue_costs((100, 100))
    with pytest.raises(UserError, match="num_keypoints 0"):
        catalogue_costs(num_keypoints=0)


def test_tables_of_the_paper_have_their_own_sizes(capsys):
    assert main(["profile", "--table", "4"]) == 0
    out = capsys.readouterr().out
    assert "2,537,536" in out and "2.5 M, 1.4 G" in out and out.count("true MACs\n") == 2
    assert main(["profile", "--table", "1", "--image-hw", "64", "64"]) == 2
    assert "leave out" in capsys.readouterr().err


def test_json_of_one_network(tmp_path, capsys):
    path = tmp_path / "a" / "cost.json"
    assert main(["profile", "--image-hw", "64", "96", "--no-fps", "--json", str(path)]) == 0
    data = json.loads(path.read_text())
    assert data["image_hw"] == [64, 96] and data["published"] is None and data["peak_bytes"] > 4 * 3 * 64 * 96
    (tmp_path / "file").write_text("")
    assert main(["profile", "--no-fps", "--json", str(tmp_path / "file" / "x.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err


# Speed


class Sleeper(nn.Module):
    """Takes at least the given times, in turn."""

    def __init__(self, *times_ms):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.times_ms, self.calls, self.seen = times_ms, 0, set()

    def forward(self, x):
        self.seen.add((self.training, torch.is_inference_mode_enabled(), torch.get_num_threads(), x.shape, x.dtype))
        time.sleep(self.times_ms[self.calls % len(self.times_ms)] / 1e3)
        self.calls += 1
        return x + self.bias


def test_speed_is_measured_as_stated(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.25, 0, 0), raising=False)
    net = Sleeper(2)
    threads = torch.get_num_threads()
    speed = measure_fps(net, (32, 64), threads=2, min_runs=20)
    assert net.seen == {(False, True, 2, (1, 3, 32, 64), torch.float32)}
    assert net.calls == 10 + 20 and speed["runs"] == 20
    assert net.training and torch.get_num_threads() == threads, "restored"
    assert 2 <= speed["median_ms"] <= speed["p95_ms"], "a sleep is never shorter than asked for"
    assert speed["fps"] == 1000 / speed["median_ms"]
    assert speed["threads"] == 2 and speed["load"] == 0.25 and speed["cpu"] and speed["dtype"] == "float32"
    assert speed["torch"] == torch.__version__
    assert speed["noisy"] == (speed["iqr_ms"] > 0.1 * speed["median_ms"])


def test_noise_is_flagged(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (1e6, 0, 0), raising=False)
    net = Sleeper(1, 6)
    speed = measure_fps(net, (32, 64), min_runs=12, warmup=0)
    assert speed["iqr_ms"] >= 2 and speed["noisy"]
    assert [reason.split()[0] for reason in speed["noise"]] == ["the", "load"]
    text = profile(nn.Conv2d(3, 4, 1), IMAGE_HW).as_text(fps=speed)
    assert "noisy, do not quote" in text and f"{speed['fps']:.1f} FPS" in text and "12 runs" in text


def test_measuring_stops_in_time_and_cleans_up_after_an_error():
    net = Sleeper(5)
    assert measure_fps(net, (32, 64), warmup=1, min_runs=1000, seconds=0.03)["runs"] <= 7
    assert measure_fps(net, (32, 64), warmup=1, min_runs=1000, seconds=0)["runs"] == 3

    threads = torch.get_num_threads()
    net = lgmpose.create_model("lgm-pose-coco-256x192", image_hw=(64, 96))
    with pytest.raises(ValueError, match="64 × 96"):
        measure_fps(net, (96, 64), threads=threads + 1)
    assert net.training and torch.get_num_threads() == threads


# The paper's figures


def test_published_rows_are_found_by_network():
    assert published("lgm-pose-coco-384x288").ap == 71.0, "Table 1's, before Table 2's"
    assert published("lgm-pose-mpii-256x256").table == 3
    assert published("lgm-pose-mpii-256x256", fusion="conv3x3").pckh == 88.6
    assert published("lgm-pose-mpii-256x256", global_block="mobilevit").flops == "1.4 G"
    assert published("lgm-pose-mpii-256x256", "dw1", "mobilevit") is None, "the paper tried no such pair"
    assert published("lgm-pose-coco-256x192", "none") is None
    assert published("resnet50") is None
    for row in ROWS:
        assert row.model in lgmpose.list_models()
        assert row.fusion in FUSIONS and row.global_block in GLOBAL_BLOCKS
        assert row.accuracy.split()[0] in {str(row.ap), str(row.pckh)}


def test_a_mac_says_which_processor_it_has(monkeypatch):
    """``platform.processor()`` says "arm" for all of Apple's."""
    monkeypatch.setattr(sys, "platform", "darwin")
    asked = []
    answer = SimpleNamespace(stdout="Apple M2\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: asked.append(command) or answer)
    assert cpu_name() == "Apple M2" and asked == [["sysctl", "-n", "machdep.cpu.brand_string"]]

    def missing(*_, **__):
        raise FileNotFoundError("sysctl")

    monkeypatch.setattr(subprocess, "run", missing)
    assert cpu_name() == (platform.processor() or platform.machine())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' allocators are left alone")
def test_freed_memory_is_kept_once_the_allocator_is_told_to():
    """By default each large tensor is made of fresh pages, each of which costs a fault."""
    code = """
import resource, sys, torch
from lgmpose.machine import tune_allocator
if sys.argv[1] == "tuned" and not tune_allocator():
    sys.exit("another C library")
for _ in range(20):  # until the heap is as large as it gets
    torch.ones(16 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {}
    for how in ("plain", "tuned"):
        done = subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True)
        if "another C library" in done.stderr:
            pytest.skip(done.stderr)
        faults[how] = int(done.stdout)
    assert faults["tuned"] < faults["plain"] / 5, faults
