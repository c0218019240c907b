"""``lgmpose compare``: every network's own skeletons, on the same pictures and boxes; errors before any work."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.inference import side_by_side as compare
from lgmpose.inference.drawing import draw_poses
from lgmpose.inference.predictor import Predictor
from lgmpose.inference.side_by_side import compare_networks, network_labels
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import LSP
from lgmpose.zoo.catalogue import DEFAULT_WEIGHTS, create_model, save_weights

BOX = (10.0, 5.0, 60.0, 70.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures of different shapes, and weights of a small other network in a run's folder."""
    folder = tmp_path_factory.mktemp("compare")
    rng = np.random.default_rng(0)
    for name, height, width in (("1.png", 90, 120), ("2.png", 100, 80)):
        noise = rng.integers(0, 255, (height // 10, width // 10, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(noise, (width, height)))
    torch.manual_seed(0)
    net = create_model("small-hrnet", num_keypoints=14, image_hw=(64, 96)).eval()
    (folder / "run").mkdir()
    save_weights(folder / "run" / "best.safetensors", net, LSP, make_codec("standard", (64, 96)))
    return folder


def test_each_row_is_what_its_network_predicts(folder, monkeypatch):
    shown = []
    draw = compare.comparison_figure
    monkeypatch.setattr(compare, "comparison_figure", lambda *args: shown.append(args) or draw(*args))
    weights = [DEFAULT_WEIGHTS, folder / "run" / "best.safetensors"]
    inputs = [folder / "1.png", folder / "2.png"]
    compare_networks(inputs, weights, folder / "out.png", boxes=[BOX], score_threshold=0.0, progress=False)
    ((rows, labels, titles),) = shown
    assert labels == ["lgm-pose-lspet-128x128\n128×128", "run\n64×96"] and titles == ["1.png", "2.png"]
    for source, row in zip(weights, rows, strict=True):
        predictor = Predictor(source)
        for path, drawn in zip(inputs, row, strict=True):
            picture = cv2.imread(str(path))[:, :, ::-1]
            expected = draw_poses(picture, predictor(np.ascontiguousarray(picture), [BOX]), score_threshold=0.0)
            np.testing.assert_array_equal(drawn, expected)
    assert (rows[0][0] != rows[1][0]).any(), "two networks, the same skeletons"
    written = cv2.imread(str(folder / "out.png"))
    assert written is not None and written.shape[0] > 400


def test_boxes_of_a_detection_file_belong_to_their_pictures(folder, monkeypatch):
    boxes = [{"image_id": 1, "bbox": BOX, "score": 0.9}, {"image_id": 2, "bbox": (30, 40, 50, 60), "score": 0.9}]
    asked = []
    call = Predictor.__call__
    monkeypatch.setattr(Predictor, "__call__", lambda self, picture, given: asked.append(
        (picture.shape[:2], *given[0])) or call(self, picture, given))  # fmt: skip
    detections = folder / "boxes.json"
    detections.write_text(json.dumps(boxes))
    pictures = [str(folder / "1.png"), str(folder / "2.png")]
    arguments = ["compare", *pictures, "--detections", str(detections), "--out", str(folder / "boxes.svg")]
    assert main(arguments) == 0 and (folder / "boxes.svg").read_text().lstrip().startswith("<?xml")
    assert asked == [((90, 120), *BOX), ((100, 80), 30, 40, 50, 60)]


def test_the_figure_is_no_input_of_the_next_call(folder, tmp_path, monkeypatch):
    shown = []
    draw = compare.comparison_figure
    monkeypatch.setattr(compare, "comparison_figure", lambda *args: shown.append(args[2]) or draw(*args))
    shutil.copy(folder / "1.png", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [main(["compare", "."]) for _ in range(2)] == [0, 0]
    assert shown == [["1.png"]] * 2 and (tmp_path / "comparison.png").exists()


def test_a_photograph_named_like_a_drawing_is_shown(folder, tmp_path, monkeypatch):
    shown = []
    draw = compare.comparison_figure
    monkeypatch.setattr(compare, "comparison_figure", lambda *args: shown.append(args[2]) or draw(*args))
    for name in ("tree.png", "tree_pose.jpg", "warrior_pose.jpg"):
        cv2.imwrite(str(tmp_path / name), cv2.imread(str(folder / "1.png")))
    (tmp_path / "warrior.json").write_text('{"people": [], "weights": {}, "path": "warrior.png"}')  # drawn by predict
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "."]) == 0
    assert shown == [["tree.png", "tree_pose.jpg"]]


def test_an_input_is_not_replaced_by_the_figure(folder, tmp_path, capsys):
    picture = shutil.copy(folder / "1.png", tmp_path / "1.png")
    (tmp_path / "link").symlink_to(tmp_path)
    for out in (picture, tmp_path / "link" / "1.png"):
        assert main(["compare", str(folder / "2.png"), str(picture), "--out", str(out)]) == 2
        assert f"{out}: an input, which the comparison would replace; choose another --out" in capsys.readouterr().err
    assert picture.read_bytes() == (folder / "1.png").read_bytes()


def test_labels_tell_runs_and_files_of_one_name_apart(folder):
    backend = Predictor(folder / "run" / "best.safetensors").backend
    assert network_labels([backend] * 3, ["a/net.safetensors", "b/net.safetensors", "c/best.safetensors"]) == [
        "net (1)\n64×96", "net (2)\n64×96", "c\n64×96",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "name at least one picture"),
        (["missing.png"], "missing.png: no such file"),
        (["{}/1.png", "--out", "{}/out.txt"], "written as .png"),
        (["{}/1.png", "--out", "{}/1.png/x.png"], "cannot make this folder"),
        (["{}/1.png", "--weights", "{}/2.png"], "2.png"),
        (["{}/1.png", "--box", "500,500,10,10"], "outside"),
        (["{}/1.png", "--box", "1,1,10,10", "--detections", "x.json"], "not from both"),
    ],
)
def test_bad_input_is_one_sentence(folder, capsys, arguments, message):
    assert main(["compare", *(argument.format(folder) for argument in arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0]


def test_no_weights_and_videos_are_refused(folder):
    with pytest.raises(UserError, match="at least one weights file"):
        compare_networks([folder / "1.png"], [], folder / "out.png")
    (folder / "walk.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="walk.mp4: a video"):
        compare_networks([folder / "walk.mp4"], [DEFAULT_WEIGHTS], folder / "out.png")


def test_large_photographs_are_kept_as_large_as_they_are_shown(folder, tmp_path, monkeypatch):
    shown = []
    draw = compare.comparison_figure
    monkeypatch.setattr(compare, "comparison_figure", lambda *args: shown.append(args[0]) or draw(*args))
    cv2.imwrite(str(tmp_path / "$a_1$.png"), np.zeros((1500, 2000, 3), np.uint8))  # nor is its name a formula
    compare_networks([tmp_path, folder / "1.png"], [DEFAULT_WEIGHTS], tmp_path / "out.pdf", progress=False)
    assert [picture.shape for picture in shown[0][0]] == [(600, 800, 3), (90, 120, 3)]


def test_a_box_outside_its_picture_names_it_before_any_network_runs(folder, monkeypatch):
    monkeypatch.setattr(compare, "Predictor", lambda *_, **__: pytest.fail("work was started"))
    boxes = [{"image_id": 1, "bbox": BOX, "score": 0.9}, {"image_id": 2, "bbox": (500, 5, 9, 9), "score": 0.9}]
    (folder / "outside.json").write_text(json.dumps(boxes))
    with pytest.raises(UserError, match=r"2\.png: box 0 .* lies outside"):
        compare_networks([folder / "1.png", folder / "2.png"], [DEFAULT_WEIGHTS], folder / "out.png",
                         detections=folder / "outside.json", progress=False)  # fmt: skip
