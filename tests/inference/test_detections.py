"""Boxes of a detection file: whose picture they are of, which are used, and other conventions that are refused."""

import json
import unicodedata
from pathlib import Path

import pytest

from lgmpose.errors import UserError
from lgmpose.inference.detections import read_detections

PERSON = {"bbox": [1, 2, 30, 40], "score": 0.9, "category_id": 1}


@pytest.fixture
def found(tmp_path):
    """A function: the left edges of each picture's boxes; row i has left edge i unless it says otherwise."""

    def read(rows, *pictures):
        source = tmp_path / "boxes.json"
        known = [{**PERSON, "bbox": [i, 2, 30, 40]} for i in range(len(rows))]
        rows = [{**given, **row} if isinstance(row, dict) else row for given, row in zip(known, rows, strict=True)]
        source.write_text(json.dumps(rows))
        boxes = read_detections(source, [Path(picture) for picture in pictures])
        assert all(len(of_picture) == len(scores) for of_picture, scores in boxes.values())
        return [boxes[Path(picture)][0][:, 0].tolist() for picture in pictures]

    return read


@pytest.mark.parametrize(
    "key, picture",
    [
        ({"image_id": 7}, "a/000007.png"),
        ({"image_id": 7.0}, "a/7.png"),
        ({"image_id": "000007"}, "a/07.jpg"),
        ({"image_id": "walker"}, "a/walker.png"),
        ({"image_id": 7, "file_name": None}, "a/7.png"),
        ({"file_name": "walker.png", "image_id": 3}, "a/walker.png"),
        ({"file_name": "a/walker.png"}, "b/a/walker.png"),
        ({"file_name": "a\\walker.png"}, "b/a/walker.png"),
        ({"file_name": unicodedata.normalize("NFD", "Müller.png")}, unicodedata.normalize("NFC", "Müller.png")),
    ],
)
def test_a_detection_finds_its_picture(found, key, picture):
    assert found([key, {"image_id": 99}], picture) == [[0]]


@pytest.mark.parametrize(
    "key, picture",
    [
        ({"image_id": 7}, "a/17.png"),
        ({"image_id": 7}, "a/img7.png"),
        ({"file_name": "walker.jpg"}, "a/walker.png"),
        ({"file_name": "alker.png"}, "a/walker.png"),
        ({"file_name": "c/walker.png"}, "b/a/walker.png"),
        ({"file_name": ""}, "a/walker.png"),
        ({}, "a/walker.png"),
    ],
)
def test_pictures_without_a_detection_show_nobody_and_are_counted(found, key, picture, capsys):
    assert found([key, {"image_id": 99}], picture, "99.png") == [[], [1]]
    (line,) = capsys.readouterr().err.splitlines()
    assert "boxes.json: " in line and f" 1 of 2 pictures ({Path(picture).name})" in line
    with pytest.raises(UserError, match=r"boxes.json: .* 2 of 2 pictures "):
        found([key, {"image_id": 99}], picture, "98.png")


def test_relative_paths_are_compared_with_where_they_lead(found, tmp_path, monkeypatch):
    (tmp_path / "cam1").mkdir()
    monkeypatch.chdir(tmp_path / "cam1")
    assert found([{"file_name": "cam1/1.png"}, {"file_name": "cam2/1.png"}], "1.png") == [[0]]


@pytest.mark.parametrize("key", [{"image_id": 1}, {"file_name": "0001.png"}])
def test_detections_that_fit_several_pictures_are_counted(found, key):
    other = {"file_name": "cam1/0001.png"}
    with pytest.raises(UserError, match=r"boxes.json: 2 of 3 detections"):
        found([key, other, key], "cam1/0001.png", "cam2/0001.png")
    rows = [{"file_name": f"{camera}/0001.png"} for camera in ("cam1", "cam2", "cam3", "cam1")]
    assert found(rows, "cam1/0001.png", "cam2/0001.png") == [[0, 3], [1]]


def test_which_detections_are_used(found):
    rows = [
        {"image_id": 1, "score": 0.5}, {"image_id": 1, "score": 0.49}, {"image_id": 1, "category_id": 2},
        {"image_id": 2, "score": 0.1}, {"image_id": 1},
    ]  # fmt: skip
    assert found(rows, "1.png", "2.png") == [[0, 4], []]
    # A single category is that of persons, whatever its number.
    assert found([{"image_id": 1, "category_id": 0}, {"image_id": 1, "category_id": 0}], "1.png") == [[0, 1]]


@pytest.mark.parametrize(
    "rows, word",
    [
        ([{"image_id": 1, "category_id": 0}, {"image_id": 1, "category_id": 1}], "category_id 0"),
        ([{"image_id": 1, "bbox": [0.1, 0.2, 0.5, 1.0]}], "pixel"),
        ([{"image_id": 1}, {"image_id": 1, "score": 87.0}], "detection 1 .*87"),
        ([{"image_id": 1, "score": 10**400}], "detection 0 .*score"),
        ([{"image_id": 1, "score": -0.1}], "detection 0 .*score"),
        ([{"image_id": 1, "bbox": [1, 2, 10**400, 3]}], "detection 0 .*bbox"),
        ([{"image_id": 1}, {"image_id": 1, "score": None}], "detection 1 .*score"),
        ([{"image_id": 1, "score": float("nan")}], "detection 0 .*score"),
        ([{"image_id": 1, "score": "high"}], "detection 0 .*score"),
        ([{"image_id": 1, "category_id": "person"}], "detection 0 .*category_id"),
        ([{"image_id": 1}, {"image_id": 1, "bbox": [1, 2, 3]}], "detection 1 .*bbox"),
        ([{"image_id": 1, "bbox": None}], "detection 0 .*bbox"),
        ([{"image_id": 1, "bbox": [1, 2, 0, 3]}], "detection 0 .*bbox"),
        ([None], "list of detections"),
        ([{"image_id": [1]}], "1 of 1"),
        ([], "1 of 1"),
    ],
)
def test_other_conventions_are_refused(found, rows, word):
    with pytest.raises(UserError, match=f"boxes.json: .*{word}"):
        found(rows, "1.png")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "boxes.json").write_text('{"annotations": []}')
    for name in ("boxes.json", "gone.json"):
        with pytest.raises(UserError, match=name):
            read_detections(tmp_path / name, [Path("1.png")])
