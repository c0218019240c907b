"""Colours, patterns and garments."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

__all__ = ["FULL_LIGHT", "SKINS", "Clothes", "Paint", "random_color", "sample_clothes"]

Color = tuple[int, int, int]  # RGB
FULL_LIGHT = 225  # brightness at which a surface has its own colour; highlights are brighter

SKINS = ((255, 219, 188), (241, 194, 150), (226, 172, 125), (198, 134, 92), (150, 98, 66), (108, 70, 50), (84, 54, 40))
_HAIRS = ((38, 28, 24), (66, 44, 30), (104, 66, 36), (150, 98, 50), (206, 166, 96), (160, 70, 34), (150, 150, 152))


@dataclass(frozen=True)
class Paint:
    """Describe how a surface of a drawn person is coloured: one colour, or two colours in a pattern.

    Attributes:
        color: first colour, RGB from 0 to 255.
        second: second colour; ``plain`` does not use it.
        pattern: ``plain``, ``stripes``, ``pinstripes``, ``checks``, ``dots`` or ``blocks``.
        period: distance after which the pattern repeats, in metres; blocks repeat after four times this distance.
        flat: True: draw without shading and outline, as small things such as pupils need.
    """

    color: Color
    second: Color = (0, 0, 0)
    pattern: str = "plain"
    period: float = 0.06
    flat: bool = False

    @functools.cached_property
    def shades(self) -> np.ndarray:
        """Return both colours at every brightness, (2, 256, 3) uint8; shadows are slightly blue."""
        brightness = np.arange(256, dtype=np.float64)[:, None] / FULL_LIGHT
        colors = np.array((self.color, self.second), np.float64)[:, None]
        return np.clip(colors * brightness ** np.array((1.08, 1.02, 0.88)), 0, 255).astype(np.uint8)

    def second_color_mask(self, x: np.ndarray, y: np.ndarray, axis: np.ndarray) -> np.ndarray:
        """Return where the second colour is, (h, w) bool, for any pattern but ``plain``.

        Args:
            x: (w,) m, columns.
            y: (h,) m, rows.
            axis: (2,) unit vector along the part.
        """
        along = (y[:, None] * axis[1] + x[None] * axis[0]) / self.period
        across = (x[None] * axis[1] - y[:, None] * axis[0]) / self.period
        if self.pattern == "stripes":
            return along % 1 < 0.45
        if self.pattern == "pinstripes":
            return across % 1 < 0.3
        if self.pattern == "checks":
            return (along % 1 < 0.5) ^ (across % 1 < 0.5)
        if self.pattern == "dots":
            return (along % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2 < 0.07
        return along % 4 < 2  # blocks: two broad fields


def random_color(rng: np.random.Generator, saturation=(0.15, 0.85), value=(0.25, 0.95), hue=(0.0, 6.0)) -> Color:
    """Draw a colour; hue runs from 0 (red) over 2 (green) and 4 (blue) to 6 (red)."""
    h, s, v = rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value)
    wheel = np.clip(np.abs((h + np.array((0, 4, 2))) % 6 - 3) - 1, 0, 1)
    red, green, blue = (int(c) for c in 255 * v * (1 - s + s * wheel))
    return red, green, blue


@dataclass(frozen=True)
class Clothes:
    """What a person looks like and wears."""

    skin: Paint
    hair: Paint
    hair_style: str  # short, long, bun, hat, bald
    hairline: float  # cosine: hair is where the angle to the direction of the back of the head has a larger cosine
    shirt: Paint
    sleeves: str  # short, long, none
    trousers: Paint
    legs: str  # trousers, shorts, skirt
    hem: float  # of shorts and skirts, as a fraction of the thigh
    width: float  # how loose clothes are, m
    shoe: Paint
    sole: Paint
    hat: Paint


def sample_clothes(rng: np.random.Generator, upright: bool) -> Clothes:
    """Draw skin, hair, garments and their colours. Only upright people wear skirts: drawn skirts do not fall."""

    def one_of(choices: tuple, p: tuple | None = None):
        return choices[rng.integers(len(choices)) if p is None else rng.choice(len(choices), p=p)]

    pattern = one_of(("plain", "stripes", "pinstripes", "checks", "dots", "blocks"), (0.4, 0.25, 0.08, 0.1, 0.09, 0.08))
    unlike_skin = (1.3, 5.9)  # no orange: nobody should look undressed
    shirt = Paint(random_color(rng, hue=unlike_skin), random_color(rng), pattern, float(rng.uniform(0.04, 0.1)))
    trousers = Paint(random_color(rng, (0.05, 0.7), (0.15, 0.8), unlike_skin))
    legs = one_of(("trousers", "shorts", "skirt"), (0.55, 0.28, 0.17) if upright else (0.65, 0.35, 0))
    if legs == "skirt" and rng.random() < 0.4:
        trousers = shirt  # a dress
    shoe = random_color(rng, (0, 0.8), (0.1, 0.95))
    return Clothes(
        skin=Paint(one_of(SKINS)),
        hair=Paint(one_of(_HAIRS)),
        hair_style=one_of(("short", "long", "bun", "hat", "bald"), (0.42, 0.26, 0.12, 0.14, 0.06)),
        hairline=float(rng.uniform(-0.36, -0.14)),
        shirt=shirt,
        sleeves=one_of(("short", "long", "none"), (0.5, 0.38, 0.12)),
        trousers=trousers,
        legs=legs,
        hem=float(rng.uniform(0.45, 0.85)),
        width=float(rng.uniform(0.008, 0.026)),
        shoe=Paint(shoe),
        sole=Paint((236, 234, 228) if rng.random() < 0.7 else (40, 38, 40), flat=True),
        hat=Paint(random_color(rng, (0.3, 0.9), (0.3, 0.95))),
    )
