"""data_scripts/find_lspet_errors.py: which labels are called wrong."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lgmpose.data.records import PersonRecord
from lgmpose.errors import UserError

FILE = Path(__file__).resolve().parents[2] / "data_scripts" / "find_lspet_errors.py"
PAIRS = [(5, 0), (4, 1), (3, 2), (11, 6), (10, 7), (9, 8)]  # left, right


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("find_lspet_errors", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look the module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def person(script):
    """Return a record with labels on a grid of 30 pixels, what two sure networks find, and the default thresholds."""
    xy = np.array([(30.0 * (i % 4), 30.0 * (i // 4)) for i in range(14)])
    record = PersonRecord("x.jpg", np.zeros(2), np.full(2, 100.0), xy, np.full(14, 2), 1, 1)
    peaks = np.concatenate([np.stack([xy, xy + 1]), np.full((2, 14, 1), 0.9)], axis=-1)
    peaks[:, 12:, 2] = 0  # neck and head top: no network knows them
    return record, peaks, script.Arguments(Path("x"), "t.onnx")


def test_right_labels_are_not_changed(script, person):
    assert script.find_changes(person[0], person[1], PAIRS, person[2]) == {}


def test_exchanged_sides_moved_and_missing_joints(script, person):
    record, peaks, limits = person
    xy, flags = record.keypoints_xy.copy(), record.visibility.copy()
    xy[[5, 0]] = xy[[0, 5]]
    xy[7] += (40, 0)
    flags[2] = 0
    found = script.find_changes(replace(record, keypoints_xy=xy, visibility=flags), peaks, PAIRS, limits)
    right = record.keypoints_xy
    assert found["exchanged"] == [[5, 0]]
    assert [row[0] for row in found["moved"]] == [7] and [row[0] for row in found["filled"]] == [2]
    np.testing.assert_allclose(found["moved"][0][1:], right[7] + 0.5, atol=0.51)
    np.testing.assert_allclose(found["filled"][0][1:], right[2] + 0.5, atol=0.51)


@pytest.mark.parametrize("why", ["one network is unsure", "the networks disagree", "no network knows the joint"])
def test_without_two_sure_networks_that_agree_nothing_is_changed(script, person, why):
    record, peaks, limits = person
    xy = record.keypoints_xy.copy()
    xy[7] += (40, 0)
    if why == "one network is unsure":
        peaks[0, 7, 2] = 0.3
    elif why == "the networks disagree":
        peaks[1, 7, 1] += 20
    else:
        peaks[:, 7, 2] = 0
    assert script.find_changes(replace(record, keypoints_xy=xy), peaks, PAIRS, limits) == {}


def test_no_joint_is_filled_where_the_networks_see_another_person(script, person):
    record, peaks, limits = person
    flags = record.visibility.copy()
    flags[2] = 0
    peaks[..., :2] += 60
    found = script.find_changes(replace(record, visibility=flags), peaks, PAIRS, limits)
    assert "filled" not in found and found["moved"]


def test_one_network_given_twice_is_refused(script):
    with pytest.raises(UserError, match="two networks"):
        script.main(script.Arguments(Path("x.zip"), "t.onnx", weights="other/t.onnx"))
