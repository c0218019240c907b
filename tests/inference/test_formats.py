"""Results for other programs: one CSV, one COCO file, supervision."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from inference_tools import PUPPET, DotBackend, noise, puppet_picture, write_film, write_png

from lgmpose.errors import UserError
from lgmpose.inference.formats import check_formats, to_supervision
from lgmpose.inference.predict_files import PredictOptions, predict_files
from lgmpose.inference.predictor import Pose, Predictor

DOTS = Predictor(DotBackend((32, 32)), detector="none", flip_test=False)
ALL = PredictOptions(formats=("json", "coco", "csv"))
POINTS = np.array([[20.0, 20], [30, 40], [12, 38]])


def read_csv(path):
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")  # Excel
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_all_pictures_are_in_one_csv_and_one_coco_file(tmp_path):
    for name in ("000007.png", "12.png"):
        write_png(tmp_path / name, puppet_picture(70, 60, POINTS)[..., ::-1])
    detector = lambda picture: ([[5, 10, 35, 40], [6, 10, 30, 44]], [0.9, 0.8])  # noqa: E731
    predictor = Predictor(DotBackend((32, 32)), detector=detector)
    assert predict_files(predictor, tmp_path, tmp_path / "out", options=ALL) == 2
    people = json.loads((tmp_path / "out" / "12.json").read_text())["people"]
    rows = read_csv(tmp_path / "out" / "poses.csv")
    assert len(people) == 1 and len(rows) == 2 * 3
    assert list(rows[0])[:5] == ["file", "frame", "time_s", "person", "person_score"]
    row = rows[-1]
    assert (row["file"], row["frame"], row["time_s"], row["joint"]) == ("12.png", "0", "", "right_hand")
    assert row["person"] == str(len(people)) and float(row["person_score"]) == people[-1]["score"]
    assert [float(row[key]) for key in ("x", "y", "score")] == people[-1]["keypoints"][2]
    coco = json.loads((tmp_path / "out" / "poses_coco.json").read_text())
    assert [row["image_id"] for row in coco] == [7] * len(people) + [12] * len(people)
    last = coco[-1]
    assert last["category_id"] == 1 and last["file_name"] == "12.png" and last["bbox"] == people[-1]["box_xywh"]
    assert last["score"] == people[-1]["score"] and last["keypoints"] == sum(people[-1]["keypoints"], [])


def test_numbers_that_are_too_long_for_coco_do_not_count(tmp_path):
    """A name may be a date with microseconds."""
    write_png(tmp_path / "20231225123045123456.png", puppet_picture(70, 60, POINTS)[..., ::-1])
    assert predict_files(DOTS, tmp_path, tmp_path / "out", options=ALL) == 1
    (row,) = json.loads((tmp_path / "out" / "poses_coco.json").read_text())
    assert row["image_id"] == 1 and row["file_name"] == "20231225123045123456.png"


def test_coco_results_can_be_evaluated(tmp_path):
    """pycocotools takes the file as it is."""
    from pycocotools.coco import COCO

    write_png(tmp_path / "a.png", puppet_picture(70, 60, POINTS)[..., ::-1])
    assert predict_files(DOTS, tmp_path / "a.png", tmp_path / "out", options=ALL) == 1
    truth = COCO()
    truth.dataset = {"images": [{"id": 1}], "annotations": [], "categories": [{"id": 1}]}
    truth.createIndex()
    results = truth.loadRes(str(tmp_path / "out" / "poses_coco.json"))
    assert len(results.anns) == 1


def test_frames_of_videos_have_numbers_times_and_identities(tmp_path):
    pictures = [puppet_picture(70, 60, POINTS + (i, 0), sigma=3) for i in range(3)]
    write_film(tmp_path / "a.mkv", pictures, times=[0, 0.1, 0.25])
    write_png(tmp_path / "7.png", noise(20, 20))
    assert predict_files(DOTS, [tmp_path / "7.png", tmp_path / "a.mkv"], tmp_path / "out", options=ALL) == 2
    rows = [row for row in read_csv(tmp_path / "out" / "poses.csv") if row["file"] == "a.mkv"]
    assert [(row["frame"], float(row["time_s"]), row["person"]) for row in rows[::3]] == [
        ("0", 0, "1"), ("1", 0.1, "1"), ("2", 0.25, "1")
    ]  # fmt: skip
    coco = json.loads((tmp_path / "out" / "poses_coco.json").read_text())
    assert [row["image_id"] for row in coco if row["file_name"] == "a.mkv"] == [2, 3, 4]  # the picture is 1
    assert [(row["frame"], row["track_id"]) for row in coco[-3:]] == [(0, 1), (1, 1), (2, 1)]


def test_nobody_gives_empty_tables(tmp_path):
    write_png(tmp_path / "a.png", noise(20, 20))
    predictor = Predictor(DotBackend((32, 32)), detector=lambda _: ([], []))
    for _ in range(2):  # an empty table is replaced, too
        assert predict_files(predictor, tmp_path / "a.png", tmp_path / "out", options=ALL) == 1
    assert read_csv(tmp_path / "out" / "poses.csv") == []
    assert json.loads((tmp_path / "out" / "poses_coco.json").read_text()) == []


@pytest.mark.parametrize("name", ["poses.csv", "poses_coco.json"])
def test_tables_replace_only_earlier_ones(tmp_path, name):
    write_png(tmp_path / "a.png", noise(20, 20))
    out = tmp_path / "out"
    for _ in range(2):
        assert predict_files(DOTS, tmp_path / "a.png", out, options=ALL) == 1
    (out / name).write_text("somebody's notes")
    with pytest.raises(UserError, match=name):
        predict_files(DOTS, tmp_path / "a.png", out, options=ALL)
    assert (out / name).read_text() == "somebody's notes"


def test_after_an_error_the_old_tables_stay(tmp_path):
    write_png(tmp_path / "a.png", noise(20, 20))
    out = tmp_path / "out"
    assert predict_files(DOTS, tmp_path / "a.png", out, options=ALL) == 1
    before = (out / "poses.csv").read_bytes()
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match="bad.png"):
        predict_files(DOTS, tmp_path / "bad.png", out, options=ALL)
    assert (out / "poses.csv").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "a_pose.jpg", "poses.csv", "poses_coco.json"]


def test_format_lists():
    assert check_formats("json, CSV,csv") == ("json", "csv")
    for bad in ("xml", "json,,csv", ""):
        with pytest.raises(UserError, match="--format"):
            check_formats(bad)


def test_supervision_gets_joints_confidences_and_identities():
    supervision = pytest.importorskip("supervision")
    rng = np.random.default_rng(0)
    poses = [Pose(rng.random((3, 2)) * 50, rng.random(3), np.zeros(4), 0.5, PUPPET, id=number) for number in (4, 7)]
    points = to_supervision(poses)
    assert isinstance(points, supervision.KeyPoints) and len(points) == 2
    np.testing.assert_allclose(points.xy, [pose.keypoints_xy for pose in poses], rtol=1e-6)
    np.testing.assert_allclose(points.keypoint_confidence, [pose.scores for pose in poses], rtol=1e-6)
    assert points.data["tracker_id"].tolist() == [4, 7]
    assert len(to_supervision([])) == 0
