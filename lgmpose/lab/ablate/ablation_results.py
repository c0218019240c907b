"""The results file: every finished run with what pairing needs, costs and speeds, under which conditions."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.lab.ablate.recipe_rows import NETWORKS, AblateConfig
from lgmpose.lab.ablate.statistics import METRICS, compare
from lgmpose.metrics import PCKResult
from lgmpose.training.recipe import TrainConfig

__all__ = ["add_run", "finished", "load_results", "machine", "new_results", "save_results"]

ABOUT = (
    "Ablations of LGM-Pose. counted and correct: labelled and correct joints of each validation person, in the order "
    "of the validation set; figures are per cent, differences points to lgm-pose."
)


def new_results(config: AblateConfig) -> dict[str, Any]:
    """A results file without a run."""
    return {
        "about": ABOUT,
        "command": config.command(),
        "recipe": config.recipe_dict(),
        "conditions": {},  # of the evaluation: data, persons, boxes, decoder …
        "counted": {},  # metric → labelled joints per person
        "costs": {},  # variant → params, macs
        "speed": None,
        "runs": [],
        "comparisons": [],
    }


def load_results(path: Path, config: AblateConfig | None = None) -> dict[str, Any]:
    """Reads a results file; a new one where there is none.

    Args:
        path: the file.
        config: what is to be added to it; None only to read.

    Raises:
        UserError: no results file, or one of another recipe than ``config``'s.
    """
    if not path.exists():
        if config is None:
            raise UserError(f"{path}: no results yet; run `lgmpose ablate` without --tabulate first")
        return new_results(config)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(results, dict) or not {"runs", "counted", "recipe"} <= results.keys():
        raise UserError(f"{path}: JSON, but not the results of `lgmpose ablate`")
    if config is not None:
        for name, value in config.recipe_dict().items():
            stored = _as_it_is_now(results["recipe"]).get(name)
            if stored != value:
                raise UserError(
                    f"{path}: its runs have {name} = {stored!r}, not {value!r}: a set of ablations has one recipe; "
                    "another --out and --json start another set"
                )
        results["command"] = _of_all_runs(config, results["runs"]).command()
    return results


def _of_all_runs(config: AblateConfig, runs: list[dict]) -> AblateConfig:
    """The set with those runs in it, too, that the file held before."""
    variants = {*config.variants, *(run["variant"] for run in runs)}
    seeds = {*config.seeds, *(run["seed"] for run in runs)}
    return replace(config, variants=tuple(name for name in NETWORKS if name in variants), seeds=tuple(sorted(seeds)))


def _as_it_is_now(recipe: dict[str, Any]) -> dict[str, Any]:
    """A stored recipe with the options that came later, at their defaults, which change nothing."""
    new = TrainConfig().as_dict()
    return new | recipe | {"augmentation": new["augmentation"] | recipe["augmentation"]}


def finished(results: dict[str, Any], variant: str, seed: int) -> bool:
    """Whether the results hold that run."""
    return any((run["variant"], run["seed"]) == (variant, seed) for run in results["runs"])


def add_run(
    results: dict[str, Any], variant: str, seed: int, joints: dict[str, PCKResult], conditions: dict[str, str], **more
) -> None:
    """Adds a run's figures and what each person contributes to them.

    Args:
        joints: metric → result, of ``evaluate.joint_results``.
        conditions: of the evaluation; the same for all runs.
        **more: hours, commit, machine …

    Raises:
        UserError: other persons or labels than those of the runs before.
    """
    joints = {metric: joints[metric] for metric in METRICS if metric in joints}
    counted = {metric: _per_person(result, result.counted) for metric, result in joints.items()}
    if results["runs"] and counted != results["counted"]:
        raise UserError("the validation persons are not those of the runs before: their figures cannot be paired")
    results["counted"], results["conditions"] = counted, conditions
    results["runs"].append({
        "variant": variant,
        "seed": seed,
        "figures": {metric: round(result.mean_percent, 4) for metric, result in joints.items()},
        "intervals_95": {metric: [round(v, 2) for v in result.interval()] for metric, result in joints.items()},
        "correct": {metric: _per_person(result, result.correct) for metric, result in joints.items()},
        **more,
    })  # fmt: skip


def _per_person(result: PCKResult, of_joint: np.ndarray) -> str:
    return " ".join(map(str, of_joint[:, list(result.joints)].sum(axis=1)))


def save_results(path: Path, results: dict[str, Any]) -> None:
    """Writes a results file, atomically, with its comparisons brought up to date."""
    results["comparisons"] = [_rounded(asdict(row)) for row in compare(results)] if results["runs"] else []
    write_atomically(path, (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return round(value, 3) if isinstance(value, float) else value


def machine(device: str) -> dict[str, Any]:
    """What a run was computed on."""
    import torch

    from lgmpose.machine import cpu_name, num_cores

    return {
        "cpu": cpu_name(),
        "cores": num_cores(),
        "threads": torch.get_num_threads(),
        "device": device,
        "torch": re.sub(r"\+.*", "", torch.__version__),
        "system": platform.system(),
    }
