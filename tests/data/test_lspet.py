"""LSPET: the fixed split, zip and folder alike, 1-based pixels, and every way in which the archive can be wrong."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from lgmpose.data import SPLITS, load_records
from lgmpose.data.images import read_image
from lgmpose.data.lspet import CHANGES, NUM_VALIDATION, TEST_LIST, VAL_LIST, load_lspet, picture_checksums, split_lspet
from lgmpose.errors import UserError, notice_once
from lgmpose.inference.figures import Predictions, joint_results

N = 24  # pictures of the small archive


def small_joints() -> np.ndarray:
    rng = np.random.default_rng(0)
    joints = np.concatenate([rng.uniform(1, 60, (14, 2, N)), (rng.random((14, 1, N)) < 0.8)], axis=1)
    joints[:, 2, 5] = 0  # nobody
    joints[1:, 2, 6] = 0  # one joint at most
    joints[3, :, 7] = (-999, np.nan, 0)  # junk where the flag is 0
    joints[:, 2, 8] = np.arange(14) < 2  # two are enough
    return joints


def small_archive(folder: Path, *, joints=None, mat: bytes | None = None, pictures: int = N, prefix: str = "") -> Path:
    """Writes an archive in the official layout and returns its path."""
    path = folder / "lspet_dataset.zip"
    if mat is None:
        buffer = io.BytesIO()
        savemat(buffer, {"joints": small_joints() if joints is None else joints})
        mat = buffer.getvalue()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{prefix}README.txt", "LSPET")
        for n in reversed(range(1, pictures + 1)):  # the order in the archive must not matter
            picture = np.full((64, 48, 3), 10 * n, np.uint8)
            archive.writestr(f"{prefix}images/im{n:05d}.jpg", cv2.imencode(".jpg", picture)[1].tobytes())
        if mat:
            archive.writestr(f"{prefix}joints.mat", mat)
    return path


def assert_same_records(one, other) -> None:
    assert len(one) == len(other) and one.notes == other.notes and one.skeleton == other.skeleton
    for a, b in zip(one.records, other.records, strict=True):
        for name in ("center_xy", "size_wh", "keypoints_xy", "visibility", "id", "image_id", "area", "head_size"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


# --- the split ----------------------------------------------------------------------------------------------------
def test_validation_pictures_are_known_by_content():
    known = [int(line, 16) for line in VAL_LIST.read_text().splitlines()[1:]]
    assert len(set(known)) == NUM_VALIDATION == 500
    others = [i for i in range(2**20, 2**20 + 9500) if i not in known]
    shuffled = np.random.default_rng(3).permutation(known + others).tolist()  # other numbers, more pictures
    train, val = split_lspet(shuffled)
    assert sorted(shuffled[i] for i in val) == sorted(known)
    assert sorted(train + val) == list(range(10_000))


def test_the_test_split_is_part_of_train_and_known_by_content(tmp_path, monkeypatch):
    val, test = ({int(line, 16) for line in path.read_text().splitlines()[1:]} for path in (VAL_LIST, TEST_LIST))
    assert len(test) == 500 and not test & val
    path = small_archive(tmp_path)
    with zipfile.ZipFile(path) as archive:
        crcs = sorted(info.CRC for info in archive.infolist() if info.filename.endswith(".jpg"))
    with pytest.raises(UserError, match="test"):
        load_lspet(path, "test")
    listed = tmp_path / "test.txt"
    train = {record.id for record in load_lspet(path, "train").records}
    listed.write_text("".join(f"{crc:08x}\n" for crc in crcs[:-1]))
    monkeypatch.setattr("lgmpose.data.lspet.TEST_LIST", listed)
    held_out = {record.id for record in load_records(f"lspet3:{path}", "test").records}
    left = {record.id for record in load_records(f"lspet3:{path}", "train").records}
    assert left | held_out == train and not left & held_out and held_out
    assert {record.id for record in load_records(f"lspet:{path}", "train").records} == train


def test_the_real_test_split_has_no_near_duplicates(shared_data):
    path = shared_data / "lspet_dataset.zip"
    ids = {split: {record.id for record in load_records(f"lspet3:{path}", split).records} for split in SPLITS}
    pairs = json.loads((shared_data / "lspet_dataset_near_duplicates.json").read_text())
    assert len(ids["test"]) == 500 and not ids["test"] & {i for pair in pairs for i in pair}
    assert not ids["test"] & (ids["train"] | ids["val"]) and ids["train"] | ids["val"] | ids["test"] == ids["all"]


def test_a_drawn_split_is_fixed_and_spread_over_the_whole_set():
    unknown = list(range(9000))
    train, val = split_lspet(unknown)
    assert (train, val) == split_lspet(unknown, 0)
    assert len(val) == NUM_VALIDATION == 500 and len(train) == 8500
    assert sorted(train + val) == unknown and train == sorted(train) and val == sorted(val)
    assert split_lspet(unknown, seed=1)[1] != val
    assert np.histogram(val, bins=9, range=(0, 9000))[0].min() > 30
    assert val[:5] == sorted(np.random.default_rng(0).permutation(9000)[:500])[:5]


def test_split_of_few_pictures_leaves_half_for_training_and_is_announced(capsys):
    notice_once.cache_clear()
    train, val = split_lspet(list(range(10)))
    assert len(train) == len(val) == 5
    assert capsys.readouterr().err.count("\n") == 1
    known = [int(line, 16) for line in VAL_LIST.read_text().splitlines()[1:4]]
    assert split_lspet([*range(10), *known])[1] == [10, 11, 12] and not capsys.readouterr().err


def test_all_pictures_need_no_split_and_no_notice(tmp_path, capsys):
    path = small_archive(tmp_path)
    notice_once.cache_clear()
    everybody = load_lspet(path, "all").records
    assert not capsys.readouterr().err
    assert len(everybody) == len(load_lspet(path, "train").records) + len(load_lspet(path, "val").records)


# --- reading ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("prefix", ["", "lspet_dataset/"])
def test_zip_and_folder_give_the_same_records(tmp_path, prefix):
    path = small_archive(tmp_path, prefix=prefix)
    folder = tmp_path / "lspet_dataset"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder if not prefix else tmp_path)
    for split in ("train", "val", "all"):
        zipped, unpacked = load_lspet(path, split), load_lspet(folder, split)
        assert_same_records(zipped, unpacked)
        for a, b in zip(zipped.records[:3], unpacked.records[:3], strict=True):
            picture = read_image(a.image)
            np.testing.assert_array_equal(picture, read_image(b.image))
            assert abs(int(picture.mean()) - 10 * a.id) <= 3  # the picture that bears the person's number
    assert_same_records(load_records(f"lspet:{path}", "val"), load_lspet(path, "val"))


def test_records_hold_zero_based_pixels_and_a_box_around_labelled_joints(tmp_path):
    joints = small_joints()
    record_set = load_lspet(small_archive(tmp_path), "all")
    assert record_set.notes == {"fewer than two labelled joints": 2} and len(record_set) == N - 2
    for record in record_set.records:
        source = joints[:, :, record.id - 1]
        labelled = source[:, 2] > 0
        np.testing.assert_allclose(record.keypoints_xy[labelled], source[labelled, :2] - 1)
        np.testing.assert_array_equal(record.visibility, np.where(labelled, 2, 0))
        low, high = record.keypoints_xy[labelled].min(0), record.keypoints_xy[labelled].max(0)
        np.testing.assert_allclose(record.center_xy, (low + high) / 2)
        np.testing.assert_allclose(record.size_wh, 1.25 * (high - low + 0.1 * (high - low).max()))


def test_heads_are_measured_from_neck_to_head_top(tmp_path):
    joints, record_set = small_joints(), load_lspet(small_archive(tmp_path), "all")
    n = len(record_set)
    nothing = Predictions(np.full((n, 14, 2), np.nan), np.zeros((n, 14)), np.zeros(n, bool))
    found = joint_results(nothing, record_set, record_set.skeleton)["PCKh@0.5"].sizes
    sources = [joints[:, :, record.id - 1] for record in record_set.records]
    expected = [np.linalg.norm(s[12, :2] - s[13, :2]) if s[12:, 2].all() else np.nan for s in sources]
    np.testing.assert_allclose(found, expected)
    assert 5 < np.isfinite(found).sum() < len(found)


# --- corrected labels ---------------------------------------------------------------------------------------------
def test_corrected_labels_are_those_of_the_list(tmp_path, monkeypatch):
    path = small_archive(tmp_path)
    checksums, plain = picture_checksums(path), load_lspet(path)
    first, second = plain.records[0].id, plain.records[1].id
    changes = {
        f"{checksums[first - 1]:08x}": {"exchanged": [[0, 5]], "moved": [[3, 7, 9]]},
        f"{checksums[second - 1]:08x}": {"filled": [[13, 61, 62]]},
        f"{checksums[load_lspet(path, 'val').records[0].id - 1]:08x}": {"moved": [[0, 1, 1]]},
    }
    monkeypatch.setattr("lgmpose.data.lspet.CHANGES", tmp_path / "changes.json")
    (tmp_path / "changes.json").write_text(json.dumps(changes))
    corrected = load_lspet(path, corrected=True)
    assert corrected.notes["joints with a corrected label"] == 4 and corrected.name == "lspet-corrected-train"
    for i, (old, new) in enumerate(zip(plain.records, corrected.records, strict=True)):
        wanted, flags = old.keypoints_xy.copy(), old.visibility.copy()
        if i == 0:
            wanted[[0, 5]], wanted[3] = wanted[[5, 0]], (7, 9)
            flags[[0, 5]], flags[3] = flags[[5, 0]], 2
        elif i == 1:
            wanted[13], flags[13] = (61, 62), 2
            assert new.center_xy[0] != old.center_xy[0]  # the box is around the corrected labels
        np.testing.assert_array_equal(new.keypoints_xy, wanted)
        np.testing.assert_array_equal(new.visibility, flags)


def test_the_list_of_corrections_changes_no_validation_or_test_person():
    held_out = {line for path in (VAL_LIST, TEST_LIST) for line in path.read_text().splitlines()[1:]}
    changes = json.loads(CHANGES.read_text())
    assert len(changes) > 100 and not held_out & changes.keys()
    for picture, change in changes.items():
        assert int(picture, 16) < 2**32 and change.keys() <= {"exchanged", "moved", "filled"} and change
        joints = [joint for pair in change.get("exchanged", []) for joint in pair]
        rows = change.get("moved", []) + change.get("filled", [])
        joints += [joint for joint, x, y in rows]
        assert len(set(joints)) == len(joints) and set(joints) <= set(range(14))
        assert all(-50 < value < 2000 for _, x, y in rows for value in (x, y))


def test_the_corrections_fit_the_real_archive(shared_data):
    path = shared_data / "lspet_dataset.zip"
    sets = {kind: load_records(f"{kind}:{path}", "train") for kind in ("lspet3", "lspet-corrected")}
    before, after = ({r.id: r for r in record_set.records} for record_set in sets.values())
    changed = {i for i in before if not np.array_equal(before[i].keypoints_xy, after[i].keypoints_xy)}
    checksums = picture_checksums(path)
    assert {f"{checksums[i - 1]:08x}" for i in changed} == json.loads(CHANGES.read_text()).keys()


# --- the real archive ---------------------------------------------------------------------------------------------
def test_the_real_archive(shared_data):
    path = shared_data / "lspet_dataset.zip"
    train, val = load_lspet(path, "train"), load_lspet(path, "val")
    left_out = sum(train.notes.values()) + sum(val.notes.values())
    assert len(val) == 500 and len(train) + left_out == 8500
    ids = {record.id for record in train.records}, {record.id for record in val.records}
    assert not ids[0] & ids[1]
    pairs = json.loads((shared_data / "lspet_dataset_near_duplicates.json").read_text())
    assert len(pairs) == 77 and not ids[1] & {number for pair in pairs for number in pair}

    with zipfile.ZipFile(path) as archive:
        joints = loadmat(io.BytesIO(archive.read("joints.mat")))["joints"]
    for record in val.records + train.records[::17]:
        np.testing.assert_array_equal(record.keypoints_xy, joints[:, :2, record.id - 1] - 1)
        np.testing.assert_array_equal(record.visibility > 0, joints[:, 2, record.id - 1] == 1)
        assert record.image.endswith(f"im{record.id:05d}.jpg")
    inside = []
    for record in val.records[::50]:
        height, width = read_image(record.image, apply_exif=False).shape[:2]
        points = record.keypoints_xy[record.visibility > 0]
        inside.append(((points > -1) & (points < (width, height))).all())
    assert np.mean(inside) > 0.8


# --- bad input ----------------------------------------------------------------------------------------------------
def mat_of(**arrays) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        ({"mat": b""}, "joints.mat"),
        ({"mat": mat_of(other=np.zeros((14, 3, N)))}, "'joints'"),
        ({"joints": np.zeros((3, 14, N))}, r"\(3, 14, 24\).*\(14, 3, n\)"),  # the small LSP's order
        ({"joints": np.zeros((14, 3))}, r"\(14, 3\)"),
        ({"joints": np.ones((14, 3, N)).astype(object)}, "object"),
        ({"mat": b"MATLAB 5.0"}, "joints.mat"),
        ({"mat": mat_of(joints=small_joints())[:60]}, "joints.mat"),  # within its header
        ({"mat": mat_of(joints=small_joints())[:-500]}, "joints.mat"),
        ({"pictures": N - 1}, "24 persons.* 23 pictures"),
        ({"joints": np.zeros((14, 3, N))}, "24 fewer than two"),
        ({"joints": np.where(np.arange(3)[:, None] == 2, 1.0, np.full((14, 3, N), np.nan))}, "person 1 .* NaN"),
    ],
)
def test_bad_archives_are_named_with_what_is_wrong(tmp_path, archive, message):
    path = small_archive(tmp_path, **archive)
    with pytest.raises(UserError, match=f"{path.name}: .*{message}"):
        load_lspet(path, "all")


def overwritten(path: Path, member: str, length: int = 40) -> bytes:
    """The archive's bytes with zeros at the start of one member's data."""
    data = bytearray(path.read_bytes())
    start = data.index(member.encode()) + len(member)
    data[start : start + length] = bytes(length)
    return bytes(data)


@pytest.mark.parametrize("position", [0.2, 0.5, 0.9])
def test_a_damaged_compressed_mat_file_in_a_folder(tmp_path, position):
    path = small_archive(tmp_path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    savemat(tmp_path / "joints.mat", {"joints": small_joints()}, do_compression=True)
    assert len(load_lspet(tmp_path, "all")) == N - 2
    data = bytearray((tmp_path / "joints.mat").read_bytes())
    start = int(position * len(data))
    data[start : start + 40] = bytes(40)
    (tmp_path / "joints.mat").write_bytes(data)
    with pytest.raises(UserError, match=f"{tmp_path.name}: joints.mat"):
        load_lspet(tmp_path, "all")


@pytest.mark.parametrize("mat", [None, bytes(range(256)) * 50, np.random.default_rng(0).bytes(20_000)])
def test_truncated_and_damaged_zips(tmp_path, mat):
    path = small_archive(tmp_path, mat=mat)  # deflate cannot shrink random bytes, and fails in another way
    whole = path.read_bytes()
    for damaged in (
        whole[: len(whole) // 2], whole[:-30], b"", b"<html>404</html>", overwritten(path, "joints.mat"),
    ):  # fmt: skip
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"lspet_dataset\.zip: .*`lgmpose data lspet`"):
            load_lspet(path)


def test_a_damaged_picture_in_a_whole_zip_is_a_user_error(tmp_path):
    path = small_archive(tmp_path)
    (record,) = [record for record in load_lspet(path, "all").records if record.id == 9]
    path.write_bytes(overwritten(path, "images/im00009.jpg"))
    with pytest.raises(UserError, match=r"im00009\.jpg"):
        read_image(record.image)


def test_missing_paths_and_names(tmp_path):
    with pytest.raises(UserError, match=r"absent\.zip: .*https://"):
        load_lspet(tmp_path / "absent.zip")
    with pytest.raises(UserError, match=f"{tmp_path.name}: .*joints.mat"):
        load_lspet(tmp_path)
    path = small_archive(tmp_path)
    with pytest.raises(UserError, match="'dev'"):
        load_lspet(path, "dev")
    renamed = path.rename(tmp_path / "lspet.data")
    with pytest.raises(UserError, match=r"lspet\.data: .*\.zip"):
        load_lspet(renamed)


def test_damage_that_ends_scipys_reader_is_refused(tmp_path):
    """The flag of a complex array without its imaginary part, and an element of an unknown type."""
    buffer = io.BytesIO()
    savemat(buffer, {"joints": small_joints()})
    good = buffer.getvalue()
    assert len(load_lspet(small_archive(tmp_path, mat=good), "all")) > 0
    for position, value in ((128 + 16 + 1, 0x08), (128 + 8, 0x40), (128 + 4, 0xFF)):
        damaged = bytearray(good)
        damaged[position] |= value
        with pytest.raises(UserError, match="joints.mat"):
            load_lspet(small_archive(tmp_path, mat=bytes(damaged)), "all")


def test_coordinates_far_outside_are_refused(tmp_path):
    joints = small_joints()
    joints[:, :, 0] = 1e300
    with pytest.raises(UserError, match="person 1"):
        load_lspet(small_archive(tmp_path, joints=joints), "all")
