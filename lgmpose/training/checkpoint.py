"""The whole state of a training run: what one step changes, how it is written, and how it is read back bit for bit."""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.network.fast import channels_last
from lgmpose.training.recipe import RESUME_FIELDS, TrainConfig
from lgmpose.zoo.catalogue import build
from lgmpose.zoo.tensor_files import read_tensors, write_tensors

__all__ = ["Run", "check_same_run", "fingerprint", "resume_command", "stored_config"]


class Run:
    """The whole state of a training run, and how it is written and read back."""

    def __init__(self, config: TrainConfig, net: nn.Module, device: torch.device):
        self.config, self.device = config, device
        self.net = channels_last(net.to(device))
        make = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        self.optimizer: Optimizer = make(
            self.net.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()} if config.ema_decay else None
        self.epoch = 0  # the one under way
        self.epoch_step = 0  # steps of it that are done
        self.step = 0  # steps done in all
        self.epoch_loss = 0.0  # sum over the steps done in this epoch
        self.skipped = 0  # unreadable pictures so far
        self.best = -math.inf
        self.seconds = 0.0  # spent in training so far, over all resumptions
        self.start: dict | None = None  # the weights it started from, and how those were trained; None: from scratch
        self.processes = 1  # that train together
        self.data: dict | None = None  # ``fingerprint`` of what it is trained on

    # --- one step -----------------------------------------------------------------------------------------------
    @torch.no_grad()
    def update_ema(self) -> None:
        """Running average of weights and BatchNorm statistics; short memory at first, so that it need not be primed."""
        if self.ema is None:
            return
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        state = self.net.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.ema[n] for n in floats], [state[n] for n in floats], 1 - decay)
        for name in state.keys() - set(floats):
            self.ema[name].copy_(state[name])

    def deployed(self) -> nn.Module:
        """The network to evaluate and ship: with averaged weights where there are any."""
        if self.ema is None:
            return self.net
        with torch.random.fork_rng(devices=[]):  # one process alone does this: it must not draw what the others do not
            net = channels_last(build(self.net.config).to(self.device))
        net.load_state_dict(self.ema)
        return net

    # --- to disk and back ---------------------------------------------------------------------------------------
    def tensors(self) -> dict[str, Tensor]:
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in (self.ema or {}).items()}
        names = {parameter: name for name, parameter in self.net.named_parameters()}
        for parameter, state in self.optimizer.state.items():
            tensors |= {f"optimizer.{names[parameter]}.{key}": value for key, value in state.items()}
        tensors["rng"] = torch.get_rng_state()
        if self.device.type != "cpu":
            tensors[f"rng_{self.device.type}"] = torch.get_device_module(self.device).get_rng_state(*self._which())
        return tensors

    def save(self, path: Path) -> None:
        """Writes the whole state atomically. Raises UserError when it cannot; what was there before stays."""
        progress = ("epoch", "epoch_step", "step", "epoch_loss", "skipped", "seconds", "start", "processes", "data")
        card = {
            "kind": "checkpoint",
            "config": self.config.as_dict(),
            "network": asdict(self.net.config),
            "progress": {name: getattr(self, name) for name in progress} | {"best": max(self.best, -1e9)},
        }
        write_tensors(path, self.tensors(), card)

    def restore(self, path: Path) -> None:
        """Reads what ``save`` wrote. Raises UserError where the run would go on as another than it was."""
        tensors, card = read_tensors(path)
        if card.get("kind") != "checkpoint":
            raise UserError(f"{path}: weights, not a checkpoint: a run can only be resumed from its last.safetensors")
        self._check_same(path, card["progress"])
        parts: dict[str, dict[str, Tensor]] = {"net": {}, "ema": {}, "optimizer": {}}
        for name, value in tensors.items():
            kind, _, rest = name.partition(".")
            if kind in parts:
                parts[kind][rest] = value
        self.net.load_state_dict(parts["net"])
        for name, value in parts["ema"].items():
            self.ema[name].copy_(value)
        group = self.optimizer.param_groups[0]  # the only one
        # Steps are counted where the optimiser reads the count, as in its own load_state_dict.
        on_device = group["fused"] or group["capturable"]
        for name, parameter in self.net.named_parameters():
            state = {}
            for full_name, value in parts["optimizer"].items():
                owner, _, key = full_name.rpartition(".")
                if owner == name and key == "step":
                    state[key] = value.to(parameter.device if on_device else "cpu", copy=True)
                elif owner == name:
                    # The fused step walks memory: moments must lie as their parameter does.
                    state[key] = torch.empty_like(parameter).copy_(value)
            if state:
                self.optimizer.state[parameter] = state
        torch.set_rng_state(tensors["rng"])
        if (rng := tensors.get(f"rng_{self.device.type}")) is not None:  # not where the run began on another device
            torch.get_device_module(self.device).set_rng_state(rng, *self._which())
        for name, value in card["progress"].items():
            setattr(self, name, value)

    def _check_same(self, path: Path, progress: dict) -> None:
        before = progress.get("processes", self.processes)  # older checkpoints know nothing of these
        if before != self.processes:
            raise UserError(
                f"{path}: of a run of {before} processes, which does not go on the same with {self.processes}; go on "
                f"with: {resume_command(path.parent, before)}"
            )
        data = progress.get("data")
        if data and self.data and data != self.data:
            now = f"{self.data['persons']}" if data["persons"] != self.data["persons"] else "as many, but not the same"
            raise UserError(
                f"{path}: of a run on {data['persons']} persons, and now there are {now}: bring its data back, or "
                "start a new run with another --out"
            )

    def _which(self) -> tuple[torch.device, ...]:
        """The device, for a module that has several and would take its current one."""
        return () if self.device.type == "mps" else (self.device,)


def stored_config(checkpoint: Path) -> TrainConfig:
    """The settings of a run. Raises UserError for a file that is no checkpoint, or one of another version."""
    card = read_tensors(checkpoint)[1]
    if card.get("kind") != "checkpoint":
        raise UserError(f"{checkpoint}: weights, not a checkpoint: --init-weights starts a new run from them")
    try:
        return TrainConfig.from_dict(card["config"])
    except (KeyError, TypeError) as error:
        reason = f"settings that this version does not have; is it of another one? ({error})"
        raise UserError(f"{checkpoint}: {reason}") from error


def fingerprint(record_set: RecordSet) -> dict[str, int]:
    """What tells whether a set is still the same: how many persons, and a checksum of their numbers and joints."""
    records = record_set.records
    labelled = np.stack([record.visibility for record in records]) > 0
    places = np.where(labelled[..., None], np.stack([record.keypoints_xy for record in records]), 0)  # else junk
    checksum = zlib.crc32(repr([record.id for record in records]).encode())  # numbers, or whatever a file's ids are
    for values in (labelled, places):
        checksum = zlib.crc32(values.astype(float).tobytes(), checksum)
    return {"persons": len(records), "crc32": checksum}


def resume_command(run_dir: Path, processes: int) -> str:
    """What to type to go on with a run; all processes are taken to be on one machine."""
    program = f"torchrun --nproc-per-node {processes} -m lgmpose" if processes > 1 else "lgmpose"
    folder = subprocess.list2cmdline([str(run_dir)]) if sys.platform == "win32" else shlex.quote(str(run_dir))
    return f"{program} resume {folder}"


def check_same_run(config: TrainConfig, checkpoint: Path) -> None:
    """Raises UserError when a checkpoint was made with other settings than ``config``."""
    stored = asdict(stored_config(checkpoint))
    for name, value in asdict(config).items():
        if name not in RESUME_FIELDS and value != stored[name]:
            raise UserError(
                f"{checkpoint}: started with {name} = {stored[name]!r}, not {value!r}: a resumed run goes on with its "
                "own settings"
            )
