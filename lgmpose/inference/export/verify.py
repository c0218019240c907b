"""The exported file against the network it came from: the same heatmaps? how accurate? how fast?

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
from lgmpose.inference.backends import open_backend
from lgmpose.inference.evaluate import evaluate
from lgmpose.inference.timing import interleaved_times
from lgmpose.machine import tune_allocator
from lgmpose.network.fast import channels_last
from lgmpose.pose.codecs import StandardCodec

if TYPE_CHECKING:
    import onnx

    from lgmpose.inference.export.exporter import Source

__all__ = ["verify_export"]

FP32_TOLERANCE = 1e-4  # largest difference of a heatmap's value, whose peaks are about 1
CROPS = 200
RANDOM_INPUTS = 16
ROUNDS, SECONDS = 100, 5.0  # of timing, whichever is over first


def verify_export(
    source: Source,
    out: Path,
    card: dict[str, Any],
    fp32: onnx.ModelProto,
    val_set: RecordSet | None,
    *,
    progress: bool = True,
) -> dict[str, Any]:
    """Compares, prints, and returns the figures.

    Args:
        out: the exported file.
        card: its card.
        fp32: the graph in full precision, whose speed in the same runtime is shown beside the others'.
        val_set: for accuracy and real crops; without it crops are of synthetic people, and accuracy is not measured.

    Raises:
        UserError: an fp32 file off by more than 1e-4, or any that gives no numbers; it is removed.
    """
    backend = open_backend(out, threads=1)
    crops = _crops(val_set, source.codec)
    noise = np.random.default_rng(0).standard_normal((RANDOM_INPUTS, 3, *source.codec.image_hw), np.float32)
    found = {
        "largest_difference": {"random": _difference(source, backend, noise)[0]},
        "crops": len(crops),
        "data": val_set.name if val_set is not None else "synthetic people",
    }
    largest, relative = _difference(source, backend, normalise(crops))
    found["largest_difference"]["crops"], found["relative_error"] = largest, relative
    print(
        f"heatmaps: largest difference {found['largest_difference']['random']:.1e} on {RANDOM_INPUTS} random inputs, "
        f"{largest:.1e} on {len(crops)} crops of {found['data']}; {100 * relative:.2g} % of their size"
    )
    off = float(np.max(list(found["largest_difference"].values())))
    if not math.isfinite(off) or card["precision"] == "fp32" and off > FP32_TOLERANCE:
        out.unlink(missing_ok=True)
        if out.suffix.lower() == ".xml":  # beside a .onnx, a .bin of the same name belongs to somebody else
            out.with_suffix(".bin").unlink(missing_ok=True)
        raise UserError(
            f"{out}: its heatmaps differ from the network's by {off:.1e}, more than {FP32_TOLERANCE:g}; it was removed"
        )
    found["speed"] = _speed(source, backend, card, fp32, out)  # of the plain network, before the next line's settings
    if val_set is not None:
        found["accuracy"] = _accuracy(source, backend, val_set, progress)
    return found


def _crops(record_set: RecordSet | None, codec: StandardCodec) -> np.ndarray:
    """(n, H, W, 3) uint8, of the first persons of the set or of synthetic ones."""
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
    """The heatmaps' largest difference, and the root mean square of it relative to the heatmaps' own."""
    squares, size, largest = 0.0, 0.0, 0.0
    for start in range(0, len(inputs), 8):
        wanted = _eager(source, inputs[start : start + 8])
        off = backend.run(inputs[start : start + 8]) - wanted
        largest = float(np.maximum(largest, np.abs(off).max()))  # max() would drop a NaN
        squares, size = squares + float(np.square(off).sum()), size + float(np.square(wanted).sum())
    return largest, (squares / size) ** 0.5


def _accuracy(source: Source, backend, val_set: RecordSet, progress: bool) -> dict[str, Any]:
    tune_allocator()
    figures, eager = {}, channels_last(source.net)
    for name, net in (("eager", eager), ("exported", backend)):
        evaluation = evaluate(net, val_set, source.codec, progress=progress)
        figures[name] = {key: round(value, 4) for key, value in evaluation.figures.items()}
    print("  ".join(f"{name}: {value}" for name, value in evaluation.conditions.items()))
    pairs = {name: (value, figures["exported"][name]) for name, value in figures["eager"].items()}
    print("  ".join(f"{name}: eager {eager:.4g}, exported {exported:.4g}" for name, (eager, exported) in pairs.items()))
    return {"conditions": evaluation.conditions, **figures}


def _speed(source: Source, backend, card: dict, fp32: onnx.ModelProto, out: Path) -> dict[str, Any]:
    """Milliseconds per picture, batch 1, one thread, and ratios of paired rounds."""
    inputs = np.random.default_rng(0).standard_normal((1, 3, *source.codec.image_hw), np.float32)
    calls = {"eager": lambda: _eager(source, inputs), "exported": lambda: backend.run(inputs)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # OpenVINO keeps its file mapped, and Windows deletes no mapped files.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            if card["precision"] != "fp32":
                from lgmpose.inference.export.exporter import write_graph

                path = Path(folder) / f"fp32{out.suffix}"
                write_graph(path, fp32, card | {"precision": "fp32"})
                same = open_backend(path, threads=1)
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
    found = {"threads": 1, "batch": 1, "rounds": rounds, "median_ms": median_ms, "times_faster_than": ratios}
    shown = ", ".join(f"{ratio:.2f} × {name}" for name, ratio in found["times_faster_than"].items())
    print(
        f"speed of {out.name}, one thread, batch 1: {found['median_ms']['exported']:.1f} ms; as fast as {shown} "
        f"(medians of {rounds} paired rounds)"
    )
    return found
