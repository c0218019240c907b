"""The training recipe: every setting that decides what a run computes, in one frozen dataclass. Imports no PyTorch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from lgmpose.data.augment import Augmentation
from lgmpose.errors import UserError
from lgmpose.files import as_type
from lgmpose.network.config import (
    DETECTOR_NAME,
    VARIANTS,
    Activation,
    Fusion,
    GlobalBlock,
    LarmPart,
    LGMPoseConfig,
    LinearInit,
)
from lgmpose.pose.codecs import CodecName

__all__ = [
    "MACHINE_FIELDS", "RECIPES", "RESUME_FIELDS", "DetectorConfig", "TrainConfig", "learning_rate", "recipe",
    "without_folders",
]  # fmt: skip

# Fields that change how fast a run is computed, but not which network it trains.
MACHINE_FIELDS = ("workers", "device", "checkpoint_minutes")
# Fields that may change on resume: a run that has met an unreadable image could not be finished without bad_images.
RESUME_FIELDS = (*MACHINE_FIELDS, "bad_images")

# Options of `lgmpose train --recipe NAME`; options that the user gives replace them.
RECIPES: dict[str, dict[str, Any]] = {
    # For 10 to 200 labelled persons. Few alternatives were tried, see docs/own_pictures.md.
    "few-pictures": {
        "model": "lgm-pose-lspet-128x128",
        "init_weights": "lgm-pose-lspet-128x128.safetensors",
        "epochs": 12,
        "epoch_persons": 240,
        "freeze_epochs": 1,
        "batch_size": 16,
        "optimizer": "adamw",
        "learning_rate": 2e-3,
        "weight_decay": 0.01,
        "schedule": "cosine",
        "ema_decay": 0.98,
        "codec": "dark",
        "sigma": 1.5,
        "half_body_prob": 0.0,
        "scale_factor": 0.25,
        "rotation_deg": 40.0,
        "colour": 0.2,
    }
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run. Defaults: the paper's (section 4.2) where it states them, else SimpleBaseline's and HRNet's.

    Raises:
        UserError: a value out of range.
    """

    data: str = "synthetic"  # KIND:PATH with KIND coco, yolo, via, mpii, lspet, lspet3, lspet-corrected, synthetic, mix
    annotations: str | None = None  # annotation file for training, if it is not in its usual place
    val_annotations: str | None = None  # the same for validation
    categories: tuple[str, ...] = ()  # names of the COCO categories to read; default: person, or those with its joints
    val_data: str | None = None  # KIND:PATH to validate on; None: the validation part of --data
    model: str = "lgm-pose-coco-256x192"  # a name of `lgmpose profile --list`; the data decide the number of keypoints
    image_hw: tuple[int, int] | None = None  # input height and width; None: the model's own
    # how LGM-Pose's decoder joins its map with the encoder's (paper, Table 5). sfusion: the paper's choice. none: the
    # encoder's map is not used. conv3x3: a 3×3 convolution. dw1, dw2: a grouped one, 1 or 2 channels per group
    fusion: Fusion = "sfusion"
    # LGM-Pose's block that relates distant pixels (paper, Table 4). mobilevim: the paper's choice. mobilevit: with a
    # transformer. mobilevit_relu6: the same with ReLU6 instead of SiLU
    global_block: GlobalBlock = "mobilevim"
    larm_residual: bool = True  # residual connections of LARM's two MLPs; equation 1 has none
    linear_init: LinearInit = "own"  # initial weights of the global block's linear layers: own, default or small (0.02)
    # which of LARM's two MLPs to keep; identity: none of them; the paper has both
    larm: LarmPart = "both"
    activation: Activation = "relu6"  # activation of LGM-Pose
    init_weights: str | None = None  # weights file to start from; its joints and input size may differ; None: random

    epochs: int = 260  # number of epochs; the default is the paper's
    # end the training after this many minutes, evaluations not counted. --schedule cosine then reaches zero at that
    # time. The result depends on the machine's speed, so a resumed run is not bit for bit the same
    minutes: float | None = None
    freeze_epochs: int = 0  # train only the last layer (the head) in this many first epochs
    epoch_persons: int | None = None  # persons per epoch, repeated if there are fewer; None: each person once
    batch_size: int = 32  # persons per step, over all processes together; the default is the paper's
    # optimizer; the paper uses adam. muon: Muon for dense kernels and linear layers, adamw for the rest
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    learning_rate: float = 1e-3  # base learning rate; the default is the paper's
    weight_decay: float = 0.0  # weight decay of the optimizer
    schedule: Literal["steps", "cosine"] = "steps"  # learning rate schedule; the paper uses steps; cosine ends at zero
    lr_steps: tuple[int, ...] = (200, 240)  # epochs after which --schedule steps divides the rate by 10; the paper's
    warmup_steps: int = 0  # steps during which the rate rises from zero
    ema_decay: float = 0.0  # decay of the weights' moving average, which is evaluated and saved; 0: no average
    clip_grad_norm: float = 0.0  # largest norm of the gradient; 0: no clipping

    # weights of the joints in the loss. hrnet: elbows and knees 1.2, wrists and ankles 1.5. The loss squares them, as
    # HRNet's code does
    joint_weights: Literal["equal", "hrnet"] = "equal"
    # rules that turn joints into heatmaps and back. standard: SimpleBaseline's, which rounds to heatmap pixels. dark:
    # does not round. udp: does not round, and measures lengths between pixel centres. simcc: scores of x and y instead
    # of heatmaps; LGM-Pose then has RTMPose's head instead of its decoder
    codec: CodecName = "standard"
    # standard deviation of the peaks, heatmap pixels; None: 2, or 3 for 384 rows and more. simcc: in half crop pixels;
    # None: √(rows / 8)
    sigma: float | None = None
    augmentation: Augmentation = Augmentation()
    # a pose network to learn from, besides the labels. A weights file, an exported file, another ONNX file that returns
    # heatmaps, the .param file of PP-TinyPose, or the teacher.npz of an earlier run with the same data. None: labels
    # only
    teacher: str | None = None
    teacher_share: float = 0.5  # where label and teacher agree: the share of the teacher's peak in the target
    teacher_turns: bool = False  # the teacher predicts each person at four rotations: for people upside down
    # device: keep all crops as uint8 in the device's memory and augment them there. Pixels far outside of a person's
    # box are then black
    cache: Literal["none", "device"] = "none"
    bad_images: Literal["refuse", "skip"] = "refuse"  # at an unreadable picture: stop (refuse) or leave it out (skip)

    seed: int = 0  # seed of all random numbers
    eval_every: int = 1  # epochs between evaluations; the last epoch is always evaluated
    flip_test: bool = True  # use the flip test in the evaluations
    workers: int | None = None  # loader processes; None: chosen for this machine
    device: str = "auto"  # auto, cpu, cuda, mps …
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # bf16 is autocast; auto: bf16 on CUDA GPUs that have it
    compile: bool = False  # use torch.compile: the first step takes minutes, later ones less time
    sync_batchnorm: bool = False  # BatchNorm statistics over the pictures of all processes; GPUs only
    checkpoint_minutes: float = 2.0  # minutes between checkpoints, besides one at the end of every epoch

    def __post_init__(self):
        for name, hint in get_type_hints(type(self)).items():
            choices = get_args(hint)
            if choices and all(isinstance(choice, str) for choice in choices) and getattr(self, name) not in choices:
                raise UserError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(choices)}")
        for name in ("epochs", "batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)}: give 1 or more")
        for name in (
            "weight_decay", "clip_grad_norm", "warmup_steps", "checkpoint_minutes", "seed", "workers", "freeze_epochs",
        ):  # fmt: skip
            if (getattr(self, name) or 0) < 0:
                raise UserError(f"{name} {getattr(self, name)}: give 0 or more")
        for name in ("learning_rate", "sigma", "epoch_persons", "minutes"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} {getattr(self, name)}: give a positive number")
        if not 0 <= self.teacher_share <= 1:
            raise UserError(f"teacher_share {self.teacher_share}: give a number from 0 to 1")
        if self.teacher is not None and self.codec == "simcc":
            raise UserError(f"teacher {self.teacher}: draws heatmaps, so it cannot be used with --codec simcc")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"ema_decay {self.ema_decay}: give a number from 0 up to, but not including, 1")

    def network_options(self) -> dict[str, Any]:
        """Return what to change in the model's config: the options that differ from their defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        names = [field.name for field in fields(LGMPoseConfig) if field.name in defaults]
        options = {name: getattr(self, name) for name in names if getattr(self, name) != defaults[name]}
        return options | ({"head": "simcc"} if self.codec == "simcc" and self.model in VARIANTS else {})

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON holds them."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Return the settings that ``as_dict`` returned. Missing ones get their defaults.

        Raises:
            UserError: an unknown setting, or a value of another type.
        """
        if unknown := sorted(values.keys() - {field.name for field in fields(cls)}):
            raise UserError(f"settings of another version (unknown setting {unknown[0]})")
        return as_type(values, cls, "settings of another version", strict=True)


@dataclass(frozen=True)
class DetectorConfig:
    """Settings of a detector's training. AdamW, cosine schedule and moving average are fixed."""

    data: str  # coco:FOLDER; all persons with a box are used, with and without joints
    annotations: str | None = None  # annotation file for training, if it is not in its usual place
    val_data: str | None = None  # coco:FOLDER to validate on; None: the validation part of --data
    val_annotations: str | None = None  # annotation file for validation
    image_hw: tuple[int, int] = (320, 320)  # input height and width, multiples of 32
    # LGM-Pose-next weights to start the encoder from, of any input size, or the last.pt of a detector's run of the same
    # size; None: random
    init_weights: str | None = None
    epochs: int = 100  # number of epochs
    batch_size: int = 16  # pictures per step
    learning_rate: float = 2e-3  # base learning rate
    weight_decay: float = 0.05  # weight decay of AdamW
    warmup_steps: int = 300  # steps during which the rate rises from zero
    ema_decay: float = 0.999  # decay of the weights' moving average, which is evaluated and saved
    clip_grad_norm: float = 10.0  # largest norm of the gradient; 0: no clipping
    eval_every: int = 5  # epochs between evaluations; the last epoch is always evaluated
    seed: int = 0  # seed of all random numbers
    workers: int | None = None  # loader processes; None: chosen for this machine
    bad_images: Literal["refuse", "skip"] = "refuse"  # at an unreadable picture: stop (refuse) or leave it out (skip)
    device: str = "auto"  # auto, cpu, cuda, mps …
    checkpoint_minutes: float = 2.0  # minutes between checkpoints

    def as_train_config(self) -> TrainConfig:
        """Return the settings as those of any training."""
        return TrainConfig(**asdict(self), model=DETECTOR_NAME, optimizer="adamw", schedule="cosine")


def recipe(name: str, **changes: Any) -> TrainConfig:
    """Return the settings of a recipe with some of them changed; fields of ``augmentation`` may be given by name.

    Raises:
        UserError: there is no such recipe, or a value is out of range.
    """
    if name not in RECIPES:
        raise UserError(f"recipe {name!r}: choose one of {', '.join(RECIPES)}")
    values = RECIPES[name] | changes
    names = {field.name for field in fields(Augmentation)} & values.keys()
    augmentation = Augmentation(**{field: values.pop(field) for field in names})
    return TrainConfig(**values, augmentation=augmentation)


def without_folders(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings (``TrainConfig.as_dict``) with the names of files and folders in place of their paths.

    Results that others read get these: where a file lies on one machine says nothing to them.
    """
    kept = dict(settings)
    for name in ("data", "val_data", "annotations", "val_annotations", "init_weights", "teacher"):
        if not kept.get(name):
            continue
        kind, colon, path = kept[name].partition(":") if name in ("data", "val_data") else ("", "", kept[name])
        kept[name] = kind + colon + Path(path).name
    return kept


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int, seconds: float = 0.0) -> float:
    """Return the learning rate of one step, counted from 0 over the whole run, ``seconds`` after its start."""
    done = step / (config.epochs * steps_per_epoch)
    if config.minutes is not None:
        done = max(done, seconds / (60 * config.minutes))
    if config.schedule == "cosine":
        rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    else:
        rate = config.learning_rate * 0.1 ** sum(step // steps_per_epoch >= epoch for epoch in config.lr_steps)
    return rate * min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else rate
