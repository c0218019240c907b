"""Record sets: subsets, whole pictures, and what is refused before a long run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lgmpose.data.records import PersonRecord, RecordSet, check_records
from lgmpose.errors import UserError
from lgmpose.pose.geometry import LARGEST_PX
from lgmpose.pose.skeletons import LSP


def person(number: int, picture: int = 0, **changes) -> PersonRecord:
    """A person in a box from (40, 40) to (140, 240), all joints within it."""
    xy = np.stack([np.linspace(50, 130, 14), np.linspace(60, 200, 14)], axis=1)
    record = PersonRecord("a.jpg", np.array([90.0, 140]), np.array([100.0, 200]), xy, np.full(14, 2), number, picture)
    return replace(record, **changes)


def set_of(records, **changes) -> RecordSet:
    return replace(RecordSet("few", LSP, tuple(records), "ground-truth boxes", image_ids=(9, 10, 11, 12)), **changes)


def test_subsets_keep_the_order_given_and_cover_their_pictures():
    whole = set_of([person(i, picture) for i, picture in enumerate((9, 9, 11, 10))], notes={"crowd": 1}, category_id=3)
    part = whole.subset([3, 0])
    assert [record.id for record in part.records] == [3, 0] and len(part) == 2
    assert (part.name, part.image_ids, part.category_id, part.notes) == ("few", (9, 10), 3, {"crowd": 1})
    assert whole.subset([1], "one").name == "one"


def test_first_persons_come_in_whole_pictures():
    whole = set_of([person(i, picture) for i, picture in enumerate((9, 10, 9, 11, 11, 11))])
    for count, expected in ((6, 6), (9, 6), (5, 3), (3, 3), (2, 2), (1, 2)):
        assert len(whole.first(count)) == expected, count
    assert whole.first(6) is whole
    assert [record.id for record in whole.first(3).records] == [0, 1, 2]
    assert whole.first(2).image_ids == (9,)


def test_a_set_is_of_true_boxes_and_cocos_persons_unless_it_says_otherwise():
    records = RecordSet("few", LSP, (), "ground-truth boxes")
    assert (records.category_id, records.has_keypoints) == (1, True)
    assert records.annotation_file is None and records.image_ids is None
    record = PersonRecord("a.jpg", np.zeros(2), np.ones(2), np.zeros((14, 2)), np.zeros(14), 0, 0)
    assert record.score == 1 and record.stated_hw is None and np.isnan([record.area, record.head_size]).all()


def test_notes_in_one_line():
    assert set_of([], notes={"crowd": 1200, "no labelled joint": 3}).left_out == "1,200 crowd, 3 no labelled joint"
    assert set_of([]).left_out == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"keypoints_xy": np.zeros((13, 2))},
        {"visibility": np.full(13, 2)},
        {"keypoints_xy": np.full((14, 2), np.nan)},
        {"keypoints_xy": np.full((14, 2), np.nan), "visibility": np.ones(14)},  # hidden joints are labelled
        {"center_xy": np.array([np.nan, 5])},
        {"size_wh": np.array([np.inf, 5])},
        {"size_wh": np.array([0.0, 5])},
        {"size_wh": np.array([-3.0, 5])},
    ],
)
def test_records_that_would_spoil_a_run_are_refused_by_name(changes):
    good = set_of([person(0)])
    assert check_records(good, "list.json") is good
    with pytest.raises(UserError, match="list.json.* 7"):
        check_records(set_of([person(0), person(7, **changes)]), "list.json")
    with pytest.raises(UserError, match="list.json.*1 crowd"):
        check_records(set_of([], notes={"crowd": 1}), "list.json")
    for sign, name in ((1, "center_xy"), (-1, "center_xy"), (1, "size_wh")):
        for far, refused in ((3.99, False), (4.0, True)):
            boxes = set_of([person(0, **{name: sign * np.array([far * LARGEST_PX, 5 * sign])})], has_keypoints=False)
            if refused:
                with pytest.raises(UserError, match="far outside"):
                    check_records(boxes, "list.json")
            else:
                check_records(boxes, "list.json")
    unlabelled = person(0, keypoints_xy=np.full((14, 2), np.nan), visibility=np.zeros(14, int))
    check_records(set_of([unlabelled], has_keypoints=False), "list.json")


@pytest.mark.parametrize("num", [10, 1100])
def test_joints_that_are_fractions_or_elsewhere_are_refused(num):
    """Some persons may be odd, half of them may not: looked at are persons from the whole set, not only the first."""
    fractions = person(0).keypoints_xy / 300
    at_corner = {"center_xy": np.array([90.0, 140]), "size_wh": np.array([190.0, 290])}  # reaches over all fractions
    elsewhere = {"center_xy": np.array([900.0, 140])}
    for odd in ({"keypoints_xy": fractions, **at_corner}, elsewhere):
        for share, refused in ((0.4, False), (0.6, True)):
            for first in (0, num - round(share * num))[-2 if num < 100 else -1 :]:
                places = range(first, first + round(share * num))
                records = [person(i, **(odd if i in places else {})) for i in range(num)]
                if refused:
                    with pytest.raises(UserError, match="list.json"):
                        check_records(set_of(records), "list.json")
                else:
                    check_records(set_of(records), "list.json")
    # Joints within a pixel's fraction of the corner are no pixels, whatever the box: only one joint beyond 1 may be.
    near_corner = np.full((14, 2), 0.9)
    with pytest.raises(UserError, match="list.json"):
        check_records(set_of([person(0, keypoints_xy=near_corner, **at_corner)]), "list.json")
    near_corner[3] = 0.5, 1.1
    check_records(set_of([person(0, keypoints_xy=near_corner, **at_corner)]), "list.json")


def test_boxes_alone_are_not_compared_with_joints():
    records = [person(0, keypoints_xy=np.zeros((14, 2)), visibility=np.zeros(14, int))]
    check_records(set_of(records, has_keypoints=False), "boxes.json")
    with pytest.raises(UserError, match="boxes.json"):
        check_records(set_of(records), "boxes.json")
