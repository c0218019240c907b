"""From a picture to poses: boxes, crops, network, joints, back into the picture.

What stands between a picture and its poses besides the network lives in ``Predictor``; the network itself sits behind a
``runtimes.Backend``, four attributes and one method on arrays, so that any runtime can take its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from lgmpose.inference.backends import Backend, merged_heatmaps, open_backend
from lgmpose.inference.inputs import check_boxes, load_picture, overlaps
from lgmpose.metrics import JOINT_SCORE_THRESHOLD, rescore
from lgmpose.pose.geometry import (
    PADDING,
    box_around_points,
    box_to_center_size,
    crop_matrix,
    invert_matrix,
    transform_points,
    warp_image,
)
from lgmpose.pose.skeletons import Skeleton, notice_unpaired

__all__ = ["Backend", "Pose", "Predictor", "crop_person"]

SCORE_THRESHOLD = JOINT_SCORE_THRESHOLD  # what does not count in a person's score is not drawn either
# A second look is taken where this share of the joints has at least a faint peak, and these joints spread over this
# share of the first look. Faint is enough: a person small in the first look is seen faintly, and gains most.
SECOND_LOOK_SCORE = 0.1
SECOND_LOOK_JOINTS = 0.5
SECOND_LOOK_EXTENT = 0.1


@dataclass(frozen=True, eq=False)
class Pose:
    """One person's joints.

    Attributes:
        keypoints_xy: (K, 2) float64, picture pixels.
        scores: (K,) heatmap maxima, about 0..1.
        box_xywh: (4,) float64, the box that was looked at, without padding.
        score: mean of the joint scores above 0.2 (COCO's rescoring); 0 where there is none.
        skeleton: the joints' names and edges.
    """

    keypoints_xy: np.ndarray
    scores: np.ndarray
    box_xywh: np.ndarray
    score: float
    skeleton: Skeleton


def crop_person(
    picture: np.ndarray, matrix: np.ndarray, image_hw: tuple[int, int], out: np.ndarray | None = None
) -> np.ndarray:
    """``warp_image`` for photographs: where the crop is much smaller than the person, pixels are averaged first.

    A person 2,000 pixels tall, read at every fifteenth pixel, has jagged edges that no training picture has.

    Args:
        picture: (H, W, 3) uint8.
        matrix: (2, 3), picture → crop.
        out: where to write the crop.

    Returns:
        (h, w, 3) uint8, black outside the picture.
    """
    factor = int(1 / np.linalg.norm(matrix[:, 0]))
    if factor < 2:
        return warp_image(picture, matrix, image_hw, out)
    corners = np.array([[0, 0], [image_hw[1], 0], [0, image_hw[0]], [image_hw[1], image_hw[0]]], float)
    corners = transform_points(invert_matrix(matrix), corners)
    low = np.clip(np.floor(corners.min(axis=0)) - factor, 0, None)
    high = np.clip(np.ceil(corners.max(axis=0)) + factor, None, picture.shape[1::-1])
    (x1, y1), (x2, y2) = low.astype(int), high.astype(int)
    region = picture[y1:y2, x1:x2]
    small_wh = np.maximum(np.array([x2 - x1, y2 - y1]) // factor, 1)
    small = cv2.resize(region, [int(n) for n in small_wh], interpolation=cv2.INTER_AREA)
    step = (high - low) / small_wh  # picture pixels per small pixel; pixel i's centre lies at i in both
    to_picture = np.column_stack([np.diag(step), low + (step - 1) / 2])
    return warp_image(small, matrix @ np.vstack([to_picture, [0, 0, 1]]), image_hw, out)


class Predictor:
    """Finds the joints of people in a picture.

    Args:
        weights: a weights file, the one shipped with the package where None, a file of ``lgmpose export`` (``.onnx``,
            ``.xml``), which needs no PyTorch, or a ``Backend``.
        device: ``auto``, ``cpu``, ``cuda``, ``mps`` …
        flip_test: average with the mirrored crop: twice the work, a little more accurate.
        batch_size: how many persons go through the network at once. On a CPU more than four gain nothing, and ten or
            more take longer per person, as the C library asks the kernel anew for every large tensor.
        threads: how many the runtime may take; see ``runtimes.open_backend``.
        passes: how often to look where no box is given. The first look takes the whole picture, each further one the
            box around the joints found before.

    Raises:
        UserError: weights that cannot be read, or a device that is not there.
    """

    def __init__(
        self,
        weights: str | Path | Backend | None = None,
        *,
        device: str = "auto",
        flip_test: bool = True,
        batch_size: int = 4,
        threads: int | None = None,
        passes: int = 3,
    ):
        is_backend = hasattr(weights, "heatmaps")
        self.backend = weights if is_backend else open_backend(weights, device=device, threads=threads)
        self.flip_test, self.batch_size, self.passes = flip_test, batch_size, passes
        if flip_test:
            notice_unpaired(self.backend.skeleton)

    def __call__(self, image, boxes=None) -> list[Pose]:
        """One pose per box, in the boxes' order; without boxes, one pose from the whole picture.

        Args:
            image: path (EXIF orientation applied), Pillow image (likewise), or (H, W, 3) uint8 RGB array.
            boxes: (n, 4) x, y, w, h in picture pixels, without padding; they may reach beyond the picture. None: the
                whole picture shows one person.

        Raises:
            UserError: no picture, or a box of no area, outside the picture, or not finite.
        """
        picture, name = load_picture(image)
        if boxes is not None:
            return self._poses(picture, check_boxes(boxes, picture.shape[:2], name), PADDING)
        (pose,) = self._poses(picture, _whole(picture), 1.0)
        for _ in range(self.passes - 1):
            box_xywh = _second_look(pose, picture.shape[:2])
            if box_xywh is None:
                break
            (pose,) = self._poses(picture, box_xywh[None], PADDING)
        return [pose]

    def heatmaps(self, image, box=None) -> tuple[np.ndarray, np.ndarray]:
        """What the network saw and what it said, for one person.

        Args:
            image: as above.
            box: (4,) x, y, w, h; None takes the whole picture, in one look.

        Returns:
            The crop (H, W, 3) uint8, and its heatmaps (K, h, w).

        Raises:
            UserError: as above.
        """
        picture, name = load_picture(image)
        boxes = _whole(picture) if box is None else check_boxes([box], picture.shape[:2], name)
        crops, _ = self._crops(picture, boxes, 1.0 if box is None else PADDING)
        return crops[0], self._heatmaps(crops)[0]

    def _crops(self, picture: np.ndarray, boxes: np.ndarray, padding: float) -> tuple[np.ndarray, np.ndarray]:
        """Crops (n, H, W, 3) uint8 and their matrices (n, 2, 3), picture → crop."""
        codec = self.backend.codec
        matrices = np.empty((len(boxes), 2, 3))
        crops = np.empty((len(boxes), *codec.image_hw, 3), np.uint8)
        for box, matrix, crop in zip(boxes, matrices, crops, strict=True):
            matrix[:] = crop_matrix(*box_to_center_size(box, padding), codec.image_hw, aligned=codec.aligned)
            crop_person(picture, matrix, codec.image_hw, crop)
        return crops, matrices

    def _heatmaps(self, crops: np.ndarray) -> np.ndarray:
        return merged_heatmaps(
            self.backend, crops, skeleton=self.backend.skeleton, flip_test=self.flip_test,
            flip_shift=self.backend.codec.flip_shift,
        )  # fmt: skip

    def _poses(self, picture: np.ndarray, boxes: np.ndarray, padding: float) -> list[Pose]:
        poses = []
        for start in range(0, len(boxes), self.batch_size):
            batch = boxes[start : start + self.batch_size]
            crops, matrices = self._crops(picture, batch, padding)
            crop_xy, scores = self.backend.codec.decode(self._heatmaps(crops))
            keypoints_xy = transform_points(invert_matrix(matrices), crop_xy)
            person_scores = rescore(scores, np.ones(len(batch)))
            poses += [
                Pose(*values, skeleton=self.backend.skeleton)
                for values in zip(keypoints_xy, scores, batch, person_scores.tolist(), strict=True)
            ]
        return poses


def _whole(picture: np.ndarray) -> np.ndarray:
    return np.array([[0.0, 0.0, picture.shape[1], picture.shape[0]]])


def _second_look(pose: Pose, picture_hw: tuple[int, int]) -> np.ndarray | None:
    """The box around the joints found, made as the training set's boxes are; None where too little was found."""
    found = pose.keypoints_xy[pose.scores > SECOND_LOOK_SCORE]
    if len(found) < SECOND_LOOK_JOINTS * len(pose.scores):
        return None
    box_xywh = box_around_points(found)
    if box_xywh[2:].max() < SECOND_LOOK_EXTENT * pose.box_xywh[2:].max() or not overlaps(box_xywh, picture_hw):
        return None
    return box_xywh
