"""Drawing: from spheres in space to pixels, and to a map of which part is seen at which pixel.

The canvas has twice the picture's pixels in either direction; averaging them at the end smooths the edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lgmpose.data.synthetic.body import PARTS, Layer, Person

__all__ = [
    "OBSTACLE",
    "PARTS_PER_PERSON",
    "SUPERSAMPLING",
    "Canvas",
    "Placement",
    "paint_layer",
    "paint_person",
    "to_canvas",
]

SUPERSAMPLING = 2  # canvas pixels per picture pixel and axis
PARTS_PER_PERSON = len(PARTS)
OBSTACLE = 65535  # number in the part map of whatever hides people and is none
_CAMERA_DISTANCE = 5.0  # m; what is nearer to the viewer is drawn a little larger
_CIRCLE = np.stack((np.cos(np.linspace(0, 2 * np.pi, 24)), np.sin(np.linspace(0, 2 * np.pi, 24))), axis=1)
# Around the joint between these no outline is drawn, so that a bent limb is one piece and not a puppet's.
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
    """How large somebody is drawn and where: from metres to pixels."""

    scale: float  # pixels per metre at the hips
    hips_xy: np.ndarray  # (2,) pixels

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Camera coordinates (N, 3+) in metres → pixels (N, 2) and pixels per metre (N,), in weak perspective."""
        pixels_per_metre = self.scale * _CAMERA_DISTANCE / (_CAMERA_DISTANCE - points[:, 2])
        return self.hips_xy + pixels_per_metre[:, None] * points[:, :2] * np.array((1, -1)), pixels_per_metre

    def on_canvas(self) -> Placement:
        """The same place in canvas pixels instead of picture pixels."""
        return Placement(self.scale * SUPERSAMPLING, to_canvas(self.hips_xy))


def to_canvas(xy: np.ndarray) -> np.ndarray:
    """Picture pixels → canvas pixels. Integers are centres: picture pixel p covers canvas pixels 2 p and 2 p + 1."""
    return xy * SUPERSAMPLING + (SUPERSAMPLING - 1) / 2


def paint_person(canvas: Canvas, person: Person, first_number: int, placement: Placement) -> np.ndarray:
    """Paints a person's parts far to near.

    Args:
        canvas: painted on; part p of ``PARTS`` gets the number ``first_number + p``, a seat ``OBSTACLE``.
        person: whom to paint.
        first_number: see ``canvas``.
        placement: where, in picture pixels.

    Returns:
        (2, 2) smallest and largest x and y of the silhouette in picture pixels, seen or not.
    """
    extents = []
    for part in sorted(person.parts, key=lambda part: part.depth):
        number = OBSTACLE if part.name == "seat" else first_number + PARTS.index(part.name)
        side, _, limb = part.name.partition("_")
        neighbours = _JOINED.get(limb or side, ())
        joined = [first_number + PARTS.index(name.format(side=side)) for name in neighbours]
        for layer in part.layers:
            extent = paint_layer(canvas, layer, number, placement.on_canvas(), joined)
            if part.name != "seat":
                extents.append(extent)
    low, high = np.min(extents, axis=0)[0], np.max(extents, axis=0)[1]
    return (np.stack((low, high)) - (SUPERSAMPLING - 1) / 2) / SUPERSAMPLING


def paint_layer(
    canvas: Canvas, layer: Layer, number: int, placement: Placement, joined: list[int] | None = None
) -> np.ndarray:
    """Paints one layer and writes ``number`` into the part map wherever it paints.

    Args:
        canvas: painted on.
        layer: what to paint.
        number: which part of which person.
        placement: where, in canvas pixels.
        joined: numbers of parts that this one grows out of, over which it has no outline.

    Returns:
        (2, 2) smallest and largest x and y painted in canvas pixels, whether or not on the canvas.
    """
    xy, pixels_per_metre = placement.project(layer.spheres)
    radius = layer.spheres[:, 3] * pixels_per_metre
    hull = _hull(xy, radius)
    extent = np.stack((hull.min(0), hull.max(0)))
    height, width = canvas.part_map.shape
    (x0, y0), (x1, y1) = np.maximum(extent[0], 0), np.minimum(extent[1] + 1, (width, height))
    if x1 <= x0 or y1 <= y0:
        return extent

    # From here on only the window around the layer counts, its upper left pixel being `corner`.
    corner, window = np.array((x0, y0)), np.s_[y0:y1, x0:x1]
    outline = (hull - corner).astype(np.int32)
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillConvexPoly(mask, outline, 1)
    if layer.cap is not None:
        u = (np.arange(x0, x1)[None] - xy[0, 0]) / radius[0]
        v = (np.arange(y0, y1)[:, None] - xy[0, 1]) / -radius[0]
        cosine = u * layer.cap[0] + v * layer.cap[1] + np.sqrt(np.maximum(1 - u * u - v * v, 0)) * layer.cap[2]
        mask *= cosine > layer.cap[3]

    if layer.paint.flat:
        brightness = np.full(mask.shape, 225, np.uint8)
    else:
        brightness = _shading(xy, radius, corner, mask.shape, canvas.light_xy)
        without_outline = np.maximum(brightness, 190)
        cv2.polylines(brightness, [outline], True, 88, max(1, round(placement.scale * 0.007)))
        if joined:
            seam = np.zeros_like(mask)
            for center, r in zip(xy - corner, radius, strict=True):
                cv2.circle(seam, np.rint(center).astype(int).tolist(), int(r * 1.3), 1, -1)
            seam &= np.isin(canvas.part_map[window], joined)
            cv2.copyTo(without_outline, seam, brightness)

    if layer.paint.pattern == "plain":
        colors = np.take(layer.paint.shades[0], brightness, axis=0)
    else:
        axis = xy[-1] - xy[0]
        x, y = (np.arange(x0, x1) - xy[0, 0]) / placement.scale, (np.arange(y0, y1) - xy[0, 1]) / placement.scale
        second = layer.paint.second_color(x, y, axis / max(np.hypot(*axis), 1e-6))
        colors = layer.paint.shades[second.astype(np.intp), brightness]
    cv2.copyTo(colors, mask, canvas.pixels[window])
    canvas.part_map[window][mask > 0] = number
    return extent


def _hull(xy: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Convex hull of circles: (M, 2) int32 pixels."""
    points = (xy[:, None] + np.maximum(radius, 0.6)[:, None, None] * _CIRCLE).reshape(-1, 2)
    return cv2.convexHull(np.rint(points).astype(np.int32))[:, 0]


def _shading(
    xy: np.ndarray, radius: np.ndarray, corner: np.ndarray, window_hw: tuple[int, int], light_xy: np.ndarray
) -> np.ndarray:
    """(h, w) uint8 brightness: a dim rim, a lit middle moved towards the light, a soft blur between."""
    brightness = np.full(window_hw, 165, np.uint8)
    for level, shrink in ((205, 0.86), (232, 0.62), (252, 0.3)):
        lit = _hull(xy + light_xy * (radius * (1 - shrink) * 0.55)[:, None], radius * shrink)
        cv2.fillConvexPoly(brightness, (lit - corner).astype(np.int32), level)
    blur = 2 * int(radius.mean() * 0.12) + 1
    return cv2.blur(brightness, (blur, blur))
