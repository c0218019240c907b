"""From a picture to poses: boxes → crops → network → heatmaps → joints in crop pixels → joints in picture pixels.

``Predictor`` holds these steps; the network is behind ``backends.Backend``, so any runtime can take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from lgmpose.errors import UserError
from lgmpose.inference.backends import Backend, flip_tested, open_backend
from lgmpose.inference.inputs import as_boxes, check_boxes, load_picture
from lgmpose.pose.geometry import (
    PADDING,
    box_around_points,
    box_to_center_size,
    crop_matrix,
    fit_aspect,
    invert_matrix,
    transform_points,
    warp_image,
)
from lgmpose.pose.persons import JOINT_SCORE_THRESHOLD, oks_nms, rescore
from lgmpose.pose.skeletons import Skeleton, notice_unpaired

if TYPE_CHECKING:
    from lgmpose.inference.detectors import Detector
    from lgmpose.inference.tracking import TrackedFrame

__all__ = ["SCORE_THRESHOLD", "Backend", "Pose", "Predictor", "crop_person"]

# Joints above it count in a person's score. Drawings show joints from it on, which --score-threshold can change.
SCORE_THRESHOLD = JOINT_SCORE_THRESHOLD
# Without a box, the network sees the whole picture first, then twice the box around the joints it has just found.
# On 200 pictures of LSPET, PCK@0.2 is 28 % after the first look and 49 % after the third.
LOOKS = 3
MIN_BOX_SCORE = 0.4  # of a detector's boxes that are used


@dataclass(frozen=True, eq=False)
class Pose:
    """One person's joints.

    Attributes:
        keypoints_xy: (K, 2) float64, picture pixels.
        scores: (K,) heatmap maxima, about 0..1.
        box_xywh: (4,) float64, the box that was cropped, without padding.
        score: mean of the joint scores above 0.2 (COCO's rescoring), or 0 without any, multiplied by the box's score.
        skeleton: the joints' names and edges.
        box_score: the detector's score of the box; 1 without a detector.
        id: identity of the person in a video, counted from 1; None in a picture.
        time_s: seconds since the video's first frame; None in a picture.
    """

    keypoints_xy: np.ndarray
    scores: np.ndarray
    box_xywh: np.ndarray
    score: float
    skeleton: Skeleton
    box_score: float = 1.0
    id: int | None = None
    time_s: float | None = None


def crop_person(picture: np.ndarray, matrix: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Return the crop of a photograph; like ``warp_image``, but large persons are averaged down first.

    Sampling every fifteenth pixel of a person 2,000 pixels tall would give jagged edges that no training picture has.
    Sharp photographs gain from the averages. Small, soft pictures, such as LSPET's without boxes, lose a little: the
    network was trained on crops that were only sampled.

    Args:
        picture: (H, W, 3) uint8.
        matrix: (2, 3), picture → crop.
        image_hw: size of the crop.

    Returns:
        (h, w, 3) uint8, black outside the picture.
    """
    factor = int(1 / np.linalg.norm(matrix[:, 0]))  # picture pixels per crop pixel
    if factor < 2:
        return warp_image(picture, matrix, image_hw)
    picture_wh = np.array(picture.shape[1::-1])
    small_wh = np.maximum(picture_wh // factor, 1)
    small = cv2.resize(picture, small_wh.tolist(), interpolation=cv2.INTER_AREA)
    step = picture_wh / small_wh
    to_picture = np.column_stack([np.diag(step), (step - 1) / 2])  # the centre of pixel i lies at i in both pictures
    return warp_image(small, matrix @ np.vstack([to_picture, [0, 0, 1]]), image_hw)


class Predictor:
    """Find the joints of the people in a picture. Several threads may share one predictor.

    Args:
        weights: a weights file, a file of ``lgmpose export`` (``.onnx``, ``.xml``: without PyTorch), or a
            ``Backend``. None: the weights that come with the package.
        detector: finds the people in a picture: a name, file, function or object as for ``detectors.open_detector``.
            ``auto``: ``lgm-det``, see ``detectors.default_detector``. ``none``: the whole picture shows one person.
        device: ``auto``, ``cpu``, ``cuda``, ``mps`` …
        flip_test: average with the mirrored crop: twice the work, slightly more accurate.
        batch_size: persons per run of the network. On a CPU, more than four gain nothing.
        threads: number of CPU threads; see ``backends.open_backend``.
        min_box_score: boxes that the detector scores lower are left out.

    Raises:
        UserError: the weights or the detector cannot be read, the device is not available, or a number is out of range.
    """

    def __init__(
        self,
        weights: str | Path | Backend | None = None,
        *,
        detector: str | Path | Detector | Callable[[np.ndarray], tuple] | None = "auto",
        device: str = "auto",
        flip_test: bool = True,
        batch_size: int = 4,
        threads: int | None = None,
        min_box_score: float = MIN_BOX_SCORE,
    ):
        if batch_size < 1:
            raise UserError(f"batch_size {batch_size}: give 1 or more")
        if not 0 <= min_box_score <= 1:
            raise UserError(f"min_box_score {min_box_score}: give a number from 0 to 1")
        if weights is None or isinstance(weights, (str, PathLike)):
            weights = open_backend(weights, device=device, threads=threads)
        self.backend: Backend = weights
        self.flip_test, self.batch_size, self.min_box_score = flip_test, batch_size, min_box_score
        self._threads = threads
        if detector is None or (isinstance(detector, str) and detector == "none"):
            self.detector = None
        elif not (isinstance(detector, str) and detector == "auto"):
            from lgmpose.inference.detectors import open_detector  # whoever brings boxes needs no detector

            self.detector = open_detector(detector, threads=threads, device=device)
        if flip_test:
            notice_unpaired(self.backend.skeleton)

    @cached_property
    def detector(self) -> Detector | None:
        """What finds the people. The default is looked for only when a picture comes without boxes.

        ``__init__`` sets the attribute if the user chose a detector, and this function is then never called.
        """
        from lgmpose.inference.detectors import default_detector

        return default_detector(self.backend.skeleton, threads=self._threads)

    def __call__(self, image, boxes=None, box_scores=None) -> list[Pose]:
        """Return one pose per box, in the boxes' order; without boxes, the poses of the people that the detector finds.

        Args:
            image: path (EXIF orientation is applied), Pillow image (likewise), or (H, W, 3) uint8 RGB array.
            boxes: (n, 4) x, y, w, h in picture pixels, without padding; they may reach beyond the picture. None: those
                of the detector; without a detector, the whole picture shows one person.
            box_scores: (n,) a detector's confidences. If given, they count in the persons' scores, and of several poses
                of one person only the best stays (OKS-NMS), best first.

        Raises:
            UserError: the picture cannot be read; a box is not finite, has no area, or is outside the picture; or there
                is not one score per box.
        """
        picture, name = load_picture(image)
        if boxes is None and box_scores is not None:
            raise UserError(f"{name}: box_scores without boxes")
        if boxes is None and self.detector is None:
            return [self._closer_and_closer(picture)]
        if boxes is None:
            boxes, box_scores = self.find_people(picture, name)
        boxes = check_boxes(boxes, picture.shape[:2], name)
        if box_scores is not None:
            box_scores = _checked_scores(box_scores, len(boxes), name)
        poses = self._poses(picture, boxes, PADDING, np.ones(len(boxes)) if box_scores is None else box_scores)
        return poses if box_scores is None else self._each_once(poses)

    def track(
        self, source: str | int | Path, *, boxes=None, detect_every: int = 3, smooth: float = 0.0
    ) -> Iterator[TrackedFrame]:
        """Yield the frames of a video with the poses in them, one at a time.

        A frame has ``picture`` (H, W, 3) uint8 RGB, ``index``, ``time_s`` and ``poses``. A pose has the ``id`` of its
        person.

        Args:
            source: a video file, the number of a camera, or the address of a stream.
            boxes: (n, 4) x, y, w, h, used in every frame instead of the detector.
            detect_every, smooth: see ``tracking.TrackOptions``.

        Raises:
            UserError: the source cannot be opened or holds no video, or an option is out of range.
        """
        from lgmpose.inference.tracking import TrackOptions, follow  # SciPy and PyAV, which pictures do not need
        from lgmpose.inference.video import VideoReader

        options = TrackOptions(detect_every, smooth)
        return follow(self, VideoReader(source), options, None if boxes is None else as_boxes(boxes))

    def find_people(self, picture: np.ndarray, name: str = "the picture") -> tuple[np.ndarray, np.ndarray]:
        """Return the detector's boxes (n, 4) and scores (n,) of at least ``min_box_score``.

        Raises:
            UserError: the detector returned something else than boxes in the picture and scores.
        """
        from lgmpose.inference.detectors import detect_people

        assert self.detector is not None
        boxes, scores = detect_people(self.detector, picture)
        kept = scores >= self.min_box_score
        return check_boxes(boxes[kept], picture.shape[:2], f"{name}, detector"), scores[kept]

    def heatmaps(self, image, box=None) -> tuple[np.ndarray, np.ndarray]:
        """Return the crop (H, W, 3) uint8 that the network sees for one person, and its heatmaps (K, h, w).

        With SimCC's codec, the scores (K, 2W + 2H) take the place of the heatmaps.

        Args:
            image: as for a call.
            box: (4,) x, y, w, h; None: the whole picture.
        """
        picture, name = load_picture(image)
        boxes = _whole(picture) if box is None else check_boxes([box], picture.shape[:2], name)
        crops, _ = self._crops(picture, boxes, 1.0 if box is None else PADDING)
        return crops[0], self._heatmaps(crops)[0]

    def _poses(self, picture: np.ndarray, boxes: np.ndarray, padding: float, box_scores: np.ndarray) -> list[Pose]:
        poses = []
        for start in range(0, len(boxes), self.batch_size):
            batch = slice(start, start + self.batch_size)
            crops, matrices = self._crops(picture, boxes[batch], padding)
            crop_xy, scores = self.backend.codec.decode(self._heatmaps(crops))
            keypoints_xy = transform_points(invert_matrix(matrices), crop_xy)
            person_scores = rescore(scores, box_scores[batch])
            rows = zip(keypoints_xy, scores, boxes[batch], person_scores, box_scores[batch], strict=True)
            for xy, joint_scores, box, score, box_score in rows:
                poses.append(Pose(xy, joint_scores, box, float(score), self.backend.skeleton, float(box_score)))
        return poses

    def _crops(self, picture: np.ndarray, boxes: np.ndarray, padding: float) -> tuple[np.ndarray, np.ndarray]:
        """Return crops (n, H, W, 3) uint8 and their matrices (n, 2, 3), picture → crop."""
        hw, aligned = self.backend.image_hw, self.backend.codec.aligned
        matrices = [crop_matrix(*box_to_center_size(box, padding), hw, aligned=aligned) for box in boxes]
        return np.stack([crop_person(picture, matrix, hw) for matrix in matrices]), np.stack(matrices)

    def _heatmaps(self, crops: np.ndarray) -> np.ndarray:
        backend = self.backend
        if self.flip_test:
            return flip_tested(backend.heatmaps, crops, backend.skeleton, backend.codec)
        return backend.heatmaps(crops)

    def _closer_and_closer(self, picture: np.ndarray) -> Pose:
        """Return the pose of the only person: from the whole picture, then from the box around the joints found."""
        (pose,) = self._poses(picture, _whole(picture), 1.0, np.ones(1))
        for _ in range(LOOKS - 1):
            found = pose.keypoints_xy[pose.scores > SCORE_THRESHOLD]
            if len(found) < 2:  # no box around a single point
                break
            (pose,) = self._poses(picture, box_around_points(found)[None], PADDING, np.ones(1))
        return pose

    def _each_once(self, poses: list[Pose]) -> list[Pose]:
        """Return the best pose of each person, best first."""
        if not poses:
            return []
        padded_wh = np.stack([pose.box_xywh[2:] for pose in poses]) * PADDING
        kept = oks_nms(
            np.stack([pose.keypoints_xy for pose in poses]), np.array([pose.score for pose in poses]),
            fit_aspect(padded_wh, self.backend.image_hw).prod(axis=1), self.backend.skeleton.oks_sigmas,
        )  # fmt: skip
        return [poses[i] for i in kept]


def _checked_scores(box_scores, num_boxes: int, name: str) -> np.ndarray:
    """Return the scores (n,) float64. Raises UserError if there is not one number per box."""
    try:
        scores = np.asarray(box_scores, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{name}: box_scores are {num_boxes} numbers, one per box; got {box_scores!r}") from None
    if scores.shape != (num_boxes,) or not np.isfinite(scores).all():
        raise UserError(f"{name}: box_scores are {num_boxes} finite numbers, one per box; got {scores.tolist()}")
    return scores


def _whole(picture: np.ndarray) -> np.ndarray:
    return np.array([[0.0, 0.0, picture.shape[1], picture.shape[0]]])
