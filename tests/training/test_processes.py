"""Several processes: their share of each batch, the loss of all, a stop of one; and a process that is killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from training_tools import TINY, assert_equal_states, by_hand, losses_of

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.data.batches import make_loader, to_input
from lgmpose.data.crops import CropDataset
from lgmpose.errors import UserError
from lgmpose.network.config import VARIANTS
from lgmpose.pose.codecs import make_codec
from lgmpose.training import trainer
from lgmpose.training.checkpoint import Run, read_checkpoint
from lgmpose.training.loop import heatmap_loss
from lgmpose.training.trainer import Session, train
from lgmpose.zoo.catalogue import create_model, load_weights


@pytest.fixture
def two_ranks(monkeypatch):
    """Pretend to be rank 0 of two processes whose second one computes what the first one does."""
    begun = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: begun.append(backend))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: begun.append("ended"))
    monkeypatch.setattr(dist, "barrier", lambda: begun.append("all done"))
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor.mul_(2))
    monkeypatch.setattr("lgmpose.training.trainer.DistributedDataParallel", lambda net, device_ids: net)
    return begun


def test_a_rank_takes_its_share_and_logs_the_mean_of_all_losses(config, tmp_path, two_ranks, monkeypatch):
    shares = []
    monkeypatch.setattr("lgmpose.training.loop.to_input", lambda images: shares.append(len(images)) or to_input(images))
    config = replace(config, epochs=1)
    train(config, tmp_path / "run", progress=False)
    assert shares == [2, 2, 2] and two_ranks == ["gloo", "all done", "ended"]
    torch.manual_seed(config.seed)
    net = create_model("tiny", image_hw=config.image_hw, global_block=config.global_block)
    codec, records = make_codec("standard", config.image_hw), load_records(config.data)
    dataset = CropDataset(records, config.image_hw, augmentation=config.augmentation, seed=config.seed)
    order = np.random.default_rng((config.seed, 0)).permutation(len(records))
    batch = next(iter(make_loader(dataset, codec, [[(0, int(i)) for i in order[:2]]], workers=0)))
    loss = heatmap_loss(net.train()(to_input(batch["image"])), batch["heatmaps"], batch["weights"])
    assert losses_of(tmp_path / "run")[0] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("batch_size, epoch", [(4, 0), (12, 1)])  # within the epoch, and in its last step
def test_a_stop_of_any_rank_is_one_of_all(config, tmp_path, two_ranks, monkeypatch, batch_size, epoch):
    def all_reduce(tensor):
        tensor.mul_(2)
        if tensor.numel() == 3:  # one loss, the wish to stop, unreadable images
            tensor[1] += 1  # of the other rank

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    with pytest.raises(KeyboardInterrupt):
        train(replace(config, batch_size=batch_size), tmp_path / "run", progress=False)
    progress = read_checkpoint(tmp_path / "run" / "last.pt")["progress"]
    assert (progress["epoch"], progress["step"]) == (epoch, 1)


@pytest.mark.parametrize("changes, named", [
    ({"batch_size": 5}, "batch_size 5"), ({"device": "mps"}, "mps"), ({"sync_batchnorm": True}, "sync_batchnorm"),
    ({"teacher": "net.onnx"}, "with several"), ({"minutes": 5.0}, "minutes 5"),
    ({"freeze_epochs": 1}, "freeze_epochs 1"),
])  # fmt: skip
def test_what_several_processes_cannot_do_is_refused(config, tmp_path, two_ranks, monkeypatch, changes, named):
    monkeypatch.setattr("lgmpose.training.trainer.choose_device", torch.device)
    with pytest.raises(UserError, match=named):
        train(replace(config, **changes), tmp_path / "run", progress=False)
    assert not two_ranks


def test_several_processes_take_a_teachers_file(config, tmp_path, two_ranks):
    with pytest.raises(UserError, match="absent.npz: no such"):
        train(replace(config, teacher="absent.npz"), tmp_path / "run", progress=False)


@pytest.mark.parametrize("kind, nccl, backend", [("cuda", True, "nccl"), ("cuda", False, "gloo")])
def test_processes_talk_as_their_device_can(config, tmp_path, two_ranks, monkeypatch, kind, nccl, backend):
    monkeypatch.setattr("lgmpose.training.trainer.choose_device", torch.device)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: nccl)
    monkeypatch.setattr("lgmpose.training.trainer.load_records", lambda *_, **__: 1 / 0)  # far enough
    with pytest.raises(ZeroDivisionError):
        train(replace(config, device=kind), tmp_path / "run", progress=False)
    assert two_ranks == [backend, "ended"]


# Real processes

slow = pytest.mark.slow


def child_trains(config, run_dir):
    VARIANTS["tiny"] = TINY
    torch.set_num_threads(1)
    train(config, run_dir, resume=True, progress=False)


@pytest.fixture(scope="module")
def processes():
    """Start processes that have imported the package already and have done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lgmpose.training.trainer"])
    return context


def version(path):
    """Return what changes whenever the file is replaced or written to."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def wait_for_change(child, path, before):
    deadline = time.monotonic() + 120
    while version(path) == before:
        assert child.exitcode is None and time.monotonic() < deadline, path
        time.sleep(0.002)
    return version(path)


@slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_six_times_it_ends_bit_for_bit_where_a_loop_written_by_hand_does(config, tmp_path, processes):
    config = replace(config, epochs=5, workers=1)  # loader processes must not matter, nor keep the folder's lock
    rng = random.Random(0)
    log, checkpoint = tmp_path / "killed" / "loss.csv", tmp_path / "killed" / "last.pt"
    for saves in (1, 0, 2, 0, 1, 2):  # how many checkpoints a life may write; together too few to finish
        child = processes.Process(target=child_trains, args=(config, tmp_path / "killed"))
        log_before, checkpoint_before = version(log), version(checkpoint)
        child.start()
        wait_for_change(child, log, log_before)  # it is about to take its first step
        for _ in range(saves):
            checkpoint_before = wait_for_change(child, checkpoint, checkpoint_before)
        time.sleep(rng.uniform(0, 0.1))  # anywhere within the next step
        assert child.exitcode is None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert 0 < read_checkpoint(checkpoint)["progress"]["step"] < 15
    child = processes.Process(target=child_trains, args=(config, tmp_path / "killed"))
    child.start()
    child.join()
    assert child.exitcode == 0
    losses, net, average = by_hand(config)
    assert losses_of(tmp_path / "killed") == losses
    assert_equal_states(read_checkpoint(checkpoint)["net"], net.state_dict())
    assert_equal_states(read_checkpoint(checkpoint)["ema"], average)
    assert {path.name for path in (tmp_path / "killed").glob(".*")} == {".lock"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@slow
@pytest.mark.parametrize("model", ["lgm-pose-coco-256x192", "dite-hrnet-18"])  # the second has unused parameters
def test_torchrun_trains_on_two_processes(config, tmp_path, model):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()),
        "-m", "lgmpose", "train", "--data", config.data, "--image-hw", "64", "32", "--batch-size", "4", "--epochs", "1",
        "--out", str(tmp_path / "run"), "--device", "cpu", "--workers", "0", "--model", model,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert len(losses_of(tmp_path / "run")) == 3
    # Gradients are averaged: rank 0's weights are not those of a run on its own half of each batch.
    state = read_checkpoint(tmp_path / "run" / "last.pt")
    assert state["progress"]["processes"] == 2
    kept = load_weights(tmp_path / "run" / "best.safetensors")[0]
    assert_equal_states(kept.state_dict(), state["net"])


def stopped_child(arguments, rank, port):
    VARIANTS["tiny"] = TINY
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    save = Run.save
    Run.save = lambda *args: time.sleep(1) or save(*args)  # a slow disk
    with open(f"{arguments[-1]}.{rank}.txt", "w") as sys.stdout:
        sys.exit(main(arguments))


@slow
def test_a_stop_of_one_process_ends_both_when_the_state_is_saved(config, tmp_path, processes, capsys):
    """Torchrun ends the others when one has left with a status other than 0."""
    port, run_dir = free_port(), tmp_path / "run"
    arguments = ["train", "--data", config.data, "--model", "tiny", "--batch-size", "4", "--device", "cpu"]
    arguments += ["--workers", "0", "--checkpoint-minutes", "0", "--out", str(run_dir)]
    children = [processes.Process(target=stopped_child, args=(arguments, rank, port)) for rank in (0, 1)]
    for child in children:
        child.start()
    wait_for_change(children[0], run_dir / "last.pt", None)
    os.kill(children[1].pid, signal.SIGINT)
    children[1].join()
    assert read_checkpoint(run_dir / "last.pt")["progress"]["step"] == len(losses_of(run_dir)) > 1
    children[0].join()
    assert [child.exitcode for child in children] == [130, 130]
    command = f"torchrun --nproc-per-node 2 -m lgmpose resume {run_dir}"
    assert command in Path(f"{run_dir}.0.txt").read_text()
    assert main(["resume", str(run_dir)]) == 2  # alone it would be another run
    assert command in capsys.readouterr().err


def child_of_two(config, run_dir, rank, port, change):
    VARIANTS["tiny"] = TINY
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    change(rank)
    with open(f"{run_dir}.{rank}.txt", "w") as file:
        try:
            train(config, run_dir, progress=False)
        except UserError as error:
            print(error, file=file)
            sys.exit(2)


def run_two(processes, config, run_dir, change):
    """Train with two processes; return their exit codes and the texts of their errors."""
    port = free_port()
    children = [processes.Process(target=child_of_two, args=(config, run_dir, rank, port, change)) for rank in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children], [Path(f"{run_dir}.{rank}.txt").read_text() for rank in (0, 1)]


def evaluate_longer_than_the_default_timeout(rank):
    torch.distributed.distributed_c10d._get_default_timeout = lambda backend: timedelta(seconds=2)
    evaluate = Session.evaluate
    Session.evaluate = lambda *args: time.sleep(4) or evaluate(*args)


@slow
def test_the_other_processes_wait_for_a_long_evaluation(config, tmp_path, processes):
    config = replace(config, epochs=1)
    assert run_two(processes, config, tmp_path / "run", evaluate_longer_than_the_default_timeout)[0] == [0, 0]


def fail_in_rank_1(rank):
    def unreadable(batch, bad_images):
        raise UserError("one.jpg: not a picture")

    if rank == 1:
        trainer.count_errors = unreadable


@slow
def test_when_one_process_fails_the_other_says_so_in_one_line(config, tmp_path, processes):
    codes, texts = run_two(processes, config, tmp_path / "run", fail_in_rank_1)
    assert codes == [2, 2] and texts[1] == "one.jpg: not a picture\n"
    assert "another process" in texts[0] and texts[0].count("\n") == 1


@slow
def test_ctrl_c_reaches_a_real_process(config, tmp_path):
    run_dir = tmp_path / "run"
    arguments = ["--data", config.data, "--image-hw", "64", "32", "--batch-size", "4", "--workers", "1"]
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
    assert read_checkpoint(run_dir / "last.pt")["progress"]["step"] == len(losses_of(run_dir)) > 0
