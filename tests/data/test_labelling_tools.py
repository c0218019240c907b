"""Small exports of labelling tools, written by hand as each tool documents its format.

YOLO folders of Roboflow and Label Studio are in ``test_yolo.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lgmpose.data import load_records
from lgmpose.errors import UserError

NAMES = ["nose", "left_hip", "right_hip"]
JOINTS = [30, 20, 2, 50, 25, 1, 0, 0, 0]


def export(folder: Path, annotations: str, picture: str, content: dict) -> str:
    """Write a picture of 100 × 50 and an annotation file; return the file's path."""
    for name in (annotations, picture):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(folder / picture)
    (folder / annotations).write_text(json.dumps(content))
    return str(folder / annotations)


def check_person(record) -> None:
    np.testing.assert_allclose(record.keypoints_xy, [[30, 20], [50, 25], [0, 0]])
    assert record.visibility.tolist() == [2, 1, 0]


def test_cvat_coco_keypoints(tmp_path):
    """Skeletons in a project with another label; attributes and occlusion are CVAT's own fields."""
    person = {
        "id": 1, "image_id": 1, "category_id": 2, "segmentation": [], "area": 0.0, "bbox": [20.0, 10.0, 40.0, 20.0],
        "iscrowd": 0, "attributes": {"occluded": False, "track_id": 0, "keyframe": True}, "keypoints": JOINTS,
        "num_keypoints": 2,
    }  # fmt: skip
    content = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        "categories": [
            {"id": 1, "name": "ball", "supercategory": "", "keypoints": [], "skeleton": []},
            {"id": 2, "name": "person", "supercategory": "", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]},
        ],
        "images": [{"id": 1, "width": 100, "height": 50, "file_name": "a.png", "license": 0, "flickr_url": "",
                    "coco_url": "", "date_captured": 0}],
        "annotations": [person],
    }  # fmt: skip
    file = export(tmp_path, "annotations/person_keypoints_default.json", "images/default/a.png", content)
    records = load_records(f"coco:{tmp_path}", annotations=file)
    check_person(records.records[0])
    assert records.skeleton.edges == ((0, 1), (0, 2)) and records.skeleton.flip_pairs == ((1, 2),)
    assert sum(records.notes.values()) == 1  # the area, which is 0
    assert records.records[0].area == 800


def test_roboflow_coco_keypoints(tmp_path):
    """Ids count from 0; the first category is the project, without joints."""
    content = {
        "info": {"year": "2024", "version": "1", "description": "Exported from roboflow.com"},
        "licenses": [{"id": 1, "url": "", "name": "CC BY 4.0"}],
        "categories": [
            {"id": 0, "name": "people-Qg7R", "supercategory": "none"},
            {"id": 1, "name": "people", "supercategory": "people-Qg7R", "keypoints": NAMES, "skeleton": [[1, 2]]},
        ],
        "images": [{"id": 0, "license": 1, "file_name": "a_png.rf.21d9.jpg", "height": 50, "width": 100,
                    "date_captured": "2024-09-10T07:12:44+00:00"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [20, 10, 40, 20], "area": 800,
                         "segmentation": [], "iscrowd": 0, "keypoints": JOINTS}],
    }  # fmt: skip
    file = export(tmp_path, "train/_annotations.coco.json", "train/a_png.rf.21d9.jpg", content)
    records = load_records(f"coco:{tmp_path}", annotations=file)
    check_person(records.records[0])
    assert not records.notes


def test_label_studio_coco_lacks_the_names_until_they_are_added(tmp_path):
    """Every label is a category of its own, and the keypoints are those of the whole picture."""
    content = {
        "images": [{"width": 100, "height": 50, "id": 0, "file_name": "images/a.png"}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(["person", *NAMES])],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 0, "segmentation": [], "bbox": [20, 10, 40, 20], "ignore": 0,
             "iscrowd": 0, "area": 800},
            {"id": 1, "image_id": 0, "category_id": 1, "keypoints": JOINTS, "num_keypoints": 2,
             "bbox": [30, 20, 20, 5], "iscrowd": 0},
        ],
        "info": {"year": 2025, "version": "1.0", "contributor": "Label Studio"},
    }  # fmt: skip
    file = export(tmp_path, "result.json", "images/a.png", content)
    with pytest.raises(UserError, match='result.json.*"keypoints"'):
        load_records(f"coco:{tmp_path}", annotations=file)
    content["categories"][1]["keypoints"] = NAMES
    file = export(tmp_path, "result.json", "images/a.png", content)
    records = load_records(f"coco:{tmp_path}", annotations=file)
    check_person(records.records[0])
    assert records.notes == {"another category": 1}  # the rectangle


def via(*regions: tuple) -> dict:
    """Return VIA's COCO export: (category, x, y) is a point, (category, x, y, width, height) a rectangle."""
    annotations = []
    for i, (category, *shape) in enumerate(regions):
        region = {"segmentation": [[]], "area": [], "bbox": [], "iscrowd": 0}
        if len(shape) == 2:
            region |= {"keypoints": [*shape, 2], "num_keypoints": 1}
        else:
            region |= {"bbox": shape, "area": shape[2] * shape[3]}
        annotations.append(region | {"id": i + 1, "image_id": 1, "category_id": category})
    categories = [{"supercategory": "joint", "id": i + 1, "name": name} for i, name in enumerate([*NAMES, "person"])]
    images = [{"id": 1, "width": 100, "height": 50, "file_name": "a.png", "license": 0, "date_captured": ""}]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def test_via_points_of_one_person(tmp_path):
    file = export(tmp_path, "via_export_coco.json", "a.png", via((2, 50, 25), (1, 30, 20), (3, 55, 30)))
    (record,) = load_records(f"via:{tmp_path}", annotations=file).records
    np.testing.assert_allclose(record.keypoints_xy, [[30, 20], [50, 25], [55, 30]])
    assert record.as_shown  # by a browser


def test_via_points_in_rectangles(tmp_path):
    """The small rectangle lies within the large one."""
    content = via((1, 30, 20), (4, 10, 5, 80, 40), (4, 50, 20, 20, 15), (1, 55, 25), (2, 60, 30), (2, 20, 30))
    records = load_records(f"via:{tmp_path}", "val", annotations=export(tmp_path, "v.json", "images/a.png", content))
    large, small = records.records
    assert records.skeleton.joint_names == ("nose", "left_hip")
    np.testing.assert_allclose(large.keypoints_xy, [[30, 20], [20, 30]])
    np.testing.assert_allclose(small.keypoints_xy, [[55, 25], [60, 30]])
    assert (large.area, small.area) == (3200, 300)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (via((4, 1, 1, 9, 9)), "v.json"),
        (via((1, 30, 20), (1, 31, 20)), "v.json.*a.png.*nose"),
        (via((1, 30, 20), (4, 50, 20, 20, 15)), r"v.json.*a.png.*\(30, 20\)"),
        ({"images": []}, "v.json"),
    ],
)
def test_what_is_wrong_in_a_via_export_is_named(tmp_path, content, named):
    with pytest.raises(UserError, match=named):
        load_records(f"via:{tmp_path}", annotations=export(tmp_path, "v.json", "a.png", content))
    with pytest.raises(UserError, match="--annotations"):
        load_records(f"via:{tmp_path}")
