"""An ONNX graph in 8 bits: static quantisation of its convolutions by ONNX Runtime, and what is left as it is.

Numbers between layers become unsigned 8 bits, one scale and zero each; weights signed 8 bits, one scale per output
channel: the pair that a CPU's VNNI instructions multiply. Scales come from the smallest and largest values seen on
calibration crops: on the shipped network as good as cutting off the tails by entropy or a percentile, and much cheaper.

Which layers:

* Convolutions. A deconvolution whose stride is its kernel is written as a 1×1 convolution and a rearrangement of its
  channels, for ONNX Runtime has no 8-bit deconvolution. What only moves, adds or cuts off numbers between 8-bit layers
  (``GLUE``) stays in 8 bits, which saves going there and back.
* Not matrix products. They stand between LayerNorm and GELU, which have no 8-bit form: changing numbers there and back
  cost more than the product saved.
* Not convolutions that hurt. If the heatmaps of the whole 8-bit network are off by more than a tolerance, every
  layer is measured alone in 8 bits, and the fewest of the worst are left in fp32 that bring the error below it.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

__all__ = ["Quantised", "quantise"]

LAYERS = ("Conv",)
MATRIX_PRODUCTS = ("ConvTranspose", "Gemm", "MatMul")
GLUE = (
    "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "MaxPool", "Mul", "Relu", "Resize", "Slice", "Split",
)  # fmt: skip
# Of the heatmaps' root mean square. At 0.04 the shipped network's PCK was the same, at 0.19 PCKh had lost 0.4 points.
TOLERANCE = 0.1
PROBES = 16  # crops on which errors are measured


@dataclass(frozen=True)
class Quantised:
    """A graph in 8 bits and what was left in fp32.

    Attributes:
        model: the ONNX graph.
        layers: how many convolutions are in 8 bits.
        error: of the heatmaps on the probes, relative to their root mean square.
        left_for_accuracy: convolutions that hurt.
        left_for_speed: matrix products and deconvolutions, for which 8 bits would be no faster.
    """

    model: onnx.ModelProto
    layers: int
    error: float
    left_for_accuracy: tuple[str, ...]
    left_for_speed: tuple[str, ...]


def quantise(
    model: onnx.ModelProto, inputs: np.ndarray, *, tolerance: float = TOLERANCE, progress: bool = True
) -> Quantised:
    """The graph in 8 bits.

    Args:
        model: of ``graph.export_graph``; not changed.
        inputs: (n, 3, H, W) float32, normalised crops to calibrate on.
        tolerance: how far the heatmaps may be off, of their root mean square; infinity: nothing is left as it is.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _rewrite_deconvolutions(copy.graph)
    with tempfile.TemporaryDirectory() as folder:
        work = _Work(copy, inputs, Path(folder))
        layers = [node.name for node in work.graph.node if node.op_type in LAYERS]
        left: list[str] = []
        error = work.error(layers)
        if not error <= tolerance:  # NaN, too
            alone = {name: work.error([name]) for name in tqdm(layers, desc="layers", disable=not progress)}
            left = _fewest(sorted(layers, key=alone.get, reverse=True), lambda kept: work.error(kept) <= tolerance)
            layers = [name for name in layers if name not in left]
            error = work.error(layers)
        products = tuple(node.name for node in work.graph.node if node.op_type in MATRIX_PRODUCTS)
        return Quantised(work.quantised(layers), len(layers), error, tuple(left), products)


def _fewest(worst_first: list[str], fits) -> list[str]:
    """The shortest beginning of the list without which the rest ``fits``, by bisection."""
    low, high = 1, len(worst_first)  # with nothing in 8 bits there is no error
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(worst_first[middle:]) else (middle + 1, high)
    return worst_first[:high]


class _Work:
    """A graph with its calibration, to be quantised many times."""

    def __init__(self, model: onnx.ModelProto, inputs: np.ndarray, folder: Path):
        self.inputs, self.folder = inputs, folder
        self.source, self.target = folder / "fp32.onnx", folder / "int8.onnx"
        onnx.save(model, self.source)
        # Names change in it only where it adds nodes; the symbolic inference of its own is for transformers.
        quant_pre_process(str(self.source), str(self.source), skip_symbolic_shape=True)
        self.graph = onnx.load(self.source).graph
        self.probes = inputs[:: max(1, len(inputs) // PROBES)][:PROBES]
        self.wanted = _run(self.source, self.probes)

    def quantised(self, layers: Sequence[str]) -> onnx.ModelProto:
        """The graph with these layers in 8 bits, and the glue between them."""
        # It advises by logging; the ranges of its first run, which all later ones read, cover every node.
        logging.disable(logging.WARNING)
        try:
            quantize_static(
                self.source, self.target, _Reader(self.inputs), quant_format=QuantFormat.QDQ, per_channel=True,
                op_types_to_quantize=[*LAYERS, *GLUE], nodes_to_quantize=_with_glue(self.graph, set(layers)),
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax, calibration_cache_path=self.folder / "ranges.json",
            )  # fmt: skip
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(self.target)

    def error(self, layers: Sequence[str]) -> float:
        """How far heatmaps with these layers in 8 bits are off, relative to the heatmaps' root mean square."""
        if not layers:
            return 0.0
        self.quantised(layers)
        off = _run(self.target, self.probes) - self.wanted
        return float(np.sqrt(np.square(off).mean() / np.square(self.wanted).mean()))


class _Reader(CalibrationDataReader):
    def __init__(self, inputs: np.ndarray):
        self.waiting = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        one = next(self.waiting, None)
        return None if one is None else {"images": one[None]}


def _run(path: Path, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"images": one[None]})[0] for one in inputs])


def _with_glue(graph: onnx.GraphProto, chosen: set[str]) -> list[str]:
    """The chosen layers, and the glue all of whose numbers come from them; nodes are in the order in which they run."""
    constants = {tensor.name for tensor in graph.initializer} | {""}
    in_8_bits = set()
    for node in graph.node:
        if node.op_type == "Constant":
            constants.update(node.output)
            continue
        from_8_bits = [name in in_8_bits for name in node.input if name not in constants]
        # A sum with a constant is a linear layer's bias; ONNX Runtime joins it to the GELU after it.
        is_bias = node.op_type in ("Add", "Mul") and len(from_8_bits) < 2
        if node.name in chosen or (node.op_type in GLUE and not is_bias and from_8_bits and all(from_8_bits)):
            in_8_bits.update(node.output)
            chosen = chosen | {node.name}
    return [node.name for node in graph.node if node.name in chosen]


def _rewrite_deconvolutions(graph: onnx.GraphProto) -> None:
    """Deconvolutions whose kernel is their stride → 1×1 convolution, its activation, and ``DepthToSpace``."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    followers = {name: [n for n in graph.node if name in n.input] for node in graph.node for name in node.output}
    for node in [node for node in graph.node if node.op_type == "ConvTranspose"]:
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weight = onnx.numpy_helper.to_array(weights[node.input[1]])  # (C_in, C_out, kh, kw)
        C_in, C_out, *kernel = weight.shape
        plain = not any(options.get("pads", ())) and not any(options.get("output_padding", ()))
        if options.get("group", 1) != 1 or list(options.get("strides", (1, 1))) != kernel or not plain:
            continue
        if kernel[0] != kernel[1] or set(options.get("dilations", (1,))) != {1}:
            continue
        name, out = node.name, node.output[0]
        made = {f"{name}.weight": weight.transpose(1, 2, 3, 0).reshape(-1, C_in, 1, 1)}
        if len(node.input) > 2:
            made[f"{name}.bias"] = onnx.numpy_helper.to_array(weights[node.input[2]]).repeat(kernel[0] * kernel[1])
        graph.initializer.extend(onnx.numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in made.items())
        nodes = [helper.make_node("Conv", [node.input[0], *made], [f"{out}.deep"], name=f"{name}.as_1x1")]
        after = followers[out]
        if len(after) == 1 and after[0].op_type in ("Clip", "Relu"):  # of each number alone: as well before
            activation = after[0]
            out = activation.output[0]
            moved = helper.make_node(
                activation.op_type, [f"{node.output[0]}.deep", *activation.input[1:]], [f"{out}.deep"],
                name=activation.name,
            )  # fmt: skip
            nodes.append(moved)
            graph.node.remove(activation)
        nodes.append(helper.make_node(
            "DepthToSpace", nodes[-1].output, [out], name=f"{name}.spread", blocksize=kernel[0], mode="CRD"
        ))  # fmt: skip
        position = list(graph.node).index(node)
        graph.node.remove(node)
        for unused in node.input[1:]:
            graph.initializer.remove(weights[unused])
        for offset, new in enumerate(nodes):
            graph.node.insert(position + offset, new)
