"""YOLO-pose folders in the layouts of Ultralytics, Roboflow and Label Studio."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fuzz_kinds import DATA_YAML, NOTES
from PIL import Image

from lgmpose.data import load_box_set, load_records
from lgmpose.data.crops import CropDataset
from lgmpose.errors import UserError
from lgmpose.inference.extremes import save_extremes
from lgmpose.pose.skeletons import COCO

SETTINGS = DATA_YAML.replace("train: images", "train: images/train").replace("val: images", "val: images/val")
# In a picture of 100 × 50: the box (20, 10, 40, 20), three joints, the last one not labelled.
LINE = "0 0.4 0.4 0.4 0.4 0.3 0.4 2 0.5 0.5 1 0 0 0"


def put(folder: Path, files: dict[str, str]) -> Path:
    """Write text files, and 100 × 50 pictures where the text is empty and the name that of a picture."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".png", ".jpg")):
            Image.new("RGB", (100, 50)).save(folder / name)
        else:
            (folder / name).write_text(text)
    return folder


def ultralytics(folder: Path, settings: str = SETTINGS, line: str = LINE) -> Path:
    return put(folder, {
        "data.yaml": settings, "images/train/a.png": "", "labels/train/a.txt": line, "images/train/nobody.png": "",
        "images/val/b.jpg": "", "labels/val/b.txt": f"{line}\n{line}\n",
    })  # fmt: skip


def check_person(record, image: Path) -> None:
    assert Path(record.image).samefile(image)
    np.testing.assert_allclose(record.center_xy, [39.5, 19.5])  # HRNet takes a pixel off the box
    np.testing.assert_allclose(record.keypoints_xy, [[30, 20], [50, 25], [0, 0]])
    assert record.visibility.tolist() == [2, 1, 0] and record.stated_hw == (50, 100)


def test_a_folder_of_ultralytics(tmp_path):
    folder = ultralytics(tmp_path)
    train, val, both = (load_records(f"yolo:{folder}", split) for split in ("train", "val", "all"))
    check_person(train.records[0], folder / "images/train/a.png")
    assert (len(train), len(val), len(both)) == (1, 2, 3)
    assert train.skeleton.joint_names == ("nose", "left_hand", "right_hand") and train.skeleton.flip_pairs == ((1, 2),)
    assert len(train.image_ids or ()) == 2  # AP covers the picture without people
    assert val.annotation_file and val.annotation_file.is_file()


def test_a_folder_of_roboflow(tmp_path):
    settings = "train: ../train/images\nval: ../valid/images\nkpt_shape: [3, 3]\nflip_idx: [0, 1, 2]\nnames: ['x']\n"
    files = {f"{part}/{name}": text for part in ("train", "valid") for name, text in (
        ("images/a.png", ""), ("labels/a.txt", LINE))}  # fmt: skip
    records = load_records(f"yolo:{put(tmp_path, {'data.yaml': settings} | files)}", "val")
    check_person(records.records[0], tmp_path / "valid/images/a.png")
    assert records.skeleton.joint_names == ("joint_1", "joint_2", "joint_3") and not records.skeleton.flip_pairs


def test_labels_beside_the_pictures_below_a_folder_called_images(tmp_path):
    settings = SETTINGS.replace("images/", "")
    folder = put(tmp_path / "images", {"data.yaml": settings, "train/a.png": "", "train/a.txt": LINE})
    check_person(load_records(f"yolo:{folder}").records[0], folder / "train/a.png")


def test_a_folder_of_label_studio(tmp_path):
    put(tmp_path, {"notes.json": json.dumps(NOTES), "classes.txt": "", "images/a.png": "", "labels/a.txt": LINE})
    records = load_records(f"yolo:{tmp_path}", "all")
    check_person(records.records[0], tmp_path / "images/a.png")
    assert records.skeleton.flip_pairs == ((1, 2),)  # by the names
    with pytest.raises(UserError, match="notes.json.* all"):
        load_records(f"yolo:{tmp_path}", "train")


def test_seventeen_unnamed_joints_with_cocos_pairs_are_cocos(tmp_path):
    settings = SETTINGS.partition("kpt_names")[0].replace("[3, 3]", "[17, 2]")
    settings = settings.replace("[0, 2, 1]", str(list(COCO.flip_permutation)))
    line = "0 0.5 0.5 0.4 0.4" + " 0.5 0.5" * 16 + " 0 0"
    records = load_records(f"yolo:{ultralytics(tmp_path, settings, line)}")
    assert records.skeleton is COCO
    assert records.records[0].visibility.tolist() == [2] * 16 + [0]
    without_pairs = settings.replace(str(list(COCO.flip_permutation)), str(list(range(17))))
    records = load_records(f"yolo:{ultralytics(tmp_path / 'other', without_pairs, line)}")
    assert records.skeleton.joint_names[0] == "joint_1"


def test_pictures_that_lie_on_their_side(tmp_path):
    folder = ultralytics(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 100)).save(folder / "images/val/b.jpg", exif=exif)
    assert load_records(f"yolo:{folder}", "val").records[0].stated_hw == (50, 100)


def test_pictures_that_are_stored_upside_down(tmp_path):
    """Only EXIF tells: a half turn does not change the size. Labels are of the picture as shown."""
    folder = ultralytics(tmp_path)
    shown = Image.new("RGB", (100, 50))
    shown.paste((255, 0, 0), (20, 10, 60, 30))  # the box
    exif = Image.Exif()
    exif[0x0112] = 3
    shown.rotate(180).save(folder / "images/train/a.png", exif=exif)
    records = load_records(f"yolo:{folder}")
    crop = CropDataset(records, (32, 64))[0]["image"]
    assert crop[8:24, 16:48, 0].mean() > 200
    save_extremes(records, np.stack([records.records[0].keypoints_xy]), tmp_path / "sheet.png")
    assert (np.asarray(Image.open(tmp_path / "sheet.png"))[112, 20:100] == (255, 0, 0)).all(1).mean() > 0.3
    boxes = load_box_set(f"coco:{folder}", "train", str(folder / "lgmpose-train.json"))
    assert boxes.pictures[0].as_shown


def test_other_classes_are_left_out_and_counted(tmp_path):
    records = load_records(f"yolo:{ultralytics(tmp_path, line=LINE + chr(10) + '7' + LINE[1:])}")
    assert len(records) == 1 and records.notes == {"another category": 1}


@pytest.mark.parametrize(
    ("settings", "line", "named"),
    [
        (SETTINGS.replace("[3, 3]", "[3, 4]"), LINE, r"data.yaml.*kpt_shape"),
        (SETTINGS.replace("[3, 3]", "3"), LINE, r"data.yaml.*kpt_shape"),
        (SETTINGS.replace("[0, 2, 1]", "[1, 2, 0]"), LINE, r"data.yaml.*flip_idx"),
        (SETTINGS.replace(", right_hand]", "]"), LINE, r"data.yaml.*kpt_names"),
        (SETTINGS.replace("images/train", "images/other"), LINE, r"images/other.*data.yaml"),
        (SETTINGS.replace("train: images/train", ""), LINE, r"data.yaml.*train"),
        (SETTINGS + "\n  - x: [", LINE, r"data.yaml"),
        (SETTINGS, LINE + " 0.5", r"a.txt: line 1.* 15 "),
        (SETTINGS, LINE.replace("0.3", "?"), r"a.txt: line 1"),
        (SETTINGS, LINE.replace("0.4", "40"), r"a.txt: line 1"),
        (SETTINGS, LINE.replace("0.4", "nan"), r"a.txt: line 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, settings, line, named):
    with pytest.raises(UserError, match=named):
        load_records(f"yolo:{ultralytics(tmp_path, settings, line)}")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="data.yaml"):
        load_records(f"yolo:{tmp_path}")
    folder = ultralytics(tmp_path)
    (folder / "labels/train/a.txt").unlink()
    with pytest.raises(UserError, match="labels/train/a.txt"):
        load_records(f"yolo:{folder}")
    (folder / "images/val/b.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="b.jpg"):
        load_records(f"yolo:{folder}", "val")
