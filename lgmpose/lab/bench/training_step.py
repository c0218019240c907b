"""``lgmpose lab bench-training``: pictures per second of a training step, by setting.

Every setting trains the same network on noise in a fresh process, because the allocator is set once per process.
Settings take turns in rounds, and ratios are taken within a round.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from lgmpose.errors import UserError
from lgmpose.lab.bench.latency_table import markdown_table
from lgmpose.lab.bench.measurement import load, paired_ratio
from lgmpose.lab.bench.processes import end_of_process
from lgmpose.machine import machine_header, num_cores, tune_allocator

__all__ = ["LEARNING_RATE", "PLAIN", "SETTINGS", "SIZES", "main", "measure_training", "train_steps", "training_page"]

SIZES = {128: 32, 256: 8}  # side of the input → batch size; at 256 a larger batch needs more than 10 GB
WARM_UP = 2  # steps
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Setting:
    """One way to compute the same training step."""

    what: str
    allocator: bool = True  # lgmpose.machine.tune_allocator
    channels_last: bool = True
    fused: bool = True  # the optimizer's step as one operator
    bf16: bool = False  # autocast
    compiled: bool = False  # torch.compile


PLAIN = "plain"  # the others are compared with it
SETTINGS = {
    PLAIN: Setting("a plain PyTorch loop", allocator=False, channels_last=False, fused=False),
    "allocator": Setting("plain, and freed memory is kept", channels_last=False, fused=False),
    "channels_last": Setting("allocator, and the memory format channels_last", fused=False),
    "default": Setting("channels_last, and a fused optimizer; this is what `lgmpose train` does"),
    "bf16": Setting("default under bf16 autocast (`--precision bf16`)", bf16=True),
    "compile": Setting("default, with torch.compile", compiled=True),
}


def train_steps(
    setting: Setting, batches: list[dict], image_hw: tuple[int, int]
) -> tuple[list[float], list[float]]:
    """Train LGM-Pose from scratch, one step per batch of ``data.batches.make_loader``.

    Returns:
        Seconds and loss of each step. The setting's allocator is up to the caller.
    """
    import torch

    from lgmpose.data.batches import to_input
    from lgmpose.network.fast import channels_last
    from lgmpose.training.loop import heatmap_loss
    from lgmpose.zoo.catalogue import create_model

    torch.manual_seed(0)
    net = create_model("lgm-pose-lspet-128x128", image_hw=image_hw, num_keypoints=batches[0]["heatmaps"].shape[1])
    net = channels_last(net) if setting.channels_last else net
    function = torch.compile(net) if setting.compiled else net
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=0.01, fused=setting.fused)
    autocast = torch.autocast("cpu", torch.bfloat16) if setting.bf16 else nullcontext()
    seconds, losses = [], []
    for batch in batches:
        start = time.perf_counter()
        images = to_input(batch["image"])
        with autocast:
            predicted = function(images if setting.channels_last else images.contiguous())
        loss = heatmap_loss(predicted.float(), batch["heatmaps"], batch["weights"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    return seconds, losses


def measure_training(
    names: tuple[str, ...], sides: tuple[int, ...], *, rounds: int = 3, steps: int = 8, threads: int | None = None
) -> dict[str, Any]:
    """Measure some of ``SETTINGS`` at some of ``SIZES``, in rounds; return what the JSON file holds.

    The options are those of the command. The steps to warm up are not counted in ``steps``.

    Raises:
        UserError: an unknown setting or size, a number below 1, or a process that failed.
    """
    names, threads = tuple(dict.fromkeys((PLAIN, *names))), num_cores() if threads is None else threads
    if not (set(names) <= set(SETTINGS) and set(sides) <= set(SIZES)):
        raise UserError(f"choose settings from {', '.join(SETTINGS)} and sides from {', '.join(map(str, SIZES))}")
    if min(rounds, steps, threads) < 1:
        raise UserError(f"rounds {rounds}, steps {steps} and threads {threads}: at least 1")
    header = machine_header() | {"load": load(), "threads": threads}
    rates: dict[str, dict[str, list]] = {str(side): {name: [] for name in names} for side in sides}
    for side, name in tqdm([(side, name) for _ in range(rounds) for side in sides for name in names], disable=None):
        command = [sys.executable, "-m", "lgmpose.lab.bench.training_step", name, str(side), str(steps), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{name} at {side}×{side}: {end_of_process(done.returncode, done.stderr)}")
        rates[str(side)][name].append(float(done.stdout.split()[-1]))
    summary = {
        side: {
            name: {"rate": round(statistics.median(own), 2), "times_plain": paired_ratio(own, of_side[PLAIN])}
            for name, own in of_side.items()
        }
        for side, of_side in rates.items()
    }
    header["load_after"] = load()
    options = {"rounds": rounds, "steps": steps}
    return {"kind": "lgmpose bench training", "header": header, **options, "rates": rates, "summary": summary}


def training_page(result: dict[str, Any]) -> str:
    """Return the result as a Markdown page."""
    h = result["header"]
    page = f"""\
# The training step, measured by `lgmpose lab bench-training`

* {h['cpu']}, {h['cores']} cores, {h['threads']} threads; {h['system']}; load {h['load']} to {h['load_after']}
* {h['date']}; lgmpose {h['lgmpose']}, commit {h['commit'] or 'unknown'}; Python {h['python']}
* LGM-Pose from scratch; {result['rounds']} rounds of fresh processes, {result['steps']} steps each after {WARM_UP} to \
warm up; medians
* **× plain**: pictures per second divided by those of `plain` in the same round; median and quartiles.
"""
    for side, rows in result["summary"].items():
        table, head = [], ("setting", "pictures/s", "× plain")
        for name, row in rows.items():
            median, low, high = row["times_plain"]
            what = f"`{name}`: {SETTINGS[name].what}"
            table.append((what, f"{row['rate']:.1f}", f"{median:.2f} [{low:.2f}, {high:.2f}]"))
        page += f"\n## {side}×{side}, batches of {SIZES[int(side)]}\n\n{markdown_table(head, table)}\n"
    return page


def main() -> None:
    """Print the pictures per second of one setting, measured in this process."""
    name, side, steps, threads = sys.argv[1:]
    if SETTINGS[name].allocator:
        tune_allocator()
    import torch

    torch.set_num_threads(int(threads))
    S, B, K = int(side), SIZES[int(side)], 14
    batch = {  # of noise: the time of a step does not depend on it
        "image": torch.randint(0, 256, (B, S, S, 3), dtype=torch.uint8),
        "heatmaps": torch.rand(B, K, S // 4, S // 4),
        "weights": torch.ones(B, K),
    }
    seconds, _ = train_steps(SETTINGS[name], [batch] * (WARM_UP + int(steps)), (S, S))
    print(B / statistics.median(seconds[WARM_UP:]))


if __name__ == "__main__":
    main()
