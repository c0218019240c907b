"""Follow people through a video: an identity for each pose, boxes from the poses before, and smoothing if asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from lgmpose.errors import UserError
from lgmpose.inference.inputs import check_boxes
from lgmpose.inference.video import VideoFrame, VideoReader
from lgmpose.pose.geometry import box_around_points
from lgmpose.pose.persons import JOINT_SCORE_THRESHOLD

if TYPE_CHECKING:
    from lgmpose.inference.predictor import Pose, Predictor

__all__ = ["OneEuroFilter", "TrackOptions", "TrackedFrame", "Tracker", "follow"]

FALLOFF = 0.25  # of a person's size: at this distance, a joint's similarity has fallen to exp(-1/2)
MIN_SIMILARITY = 0.2  # below it, a pose is not of the person it is compared with
VELOCITY_SHARE = 0.5  # of the newest velocity in a person's running mean
MAX_MISSING_S = 1.0  # whoever is not found for longer gets a new identity


@dataclass(frozen=True)
class TrackOptions:
    """How people are followed through a video.

    Raises:
        UserError: a number that is out of range.
    """

    detect_every: int = 3  # the detector runs on every N-th frame; between, boxes come from the last poses
    smooth: float = 0.0  # strength of the One-Euro filter on joints; 0: none, 1: usual. Keep 0 for measurements

    def __post_init__(self):
        if self.detect_every < 1:
            raise UserError(f"detect_every {self.detect_every}: must be at least 1, which is every frame")
        if not 0 <= self.smooth < float("inf"):
            raise UserError(f"smooth {self.smooth:g}: must be 0 (no smoothing) or more")


@dataclass(frozen=True, eq=False)
class TrackedFrame(VideoFrame):
    """A frame of a video with its poses, which have ``id`` and ``time_s``."""

    poses: list[Pose]


def follow(
    predictor: Predictor, reader: VideoReader, options: TrackOptions, boxes: np.ndarray | None = None
) -> Iterator[TrackedFrame]:
    """Yield the frames with the poses of the people in them; see ``Predictor.track``."""
    tracker = Tracker(options.smooth)
    poses: list[Pose] = []
    for frame in reader:
        if boxes is not None:
            found = predictor(frame.picture, check_boxes(boxes, frame.picture.shape[:2], reader.name))
        elif frame.index % options.detect_every and (ahead := _boxes_ahead(tracker, poses, frame)):
            found = predictor(frame.picture, *zip(*ahead, strict=True))
        else:  # also if nobody is left
            found = predictor(frame.picture)
        keypoints_xy, scores = [pose.keypoints_xy for pose in found], [pose.scores for pose in found]
        ids, smoothed = tracker.update(keypoints_xy, scores, frame.time_s)
        poses = [
            replace(pose, id=number, time_s=frame.time_s, keypoints_xy=xy)
            for pose, number, xy in zip(found, ids, smoothed, strict=True)
        ]
        yield TrackedFrame(frame.picture, frame.index, frame.time_s, poses)


def _boxes_ahead(tracker: Tracker, poses: list[Pose], frame: VideoFrame) -> list[tuple[np.ndarray, float]]:
    """Return a box (4,) and its score for each of the last poses, moved on to the time of a frame.

    A person who has left the picture, or of whom no two joints are sure, gives no box; the detector may find it again.
    """
    ahead = []
    for pose, expected_xy in zip(poses, tracker.expected([pose.id for pose in poses], frame.time_s), strict=True):
        xy = expected_xy[_sure(pose.scores)]
        if len(xy) > 1 and (xy.max(axis=0) > 0).all() and (xy.min(axis=0) < frame.picture.shape[1::-1]).all():
            ahead.append((box_around_points(xy), pose.box_score))
    return ahead


def _sure(scores: np.ndarray) -> np.ndarray:
    return scores > JOINT_SCORE_THRESHOLD


@dataclass
class _Person:
    """What was last found of a person, when, and how fast the person moves."""

    id: int
    keypoints_xy: np.ndarray
    scores: np.ndarray
    time_s: float
    velocity_xy: np.ndarray = field(default_factory=lambda: np.zeros(2))  # pixels per second, of the whole person
    smoothing: OneEuroFilter | None = None

    def expected(self, time_s: float) -> np.ndarray:
        """Return the joints (K, 2) where they are if the person has kept its velocity."""
        return self.keypoints_xy + self.velocity_xy * (time_s - self.time_s)


class Tracker:
    """Give poses the identities of the people of earlier frames.

    Each person's joints are first moved on by the person's velocity, so that people who pass each other keep their
    identities. Then poses are assigned to people so that the sum of similarities is largest.

    Args:
        smooth: strength of the One-Euro filter; 0: none.
        max_missing_s: whoever is not found for longer gets a new identity.
    """

    def __init__(self, smooth: float = 0.0, max_missing_s: float = MAX_MISSING_S):
        self.smooth, self.max_missing_s = smooth, max_missing_s
        self._people: list[_Person] = []
        self._next_id = 1

    def update(
        self, keypoints_xy: list[np.ndarray], scores: list[np.ndarray], time_s: float
    ) -> tuple[list[int], list[np.ndarray]]:
        """Assign the poses of one frame, (K, 2) pixels and (K,) scores each; frames come in the order of time.

        Returns:
            The identity of each pose, counted from 1, and its joints (K, 2), smoothed if asked for.
        """
        self._people = [person for person in self._people if time_s - person.time_s <= self.max_missing_s]
        similarity = np.zeros((len(self._people), len(keypoints_xy)))
        for row, person in enumerate(self._people):
            for column, (xy, joint_scores) in enumerate(zip(keypoints_xy, scores, strict=True)):
                similarity[row, column] = _similarity(person.expected(time_s), person.scores, xy, joint_scores)
        matched: dict[int, _Person] = {}
        pairs = np.stack(linear_sum_assignment(-similarity), axis=1).tolist()
        for row, column in pairs:
            if similarity[row, column] >= MIN_SIMILARITY:
                matched[column] = self._people[row]
        people = [
            self._seen(matched.get(i), xy, joint_scores, time_s)
            for i, (xy, joint_scores) in enumerate(zip(keypoints_xy, scores, strict=True))
        ]
        smoothed = [p.keypoints_xy if p.smoothing is None else p.smoothing(p.keypoints_xy, time_s) for p in people]
        return [person.id for person in people], smoothed

    def expected(self, ids: Sequence[int | None], time_s: float) -> list[np.ndarray]:
        """Return the joints (K, 2) of people of the last frame, moved on to a later time."""
        people = {person.id: person for person in self._people}
        return [people[number].expected(time_s) for number in ids if number is not None]

    def _seen(self, person: _Person | None, xy: np.ndarray, scores: np.ndarray, time_s: float) -> _Person:
        """Return the person of a pose, with the pose as what was found last; a new one if ``person`` is None."""
        if person is None:
            person = _Person(self._next_id, xy, scores, time_s)
            person.smoothing = OneEuroFilter(self.smooth) if self.smooth > 0 else None
            self._people.append(person)
            self._next_id += 1
        elif time_s > person.time_s:
            seen = _seen_in_both(person.scores, scores)
            newest = np.median((xy - person.keypoints_xy)[seen], axis=0) / (time_s - person.time_s)
            person.velocity_xy = (1 - VELOCITY_SHARE) * person.velocity_xy + VELOCITY_SHARE * newest
        person.keypoints_xy, person.scores, person.time_s = xy, scores, time_s
        return person


def _seen_in_both(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which joints are sure in both poses; all if none is."""
    both = _sure(scores) & _sure(others)
    return both if both.any() else np.ones(len(scores), bool)


def _similarity(expected_xy: np.ndarray, expected_scores: np.ndarray, xy: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean over the joints of exp(-d² / (2 (0.25 size)²)), where size is the larger extent; 0..1."""
    seen = _seen_in_both(expected_scores, scores)
    size = max(np.ptp(expected_xy[seen], axis=0).max(), np.ptp(xy[seen], axis=0).max(), 1.0)
    distances = np.linalg.norm(expected_xy[seen] - xy[seen], axis=1)
    return float(np.exp(-0.5 * (distances / (FALLOFF * size)) ** 2).mean())


class OneEuroFilter:
    """Smooth joints over time: strongly at rest, weakly in fast motion (Casiez, Roussel and Vogel, CHI 2012).

    Args:
        strength: 1 is a cut-off frequency of 1 Hz at rest; 2 smooths twice as strongly.
        beta: growth of the cut-off frequency with speed, in Hz per (person's size per second).
    """

    def __init__(self, strength: float = 1.0, beta: float = 4.0):
        self.min_cutoff_hz, self.beta = 1 / strength, beta
        self._xy: np.ndarray | None = None
        self._speed_xy = np.zeros(2)
        self._time_s = 0.0

    def __call__(self, xy: np.ndarray, time_s: float) -> np.ndarray:
        """Return the smoothed joints (K, 2) of the frame at ``time_s``."""
        if self._xy is None or time_s <= self._time_s:
            self._xy, self._speed_xy, self._time_s = xy, np.zeros_like(xy), time_s
            return xy
        step_s = time_s - self._time_s
        size = max(float(np.ptp(xy, axis=0).max()), 1.0)
        share = _share(1.0, step_s)
        self._speed_xy = (1 - share) * self._speed_xy + share * (xy - self._xy) / step_s
        speeds = np.linalg.norm(self._speed_xy, axis=1, keepdims=True) / size
        shares = _share(self.min_cutoff_hz + self.beta * speeds, step_s)
        self._xy, self._time_s = (1 - shares) * self._xy + shares * xy, time_s
        return self._xy


def _share(cutoff_hz, step_s: float):
    """Return the weight of the newest value in a first-order low-pass filter."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * step_s))
