"""Drawings: colours of the sides, what is left out, wild poses, and heatmaps where they peak."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from inference_tools import noise

from lgmpose.inference.drawing import COLOURS, draw_poses, heatmap_overlay
from lgmpose.pose.skeletons import COCO, LSP, Skeleton

# right leg, left leg (each from the ankle), right arm, left arm (each from the wrist), neck, head top
LSP_XY = [
    (35, 95), (35, 75), (42, 60), (53, 60), (60, 75), (60, 95), (28, 45), (30, 35), (30, 30), (65, 30), (65, 35),
    (68, 45), (47, 20), (47, 5),
]  # fmt: skip


@dataclass
class Drawn:
    keypoints_xy: np.ndarray
    scores: np.ndarray
    skeleton: Skeleton = LSP
    score: float = 0.5


def lsp_pose(scores=0.9, scale=1.0, **options):
    return Drawn(np.array(LSP_XY, float) * scale, np.broadcast_to(scores, 14), **options)


@pytest.mark.parametrize("left, right", [("left_", "right_"), ("l_", "r_"), ("L.", "R.")])
def test_sides_have_their_colours(left, right):
    names = [name.replace("left_", left).replace("right_", right) for name in LSP.joint_names]
    drawn = draw_poses(np.full((400, 400, 3), 128, np.uint8), [
        lsp_pose(scale=4, skeleton=replace(LSP, joint_names=tuple(names)))
    ])  # fmt: skip
    assert drawn.shape == (400, 400, 3) and drawn.dtype == np.uint8
    for (x, y), colour in (
        ((35, 85), "right leg"), ((60, 85), "left leg"), ((30, 32.5), "right arm"), ((65, 32.5), "left arm"),
        ((47, 12), "middle"), ((47.5, 60), "middle"), ((36, 45), "middle"), ((59, 45), "middle"),
    ):  # fmt: skip
        assert tuple(drawn[int(4 * y), int(4 * x)]) == COLOURS[colour], colour
    assert all(tuple(drawn[4 * y, 4 * x]) == (255, 255, 255) for x, y in LSP_XY), "joints have a white centre"


def test_the_face_is_drawn_in_the_middles_colour_and_thinner():
    points = np.zeros((17, 2)) + np.nan
    points[[1, 2]] = [[900, 200], [100, 200]]  # eyes
    face = draw_poses(np.full((400, 1000, 3), 128, np.uint8), [Drawn(points, np.ones(17), COCO)])
    points[[11, 12]], points[[1, 2]] = points[[1, 2]], np.nan  # hips
    trunk = draw_poses(np.full((400, 1000, 3), 128, np.uint8), [Drawn(points, np.ones(17), COCO)])
    assert tuple(face[200, 500]) == tuple(trunk[200, 500]) == COLOURS["middle"]
    assert 0 < (face[:, 500] != 128).any(axis=-1).sum() < (trunk[:, 500] != 128).any(axis=-1).sum()


def painted(name):
    """Return how many pixels a single joint of this name covers."""
    skeleton = Skeleton("two", (name, "b"), (), (), (0.1, 0.1), ())
    pose = Drawn(np.array([[50.0, 50.0], [900.0, 350.0]]), np.ones(2), skeleton)
    return (draw_poses(np.full((400, 1000, 3), 128, np.uint8), [pose])[:200, :200] != 128).any(axis=-1).sum()


def test_faces_are_recognised_by_whole_words():
    face, other = painted("left_ear"), painted("left_rear_paw")
    assert face < other == painted("left_forearm")
    assert face == painted("Left Ear") == painted("leftEar") == painted("LEar") == painted("l_eye")


def test_what_is_unsure_is_left_out_and_the_picture_is_copied_unless_told():
    picture = noise(100, 90)
    before = picture.copy()
    np.testing.assert_array_equal(draw_poses(picture, [lsp_pose(0.19)]), before)
    np.testing.assert_array_equal(draw_poses(picture, []), before)
    assert (draw_poses(picture, [lsp_pose(0.2)]) != before).any()
    unsure_leg = lsp_pose(np.where(np.arange(14) < 2, 0.1, 0.9))
    np.testing.assert_array_equal(draw_poses(picture, [unsure_leg])[66:, :45], before[66:, :45])
    assert (picture == before).all()
    assert draw_poses(picture, [lsp_pose()], copy=False) is picture and (picture != before).any()


def test_the_surest_person_is_drawn_last():
    picture = np.full((100, 90, 3), 128, np.uint8)
    mirrored = replace(lsp_pose(), keypoints_xy=np.array(LSP_XY, float) * [-1, 1] + [95, 0])
    alone = draw_poses(picture, [replace(mirrored, score=0.9)])
    both = [lsp_pose(score=0.1), replace(mirrored, score=0.9)]
    for poses in (both, both[::-1]):
        np.testing.assert_array_equal(draw_poses(picture, poses)[80:90, 58:62], alone[80:90, 58:62])


def test_lines_grow_with_the_person():
    def area(scale):
        picture = np.full((900, 900, 3), 128, np.uint8)
        return (draw_poses(picture, [lsp_pose(scale=scale)]) != picture).any(axis=-1).sum()

    assert area(9) / area(3) > 6


def test_wild_poses_are_survived():
    pose = lsp_pose()
    pose.keypoints_xy[:4] = [[np.nan, 3], [1e12, 3], [-1e12, np.inf], [3, 1e7]]
    assert draw_poses(noise(30, 20), [pose, lsp_pose(scale=0)]).shape == (30, 20, 3)
    assert draw_poses(noise(1, 1), [lsp_pose(scale=0.01)]).shape == (1, 1, 3)


def test_heatmaps_are_bright_where_they_peak():
    crop = np.full((64, 48, 3), 200, np.uint8)
    heatmaps = np.zeros((14, 16, 12), np.float32)
    np.testing.assert_array_equal(heatmap_overlay(crop, heatmaps), np.full_like(crop, 120))
    heatmaps[3, 4, 9] = 1
    shown = heatmap_overlay(crop, heatmaps).astype(int)
    assert shown.shape == (64, 48, 3)
    y, x = np.unravel_index(np.abs(shown - 120).sum(axis=-1).argmax(), (64, 48))
    assert (y, x) == (16, 36)  # heatmap pixel i stands for crop pixel 4 i
    everywhere = heatmap_overlay(crop, heatmaps * 0 + 1)
    np.testing.assert_array_equal(everywhere, np.broadcast_to(everywhere[20, 20], everywhere.shape))
    other = np.zeros_like(heatmaps)
    other[9, 4, 9] = 1
    assert np.abs(heatmap_overlay(crop, other)[16, 36].astype(int) - shown[16, 36]).max() > 50  # a hue of its own


def test_aligned_heatmaps_have_the_crops_first_and_last_pixel():
    crop = np.full((64, 48, 3), 200, np.uint8)
    heatmaps = np.zeros((1, 16, 12), np.float32)
    heatmaps[0, 15, 11] = 1
    shown = np.abs(heatmap_overlay(crop, heatmaps, aligned=True).astype(int) - 120).sum(axis=-1)
    assert np.unravel_index(shown.argmax(), shown.shape) == (63, 47)
    assert shown[63, 47] > 2 * shown[60, 44] > 0
