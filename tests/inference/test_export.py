"""Exported files: what the network says, without PyTorch; with a card that fits; and every way to get it wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from peer_tools import randomise, slow

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.data.batches import load_batches, to_input
from lgmpose.data.crops import CropDataset
from lgmpose.data.images import IMAGE_MEAN, IMAGE_STD, normalise
from lgmpose.data.records import RecordSet
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.inference.backends import OnnxBackend, OpenVINOBackend, TorchBackend, open_backend
from lgmpose.inference.evaluate import evaluate, predict_records
from lgmpose.inference.export import command, verify
from lgmpose.inference.export.exporter import FORMATS, Source, _card, _precision, write_graph
from lgmpose.inference.predictor import Predictor
from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.peers.ditehrnet import DiteHRNet, DynamicConv
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO, LSP, skeleton_from_category
from lgmpose.zoo import catalogue as zoo
from lgmpose.zoo.cards import DEFAULT_WEIGHTS, SEAL, weights_hash

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from lgmpose.inference.export.graph import StackedDynamicConv, export_graph  # noqa: E402  it needs them

ROOT = Path(__file__).resolve().parents[2]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The shipped weights, exported as anybody would."""
    path = tmp_path_factory.mktemp("exported") / "net.onnx"
    assert main(["export", "--out", str(path)]) == 0
    return path


def _without_card(path):
    model = onnx.load(path)
    del model.metadata_props[:]
    return model


@pytest.fixture(scope="module")
def eager():
    return TorchBackend(DEFAULT_WEIGHTS, device="cpu")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    make_synthetic(folder, 12, seed=5, image_hw=(128, 160), progress=False)
    return f"synthetic:{folder}"


@pytest.fixture
def as_openvino(shipped, tmp_path):
    """The same graph as OpenVINO's files; exporting it anew would take seconds."""
    pytest.importorskip("openvino")
    path = tmp_path / "net.xml"
    write_graph(path, _without_card(shipped), OnnxBackend(shipped).card | {"seal": SEAL})
    return path


def test_formats_say_how_exact_they_are():
    expected = {"onnx": "fp32", "openvino": "fp32", "openvino-bf16": "bf16", "int8": "int8", "openvino-int8": "int8"}
    assert {name: _precision(name) for name in FORMATS} == expected


def test_bfloat16_is_asked_for_by_the_card(as_openvino, shipped, tmp_path):
    """Close to fp32, and not equal to it, on a processor that has bfloat16."""
    path = tmp_path / "bf16.xml"
    write_graph(path, _without_card(shipped), OnnxBackend(shipped).card | {"seal": SEAL, "precision": "bf16"})
    crops = noise(2, 128, 128, 3)
    rounded, exact = (OpenVINOBackend(file, threads=1).heatmaps(crops) for file in (path, as_openvino))
    off = np.sqrt(np.square(rounded - exact).mean() / np.square(exact).mean())
    assert off < 0.05
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert off > 1e-5


# --- the same function ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 3])
def test_onnx_says_what_pytorch_says_for_any_number_of_crops(shipped, eager, count):
    crops = noise(count, 128, 128, 3)
    found = open_backend(shipped, threads=1).heatmaps(crops)
    assert found.dtype == np.float32 and found.shape == (count, 14, 32, 32)
    wanted = eager.heatmaps(crops)
    assert np.abs(wanted).max() > 0.1, "a network that sees nothing proves nothing"
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_openvino_says_the_same(as_openvino, eager):
    assert isinstance(open_backend(as_openvino, threads=1), OpenVINOBackend)
    backend = OpenVINOBackend(as_openvino, threads=1)
    for count in (3, 1):
        crops = noise(count, 128, 128, 3, seed=count)
        first = backend.heatmaps(crops)
        kept = first.copy()
        np.testing.assert_allclose(first, eager.heatmaps(crops), atol=1e-4)
        backend.heatmaps(crops[:, ::-1].copy())
        np.testing.assert_array_equal(first, kept)  # its buffer is its own, and overwritten by the next run


def test_normalise_is_to_input_to_the_bit():
    crops = noise(2, 6, 5, 3)
    np.testing.assert_array_equal(normalise(crops), to_input(torch.from_numpy(crops)).numpy())


def test_predictor_finds_the_same_joints(shipped):
    picture, boxes = noise(90, 120, 3), [[10, 5, 60, 70], [50, -10, 90, 60.5]]
    ours, theirs = (Predictor(file, device="cpu")(picture, boxes) for file in (shipped, DEFAULT_WEIGHTS))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
        near = np.abs(one.keypoints_xy - other.keypoints_xy).max(axis=1) < 0.1
        assert near[other.scores > 0.1].all() and (other.scores > 0.1).any()
        assert one.skeleton is LSP


def test_real_persons_get_the_same_pck(shipped, eager, shared_data):
    record_set = load_records(f"lspet:{shared_data / 'lspet_dataset.zip'}", "val").subset(range(24))
    evaluations = [
        evaluate(net, record_set, eager.codec, workers=workers, progress=False, batch_size=10)
        for net, workers in ((OnnxBackend(shipped), 2), (eager.net, 0))
    ]
    ours, theirs = (evaluation.predictions for evaluation in evaluations)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    assert evaluations[0].figures == evaluations[1].figures and evaluations[0].figures["PCK@0.2"] > 20


LIGHT = ("small-hrnet", "mobilevit-xxs")


@pytest.mark.parametrize("name", slow(zoo.list_models(), LIGHT))
def test_every_network_of_the_catalogue_exports(name, tmp_path):
    """Random statistics make some of the deep ones chaotic: they may be off by what rounding does to PyTorch itself."""
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    image_hw = (64, 64) if name.startswith("tokenpose") else (96, 64)
    gain = 1.4 if name.startswith(("mobilevit", "shufflenetv2")) else 1.0  # by which two pictures differ at the end
    net = randomise(zoo.create_model(name, image_hw=image_hw), gain=gain).float()
    onnx.save(export_graph(net, image_hw), tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    images = torch.randn(3, 3, *image_hw)
    with torch.inference_mode():
        wanted = net(images).numpy()
        rounding = np.abs(net.double()(images.double()).numpy() - wanted).max()
    tolerance = max(1e-4, 5 * rounding)
    spread = float(np.ptp(wanted, axis=0).max())
    assert spread > 10 * tolerance, "a network that looks at nothing, or rounds a lot, proves nothing"
    for count in (1, 3):  # another number of pictures than it was exported with
        (found,) = session.run(None, {"images": images[:count].numpy()})
        np.testing.assert_allclose(found, wanted[:count], atol=tolerance)


@pytest.mark.parametrize("groups, stride", [(1, 1), (4, 2), (8, 1)])
def test_a_dynamic_convolution_is_the_sum_of_its_kernels(groups, stride):
    torch.manual_seed(0)
    dynamic = DynamicConv(8, 16, kernel=3, num_kernels=4, stride=stride, groups=groups)
    randomise(dynamic)
    x = torch.randn(3, 8, 7, 10, dtype=torch.float64)
    torch.testing.assert_close(StackedDynamicConv(dynamic)(x), dynamic(x))


# --- without PyTorch --------------------------------------------------------------------------------------------------
def test_no_torch_is_imported_from_start_to_keypoints(shipped, tmp_path):
    code = f"""
import sys, numpy as np, lgmpose, lgmpose.inference.evaluate, lgmpose.inference.predict_files
poses = lgmpose.Predictor({str(shipped)!r}, threads=1)(np.zeros((40, 30, 3), np.uint8) + 99, [[2, 3, 20, 30]])
print(poses[0].keypoints_xy.shape, [name for name in ("torch", "scipy", "matplotlib", "onnx") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout == "(14, 2) []\n", run.stderr


def test_eval_takes_an_exported_file_without_torch(people, shipped, tmp_path):
    content = _export_small(tmp_path / "small.onnx")
    assert content["skeleton"]["name"] == "coco-17"
    code = f"""
import sys
from lgmpose.cli import main
status = main(["eval", "--data", {people!r}, "--weights", {str(tmp_path / "small.onnx")!r}, "--limit", "2"])
print(status, "torch" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.splitlines()[-1] == "0 False", run.stdout + run.stderr
    assert "weights: small.onnx" in run.stdout and "input: 32×64" in run.stdout


def _export_small(path):
    """A tiny graph with the card of a 32 × 64 network for COCO's joints; → the card."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["images", "w"], ["heatmaps"], strides=[4, 4])],
        "g",
        [onnx.helper.make_tensor_value_info("images", 1, ["batch", 3, 32, 64])],
        [onnx.helper.make_tensor_value_info("heatmaps", 1, ["batch", 17, 8, 16])],
        [onnx.numpy_helper.from_array(np.ones((17, 3, 4, 4), np.float32) / 48, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    net = zoo.create_model("lgm-pose-coco-256x192", image_hw=(32, 64))
    card = _card(Source(net, COCO, make_codec("dark", (32, 64)), {"file": "x", "sha256": "none"}), "fp32")
    write_graph(path, model, card)
    return card


# --- the card ---------------------------------------------------------------------------------------------------------
def test_the_card_says_all_that_is_needed(shipped, eager):
    text = {entry.key: entry.value for entry in onnx.load(shipped).metadata_props}["lgmpose"]
    card = json.loads(text)
    assert card["kind"] == "export" and card["precision"] == "fp32"
    assert card["image_hw"] == [128, 128] and (card["mean"], card["std"]) == (list(IMAGE_MEAN), list(IMAGE_STD))
    assert card["codec"] == {"name": "dark", "sigma": eager.codec.sigma}
    assert card["weights"] == {"file": DEFAULT_WEIGHTS.name, "sha256": weights_hash(DEFAULT_WEIGHTS)}
    assert card["network"]["num_keypoints"] == 14 and card["skeleton"]["joint_names"] == list(LSP.joint_names)
    assert re.fullmatch(r"lgmpose-seal:[0-9a-f]{64}", card["seal"])
    backend = OnnxBackend(shipped)
    options = backend.session.get_session_options()  # its threads leave the cores to others after a run
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert backend.source == {"file": "net.onnx", "sha256": weights_hash(shipped)}
    assert backend.skeleton is LSP and repr(backend.codec) == repr(eager.codec) and backend.image_hw == (128, 128)


def test_the_file_is_lean_and_tells_nothing_of_this_machine(shipped):
    model = onnx.load(shipped)
    assert {node.op_type for node in model.graph.node}.isdisjoint({"BatchNormalization"})
    assert "stem.0/Conv" in {node.name for node in model.graph.node}
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    data = shipped.read_bytes()
    assert str(ROOT).encode() not in data and b"site-packages" not in data and b".py" not in data
    params = sum(np.prod(tensor.dims) for tensor in model.graph.initializer)
    assert len(data) < 4.1 * params


# --- bad input --------------------------------------------------------------------------------------------------------
def error_of(capsys, *arguments) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out", "net.pt"], "net.pt: --format onnx is written as .onnx"),
        (["--out", "net.onnx", "--format", "openvino"], "--format openvino is written as .xml"),
        (["--out", "file/net.onnx"], "file/net.onnx: cannot be written"),
        (["--out", "folder.onnx"], "folder.onnx: a folder"),
        (["--out", "net.onnx", "--verify", "--json", "file/v.json"], "file/v.json: cannot be written"),
        (["--out", "net.onnx", "--json", "v.json"], "add --verify"),
        (["--out", "net.onnx", "--format", "int8"], "int8 is calibrated on training crops: name them by --data"),
        (["--out", "net.onnx", "--data", "synthetic:x"], "--data is for 8 bits and --verify"),
        (["--out", "net.onnx", "--verify", "--data", "coco:x", "--annotations", "t.json"], "takes --val-annotations"),
        (["--out", "net.onnx", "--verify", "--val-annotations", "v.json"], "for --verify with --data"),
        (["--out", "net.onnx", "--model", "hrnet-w23"], "no model 'hrnet-w23'; did you mean hrnet-w32?"),
        (["--out", "net.onnx", "--model", "hrnet-w32", "--weights", "w.safetensors"], "leave out --model"),
        (["--out", "net.onnx", "--num-keypoints", "3"], "--num-keypoints belongs to --model"),
        (["--out", "net.onnx", "--weights", "gone.safetensors"], "gone.safetensors: no such weights file"),
        (["--out", "net.onnx", "--image-hw", "90", "64"], "multiples of 32"),
        (["--out", "net.onnx", "--format", "int8", "--data", "lspet:gone.zip"], "gone.zip"),
    ],
)  # fmt: skip
def test_what_can_be_wrong_is_said_before_anything_is_exported(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.onnx.export", lambda *args, **options: pytest.fail("it has started"))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.onnx").mkdir()
    assert message in error_of(capsys, "export", *arguments)
    assert not (tmp_path / "net.onnx").exists()


def test_data_of_other_joints_is_refused(people, tmp_path, capsys):
    message = error_of(capsys, "export", "--out", tmp_path / "n.onnx", "--format", "int8", "--data", people)
    assert "coco-17" in message and "lsp-14" in message


@pytest.mark.parametrize("same", [True, False])
def test_own_data_in_cocos_format(people, tmp_path, monkeypatch, capsys, same):
    """Files of any name, and a category called otherwise than the weights': what counts is the joints, in order."""
    folder = Path(people.partition(":")[2])
    content = json.loads((folder / "annotations.json").read_text())
    (category,) = content["categories"]
    category["keypoints"] = [f"{joint}_of_puppet" for joint in category["keypoints"]]
    torch.manual_seed(0)
    net = LGMPose(LGMPoseConfig((64, 64), 17))
    skeleton = skeleton_from_category(category | {"name": "marionette", "skeleton": []})
    zoo.save_weights(tmp_path / "own.safetensors", net, skeleton, make_codec("dark", (64, 64)))
    if not same:
        category["keypoints"][3:5] = category["keypoints"][4:2:-1]
    for name in ("train.json", "val.json"):
        (tmp_path / name).write_text(json.dumps(content))
    taken, real = [], command.load_records

    def stop(*_):
        raise UserError("all data are there")

    monkeypatch.setattr(command, "load_records", lambda *a, **k: taken.append(real(*a, **k)) or taken[-1])
    monkeypatch.setattr("lgmpose.inference.export.graph.export_graph", stop)
    arguments = ["--weights", tmp_path / "own.safetensors", "--format", "int8", "--verify", "--data", f"coco:{folder}"]
    files = ["--annotations", tmp_path / "train.json", "--val-annotations", tmp_path / "val.json"]
    message = error_of(capsys, "export", "--out", tmp_path / "n.onnx", *arguments, *files)
    if same:
        assert message == "all data are there"
        assert [Path(record_set.annotation_file).name for record_set in taken] == ["train.json", "val.json"]
    else:
        assert "train.json: has skeleton" in message and "same joints in the same order" in message


@pytest.mark.parametrize(
    "module, arguments",
    [
        ("onnx", ["--out", "n.onnx"]),
        ("onnxscript", ["--out", "n.onnx"]),
        ("onnxruntime", ["--out", "n.onnx", "--format", "int8", "--data", "synthetic"]),
        ("onnxruntime", ["--out", "n.onnx", "--verify"]),
        ("openvino", ["--out", "n.xml", "--format", "openvino"]),
    ],
)
def test_a_missing_runtime_is_named_with_its_extra(module, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _hide(monkeypatch, module)
    extra = "openvino" if module == "openvino" else "onnx"
    assert f"needs {module}: pip install 'lgmpose[{extra}]'" in error_of(capsys, "export", *arguments)


def _hide(monkeypatch, module):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else find_spec(name))


def test_a_missing_runtime_is_named_when_a_file_is_opened(shipped, as_openvino, monkeypatch):
    _hide(monkeypatch, "onnxruntime")
    with pytest.raises(UserError, match=r"net.onnx: an ONNX file, which needs onnxruntime: .*lgmpose\[onnx\]"):
        Predictor(shipped)
    _hide(monkeypatch, "openvino")
    with pytest.raises(UserError, match=r"net.xml: an OpenVINO file, which needs openvino: .*lgmpose\[openvino\]"):
        Predictor(as_openvino)


def _changed(data: bytes, kind: str) -> bytes:
    if kind == "cut short":
        return data[: len(data) // 2]
    if kind == "no ONNX":
        return b"\x89PNG" + data[:100]
    if kind == "empty":
        return b""
    if kind == "a weight":
        return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    if kind == "the card":
        return data.replace(b'"name": "dark"', b'"name": "darq"')
    if kind == "the seal":
        start = data.index(b"lgmpose-seal:") + 13
        return data[:start] + (b"1" if data[start : start + 1] == b"0" else b"0") + data[start + 1 :]
    raise ValueError(kind)


@pytest.mark.parametrize(
    "kind, message",
    [
        ("cut short", "not a whole ONNX file"),
        ("no ONNX", "not a whole ONNX file"),
        ("empty", "not a whole ONNX file"),
        ("a weight", r"changed since it was exported \(its hash does not fit\)"),
        ("the card", r"changed since it was exported"),
        ("the seal", r"changed since it was exported"),
    ],
)
def test_a_damaged_file_is_refused(shipped, tmp_path, kind, message):
    path = tmp_path / "bad.onnx"
    path.write_bytes(_changed(shipped.read_bytes(), kind))
    assert path.read_bytes() != shipped.read_bytes()
    with pytest.raises(UserError, match=f"bad.onnx: {message}"):
        Predictor(path)


def test_files_of_others_and_misfits_are_refused(shipped, tmp_path):
    onnx.save(_without_card(shipped), tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match="foreign.onnx: not one of lgmpose's: it carries no card; `lgmpose export`"):
        Predictor(tmp_path / "foreign.onnx")
    card = OnnxBackend(shipped).card | {"seal": SEAL}
    for name, changes, message in (
        ("misfit", {"image_hw": [128, 96]}, "its card does not fit its graph"),
        ("newer", {"version": 99}, "of a newer lgmpose"),
        ("unsealed", {"seal": "none"}, "its card is damaged"),
    ):
        write_graph(tmp_path / f"{name}.onnx", _without_card(shipped), card | changes)
        with pytest.raises(UserError, match=f"{name}.onnx: .*{message}"):
            Predictor(tmp_path / f"{name}.onnx")


def test_damaged_openvino_files_are_refused(as_openvino):
    weights = as_openvino.with_suffix(".bin")
    data = weights.read_bytes()
    weights.write_bytes(_changed(data, "a weight"))
    with pytest.raises(UserError, match="net.xml: changed since it was exported"):
        Predictor(as_openvino)
    weights.unlink()
    with pytest.raises(UserError, match="net.bin: missing; it belongs to net.xml"):
        Predictor(as_openvino)
    as_openvino.write_text("<net/>")
    with pytest.raises(UserError, match="net.xml: not a whole OpenVINO file"):
        Predictor(as_openvino)


def test_an_exported_file_has_one_size_and_one_device(people, tmp_path, capsys):
    _export_small(tmp_path / "small.onnx")
    data = ["--data", people, "--weights", tmp_path / "small.onnx", "--limit", "2"]
    assert "exported for 32×64" in error_of(capsys, "eval", *data, "--image-hw", "64", "64")
    assert "runs on the CPU, not on 'cuda'" in error_of(capsys, "eval", *data, "--device", "cuda")
    assert "threads 0: at least 1" in error_of(capsys, "eval", *data, "--threads", "0")
    with pytest.raises(UserError, match="gone.onnx: no such file"):
        Predictor(tmp_path / "gone.onnx")


# --- the commands that take it ----------------------------------------------------------------------------------------
def test_predict_and_compare_take_it(shipped, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), noise(60, 44, 3))
    picture, out = str(tmp_path / "a.png"), tmp_path / "out"
    assert main(["predict", picture, "--weights", str(shipped), "--out", str(out), "--threads", "1"]) == 0
    assert json.loads((out / "a.json").read_text())["weights"]["file"] == "net.onnx"
    pytest.importorskip("matplotlib")
    figure = tmp_path / "figure.png"
    assert main(["compare", picture, "--weights", str(shipped), "--out", str(figure)]) == 0
    assert figure.stat().st_size > 1000


def test_unreadable_pictures_are_counted_or_refused(people, tmp_path):
    _export_small(tmp_path / "small.onnx")
    backend = OnnxBackend(tmp_path / "small.onnx", threads=1)
    records = list(load_records(people).records[:5])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    records[3] = replace(records[3], image=str(tmp_path / "bad.png"))
    record_set = RecordSet("x", backend.skeleton, tuple(records), "given")
    options = {"skeleton": backend.skeleton, "batch_size": 3, "progress": False}
    for workers in (0, 2):
        with pytest.raises(UserError, match="bad.png.*--bad-images skip"):
            predict_records(backend, record_set, backend.codec, workers=workers, **options)
        found = predict_records(backend, record_set, backend.codec, workers=workers, bad_images="skip", **options)
        assert np.flatnonzero(found.unread).tolist() == [3] and np.isnan(found.keypoints_xy[3]).all()
        assert np.isfinite(found.keypoints_xy[[0, 1, 2, 4]]).all()


def test_batches_come_in_order_with_any_number_of_threads(people):
    dataset = CropDataset(load_records(people), (32, 64))
    keys = [[3, 1], [0], [5, 2, 4]]
    alone = list(load_batches(dataset, keys, workers=0))
    for workers in (1, 3):
        for one, other in zip(alone, load_batches(dataset, keys, workers=workers), strict=True):
            assert one.keys() == other.keys()
            for name in ("index", "image", "matrix"):
                np.testing.assert_array_equal(one[name], other[name])
    assert [batch["index"].tolist() for batch in alone] == keys


# --- verification -----------------------------------------------------------------------------------------------------
@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(verify, "CROPS", 6)
    monkeypatch.setattr(verify, "RANDOM_INPUTS", 2)
    monkeypatch.setattr(verify, "ROUNDS", 10)


def test_verify_reports_and_keeps_what_it_finds(shipped, eager, quick, tmp_path, monkeypatch, capsys, shared_data):
    monkeypatch.setattr("lgmpose.inference.export.graph.export_graph", lambda net, image_hw: _without_card(shipped))
    monkeypatch.setattr("lgmpose.inference.export.exporter._records", lambda *_: _val(shared_data))
    out, file = tmp_path / "net.onnx", tmp_path / "verified.json"
    arguments = ["--verify", "--data", "lspet:any", "--json", str(file)]
    assert main(["export", "--out", str(out), *arguments]) == 0
    found = json.loads(file.read_text())["verified"]
    assert max(found["largest_difference"].values()) <= 1e-4 and found["crops"] == 6
    assert found["accuracy"]["eager"] == found["accuracy"]["exported"]
    assert found["speed"]["rounds"] >= 10 and found["speed"]["times_faster_than"]["eager"] > 0
    text = capsys.readouterr().out
    assert "largest difference" in text and "PCK@0.2" in text and "× eager" in text


def _val(shared_data):
    return load_records(f"lspet:{shared_data / 'lspet_dataset.zip'}", "val").subset(range(6))


def _with_bias_off_by(change, shipped):
    model = _without_card(shipped)
    bias = next(t for t in model.graph.initializer if t.name == "head.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(change), bias.name))
    return model


@pytest.mark.parametrize(("change", "message"), [(3e-4, "more than 0.0001"), (np.nan, "by nan")])
def test_verify_refuses_another_function(shipped, quick, tmp_path, monkeypatch, capsys, change, message):
    model = _with_bias_off_by(change, shipped)
    monkeypatch.setattr("lgmpose.inference.export.graph.export_graph", lambda net, image_hw: model)
    (tmp_path / "net.bin").write_bytes(b"")  # as beside an OpenVINO file of that name, which has nothing to do with it
    assert main(["export", "--out", str(tmp_path / "net.onnx"), "--verify"]) == 2
    assert message in capsys.readouterr().err and [file.name for file in tmp_path.iterdir()] == ["net.bin"]


def test_a_refused_openvino_file_goes_with_its_bin(shipped, quick, tmp_path, monkeypatch, capsys):
    pytest.importorskip("openvino")
    model = _with_bias_off_by(3e-4, shipped)
    monkeypatch.setattr("lgmpose.inference.export.graph.export_graph", lambda net, image_hw: model)
    assert main(["export", "--out", str(tmp_path / "net.xml"), "--format", "openvino", "--verify"]) == 2
    assert "net.xml: its heatmaps differ" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_dynamic_kernels_are_exported_for_any_number_of_pictures(tmp_path):
    """Dite-HRNet's, which depend on the picture; whole ones are exported where there is time (see above)."""
    torch.manual_seed(0)
    net = randomise(DiteHRNet(5, modules=(1, 1, 1))).float().eval()
    onnx.save(export_graph(net, (64, 64)), tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    x = torch.rand(3, 3, 64, 64)
    for count in (1, 3):
        with torch.inference_mode():
            expected = net(x[:count]).numpy()
        (found,) = session.run(None, {"images": x[:count].numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_a_network_without_weights_can_be_exported_to_be_timed(tmp_path):
    out = tmp_path / "net.onnx"
    assert main(["export", "--out", str(out), "--model", "small-hrnet", "--image-hw", "64", "32"]) == 0
    (found,) = onnxruntime.InferenceSession(out).run(None, {"images": np.zeros((2, 3, 64, 32), np.float32)})
    assert found.shape == (2, 17, 16, 8)


def test_a_file_in_8_bits_is_timed_beside_one_in_fp32(quick, tmp_path, monkeypatch):
    calls = []
    source = SimpleNamespace(codec=SimpleNamespace(image_hw=(64, 32)))
    monkeypatch.setattr(verify, "_eager", lambda *_: calls.append("eager"))
    monkeypatch.setattr("lgmpose.inference.export.exporter.write_graph", lambda path, graph, card: calls.append(card["precision"]))
    fp32 = SimpleNamespace(run=lambda inputs: calls.append("the fp32 file"))
    monkeypatch.setattr(verify, "open_backend", lambda path, threads: fp32)
    backend = SimpleNamespace(run=lambda inputs: calls.append("the file"))
    found = verify._speed(source, backend, {"precision": "int8"}, None, tmp_path / "net.onnx")
    assert calls[0] == "fp32" and calls.count("the fp32 file") == calls.count("the file") == calls.count("eager") > 0
    assert set(found["times_faster_than"]) == {"eager", "fp32 in the same runtime"}
    threads, broken = torch.get_num_threads(), SimpleNamespace(run=lambda inputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        verify._speed(source, broken, {"precision": "fp32"}, None, tmp_path / "net.onnx")
    assert torch.get_num_threads() == threads
