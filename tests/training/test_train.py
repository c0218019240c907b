"""Training: learns, logs, survives being killed, runs on several processes, refuses what would spoil a run."""

import csv
import errno
import itertools
import json
import math
import multiprocessing
import os
import random
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.data.augment import Augmentation
from lgmpose.data.batches import EpochSampler, make_loader, to_input
from lgmpose.data.crops import CropDataset
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.inference.backends import open_backend
from lgmpose.inference.evaluate import evaluate
from lgmpose.machine import choose_device, num_cores
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO
from lgmpose.training.checkpoint import Run, fingerprint
from lgmpose.training.loop import _join_processes, _step, heatmap_loss, train
from lgmpose.training.recipe import TrainConfig, learning_rate
from lgmpose.training.run_folder import CsvLog, append_epoch, exclusive, one_at_a_time
from lgmpose.zoo.catalogue import create_model, load_weights, save_weights, weights_hash
from lgmpose.zoo.tensor_files import read_tensors, write_tensors

PLAIN = Augmentation(half_body_prob=0, scale_factor=0, rotation_prob=0, flip_prob=0)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A small synthetic set; 40 pictures, some 60 persons."""
    folder = tmp_path_factory.mktemp("people")
    make_synthetic(folder, 40, seed=3, image_hw=(128, 160), progress=False)
    return folder


@pytest.fixture
def config(people):
    return TrainConfig(
        data=f"synthetic:{people}", image_hw=(64, 96), epochs=2, batch_size=8, learning_rate=2e-3, workers=0, seed=1,
        global_block="mobilevit",  # has dropout, so the random state matters too
        ema_decay=0.9, checkpoint_minutes=0, device="cpu", flip_test=False,
    )  # fmt: skip


def losses(run_dir):
    with open(run_dir / "loss.csv", newline="") as file:
        return [(int(row["step"]), row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", ["lgm-pose-coco-256x192", "lgm-pose-fast-coco-256x192"])
def test_overfits_eight_pictures(people, name):
    record_set = load_records(f"synthetic:{people}").subset(range(8))
    codec = make_codec("standard", (128, 96))
    torch.manual_seed(0)
    net = create_model(name, image_hw=(128, 96))
    run = Run(TrainConfig(learning_rate=2e-3), net, torch.device("cpu"))
    batch = next(iter(make_loader(CropDataset(record_set, (128, 96)), codec, [list(range(8))], workers=0)))
    inputs = to_input(batch["image"])
    for _ in range(150):
        loss = heatmap_loss(run.net(inputs), batch["heatmaps"], batch["weights"])
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
    # BatchNorm's running averages lag behind the weights; let them settle before judging.
    with torch.no_grad():
        for _ in range(40):
            run.net(inputs)
    result = evaluate(run.net, record_set, codec, flip_test=False, workers=0, progress=False)
    assert result.figures["PCK@0.2"] == 100


def test_loss_is_half_the_mean_square_and_ignores_unlabelled_joints():
    rng = np.random.default_rng(0)
    predicted, target = (torch.tensor(rng.random((2, 3, 4, 5)), requires_grad=i == 0) for i in range(2))
    weights = torch.tensor([[1.0, 0, 1], [1, 1, 0]])
    expected = sum(
        weights[b, k] * (predicted[b, k] - target[b, k]).pow(2).sum() for b in range(2) for k in range(3)
    ) / (2 * 2 * 3 * 4 * 5)
    loss = heatmap_loss(predicted, target, weights)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (predicted.grad[0, 1] == 0).all() and (predicted.grad[1, 1] != 0).all()


def test_joints_may_weigh_differently(config, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("lgmpose.training.loop.heatmap_loss", lambda *a: seen.append(a[2]) or heatmap_loss(*a))
    train(replace(config, joint_weights="hrnet", epochs=1), tmp_path / "run", progress=False)
    weights = torch.cat(seen).amax(dim=0)
    torch.testing.assert_close(weights, torch.tensor(COCO.limb_weights).square())


def test_schedules():
    paper = TrainConfig()
    rates = {epoch: learning_rate(paper, epoch * 10, 10) for epoch in (0, 199, 200, 239, 240, 259)}
    assert rates == pytest.approx({0: 1e-3, 199: 1e-3, 200: 1e-4, 239: 1e-4, 240: 1e-5, 259: 1e-5})
    cosine = TrainConfig(schedule="cosine", epochs=4, warmup_steps=5, learning_rate=1.0)
    assert learning_rate(cosine, 0, 10) == pytest.approx(0.2)
    assert learning_rate(cosine, 20, 10) == pytest.approx(0.5)
    assert learning_rate(cosine, 40, 10) == pytest.approx(0, abs=1e-12)


def test_running_average_follows_its_definition():
    net = create_model("lgm-pose-lspet-128x128", image_hw=(32, 64))
    run = Run(TrainConfig(ema_decay=0.9), net, torch.device("cpu"))
    name = "head.weight"
    expected = run.net.state_dict()[name].clone()
    for step in range(1, 30):
        with torch.no_grad():
            run.net.head.weight.add_(torch.randn_like(run.net.head.weight))
        run.step = step
        run.update_ema()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * run.net.head.weight
    torch.testing.assert_close(run.ema[name], expected)
    torch.testing.assert_close(run.deployed().head.weight, expected)


def test_a_run_leaves_its_files_and_weights_that_load(config, tmp_path):
    evaluation = train(config, tmp_path / "run", progress=False)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.json", "loss.csv", "log.csv", "curve.png", "last.safetensors", "best.safetensors"}
    net, card = load_weights(tmp_path / "run" / "best.safetensors")
    assert net.config.global_block == "mobilevit" and card["skeleton"]["name"] == "coco-17"
    assert card["training"]["config"] == config.as_dict()
    steps_per_epoch = len(load_records(config.data)) // config.batch_size
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(2 * steps_per_epoch))
    assert evaluation.conditions["flip test"] == "off" and "AP" in evaluation.figures


def test_the_log_says_zero_and_leaves_empty_what_was_not_measured(tmp_path):
    path = tmp_path / "log.csv"
    for row in ({"epoch": 1, "skipped": 0}, {"epoch": 2, "skipped": 0, "AP": 0.0}, {"epoch": 3, "skipped": 2}):
        append_epoch(path, row)
    assert path.read_text() == "epoch,skipped,AP\n1,0,\n2,0,0.0\n3,2,\n"
    append_epoch(path, {"epoch": 2, "skipped": 1})  # of a run that was killed and goes on
    assert path.read_text() == "epoch,skipped,AP\n1,0,\n2,1,\n"


def test_a_run_knows_the_weights_it_started_from_even_when_they_are_gone(config, tmp_path, monkeypatch):
    train(config, tmp_path / "first", progress=False)
    weights = (tmp_path / "first" / "best.safetensors").rename(tmp_path / "start.safetensors")
    before, card = load_weights(weights)
    second = replace(config, init_weights=str(weights), epochs=1, learning_rate=1e-9)
    train(second, tmp_path / "second", progress=False)
    start = load_weights(tmp_path / "second" / "best.safetensors")[1]["training"]["start"]
    assert start == {"weights": weights.name, "sha256": weights_hash(weights), "training": card["training"]}
    after = load_weights(tmp_path / "second" / "best.safetensors")[0]
    torch.testing.assert_close(after.head.weight, before.head.weight, atol=1e-6, rtol=0)
    weights.unlink()  # a resumed run does not need them any more
    train(second, tmp_path / "second", resume=True, progress=False)
    assert read_tensors(tmp_path / "second" / "last.safetensors")[1]["progress"]["start"] == start


def test_weights_with_another_activation_are_a_start_and_those_with_another_fusion_are_not(config, tmp_path):
    weights = tmp_path / "relu6.safetensors"
    net = create_model(config.model, image_hw=config.image_hw, global_block=config.global_block)
    save_weights(weights, net, COCO, make_codec("standard", config.image_hw))
    silu = replace(
        config, init_weights=str(weights), activation="silu", epochs=1, batch_size=32, learning_rate=1e-9, ema_decay=0
    )
    train(silu, tmp_path / "silu", progress=False)
    after = load_weights(tmp_path / "silu" / "best.safetensors")[0]
    assert after.config == replace(net.config, activation="silu")
    torch.testing.assert_close(after.head.weight, net.head.weight, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match="relu6.safetensors: weights of another network"):
        train(replace(silu, fusion="none"), tmp_path / "other", progress=False)


# --- being killed -------------------------------------------------------------------------------------------------


def _train_in_child(config, run_dir):
    torch.set_num_threads(1)
    train(config, run_dir, resume=True, progress=False)


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have the package imported already and have done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lgmpose.training.loop"])
    return context


def _version(path):
    """Changes whenever the file is replaced or written to."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def _wait_for_change(child, path, before):
    deadline = time.monotonic() + 120
    while _version(path) == before:
        assert child.exitcode is None and time.monotonic() < deadline, path
        time.sleep(0.002)
    return _version(path)


def test_killed_ten_times_it_ends_bit_for_bit_where_an_undisturbed_run_does(config, tmp_path, processes):
    config = replace(config, epochs=4)
    child = processes.Process(target=_train_in_child, args=(config, tmp_path / "calm"))
    child.start()
    child.join()
    assert child.exitcode == 0
    progress = read_tensors(tmp_path / "calm" / "last.safetensors")[1]["progress"]
    assert progress["step"] >= 20, "too short for ten lives"
    rng = random.Random(0)
    # The disturbed run loads in another process: workers must not matter either.
    disturbed = replace(config, workers=1)
    log, checkpoint = tmp_path / "killed" / "loss.csv", tmp_path / "killed" / "last.safetensors"
    for saves in (1, 0, 2, 0, 1, 1, 0, 2, 0, 1):  # how many steps a life may save, so that all together do not finish
        child = processes.Process(target=_train_in_child, args=(disturbed, tmp_path / "killed"))
        log_before, checkpoint_before = _version(log), _version(checkpoint)
        child.start()
        _wait_for_change(child, log, log_before)  # it is about to take its first step
        for _ in range(saves):
            checkpoint_before = _wait_for_change(child, checkpoint, checkpoint_before)
        time.sleep(rng.uniform(0, progress["seconds"] / progress["step"]))  # anywhere within the next step
        assert child.exitcode is None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    started = read_tensors(tmp_path / "killed" / "last.safetensors")[1]["progress"]["step"]
    assert 0 < started < len(losses(tmp_path / "calm"))
    child = processes.Process(target=_train_in_child, args=(disturbed, tmp_path / "killed"))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "calm")
    for name in ("last.safetensors", "best.safetensors"):
        calm, card = read_tensors(tmp_path / "calm" / name)
        killed, other_card = read_tensors(tmp_path / "killed" / name)
        assert calm.keys() == killed.keys()
        assert all(torch.equal(calm[key], killed[key]) for key in calm), name
    assert card["evaluation"] == other_card["evaluation"]
    assert not list((tmp_path / "killed").glob(".*"))


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
@pytest.mark.parametrize("kind, device", [("fused", "meta"), ("capturable", "meta"), ("plain", "cpu")])
def test_a_restored_optimiser_counts_its_steps_where_it_reads_them(config, tmp_path, kind, device):
    """As on a GPU, whose fused step refuses a count that lies elsewhere; the meta device stands in for one."""
    path, name = tmp_path / "last.safetensors", "lgm-pose-lspet-128x128"
    before = Run(config, create_model(name, image_hw=(32, 64)), torch.device("cpu"))
    before.net(torch.randn(2, 3, 32, 64)).sum().backward()
    before.optimizer.step()
    before.save(path)
    with torch.device("meta"):
        after = Run(config, create_model(name, image_hw=(32, 64)), torch.device("meta"))
    after.optimizer.param_groups[0].update({"fused": kind == "fused", "capturable": kind == "capturable"})
    after.restore(path)
    assert len(after.optimizer.state) == len(before.optimizer.state) > 0
    for state in after.optimizer.state.values():
        places = {key: value.device.type for key, value in state.items()}
        assert places == {"step": device, "exp_avg": "meta", "exp_avg_sq": "meta"}


def test_a_run_begun_without_a_gpu_can_go_on_with_one(config, tmp_path):
    run = Run(config, create_model("lgm-pose-lspet-128x128", image_hw=(32, 64)), torch.device("cpu"))
    run.save(tmp_path / "last.safetensors")
    run.device = torch.device("cuda")  # of whose random state the checkpoint knows nothing
    run.restore(tmp_path / "last.safetensors")


def test_ctrl_c_saves_and_says_how_to_go_on(config, tmp_path):
    run_dir = tmp_path / "run"
    arguments = ["--data", config.data, "--image-hw", "64", "96", "--batch-size", "8", "--workers", "1"]
    command = [sys.executable, "-m", "lgmpose", "train", *arguments, "--out", str(run_dir), "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run_dir / "loss.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err  # `lgmpose train … && lgmpose eval …` must not go on
    assert f"lgmpose resume {run_dir}" in out
    assert read_tensors(run_dir / "last.safetensors")[1]["progress"]["step"] == len(losses(run_dir)) > 0


@pytest.mark.skipif(sys.platform == "win32", reason="nothing stops a process there")
def test_time_in_which_the_process_lay_stopped_is_no_training():
    code = """
import os, signal, time
from lgmpose.training.run_folder import Stopwatch
with Stopwatch(100.0) as watch:
    watch.start()
    for step in range(4):
        time.sleep(0.05)
        if step == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        watch.lap()
print(watch.seconds, watch.pace)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
    begun = time.monotonic()
    time.sleep(3)
    stopped = time.monotonic() - begun
    os.kill(child.pid, signal.SIGCONT)
    seconds, pace = map(float, child.communicate()[0].split())
    assert 100.2 <= seconds < 100.2 + stopped
    assert pace == pytest.approx((seconds - 100) / 4)


def test_a_resumed_run_judges_by_its_own_pace_what_is_left(config, tmp_path, monkeypatch, capsys):
    config, run_dir = replace(config, epochs=3, eval_every=3), tmp_path / "run"

    def cut_off(path, row):
        if row["epoch"] == 2:
            raise InterruptedError
        append_epoch(path, row)

    monkeypatch.setattr("lgmpose.training.loop.append_epoch", cut_off)
    with pytest.raises(InterruptedError):
        train(config, run_dir, progress=False)
    monkeypatch.undo()
    tensors, card = read_tensors(run_dir / "last.safetensors")
    assert card["progress"]["epoch"] == 1
    card["progress"]["seconds"] = 1e6  # the machine was busy then
    write_tensors(run_dir / "last.safetensors", tensors, card)
    train(config, run_dir, resume=True)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch 2/3"))
    assert re.search(r"[1-9]\d*\.\d pictures/s, 0m\d\ds left", line)
    assert read_tensors(run_dir / "last.safetensors")[1]["progress"]["seconds"] > 1e6


def test_a_stop_in_an_epochs_last_step_or_in_its_evaluation_is_heard(config, tmp_path, monkeypatch):
    stop = SimpleNamespace(asked=True)
    monkeypatch.setattr("lgmpose.training.loop.StopRequest", lambda: nullcontext(stop))
    one_step = replace(config, epochs=3, batch_size=len(load_records(config.data)))
    with pytest.raises(KeyboardInterrupt):
        train(one_step, tmp_path / "one step", progress=False)
    assert read_tensors(tmp_path / "one step" / "last.safetensors")[1]["progress"]["epoch"] == 1

    def evaluated(*args, **options):
        stop.asked = True
        return evaluate(*args, **options)

    stop.asked = False
    monkeypatch.setattr("lgmpose.training.loop.evaluate", evaluated)
    with pytest.raises(KeyboardInterrupt):
        train(replace(config, epochs=3), tmp_path / "evaluation", progress=False)
    assert read_tensors(tmp_path / "evaluation" / "last.safetensors")[1]["progress"]["epoch"] == 1


def test_other_data_are_another_run(config, tmp_path, monkeypatch):
    config, run_dir = replace(config, epochs=1), tmp_path / "run"
    train(config, run_dir, progress=False)
    whole = load_records(config.data)
    first = whole.records[0]
    moved = replace(whole, records=(replace(first, keypoints_xy=first.keypoints_xy + 1), *whole.records[1:]))
    for data, message in (
        (whole.subset(range(20)), rf"of a run on {len(whole)} persons, and now there are 20: bring its data back"),
        (whole.subset(range(len(whole))[::-1]), "there are as many, but not the same"),
        (moved, "there are as many, but not the same"),
    ):
        monkeypatch.setattr("lgmpose.training.loop.load_records", lambda name, split, data=data, **_: (
            data if split == "train" else load_records(name, split)))  # fmt: skip
        with pytest.raises(UserError, match=message):
            train(config, run_dir, resume=True, progress=False)
    named = [replace(whole, records=(replace(first, id=id),)) for id in (1, 2, "a3f9", "a3fa")]  # ids may be no numbers
    assert len({fingerprint(one)["crc32"] for one in named}) == 4
    tensors, card = read_tensors(run_dir / "last.safetensors")
    del card["progress"]["data"], card["progress"]["processes"]  # of an older version, which did not keep them
    write_tensors(run_dir / "last.safetensors", tensors, card)
    train(config, run_dir, resume=True, progress=False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what is mapped")
def test_a_resumed_run_lets_go_of_its_checkpoint(config, tmp_path):
    """What is still mapped cannot be replaced on Windows: the next checkpoint would fail."""
    path = tmp_path / "last.safetensors"
    run = Run(config, create_model(config.model, image_hw=(32, 64)), torch.device("cpu"))
    run.net(torch.rand(1, 3, 32, 64)).mean().backward()
    run.optimizer.step()
    run.save(path)
    run.restore(path)
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_second_gpu_has_its_own_random_state(config, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: asked.append(device) or torch.zeros(4))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: asked.append(device))
    run = Run(config, create_model(config.model, image_hw=(32, 64)), torch.device("cpu"))
    run.device = torch.device("cuda:1")
    run.save(tmp_path / "last.safetensors")
    run.restore(tmp_path / "last.safetensors")
    assert asked == [torch.device("cuda:1")] * 2


def test_averaged_weights_draw_no_random_numbers(config):
    """Process 0 alone asks for them: its dropout must not part from the others'."""
    run = Run(config, create_model(config.model, image_hw=(32, 64)), torch.device("cpu"))
    before = torch.get_rng_state()
    run.deployed()
    assert torch.equal(torch.get_rng_state(), before)


def test_kernels_of_five_axes_are_trained_and_evaluated(config, tmp_path):
    """Dite-HRNet's dynamic convolutions, which ``.to(memory_format=…)`` refuses."""
    evaluation = train(replace(config, model="dite-hrnet-18", image_hw=(64, 64), global_block="mobilevim", epochs=1,
                               batch_size=32), tmp_path / "run", progress=False)  # fmt: skip
    assert "AP" in evaluation.figures
    backend = open_backend(tmp_path / "run" / "best.safetensors", device="cpu")
    with torch.inference_mode():
        assert backend.network_at((64, 96))(torch.rand(1, 3, 64, 96)).shape == (1, 17, 16, 24)


def test_the_gradients_norm_is_clipped_where_that_is_asked_for(config):
    def norm(**options):
        torch.manual_seed(0)
        run = Run(replace(config, **options), create_model(config.model, image_hw=(32, 64)), torch.device("cpu"))
        g = torch.Generator().manual_seed(0)
        batch = {"image": torch.randint(0, 256, (4, 32, 64, 3), dtype=torch.uint8, generator=g),
                 "heatmaps": torch.rand(4, 17, 8, 16, generator=g), "weights": torch.ones(4, 17)}  # fmt: skip
        _step(run, run.net, batch, 0.0)
        return torch.stack([p.grad.norm() for p in run.net.parameters()]).norm().item()

    assert norm() > 1e-3 and norm(clip_grad_norm=1e-4) == pytest.approx(1e-4, rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_runs_in_the_precision_that_is_asked_for(config, tmp_path, monkeypatch, precision):
    seen = []
    monkeypatch.setattr("lgmpose.training.loop.to_input", lambda images: seen.append(
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")) or to_input(images))  # fmt: skip
    train(replace(config, epochs=1, precision=precision), tmp_path / "run", progress=False)
    assert set(seen) == {torch.bfloat16 if precision == "bf16" else False}


# --- several processes --------------------------------------------------------------------------------------------


def _frozen_gradients(config, run_dir, rank, world, port):
    """Gradients of the first batch with BatchNorm frozen, so that pictures do not influence one another."""
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if world > 1:
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    record_set = load_records(config.data)
    net = create_model(config.model, image_hw=config.image_hw)
    net.eval()
    wrapped = DistributedDataParallel(net) if world > 1 else net
    codec = make_codec("standard", config.image_hw)
    sampler = EpochSampler(len(record_set), config.batch_size, seed=1, epoch=0, rank=rank, world=world)
    dataset = CropDataset(record_set, config.image_hw, augmentation=config.augmentation, seed=1)
    batch = next(iter(make_loader(dataset, codec, sampler, workers=0)))
    heatmap_loss(wrapped(to_input(batch["image"])), batch["heatmaps"], batch["weights"]).backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    write_tensors(run_dir / f"{world}-{rank}.safetensors", gradients, {})


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_give_the_gradients_of_one(config, tmp_path, processes):
    port = _free_port()
    children = [
        processes.Process(target=_frozen_gradients, args=(config, tmp_path, rank, world, port))
        for rank, world in ((0, 1), (0, 2), (1, 2))
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    alone, first, second = (read_tensors(tmp_path / f"{name}.safetensors")[0] for name in ("1-0", "2-0", "2-1"))
    for name, gradient in alone.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(first[name], gradient, rtol=1e-4, atol=1e-7 * float(gradient.abs().max()) + 1e-9)
        assert torch.equal(first[name], second[name])


def test_torchrun_trains_on_two_processes(config, tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(_free_port()),
        "-m", "lgmpose", "train", "--data", config.data, "--image-hw", "64", "96", "--batch-size", "8", "--epochs", "1",
        "--out", str(tmp_path / "run"), "--device", "cpu", "--workers", "0",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    steps = len(load_records(config.data)) // 8
    assert len(losses(tmp_path / "run")) == steps and (tmp_path / "run" / "best.safetensors").exists()


def _stopped_in_child(arguments, rank, port):
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    save = Run.save
    Run.save = lambda *args: time.sleep(1) or save(*args)  # a slow disk
    with open(f"{arguments[-1]}.{rank}.txt", "w") as sys.stdout:
        sys.exit(main(arguments))


def test_a_stop_of_one_process_ends_both_when_the_state_is_saved(config, tmp_path, processes, capsys):
    """Torchrun ends the others when one has left with a status other than 0."""
    port, run_dir = _free_port(), tmp_path / "a run"
    arguments = ["train", "--data", config.data, "--image-hw", "64", "96", "--batch-size", "8", "--device", "cpu"]
    arguments += ["--workers", "0", "--checkpoint-minutes", "0", "--out", str(run_dir)]
    children = [processes.Process(target=_stopped_in_child, args=(arguments, rank, port)) for rank in (0, 1)]
    for child in children:
        child.start()
    _wait_for_change(children[0], run_dir / "last.safetensors", None)
    os.kill(children[1].pid, signal.SIGINT)
    children[1].join()
    assert read_tensors(run_dir / "last.safetensors")[1]["progress"]["step"] == len(losses(run_dir)) > 1
    children[0].join()
    assert [child.exitcode for child in children] == [130, 130]
    how = f"go on with: torchrun --nproc-per-node 2 -m lgmpose resume {shlex.quote(str(run_dir))}\n"
    assert how in Path(f"{run_dir}.0.txt").read_text()
    assert main(["resume", str(run_dir)]) == 2  # alone it would be another run
    assert f"of a run of 2 processes, which does not go on the same with 1; {how}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "kind, nccl, backend", [("cpu", True, "gloo"), ("cuda", True, "nccl"), ("cuda", False, "gloo")]
)
def test_processes_talk_as_their_device_can(config, monkeypatch, kind, nccl, backend):
    begun = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("lgmpose.training.loop.choose_device", lambda name: torch.device(name))
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    monkeypatch.setattr(torch.distributed, "init_process_group", begun.append)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    assert _join_processes(replace(config, device=kind)) == (1, 2) and begun == [backend]
    with pytest.raises(UserError, match="device 'mps': several processes need"):
        _join_processes(replace(config, device="mps"))


# --- what goes wrong ----------------------------------------------------------------------------------------------


def _infinite_input(number, images):
    """The fourth batch overflows, and with it every BatchNorm on its way."""
    return to_input(images) * (math.inf if number == 4 else 1)


def _infinite_slope(number, predicted, *others):
    """The fourth loss is a number, its slope is none: the step spoils the weights."""
    return heatmap_loss(predicted, *others) + ((0 * predicted).abs().sqrt().sum() if number == 4 else 0)


@pytest.mark.parametrize("replaced, spoilt, message", [
    ("to_input", _infinite_input, "the loss became nan at step 3"),
    ("heatmap_loss", _infinite_slope, "weights are no numbers any more after step 3"),
])  # fmt: skip
def test_a_run_that_diverges_keeps_its_last_good_checkpoint(config, tmp_path, monkeypatch, replaced, spoilt, message):
    train(config, tmp_path / "calm", progress=False)
    for name, minutes, expected in (
        ("early", 2.0, r"\(epoch 1\); there is no checkpoint of it yet"),
        ("run", 0, rf"{message} \(epoch 1\); last.safetensors still holds the state before step 3"),
    ):
        with monkeypatch.context() as patch:
            numbers = itertools.count(1)
            patch.setattr(f"lgmpose.training.loop.{replaced}", lambda *a, numbers=numbers: spoilt(next(numbers), *a))
            with pytest.raises(UserError, match=expected):
                train(replace(config, checkpoint_minutes=minutes), tmp_path / name, progress=False)
    assert not (tmp_path / "early" / "last.safetensors").exists()
    train(config, tmp_path / "run", resume=True, progress=False)
    calm, resumed = (read_tensors(tmp_path / name / "last.safetensors")[0] for name in ("calm", "run"))
    assert all(torch.equal(calm[name], resumed[name]) for name in calm)
    assert losses(tmp_path / "calm") == losses(tmp_path / "run")


def test_a_disk_that_fills_up_is_one_sentence_in_the_log_too(tmp_path, monkeypatch):
    log = CsvLog(tmp_path / "loss.csv", ("step", "loss"), "step", 0, True)
    log.file = SimpleNamespace(name="loss.csv", flush=lambda: open("/dev/full", "w").write("x" * 10**6))
    with pytest.raises(UserError, match=r"loss\.csv: cannot be written"):
        log.flush()


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "last.safetensors"
    write_tensors(path, {"x": torch.zeros(10)}, {"number": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # a file may grow to 4 KB: the write fails midway
    try:
        with pytest.raises(UserError, match="last.safetensors: cannot be written .* still there"):
            write_tensors(path, {"x": torch.zeros(100_000)}, {"number": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_tensors(path)[1] == {"number": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_other_runs_are_not_overwritten_and_other_settings_not_resumed(config, tmp_path):
    config = replace(config, epochs=1)
    train(config, tmp_path / "run", progress=False)
    with pytest.raises(UserError, match="holds a run already"):
        train(config, tmp_path / "run", progress=False)
    with pytest.raises(UserError, match="started with learning_rate = 0.002, not 0.1"):
        train(replace(config, learning_rate=0.1), tmp_path / "run", resume=True, progress=False)
    shutil.copy(tmp_path / "run" / "best.safetensors", tmp_path / "run" / "last.safetensors")
    with pytest.raises(UserError, match="weights, not a checkpoint: --init-weights starts a new run"):
        train(config, tmp_path / "run", resume=True, progress=False)
    with pytest.raises(UserError, match="weights, not a checkpoint"):
        run = Run(config, create_model(config.model), torch.device("cpu"))
        run.restore(tmp_path / "run" / "best.safetensors")


def test_what_a_finished_run_left_is_not_overwritten_though_its_checkpoint_is_gone(config, tmp_path):
    run_dir, config = tmp_path / "run", replace(config, epochs=1)
    train(config, run_dir, progress=False)
    (run_dir / "last.safetensors").unlink()
    for name in ("best.safetensors", "log.csv"):
        before = {path: path.read_bytes() for path in run_dir.iterdir()}
        with pytest.raises(UserError, match=rf"holds {name} of another run.* choose another --out"):
            train(config, run_dir, progress=False)
        assert {path: path.read_bytes() for path in run_dir.iterdir()} == before
        (run_dir / name).unlink()


def test_two_runs_never_share_a_folder(config, tmp_path, processes):
    with exclusive(tmp_path / "run"):
        child = processes.Process(target=_train_in_child, args=(config, tmp_path / "run"))
        child.start()
        child.join()
        assert child.exitcode == 1 and {path.name for path in (tmp_path / "run").iterdir()} == {".lock"}
    assert not list((tmp_path / "run").iterdir())


def test_a_finished_run_says_so(config, tmp_path, capsys):
    config = replace(config, epochs=1)
    train(config, tmp_path / "run", progress=False)
    train(config, tmp_path / "run", resume=True)
    assert "finished already, all 1 epochs" in capsys.readouterr().out


def test_unreadable_pictures_are_refused_or_skipped_as_asked(config, people, tmp_path):
    import shutil

    folder = tmp_path / "people"
    shutil.copytree(people, folder)
    picture = folder / "images" / "000004.jpg"
    picture.write_bytes(picture.read_bytes()[:500])
    config = replace(config, data=f"synthetic:{folder}", epochs=1, workers=1)
    with pytest.raises(UserError, match=r"000004\.jpg: the JPEG is cut short; --bad-images skip") as caught:
        train(config, tmp_path / "refused", progress=False)
    assert "\n" not in str(caught.value)
    train(replace(config, bad_images="skip"), tmp_path / "skipped", progress=False)
    with open(tmp_path / "skipped" / "log.csv", newline="") as file:
        assert int(next(csv.DictReader(file))["skipped"]) >= 1


def test_a_run_that_meets_an_unreadable_picture_late_is_finished_without_it(config, people, tmp_path, capsys):
    folder, run_dir = tmp_path / "people", tmp_path / "run"
    shutil.copytree(people, folder)
    picture = Path(load_records(f"synthetic:{folder}", "val").records[0].image)
    picture.write_bytes(picture.read_bytes()[:500])
    config = replace(config, data=f"synthetic:{folder}", checkpoint_minutes=9)
    with pytest.raises(UserError, match=rf"{picture.name}: the JPEG is cut short; --bad-images skip"):
        train(config, run_dir, progress=False)
    progress = read_tensors(run_dir / "last.safetensors")[1]["progress"]
    assert progress["epoch"] == 0 and progress["step"] == progress["epoch_step"] == len(losses(run_dir)) > 0
    assert main(["resume", str(run_dir), "--bad-images", "skip"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert ["pictures/s" in line for line in lines] == [False, True]  # of the first no step was left to be timed
    train(replace(config, bad_images="skip"), tmp_path / "calm", progress=False)
    assert losses(run_dir) == losses(tmp_path / "calm")
    for name in ("last.safetensors", "best.safetensors"):
        resumed, calm = (read_tensors(folder / name)[0] for folder in (run_dir, tmp_path / "calm"))
        assert all(torch.equal(resumed[key], calm[key]) for key in calm), name
    assert json.loads((run_dir / "config.json").read_text())["bad_images"] == "skip"


def test_a_set_on_which_nothing_can_be_measured_is_refused_before_work_starts(config, tmp_path, monkeypatch):
    val_set = load_records(config.data, "val")
    hips = [COCO.joint_names.index(f"{side}_hip") for side in ("left", "right")]
    records = [replace(record, visibility=record.visibility.copy()) for record in val_set.records]
    for record in records:
        record.visibility[hips] = 0
    val_set = replace(val_set, records=tuple(records), annotation_file=None)
    monkeypatch.setattr("lgmpose.training.loop.load_records", lambda data, split, **_: (
        val_set if split == "val" else load_records(data, split)))  # fmt: skip
    with pytest.raises(UserError, match="synthetic-val: no figure can be computed on it"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_file_system_without_locks_is_no_other_process(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    for number, taken in (
        (errno.ENOLCK, False), (errno.ENOSYS, False), (errno.EOPNOTSUPP, False), (errno.EAGAIN, True),
        (errno.EACCES, True),
    ):  # fmt: skip

        def lockf(*_, number=number):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "lockf", lockf)
        refused = pytest.raises(UserError, match="another process is training there") if taken else nullcontext()
        with refused, exclusive(tmp_path / "run"):
            pass
        with nullcontext() if taken else one_at_a_time(tmp_path / "set" / ".lock"):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="no umask there")
def test_files_have_the_rights_that_new_ones_have(tmp_path, monkeypatch):
    def chmod(*_, **__):  # as on vfat
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chmod", chmod)
    for umask, mode in ((0o022, 0o644), (0o027, 0o640), (0o002, 0o664)):
        before = os.umask(umask)
        try:
            write_atomically(tmp_path / "file", b"x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_cores_are_those_of_the_containers_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    file = tmp_path / "cpu.max"
    monkeypatch.setattr("lgmpose.machine.CPU_QUOTA", file)
    assert num_cores() == 8
    for text, cores in (
        ("max 100000\n", 8), ("200000 100000\n", 2), ("150000 100000\n", 2), ("10000 100000\n", 1),
        ("9900000 100000\n", 8), ("", 8),
    ):  # fmt: skip
        file.write_text(text)
        assert num_cores() == cores, text


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    for name, value in (("is_available", True), ("current_accelerator", torch.device("cuda")), ("device_count", 2)):
        monkeypatch.setattr(torch.accelerator, name, lambda value=value: value)
    assert [str(choose_device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    with pytest.raises(UserError, match="device 'cuda:9' is not available here; the last one is cuda:1"):
        choose_device("cuda:9")


def test_validation_on_other_joints_is_refused_before_work_starts(config, people, tmp_path):
    content = json.loads((people / "annotations.json").read_text())
    (category,) = content["categories"]
    names, val = category["keypoints"], tmp_path / "other.json"
    config = replace(
        config, data=f"coco:{people}", annotations=str(people / "annotations.json"), val_annotations=str(val)
    )
    for other in (names[1::-1] + names[2:], names[:-1]):
        category["keypoints"], category["skeleton"] = other, []
        for person in content["annotations"]:
            person["keypoints"] = person["keypoints"][: 3 * len(other)]
        val.write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"other.json: its joints .* the same joints in the same order"):
            train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_impossible_wishes_are_refused_before_work_starts(config, tmp_path):
    for changes, message in (
        ({"batch_size": 5000}, "do not fill one batch"),
        ({"image_hw": (60, 96)}, "multiples of 32"),
        ({"model": "no-such-net"}, "no model"),
        ({"data": "nonsense:x"}, "expected KIND:PATH"),
        ({"init_weights": str(tmp_path / "none.safetensors")}, "no such weights file"),
        ({"device": "toaster"}, "no such thing"),
    ):
        with pytest.raises(UserError, match=message):
            train(replace(config, **changes), tmp_path / "run", progress=False)
    for wrong in ({"codec": "x"}, {"learning_rate": -1.0}, {"sigma": 0.0}, {"ema_decay": 2.0}, {"workers": -1}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            replace(config, **wrong)
    for name, values in (
        *((name, (-0.1, 1.1, math.nan)) for name in ("half_body_prob", "rotation_prob", "flip_prob", "occlusion_prob")),
        ("colour", (-0.1, 1.1)), ("scale_factor", (-0.1, 1.0)), ("rotation_deg", (-1.0, math.inf)),
        ("half_body_min_joints", (-1,)),
    ):  # fmt: skip
        for value in values:
            with pytest.raises(UserError, match=f"^{name} {value}: "):
                replace(config, augmentation=replace(config.augmentation, **{name: value}))
    assert not (tmp_path / "run").exists()
