"""Pictures with boxes for a detector: what is read, and that boxes follow their pictures through the augmentation."""

import json

import cv2
import numpy as np
import pytest

from lgmpose.cli import main
from lgmpose.data import load_box_set
from lgmpose.data.boxes import LetterboxDataset, collate_boxes, load_boxes
from lgmpose.errors import UserError

BOX = [30, 20, 50, 40]


@pytest.fixture
def folder(tmp_path):
    """Return COCO's layout with one picture: a white person on black, one without joints beside it, and a crowd."""
    picture = np.zeros((90, 120, 3), np.uint8)
    x, y, w, h = BOX
    picture[y : y + h, x : x + w] = 255
    (tmp_path / "train2017").mkdir()
    (tmp_path / "annotations").mkdir()
    cv2.imwrite(str(tmp_path / "train2017" / "a.png"), picture)
    annotations = [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": BOX, "area": 900.0, "iscrowd": 0, "keypoints": [0] * 51},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9]},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [90, 50, 20, 20], "area": 400.0, "iscrowd": 1},
        {"id": 4, "image_id": 7, "category_id": 2, "bbox": BOX},
        {"id": 5, "image_id": 7, "category_id": 1, "bbox": [0, 0, 0, 9]},
        {"id": 6, "image_id": 8, "category_id": 1, "bbox": BOX},
    ]
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": 90, "width": 120}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": annotations,
    }
    (tmp_path / "annotations" / "person_keypoints_train2017.json").write_text(json.dumps(content))
    return tmp_path


def test_all_persons_are_read_and_the_rest_is_counted(folder):
    box_set = load_box_set(f"coco:{folder}", "train")
    (picture,) = box_set.pictures
    assert picture.boxes_xywh.tolist() == [BOX, [0, 0, 9, 9], [90, 50, 20, 20]]
    assert picture.areas.tolist() == [900, 81, 400] and picture.is_crowd.tolist() == [False, False, True]
    assert sorted(box_set.notes.values()) == [1, 2] and box_set.fingerprint()["persons"] == 3


def test_eval_detector_says_what_is_left_out(folder, capsys):
    pytest.importorskip("onnxruntime")
    assert main(["eval-detector", "--data", f"coco:{folder}", "--detector", "lgm-det", "--split", "train"]) == 0
    assert "1 another category" in capsys.readouterr().out


def test_odd_entries_follow_the_rules_of_joints(folder):
    """As ``coco_format.read_persons``: ``null`` is no crowd, and an area in another unit is the box's."""
    file = folder / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(file.read_text())
    person = {"image_id": 7, "category_id": 1, "bbox": BOX}
    odd = [{"iscrowd": None}, *({"area": area} for area in (0, -1, float("nan"), 1e-3, 1e9)), {"area": 900}]
    odd += [{"bbox": [500, 20, 50, 40]}, {"bbox": [0, 0, 1e30, 1e30]}, {"iscrowd": "\ud800"}]
    content["annotations"] = [person | change for change in odd]
    file.write_text(json.dumps(content))
    box_set = load_box_set(f"coco:{folder}", "train")
    (picture,) = box_set.pictures
    assert picture.areas.tolist() == 6 * [2000] + [900] and not picture.is_crowd.any()
    assert sorted(box_set.notes.values()) == [1, 2, 5]


def test_other_data_and_files_without_persons_are_refused(folder):
    with pytest.raises(UserError, match="lspet"):
        load_box_set("lspet:x", "train")
    file = folder / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"annotations": content["annotations"][3:]}))
    with pytest.raises(UserError, match="no person"):
        load_boxes(file, [folder / "train2017"])
    file.write_text(json.dumps(content | {"categories": [{"id": 2, "name": "dog"}, {"id": 3, "name": "cat"}]}))
    with pytest.raises(UserError, match="person"):
        load_boxes(file, [folder / "train2017"])


def test_boxes_follow_their_picture(folder, monkeypatch):
    monkeypatch.setattr("lgmpose.data.boxes.COLOUR", 0.0)
    dataset = LetterboxDataset(load_box_set(f"coco:{folder}", "train"), (64, 96), seed=3)
    flips = set()
    for epoch in range(40):
        sample = dataset[epoch, 0]
        white = np.argwhere(sample["image"][..., 0] > 184)  # half way between the grey of the canvas and white
        if len(white) and sample["kinds"][0] > 0:
            (top, left), (bottom, right) = white.min(0), white.max(0) + 1
            np.testing.assert_allclose((left, top, right, bottom), sample["boxes"][0], atol=1.1)
            flips.add(bool(sample["boxes"][0, 0] > sample["boxes"][1, 0]))
        assert sample["kinds"][2] == -1  # the crowd
    assert flips == {True, False}
    assert np.array_equal(sample["image"], dataset[39, 0]["image"]) and len(dataset) == 1


def test_a_person_who_is_cut_off_is_neither_person_nor_background(folder):
    dataset = LetterboxDataset(load_box_set(f"coco:{folder}", "train"), (64, 96))
    samples = [dataset[epoch, 0] for epoch in range(60)]
    small = [s for s in samples if (s["boxes"][1, 2:] - s["boxes"][1, :2]).min() < 4]
    assert small and all(s["kinds"][1] == -1 for s in small)
    assert any(s["kinds"][1] == 1 for s in samples)


def test_batches_are_padded(folder):
    dataset = LetterboxDataset(load_box_set(f"coco:{folder}", "train"), (64, 96))
    empty = dataset[1, 0] | {"boxes": np.zeros((0, 4), np.float32), "kinds": np.zeros(0, np.float32)}
    batch = collate_boxes([dataset[0, 0], empty, {"image": None, "error": "gone", "index": 2}])
    assert batch["errors"] == ["gone"] and batch["boxes"].shape == (2, 3, 4) and batch["image"].shape == (2, 64, 96, 3)
    assert batch["kinds"][1].tolist() == [0, 0, 0]
    assert collate_boxes([empty])["boxes"].shape == (1, 1, 4)
