"""Compare an exported file with the network it came from: the same heatmaps, how accurate, how fast.

Everything is measured on the very file that was written, opened as ``Predictor`` opens it.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lgmpose.data import load_records
from lgmpose.data.batches import load_batches
from lgmpose.data.crops import CropDataset
from lgmpose.data.images import normalise
from lgmpose.data.records import RecordSet
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.inference.backends import OnnxBackend, OpenVINOBackend, open_backend
from lgmpose.inference.evaluate import evaluate
from lgmpose.inference.export.graph_files import Source, write_graph
from lgmpose.inference.timing import interleaved_times
from lgmpose.machine import tune_allocator
from lgmpose.network.fast import channels_last

if TYPE_CHECKING:
    import onnx

__all__ = ["verify_export"]

FP32_TOLERANCE = 1e-4  # largest difference of heatmaps, whose peaks are about 1
CROPS = 200
RANDOM_INPUTS = 16
ROUNDS, SECONDS = 100, 15.0  # of timing, whichever is over first


def verify_export(
    source: Source, out: Path, card: dict[str, Any], fp32: onnx.ModelProto, val_set: RecordSet | None
) -> dict[str, Any]:
    """Compare, print, and return the figures.

    Args:
        source: the network.
        out: the exported file.
        card: its card.
        fp32: the graph in full precision; its speed in the same runtime is shown beside.
        val_set: for accuracy and crops. None: crops are of synthetic people, and accuracy is not measured.

    Raises:
        UserError: the heatmaps of an fp32 file differ by more than 1e-4, or those of any file are not finite; the file
            is removed.
    """
    backend = _open(out)
    crops = _crops(val_set, source)
    noise = np.random.default_rng(0).standard_normal((RANDOM_INPUTS, 3, *source.codec.image_hw), np.float32)
    on_noise, _ = _difference(source, backend, noise)
    on_crops, relative = _difference(source, backend, normalise(crops))
    found: dict[str, Any] = {
        "largest_difference": {"random": on_noise, "crops": on_crops},
        "relative_error": relative,
        "crops": len(crops),
        "data": val_set.name if val_set is not None else "synthetic people",
    }
    print(
        f"heatmaps: largest difference {on_noise:.1e} on {RANDOM_INPUTS} random inputs, {on_crops:.1e} on "
        f"{len(crops)} crops of {found['data']}; relative error {100 * relative:.2g} %"
    )
    off = float(np.maximum(on_noise, on_crops))  # NaN stays NaN
    if not math.isfinite(off) or (card["precision"] == "fp32" and off > FP32_TOLERANCE):
        out.unlink(missing_ok=True)
        if out.suffix.lower() == ".xml":
            out.with_suffix(".bin").unlink(missing_ok=True)
        raise UserError(
            f"{out}: its heatmaps differ from the network's by {off:.1e}, more than {FP32_TOLERANCE:g}; it was removed"
        )
    found["speed"] = _speed(source, backend, card, fp32, out)
    if val_set is not None:
        found["accuracy"] = _accuracy(source, backend, val_set)
    return found


def _open(path: Path) -> OnnxBackend | OpenVINOBackend:
    backend = open_backend(path, threads=1)
    assert isinstance(backend, (OnnxBackend, OpenVINOBackend))
    return backend


def _crops(record_set: RecordSet | None, source: Source) -> np.ndarray:
    """Return crops (n, H, W, 3) uint8 of the first persons of the set, or of synthetic people."""
    codec = source.codec
    with tempfile.TemporaryDirectory() as folder:
        if record_set is None:
            make_synthetic(Path(folder), CROPS // 2, seed=1, image_hw=(256, 256), progress=False)
            record_set = load_records(f"synthetic:{folder}")
        chosen = list(range(min(CROPS, len(record_set))))
        (batch,) = load_batches(CropDataset(record_set, codec.image_hw, aligned=codec.aligned), [chosen], workers=1)
    if "image" not in batch:
        raise UserError(f"{batch['errors'][0]}; no picture of {record_set.name} to verify on")
    return batch["image"]


def _eager(source: Source, inputs: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return source.net(torch.from_numpy(inputs)).numpy()


def _difference(source: Source, backend, inputs: np.ndarray) -> tuple[float, float]:
    """Return the largest difference of the heatmaps, and its root mean square relative to that of the heatmaps."""
    squares = size = largest = 0.0
    for start in range(0, len(inputs), 8):
        wanted = _eager(source, inputs[start : start + 8])
        off = backend.run(inputs[start : start + 8]) - wanted
        largest = float(np.maximum(largest, np.abs(off).max()))  # NaN stays NaN
        squares, size = squares + float(np.square(off).sum()), size + float(np.square(wanted).sum())
    return largest, (squares / size) ** 0.5


def _accuracy(source: Source, backend, val_set: RecordSet) -> dict[str, Any]:
    """Evaluate the network and the file on the same persons, and print both."""
    tune_allocator()
    eager, exported = (evaluate(net, val_set, source.codec) for net in (channels_last(source.net), backend))
    figures = {
        name: {key: round(value, 4) for key, value in evaluation.figures.items()}
        for name, evaluation in (("eager", eager), ("exported", exported))
    }
    print("  ".join(f"{name}: {value}" for name, value in exported.conditions.items()))
    for name, value in figures["eager"].items():
        print(f"{name}: eager {value:.4g}, exported {figures['exported'][name]:.4g}")
    return {"conditions": exported.conditions, **figures}


def _speed(source: Source, backend, card: dict, fp32: onnx.ModelProto, out: Path) -> dict[str, Any]:
    """Return milliseconds per picture, batch 1, one thread, and the median ratios of paired rounds."""
    inputs = np.random.default_rng(0).standard_normal((1, 3, *source.codec.image_hw), np.float32)
    calls = {"eager": lambda: _eager(source, inputs), "exported": lambda: backend.run(inputs)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # OpenVINO keeps its file open, and Windows does not delete open files.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            if card["precision"] != "fp32":
                path = Path(folder) / f"fp32{out.suffix}"
                write_graph(path, fp32, card | {"precision": "fp32"})
                same = _open(path)
                calls["fp32 in the same runtime"] = lambda: same.run(inputs)
            times = interleaved_times(calls, rounds=ROUNDS, max_seconds=SECONDS)
    finally:
        torch.set_num_threads(threads)
    ratios = {
        name: round(float(np.median(seconds / times["exported"])), 3)
        for name, seconds in times.items() if name != "exported"
    }  # fmt: skip
    median_ms = {name: round(1e3 * float(np.median(seconds)), 3) for name, seconds in times.items()}
    rounds = len(times["exported"])
    shown = ", ".join(f"{ratio:.2f} × as fast as {name}" for name, ratio in ratios.items())
    print(
        f"speed of {out.name}, one thread, batch 1: {median_ms['exported']:.1f} ms; {shown} "
        f"(medians of {rounds} paired rounds)"
    )
    return {"threads": 1, "batch": 1, "rounds": rounds, "median_ms": median_ms, "times_faster_than": ratios}
