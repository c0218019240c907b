"""Exported files: what the network computes, without PyTorch; with a card that fits; and every way to get it wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from inference_tools import noise, write_png
from peer_tools import randomise

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.data.batches import to_input
from lgmpose.data.images import IMAGE_MEAN, IMAGE_STD, normalise
from lgmpose.errors import UserError
from lgmpose.inference.backends import ExportedBackend, open_backend, run_module
from lgmpose.inference.export import verify
from lgmpose.inference.export.graph_files import Source, make_card, write_graph
from lgmpose.inference.figures import Evaluation
from lgmpose.inference.options import ExportConfig
from lgmpose.inference.predictor import Predictor
from lgmpose.network.layers import ConvNormAct
from lgmpose.peers.ditehrnet import DiteHRNet, DynamicConv
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO, skeleton_from_category
from lgmpose.zoo import catalogue as zoo
from lgmpose.zoo.cards import DEFAULT_WEIGHTS, weights_hash

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from lgmpose.inference.export.graph import StackedDynamicConv, export_graph  # noqa: E402  it needs them

ROOT = Path(__file__).resolve().parents[2]


def small_graph(image_hw=(32, 64), weight=1 / 48):
    """One convolution that stands for a network of COCO's joints."""
    H, W = image_hw
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["images", "w"], ["heatmaps"], strides=[4, 4])],
        "g",
        [onnx.helper.make_tensor_value_info("images", 1, ["batch", 3, H, W])],
        [onnx.helper.make_tensor_value_info("heatmaps", 1, ["batch", 17, H // 4, W // 4])],
        [onnx.numpy_helper.from_array(np.full((17, 3, 4, 4), weight, np.float32), "w")],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


class SmallNet(torch.nn.Module):
    """What ``small_graph`` computes."""

    config = zoo.create_model("lgm-pose-coco-256x192", image_hw=(32, 64)).config

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((17, 3, 4, 4), 1 / 48), requires_grad=False)

    def forward(self, x):
        return torch.nn.functional.conv2d(x, self.weight, stride=4)


def small_source():
    return Source(SmallNet().eval(), COCO, make_codec("dark", (32, 64)), {"file": "x", "sha256": "none"})


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.onnx"
    write_graph(path, small_graph(), make_card(small_source(), "fp32"))
    return path


# --- the same function ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["net.onnx", "net.xml"])
def test_both_runtimes_compute_what_pytorch_does_for_any_number_of_crops(tmp_path, name):
    if name.endswith(".xml"):
        pytest.importorskip("openvino")
    write_graph(tmp_path / name, small_graph(), make_card(small_source(), "fp32"))
    backend = open_backend(tmp_path / name, threads=1)
    assert isinstance(backend, ExportedBackend)
    for count in (3, 1):
        crops = noise(count, 32, 64, 3, seed=count)
        found = backend.heatmaps(crops)
        assert found.dtype == np.float32 and found.shape == (count, 17, 8, 16)
        kept = found.copy()
        np.testing.assert_allclose(found, run_module(SmallNet(), crops), atol=1e-5)
        backend.heatmaps(crops[:, ::-1].copy())
        np.testing.assert_array_equal(found, kept)  # not a buffer that the next run overwrites


def test_bfloat16_is_asked_for_by_the_card(tmp_path):
    """Close to fp32, and not equal to it, on a processor that has bfloat16."""
    pytest.importorskip("openvino")
    crops, found = noise(2, 32, 64, 3), {}
    for precision in ("bf16", "fp32"):
        write_graph(tmp_path / f"{precision}.xml", small_graph(), make_card(small_source(), precision))
        found[precision] = ExportedBackend(tmp_path / f"{precision}.xml", threads=1).heatmaps(crops)
    off = np.sqrt(np.square(found["bf16"] - found["fp32"]).mean() / np.square(found["fp32"]).mean())
    assert off < 0.05
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert off > 1e-5


@pytest.mark.slow
def test_the_shipped_weights_as_anybody_would_export_them(tmp_path, capsys):
    assert main(["export", "--out", str(tmp_path / "net.onnx"), "--verify"]) == 0  # refuses a difference above 1e-4
    assert main(["export", "--out", str(tmp_path / "net.xml"), "--format", "openvino", "--verify"]) == 0
    picture, boxes = skimage.data.astronaut(), [[60, 5, 330, 420], [100, -10, 90, 60.5]]
    theirs = Predictor(DEFAULT_WEIGHTS, device="cpu")(picture, boxes)
    assert (theirs[0].scores > 0.2).sum() > 5
    for name in ("net.onnx", "net.xml"):
        for one, other in zip(Predictor(tmp_path / name)(picture, boxes), theirs, strict=True):
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
            sure = other.scores > 0.2
            np.testing.assert_allclose(one.keypoints_xy[sure], other.keypoints_xy[sure], atol=0.1)
            assert one.skeleton is COCO


def test_normalise_is_to_input_to_the_bit():
    crops = noise(2, 6, 5, 3)
    np.testing.assert_array_equal(normalise(crops), to_input(torch.from_numpy(crops)).numpy())


@pytest.mark.long
@pytest.mark.parametrize("name", zoo.list_models())
def test_every_network_of_the_catalogue_exports(name, tmp_path):
    """Random statistics make some of the deep ones chaotic: they may be off by what rounding does to PyTorch itself."""
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    image_hw = (64, 64) if name.startswith("tokenpose") else (96, 64)
    weak = name.startswith(("mobilevit", "shufflenetv2", "rtmpose"))
    gain = 1.4 if weak else 1.0  # by which two pictures differ at the end
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


class SmallParts(torch.nn.Module):
    """Deconvolutions, one as a head, and a dynamic convolution, which need a form of their own in ONNX."""

    def __init__(self):
        super().__init__()
        self.up = ConvNormAct(3, 6, transposed=True)
        self.dynamic = DynamicConv(6, 8, kernel=3, num_kernels=2, stride=1, groups=2)
        self.head = torch.nn.Sequential(torch.nn.ConvTranspose2d(8, 2, 4, stride=4))

    def forward(self, x):
        return self.head(self.dynamic(self.up(x)))


@pytest.mark.slow
def test_special_parts_are_exported_for_any_number_of_pictures(tmp_path):
    torch.manual_seed(0)
    net = randomise(SmallParts()).float()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    onnx.save(export_graph(net, (16, 24)), tmp_path / "net.onnx")
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    model, data = onnx.load(tmp_path / "net.onnx"), (tmp_path / "net.onnx").read_bytes()
    assert {node.op_type for node in model.graph.node}.isdisjoint({"BatchNormalization", "ConvTranspose"})
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    assert not any(word in data for word in (str(ROOT).encode(), b"site-packages", b".py")), "paths of this machine"
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    x = torch.rand(3, 3, 16, 24)
    for count in (1, 3):
        with torch.inference_mode():
            expected = net(x[:count]).numpy()
        (found,) = session.run(None, {"images": x[:count].numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_dite_hrnet_is_exported_whole(tmp_path):
    torch.manual_seed(0)
    net = randomise(DiteHRNet(num_keypoints=5, modules=(1, 1, 1))).float().eval()
    onnx.save(export_graph(net, (64, 64)), tmp_path / "net.onnx")
    x = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        expected = net(x).numpy()
    (found,) = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"images": x.numpy()})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


# --- without PyTorch --------------------------------------------------------------------------------------------------
def test_no_torch_is_imported_from_start_to_keypoints(people, small, tmp_path):
    write_png(tmp_path / "a.png", noise(60, 44))
    code = f"""
import sys, lgmpose.inference.predict_files
from lgmpose.cli import main
words = ["--weights", {str(small)!r}, "--threads", "1"]
status = [main(["eval", "--data", "synthetic:{people}", "--limit", "2", *words]),
          main(["predict", {str(tmp_path / "a.png")!r}, "--out", {str(tmp_path / "out")!r}, *words])]
print(status, [name for name in ("torch", "matplotlib", "onnx") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.splitlines()[-1] == "[0, 0] []", run.stdout + run.stderr
    assert "weights: small.onnx" in run.stdout and "input: 32×64" in run.stdout
    assert json.loads((tmp_path / "out" / "a.json").read_text())["weights"]["file"] == "small.onnx"


# --- the card and the file --------------------------------------------------------------------------------------------
def test_the_card_says_all_that_is_needed(coco_weights, tmp_path, monkeypatch):
    monkeypatch.setattr("lgmpose.inference.export.graph.export_graph", lambda net, image_hw: small_graph(image_hw))
    path = tmp_path / "net.onnx"
    assert main(["export", "--out", str(path), "--weights", str(coco_weights), "--image-hw", "32", "64"]) == 0
    card = json.loads({entry.key: entry.value for entry in onnx.load(path).metadata_props}["lgmpose"])
    assert card["kind"] == "export" and card["precision"] == "fp32" and card["image_hw"] == [32, 64]
    assert (card["mean"], card["std"]) == (list(IMAGE_MEAN), list(IMAGE_STD))
    assert card["codec"] == {"name": "dark", "sigma": 1.5}  # the weights' own
    assert card["weights"] == {"file": "net.safetensors", "sha256": weights_hash(coco_weights)}
    assert card["network"]["num_keypoints"] == 17 and card["skeleton"]["joint_names"] == list(COCO.joint_names)
    asked, real = [], onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: asked.append(a[1]) or real(*a, **k))
    backend = ExportedBackend(path, threads=1)
    (options,) = asked
    assert options.get_session_config_entry("session.force_spinning_stop") == "1" and options.intra_op_num_threads == 1
    assert backend.source == {"file": "net.onnx", "sha256": weights_hash(path)} and backend.image_hw == (32, 64)
    assert backend.skeleton is COCO and repr(backend.codec) == repr(make_codec("dark", (32, 64), 1.5))


def test_the_cards_mean_and_std_are_used(tmp_path):
    card = make_card(small_source(), "fp32")
    for name, changes in (("a", {}), ("b", {"mean": [0, 0, 0], "std": [1, 1, 1]})):
        write_graph(tmp_path / f"{name}.onnx", small_graph(), card | changes)
    crops = np.full((1, 32, 64, 3), 51, np.uint8)
    np.testing.assert_allclose(ExportedBackend(tmp_path / "b.onnx").heatmaps(crops), 0.2, rtol=1e-5)
    expected = ((0.2 - np.array(IMAGE_MEAN)) / IMAGE_STD).mean()
    np.testing.assert_allclose(ExportedBackend(tmp_path / "a.onnx").heatmaps(crops), expected, rtol=1e-4)


# --- bad input --------------------------------------------------------------------------------------------------------
def error_of(capsys, *arguments) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["--out", "net.pt"], "net.pt: "),
        (["--out", "net.onnx", "--format", "openvino"], ".xml"),
        (["--out", "net.onnx", "--format", "ncnn"], ".param"),
        (["--out", "net.mlpackage", "--format", "coreml", "--verify", "--data", "synthetic:x"], "--data"),
        (["--out", "file/net.onnx"], "file/net.onnx: "),
        (["--out", "folder.onnx"], "folder.onnx: "),
        (["--out", "net.onnx", "--verify", "--json", "file/v.json"], "file/v.json: "),
        (["--out", "net.onnx", "--json", "v.json"], "--verify"),
        (["--out", "net.onnx", "--format", "int8"], "--data"),
        (["--out", "net.onnx", "--data", "synthetic:x"], "--data"),
        (["--out", "net.onnx", "--verify", "--data", "coco:x", "--annotations", "t.json"], "--val-annotations"),
        (["--out", "net.onnx", "--verify", "--val-annotations", "v.json"], "--data"),
        (["--out", "net.onnx", "--data", "coco:x", "--val-annotations", "v.json"], "--verify"),
        (["--out", "net.onnx", "--categories", "cat"], "--data"),
        (["--out", "net.onnx", "--weights", "gone.safetensors"], "gone.safetensors"),
        (["--out", "net.onnx", "--image-hw", "90", "64"], "32"),
        (["--out", "net.onnx", "--format", "int8", "--data", "lspet:gone.zip"], "gone.zip"),
    ],
)  # fmt: skip
def test_what_can_be_wrong_is_said_before_anything_is_exported(arguments, word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.onnx.export", lambda *args, **options: pytest.fail("it has started"))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.onnx").mkdir()
    assert word in error_of(capsys, "export", *arguments)
    assert not (tmp_path / "net.onnx").exists()


def test_formats_say_how_exact_they_are(tmp_path):
    expected = {"onnx": "fp32", "openvino": "fp32", "openvino-bf16": "bf16", "int8": "int8", "openvino-int8": "int8",
                "ncnn": "fp32", "executorch": "fp32", "coreml": "fp16"}  # fmt: skip
    suffixes = {"ncnn": ".param", "executorch": ".pte", "coreml": ".mlpackage"}
    for name, precision in expected.items():
        out = tmp_path / f"net{suffixes.get(name, '.xml' if 'openvino' in name else '.onnx')}"
        assert ExportConfig(out, format=name, data="synthetic" if precision == "int8" else None).precision == precision


@pytest.mark.parametrize("same", [True, False])
def test_own_data_in_cocos_format(people, coco_weights, tmp_path, monkeypatch, capsys, same):
    """Files of any name, and a category called otherwise than the weights': what counts is the joints, in order."""
    content = json.loads((people / "annotations.json").read_text())
    (category,) = content["categories"]
    net, _ = zoo.load_weights(coco_weights)
    category["keypoints"] = [f"{joint}_of_puppet" for joint in category["keypoints"]]
    skeleton = skeleton_from_category(category | {"name": "marionette", "skeleton": []})
    zoo.save_weights(tmp_path / "own.safetensors", net, skeleton, make_codec("dark", (64, 96)))
    if not same:
        category["keypoints"][3:5] = category["keypoints"][4:2:-1]
    content["categories"].append({"id": 9, "name": "dog", "keypoints": ["nose", "tail"]})
    for name in ("train.json", "val.json"):
        (tmp_path / name).write_text(json.dumps(content))
    taken = []

    def stop(*args, **options):
        raise UserError("all data are there")

    monkeypatch.setattr("lgmpose.inference.export.exporter.load_records",
                        lambda *a, **k: taken.append(load_records(*a, **k)) or taken[-1])  # fmt: skip
    monkeypatch.setattr("lgmpose.inference.export.graph.export_graph", stop)
    arguments = ["--weights", tmp_path / "own.safetensors", "--format", "int8", "--verify", "--data", f"coco:{people}"]
    files = ["--annotations", tmp_path / "train.json", "--val-annotations", tmp_path / "val.json"]
    files += ["--categories", category["name"]]
    message = error_of(capsys, "export", "--out", tmp_path / "n.onnx", *arguments, *files)
    if same:
        assert message == "all data are there"
        assert [Path(record_set.annotation_file).name for record_set in taken] == ["train.json", "val.json"]
    else:
        assert "train.json: " in message


@pytest.mark.parametrize(
    "module, arguments",
    [
        ("onnx", ["--out", "n.onnx"]),
        ("onnxscript", ["--out", "n.onnx"]),
        ("onnxruntime", ["--out", "n.onnx", "--format", "int8", "--data", "synthetic"]),
        ("onnxruntime", ["--out", "n.onnx", "--verify"]),
        ("openvino", ["--out", "n.xml", "--format", "openvino"]),
        ("pnnx", ["--out", "n.param", "--format", "ncnn"]),
        ("executorch", ["--out", "n.pte", "--format", "executorch"]),
        ("coremltools", ["--out", "n.mlpackage", "--format", "coreml"]),
    ],
)
def test_a_missing_package_is_named_with_its_extra(module, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    hide(monkeypatch, module)
    message = error_of(capsys, "export", *arguments)
    extra = {"pnnx": "ncnn", "coremltools": "coreml", "openvino": "openvino", "executorch": "executorch"}
    assert module in message and f"lgmpose[{extra.get(module, 'onnx')}]" in message


def test_a_graph_that_another_program_converted_to_16_bits_is_refused(tmp_path):
    graph = small_graph()
    (weights,) = graph.graph.initializer
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights).astype(np.float16), "w"))
    for end in (*graph.graph.input, *graph.graph.output):
        end.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(graph, tmp_path / "half.onnx")
    with pytest.raises(UserError, match=r"half.onnx: .*images: tensor\(float16\)"):
        ExportedBackend(tmp_path / "half.onnx")


def test_a_folder_of_the_packages_name_is_no_reason_to_refuse(tmp_path, monkeypatch, capsys):
    """The name of a run's folder, for example."""
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == "coremltools" else find_spec(name))
    words = ["--weights", "gone.safetensors", "--out", tmp_path / "mine.mlpackage", "--format", "coreml"]
    assert "gone.safetensors" in error_of(capsys, "export", *words)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name, other, kind", [("n.xml", "n.param", "openvino"), ("n.param", "n.xml", "ncnn")])
def test_the_bin_of_another_file_stays(tmp_path, monkeypatch, capsys, name, other, kind):
    """OpenVINO's and ncnn's files both have a .bin of the same name."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    for file in (other, "n.bin"):
        (tmp_path / file).write_text("mine")
    assert other in error_of(capsys, "export", "--out", tmp_path / name, "--format", kind)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {other: "mine", "n.bin": "mine"}


def hide(monkeypatch, module):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else find_spec(name))


def test_a_missing_runtime_is_named_when_a_file_is_opened(small, shipped_xml, monkeypatch):
    for path, module in ((small, "onnxruntime"), (shipped_xml, "openvino")):
        hide(monkeypatch, module)
        with pytest.raises(UserError, match=f"{path.name}: .*{module}"):
            Predictor(path)


def changed(data: bytes, kind: str) -> bytes:
    middle = len(data) // 2
    return {
        "cut short": data[:middle], "no ONNX": b"\x89PNG" + data[:100], "empty": b"",
        "the codec": data.replace(b'"name": "dark"', b'"name": "darq"'),
        "the card": data.replace(b'"kind": "export"', b'"kind": "export]'),
        "its encoding": data.replace(b'"kind": "export"', b'"kind": "exp\xffrt"'),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("words", [[], ["--model", "lgm-pose-coco-256x192"]], ids=["weights", "model"])
def test_the_size_of_openvinos_files_counts_the_weights(as_small, tmp_path, monkeypatch, capsys, words):
    pytest.importorskip("openvino")
    graph = small_graph()
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((700, 1000), np.float32), "more"))
    graph.graph.node.append(onnx.helper.make_node("Identity", ["more"], ["unused"]))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("unused", 1, [700, 1000]))
    monkeypatch.setattr("lgmpose.inference.export.graph.export_graph", lambda *args, **options: graph)
    assert main(["export", "--out", str(tmp_path / "net.xml"), "--format", "openvino", *words]) == 0
    sizes = [(tmp_path / name).stat().st_size / 1e6 for name in ("net.xml", "net.bin")]
    assert sizes[0] < 0.1 < 2.8 < sizes[1] and f"net.xml ({sum(sizes):.1f} MB)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["cut short", "no ONNX", "empty", "the codec", "the card", "its encoding"])
def test_a_damaged_file_is_refused(small, tmp_path, kind):
    path = tmp_path / "bad.onnx"
    path.write_bytes(changed(small.read_bytes(), kind))
    assert path.read_bytes() != small.read_bytes()
    with pytest.raises(UserError, match="bad.onnx: "):
        Predictor(path)


def test_files_of_others_and_misfits_are_refused(tmp_path):
    onnx.save(small_graph(), tmp_path / "foreign.onnx")
    card = make_card(small_source(), "fp32")
    for name, changes in (
        ("size", {"image_hw": [64, 32]}), ("joints", {"skeleton": card["skeleton"] | {"joint_names": ["nose"]}}),
        ("newer", {"version": 99}), ("edges", {"skeleton": card["skeleton"] | {"edges": [[0, 99]]}}),
    ):  # fmt: skip
        write_graph(tmp_path / f"{name}.onnx", small_graph(), card | changes)
    for name in ("foreign", "size", "joints", "newer", "edges", "gone"):
        with pytest.raises(UserError, match=f"{name}.onnx: "):
            Predictor(tmp_path / f"{name}.onnx")


def test_damaged_openvino_files_are_refused(shipped_xml, tmp_path):
    path, weights = tmp_path / "net.xml", tmp_path / "net.bin"
    path.write_bytes(shipped_xml.read_bytes())
    weights.write_bytes(changed(shipped_xml.with_suffix(".bin").read_bytes(), "cut short"))
    with pytest.raises(UserError, match="net.xml: "):
        Predictor(path)
    weights.unlink()
    with pytest.raises(UserError, match="net.xml: .*bin"):
        Predictor(path)
    path.write_text("<net/>")
    with pytest.raises(UserError, match="net.xml: "):
        Predictor(path)


def test_an_exported_file_has_one_size_and_one_device(people, small, capsys):
    data = ["--data", f"synthetic:{people}", "--weights", small, "--limit", "2"]
    assert "32×64" in error_of(capsys, "eval", *data, "--image-hw", "64", "64")
    assert "'cuda'" in error_of(capsys, "eval", *data, "--device", "cuda")
    assert "threads 0" in error_of(capsys, "eval", *data, "--threads", "0")


# --- verification -----------------------------------------------------------------------------------------------------
@pytest.fixture
def as_small(monkeypatch):
    """``export`` of a network that is quickly exported, and little of everything in its verification."""
    for name, number in (("CROPS", 6), ("RANDOM_INPUTS", 2), ("ROUNDS", 10)):
        monkeypatch.setattr(verify, name, number)
    graph = [small_graph()]
    monkeypatch.setattr("lgmpose.inference.export.exporter._load_source", lambda config: small_source())
    monkeypatch.setattr("lgmpose.inference.export.graph.export_graph", lambda net, image_hw: graph[0])
    return graph


def test_verify_reports_and_keeps_what_it_finds(people, as_small, tmp_path, monkeypatch, capsys):
    def evaluate(net, record_set, codec, bad_images):
        assert bad_images == "skip"  # crops leave them out, too, and the file is already written
        score = 50.0 if isinstance(net, torch.nn.Module) else 40.0
        return Evaluation({"PCK@0.2": score}, {"data": record_set.name})

    monkeypatch.setattr(verify, "evaluate", evaluate)
    out, file = tmp_path / "net.onnx", tmp_path / "verified.json"
    assert main(["export", "--out", str(out), "--verify", "--data", f"synthetic:{people}", "--json", str(file)]) == 0
    found = json.loads(file.read_text())["verified"]
    for name in ("random inputs", "crops"):
        assert 0 < found["largest_difference"][name] <= 1e-4 and 0 < found["relative_error"][name] < 1e-5
    conditions = {"data": "synthetic-val"}
    assert found["accuracy"] == {"conditions": conditions, "eager": {"PCK@0.2": 50}, "exported": {"PCK@0.2": 40}}
    assert found["speed"]["rounds"] >= 10 and found["speed"]["median_ms"]["exported"] > 0
    assert set(found["speed"]["times_faster_than"]) == {"eager"}
    text = capsys.readouterr().out
    assert "PCK@0.2: eager" in text and "× as fast as eager" in text and "2 random inputs" in text


@pytest.mark.parametrize("name", ["net.onnx", "net.xml"])
@pytest.mark.parametrize("weight", [1 / 48 + 1e-5, np.nan])
def test_verify_refuses_and_removes_another_function(as_small, tmp_path, capsys, weight, name):
    if name.endswith(".xml"):
        pytest.importorskip("openvino")
    as_small[0] = small_graph(weight=weight)
    (tmp_path / "other.bin").write_bytes(b"")
    beside = [] if name.endswith(".xml") else ["net.bin"]  # beside a .onnx, a .bin is somebody else's
    for other in beside:
        (tmp_path / other).write_bytes(b"")
    words = ["--format", "openvino"] if name.endswith(".xml") else []
    assert f"{name}: " in error_of(capsys, "export", "--out", tmp_path / name, "--verify", *words)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["other.bin", *beside])


def test_less_exact_formats_are_timed_beside_fp32_and_may_differ(as_small, tmp_path, capsys):
    pytest.importorskip("openvino")
    threads = torch.get_num_threads()
    out, file = tmp_path / "net.xml", tmp_path / "verified.json"
    as_small[0] = small_graph(weight=1 / 48 + 1e-5)
    words = ["--format", "openvino-bf16", "--verify", "--json", str(file)]
    assert main(["export", "--out", str(out), *words]) == 0 and torch.get_num_threads() == threads
    card = json.loads(file.read_text())
    assert card["precision"] == "bf16" and "accuracy" not in card["verified"]
    assert set(card["verified"]["speed"]["times_faster_than"]) == {"eager", "fp32 in the same runtime"}
    assert set(card["verified"]["largest_difference"]) == {"random inputs"}
    assert card["verified"]["relative_error"]["random inputs"] > 1e-4


@pytest.mark.parametrize("name", ["net.onnx", "net.xml"])
def test_8_bits_are_calibrated_on_the_training_split(people, as_small, tmp_path, monkeypatch, name):
    from lgmpose.inference.export import int8

    if name.endswith(".xml"):
        pytest.importorskip("openvino")
    calibrated, real = [], int8.quantise
    monkeypatch.setattr(int8, "quantise", lambda model, inputs: calibrated.append(inputs) or real(model, inputs))
    form = "openvino-int8" if name.endswith(".xml") else "int8"
    words = ["--out", str(tmp_path / name), "--format", form, "--data", f"synthetic:{people}"]
    assert main(["export", *words]) == 0
    (inputs,) = calibrated
    assert inputs.shape == (len(load_records(f"synthetic:{people}", "train")), 3, 32, 64)
    assert inputs.min() < -1 < 1 < inputs.max(), "normalised"
    card = open_backend(tmp_path / name).card
    assert card["precision"] == "int8" and card["int8_layers"] == 1
    crops = noise(1, 32, 64, 3)
    found, wanted = open_backend(tmp_path / name).heatmaps(crops), SmallNet()(to_input(torch.from_numpy(crops))).numpy()
    assert 1e-4 < np.abs(found - wanted).max() < 0.1
