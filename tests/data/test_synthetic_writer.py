"""Sets of synthetic people: the same files from the same seed, valid for pycocotools, nothing foreign overwritten."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO as PyCoco
from pycocotools.cocoeval import COCOeval

from lgmpose.data import load_records
from lgmpose.data.synthetic import draw_scene, make_synthetic, writer
from lgmpose.errors import UserError
from lgmpose.pose.skeletons import COCO

ROOT = Path(__file__).resolve().parents[2]
IMAGE_HW = (96, 120)
NUM_IMAGES = 24


@pytest.fixture(scope="module")
def small_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    return make_synthetic(folder, NUM_IMAGES, seed=3, image_hw=IMAGE_HW, progress=False)


def test_the_seed_and_the_pictures_number_decide_everything(small_set, tmp_path):
    again = make_synthetic(tmp_path / "a", 7, seed=3, image_hw=IMAGE_HW, progress=False)
    for i in range(7):
        name = f"images/{i:06d}.jpg"
        assert (again.parent / name).read_bytes() == (small_set.parent / name).read_bytes()
    part, whole = (json.loads(path.read_text()) for path in (again, small_set))
    assert part["images"] == whole["images"][:7]
    assert part["annotations"] == [a for a in whole["annotations"] if a["image_id"] < 7]
    other = make_synthetic(tmp_path / "b", 1, seed=4, image_hw=IMAGE_HW, progress=False)
    assert (other.parent / "images/000000.jpg").read_bytes() != (small_set.parent / "images/000000.jpg").read_bytes()


def test_files_hold_what_draw_scene_draws(small_set):
    image, people = draw_scene(np.random.default_rng([3, 11]), IMAGE_HW, 3)
    stored = cv2.imread(str(small_set.parent / "images/000011.jpg"))[..., ::-1]
    assert image.dtype == np.uint8 and image.shape == stored.shape == (*IMAGE_HW, 3)
    # JPEG halves the resolution of colour, so compare brightness; red and blue swapped would show in the means.
    grey, stored_grey = (cv2.cvtColor(np.ascontiguousarray(a), cv2.COLOR_RGB2GRAY) for a in (image, stored))
    assert cv2.absdiff(grey, stored_grey).mean() < 4
    np.testing.assert_allclose(image.mean((0, 1)), stored.mean((0, 1)), atol=1.5)
    annotations = [a for a in json.loads(small_set.read_text())["annotations"] if a["image_id"] == 11]
    for annotation, person in zip(annotations, people, strict=True):
        keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
        labelled = person["visibility"] > 0
        np.testing.assert_array_equal(keypoints[:, 2], person["visibility"])
        np.testing.assert_allclose(keypoints[labelled, :2], person["keypoints_xy"][labelled], atol=0.006)
        assert not keypoints[~labelled].any()


def test_pycocotools_reads_the_set_and_gives_perfect_predictions_ap_1(small_set, capsys):
    truth = PyCoco(str(small_set))
    category = truth.loadCats(1)[0]
    assert category["keypoints"] == list(COCO.joint_names)
    assert [(a - 1, b - 1) for a, b in category["skeleton"]] == list(COCO.edges)
    assert len(truth.getImgIds()) == NUM_IMAGES
    for image in truth.loadImgs(truth.getImgIds()):
        assert (image["height"], image["width"]) == IMAGE_HW
        assert cv2.imread(str(small_set.parent / "images" / image["file_name"])).shape == (*IMAGE_HW, 3)
    annotations = truth.loadAnns(truth.getAnnIds())
    assert sorted(a["id"] for a in annotations) == list(range(1, len(annotations) + 1))  # 0 would count as a miss
    for annotation in annotations:
        flags = annotation["keypoints"][2::3]
        assert len(flags) == 17 and all(type(flag) is int for flag in flags)
        assert annotation["num_keypoints"] == np.count_nonzero(flags) > 0
    found = [{key: a[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 1.0} for a in annotations]
    evaluation = COCOeval(truth, truth.loadRes(found), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)
    capsys.readouterr()


def test_a_set_already_there_is_left_alone_and_an_incomplete_one_is_mended(tmp_path):
    annotations = make_synthetic(tmp_path, 3, image_hw=(64, 80), progress=False)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in before}
    assert make_synthetic(tmp_path, 3, image_hw=(64, 80), progress=False) == annotations
    assert {path: path.stat().st_mtime_ns for path in before} == times

    damages = (Path.unlink, lambda path: path.write_bytes(b""))  # an empty file is what a full disk leaves behind
    for damage in damages:
        damage(tmp_path / "images/000001.jpg")
        make_synthetic(tmp_path, 3, image_hw=(64, 80), progress=False)
        assert {path: path.read_bytes() for path in before} == before


def test_an_interrupted_set_is_drawn_again(tmp_path, monkeypatch):
    def broken(rng, *arguments):
        raise KeyboardInterrupt

    make_synthetic(tmp_path, 2, image_hw=(64, 80), progress=False)
    (tmp_path / "images/000000.jpg").unlink()
    monkeypatch.setattr(writer, "draw_scene", broken)
    with pytest.raises(KeyboardInterrupt):
        make_synthetic(tmp_path, 2, image_hw=(64, 80), progress=False)
    assert not (tmp_path / "annotations.json").exists()
    (tmp_path / "images/000000.jpg").write_bytes(b"half a pict")
    monkeypatch.undo()
    annotations = make_synthetic(tmp_path, 2, image_hw=(64, 80), progress=False)
    assert cv2.imread(str(tmp_path / "images/000000.jpg")).shape == (64, 80, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".drawing.lock", annotations.name, "images"]


def test_a_set_of_one_picture_has_nobody_to_train_on(tmp_path):
    make_synthetic(tmp_path, 1, image_hw=(64, 80), progress=False)
    assert len(load_records(f"synthetic:{tmp_path}", "val")) > 0
    with pytest.raises(UserError, match="annotations.json.*train"):
        load_records(f"synthetic:{tmp_path}", "train")


SECOND_PROCESS = """
import sys
from pathlib import Path
from filelock import FileLock
from lgmpose.data.synthetic import make_synthetic

folder, acquire = Path(sys.argv[1]), FileLock.acquire

def waiting(*arguments, **options):
    (folder / "waiting").touch()
    return acquire(*arguments, **options)

FileLock.acquire = waiting
make_synthetic(folder, 3, image_hw=(64, 80), progress=False)
"""


def test_of_two_processes_one_draws_and_the_other_waits(tmp_path, monkeypatch):
    started = []

    def draw_beside_another(*arguments):
        if not started:  # in the middle of the first process's work the second one is asked for the same set
            command = [sys.executable, "-c", SECOND_PROCESS, str(tmp_path)]
            started.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}))
            deadline = time.monotonic() + 120
            while started[0].poll() is None and not (tmp_path / "waiting").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
        return draw_scene(*arguments)

    monkeypatch.setattr(writer, "draw_scene", draw_beside_another)
    make_synthetic(tmp_path, 3, image_hw=(64, 80), progress=False)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jp*g")}
    assert started[0].wait(timeout=120) == 0
    assert len(times) == 3 and {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize("option, message", [
    ({"seed": 4}, "seed 3 instead of 4"), ({"max_people": 2}, "max_people 3 instead of 2"),
    ({"num_images": 25}, "num_images 24 instead of 25"),
    ({"image_hw": (96, 128)}, r"image_hw \[96, 120\] instead of \[96, 128\]"),
])  # fmt: skip
def test_another_set_in_the_folder_is_refused(small_set, option, message):
    settings = {"num_images": NUM_IMAGES, "seed": 3, "image_hw": IMAGE_HW, "progress": False}
    with pytest.raises(UserError, match=message):
        make_synthetic(small_set.parent, **(settings | option))


def test_files_of_other_origin_are_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/000000.jpg").write_bytes(b"somebody's holiday")
    with pytest.raises(UserError, match="images"):
        make_synthetic(tmp_path, 1, progress=False)
    assert (tmp_path / "images/000000.jpg").read_bytes() == b"somebody's holiday"
    shutil.rmtree(tmp_path / "images")
    for contents in ("no JSON", "[]", '{"info": {"year": 2017}}', '{"info": null}'):
        (tmp_path / "annotations.json").write_text(contents)
        with pytest.raises(UserError, match=str(tmp_path)):
            make_synthetic(tmp_path, 1, progress=False)
        assert (tmp_path / "annotations.json").read_text() == contents


@pytest.mark.parametrize("options, message", [
    ({"num_images": 0}, "num_images 0"), ({"seed": -1}, "seed -1"), ({"max_people": 0}, "max_people 0"),
    ({"max_people": 21}, "max_people 21"), ({"image_hw": (16, 320)}, "image_hw 16×320"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        make_synthetic(tmp_path / "set", **({"num_images": 1, "progress": False} | options))
    assert not (tmp_path / "set").exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=str(tmp_path / "file")):
        make_synthetic(tmp_path / "file", 1, progress=False)


@pytest.mark.slow
def test_script_says_where_the_set_is_and_ends_with_2_on_bad_input(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "data_scripts/synthetic.py"), "--out", str(tmp_path / "set"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})

    good = run("--num-images", "2", "--image-hw", "64", "80")
    assert good.returncode == 0, good.stderr
    annotations = tmp_path / "set" / "annotations.json"
    assert str(annotations) in good.stdout
    assert [image["height"] for image in json.loads(annotations.read_text())["images"]] == [64, 64]
    bad = run("--num-images", "0")
    assert bad.returncode == 2 and bad.stdout == ""
    assert "num_images 0" in bad.stderr and len(bad.stderr.splitlines()) == 1
