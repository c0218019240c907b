"""The COCO reader: against pycocotools on real annotations, other skeletons, and bad input."""

from __future__ import annotations

import copy
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO as PycocoCOCO

from lgmpose.data import load_records
from lgmpose.data.coco import load_coco
from lgmpose.data.images import read_image
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.pose.skeletons import COCO

NAMES = ["left_paw", "right_paw", "tail"]


@pytest.fixture
def content() -> dict:
    """One picture (H 40, W 60), one animal of three keypoints."""
    return {
        "categories": [{"id": 7, "name": "cat", "keypoints": NAMES, "skeleton": [[1, 3], [2, 3]]}],
        "images": [{"id": 3, "file_name": "a.png", "height": 40, "width": 60}],
        "annotations": [
            {"id": 11, "image_id": 3, "category_id": 7, "iscrowd": 0, "area": 300.0, "bbox": [10, 5, 20, 30],
             "keypoints": [12, 8, 2, 25, 9, 1, 0, 0, 0]}
        ],
    }  # fmt: skip


@pytest.fixture
def load(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 60, 3), np.uint8))

    def write_and_load(content, detections=None, **options):
        (tmp_path / "annotations.json").write_text(json.dumps(content))
        if detections is not None:
            (tmp_path / "boxes.json").write_text(json.dumps(detections))
            options["detections"] = tmp_path / "boxes.json"
        return load_coco(tmp_path / "annotations.json", tmp_path, **options)

    return write_and_load


def test_real_annotations_equal_pycocotools(shared_data, capsys):
    folder = shared_data / "coco_sample"
    records = load_coco(folder / "person_keypoints_sample.json", folder)
    reference = PycocoCOCO(str(folder / "person_keypoints_sample.json"))
    expected = [a for a in reference.loadAnns(reference.getAnnIds(iscrowd=False)) if a["num_keypoints"] > 0]
    assert records.skeleton is COCO
    assert {record.id for record in records.records} == {annotation["id"] for annotation in expected}
    assert len(records) == 12
    assert records.notes == {"no labelled joint": 2}
    by_id = {record.id: record for record in records.records}
    for annotation in expected:
        record = by_id[annotation["id"]]
        keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
        np.testing.assert_array_equal(record.keypoints_xy, keypoints[:, :2])
        np.testing.assert_array_equal(record.visibility, keypoints[:, 2])
        assert record.area == annotation["area"]
        assert record.image_id == annotation["image_id"]
        picture_hw = read_image(record.image).shape[:2]
        assert picture_hw == tuple(reference.imgs[record.image_id][key] for key in ("height", "width"))
        assert record.stated_hw == picture_hw
        # Real boxes enclose the joints up to the annotators' few pixels; padded ones always do here.
        offset = np.abs(record.keypoints_xy - record.center_xy)[record.visibility > 0]
        assert (offset <= record.size_wh / 2).all()


def test_real_detections_are_used_raw(shared_data):
    folder = shared_data / "coco_sample"
    detections = json.loads((folder / "person_detections_sample.json").read_text())
    arguments = (folder / "person_keypoints_sample.json", folder)
    path = folder / "person_detections_sample.json"
    records = load_coco(*arguments, detections=path)
    assert len(records) == len(detections) == 118
    assert not records.has_keypoints
    assert "person_detections_sample.json" in records.box_source
    for record, detection in zip(records.records, detections, strict=True):
        np.testing.assert_allclose(record.size_wh, 1.25 * np.array(detection["bbox"][2:]))
        np.testing.assert_allclose(record.center_xy - record.size_wh / 2.5, detection["bbox"][:2])
        assert record.score == detection["score"]
    above = [detection for detection in detections if detection["score"] >= 0.5]
    assert len(load_coco(*arguments, detections=path, score_threshold=0.5)) == len(above) < 118


def test_any_skeleton(load, content):
    records = load(content)
    assert records.skeleton.joint_names == tuple(NAMES)
    assert records.skeleton.flip_pairs == ((0, 1),)
    assert records.skeleton.edges == ((0, 2), (1, 2))
    (record,) = records.records
    np.testing.assert_array_equal(record.visibility, [2, 1, 0])
    assert record.stated_hw == (40, 60)
    # HRNet's clipping leaves width - 1 and height - 1 of a box within the picture.
    np.testing.assert_allclose(record.size_wh, [19 * 1.25, 29 * 1.25])
    np.testing.assert_allclose(record.center_xy, [10 + 19 / 2, 5 + 29 / 2])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"iscrowd": 1}, "crowd"),
        ({"category_id": 8}, "another category"),
        ({"keypoints": [0] * 9}, "no labelled joint"),
        ({"bbox": [10, 5, 0, 30]}, "box of no area or outside the picture"),
        ({"bbox": [60, 5, 20, 30]}, "box of no area or outside the picture"),
        ({"bbox": [-30, 5, 20, 30]}, "box of no area or outside the picture"),
        ({"bbox": [10, 5, -20, 30]}, "box of no area or outside the picture"),
    ],
)
def test_left_out_and_counted(load, content, change, reason):
    other = {**copy.deepcopy(content["annotations"][0]), "id": 12, **change}
    content["annotations"].append(other)
    records = load(content)
    assert [record.id for record in records.records] == [11]
    assert records.notes == {reason: 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": [1, 2, 2]}, "annotation 11 has 3 keypoint values; its category's 3 keypoints need 9"),
        ({"keypoints": [float("nan"), 8, 2, 25, 9, 1, 0, 0, 0]}, "NaN"),
        ({"keypoints": [12, 8, 3, 25, 9, 1, 0, 0, 0]}, "visibility other than"),
        ({"keypoints": ["a", 8, 2, 25, 9, 1, 0, 0, 0]}, "not a number"),
        ({"bbox": [10, float("nan"), 20, 30]}, "NaN"),
        ({"bbox": [10, 20, 30]}, "not four numbers"),
        ({"image_id": 4}, "picture 4, which the file does not list"),
        ({"iscrowd": 1}, "no person left"),
    ],
)
def test_bad_annotations_are_refused(load, content, change, message):
    content["annotations"][0].update(change)
    with pytest.raises(UserError, match=message) as error:
        load(content)
    assert "annotations.json" in str(error.value)


def test_bad_files_are_refused(load, content, tmp_path):
    with pytest.raises(UserError, match="nowhere.json: no such file"):
        load_coco(tmp_path / "nowhere.json", tmp_path)
    (tmp_path / "cut.json").write_text(json.dumps(content)[:100])
    with pytest.raises(UserError, match="cut.json: not valid JSON"):
        load_coco(tmp_path / "cut.json", tmp_path)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match="not a COCO annotation file"):
        load_coco(tmp_path / "list.json", tmp_path)
    with pytest.raises(UserError, match="not a COCO annotation file"):
        load({**content, "annotations": {"11": content["annotations"][0]}})
    with pytest.raises(UserError, match="no category lists keypoints"):
        load({**content, "categories": [{"id": 7, "name": "cat"}]})
    for number in ("7", None, -1, 1.5):
        with pytest.raises(UserError, match=r"annotations.json: its category cat has the id .* whole numbers"):
            load({**content, "categories": [{**content["categories"][0], "id": number}]})
        with pytest.raises(UserError, match=r"annotations.json: picture a.png has the id .* whole numbers"):
            load({**content, "images": [{**content["images"][0], "id": number}]})
    with pytest.raises(UserError, match="picture 4, which the file does not list"):
        load({**content, "annotations": [*content["annotations"], {"category_id": 7, "iscrowd": 1, "image_id": 4}]})
    with pytest.raises(UserError, match="used twice"):
        load({**content, "annotations": content["annotations"] * 2})
    with pytest.raises(UserError, match="no person left"):
        load({**content, "annotations": []})
    for key in ("height", "width", "file_name"):
        for value in (None, "", ["a.png"], 0, float("nan")):
            with pytest.raises(UserError, match=f"annotations.json: picture 3 has the {key} "):
                load({**content, "images": [{**content["images"][0], key: value}]})
    with pytest.raises(UserError, match="annotations.json: picture number 0 of its list has no 'id'"):
        load({**content, "images": ["a.png"]})
    content["images"].append({"id": 4, "file_name": "b.png", "height": 40, "width": 60})
    content["annotations"].append({**content["annotations"][0], "id": 12, "image_id": 4})
    with pytest.raises(UserError, match=r"b.png: no such picture \(1 of the 2 "):
        load(content)


@pytest.mark.parametrize("unit", ["of the picture", "pixels from the box's corner"])
def test_joints_in_other_units_than_the_boxes_are_refused(tmp_path, unit):
    """Their targets would be empty, and the loss nothing but 0."""
    annotations = make_synthetic(tmp_path, 8, image_hw=(96, 128), progress=False)
    content = json.loads(annotations.read_text())
    assert len(load_coco(annotations, tmp_path / "images")) > 8
    for picture in content["images"]:
        picture["width"] = 1128  # room for boxes that are far from the corner
    for person in content["annotations"]:
        joints = np.reshape(person["keypoints"], (17, 3)).astype(float)
        if unit == "of the picture":
            joints[:, :2] /= 128, 96
        else:
            joints[:, :2] -= person["bbox"][:2]
            person["bbox"][0] += 1000
        person["keypoints"] = joints.ravel().tolist()
    annotations.write_text(json.dumps(content))
    with pytest.raises(UserError, match="annotations.json: .* of the .* persons .* keypoints in pixels"):
        load_coco(annotations, tmp_path / "images")


@pytest.mark.parametrize(
    ("annotations", "picture", "file_name"),
    [
        ("annotations/person_keypoints_train2017.json", "images/train2017/a.png", "a.png"),
        ("annotations/person_keypoints_train2017.json", "train2017/a.png", "a.png"),
        ("own.json", "images/a.png", "a.png"),
        ("own.json", "a.png", "a.png"),
        ("train/_annotations.coco.json", "train/a.png", "a.png"),  # Roboflow
        ("annotations/person_keypoints_Train.json", "images/Train/a.png", "a.png"),  # CVAT
        ("result.json", "images/a.png", "images/a.png"),  # Label Studio
        ("annotations/image_info_test-dev2017.json", "test2017/a.png", "a.png"),
        ("annotations/image_info_test-dev2017.json", "images/test2017/a.png", "a.png"),
    ],
)
@pytest.mark.parametrize("beside", [None, "images/train2017", "train2017", "images"])
def test_pictures_are_found_where_common_tools_put_them(tmp_path, content, annotations, picture, file_name, beside):
    """``beside``: a folder of other pictures that is there, too."""
    for path in (annotations, picture, f"{beside or '.'}/other.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / picture).touch()
    content["images"][0]["file_name"] = file_name
    (tmp_path / annotations).write_text(json.dumps(content))
    (record,) = load_records(f"coco:{tmp_path}", annotations=str(tmp_path / annotations)).records
    assert record.image == str(tmp_path / picture)
    (tmp_path / picture).unlink()
    with pytest.raises(UserError, match=r"a.png: no such picture \(1 of the 1 .* right folder"):
        load_records(f"coco:{tmp_path}", annotations=str(tmp_path / annotations))


def test_detections(load, content):
    box = {"image_id": 3, "category_id": 7, "bbox": [-5, -5, 30, 20], "score": 0.5}
    detections = [box, {**box, "bbox": [70, 0, 5, 5]}, {**box, "category_id": 1}, {**box, "score": 0.1}]
    records = load(content, detections, score_threshold=0.2)
    (record,) = records.records
    np.testing.assert_allclose(record.center_xy, [10, 5])  # not clipped
    assert record.stated_hw == (40, 60)
    assert records.notes == {
        "box of no area or outside the picture": 1, "another category": 1, "score below 0.2": 1,
    }  # fmt: skip
    with pytest.raises(UserError, match="detection number 1 belongs to picture 99"):
        load(content, [box, {**box, "image_id": 99}])
    with pytest.raises(UserError, match="NaN"):
        load(content, [{**box, "bbox": [0, 0, float("nan"), 5]}])
    with pytest.raises(UserError, match="no finite 'score'"):
        load(content, [{key: value for key, value in box.items() if key != "score"}])
    with pytest.raises(UserError, match="not a list of detections"):
        load(content, {"annotations": []})


def test_with_detections_too_the_truth_is_read(load, content):
    """AP will be measured against it, after all boxes: a truth that it fails on is refused before."""
    boxes = [{"image_id": 3, "category_id": 7, "bbox": [1, 2, 30, 20], "score": 0.5}]
    assert load(content, boxes).annotation_file.name == "annotations.json"
    for key, message in (("keypoints", "has no 'keypoints'; use the keypoint annotations"), ("bbox", "has no 'bbox'")):
        lacking = {k: value for k, value in content["annotations"][0].items() if k != key}
        with pytest.raises(UserError, match=f"annotations.json: annotation 11 {message}"):
            load({**content, "annotations": [lacking]}, boxes)
    for persons in ([], [{"category_id": 8}]):  # nobody to compare with
        assert load({**content, "annotations": persons}, boxes).annotation_file is None


def test_picture_list_without_annotations_serves_detections(load, content):
    """image_info_test-dev2017.json: categories without joints, no annotations."""
    del content["annotations"]
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    records = load(content, [{"image_id": 3, "category_id": 1, "bbox": [1, 2, 30, 20], "score": 0.5}])
    assert records.skeleton is COCO
    with pytest.raises(UserError, match="no category lists keypoints"):
        load(content)
