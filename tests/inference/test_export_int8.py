"""Eight bits: what is quantised, what is left, and what it costs in accuracy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.data.batches import load_batches
from lgmpose.data.crops import CropDataset
from lgmpose.data.images import normalise
from lgmpose.inference.backends import OnnxBackend, TorchBackend
from lgmpose.inference.evaluate import evaluate
from lgmpose.zoo.cards import DEFAULT_WEIGHTS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from lgmpose.inference.export import command, int8  # noqa: E402
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
    file = session.end_profiling()
    with open(file) as events:
        return [event["args"]["op_name"] for event in json.load(events) if event["name"].endswith("_kernel_time")]


def chain(count: int, channels: int = 8, bad: int | None = None):
    """3×3 convolutions with ReLUs; before layer ``bad``, one channel is 3,000 times the size of the others."""
    rng = np.random.default_rng(0)
    nodes, weights, x = [], {}, "images"
    for i in range(count):
        weight = rng.normal(size=(channels, 3 if i == 0 else channels, 3, 3)) / (9 * channels) ** 0.5
        if bad is not None and i == bad - 1:
            weight[0] *= 3000
        if bad is not None and i == bad:
            weight[:, 0] /= 3000
        weights[f"w{i}"] = weight
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], name=f"layer{i}", pads=[1] * 4))
        x = f"r{i}" if i < count - 1 else "heatmaps"
        nodes.append(helper.make_node("Relu", [f"c{i}"], [x], name=f"relu{i}"))
    return graph_of(nodes, weights, (3, 16, 24), (channels, 16, 24))


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # ONNX Runtime writes its profiles where it stands


INPUTS = np.random.default_rng(1).standard_normal((20, 3, 16, 24), np.float32)


def test_a_good_chain_goes_to_8_bits_whole(in_folder):
    model = chain(4)
    done = quantise(model, INPUTS, progress=False)
    assert done.layers == 4 and done.left_for_accuracy == done.left_for_speed == ()
    wanted, found = run(model, INPUTS), run(done.model, INPUTS)
    error = np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean())
    assert 0.001 < error < 0.05 and done.error == pytest.approx(error, rel=0.5)
    assert operators(done.model).count("QLinearConv") == 4
    assert set(operators(done.model)) <= {"QuantizeLinear", "QLinearConv", "DequantizeLinear", "Transpose"}


@pytest.mark.parametrize("bad", [1, 3])
def test_layers_that_hurt_are_found_and_left(in_folder, bad):
    """Those that write and read the numbers of which one channel drowns the others: no more, no fewer."""
    model = chain(6, bad=bad)
    done = quantise(model, INPUTS, progress=False)
    assert set(done.left_for_accuracy) == {f"layer{bad - 1}", f"layer{bad}"}
    assert done.layers == 4 and done.error <= int8.TOLERANCE
    wanted, found = run(model, INPUTS), run(done.model, INPUTS)
    assert np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean()) < 1.3 * int8.TOLERANCE
    assert operators(done.model).count("QLinearConv") == 4


@pytest.mark.parametrize("needed", range(1, 8))
def test_no_more_layers_are_left_than_must_be(needed):
    names = [f"layer{i}" for i in range(7)]
    assert int8._fewest(names, lambda kept: len(kept) <= 7 - needed) == names[:needed]


@pytest.mark.parametrize("activation", [None, "Relu"])
def test_deconvolutions_become_convolutions(in_folder, activation):
    rng = np.random.default_rng(0)
    out = "heatmaps" if activation is None else "d"
    nodes = [helper.make_node("ConvTranspose", ["images", "w", "b"], [out], name="up", strides=[2, 2])]
    if activation:
        nodes.append(helper.make_node(activation, ["d"], ["heatmaps"], name="act"))
    model = graph_of(nodes, {"w": rng.normal(size=(3, 5, 2, 2)), "b": rng.normal(size=5)}, (3, 16, 24), (5, 32, 48))
    wanted = run(model, INPUTS)
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    int8._rewrite_deconvolutions(rewritten.graph)
    onnx.checker.check_model(rewritten)
    assert "ConvTranspose" not in {node.op_type for node in rewritten.graph.node}
    np.testing.assert_allclose(run(rewritten, INPUTS), wanted, atol=1e-6)
    done = quantise(model, INPUTS, progress=False)
    assert done.layers == 1 and "QLinearConv" in operators(done.model)
    assert np.abs(run(done.model, INPUTS) - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("options", [{"strides": [1, 1]}, {"strides": [2, 2], "pads": [1] * 4}, {"strides": [3, 3]}])
def test_other_deconvolutions_stay(options):
    weight = np.ones((3, 5, 2, 2))
    node = helper.make_node("ConvTranspose", ["images", "w"], ["heatmaps"], name="up", **options)
    model = graph_of([node], {"w": weight}, (3, 16, 24), (5, None, None))
    int8._rewrite_deconvolutions(model.graph)
    assert [n.op_type for n in model.graph.node] == ["ConvTranspose"]


def test_only_what_lies_between_8_bit_layers_joins_them():
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["a"], name="one"),
        helper.make_node("Conv", ["images", "w"], ["b"], name="two"),
        helper.make_node("Add", ["a", "b"], ["sum"], name="residual"),
        helper.make_node("Add", ["sum", "bias"], ["biased"], name="bias"),
        helper.make_node("Concat", ["sum", "images"], ["joined"], name="with the input", axis=1),
        helper.make_node("MatMul", ["a", "m"], ["heatmaps"], name="product"),
    ]
    model = graph_of(nodes, {"w": np.ones((8, 3, 1, 1)), "bias": np.ones(1), "m": np.ones((24, 24))}, (3, 16, 24), (8,))
    assert int8._with_glue(model.graph, {"one", "two"}) == ["one", "two", "residual"]
    assert int8._with_glue(model.graph, {"one"}) == ["one"]


@pytest.fixture(scope="module")
def lspet(shared_data):
    return f"lspet:{shared_data / 'lspet_dataset.zip'}"


@pytest.fixture(scope="module")
def shipped(lspet, tmp_path_factory):
    """The shipped weights in 8 bits, calibrated on fewer crops than usual."""
    path = tmp_path_factory.mktemp("int8") / "net.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "CALIBRATION_CROPS", 32)
        assert main(["export", "--out", str(path), "--format", "int8", "--data", lspet]) == 0
    return path


def test_the_shipped_network_loses_next_to_nothing(shipped, lspet):
    eager, ours = TorchBackend(DEFAULT_WEIGHTS, device="cpu"), OnnxBackend(shipped)
    record_set = load_records(lspet, "val").subset(range(100))
    figures = [
        evaluate(net, record_set, eager.codec, workers=0, progress=False).figures["PCK@0.2"] for net in (ours, eager)
    ]
    assert figures[0] > figures[1] - 1.0
    (batch,) = load_batches(CropDataset(record_set, (128, 128)), [list(range(16))], workers=0)
    wanted, found = eager.heatmaps(batch["image"]), ours.run(normalise(batch["image"]))
    relative = np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean())
    assert 0.005 < relative < int8.TOLERANCE


def test_the_shipped_networks_card_names_its_layers(shipped, in_folder):
    card = OnnxBackend(shipped).card
    assert card["precision"] == "int8" and card["int8_layers"] == 42 and card["fp32_for_accuracy"] == []
    assert len(card["fp32_for_speed"]) == 8 and all("larm" in name for name in card["fp32_for_speed"])
    ran = operators(onnx.load(shipped))
    assert ran.count("QLinearConv") == 42 and not {"Conv", "FusedConv", "ConvTranspose"} & set(ran)
    assert shipped.stat().st_size < 1.4e6
