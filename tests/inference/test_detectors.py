"""Detectors: the heads of ONNX files, functions, downloads, the default, and what the predictor does with boxes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from inference_tools import DotBackend, noise, puppet_picture, write_png

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.errors import UserError, notice_once
from lgmpose.inference import detectors
from lgmpose.inference.detectors import DETECTORS, OnnxDetector, PinnedFile, default_detector, open_detector
from lgmpose.inference.evaluate import evaluate
from lgmpose.inference.options import EvalConfig
from lgmpose.inference.other_boxes import with_detected_boxes
from lgmpose.inference.predictor import Predictor
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO

INPUT_HW = (64, 96)
CELLS = 8 * 12 + 4 * 6 + 2 * 3  # of strides 8, 16 and 32


def write_detector(path, outputs, pixels=(), kind=1, input_shape=(1, 3, *INPUT_HW)):
    """Write an ONNX file whose outputs are constants, plus the value of an input pixel for each entry of ``pixels``.

    Args:
        path: the file.
        outputs: arrays.
        pixels: (output's number, place in the flat output, (channel, row, column), factor, offset) each.
        kind: ONNX's number of the input's type; 1: 32-bit floats.
        input_shape: of the input.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    constants = [numpy_helper.from_array(array.astype(np.float32), f"c{i}") for i, array in enumerate(outputs)]
    nodes, names = [], [f"c{i}" for i in range(len(outputs))]
    for number, (output, place, pixel, factor, offset) in enumerate(pixels):
        mask, shift = np.zeros(outputs[output].size, np.float32), np.zeros(outputs[output].size, np.float32)
        mask[place], shift[place] = factor, offset
        shape = outputs[output].shape
        constants += [
            numpy_helper.from_array(mask.reshape(shape), f"m{number}"),
            numpy_helper.from_array(shift.reshape(shape), f"s{number}"),
            numpy_helper.from_array(np.array([0, *pixel], np.int64), f"i{number}"),
        ]
        nodes += [
            helper.make_node("GatherND", ["x", f"i{number}"], [f"v{number}"]),
            helper.make_node("Mul", [f"m{number}", f"v{number}"], [f"p{number}"]),
            helper.make_node("Add", [f"p{number}", f"s{number}"], [f"q{number}"]),
            helper.make_node("Add", [names[output], f"q{number}"], [f"r{number}"]),
        ]
        names[output] = f"r{number}"
    nodes += [helper.make_node("Identity", [name], [f"y{i}"]) for i, name in enumerate(names)]
    ends = [helper.make_tensor_value_info(f"y{i}", 1, array.shape) for i, array in enumerate(outputs)]
    start = helper.make_tensor_value_info("x", kind, input_shape)
    graph = helper.make_graph(nodes, "detector", [start], ends, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def yolox_outputs(boxes, classes=3):
    """Return YOLOX's output for boxes (cell, x, y, w, h, objectness, class score); cells count over all strides."""
    rows = np.zeros((CELLS, 5 + classes))
    strides = np.repeat([8, 16, 32], [96, 24, 6])
    corners = np.concatenate([np.stack(np.indices((64 // s, 96 // s))[::-1], -1).reshape(-1, 2) for s in (8, 16, 32)])
    for cell, x, y, w, h, objectness, score in boxes:
        centre, size = np.array([x + w / 2, y + h / 2]), np.array([w, h])
        rows[cell, :2] = centre / strides[cell] - corners[cell]
        rows[cell, 2:4] = np.log(size / strides[cell])
        rows[cell, 4:6] = objectness, score
    return [rows[None]]


def rtmdet_outputs(boxes):
    """Return RTMDet's outputs for boxes (stride, row, column, x, y, w, h, logit)."""
    outputs = {stride: np.full((1, 64 // stride, 96 // stride, 5), -20.0) for stride in (8, 16, 32)}
    for stride, row, column, x, y, w, h, logit in boxes:
        left, top = column * stride - x, row * stride - y
        outputs[stride][0, row, column] = logit, left, top, w - left, h - top
    return [outputs[stride] for stride in (16, 8, 32)]  # the order does not matter


BOXES = [(10, 8, 4, 20, 30), (100, 40, 10, 16, 44), (125, 60, 20, 30, 40)]  # cell, x, y, w, h in input pixels


def test_the_heads_of_yolox_and_rtmdet_are_recognised_and_decoded(tmp_path):
    """The picture is twice the input's size, so that all boxes are doubled."""
    expected = 2 * np.array([box[1:] for box in BOXES], float)
    rows = [(*box, 0.9, score) for box, score in zip(BOXES, (1, 0.5, 0.8), strict=True)]
    boxes, scores = open_detector(write_detector(tmp_path / "a.onnx", yolox_outputs(rows))).detect(noise(128, 192))
    np.testing.assert_allclose(boxes, expected[[0, 2, 1]], atol=1e-3)
    np.testing.assert_allclose(scores, [0.9, 0.72, 0.45], atol=1e-6)
    cells = [(8, 2, 2, 2.0), (16, 1, 3, 0.0), (32, 1, 2, 1.0)]
    rows = [(s, r, c, *box[1:], logit) for (s, r, c, logit), box in zip(cells, BOXES, strict=True)]
    rtmdet = write_detector(tmp_path / "b.onnx", rtmdet_outputs(rows))
    boxes, scores = open_detector(str(rtmdet)).detect(noise(128, 192))
    np.testing.assert_allclose(boxes, expected[[0, 2, 1]], atol=1e-3)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-2.0, -1.0, 0.0])), atol=1e-6)


def test_a_picture_of_another_shape_is_letterboxed_and_boxes_end_at_its_edge(tmp_path):
    """32 × 24 fills 64 × 48 of the input; the rest is grey 114. A box across the edge is cut there."""
    picture = np.full((32, 24, 3), (200, 100, 50), np.uint8)
    outputs = yolox_outputs([(10, 8, 4, 20, 30, 0, 1), (100, 40, 10, 30, 40, 0, 1)])
    pixels = [  # blue at the beginning, and the padding
        (0, 10 * 8 + 4, (0, 0, 0), 1 / 255, 0),
        (0, 100 * 8 + 4, (2, 63, 48), 1 / 255, 0),
    ]
    boxes, scores = OnnxDetector(write_detector(tmp_path / "a.onnx", outputs, pixels)).detect(picture)
    np.testing.assert_allclose(scores, [114 / 255, 50 / 255], atol=1e-4)
    np.testing.assert_allclose(boxes, [[20, 5, 4, 20], [4, 2, 10, 15]], atol=1e-3)


def test_rtmdets_input_is_normalised_bgr(tmp_path):
    picture = np.full((64, 96, 3), (200, 100, 50), np.uint8)
    outputs = rtmdet_outputs([(8, 2, 2, 8, 4, 20, 30, 0.0), (8, 2, 8, 60, 4, 20, 30, 0.0)])
    pixels = [(1, (2 * 12 + 2) * 5, (0, 5, 5), 1, 0), (1, (2 * 12 + 8) * 5, (2, 5, 5), 1, 0)]
    _, scores = OnnxDetector(write_detector(tmp_path / "a.onnx", outputs, pixels)).detect(picture)
    logits = np.array([(200 - 123.675) / 58.395, (50 - 103.53) / 57.375])
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_of_boxes_on_one_person_the_best_stays_and_empty_pictures_have_none(tmp_path):
    rows = [(10, 8, 4, 20, 30, 0.5, 1), (11, 9, 4, 20, 30, 0.9, 1), (12, 50, 4, 20, 30, 0.6, 1)]
    rows += [(13, 0, 0, 9, 9, 0.04, 1)]
    boxes, scores = OnnxDetector(write_detector(tmp_path / "a.onnx", yolox_outputs(rows))).detect(noise(64, 96))
    np.testing.assert_allclose(boxes, [[9, 4, 20, 30], [50, 4, 20, 30]], atol=1e-3)
    empty = OnnxDetector(write_detector(tmp_path / "b.onnx", yolox_outputs([]))).detect(noise(64, 96))
    assert [part.shape for part in empty] == [(0, 4), (0,)]


def test_bad_detectors_are_named(tmp_path, tiny_weights):
    (tmp_path / "text.onnx").write_text("not a graph")
    write_detector(tmp_path / "other.onnx", [np.zeros((1, 7, 4))])
    write_detector(tmp_path / "cells.onnx", [np.zeros((1, CELLS + 1, 85))])
    for given, word in (
        (tmp_path / "text.onnx", "text.onnx"),
        (tmp_path / "other.onnx", "other.onnx"),
        (tmp_path / "cells.onnx", "cells.onnx"),
        (tmp_path / "gone.onnx", "gone.onnx"),
        (tiny_weights, tiny_weights.name),
        ("yolo-nana", "yolox-nano"),
        ("torchvision:yolo", "torchvision:yolo"),
    ):
        with pytest.raises(UserError, match=word) as raised:
            open_detector(given)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "kind, shape",
    [(10, (1, 3, 64, 96)), (2, (1, 3, 64, 96)), (1, (1, 1, 64, 96)), (1, (2, 3, 64, 96)), (1, (1, 64, 96, 3))],
)
def test_a_detector_with_another_input_is_refused_before_a_picture_is_read(tmp_path, kind, shape):
    """Such as one in 16-bit floats (10)."""
    with pytest.raises(UserError, match="a.onnx: its input is"):
        open_detector(write_detector(tmp_path / "a.onnx", yolox_outputs([]), kind=kind, input_shape=shape))
    any_batch = write_detector(tmp_path / "b.onnx", yolox_outputs([]), input_shape=("batch", 3, 64, 96))
    assert open_detector(any_batch).detect(noise(64, 96))[0].shape == (0, 4)


@pytest.mark.parametrize("returned", [None, ([], [0.5]), ([(1, 2, 3)], [0.5]), ("box", 1), ([(0, 0, 0, 5)], [0.9])])
def test_what_a_detector_must_return(returned):
    for detector in (lambda picture: returned, SimpleNamespace(detect=lambda picture: returned)):
        with pytest.raises(UserError, match="detector"):
            Predictor(DotBackend(), detector=detector)(noise(40, 40))


def test_a_detector_may_return_lists_and_its_own_errors_stay():
    listed = SimpleNamespace(detect=lambda picture: ([[3, 3, 20, 20]], [0.9]))
    assert [pose.box_score for pose in Predictor(DotBackend(), detector=listed)(noise(40, 40))] == [0.9]

    def broken(picture):
        raise TypeError("a mistake in the detector's own code")

    with pytest.raises(TypeError):
        Predictor(DotBackend(), detector=broken)(noise(40, 40))


# --- the predictor ----------------------------------------------------------------------------------------------------
def two_puppets():
    """Return a picture of two puppets, their joints (2, 3, 2), and a detector for them."""
    points = np.array([[[30.0, 20], [40, 50], [20, 48]], [[90, 30], [105, 60], [80, 66]]])
    picture = np.maximum(*(puppet_picture(90, 130, p, sigma=3) for p in points))
    boxes = np.array([[10, 5, 40, 60], [70, 15, 45, 65], [0, 0, 9, 9]])
    return picture, points, lambda _: (boxes, np.array([0.6, 0.9, 0.3]))


def test_everybody_is_found_with_a_detector():
    picture, points, detector = two_puppets()
    poses = Predictor(DotBackend(), detector=detector)(picture)
    assert [pose.box_score for pose in poses] == [0.9, 0.6]  # best first; below 0.4 is left out
    for pose, truth in zip(poses, points[::-1], strict=True):
        np.testing.assert_allclose(pose.keypoints_xy, truth, atol=1)
        assert pose.score == pytest.approx(pose.box_score * pose.scores.mean())
    few = Predictor(DotBackend(), detector=detector, min_box_score=0.7)(picture)
    assert [pose.box_score for pose in few] == [0.9]


def test_a_picture_without_people_gives_no_pose():
    assert Predictor(DotBackend(), detector=lambda _: ([], []))(noise(40, 40)) == []


def test_own_boxes_go_before_the_detector():
    picture, points, _ = two_puppets()
    predictor = Predictor(DotBackend(), detector=lambda _: pytest.fail("the detector was asked"))
    (pose,) = predictor(picture, [[10, 5, 40, 60]])
    np.testing.assert_allclose(pose.keypoints_xy, points[0], atol=1)


def test_predict_draws_everybody(tmp_path, tiny_weights, capsys):
    file = write_png(tmp_path / "photo.png", noise(128, 192))
    outputs = yolox_outputs([(*box, 0.9, score) for box, score in zip(BOXES, (1, 0.3, 0.8), strict=True)])
    detector = write_detector(tmp_path / "det.onnx", outputs)
    words = ["predict", str(file), "--weights", str(tiny_weights), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*words, "--detector", str(detector)]) == 0
    people = json.loads((tmp_path / "out" / "photo.json").read_text())["people"]
    boxes = sorted(person["box_xywh"] for person in people)
    np.testing.assert_allclose(boxes, [[16, 8, 40, 60], [120, 40, 60, 80]], atol=0.02)
    assert main([*words, "--detector", "none"]) == 0
    assert len(json.loads((tmp_path / "out" / "photo.json").read_text())["people"]) == 1
    for more in (["--box", "1,1,9,9"], ["--detections", "x.json"]):
        capsys.readouterr()
        assert main([*words, "--detector", str(detector), *more]) == 2
        assert capsys.readouterr().err.count("\n") == 1


# --- the default and downloads ----------------------------------------------------------------------------------------
@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return an empty cache folder. Each notice is printed again."""
    notice_once.cache_clear()
    monkeypatch.setenv("LGMPOSE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    notice_once.cache_clear()


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """A detector file that is pinned at a ``file:`` address under the name yolox-nano."""
    source = write_detector(tmp_path / "source.onnx", yolox_outputs([(*BOXES[0], 0.9, 1)]))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    monkeypatch.setitem(DETECTORS, "yolox-nano", PinnedFile(source.as_uri(), digest, 0.1, "Apache-2.0"))
    return source


def test_without_onnx_runtime_one_line_says_that_one_person_is_assumed(cache, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert default_detector(COCO) is None and Predictor(CocoBackend()).detector is None
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "lgmpose[onnx]" in printed


def test_a_named_detector_is_downloaded_once(cache, pinned, capsys):
    first = open_detector("yolox-nano").detect(noise(64, 96))
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and all(word in printed for word in (pinned.as_uri(), "0.1 MB", "Apache-2.0"))
    pinned.unlink()
    np.testing.assert_array_equal(open_detector("yolox-nano").detect(noise(64, 96))[0], first[0])
    assert capsys.readouterr().err == ""


class CocoBackend(DotBackend):
    skeleton = COCO


def test_a_network_of_other_joints_does_not_take_a_detector_of_people_by_itself(cache, pinned, capsys):
    assert Predictor(DotBackend()).detector is None
    assert Predictor(DotBackend(), detector="yolox-nano").detector is not None
    assert "--detector" in capsys.readouterr().err


def test_a_file_of_another_content_is_refused(cache, pinned):
    cache.mkdir()
    (cache / "yolox-nano.onnx").write_bytes(b"something else")
    with pytest.raises(UserError, match="yolox-nano.onnx"):
        open_detector("yolox-nano")


def test_without_a_network_the_error_says_where_to_put_the_file(cache, pinned):
    pinned.unlink()
    with pytest.raises(UserError, match="yolox-nano.onnx") as raised:
        open_detector("yolox-nano")
    assert str(cache) in str(raised.value) and "\n" not in str(raised.value)


def test_the_default_is_the_detector_of_the_package(cache, pinned, tmp_path, monkeypatch):
    open_detector("yolox-nano")
    write_detector(tmp_path / "lgm-det.onnx", yolox_outputs([(*BOXES[1], 0.9, 1)]))
    monkeypatch.setattr(detectors, "WEIGHTS_FOLDER", tmp_path)
    for detector in (open_detector("lgm-det"), default_detector(COCO), Predictor(CocoBackend()).detector):
        (box,), _ = detector.detect(noise(64, 96))
        np.testing.assert_allclose(box, BOXES[1][1:], atol=1e-3)


# --- evaluation -------------------------------------------------------------------------------------------------------
class TruthDetector:
    """Finds the boxes of a COCO file by the pictures' order."""

    def __init__(self, annotations, shift=0.0):
        content = json.loads(annotations.read_text())
        self.boxes = [
            [row["bbox"] for row in content["annotations"] if row["image_id"] == picture["id"]]
            for picture in content["images"]
        ]
        self.calls = 0

    def detect(self, picture):
        boxes = np.array(self.boxes[self.calls], float).reshape(-1, 4)
        self.calls += 1
        return boxes, np.full(len(boxes), 0.7)


def test_evaluation_takes_the_detectors_boxes_of_every_picture(people, tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").symlink_to(people / "images")
    content = json.loads((people / "annotations.json").read_text())
    empty = content["images"][0]["id"]  # a picture of which nobody is annotated: the detector sees it, too
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != empty]
    file = tmp_path / "annotations" / "person_keypoints_val2017.json"
    file.write_text(json.dumps(content))
    config = EvalConfig(f"coco:{tmp_path}", detector="det.onnx")
    truth = load_records(config.data, "val")
    detector = TruthDetector(people / "annotations.json")
    found = with_detected_boxes(truth, config, detector)
    assert detector.calls == len(content["images"]) and "det.onnx" in found.box_source
    assert {record.image_id for record in found.records} == {picture["id"] for picture in content["images"]}
    assert not found.has_keypoints and all(record.score == 0.7 for record in found.records)
    assert found.annotation_file == file


def test_an_unreadable_picture_is_refused_or_skipped_as_asked(people, tmp_path):
    shutil.copytree(people / "images", tmp_path / "images")
    file = shutil.copy(people / "annotations.json", tmp_path / "annotations.json")
    truth = load_records(f"coco:{tmp_path}", "val", annotations=file)
    bad = truth.records[0]
    Path(bad.image).write_bytes(b"no picture")

    class Corner:
        def detect(self, picture):
            return [[0, 0, 40, 60]], [0.9]

    options = {"annotations": file, "detector": "det.onnx"}
    with pytest.raises(UserError, match="--bad-images skip"):
        with_detected_boxes(truth, EvalConfig(f"coco:{tmp_path}", **options), Corner())
    config = EvalConfig(f"coco:{tmp_path}", **options, bad_images="skip")
    found = with_detected_boxes(truth, config, Corner())
    assert len(found) == len(json.loads((people / "annotations.json").read_text())["images"])
    net = SimpleNamespace(heatmaps=lambda crops: np.ones((len(crops), 17, 8, 8), np.float32))
    codec = make_codec("standard", (32, 32))
    evaluation = evaluate(net, found, codec, flip_test=False, bad_images="skip", progress=False)
    assert evaluation.conditions["unreadable pictures skipped"] == "1" and evaluation.figures["AP"] >= 0
    assert evaluation.conditions["persons"] == str(len(found) - 1)
    with pytest.raises(UserError, match="no person"):
        nobody = lambda picture: ([], [])  # noqa: E731
        with_detected_boxes(truth, config, open_detector(nobody))


def test_evaluation_takes_the_best_boxes_of_a_crowded_picture(people):
    class Crowd:
        def detect(self, picture):
            return np.tile([5.0, 5, 20, 30], (90, 1)), np.linspace(0.1, 0.9, 90)

    config = EvalConfig(f"coco:{people}", annotations=str(people / "annotations.json"), detector="det.onnx")
    found = with_detected_boxes(load_records(config.data, "val", annotations=config.annotations), config, Crowd())
    counts = {}
    for record in found.records:
        counts.setdefault(record.image_id, []).append(record.score)
    assert all(len(scores) == 30 and min(scores) > 0.6 for scores in counts.values())


def test_options_of_an_evaluation_that_cannot_work():
    with pytest.raises(UserError, match="--detections"):
        EvalConfig("coco:x", detector="a.onnx", detections="b.json")
    with pytest.raises(UserError, match="sheet.png"):
        EvalConfig("coco:x", detector="a.onnx", sheet="sheet.png")
    config = EvalConfig("lspet:x", detector="a.onnx")
    with pytest.raises(UserError, match="lspet:x"):
        with_detected_boxes(None, config, TruthDetector)


# --- real pictures ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, people", [("yolox_nano", (1, 2, 4, 4)), ("rtmdet_nano", (1, 2, 4, 5))])
def test_real_detectors_on_real_pictures(shared_data, name, people):
    from lgmpose.data.images import read_image

    detector = open_detector(shared_data / "models" / f"{name}.onnx", threads=1)
    counts = []
    for picture in sorted((shared_data / "coco_sample").rglob("*.jpg")):
        counts.append(int((detector.detect(read_image(picture))[1] >= 0.4).sum()))
    assert tuple(counts) == people


def test_boxes_and_scores_that_are_no_numbers_are_left_out(tmp_path):
    boxes = [(3, 8, 8, 16, 16, 1, 0.9), (20, 40, 8, 16, 16, np.inf, 0.8), (40, 40, 30, 16, 16, np.nan, 0.8)]
    outputs = yolox_outputs(boxes)
    detector = OnnxDetector(write_detector(tmp_path / "d.onnx", outputs), threads=1)
    found, scores = detector.detect(np.zeros((*INPUT_HW, 3), np.uint8))
    assert len(found) == 1 and scores[0] == pytest.approx(0.9)
