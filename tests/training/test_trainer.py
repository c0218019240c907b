"""Runs as a whole: equal to a loop written by hand, interrupted and resumed, logged, refused where they must be."""

from __future__ import annotations

import json
import math
import shutil
import signal
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from training_tools import assert_equal_states, by_hand, log_of, losses_of

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.data.augment import Augmentation
from lgmpose.data.batches import make_loader, to_input
from lgmpose.data.crops import CropDataset
from lgmpose.errors import UserError, notice_once
from lgmpose.files import lock
from lgmpose.inference.evaluate import evaluate
from lgmpose.inference.figures import Evaluation
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO, LSP
from lgmpose.training.checkpoint import Run, read_checkpoint
from lgmpose.training.loop import heatmap_loss
from lgmpose.training.recipe import TrainConfig
from lgmpose.training.run_folder import append_losses
from lgmpose.training.trainer import READ_EVERY, Session, resume, train
from lgmpose.zoo.cards import SPORTS_WEIGHTS
from lgmpose.zoo.catalogue import at_size, create_model, load_weights, save_weights, weights_hash

STRONG = Augmentation(0.2, scale_factor=0.2, rotation_deg=30, rotation_prob=0.9, flip_prob=0.4, colour=0.1)
RECIPES = {
    "the paper's, shortened": {"epochs": 3, "lr_steps": (1, 2), "ema_decay": 0.0},
    "every option": {
        "optimizer": "adamw", "weight_decay": 0.3, "schedule": "cosine", "warmup_steps": 4, "ema_decay": 0.8,
        "clip_grad_norm": 0.02, "joint_weights": "hrnet", "codec": "udp", "sigma": 1.5, "seed": 5, "batch_size": 5,
        "augmentation": STRONG,
    },
    "another network": {
        "global_block": "mobilevim", "fusion": "dw1", "activation": "silu",
        "codec": "dark", "precision": "bf16",
    },
}  # fmt: skip


def fake_evaluation(value: float) -> Evaluation:
    return Evaluation({"PCK@0.2": value}, {"skeleton": "coco-17", "data": "made-up"})


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_equals_a_loop_written_by_hand_bit_for_bit(config, tmp_path, name):
    config = replace(config, **RECIPES[name])
    train(config, tmp_path / "run", progress=False)
    losses, net, average = by_hand(config)
    assert losses_of(tmp_path / "run") == losses and len(set(losses)) == len(losses)
    state = read_checkpoint(tmp_path / "run" / "last.pt")
    assert_equal_states(state["net"], net.state_dict())
    kept, card = load_weights(tmp_path / "run" / "best.safetensors")
    if config.ema_decay:
        assert_equal_states(state["ema"], average)
    else:
        assert state["ema"] is None
    if card["training"]["epoch"] == config.epochs:
        assert_equal_states(kept.state_dict(), average if config.ema_decay else net.state_dict())
    else:
        assert name == "every option"


# Interrupted


def stop_after(monkeypatch, step: int) -> None:
    """Send Ctrl-C when the loss of a step is logged."""

    def appended(path, rows):
        append_losses(path, rows)
        if rows[-1][0] == step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("lgmpose.training.trainer.append_losses", appended)


def test_an_interrupted_run_ends_bit_for_bit_where_an_undisturbed_one_does(config, tmp_path, monkeypatch):
    config, run_dir = replace(config, epochs=3, checkpoint_minutes=9), tmp_path / "run"
    for step, saved in ((0, (0, 2, 2)), (2, (1, 0, 3)), (3, (1, 2, 5))):  # a stop is noticed at the next step
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(KeyboardInterrupt):
                train(config, run_dir, resume=True, progress=False)
        progress = read_checkpoint(run_dir / "last.pt")["progress"]
        assert (progress["epoch"], progress["epoch_step"], progress["step"]) == saved
        assert len(losses_of(run_dir)) == saved[2]
    with monkeypatch.context() as patch:  # between the last step of the epoch and its evaluation, by a crash
        patch.setattr("lgmpose.training.trainer.evaluate", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            resume(run_dir)
    seconds = read_checkpoint(run_dir / "last.pt")["progress"]["seconds"]
    resume(run_dir)
    losses, net, average = by_hand(config)
    assert losses_of(run_dir) == losses
    state = read_checkpoint(run_dir / "last.pt")
    assert_equal_states(state["net"], net.state_dict())
    assert_equal_states(state["ema"], average)
    assert [row["epoch"] for row in log_of(run_dir)] == ["1", "2", "3"]
    assert 0 < seconds < state["progress"]["seconds"]


def test_a_time_limit_ends_the_run_within_an_epoch_after_an_evaluation(config, tmp_path):
    config = replace(config, epochs=50, minutes=1e-6, eval_every=50)
    train(config, tmp_path / "run", progress=False)
    assert len(losses_of(tmp_path / "run")) == 1 and len(log_of(tmp_path / "run")) == 1
    assert "AP" in log_of(tmp_path / "run")[0] and (tmp_path / "run" / "best.safetensors").is_file()
    resume(tmp_path / "run")
    assert len(losses_of(tmp_path / "run")) == 1


def test_a_stop_in_an_epochs_last_step_or_in_its_evaluation_ends_the_run_after_the_epoch(config, tmp_path, monkeypatch):
    def evaluated(*_, **__):
        signal.raise_signal(signal.SIGTERM)
        return fake_evaluation(1)

    monkeypatch.setattr("lgmpose.training.trainer.evaluate", evaluated)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", progress=False)
    progress = read_checkpoint(tmp_path / "run" / "last.pt")["progress"]
    assert (progress["epoch"], progress["epoch_step"], progress["best"]) == (1, 0, 1)


def test_a_stop_before_an_epochs_last_step_is_granted_after_its_evaluation(config, tmp_path, monkeypatch):
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", progress=False)
    progress = read_checkpoint(tmp_path / "run" / "last.pt")["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 3) and len(log_of(tmp_path / "run")) == 1


def test_ctrl_c_ends_the_command_with_130_and_its_last_line_resumes(config, tmp_path, monkeypatch, capsys):
    run_dir = tmp_path / "a run"
    words = ["train", "--data", config.data, "--model", "tiny", "--batch-size", "4", "--epochs", "1"]
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        assert main([*words, "--device", "cpu", "--workers", "0", "--out", str(run_dir)]) == 130
    assert f'lgmpose resume "{run_dir}"' in capsys.readouterr().out
    assert main(["resume", str(run_dir)]) == 0
    assert len(losses_of(run_dir)) == 3 and (run_dir / "best.safetensors").exists()


def test_reading_losses_every_few_steps_changes_no_result(config, tmp_path, monkeypatch):
    monkeypatch.setitem(READ_EVERY, "cpu", 2)
    chunks = []
    monkeypatch.setattr("lgmpose.training.trainer.append_losses", lambda path, rows: (
        chunks.append(len(rows)), append_losses(path, rows)))  # fmt: skip
    train(config, tmp_path / "run", progress=False)
    assert chunks == [2, 1, 2, 1]
    assert losses_of(tmp_path / "run") == by_hand(config)[0]
    assert log_of(tmp_path / "run")[1]["train_loss"] == f"{sum(losses_of(tmp_path / 'run')[3:]) / 3:.7f}"


def test_nothing_waits_for_the_device_between_two_readings(config, tmp_path, monkeypatch):
    """Count on a CPU what would wait for a GPU: every way in which Python gets a tensor's value."""
    monkeypatch.setitem(READ_EVERY, "cpu", 100)
    waits, at_steps = [], []

    def counted(name, method):
        def call(self, *arguments, **options):
            waits.append(name)
            return method(self, *arguments, **options)

        return call

    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))
    monkeypatch.setattr("lgmpose.training.loop.to_input", lambda images: (
        at_steps.append(len(waits)), to_input(images))[1])  # fmt: skip
    config = replace(config, clip_grad_norm=1.0, joint_weights="hrnet", checkpoint_minutes=9, epochs=1)
    train(config, tmp_path / "run", progress=False)
    assert len(at_steps) == 3 and len(set(at_steps)) == 1
    assert "tolist" in waits  # the count works


def infinite_input(number, images):
    """Overflow in the second batch, and with it in every BatchNorm."""
    return to_input(images) * (math.inf if number == 2 else 1)


def infinite_slope(number, predicted, *others):
    """Return a finite second loss without a finite gradient: the step spoils the weights."""
    return heatmap_loss(predicted, *others) + ((0 * predicted).abs().sqrt().sum() if number == 2 else 0)


@pytest.mark.parametrize("replaced, spoilt, read_every, named", [
    ("to_input", infinite_input, 1, "nan at step 1"),
    pytest.param("to_input", infinite_input, 3, "nan at step 1", marks=pytest.mark.slow),
    pytest.param("heatmap_loss", infinite_slope, 1, "weights .* step 1", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_run_that_diverges_keeps_its_last_good_checkpoint(
    config, tmp_path, monkeypatch, replaced, spoilt, read_every, named
):
    monkeypatch.setitem(READ_EVERY, "cpu", read_every)
    run_dir, calls = tmp_path / "run", []
    with monkeypatch.context() as patch:
        patch.setattr(
            f"lgmpose.training.loop.{replaced}", lambda *a: (calls.append(1), spoilt(len(calls), *a))[1]
        )  # fmt: skip
        with pytest.raises(UserError, match=f"run: .*{named}"):
            train(config, run_dir, progress=False)
    if read_every == 1:
        assert read_checkpoint(run_dir / "last.pt")["progress"]["step"] == 1
    else:
        assert not (run_dir / "last.pt").exists()
    train(config, run_dir, resume=True, progress=False)
    losses, net, _ = by_hand(config)
    assert losses_of(run_dir) == losses
    assert_equal_states(read_checkpoint(run_dir / "last.pt")["net"], net.state_dict())


# Evaluated and logged


def test_the_best_evaluation_is_kept_and_of_two_equal_ones_the_later(config, tmp_path, monkeypatch):
    values = iter([0.0, 3.0, 3.0, 2.0])
    monkeypatch.setattr("lgmpose.training.trainer.evaluate", lambda *_, **__: fake_evaluation(next(values)))
    train(replace(config, epochs=4, batch_size=13), tmp_path / "run", progress=False)
    assert load_weights(tmp_path / "run" / "best.safetensors")[1]["training"]["epoch"] == 3
    assert [float(row["PCK@0.2"]) for row in log_of(tmp_path / "run")] == [0, 3, 3, 2]
    assert read_checkpoint(tmp_path / "run" / "last.pt")["progress"]["best"] == 3


def test_evaluations_every_few_epochs_and_always_at_the_end(config, tmp_path):
    evaluation = train(replace(config, epochs=5, eval_every=2, batch_size=13), tmp_path / "run", progress=False)
    rows = log_of(tmp_path / "run")
    assert [row["epoch"] for row in rows if row["PCK@0.2"]] == ["2", "4", "5"]
    assert f"{evaluation.figures['PCK@0.2']:.4f}" == rows[-1]["PCK@0.2"]


def test_what_the_options_ask_of_an_evaluation(config, tmp_path, monkeypatch):
    asked = {}

    def evaluated(net, record_set, codec, **options):
        state = {name: value.clone() for name, value in net.state_dict().items()}
        asked.update(options, records=record_set, codec=codec, state=state)
        return fake_evaluation(0)

    monkeypatch.setattr("lgmpose.training.trainer.evaluate", evaluated)
    changes = {"flip_test": True, "batch_size": 13, "workers": 0, "bad_images": "skip", "codec": "dark", "sigma": 1.5}
    train(replace(config, epochs=1, **changes), tmp_path / "run", progress=False)
    assert {name: asked[name] for name in ("flip_test", "batch_size", "workers", "bad_images")} == {
        name: changes[name] for name in ("flip_test", "batch_size", "workers", "bad_images")
    }
    assert (asked["codec"].name, asked["codec"].sigma) == ("dark", 1.5)
    assert asked["records"].name == "synthetic-val" and not asked["progress"]
    assert_equal_states(asked["state"], read_checkpoint(tmp_path / "run" / "last.pt")["ema"])


def test_a_run_leaves_its_files_and_weights_that_load(config, tmp_path, with_curve):
    config = replace(config, lr_steps=(1,))
    evaluation = train(config, tmp_path / "run", progress=False)
    names = {path.name for path in (tmp_path / "run").iterdir()} - {".lock"}
    assert names == {"config.json", "loss.csv", "log.csv", "curve.png", "last.pt", "best.safetensors"}
    _, card = load_weights(tmp_path / "run" / "best.safetensors")
    assert card["training"]["config"] == config.as_dict() == json.loads((tmp_path / "run/config.json").read_text())
    assert card["skeleton"]["name"] == "coco-17" and card["training"]["persons"] == "synthetic-train"
    assert evaluation.conditions["flip test"] == "off" and "AP" in evaluation.figures
    assert card["evaluation"]["figures"].keys() == evaluation.figures.keys()
    columns = ("epoch", "step", "learning_rate", "skipped")
    rows = [tuple(row[name] for name in columns) for row in log_of(tmp_path / "run")]
    assert rows == [("1", "3", "0.002", "0"), ("2", "6", "0.0002", "0")]


def test_what_is_printed_names_the_data_the_epochs_and_the_figures(config, tmp_path, capsys):
    config = replace(config, epochs=1)
    train(config, tmp_path / "run")
    out = capsys.readouterr().out
    assert "13 persons" in out and "epoch 1/1: loss" in out and "PCK@0.2" in out
    assert train(config, tmp_path / "run", resume=True) is None
    assert "1 epochs are done" in capsys.readouterr().out


# Options


def test_options_of_the_network_reach_it(config, tmp_path):
    changes = {"fusion": "dw2", "larm_residual": False, "larm": "identity", "activation": "relu", "image_hw": (32, 64)}
    changes |= {"linear_init": "small"}
    train(
        replace(config, epochs=1, batch_size=13, global_block="mobilevim", **changes), tmp_path / "run", progress=False
    )
    net = load_weights(tmp_path / "run" / "best.safetensors")[0]
    assert {name: getattr(net.config, name) for name in changes} == changes


def test_annotation_files_reach_the_two_sets(config, people, tmp_path):
    content = json.loads((people / "annotations.json").read_text())
    files = {}
    for name, count in (("some", 7), ("few", 3)):
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps(content | {"annotations": content["annotations"][:count]}))
    config = replace(
        config, data=f"coco:{people}", annotations=str(files["some"]), val_annotations=str(files["few"]), epochs=1
    )
    evaluation = train(config, tmp_path / "run", progress=False)
    assert read_checkpoint(tmp_path / "run" / "last.pt")["progress"]["data"]["persons"] == 7
    assert evaluation.conditions["persons"] == "3"


@pytest.mark.parametrize("minutes, saves", [(0, 4), (9, 2)])
def test_checkpoints_are_as_frequent_as_asked(config, tmp_path, monkeypatch, minutes, saves):
    saved, save = [], Run.save
    monkeypatch.setattr(Run, "save", lambda run, path: saved.append(run.step) or save(run, path))
    train(replace(config, epochs=1, checkpoint_minutes=minutes), tmp_path / "run", progress=False)
    assert len(saved) == saves  # two at the end of the epoch: before and after its evaluation


def test_loader_processes_are_those_that_fit_in_shared_memory(config, tmp_path, monkeypatch):
    used, needed = [], []

    def loader(*arguments, workers, encode):
        used.append(workers)
        batches = list(make_loader(*arguments, workers=0))
        tensors = [value for value in batches[0].values() if isinstance(value, torch.Tensor)]
        needed.append(sum(value.nbytes for value in tensors))
        return batches

    def fitting(workers, bytes_each, notice):
        assert workers == 3
        needed.append(bytes_each)
        return 1

    monkeypatch.setattr("lgmpose.training.trainer.make_loader", loader)
    monkeypatch.setattr("lgmpose.training.trainer.workers_that_fit", fitting)
    train(replace(config, epochs=1, workers=3), tmp_path / "run", progress=False)
    assert used == [1]
    each, one_batch = needed
    assert 0.99 * 3 * one_batch < each < 1.01 * 3 * one_batch


def test_a_loader_process_that_fails_or_hangs_is_one_line(config, tmp_path, monkeypatch):
    def loader(*_, **__):
        raise RuntimeError("DataLoader timed out after 300 seconds\nmore")
        yield

    monkeypatch.setattr("lgmpose.training.trainer.make_loader", loader)
    with pytest.raises(UserError, match="--workers 0") as caught:
        train(config, tmp_path / "run", progress=False)
    assert "300 seconds" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("precision, dtype", [("auto", False), ("fp32", False), ("bf16", torch.bfloat16)])
def test_training_runs_in_the_precision_that_is_asked_for(config, tmp_path, monkeypatch, precision, dtype):
    seen = []
    monkeypatch.setattr("lgmpose.training.loop.to_input", lambda images: seen.append(
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")) or to_input(images))  # fmt: skip
    train(replace(config, epochs=1, batch_size=13, precision=precision), tmp_path / "run", progress=False)
    assert set(seen) == {dtype}


@pytest.mark.parametrize("compiled", [False, True])
def test_the_network_is_compiled_only_where_that_is_asked_for(config, tmp_path, monkeypatch, compiled):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda net: calls.append(net) or net)
    train(replace(config, epochs=1, batch_size=13, compile=compiled), tmp_path / "run", progress=False)
    assert len(calls) == compiled


@pytest.mark.slow
def test_a_compiled_network_trains_like_the_other(config, tmp_path):
    config = replace(config, epochs=1, global_block="mobilevim")
    train(replace(config, compile=True), tmp_path / "compiled", progress=False)
    losses = losses_of(tmp_path / "compiled")
    assert losses == pytest.approx(by_hand(config)[0], rel=1e-4)
    assert load_weights(tmp_path / "compiled" / "best.safetensors")[0].config.image_hw == (64, 32)


@pytest.mark.slow
def test_a_run_knows_the_weights_it_started_from_even_when_they_are_gone(config, tmp_path):
    train(config, tmp_path / "first", progress=False)
    weights = (tmp_path / "first" / "best.safetensors").rename(tmp_path / "start.safetensors")
    before, card = load_weights(weights)
    second = replace(config, init_weights=str(weights), epochs=1, learning_rate=1e-9)
    train(second, tmp_path / "second", progress=False)
    after, second_card = load_weights(tmp_path / "second" / "best.safetensors")
    start = dict(second_card["training"]["start"])
    assert "17 joints: nose" in start.pop("taken_over")
    assert start == {"weights": weights.name, "sha256": weights_hash(weights), "training": card["training"]}
    torch.testing.assert_close(after.head.weight, before.head.weight, atol=1e-6, rtol=0)
    weights.unlink()  # a resumed run does not need them any more
    train(second, tmp_path / "second", resume=True, progress=False)
    assert read_checkpoint(tmp_path / "second" / "last.pt")["progress"]["start"] == second_card["training"]["start"]


@pytest.fixture
def mixture(people, tmp_path) -> str:
    """Return a list of two sets: the synthetic people, and half of their joints with one more, under other names."""
    content = json.loads((people / "annotations.json").read_text())
    (category,) = content["categories"]
    names, kept = category["keypoints"], range(5, 17)
    category["keypoints"] = ["HeadTop", *(f"{name[0].upper()}{name.partition('_')[2]}" for name in names[5:])]
    category["skeleton"] = []
    for person in content["annotations"]:
        joints = [person["keypoints"][3 * i : 3 * i + 3] for i in (0, *kept)]
        person["keypoints"] = [value for joint in joints for value in joint]
        person["num_keypoints"] = sum(joint[2] > 0 for joint in joints)
    (tmp_path / "half.json").write_text(json.dumps(content))
    half = f'data = "coco:{people}"\nannotations = "{tmp_path / "half.json"}"\n'
    text = f'[[train]]\ndata = "synthetic:{people}"\n[[train]]\n{half}weight = 2\n'
    text += f'[[val]]\ndata = "synthetic:{people}"\n[[val]]\n{half}'
    (tmp_path / "sets.toml").write_text(text)
    return f"mix:{tmp_path / 'sets.toml'}"


@pytest.mark.parametrize("weight, refused", [("0", False), ("1e-9", True)])
def test_weight_0_leaves_a_set_out_and_a_weight_that_is_too_small_is_refused(config, mixture, weight, refused):
    path = Path(mixture.removeprefix("mix:"))
    path.write_text(path.read_text().replace("weight = 2", f"weight = {weight}"))
    config = replace(config, data=mixture)
    train_set, val_sets = Session.load_data(config)
    with pytest.raises(UserError, match="set 2 with 17 persons is never drawn") if refused else nullcontext():
        Session.check_data(config, train_set, val_sets, notice=False)


@pytest.mark.slow
def test_a_mixture_trains_every_joint_and_measures_each_set(config, mixture, tmp_path, with_curve, capsys):
    gradients = []

    class Recorder(Run):
        def update_ema(self):
            gradients.append(self.net.head.weight.grad.flatten(1).abs().sum(1))
            super().update_ema()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lgmpose.training.trainer.Run", Recorder)
        evaluation = train(replace(config, data=mixture), tmp_path / "run")
    net, card = load_weights(tmp_path / "run" / "best.safetensors")
    assert net.config.num_keypoints == 18 and card["skeleton"]["joint_names"][17] == "HeadTop"
    assert (torch.stack(gradients).sum(0) > 0).all()
    assert len(losses_of(tmp_path / "run")) == 2 * ((13 + 2 * 17) // config.batch_size)  # weights 1 and 2
    row = log_of(tmp_path / "run")[-1]
    assert {"synthetic-val AP", "half AP", "half PCK@0.2"} & row.keys() == {"synthetic-val AP", "half AP"}
    assert float(row["synthetic-val AP"]) == pytest.approx(evaluation.figures["AP"], abs=1e-4)
    assert card["training"]["validation"].keys() == {"synthetic-val", "half"}
    assert card["training"]["persons"] == "synthetic-train + half"
    printed = capsys.readouterr().out
    assert "synthetic-val AP" in printed and "half AP" in printed
    assert (tmp_path / "run" / "curve.png").is_file()


def test_a_set_is_measured_by_its_own_joints_of_a_larger_network(config, people, mixture, tmp_path):
    """The joints of the half set are found in the network's heatmaps by name."""
    train(replace(config, data=mixture, epochs=1), tmp_path / "run", progress=False)
    arguments = ["--data", f"coco:{people}", "--annotations", str(tmp_path / "half.json"), "--workers", "0"]
    weights = str(tmp_path / "run" / "best.safetensors")
    options = ["--weights", weights, "--no-flip-test", "--json", str(tmp_path / "half-figures.json")]
    assert main(["eval", *arguments, *options]) == 0
    figures = json.loads((tmp_path / "half-figures.json").read_text())["figures"]
    assert figures["AP"] == pytest.approx(float(log_of(tmp_path / "run")[-1]["half AP"]), abs=1e-4)


def test_other_weights_of_the_sets_are_another_run(config, mixture, tmp_path):
    config = replace(config, data=mixture, epochs=1)
    train(config, tmp_path / "run", progress=False)
    file = Path(mixture.removeprefix("mix:"))
    file.write_text(file.read_text().replace("weight = 2", "weight = 3"))
    with pytest.raises(UserError, match="other data"):
        train(config, tmp_path / "run", resume=True, progress=False)


@pytest.mark.slow
def test_the_recipe_for_few_pictures_trains_other_joints(people, mixture, tmp_path, capsys):
    """Two short epochs from the shipped weights, one of them with a frozen trunk."""
    files = ["--annotations", str(tmp_path / "half.json"), "--val-annotations", str(tmp_path / "half.json")]
    short = ["--epochs", "2", "--freeze-epochs", "1", "--epoch-persons", "32", "--workers", "0", "--device", "cpu"]
    arguments = ["--recipe", "few-pictures", "--data", f"coco:{people}", *files, *short]
    assert main(["train", *arguments, "--out", str(tmp_path / "run")]) == 0
    assert len(losses_of(tmp_path / "run")) == 4
    assert "Lknee from left_knee" in capsys.readouterr().out
    assert load_weights(tmp_path / "run" / "best.safetensors")[0].config.num_keypoints == 13


def test_another_set_validates(config, people, tmp_path):
    val = replace(config, epochs=1, val_data=f"coco:{people}", val_annotations=str(people / "annotations.json"))
    assert train(val, tmp_path / "run", progress=False).conditions["persons"] == "17"
    with pytest.raises(UserError, match="voc:x"):
        train(replace(config, val_data="voc:x"), tmp_path / "other", progress=False)


def test_frozen_epochs_train_the_rows_of_the_joints_alone(config, tmp_path):
    frozen = replace(config, epochs=2, freeze_epochs=1, eval_every=1)
    states = []

    class Recorder(Run):
        def save(self, path):
            states.append({name: value.clone() for name, value in self.net.state_dict().items()})
            super().save(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lgmpose.training.trainer.Run", Recorder)
        train(frozen, tmp_path / "run", progress=False)
    torch.manual_seed(config.seed)
    start = create_model(config.model, image_hw=config.image_hw, global_block=config.global_block).state_dict()
    after_first = states[3]  # three steps, then the end of the epoch
    for name, value in start.items():
        changed = not torch.equal(value, after_first[name])
        assert changed == name.startswith("head."), name
    changed = {name for name, value in start.items() if not torch.equal(value, states[-1][name])}
    assert {"stem.0.weight", "stem.1.running_mean", "head.weight"} <= changed


def test_an_interrupted_run_with_frozen_epochs_resumes_bit_for_bit(config, tmp_path, monkeypatch):
    config = replace(config, freeze_epochs=1, epoch_persons=20, batch_size=5)
    train(config, tmp_path / "undisturbed", progress=False)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", progress=False)
    train(config, tmp_path / "run", resume=True, progress=False)
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "undisturbed") and len(losses_of(tmp_path / "run")) == 8


def test_weights_for_other_joints_and_another_size_are_a_start(config, tmp_path, capsys):
    weights, codec = tmp_path / "lsp.safetensors", make_codec("standard", (96, 32))
    net = create_model(config.model, num_keypoints=14, image_hw=(96, 32), global_block=config.global_block)
    save_weights(weights, net, LSP, codec)
    start = replace(config, init_weights=str(weights), epochs=1, batch_size=13, learning_rate=1e-9, ema_decay=0)
    train(start, tmp_path / "run")
    after, card = load_weights(tmp_path / "run" / "best.safetensors")
    assert after.config.num_keypoints == 17 and card["skeleton"]["name"] == "coco-17"
    shared = [name for name in COCO.joint_names if name in LSP.joint_names]
    ours, theirs = [COCO.index(name) for name in shared], [LSP.index(name) for name in shared]
    torch.testing.assert_close(after.head.weight[ours], net.head.weight[theirs], atol=1e-6, rtol=0)
    torch.testing.assert_close(after.stem[0].weight, net.stem[0].weight, atol=1e-6, rtol=0)
    printed = capsys.readouterr().out
    assert "lsp.safetensors" in printed and "12 joints: left_shoulder" in printed and "left_ear" in printed


def test_weights_with_another_activation_are_a_start_and_those_with_another_fusion_are_not(config, tmp_path):
    weights = tmp_path / "relu6.safetensors"
    net = create_model(config.model, image_hw=config.image_hw, global_block=config.global_block)
    save_weights(weights, net, COCO, make_codec("standard", config.image_hw))
    silu = replace(
        config, init_weights=str(weights), activation="silu", epochs=1, batch_size=13, learning_rate=1e-9, ema_decay=0
    )
    train(silu, tmp_path / "silu", progress=False)
    after = load_weights(tmp_path / "silu" / "best.safetensors")[0]
    assert after.config == replace(net.config, activation="silu")
    torch.testing.assert_close(after.head.weight, net.head.weight, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="relu6.safetensors: "):
        train(replace(silu, fusion="none"), tmp_path / "other", progress=False)


@pytest.mark.slow
def test_kernels_of_five_axes_are_trained_and_evaluated(config, tmp_path):
    """Dite-HRNet's dynamic convolutions, which ``.to(memory_format=…)`` refuses."""
    changes = {"model": "dite-hrnet-18", "image_hw": (64, 64), "global_block": "mobilevim", "epochs": 1}
    evaluation = train(replace(config, **changes, batch_size=13), tmp_path / "run", progress=False)
    assert "AP" in evaluation.figures
    net = at_size(load_weights(tmp_path / "run" / "best.safetensors")[0], (64, 96)).eval()
    with torch.inference_mode():
        assert net(torch.rand(1, 3, 64, 96)).shape == (1, 17, 16, 24)


def test_every_option_is_tested():
    """A new option needs a test of its effect: this looks for its name in the tests of the training room."""
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert [field.name for field in fields(TrainConfig) if field.name not in tests] == []


# Refused


def test_another_run_is_not_overwritten_and_other_settings_are_not_resumed(config, tmp_path):
    config, run_dir = replace(config, epochs=1, batch_size=13), tmp_path / "run"
    train(config, run_dir, progress=False)
    with pytest.raises(UserError, match="learning_rate 0.002, not 0.1"):
        train(replace(config, learning_rate=0.1), run_dir, resume=True, progress=False)
    for name in ("last.pt", "best.safetensors", "log.csv"):
        before = {path: path.read_bytes() for path in run_dir.iterdir()}
        with pytest.raises(UserError, match=name):
            train(config, run_dir, progress=False)
        assert {path: path.read_bytes() for path in run_dir.iterdir()} == before
        (run_dir / name).unlink()


def test_other_data_are_another_run(config, tmp_path, monkeypatch):
    config, run_dir = replace(config, epochs=1, batch_size=13), tmp_path / "run"
    train(config, run_dir, progress=False)
    whole = load_records(config.data)
    moved = replace(whole.records[0], keypoints_xy=whole.records[0].keypoints_xy + 1)
    for data in (
        whole.subset([*range(12), 0]), whole.subset(range(13)[::-1]),
        replace(whole, records=(moved, *whole.records[1:])),
    ):  # fmt: skip
        monkeypatch.setattr("lgmpose.training.trainer.load_records", lambda name, split, data=data, **_: (
            data if split == "train" else load_records(name, split)))  # fmt: skip
        with pytest.raises(UserError, match="last.pt: .*13 persons"):
            train(config, run_dir, resume=True, progress=False)


def test_two_runs_never_share_a_folder(config, tmp_path):
    with lock(tmp_path / "run" / ".lock"), pytest.raises(UserError, match="run: "):
        train(config, tmp_path / "run", progress=False)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock"}


def spoilt_copy(people: Path, folder: Path, split: str) -> tuple[Path, int]:
    """Copy the set, cut an image of a split short, and return its path and the number of persons in it."""
    shutil.copytree(people, folder)
    records = load_records(f"synthetic:{folder}", split).records
    picture = Path(records[0].image)
    picture.write_bytes(picture.read_bytes()[:500])
    return picture, sum(Path(record.image) == picture for record in records)


def test_unreadable_images_are_refused_or_skipped_and_counted_over_resumptions(config, people, tmp_path, monkeypatch):
    picture, persons = spoilt_copy(people, tmp_path / "people", "train")
    config = replace(config, data=f"synthetic:{tmp_path / 'people'}", batch_size=13)
    with pytest.raises(UserError, match=rf"{picture.name}: .*--bad-images"):
        train(config, tmp_path / "refused", progress=False)
    config = replace(config, bad_images="skip")
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run", progress=False)
    train(config, tmp_path / "run", resume=True, progress=False)
    assert [int(row["skipped"]) for row in log_of(tmp_path / "run")] == [persons, 2 * persons]


def test_a_batch_without_a_readable_image_is_refused_with_the_first_reason(config, people, tmp_path):
    shutil.copytree(people, tmp_path / "people")
    for picture in (tmp_path / "people" / "images").iterdir():
        picture.write_bytes(b"")
    config = replace(config, data=f"synthetic:{tmp_path / 'people'}", bad_images="skip")
    with pytest.raises(UserError, match=r"\.jpg"):
        train(config, tmp_path / "run", progress=False)


def test_a_run_that_meets_an_unreadable_image_late_is_finished_without_it(config, people, tmp_path):
    picture, _ = spoilt_copy(people, tmp_path / "people", "val")
    config = replace(config, data=f"synthetic:{tmp_path / 'people'}", checkpoint_minutes=9)
    with pytest.raises(UserError, match=picture.name):
        train(config, tmp_path / "run", progress=False)
    progress = read_checkpoint(tmp_path / "run" / "last.pt")["progress"]
    assert (progress["epoch"], progress["epoch_step"]) == (0, 3)
    assert main(["resume", str(tmp_path / "run"), "--bad-images", "skip"]) == 0
    assert losses_of(tmp_path / "run") == by_hand(config)[0]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["bad_images"] == "skip"


def test_sets_that_cannot_be_trained_or_measured_are_refused_before_work_starts(config, people, tmp_path, monkeypatch):
    val_set = load_records(config.data, "val")
    hips = [COCO.joint_names.index(f"{side}_hip") for side in ("left", "right")]
    records = [replace(record, visibility=record.visibility.copy()) for record in val_set.records]
    for record in records:
        record.visibility[hips] = 0
    blind = replace(val_set, records=tuple(records), annotation_file=None)
    with monkeypatch.context() as patch:
        patch.setattr("lgmpose.training.trainer.load_validation_sets", lambda *_: [blind])
        with pytest.raises(UserError, match="synthetic-val"):
            train(config, tmp_path / "run", progress=False)
    content = json.loads((people / "annotations.json").read_text())
    (category,) = content["categories"]
    names, other = category["keypoints"], tmp_path / "other.json"
    category["keypoints"] = ["beak", *names[1:]]
    other.write_text(json.dumps(content))
    files = {"annotations": str(people / "annotations.json"), "val_annotations": str(other)}
    with pytest.raises(UserError, match="other.json: .*beak"):
        train(replace(config, data=f"coco:{people}", **files), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_validation_pictures_that_are_trained_on_are_noticed(config, people, tmp_path, capsys):
    """The figures of such a set are those of known pictures. An ordinary split shares none."""
    notice_once.cache_clear()
    train(replace(config, epochs=1), tmp_path / "split", progress=False)
    assert "trained on" not in capsys.readouterr().err
    text = f'data = "synthetic:{people}"\n'
    (tmp_path / "sets.toml").write_text(f'[[train]]\n{text}split = "all"\n[[val]]\n{text}')
    train(replace(config, epochs=1, data=f"mix:{tmp_path / 'sets.toml'}"), tmp_path / "run", progress=False)
    assert "2 of the 2 pictures of synthetic-val are also trained on" in capsys.readouterr().err


def test_a_set_that_is_too_light_to_be_drawn_is_refused(config, mixture, tmp_path):
    """A weight of 0.01 draws 0.17 of 17 persons: the set would be missing in every epoch."""
    file = Path(mixture.removeprefix("mix:"))
    file.write_text(file.read_text().replace("weight = 2", "weight = 0.01"))
    with pytest.raises(UserError, match="set 2 .*17 persons"):
        train(replace(config, data=mixture), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes, named", [
    ({"batch_size": 5000}, "5000"), ({"image_hw": (60, 96)}, "60"), ({"model": "no-such-net"}, "no-such-net"),
    ({"data": "nonsense:x"}, "nonsense:x"), ({"init_weights": "none.safetensors"}, "none.safetensors"),
    ({"device": "toaster"}, "toaster"),
])  # fmt: skip
def test_impossible_options_are_refused_before_work_starts(config, tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        train(replace(config, **changes), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_the_name_of_shipped_weights_is_found(config, tmp_path):
    """Found, and refused because they have other joints, which the message tells by naming the network."""
    with pytest.raises(UserError, match=config.model):
        train(replace(config, init_weights=SPORTS_WEIGHTS.name), tmp_path / "run", progress=False)


@pytest.mark.slow
def test_a_set_is_overfitted(people):
    """Eight persons are found after 120 steps."""
    record_set = load_records(f"synthetic:{people}").subset(range(8))
    codec = make_codec("standard", (64, 64))
    torch.manual_seed(0)
    net = create_model("lgm-pose-coco-256x192", image_hw=(64, 64))
    run = Run(TrainConfig(learning_rate=3e-3), net, torch.device("cpu"))
    batch = next(iter(make_loader(CropDataset(record_set, (64, 64)), codec, [list(range(8))], workers=0)))
    inputs = to_input(batch["image"])
    for _ in range(120):
        loss = heatmap_loss(run.net(inputs), batch["heatmaps"], batch["weights"])
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
    with torch.no_grad():  # BatchNorm's running averages lag behind the weights
        for _ in range(40):
            run.net(inputs)
    result = evaluate(run.net, record_set, codec, flip_test=False, workers=0, progress=False)
    assert result.figures["PCK@0.2"] > 90


def test_chosen_categories_are_asked_for(config, tmp_path, monkeypatch):
    asked = []

    def load(name, split="train", **options):
        asked.append((split, options["categories"]))
        return load_records(name, split)

    monkeypatch.setattr("lgmpose.training.trainer.load_records", load)
    monkeypatch.setattr("lgmpose.data.load_records", load)
    monkeypatch.setattr("lgmpose.training.trainer.train_epochs", lambda *_: False)
    train(replace(config, categories=("player",)), tmp_path / "run", progress=False)
    assert asked == [("train", ("player",)), ("val", ("player",))]
