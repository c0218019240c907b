"""What is behind the people (rooms, landscapes, textures), and sometimes in front of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from lgmpose.data.synthetic.body import Layer
from lgmpose.data.synthetic.clothes import SKINS, Paint, random_color
from lgmpose.data.synthetic.painting import OBSTACLE, Canvas, Placement, paint_layer

__all__ = ["draw_background", "paint_obstacle"]

_CHANCES = {"room": 0.3, "outdoors": 0.26, "noise": 0.14, "stripes": 0.1, "blocks": 0.1, "blobs": 0.1}


@dataclass(frozen=True)
class _Sampler:
    """Random colours, places and fields for a picture of one size. Fields are (H, W, 1) float32."""

    rng: np.random.Generator
    height: int
    width: int

    @property
    def size(self) -> int:
        return max(self.height, self.width)

    def color(self, saturation=(0.05, 0.55), value=(0.35, 0.95)) -> np.ndarray:
        return np.array(random_color(self.rng, saturation, value), np.float32)

    def spot(self) -> tuple[int, int]:
        """Draw a point (x, y)."""
        return int(self.rng.uniform(0, self.width)), int(self.rng.uniform(0, self.height))

    def pixels(self, low: float, high: float) -> int:
        """Draw a length, given as a share of the longer side; at least 1."""
        return max(1, int(self.size * self.rng.uniform(low, high)))

    def ramp(self, degrees: float) -> np.ndarray:
        """Return a field rising from 0 to 1: to the right at 0°, downwards at 90°."""
        x = np.arange(self.width, dtype=np.float32)[None] / self.size
        y = np.arange(self.height, dtype=np.float32)[:, None] / self.size
        t = x * np.float32(np.cos(np.radians(degrees))) + y * np.float32(np.sin(np.radians(degrees)))
        return ((t - t.min()) / max(float(np.ptp(t)), 1e-6))[..., None]

    def noise(self, cells: int) -> np.ndarray:
        """Draw a field of smooth normal noise, with that many cells along the longer side."""
        grid = self.rng.normal(0, 1, (max(2, self.height * cells // self.size + 1), cells + 1)).astype(np.float32)
        return cv2.resize(grid, (self.width, self.height), interpolation=cv2.INTER_CUBIC)[..., None]


def draw_background(rng: np.random.Generator, image_hw: tuple[int, int]) -> np.ndarray:
    """Draw a room, a landscape or a texture, with things in it that resemble limbs and heads.

    Returns:
        (H, W, 3) uint8.
    """
    sampler = _Sampler(rng, *image_hw)
    kind = list(_CHANCES)[rng.choice(len(_CHANCES), p=list(_CHANCES.values()))]
    image = _mix(sampler.color(), sampler.color(), sampler.ramp(rng.uniform(0, 180)))
    horizon = int(image_hw[0] * rng.uniform(0.5, 0.85))
    if kind == "room":
        _furnish_room(sampler, image, horizon)
    elif kind == "outdoors":
        image = _draw_landscape(sampler, horizon)
    elif kind == "noise":
        for cells in (4, 9, 20, 45):
            image = _mix(image, sampler.color(), np.clip(0.5 + 0.35 * sampler.noise(cells), 0, 1) * 0.6)
    elif kind == "stripes":
        wave = np.sin(sampler.ramp(rng.uniform(0, 180)) * rng.uniform(15, 90))
        image = _mix(image, sampler.color(), np.clip(wave * rng.uniform(1, 8), -1, 1) * 0.4 + 0.4)
    else:
        for _ in range(rng.integers(12, 45)):  # all over the picture
            px, py = sampler.spot()
            a, b = (sampler.size * rng.uniform(0.02, 0.15, 2)).astype(int).tolist()
            if kind == "blocks":
                cv2.rectangle(image, (px - a, py - b), (px + a, py + b), sampler.color().tolist(), -1)
            else:
                turn = rng.uniform(0, 180)
                cv2.ellipse(image, (px, py), (a, b), turn, 0, 360, sampler.color().tolist(), -1, cv2.LINE_AA)
    _add_distractors(sampler, image)
    grain = sampler.noise(max(8, sampler.size // 3)) * np.float32(rng.uniform(1, 5))
    stains = sampler.noise(5) * np.float32(rng.uniform(0, 9))
    image += grain + stains
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def _mix(image: np.ndarray, other: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Blend from ``image`` where ``amount`` is 0 to ``other`` where it is 1."""
    return (image + (other - image) * amount).astype(np.float32, copy=False)


def _furnish_room(sampler: _Sampler, image: np.ndarray, horizon: int) -> None:
    """Draw a floor and furniture along the wall, in place."""
    rng, size, height, width = sampler.rng, sampler.size, sampler.height, sampler.width
    image[horizon:] = _mix(sampler.color(), sampler.color(), sampler.ramp(90)[horizon:])
    if rng.random() < 0.6:  # boards or tiles
        for k in np.arange(-2, 3, rng.uniform(0.15, 0.4)):
            start, end = (int(width * (0.5 + k)), horizon), (int(width * (0.5 + 2.5 * k)), height)
            cv2.line(image, start, end, (image[-1, 0] * 0.8).tolist(), 1, cv2.LINE_AA)
    for _ in range(rng.integers(0, 4)):  # pictures, windows, cupboards
        px, py = sampler.spot()
        top = px, min(py, horizon)
        corner = px + int(size * rng.uniform(0.08, 0.3)), top[1] + int(size * rng.uniform(0.08, 0.3))
        cv2.rectangle(image, top, corner, sampler.color().tolist(), -1)
        cv2.rectangle(image, top, corner, (sampler.color() * 0.5).tolist(), max(1, size // 110))
    skirting = (sampler.color() * 0.6).tolist()
    cv2.line(image, (0, horizon), (width, horizon), skirting, max(1, size // 130), cv2.LINE_AA)


def _draw_landscape(sampler: _Sampler, horizon: int) -> np.ndarray:
    """Return sky, two ranges of hills and some trees."""
    rng, size, height, width = sampler.rng, sampler.size, sampler.height, sampler.width
    x, y = np.arange(width, dtype=np.float32) / size, np.arange(height, dtype=np.float32) / size
    zenith = np.array((120, 170, 230), np.float32) + rng.normal(0, 25, 3).astype(np.float32)
    haze = np.array((235, 235, 225), np.float32) + rng.normal(0, 12, 3).astype(np.float32)
    image = _mix(zenith, haze, sampler.ramp(90))
    for depth in range(2):
        waves = 0.05 * np.sin(x * rng.uniform(4, 14) + rng.uniform(0, 6))
        waves += 0.03 * np.sin(x * rng.uniform(15, 30))
        hills = horizon + height * (0.1 * depth - 0.1 + waves)
        green = np.array((95, 140, 80), np.float32) * rng.uniform(0.6, 1.15) + rng.normal(0, 20, 3)
        below = (y * size)[:, None, None] > hills[None, :, None]
        image = np.where(below, green.astype(np.float32) * (1.08 - 0.25 * sampler.ramp(90)), image)
    for _ in range(rng.integers(0, 5)):  # trees
        px, crown = int(rng.uniform(0, width)), int(size * rng.uniform(0.04, 0.12))
        py = horizon - int(size * rng.uniform(0.02, 0.12))
        cv2.line(image, (px, py), (px, horizon + crown), (95, 70, 50), max(2, crown // 4), cv2.LINE_AA)
        leaf = (60 + rng.uniform(0, 60), 100 + rng.uniform(0, 60), 50 + rng.uniform(0, 40))
        cv2.ellipse(image, (px, py), (crown, int(crown * rng.uniform(0.9, 1.6))), 0, 0, 360, leaf, -1, cv2.LINE_AA)
    return image


def _add_distractors(sampler: _Sampler, image: np.ndarray) -> None:
    """Draw what a network must not take for people, in place: sticks like limbs, and balls like heads."""
    rng, size = sampler.rng, sampler.size
    for _ in range(rng.integers(0, 6)):  # as long and as wide as limbs, some skin-coloured, some bent
        start, turn = np.array(sampler.spot()), rng.uniform(0, 2 * np.pi)
        like_skin = rng.random() < 0.3
        hue = np.array(SKINS[rng.integers(len(SKINS))]) * 0.9 if like_skin else sampler.color((0.1, 0.7), (0.2, 0.9))
        thickness = sampler.pixels(0.006, 0.03)
        for _ in range(rng.integers(1, 3)):
            end = start + size * rng.uniform(0.08, 0.25) * np.array((np.cos(turn), np.sin(turn)))
            cv2.line(image, start.astype(int).tolist(), end.astype(int).tolist(), hue.tolist(), thickness, cv2.LINE_AA)
            start, turn = end, turn + rng.normal(0, 0.9)
    for _ in range(rng.integers(0, 3)):  # balls and balloons
        radius = sampler.pixels(0.015, 0.045)
        cv2.circle(image, sampler.spot(), radius, sampler.color((0.2, 0.9)).tolist(), -1, cv2.LINE_AA)


def paint_obstacle(rng: np.random.Generator, canvas: Canvas) -> None:
    """Paint a post, a crate or a bush in front of everyone; it hides joints."""
    height, width = canvas.part_map.shape
    size = min(height, width)
    kind, x = ("post", "crate", "bush")[rng.integers(3)], rng.uniform(0.1, 0.9) * width
    if kind == "post":
        top, half = rng.uniform(-0.1, 0.5) * height, rng.uniform(0.01, 0.03) * size
        spheres = [(x, top, 0, half), (x + rng.normal(0, 0.05) * width, height + half, 0, half)]
    elif kind == "crate":
        top, half = rng.uniform(0.72, 0.92) * height, rng.uniform(0.1, 0.3) * size
        spheres = [(px, py, 0, 2) for px in (x - half, x + half) for py in (top, height * 1.1)]
    else:
        top = rng.uniform(0.8, 0.98) * height
        spheres = [(x + k * 0.09 * size, top + rng.uniform(0, 0.1) * size, 0, 0.07 * size) for k in (-1, 0, 1)]
    leaves = Paint((70, 120, 60), (88, 142, 74), "dots", 0.012 * size)
    paint = leaves if kind == "bush" else Paint(random_color(rng))
    # The spheres are in canvas pixels already, with y downwards. They are always lit from the upper left.
    layer = Layer(np.array(spheres) * (1, -1, 1, 1), paint)
    paint_layer(replace(canvas, light_xy=np.array((-0.6, -0.8))), layer, OBSTACLE, Placement(1.0, np.zeros(2)))
