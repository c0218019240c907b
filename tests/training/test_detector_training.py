"""Training a detector: a run is interrupted and resumed, and its ONNX file finds what the network finds."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_tools import TINY, assert_equal_states, log_of, losses_of

from lgmpose.cli import main
from lgmpose.data import load_box_set
from lgmpose.errors import UserError
from lgmpose.inference.detector_figures import evaluate_detector, save_figures
from lgmpose.inference.detectors import OnnxDetector
from lgmpose.network.config import VARIANTS
from lgmpose.network.detector import LGMDet
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO
from lgmpose.training.checkpoint import read_checkpoint
from lgmpose.training.detector_training import (
    ENCODER,
    SESSION_TYPES,
    export_detector,
    network_detector,
    train_detector,
)
from lgmpose.training.recipe import DetectorConfig
from lgmpose.training.trainer import resume
from lgmpose.zoo.catalogue import create_model, save_weights


@pytest.fixture
def settings(people, tmp_path, monkeypatch) -> DetectorConfig:
    """Return a recipe on COCO's layout of the synthetic people, with a tiny encoder and without an exported file."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        shutil.copytree(people / "images", folder / f"{split}2017")
        shutil.copy(people / "annotations.json", folder / "annotations" / f"person_keypoints_{split}2017.json")
    monkeypatch.setitem(VARIANTS, ENCODER, TINY)
    monkeypatch.setattr("lgmpose.training.detector_training.export_detector", lambda net, out: out.write_bytes(b""))
    return DetectorConfig(
        f"coco:{folder}", image_hw=(64, 64), epochs=2, batch_size=4, workers=0, device="cpu", checkpoint_minutes=0,
        warmup_steps=0, eval_every=1,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_is_resumed_bit_for_bit(settings, tmp_path):
    train_detector(settings, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lgmpose.training.detector_training.evaluate_detector", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # after the first epoch's last step
            train_detector(settings, tmp_path / "run", progress=False)
    resume(tmp_path / "run", SESSION_TYPES)
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole") and len(losses_of(tmp_path / "run")) == 6
    one, other = (read_checkpoint(tmp_path / name / "last.pt")["ema"] for name in ("run", "whole"))
    assert_equal_states(one, other)
    assert (tmp_path / "run" / "lgm-det.onnx").is_file() and "large recall" in log_of(tmp_path / "run")[0]


def test_the_encoder_starts_from_pose_weights(settings, tmp_path):
    torch.manual_seed(1)
    pose = create_model("tiny", num_keypoints=17)
    save_weights(tmp_path / "pose.safetensors", pose, COCO, make_codec("dark", (64, 32)))
    config = replace(settings, init_weights=str(tmp_path / "pose.safetensors")).as_train_config()
    net, start = SESSION_TYPES["lgm-det"].make_network(config, None, fresh=True)
    torch.testing.assert_close(net.stem.state_dict(), pose.stem.state_dict())
    assert start["weights"] == "pose.safetensors"
    config = replace(settings, init_weights="lgm-pose-lspet-128x128.safetensors").as_train_config()
    with pytest.raises(UserError, match=f"encoder is that of {ENCODER}"):
        SESSION_TYPES["lgm-det"].make_network(config, None, fresh=True)


@pytest.mark.slow
def test_a_training_starts_from_an_earlier_run(settings, tmp_path):
    train_detector(settings, tmp_path / "run", progress=False)
    config = replace(settings, init_weights=str(tmp_path / "run" / "last.pt")).as_train_config()
    net, start = SESSION_TYPES["lgm-det"].make_network(config, None, fresh=True)
    assert_equal_states(net.state_dict(), read_checkpoint(tmp_path / "run" / "last.pt")["ema"])
    assert start["weights"] == "last.pt"
    with pytest.raises(UserError, match="last.pt"):  # LARM's weights fit one size
        SESSION_TYPES["lgm-det"].make_network(replace(config, image_hw=(96, 96)), None, fresh=True)


def test_bad_options_are_refused(settings, tmp_path, capsys):
    with pytest.raises(UserError, match="batch"):
        train_detector(replace(settings, batch_size=99), tmp_path / "run")
    assert main(["train-detector", "--data", "coco:nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.slow
def test_the_exported_file_finds_what_the_network_finds(settings, tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = LGMDet(VARIANTS[ENCODER].with_(image_hw=(96, 64))).eval()
    torch.nn.init.constant_(net.heads[0][-1].bias[:1], 0.0)  # so that boxes are above the least score
    with torch.no_grad():
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
    export_detector(net, tmp_path / "lgm-det.onnx")
    large = [w for w in onnx.load(tmp_path / "lgm-det.onnx").graph.initializer if math.prod(w.dims) >= 256]
    assert large and all(weight.data_type == onnx.TensorProto.FLOAT16 for weight in large)
    canvas = np.random.default_rng(0).integers(0, 256, (1, 3, 96, 64)).astype(np.float32)  # BGR
    session = onnxruntime.InferenceSession(tmp_path / "lgm-det.onnx")
    with torch.no_grad():
        expected = net(torch.from_numpy(np.ascontiguousarray(canvas[:, ::-1])))
    for found, wanted in zip(session.run(None, {"images": canvas}), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0.01, atol=0.05)  # the file's weights have 16 bits
    picture = np.random.default_rng(0).integers(0, 256, (80, 70, 3), np.uint8)
    boxes, _ = OnnxDetector(tmp_path / "lgm-det.onnx", threads=1).detect(picture)
    expected_boxes, _ = network_detector(net).detect(picture)
    assert len(boxes) > 3 and len(expected_boxes) > 3


class Perfect:
    """Finds exactly the annotated boxes, in the order of the pictures."""

    def __init__(self, box_set):
        self.pictures = iter(box_set.pictures)

    def detect(self, picture):
        boxes = next(self.pictures).boxes_xywh
        return boxes, np.ones(len(boxes))


def test_a_perfect_detector_has_precision_one(settings, tmp_path):
    box_set = load_box_set(settings.data, "val")
    evaluation = evaluate_detector(Perfect(box_set), box_set, progress=False)
    assert evaluation.figures["AP"] == pytest.approx(1) and evaluation.headline == "AP"
    save_figures(evaluation, "runs/lgm-det.onnx", tmp_path / "figures.json")
    content = json.loads((tmp_path / "figures.json").read_text())
    assert content["detector"] == "lgm-det.onnx" and content["figures"]["AP"] == 1 and "cpu" in content


def test_an_unreadable_picture_is_left_out_if_asked(settings):
    box_set = load_box_set(settings.data, "val")
    first, *others = box_set.pictures
    with open(first.image, "wb"):
        pass
    with pytest.raises(UserError, match=first.image):
        evaluate_detector(Perfect(box_set), box_set, progress=False)
    detector = Perfect(replace(box_set, pictures=tuple(others)))
    evaluation = evaluate_detector(detector, box_set, bad_images="skip", progress=False)
    assert evaluation.figures["AP"] == pytest.approx(1)
    assert evaluation.conditions["unreadable pictures skipped"] == "1"
    assert evaluation.conditions["pictures"] == str(len(others))
    with pytest.raises(UserError, match="none of the pictures"):
        evaluate_detector(detector, replace(box_set, pictures=(first,)), bad_images="skip", progress=False)
    assert replace(settings, bad_images="skip").as_train_config().bad_images == "skip"
