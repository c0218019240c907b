"""Training runs: what surrounds ``loop.train_epochs``, from the data to logs, evaluations and checkpoints.

A run is a folder: ``config.json``, ``loss.csv`` (one row per step), ``log.csv`` (one row per epoch), ``curve.png``,
``last.pt`` (the state to resume from) and ``best.safetensors`` (the network to use).
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from lgmpose.data import load_records, load_validation_sets
from lgmpose.data.batches import Encode, EpochSampler, choose_workers, count_errors, draws_per_epoch, make_loader
from lgmpose.data.crops import CropDataset
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError, first_line, notice_once
from lgmpose.files import lock, write_atomically
from lgmpose.inference.evaluate import channels_for, evaluate
from lgmpose.inference.figures import Evaluation, joint_metrics
from lgmpose.machine import choose_device, tune_allocator, workers_that_fit
from lgmpose.network.model import LGMPose
from lgmpose.pose.codecs import CODECS, make_codec
from lgmpose.pose.skeletons import notice_unpaired
from lgmpose.training.checkpoint import CHECKPOINT, Run, fingerprint, resume_command, stored_config
from lgmpose.training.curve import save_curve
from lgmpose.training.device_crops import DeviceCrops
from lgmpose.training.distill import TEACHER_FILE, mixed_profiles, mixed_targets, teacher_peaks
from lgmpose.training.loop import simcc_loss, supervised_loss, train_epochs
from lgmpose.training.recipe import TrainConfig, learning_rate
from lgmpose.training.run_folder import StopRequest, append_epoch, append_losses, read_log, start_losses
from lgmpose.zoo.cards import find_weights
from lgmpose.zoo.catalogue import (
    at_size,
    config_of,
    create_model,
    load_weights,
    save_weights,
    skeleton_of,
    weights_hash,
)
from lgmpose.zoo.transfer import transfer_weights

__all__ = ["READ_EVERY", "Session", "resume", "train"]

# Steps between two readings of the losses, 10 on other devices. A reading waits for a GPU; on a CPU it costs nothing.
READ_EVERY = {"cpu": 1}
BEST = "best.safetensors"  # in a run's folder
# The other processes wait while rank 0 evaluates, which may take hours on CPUs. PyTorch's default ends them after 10 or
# 30 minutes, and the run with them. If a process ends, torchrun ends the others at once.
PROCESS_TIMEOUT = timedelta(days=1)


def resume(
    run_dir: str | Path, session_types: Mapping[str, type[Session]] | None = None, **changes: Any
) -> Evaluation | None:
    """Resume a run with its own settings. Otherwise like ``train``.

    Args:
        run_dir: the run's folder.
        session_types: name of the network → session type, for networks other than pose networks.
        **changes: new values of ``RESUME_FIELDS``.
    """
    config = replace(stored_config(Path(run_dir) / CHECKPOINT), **changes)
    return train(config, run_dir, resume=True, session_type=(session_types or {}).get(config.model))


def train(
    config: TrainConfig, run_dir: str | Path, *, resume: bool = False, progress: bool = True,
    session_type: type[Session] | None = None,
) -> Evaluation | None:  # fmt: skip
    """Train a network in ``run_dir``, or resume its training.

    Under ``torchrun`` every process trains on its share of each batch (DistributedDataParallel); rank 0 alone logs,
    evaluates and writes.

    Args:
        config: what to train. To resume, it must be the run's own, except for ``RESUME_FIELDS``.
        run_dir: the run's folder.
        resume: continue from ``last.pt`` if there is one.
        progress: print the progress.
        session_type: what is trained and how; by default a pose network.

    Returns:
        The last evaluation; None on ranks other than 0, and for a run that was finished before.

    Raises:
        UserError: bad data or options, a folder with another run, a loss that is not finite.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM, on every rank; the state is saved.
    """
    tune_allocator()
    run_dir, checkpoint = Path(run_dir), Path(run_dir) / CHECKPOINT
    resuming = resume and checkpoint.exists()
    for name in () if resuming else (CHECKPOINT, BEST, "log.csv"):
        if (run_dir / name).exists():
            raise UserError(f"{run_dir}: holds {name} of a run; resume it with lgmpose resume, or choose another --out")
    with _processes(config) as (rank, world):
        torch.manual_seed(config.seed)
        kind = session_type or Session
        train_set, val_sets = kind.load_data(config)
        for record_set in (train_set, *val_sets):
            if rank == 0:
                record_set.print_left_out()
        kind.check_data(config, train_set, val_sets, notice=rank == 0)
        if rank == 0:
            _notice_shared(train_set, val_sets)
        device = _choose_gpu_or_cpu(config, world)
        net, start = kind.make_network(config, train_set, fresh=not resuming)
        if start is not None and rank == 0 and progress:
            print(f"{start['weights']}: {start['taken_over']}", flush=True)
        run = Run(config, net, device)
        run.start, run.processes, run.data = start, world, kind.fingerprint(train_set)
        with lock(run_dir / ".lock", wait=False) if rank == 0 else nullcontext():
            if resuming:
                run.restore(checkpoint)
            if rank == 0:
                for leftover in [*run_dir.glob(".last.pt.*"), *run_dir.glob(".best.safetensors.*")]:
                    leftover.unlink(missing_ok=True)  # of a write that was killed
                write_atomically(run_dir / "config.json", json.dumps(config.as_dict(), indent=1).encode())
            session = kind(run, run_dir, train_set, val_sets, rank=rank, progress=progress and rank == 0)
            return session.train()


@contextmanager
def _processes(config: TrainConfig) -> Iterator[tuple[int, int]]:
    """Join torchrun's processes; yield the rank and the number of processes.

    Raises:
        UserError: options that several processes do not have, or another process has ended.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield 0, 1
        return
    dist.init_process_group(_backend(config, world), timeout=PROCESS_TIMEOUT)
    try:
        yield dist.get_rank(), world
        dist.barrier()  # rank 0 evaluates last; no other rank may close the connections before it is done
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo/transport" not in str(error):
            raise
        raise UserError(
            f"the connection to another process of this training is lost ({first_line(error)}); if that process has "
            "printed an error, it says why"
        ) from error
    finally:
        dist.destroy_process_group()


def _backend(config: TrainConfig, world: int) -> str:
    """Return how several processes talk; raise UserError for what they cannot do."""
    if config.batch_size % world:
        raise UserError(f"batch_size {config.batch_size}: must be a multiple of the {world} processes")
    device = choose_device(config.device)
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {str(device)!r}: several processes need --device cuda or --device cpu")
    if config.freeze_epochs:
        raise UserError(f"freeze_epochs {config.freeze_epochs}: not with several processes")
    if config.minutes is not None:
        raise UserError(f"minutes {config.minutes}: not with several processes, whose clocks differ")
    if config.teacher is not None and not config.teacher.endswith(".npz"):
        raise UserError(f"teacher {config.teacher}: with several processes, name the teacher.npz of a run with one")
    if config.sync_batchnorm and device.type == "cpu":
        raise UserError("sync_batchnorm: needs GPUs; PyTorch has no synchronised BatchNorm on a CPU")
    return "nccl" if device.type == "cuda" and dist.is_nccl_available() else "gloo"


def _choose_gpu_or_cpu(config: TrainConfig, world: int) -> torch.device:
    """Return the device of this process: under torchrun each process has its own GPU."""
    device = choose_device(config.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # all batches have one size: the fastest kernels are found once
        if world > 1:
            device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
            torch.cuda.set_device(device)
    return device


def _notice_shared(train_set: Any, val_sets: list[Any]) -> None:
    """Print to stderr which validation sets have pictures that are trained on. The paths of pictures are compared."""
    for val_set in val_sets:
        if shared := len(val_set.images & train_set.images):
            notice_once(
                f"notice: {shared} of the {len(val_set.images)} pictures of {val_set.name} are also trained on; its "
                "figures do not tell how good the network is on new pictures"
            )


def _check_data(config: TrainConfig, train_set: RecordSet, val_sets: list[RecordSet], *, notice: bool) -> None:
    """Raise UserError if joints are not learned, nothing can be measured, or a batch cannot be filled."""
    if notice and config.augmentation.flip_prob > 0:
        notice_unpaired(train_set.skeleton)
    for val_set in val_sets:
        try:
            channels_for(val_set.skeleton, train_set.skeleton)
        except ValueError as error:
            where = val_set.annotation_file or val_set.name
            raise UserError(
                f"{where}: has joints that the training data lack: {error}; those have "
                f"{', '.join(train_set.skeleton.joint_names)}"
            ) from None
        if val_set.annotation_file is None and not joint_metrics(val_set):
            raise UserError(f"{val_set.name}: no person has a labelled torso or head, so nothing can be measured")
    if config.teacher is None and (bare := sum(not record.visibility.any() for record in train_set.records)):
        raise UserError(f"{train_set.name}: {bare} persons have no joints; they can only be used with --teacher")
    parts = train_set.parts or [(len(train_set), 1.0)]
    draws = draws_per_epoch(parts, config.epoch_persons)
    for number, ((available, weight), (_, drawn)) in enumerate(zip(parts, draws, strict=True), 1):
        if weight and not drawn:
            raise UserError(
                f"{train_set.name}: set {number} with {available} persons is never drawn; raise its weight, or write 0"
            )
    if (persons_drawn := sum(drawn for _, drawn in draws)) < config.batch_size:
        persons = f"{train_set.name}: {persons_drawn} persons per epoch"
        raise UserError(f"{persons} do not fill a batch of {config.batch_size}; choose a smaller --batch-size")


def _make_network(config: TrainConfig, train_set: RecordSet, fresh: bool) -> tuple[nn.Module, dict[str, Any] | None]:
    """Return the network and what it starts from; None: random weights, or a checkpoint that is still to be read."""
    net = create_model(config.model, num_keypoints=train_set.skeleton.num_keypoints, **config.network_options())
    if (head := config_of(net).head) != (needed := CODECS[config.codec].head):
        raise UserError(f"codec {config.codec}: needs a network with a {needed} head; {config.model} has a {head} head")
    if config.init_weights is None or not fresh:
        return net, None
    path = find_weights(config.init_weights)
    loaded, card = load_weights(path)
    loaded = at_size(loaded, config_of(net).image_hw)
    changes: dict[str, Any] = {"num_keypoints": config_of(net).num_keypoints}
    if isinstance(loaded, LGMPose):
        changes["activation"] = config.activation  # another activation has the same weights
    same = config_of(loaded).with_(**changes)
    if same != config_of(net):
        raise UserError(f"{config.init_weights}: weights of another network than {config.model} with these options")
    taken = transfer_weights(net, train_set.skeleton, loaded, skeleton_of(card))
    start = {"weights": path.name, "sha256": weights_hash(path), "taken_over": str(taken)}
    return net, start | {"training": card.get("training")}


class Session:
    """Surrounds the loop in one process: gives its batches; on rank 0 logs, evaluates and saves.

    This one trains pose networks. ``detector_training.py`` has one for a detector, with other data and another loss.
    """

    inputs = ("image", "heatmaps", "weights")  # or SimCC's targets; what the loop takes of a batch
    unit = "persons"
    loss: Callable[..., Tensor] = staticmethod(supervised_loss)
    check_data: Callable[..., None] = staticmethod(_check_data)
    make_network: Callable[..., tuple[nn.Module, dict[str, Any] | None]] = staticmethod(_make_network)
    fingerprint: Callable[..., dict[str, int]] = staticmethod(fingerprint)

    @staticmethod
    def load_data(config: TrainConfig) -> tuple[Any, list[Any]]:
        """Return the training set and the validation sets."""
        train_set = load_records(config.data, "train", annotations=config.annotations, categories=config.categories)
        val_data = config.val_data or config.data
        return train_set, load_validation_sets(val_data, config.val_annotations, config.categories)

    def __init__(self, run: Run, run_dir: Path, train_set: Any, val_sets: list[Any], *, rank: int, progress: bool):
        self.run, self.run_dir, self.val_sets, self.rank, self.progress = run, run_dir, val_sets, rank, progress
        self.persons = train_set.name
        batch_bytes = run.config.batch_size * self.open_data(train_set)
        # A loader process reads two batches ahead and works on a third. The ranks of a machine share its memory.
        self.workers = workers_that_fit(choose_workers(run.config.workers), 3 * batch_bytes, progress)
        self.stop = StopRequest()
        self.asked = False  # whether any rank was asked to stop
        self.losses: list[Tensor] = []  # of the steps since the last reading
        self.skipped = 0  # unreadable images since the last reading
        self.read_at = self.saved_at = time.monotonic()
        self.evaluations: list[Evaluation] = []  # of the epoch, one per validation set
        self.crops: DeviceCrops | None = None  # with --cache device

    def open_data(self, train_set: Any) -> int:
        """Set ``dataset``, ``draws``, ``steps_per_epoch`` and ``target_weights``; return the bytes of one sample."""
        run, config, image_hw = self.run, self.run.config, config_of(self.run.net).image_hw
        self.skeleton = train_set.skeleton
        self.codec = make_codec(config.codec, image_hw, config.sigma)
        self.dataset = CropDataset(
            train_set, image_hw, aligned=self.codec.aligned, augmentation=config.augmentation, seed=config.seed
        )
        self.encode: Encode | None = None
        if config.teacher is not None:
            file = self.run_dir / TEACHER_FILE
            resumed = run.step > 0
            self.dataset.teacher = teacher_peaks(config, train_set, file, resumed=resumed, progress=self.progress)
            make = mixed_targets if config.cache == "none" else mixed_profiles
            self.encode = partial(make, self.codec, config.teacher_share)
        elif config.cache == "device" and self.codec.head == "heatmap":
            self.encode = self.codec.profiles
        if self.codec.head == "simcc":
            self.loss = partial(simcc_loss, x_bins=self.codec.heatmap_hw[1])
        self.draws = draws_per_epoch(train_set.parts or [(len(train_set), 1.0)], config.epoch_persons)
        self.steps_per_epoch = sum(drawn for _, drawn in self.draws) // config.batch_size
        joint_weights = torch.ones(train_set.skeleton.num_keypoints)
        if config.joint_weights == "hrnet":
            # HRNet multiplies both heatmaps by them, so their squares weigh the squared error.
            joint_weights = torch.tensor(train_set.skeleton.limb_weights).square()
        self.target_weights = joint_weights.to(run.device)
        return math.prod(image_hw) * 3 + len(joint_weights) * math.prod(self.codec.output_shape) * 4

    def loader(self, sampler: EpochSampler) -> Iterable[dict[str, Any]]:
        """Return the batches of a sampler, on the CPU."""
        if self.run.config.cache == "none":
            return make_loader(self.dataset, self.codec, sampler, workers=self.workers, encode=self.encode)
        if self.crops is None:  # filled in the first epoch, when the number of loader processes is known
            bad_images = self.run.config.bad_images
            self.crops = DeviceCrops(
                self.dataset, self.codec, self.run.device, workers=self.workers, bad_images=bad_images
            )
        plans = make_loader(self.crops.plans, self.codec, sampler, workers=self.workers, encode=self.encode)
        return map(self.crops.with_images, plans)

    def train(self) -> Evaluation | None:
        """Train to the end. Raises KeyboardInterrupt after a requested stop."""
        run, config = self.run, self.run.config
        net = run.net
        if run.processes > 1:
            if config.sync_batchnorm:
                net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
            net = DistributedDataParallel(net, device_ids=[run.device.index] if run.device.type == "cuda" else None)
        if config.compile:
            net = cast(nn.Module, torch.compile(net))
        if self.rank == 0:
            start_losses(self.run_dir / "loss.csv", run.step)
            if (log := self.run_dir / "log.csv").exists():
                read_log(log)  # a damaged one shows now, not after an epoch
        if self.progress:
            done = f", resumed at epoch {run.epoch + 1}, step {run.epoch_step}" if run.step else ""
            done = f", all {config.epochs} epochs are done" if run.epoch >= config.epochs else done
            print(f"{config.model} on {self.persons}: {len(self.dataset)} {self.unit}, {self.steps_per_epoch} steps × "
                  f"{config.epochs} epochs on {run.device}{done}; {self.run_dir}", flush=True)  # fmt: skip
        total = None if config.minutes else self.steps_per_epoch * config.epochs  # unknown with --minutes
        self.bar = tqdm(
            total=total, initial=run.step, disable=not self.progress, unit="step",
            leave=False, mininterval=0.5 if os.isatty(2) else 30, smoothing=0.01,
        )  # fmt: skip
        with self.stop, self.bar:
            stopped = train_epochs(run, net, self, self.loss)
            self._any_rank(False)  # torchrun ends the others when one process ends: wait until rank 0 has saved
        if stopped:
            if self.progress and run.epoch < config.epochs:
                print(f"stopped at epoch {run.epoch + 1}, step {run.epoch_step}; resume with: "
                      f"{resume_command(self.run_dir, run.processes)}", flush=True)  # fmt: skip
            raise KeyboardInterrupt
        return self.evaluations[0] if self.evaluations else None

    def batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield this rank's batches that are left of the epoch: images, targets and weights on the device."""
        run, config = self.run, self.run.config
        sampler = EpochSampler(
            len(self.dataset), config.batch_size, seed=config.seed, epoch=run.epoch, first_step=run.epoch_step,
            rank=self.rank, world=run.processes, draws=self.draws,
        )  # fmt: skip
        batches = self.loader(sampler)
        self.read_at = self.saved_at = time.monotonic()  # the time before (an evaluation) was not spent in training
        try:
            for batch in batches:
                if run.out_of_time:
                    return
                self.skipped += count_errors(batch, config.bad_images)
                if "image" not in batch:
                    first = batch["errors"][0]
                    raise UserError(f"none of the pictures of a batch could be read; first failure: {first}")
                images, targets, weights = (batch[name].to(run.device, non_blocking=True) for name in self.inputs)
                yield images, targets, weights * self.target_weights
        except RuntimeError as error:
            if "DataLoader" not in str(error):
                raise
            what = str(error).splitlines()[0]  # a loader process was killed, or gave no batch for minutes
            raise UserError(f"a loader process failed ({what}); try --workers 0, or give it more memory") from error

    def after_step(self, loss: Tensor) -> bool:
        """Keep the loss of a step; every few steps check, log and save. Return True to stop within the epoch."""
        self.losses.append(loss)
        self.bar.update()
        within = self.run.epoch_step < self.steps_per_epoch
        if within and len(self.losses) < READ_EVERY.get(self.run.device.type, 10):
            return False
        self._read_losses()
        due = time.monotonic() - self.saved_at > 60 * self.run.config.checkpoint_minutes
        if self.rank == 0 and within and (self.asked or due):
            self._save()
        return self.asked and within

    def _read_losses(self) -> None:
        """Wait for the device, then check and log the losses: means over all ranks, which agree on a stop here."""
        run = self.run
        wishes = torch.tensor([float(self.stop.asked), float(self.skipped)], device=run.device)
        report = torch.cat([torch.stack(self.losses), wishes])
        if run.processes > 1:
            dist.all_reduce(report)
        *sums, asked, skipped = report.tolist()
        self.asked, run.skipped, self.losses, self.skipped = asked > 0, run.skipped + int(skipped), [], 0
        rows = []
        for step, loss in enumerate((value / run.processes for value in sums), run.step - len(sums)):
            if not math.isfinite(loss):
                raise self._diverged(f"the loss became {loss} at step {step}")
            run.epoch_loss += loss
            rate = learning_rate(run.config, step, self.steps_per_epoch, run.seconds)
            rows.append((step, run.epoch, f"{rate:.6g}", repr(loss)))
        if self.rank == 0:
            append_losses(self.run_dir / "loss.csv", rows)
        run.seconds, self.read_at = run.seconds + time.monotonic() - self.read_at, time.monotonic()
        minutes = run.config.minutes
        left = f", {max(0.0, minutes - run.seconds / 60):.1f} min left" if minutes else ""
        self.bar.set_postfix_str(f"loss {loss:.5f}{left}", refresh=False)

    def _save(self) -> None:
        """Write the checkpoint, unless the last step has spoilt the weights although its own loss was finite."""
        if not torch.stack([value.isfinite().all() for value in self.run.net.state_dict().values()]).all():
            raise self._diverged(f"the weights are not finite after step {self.run.step - 1}")
        self.run.save(self.run_dir / CHECKPOINT)
        self.saved_at = time.monotonic()

    def _diverged(self, what: str) -> UserError:
        """Return the error that ends a run whose state is spoilt."""
        return UserError(
            f"{self.run_dir}: {what} (epoch {self.run.epoch + 1}); {CHECKPOINT}, if there is one, holds an "
            "earlier state. Try a lower --learning-rate or --clip-grad-norm 1 in a new run with another --out"
        )

    def after_epoch(self) -> bool:
        """Evaluate if it is time to, log the epoch, save. Return True if any rank was asked to stop."""
        run, config, self.evaluations = self.run, self.run.config, []
        if self.rank == 0:
            if (run.epoch + 1) % config.eval_every == 0 or run.epoch + 1 == config.epochs or run.out_of_time:
                self._save()  # an unreadable image in the evaluation must not cost what was learned
                self.evaluations = self._evaluate()
            self._log_epoch()
        run.epoch, run.epoch_step, run.epoch_loss = run.epoch + 1, 0, 0.0
        if self.rank == 0:
            self._save()
        return self._any_rank(self.asked or self.stop.asked)

    def _evaluate(self) -> list[Evaluation]:
        """Evaluate the network on each set, and keep it if it is the best so far; of two equal ones, the later.

        Several sets are judged by the mean of their headline figures, AP in per cent.
        """
        run, config, net = self.run, self.run.config, self.run.deployed()
        evaluations = [self.evaluate(net, val_set) for val_set in self.val_sets]
        headline = sum(100**(e.headline == "AP") * e.figures[e.headline] for e in evaluations) / len(evaluations)
        if headline >= run.best:
            run.best = headline
            training = {
                "config": config.as_dict(), "epoch": run.epoch + 1, "step": run.step,
                "hours": round(run.seconds / 3600, 2), "persons": self.persons, "start": run.start,
            }  # fmt: skip
            if len(evaluations) > 1:
                training["validation"] = {e.conditions["data"]: e.as_json()["figures"] for e in evaluations}
            self.keep(net, evaluations[0], training)
        return evaluations

    def evaluate(self, net: nn.Module, val_set: Any) -> Evaluation:
        """Measure the network on one set."""
        config = self.run.config
        return evaluate(
            net, val_set, self.codec, channels=channels_for(val_set.skeleton, self.skeleton),
            flip_test=config.flip_test, batch_size=config.batch_size, workers=config.workers,
            bad_images=config.bad_images, progress=self.progress,
        )  # fmt: skip

    def keep(self, net: nn.Module, evaluation: Evaluation, training: dict[str, Any]) -> None:
        """Write the best network so far."""
        file = self.run_dir / BEST
        save_weights(file, net, self.skeleton, self.codec, evaluation=evaluation, training=training)

    def _log_epoch(self) -> None:
        """Write and print the row of the epoch, and draw the learning curve."""
        run, several = self.run, len(self.val_sets) > 1
        figures = {
            f"{evaluation.conditions['data']} {name}" if several else name: value
            for evaluation in self.evaluations
            for name, value in evaluation.figures.items()
        }
        row = {
            "epoch": run.epoch + 1,
            "step": run.step,
            "learning_rate": f"{learning_rate(run.config, run.step - 1, self.steps_per_epoch, run.seconds):.6g}",
            "train_loss": f"{run.epoch_loss / run.epoch_step:.7f}",
            "seconds": f"{run.seconds:.0f}",
            "skipped": run.skipped,
        }
        rows = append_epoch(self.run_dir / "log.csv", row | {name: f"{value:.4f}" for name, value in figures.items()})
        if importlib.util.find_spec("matplotlib"):  # an optional dependency; the log has the same figures
            save_curve(rows, self.run_dir / "curve.png")
        if self.progress:
            names = [name for name in figures if name.rpartition(" ")[2] in ("PCK@0.2", "PCKh@0.5", "AP")]
            shown = [f"  {name} {figures[name]:.2f}" for name in names]
            tqdm.write(f"epoch {row['epoch']}/{run.config.epochs}: loss {row['train_loss']}{''.join(shown)}")

    def _any_rank(self, wish: bool) -> bool:
        """Return True if any rank has this wish; every rank waits for all others."""
        if self.run.processes == 1:
            return wish
        wishes = torch.tensor(float(wish), device=self.run.device)
        dist.all_reduce(wishes)
        return wishes.item() > 0
