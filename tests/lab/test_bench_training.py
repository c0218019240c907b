"""The benchmark of the training step: it must time the step that training takes, and do its sums right."""

import pytest
import torch

from lgmpose.cli import main
from lgmpose.lab.bench import training
from lgmpose.lab.bench.training import DEFAULT, PLAIN, SETTINGS, markdown, train_steps
from lgmpose.training.checkpoint import Run
from lgmpose.training.loop import _step
from lgmpose.training.recipe import TrainConfig
from lgmpose.zoo.catalogue import create_model

HW = (64, 96)


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
    """Bit for bit: the same network, order of operations, layout and optimiser as ``lgmpose train`` has."""
    torch.manual_seed(7)
    config = TrainConfig(optimizer="adamw", learning_rate=training.LEARNING_RATE, weight_decay=0.01)
    net = create_model("lgm-pose-lspet-128x128", image_hw=HW, num_keypoints=5)
    run = Run(config, net.train(), torch.device("cpu"))
    expected = [_step(run, run.net, batch, training.LEARNING_RATE)[0] for batch in batches()]
    steps = train_steps(SETTINGS[DEFAULT], batches(), HW, 7)
    assert steps["loss"] == expected and len(set(expected)) == 3
    assert all(len(times) == 3 and min(times) > 0 for name, times in steps.items() if name != "loss")


@pytest.mark.parametrize("name", [PLAIN, "channels_last"])  # the allocator is set once per process, not in here
def test_faster_settings_compute_the_same_losses(name):
    reference = train_steps(SETTINGS[DEFAULT], batches(), HW, 7)["loss"]
    assert train_steps(SETTINGS[name], batches(), HW, 7)["loss"] == pytest.approx(reference, rel=1e-3)
    assert train_steps(SETTINGS[name], batches(), HW, 8)["loss"] != pytest.approx(reference, rel=1e-3)


def run_of(rate, loss):
    parts = {"forward": 0.25, "backward": 0.75, "optimiser": 0.0}
    return {"seconds": 1.0, "parts": parts, "rate": rate, "loss": loss, "loader_rate": 100.0}


def test_the_summary_pairs_rounds_and_compares_losses_with_seeds():
    rows = training._summary({
        PLAIN: [run_of(10.0, [1.0, 2.0]), run_of(5.0, [3.0, 4.0])],  # a machine that slows down
        DEFAULT: [run_of(30.0, [1.1, 2.0]), run_of(15.0, [3.0, 4.1])],
        "half batch": [run_of(20.0, [1.0, 2.0]), run_of(10.0, [3.0, 4.0])],
    })  # fmt: skip
    assert rows[DEFAULT]["times_plain"] == [3, 3, 3] and rows[PLAIN]["times_plain"] == [1, 1, 1]
    assert rows[DEFAULT]["of_seed_noise"] == pytest.approx(0.05 / 2) and rows["half batch"]["of_seed_noise"] is None
    assert rows[DEFAULT]["parts"] == {"forward": 0.25, "backward": 0.75, "optimiser": 0.0}
    assert rows[DEFAULT]["loader_times"] == pytest.approx((100 / 30 + 100 / 15) / 2, abs=0.01)


PRETEND = """
import json, sys
job = json.load(sys.stdin)
rate = 20.0 if job["setting"]["allocator"] else 10.0
parts = {"input": 0.0, "forward": 0.5, "backward": 0.5, "optimiser": 0.0}
run = {"seconds": 1.0, "parts": parts, "rate": rate, "loss": [float(job["seed"])], "loader_rate": 99.0, "torch": "1.0"}
print("a warning", json.dumps(run), sep="\\n")
"""


def test_a_whole_small_run_leaves_table_and_figures(monkeypatch):
    monkeypatch.setitem(training.SIZES, 64, 4)
    monkeypatch.setattr(training, "WORKER", [*training.WORKER[:1], "-c", PRETEND])
    result = training.measure("synthetic", names=(PLAIN, DEFAULT), sides=(64,), rounds=2, steps=3, threads=1)
    assert result["summary"]["64"][DEFAULT]["times_plain"] == [2, 2, 2]
    page = markdown(result)
    assert "2.00 [2.00, 2.00]" in page and "## 64×64, batches of 4" in page and "torch 1.0" in page


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps", "0"], "at least 1"),
        (["--json", "result.txt"], "must end in .json"),
        (["--data", "lspet:nowhere.zip"], "nowhere.zip"),
    ],
)
def test_bad_input_is_one_line_before_the_work(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "measure", lambda *a, **k: pytest.fail("work was started"))
    assert main(["lab", "bench-training", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_what_the_others_are_compared_with_is_always_measured(monkeypatch, capsys):
    def measure(data, *, names, **_):
        raise training.UserError(" ".join(names))

    monkeypatch.setattr(training, "measure", measure)
    monkeypatch.setattr("lgmpose.data.load_records", lambda *_: None)
    assert main(["lab", "bench-training", "--settings", DEFAULT, PLAIN, "bf16"]) == 2
    assert capsys.readouterr().err == f"error: {PLAIN} {DEFAULT} bf16\n"


def test_a_process_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(training, "WORKER", [*training.WORKER[:1], "-c", "import sys; sys.exit('out of order')"])
    with pytest.raises(training.UserError, match="status 1: out of order"):
        training.measure("synthetic", names=(PLAIN,), sides=(128,), rounds=1, steps=1, threads=1)


@pytest.mark.parametrize("failing, left", [(PLAIN, ["64"]), (DEFAULT, ["64", "128"])])
def test_what_was_measured_is_kept_though_a_process_is_killed(monkeypatch, failing, left):
    """As for want of memory: in the last round, at the larger size."""
    kill = f"""
import os, signal
if (job["side"], job["seed"], job["setting"]["what"]) == (128, 1, {SETTINGS[failing].what!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    monkeypatch.setitem(training.SIZES, 64, 4)
    pretend = PRETEND.replace("rate = ", kill + "rate = ", 1)
    monkeypatch.setattr(training, "WORKER", [*training.WORKER[:1], "-c", pretend])
    result = training.measure("synthetic", names=(PLAIN, DEFAULT), sides=(64, 128), rounds=2, steps=3, threads=1)
    assert list(result["summary"]) == left and result["summary"]["64"][DEFAULT]["times_plain"] == [2, 2, 2]
    assert list(result["summary"].get("128", {})) == ([PLAIN] if failing == DEFAULT else [])
    assert f"Left out: `{failing}` at 128×128: its process was ended by SIGKILL: most likely" in markdown(result)
