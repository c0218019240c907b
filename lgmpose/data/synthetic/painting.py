"""Painting: from spheres in space to pixels, and to a map of which part is seen at which pixel.

The canvas has twice the picture's pixels on either axis; averaging them at the end smooths the edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lgmpose.data.synthetic.body import PARTS, Layer, Person
from lgmpose.data.synthetic.clothes import FULL_LIGHT

__all__ = [
    "OBSTACLE", "PARTS_PER_PERSON", "SUPERSAMPLING", "Canvas", "Placement", "paint_layer", "paint_person", "to_canvas",
]  # fmt: skip

SUPERSAMPLING = 2  # canvas pixels per picture pixel and axis
PARTS_PER_PERSON = len(PARTS)
OBSTACLE = 65535  # number in the part map of things that hide people
_CAMERA_DISTANCE = 5.0  # m; what is nearer to the viewer is drawn a little larger
_ANGLES = np.linspace(0, 2 * np.pi, 24)
_CIRCLE = np.stack((np.cos(_ANGLES), np.sin(_ANGLES)), axis=1)
# No outline is drawn around the joint between these, so that a bent limb is one piece.
_JOINED = {
    "upper_arm": ("torso", "{side}_forearm"), "forearm": ("{side}_upper_arm", "{side}_hand"),
    "hand": ("{side}_forearm",), "thigh": ("{side}_shin", "pelvis"), "shin": ("{side}_thigh",),
    "pelvis": ("left_thigh", "right_thigh", "skirt", "torso"), "skirt": ("pelvis", "torso", "left_thigh"),
}  # fmt: skip


@dataclass(frozen=True)
class Canvas:
    """What is painted on; painting changes both arrays in place."""

    pixels: np.ndarray  # (h, w, 3) uint8 RGB
    part_map: np.ndarray  # (h, w) uint16: 0 background, ``OBSTACLE``, or a person's first number + index in ``PARTS``
    light_xy: np.ndarray  # (2,) unit vector towards the light


@dataclass(frozen=True)
class Placement:
    """Where a person is drawn and how large: from metres to pixels."""

    scale: float  # pixels per metre at the hips
    hips_xy: np.ndarray  # (2,) pixels

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels (N, 2) and pixels per metre (N,) of camera coordinates (N, 3+), in weak perspective."""
        pixels_per_metre = self.scale * _CAMERA_DISTANCE / (_CAMERA_DISTANCE - points[:, 2])
        return self.hips_xy + pixels_per_metre[:, None] * points[:, :2] * np.array((1, -1)), pixels_per_metre


def to_canvas(xy):
    """Convert picture pixels to canvas pixels: picture pixel p covers canvas pixels 2 p and 2 p + 1."""
    return xy * SUPERSAMPLING + (SUPERSAMPLING - 1) / 2


def paint_person(canvas: Canvas, person: Person, first_number: int, placement: Placement) -> np.ndarray:
    """Paint a person's parts, far to near.

    Args:
        canvas: is changed. In its part map, part p of ``PARTS`` gets the number ``first_number + p``, and a seat gets
            ``OBSTACLE``.
        person: the person.
        first_number: see ``canvas``.
        placement: in picture pixels.

    Returns:
        (2, 2) smallest and largest x and y of the silhouette in picture pixels, with its hidden parts.
    """
    on_canvas = Placement(placement.scale * SUPERSAMPLING, to_canvas(placement.hips_xy))
    numbers = {name: first_number + p for p, name in enumerate(PARTS)} | {"seat": OBSTACLE}
    extents = []
    for part in sorted(person.parts, key=lambda part: part.depth):
        side, _, limb = part.name.partition("_")
        joined = [numbers[name.format(side=side)] for name in _JOINED.get(limb or side, ())]
        for layer in part.layers:
            extent = paint_layer(canvas, layer, numbers[part.name], on_canvas, joined)
            if part.name != "seat":
                extents.append(extent)
    low, high = np.min(extents, axis=0)[0], np.max(extents, axis=0)[1]
    return (np.stack((low, high)) - (SUPERSAMPLING - 1) / 2) / SUPERSAMPLING


def paint_layer(
    canvas: Canvas, layer: Layer, number: int, placement: Placement, joined: list[int] | None = None
) -> np.ndarray:
    """Paint one layer, and write ``number`` into the part map wherever it paints.

    ``placement`` is in canvas pixels. It has no outline over ``joined``, the numbers of neighbouring parts.

    Returns:
        (2, 2) smallest and largest x and y painted in canvas pixels, also outside the canvas.
    """
    xy, pixels_per_metre = placement.project(layer.spheres)
    radius = layer.spheres[:, 3] * pixels_per_metre
    hull = _hull(xy, radius)
    extent = np.stack((hull.min(0), hull.max(0)))
    height, width = canvas.part_map.shape
    (x0, y0), (x1, y1) = np.maximum(extent[0], 0), np.minimum(extent[1] + 1, (width, height))
    if x1 <= x0 or y1 <= y0:
        return extent

    # From here on, everything is in the window around the layer, whose upper left pixel is (x0, y0).
    window, hull, xy = np.s_[y0:y1, x0:x1], (hull - (x0, y0)).astype(np.int32), xy - (x0, y0)
    x, y = np.arange(x1 - x0), np.arange(y1 - y0)
    mask = np.zeros((len(y), len(x)), np.uint8)
    cv2.fillConvexPoly(mask, hull, 1)
    if layer.cap is not None:
        u, v = (x[None] - xy[0, 0]) / radius[0], (y[:, None] - xy[0, 1]) / -radius[0]
        cosine = u * layer.cap[0] + v * layer.cap[1] + np.sqrt(np.maximum(1 - u * u - v * v, 0)) * layer.cap[2]
        mask *= cosine > layer.cap[3]

    paint = layer.paint
    brightness = np.full(mask.shape, FULL_LIGHT, np.uint8)
    if not paint.flat:
        width_px = max(1, round(placement.scale * 0.007))
        over = np.isin(canvas.part_map[window], joined) if joined else None
        brightness = _shade(xy, radius, hull, mask.shape, canvas.light_xy, width_px, over)
    if paint.pattern == "plain":
        colors = np.take(paint.shades[0], brightness, axis=0)
    else:
        axis = xy[-1] - xy[0]
        axis = axis / max(np.hypot(*axis), 1e-6)
        second = paint.second_color_mask((x - xy[0, 0]) / placement.scale, (y - xy[0, 1]) / placement.scale, axis)
        colors = paint.shades[second.astype(np.intp), brightness]
    cv2.copyTo(colors, mask, canvas.pixels[window])
    canvas.part_map[window][mask > 0] = number
    return extent


def _hull(xy: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return the convex hull of circles, (M, 2) int32 pixels."""
    points = (xy[:, None] + np.maximum(radius, 0.6)[:, None, None] * _CIRCLE).reshape(-1, 2)
    return cv2.convexHull(np.rint(points).astype(np.int32))[:, 0]


def _shade(
    xy: np.ndarray, radius: np.ndarray, hull: np.ndarray, window_hw: tuple[int, ...], light_xy: np.ndarray,
    width_px: int, joined: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    """Return the brightness (h, w) uint8 of a hull: a dim rim, a bright middle moved towards the light, an outline.

    The hull (M, 2) is that of N circles, whose centres ``xy`` (N, 2) are in the window. Near the circles, no outline is
    drawn over the parts ``joined`` (h, w) bool; None for none.
    """
    brightness: np.ndarray = np.full(window_hw, 165, np.uint8)
    for level, shrink in ((205, 0.86), (232, 0.62), (252, 0.3)):
        lit = _hull(xy + light_xy * (radius * (1 - shrink) * 0.55)[:, None], radius * shrink)
        cv2.fillConvexPoly(brightness, lit, level)
    blur = 2 * int(radius.mean() * 0.12) + 1
    brightness = cv2.blur(brightness, (blur, blur))
    without_outline = np.maximum(brightness, 190)
    cv2.polylines(brightness, [hull], True, 88, width_px)
    if joined is not None:
        seam = np.zeros(window_hw, np.uint8)
        for center, r in zip(xy, radius, strict=True):
            cv2.circle(seam, np.rint(center).astype(int).tolist(), int(r * 1.3), 1, -1)
        brightness = np.where(joined & (seam > 0), without_outline, brightness)
    return brightness
