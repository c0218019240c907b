"""Trains, evaluates and times the whole set; whatever stops it, the same command goes on."""

from __future__ import annotations

import os
import statistics
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from lgmpose.data import load_records
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.files import check_writable, lock
from lgmpose.inference.evaluate import Evaluation, evaluate, joint_metrics, joint_results, readable
from lgmpose.lab.ablate.ablation_report import save_report
from lgmpose.lab.ablate.ablation_results import add_run, finished, load_results, machine, save_results
from lgmpose.lab.ablate.recipe_rows import BASELINE, CHOICES, NETWORKS, AblateConfig
from lgmpose.lab.bench.result import paired_ratio
from lgmpose.lab.macs import count_macs
from lgmpose.lab.profiling import measure_fps
from lgmpose.machine import choose_device, commit
from lgmpose.network.fast import channels_last
from lgmpose.training.loop import train
from lgmpose.training.run_folder import duration
from lgmpose.zoo.catalogue import codec_of, create_model, load_weights
from lgmpose.zoo.tensor_files import read_tensors

__all__ = ["ablate", "measure_speeds"]


def ablate(config: AblateConfig, *, tabulate: bool = False, progress: bool = True) -> bool:
    """Does what is still missing of a set of ablations, then writes results, table and figure.

    The first seed of all variants comes first, so that a set that is stopped early compares them all. Files are
    rewritten after every run.

    Args:
        config: the set.
        tabulate: train nothing; only write table and figure anew from the runs that the results file holds.
        progress: print what is going on.

    Returns:
        Whether the set is complete; only ``tabulate`` may leave it otherwise.

    Raises:
        UserError: bad data or options, results of another recipe, or nothing to tabulate.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM before the set was complete.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("ablations run in one process; start them without torchrun")
    path, code = config.json_file, commit() or "unknown"  # at the start: files may change while this process runs on
    lock_file = config.out / ".results.lock"  # processes that share out, and so results, write in turns
    results = load_results(path, None if tabulate else config)
    if not tabulate:
        val_set = load_records(config.recipe.data, "val", annotations=config.recipe.val_annotations)
        _require_figures(val_set)
        check_writable(path)
        check_writable(lock_file)
        costs, speed = _costs(config, results, val_set)
        with lock(lock_file):
            results = load_results(path, config)  # others may have added runs while the networks were timed
            results["costs"] |= costs
            results["speed"] = speed or results["speed"]
            save_results(path, results)
        # Seeds are the outer loop: see above.
        pending = [(v, s) for s in config.seeds for v in config.variants if not finished(results, v, s)]
        total = len(config.seeds) * len(config.variants)
        while pending:
            variant, seed = pending[0]
            if progress:
                print(
                    f"\n[{total - len(pending) + 1}/{total}] {NETWORKS[variant].label}, seed {seed}; "
                    f"{_time_left(results, pending)}",
                    flush=True,
                )
            try:
                run = _one_run(config, variant, seed, val_set, progress)
            except KeyboardInterrupt:
                if progress:
                    print(f"stopped; the same command goes on. Finished runs are in {path}", flush=True)
                raise
            with lock(lock_file):
                results = load_results(path, config)  # another process may have added a run of its own meanwhile
                if not finished(results, variant, seed):
                    add_run(results, variant, seed, **run, commit=code)
                save_results(path, results)
            pending = [(v, s) for v, s in pending if not finished(results, v, s)]
            if pending:
                save_report(path, results)
    if results["runs"]:
        with nullcontext() if tabulate else lock(lock_file):
            results = load_results(path, None if tabulate else config)
            save_results(path, results)
        save_report(path, results)  # without a new run, too: what draws it may have changed
        if progress:
            print("\n".join(["", *(row["statement"] for row in results["comparisons"] if row["statement"])]))
            print(f"\nresults: {path}, table and figures beside it")
    return all(finished(results, v, s) for s in config.seeds for v in config.variants)


def _require_figures(val_set: RecordSet) -> None:
    """Raises UserError for a data set on which nothing could be compared after the training."""
    if not joint_metrics(val_set):
        raise UserError(
            f"{val_set.name}: ablations are compared by PCK or PCKh, which need hips and shoulders, or neck and head "
            f"top, labelled; the joints here are {', '.join(val_set.skeleton.joint_names)}"
        )


def _one_run(config: AblateConfig, variant: str, seed: int, val_set: RecordSet, progress: bool) -> dict:
    """Trains one network to its end and evaluates it: arguments of ``add_run``."""
    run_dir = config.out / f"{variant}-seed{seed}"
    recipe = config.run_config(variant, seed)
    evaluation = train(recipe, run_dir, resume=True, progress=progress)
    done = read_tensors(run_dir / "last.safetensors")[1]["progress"]
    if evaluation is None:  # it had ended before, but was killed before it stood in the results
        evaluation = _evaluate(run_dir / "best.safetensors", config, val_set, progress)
    device, predictions = choose_device(recipe.device), evaluation.predictions
    if predictions.unread.any():  # in no figure: not one network could do anything about them
        val_set, predictions, _ = readable(val_set, predictions)
    return {
        "joints": joint_results(predictions, val_set, val_set.skeleton),
        "conditions": evaluation.conditions,
        "steps": done["step"],
        "hours": round(done["seconds"] / 3600, 4),
        "machine": machine(str(device)),
    }


def _evaluate(weights: Path, config: AblateConfig, val_set: RecordSet, progress: bool) -> Evaluation:
    recipe = config.recipe
    net, card = load_weights(weights)
    return evaluate(
        channels_last(net.to(choose_device(recipe.device))), val_set,
        codec_of(card, net.config.image_hw), flip_test=recipe.flip_test, batch_size=recipe.batch_size,
        workers=recipe.workers, bad_images=recipe.bad_images, progress=progress,
    )  # fmt: skip


def _time_left(results: dict[str, Any], pending: list[tuple[str, int]]) -> str:
    """Of the whole set; a network takes what it took with another seed, else the mean of all."""
    hours: dict[str, list[float]] = {}
    for run in results["runs"]:
        hours.setdefault(run["variant"], []).append(run["hours"])
    if not hours:
        return "how long the whole set takes will be known after the first run"
    mean = statistics.mean(sum(hours.values(), []))
    left = sum(statistics.mean(hours[variant]) if variant in hours else mean for variant, _ in pending)
    return f"about {duration(3600 * left)} left for the whole set"


def _costs(config: AblateConfig, results: dict[str, Any], val_set: RecordSet) -> tuple[dict, dict | None]:
    """Parameters and MACs of the variants, and the speed of all, where the results do not have them yet.

    Speeds are compared in pairs, so those known before are measured again together with the new ones.
    """
    known = results["speed"]["variants"] if results["speed"] else {}
    nets, costs = {}, {}
    for name in (name for name in NETWORKS if name in {*config.variants, *known}):
        recipe = config.run_config(name, 0)
        nets[name] = create_model(
            recipe.model, num_keypoints=val_set.skeleton.num_keypoints, **recipe.network_options()
        ).eval()
        if name not in results["costs"]:
            params = sum(p.numel() for p in nets[name].parameters())
            macs = count_macs(nets[name], nets[name].config.image_hw)[""].total()
            costs[name] = {"params": params, "macs": macs}
    nets = {name: net for name, net in nets.items() if name not in CHOICES}  # LGM-Pose all of them
    if not config.fps_rounds or not (config.again_fps or nets.keys() - known.keys()):
        return costs, None
    device = choose_device(config.recipe.device)
    return costs, measure_speeds({name: net.to(device) for name, net in nets.items()}, config.fps_rounds)


def measure_speeds(nets: dict[str, torch.nn.Module], rounds: int, *, runs: int = 6) -> dict[str, Any]:
    """Times networks against each other: every round times all of them, in changing order.

    A machine's speed drifts, and a second network timed ten seconds after the first would be compared with another
    machine. Within a round the drift is small, so the ratio of two networks in the same round means more than either.

    Args:
        nets: name → network; ``BASELINE`` among them.
        rounds: how many.
        runs: pictures per network and round.

    Returns:
        Conditions and, for each network, ``fps``, ``median_ms`` and ``ratio`` (its FPS over the baseline's: median over
        the rounds and the middle half of them).
    """
    times: dict[str, list[float]] = {name: [] for name in nets}
    names, noise = list(nets), set()
    for i in range(rounds):
        start = i % len(names)
        for name in names[start:] + names[:start]:
            measured = measure_fps(nets[name], warmup=2, max_runs=runs, seconds=10.0)
            times[name].append(measured["median_ms"])
            noise |= {reason for reason in measured["noise"] if reason.startswith("load")}
    variants = {}
    for name, values in times.items():
        variants[name] = {
            "fps": round(1e3 / statistics.median(values), 1),
            "median_ms": round(statistics.median(values), 2),
            "ratio": [round(q, 3) for q in paired_ratio(times[BASELINE], values)],
        }
    kept = ("image_hw", "device", "dtype", "cpu", "cores", "threads", "torch")
    source = {"rounds": rounds, "runs": runs, "commit": commit() or "unknown"}
    return {
        "conditions": {key: measured[key] for key in kept} | source,
        "noisy": bool(noise),
        "variants": variants,
    }
