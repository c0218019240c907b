"""The state of a training run: what a step changes, and how it is written and restored bit for bit."""

from __future__ import annotations

import copy
import io
import math
import zlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.files import as_type, write_atomically
from lgmpose.network.fast import channels_last
from lgmpose.training.muon import Muon, is_dense
from lgmpose.training.recipe import RESUME_FIELDS, TrainConfig
from lgmpose.zoo.tensor_files import check_tensors

__all__ = [
    "CHECKPOINT", "CheckpointState", "Progress", "Run", "fingerprint", "read_checkpoint", "resume_command",
    "stored_config",
]  # fmt: skip

CHECKPOINT = "last.pt"  # in a run's folder
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Progress(msgspec.Struct):
    """How far a run has come; see ``Run``."""

    epoch: Count
    epoch_step: Count
    step: Count
    epoch_loss: float
    skipped: Count
    best: float
    seconds: float
    start: dict[str, Any] | None
    processes: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    data: dict[str, int] | None


PROGRESS = Progress.__struct_fields__


class CheckpointState(msgspec.Struct):
    """What ``last.pt`` holds."""

    config: dict[str, Any]
    progress: Progress
    net: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    optimizer: dict[int, dict[str, Tensor]]
    rng: dict[str, Tensor]


class Run:
    """The state of a training run."""

    def __init__(self, config: TrainConfig, net: nn.Module, device: torch.device):
        self.config, self.device = config, device
        self.net = channels_last(net.to(device))
        self.trained = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        make = OPTIMIZERS[config.optimizer]
        fused = device.type in ("cpu", "cuda")
        self.optimizer: Optimizer = make(
            self.net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused
        )
        gpu_has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        self.bf16 = config.precision == "bf16" or (config.precision == "auto" and gpu_has_bf16)  # autocast
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()} if config.ema_decay else None
        self.epoch = 0  # the current one
        self.epoch_step = 0  # steps done in it
        self.step = 0  # steps done in all
        self.epoch_loss = 0.0  # sum over the steps of this epoch
        self.skipped = 0  # unreadable images so far
        self.best = -math.inf  # highest headline figure so far
        self.seconds = 0.0  # spent in training, over all resumptions
        self.start: dict[str, Any] | None = None  # the weights it started from; None: random ones
        self.processes = 1  # that train together
        self.data: dict[str, int] | None = None  # ``fingerprint`` of the training data

    @property
    def out_of_time(self) -> bool:
        """Whether the minutes of the run are over."""
        return self.config.minutes is not None and self.seconds >= 60 * self.config.minutes

    def freeze_trunk(self) -> None:
        """Train only the rows of the joints in the first epochs, if the recipe says so, and all weights after them.

        Meanwhile the trunk is in eval mode, so that its BatchNorm statistics stay as well.
        """
        if not self.config.freeze_epochs:
            return
        frozen = self.epoch < self.config.freeze_epochs
        from lgmpose.zoo.transfer import joint_axes  # few runs freeze anything

        rows = joint_axes(self.net)
        for name, parameter in self.trained.items():
            parameter.requires_grad_(not frozen or name in rows)
        if frozen:
            self.net.eval()

    @torch.no_grad()
    def update_ema(self) -> None:
        """Update the moving average. The first steps use a smaller decay, so that the random initial weights soon have
        no influence."""
        if self.ema is None:
            return
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        state = self.net.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.ema[n] for n in floats], [state[n] for n in floats], 1 - decay)
        for name in state.keys() - set(floats):
            self.ema[name].copy_(state[name])

    def deployed(self) -> nn.Module:
        """Return the network to evaluate and save: the one with averaged weights if there is an average."""
        if self.ema is None:
            return self.net
        net = copy.deepcopy(self.net)
        net.load_state_dict(self.ema)
        return net

    def state(self) -> dict[str, Any]:
        """Return everything needed to resume: settings, progress, tensors and random states."""
        rng = {"cpu": torch.get_rng_state()}
        if self.device.type != "cpu":
            rng[self.device.type] = torch.get_device_module(self.device).get_rng_state(*self._device_argument())
        return {
            "config": self.config.as_dict(),
            "progress": {name: getattr(self, name) for name in PROGRESS},
            "net": dict(self.net.state_dict()),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict()["state"],
            "rng": rng,
        }

    def save(self, path: Path) -> None:
        """Write the state atomically.

        Raises:
            UserError: the file cannot be written; an older one is untouched.
        """
        buffer = io.BytesIO()
        torch.save(self.state(), buffer)
        write_atomically(path, buffer.getvalue())

    def restore(self, path: Path) -> None:
        """Read what ``save`` has written.

        Raises:
            UserError: the file is not a checkpoint, or its run had other settings, data or number of processes.
        """
        state = read_checkpoint(path)
        self._check_same(path, state)
        self._check_tensors(path, state)
        self.net.load_state_dict(state["net"])
        for name, value in (self.ema or {}).items():
            value.copy_(state["ema"][name])
        groups = self.optimizer.state_dict()["param_groups"]  # this device's, which may lack a fused step
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        torch.set_rng_state(state["rng"]["cpu"])
        if self.device.type in state["rng"] and self.device.type != "cpu":
            rng = state["rng"][self.device.type]
            torch.get_device_module(self.device).set_rng_state(rng, *self._device_argument())
        for name in PROGRESS:
            setattr(self, name, state["progress"][name])

    def _check_same(self, path: Path, state: dict[str, Any]) -> None:
        """Raise UserError if the checkpoint has other settings, another number of processes or other data."""
        stored = TrainConfig.from_dict(state["config"]).as_dict()
        before, data = state["progress"]["processes"], state["progress"]["data"]
        for name, value in self.config.as_dict().items():
            if name not in RESUME_FIELDS and value != stored[name]:
                raise UserError(f"{path}: trained with {name} {stored[name]!r}, not {value!r}; a run keeps them")
        if before != self.processes:
            raise UserError(
                f"{path}: was trained with {before} processes, not {self.processes}; resume with: "
                f"{resume_command(path.parent, before)}"
            )
        if data and self.data and data != self.data:
            raise UserError(
                f"{path}: was trained on other data ({data.get('persons')} persons, now {self.data['persons']}); "
                "bring it back, or start a new run with another --out"
            )

    def _check_tensors(self, path: Path, state: dict[str, Any]) -> None:
        """Raise UserError if a tensor is missing or has another shape or type than this run's."""
        check_tensors(state["net"], self.net.state_dict(), path)
        if self.ema is not None:
            check_tensors(state["ema"] or {}, self.ema, f"{path}: moving average")
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for index, tensors in state["optimizer"].items():
            if not 0 <= index < len(parameters) or not self._state_fits(parameters[index], tensors):
                raise UserError(f"{path}: damaged; the optimiser's state of parameter {index} does not fit the network")
        here, stored = torch.get_rng_state(), state["rng"].get("cpu")
        if stored is None or (stored.dtype, stored.shape) != (here.dtype, here.shape):
            raise UserError(f"{path}: damaged; it has no state of PyTorch's random numbers")

    def _state_fits(self, parameter: Tensor, tensors: dict[str, Tensor]) -> bool:
        """Whether tensors can be the optimiser's state of a parameter."""
        shapes = {"exp_avg": parameter.shape, "exp_avg_sq": parameter.shape, "step": torch.Size()}
        if isinstance(self.optimizer, Muon) and is_dense(parameter):
            shapes = {"momentum": parameter.shape, "step": torch.Size()}
        found = {name: tensor.shape for name, tensor in tensors.items()}
        return found == shapes and all(tensor.dtype == torch.float32 for tensor in tensors.values())

    def _device_argument(self) -> tuple[torch.device, ...]:
        """Return the device for a module that has several; otherwise it would take its current one."""
        return () if self.device.type == "mps" else (self.device,)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what ``Run.save`` has written, with all tensors on the CPU.

    Raises:
        UserError: the file is missing, damaged or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path.parent}: no {path.name} in it, so there is no run to resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises almost anything, KeyError and OverflowError among them
        raise UserError(f"{path}: not a checkpoint, or a damaged one") from error
    checked = as_type(
        state, CheckpointState, f"{path}: not a checkpoint of a training run, or a damaged one", strict=True
    )
    try:
        TrainConfig.from_dict(checked.config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return msgspec.structs.asdict(checked) | {"progress": msgspec.structs.asdict(checked.progress)}


def stored_config(path: str | Path) -> TrainConfig:
    """Return the settings of a run from its checkpoint.

    Raises:
        UserError: see ``read_checkpoint``, or settings of another version.
    """
    return TrainConfig.from_dict(read_checkpoint(path)["config"])


def fingerprint(record_set: RecordSet) -> dict[str, int]:
    """Return what identifies a data set: the number of persons, and a checksum of ids, labelled joints and weights."""
    records = record_set.records
    labelled = np.stack([record.visibility for record in records]) > 0
    points = np.where(labelled[..., None], np.stack([record.keypoints_xy for record in records]), 0)
    checksum = zlib.crc32(repr([record.id for record in records]).encode())  # an id may be a number or a text
    for values in (labelled, points):
        checksum = zlib.crc32(values.astype(float).tobytes(), checksum)
    if record_set.parts:
        checksum = zlib.crc32(repr(record_set.parts).encode(), checksum)
    return {"persons": len(records), "crc32": checksum}


def resume_command(run_dir: Path, processes: int) -> str:
    """Return the command that resumes a run; all processes are assumed to be on one machine."""
    program = f"torchrun --nproc-per-node {processes} -m lgmpose" if processes > 1 else "lgmpose"
    return f'{program} resume "{run_dir}"' if " " in str(run_dir) else f"{program} resume {run_dir}"
