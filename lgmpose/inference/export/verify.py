"""Compare an exported file with the network it came from: the same heatmaps, how accurate, how fast.

Everything is measured on the very file that was written, opened as ``Predictor`` opens it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.inference.backends import ExportedBackend, open_graph
from lgmpose.inference.evaluate import evaluate
from lgmpose.inference.export.graph_files import Source, files_of, write_graph
from lgmpose.inference.timing import interleaved_times
from lgmpose.machine import tune_allocator
from lgmpose.network.fast import channels_last

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = ["verify_export", "verify_outputs"]

FP32_TOLERANCE = 1e-4  # largest difference of heatmaps, whose peaks are about 1
RELATIVE_TOLERANCE = 1e-3  # the same for outputs of any size, relative to their largest value
CROPS, RANDOM_INPUTS = 200, 16
ROUNDS, SECONDS = 100, 15.0  # of timing, whichever is over first


def verify_export(
    source: Source, out: Path, card: dict[str, Any], fp32: onnx.ModelProto | None, val_set: RecordSet | None
) -> dict[str, Any]:
    """Compare, print, and return the figures of an exported file.

    Args:
        source: the network.
        out: the exported file.
        card: its card.
        fp32: the graph in full precision; its speed in the same runtime is shown beside. None for an fp32 file.
        val_set: persons for crops and accuracy. None: heatmaps are compared on random inputs alone.

    Raises:
        UserError: the heatmaps of an fp32 file differ by more than 1e-4, or those of any file are not finite; the file
            is removed.
    """
    backend = ExportedBackend(out, threads=1)
    noise = np.random.default_rng(0).standard_normal((RANDOM_INPUTS, 3, *source.codec.image_hw), np.float32)
    inputs = {"random inputs": noise}
    if val_set is not None:
        inputs["crops"] = source.crops(val_set, range(min(CROPS, len(val_set))))
    found: dict[str, Any] = {"largest_difference": {}, "relative_error": {}}
    for name, some in inputs.items():
        largest, relative = _difference(source, backend, some)
        found["largest_difference"][name], found["relative_error"][name] = largest, relative
        print(f"{len(some)} {name}: largest heatmap difference {largest:.1e}, relative error {100 * relative:.2g} %")
    off = float(np.max(list(found["largest_difference"].values())))  # NaN stays NaN
    if not math.isfinite(off) or (card["precision"] == "fp32" and off > FP32_TOLERANCE):
        _remove(out)
        raise UserError(
            f"{out}: its heatmaps differ from the network's by {off:.1e}, more than {FP32_TOLERANCE:g}; it was removed"
        )
    found["speed"] = _speed(source, backend, card, fp32, out)
    if val_set is not None:
        found["accuracy"] = _accuracy(source, backend, val_set)
    return found


def verify_outputs(net: nn.Module, out: Path, image_hw: tuple[int, int]) -> dict[str, Any]:
    """Compare an exported network of any kind with the network on random inputs, print and return the figures.

    Raises:
        UserError: the outputs differ; the file is removed.
    """
    run, _, _ = open_graph(out, 1)
    inputs = np.random.default_rng(0).standard_normal((4, 3, *image_hw), np.float32)
    with torch.inference_mode():
        wanted = net(torch.from_numpy(inputs)).numpy()
        off = float(np.abs(run(inputs) - wanted).max() / max(float(np.abs(wanted).max()), 1e-12))
        if not off <= RELATIVE_TOLERANCE:  # also for NaN
            _remove(out)
            raise UserError(f"{out}: its outputs differ from the network's by {off:.1e} of their size; it was removed")
        print(f"largest difference of the outputs: {off:.1e} of their size")
        times = _times({"eager": lambda: net(torch.from_numpy(inputs[:1])), "exported": lambda: run(inputs[:1])})
    return {"relative_difference": off, "speed": times}


def _remove(out: Path) -> None:
    for file in files_of(out):
        file.unlink()


def _eager(source: Source, inputs: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return source.net(torch.from_numpy(inputs)).numpy()


def _difference(source: Source, backend: ExportedBackend, inputs: np.ndarray) -> tuple[float, float]:
    """Return the largest difference of the heatmaps, and its root mean square relative to that of the heatmaps."""
    squares = size = largest = 0.0
    for start in range(0, len(inputs), 8):
        wanted = _eager(source, inputs[start : start + 8])
        off = backend.run(inputs[start : start + 8]) - wanted
        largest = float(np.maximum(largest, np.abs(off).max()))  # NaN stays NaN
        squares, size = squares + float(np.square(off).sum()), size + float(np.square(wanted).sum())
    return largest, (squares / size) ** 0.5


def _accuracy(source: Source, backend: ExportedBackend, val_set: RecordSet) -> dict[str, Any]:
    """Evaluate the network and the file on the same persons, and print both. Unreadable pictures are left out."""
    tune_allocator()
    eager = evaluate(channels_last(source.net), val_set, source.codec, bad_images="skip")
    exported = evaluate(backend, val_set, source.codec, bad_images="skip")
    print("  ".join(f"{name}: {value}" for name, value in exported.conditions.items()))
    for name, value in eager.figures.items():
        print(f"{name}: eager {value:.4g}, exported {exported.figures[name]:.4g}")
    return {
        "conditions": exported.conditions,
        "eager": {name: round(value, 4) for name, value in eager.figures.items()},
        "exported": {name: round(value, 4) for name, value in exported.figures.items()},
    }


def _speed(
    source: Source, backend: ExportedBackend, card: dict[str, Any], fp32: onnx.ModelProto | None, out: Path
) -> dict[str, Any]:
    """Time the network, the file, and the fp32 graph in the same runtime; see ``_times``."""
    inputs = np.random.default_rng(0).standard_normal((1, 3, *source.codec.image_hw), np.float32)
    calls = {"eager": lambda: _eager(source, inputs), "exported": lambda: backend.run(inputs)}
    # OpenVINO keeps its file open, and Windows does not delete open files.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if card["precision"] != "fp32" and fp32 is not None:
            path = Path(folder) / f"fp32{out.suffix}"
            write_graph(path, fp32, card | {"precision": "fp32"})
            same = ExportedBackend(path, threads=1)
            calls["fp32 in the same runtime"] = lambda: same.run(inputs)
        return _times(calls)


def _times(calls: Mapping[str, Callable[[], object]]) -> dict[str, Any]:
    """Print and return milliseconds per picture with one thread, and how many times as fast ``exported`` is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = interleaved_times(calls, rounds=ROUNDS, max_seconds=SECONDS)
    finally:
        torch.set_num_threads(threads)
    exported, rounds = times["exported"], len(times["exported"])
    others = {name: seconds for name, seconds in times.items() if name != "exported"}
    ratios = {name: round(float(np.median(seconds / exported)), 3) for name, seconds in others.items()}
    median_ms = {name: round(1e3 * float(np.median(seconds)), 3) for name, seconds in times.items()}
    shown = ", ".join(f"{ratio:.2f} × as fast as {name}" for name, ratio in ratios.items())
    print(f"speed, one thread, batch 1: {median_ms['exported']:.1f} ms; {shown} (medians of {rounds} paired rounds)")
    return {"threads": 1, "batch": 1, "rounds": rounds, "median_ms": median_ms, "times_faster_than": ratios}
