"""What runs a network. To add a runtime, write a function that prepares it and add a line to ``BACKENDS``.

Everything else (the command's choices, the checks, the fresh process, rows, reports) follows from that line.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lgmpose.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["BACKENDS", "Backend", "find_backend"]


@dataclass(frozen=True)
class Backend:
    """One way to run a network.

    Attributes:
        name: as in ``--backends``.
        what: one line for the report.
        prepare: (network, example) → a function from pictures like the example, (B, 3, H, W) on the device, to heatmaps
            (B, K, h, w), a tensor or an array. It runs in the worker, within ``inference_mode``; network and example
            are its own, the network in eval mode. A runtime with threads of its own sets them to
            ``torch.get_num_threads()``. Where ``export`` is given, it gets the exported file instead of the network.
        export: (network, example, path) → nothing; writes the file that the runtime reads. A file serves all
            backends with the same ``export``, and all numbers of threads.
        precision: what it computes in: a key of ``limits.BYTES``.
        requires: modules it imports.
        extra: the package's extras that install them.
        check: what else can be missing: None where nothing is, or one sentence.
    """

    name: str
    what: str
    prepare: Callable[[nn.Module | Path, Tensor], Callable]
    export: Callable[[nn.Module, Tensor, Path], None] | None = None
    precision: str = "fp32"
    requires: tuple[str, ...] = ()
    extra: str = ""
    check: Callable[[], str | None] | None = None

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        gone = [module for module in self.requires if importlib.util.find_spec(module) is None]
        if gone:
            return f"backend {self.name} needs {', '.join(gone)}: pip install 'lgmpose[{self.extra}]' installs it"
        reason = self.check() if self.check else None
        return reason and f"backend {self.name} cannot run here: {reason}"


def find_backend(name: str) -> Backend:
    """The backend of that name, usable here.

    Raises:
        UserError: an unknown name, or one for which something is not installed.
    """
    if name not in BACKENDS:
        near = difflib.get_close_matches(name, BACKENDS, n=1, cutoff=0.4)
        raise UserError(
            f"no backend {name!r}{f'; did you mean {near[0]}?' if near else ''} There are {', '.join(BACKENDS)}"
        )
    reason = BACKENDS[name].missing()
    if reason:
        raise UserError(reason)
    return BACKENDS[name]


# The backends


def _eager(net: nn.Module, example: Tensor) -> Callable:
    return net


def _eager_folded(net: nn.Module, example: Tensor) -> Callable:
    from lgmpose.network.fast import channels_last, fold_batchnorm

    return _on_channels_last(channels_last(fold_batchnorm(net, example)))


def _eager_fast(net: nn.Module, example: Tensor) -> Callable:
    from lgmpose.network.fast import fast_form

    return _on_channels_last(fast_form(net, example))


def _on_channels_last(net: nn.Module) -> Callable:
    import torch

    # A crop comes from OpenCV as H × W × 3, which is channels_last already: then this costs nothing.
    return lambda images: net(images.contiguous(memory_format=torch.channels_last))


def _compile(net: nn.Module, example: Tensor) -> Callable:
    import torch

    # Networks of one family share their code, and each counts as a recompilation of it; beyond the default of 8 the
    # compiler would leave the rest to eager mode. With fullgraph that would be an error, and so is any other gap.
    torch._dynamo.config.recompile_limit = 256
    return torch.compile(net, dynamic=False, fullgraph=True)


def _no_compiler() -> str | None:
    compilers = [os.environ.get("CXX"), "g++", "clang++", "cl"]
    if any(name and shutil.which(name) for name in compilers):
        return None
    return "torch.compile writes C++ and found no compiler for it; install g++ or clang++, or name one in CXX"


def write_once(export: Callable, net: nn.Module, example: Tensor, path: Path) -> None:
    """Exports where there is no file yet; a killed worker's half file never passes for a whole one."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        export(net, example, partial)
        os.replace(partial, path)


def _fp32_file(net: nn.Module, example: Tensor, path: Path) -> None:
    import onnx

    from lgmpose.inference.export.graph import export_graph

    onnx.save(export_graph(net.cpu(), tuple(example.shape[2:])), path)


def _int8_file(net: nn.Module, example: Tensor, path: Path) -> None:
    """Every convolution in 8 bits, calibrated on noise: for the time it takes; its weights are random, too."""
    import math

    import onnx
    import torch

    from lgmpose.inference.export.int8 import quantise

    exact = path.with_name(path.name.replace("int8", "fp32")).with_suffix(".onnx")
    write_once(_fp32_file, net, example, exact)  # there already where another backend runs it
    inputs = torch.rand(2, *example.shape[1:], generator=torch.Generator().manual_seed(0)).numpy()
    onnx.save(quantise(onnx.load(exact), inputs, tolerance=math.inf, progress=False).model, path)


def _onnxruntime(path: Path, example: Tensor) -> Callable:
    import onnxruntime
    import torch

    from lgmpose.inference.backends import STOP_SPINNING

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    options.add_session_config_entry(*STOP_SPINNING)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images.numpy()})[0]


def _openvino(path: Path, example: Tensor, precision: str = "f32") -> Callable:
    import openvino
    import torch

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(list(example.shape))
    options = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }  # fmt: skip
    request = core.compile_model(model, "CPU", options).create_infer_request()
    return lambda images: request.infer([images.numpy()], share_inputs=True)[0]


def _openvino_bf16(path: Path, example: Tensor) -> Callable:
    return _openvino(path, example, "bf16")


def _no_bf16() -> str | None:
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    return "this processor has no instructions for bfloat16"


RUNTIMES = ("onnx", "onnxscript", "onnxruntime")
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("eager", "PyTorch as it is", _eager),
        Backend("eager-folded", "PyTorch, channels_last, BatchNorm folded into the convolutions", _eager_folded),
        Backend("eager-fast", "PyTorch, channels_last, the network's fast form (`lgmpose.network.fast`)", _eager_fast),
        Backend("compile", "torch.compile with its defaults (Inductor)", _compile, check=_no_compiler),
        # fmt: off
        Backend("onnxruntime", "ONNX Runtime on the exported fast form", _onnxruntime, _fp32_file,
                requires=RUNTIMES, extra="onnx"),
        Backend("onnxruntime-int8", "ONNX Runtime, convolutions in 8 bits", _onnxruntime, _int8_file, "int8",
                requires=RUNTIMES, extra="onnx"),
        Backend("openvino", "OpenVINO on the exported fast form, fp32", _openvino, _fp32_file,
                requires=("onnx", "onnxscript", "openvino"), extra="onnx,openvino"),
        Backend("openvino-bf16", "OpenVINO on the same file, computing in bfloat16", _openvino_bf16, _fp32_file, "bf16",
                requires=("onnx", "onnxscript", "openvino"), extra="onnx,openvino", check=_no_bf16),
        Backend("openvino-int8", "OpenVINO on ONNX Runtime's 8-bit file", _openvino, _int8_file, "int8",
                requires=(*RUNTIMES, "openvino"), extra="onnx,openvino"),
        # fmt: on
    )
}
