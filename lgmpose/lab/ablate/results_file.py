"""What a results file of ``lgmpose ablate`` holds, and how it is checked before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from lgmpose.errors import UserError
from lgmpose.files import as_type, read_json
from lgmpose.lab.ablate.rows import NETWORKS

__all__ = ["AblationResults", "read_results"]

Counts = Annotated[str, msgspec.Meta(pattern=r"^\d{1,9}( \d{1,9})*$")]  # one number per person


class Recipe(msgspec.Struct):
    """The fields of the recipe that are used below; ``TrainConfig`` has all."""

    epochs: int
    augmentation: dict[str, Any]


class Cost(msgspec.Struct):
    """Of one network."""

    params: int
    macs: int


class SpeedConditions(msgspec.Struct):
    """How speeds were measured."""

    image_hw: tuple[int, int]
    device: str
    threads: int
    cpu: str
    rounds: int


class NetworkSpeed(msgspec.Struct):
    """Of one network; ``ratio``: median and quartiles."""

    fps: float
    median_ms: float
    ratio: tuple[float, float, float]


class Speed(msgspec.Struct):
    """Speeds of all networks, measured together."""

    conditions: SpeedConditions
    noisy: bool
    variants: dict[str, NetworkSpeed]


class FinishedRun(msgspec.Struct):
    """One training; ``correct``: metric → correct joints of each person."""

    variant: str
    seed: int
    figures: dict[str, float]
    correct: dict[str, Counts]


class AblationResults(msgspec.Struct):
    """The whole file; ``counted``: metric → labelled joints of each person."""

    recipe: Recipe
    conditions: dict[str, str]
    counted: dict[str, Counts]
    costs: dict[str, Cost]
    speed: Speed | None
    runs: list[FinishedRun]


def read_results(path: str | Path) -> dict[str, Any]:
    """Return the content of a results file.

    Raises:
        UserError: no such file, or not one of ``lgmpose ablate``, a run that does not fit the persons counted, the same
            run twice, or an unknown network.
    """
    content = read_json(path)
    checked = as_type(content, AblationResults, f"{path}: not results of `lgmpose ablate`", strict=True)
    persons = {metric: len(text.split()) for metric, text in checked.counted.items()}
    for number, run in enumerate(checked.runs):
        if run.figures.keys() < persons.keys() or {m: len(t.split()) for m, t in run.correct.items()} != persons:
            raise UserError(f"{path}: run number {number} has other metrics or persons than the file's 'counted'")
    if unknown := sorted({*checked.costs, *(run.variant for run in checked.runs)} - NETWORKS.keys()):
        raise UserError(f"{path}: has a network {unknown[0]!r} that this version of lgmpose does not have")
    runs = [(run.variant, run.seed) for run in checked.runs]
    if len(set(runs)) < len(runs):
        raise UserError(f"{path}: holds {' seed '.join(map(str, max(runs, key=runs.count)))} more than once; keep one")
    if checked.runs and not {"data", "input"} <= checked.conditions.keys():
        raise UserError(f"{path}: its conditions lack 'data' or 'input'")
    return content
