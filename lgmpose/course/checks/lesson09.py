"""Exercises of lesson 09: the crop's outline in the image, and how often a half body is the upper half."""

from functools import cache

import numpy as np

from lgmpose.course.checks import Task, compare, compare_prediction
from lgmpose.data.augment import Augmentation, augment_record
from lgmpose.data.records import PersonRecord
from lgmpose.pose.geometry import box_to_center_size, crop_matrix, invert_matrix, transform_points
from lgmpose.pose.skeletons import COCO

DRAWS = 4000


def check_outline(attempt) -> None:
    rng = np.random.default_rng(0)
    for image_hw, rotation in (((64, 48), 0.0), ((96, 160), 0.0), ((64, 48), 30.0), ((96, 160), -75.0)):
        box_xywh = rng.integers(10, 200, 4).tolist()
        H, W = image_hw
        matrix = crop_matrix(*box_to_center_size(box_xywh), image_hw, rotation_deg=rotation)
        # The crop's outline, clockwise from the upper left corner, in pixels of the picture.
        corners = transform_points(invert_matrix(matrix), np.array([[0, 0], [W, 0], [W, H], [0, H]], float))
        compare(attempt(box_xywh, image_hw, rotation), corners, f"outline({box_xywh}, {image_hw}, {rotation:g})")


def check_upper_halves(prediction) -> str:
    return compare_prediction(prediction, _upper_halves_percent(), atol=5)


@cache
def _upper_halves_percent() -> float:
    """Draw half bodies and return how often the upper half is kept. Another seed changes it by less than 2."""
    rng = np.random.default_rng(0)
    joints = np.column_stack([np.arange(17.0), np.where(np.isin(np.arange(17), COCO.upper_body), 0.0, 100.0)])
    person = PersonRecord("", np.array([50.0, 50.0]), np.array([200.0, 200.0]), joints, np.full(17, 2), 1, 1)
    half = Augmentation(half_body_prob=1.0)
    # Joints of the upper body lie at y = 0, the others at y = 100: the centre of the new box tells which half is kept.
    upper = sum(augment_record(person, COCO.upper_body, half, rng)[0][1] < 25 for _ in range(DRAWS))
    return 100 * upper / DRAWS


TASKS = {"09.1": Task(check_outline, "hard"), "09.2": Task(check_upper_halves)}
