"""``lgmpose lab bench-training``: pictures per second of a training step, by setting, and where the time goes.

Every setting trains the same network on the same batches in a fresh process, for the allocator is set once per process;
settings take turns in rounds, and ratios are of the same round. Each round has another seed, so that the losses tell,
too: two settings may differ by rounding, but not as two seeds do.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lgmpose.errors import UserError
from lgmpose.lab.bench.command import run_command
from lgmpose.lab.bench.report import markdown_table
from lgmpose.lab.bench.result import paired_ratio
from lgmpose.lab.bench.run import end_of_process, machine_header
from lgmpose.lab.bench.worker import load, one_line

__all__ = ["SETTINGS", "Setting", "bench_training", "markdown", "measure", "train_steps"]

WORKER = [sys.executable, "-m", "lgmpose.lab.bench.training"]
SIZES = {128: 32, 256: 8}  # side of the input → pictures in a batch; at 256 a larger one needs more than 10 GB
WARM_UP = 2
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Setting:
    """One way to compute the same training step."""

    what: str
    allocator: bool = True  # lgmpose.machine.tune_allocator
    channels_last: bool = True
    fused: bool = True  # the optimiser's step as one operator
    bf16: bool = False  # autocast
    compiled: bool = False  # torch.compile
    batch_factor: float = 1


PLAIN, DEFAULT = "plain", "default"
SETTINGS = {
    PLAIN: Setting("as one writes it first", allocator=False, channels_last=False, fused=False),
    "allocator": Setting("freed memory is kept", channels_last=False, fused=False),
    "channels_last": Setting("and channels_last", fused=False),
    DEFAULT: Setting("and a fused optimiser: what `lgmpose train` does"),
    "half batch": Setting("default, half the pictures at a time", batch_factor=0.5),
    "bf16": Setting("default under bf16 autocast (`--precision bf16`)", bf16=True),
    "compile": Setting("default through torch.compile", compiled=True),
}


def train_steps(setting: Setting, batches: list[dict], image_hw: tuple[int, int], seed: int) -> dict[str, list[float]]:
    """Trains LGM-Pose from scratch, a step per batch.

    Args:
        batches: of ``loader.make_loader``; all of one size.

    Returns:
        Per step: ``loss``, and seconds of ``input``, ``forward``, ``backward`` and ``optimiser``.
    """
    import torch

    from lgmpose.data.batches import to_input
    from lgmpose.network.fast import channels_last
    from lgmpose.training.loop import heatmap_loss
    from lgmpose.zoo.catalogue import create_model

    torch.manual_seed(seed)
    net = create_model("lgm-pose-lspet-128x128", image_hw=image_hw, num_keypoints=batches[0]["heatmaps"].shape[1])
    if setting.channels_last:
        net = channels_last(net)
    function = torch.compile(net) if setting.compiled else net
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=0.01, fused=setting.fused)
    autocast = torch.autocast("cpu", torch.bfloat16) if setting.bf16 else nullcontext()
    steps: dict[str, list[float]] = {name: [] for name in ("loss", "input", "forward", "backward", "optimiser")}

    for batch in batches:
        times = [time.perf_counter()]
        images = to_input(batch["image"])
        if not setting.channels_last:
            images = images.contiguous()
        times.append(time.perf_counter())
        with autocast:
            predicted = function(images)
        loss = heatmap_loss(predicted.float(), batch["heatmaps"], batch["weights"])
        times.append(time.perf_counter())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        times.append(time.perf_counter())
        optimizer.step()
        times.append(time.perf_counter())
        steps["loss"].append(loss.item())
        for name, start, end in zip(list(steps)[1:], times, times[1:], strict=False):
            steps[name].append(end - start)
    return steps


def _load_batches(data: str, side: int, batch_size: int, count: int, seed: int) -> tuple[list[dict], float]:
    """Batches as in training, and the pictures per second at which one process makes them."""
    from lgmpose.data import load_records
    from lgmpose.data.batches import EpochSampler, make_loader
    from lgmpose.data.crops import CropDataset
    from lgmpose.lab.ablate.recipe_rows import RECIPE
    from lgmpose.pose.codecs import make_codec

    records = load_records(data, "train")
    codec = make_codec(RECIPE.codec, (side, side), RECIPE.sigma)
    dataset = CropDataset(records, (side, side), augmentation=RECIPE.augmentation, seed=seed)
    batches, epoch = [], 0
    start = time.perf_counter()
    while len(batches) < count:
        sampler = EpochSampler(len(dataset), batch_size, seed=seed, epoch=epoch)
        if not len(sampler):
            raise UserError(f"{records.name}: {len(dataset)} persons do not fill a batch of {batch_size}")
        for batch in make_loader(dataset, codec, sampler, workers=0):
            batches.append(batch)
            if len(batches) == count:
                break
        epoch += 1
    return batches, count * batch_size / (time.perf_counter() - start)


def work(job: dict[str, Any]) -> dict[str, Any]:
    """One process's part: one setting at one size with one seed."""
    from lgmpose.machine import tune_allocator

    setting = Setting(**job["setting"])
    if setting.allocator:
        tune_allocator()
    import torch

    torch.set_num_threads(job["threads"])
    batch_size = max(1, int(job["batch_size"] * setting.batch_factor))
    count = WARM_UP + job["steps"]
    batches, loader_rate = _load_batches(job["data"], job["side"], batch_size, count, job["seed"])
    steps = train_steps(setting, batches, (job["side"], job["side"]), job["seed"])
    parts = {name: statistics.median(steps[name][WARM_UP:]) for name in list(steps)[1:]}
    whole = statistics.median(map(sum, zip(*(steps[name][WARM_UP:] for name in parts), strict=True)))
    return {
        "seconds": whole, "parts": parts, "rate": batch_size / whole, "loss": steps["loss"],
        "loader_rate": loader_rate, "torch": torch.__version__.partition("+")[0],
    }  # fmt: skip


def measure(
    data: str, *, names: tuple[str, ...], sides: tuple[int, ...], rounds: int, steps: int, threads: int
) -> dict[str, Any]:
    """All settings at all sizes, in rounds. What fails once is left out, and with ``plain`` its whole size.

    Raises:
        UserError: at no size did ``plain`` run, with which the others are compared.
    """
    header = machine_header() | {"load": load(), "threads": threads}
    measured: dict[str, dict[str, list]] = {str(side): {name: [] for name in names} for side in sides}
    failures: dict[tuple[int, str], str] = {}
    jobs = [(seed, side, name) for seed in range(rounds) for side in sides for name in names]
    for seed, side, name in tqdm(jobs, unit="process", leave=False):
        job = {
            "setting": asdict(SETTINGS[name]), "data": data, "side": side, "batch_size": SIZES[side], "steps": steps,
            "threads": threads, "seed": seed,
        }  # fmt: skip
        if (side, name) in failures or (side, PLAIN) in failures:
            continue
        done = subprocess.run(WORKER, input=json.dumps(job), capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            failures[side, name] = f"`{name}` at {side}×{side}: {end_of_process(done.returncode, last)}"
            continue
        result = json.loads(done.stdout.splitlines()[-1])
        header["torch"] = result.pop("torch")
        measured[str(side)][name].append(result)
    for side, name in failures:
        if name == PLAIN:
            measured.pop(str(side))
        else:
            measured.get(str(side), {}).pop(name, None)
    if not measured:
        raise UserError("; ".join(failures.values()))
    return {
        "kind": "lgmpose bench training",
        "header": header | {"load_after": load()},
        "data": data.partition(":")[0],
        "rounds": rounds,
        "steps": steps,
        "batch_sizes": {str(side): SIZES[side] for side in sides},
        "failures": list(failures.values()),
        "measured": measured,
        "summary": {side: _summary(of_side) for side, of_side in measured.items()},
    }


def _summary(of_side: dict[str, list[dict]]) -> dict[str, dict]:
    plain = of_side[PLAIN]
    between_seeds = _distance([run["loss"] for run in plain], [run["loss"] for run in plain[1:] + plain[:1]])
    rows = {}
    for name, runs in of_side.items():
        same_batches = len(runs[0]["loss"]) == len(plain[0]["loss"]) and SETTINGS[name].batch_factor == 1
        between = _distance([run["loss"] for run in runs], [run["loss"] for run in plain]) if same_batches else None
        rows[name] = {
            "rate": round(statistics.median(run["rate"] for run in runs), 2),
            "times_plain": [round(r, 3) for r in paired_ratio([r["rate"] for r in runs], [r["rate"] for r in plain])],
            "parts": {
                part: round(statistics.median(run["parts"][part] / run["seconds"] for run in runs), 3)
                for part in runs[0]["parts"]
            },
            "loader_times": round(statistics.median(run["loader_rate"] / run["rate"] for run in runs), 2),
            # Mean difference of the losses of the same step: to plain with the same seed, over that between seeds.
            "loss_difference": between,
            "of_seed_noise": None if between is None or not between_seeds else round(between / between_seeds, 4),
        }
    return rows


def _distance(curves: list[list[float]], others: list[list[float]]) -> float:
    return statistics.mean(abs(a - b) for x, y in zip(curves, others, strict=True) for a, b in zip(x, y, strict=True))


def markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    header = result["header"]
    lines = [
        "# The training step, measured by `lgmpose lab bench-training`",
        "",
        f"* {header['cpu']}, {header['cores']} cores, {header['threads']} threads; {header['system']}; load "
        f"{header['load']} before, {header['load_after']} after",
        f"* {header['date']}; lgmpose {header['lgmpose']}, commit {header['commit'] or 'unknown'}; Python "
        f"{header['python']}; torch {header['torch']}",
        f"* LGM-Pose from scratch on {result['data']}; {result['rounds']} rounds of fresh processes, {result['steps']} "
        f"steps each after {WARM_UP} to warm up; medians; each round has its own seed",
        "",
    ]
    for side, rows in result["summary"].items():
        lines += [f"## {side}×{side}, batches of {result['batch_sizes'][side]}", ""]
        table = []
        for name, row in rows.items():
            median, low, high = row["times_plain"]
            noise = "–" if row["of_seed_noise"] is None else f"{row['of_seed_noise']:.2g}"
            table.append([
                f"`{name}`: {SETTINGS[name].what}", f"{row['rate']:.1f}", f"{median:.2f} [{low:.2f}, {high:.2f}]",
                *(f"{row['parts'][part]:.0%}" for part in ("forward", "backward", "optimiser")),
                f"{row['loader_times']:.0f}", noise,
            ])  # fmt: skip
        head = ("setting", "pictures/s", "× plain", "forward", "backward", "optimiser", "loader ×", "loss, of noise")
        lines += [*markdown_table(head, table), ""]
    for failure in result.get("failures", ()):
        lines += [f"Left out: {failure}", ""]
    return "\n".join([*lines, NOTES])


NOTES = """\
* **× plain**: pictures per second over those of `plain` in the same round; median and quartiles.
* **loader ×**: how many times faster one process makes batches (read, crop, augment, heatmaps) than the step uses them.
* **loss, of noise**: mean difference of the losses to plain's with the same seed, over that between two seeds of plain:
  far below 1, the setting changes rounding alone.
"""


def bench_training(
    data: str, *, settings: tuple[str, ...] | None, sides: tuple[int, ...] | None, rounds: int, steps: int,
    threads: int | None, json_file: Path | None,
) -> None:  # fmt: skip
    """Measure, print the page and keep the result (``lgmpose lab bench-training``).

    Raises:
        UserError: unknown settings or sizes, a number below 1, bad data, or a file that cannot be written.
    """
    from lgmpose.data import load_records
    from lgmpose.machine import num_cores

    settings, sides = settings or tuple(n for n in SETTINGS if n != "compile"), sides or tuple(SIZES)
    for what, values, known in (("settings", settings, SETTINGS), ("sides", sides, SIZES)):
        if unknown := [value for value in values if value not in known]:
            raise UserError(f"{what} {unknown[0]}: choose from {', '.join(map(str, known))}")
    if min(rounds, steps) < 1:
        raise UserError(f"rounds {rounds} and steps {steps}: at least 1")
    names = tuple(dict.fromkeys([PLAIN, *settings]))

    def checked() -> dict[str, Any]:
        load_records(data, "train")  # draws the synthetic one; bad data is reported before the work
        return measure(data, names=names, sides=sides, rounds=rounds, steps=steps, threads=threads or num_cores())

    run_command(checked, markdown, json_file)


if __name__ == "__main__":  # the worker process of ``measure``
    try:
        print(json.dumps(work(json.load(sys.stdin))))
    except Exception as error:  # the parent shows its last line
        sys.exit(one_line(error))
