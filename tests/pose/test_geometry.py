"""Geometry: the crop's matrix against OpenCV and against corners, its inverse, what the warp does, and mirrors."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgmpose.pose.geometry import (
    box_around_points,
    box_to_center_size,
    crop_matrix,
    fit_aspect,
    flip_points,
    invert_matrix,
    sanitize_box,
    transform_points,
    warp_image,
)
from lgmpose.pose.skeletons import SKELETONS

IMAGE_HWS = [(256, 192), (96, 160), (128, 128)]
boxes = st.tuples(
    st.floats(-500, 3000), st.floats(-500, 3000), st.floats(2, 2000), st.floats(2, 2000)
)  # x, y, w, h in picture pixels
angles = st.floats(-180, 180)


def random_points(n: int = 20, low: float = -500, high: float = 4000) -> np.ndarray:
    return np.random.default_rng(0).uniform(low, high, (n, 2))


def crop_of(box, image_hw, rotation=0.0, flip=False, aligned=False) -> np.ndarray:
    return crop_matrix(*box_to_center_size(box), image_hw, rotation_deg=rotation, flip=flip, aligned=aligned)


# --- the matrix ---------------------------------------------------------------------------------------------------
@settings(max_examples=200, deadline=None)
@given(boxes, angles, st.booleans(), st.booleans(), st.sampled_from(IMAGE_HWS))
def test_crop_and_inverse_agree(box, rotation, flip, aligned, image_hw):
    matrix = crop_of(box, image_hw, rotation, flip, aligned)
    points = random_points()
    back = transform_points(invert_matrix(matrix), transform_points(matrix, points))
    assert np.abs(back - points).max() < 1e-3
    crop_points = random_points(low=-50, high=300)
    there = transform_points(matrix, transform_points(invert_matrix(matrix), crop_points))
    assert np.abs(there - crop_points).max() < 1e-3


def test_inverse_and_transform_take_batches():
    matrices = np.stack([crop_of((10 * i, 5, 40 + i, 90), (256, 192), 7.0 * i, i % 2 == 1) for i in range(6)])
    points = random_points(6 * 4).reshape(6, 4, 2)
    one_by_one = [transform_points(invert_matrix(m), p) for m, p in zip(matrices, points, strict=True)]
    np.testing.assert_allclose(transform_points(invert_matrix(matrices), points), one_by_one, rtol=1e-12)


def protocol_matrix(center_xy, width: float, image_hw, rotation_deg: float) -> np.ndarray:
    """The ordinary alignment by three point pairs: the centre, the point half a width above it, and a right angle."""
    H, W = image_hw
    a = np.deg2rad(rotation_deg)
    up = width / 2 * np.array([np.sin(a), -np.cos(a)])  # (0, -w/2) rotated by a, clockwise as seen
    left = np.array([up[1], -up[0]])  # and that by 90° against the clock
    source = np.array([center_xy, center_xy + up, center_xy + left], np.float32)
    middle = np.array([W / 2, H / 2])
    target = np.array([middle, middle - [0, W / 2], middle - [W / 2, 0]], np.float32)
    return cv2.getAffineTransform(source, target)


@settings(max_examples=100, deadline=None)
@given(boxes, st.one_of(st.just(0.0), angles), st.sampled_from(IMAGE_HWS))
def test_matrix_is_the_protocols_with_the_same_sign_of_rotation(box, rotation, image_hw):
    center_xy, size_wh = box_to_center_size(box)
    width = fit_aspect(size_wh, image_hw)[0]
    expected = protocol_matrix(center_xy, width, image_hw, rotation)
    points = center_xy + random_points(low=-0.5, high=0.5) * width
    tolerance = 2e-2 + 2e-3 * max(abs(center_xy).max(), width) / width  # OpenCV takes the points as float32
    found = transform_points(crop_of(box, image_hw, rotation), points)
    assert np.abs(found - transform_points(expected, points)).max() < tolerance
    if 10 < abs(rotation) < 170:
        other_sign = transform_points(crop_of(box, image_hw, -rotation), points)
        assert np.abs(other_sign - transform_points(expected, points)).max() > 1


def check_corners(make_matrix, image_hw) -> None:
    """A turned box's corners, worked out by hand, land where the alignment says."""
    H, W = image_hw
    center_xy, width, angle = np.array([300.0, 220.0]), 90.0, np.deg2rad(25)
    height = width * H / W
    right, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corners = [center_xy + i * right * width / 2 + j * down * height / 2 for i, j in ((-1, -1), (1, -1), (1, 1))]
    # Either side alone decides the extent; the other grows to the aspect ratio.
    for size_wh in ((width, height), (width, height / 3), (width / 3, height)):
        for aligned in (False, True):
            matrix = make_matrix(center_xy, size_wh, image_hw, rotation_deg=25, aligned=aligned)
            found = transform_points(matrix, np.array(corners))
            if aligned:  # first to last pixel centre across; the same scale down
                y = (H - 1) / 2 + np.array([-1, 1]) * (W - 1) / W * H / 2
                expected = [[0, y[0]], [W - 1, y[0]], [W - 1, y[1]]]
            else:
                expected = [[0, 0], [W, 0], [W, H]]
            np.testing.assert_allclose(found, expected, atol=1e-9)


def test_corners_land_on_corners_and_swapped_height_and_width_are_caught():
    def swapped(center_xy, size_wh, image_hw, **options):
        return crop_matrix(center_xy, size_wh, image_hw[::-1], **options)

    for image_hw in IMAGE_HWS:
        check_corners(crop_matrix, image_hw)
        if image_hw[0] != image_hw[1]:  # a square crop would not notice
            with pytest.raises(AssertionError):
                check_corners(swapped, image_hw)


@pytest.mark.parametrize("size_wh", [(0, 0), (np.nan, 5), (np.inf, 5), (-1, -2)])
def test_extents_of_no_area_are_refused(size_wh):
    with pytest.raises(ValueError, match="extent"):
        crop_matrix((5, 5), size_wh, (256, 192))


# --- boxes --------------------------------------------------------------------------------------------------------
@settings(max_examples=100, deadline=None)
@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4), st.sampled_from(IMAGE_HWS))
def test_fit_aspect_is_the_protocols(w, h, image_hw):
    aspect = image_hw[1] / image_hw[0]
    expected = (w, w / aspect) if w > aspect * h else (h * aspect, h)
    np.testing.assert_allclose(fit_aspect((w, h), image_hw), expected, rtol=1e-12)


def test_boxes_get_the_usual_context():
    """25 % around a person's box; around joints alone, 5 % of the longer side, at least of one pixel."""
    center_xy, size_wh = box_to_center_size((10, 20, 40, 80))
    np.testing.assert_allclose([center_xy, size_wh], [(30, 60), (50, 100)])
    np.testing.assert_allclose(box_to_center_size((0, 0, 2, 4), padding=2)[1], (4, 8))
    np.testing.assert_allclose(box_around_points(np.array([[10, 20], [30, 60], [20, 30.0]])), (8, 18, 24, 44))
    np.testing.assert_allclose(box_around_points(np.array([[5, 5.0]])), (4.95, 4.95, 0.1, 0.1))


def test_fit_aspect_by_hand():
    np.testing.assert_allclose(fit_aspect((100, 100), (256, 192)), (100, 400 / 3))
    np.testing.assert_allclose(fit_aspect((10, 100), (256, 192)), (75, 100))


coordinates = st.one_of(st.integers(-50, 250).map(float), st.floats(-50, 250))


@settings(max_examples=300, deadline=None)
@given(coordinates, coordinates, coordinates, coordinates)
def test_sanitized_boxes_are_the_protocols(x, y, w, h):
    H, W = 120, 200
    x1, y1 = max(0, x), max(0, y)
    x2, y2 = min(W - 1, x1 + max(0, w - 1)), min(H - 1, y1 + max(0, h - 1))
    found = sanitize_box((x, y, w, h), (H, W))
    if w > 0 and h > 0 and x2 > x1 and y2 > y1:
        np.testing.assert_array_equal(found, (x1, y1, x2 - x1, y2 - y1))
        assert found[0] + found[2] <= W - 1 and found[1] + found[3] <= H - 1
    else:
        assert found is None


def test_boxes_outside_or_of_no_area_are_nothing():
    for box in ((200, 10, 30, 30), (10, 120, 30, 30), (10, 10, 0, 30), (10, 10, 30, -5), (-5, -5, 1, 1)):
        assert sanitize_box(box, (120, 200)) is None
    np.testing.assert_array_equal(sanitize_box((-5, 110, 50, 40), (120, 200)), (0, 110, 49, 9))


# --- pictures -----------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    st.floats(-1, 1), st.floats(-1, 1), st.floats(60, 130), angles, st.booleans(), st.booleans(),
    st.sampled_from(IMAGE_HWS),
)  # fmt: skip
def test_the_warp_moves_a_blob_where_the_points_go(dx, dy, width, rotation, flip, aligned, image_hw):
    blob_xy = np.array([150 + 5 * dx, 130 + 5 * dy])  # 3 sigma inside the smallest crop, however turned
    y, x = np.mgrid[:260, :300]
    blob = 250 * np.exp(-((x - blob_xy[0]) ** 2 + (y - blob_xy[1]) ** 2) / (2 * 3.0**2))
    picture = np.repeat(blob.round().astype(np.uint8)[..., None], 3, axis=-1)
    size_wh = (width, width * image_hw[0] / image_hw[1])
    matrix = crop_matrix((150, 130), size_wh, image_hw, rotation_deg=rotation, flip=flip, aligned=aligned)
    crop = warp_image(picture, matrix, image_hw)
    assert crop.shape == (*image_hw, 3) and crop.dtype == np.uint8
    mass = crop[..., 1].astype(float)
    mass[mass < 4] = 0  # the rounding's foot
    v, u = np.mgrid[: image_hw[0], : image_hw[1]]
    centroid = np.array([(u * mass).sum(), (v * mass).sum()]) / mass.sum()
    assert np.abs(centroid - transform_points(matrix, blob_xy[None])[0]).max() < 0.1


def test_outside_the_picture_is_black():
    crop = warp_image(np.full((50, 40, 3), 200, np.uint8), crop_of((20, 0, 40, 50), (128, 96)), (128, 96))
    assert (crop[60, 5] == 200).all() and (crop[:, 70:] == 0).all() and (crop[:8] == 0).all()


# --- mirrors ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rotation", [0.0, 33.0])
@pytest.mark.parametrize("image_hw", [(128, 96), (64, 96)])
def test_a_flipped_crop_is_the_mirrored_crop(rotation, image_hw):
    """Exactly with UDP's alignment; one pixel to the right with the ordinary one, whose centre is W/2."""
    H, W = image_hw
    picture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (200, 180, 3), np.uint8), (0, 0), 3)
    points = random_points(low=0, high=200)
    for aligned in (True, False):
        plain, flipped = (
            crop_matrix((90, 100), (70, 90), image_hw, rotation_deg=rotation, flip=flip, aligned=aligned)
            for flip in (False, True)
        )
        x, y = transform_points(plain, points).T
        mirrored = np.stack([(W - 1 if aligned else W) - x, y], axis=-1)
        np.testing.assert_allclose(transform_points(flipped, points), mirrored, atol=1e-9)
        crop, other = (warp_image(picture, m, image_hw).astype(int) for m in (plain, flipped))
        expected = crop[:, ::-1] if aligned else crop[:, :0:-1]
        assert np.abs(other[:, -expected.shape[1] :] - expected).max() <= 2  # bilinear weights are rounded
        assert np.abs(other - crop).max() > 20


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_flipping_points_twice_is_the_identity(skeleton):
    rng = np.random.default_rng(2)
    k = skeleton.num_keypoints
    points, visibility = rng.uniform(0, 99, (5, k, 2)), rng.integers(0, 3, (5, k))
    once = flip_points(points, visibility, 100, skeleton.flip_permutation)
    j, mirrored = skeleton.index("left_knee"), skeleton.index("right_knee")
    np.testing.assert_array_equal(once[0][:, j], np.stack([99 - points[:, mirrored, 0], points[:, mirrored, 1]], -1))
    np.testing.assert_array_equal(once[1][:, j], visibility[:, mirrored])
    twice = flip_points(*once, 100, skeleton.flip_permutation)
    np.testing.assert_allclose(twice[0], points, atol=1e-12)
    np.testing.assert_array_equal(twice[1], visibility)


def test_points_need_neither_torch_nor_opencv():
    code = (
        "import sys; import lgmpose.pose.codecs, lgmpose.pose.geometry, lgmpose.pose.skeletons; "
        "assert not {'torch', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
