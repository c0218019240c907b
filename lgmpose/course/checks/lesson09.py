"""Tasks of lesson 09: from the formats of data sets to crops, and their random changes."""

from functools import cache

import numpy as np

from lgmpose.course.checks import Different, compare, compare_prediction, task
from lgmpose.data.augment import Augmentation, augment_record
from lgmpose.data.records import PersonRecord
from lgmpose.pose.geometry import (
    box_to_center_size,
    crop_matrix,
    fit_aspect,
    invert_matrix,
    sanitize_box,
    transform_points,
)
from lgmpose.pose.skeletons import COCO, LSP, MPII


@task("09.1", "easy")
def check_keypoints(attempt) -> None:
    rng = np.random.default_rng(0)
    for K in (3, 5):
        table_K3 = np.column_stack([rng.integers(1, 300, (K, 2)), rng.integers(0, 3, K)])
        compare(attempt(table_K3.ravel().tolist()), (table_K3[:, :2], table_K3[:, 2]), f"called with {K} joints")


@task("09.2", "medium", forbidden=("sanitize_box", "load_coco"))
def check_coco_box(attempt) -> None:
    for bbox, image_hw in (
        ([10, 20, 30, 40], (50, 80)),
        ([5, 3, 40, 20], (100, 60)),
        ([30, 10, 60, 20], (50, 80)),
        ([-4, -6, 30, 40], (60, 90)),
    ):
        expected = box_to_center_size(sanitize_box(bbox, image_hw))
        compare(attempt(bbox, image_hw), list(expected), f"coco_box({bbox}, {image_hw})")


@task("09.3", "easy", way="Side: 200 × scale × 1.25. Centre: add 15 × scale to y, then subtract 1 from x and y")
def check_mpii_square(prediction) -> str:
    return compare_prediction(prediction, (200, 120, 112), unit="pixels")


@task("09.4", "easy", forbidden=("fit_aspect",))
def check_grow(attempt) -> None:
    # In the second and the last box, the longer side must grow.
    portrait, landscape = (64, 48), (96, 160)
    for w, h, image_hw in ((80, 200, portrait), (180, 200, portrait), (33, 40, landscape), (60, 40, landscape)):
        expected = fit_aspect((w, h), image_hw).tolist()
        compare(attempt(w, h, image_hw), expected, f"grow({w}, {h}, {image_hw})")


@task("09.5", "easy", way="x' = 0.32 × (182 − 132) + 24, and in the same way y' from 50, 100 and 32")
def check_point(prediction) -> str:
    matrix = crop_matrix((132, 100), (80, 200), (64, 48))
    (measured,) = transform_points(matrix, np.array([[182.0, 50.0]])).round(6)
    return compare_prediction(prediction, tuple(measured.tolist()), atol=0.1, unit="pixels")


@task("09.6", "medium", forbidden=("invert_matrix",))
def check_back(attempt) -> None:
    rng = np.random.default_rng(2)
    for case, rotation, flip in (
        ("plain", 0.0, False),
        ("rotated", 35.0, False),
        ("rotated and mirrored", -70.0, True),
    ):
        matrix = crop_matrix(
            rng.uniform(50, 300, 2), rng.uniform(40, 90, 2), (64, 48), rotation_deg=rotation, flip=flip
        )
        points_xy = rng.uniform(0, 48, (4, 2))
        expected = transform_points(invert_matrix(matrix), points_xy)
        compare(attempt(matrix, points_xy), expected, f"a {case} crop", atol=1e-4)


@task(
    "09.7",
    "medium",
    way="Multiply the share of crops that are rotated by the share of normal numbers beyond one standard deviation",
)
def check_rotated_share(prediction) -> str:
    return compare_prediction(prediction, _rotated_percent(), atol=2, unit="%")


@cache
def _rotated_percent(draws: int = 4000) -> float:
    """Return how many per cent of the crops are rotated by more than 40°. Another seed changes it by about 0.6."""
    rng, person = np.random.default_rng(0), _person(np.arange(34.0).reshape(17, 2), np.full(17, 2))
    angles = [augment_record(person, COCO.upper_body, Augmentation(), rng)[2] for _ in range(draws)]
    return 100 * float(np.mean(np.abs(angles) > 40))


@task("09.8", "medium")
def check_partners(attempt) -> None:
    for case, names in (
        ("three joints", ("nose", "left_wrist", "right_wrist")),
        ("MPII's joints", MPII.joint_names),
        ("LSP's joints", LSP.joint_names),
    ):
        other = [n.replace("left", "#").replace("right", "left").replace("#", "right") for n in names]
        compare(attempt(list(names)), [names.index(name) for name in other], f"called with {case}")


@task("09.9", "hard", forbidden=("crop_matrix", "invert_matrix"))
def check_outline(attempt) -> None:
    rng = np.random.default_rng(0)
    for image_hw, rotation in (((64, 48), 0.0), ((96, 160), 0.0), ((64, 48), 30.0), ((96, 160), -75.0)):
        box_xywh = rng.integers(10, 200, 4).tolist()
        H, W = image_hw
        matrix = crop_matrix(*box_to_center_size(box_xywh), image_hw, rotation_deg=rotation)
        # The crop's outline, clockwise from the upper left corner, in pixels of the picture.
        corners = transform_points(invert_matrix(matrix), np.array([[0, 0], [W, 0], [W, H], [0, H]], float))
        compare(attempt(box_xywh, image_hw, rotation), corners, f"outline({box_xywh}, {image_hw}, {rotation:g})")


class _Drawn:
    """Stands for a random generator that always draws the same numbers."""

    def __init__(self, normal: float):
        self.normal = normal

    def random(self) -> float:
        return 0.0

    def standard_normal(self) -> float:
        return self.normal


@task("09.10", "hard", forbidden=("augment_record",))
def check_half_body(attempt) -> None:
    rng, whole = np.random.default_rng(6), Augmentation(1.0, 0, scale_factor=0.0, rotation_prob=0.0, flip_prob=0.0)
    few_upper, two_each, one = np.full(17, 2), np.zeros(17, int), np.zeros(17, int)
    few_upper[list(COCO.upper_body)[2:]] = 0
    two_each[[5, 8, 11, 16]] = 2  # shoulder, elbow; hip, ankle
    one[5] = 2  # an upper joint: with a lower one, no upper joint would be left
    for case, visibility_K, draw in (
        ("all joints labelled, draw 0.2", np.full(17, 2), 0.2),
        ("all joints labelled, draw 0.7", np.full(17, 2), 0.7),
        ("some joints not labelled, draw −1", np.array([2, 0, 1, 0, 2, 2, 1, 0, 2, 0, 2, 1, 2, 0, 2, 2, 0]), -1.0),
        ("two upper joints labelled, draw −1", few_upper, -1.0),
        ("two upper and two lower joints labelled, draw 2", two_each, 2.0),
        ("two lower joints labelled, draw 2", np.where(np.arange(17) < 15, 2 * (np.arange(17) < 11), 1), 2.0),
    ):
        keypoints_K2 = rng.uniform(0, 200, (17, 2))
        person = _person(keypoints_K2, visibility_K)
        center_xy, size_wh, _, _ = augment_record(person, COCO.upper_body, whole, _Drawn(draw))
        got = attempt(keypoints_K2.copy(), visibility_K.copy(), COCO.upper_body, draw)
        compare(got, [center_xy, size_wh], case)
    got = attempt(keypoints_K2.copy(), one, COCO.upper_body, 0.0)
    if not isinstance(got, (tuple, list)) or len(got) != 2 or any(value is not None for value in got):
        raise Different("one joint labelled: the result is not the pair None, None")


def _person(keypoints_K2: np.ndarray, visibility_K: np.ndarray) -> PersonRecord:
    return PersonRecord("", np.array([50.0, 50.0]), np.array([200.0, 200.0]), keypoints_K2, visibility_K, 1, 1)
