"""From a record to what a network sees: the crop, its joints, and augmentation as in SimpleBaseline and HRNet."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lgmpose.data.images import read_annotated
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.pose.geometry import crop_matrix, transform_points, warp_image

__all__ = ["Augmentation", "CropDataset", "augment_record", "warp_person"]


@dataclass(frozen=True)
class Augmentation:
    """Training-time changes, in the order in which they are drawn (SimpleBaseline's factors; HRNet's half body).

    The paper states none of them.

    Raises:
        UserError: a field out of its range, which would fail, or do nothing sensible, only within a loader process.
    """

    half_body_prob: float = 0.3  # HRNet on COCO; MPII trains without
    half_body_min_joints: int = 8  # a body with no more labelled joints stays whole
    scale_factor: float = 0.3  # extent × clip(1 + 0.3 · N(0, 1), 0.7, 1.3)
    rotation_deg: float = 40.0  # clip(40 · N(0, 1), ± 80) …
    rotation_prob: float = 0.6  # … in so many of the samples
    flip_prob: float = 0.5
    colour: float = 0.0  # ± this share of contrast, brightness and each channel; no published recipe has it
    occlusion_prob: float = 0.0  # so many of the samples have a rectangle of one colour over them; nor this

    def __post_init__(self):
        # A colour above 1 would turn contrast into that of a negative.
        for name in ("half_body_prob", "rotation_prob", "flip_prob", "colour", "occlusion_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)}: from 0 to 1")
        if not 0 <= self.scale_factor < 1:  # at 1 a crop may have no extent
            raise UserError(f"scale_factor {self.scale_factor}: from 0 up to, but not including, 1")
        if not 0 <= self.rotation_deg < math.inf:
            raise UserError(f"rotation_deg {self.rotation_deg}: a number of degrees, not below 0")
        if self.half_body_min_joints < 0:
            raise UserError(f"half_body_min_joints {self.half_body_min_joints}: not below 0")


def _half_body(record: PersonRecord, upper_body, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """Centre and extent around the upper or the lower joints alone, or None when too few are labelled."""
    labelled = np.flatnonzero(record.visibility > 0)
    upper = [j for j in labelled if j in upper_body]
    lower = [j for j in labelled if j not in upper_body]
    # The published code compares a *normal* draw with 0.5, so the upper half wins in 69 % of the cases.
    if rng.standard_normal() < 0.5 and len(upper) > 2:
        chosen = upper
    else:
        chosen = lower if len(lower) > 2 else upper
    if len(chosen) < 2:
        return None
    points = record.keypoints_xy[chosen]
    size_wh = points.max(axis=0) - points.min(axis=0)
    if not (size_wh.max() > 0):
        return None
    return points.mean(axis=0), np.maximum(size_wh, 1.0) * 1.5


def augment_record(
    record: PersonRecord, upper_body, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float, bool]:
    """Draws one crop of a person: centre (2,), extent (2,), rotation in degrees, flip.

    Every draw is made whether it is used or not, so that one option does not shift the random numbers of the next.
    """
    center_xy, size_wh = record.center_xy, record.size_wh
    use_half = rng.random() < augmentation.half_body_prob
    half = _half_body(record, upper_body, rng)
    if use_half and half is not None and (record.visibility > 0).sum() > augmentation.half_body_min_joints:
        center_xy, size_wh = half
    factor = augmentation.scale_factor
    size_wh = size_wh * np.clip(1 + factor * rng.standard_normal(), 1 - factor, 1 + factor)
    limit = 2 * augmentation.rotation_deg
    rotation = float(np.clip(augmentation.rotation_deg * rng.standard_normal(), -limit, limit))
    rotation = rotation if rng.random() < augmentation.rotation_prob else 0.0
    flip = bool(rng.random() < augmentation.flip_prob)
    return center_xy, size_wh, rotation, flip


def _change_colour(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Contrast, brightness and white balance, each by at most ``amount``; (H, W, 3) uint8 → the same."""
    gain = (1 + rng.uniform(-amount, amount)) * (1 + rng.uniform(-amount, amount, 3) / 2)
    shift = 128 * rng.uniform(-amount, amount)
    table = np.clip((np.arange(256)[:, None] - 128) * gain + 128 + shift, 0, 255).astype(np.uint8)
    return np.stack([table[:, c][image[..., c]] for c in range(3)], axis=-1)


def _occlude(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of one colour, 15 to 45 % of the crop each way, somewhere; joints below it stay true."""
    height, width = image.shape[:2]
    size_hw = (rng.uniform(0.15, 0.45, 2) * (height, width)).round().astype(int)
    top, left = (rng.random(2) * ((height, width) - size_hw)).astype(int)
    image = image.copy()
    image[top : top + size_hw[0], left : left + size_hw[1]] = rng.integers(0, 256, 3)
    return image


def warp_person(image: np.ndarray, keypoints_xy: np.ndarray, matrix: np.ndarray, image_hw) -> tuple:
    """(H, W, 3) picture and (K, 2) joints → crop (h, w, 3) and joints in crop pixels."""
    return warp_image(image, matrix, image_hw), transform_points(matrix, keypoints_xy)


class CropDataset:
    """Crops of a record set, ready to be batched; a map-style data set without any state.

    An item is asked for as ``dataset[epoch, index]`` (or ``dataset[index]``, epoch 0) and depends on nothing but
    (seed, epoch, index): any number of workers, any order and any resumption give the same pictures.

    A sample is a dict: ``image`` (H, W, 3) uint8 RGB crop, ``keypoints_xy`` (K, 2) float32 in crop pixels,
    ``visibility`` (K,) int64, ``matrix`` (2, 3) float64 picture → crop, ``index``. A picture that cannot be read gives
    ``image`` None and the reason as ``error``: an exception would come out of a loader process as a traceback.
    """

    def __init__(
        self,
        record_set: RecordSet,
        image_hw: tuple[int, int],
        *,
        aligned: bool = False,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        self.record_set, self.image_hw, self.aligned = record_set, tuple(image_hw), aligned
        self.augmentation, self.seed = augmentation, seed

    def __len__(self) -> int:
        return len(self.record_set)

    def __getitem__(self, key) -> dict:
        epoch, index = key if isinstance(key, tuple) else (0, int(key))
        record, skeleton = self.record_set.records[index], self.record_set.skeleton
        try:
            image = read_annotated(record.image, record.stated_hw)
        except UserError as error:
            return {"image": None, "error": str(error), "index": index}
        center_xy, size_wh, rotation, flip = record.center_xy, record.size_wh, 0.0, False
        rng = np.random.default_rng((self.seed, epoch, index))
        if self.augmentation is not None:
            center_xy, size_wh, rotation, flip = augment_record(record, skeleton.upper_body, self.augmentation, rng)
        matrix = crop_matrix(
            center_xy, size_wh, self.image_hw, rotation_deg=rotation, flip=flip, aligned=self.aligned
        )
        crop, keypoints_xy = warp_person(image, record.keypoints_xy, matrix, self.image_hw)
        visibility = record.visibility
        if flip:
            order = list(skeleton.flip_permutation)
            keypoints_xy, visibility = keypoints_xy[order], visibility[order]
        if self.augmentation is not None and self.augmentation.colour > 0:
            crop = _change_colour(crop, self.augmentation.colour, rng)
        if self.augmentation is not None and rng.random() < self.augmentation.occlusion_prob:
            crop = _occlude(crop, rng)
        return {
            "image": crop,
            "keypoints_xy": keypoints_xy.astype(np.float32),
            "visibility": visibility.astype(np.int64),
            "matrix": matrix,
            "index": index,
        }
