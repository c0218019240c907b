"""The benchmark of the training step: it times the step that training takes, and compares settings within rounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lgmpose.cli import main
from lgmpose.lab.bench import training_step
from lgmpose.lab.bench.training_step import LEARNING_RATE, SETTINGS, train_steps, training_page
from lgmpose.training.loop import heatmap_loss
from lgmpose.training.recipe import TrainConfig
from lgmpose.zoo.catalogue import create_model

HW = (64, 96)
STORED = Path(__file__).resolve().parents[2] / "results" / "training_2026-11-25.json"


def batches(count=3):
    g = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randint(0, 256, (2, *HW, 3), dtype=torch.uint8, generator=g),
            "heatmaps": torch.rand(2, 5, HW[0] // 4, HW[1] // 4, generator=g),
            "weights": torch.tensor([[1.0, 1, 0, 1, 1], [0, 1, 1, 1, 1]]),
        }
        for _ in range(count)
    ]


def test_the_default_setting_is_what_training_does():
    """Bit for bit: the same network, layout, loss and optimiser as a run of ``lgmpose train`` has."""
    from lgmpose.data.batches import to_input
    from lgmpose.training.checkpoint import Run

    torch.manual_seed(0)
    config = TrainConfig(optimizer="adamw", learning_rate=LEARNING_RATE, weight_decay=0.01)
    run = Run(config, create_model("lgm-pose-lspet-128x128", image_hw=HW, num_keypoints=5).train(), torch.device("cpu"))
    expected = []
    for batch in batches():
        loss = heatmap_loss(run.net(to_input(batch["image"])), batch["heatmaps"], batch["weights"])
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
        expected.append(loss.item())
    seconds, losses = train_steps(SETTINGS["default"], batches(), HW)
    assert losses == expected and len(set(expected)) == 3
    assert len(seconds) == 3 and min(seconds) > 0


@pytest.mark.parametrize("name", ["plain", "channels_last", "bf16"])
def test_settings_compute_the_same_losses(name):
    reference = train_steps(SETTINGS["default"], batches(), HW)[1]
    losses = train_steps(SETTINGS[name], batches(), HW)[1]
    assert losses == pytest.approx(reference, rel=2e-2 if name == "bf16" else 1e-4)
    assert name != "bf16" or losses != pytest.approx(reference, rel=1e-4)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_reach_what_they_set(name, monkeypatch):
    import lgmpose.network.fast as fast

    asked, optimizer, layout = {}, torch.optim.AdamW, fast.channels_last

    def make_optimizer(*args, **options):
        asked["fused"] = options["fused"]
        return optimizer(*args, **options)

    monkeypatch.setattr(torch.optim, "AdamW", make_optimizer)
    monkeypatch.setattr(fast, "channels_last", lambda net: asked.update(channels_last=True) or layout(net))
    monkeypatch.setattr(torch, "compile", lambda net: asked.update(compiled=True) or net)
    train_steps(SETTINGS[name], batches(1), HW)
    slow = name in ("plain", "allocator")
    assert asked == {
        "fused": name in ("default", "bf16", "compile"), **({} if slow else {"channels_last": True}),
        **({"compiled": True} if name == "compile" else {}),
    }  # fmt: skip
    assert SETTINGS[name].allocator == (name != "plain")


def test_settings_take_turns_in_fresh_processes(monkeypatch, tmp_path, capsys):
    asked = []

    def start(command, **_):
        if "lgmpose.lab.bench.training_step" not in command:
            return SimpleNamespace(returncode=1, stdout="", stderr="")
        name, side, steps, threads = command[-4:]
        asked.append((side, name))
        assert (steps, threads) == ("3", "1")
        rate = (30 if name == "default" else 10) * (1 if len(asked) <= 4 else 0.5)  # the machine becomes slower
        return SimpleNamespace(returncode=0, stdout=f"a warning\n{rate}\n")

    monkeypatch.setattr(subprocess, "run", start)
    file = tmp_path / "t.json"
    options = ["--settings", "default", "--sides", "128", "256", "--rounds", "2", "--steps", "3", "--threads", "1"]
    assert main(["lab", "bench-training", *options, "--json", str(file)]) == 0
    assert asked == 2 * [(side, name) for side in ("128", "256") for name in ("plain", "default")]
    result = json.loads(file.read_text())
    for side in ("128", "256"):
        assert result["rates"][side] == {"plain": [10, 5], "default": [30, 15]}
        assert result["summary"][side]["default"] == {"rate": 22.5, "times_plain": [3, 3, 3]}
    page = file.with_suffix(".md").read_text(encoding="utf-8")
    assert page in capsys.readouterr().out and "3.00 [3.00, 3.00]" in page and "batches of 8" in page


@pytest.mark.parametrize("name", ["plain", "default"])
def test_a_process_prints_its_rate(name, monkeypatch, capsys):
    kept, seen, threads = [], [], torch.get_num_threads()
    monkeypatch.setattr(training_step, "tune_allocator", lambda: kept.append(1))
    monkeypatch.setitem(training_step.SIZES, 32, 2)

    def steps(setting, batches, image_hw):
        seen.append((setting, [batch["image"].shape for batch in batches], image_hw, torch.get_num_threads()))
        return [9.0, 9.0, 0.5, 0.25, 0.25], []

    monkeypatch.setattr(training_step, "train_steps", steps)
    monkeypatch.setattr(sys, "argv", ["", name, "32", "3", "1"])
    try:
        training_step.main()
    finally:
        torch.set_num_threads(threads)
    assert seen == [(SETTINGS[name], [(2, 32, 32, 3)] * 5, (32, 32), 1)] and len(kept) == (name == "default")
    assert float(capsys.readouterr().out) == 8, "images per second, without the steps to warm up"


@pytest.mark.parametrize(
    "arguments, name",
    [
        (["--steps", "0"], "steps 0"),
        (["--rounds", "0"], "rounds 0"),
        (["--threads", "0"], "threads 0"),
        (["--settings", "faster"], "default"),
        (["--sides", "64"], "128"),
        (["--json", "result.txt"], "result.txt"),
    ],
)
def test_bad_input_is_one_line_before_the_work(arguments, name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("work was started"))
    assert main(["lab", "bench-training", *arguments]) == 2
    error = capsys.readouterr().err
    assert name in error and error.startswith("error: ") and error.count("\n") == 1


def test_a_process_that_fails_says_why(monkeypatch, capsys):
    failed = SimpleNamespace(returncode=1, stdout="", stderr="first\nout of order")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert main(["lab", "bench-training", "--sides", "128"]) == 2
    assert "plain at 128×128" in (error := capsys.readouterr().err) and "out of order" in error


def test_the_stored_page_is_that_of_the_stored_result():
    page = training_page(json.loads(STORED.read_text(encoding="utf-8")))
    assert STORED.with_suffix(".md").read_text(encoding="utf-8") == page
