"""What is measured: networks at sizes, in groups whose members are compared; checked before anything runs."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lgmpose.errors import UserError
from lgmpose.lab.paper import TABLES
from lgmpose.network.config import STAGES, VARIANTS

__all__ = ["SCOPES", "TABLE_NUMBERS", "Group", "Settings", "Subject", "model_plan", "quick_models", "table_plan"]

SCOPES = {
    "network": "the network alone",
    "decode": "network and decoding of its heatmaps",
    "pipeline": "a 640 × 480 picture in memory and a batch of persons' boxes in, keypoints in it out; no flip test",
}
TABLE_NUMBERS = (1, 3)  # the paper's tables with measured speeds of several systems
TABLE_KEYPOINTS = {1: 17, 3: 16}  # COCO, MPII


@dataclass(frozen=True)
class Settings:
    """How it is measured; the defaults are the protocol.

    Raises:
        UserError: a value that makes no sense.
    """

    backends: tuple[str, ...] = ("eager",)
    threads: tuple[int, ...] = (1,)
    batch_sizes: tuple[int, ...] = (1,)
    scope: str = "network"  # one of SCOPES
    codec: str = "dark"  # how heatmaps are decoded, in the scopes that do
    runs: int = 100  # a group ends after so many rounds (every network runs once in each) …
    seconds: float = 5.0  # … or after so many seconds per network, whichever comes first,
    min_rounds: int = 10  # but not before so many rounds
    warmup: int = 10  # runs before the clock starts; 3 for a network that takes longer than a second
    device: str = "auto"
    keep_memory: bool = False  # lgmpose.machine.tune_allocator, which training and evaluation use; predict does not

    def __post_init__(self):
        for name in ("backends", "threads", "batch_sizes"):
            values = tuple(dict.fromkeys(getattr(self, name)))  # each once
            object.__setattr__(self, name, values)
            if not values:
                raise UserError(f"{name.replace('_', '-')}: name at least one")
        for name in ("threads", "batch_sizes"):
            for value in getattr(self, name):
                if value < 1:
                    raise UserError(f"{name.replace('_', '-')} {value}: at least 1")
        for name in ("runs", "min_rounds", "warmup"):
            if getattr(self, name) < 1:
                raise UserError(f"{name.replace('_', '-')} {getattr(self, name)}: at least 1")
        if not 0 < self.seconds < float("inf"):
            raise UserError(f"seconds {self.seconds}: a number above 0")
        if self.scope not in SCOPES:
            raise UserError(f"no scope {self.scope!r}; there are {', '.join(SCOPES)}")
        object.__setattr__(self, "min_rounds", min(self.min_rounds, self.runs))


@dataclass(frozen=True)
class Subject:
    """One network of a group.

    Attributes:
        label: what reports call it: the paper's name for its rows, else the model's.
        model: a name for ``create_model``; None for a system that cannot be built.
        reason: why there is no model.
        params, macs, activations: what it costs for one picture; None until ``counted``.
    """

    label: str
    model: str | None
    reason: str = ""
    params: int | None = None
    macs: int | None = None
    activations: int | None = None


@dataclass(frozen=True)
class Group:
    """Networks that are compared: same input, same number of keypoints; interleaved in the same rounds.

    Attributes:
        table: the paper's table that the rows are from, or None.
        reference: label of the network that ratios are taken against.
    """

    image_hw: tuple[int, int]
    num_keypoints: int
    subjects: tuple[Subject, ...]
    reference: str
    table: int | None = None


def quick_models() -> tuple[str, ...]:
    """What is measured when nothing is asked for: LGM-Pose and the small networks that are installed."""
    models = ("lgm-pose-coco-256x192", "small-hrnet", "lite-hrnet-18", "dite-hrnet-18")
    return models + (("mobilenetv2", "shufflenetv2") if importlib.util.find_spec("torchvision") else ())


def table_plan(tables: Sequence[int] = TABLE_NUMBERS) -> list[Group]:
    """The systems of the paper's tables, a group per table and input size, every row kept.

    Raises:
        UserError: a table without measured speeds of several systems.
    """
    groups = []
    for table in dict.fromkeys(tables):
        if table not in TABLE_NUMBERS:
            raise UserError(f"Table {table} cannot be measured: Tables {TABLE_NUMBERS[0]} and {TABLE_NUMBERS[1]} can")
        rows = TABLES[table]
        for image_hw in dict.fromkeys(row.image_hw for row in rows):
            subjects = tuple(
                Subject(row.name, row.model, "" if row.model else row.note) for row in rows if row.image_hw == image_hw
            )
            groups.append(Group(image_hw, TABLE_KEYPOINTS[table], subjects, "LGM-Pose", table))
    return groups


def model_plan(
    models: Sequence[str],
    image_sizes: Sequence[tuple[int, int]] = (),
    *,
    num_keypoints: int | None = None,
    reference: str | None = None,
) -> list[Group]:
    """Named networks, a group per input size.

    Args:
        models: names of ``list_models()``.
        image_sizes: (H, W) each; none: the reference's own size.
        num_keypoints: None: the reference's own.
        reference: a name of ``models``; by default the first LGM-Pose among them, else the first of all.

    Raises:
        UserError: an unknown name, a network named twice, or a size below 1.
    """
    from lgmpose.peers import PeerConfig  # here, because it brings PyTorch
    from lgmpose.zoo.catalogue import list_models

    known = list_models()
    if not models:
        raise UserError("no model to measure: name at least one")
    for name in models:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise UserError(
                f"no model {name!r}{f'; did you mean {near[0]}?' if near else ''} There are {', '.join(known)}"
            )
    named = {}
    for name in models:
        key = _label(name)
        if key in named:
            raise UserError(f"{named[key]} and {name} are one network at one size: name one, and sizes by --image-hw")
        named[key] = name
    if reference is None:
        reference = next((name for name in models if name in VARIANTS), models[0])
    elif reference not in models:
        raise UserError(f"the reference {reference!r} is not among the models: {', '.join(models)}")
    own = VARIANTS[reference] if reference in VARIANTS else PeerConfig(reference)
    subjects = tuple(Subject(_label(name), name) for name in models)
    return [
        Group(tuple(size), own.num_keypoints if num_keypoints is None else num_keypoints, subjects, _label(reference))
        for size in dict.fromkeys(map(tuple, image_sizes or [own.image_hw]))
    ]


def _label(model: str) -> str:
    """The paper's LGM-Pose by one name: its variants differ in size and joints alone, which the group says."""
    if model not in VARIANTS:
        return model
    return "LGM-Pose" if VARIANTS[model].stages == STAGES else "LGM-Pose fast"


def counted(groups: Sequence[Group], *, progress: bool = False) -> list[Group]:
    """The same groups with parameters, MACs and activations; every network is built once and run, without numbers.

    Raises:
        UserError: a size that a network cannot take, or a package that it needs and that is not installed.
    """
    import torch
    from tqdm import tqdm

    from lgmpose.lab.conventions import count_by_conventions
    from lgmpose.zoo.catalogue import create_model

    done, number = [], sum(len(group.subjects) for group in groups)
    bar = tqdm(total=number, desc="counting MACs", disable=not progress, leave=False)
    for group in groups:
        subjects = []
        for subject in group.subjects:
            if subject.model is not None:
                with torch.device("meta"):  # shapes only
                    net = create_model(subject.model, image_hw=group.image_hw, num_keypoints=group.num_keypoints)
                try:
                    counts = count_by_conventions(net, group.image_hw)
                except (ValueError, RuntimeError) as error:
                    raise UserError(f"model {subject.model} cannot take {group.image_hw}: {error}") from error
                subject = replace(subject, params=counts.params, macs=counts.true_macs, activations=counts.activations)
            subjects.append(subject)
            bar.update()
        done.append(replace(group, subjects=tuple(subjects)))
    bar.close()
    return done
