"""What runs a network. To add a runtime, write a function that prepares it and add a line to ``RUNTIMES``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lgmpose.errors import UserError, require
from lgmpose.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["RUNTIMES", "Runtime", "find_runtime"]


@dataclass(frozen=True)
class Runtime:
    """One way to run a network.

    Attributes:
        what: one line for the report.
        prepare: (network in eval mode, example, folder) → function. The function turns inputs like the example, (B, 3,
            H, W) on the device, into heatmaps (B, K, h, w), a tensor or an array. It runs in the worker, within
            ``inference_mode``. A runtime with threads of its own sets them to ``torch.get_num_threads()``. Files go
            into the folder.
        dtype: what it computes in.
        requires: modules that it imports; they come with the package's extras ``onnx`` and ``openvino``.
    """

    what: str
    prepare: Callable[[nn.Module, Tensor, Path], Callable]
    dtype: str = "float32"
    requires: tuple[str, ...] = ()


def find_runtime(name: str) -> Runtime:
    """Return the runtime of that name.

    Raises:
        UserError: an unknown name, or a package that it needs and that is not installed.
    """
    if name not in RUNTIMES:
        raise UserError(f"backends {name!r}: choose from {', '.join(RUNTIMES)}")
    for module in RUNTIMES[name].requires:
        require(module, "onnx,openvino", f"backend {name}")
    return RUNTIMES[name]


def _eager(net: nn.Module, example: Tensor, folder: Path, fast: bool) -> Callable:
    import torch

    from lgmpose.network.fast import channels_last, fast_form, fold_batchnorm

    net = fast_form(net) if fast else channels_last(fold_batchnorm(net))
    # The predictor's crops are channels_last already; the conversion costs nothing for them.
    return lambda images: net(images.contiguous(memory_format=torch.channels_last))


def _compile(net: nn.Module, example: Tensor, folder: Path) -> Callable:
    import torch

    # Networks of one family share their code, and each counts as a recompilation of it. Beyond the default limit of 8
    # the compiler would silently run the rest in eager mode.
    torch._dynamo.config.recompile_limit = 256
    return torch.compile(net, dynamic=False, fullgraph=True)


def _onnxruntime(net: nn.Module, example: Tensor, folder: Path, int8: bool = False) -> Callable:
    import torch

    from lgmpose.inference.backends import onnx_session

    session = onnx_session(_onnx_file(net, example, folder, int8), torch.get_num_threads())
    return lambda images: session.run(None, {"images": images.numpy()})[0]


def _openvino(net: nn.Module, example: Tensor, folder: Path, int8: bool = False, bf16: bool = False) -> Callable:
    import openvino
    import torch

    from lgmpose.inference.backends import openvino_options

    core = openvino.Core()
    if bf16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UserError("this processor has no instructions for bfloat16")
    model = core.read_model(_onnx_file(net, example, folder, int8))
    model.reshape(list(example.shape))
    options = openvino_options(torch.get_num_threads(), bf16=bf16)
    request = core.compile_model(model, "CPU", options).create_infer_request()
    return lambda images: request.infer([images.numpy()], share_inputs=True)[0]


def _onnx_file(net: nn.Module, example: Tensor, folder: Path, int8: bool) -> Path:
    """Export the network, or return the file that an earlier process exported.

    In 8 bits every convolution is quantised and calibrated on noise: the file serves to measure time, not accuracy.
    """
    import onnx
    import torch

    from lgmpose.inference.export.graph import export_graph
    from lgmpose.inference.export.int8 import quantise
    from lgmpose.zoo.outside_networks import own_config

    image_hw = tuple(example.shape[2:])
    network = hashlib.sha256(repr((own_config(net), image_hw)).encode()).hexdigest()[:12]
    path = folder / f"{network}-{'int8' if int8 else 'fp32'}.onnx"
    if path.exists():
        return path
    if int8:
        noise = torch.rand(2, *example.shape[1:], generator=torch.Generator().manual_seed(0)).numpy()
        exact = onnx.load(_onnx_file(net, example, folder, int8=False))
        model = quantise(exact, noise).model
    else:
        model = export_graph(net.cpu(), image_hw, fast=own_config(net) is not None)
    write_atomically(path, model.SerializeToString())  # a killed process leaves no half file
    return path


_ONNX, _OPENVINO = ("onnx", "onnxscript", "onnxruntime"), ("onnx", "onnxscript", "openvino")
RUNTIMES = {
    "eager": Runtime("PyTorch as it is", lambda net, example, folder: net),
    "eager-folded": Runtime(
        "PyTorch, channels_last, BatchNorm folded into the convolutions", partial(_eager, fast=False)
    ),
    "eager-fast": Runtime(
        "PyTorch, channels_last, the network's fast form (`lgmpose.network.fast`)", partial(_eager, fast=True)
    ),
    "compile": Runtime("torch.compile with its defaults (Inductor)", _compile),
    "onnxruntime": Runtime("ONNX Runtime on the exported fast form", _onnxruntime, requires=_ONNX),
    "onnxruntime-int8": Runtime(
        "ONNX Runtime, convolutions in 8 bits", partial(_onnxruntime, int8=True), "int8", _ONNX
    ),
    "openvino": Runtime("OpenVINO on the exported fast form, fp32", _openvino, requires=_OPENVINO),
    "openvino-bf16": Runtime(
        "OpenVINO on the same file, computing in bfloat16", partial(_openvino, bf16=True), "bfloat16", _OPENVINO
    ),
    "openvino-int8": Runtime(
        "OpenVINO on ONNX Runtime's 8-bit file", partial(_openvino, int8=True), "int8", (*_ONNX, "openvino")
    ),
}
