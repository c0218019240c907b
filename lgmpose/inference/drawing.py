"""Pictures: skeletons on photographs, heatmaps and contact sheets, drawn by OpenCV."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import cv2
import numpy as np

from lgmpose.pose.skeletons import Skeleton, side_of

__all__ = ["contact_sheet", "draw_poses", "heatmap_overlay"]

# RGB. The person's right is warm, the left cool, the middle yellow: arms light, legs dark.
COLOURS = {
    "right arm": (255, 150, 50),
    "right leg": (235, 60, 60),
    "left arm": (70, 200, 255),
    "left leg": (70, 105, 245),
    "middle": (255, 220, 70),
}
OUTLINE = (25, 25, 35)
_ARM, _LEG = re.compile(r"elbow|wrist|hand|thumb|finger"), re.compile(r"knee|ankle|foot|toe|heel")
_TRUNK, _FACE = re.compile(r"shoulder|hip"), re.compile(r"eye|ear|nose|mouth")
_SHIFT = 4  # OpenCV takes coordinates as integers with so many fractional bits
_CIRCLE = np.array([(math.cos(math.pi * i / 12), math.sin(math.pi * i / 12)) for i in range(24)])


def draw_poses(image: np.ndarray, poses: Sequence, *, score_threshold: float = 0.2, copy: bool = True) -> np.ndarray:
    """Draws skeletons: the right side warm, the left cool, trunk and head yellow, all with a thin dark outline.

    Lines grow with the person. The least certain person is drawn first.

    Args:
        image: (H, W, 3) uint8 RGB.
        poses: ``predict.Pose``, or anything with ``keypoints_xy``, ``scores``, ``score`` and ``skeleton``.
        score_threshold: joints below it are left out, with their limbs.
        copy: draw on a copy; otherwise on ``image`` itself, where its memory allows.

    Returns:
        (H, W, 3) uint8.
    """
    canvas = image.copy() if copy else np.ascontiguousarray(image)
    for pose in sorted(poses, key=lambda pose: pose.score):
        shown = (np.asarray(pose.scores) >= score_threshold) & np.isfinite(pose.keypoints_xy).all(axis=1)
        if not shown.any():
            continue
        # Far outside, fixed-point coordinates would overflow; there is nothing to see there.
        reach = 4 * max(canvas.shape[:2])
        points = np.clip(np.asarray(pose.keypoints_xy, float), -reach, reach)
        radius = _limb_radius(points[shown], canvas.shape[:2])
        outline = max(0.8, 0.35 * radius)
        face = [bool(_FACE.search(name.lower())) for name in pose.skeleton.joint_names]
        edges = [edge for edge in pose.skeleton.edges if shown[edge[0]] and shown[edge[1]]]
        for a, b in sorted(edges, key=lambda edge: _colour(pose.skeleton, edge) != COLOURS["middle"]):
            width = radius * (0.6 if face[a] or face[b] else 1)
            _fill(canvas, _limb(points[a], points[b], width, outline), OUTLINE)
            _fill(canvas, _limb(points[a], points[b], width), _colour(pose.skeleton, (a, b)))
        for joint in np.flatnonzero(shown):
            size = 1.35 * radius * (0.6 if face[joint] else 1)
            _disc(canvas, points[joint], size + outline, OUTLINE)
            _disc(canvas, points[joint], size, _colour(pose.skeleton, (joint, joint)))
            _disc(canvas, points[joint], 0.5 * size, (255, 255, 255))
    return canvas


def _limb_radius(points: np.ndarray, picture_hw: tuple[int, int]) -> float:
    """Half a limb's width in pixels: 1 % of the person, between what can be seen and what hides the person."""
    extent = float(np.ptp(points, axis=0).max())
    return float(np.clip(0.011 * extent, max(1.0, 0.002 * max(picture_hw)), 0.012 * max(picture_hw) + 1))


def _colour(skeleton: Skeleton, edge: tuple[int, int]) -> tuple[int, int, int]:
    """A limb's colour from its two joints' names; a joint's own where both are the same."""
    names = [skeleton.joint_names[joint] for joint in edge]
    side, other = (side_of(name) for name in names)
    if side is None or side != other:
        return COLOURS["middle"]
    if any(_LEG.search(name.lower()) for name in names) or (edge[0] == edge[1] and "hip" in names[0].lower()):
        return COLOURS[f"{side} leg"]
    if edge[0] != edge[1] and all(_TRUNK.search(name.lower()) for name in names):
        return COLOURS["middle"]
    return COLOURS[f"{side} arm"]


def _limb(start_xy: np.ndarray, end_xy: np.ndarray, radius: float, outline: float = 0.0) -> np.ndarray:
    """A limb as a convex polygon (n, 2): round ends, thickest in its middle."""
    along = end_xy - start_xy
    length = float(np.hypot(*along))
    radius = min(radius, 0.25 * length)  # so that a short limb still looks like one
    across = np.array([-along[1], along[0]]) / max(length, 1e-9) * (radius + outline)
    middle = (start_xy + end_xy) / 2
    ring = (0.62 * radius + outline) * _CIRCLE
    points = np.concatenate([start_xy + ring, end_xy + ring, [middle + across, middle - across]])
    return cv2.convexHull(points.astype(np.float32))[:, 0]


def _fixed(xy: np.ndarray) -> np.ndarray:
    return np.round(np.asarray(xy) * 2**_SHIFT).astype(np.int32)


def _fill(canvas: np.ndarray, polygon: np.ndarray, colour: tuple[int, int, int]) -> None:
    cv2.fillConvexPoly(canvas, _fixed(polygon), colour, cv2.LINE_AA, _SHIFT)


def _disc(canvas: np.ndarray, centre_xy: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
    _fill(canvas, centre_xy + radius * _CIRCLE, colour)  # OpenCV's own small circles are not round


def heatmap_overlay(crop: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """The crop, darkened and grey, with every joint's heatmap in a hue of its own; bright where the network is sure.

    Args:
        crop: (H, W, 3) uint8 RGB.
        heatmaps: (K, h, w), about 0..1.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = crop.shape[:2]
    count = len(heatmaps)
    hues = np.stack([np.arange(count) * 180 / max(count, 1), np.full(count, 200), np.full(count, 255)], axis=-1)
    hues = cv2.cvtColor(hues[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0].astype(np.float32)  # (K, 3)
    strength = np.clip(np.asarray(heatmaps, np.float32), 0, 1)
    strongest = strength.max(axis=0)
    colour = np.tensordot(strength**2, hues, axes=(0, 0)) / np.maximum((strength**2).sum(axis=0), 1e-6)[..., None]
    # Map pixel i speaks of crop pixel 4 i, as the targets do; cv2.resize would put it amid its 4 × 4 pixels.
    stretch = np.array([[width / strongest.shape[1], 0, 0], [0, height / strongest.shape[0], 0]])
    colour, strongest = (
        cv2.warpAffine(plane, stretch, (width, height), borderMode=cv2.BORDER_REPLICATE)
        for plane in (colour, strongest)
    )
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None] * 0.6
    share = 0.9 * strongest[..., None] ** 0.8
    return np.clip(grey * (1 - share) + colour * share, 0, 255).astype(np.uint8)


def contact_sheet(images: Sequence[np.ndarray], columns: int, titles: Sequence[str] | None = None) -> np.ndarray:
    """Pictures side by side on white, each fitted into a cell of the median size, with a line of text below.

    Args:
        images: (H, W, 3) uint8 each, of any sizes.
        columns: cells per row.
        titles: one per picture; ASCII, as OpenCV's letters are. What does not fit is cut.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: no picture, no column, or another number of titles.
    """
    if not len(images) or columns < 1:
        raise ValueError("a contact sheet needs a picture and a column at least")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} pictures")
    gap, line = 8, 0 if titles is None else 18
    cell_h, cell_w = (max(96, int(np.median([image.shape[axis] for image in images]))) for axis in (0, 1))
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.full((gap + rows * (cell_h + line + gap), gap + columns * (cell_w + gap), 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (cell_h + line + gap), gap + i % columns * (cell_w + gap)
        scale = min(cell_h / image.shape[0], cell_w / image.shape[1])
        h, w = (max(1, round(n * scale)) for n in image.shape[:2])
        fitted = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        y, x = top + (cell_h - h) // 2, left + (cell_w - w) // 2
        sheet[y : y + h, x : x + w] = fitted
        if titles is not None:
            label = sheet[top + cell_h : top + cell_h + line, left : left + cell_w]  # a view: text ends at the cell
            style = cv2.FONT_HERSHEY_SIMPLEX, 0.4, OUTLINE, 1, cv2.LINE_AA
            label[:] = cv2.putText(label.copy(), titles[i], (0, 13), *style)
    return sheet
