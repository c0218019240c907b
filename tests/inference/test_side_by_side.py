"""``lgmpose compare``: every network's own skeletons, on the same pictures and boxes; errors before any work."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from inference_tools import DotBackend, noise, puppet_picture, write_png

from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.inference import side_by_side
from lgmpose.inference.detections import read_detections
from lgmpose.inference.drawing import draw_poses
from lgmpose.inference.predictor import Predictor
from lgmpose.inference.side_by_side import compare_networks, comparison_figure, network_labels
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import LSP
from lgmpose.zoo.catalogue import create_model, save_weights

BOX = (10.0, 5.0, 60.0, 70.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures of different shapes, and weights of another network in a run's folder."""
    folder = tmp_path_factory.mktemp("compare")
    for seed, name, height, width in ((0, "1.png", 90, 120), (1, "2.png", 100, 80)):
        write_png(folder / name, cv2.resize(noise(height // 10, width // 10, seed=seed), (width, height)))
    torch.manual_seed(0)
    net = create_model("small-hrnet", num_keypoints=14, image_hw=(64, 96)).eval()
    (folder / "run").mkdir()
    save_weights(folder / "run" / "best.safetensors", net, LSP, make_codec("standard", (64, 96)))
    return folder


@pytest.fixture
def shown(monkeypatch):
    """The (rows, labels, titles) of every figure that is drawn."""
    shown = []
    monkeypatch.setattr(
        side_by_side, "comparison_figure", lambda *args: shown.append(args) or comparison_figure(*args)
    )
    return shown


def test_each_row_is_what_its_network_predicts(folder, tiny_weights, shown):
    weights, inputs = [tiny_weights, folder / "run" / "best.safetensors"], [folder / "1.png", folder / "2.png"]
    options = {"flip_test": False, "device": "cpu"}
    compare_networks(inputs, weights, folder / "out.png", boxes=[BOX], score_threshold=0.0, **options)
    ((rows, labels, titles),) = shown
    assert labels == ["tiny\n64×64", "run\n64×96"] and titles == ["1.png", "2.png"]
    for source, row in zip(weights, rows, strict=True):
        predictor = Predictor(source, **options)
        for path, drawn in zip(inputs, row, strict=True):
            picture = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
            expected = draw_poses(picture, predictor(picture, [BOX]), score_threshold=0.0)
            np.testing.assert_array_equal(drawn, expected)
    assert (rows[0][0] != rows[1][0]).any(), "two networks, the same skeletons"
    written = cv2.imread(str(folder / "out.png"))
    assert written is not None and written.shape[0] > 400


def test_boxes_of_a_detection_file_belong_to_their_pictures(folder, monkeypatch):
    asked, call = [], Predictor.__call__
    monkeypatch.setattr(
        Predictor, "__call__", lambda *args: asked.append((args[1].shape[:2], *args[2][0])) or call(*args)
    )
    boxes = [{"image_id": 1, "bbox": BOX, "score": 0.9}, {"image_id": 2, "bbox": (30, 40, 50, 60), "score": 0.9}]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    words = [str(folder / "1.png"), str(folder / "2.png"), "--detections", str(folder / "boxes.json")]
    assert main(["compare", *words, "--out", str(folder / "boxes.svg")]) == 0
    assert (folder / "boxes.svg").read_text().lstrip().startswith("<?xml")
    assert asked == [((90, 120), *BOX), ((100, 80), 30, 40, 50, 60)]


def test_of_several_boxes_on_one_person_one_pose_is_drawn_as_predict_does(folder, tmp_path, shown):
    write_png(tmp_path / "1.png", puppet_picture(90, 120, np.array([[50, 30], [70, 60], [30, 58]]))[..., ::-1])
    shutil.copy(folder / "2.png", tmp_path)  # of which the file has no detection
    boxes = [{"image_id": 1, "bbox": (20, 15 + i, 60, 60), "score": 0.9 - i / 10} for i in range(3)]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    paths, detections = [tmp_path / "1.png", tmp_path / "2.png"], tmp_path / "boxes.json"
    compare_networks(paths, [DotBackend()], tmp_path / "out.png", detections=detections)
    predictor = Predictor(DotBackend(), detector="none")
    for path, drawn, count in zip(paths, shown[0][0][0], (1, 0), strict=True):
        picture = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
        found, scores = read_detections(detections, paths)[path]
        poses = predictor(picture, found, scores)
        assert len(poses) == count
        np.testing.assert_array_equal(drawn, draw_poses(picture, poses))


def test_a_detector_finds_the_same_boxes_for_every_network(folder, tiny_weights, shown):
    seen = []

    def find(picture):
        seen.append(picture.shape[:2])
        return [BOX, (20.0, 30.0, 40.0, 50.0), (0.0, 0.0, 20.0, 20.0)], [0.9, 0.8, 0.1]  # the last is too unsure

    options = {"flip_test": False, "device": "cpu"}
    weights = [tiny_weights, folder / "run" / "best.safetensors"]
    compare_networks(folder / "1.png", weights, folder / "out.png", detector=find, score_threshold=0.0, **options)
    assert seen == [(90, 120)]
    picture = np.ascontiguousarray(cv2.imread(str(folder / "1.png"))[:, :, ::-1])
    for source, (drawn,) in zip(weights, shown[0][0], strict=True):
        poses = Predictor(source, **options)(picture, [BOX, (20, 30, 40, 50)], [0.9, 0.8])
        np.testing.assert_array_equal(drawn, draw_poses(picture, poses, score_threshold=0.0))


def test_with_other_joints_than_peoples_each_picture_shows_one_person(folder, tmp_path, shown):
    drawn = []
    for detector in ("none", "auto"):
        compare_networks(folder / "1.png", [DotBackend()], tmp_path / "out.png", detector=detector)
        drawn.append(shown[-1][0][0][0])
    np.testing.assert_array_equal(*drawn)


def test_the_figure_and_drawings_are_no_inputs_but_a_photograph_is(folder, tmp_path, monkeypatch, shown):
    for name in ("tree.png", "tree_pose.jpg", "warrior_pose.jpg"):
        write_png(tmp_path / name, cv2.imread(str(folder / "1.png")))
    (tmp_path / "warrior.json").write_text('{"people": [], "weights": {}, "path": "warrior.png"}')  # drawn by predict
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        compare_networks(".", [DotBackend()], "comparison.png")
    assert [titles for _, _, titles in shown] == [["tree.png", "tree_pose.jpg"]] * 2


def test_an_input_is_not_replaced_by_the_figure(folder, tmp_path):
    picture = shutil.copy(folder / "1.png", tmp_path / "1.png")
    (tmp_path / "link").symlink_to(tmp_path)
    for out in (picture, tmp_path / "link" / "1.png"):
        with pytest.raises(UserError, match=f"{out}: "):
            compare_networks([folder / "2.png", picture], [DotBackend()], out)
    assert picture.read_bytes() == (folder / "1.png").read_bytes()


def test_labels_tell_runs_and_files_of_one_name_apart():
    names = ["a/net.safetensors", "b/net.safetensors", "c/best.safetensors", DotBackend()]
    assert network_labels([DotBackend((64, 96))] * 4, names) == [
        "net (1)\n64×96", "net (2)\n64×96", "c\n64×96", "none\n64×96",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments, word",
    [
        ([], "at least one"),
        (["missing.png"], "missing.png"),
        (["{}/1.png", "--out", "{}/out.txt"], "out.txt"),
        (["{}/1.png", "--out", "{}/1.png/x.png"], "x.png"),
        (["{}/1.png", "--weights", "{}/2.png"], "2.png"),
        (["{}/1.png", "--box", "500,500,10,10"], "1.png: box 0"),
        (["{}/1.png", "--box", "1,1,10,10", "--detections", "x.json"], "--detections"),
        (["{}/1.png", "--box", "1,1,10,10", "--detector", "yolox-nano"], "--detector"),
        (["{}/1.png", "--detector", "gone.onnx"], "gone.onnx"),
    ],
)
def test_bad_input_is_one_sentence(folder, capsys, arguments, word):
    assert main(["compare", *(argument.format(folder) for argument in arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and word in error[0]


def test_what_cannot_work_is_refused_before_any_network_runs(folder, monkeypatch):
    monkeypatch.setattr(side_by_side, "Predictor", lambda *_, **__: pytest.fail("work was started"))
    (folder / "walk.mp4").write_bytes(b"")
    boxes = [{"image_id": 1, "bbox": BOX, "score": 0.9}, {"image_id": 2, "bbox": (500, 5, 9, 9), "score": 0.9}]
    (folder / "outside.json").write_text(json.dumps(boxes))
    pictures = [folder / "1.png", folder / "2.png"]
    for inputs, weights, options, word in (
        (pictures, [], {}, "weights"),
        ([folder / "walk.mp4"], [DotBackend()], {}, "walk.mp4"),
        (pictures, [DotBackend()], {"detections": folder / "outside.json"}, "2.png: box 0"),
    ):
        with pytest.raises(UserError, match=word):
            compare_networks(inputs, weights, folder / "out.png", **options)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="matplotlib"):
        compare_networks(pictures, [DotBackend()], folder / "out.png")


def test_the_device_is_the_one_asked_for(folder, tiny_weights):
    with pytest.raises(UserError, match="toaster"):
        compare_networks(folder / "1.png", [tiny_weights], folder / "out.png", device="toaster")


def test_large_photographs_are_kept_as_large_as_they_are_shown(folder, tmp_path, shown):
    write_png(tmp_path / "$a_$.png", np.zeros((1500, 2000, 3), np.uint8))  # its name is no formula
    compare_networks([tmp_path, folder / "1.png"], [DotBackend()], tmp_path / "out.pdf")
    assert [picture.shape for picture in shown[0][0][0]] == [(600, 800, 3), (90, 120, 3)]
