"""A training recipe: everything that decides what a run computes, in one frozen dataclass. Imports no torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from lgmpose.data.augment import Augmentation
from lgmpose.errors import UserError

__all__ = ["MACHINE_FIELDS", "RESUME_FIELDS", "TrainConfig", "learning_rate"]

# Fields that change how a run is computed, but not what.
MACHINE_FIELDS = ("workers", "device", "checkpoint_minutes")
# What a resumed run may have others of: a run that has met an unreadable picture could not be finished otherwise.
RESUME_FIELDS = (*MACHINE_FIELDS, "bad_images")


@dataclass(frozen=True)
class TrainConfig:
    """The defaults are what the paper states (section 4.2), else SimpleBaseline's, and HRNet's half body."""

    data: str = "synthetic"  # KIND:PATH with KIND coco, mpii, lspet or synthetic
    annotations: str | None = None  # annotation file for training, where it is not in its usual place
    val_annotations: str | None = None  # the same for validation
    model: str = "lgm-pose-coco-256x192"  # a name of `lgmpose profile --list`; its K is taken from the data
    image_hw: tuple[int, int] | None = None  # input height and width; None: the model's own
    fusion: Literal["none", "conv3x3", "dw1", "dw2", "sfusion"] = "sfusion"  # paper, Table 5
    global_block: Literal["mobilevim", "mobilevit", "mobilevit_relu6"] = "mobilevim"  # paper, Table 4
    larm_residual: bool = True  # equation 1 shows none
    larm: Literal["both", "between_patches", "within_patch", "identity"] = "both"  # which of its two MLPs; ours
    activation: Literal["relu6", "relu", "silu"] = "relu6"
    init_weights: str | None = None  # start from this weights file (resized if need be) instead of from scratch

    epochs: int = 260  # paper
    batch_size: int = 32  # paper; over all processes together
    optimizer: Literal["adam", "adamw"] = "adam"  # paper: adam
    learning_rate: float = 1e-3  # paper
    weight_decay: float = 0.0
    schedule: Literal["steps", "cosine"] = "steps"  # paper: steps; cosine goes to zero at the end
    lr_steps: tuple[int, ...] = (200, 240)  # paper: epochs from which the rate is a tenth, a hundredth
    warmup_steps: int = 0  # steps over which the rate rises from zero
    ema_decay: float = 0.0  # 0: none; else the weights' running average is evaluated and kept
    clip_grad_norm: float = 0.0  # 0: none

    joint_weights: Literal["equal", "hrnet"] = "equal"  # hrnet: elbows and knees 1.2, wrists and ankles 1.5
    codec: Literal["standard", "dark", "udp"] = "standard"
    sigma: float | None = None  # of the heatmaps, in their pixels; None: 2, or 3 from 384 rows on
    augmentation: Augmentation = Augmentation()
    bad_images: Literal["refuse", "skip"] = "refuse"  # unreadable pictures; skipped ones are counted

    seed: int = 0
    eval_every: int = 1  # epochs
    flip_test: bool = True  # in the evaluations
    workers: int | None = None  # loader processes; None: chosen for this machine
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16 is autocast
    sync_batchnorm: bool = False  # BatchNorm over all processes' pictures; GPUs only
    checkpoint_minutes: float = 2.0  # between checkpoints, besides one at the end of every epoch

    def __post_init__(self):
        for name, hint in get_type_hints(type(self)).items():
            choices = get_args(hint)
            if choices and all(isinstance(choice, str) for choice in choices) and getattr(self, name) not in choices:
                raise UserError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(choices)}")
        for name in ("epochs", "batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: at least 1")
        if not self.learning_rate > 0 or (self.sigma is not None and not self.sigma > 0):
            raise UserError(f"learning_rate {self.learning_rate} and sigma {self.sigma} must be positive")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay {self.ema_decay}: from 0 up to, but not including, 1")
        if self.seed < 0:
            raise UserError(f"seed {self.seed}: not below 0")
        if self.workers is not None and self.workers < 0:
            raise UserError(f"workers {self.workers}: not below 0")
        for name in ("weight_decay", "clip_grad_norm", "warmup_steps", "checkpoint_minutes"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} {getattr(self, name)}: not below 0")

    def network_options(self) -> dict[str, Any]:
        """What to change in the named model's config: what differs from the defaults (LGM-Pose's alone have these)."""
        defaults = {field.name: field.default for field in fields(self)}
        names = ("image_hw", "fusion", "global_block", "larm_residual", "larm", "activation")
        return {name: getattr(self, name) for name in names if getattr(self, name) != defaults[name]}

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The inverse of ``as_dict``."""
        values = dict(values)
        values["image_hw"] = tuple(values["image_hw"]) if values["image_hw"] else None
        values["lr_steps"] = tuple(values["lr_steps"])
        values["augmentation"] = Augmentation(**values["augmentation"])
        return cls(**values)


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of one step (0-based over the whole run)."""
    total = config.epochs * steps_per_epoch
    if config.schedule == "cosine":
        rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))
    else:
        rate = config.learning_rate * 0.1 ** sum(step // steps_per_epoch >= epoch for epoch in config.lr_steps)
    return rate * min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else rate
