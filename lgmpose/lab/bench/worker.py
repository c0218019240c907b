"""The fresh process: one backend, one number of threads, one group of networks. ``processes`` starts it.

Two backends, or two thread settings of one, would slow each other down in one process, because their thread pools stay
alive. The job comes in as JSON on stdin; the numbers of threads are already in the environment, before torch is
imported. On stdout the worker prints the name of each network before it prepares it, an empty line before the rounds,
and at the end the ``Outcome`` as one line of JSON.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import msgspec

from lgmpose.errors import first_line
from lgmpose.lab.bench.measurement import PRODUCT, PRODUCT_SIDE, Outcome, Row, load
from lgmpose.lab.bench.plan import CODEC, Job

__all__ = ["main", "run"]


def run(job: Job, tell: Callable[[str], object] = lambda name: None) -> Outcome:
    """Measure one group of networks in this process.

    ``tell`` is called with each model's name before it is prepared, and with an empty text before the rounds.
    """
    import torch

    from lgmpose.inference.timing import interleaved_times
    from lgmpose.lab.bench.runtimes import RUNTIMES
    from lgmpose.machine import choose_device, tune_allocator

    config, runtime = job.config, RUNTIMES[job.rows[0].backend]
    modules = [importlib.import_module(name) for name in ("torch", *runtime.requires)]
    kept = config.keep_memory and tune_allocator()
    torch.set_num_threads(job.rows[0].threads)
    device = torch.device("cpu") if runtime.requires else choose_device(config.device)
    outcome = Outcome({
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "dtype": runtime.dtype,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "keeps_memory": kept,
        "versions": {module.__name__: re.split("[+-]", module.__version__)[0] for module in modules},
        "load": load(),
    })  # fmt: skip
    calls: dict[str, Callable[[], object]] = {}
    with torch.inference_mode():
        for row in (row for row in job.rows if not row.reason):
            model = row.model
            tell(model)
            try:
                call = _prepare(row, job, runtime, device)
                call()
                calls[model] = call
            except Exception as error:
                outcome.reasons[model] = first_line(error)
        tell("")
        if calls and config.scope == "network":
            calls[PRODUCT] = _matrix_product(getattr(torch, runtime.dtype), device)
        times = interleaved_times(
            calls, rounds=config.runs, warmup=config.warmup, max_seconds=config.seconds * len(calls),
            clock=time.process_time if config.clock == "cpu" else time.perf_counter,
            # an accelerator's calls return before the work is done
            synchronize=None if device.type == "cpu" else partial(torch.accelerator.synchronize, device),
        ) if calls else {}  # fmt: skip
    outcome.times_ms = {name: (1e3 * seconds).round(3).tolist() for name, seconds in times.items()}
    outcome.environment["load_after"] = load()
    return outcome


def _matrix_product(dtype, device) -> Callable[[], object]:
    """Return a product of square matrices in PyTorch: a reference value for the machine's speed."""
    import torch

    a = torch.ones(PRODUCT_SIDE, PRODUCT_SIDE, dtype=dtype, device=device)
    return lambda: torch._int_mm(a, a) if dtype == torch.int8 else a @ a


def _prepare(row: Row, job: Job, runtime, device) -> Callable[[], object]:
    """Return one network as a function without arguments, in the scope that is asked for."""
    import numpy as np
    import torch

    from lgmpose.pose.codecs import make_codec
    from lgmpose.zoo.outside_networks import is_outside, open_network

    with torch.inference_mode(False):
        torch.manual_seed(0)  # random weights: no operator here takes longer with others
        outside = is_outside(row.model)
        changes = {} if outside else {"num_keypoints": row.num_keypoints}
        net = open_network(row.model, image_hw=row.image_hw, **changes)[0].requires_grad_(False).to(device)
    images = torch.rand(row.batch_size, 3, *row.image_hw).to(device)
    folder = Path(job.folder)  # a network from outside gets its own: two of them may look the same from here
    if outside:
        folder = folder / hashlib.sha256(row.model.encode()).hexdigest()[:12]
        folder.mkdir(exist_ok=True)
    function = runtime.prepare(net, images, folder)
    if job.config.scope == "network":
        return lambda: function(images)

    def heatmaps(inputs) -> np.ndarray:
        outputs = function(inputs)
        return outputs.float().cpu().numpy() if isinstance(outputs, torch.Tensor) else outputs

    codec = make_codec("simcc" if net.config.head == "simcc" else CODEC, row.image_hw)
    if job.config.scope == "decode":
        return lambda: codec.decode(heatmaps(images))
    return _pipeline(heatmaps, codec, device, row.batch_size)


def _pipeline(heatmaps: Callable, codec, device, batch_size: int) -> Callable[[], object]:
    """Return what ``Predictor`` does with a picture and its boxes: crop, normalise, network, decode, map back."""
    import cv2
    import numpy as np
    import torch

    from lgmpose.data.batches import to_input
    from lgmpose.inference.predictor import Predictor

    network = SimpleNamespace(  # poses carry the skeleton along; nothing reads it here
        image_hw=codec.image_hw, skeleton=None, codec=codec, source={},
        heatmaps=lambda crops: heatmaps(to_input(torch.from_numpy(crops).to(device))),
    )  # fmt: skip
    cv2.setNumThreads(torch.get_num_threads())
    predictor = Predictor(network, detector="none", flip_test=False, batch_size=batch_size)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (480, 640, 3), np.uint8)
    boxes_xywh = rng.uniform((0, 0, 80, 160), (400, 100, 240, 380), (batch_size, 4))
    return lambda: predictor(picture, boxes_xywh)


def main() -> None:
    """Read the job from stdin and report on stdout; whatever libraries print goes to stderr."""
    job = msgspec.json.decode(sys.stdin.read(), type=Job)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    outcome = run(job, lambda name: print(name, file=out, flush=True))
    print(msgspec.json.encode(outcome).decode(), file=out, flush=True)


if __name__ == "__main__":
    main()
