"""The COCO reader: against pycocotools on real annotations, other skeletons, and bad input."""

from __future__ import annotations

import copy
import json
from collections import Counter

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO as PycocoCOCO

from lgmpose.data import load_records
from lgmpose.data.coco import load_coco
from lgmpose.data.images import read_image
from lgmpose.data.records import check_records
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.metrics import coco_ap, coco_results
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


def test_pairs_that_names_do_not_show_are_read(load, content):
    content["categories"][0]["flip_pairs"] = [[NAMES[2], NAMES[0]]]
    assert load(content).skeleton.flip_pairs == ((2, 0),)


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
        ({"iscrowd": "1"}, "crowd"),
        ({"category_id": 8}, "another category"),
        ({"category_id": None}, "another category"),
        ({"keypoints": [0] * 9}, "no labelled joint"),
        ({"keypoints": [0] * 9, "bbox": None}, "no box in the picture, and none from the joints"),
        ({"keypoints": [12, 8, 2, *[0] * 6], "bbox": [0, 0, 0, 0]}, "no box in the picture, and none from the joints"),
        ({"keypoints": [-90, -80, 2, -70, -60, 2, 0, 0, 0], "bbox": [-90, -80, 20, 20]},
         "no box in the picture, and none from the joints"),
        ({"keypoints": None}, "no keypoints"),
        ({"keypoints": []}, "no keypoints"),
        ({"keypoints": [1, 2, 2]}, "3 keypoint values instead of 9"),
        ({"keypoints": [12, 8, 3, 25, 9, 1, 0, 0, 0]}, "visibility other than 0, 1, 2"),
        ({"keypoints": [float("nan"), 8, 2, 25, 9, 1, 0, 0, 0]}, "labelled joint that is NaN, infinite or far outside"),
        ({"keypoints": [None, 8, 2, 25, 9, 1, 0, 0, 0]}, "labelled joint that is NaN, infinite or far outside"),
        ({"keypoints": [1e300, 8, 2, 25, 9, 1, 0, 0, 0]}, "labelled joint that is NaN, infinite or far outside"),
        ({"image_id": 4}, "in a picture that the file does not list"),
    ],
)  # fmt: skip
def test_left_out_and_counted(load, content, change, reason):
    other = {**copy.deepcopy(content["annotations"][0]), "id": 12, **change}
    content["annotations"].append(other)
    records = load(content)
    assert [record.id for record in records.records] == [11]
    assert records.notes == {reason: 1}
    assert records.left_out == f"1 {reason}"
    content["annotations"] = [other]
    with pytest.raises(UserError, match=f"annotations.json: .*{reason}"):
        load(content)


@pytest.mark.parametrize(
    "entry",
    [None, 3, "person", [1, 2], {"keypoints": 3}, {"area": "big"}, {"area": [1]}, {"id": [4]}, {"image_id": {}},
     {"bbox": "1 2 3 4"}, {"keypoints": ["a", 8, 2, 25, 9, 1, 0, 0, 0]}, {"iscrowd": "no"}, {"category_id": [7]}],
)  # fmt: skip
def test_odd_entries_are_left_out_and_counted(load, content, entry):
    if isinstance(entry, dict):
        entry = {**content["annotations"][0], "id": 12, **entry}
    content["annotations"].append(entry)
    records = load(content)
    assert [record.id for record in records.records] == [11] and sum(records.notes.values()) == 1


@pytest.mark.parametrize(
    "box", [[0, 0, 0, 0], [10, 5, 0, 30], [60, 5, 20, 30], [-30, 5, 20, 30], [10, 5, -20, 30], [10, 20, 30], None, [],
            [10, float("nan"), 20, 30], [1e30, 1, 1e30, 1]]
)  # fmt: skip
def test_a_person_without_a_usable_box_gets_one_from_the_joints(load, content, box):
    content["annotations"][0]["bbox"] = box
    records = load(content)
    (record,) = records.records
    assert len(records.notes) >= 1 and all(count == 1 for count in records.notes.values())
    # Around (12, 8) and (25, 9), with a margin of 5 % of 13, one pixel less as HRNet's clipping does.
    np.testing.assert_allclose(record.center_xy, [11.35 + 13.3 / 2, 7.35 + 1.3 / 2])
    np.testing.assert_allclose(record.size_wh, [13.3 * 1.25, 1.3 * 1.25])


@pytest.mark.parametrize("area", [0, 1, -300, float("nan"), float("inf"), 1e7, 300 / 2400, None])
def test_areas_that_are_not_in_square_pixels_are_replaced(load, content, area):
    content["annotations"][0].update(area=area, bbox=[5, 5, 50, 30])
    records = load(content)
    assert records.records[0].area == 50 * 30
    assert len(records.notes) == (area is not None)


def test_one_area_for_all_persons_is_a_placeholder(load, content):
    person = content["annotations"][0]
    boxes = ([10, 5, 20, 30], [5, 5, 50, 30], [10, 5, 15, 10])
    persons = [{**person, "id": i, "bbox": box, "area": 300.0} for i, box in enumerate(boxes)]
    records = load({**content, "annotations": persons})
    assert [record.area for record in records.records] == [600, 1500, 150] and sum(records.notes.values()) == 3
    two_areas = [*persons[:2], {**persons[2], "area": 301.0}]
    like_boxes = [{**person, "bbox": [10, 5, 20, 30 - i]} for i, person in enumerate(persons)]
    for others in (two_areas, like_boxes):
        assert [record.area for record in load({**content, "annotations": others}).records][:2] == [300, 300]


def test_detections_of_other_conventions_are_refused(load, content):
    box = {"image_id": 3, "category_id": 7, "bbox": [10, 5, 20, 30], "score": 0.5}
    with pytest.raises(UserError, match="boxes.json.*category_id 0"):  # counted from 0: class 7 would be another one
        load(content, [{**box, "category_id": 0}, box])
    content["categories"][0]["id"], content["annotations"][0]["category_id"] = 0, 0
    assert len(load(content, [{**box, "category_id": 0}, box])) == 1, "persons are 0 in both files"
    content["categories"][0]["id"], content["annotations"][0]["category_id"] = 7, 7
    corners = [[10, 5, 30, 35], [30, 10, 58, 40], [35, 2, 60, 30], [20, 20, 50, 39]]  # in a picture 60 wide, 40 high
    with pytest.raises(UserError, match="boxes.json.*width, height"):
        load(content, [{**box, "bbox": corner} for corner in corners])
    as_sizes = [[x, y, right - x, bottom - y] for x, y, right, bottom in corners]
    assert len(load(content, [{**box, "bbox": b} for b in as_sizes])) == 4
    assert len(load(content, [{**box, "image_id": "000000000003"}])) == 1, "ids in quotes, with zeros before them"


def test_numbers_as_text_bytes_before_them_and_ids_that_are_no_numbers(load, content, tmp_path):
    expected = load(content).records[0]
    person = content["annotations"][0]
    text = {
        "categories": [{**content["categories"][0], "id": "7"}],
        "images": [{"id": "000000000003", "file_name": "a.png", "height": "40", "width": 60.0}],
        "annotations": [{**person, "image_id": "0003", "category_id": 7.0, "iscrowd": False, "id": "11"}],
    }
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(text).encode())
    records = load_coco(tmp_path / "bom.json", tmp_path)
    assert (records.category_id, records.image_ids, records.records[0].id) == (7, (3,), 11)
    for name in ("center_xy", "size_wh", "keypoints_xy", "visibility", "area", "image_id", "stated_hw"):
        np.testing.assert_array_equal(getattr(records.records[0], name), getattr(expected, name))
    for part, label in (("categories", "categories"), ("images", "images")):
        for number in ("seven", None, -1, 1.5, [7], {}, True, 10**30, float("nan")):
            with pytest.raises(UserError, match=rf"annotations.json: .*{label}\[0\]"):
                load({**content, part: [{**content[part][0], "id": number}]})


@pytest.mark.parametrize(
    ("stated", "on_disk"),
    [
        ("Kö\u0308ln/a.png".replace("ö", "o"), "K\u00f6ln/a.png"),
        ("K\u00f6ln/a.png", "Ko\u0308ln/a.png"),
        ("day\\one\\a.png", "day/one/a.png"),
        ("K\u00f6ln\\a.png", "Ko\u0308ln/a.png"),
    ],
)
def test_names_of_other_systems_are_found(load, content, tmp_path, stated, on_disk):
    (tmp_path / on_disk).parent.mkdir(parents=True)
    (tmp_path / "a.png").rename(tmp_path / on_disk)
    content["images"][0]["file_name"] = stated
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (record,) = load_coco(tmp_path / "annotations.json", tmp_path).records
    assert record.image == str(tmp_path / on_disk)


def test_categories_with_the_same_joints_are_read_as_one(load, content):
    cat = content["categories"][0]
    content["categories"] += [{**cat, "id": 8, "name": "lynx"}, {"id": 9, "name": "tree"}]
    content["annotations"].append({**content["annotations"][0], "id": 12, "category_id": 8})
    records = load(content)
    assert [record.id for record in records.records] == [11, 12] and records.category_id == 7
    assert records.notes == {"of category lynx, read as category cat": 1}
    content["categories"][1] = {**cat, "id": 8, "name": "bird", "keypoints": ["beak", "wing", "tail"]}
    with pytest.raises(UserError, match="cat, bird"):
        load(content)
    content["categories"][1]["name"] = "person"
    assert [record.id for record in load(content).records] == [12]


def test_categories_can_be_chosen(load, content):
    cat, person = content["categories"][0], content["annotations"][0]
    categories = [cat, {**cat, "id": 8, "name": "kitten"}, {"id": 9, "name": "bird", "keypoints": ["beak", "tail"]}]
    bird = {**person, "id": 14, "category_id": 9, "keypoints": [12, 8, 2, 25, 9, 1]}
    content.update(categories=categories[:2], annotations=[person, {**person, "id": 13, "category_id": 8}])
    assert len(load(content)) == 2 and load(content).category_ids == (7, 8)
    assert load(content).notes == {"of category kitten, read as category cat": 1}, "said, as nobody has asked for it"
    both = load(content, categories=("kitten", "cat"))
    assert len(both) == 2 and both.notes == {}
    (kitten,) = load(content, categories=("kitten",)).records
    assert kitten.id == 13 and load(content, categories=("kitten",)).category_ids == (8,)
    boxes = [{"image_id": 3, "category_id": c, "bbox": [1, 2, 30, 20], "score": 0.5} for c in (7, 8, 8)]
    assert [len(load(content, boxes, categories=names)) for names in ((), ("cat",), ("kitten",))] == [3, 1, 2]
    content.update(categories=categories, annotations=[*content["annotations"], bird])
    with pytest.raises(UserError, match="--categories"):  # two skeletons, and none is a person's
        load(content)
    assert load(content, categories=("bird",)).skeleton.joint_names == ("beak", "tail")
    for names, word in ((("dog",), "dog"), (("cat", "bird"), "same joints")):
        with pytest.raises(UserError, match=f"annotations.json.*{word}"):
            load(content, categories=names)


def test_categories_may_have_no_name(load, content):
    del content["categories"][0]["name"]
    assert load(content).skeleton.name == "custom-3"
    content["categories"].append({"id": 9, "name": None, "keypoints": ["beak", "tail"]})
    with pytest.raises(UserError, match=r"\(7, 9\)"):
        load(content)
    with pytest.raises(UserError, match="no category 'None'; it has none"):
        load(content, categories=("None",))


def test_ap_is_of_the_chosen_categories(load, content, tmp_path):
    cat, person = content["categories"][0], content["annotations"][0]
    content["categories"].append({**cat, "id": 8, "name": "kitten"})
    content["annotations"].append({**person, "id": 13, "category_id": 8, "keypoints": [30, 30, 2, 50, 35, 1, 0, 0, 0]})
    records = load(content, categories=("kitten",))
    poses = np.stack([record.keypoints_xy for record in records.records])
    found = coco_results([3], poses, np.ones((1, 3)), [1.0], category_id=records.category_id)
    options = {"sigmas": records.skeleton.oks_sigmas}
    file = tmp_path / "annotations.json"
    assert coco_ap(found, file, category_ids=records.category_ids, **options)["AP"] == pytest.approx(1)
    assert coco_ap(found, file, **options)["AP"] < 0.6, "half of the persons of both are missed"


def test_only_coco_data_have_categories_to_choose(tmp_path):
    with pytest.raises(UserError, match="kitten.*lspet"):
        load_records(f"lspet:{tmp_path}", categories=("kitten",))


@pytest.mark.parametrize(
    "sigmas", [[0, 0.1, 0.1], [0.1, -0.1, 0.1], [0.8, 0.8, 0.8], [float("nan")] * 3, [0.1], ["x"] * 3]
)
def test_constants_of_oks_must_be_possible(load, content, sigmas):
    content["categories"][0]["sigmas"] = sigmas
    with pytest.raises(UserError, match="annotations.json"):
        load(content)
    content["categories"][0]["sigmas"] = [0.05, 0.1, 0.2]
    assert load(content).skeleton.oks_sigmas == (0.05, 0.1, 0.2)


def test_bad_files_are_refused(load, content, tmp_path):
    with pytest.raises(UserError, match="nowhere.json"):
        load_coco(tmp_path / "nowhere.json", tmp_path)
    for name, text in (("cut.json", json.dumps(content)[:100]), ("list.json", "[]"), ("deep.json", "[" * 100_000)):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=name):
            load_coco(tmp_path / name, tmp_path)
    for change, where in (
        ({"annotations": {"11": content["annotations"][0]}}, "annotations"),
        ({"annotations": []}, ""),
        ({"images": ["a.png"]}, r"images\[0\]"),
        ({"images": None}, "images"),
        ({"images": content["images"] * 2}, "3"),
        ({"categories": [{"id": 7, "name": "cat"}]}, "keypoints"),
        ({"categories": [{"id": 7, "name": "cat", "keypoints": ["a", "a", "b"]}]}, "category cat"),
        ({"categories": [{"id": 7, "name": "cat", "keypoints": NAMES, "skeleton": [[1, 4]]}]}, "category cat"),
        ({"categories": ["cat"]}, r"categories\[0\]"),
        ({"annotations": content["annotations"] * 2}, "id 11"),
    ):
        with pytest.raises(UserError, match=f"annotations.json.*{where}"):
            load({**content, **change})
    for key in ("height", "width", "file_name"):
        for value in (None, "", ["a.png"], 0, float("nan"), -4):
            with pytest.raises(UserError, match=f"annotations.json: .*{key}"):
                load({**content, "images": [{**content["images"][0], key: value}]})
    content["images"].append({"id": 4, "file_name": "b.png", "height": 40, "width": 60})
    content["annotations"].append({**content["annotations"][0], "id": 12, "image_id": 4})
    with pytest.raises(UserError, match=r"b.png.*1 of the 2 "):
        load(content)


def changed(content, rng) -> dict:
    """The content with one to three values exchanged, dropped, or put where they do not belong."""
    content = copy.deepcopy(content)
    odd = [None, True, -1, 0, 3, 1.5, 10**30, float("nan"), float("inf"), "", "7", "\ud800", "a" * 5000, [], [[]], {}]
    for _ in range(rng.integers(1, 4)):
        holder = content
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = keys[rng.integers(len(keys))]
            if isinstance(holder[key], (dict, list)) and rng.random() < 0.8:
                holder = holder[key]
                continue
            if rng.random() < 0.15:
                del holder[key]
            else:
                holder[key] = copy.deepcopy(odd[rng.integers(len(odd))])
            break
    return content


def test_changed_files_are_read_or_refused_in_a_sentence(load, content):
    """Whatever is wrong with a file, there are records or a UserError, and AP follows the reader."""
    content["images"].append({"id": 4, "file_name": "a.png", "height": 40, "width": 60})
    content["annotations"].append({**content["annotations"][0], "id": 12, "image_id": 4})
    boxes = [{"image_id": 3, "category_id": 7, "bbox": [1, 2, 30, 20], "score": 0.5}] * 2
    rng, outcomes = np.random.default_rng(0), Counter()
    for _ in range(400):
        file = changed(content, rng)
        detections = changed({"boxes": boxes}, rng).get("boxes") if rng.random() < 0.3 else None
        try:
            records = load(file, detections)
        except UserError as error:
            outcomes["refused"] += 1
            assert ".json" in str(error) or ".png" in str(error)
            continue
        outcomes["read"] += 1
        check_records(records, "the records")
        if detections is None:
            n = len(records)
            results = coco_results(
                [r.image_id for r in records.records], [r.keypoints_xy for r in records.records], np.ones((n, 3)),
                np.ones(n), records.category_id,
            )  # fmt: skip
            figures = coco_ap(results, records.annotation_file, records.skeleton.oks_sigmas)
            assert figures["AP"] == pytest.approx(1), file  # whoever is left out by one is left out by both
    assert min(outcomes["read"], outcomes["refused"]) > 30


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
    with pytest.raises(UserError, match="annotations.json"):
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
    with pytest.raises(UserError, match=r"a.png.*1 of the 1 "):
        load_records(f"coco:{tmp_path}", annotations=str(tmp_path / annotations))


def test_detections(load, content):
    box = {"image_id": 3, "category_id": 7, "bbox": [-5, -5, 30, 20], "score": 0.5}
    outside = [[70, 0, 5, 5], [-9, 0, 9, 5], [0, 40, 5, 5], [0, -5, 5, 5], [1, 1, 0, 5]]
    outside = [{**box, "bbox": box_xywh} for box_xywh in outside]
    records = load(content, [box, {**box, "category_id": 1}, {**box, "category_id": None}, *outside])
    assert [record.id for record in records.records] == [0, 2]
    record = records.records[0]
    np.testing.assert_allclose(record.center_xy, [10, 5])  # not clipped
    np.testing.assert_allclose(record.size_wh, [37.5, 25])
    assert (record.stated_hw, record.area, record.score) == ((40, 60), 600, 0.5)
    assert not record.visibility.any() and not records.has_keypoints and records.image_ids == (3,)
    assert records.notes == {"box without area or outside the picture": 5, "another category": 1}
    for change, where in (
        ({"image_id": 99}, "detection number 1"),
        ({"bbox": [0, 0, float("nan"), 5]}, "detection number 1"),
        ({"score": float("nan")}, "detection number 1"),
        ({"score": 54.0}, "detection number 1"),  # per cent
        ({"score": None}, r"\[1\].score"),
        ({"bbox": [1, 2, 3]}, r"\[1\].bbox"),
    ):
        with pytest.raises(UserError, match=f"boxes.json.*{where}"):
            load(content, [box, {**box, **change}])
    with pytest.raises(UserError, match="boxes.json"):
        load(content, {"annotations": []})
    with pytest.raises(UserError, match="boxes.json"):  # fractions of the picture
        load(content, [{**box, "bbox": [0.1, 0.1, 0.5, 0.9]}] * 3)


def test_with_detections_too_the_truth_is_read(load, content):
    """AP will be measured against it, after all boxes: a truth that it fails on is refused before."""
    boxes = [{"image_id": 3, "category_id": 7, "bbox": [1, 2, 30, 20], "score": 0.5}]
    assert load(content, boxes).annotation_file.name == "annotations.json"
    person = content["annotations"][0]
    with pytest.raises(UserError, match="annotations.json"):
        load({**content, "annotations": [{**person, "keypoints": None}]}, boxes)
    notes = load({**content, "annotations": [person, {**person, "id": 12, "keypoints": None}]}, boxes).notes
    assert notes == {"annotations: no keypoints": 1}
    for persons in ([], [{"category_id": 8}]):  # nobody to compare with
        assert load({**content, "annotations": persons}, boxes).annotation_file is None


def test_picture_list_without_annotations_serves_detections(load, content):
    """image_info_test-dev2017.json: categories without joints, no annotations."""
    del content["annotations"]
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    records = load(content, [{"image_id": 3, "category_id": 1, "bbox": [1, 2, 30, 20], "score": 0.5}])
    assert records.skeleton is COCO and records.annotation_file is None
    with pytest.raises(UserError, match="annotations.json.*keypoints"):
        load(content)
