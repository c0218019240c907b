"""Draw skeletons on photographs and heatmaps on crops, by OpenCV."""

from __future__ import annotations

import re
from collections.abc import Sequence

import cv2
import numpy as np

from lgmpose.pose.skeletons import Skeleton, side_of

__all__ = ["COLOURS", "draw_poses", "heatmap_overlay"]

# RGB. The person's right is warm, the left cool, the middle yellow; arms are light, legs dark.
COLOURS = {
    "right arm": (255, 150, 50),
    "right leg": (235, 60, 60),
    "left arm": (70, 200, 255),
    "left leg": (70, 105, 245),
    "middle": (255, 220, 70),
}
OUTLINE = (25, 25, 35)
_LEG, _TRUNK = re.compile(r"knee|ankle|foot|toe|heel"), re.compile(r"shoulder|hip")
# Beginnings of words, as in left_ear, Left Ear, leftEar and LEar, but not in rear and forearm.
_FACE = re.compile(r"(?<![a-zA-Z])(?i:eye|ear|nose|mouth)|(?<=[a-zLR])(?:Eye|Ear|Nose|Mouth)")
_SHIFT = 4  # fractional bits of the coordinates that OpenCV takes
_ANGLES = np.arange(24) * np.pi / 12
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)


def draw_poses(image: np.ndarray, poses: Sequence, *, score_threshold: float = 0.2, copy: bool = True) -> np.ndarray:
    """Draw skeletons: the right side warm, the left cool, trunk and head yellow, all with a thin dark outline.

    Lines grow with the person. The least certain person is drawn first.

    Args:
        image: (H, W, 3) uint8 RGB.
        poses: ``predictor.Pose``, or anything with ``keypoints_xy``, ``scores``, ``score`` and ``skeleton``.
        score_threshold: joints below it are left out, with their limbs.
        copy: draw on a copy; otherwise on ``image`` itself, if its memory is contiguous.

    Returns:
        (H, W, 3) uint8.
    """
    canvas = image.copy() if copy else np.ascontiguousarray(image)
    for pose in sorted(poses, key=lambda pose: pose.score):
        shown = (np.asarray(pose.scores) >= score_threshold) & np.isfinite(pose.keypoints_xy).all(axis=1)
        if shown.any():
            _draw_pose(canvas, pose, shown)
    return canvas


def _draw_pose(canvas: np.ndarray, pose, shown: np.ndarray) -> None:
    longer_side = max(canvas.shape[:2])
    # Far outside there is nothing to see, and OpenCV's integers would overflow.
    points = np.clip(np.asarray(pose.keypoints_xy, float), -4 * longer_side, 4 * longer_side)
    extent = float(np.ptp(points[shown], axis=0).max())
    # Half a limb's width: 1 % of the person, but neither too thin to see nor so thick that it hides the person.
    radius = float(np.clip(0.011 * extent, max(1.0, 0.002 * longer_side), 0.012 * longer_side + 1))
    outline = max(0.8, 0.35 * radius)
    width = [0.6 if _FACE.search(name) else 1.0 for name in pose.skeleton.joint_names]
    edges = [edge for edge in pose.skeleton.edges if shown[edge[0]] and shown[edge[1]]]
    for a, b in sorted(edges, key=lambda edge: _colour(pose.skeleton, *edge) != COLOURS["middle"]):
        half = radius * min(width[a], width[b])
        _line(canvas, points[a], points[b], 0.8 * half + outline, OUTLINE)
        _line(canvas, points[a], points[b], 0.8 * half, _colour(pose.skeleton, a, b))
    for joint in map(int, np.flatnonzero(shown)):
        size = 1.35 * radius * width[joint]
        _disc(canvas, points[joint], size + outline, OUTLINE)
        _disc(canvas, points[joint], size, _colour(pose.skeleton, joint, joint))
        _disc(canvas, points[joint], 0.5 * size, (255, 255, 255))


def _colour(skeleton: Skeleton, a: int, b: int) -> tuple[int, int, int]:
    """Return the colour of the limb between two joints; of the joint itself if both are the same."""
    names = [skeleton.joint_names[joint] for joint in (a, b)]
    side, other = (side_of(name) for name in names)
    if side is None or side != other:
        return COLOURS["middle"]
    if any(_LEG.search(name.lower()) for name in names) or (a == b and "hip" in names[0].lower()):
        return COLOURS[f"{side} leg"]
    if a != b and all(_TRUNK.search(name.lower()) for name in names):
        return COLOURS["middle"]
    return COLOURS[f"{side} arm"]


def _fixed(xy: np.ndarray) -> np.ndarray:
    return np.round(np.asarray(xy) * 2**_SHIFT).astype(np.int32)


def _line(canvas: np.ndarray, start_xy: np.ndarray, end_xy: np.ndarray, half: float, colour: tuple) -> None:
    start, end = _fixed(start_xy).tolist(), _fixed(end_xy).tolist()
    cv2.line(canvas, start, end, colour, max(1, round(2 * half)), cv2.LINE_AA, _SHIFT)


def _disc(canvas: np.ndarray, centre_xy: np.ndarray, radius: float, colour: tuple) -> None:
    # OpenCV's own small circles are not round.
    cv2.fillConvexPoly(canvas, _fixed(centre_xy + radius * _CIRCLE), colour, cv2.LINE_AA, _SHIFT)


def heatmap_overlay(crop: np.ndarray, heatmaps: np.ndarray, *, aligned: bool = False) -> np.ndarray:
    """Return the crop, dark and grey, with every joint's heatmap in its own hue: bright where the network is sure.

    Args:
        crop: (H, W, 3) uint8 RGB.
        heatmaps: (K, h, w), about 0..1.
        aligned: the codec's ``aligned``. With UDP, the outermost pixels of heatmap and crop coincide.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = crop.shape[:2]
    K, h, w = heatmaps.shape
    hues = np.stack([np.arange(K) * 180 / K, np.full(K, 200), np.full(K, 255)], axis=-1).astype(np.uint8)
    hues = cv2.cvtColor(hues[None], cv2.COLOR_HSV2RGB)[0].astype(np.float32)  # (K, 3)
    strength = np.clip(np.asarray(heatmaps, np.float32), 0, 1)
    colour = np.tensordot(strength**2, hues, axes=(0, 0)) / np.maximum((strength**2).sum(axis=0), 1e-6)[..., None]
    # Heatmap pixel i stands for crop pixel 4 i, as in the targets; cv2.resize would shift it by half a pixel.
    unit = 1 if aligned else 0
    stretch = np.array([[(width - unit) / (w - unit), 0, 0], [0, (height - unit) / (h - unit), 0]])
    colour, strongest = (
        cv2.warpAffine(plane, stretch, (width, height), borderMode=cv2.BORDER_REPLICATE)
        for plane in (colour, strength.max(axis=0))
    )
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None] * 0.6
    share = 0.9 * strongest[..., None] ** 0.8
    return np.clip(grey * (1 - share) + colour * share, 0, 255).astype(np.uint8)
