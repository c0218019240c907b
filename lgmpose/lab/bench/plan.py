"""What to measure: which networks, at which sizes, in which processes. Checked before any process starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import msgspec
from tqdm import tqdm

from lgmpose.errors import UserError
from lgmpose.lab.bench.measurement import Row
from lgmpose.lab.paper import TABLES
from lgmpose.network.config import VARIANTS

__all__ = ["CODEC", "SCOPES", "BenchConfig", "Job", "make_plan", "quick_models"]

SCOPES = {
    "network": "the network alone",
    "decode": "network and decoding of its heatmaps",
    "pipeline": "a 640 × 480 picture in memory and a batch of persons' boxes in, keypoints in it out; no flip test",
}
CODEC = "dark"  # decodes the heatmaps in the scopes that do; a SimCC head has its own codec
TABLE_KEYPOINTS = {1: 17, 3: 16}  # the paper's tables that give speeds of several systems; on COCO, on MPII


def quick_models() -> tuple[str, ...]:
    """Return what is measured by default: LGM-Pose and the small networks that are installed."""
    models = ("lgm-pose-coco-256x192", "small-hrnet", "lite-hrnet-18", "dite-hrnet-18")
    return models + (("mobilenetv2", "shufflenetv2") if importlib.util.find_spec("torchvision") else ())


@dataclass(frozen=True)
class BenchConfig:
    """Say what ``lgmpose bench`` measures, and how. The defaults are the project's protocol.

    Raises:
        UserError: an empty list, a number below 1, or an unknown scope.
    """

    # names of `lgmpose profile --list`, or timm:NAME, torchvision:NAME, package.module:function. All times are also
    # divided by those of the first LGM-Pose in the list
    models: tuple[str, ...] = field(default_factory=quick_models)
    # eager, eager-folded, eager-fast, compile, onnxruntime, onnxruntime-int8, openvino, openvino-bf16 or openvino-int8
    backends: tuple[str, ...] = ("eager",)
    threads: tuple[int, ...] = (1,)  # numbers of threads; each gets its own process
    image_hw: tuple[tuple[int, int], ...] = ()  # heights and widths, such as 256 192 384 288; default: the model's own
    batch_sizes: tuple[int, ...] = (1,)  # persons per run
    # measure the networks of the paper's Table 1 or 3, instead of --models; without a number, those of both tables
    tables: tuple[int, ...] | None = None
    # what is timed. network: the network alone. decode: the network and the decoding of its heatmaps. pipeline: from a
    # picture in memory and boxes to joints, without the flip test
    scope: Literal["network", "decode", "pipeline"] = "network"
    runs: int = 100  # largest number of rounds; each network runs once per round
    seconds: float = 5.0  # largest time per network; at least 10 rounds are measured
    warmup: int = 10  # runs of each network before its first round
    device: str = "auto"  # auto, cpu, cuda, mps …
    # what the times are. wall: the time that passes. cpu: the processor time of this process, which other programs on a
    # busy machine hardly change; use it with one thread
    clock: Literal["wall", "cpu"] = "wall"
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


class Job(msgspec.Struct):
    """What one process measures.

    Attributes:
        config: see ``BenchConfig``.
        rows: the networks, of one size, batch size, backend and number of threads; those with a reason are left out.
        folder: where exported files are kept for the next process.
    """

    config: BenchConfig
    rows: list[Row]
    folder: str


def make_plan(config: BenchConfig, *, progress: bool = False) -> list[list[Row]]:
    """Return the rows of each process, without times: networks that are compared with the one that is the reference.

    Counting the networks of the paper's tables takes up to a minute; ``progress`` shows a bar.

    Raises:
        UserError: an unknown model or table, or an input size that a network cannot take.
    """
    if config.tables is not None and (config.models != quick_models() or config.image_hw):
        raise UserError("tables: the paper's tables have their own networks and sizes; leave out models and image_hw")
    groups = _models(config) if config.tables is None else _tables(config.tables or tuple(TABLE_KEYPOINTS))
    quiet = None if progress else True  # None: no bar where stderr is no terminal
    with tqdm(total=sum(map(len, groups)), desc="counting MACs", disable=quiet, leave=False) as bar:
        for group in groups:
            for fields in group:
                if fields["model"]:
                    fields |= _counts(fields["model"], fields["image_hw"], fields["num_keypoints"])
                bar.update()
    return [
        [Row(**fields, batch_size=batch_size, threads=threads, backend=backend) for fields in group]
        for group, batch_size, threads, backend in product(groups, config.batch_sizes, config.threads, config.backends)
    ]


def _tables(tables: Sequence[int]) -> list[list[dict[str, Any]]]:
    """Return fields of every row of the paper's tables, also those that cannot be built."""
    groups = []
    for table in dict.fromkeys(tables):
        if table not in TABLE_KEYPOINTS:
            raise UserError(f"tables {table}: only Tables {' and '.join(map(str, TABLE_KEYPOINTS))} give speeds")
        for size in dict.fromkeys(row.image_hw for row in TABLES[table]):
            groups.append([
                {"label": row.name, "model": row.model, "reason": "" if row.model else row.note, "table": table,
                 "image_hw": size, "num_keypoints": TABLE_KEYPOINTS[table], "is_reference": row.name == "LGM-Pose"}
                for row in TABLES[table] if row.image_hw == size
            ])  # fmt: skip
    return groups


def _models(config: BenchConfig) -> list[list[dict[str, Any]]]:
    import torch

    from lgmpose.zoo.catalogue import create_model
    from lgmpose.zoo.outside_networks import is_outside, open_network

    models = tuple(dict.fromkeys(config.models))
    reference = next((name for name in models if name in VARIANTS), models[0])
    own = next((name for name in (reference, *models) if not is_outside(name)), None)
    sizes, shared = config.image_hw, {"num_keypoints": 0}  # a network from outside has no keypoints that we know of
    if own is not None:
        with torch.device("meta"):
            settings = create_model(own).config
        sizes, shared = config.image_hw or (settings.image_hw,), {"num_keypoints": settings.num_keypoints}
    elif not sizes:
        sizes = (open_network(reference)[1],)
    for name in filter(is_outside, models):
        unfit = [backend for backend in config.backends if backend in ("eager-folded", "eager-fast")]
        if unfit or config.scope != "network":
            what = f"backends {unfit[0]}" if unfit else f"scope {config.scope}"
            raise UserError(f"{what} is for networks of `lgmpose profile --list` only, not for {name}")
    return [
        [{"label": m, "model": m, "image_hw": tuple(size), "is_reference": m == reference, **shared} for m in models]
        for size in dict.fromkeys(sizes)
    ]


def _counts(model: str, image_hw: tuple[int, int], num_keypoints: int) -> dict[str, int]:
    from lgmpose.lab.conventions import count_named
    from lgmpose.lab.profiling import count_outside
    from lgmpose.zoo.outside_networks import is_outside, open_network

    if is_outside(model):
        found = count_outside(*open_network(model, image_hw=image_hw), model)
    else:
        found = count_named(model, image_hw, num_keypoints)
    return {"params": found.params, "macs": found.true_macs, "activations": found.activations}
