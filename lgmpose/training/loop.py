"""Training: the paper's recipe by default, one frozen dataclass, resumable bit for bit.

A run is a folder: ``config.json``, ``loss.csv`` (one row a step), ``log.csv`` (one row an epoch), ``curve.png``,
``last.safetensors`` (everything needed to go on) and ``best.safetensors`` (the network to use).
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from lgmpose.data import load_records
from lgmpose.data.batches import EpochSampler, choose_workers, count_errors, make_loader, to_input
from lgmpose.data.crops import CropDataset
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.inference.evaluate import Evaluation, evaluate, joint_metrics
from lgmpose.machine import choose_device, tune_allocator
from lgmpose.network.model import LGMPose
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import notice_unpaired
from lgmpose.training.checkpoint import Run, check_same_run, fingerprint, resume_command, stored_config
from lgmpose.training.curve import save_curve
from lgmpose.training.recipe import TrainConfig, learning_rate
from lgmpose.training.run_folder import CsvLog, StopRequest, Stopwatch, append_epoch, duration, exclusive
from lgmpose.zoo.catalogue import at_size, create_model, load_weights, save_weights, weights_hash
from lgmpose.zoo.tensor_files import read_tensors

__all__ = ["heatmap_loss", "resume", "train"]


def heatmap_loss(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Half the squared error, averaged over batch, joints and pixels; joints of weight 0 count as no error.

    Args:
        predicted: (B, K, h, w).
        target: (B, K, h, w).
        weights: (B, K).
    """
    return 0.5 * ((predicted - target).square() * weights[..., None, None]).mean()


def train(
    config: TrainConfig, run_dir: str | Path, *, resume: bool = False, progress: bool = True
) -> Evaluation | None:
    """Trains, or goes on training, in ``run_dir``.

    Under ``torchrun`` every process trains on its share of each batch (DistributedDataParallel); process 0 alone logs,
    evaluates and writes.

    Args:
        config: what to train. When resuming, it must be the one the run was started with.
        run_dir: the run's folder.
        resume: go on from ``last.safetensors`` if there is one.

    Returns:
        The last evaluation (None in processes other than 0, and where the run had ended before).

    Raises:
        UserError: bad data or options, a folder that holds another run, a loss that is no number.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM before its end, in every process; its state is saved.
    """
    tune_allocator()
    run_dir, checkpoint = Path(run_dir), Path(run_dir) / "last.safetensors"
    if not resume:
        _refuse_other_run(run_dir, checkpoint)
    rank, world = _join_processes(config)
    try:
        torch.manual_seed(config.seed)
        train_set = load_records(config.data, "train", annotations=config.annotations)
        val_set = load_records(config.data, "val", annotations=config.val_annotations)
        for record_set in (train_set, val_set):
            if record_set.notes and rank == 0:
                print(f"{record_set.name}: left out or replaced: {record_set.left_out}", flush=True)
        _check_same_joints(train_set, val_set)
        if val_set.annotation_file is None and not joint_metrics(val_set):
            raise UserError(
                f"{val_set.name}: no figure can be computed on it, as nobody's torso (a hip and the opposite shoulder) "
                "or head is labelled"
            )
        if len(train_set) < config.batch_size:
            raise UserError(
                f"{train_set.name}: {len(train_set)} persons do not fill one batch of {config.batch_size}; choose a "
                "smaller --batch-size"
            )
        if rank == 0 and config.augmentation.flip_prob > 0:
            notice_unpaired(train_set.skeleton)
        device = choose_device(config.device)
        if world > 1 and device.type == "cuda":
            device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
            torch.cuda.set_device(device)
        resuming = resume and checkpoint.exists()
        net, start = _make_network(config, train_set, fresh=not resuming)
        run = Run(config, net, device)
        run.start, run.processes, run.data = start, world, fingerprint(train_set)
        with exclusive(run_dir) if rank == 0 else nullcontext():
            for leftover in run_dir.glob(".*.safetensors.*") if rank == 0 else ():  # of a write that a kill cut short
                leftover.unlink(missing_ok=True)
            if resuming:
                check_same_run(config, checkpoint)
                run.restore(checkpoint)
            if rank == 0:  # of a resumed run, too: what it does with unreadable pictures may have changed
                write_atomically(run_dir / "config.json", json.dumps(config.as_dict(), indent=1).encode())
            return _train(run, train_set, val_set, run_dir, rank, world, progress and rank == 0)
    finally:
        if world > 1:
            dist.destroy_process_group()


def resume(run_dir: str | Path, **changes: Any) -> Evaluation | None:
    """Resume a run with its own settings.

    Args:
        run_dir: the run's folder.
        changes: new values of ``RESUME_FIELDS``.

    Raises:
        UserError: no run there, or what ``train`` raises.
    """
    checkpoint = Path(run_dir) / "last.safetensors"
    if not checkpoint.is_file():
        raise UserError(f"{run_dir}: no last.safetensors in it, so there is no run to resume")
    return train(replace(stored_config(checkpoint), **changes), run_dir, resume=True)


def _refuse_other_run(run_dir: Path, checkpoint: Path) -> None:
    """Raises UserError where a new run would overwrite what another has left."""
    if checkpoint.exists():
        raise UserError(f"{run_dir}: holds a run already; lgmpose resume continues it, another --out starts a new one")
    for name in ("best.safetensors", "log.csv"):
        if (run_dir / name).exists():
            raise UserError(
                f"{run_dir}: holds {name} of another run, which a new one would overwrite; choose another --out, or "
                f"move the folder away ({checkpoint.name} is gone, so the old run cannot go on)"
            )


def _check_same_joints(train_set: RecordSet, val_set: RecordSet) -> None:
    """What a network learns on one set can be measured on the other only if the same joints come in the same order."""
    learned, measured = train_set.skeleton.joint_names, val_set.skeleton.joint_names
    if learned != measured:
        raise UserError(
            f"{val_set.annotation_file or val_set.name}: its joints are {', '.join(measured)}, but those trained on "
            f"({train_set.annotation_file or train_set.name}) are {', '.join(learned)}; both must list the same joints "
            "in the same order"
        )


def _join_processes(config: TrainConfig) -> tuple[int, int]:
    """(rank, number of processes), from the environment that torchrun sets."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return 0, 1
    if config.batch_size % world:
        raise UserError(f"a batch of {config.batch_size} cannot be shared by {world} processes evenly")
    device = choose_device(config.device)
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {str(device)!r}: several processes need --device cuda or --device cpu")
    dist.init_process_group("nccl" if device.type == "cuda" and dist.is_nccl_available() else "gloo")
    return dist.get_rank(), world


def _make_network(config: TrainConfig, train_set: RecordSet, fresh: bool) -> tuple[nn.Module, dict | None]:
    """The network, and what it starts from: None if that is scratch, or a checkpoint that is still to be read."""
    net = create_model(config.model, num_keypoints=train_set.skeleton.num_keypoints, **config.network_options())
    if config.init_weights is None or not fresh:
        return net, None
    loaded, card = load_weights(config.init_weights)
    loaded = at_size(loaded, net.config.image_hw)
    # Another activation is no other network: its weights have the same names and shapes, and a start is all they are.
    same = replace(loaded.config, activation=config.activation) if isinstance(loaded, LGMPose) else loaded.config
    if same != net.config:
        raise UserError(f"{config.init_weights}: weights of another network than {config.model} with these options")
    net.load_state_dict(loaded.state_dict())
    path = Path(config.init_weights)
    return net, {"weights": path.name, "sha256": weights_hash(path), "training": card.get("training")}


def _train(
    run: Run, train_set: RecordSet, val_set: RecordSet, run_dir: Path, rank: int, world: int, progress: bool
) -> Evaluation | None:
    config, device = run.config, run.device
    codec = make_codec(config.codec, run.net.config.image_hw, config.sigma)
    dataset = CropDataset(
        train_set, run.net.config.image_hw, aligned=codec.aligned, augmentation=config.augmentation, seed=config.seed
    )
    steps_per_epoch = EpochSampler(len(dataset), config.batch_size, seed=config.seed, epoch=0).steps
    net = run.net
    if world > 1:
        if config.sync_batchnorm:
            if device.type == "cpu":
                raise UserError("sync_batchnorm needs GPUs: PyTorch has no synchronised BatchNorm on a CPU")
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        net = DistributedDataParallel(net, device_ids=[device.index] if device.type == "cuda" else None)
    loss_log = CsvLog(run_dir / "loss.csv", ("step", "epoch", "learning_rate", "loss"), "step", run.step, rank == 0)
    joint_weights = torch.ones(train_set.skeleton.num_keypoints)
    if config.joint_weights == "hrnet":
        # There both heatmaps are multiplied by them, so it is their squares that weigh the squared error.
        joint_weights = torch.tensor(train_set.skeleton.limb_weights).square()
    checkpoint, evaluation = run_dir / "last.safetensors", None
    if progress and run.epoch >= config.epochs:
        print(f"{run_dir}: finished already, all {config.epochs} epochs", flush=True)
    elif progress:
        done = f", resumed at epoch {run.epoch + 1}, step {run.epoch_step}" if run.step else ""
        print(
            f"{config.model} on {train_set.name}: {len(train_set)} persons, {steps_per_epoch} steps × {config.epochs} "
            f"epochs on {device}{done}; {run_dir}",
            flush=True,
        )
    with StopRequest() as stop, Stopwatch(run.seconds) as watch:
        while run.epoch < config.epochs:
            net.train()
            sampler = EpochSampler(
                len(dataset), config.batch_size, seed=config.seed, epoch=run.epoch, first_step=run.epoch_step,
                rank=rank, world=world,
            )  # fmt: skip
            loader = make_loader(dataset, codec, sampler, workers=choose_workers(config.workers))
            bar = tqdm(
                total=steps_per_epoch, initial=run.epoch_step, disable=not progress, unit="step", leave=False,
                desc=f"epoch {run.epoch + 1}/{config.epochs}", mininterval=0.5 if os.isatty(2) else 30,
            )  # fmt: skip
            saved_at = time.monotonic()
            asked = stopping = False  # no step may be left: only the evaluation was missing
            watch.start()
            for batch in loader:
                skipped = count_errors(batch, config.bad_images)
                rate = learning_rate(config, run.step, steps_per_epoch)
                if "weights" in batch:
                    batch["weights"] = batch["weights"] * joint_weights
                loss, asked = _step(run, net, batch, rate, world, stop.asked)
                if not math.isfinite(loss):
                    raise _diverged(run, checkpoint, f"the loss became {loss} at step {run.step}")
                loss_log.write(run.step, run.epoch, f"{rate:.6g}", repr(loss))
                run.step, run.epoch_step, run.epoch_loss = run.step + 1, run.epoch_step + 1, run.epoch_loss + loss
                run.skipped += skipped
                run.update_ema()
                watch.lap()
                run.seconds, now = watch.seconds, time.monotonic()
                bar.update()
                left = watch.pace * (config.epochs * steps_per_epoch - run.step)
                bar.set_postfix_str(f"loss {loss:.5f}, run ends in {duration(left)}", refresh=False)
                due = now - saved_at > 60 * config.checkpoint_minutes
                stopping = asked and run.epoch_step < steps_per_epoch
                if rank == 0 and (stopping or due and run.epoch_step < steps_per_epoch):
                    loss_log.flush()
                    _check_finite(run, checkpoint)
                    run.save(checkpoint)
                    saved_at = now
                if stopping:
                    break
            bar.close()
            if not stopping:
                if rank == 0:
                    loss_log.flush()
                    _check_finite(run, checkpoint)
                    evaluation = _end_of_epoch(
                        run, train_set.name, val_set, codec, run_dir, steps_per_epoch, watch.pace, progress
                    )
                run.epoch, run.epoch_step, run.epoch_loss = run.epoch + 1, 0, 0.0
                if rank == 0:
                    run.save(checkpoint)
            # Asked in the last step or in the evaluation. The others wait here until the state is saved: torchrun ends
            # them as soon as one has left.
            if _any_process(asked or stop.asked, world, device):
                if progress and run.epoch < config.epochs:
                    print(f"stopped at epoch {run.epoch + 1}, step {run.epoch_step}; go on with: "
                          f"{resume_command(run_dir, world)}", flush=True)  # fmt: skip
                raise KeyboardInterrupt
    return evaluation


def _any_process(wish: bool, world: int, device: torch.device) -> bool:
    """Whether any of the processes has this wish; each waits for all."""
    if world == 1:
        return wish
    wishes = torch.tensor(float(wish), device=device)
    dist.all_reduce(wishes)
    return wishes.item() > 0


def _check_finite(run: Run, checkpoint: Path) -> None:
    """Raises UserError where the last step has spoilt the weights, though its own loss was still a number."""
    if not all(value.isfinite().all() for value in run.net.state_dict().values()):
        raise _diverged(run, checkpoint, f"weights are no numbers any more after step {run.step - 1}")


def _diverged(run: Run, checkpoint: Path, what: str) -> UserError:
    """The error that ends a run whose state is spoilt; what is on disk stays the last good one."""
    kept = "there is no checkpoint of it yet"
    if checkpoint.exists():
        kept = f"{checkpoint.name} still holds the state before step {read_tensors(checkpoint)[1]['progress']['step']}"
    return UserError(
        f"{checkpoint.parent}: {what} (epoch {run.epoch + 1}); {kept}. A lower --learning-rate or --clip-grad-norm 1 "
        "may help, in a new run with another --out"
    )


def _step(
    run: Run, net: nn.Module, batch: dict, rate: float, world: int = 1, stop: bool = False
) -> tuple[float, bool]:
    """One optimiser step: its loss over all processes, and whether any of them was asked to stop.

    A loss that is no number leaves the weights as they were, but not BatchNorm's statistics nor the random state, which
    the forward pass has changed: that state is not one to go on from.
    """
    config, device = run.config, run.device
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    if "image" not in batch:
        raise UserError("not one picture of a batch could be read: look at the data before training on it")
    images, heatmaps, weights = (batch[k].to(device, non_blocking=True) for k in ("image", "heatmaps", "weights"))
    autocast = torch.autocast(device.type, torch.bfloat16) if config.precision == "bf16" else nullcontext()
    with autocast:
        predicted = net(to_input(images))
    # Networks with intermediate supervision give several answers in training, each compared with the same target.
    answers = predicted if isinstance(predicted, tuple) else (predicted,)
    loss = sum(heatmap_loss(answer.float(), heatmaps, weights) for answer in answers)
    report = torch.stack([loss.detach(), loss.new_tensor(float(stop))])
    if world > 1:
        dist.all_reduce(report)
    value, stopping = report[0].item() / world, report[1].item() > 0
    if not math.isfinite(value):
        return value, stopping
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if config.clip_grad_norm:
        nn.utils.clip_grad_norm_(net.parameters(), config.clip_grad_norm)
    run.optimizer.step()
    return value, stopping


def _end_of_epoch(
    run: Run, persons: str, val_set: RecordSet, codec, run_dir: Path, steps: int, pace: float, progress: bool
) -> Evaluation | None:
    """Evaluates where it is time to, logs the epoch, draws the curve, keeps the best weights."""
    config, epoch, evaluation = run.config, run.epoch + 1, None
    row: dict[str, Any] = {
        "epoch": epoch,
        "step": run.step,
        "learning_rate": f"{learning_rate(config, run.step - 1, steps):.6g}",
        "train_loss": f"{run.epoch_loss / run.epoch_step:.7f}",
        "seconds": f"{run.seconds:.0f}",
        "skipped": run.skipped,
    }
    if epoch % config.eval_every == 0 or epoch == config.epochs:
        run.save(run_dir / "last.safetensors")  # an unreadable picture, say, must not cost what was learnt so far
        net = run.deployed()
        evaluation = evaluate(
            net, val_set, codec, flip_test=config.flip_test, batch_size=config.batch_size, workers=config.workers,
            bad_images=config.bad_images, progress=progress,
        )  # fmt: skip
        row |= {name: f"{value:.4f}" for name, value in evaluation.figures.items()}
        headline = evaluation.figures[evaluation.headline]
        if headline > run.best:
            run.best = headline
            training = {
                "config": config.as_dict(), "epoch": epoch, "step": run.step, "hours": round(run.seconds / 3600, 2),
                "persons": persons, "start": run.start,
            }  # fmt: skip
            save_weights(
                run_dir / "best.safetensors", net, val_set.skeleton, codec, evaluation=evaluation, training=training
            )
    append_epoch(run_dir / "log.csv", row)
    if importlib.util.find_spec("matplotlib"):  # comes with the extras; the log has the same figures
        save_curve(run_dir / "log.csv", run_dir / "curve.png")
    if progress:
        found = evaluation.figures if evaluation else {}
        figures = "".join(f"  {name} {found[name]:.2f}" for name in ("PCK@0.2", "PCKh@0.5", "AP") if name in found)
        left = duration(pace * (config.epochs - epoch) * (run.step / epoch))
        speed = f"  ({config.batch_size / pace:.1f} pictures/s, {left} left)" if pace else ""  # 0: not one step yet
        print(f"epoch {epoch}/{config.epochs}: loss {row['train_loss']}{figures}{speed}", flush=True)
    return evaluation
