"""Random changes of training crops: half bodies, scale, rotation, flip (SimpleBaseline, HRNet), colour, occlusion."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from lgmpose.data.records import PersonRecord
from lgmpose.errors import UserError

__all__ = ["Augmentation", "augment_record", "change_colour", "colour_change", "occlude", "occluder"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training crops. The defaults are SimpleBaseline's, and HRNet's for half bodies.

    The paper states none of them. The order of the fields is the order of the changes.

    Raises:
        UserError: A field is out of its range, which otherwise would fail in a loader process.
    """

    half_body_prob: float = 0.3  # share of crops that show half of the body only; HRNet has 0.3 on COCO, 0 on MPII
    half_body_min_joints: int = 8  # a person with at most this many labelled joints stays whole
    scale_factor: float = 0.3  # standard deviation of the crop's random scale, which stays within 1 ± this value
    rotation_deg: float = 40.0  # standard deviation of the random rotation, degrees; it stays below twice this value
    rotation_prob: float = 0.6  # share of the samples that are rotated
    flip_prob: float = 0.5  # share of the samples that are mirrored
    colour: float = 0.0  # largest change of contrast, brightness and each channel, as a share; not in published recipes
    occlusion_prob: float = 0.0  # share of the samples that a rectangle partly hides; not in published recipes

    def __post_init__(self):
        # A colour above 1 could turn a picture into its negative.
        for name in ("half_body_prob", "rotation_prob", "flip_prob", "colour", "occlusion_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)}: give a value from 0 to 1")
        if not 0 <= self.scale_factor < 1:  # at 1 a crop may have no extent
            raise UserError(f"scale_factor {self.scale_factor}: give a value from 0 to below 1")
        if not 0 <= self.rotation_deg < math.inf:
            raise UserError(f"rotation_deg {self.rotation_deg}: give 0 or more degrees")
        if self.half_body_min_joints < 0:
            raise UserError(f"half_body_min_joints {self.half_body_min_joints}: give 0 or more")


def _half_body(
    record: PersonRecord, upper_body: Collection[int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return centre and extent around the upper or the lower joints alone, or None if too few are labelled."""
    labelled = np.flatnonzero(record.visibility > 0)
    upper = [j for j in labelled if j in upper_body]
    lower = [j for j in labelled if j not in upper_body]
    # The published code compares a *normal* draw with 0.5, so that it takes the upper half in 69 % of the cases.
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
    record: PersonRecord, upper_body: Collection[int], augmentation: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float, bool]:
    """Draw one crop of a person.

    Every random number is drawn, even if it is not used. So one option does not change the random numbers of the next.

    Returns:
        Centre (2,) and extent (2,) in pixels, rotation in degrees, flip.
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


def colour_change(amount: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Draw what ``change_colour`` does: gain (3,) around the value 128, and a shift."""
    gain = (1 + rng.uniform(-amount, amount)) * (1 + rng.uniform(-amount, amount, 3) / 2)
    shift = 128 * rng.uniform(-amount, amount)
    return gain, shift


def change_colour(image: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Change contrast, brightness and white balance of (H, W, 3) uint8, each by at most ``amount``."""
    gain, shift = colour_change(amount, rng)
    table = np.clip((np.arange(256)[:, None] - 128) * gain + 128 + shift, 0, 255).astype(np.uint8)
    return np.stack([table[:, c][image[..., c]] for c in range(3)], axis=-1)


def occlude(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cover (H, W, 3) uint8 by a rectangle of one colour, 15 to 45 % of each side; joints under it stay labelled."""
    (top, left, bottom, right), rgb = occluder(image.shape[:2], rng)
    image = image.copy()
    image[top:bottom, left:right] = rgb
    return image


def occluder(image_hw: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw what ``occlude`` does: top, left, bottom, right (4,), and the colour (3,)."""
    size_hw = (rng.uniform(0.15, 0.45, 2) * image_hw).round().astype(int)
    corner = (rng.random(2) * (image_hw - size_hw)).astype(int)
    return np.concatenate([corner, corner + size_hw]), rng.integers(0, 256, 3)
