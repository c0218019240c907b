"""Quantise an ONNX graph to 8 bits: static quantisation of its convolutions by ONNX Runtime.

Activations become unsigned 8-bit numbers with one scale and zero point per tensor. Weights become signed 8-bit numbers
with one scale per output channel. A CPU's VNNI instructions multiply such pairs. Scales come from the smallest and
largest values on calibration crops. On the shipped network this is as accurate as entropy or percentiles, and cheaper.

Only convolutions are quantised, and what only moves, adds or clips numbers between them (``GLUE``). The matrix products
of LARM stay in fp32. They are between LayerNorm and GELU, which have no 8-bit form. Converting back and forth costs
more than the 8-bit product saves.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

__all__ = ["Quantised", "quantise"]

GLUE = ("Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "MaxPool", "Mul", "Relu", "Resize", "Slice", "Split")
PROBES = 16  # crops on which the error is measured


@dataclass(frozen=True)
class Quantised:
    """A graph in 8 bits.

    Attributes:
        model: the ONNX graph.
        layers: number of its convolutions, which are all in 8 bits.
        error: root mean square error of the heatmaps, relative to that of the heatmaps themselves.
    """

    model: onnx.ModelProto
    layers: int
    error: float


def quantise(model: onnx.ModelProto, inputs: np.ndarray) -> Quantised:
    """Return the graph in 8 bits.

    Args:
        model: the graph, from ``graph.export_graph``. It is not changed.
        inputs: (n, 3, H, W) float32, normalised crops to calibrate on.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quant_pre_process(str(source), str(source), skip_symbolic_shape=True)  # that step is for transformers
        graph = onnx.load(source).graph
        layers = {node.name for node in graph.node if node.op_type == "Conv"}
        logging.disable(logging.WARNING)  # it advises to do what has just been done
        try:
            quantize_static(
                source, target, _Reader(inputs), quant_format=QuantFormat.QDQ, per_channel=True,
                op_types_to_quantize=["Conv", *GLUE], nodes_to_quantize=_with_glue(graph, layers),
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
        probes = inputs[:: max(1, len(inputs) // PROBES)][:PROBES]
        exact = _run(source, probes)
        error = float(np.sqrt(np.square(_run(target, probes) - exact).mean() / np.square(exact).mean()))
        return Quantised(onnx.load(target), len(layers), error)


def _with_glue(graph: onnx.GraphProto, layers: Set[str]) -> list[str]:
    """Return the layers, and the glue whose inputs all come from them; nodes are in the order in which they run."""
    constants = {tensor.name for tensor in graph.initializer} | {""}
    chosen, in_8_bits = [], set()
    for node in graph.node:
        if node.op_type == "Constant":
            constants.update(node.output)
            continue
        from_8_bits = [name in in_8_bits for name in node.input if name not in constants]
        # A sum with a constant is a linear layer's bias; ONNX Runtime fuses it with the GELU after it.
        is_bias = node.op_type in ("Add", "Mul") and len(from_8_bits) < 2
        if node.name in layers or (node.op_type in GLUE and not is_bias and from_8_bits and all(from_8_bits)):
            in_8_bits.update(node.output)
            chosen.append(node.name)
    return chosen


class _Reader(CalibrationDataReader):
    def __init__(self, inputs: np.ndarray):
        self.waiting = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        one = next(self.waiting, None)
        return None if one is None else {"images": one[None]}


def _run(path: Path, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": one[None]})[0] for one in inputs])
