"""Time a photo from detector to joints, part by part: who detects, who finds the joints, how many people.

    python data_scripts/time_photo.py --poses lgm-pose.onnx rtmpose-t.onnx --detectors yolox-nano --out results/photo

The photo is 640×480 and random, because times do not depend on what it shows; people get random boxes. The parts run in
rounds, each part once per round, on given threads. Without flip test. ``--batch-sizes`` says how many people are given
to the network at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tyro
from tabulate import tabulate

from lgmpose.errors import run_script
from lgmpose.files import check_writable, write_atomically
from lgmpose.inference.detectors import open_detector
from lgmpose.inference.predictor import PADDING, Predictor
from lgmpose.inference.timing import MIN_ROUNDS, interleaved_times
from lgmpose.machine import machine_header


@dataclass(frozen=True)
class Arguments:
    """Time a photo from detector to joints, part by part."""

    poses: tuple[Path, ...]  # files of `lgmpose export`
    detectors: tuple[str, ...]  # names or .onnx files
    out: Path  # result, without suffix: .json and .md are written
    people: tuple[int, ...] = (1, 5, 20)
    batch_sizes: tuple[int, ...] = (1, 4, 20)
    threads: int = 1
    seconds: float = 60.0


def parts(predictor: Predictor, picture: np.ndarray, boxes: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return what a predictor does for boxes in a picture, as separate calls."""
    crops, _ = predictor._crops(picture, boxes, PADDING)
    size, backend = predictor.batch_size, predictor.backend
    batches = [crops[start : start + size] for start in range(0, len(crops), size)]
    heatmaps = np.concatenate([backend.heatmaps(batch) for batch in batches])
    return {
        "crops": partial(predictor._crops, picture, boxes, PADDING),
        "network": lambda: [backend.heatmaps(batch) for batch in batches],
        "decode": partial(backend.codec.decode, heatmaps),
        "all": partial(predictor, picture, boxes),
    }


def measure(arguments: Arguments) -> list[dict]:
    """Return one row per detector, and one per pose network, number of people and batch size: milliseconds."""
    cv2.setNumThreads(arguments.threads)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (480, 640, 3), np.uint8)
    boxes = rng.uniform((0, 0, 80, 160), (400, 100, 240, 380), (max(arguments.people), 4))
    calls: dict[tuple, Callable[[], object]] = {}
    for name in arguments.detectors:
        detector = open_detector(name, threads=arguments.threads)
        calls[Path(name).stem, 0, 0, "detector"] = partial(detector.detect, picture)
    for file in arguments.poses:
        for size in arguments.batch_sizes:
            predictor = Predictor(file, detector="none", flip_test=False, threads=arguments.threads, batch_size=size)
            for people in (n for n in arguments.people if n >= size):
                for part, call in parts(predictor, picture, boxes[:people]).items():
                    calls[file.stem, people, size, part] = call
    start = time.perf_counter()
    for call in calls.values():
        call()
    least = MIN_ROUNDS * (time.perf_counter() - start)
    print(f"{len(calls)} parts in turns: about {max(least, arguments.seconds):.0f} seconds", flush=True)
    times = interleaved_times({"|".join(map(str, key)): call for key, call in calls.items()}, rounds=200, warmup=2,
                              max_seconds=arguments.seconds)  # fmt: skip
    rows = []
    for key, seconds in zip(calls, times.values(), strict=True):
        name, people, size, part = key
        low, median, high = np.percentile(1e3 * seconds, (25, 50, 75)).round(2).tolist()
        rows.append({"name": name, "people": people, "batch_size": size, "part": part, "rounds": len(seconds),
                     "median_ms": median, "quartiles_ms": [low, high]})  # fmt: skip
    return rows


def page(rows: list[dict]) -> str:
    """Return two Markdown tables: detectors, and parts per photo."""
    at = {(row["name"], row["people"], row["batch_size"], row["part"]): row["median_ms"] for row in rows}
    detectors = [[name, f"{ms:.1f}"] for (name, _, _, part), ms in at.items() if part == "detector"]
    lines = [
        [name, people, size, *(f"{at[name, people, size, part]:.1f}" for part in ("crops", "network", "decode", "all"))]
        for name, people, size, part in at
        if part == "all"
    ]
    heads = ["pose network", "people", "at once", "crops, ms", "network, ms", "decode, ms", "all, ms"]
    return "\n\n".join([
        tabulate(detectors, ["detector", "ms per photo"], "pipe", disable_numparse=True),
        tabulate(lines, heads, "pipe", disable_numparse=True),
    ])  # fmt: skip


def main(arguments: Arguments) -> None:
    """Measure, print the tables and write the files."""
    out = {suffix: arguments.out.with_name(f"{arguments.out.name}.{suffix}") for suffix in ("json", "md")}
    check_writable(out["json"])
    rows = measure(arguments)
    header = machine_header() | {"threads": arguments.threads}
    write_atomically(out["json"], json.dumps({"header": header, "rows": rows}, indent=1).encode())
    conditions = ", ".join(f"{name} {value}" for name, value in header.items())
    write_atomically(out["md"], f"# A photo, part by part\n\n{page(rows)}\n\n{conditions}\n".encode())
    print(page(rows))


if __name__ == "__main__":
    run_script(lambda: main(tyro.cli(Arguments)))
