"""What a user hands over: pictures of many kinds and boxes, checked and brought to one form."""

from __future__ import annotations

import os

import numpy as np

from lgmpose.datasets.images import read_image
from lgmpose.errors import UserError

__all__ = ["as_boxes", "check_boxes", "load_picture", "overlaps"]


def load_picture(image) -> tuple[np.ndarray, str]:
    """(H, W, 3) uint8 RGB, and what to call the picture in an error."""
    if isinstance(image, (str, os.PathLike)):
        return read_image(image), str(image)
    if hasattr(image, "getexif") and hasattr(image, "convert"):  # Pillow's; it is no dependency of ours
        name = str(getattr(image, "filename", "") or "the picture")
        return _from_pillow(image, name), name
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.size:
            return np.ascontiguousarray(image), "the picture"
    what = f"an array of {image.dtype}, shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"the picture is {what}; give a path, a Pillow image, or an (H, W, 3) uint8 RGB array")


def _from_pillow(image, name: str) -> np.ndarray:
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits, in one of Pillow's ways
            grey = (np.clip(np.asarray(image), 0, 65535) // 256).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        if image.mode == "F":
            raise UserError(f"{name}: a Pillow image of floats, whose white is unknown; convert it to 8 bits first")
        return np.ascontiguousarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # what Pillow raises when it reads a damaged file, which it does only now
        raise UserError(f"{name}: not a picture that can be read ({error})") from error


def overlaps(box_xywh: np.ndarray, picture_hw: tuple[int, int]) -> bool:
    x, y, w, h = box_xywh
    return x < picture_hw[1] and y < picture_hw[0] and x + w > 0 and y + h > 0


def as_boxes(boxes) -> np.ndarray:
    """(n, 4) float64, checked as far as that goes without a picture."""
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"boxes are rows of four numbers x, y, w, h; got {boxes!r}") from None
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise UserError(f"boxes are (n, 4) numbers x, y, w, h, one row per person; got an array of shape {array.shape}")
    for number, box in enumerate(array):
        if not np.isfinite(box).all():
            raise UserError(f"box {number} ({_as_text(box)}) has a coordinate that is NaN or infinite")
        if not (box[2:] > 0).all():
            raise UserError(f"box {number} ({_as_text(box)}) has no area; boxes are x, y, width, height")
    return array


def check_boxes(boxes, picture_hw: tuple[int, int], name: str) -> np.ndarray:
    try:
        array = as_boxes(boxes)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    for number, box in enumerate(array):
        if not overlaps(box, picture_hw):
            size = f"{picture_hw[1]} wide and {picture_hw[0]} high"
            raise UserError(f"{name}: box {number} ({_as_text(box)}) lies outside the picture, which is {size}")
    return array


def _as_text(box: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in box)
