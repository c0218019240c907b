"""Identities and smoothing: people who cross, leave and come back; boxes from the last poses."""

from __future__ import annotations

import numpy as np
import pytest
from inference_tools import PUPPET, DotBackend, write_film

from lgmpose.errors import UserError
from lgmpose.inference.predictor import Predictor
from lgmpose.inference.tracking import OneEuroFilter, Tracker, TrackOptions
from lgmpose.pose.codecs import make_codec

SHAPE_XY = np.array([[0.0, -20], [10, 20], [-10, 18]])  # of a puppet, about its centre
SURE = np.ones(3)


# --- the tracker ------------------------------------------------------------------------------------------------------
def walk(start_x, speed, y, times):
    return [SHAPE_XY + (start_x + speed * t, y) for t in times]


def test_people_who_cross_keep_their_identities_whatever_the_order():
    times = np.arange(30) / 15
    paths = [walk(0, 100, 50, times), walk(200, -100, 54, times), walk(100, 0, 200, times)]
    tracker, rng = Tracker(), np.random.default_rng(0)
    identities = {}
    for i, t in enumerate(times):
        order = rng.permutation(3)
        ids, _ = tracker.update([paths[p][i] + rng.normal(0, 1, (3, 2)) for p in order], [SURE] * 3, t)
        for path, number in zip(order, ids, strict=True):
            identities.setdefault(int(path), set()).add(number)
    assert sorted(sorted(found) for found in identities.values()) == [[1], [2], [3]]


def test_a_variable_frame_rate_counts_in_seconds():
    """A gap of half a second: where each went is known from the speed per second."""
    times = [0, 0.1, 0.2, 0.3, 0.8, 0.9]
    paths = walk(0, 100, 50, times), walk(110, -100, 50, times)
    tracker = Tracker()
    ids = [tracker.update([one, other], [SURE] * 2, t)[0] for one, other, t in zip(*paths, times, strict=True)]
    assert ids == [[1, 2]] * 6


def test_who_is_missing_for_long_and_who_is_far_away_gets_a_new_identity():
    tracker = Tracker(max_missing_s=1.0)
    here, far = SHAPE_XY + 100, SHAPE_XY + 400
    for pose, t, expected in ((here, 0, 1), (here, 0.9, 1), (here, 2.0, 2), (far, 2.1, 3), (here, 2.2, 2)):
        assert tracker.update([pose], [SURE], t)[0] == [expected]
    assert tracker.update([], [], 2.3) == ([], [])
    assert tracker.update([here, far], [SURE] * 2, 2.4)[0] == [2, 3]


def test_joints_that_were_not_found_do_not_count():
    tracker = Tracker()
    assert tracker.update([SHAPE_XY + 100], [SURE], 0)[0] == [1]
    astray = SHAPE_XY + 100
    astray[2] = 900, 900
    assert tracker.update([astray], [np.array([1, 1, 0.1])], 0.1)[0] == [1]


def test_smoothing_is_off_by_default_and_calms_a_person_at_rest():
    rng, times = np.random.default_rng(0), np.arange(90) / 30
    noisy = [SHAPE_XY + 100 + rng.normal(0, 1, (3, 2)) for _ in times]
    spreads = {}
    for strength in (0, 1, 2):
        tracker = Tracker(smooth=strength)
        out = [tracker.update([xy], [SURE], t)[1][0] for xy, t in zip(noisy, times, strict=True)]
        spreads[strength] = np.std(out[30:], axis=0).mean()
    assert spreads[0] == np.std(noisy[30:], axis=0).mean()
    assert spreads[2] < spreads[1] < 0.5 * spreads[0]


def test_smoothing_follows_a_fast_person():
    """At one person's size per second, joints lag by less than a tenth of the size; a fixed 1 Hz filter by 0.16."""
    smooth, times = OneEuroFilter(1.0), np.arange(60) / 30
    path = walk(0, 40, 50, times)
    lag = [(path[i] - smooth(path[i], t))[:, 0].mean() for i, t in enumerate(times)]
    assert 0 < lag[-1] < 4


@pytest.mark.parametrize("option", [{"detect_every": 0}, {"smooth": -1}, {"smooth": float("nan")}])
def test_bad_options(option):
    with pytest.raises(UserError, match=next(iter(option))):
        TrackOptions(**option)


# --- in a film --------------------------------------------------------------------------------------------------------
FILM_HW = (120, 260)


class ColourBackend(DotBackend):
    """Finds the joints of the puppet whose colour is the strongest in the crop: nose above, the hands below."""

    skeleton = PUPPET

    def __init__(self):
        self.image_hw, self.codec = (64, 64), make_codec("dark", (64, 64))

    def heatmaps(self, crops):
        points = np.stack([self._joints(crop.astype(float)) for crop in crops])
        return self.codec.encode(points, np.ones(points.shape[:2]))[0]

    def _joints(self, crop):
        plane = crop[..., int(crop.clip(60).sum(axis=(0, 1)).argmax())]
        rows, columns = np.nonzero(plane > 120)
        if not len(rows):
            return np.zeros((3, 2))
        middle, left = rows < (rows.min() + rows.max()) / 2, columns < (columns.min() + columns.max()) / 2
        parts = [middle, ~middle & ~left, ~middle & left]
        return np.array([[columns[p].mean(), rows[p].mean()] if p.any() else [0, 0] for p in parts])


def draw(positions):
    """Return a picture of puppets (colour channel, centre), and nothing else."""
    picture = np.zeros((*FILM_HW, 3))
    rows, columns = np.indices(FILM_HW)
    for channel, centre in positions:
        for x, y in SHAPE_XY + centre:
            picture[..., channel] += 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
    return picture.clip(0, 255).astype(np.uint8)


class BlobDetector:
    """Finds the box of each colour; of two boxes that nearly coincide only one, as non-maximum suppression does."""

    def __init__(self):
        self.calls = 0

    def detect(self, picture):
        self.calls += 1
        boxes = []
        for channel in (0, 2):
            rows, columns = np.nonzero(picture[..., channel] > 120)
            if len(rows):
                boxes.append([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1])
        if len(boxes) == 2 and abs(boxes[0][0] - boxes[1][0]) < 6:
            boxes.pop()
        return np.array(boxes, float).reshape(-1, 4), np.full(len(boxes), 0.9)


@pytest.mark.parametrize("detect_every", [1, 4])
@pytest.mark.parametrize("rotation", [0, 90])
def test_a_film_of_people_who_cross(tmp_path, detect_every, rotation):
    """Variable frame rate, rotation flag: identities, times and joints are those of the truth."""
    rng = np.random.default_rng(1)
    times = np.round(np.cumsum([0, *rng.uniform(0.02, 0.09, 44)]), 3)
    centres = [[(40 + 75 * t, 50), (220 - 75 * t, 62)] for t in times]
    pictures = [draw([(0, one), (2, other)]) for one, other in centres]
    if rotation:  # stored on the side, and turned back by the flag
        pictures = [np.rot90(picture, -1) for picture in pictures]
    film = write_film(tmp_path / "a.mp4", pictures, times=times, rotation=rotation)
    detector = BlobDetector()
    predictor = Predictor(ColourBackend(), detector=detector, flip_test=False)
    identities, frames = ({}, {}), list(predictor.track(film, detect_every=detect_every))
    assert len(frames) == len(times) and frames[0].picture.shape[:2] == FILM_HW
    np.testing.assert_allclose([frame.time_s for frame in frames], times, atol=1e-3)
    for frame, truth in zip(frames, centres, strict=True):
        for pose in frame.poses:
            assert pose.time_s == frame.time_s
            errors = [np.linalg.norm(pose.keypoints_xy - SHAPE_XY - centre, axis=1).max() for centre in truth]
            if abs(truth[0][0] - truth[1][0]) > 40:  # otherwise both are in one box
                assert min(errors) < 3
                identities[int(np.argmin(errors))].setdefault(pose.id, []).append(frame.index)
    assert [list(found) for found in identities] == [[1], [2]] or [list(found) for found in identities] == [[2], [1]]
    for found in identities:  # seen before the crossing and after it
        (indices,) = found.values()
        assert min(indices) == 0 and max(indices) == len(times) - 1
    assert detector.calls <= len(times) / detect_every + 2


def test_without_people_the_detector_is_asked_in_every_frame(tmp_path):
    film = write_film(tmp_path / "a.mp4", [draw([])] * 5 + [draw([(0, (60, 60))])] * 5)
    detector = BlobDetector()
    frames = list(Predictor(ColourBackend(), detector=detector).track(film, detect_every=5))
    assert [len(frame.poses) for frame in frames] == [0] * 5 + [1] * 5 and detector.calls == 6


def test_smoothing_and_own_boxes_reach_the_poses(tmp_path):
    film = write_film(tmp_path / "a.mp4", [draw([(0, (60 + 8 * (i > 3), 60))]) for i in range(6)])
    predictor = Predictor(ColourBackend(), detector=lambda _: pytest.fail("the detector was asked"))
    box = (10, 10, 140, 100)
    plain, smooth = (list(predictor.track(str(film), boxes=[box], smooth=s)) for s in (0, 5))
    assert all(tuple(pose.box_xywh) == box for frame in plain for pose in frame.poses)
    shift = [frame.poses[0].keypoints_xy[0, 0] - 60 for frame in (plain[4], smooth[4])]
    assert shift[0] == pytest.approx(8, abs=1.5) and 1 < shift[1] < 7
    with pytest.raises(UserError, match="box 0"):
        list(predictor.track(film, boxes=[(999, 9, 9, 9)]))
    with pytest.raises(UserError, match="gone.mp4"):
        predictor.track(tmp_path / "gone.mp4")
