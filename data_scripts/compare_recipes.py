"""Train one network by several recipes, with several seeds, and judge their differences.

    python data_scripts/compare_recipes.py recipes.toml --out runs/recipes --jobs 2

``recipes.toml`` is written before the first run and names what is compared:

    baseline = "all"
    seeds = [0, 1, 2]
    baseline_seeds = [3, 4]    # more seeds of the baseline, with which all rows are compared

    [options]                  # of `lgmpose train`, for all rows
    data = "mix:sets.toml"
    teacher = "teacher.npz"

    [rows.all]                 # a row's own options
    [rows.no-teacher]
    teacher = ""               # none

To leave out a data set, give it the weight 0. No person of it is drawn then, and the teacher's file still fits.
``epoch_persons`` gives all rows the same number of steps. After an interruption, the same command resumes; recipes.json
alone is enough to keep the finished runs. The table has simultaneous intervals
(``lgmpose.lab.evidence``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from tabulate import tabulate

from lgmpose.data import load_validation_sets
from lgmpose.errors import UserError, run_script
from lgmpose.files import as_type, open_atomically, read_json, read_toml, write_atomically
from lgmpose.inference.figures import joint_metrics
from lgmpose.lab.ablate.comparisons import counts
from lgmpose.lab.ablate.runner import per_person, train_and_measure
from lgmpose.lab.evidence import Contrast, Family, judge
from lgmpose.machine import machine_header, num_cores
from lgmpose.training.recipe import MACHINE_FIELDS, TrainConfig

METRIC = "PCK@0.2"


class Comparison(msgspec.Struct, forbid_unknown_fields=True):
    """The file: what is compared."""

    baseline: str
    seeds: Annotated[list[int], msgspec.Meta(min_length=1)]
    options: dict[str, Any]
    rows: Annotated[dict[str, dict[str, Any]], msgspec.Meta(min_length=2)]
    baseline_seeds: list[int] = []


@dataclass(frozen=True)
class Arguments:
    """Train one network by several recipes, and judge their differences."""

    recipes: tyro.conf.Positional[Path]  # TOML file of the recipes
    out: Path = Path("runs/recipes")  # folder of the runs, and of recipes.json and recipes.md
    jobs: int = 1  # runs at a time; they share the CPU's threads


def read_comparison(path: Path) -> tuple[Comparison, dict[str, TrainConfig]]:
    """Return the content of the file, and the settings of each row with seed 0.

    Raises:
        UserError: no such file, bad TOML, or an unknown option.
    """
    comparison = as_type(read_toml(path), Comparison, f"{path}: not a comparison of recipes")
    if (baseline := comparison.baseline) not in comparison.rows:
        raise UserError(f"{path}: the baseline {baseline} is none of the rows {', '.join(comparison.rows)}")
    comparison.rows = {baseline: comparison.rows[baseline]} | comparison.rows  # first, so that there is a table early
    every = comparison.seeds + comparison.baseline_seeds
    if len(set(every)) < len(every):
        raise UserError(f"{path}: seeds and baseline_seeds name a seed twice")
    configs = {}
    for row, changes in comparison.rows.items():
        options = {name: None if value == "" else value for name, value in {**comparison.options, **changes}.items()}
        try:
            config = TrainConfig.from_dict(options)
        except UserError as error:
            raise UserError(f"{path}, row {row}: {error}") from error
        configs[row] = TrainConfig.from_dict({**config.as_dict(), "eval_every": config.epochs})  # once, at the end
    return comparison, configs


def one_run(config: TrainConfig, run_dir: Path, threads: int) -> dict[str, Any]:
    """Train one network and return what recipes.json keeps of it: figures, and counted and right joints per person."""
    torch.set_num_threads(threads)
    val_set = load_validation_sets(config.val_data or config.data, config.val_annotations, config.categories)[0]
    run = train_and_measure(config, run_dir, val_set, progress=False)
    joints = run["joints"][METRIC]
    return {
        "figures": {METRIC: round(joints.mean_percent, 4), **run["other_figures"]},
        "hours": run["hours"],
        "counted": per_person(joints, joints.counted),
        "correct": per_person(joints, joints.correct),
    }


def stored_runs(file: Path, settings: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the runs that an earlier call has stored in recipes.json: (row, seed) → what ``one_run`` returns.

    Raises:
        UserError: the file has runs of other recipes.
    """
    if not file.is_file():
        return {}
    content = read_json(file)
    if content.get("rows") != settings:
        raise UserError(f"{file}: holds runs of other recipes; choose another --out")
    return {(run["row"], run["seed"]): run | {"counted": content["counted"]} for run in content["runs"]}


def contrasts(comparison: Comparison, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Contrast]:
    """Return the comparison of each finished row with the baseline."""
    others = tuple(row for row in comparison.rows if row != comparison.baseline)
    seeds, more = len(comparison.seeds), len(comparison.baseline_seeds)
    family = Family("recipes", "Recipes", comparison.baseline, others, baseline_seeds=seeds + more, row_seeds=seeds)
    correct = {row: np.array([counts(run["correct"]) for run in found]) for row, found in runs.items()}
    return {row.row: row for row in judge(family, correct, counts(runs[comparison.baseline][0]["counted"]))}


def table(runs: dict[str, list[dict[str, Any]]], judged: dict[str, Contrast]) -> str:
    """Return the Markdown table of the finished runs, the baseline's first."""
    lines = []
    more_figures = [name for name in ("AP",) if name in next(iter(runs.values()))[0]["figures"]]  # COCO's only
    for row, of_row in runs.items():
        means = {name: np.mean([run["figures"][name] for run in of_row]) for name in (METRIC, *more_figures)}
        line = [row, len(of_row), f"{means[METRIC]:.1f}", "–", "–", "–"]
        if found := judged.get(row):
            p = "< 0.001" if found.p < 0.001 else f"{found.p:.3f}"
            line[3:6] = [str(found), p, f"{found.detectable:.1f}"]
        lines.append(line + [f"{means[name]:.3f}" for name in more_figures])
    head = ["recipe", "seeds", METRIC, "difference (95 %)", "p", "found with 80 %", *more_figures]
    return tabulate(lines, head, "pipe", disable_numparse=True)


def draw(path: Path, baseline: str, runs: dict[str, list[dict[str, Any]]], judged: dict[str, Contrast]) -> None:
    """Draw a dot for each run and a bar for the interval of each row's difference to the baseline."""
    figure = Figure(figsize=(7.5, 1.6 + 0.42 * len(runs)), layout="constrained")
    axes = figure.subplots()
    axes.use_sticky_edges = False  # a margin beside the bars
    mean = np.mean([run["figures"][METRIC] for run in runs[baseline]])
    for y, (row, of_row) in enumerate(runs.items()):
        values = [run["figures"][METRIC] for run in of_row]
        if (found := judged.get(row)) and np.isfinite(found.high):
            colour = "#0072b2" if found.significant else "#9a9a9a"
            axes.barh(y, found.high - found.low, left=mean + found.low, height=0.62, color=colour, alpha=0.45)
        axes.plot(values, [y] * len(values), "o", color="black", markersize=4)
    axes.axvline(mean, color="black", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(runs)), runs)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set(xlabel=f"{METRIC}, %", title=f"Dots: runs. Dashed: the mean of “{baseline}”.\n"
             "Bars: simultaneous 95 % intervals of the difference to it (grey: not significant)")  # fmt: skip
    axes.title.set_fontsize("medium")
    with open_atomically(path) as file:
        figure.savefig(file, format="png", dpi=120)


def finished(
    configs: dict[tuple[str, int], TrainConfig], out: Path, jobs: int
) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """Train what is missing, and yield each run's row, seed and result when it is done."""
    threads = max(1, num_cores() // jobs)
    tasks = {(row, seed): (config, out / f"{row}-seed{seed}", threads) for (row, seed), config in configs.items()}
    if jobs == 1:
        yield from ((key, one_run(*task)) for key, task in tasks.items())
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        started = {pool.submit(one_run, *task): key for key, task in tasks.items()}
        try:
            yield from ((started[future], future.result()) for future in as_completed(started))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # do not train the rest before the error is shown
            raise


def main(arguments: Arguments) -> None:
    """Train what is missing; rewrite the table after every run."""
    if arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: give 1 or more")
    comparison, rows = read_comparison(arguments.recipes)
    for config in rows.values():
        val_set = load_validation_sets(config.val_data or config.data, config.val_annotations, config.categories)[0]
        if METRIC not in joint_metrics(val_set):
            raise UserError(f"{val_set.name}: rows are compared by {METRIC}, which needs labelled hips and shoulders")
    wanted = [(row, seed) for seed in comparison.seeds for row in comparison.rows]
    wanted += [(comparison.baseline, seed) for seed in comparison.baseline_seeds]
    configs = {(row, seed): TrainConfig.from_dict({**rows[row].as_dict(), "seed": seed}) for row, seed in wanted}
    settings = {row: recipe_of(config) for row, config in rows.items()}
    found = stored_runs(arguments.out / "recipes.json", settings)
    missing = {key: config for key, config in configs.items() if key not in found}
    stored, total, start, text = len(found), len(found) + len(missing), time.monotonic(), ""
    for (row, seed), result in finished(missing, arguments.out, arguments.jobs):
        found[row, seed] = result
        left = (time.monotonic() - start) / 60 / (len(found) - stored) * (total - len(found))
        print(f"[{len(found)}/{total}] {row}, seed {seed}: {METRIC} {result['figures'][METRIC]:.1f}; "
              f"about {left:.0f} minutes left", flush=True)  # fmt: skip
        write_runs(arguments.out / "recipes.json", comparison.baseline, settings, found)
        text = report(arguments.out, comparison, found)
    print(f"\n{text or report(arguments.out, comparison, found)}\n\n"
          f"written: {arguments.out / 'recipes.json'}, recipes.md, recipes.png")  # fmt: skip


def recipe_of(config: TrainConfig) -> dict[str, Any]:
    """Return a row's settings as recipes.json holds them: without the seed and without the machine's."""
    return {name: value for name, value in config.as_dict().items() if name not in (*MACHINE_FIELDS, "seed")}


def write_runs(
    file: Path, baseline: str, settings: dict[str, Any], found: dict[tuple[str, int], dict[str, Any]]
) -> None:
    """Write recipes.json. Its commit is that of the last training, so this is not called when nothing was trained."""
    runs = [
        {"row": row, "seed": seed, "figures": run["figures"], "hours": run.get("hours"), "correct": run["correct"]}
        for (row, seed), run in sorted(found.items())
    ]
    counted = next(iter(found.values()))["counted"]
    content = {**machine_header(), "baseline": baseline, "rows": settings, "counted": counted, "runs": runs}
    write_atomically(file, json.dumps(content, indent=1).encode())


def report(out: Path, comparison: Comparison, found: dict[tuple[str, int], dict[str, Any]]) -> str:
    """Write recipes.md and recipes.png; return the table."""
    of_row = {row: [run for (name, _), run in sorted(found.items()) if name == row] for row in comparison.rows}
    of_row, text = {row: some for row, some in of_row.items() if some}, ""
    if comparison.baseline in of_row:
        judged = contrasts(comparison, of_row)
        text = table(of_row, judged)
        draw(out / "recipes.png", comparison.baseline, of_row, judged)
    options = ", ".join(f"`{name}` {value}" for name, value in comparison.options.items())
    parts = ["# Recipes, compared by `data_scripts/compare_recipes.py`", f"Options of all rows: {options}", text]
    write_atomically(out / "recipes.md", ("\n\n".join(parts) + "\n").encode())
    return text


if __name__ == "__main__":
    run_script(lambda: main(tyro.cli(Arguments)))
