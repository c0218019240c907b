"""``load_records``: which loader a KIND:PATH reaches, with which options, and what does not fit together."""

from __future__ import annotations

import json
import shutil

import pytest

from lgmpose.data import KINDS, load_records
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A synthetic set of 18 pictures with one person each."""
    folder = tmp_path_factory.mktemp("people")
    make_synthetic(folder, 18, image_hw=(64, 64), max_people=1, progress=False)
    return folder


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("somewhere/else",), "KIND:PATH"),
        (("voc:data",), "voc:data"),
        (("coco:",), "coco:"),
        (("lspet",), "lspet"),
        (("coco:x", "test"), "test"),
        (("lspet:x", "val", "boxes.json"), "boxes.json"),
        (("mpii:x", "val", "boxes.json"), "boxes.json"),
        (("synthetic:x", "val", None, "own.json"), "own.json"),
        (("lspet:x", "val", None, "own.json"), "own.json"),
        (("yolo:x", "val", None, "own.json"), "own.json"),
        (("coco:x", "all"), "--annotations"),
        (("mpii:x", "all"), "--annotations"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments, named):
    data, split, detections, annotations = (*arguments, *("train", None, None)[len(arguments) - 1 :])
    with pytest.raises(UserError, match=named):
        load_records(data, split, detections=detections, annotations=annotations)


def test_all_is_the_whole_set(people):
    whole, train, val = (load_records(f"synthetic:{people}", split) for split in ("all", "train", "val"))
    assert len(whole) == len(train) + len(val) == 18
    annotations = str(people / "annotations.json")
    assert len(load_records(f"coco:{people}", "all", annotations=annotations)) == 18


def test_every_kind_gets_its_arguments(monkeypatch):
    for kind in KINDS:
        monkeypatch.setitem(KINDS, kind, lambda *arguments, kind=kind: (kind, *arguments))
    assert load_records("coco:a/b", "val", detections="d", annotations="o") == ("coco", "a/b", "val", "o", "d")
    assert load_records("mpii:m", annotations="o") == ("mpii", "m", "train", "o", None)
    assert load_records("lspet:C:/x.zip") == ("lspet", "C:/x.zip", "train", None, None)
    assert load_records("synthetic", "val") == ("synthetic", "", "val", None, None)


def test_the_last_sixth_of_the_synthetic_pictures_validates(people, tmp_path, monkeypatch):
    train, val = (load_records(f"synthetic:{people}", split) for split in ("train", "val"))
    assert {record.image_id for record in val.records} == {15, 16, 17} and val.image_ids == (15, 16, 17)
    assert {record.image_id for record in train.records} == set(range(15))
    assert (train.name, val.name) == ("synthetic-train", "synthetic-val")
    # Without a path, and without a set there, one is drawn.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lgmpose.data.SYNTHETIC_PICTURES", 2)
    assert len({record.image_id for record in load_records("synthetic").records}) == 1
    assert (tmp_path / "data/synthetic/annotations.json").is_file()


@pytest.mark.parametrize("pictures", ["val2017", "images/val2017"])
def test_cocos_layout(people, tmp_path, pictures):
    (tmp_path / "annotations").mkdir()
    shutil.copy(people / "annotations.json", tmp_path / "annotations/person_keypoints_val2017.json")
    shutil.copytree(people / "images", tmp_path / pictures)
    records = load_records(f"coco:{tmp_path}", "val")
    assert records.name == "person_keypoints_val2017" and records.image_ids == tuple(range(18))
    assert records.records[0].image == str(tmp_path / pictures / "000000.jpg")
    boxes = [{"image_id": 3, "category_id": 1, "bbox": [1, 2, 30, 20], "score": 0.5}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    detected = load_records(f"coco:{tmp_path}", "val", detections=str(tmp_path / "boxes.json"))
    assert len(detected) == 1 and not detected.has_keypoints
    with pytest.raises(UserError, match="person_keypoints_train2017.json.* --annotations"):
        load_records(f"coco:{tmp_path}")
    (tmp_path / "annotations/person_keypoints_val2017.json").unlink()
    with pytest.raises(UserError, match="person_keypoints_val2017.json.* --val-annotations"):
        load_records(f"coco:{tmp_path}", "val")
