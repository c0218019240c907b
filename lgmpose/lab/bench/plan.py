"""What to measure: networks at input sizes, in groups whose members are compared. Checked before any process starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lgmpose.errors import UserError
from lgmpose.lab.paper import TABLES
from lgmpose.network.config import VARIANTS

__all__ = ["CODEC", "SCOPES", "BenchConfig", "Group", "Job", "Subject", "make_groups", "quick_models"]

SCOPES = {
    "network": "the network alone",
    "decode": "network and decoding of its heatmaps",
    "pipeline": "a 640 × 480 picture in memory and a batch of persons' boxes in, keypoints in it out; no flip test",
}
CODEC = "dark"  # decodes the heatmaps in the scopes that do
TABLE_KEYPOINTS = {1: 17, 3: 16}  # the paper's tables that give speeds of several systems; on COCO, on MPII


def quick_models() -> tuple[str, ...]:
    """Return what is measured by default: LGM-Pose and the small networks that are installed."""
    models = ("lgm-pose-coco-256x192", "small-hrnet", "lite-hrnet-18", "dite-hrnet-18")
    return models + (("mobilenetv2", "shufflenetv2") if importlib.util.find_spec("torchvision") else ())


@dataclass(frozen=True)
class BenchConfig:
    """What ``lgmpose bench`` measures, and how; the defaults are the protocol.

    Raises:
        UserError: an empty list, a number below 1, or an unknown scope.
    """

    # names of `lgmpose profile --list`; the others' times are divided by those of the first LGM-Pose
    models: tuple[str, ...] = field(default_factory=quick_models)
    # eager, eager-folded, eager-fast, compile, onnxruntime, onnxruntime-int8, openvino, openvino-bf16 or openvino-int8
    backends: tuple[str, ...] = ("eager",)
    threads: tuple[int, ...] = (1,)  # numbers of threads; each gets its own process
    image_hw: tuple[tuple[int, int], ...] = ()  # heights and widths, such as 256 192 384 288; default: the model's own
    batch_sizes: tuple[int, ...] = (1,)  # persons per run
    tables: tuple[int, ...] | None = None  # measure the systems of these tables of the paper instead: 1, 3; empty: both
    scope: Literal["network", "decode", "pipeline"] = "network"  # what a run contains
    runs: int = 100  # rounds at most; each network runs once per round
    seconds: float = 5.0  # seconds per network at most, but at least 10 rounds
    warmup: int = 10  # runs of each network before its first round
    device: str = "auto"  # auto, cpu, cuda, mps …
    keep_memory: bool = False  # let the C library keep freed memory, as `lgmpose train` does and `predict` does not

    def __post_init__(self):
        for name in ("models", "backends", "threads", "batch_sizes"):
            if not getattr(self, name):
                raise UserError(f"{name}: give at least one")
        for name, values in (("threads", self.threads), ("batch_sizes", self.batch_sizes), ("runs", [self.runs])):
            if min(values) < 1:
                raise UserError(f"{name} {min(values)}: at least 1")
        if not 0 < self.seconds < float("inf") or self.warmup < 0:
            raise UserError(f"seconds {self.seconds} must be above 0 and warmup {self.warmup} at least 0")
        if self.scope not in SCOPES:
            raise UserError(f"scope {self.scope!r}: choose one of {', '.join(SCOPES)}")


@dataclass(frozen=True)
class Subject:
    """One network of a group.

    Attributes:
        label: its name in reports: the paper's name in the paper's tables, else the model's.
        model: a name for ``create_model``; None for a system that cannot be built.
        reason: why there is no model.
        params, macs, activations: its counts for one picture.
    """

    label: str
    model: str | None
    reason: str = ""
    params: int | None = None
    macs: int | None = None
    activations: int | None = None


@dataclass(frozen=True)
class Group:
    """Networks that are compared: same input, same number of keypoints, timed in the same rounds.

    Attributes:
        reference: label of the network that the others' times are divided by.
        table: the paper's table that the subjects are from, or None.
    """

    image_hw: tuple[int, int]
    num_keypoints: int
    subjects: tuple[Subject, ...]
    reference: str
    table: int | None = None


@dataclass(frozen=True)
class Job:
    """What one process measures: one group of networks by one backend with one number of threads.

    Attributes:
        folder: where exported files are kept for the next process.
    """

    config: BenchConfig
    backend: str
    threads: int
    batch_size: int
    models: tuple[str, ...]
    image_hw: tuple[int, int]
    num_keypoints: int
    folder: str


def make_groups(config: BenchConfig, *, progress: bool = False) -> list[Group]:
    """Return one group per input size (and table), with every network's counts.

    Args:
        config: what to measure.
        progress: show a progress bar; counting the networks of the paper's tables takes up to a minute.

    Raises:
        UserError: an unknown model or table, or an input size that a network cannot take.
    """
    from tqdm import tqdm

    if config.tables is not None and (config.models != quick_models() or config.image_hw):
        raise UserError("tables: the paper's tables have their own networks and sizes; leave out models and image_hw")
    uncounted = _models(config) if config.tables is None else _tables(config.tables or tuple(TABLE_KEYPOINTS))
    quiet = None if progress else True  # None: no bar where stderr is no terminal
    groups = []
    for group in uncounted:
        with tqdm(group.subjects, desc="counting MACs", disable=quiet, leave=False) as bar:
            subjects = tuple(_counted(s, group.image_hw, group.num_keypoints) if s.model else s for s in bar)
        groups.append(replace(group, subjects=subjects))
    return groups


def _tables(tables: Sequence[int]) -> list[Group]:
    """Return every row of the paper's tables, also those that cannot be built."""
    groups = []
    for table in dict.fromkeys(tables):
        if table not in TABLE_KEYPOINTS:
            raise UserError(f"tables {table}: only Tables {' and '.join(map(str, TABLE_KEYPOINTS))} give speeds")
        for image_hw in dict.fromkeys(row.image_hw for row in TABLES[table]):
            subjects = tuple(
                Subject(row.name, row.model, "" if row.model else row.note)
                for row in TABLES[table]
                if row.image_hw == image_hw
            )
            groups.append(Group(image_hw, TABLE_KEYPOINTS[table], subjects, "LGM-Pose", table))
    return groups


def _models(config: BenchConfig) -> list[Group]:
    import torch

    from lgmpose.zoo.catalogue import create_model

    models = tuple(dict.fromkeys(config.models))
    reference = next((name for name in models if name in VARIANTS), models[0])
    with torch.device("meta"):
        own = create_model(reference).config
    subjects = tuple(Subject(name, name) for name in models)
    sizes = dict.fromkeys(config.image_hw or [own.image_hw])
    return [Group(tuple(size), own.num_keypoints, subjects, reference) for size in sizes]


def _counted(subject: Subject, image_hw: tuple[int, int], num_keypoints: int) -> Subject:
    import torch

    from lgmpose.lab.conventions import count_by_conventions
    from lgmpose.zoo.catalogue import create_model

    with torch.device("meta"):  # shapes without numbers
        net = create_model(subject.model, image_hw=image_hw, num_keypoints=num_keypoints)
    try:
        counts = count_by_conventions(net, image_hw)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"model {subject.model} cannot take the input size {image_hw}: {error}") from error
    return replace(subject, params=counts.params, macs=counts.true_macs, activations=counts.activations)
