"""What ``lgmpose.profile`` tells of a network; speed is tested with a network that sleeps."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

import lgmpose
from lgmpose.lab.conventions import count_by_conventions
from lgmpose.lab.macs import SecondOpinion
from lgmpose.lab.paper import published
from lgmpose.lab.profiling import Profile, measure_fps, profile

IMAGE_HW = (8, 12)


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
        def __init__(self, product=True):
            super().__init__()
            self.product = product
            self.first = nn.Conv2d(3, 4, 1)
            self.second = nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU())
            self.scale = nn.Parameter(torch.ones(7))

        def forward(self, x):
            x = self.second(self.first(x))
            return x @ x.mT if self.product else x

    cost = profile(Net(), IMAGE_HW)
    assert [(stage.name, stage.params, stage.macs) for stage in cost.per_stage] == [
        ("first", 16, 8 * 12 * 12),
        ("second", 25, 8 * 12 * 20),
        ("rest", 7, 5 * 8 * 8 * 12),
    ]
    assert cost.params == 48
    only_macs, only_params, neither = Net(), Net(product=False), Net(product=False)
    del only_macs.scale, neither.scale
    rests = [profile(net, IMAGE_HW).per_stage[2:] for net in (only_macs, only_params, neither)]
    assert [[(rest.params, rest.macs) for rest in found] for found in rests] == [[(0, 5 * 8 * 8 * 12)], [(7, 0)], []]


def test_the_input_size_must_be_known_and_fit():
    with pytest.raises(ValueError, match="image_hw"):
        profile(nn.Conv2d(3, 4, 1))
    with pytest.raises(ValueError, match="256 × 192"):
        profile(lgmpose.create_model("lgm-pose-coco-256x192"), (128, 128))


def test_text_and_json_hold_every_figure():
    net = lgmpose.create_model("lgm-pose-coco-256x192", image_hw=(64, 96))
    cost, row = profile(net), published("lgm-pose-coco-256x192")
    text = cost.as_text(published=row)
    assert f"{cost.params:,}" in text and f"{cost.macs:,}" in text and cost.as_table() in text
    assert all(stage.name in text and f"{stage.macs:,}" in text for stage in cost.per_stage)
    assert "Table 1, LGM-Pose, 256 × 192): 1.1 M, 0.6 G, 68.6 AP on COCO val2017" in text and "33.1 FPS" in text
    assert "not comparable" in text and "not comparable" not in replace(cost, image_hw=(256, 192)).as_text(
        published=row
    )
    assert cost.fvcore.as_text(cost.macs) in text
    assert "fvcore" in replace(cost, fvcore=None).as_text(), "its absence is said"
    assert replace(cost, fvcore=SecondOpinion(1, {}, ())).as_text() != cost.as_text()

    data = json.loads(json.dumps(cost.as_json(fps={"fps": 3}, published=row)))
    assert (data["params"], data["macs"], data["true_macs"]) == (cost.params, cost.macs, cost.macs)
    assert data["hrnet_tool"] == cost.hrnet_tool and data["fps"] == {"fps": 3}
    assert data["published"]["flops"] == "0.6 G" and data["network"] == cost.network
    assert sum(stage["macs"] for stage in data["per_stage"]) == data["macs"] == data["fvcore"]["macs"]


@pytest.mark.parametrize("name, expected", [
    ("lgm-pose-coco-256x192", "657 MMAC, as the paper counts it"),
    ("simplebaseline-r50", "5.43 GMAC; 8.99 Gi as the paper counts it (the HRNet repository's summary tool)"),
    ("small-hrnet", "571 MMAC; 553.1 Mi as the paper counts it (Lite-HRNet's torchstat)"),
    ("mobilevit-xxs", "1.33 GMAC"),
])  # fmt: skip
def test_the_headline_says_it_as_the_paper_counts_it(name, expected):
    pytest.importorskip("torchvision")
    with torch.device("meta"):
        net = lgmpose.create_model(name)
    cost = Profile(**vars(count_by_conventions(net)), per_stage=(), fvcore=None)
    assert cost.headline(published(name)) == expected
    assert cost.headline() == replace(cost, image_hw=(64, 64)).headline(published(name)) == expected.split("C")[0] + "C"


class Sleeper(nn.Module):
    """Takes at least the given times, in turn."""

    def __init__(self, *times_ms):
        super().__init__()
        self.times_ms, self.calls, self.seen = times_ms, 0, set()

    def forward(self, x):
        self.seen.add((torch.is_inference_mode_enabled(), torch.get_num_threads(), x.shape, x.dtype))
        time.sleep(self.times_ms[self.calls % len(self.times_ms)] / 1e3)
        self.calls += 1
        return x


def test_speed_is_measured_as_stated(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.25, 0, 0), raising=False)
    net = Sleeper(2)
    threads = torch.get_num_threads()
    speed = measure_fps(net, (32, 64), threads=threads + 1)
    assert net.seen == {(True, threads + 1, (1, 3, 32, 64), torch.float32)}
    assert net.calls == 10 + 100 and speed["n"] == 100 and torch.get_num_threads() == threads
    assert 2 <= speed["median_ms"] <= speed["p95_ms"], "a sleep is never shorter than asked for"
    assert speed["fps"] == pytest.approx(1000 / speed["median_ms"], rel=1e-3)
    assert speed["threads"] == threads + 1 and speed["load"] == 0.25 and speed["cpu"] and speed["dtype"] == "float32"
    assert speed["torch"] == torch.__version__
    assert len(speed["noise"]) == (speed["iqr_ms"] > 0.1 * speed["median_ms"])


def test_noise_is_flagged(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (1e6, 0, 0), raising=False)
    speed = measure_fps(Sleeper(1, 6), (32, 64))
    assert speed["iqr_ms"] >= 2 and len(speed["noise"]) == 2
    text = profile(nn.Conv2d(3, 4, 1), IMAGE_HW).as_text(fps=speed)
    assert all(reason in text for reason in speed["noise"]) and f"{speed['fps']:.1f} FPS" in text and "100 runs" in text
