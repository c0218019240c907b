"""Check what a user hands to a predictor: a picture of many kinds, and boxes."""

from __future__ import annotations

import os

import numpy as np

from lgmpose.data.images import read_image
from lgmpose.errors import UserError
from lgmpose.pose.geometry import LARGEST_PX

__all__ = ["as_boxes", "check_boxes", "load_picture"]


def load_picture(image) -> tuple[np.ndarray, str]:
    """Return a path, Pillow image or array as (H, W, 3) uint8 RGB, and its name for error messages.

    Raises:
        UserError: it is something else, or cannot be read.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(os.fspath(image)), str(image)
    if hasattr(image, "getexif"):  # a Pillow image; Pillow itself is not required
        name = str(getattr(image, "filename", "") or "the picture")
        return _from_pillow(image, name), name
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.size:
            return np.ascontiguousarray(image), "the picture"
    what = f"an array of {image.dtype}, shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"the picture is {what}; give a path, a Pillow image, or an (H, W, 3) uint8 RGB array")


def _from_pillow(image, name: str) -> np.ndarray:
    """Return a Pillow image as (H, W, 3) uint8 RGB, turned as its EXIF orientation says."""
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits per pixel
            grey = (np.clip(np.asarray(image), 0, 65535) // 256).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        if image.mode == "F":
            raise UserError(f"{name}: a Pillow image of floats, whose range is unknown; convert it to 8 bits first")
        return np.ascontiguousarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # Pillow reads the pixels only now, and a damaged file raises these
        raise UserError(f"{name}: not a picture that can be read ({error})") from error


def as_boxes(boxes) -> np.ndarray:
    """Return boxes as (n, 4) float64.

    Raises:
        UserError: not rows of four numbers x, y, w, h, or a box that is not finite, is far too large or has no area.
    """
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"boxes are rows of four numbers x, y, w, h; got {boxes!r}") from None
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise UserError(f"boxes are (n, 4) numbers x, y, w, h, one row per person; got an array of shape {array.shape}")
    for number, box in enumerate(array):
        if not ((np.abs(box) < 4 * LARGEST_PX).all() and (box[2:] > 0).all()):  # False for NaN
            raise UserError(f"box {number} ({_as_text(box)}): must be in pixels, with positive width and height")
    return array


def check_boxes(boxes, picture_hw: tuple[int, int], name: str) -> np.ndarray:
    """Return boxes as (n, 4) float64; see ``as_boxes``. Errors name the picture.

    Raises:
        UserError: as ``as_boxes``, or a box that lies outside the picture.
    """
    try:
        array = as_boxes(boxes)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    height, width = picture_hw
    for number, (x, y, w, h) in enumerate(array):
        if not (x < width and y < height and x + w > 0 and y + h > 0):
            box = _as_text(array[number])
            raise UserError(f"{name}: box {number} ({box}) is outside the picture, {width} wide and {height} high")
    return array


def _as_text(box: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in box)
