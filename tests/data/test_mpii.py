"""The MPII reader, the converter of the official MATLAB file (on a small file of its layout), the standard split."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from lgmpose.cli import main
from lgmpose.data import load_records, prepare
from lgmpose.data.mpii import (
    MATCH_PX,
    VAL_LIST,
    JointIndex,
    convert_mpii_mat,
    load_mpii,
    mpii_split,
    read_val_list,
)
from lgmpose.data.mpii_truth import load_mpii_truth
from lgmpose.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


def struct(**fields):
    """A 1 × 1 MATLAB struct whose values are kept as they are."""
    value = np.zeros((1, 1), [(name, object) for name in fields])
    for name, item in fields.items():
        value[name][0, 0] = item
    return value


def struct_array(*structs):
    return np.concatenate(structs, axis=1)


def point(joint, x, y, **is_visible):
    return struct(x=x, y=y, id=joint, **is_visible)


@pytest.fixture
def release(tmp_path) -> Path:
    """All the annoyances of the official file in six pictures."""
    empty = np.zeros((0, 0))
    position = struct(x=50.0, y=60.0)
    box = {"x1": 10, "y1": 20, "x2": 40, "y2": 60}
    many = struct_array(
        point(0, 11, 12, is_visible=1), point(1, 21.5, 22.5, is_visible="0"), point(2, 31, 32, is_visible="1"),
        point(9, 91.25, 92.75, is_visible=empty), point(15, 151, 152, is_visible=0),
    )  # fmt: skip
    full = struct(**box, annopoints=struct(point=many), scale=1.5, objpos=position)
    pictures = [
        struct(image=struct(name="one.jpg"), annorect=full),
        struct(
            image=struct(name="two.jpg"),
            annorect=struct_array(
                # one point, not in an array, without is_visible
                struct(**box, annopoints=struct(point=point(8, 5, 6)), scale=2.0, objpos=position),
                struct(**box, annopoints=empty, scale=2.0, objpos=position),
                struct(**box, annopoints=struct(point=many), scale=empty, objpos=empty),
            ),
        ),
        struct(image=struct(name="three.jpg"), annorect=struct(**box)),  # the fields are not even there
        struct(image=struct(name="four.jpg"), annorect=empty),
        struct(image=struct(name="test.jpg"), annorect=struct(scale=1.0, objpos=position)),
        struct(
            image=struct(name="five.jpg"),
            annorect=struct(annopoints=struct(point=many), scale=1.0, objpos=position),
        ),
    ]
    path = tmp_path / "mpii_human_pose_v1_u12_1.mat"
    content = struct(
        annolist=struct_array(*pictures), img_train=np.array([[1, 1, 1, 1, 0, 1]], np.uint8), version="12",
        single_person=np.zeros((6, 1)), act=np.zeros((6, 1)),
    )  # fmt: skip
    savemat(str(path), {"RELEASE": content})
    return path


def test_conversion(release):
    entries, notes = convert_mpii_mat(release)
    assert [(entry["image"], entry["person"]) for entry in entries] == [("one.jpg", 1), ("two.jpg", 1), ("five.jpg", 1)]
    assert notes == {"person without joints": 2, "person without position or scale": 1, "test picture": 1}
    first, second, third = entries
    assert first["joints"][0] == [11, 12]
    assert first["joints"][1] == [21.5, 22.5]
    assert first["joints"][9] == [91.25, 92.75]
    assert first["joints"][3] == [-1, -1]
    assert [i for i in range(16) if first["joints_vis"][i]] == [0, 1, 2, 9, 15]
    assert [i for i in range(16) if first["joints_visible"][i]] == [0, 2, 9]
    assert (first["center"], first["scale"], first["headbox"]) == ([50, 60], 1.5, [10, 20, 40, 60])
    assert [i for i in range(16) if second["joints_vis"][i]] == [8]
    assert second["joints_visible"][8] == 1
    assert third["headbox"] is None
    json.dumps(entries)  # nothing of numpy left in it


def test_converted_list_is_read(release, tmp_path):
    entries, _ = convert_mpii_mat(release)
    path = tmp_path / "mpii_all.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(UserError, match=r"five.jpg: no such picture \(3 of the 3 "):
        load_mpii(path, tmp_path)
    for entry in entries:
        (tmp_path / entry["image"]).touch()
    records = load_mpii(path, tmp_path)
    record = records.records[0]
    np.testing.assert_array_equal(record.visibility[[0, 1, 2, 3, 9, 15]], [2, 1, 2, 0, 2, 1])
    np.testing.assert_allclose(record.keypoints_xy[1], [20.5, 21.5])
    np.testing.assert_allclose(record.center_xy, [50 - 1, 60 + 15 * 1.5 - 1])
    np.testing.assert_allclose(record.size_wh, [1.5 * 200 * 1.25] * 2)
    assert record.head_size == pytest.approx(0.6 * 50)  # a 30 × 40 box
    assert np.isnan(records.records[2].head_size)


def test_bad_mat_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        convert_mpii_mat(tmp_path / "nowhere.mat")
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(UserError, match="broken.mat: (not a MATLAB file|no RELEASE)"):
        convert_mpii_mat(tmp_path / "broken.mat")
    savemat(str(tmp_path / "other.mat"), {"joints": np.zeros(3)})
    with pytest.raises(UserError, match="no RELEASE"):
        convert_mpii_mat(tmp_path / "other.mat")
    with pytest.raises(UserError, match="pos_gt_src"):
        load_mpii_truth(tmp_path / "other.mat")


@pytest.fixture
def sample(shared_data):
    return shared_data / "mpii_sample"


def test_real_list_against_the_ground_truth(sample):
    """Joints, head sizes and missing joints agree between the JSON and the MATLAB ground truth, 1 taken off both."""
    arguments = (sample / "annotations_sample.json", sample)
    plain = load_mpii(*arguments)
    scored = load_mpii(*arguments, truth=sample / "val_truth_2958.mat")
    entries = json.loads((sample / "annotations_sample.json").read_text())
    for ours, theirs, entry in zip(plain.records, scored.records, entries, strict=True):
        np.testing.assert_array_equal(ours.visibility, theirs.visibility)
        labelled = ours.visibility > 0
        np.testing.assert_allclose(ours.keypoints_xy[labelled], theirs.keypoints_xy[labelled], atol=1e-4)
        np.testing.assert_allclose(ours.keypoints_xy[labelled], np.array(entry["joints"])[labelled] - 1)
        assert np.isnan(ours.head_size)
        assert theirs.head_size > 0
        # HRNet's crop: centre 15 × scale lower, side 250 × scale.
        expected = [entry["center"][0] - 1, entry["center"][1] + 15 * entry["scale"] - 1]
        np.testing.assert_allclose(ours.center_xy, expected)
        np.testing.assert_allclose(ours.size_wh, 250 * entry["scale"])
    # First person: head box (914, 79) to (1031, 237).
    assert scored.records[0].head_size == pytest.approx(0.6 * np.hypot(117, 158), abs=1e-3)


def test_the_truth_of_hrnets_list_is_found_where_hrnet_keeps_it(sample, tmp_path):
    """``annot/valid.json`` beside ``annot/gt_valid.mat``; ``mpii_val.json`` above them; not other lists."""
    annot, images = tmp_path / "annot", tmp_path / "images"
    annot.mkdir()
    images.symlink_to(sample.resolve(), target_is_directory=True)
    text = (sample / "annotations_sample.json").read_text()
    lists = [annot / "valid.json", tmp_path / "mpii_val.json", annot / "train.json"]
    for path in lists:
        path.write_text(text)
        assert np.isnan([record.head_size for record in load_mpii(path, images).records]).all()
    (annot / "gt_valid.mat").write_bytes((sample / "val_truth_2958.mat").read_bytes())
    expected = load_mpii(sample / "annotations_sample.json", sample, truth=sample / "val_truth_2958.mat").records
    for loaded in (
        load_records(f"mpii:{tmp_path}", "val", annotations=str(lists[0])), load_records(f"mpii:{tmp_path}", "val"),
    ):  # fmt: skip
        for ours, theirs in zip(loaded.records, expected, strict=True):
            assert ours.head_size == theirs.head_size > 0
            np.testing.assert_array_equal(ours.keypoints_xy, theirs.keypoints_xy)
    assert np.isnan([record.head_size for record in load_mpii(lists[2], images).records]).all()
    boxed = [{**entry, "headbox": [0, 0, 30, 40]} for entry in json.loads(text)]
    lists[0].write_text(json.dumps(boxed))  # a list with boxes of its own keeps them
    assert {record.head_size for record in load_mpii(lists[0], images).records} == {0.6 * 50}
    lists[0].write_text(json.dumps(json.loads(text)[::-1]))
    with pytest.raises(UserError, match=r"valid.json: person number 0 .*gt_valid.mat .*take that file away"):
        load_mpii(lists[0], images)


def test_shuffled_list_is_refused(sample, tmp_path):
    entries = json.loads((sample / "annotations_sample.json").read_text())
    path = tmp_path / "shuffled.json"
    path.write_text(json.dumps([entries[1], entries[0], *entries[2:]]))
    with pytest.raises(UserError, match=r"person number 0 is not person 0 .* \(2 differ\)"):
        load_mpii(path, sample, truth=sample / "val_truth_2958.mat")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": [[1, 2]] * 15}, r"joints of shape \(15, 2\)"),
        ({"joints": [[float("nan"), 2]] * 16}, "NaN"),
        ({"joints": "abc"}, "not made of numbers"),
        ({"scale": float("nan")}, "finite"),
        ({"center": [1]}, "finite"),
        ({"joints": None}, "shape|numbers"),
        ({"center": [-1, -1]}, "no person left"),
        ({"scale": 0}, "no person left"),
        ({"joints_vis": [0] * 16}, "no person left"),
        ({"image": "nowhere.jpg"}, "nowhere.jpg: no such picture"),
    ],
)
def test_bad_persons_are_refused(tmp_path, change, message):
    (tmp_path / "a.jpg").touch()
    person = {"image": "a.jpg", "joints": [[5, 6]] * 16, "joints_vis": [1] * 16, "center": [5, 6], "scale": 1.0}
    path = tmp_path / "list.json"
    path.write_text(json.dumps([person]))
    assert len(load_mpii(path, tmp_path)) == 1
    path.write_text(json.dumps([{**person, **change}]))
    with pytest.raises(UserError, match=message):
        load_mpii(path, tmp_path)


def test_lists_without_joints_are_refused(tmp_path):
    path = tmp_path / "test.json"
    test_person = {"image": "a.jpg", "center": [1, 2], "scale": 1}
    for content, message in (([test_person], "has no 'joints'"), ({}, "not a list")):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            load_mpii(path, tmp_path)


@pytest.fixture(scope="module")
def everybody(shared_data) -> list[dict]:
    """Persons of both tables and of the validation truth, each once, shuffled, as entries of the JSON."""
    entries = []
    sample = shared_data / "mpii_sample"
    truth, val_list = load_mpii_truth(sample / "val_truth_2958.mat"), read_val_list()
    for table in ("joints_a.csv", "joints_b.csv"):
        for line in (sample / table).read_text().splitlines():
            name, *values = line.split(",")
            joints = np.array(values, float).reshape(16, 2).tolist()
            entries.append({"image": name, "joints": joints, "joints_vis": [1] * 16, "center": joints[7], "scale": 1})
    for line, person in enumerate(val_list):
        if not person.picture:  # persons with a missing joint are in neither table
            entries.append(
                {"image": f"unknown_{line}.jpg", "joints": truth.keypoints_xy_1based[line].tolist(),
                 "joints_vis": truth.visibility[line].tolist(), "center": person.points_xy[0].tolist(), "scale": 1}
            )  # fmt: skip
    np.random.default_rng(0).shuffle(entries)
    return entries


def test_split_finds_everyone_in_the_standard_order(everybody, shared_data):
    """20,860 persons: every validation person is recognised, and recognised once, in the truth's order."""
    assert len(everybody) == 19_919 + 941
    truth = load_mpii_truth(shared_data / "mpii_sample" / "val_truth_2958.mat")
    train, val = mpii_split(everybody)
    assert len(val) == len(set(val)) == 2_958
    for line, index in enumerate(val):
        joints = np.array(everybody[index]["joints"])
        usable = (truth.visibility[line] > 0) & (truth.keypoints_xy_1based[line] > 0.5).all(1)
        assert np.abs(joints - truth.keypoints_xy_1based[line])[usable].max() < MATCH_PX
    held_out = {everybody[index]["image"] for index in val}
    assert not held_out & {everybody[index]["image"] for index in train}
    assert {entry["image"] for entry in everybody} == held_out | {everybody[index]["image"] for index in train}


def test_two_joints_are_enough_without_the_pictures_name(everybody):
    nameless = [{**entry, "image": f"{index}.jpg"} for index, entry in enumerate(everybody)]
    joints = np.array([entry["joints"] for entry in nameless])
    labelled = np.array([entry["joints_vis"] for entry in nameless]) > 0
    joints[~labelled] = np.inf
    index = JointIndex(joints)
    assert {len(index.find(person.joints, person.points_xy)) for person in read_val_list()} == {1}
    # The sorted index finds what comparing with everybody finds.
    for person in read_val_list()[::100]:
        everywhere = (np.abs(joints[:, person.joints] - person.points_xy) <= MATCH_PX).all((1, 2))
        np.testing.assert_array_equal(index.find(person.joints, person.points_xy), np.flatnonzero(everywhere))


def test_split_says_who_is_missing_or_double(everybody):
    _, val = mpii_split(everybody)
    without = [entry for index, entry in enumerate(everybody) if index not in (val[0], val[7])]
    with pytest.raises(UserError, match=r"2 of the 2,958 .*number 0, picture 005808361.jpg, joint 8 at 982.76, 235.97"):
        mpii_split(without)
    _, remaining = mpii_split(without, allow_missing=True)
    assert len(remaining) == 2_956
    with pytest.raises(UserError, match="the same validation person 5"):
        mpii_split([*everybody, copy.deepcopy(everybody[val[5]])])


def test_preparation(everybody, release, tmp_path, monkeypatch, capsys):
    """From the official file's name to lists in the standard order; the file's own content is stood in for."""
    options = ["--out", str(tmp_path / "out"), "--from", str(release), "--from", str(tmp_path)]
    (tmp_path / "mpii" / "images").mkdir(parents=True)
    assert main(["data", "mpii", *options]) == 2
    assert "one.jpg" not in capsys.readouterr().out
    _, val = mpii_split(everybody)
    chosen = sorted(val) + [index for index in range(50) if index not in val]
    entries = [everybody[index] for index in chosen]
    for entry in entries:
        (tmp_path / "mpii" / "images" / entry["image"]).touch()
    monkeypatch.setattr(prepare, "convert_mpii_mat", lambda path: (entries, {"test picture": 1}))
    (tmp_path / "coco" / "images").mkdir(parents=True)  # of the same name, but another data set's
    (tmp_path / "out" / "images").mkdir(parents=True)  # empty, of the same name again
    assert main(["data", "mpii", *options]) == 0
    assert "mpii val: 2,958 persons" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "mpii_val.json").read_text()) == [everybody[index] for index in val]
    assert len(load_records(f"mpii:{tmp_path / 'out'}", "val")) == 2_958
    scored = load_mpii(tmp_path / "out" / "mpii_all.json", tmp_path / "mpii" / "images", split="val")
    assert [record.id for record in scored.records] == [entries.index(everybody[index]) for index in val]


def test_preparation_does_without_the_pictures_that_the_archive_lacks(everybody, tmp_path, monkeypatch, capsys):
    images, mat = tmp_path / "mpii" / "images", tmp_path / "mpii" / prepare.MPII_MAT
    images.mkdir(parents=True)
    mat.touch()
    train, val = mpii_split(everybody)
    person = everybody[train[0]]
    lacking = [{**person, "image": name} for name in sorted(prepare.MPII_NOT_IN_ARCHIVE)]
    entries = [lacking[0], *(everybody[index] for index in val), person, *lacking[1:]]
    for entry in entries:
        if entry not in lacking:
            (images / entry["image"]).touch()
    monkeypatch.setattr(prepare, "convert_mpii_mat", lambda path: (entries, {"test picture": 1}))
    options = ["--out", str(tmp_path / "out"), "--from", str(tmp_path / "mpii")]

    def listed(split: str) -> list[dict]:
        return json.loads((tmp_path / "out" / f"mpii_{split}.json").read_text())

    assert main(["data", "mpii", *options]) == 0
    output = capsys.readouterr().out
    assert "2,959 persons with joints" in output and "picture is not in MPII's archive\": 3" in output
    assert listed("val") == [everybody[index] for index in val] and listed("train") == [person]
    assert listed("all") == [*listed("val"), person]
    # One that is there is used; any other that is missing, or that validation needs, is refused as ever.
    (images / lacking[1]["image"]).touch()
    assert main(["data", "mpii", *options]) == 0
    assert listed("train") == [person, lacking[1]]
    (images / person["image"]).unlink()
    assert main(["data", "mpii", *options]) == 2
    assert f"{person['image']}: no such picture (1 of the " in capsys.readouterr().err
    (images / person["image"]).touch()
    unnamed = next(index for index in val if everybody[index]["image"].startswith("unknown_"))
    entries[1 + val.index(unnamed)] = {**everybody[unnamed], "image": lacking[0]["image"]}
    assert main(["data", "mpii", *options]) == 2
    assert f"{lacking[0]['image']}: no such picture (1 of the " in capsys.readouterr().err


def test_list_is_derived_anew(shared_data, tmp_path):
    sample = shared_data / "mpii_sample"
    out = tmp_path / "list.csv"
    command = [
        sys.executable, str(REPOSITORY / "data_scripts" / "derive_mpii_split.py"), "--truth",
        str(sample / "val_truth_2958.mat"), "--joints", str(sample / "joints_a.csv"), str(sample / "joints_b.csv"),
        "--out", str(out),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert out.read_bytes() == VAL_LIST.read_bytes()
    assert "'by all 16 joints': 2008" in result.stdout
    assert "'by all but overwritten joints': 9, 'not in the tables': 941, 'ambiguous': 0" in result.stdout


def test_val_list_needs_no_real_data():
    persons = read_val_list()
    assert len(persons) == 2_958
    assert sum(bool(person.picture) for person in persons) == 2_017
    assert VAL_LIST.stat().st_size < 150_000
