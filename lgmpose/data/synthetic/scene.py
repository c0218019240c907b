"""One picture: background, people far to near, perhaps an obstacle, and the annotations that follow from them."""

from __future__ import annotations

import cv2
import numpy as np

from lgmpose.data.synthetic.background import draw_background, paint_obstacle
from lgmpose.data.synthetic.body import PARTS, Person, build_person
from lgmpose.data.synthetic.painting import (
    PARTS_PER_PERSON,
    SUPERSAMPLING,
    Canvas,
    Placement,
    paint_person,
    to_canvas,
)
from lgmpose.data.synthetic.posture import sample_pose
from lgmpose.pose.skeletons import COCO

__all__ = ["draw_scene", "joint_visibility"]

# Seen through its own limb, a joint is visible from any side. Trousers and skirts show where a knee is.
_THROUGH_LIMB = {
    "ear": ("{side}_ear",), "shoulder": ("{side}_upper_arm",), "elbow": ("{side}_upper_arm", "{side}_forearm"),
    "wrist": ("{side}_forearm", "{side}_hand"), "hip": ("{side}_thigh",),
    "knee": ("{side}_thigh", "{side}_shin", "skirt"), "ankle": ("{side}_shin", "{side}_foot"),
}  # fmt: skip
# Through trunk and head, it is visible only from the side it is on.
_THROUGH_TRUNK = {"nose": ("head",), "eye": ("head",), "shoulder": ("torso",), "hip": ("torso", "pelvis", "skirt")}


def draw_scene(
    rng: np.random.Generator, image_hw: tuple[int, int] = (256, 320), max_people: int = 3
) -> tuple[np.ndarray, list[dict]]:
    """Draw a picture of one or more people, and compute where their joints are.

    Args:
        rng: decides everything.
        image_hw: (H, W) of the picture in pixels.
        max_people: most people in a picture; their number is drawn from 1 to this.

    Returns:
        The picture, (H, W, 3) uint8 RGB, and one dict per person who can be seen, far to near:
        ``keypoints_xy`` (17, 2) float64 picture pixels in COCO's order, exact also outside the picture; ``visibility``
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
    placed = zip(_place_people(rng, people, image_hw), people, strict=True)
    painted = []
    for i, (placement, person) in enumerate(sorted(placed, key=lambda pair: pair[0].scale)):  # far to near
        first_number = 1 + i * PARTS_PER_PERSON
        extent = paint_person(canvas, person, first_number, placement)
        painted.append((placement.project(person.joints)[0], person, first_number, extent))
    if rng.random() < 0.2:
        paint_obstacle(rng, canvas)

    annotations = []
    for joints_xy, person, first_number, extent in painted:
        visibility = joint_visibility(canvas.part_map, joints_xy, first_number, person.faces_camera)
        if not (visibility == 2).any():
            continue  # nobody could say that there is anyone
        low, high = np.clip(extent, 0, (width - 1, height - 1))
        own = (canvas.part_map >= first_number) & (canvas.part_map < first_number + PARTS_PER_PERSON)
        annotations.append(
            {
                "keypoints_xy": joints_xy,
                "visibility": visibility,
                "box_xywh": np.concatenate((low, high - low)),
                "area": float(own.sum()) / SUPERSAMPLING**2,
            }
        )
    image = cv2.resize(canvas.pixels, (width, height), interpolation=cv2.INTER_AREA)
    grain = rng.integers(0, 9, (height, width), dtype=np.uint8)  # the camera's noise, equal in all channels
    return cv2.subtract(cv2.add(image, np.full_like(image, 4)), cv2.merge((grain, grain, grain))), annotations


def _place_people(rng: np.random.Generator, people: list[Person], image_hw: tuple[int, int]) -> list[Placement]:
    """Draw each person's size and place in picture pixels, side by side with some overlap."""
    height, width = image_hw
    image_wh, count, placements = np.array((width, height)), len(people), []
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

        # How far the body's middle is from the picture's. Most people are whole, some are cut by the border.
        free = np.maximum(image_wh - extent * scale, 0) / 2
        offset = rng.uniform(-1, 1, 2) * free
        if count > 1:
            offset[0] = np.clip(((slot + rng.uniform(0.2, 0.8)) / count - 0.5) * width, -free[0], free[0])
        if rng.random() < 0.12:
            offset += rng.normal(0, 0.12, 2) * image_wh
        placements.append(Placement(scale, image_wh / 2 + offset - (low + high) / 2 * scale))
    return placements


def joint_visibility(
    part_map: np.ndarray, joints_xy: np.ndarray, first_number: int, faces_camera: np.ndarray
) -> np.ndarray:
    """Return COCO's flag per joint, from the parts that are seen around it.

    Args:
        part_map: (h, w) uint16 of the canvas.
        joints_xy: (17, 2) picture pixels.
        first_number: the person's part 0 in the map.
        faces_camera: (17,) bool; False hides a joint that is behind the head or trunk it belongs to.

    Returns:
        (17,) int64: 0 outside the picture, 1 hidden, 2 visible: at least half of the nine canvas pixels around the
        joint, not counting background, belong to its own parts.
    """
    height, width = (length // SUPERSAMPLING for length in part_map.shape)
    flags = np.zeros(len(joints_xy), np.int64)
    for joint, (x, y) in enumerate(joints_xy):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        column, row = (round(to_canvas(float(v))) for v in (x, y))
        window = part_map[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        side, _, kind = COCO.joint_names[joint].rpartition("_")
        names = _THROUGH_LIMB.get(kind, ()) + (_THROUGH_TRUNK.get(kind, ()) if faces_camera[joint] else ())
        own = np.isin(window[window > 0], [first_number + PARTS.index(name.format(side=side)) for name in names])
        flags[joint] = 2 if own.any() and own.mean() >= 0.5 else 1
    return flags
