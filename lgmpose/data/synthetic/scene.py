"""One picture: background, people far to near, perhaps an obstacle, and the annotations that follow from them."""

from __future__ import annotations

import cv2
import numpy as np

from lgmpose.data.synthetic.background import draw_background, paint_obstacle
from lgmpose.data.synthetic.body import Person, build_person
from lgmpose.data.synthetic.painting import PARTS_PER_PERSON, SUPERSAMPLING, Canvas, Placement, paint_person
from lgmpose.data.synthetic.posture import sample_pose
from lgmpose.data.synthetic.visibility import joint_visibility

__all__ = ["draw_scene"]


def draw_scene(
    rng: np.random.Generator, image_hw: tuple[int, int] = (256, 320), max_people: int = 3
) -> tuple[np.ndarray, list[dict]]:
    """Draws one picture of one or more people and says where their joints are.

    Args:
        rng: decides everything.
        image_hw: (H, W) of the picture in pixels.
        max_people: most people in a picture; how many is drawn from 1 to this.

    Returns:
        The picture, (H, W, 3) uint8 RGB, and one dict per person who can be seen, far to near:
        ``keypoints_xy`` (17, 2) float64 picture pixels in COCO's order, true also outside the picture; ``visibility``
        (17,) int64, 0 outside the picture, 1 hidden by the own body, another person or a thing, 2 visible;
        ``box_xywh`` (4,) float64, the silhouette with its hidden parts, clipped to the picture; ``area`` float, the
        visible silhouette in square pixels.
    """
    height, width = image_hw
    chances = 0.62 ** np.arange(max_people)
    count = 1 + int(rng.choice(max_people, p=chances / chances.sum()))
    background = draw_background(rng, image_hw)
    pixels = cv2.resize(background, (width * SUPERSAMPLING, height * SUPERSAMPLING), interpolation=cv2.INTER_LINEAR)
    light = rng.uniform(-2.6, -0.5)
    canvas = Canvas(pixels, np.zeros(pixels.shape[:2], np.uint16), np.array((np.cos(light), np.sin(light))))

    people = [build_person(rng, sample_pose(rng)) for _ in range(count)]
    placements = _place_people(rng, people, image_hw)
    far_to_near = sorted(zip(placements, people, strict=True), key=lambda pair: pair[0].scale)
    first_numbers = range(1, 1 + count * PARTS_PER_PERSON, PARTS_PER_PERSON)
    extents = [
        paint_person(canvas, person, first_number, placement)
        for first_number, (placement, person) in zip(first_numbers, far_to_near, strict=True)
    ]
    if rng.random() < 0.2:
        paint_obstacle(rng, canvas)

    annotations = []
    seen = np.bincount(canvas.part_map.ravel(), minlength=1 + count * PARTS_PER_PERSON)  # canvas pixels of each part
    for first_number, (placement, person), extent in zip(first_numbers, far_to_near, extents, strict=True):
        joints_xy, _ = placement.project(person.joints)
        visibility = joint_visibility(canvas.part_map, joints_xy, first_number, person.faces_camera)
        if not (visibility == 2).any():
            continue  # nobody could say that there is anyone
        low, high = np.clip(extent, 0, (width - 1, height - 1))
        annotations.append(
            {
                "keypoints_xy": joints_xy,
                "visibility": visibility,
                "box_xywh": np.concatenate((low, high - low)),
                "area": float(seen[first_number : first_number + PARTS_PER_PERSON].sum()) / SUPERSAMPLING**2,
            }
        )
    image = cv2.resize(canvas.pixels, (width, height), interpolation=cv2.INTER_AREA)
    grain = rng.integers(0, 9, (height, width), dtype=np.uint8)  # the camera's noise, alike in all channels
    return cv2.subtract(cv2.add(image, (4, 4, 4, 0)), cv2.merge((grain, grain, grain))), annotations


def _place_people(rng: np.random.Generator, people: list[Person], image_hw: tuple[int, int]) -> list[Placement]:
    """Chooses each person's size and place in picture pixels, side by side with some overlap."""
    height, width = image_hw
    image_wh = np.array((width, height))
    count = len(people)
    placements = []
    for person, slot in zip(people, rng.permutation(count), strict=True):
        # The silhouette's size and middle at one pixel per metre.
        spheres = np.concatenate([layer.spheres for part in person.parts for layer in part.layers])
        xy, pixels_per_metre = Placement(1.0, np.zeros(2)).project(spheres)
        radius = (pixels_per_metre * spheres[:, 3])[:, None]
        low, high = (xy - radius).min(0), (xy + radius).max(0)
        extent = high - low

        scale = rng.uniform(0.62, 1.0) * min(height, 1.1 * width) / 1.75 * count**-0.25
        scale = float(min(scale, *(0.97 * image_wh / extent)))
        if rng.random() < 0.12:
            scale *= rng.uniform(1.1, 1.6)  # too near for the whole body to be in the picture

        # How far the body's middle is from the picture's. Most people are whole, some stick out.
        free = np.maximum(image_wh - extent * scale, 0) / 2
        offset = rng.uniform(-1, 1, 2) * free
        if count > 1:
            offset[0] = np.clip(((slot + rng.uniform(0.2, 0.8)) / count - 0.5) * width, -free[0], free[0])
        if rng.random() < 0.12:
            offset += rng.normal(0, 0.12, 2) * image_wh
        placements.append(Placement(scale, image_wh / 2 + offset - (low + high) / 2 * scale))
    return placements
