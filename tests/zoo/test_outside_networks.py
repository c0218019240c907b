"""Networks from outside the package: timm's, torchvision's and a user's own, in profile, bench and export."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch import nn

import lgmpose
from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.lab.bench import BenchConfig
from lgmpose.lab.bench.measurement import Row
from lgmpose.lab.bench.plan import Job, make_plan
from lgmpose.lab.bench.worker import run
from lgmpose.zoo.catalogue import create_model
from lgmpose.zoo.outside_networks import is_outside, open_network, own_config

NETWORKS = """
import torch
from torch import nn

def small():
    # Defined out of order: folding the BatchNorm into the convolution before it would change the function.
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.last = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(3), nn.Conv2d(4, 5, 1)
            self.norm.running_mean += 1
        def forward(self, x):
            return self.last(self.conv(self.norm(x)))
    return Net()

class Stated(nn.Module):
    pretrained_cfg = {"input_size": (3, 16, 24)}
    def forward(self, x):
        return torch.linalg.vector_norm(x, dim=1)  # like a product by its name only

def needs(k): return nn.Identity()
def number(): return 3
def breaks(): raise RuntimeError("no weights\\nhere")
def pair():
    class Net(nn.Module):
        def forward(self, x): return x, x
    return Net()
def uncountable():
    class Net(nn.Module):
        def forward(self, x): return torch.fft.fft2(x).real
    return Net()
def on_numbers():
    class Net(nn.Module):
        def forward(self, x): return x * float(x.sum())
    return Net()
"""


@pytest.fixture(autouse=True)
def own_networks(tmp_path, monkeypatch):
    """A module of a user's own in the current folder, which is not on the path."""
    (tmp_path / "my_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("my_networks", None)


def refused(capsys, *arguments: str) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("error: ") and "\n" not in err
    return err


def test_a_function_in_the_current_folder_is_found():
    path = list(sys.path)
    net, image_hw = open_network("my_networks:small", image_hw=(16, 24))
    assert image_hw == (16, 24) and not net.training and net(torch.zeros(1, 3, 16, 24)).shape == (1, 5, 8, 12)
    assert sys.path == path and is_outside("my_networks:small") and own_config(net) is None
    assert open_network("my_networks:Stated")[1] == (16, 24), "the size that a network states, as timm's do"


def test_names_of_the_catalogue_are_as_ever():
    net, image_hw = open_network("lgm-pose-coco-256x192", image_hw=(64, 96), num_keypoints=3)
    assert image_hw == (64, 96) and own_config(net) == net.config and net.config.num_keypoints == 3
    assert net.config == create_model("lgm-pose-coco-256x192", image_hw=(64, 96), num_keypoints=3).config


@pytest.mark.parametrize(
    "name, message",
    [
        ("my_networks:needs", "'k'"),
        ("my_networks:number", "int"),
        ("my_networks:breaks", "no weights"),
        ("my_networks:pair", "tuple"),
        ("my_networks:smal", "small"),
        ("my_networks:", "my_networks"),
        ("nowhere.at_all:small", "nowhere"),
        ("my_networks:uncountable", "fft"),
        ("my_networks:on_numbers", "cannot be counted"),
        ("torchvision:resnet1", "resnet18"),
        (":", "import"),
    ],
)
def test_what_is_wrong_is_one_line(name, message, capsys):
    if name.startswith("torchvision"):
        pytest.importorskip("torchvision")
    line = refused(capsys, "profile", "--no-fps", "--model", name, "--image-hw", "16", "24")
    assert name.partition(":")[0] in line and message in line


def test_sizes_and_options_that_do_not_fit(capsys):
    command = ("profile", "--no-fps", "--model", "my_networks:small")
    assert "--image-hw" in refused(capsys, *command), "the network states no size"
    assert "image_hw" in refused(capsys, *command, "--image-hw", "0", "8")
    assert "num_keypoints" in refused(capsys, *command, "--image-hw", "8", "8", "--num-keypoints", "3")
    assert "fusion" in refused(capsys, *command, "--image-hw", "8", "8", "--fusion", "none")
    with pytest.raises(UserError, match="16 × 16"):  # a linear layer for 16 × 24
        net = "torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 24, 2))"
        with open("fixed.py", "w") as file:
            file.write(f"import torch\ndef net(): return {net}\n")
        open_network("fixed:net", image_hw=(16, 16))


def test_without_timm_the_line_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "lgmpose[timm]" in refused(capsys, "profile", "--model", "timm:resnet18", "--image-hw", "224", "224")


@pytest.mark.slow
def test_profile_counts_by_name_in_python_and_on_the_command_line(capsys, tmp_path):
    cost = lgmpose.profile("my_networks:small", (16, 24))
    assert (cost.network, cost.image_hw, cost.params) == ("my_networks:small", (16, 24), 3 * 2 + 4 * 28 + 5 * 5)
    assert cost.macs == 8 * 12 * (27 * 4 + 4 * 5) and [stage.name for stage in cost.per_stage] == [
        "conv",
        "norm",
        "last",
    ]
    assert lgmpose.profile("lgm-pose-coco-256x192", (64, 96)).macs == lgmpose.profile(
        create_model("lgm-pose-coco-256x192", image_hw=(64, 96))
    ).macs  # fmt: skip
    command = ["profile", "--model", "my_networks:small", "--image-hw", "16", "24", "--json", str(tmp_path / "p.json")]
    assert main(command) == 0
    found = json.loads((tmp_path / "p.json").read_text())
    keys = ("params", "true_macs", "hrnet_tool", "torchstat", "activations", "peak_bytes")
    assert [found[key] for key in keys] == [getattr(cost, key) for key in keys]
    assert found["fps"]["median_ms"] > 0 and found["published"] is None and f"{cost.macs:,}" in capsys.readouterr().out


def test_a_network_without_weights_is_counted_and_timed(capsys):
    assert main(["profile", "--model", "my_networks:Stated"]) == 0
    assert "input 16 × 24" in capsys.readouterr().out


@pytest.mark.slow
def test_timm_and_torchvision_give_their_published_counts():
    pytest.importorskip("timm")
    cost = lgmpose.profile("timm:resnet18", (224, 224))
    assert (cost.params, cost.macs) == (11_689_512, 1_814_073_344)  # torchvision's table: 11,689,512 and 1.81 G
    assert lgmpose.profile("torchvision:resnet18", (224, 224)).macs == cost.macs
    assert open_network("timm:resnet18")[1] == (224, 224)
    with pytest.raises(UserError, match="resnet18"):
        open_network("timm:resnet188")
    with pytest.raises(UserError, match="list"):  # a detector; neither its weights nor its backbone's are downloaded
        open_network("torchvision:ssdlite320_mobilenet_v3_large", image_hw=(64, 64))


# --- bench and export -----------------------------------------------------------------------------------------------


def test_bench_plans_and_times_it(tmp_path):
    names = ("my_networks:small", "lgm-pose-coco-256x192")
    (rows,) = make_plan(BenchConfig(models=names, image_hw=((64, 32),)))
    assert [(row.model, row.is_reference, row.num_keypoints) for row in rows] == [
        (names[0], False, 17),
        (names[1], True, 17),
    ]
    assert rows[0].macs == 32 * 16 * (27 * 4 + 4 * 5)
    ((alone,),) = make_plan(BenchConfig(models=("my_networks:Stated",)))
    assert (alone.image_hw, alone.num_keypoints, alone.is_reference) == ((16, 24), 0, True)
    config = BenchConfig(models=names[:1], image_hw=((64, 32),), runs=2, warmup=1, device="cpu")
    outcome = run(Job(config, [row for row in rows if row.model == names[0]], str(tmp_path)))
    assert not outcome.reasons and len(outcome.times_ms[names[0]]) == 2


@pytest.mark.parametrize(
    "options, name",
    [
        ({"backends": ("eager", "eager-fast")}, "eager-fast"),
        ({"scope": "decode"}, "decode"),
        ({"image_hw": ()}, "--image-hw"),
        ({"models": ("lgm-pose-coco-256x192", "my_networks:pair")}, "my_networks:pair"),
    ],
)
def test_bench_refuses_what_it_cannot_time(options, name):
    with pytest.raises(UserError, match=name):
        make_plan(BenchConfig(**{"models": ("my_networks:small",), "image_hw": ((32, 32),)} | options))


def test_two_networks_of_a_job_do_not_share_an_exported_file(tmp_path, monkeypatch):
    from lgmpose.lab.bench.runtimes import RUNTIMES, Runtime

    folders = []
    monkeypatch.setitem(RUNTIMES, "picky", Runtime("", lambda net, x, folder: folders.append(folder) or net))
    shared = {"backend": "picky", "threads": 1, "batch_size": 1, "image_hw": (16, 24), "num_keypoints": 0}
    names = ("my_networks:small", "my_networks:Stated", "my_networks:small")
    rows = [Row(label=name, model=name, is_reference=not i, **shared) for i, name in enumerate(names)]
    run(Job(BenchConfig(models=names, runs=1, warmup=0, device="cpu"), rows, str(tmp_path)))
    assert folders[0] != folders[1] and folders[0] == folders[2] and all(folder.is_dir() for folder in folders)


@pytest.mark.slow
@pytest.mark.parametrize("out", ["net.onnx", "net.xml"])
def test_an_export_computes_what_the_network_does(out, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if out == "net.xml":
        pytest.importorskip("openvino")
    command = ["export", "--model", "my_networks:small", "--image-hw", "16", "24", "--out", str(tmp_path / out)]
    if out == "net.xml":
        command += ["--format", "openvino"]
    assert main([*command, "--verify", "--json", str(tmp_path / "v.json")]) == 0
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["model"] == "my_networks:small" and found["verified"]["relative_difference"] < 1e-5
    capsys.readouterr()
    assert out in refused(capsys, "predict", tmp_path / "photo.jpg", "--weights", tmp_path / out), "it has no joints"


@pytest.mark.slow
def test_an_export_that_differs_is_removed(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from lgmpose.inference.export.verify import verify_outputs

    net, _ = open_network("my_networks:small", image_hw=(16, 24))
    main(["export", "--model", "my_networks:small", "--image-hw", "16", "24", "--out", str(tmp_path / "net.onnx")])
    with torch.no_grad():
        net.last.bias += 1
    with pytest.raises(UserError, match="removed"):
        verify_outputs(net, tmp_path / "net.onnx", (16, 24))
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize(
    "options",
    [("--format", "int8"), ("--format", "openvino-bf16"), ("--weights", "w"), ("--verify", "--data", "synthetic")],
)
def test_export_options_that_do_not_fit(options, capsys):
    out = "net.xml" if "openvino-bf16" in options else "net.onnx"
    assert "--model" in refused(capsys, "export", "--model", "my_networks:small", "--out", out, *options)


def test_exporting_what_pytorch_cannot_export_is_one_line(capsys, monkeypatch):
    pytest.importorskip("onnxscript")

    def export_graph(net: nn.Module, image_hw, fast):
        raise RuntimeError("Unsupported\noperator")

    monkeypatch.setattr("lgmpose.inference.export.graph.export_graph", export_graph)
    command = ("export", "--model", "my_networks:small", "--image-hw", "16", "24", "--out", "net.onnx")
    assert "RuntimeError: Unsupported" in refused(capsys, *command)
