"""Train, evaluate and time a set of ablations, and keep every finished run in one results file."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lgmpose.data import load_records, load_validation_sets
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.files import check_writable, lock, write_atomically
from lgmpose.inference.evaluate import channels_for, evaluate, readable
from lgmpose.inference.figures import Evaluation, joint_metrics, joint_results
from lgmpose.inference.timing import interleaved_times
from lgmpose.lab.ablate.comparisons import METRICS, contrasts, family_section, judged_families
from lgmpose.lab.ablate.results_file import read_results
from lgmpose.lab.ablate.rows import BASELINE, CHOICES, NETWORKS, AblateConfig
from lgmpose.lab.ablate.run_table import save_report
from lgmpose.lab.bench.measurement import load, paired_ratio
from lgmpose.lab.conventions import count_by_conventions
from lgmpose.lab.evidence import Contrast
from lgmpose.machine import choose_device, machine_header, num_cores
from lgmpose.metrics import PCKResult
from lgmpose.network.fast import channels_last
from lgmpose.training.checkpoint import CHECKPOINT, read_checkpoint
from lgmpose.training.recipe import TrainConfig
from lgmpose.training.trainer import train
from lgmpose.zoo.catalogue import codec_of, create_model, load_weights, skeleton_of

__all__ = ["ablate", "add_run", "load_runs", "measure_speeds", "per_person", "train_and_measure"]


def ablate(config: AblateConfig, *, tabulate: bool = False, progress: bool = True) -> dict[str, Any]:
    """Run the missing trainings of a set of ablations, then write results, table and plots.

    All variants are trained with the first seed before the second seed starts, so that an interrupted set compares them
    all. The results file, the table and the figures are rewritten after every run.

    Args:
        config: the set.
        tabulate: train nothing; only write the table and the figures from the runs in the results file.
        progress: print the progress.

    Returns:
        The content of the results file.

    Raises:
        UserError: bad data or options, results of another recipe, or another process that works on the set.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the same command resumes the set.
    """
    path = config.json_file
    if tabulate:
        results = load_runs(path)
        _save(path, results)  # the comparisons may have changed
    else:
        with lock(config.out / ".results.lock", wait=False):
            results = _train_missing(config, progress)
    save_report(path, results)
    if progress:
        print("\n\n".join(["", *(family_section(results, family) for family in judged_families(results))]))
        print(f"\nresults: {path}, table and figures beside it")
    return results


def _train_missing(config: AblateConfig, progress: bool) -> dict[str, Any]:
    path, code = config.json_file, machine_header()["commit"]  # now: the code may change while this process runs
    results = load_runs(path, config)
    recipe = config.recipe
    val_set = _validation_set(recipe)
    train_set = load_records(recipe.data, "train", annotations=recipe.annotations, categories=recipe.categories)
    check_writable(path)
    _measure_costs(config, results, train_set.skeleton.num_keypoints)
    _save(path, results)
    done = {(run["variant"], run["seed"]) for run in results["runs"]}
    wanted = config.runs()
    for number, (variant, seed) in enumerate(wanted, start=1):
        if (variant, seed) in done:
            continue
        if progress:
            print(f"\n[{number}/{len(wanted)}] {NETWORKS[variant].label}, seed {seed}", flush=True)
        run_dir = config.out / f"{variant}-seed{seed}"
        run = train_and_measure(config.run_config(variant, seed), run_dir, val_set, progress=progress)
        add_run(results, variant, seed, **run, commit=code)
        _save(path, results)
        save_report(path, results)
    return results


def _validation_set(recipe: TrainConfig) -> RecordSet:
    """Return the persons that every run is measured on: those that its training validates on.

    Raises:
        UserError: bad data, several sets, or a set without a metric.
    """
    data = recipe.val_data or recipe.data
    sets = load_validation_sets(data, recipe.val_annotations, recipe.categories)
    if len(sets) > 1:
        names = ", ".join(val_set.name for val_set in sets)
        raise UserError(f"{data}: validates on {names}; ablations are compared on one set, so name it by --val-data")
    (val_set,) = sets
    if not joint_metrics(val_set):
        raise UserError(
            f"{val_set.name}: ablations are compared by PCK or PCKh, which need labels of hips and shoulders, or of "
            f"neck and head top; this data set has {', '.join(val_set.skeleton.joint_names)}"
        )
    return val_set


def load_runs(path: Path, config: AblateConfig | None = None) -> dict[str, Any]:
    """Read a results file; return an empty set if there is none yet.

    Args:
        path: the file.
        config: what is to be added to it; None only to read.

    Raises:
        UserError: not a results file of ``lgmpose ablate``, or one of another recipe than ``config``'s.
    """
    if config is not None and not path.exists():
        empty = {"conditions": {}, "counted": {}, "costs": {}, "speed": None, "runs": []}
        return {"recipe": config.recipe_dict(), **empty}
    results = read_results(path)
    if config is not None:
        stored = results["recipe"]
        default = TrainConfig().as_dict()  # options that were added later have their defaults in older files
        stored = default | stored | {"augmentation": default["augmentation"] | stored["augmentation"]}
        for name, value in config.recipe_dict().items():
            if stored[name] != value:
                raise UserError(
                    f"{path}: its runs have {name} = {stored[name]!r}, not {value!r}; a set has one recipe, so choose "
                    "another --out and --json"
                )
    return results


def add_run(
    results: dict[str, Any], variant: str, seed: int, joints: dict[str, PCKResult], conditions: dict[str, str], **more
) -> None:
    """Add a run: its figures, and how many joints of each person are correct.

    Args:
        results: content of the results file; changed.
        variant: the row.
        seed: seed of the run.
        joints: metric → result, of ``figures.joint_results``.
        conditions: conditions of the evaluation; the same for all runs.
        **more: further entries: hours, commit …

    Raises:
        UserError: other persons or labels than in the runs before.
    """
    joints = {metric: joints[metric] for metric in METRICS if metric in joints}
    counted = {metric: per_person(result, result.counted) for metric, result in joints.items()}
    if results["runs"] and counted != results["counted"]:
        raise UserError("the validation persons differ from those of the earlier runs, so runs cannot be compared")
    results["counted"], results["conditions"] = counted, conditions
    results["runs"].append({
        "variant": variant,
        "seed": seed,
        "figures": {metric: round(result.mean_percent, 4) for metric, result in joints.items()},
        "intervals_95": {metric: [round(v, 2) for v in result.interval()] for metric, result in joints.items()},
        "correct": {metric: per_person(result, result.correct) for metric, result in joints.items()},
        **more,
    })  # fmt: skip


def per_person(result: PCKResult, of_joint: np.ndarray) -> str:
    """Return the sums of (n, K) counted or correct joints over the metric's own, as text; ``counts`` reads it."""
    return " ".join(map(str, of_joint[:, list(result.joints)].sum(axis=1)))


def _save(path: Path, results: dict[str, Any]) -> None:
    results["comparisons"] = {
        family.name: {metric: [_rounded(row) for row in rows] for metric, rows in contrasts(results, family).items()}
        for family in judged_families(results)
    }
    write_atomically(path, (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())


def _rounded(row: Contrast) -> dict[str, Any]:
    """Return a contrast for the results file; None where a figure is infinite, because no network has a second run."""
    fields = asdict(row).items()
    return {name: (round(v, 4) if math.isfinite(v) else None) if isinstance(v, float) else v for name, v in fields}


def train_and_measure(
    recipe: TrainConfig, run_dir: Path, val_set: RecordSet, *, progress: bool = True
) -> dict[str, Any]:
    """Train one network to its end, or resume its training, and measure it on the validation set.

    Returns:
        Arguments of ``add_run``: ``joints``, ``conditions``, ``other_figures``, ``steps``, ``hours``, ``machine``.
    """
    evaluation = train(recipe, run_dir, resume=True, progress=progress)
    if evaluation is None:  # the training had ended, but its process was killed before its figures were stored
        evaluation = _evaluate(run_dir / "best.safetensors", recipe, val_set, progress)
    val_set, predictions, _ = readable(val_set, evaluation.predictions)
    done = read_checkpoint(run_dir / CHECKPOINT)["progress"]
    return {
        "joints": joint_results(predictions, val_set, val_set.skeleton),
        "conditions": evaluation.conditions,
        "other_figures": {name: v for name, v in evaluation.figures.items() if name not in METRICS},  # COCO's AP
        "steps": done["step"],
        "hours": round(done["seconds"] / 3600, 4),
        "machine": _machine(choose_device(recipe.device)),
    }


def _machine(device: torch.device) -> dict[str, Any]:
    """Return what networks are trained or timed on."""
    header = {name: value for name, value in machine_header().items() if name in ("commit", "cpu", "cores", "system")}
    versions = {"torch": torch.__version__.partition("+")[0], "threads": torch.get_num_threads()}
    return {"device": str(device), **versions, **header}


def _evaluate(weights: Path, recipe: TrainConfig, val_set: RecordSet, progress: bool) -> Evaluation:
    net, card = load_weights(weights)
    return evaluate(
        channels_last(net.to(choose_device(recipe.device))), val_set,
        codec_of(card, net.config.image_hw), channels=channels_for(val_set.skeleton, skeleton_of(card)),
        flip_test=recipe.flip_test, batch_size=recipe.batch_size, workers=recipe.workers,
        bad_images=recipe.bad_images, progress=progress,
    )  # fmt: skip


def _measure_costs(config: AblateConfig, results: dict[str, Any], num_keypoints: int) -> None:
    """Add parameters, MACs and speeds that the results do not have yet. All speeds are measured together."""
    known = results["speed"]["variants"] if results["speed"] else {}
    nets = {}
    for name in (name for name in NETWORKS if name in {*config.variants, *known}):
        recipe = config.run_config(name, 0)
        nets[name] = create_model(recipe.model, num_keypoints=num_keypoints, **recipe.network_options()).eval()
        if name not in results["costs"]:
            counts = count_by_conventions(nets[name], nets[name].config.image_hw)
            results["costs"][name] = {"params": counts.params, "macs": counts.true_macs}
    nets = {name: net for name, net in nets.items() if name not in CHOICES}  # most of them change no network
    if config.fps_rounds and nets.keys() - known.keys():
        device = choose_device(config.recipe.device)
        results["speed"] = measure_speeds({name: net.to(device) for name, net in nets.items()}, config.fps_rounds)


def measure_speeds(nets: dict[str, torch.nn.Module], rounds: int) -> dict[str, Any]:
    """Time networks in rounds, each of which runs every network once on one image.

    Args:
        nets: name → network of one input size; ``BASELINE`` must be among them.
        rounds: number of rounds.

    Returns:
        Conditions and, for each network, ``fps``, ``median_ms`` and ``ratio`` (its FPS divided by the baseline's in the
        same round: median and quartiles).
    """
    device = next(nets[BASELINE].parameters()).device
    image = torch.rand(1, 3, *nets[BASELINE].config.image_hw, generator=torch.Generator().manual_seed(0)).to(device)
    threads, load_before = torch.get_num_threads(), load()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            wait = partial(torch.accelerator.synchronize, device) if device.type != "cpu" else None
            calls = {name: partial(net, image) for name, net in nets.items()}
            times = interleaved_times(calls, rounds=rounds, synchronize=wait)
            conditions = {"image_hw": list(image.shape[2:]), "rounds": rounds, **_machine(device)}
    finally:
        torch.set_num_threads(threads)
    variants = {}
    for name, seconds in times.items():
        ms, ratio = 1e3 * statistics.median(seconds.tolist()), paired_ratio(times[BASELINE], seconds)
        variants[name] = {"fps": round(1e3 / ms, 1), "median_ms": round(ms, 2), "ratio": [round(q, 3) for q in ratio]}
    return {"conditions": conditions, "noisy": (load_before or 0) > num_cores(), "variants": variants}
