"""Eight bits: what is quantised, what is not, and what it costs in accuracy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.inference.backends import ExportedBackend, TorchBackend
from lgmpose.inference.evaluate import evaluate
from lgmpose.inference.export import exporter
from lgmpose.zoo.cards import SPORTS_WEIGHTS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from lgmpose.inference.export.int8 import quantise  # noqa: E402


def graph_of(nodes, weights, in_shape, out_shape):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *in_shape])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["batch", *out_shape])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model, inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"images": inputs})[0]


def operators(model) -> list[str]:
    """What ONNX Runtime really runs, after its own rewriting."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling = True
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    shape = [side if isinstance(side, int) else 1 for side in session.get_inputs()[0].shape]
    session.run(None, {"images": np.zeros(shape, np.float32)})
    with open(session.end_profiling()) as events:
        return [event["args"]["op_name"] for event in json.load(events) if event["name"].endswith("_kernel_time")]


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # ONNX Runtime writes its profiles where it stands


INPUTS = np.random.default_rng(1).standard_normal((20, 3, 16, 24), np.float32)


def test_a_chain_of_convolutions_goes_to_8_bits_whole():
    rng, nodes, weights, x = np.random.default_rng(0), [], {}, "images"
    for i in range(4):
        weights[f"w{i}"] = rng.normal(size=(8, 3 if i == 0 else 8, 3, 3)) / 72**0.5
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], name=f"layer{i}", pads=[1] * 4))
        x = f"r{i}" if i < 3 else "heatmaps"
        nodes.append(helper.make_node("Relu", [f"c{i}"], [x], name=f"relu{i}"))
    model = graph_of(nodes, weights, (3, 16, 24), (8, 16, 24))
    before = model.SerializeToString()
    done = quantise(model, INPUTS)
    assert done.layers == 4 and model.SerializeToString() == before
    wanted, found = run(model, INPUTS), run(done.model, INPUTS)
    error = np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean())
    assert 0.001 < error < 0.05 and done.error == pytest.approx(error, rel=0.2)
    assert operators(done.model).count("QLinearConv") == 4
    tensors = {tensor.name: tensor for tensor in done.model.graph.initializer}
    assert {tuple(tensors[name].dims) for name in tensors if name.startswith("w") and "scale" in name} == {(8,)}
    points = {tensor.data_type for name, tensor in tensors.items() if "zero_point" in name and name[0] in "icr"}
    assert points == {TensorProto.UINT8}
    assert set(operators(done.model)) <= {"QuantizeLinear", "QLinearConv", "DequantizeLinear", "Transpose"}


def test_only_what_lies_between_8_bit_layers_joins_them():
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["a"], name="one"),
        helper.make_node("Conv", ["images", "v"], ["b"], name="two"),
        helper.make_node("Add", ["a", "b"], ["sum"], name="residual"),
        helper.make_node("Add", ["sum", "bias"], ["biased"], name="bias"),
        helper.make_node("Concat", ["sum", "images"], ["joined"], name="with the input", axis=1),
        helper.make_node("MatMul", ["biased", "m"], ["product"], name="product"),
        helper.make_node("Concat", ["product", "joined"], ["heatmaps"], name="all", axis=1),
    ]
    w, v = np.random.default_rng(0).normal(size=(2, 8, 3, 1, 1))
    weights = {"w": w, "v": v, "bias": np.ones(1), "m": np.ones((24, 24)) / 24}
    done = quantise(graph_of(nodes, weights, (3, 16, 24), (19, 16, 24)), INPUTS)
    graph = done.model.graph  # QuantizeLinear follows on what is in 8 bits
    quantised = {name for node in graph.node if node.op_type == "QuantizeLinear" for name in node.input}
    in_8_bits = {node.name for node in graph.node if set(node.output) & quantised}
    assert done.layers == 2 and in_8_bits == {"one", "two", "residual"}


@pytest.mark.slow
def test_the_shipped_network_loses_next_to_nothing(shared_data, tmp_path, monkeypatch):
    lspet, path = f"lspet:{shared_data / 'lspet_dataset.zip'}", tmp_path / "net.onnx"
    monkeypatch.setattr(exporter, "CALIBRATION_CROPS", 32)
    options = ["--weights", SPORTS_WEIGHTS.name, "--format", "int8", "--data", lspet]
    assert main(["export", *options, "--out", str(path)]) == 0
    eager, ours = TorchBackend(SPORTS_WEIGHTS, device="cpu"), ExportedBackend(path)
    record_set = load_records(lspet, "val").subset(range(100))
    figures = [evaluate(net, record_set, eager.codec, progress=False).figures["PCK@0.2"] for net in (ours, eager)]
    assert figures[0] > figures[1] - 1.0
    assert ours.card["precision"] == "int8" and ours.card["int8_layers"] == 42
    ran = operators(onnx.load(path))
    assert ran.count("QLinearConv") == 42 and not {"Conv", "FusedConv", "ConvTranspose"} & set(ran)
    assert path.stat().st_size < 1.4e6
