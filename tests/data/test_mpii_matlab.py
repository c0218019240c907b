"""The official MATLAB file of MPII (on a small file with all its irregularities), converted and read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.io import savemat

from lgmpose.data.matlab import load_mat
from lgmpose.data.mpii import load_mpii
from lgmpose.data.prepare.mpii_matlab import convert_mpii_mat
from lgmpose.errors import UserError


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
    """All irregularities of the official file in six pictures."""
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
    persons, notes = convert_mpii_mat(release)
    assert [(person.image, person.person) for person in persons] == [("one.jpg", 1), ("two.jpg", 1), ("five.jpg", 1)]
    assert notes == {"person without joints": 2, "person without position or scale": 1, "test picture": 1}
    first, second, third = persons
    assert first.joints[0] == (11, 12) and first.joints[1] == (21.5, 22.5) and first.joints[9] == (91.25, 92.75)
    assert first.joints[3] == (-1, -1)
    assert [i for i in range(16) if first.joints_vis[i]] == [0, 1, 2, 9, 15]
    assert [i for i in range(16) if first.joints_visible[i]] == [0, 2, 9]
    assert (first.center, first.scale, first.headbox) == ((50, 60), 1.5, (10, 20, 40, 60))
    assert [i for i in range(16) if second.joints_vis[i]] == [8]
    assert second.joints_visible[8] == 1
    assert third.headbox is None


def test_converted_list_is_read(release, tmp_path):
    persons, _ = convert_mpii_mat(release)
    path = tmp_path / "mpii_all.json"
    path.write_bytes(msgspec.json.encode(persons))
    with pytest.raises(UserError, match=r"five.jpg.*3 of the 3 "):
        load_mpii(path, tmp_path)
    for person in persons:
        (tmp_path / person.image).touch()
    records = load_mpii(path, tmp_path)
    record = records.records[0]
    np.testing.assert_array_equal(record.visibility[[0, 1, 2, 3, 9, 15]], [2, 1, 2, 0, 2, 1])
    np.testing.assert_allclose(record.keypoints_xy[1], [20.5, 21.5])
    np.testing.assert_allclose(record.center_xy, [50 - 1, 60 + 15 * 1.5 - 1])
    np.testing.assert_allclose(record.size_wh, [1.5 * 200 * 1.25] * 2)
    assert record.head_size == pytest.approx(0.6 * 50)  # a 30 × 40 box
    assert np.isnan(records.records[2].head_size)


def test_bad_mat_files_are_refused(tmp_path):
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    savemat(str(tmp_path / "other.mat"), {"joints": np.zeros(3)})
    one = struct(image=struct(name="one.jpg"), annorect=struct(scale=1.0))
    lone = struct(x=1.0, y=2.0)
    seventeenth = struct(annopoints=struct(point=point(16, 5, 6)), scale=2.0, objpos=lone)
    savemat(str(tmp_path / "empty.mat"), {"RELEASE": struct(annolist=one, img_train=np.ones((1, 1)))})
    savemat(str(tmp_path / "two.mat"), {"RELEASE": struct(annolist=one, img_train=np.ones((1, 2)))})
    odd = struct(annolist=struct(image=struct(name="one.jpg"), annorect=seventeenth), img_train=np.ones((1, 1)))
    savemat(str(tmp_path / "odd.mat"), {"RELEASE": odd})
    for name in ("nowhere", "broken", "other", "empty", "two", "odd"):
        with pytest.raises(UserError, match=f"{name}.mat"):
            convert_mpii_mat(tmp_path / f"{name}.mat")


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_of_every_kind_of_number_are_read(tmp_path, compressed):
    """A complex array has one part more than a real one."""
    arrays = {"real": np.array([[1.5, 2.0]]), "complex": np.array([[1 + 2j]]), "whole": np.array([[7]], np.int16)}
    savemat(str(tmp_path / "numbers.mat"), arrays, do_compression=compressed)
    content = load_mat(tmp_path / "numbers.mat")
    for name, array in arrays.items():
        np.testing.assert_array_equal(content[name], array)
