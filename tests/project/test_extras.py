"""A package that is not installed is named, with the extra that installs it, before anything else happens."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from PIL import Image

from lgmpose.course.commands import build
from lgmpose.data import load_records
from lgmpose.errors import UserError
from lgmpose.inference.formats import to_supervision
from lgmpose.inference.predictor import Predictor
from lgmpose.training.detector_training import DetectorSession
from lgmpose.training.recipe import DetectorConfig
from lgmpose.zoo.outside_networks import open_network


@pytest.fixture
def yolo_folder(tmp_path):
    (tmp_path / "data.yaml").write_text("kpt_shape: [2, 3]\nnames: {0: person}\ntrain: images\nval: images\n")
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "one.png")
    (tmp_path / "labels" / "one.txt").write_text("0 0.5 0.5 0.8 0.8 0.3 0.3 2 0.6 0.6 2\n")
    return tmp_path


def build_pages(folder):
    build(folder / "pages")


def check_detector_data(folder):
    DetectorSession.check_data(DetectorConfig("coco:x").as_train_config(), [], [], notice=False)


CALLS = {
    "timm": ("timm", lambda folder: open_network("timm:resnet18")),
    "torchvision": ("peers", lambda folder: open_network("torchvision:resnet18")),
    "torchvision.models": ("peers", lambda folder: Predictor(detector="torchvision:fasterrcnn_resnet50_fpn")),
    "supervision": ("supervision", lambda folder: to_supervision([])),
    "yaml": ("yolo", lambda folder: load_records(f"yolo:{folder}", "train")),
    "PIL": ("yolo", lambda folder: load_records(f"yolo:{folder}", "train")),
    **dict.fromkeys(("nbformat", "nbclient", "ipykernel", "sphinx"), ("course", build_pages)),
    "onnx": ("onnx", check_detector_data),
    "onnxscript": ("onnx", check_detector_data),
}


@pytest.mark.parametrize("module", CALLS)
def test_a_missing_package_is_named_with_its_extra(yolo_folder, monkeypatch, module):
    extra, call = CALLS[module]
    name = module.partition(".")[0]
    monkeypatch.setattr("importlib.util.find_spec", lambda asked: None if asked == name else find_spec(asked))
    with pytest.raises(UserError, match=rf"needs {name}: .*lgmpose\[{extra}\]"):
        call(yolo_folder)
