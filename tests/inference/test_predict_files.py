"""Files in, drawings and JSON out: names, folders, what is never replaced, and what goes wrong."""

from __future__ import annotations

import json
import os
import sys

import cv2
import numpy as np
import pytest
from inference_tools import DotBackend, noise, puppet_picture, write_film, write_png
from PIL import Image

from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.inference import predict_files as predict_files_module
from lgmpose.inference.drawing import draw_poses
from lgmpose.inference.input_files import PICTURE_SUFFIXES, list_inputs
from lgmpose.inference.predict_files import PredictOptions, predict_files
from lgmpose.inference.predictor import Predictor
from lgmpose.pose.skeletons import LSP
from lgmpose.zoo.cards import weights_hash

DOTS = Predictor(DotBackend((32, 32)), flip_test=False)


def content_of(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- pictures ---------------------------------------------------------------------------------------------------------
def test_the_command_writes_a_drawing_and_a_json(tiny_weights, tmp_path):
    file, out = tmp_path / "mein bild ä.png", tmp_path / "new" / "out"
    picture = cv2.resize(noise(6, 4), (44, 60))
    Image.fromarray(picture).save(file)
    words = ["predict", str(file), "--weights", str(tiny_weights), "--out", str(out), "--box", "4,5,30,40"]
    assert main([*words, "--device", "cpu", "--no-flip-test", "--score-threshold", "0"]) == 0
    content = content_of(out, file.stem)
    assert content["image"] == file.name and content["path"] == str(file) and content["image_hw"] == [60, 44]
    assert content["skeleton"]["name"] == "lsp-14" and content["skeleton"]["joint_names"] == list(LSP.joint_names)
    assert content["skeleton"]["edges"] == [list(edge) for edge in LSP.edges]
    assert content["weights"] == {"file": "tiny.safetensors", "sha256": weights_hash(tiny_weights)}
    (person,) = content["people"]
    (pose,) = poses = Predictor(tiny_weights, device="cpu", flip_test=False)(file, [[4, 5, 30, 40]])
    assert person["box_xywh"] == [4, 5, 30, 40] and person["score"] == round(pose.score, 4)
    np.testing.assert_allclose(np.array(person["keypoints"])[:, :2], pose.keypoints_xy, atol=0.0051)
    np.testing.assert_allclose(np.array(person["keypoints"])[:, 2], pose.scores, atol=0.000051)
    drawn = draw_poses(picture, poses, score_threshold=0)
    written = np.asarray(Image.open(out / f"{file.stem}_pose.jpg")).astype(float)
    assert (drawn != picture).any() and np.abs(written - drawn).mean() < 10 < np.abs(written - picture).max()


def test_joints_below_the_threshold_are_not_drawn(tmp_path):
    picture = write_png(tmp_path / "1.png", noise(60, 44))
    predict_files(DOTS, picture, tmp_path / "none", options=PredictOptions(2))
    plain = cv2.imdecode(cv2.imencode(".jpg", cv2.imread(str(picture)), [cv2.IMWRITE_JPEG_QUALITY, 92])[1], 1)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "none" / "1_pose.jpg")), plain)


def test_a_detectors_boxes_and_scores_are_used(tmp_path):
    points = np.array([[20, 20], [30, 40], [12, 38]])
    for name in ("000007.png", "8.png", "9.png"):
        write_png(tmp_path / name, puppet_picture(70, 60, points)[..., ::-1])
    rows = [{"image_id": 7, "bbox": [5, 10, 35, 40], "score": score} for score in (0.5, 0.75)]
    rows += [{"image_id": 8, "bbox": [5, 10, 35, 40], "score": 0.1}]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    assert predict_files(DOTS, tmp_path, tmp_path / "out", detections=tmp_path / "boxes.json") == 3
    (person,) = content_of(tmp_path / "out", "000007")["people"]
    (pose,) = DOTS(tmp_path / "000007.png", [[5, 10, 35, 40]])
    assert person["box_xywh"] == [5, 10, 35, 40] and person["score"] == pytest.approx(0.75 * pose.score, abs=1e-3)
    for nobody in ("8", "9"):  # a low score, and no detection
        assert content_of(tmp_path / "out", nobody)["people"] == []


def test_a_folder_is_done_by_name_and_one_bad_picture_does_not_stop_it(tmp_path, capsys):
    for name in ("b.PNG", "a.jpg", "c.webp", "._a.jpg"):
        write_png(tmp_path / name, noise(30, 40))
    for name in ("notes.txt", "photo.heic", "labels.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 nothing \xff\xd9")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"1 of 4 .*broken.jpg"):
        predict_files(DOTS, tmp_path, out)
    printed = capsys.readouterr().err
    assert "broken.jpg" in printed and "2 files" in printed and "notes.txt, photo.heic" in printed
    assert names_in(out) == sorted(f"{stem}{end}" for stem in "abc" for end in ("_pose.jpg", ".json"))
    with pytest.raises(UserError, match="broken.jpg"):
        predict_files(DOTS, tmp_path / "broken.jpg", out)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that can be opened but not read")
def test_a_file_that_cannot_be_read_does_not_stop_a_folder(tmp_path, capsys):
    write_png(tmp_path / "a.png", noise(30, 40))
    (tmp_path / "b.jpg").symlink_to("/proc/self/mem")
    (tmp_path / "c.txt").symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match=r"1 of 2 .*b.jpg"):
        predict_files(DOTS, tmp_path, tmp_path / "out")
    printed = capsys.readouterr().err
    assert "b.jpg: cannot be read" in printed and "c.txt" in printed
    assert names_in(tmp_path / "out") == ["a.json", "a_pose.jpg"]


@pytest.mark.parametrize("suffix", sorted(set(PICTURE_SUFFIXES) - {".avif", ".gif", ".jp2"}))
def test_a_folders_pictures_of_every_kind_are_read(tmp_path, suffix):
    kind = {".jpe": ".jpg", ".jfif": ".jpg", ".dib": ".bmp", ".pnm": ".ppm", ".pbm": ".ppm"}.get(suffix, suffix)
    write_png(tmp_path / f"a{kind}", noise(30, 40)[..., :1] if kind == ".pgm" else noise(30, 40))
    (tmp_path / f"a{kind}").rename(tmp_path / f"a{suffix}")
    assert predict_files(DOTS, tmp_path, tmp_path / "out") == 1


def test_inputs_are_listed_once_in_the_order_given(tmp_path):
    for name in ("b.png", "a.png", "film.mp4"):
        write_png(tmp_path / "x.png", noise(9, 9)).rename(tmp_path / name)
    names = ["b.png", "film.mp4"]
    again = [tmp_path, tmp_path / "b.png", tmp_path / ".." / tmp_path.name / "b.png"]
    given = [tmp_path / name for name in names] + again
    assert [path.name for path in list_inputs(given)] == ["b.png", "film.mp4", "a.png"]
    assert [path.name for path in list_inputs(tmp_path, skip=tmp_path / "a.png")] == names


def test_what_cannot_work_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(predict_files_module, "read_source", lambda *_: pytest.fail("work was started"))
    picture = write_png(tmp_path / "7.png", noise(20, 20))
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text("")
    (tmp_path / "film.mp4").write_bytes(b"")
    (tmp_path / "x.json").write_text('[{"image_id": 7, "bbox": [1, 1, 9, 9], "score": 1}]')

    def refused(word, inputs=picture, out=tmp_path / "out", **options):
        with pytest.raises(UserError, match=word):
            predict_files(DOTS, inputs, out, **options)

    refused("a file: ", out=tmp_path / "a file")
    refused("below: ", out=tmp_path / "a file" / "below")
    refused("gone.png: ", inputs=tmp_path / "gone.png")
    refused("empty: ", inputs=tmp_path / "empty")
    refused("picture", inputs=[])
    refused("box 0 ", boxes=[[1, 1, 0, 4]])
    refused("detection file", boxes=[[1, 1, 4, 4]], detections=tmp_path / "x.json")
    refused("gone.json: ", detections=tmp_path / "gone.json")
    refused("film.mp4: ", inputs=[picture, tmp_path / "film.mp4"], detections=tmp_path / "x.json")


def test_a_box_outside_its_picture_names_the_picture(tmp_path):
    for name in ("1.png", "walk.avi"):
        file = tmp_path / name
        write_png(file, noise(20, 20)) if file.suffix == ".png" else write_film(file, [noise(32, 32)])
        with pytest.raises(UserError, match=f"{name}: box 0 "):
            predict_files(DOTS, file, tmp_path / "out", boxes=[[99, 99, 5, 5]])
    assert names_in(tmp_path / "out") == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are text")
def test_a_name_that_is_not_utf_8(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_png(tmp_path / "m.png", noise(30, 40)).rename(folder / os.fsdecode(b"m\xfcller.png"))
    assert predict_files(DOTS, folder, tmp_path / "out") == 1
    assert json.loads(next((tmp_path / "out").glob("*.json")).read_text())["path"] == str(next(folder.iterdir()))
    film = write_film(tmp_path / "walk.avi", [noise(32, 32)]).rename(tmp_path / os.fsdecode(b"m\xfcller.avi"))
    assert predict_files(DOTS, film, tmp_path / "out") == 1


def test_a_name_of_any_length(tmp_path):
    """A name with "_pose.jpg" behind it may be too long for the disk."""
    for last in "ab":
        write_png(tmp_path / f"{'人' * 82}{last}.png", noise(30, 40))
    for _ in range(2):
        assert predict_files(DOTS, tmp_path, tmp_path / "out") == 2
    stem = "人" * 66
    assert names_in(tmp_path / "out") == [f"{stem}{end}" for end in (".json", "_2.json", "_2_pose.jpg", "_pose.jpg")]


def test_a_drawing_too_large_for_jpeg_leaves_nothing(tmp_path):
    picture = write_png(tmp_path / "long.png", noise(1, 70000))
    with pytest.raises(UserError, match="long_pose.jpg: 70000 × 1"):
        predict_files(DOTS, picture, tmp_path / "out", boxes=[[0, 0, 9, 1]])
    assert names_in(tmp_path / "out") == []


# --- what is never replaced -------------------------------------------------------------------------------------------
def test_the_same_input_replaces_its_result_and_drawings_are_no_inputs(tmp_path):
    write_png(tmp_path / "photo.png", noise(20, 20))
    write_film(tmp_path / "walk.avi", [noise(32, 32)] * 2)
    for _ in range(2):
        assert predict_files(DOTS, tmp_path, tmp_path) == 2
    assert names_in(tmp_path) == [
        "photo.json", "photo.png", "photo_pose.jpg", "walk.avi", "walk.json", "walk_pose.mp4"
    ]  # fmt: skip


def test_inputs_of_one_name_get_results_of_their_own_in_every_call(tmp_path):
    inputs = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    for name, height in (("one/a.png", 20), ("two/a.png", 30), ("one/a_2.png", 40), ("one/A.jpg", 50)):
        inputs.append(write_png(tmp_path / name, noise(height, 40)))
    out = tmp_path / "out"
    expected = {"a": 20, "a_2": 30, "a_2_2": 40, "A_3": 50}  # some disks ignore capitals
    assert predict_files(DOTS, inputs, out) == 4
    for order in (inputs, inputs[1::-1], inputs[1:3]):  # each finds its earlier result again
        assert predict_files(DOTS, order, out) == len(order)
        assert {path.stem: content_of(out, path.stem)["image_hw"][0] for path in out.glob("*.json")} == expected


def test_a_picture_and_a_video_of_one_name(tmp_path):
    """As a telephone's moving photographs."""
    write_film(tmp_path / "a.avi", [noise(32, 32)] * 2)
    assert predict_files(DOTS, tmp_path, tmp_path) == 1
    write_png(tmp_path / "a.PNG", noise(20, 20))
    for _ in range(2):
        assert predict_files(DOTS, tmp_path, tmp_path) == 2
    assert names_in(tmp_path) == ["a.PNG", "a.avi", "a.json", "a_2.json", "a_2_pose.jpg", "a_pose.mp4"]


@pytest.mark.parametrize("foreign", ['{"version": "5.4.1", "shapes": []}', '{"people": []}', "[]", "notes", ""])
def test_a_json_of_another_program_stays(tmp_path, foreign):
    write_png(tmp_path / "b.png", noise(20, 20))
    (tmp_path / "b.json").write_text(foreign)
    for _ in range(2):
        assert predict_files(DOTS, tmp_path, tmp_path) == 1
    assert (tmp_path / "b.json").read_text() == foreign
    assert names_in(tmp_path) == ["b.json", "b.png", "b_2.json", "b_2_pose.jpg"]


@pytest.mark.parametrize("given", ["the folder", "the picture", "both"])
def test_a_photograph_named_like_a_drawing_stays_and_is_an_input(tmp_path, given):
    picture = write_png(tmp_path / "a.png", noise(20, 20))
    photograph = write_png(tmp_path / "a_pose.jpg", noise(20, 20))
    before = photograph.read_bytes()
    inputs = {"the folder": tmp_path, "the picture": picture, "both": [picture, photograph]}[given]
    for _ in range(2):
        assert predict_files(DOTS, inputs, tmp_path) == (1 if given == "the picture" else 2)
    assert photograph.read_bytes() == before and (tmp_path / "a_2_pose.jpg").exists()


def test_an_earlier_drawing_that_is_named_as_an_input_stays(tmp_path):
    picture = write_png(tmp_path / "a.png", noise(20, 20))
    assert predict_files(DOTS, picture, tmp_path) == 1
    drawing = tmp_path / "a_pose.jpg"
    before = drawing.stat().st_mtime_ns
    assert predict_files(DOTS, [picture, drawing], tmp_path) == 2
    assert drawing.stat().st_mtime_ns == before and (tmp_path / "a_2_pose.jpg").exists()


def test_a_detection_file_of_the_results_name_stays(tmp_path):
    write_png(tmp_path / "7.png", noise(20, 20))
    rows = [{"image_id": 7, "bbox": [1, 1, 9, 9], "score": 1}]
    (tmp_path / "7.json").write_text(json.dumps(rows))
    assert predict_files(DOTS, tmp_path / "7.png", tmp_path, detections=tmp_path / "7.json") == 1
    assert json.loads((tmp_path / "7.json").read_text()) == rows and (tmp_path / "7_2.json").exists()


@pytest.mark.parametrize("name", ["a.png", "a.avi"])
def test_after_a_kill_the_same_call_works_and_replaces_nothing(tmp_path, monkeypatch, name):
    file = tmp_path / name
    write_png(file, noise(20, 20)) if file.suffix == ".png" else write_film(file, [noise(32, 32)] * 2)
    real, killed = os.replace, []

    def kill_at_second(*names):
        killed.append(names)
        if len(killed) == 2:
            raise KeyboardInterrupt
        real(*names)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", kill_at_second)
        predict_files(DOTS, tmp_path, tmp_path)
    assert [name for name in names_in(tmp_path) if name[0] != "."] == sorted([name, "a.json"])
    assert predict_files(DOTS, tmp_path, tmp_path) == 1
    assert len([name for name in names_in(tmp_path) if name[0] != "."]) == 3


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_links_lead_to_the_same_result(tmp_path):
    deep = tmp_path / "elsewhere" / "in"
    deep.mkdir(parents=True)
    (tmp_path / "link").symlink_to(deep)
    write_png(tmp_path / "elsewhere" / "a.png", noise(20, 20))
    for folder in (tmp_path / "link" / "..", tmp_path / "elsewhere"):
        assert predict_files(DOTS, folder / "a.png", tmp_path / "out") == 1
    assert names_in(tmp_path / "out") == ["a.json", "a_pose.jpg"]
