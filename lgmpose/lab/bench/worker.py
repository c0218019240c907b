"""The fresh process: one backend, one number of threads, group after group. ``run`` starts it, and nobody else.

Two runtimes, or two settings of one, in one process get into each other's way: their pools of threads stay alive. So
the job comes in by stdin, with the threads already set in the environment, before torch is imported; what happens goes
out by stdout, one JSON object per line.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["main", "measure_rounds", "run", "warm_up"]

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}  # by a backend's precision
REPORT_SECONDS = 0.5  # the parent process is woken no oftener, for it would take time from what is measured


def warm_up(call: Callable[[], object], runs: int, *, clock: Callable[[], float] = time.perf_counter) -> int:
    """Runs a network before the clock starts; three times do where it takes longer than a second. → how often."""
    start = clock()
    for done in range(1, runs + 1):
        call()
        if done >= 3 and clock() - start > done:
            return done
    return runs


def measure_rounds(
    calls: Sequence[Callable[[], object] | None],
    *,
    runs: int,
    seconds: float,
    min_rounds: int,
    synchronize: Callable[[], object],
    on_round: Callable[[list[float | None], float], None],
    on_failure: Callable[[int, Exception], None],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Times networks in rounds: in each, every network runs once, in an order that is drawn anew.

    A machine that drifts hits all of them alike, and the times of one round can be compared. All get the same number
    of rounds: ``runs``, or fewer when ``seconds`` per network are over, but not below ``min_rounds``.

    Args:
        calls: one per network; None for one that could not be prepared.
        synchronize: waits until the device has done its work; called before a time starts and before it ends.
        on_round: gets the round's times in milliseconds (None: no time), and the share of the work that is done.
        on_failure: gets a network that raised, by its index; it does not run again.
    """
    calls = list(calls)
    order = [i for i, call in enumerate(calls) if call is not None]
    shuffle = random.Random(0).shuffle
    begin, limit = clock(), seconds * len(order)
    for number in range(1, runs + 1):
        times: list[float | None] = [None] * len(calls)
        shuffle(order)
        for i in list(order):
            try:
                synchronize()
                start = clock()
                calls[i]()
                synchronize()
                times[i] = 1e3 * (clock() - start)
            except Exception as error:
                order.remove(i)
                on_failure(i, error)
        if not order:
            return
        spent = (clock() - begin) / limit
        on_round(times, max(number / runs, min(spent, number / min_rounds)))
        if spent >= 1 and number >= min_rounds:
            return


def run(job: dict, emit: Callable[..., None]) -> None:
    """Measures the groups of a job.

    Args:
        job: see ``lgmpose.lab.bench.run``.
        emit: called with what happens, as keyword arguments.
    """
    import torch

    from lgmpose.lab.bench.machine_limits import Probes
    from lgmpose.lab.bench.runtimes import BACKENDS
    from lgmpose.machine import choose_device, tune_allocator

    kept = tune_allocator() if job["keep_memory"] else False
    torch.set_num_threads(job["threads"])
    backend = BACKENDS[job["backend"]]
    # The runtimes that read files are asked for the CPU alone.
    device = torch.device("cpu") if backend.export else choose_device(job["device"])
    emit(event="start", environment=_environment(torch, device, backend, kept))

    def synchronize() -> None:
        if device.type != "cpu":  # an accelerator's calls return before the work is done
            torch.accelerator.synchronize(device)

    probes = Probes(backend.precision, device) if job["scope"] == "network" else None
    for group in job["groups"]:
        calls, call = [], None
        with torch.inference_mode():
            for index, subject in enumerate(group["subjects"]):
                if subject["model"] is None:
                    calls.append(None)
                    continue
                emit(event="preparing", group=group["index"], subject=index)
                start = time.perf_counter()
                try:
                    call = _prepare(subject["model"], group, backend, job, device)
                    warm_up(lambda call=call: (call(), synchronize()), job["warmup"])
                    seconds = time.perf_counter() - start
                    emit(event="ready", group=group["index"], subject=index, seconds=seconds)
                except Exception as error:
                    emit(event="failed", group=group["index"], subject=index, reason=one_line(error))
                    call = None
                calls.append(call)
            _measure(calls, group["index"], job, synchronize, emit, probes)
        del calls, call  # the networks of one group at a time
        gc.collect()
        emit(event="done", group=group["index"])
    emit(event="end", load=load())


def _measure(
    calls: list, group: int, job: dict, synchronize: Callable, emit: Callable[..., None], probes=None
) -> None:
    """The rounds of one group, each followed by a look at the machine's limit, reported now and then."""
    waiting: list[list[float | None]] = []
    limits: list[list[float]] = []
    last = time.perf_counter()

    def report(share: float) -> None:
        nonlocal last
        emit(event="rounds", group=group, times_ms=list(waiting), probes_ms=list(limits), share=share)
        waiting.clear()
        limits.clear()
        last = time.perf_counter()

    def on_round(times: list[float | None], share: float) -> None:
        waiting.append([None if t is None else round(t, 3) for t in times])
        if probes is not None:
            limits.append(probes.measure(synchronize))
        if time.perf_counter() - last > REPORT_SECONDS:
            report(share)

    def on_failure(index: int, error: Exception) -> None:
        emit(event="failed", group=group, subject=index, reason=one_line(error))

    gc.collect()
    measure_rounds(
        calls, runs=job["runs"], seconds=job["seconds"], min_rounds=job["min_rounds"], synchronize=synchronize,
        on_round=on_round, on_failure=on_failure,
    )  # fmt: skip
    report(1.0)


def _prepare(model: str, group: dict, backend, job: dict, device) -> Callable[[], object]:
    """One network, ready to be called without arguments, in the scope that is asked for."""
    import numpy as np
    import torch

    from lgmpose.pose.codecs import make_codec
    from lgmpose.zoo.catalogue import create_model

    image_hw, batch = tuple(group["image_hw"]), group["batch_size"]
    with torch.inference_mode(False):
        torch.manual_seed(0)  # its weights: any will do, for no operator here takes longer with others
        net = create_model(model, image_hw=image_hw, num_keypoints=group["num_keypoints"])
        net = net.eval().requires_grad_(False).to(device)
    images = torch.rand(batch, 3, *image_hw, generator=torch.Generator().manual_seed(0)).to(device)
    function = backend.prepare(_exported(net, images, backend, Path(job["scratch"])), images)
    if job["scope"] == "network":
        return lambda: function(images)

    def heatmaps(inputs) -> np.ndarray:
        outputs = function(inputs)
        return outputs.float().cpu().numpy() if isinstance(outputs, torch.Tensor) else outputs

    codec = make_codec(job["codec"], image_hw)
    if job["scope"] == "decode":
        return lambda: codec.decode(heatmaps(images))
    return _pipeline(heatmaps, codec, device, batch)


def _exported(net, images, backend, scratch: Path):
    """The network or, for a runtime that reads files, its file; a file is written once for all processes."""
    if backend.export is None:
        return net
    from lgmpose.lab.bench.runtimes import write_once

    network = hashlib.sha256(repr(net.config).encode()).hexdigest()[:12]  # a config is all that tells two apart
    path = scratch / f"{network}-{backend.export.__name__.strip('_')}.onnx"
    write_once(backend.export, net, images, path)
    return path


def _pipeline(heatmaps: Callable, codec, device, batch: int) -> Callable[[], object]:
    """The predictor's own way: crop, normalise, network, decode, back into the picture."""
    import cv2
    import numpy as np
    import torch

    from lgmpose.data.batches import to_input
    from lgmpose.inference.predictor import Predictor

    class Runner:
        image_hw, skeleton, source = codec.image_hw, None, {}  # no skeleton: poses carry it along, nothing reads it

        def __init__(self):
            self.codec = codec

        def heatmaps(self, crops: np.ndarray) -> np.ndarray:
            return heatmaps(to_input(torch.from_numpy(crops).to(device)))

    cv2.setNumThreads(torch.get_num_threads())
    predictor = Predictor(Runner(), flip_test=False, batch_size=batch)
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    draw = np.random.default_rng(1).uniform
    boxes = np.stack([draw(0, 400, batch), draw(0, 100, batch), draw(80, 240, batch), draw(160, 380, batch)], axis=1)
    return lambda: predictor(picture, boxes)


def _environment(torch, device, backend, kept: bool) -> dict:
    """What the process really runs with, for the report's header."""
    import importlib
    from importlib.metadata import PackageNotFoundError, version

    versions = {"torch": torch.__version__.partition("+")[0]}
    for module in backend.requires:
        try:
            versions[module] = version(module)
        except PackageNotFoundError:  # the distribution goes by another name, such as onnxruntime-openvino
            versions[module] = getattr(importlib.import_module(module), "__version__", "unknown")
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {
        "device": device.type,
        "device_name": device_name,
        "dtype": DTYPES[backend.precision],
        "threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "keeps_memory": kept,
        "versions": versions,
        "load": load(),
    }


def load() -> float | None:
    """Processes that wanted a core, on average over the last minute; None on Windows."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def one_line(error: BaseException) -> str:
    """An exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


def main() -> None:
    """Reads the job from stdin and reports to stdout; whatever else is printed goes to stderr."""
    job = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(**event) -> None:
        print(json.dumps(event), file=out, flush=True)

    run(job, emit)


if __name__ == "__main__":
    main()
