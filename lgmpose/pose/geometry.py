"""From a person's box to the network's input and back: one affine matrix, its exact inverse, and mirroring.

Points are (x, y) in pixels, and pixel i has its centre at i. Sizes are (H, W). Two alignments are in use:

* the ordinary one (SimpleBaseline, HRNet): the box's centre maps to (W/2, H/2), lengths scale by W / box width;
* the aligned one (UDP, Huang et al. 2020): lengths are counted between pixel centres, so the box's centre maps to
  ((W-1)/2, (H-1)/2) and lengths scale by (W-1) / box width. A known difference: UDP's code scales y by
  (H-1) / box height. Here both axes have one scale, which differs by up to 0.2 pixels at the crop's border if H ≠ W.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "LARGEST_PX", "PADDING", "box_around_points", "box_to_center_size", "crop_matrix", "fit_aspect", "flip_points",
    "invert_matrix", "mirror_crops", "sanitize_box", "transform_points", "warp_image",
]  # fmt: skip

LARGEST_PX = 1e7  # a coordinate beyond it is an error, and its square would no longer be exact
PADDING = 1.25  # context around a person's box, as in all pipelines since SimpleBaseline
BOX_MARGIN = 0.05  # around joints, if there is no box: this share of the longer side


def box_to_center_size(box_xywh, padding: float = PADDING) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre (2,) and the padded extent (w, h) of a box (x, y, w, h), float64 pixels."""
    x, y, w, h = (float(v) for v in box_xywh)
    return np.array([x + w / 2, y + h / 2]), np.array([w, h]) * padding


def box_around_points(points_xy: np.ndarray) -> np.ndarray:
    """Return the box (x, y, w, h) around joints (n, 2), with a margin for hands, feet and hair."""
    low, high = points_xy.min(axis=0), points_xy.max(axis=0)
    margin = BOX_MARGIN * max(*(high - low), 1.0)
    return np.concatenate([low - margin, high - low + 2 * margin])


def sanitize_box(box_xywh, image_hw: tuple[int, int]) -> np.ndarray | None:
    """Clip a ground-truth box to the image as every COCO pipeline does; return None if nothing is left of it.

    The pipelines keep a box that becomes one pixel thin, with an extent of 0. Here it counts as nothing.
    """
    x, y, w, h = (float(v) for v in box_xywh)
    height, width = image_hw
    x1, y1 = max(0.0, x), max(0.0, y)
    x2, y2 = min(width - 1.0, x1 + max(0.0, w - 1)), min(height - 1.0, y1 + max(0.0, h - 1))
    if x2 <= x1 or y2 <= y1:
        return None
    return np.array([x1, y1, x2 - x1, y2 - y1])


def fit_aspect(size_wh, image_hw: tuple[int, int]) -> np.ndarray:
    """Enlarge the side that is too short for the network's aspect ratio: extents (…, 2) as (w, h), float64."""
    size_wh, aspect = np.asarray(size_wh, float), image_hw[1] / image_hw[0]
    return np.maximum(size_wh, size_wh[..., ::-1] * (aspect, 1.0) / (1.0, aspect))


def crop_matrix(
    center_xy,
    size_wh,
    image_hw: tuple[int, int],
    *,
    rotation_deg: float = 0.0,
    flip: bool = False,
    aligned: bool = False,
) -> np.ndarray:
    """Return the affine matrix that takes image points to crop points.

    Args:
        center_xy: centre of the crop in the image.
        size_wh: its extent before the network's aspect ratio is applied.
        image_hw: the crop's size.
        rotation_deg: how far the crop's frame is rotated in the image, clockwise as seen; the person in the crop
            rotates the other way.
        flip: mirror the crop left to right, about its own centre. The caller swaps the joints.
        aligned: UDP's alignment instead of the ordinary one.

    Returns:
        (2, 3) float64.

    Raises:
        ValueError: an extent of no area, or one that is not finite.
    """
    width, height = fit_aspect(size_wh, image_hw)
    if not (np.isfinite([width, height]).all() and width > 0 and height > 0):
        raise ValueError(f"a crop needs an extent of some area, got {size_wh}")
    unit = 1.0 if aligned else 0.0  # one pixel less from the first centre to the last
    scale = (image_hw[1] - unit) / width
    angle = np.deg2rad(rotation_deg)
    linear = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    if flip:
        linear[0] *= -1
    target = (np.array([image_hw[1], image_hw[0]]) - unit) / 2
    return np.column_stack([linear, target - linear @ np.asarray(center_xy, float)])


def invert_matrix(matrix: np.ndarray) -> np.ndarray:
    """Return the exact inverse of affine matrices (…, 2, 3), again (…, 2, 3)."""
    inverse = np.linalg.inv(matrix[..., :2])
    return np.concatenate([inverse, -inverse @ matrix[..., 2:]], axis=-1)


def transform_points(matrix: np.ndarray, points_xy: np.ndarray) -> np.ndarray:
    """Apply (…, 2, 3) matrices to (…, K, 2) points."""
    return points_xy @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]


def warp_image(image: np.ndarray, matrix: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Return the crop (h, w, 3) of an image (H, W, 3) uint8, bilinear, black outside the image."""
    import cv2  # here, so that points need no OpenCV

    return cv2.warpAffine(image, matrix, (image_hw[1], image_hw[0]), flags=cv2.INTER_LINEAR)


def mirror_crops(crops: np.ndarray) -> np.ndarray:
    """Return (B, H, W, 3) uint8 crops mirrored left to right."""
    import cv2

    # As one image of all their rows: several times as fast as a copy of NumPy's reversed axis.
    return cv2.flip(crops.reshape(-1, *crops.shape[2:]), 1).reshape(crops.shape)


def flip_points(
    keypoints_xy: np.ndarray, visibility: np.ndarray, width: int, permutation
) -> tuple[np.ndarray, np.ndarray]:
    """Mirror points (…, K, 2) of an image ``width`` pixels wide (x → width - 1 - x), and swap left with right."""
    order = list(permutation)
    flipped = keypoints_xy[..., order, :].copy()
    flipped[..., 0] = width - 1 - flipped[..., 0]
    return flipped, visibility[..., order]
