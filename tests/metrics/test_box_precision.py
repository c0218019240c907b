"""Precision of boxes: cases whose figures are known."""

import pytest

from lgmpose.metrics.box_precision import box_ap


def person(image_id: int, box: list[float], crowd: int = 0) -> dict:
    return {"image_id": image_id, "bbox": box, "area": box[2] * box[3] / 4, "iscrowd": crowd}


TRUTH = [person(1, [10, 10, 100, 100]), person(1, [200, 10, 100, 100]), person(2, [0, 0, 40, 40])]


def found(score: float, of: dict) -> dict:
    return {"image_id": of["image_id"], "bbox": of["bbox"], "score": score}


def test_perfect_boxes_have_precision_one():
    figures = box_ap(TRUTH, [found(0.9, p) for p in TRUTH], [1, 2, 3])
    assert figures.pop("APL") == -1  # by the stated areas, none is large
    assert figures == pytest.approx(dict.fromkeys(figures, 1.0))


def test_recall_at_a_precision_counts_large_persons_only():
    wrong = {"image_id": 3, "bbox": [0, 0, 90, 90], "score": 0.7}
    figures = box_ap(TRUTH, [found(0.9, TRUTH[0]), wrong, found(0.5, TRUTH[1])], [1, 2, 3])
    assert figures["large recall"] == pytest.approx(0.5)  # the second is found only at a precision of 2/3
    assert figures["AP50"] == pytest.approx((34 + 33 * 2 / 3) / 101, abs=0.01)
    assert box_ap(TRUTH, [], [1, 2, 3])["large recall"] == 0 == box_ap(TRUTH, [], [1, 2, 3])["AP"]


def test_boxes_in_a_crowd_do_not_count():
    crowd = person(2, [0, 0, 200, 200], crowd=1)
    inside = {"image_id": 2, "bbox": [50, 50, 30, 30], "score": 0.99}
    with_crowd = box_ap([*TRUTH[:2], crowd], [*(found(0.9, p) for p in TRUTH[:2]), inside], [1, 2])
    without = box_ap(TRUTH[:2], [*(found(0.9, p) for p in TRUTH[:2]), inside], [1, 2])
    assert with_crowd["AP"] == pytest.approx(1) and without["AP"] < 0.8
