"""Write a network for phones and small computers: ncnn, ExecuTorch with XNNPACK, or CoreML.

All three take one picture per run. The file holds the fast form with its weights in the default memory layout:
ExecuTorch and ncnn do not read channels_last.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import subprocess
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lgmpose.errors import UserError, first_line
from lgmpose.files import write_atomically
from lgmpose.inference.backends import ExportedBackend
from lgmpose.inference.export.graph_files import Source
from lgmpose.network.fast import fast_form

__all__ = ["check_coreml", "write_edge"]


def write_edge(out: Path, source: Source, card: dict[str, Any]) -> None:
    """Write a network with its card; the suffix of ``out`` tells the format.

    * ``.param`` and ``.bin``: ncnn. The card is the last line of the ``.param``, which ncnn does not read.
    * ``.pte``: ExecuTorch. The card is what the program's method ``lgmpose`` returns.
    * ``.mlpackage``: CoreML, a folder. The card is in the user-defined metadata.

    Raises:
        UserError: the format's converter or runtime does not take the network, or the file cannot be written.
    """
    net = fast_form(source.net).to(memory_format=torch.contiguous_format)
    example = torch.rand(1, 3, *source.codec.image_hw, generator=torch.Generator().manual_seed(0))
    write = {".param": _write_ncnn, ".pte": _write_executorch, ".mlpackage": _write_coreml}[out.suffix.lower()]
    try:
        write(out, net, example, json.dumps(card))
    except (OSError, UserError):
        raise
    except Exception as error:  # the converters raise many kinds
        raise UserError(f"{out}: {source.weights['file']} cannot be converted ({first_line(error)})") from error


def _write_ncnn(out: Path, net: nn.Module, example: Tensor, card: str) -> None:
    import pnnx

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pnnx reads TorchScript only, and PyTorch warns that it is deprecated
        torch.jit.trace(net, (example,), check_trace=False).save(f"{folder}/net.pt")
        shape = f"inputshape={list(example.shape)}f32".replace(" ", "")
        done = subprocess.run([pnnx.EXEC_PATH, "net.pt", shape, "fp16=0"], cwd=folder, capture_output=True, text=True)
        graph, weights = Path(folder) / "net.ncnn.param", Path(folder) / "net.ncnn.bin"
        if done.returncode or not graph.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"{out}: pnnx cannot convert this network (exit status {done.returncode}: {last[:200]})")
        with graph.open("a") as file:
            file.write(card + "\n")
        try:
            ExportedBackend(graph, threads=1)
        except UserError as error:  # pnnx writes layers that ncnn lacks without an error
            raise UserError(f"{out}: ncnn lacks a layer of this network; export it as ONNX instead") from error
        write_atomically(out.with_suffix(".bin"), weights.read_bytes())
        write_atomically(out, graph.read_bytes())


def _write_executorch(out: Path, net: nn.Module, example: Tensor, card: str) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(
        torch.export.export(net, (example,)), partitioner=[XnnpackPartitioner()], constant_methods={"lgmpose": card}
    )
    write_atomically(out, lowered.to_executorch().buffer)


def _write_coreml(out: Path, net: nn.Module, example: Tensor, card: str) -> None:
    logging.getLogger("coremltools").setLevel(logging.ERROR)  # it says which versions of PyTorch were tested
    import coremltools
    import numpy as np

    with contextlib.redirect_stderr(io.StringIO()):  # progress bars of each step
        model = coremltools.convert(
            torch.export.export(net, (example,)).run_decompositions({}), skip_model_load=True,
            inputs=[coremltools.TensorType(name="images", shape=example.shape, dtype=np.float32)],
            outputs=[coremltools.TensorType(name="heatmaps", dtype=np.float32)],
            minimum_deployment_target=coremltools.target.iOS16,
        )  # fmt: skip
    model.user_defined_metadata["lgmpose"] = card
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        package = Path(folder) / "net.mlpackage"
        model.save(str(package))
        (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)  # notes for debugging the converter
        if out.is_dir():
            shutil.rmtree(out)
        os.replace(package, out)


def check_coreml(out: Path, source: Source) -> dict[str, Any]:
    """Compare a package's program with the network, print and return its shapes and layers. Nothing is run.

    Raises:
        UserError: another shape of the input or output, or fewer layers with weights; the package is removed.
    """
    import coremltools

    spec = coremltools.models.MLModel(str(out), skip_model_load=True).get_spec()
    ends = (spec.description.input[0], spec.description.output[0])
    shapes = [list(end.type.multiArrayType.shape) for end in ends]
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    operators = Counter(operation.type for operation in block.operations)
    layers = sum(operators[name] for name in ("conv", "conv_transpose", "linear"))
    wanted = [[1, 3, *source.codec.image_hw], [1, source.skeleton.num_keypoints, *source.codec.output_shape]]
    needed = sum(isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)) for module in source.net.modules())
    if shapes != wanted or layers < needed:
        shutil.rmtree(out)
        raise UserError(f"{out}: {shapes}, {layers} layers instead of {wanted}, {needed} layers; it was removed")
    print(f"its program: {shapes[0]} → {shapes[1]}, {layers} layers with weights, as in the network")
    print("not compared: heatmaps, accuracy and speed, since CoreML runs on Apple's systems only")
    return {"shapes": shapes, "layers": layers}
