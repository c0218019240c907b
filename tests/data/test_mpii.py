"""The MPII reader and the standard validation split."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.io import savemat

from lgmpose.data import load_records
from lgmpose.data.mpii import MATCH_PX, MPIIPerson, load_mpii
from lgmpose.data.mpii_split import VAL_LIST, find_persons, mpii_split, read_val_list
from lgmpose.data.mpii_truth import load_mpii_truth
from lgmpose.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


def small_list(num: int = 6) -> list[dict]:
    """Persons of HRNet's list, two to a picture, without head boxes."""
    rng = np.random.default_rng(0)
    return [
        {
            "image": f"{i // 2}.jpg", "joints": rng.uniform(20, 300, (16, 2)).round(1).tolist(),
            "joints_vis": (rng.random(16) < 0.8).astype(int).tolist(), "center": [100.0 + i, 120.0], "scale": 1.5 + i,
        }
        for i in range(num)
    ]  # fmt: skip


def truth_arrays(entries: list[dict]) -> dict:
    """The arrays of ``gt_valid.mat`` for these persons; head boxes of 30 × 40 pixels, and joint 9 is never missing."""
    joints = np.array([entry["joints"] for entry in entries])
    missing = 1 - np.array([entry["joints_vis"] for entry in entries])
    missing[:, 9] = 0
    boxes = np.tile(np.array([[10, 20], [40, 60]])[..., None], len(entries))
    return {"pos_gt_src": joints.transpose(1, 2, 0), "jnt_missing": missing.T, "headboxes_src": boxes}


def write(folder: Path, entries: list[dict], name: str = "valid.json") -> Path:
    """Write a list and empty pictures of the names in it; return the list's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        if isinstance(entry, dict) and entry.get("image") != "nowhere.jpg":
            (folder / str(entry.get("image"))).touch()
    (folder / name).write_text(json.dumps(entries))
    return folder / name


@pytest.fixture
def sample(shared_data):
    return shared_data / "mpii_sample"


# --- the reader ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which", ["small", "real"])
def test_joints_crops_and_heads(which, tmp_path, request):
    """Joints, head sizes and missing joints agree between the JSON and the MATLAB ground truth, 1 taken off both."""
    if which == "real":
        folder = request.getfixturevalue("sample")
        path, truth = folder / "annotations_sample.json", folder / "val_truth_2958.mat"
    else:
        folder, truth = tmp_path, tmp_path / "elsewhere.mat"
        path = write(tmp_path, small_list())
        arrays = truth_arrays(small_list())
        arrays["jnt_missing"] = 1 - np.array([entry["joints_vis"] for entry in small_list()]).T
        savemat(truth, arrays)
    entries = json.loads(path.read_text())
    plain, scored = load_mpii(path, folder), load_mpii(path, folder, truth=truth)
    assert len(plain) == len(scored) == len(entries) and plain.name == f"mpii-{path.stem}"
    for ours, theirs, entry in zip(plain.records, scored.records, entries, strict=True):
        np.testing.assert_array_equal(ours.visibility, theirs.visibility)
        labelled = ours.visibility > 0
        np.testing.assert_array_equal(labelled, np.array(entry["joints_vis"]) > 0)
        np.testing.assert_allclose(ours.keypoints_xy[labelled], theirs.keypoints_xy[labelled], atol=1e-4)
        np.testing.assert_allclose(ours.keypoints_xy[labelled], np.array(entry["joints"])[labelled] - 1)
        assert np.isnan(ours.head_size) and theirs.head_size > 0
        # HRNet's crop: centre 15 × scale lower, side 250 × scale.
        expected = [entry["center"][0] - 1, entry["center"][1] + 15 * entry["scale"] - 1]
        np.testing.assert_allclose(ours.center_xy, expected)
        np.testing.assert_allclose(ours.size_wh, 250 * entry["scale"])
        assert ours.area == pytest.approx((200 * entry["scale"]) ** 2) and ours.image == str(folder / entry["image"])
    if which == "real":  # the first person's head box is (914, 79) to (1031, 237)
        assert scored.records[0].head_size == pytest.approx(0.6 * np.hypot(117, 158), abs=1e-3)
    else:
        assert {record.head_size for record in scored.records} == {30.0}
        assert [record.image_id for record in plain.records] == [0, 0, 1, 1, 2, 2]


def test_missing_joints_and_flags_follow_the_truth(tmp_path):
    """Where the truth has a joint, the list's flag counts, or "visible"; where it misses one, nothing does."""
    entries = small_list(2)
    entries[0]["joints_visible"] = [0] * 16
    arrays = truth_arrays(entries)
    arrays["jnt_missing"][:3, 0] = 1
    savemat(tmp_path / "gt_valid.mat", arrays)
    records = load_mpii(write(tmp_path, entries), tmp_path).records
    for record, entry, column in zip(records, entries, (0, 1), strict=True):
        for joint in range(16):
            flag = 0 if not entry["joints_vis"][joint] else 1 if "joints_visible" in entry else 2
            expected = 0 if arrays["jnt_missing"][joint, column] else flag or 2
            assert record.visibility[joint] == expected


def test_the_truth_of_hrnets_list_is_found_where_hrnet_keeps_it(tmp_path):
    """``annot/valid.json`` beside ``annot/gt_valid.mat``; ``mpii_val.json`` above them; not other lists."""
    entries, annot, images = small_list(), tmp_path / "annot", tmp_path / "images"
    write(images, entries)
    lists = [write(annot, entries), write(tmp_path, entries, "mpii_val.json"), write(annot, entries, "train.json")]
    for path in lists:
        assert np.isnan([record.head_size for record in load_mpii(path, images).records]).all()
    savemat(annot / "gt_valid.mat", truth_arrays(entries))
    for loaded in (
        load_records(f"mpii:{tmp_path}", "val", annotations=str(lists[0])), load_records(f"mpii:{tmp_path}", "val"),
    ):  # fmt: skip
        assert [record.head_size for record in loaded.records] == [30.0] * 6
        assert all(record.visibility[9] for record in loaded.records)
    assert np.isnan([record.head_size for record in load_mpii(lists[2], images).records]).all()
    boxed = [{**entry, "headbox": [0, 0, 30, 50]} for entry in entries]  # a list with boxes of its own keeps them
    lists[0].write_text(json.dumps(boxed))
    assert {record.head_size for record in load_mpii(lists[0], images).records} == {0.6 * np.hypot(30, 50)}
    for wrong in (entries[::-1], [entries[1], entries[0], *entries[2:]], [*entries, entries[0]]):
        lists[0].write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=r"valid.json.*gt_valid.mat"):
            load_mpii(lists[0], images)


def test_joints_that_the_truth_has_overwritten_are_not_compared(tmp_path):
    entries = small_list(3)
    arrays = truth_arrays(entries)
    joint = entries[1]["joints_vis"].index(1)
    arrays["pos_gt_src"] = arrays["pos_gt_src"].copy()
    arrays["pos_gt_src"][joint, 0, 1] = 0
    savemat(tmp_path / "gt_valid.mat", arrays)
    records = load_mpii(write(tmp_path, entries), tmp_path).records
    assert records[1].keypoints_xy[joint, 0] == -1  # as published figures are measured
    arrays["pos_gt_src"][joint, 0, 1] = entries[1]["joints"][joint][0] + 2 * MATCH_PX
    savemat(tmp_path / "gt_valid.mat", arrays)
    with pytest.raises(UserError, match="number 1 "):
        load_mpii(tmp_path / "valid.json", tmp_path)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"joints": [[1, 2]] * 15}, r"\[0\].joints"),
        ({"joints": [[1, 2, 3]] * 16}, r"\[0\].joints"),
        ({"joints": [[float("nan"), 2]] * 16}, "person 0 .*joint"),
        ({"joints": "abc"}, r"\[0\].joints"),
        ({"joints": None}, r"\[0\].joints"),
        ({"joints_vis": [1] * 15}, r"\[0\].joints_vis"),
        ({"joints_visible": [1] * 17}, r"\[0\].joints_visible"),
        ({"scale": float("nan")}, "person 0 .*box"),
        ({"scale": "tall"}, r"\[0\].scale"),
        ({"center": [1]}, r"\[0\].center"),
        ({"center": [1, float("inf")]}, "person 0 .*box"),
        ({"headbox": 3}, r"\[0\].headbox"),
        ({"image": 3}, r"\[0\].image"),
        ({"center": [-1, -1]}, "1 no position or scale"),
        ({"scale": 0}, "1 no position or scale"),
        ({"joints_vis": [0] * 16}, "1 no labelled joint"),
        ({"image": "nowhere.jpg"}, ""),
    ],
)
def test_bad_persons_are_refused(tmp_path, change, where):
    person = {"image": "a.jpg", "joints": [[5, 6]] * 16, "joints_vis": [1] * 16, "center": [5, 6], "scale": 1.0}
    assert len(load_mpii(write(tmp_path, [person], "list.json"), tmp_path)) == 1
    (tmp_path / "list.json").write_text(json.dumps([{**person, **change}]))
    with pytest.raises(UserError, match=f"list.json.*{where}"):
        load_mpii(tmp_path / "list.json", tmp_path)


def test_lists_of_something_else_are_refused(tmp_path):
    for content in ([{"image": "a.jpg", "center": [1, 2], "scale": 1}], {}, [3], [None], "persons", []):
        (tmp_path / "test.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match="test.json"):
            load_mpii(tmp_path / "test.json", tmp_path)


# --- the split ----------------------------------------------------------------------------------------------------
def small_everybody(count: int = 2958) -> tuple[list, list[int]]:
    """The first validation persons by the two joints of the list, 300 others, shuffled; the places of the former."""
    rng, entries = np.random.default_rng(0), []
    for line, person in enumerate(read_val_list()[:count]):
        joints, labelled = np.full((16, 2), -1.0), np.zeros(16, int)
        joints[list(person.joints)], labelled[list(person.joints)] = person.points_xy, 1
        name = person.picture or f"unknown_{line}.jpg"
        entries.append(
            {"image": name, "joints": joints.tolist(), "joints_vis": labelled.tolist(),
             "center": person.points_xy[0].tolist(), "scale": 1}
        )  # fmt: skip
    for number in range(300):  # the first ones in a validation picture
        name = entries[number]["image"] if number < 7 else f"train_{number}.jpg"
        joints = rng.uniform(0, 900, (16, 2)).tolist()
        entries.append({"image": name, "joints": joints, "joints_vis": [1] * 16, "center": joints[7], "scale": 1})
    order = rng.permutation(len(entries))
    return msgspec.convert([entries[i] for i in order], list[MPIIPerson]), np.argsort(order)[:count].tolist()


@pytest.fixture(scope="module")
def everybody(shared_data) -> list:
    """Persons of both tables and of the validation truth, each once, shuffled."""
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
    return msgspec.convert(entries, list[MPIIPerson])


@pytest.mark.slow
def test_the_split_by_the_list_alone():
    persons, places = small_everybody()
    train, val = mpii_split(persons)
    assert val == places and len(train) == 293 and train == sorted(train)
    held_out = {persons[number].image for number in val}
    assert not held_out & {persons[number].image for number in train}
    # Without the pictures' names, the two joints are enough.
    nameless = copy.deepcopy(persons)
    for number, person in enumerate(nameless):
        person.image = f"{number}.jpg"
    joints = np.array([person.joints for person in nameless])
    joints[np.array([person.joints_vis for person in nameless]) == 0] = np.inf
    found = [find_persons(joints, person.joints, person.points_xy).tolist() for person in read_val_list()]
    assert found == [[place] for place in places]
    near, far = (joints[places[0]][list(read_val_list()[0].joints)] + px for px in (0.9 * MATCH_PX, 1.1 * MATCH_PX))
    assert find_persons(joints, read_val_list()[0].joints, near).tolist() == [places[0]]
    assert find_persons(joints, read_val_list()[0].joints, far).tolist() == []


def test_split_says_who_is_missing_or_double():
    persons, places = small_everybody()
    without = [person for number, person in enumerate(persons) if number not in (places[0], places[7])]
    with pytest.raises(UserError, match=r"the source: 2 of the 2,958 .*005808361.jpg, joint 8 at 982.76, 235.97"):
        mpii_split(without, "the source")
    with pytest.raises(UserError, match=f"{places[5]}.* validation person 5"):
        mpii_split([*persons, copy.deepcopy(persons[places[5]])])
    renamed = copy.deepcopy(persons)
    renamed[places[0]].image = "other.jpg"  # of those whose picture is known, it must be that picture
    with pytest.raises(UserError, match="1 of the 2,958"):
        mpii_split(renamed)


@pytest.mark.slow
def test_split_finds_everyone_in_the_standard_order(everybody, shared_data):
    """20,860 persons: every validation person is recognised, and recognised once, in the truth's order."""
    assert len(everybody) == 19_919 + 941
    truth = load_mpii_truth(shared_data / "mpii_sample" / "val_truth_2958.mat")
    train, val = mpii_split(everybody)
    assert len(val) == len(set(val)) == 2_958
    for line, number in enumerate(val):
        usable = (truth.visibility[line] > 0) & (truth.keypoints_xy_1based[line] > 0.5).all(1)
        assert np.abs(everybody[number].joints - truth.keypoints_xy_1based[line])[usable].max() < MATCH_PX
    held_out = {everybody[number].image for number in val}
    assert not held_out & {everybody[number].image for number in train}
    assert {person.image for person in everybody} == held_out | {everybody[number].image for number in train}


@pytest.mark.slow
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


def test_val_list_is_the_standard_one():
    persons = read_val_list()
    assert len(persons) == 2_958
    assert sum(bool(person.picture) for person in persons) == 2_017
    assert VAL_LIST.stat().st_size < 150_000
