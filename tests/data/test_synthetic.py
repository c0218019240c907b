"""Synthetic people: joints where the drawing has them, left on the left, visible where they can be seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgmpose.data.synthetic import GENERATOR_VERSION, draw_scene, scene
from lgmpose.data.synthetic.background import paint_obstacle
from lgmpose.data.synthetic.body import PARTS, build_person
from lgmpose.data.synthetic.painting import OBSTACLE, PARTS_PER_PERSON, Canvas, Placement, paint_person
from lgmpose.data.synthetic.posture import ANGLES, Pose, sample_pose
from lgmpose.data.synthetic.scene import joint_visibility
from lgmpose.pose.skeletons import COCO

ROOT = Path(__file__).resolve().parents[2]
LIMBS = ("shoulder", "elbow", "hip", "knee", "ankle")
STRAIGHT = {
    f"{side}{angle}": 0.0
    for angle in ANGLES
    for side in (("left_", "right_") if angle.split("_")[0] in LIMBS else ("",))
}
CHANGING_SIGN_IN_A_MIRROR = ("spine_side", "spine_twist", "neck_side", "neck_twist", "roll")
seeds, yaws = st.integers(0, 10_000), st.floats(-180, 180)


def generator(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def joints_of(angles: dict[str, float], yaw: float) -> np.ndarray:
    """(17, 3) joints of always the same body."""
    return build_person(generator(7), Pose("stand", angles, yaw)).joints


def paint_alone(pose: Pose, seed: int = 0):
    """One person on an empty canvas: (17, 2) joints in picture pixels, (17,) visibility, part map of the canvas."""
    canvas = Canvas(np.zeros((520, 480, 3), np.uint8), np.zeros((520, 480), np.uint16), np.array((-0.6, -0.8)))
    person, placement = build_person(generator(seed), pose), Placement(95.0, np.array((120.0, 130.0)))
    paint_person(canvas, person, 1, placement)
    joints_xy, _ = placement.project(person.joints)
    return joints_xy, joint_visibility(canvas.part_map, joints_xy, 1, person.faces_camera), canvas.part_map


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, list[dict]]]:
    return [draw_scene(generator(5, i), (144, 200)) for i in range(40)]


# -------------------------------------------------------------------------------------------------------------- scenes


def test_joints_inside_the_picture_are_labelled_and_in_the_box(scenes):
    outside = 0
    for image, people in scenes:
        limit = np.array((image.shape[1] - 1, image.shape[0] - 1))
        for person in people:
            xy, (x, y, w, h) = person["keypoints_xy"], person["box_xywh"]
            inside = ((xy >= 0) & (xy <= limit)).all(1)
            np.testing.assert_array_equal(person["visibility"] > 0, inside)
            outside += (~inside).sum()
            assert (xy[inside] >= (x - 0.5, y - 0.5)).all() and (xy[inside] <= (x + w + 0.5, y + h + 0.5)).all()
            assert x >= 0 and y >= 0 and x + w <= limit[0] and y + h <= limit[1]
            assert 0 < person["area"] <= (w + 1) * (h + 1)
    assert outside > 0, "no joint was ever outside, so this test has shown nothing"


def test_the_generator_version_is_raised_when_a_seed_draws_another_picture():
    """No oracle: a reminder, because two sets of one version must be the same set."""
    _, people = draw_scene(generator(0, 0))
    noses = np.array([person["keypoints_xy"][0] for person in people])
    assert GENERATOR_VERSION == 1
    np.testing.assert_allclose(noses, [(200.88, 60.80), (75.55, 92.41)], atol=0.01)


def test_there_are_crowds_loners_and_hidden_joints_of_every_kind(scenes):
    counts = [len(people) for _, people in scenes]
    assert min(counts) >= 1 and max(counts) == 3 and counts.count(1) > 10
    flags = np.concatenate([[person["visibility"] for person in people] for _, people in scenes])
    assert ((flags == 1).sum(0) > 0).all() and ((flags == 2).sum(0) > 0).all()
    assert 0.1 < (flags == 1).mean() < 0.4


def test_max_people_is_kept():
    assert all(len(draw_scene(generator(i), (64, 80), max_people=1)[1]) <= 1 for i in range(8))
    assert max(len(draw_scene(generator(i), (64, 80), max_people=6)[1]) for i in range(12)) > 3


def test_no_face_is_mirrored(scenes):
    """Where a whole face is seen, the left eye lies towards the left ear and clockwise of the right one."""
    names = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    indices = [COCO.index(name) for name in names]
    checked = 0
    for person in (person for _, people in scenes for person in people):
        nose, left, right, left_ear, right_ear = person["keypoints_xy"][indices]
        down = nose - (left + right) / 2
        # A head looking far up or down shows its nose level with its eyes, from where nothing follows.
        if (person["visibility"][indices] == 2).all() and np.linalg.norm(down) > 2:
            assert np.linalg.norm(left - left_ear) < np.linalg.norm(left - right_ear)
            assert (left - right)[0] * down[1] - (left - right)[1] * down[0] > 0
            checked += 1
    assert checked > 10


# -------------------------------------------------------------------------------------------------------------- bodies


@given(seed=seeds)
@settings(max_examples=40, deadline=None)
def test_poses_keep_to_the_limits_and_bones_to_their_lengths(seed):
    pose = sample_pose(generator(seed))
    assert set(pose.angles) == set(STRAIGHT)
    for angle, value in pose.angles.items():
        (low, high), _ = ANGLES[angle.removeprefix("left_").removeprefix("right_")]
        assert low <= value <= high, angle
    straight, posed = joints_of(STRAIGHT, 0), joints_of(pose.angles, pose.yaw)
    for side in ("left", "right"):
        for bone in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("eye", "ear")):
            a, b = (COCO.index(f"{side}_{name}") for name in bone)
            assert np.linalg.norm(posed[a] - posed[b]) == pytest.approx(np.linalg.norm(straight[a] - straight[b]))


@given(seed=seeds, yaw=yaws)
@settings(max_examples=40, deadline=None)
def test_the_mirrored_pose_is_the_mirror_image_with_flip_pairs_swapped(seed, yaw):
    angles = sample_pose(generator(seed)).angles
    swap = {"left": "right", "right": "left"}
    mirrored = {}
    for name, value in angles.items():
        side, _, rest = name.partition("_")
        sign = -1 if name in CHANGING_SIGN_IN_A_MIRROR else 1
        mirrored[f"{swap[side]}_{rest}" if side in swap else name] = sign * value
    expected = joints_of(angles, yaw)[list(COCO.flip_permutation)] * (-1, 1, 1)
    np.testing.assert_allclose(joints_of(mirrored, -yaw), expected, atol=1e-9)


@given(yaw=yaws.filter(lambda yaw: abs(np.cos(np.radians(yaw))) > 0.2))
@settings(max_examples=40, deadline=None)
def test_left_is_on_the_pictures_right_for_who_faces_the_viewer_and_on_its_left_from_behind(yaw):
    xy, _ = Placement(100.0, np.zeros(2)).project(joints_of(STRAIGHT, yaw))
    for left, right in COCO.flip_pairs:
        assert np.sign(xy[left, 0] - xy[right, 0]) == np.sign(np.cos(np.radians(yaw))), COCO.joint_names[left]


# ---------------------------------------------------------------------------------------------------------- visibility


@pytest.mark.parametrize("yaw, hidden, seen", [
    (0, (), ("nose", "left_eye", "right_eye", "left_shoulder", "right_shoulder", "left_hip", "right_knee")),
    (180, ("nose", "left_eye", "right_eye"), ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow")),
    (90, ("left_eye", "left_ear", "left_shoulder", "left_hip"), ("right_eye", "nose", "right_ear", "right_shoulder")),
    (-90, ("right_eye", "right_ear", "right_shoulder", "right_hip"), ("left_eye", "nose", "left_ear", "left_shoulder")),
])  # fmt: skip
def test_what_is_seen_depends_on_the_side_the_viewer_stands_on(yaw, hidden, seen):
    angles = STRAIGHT | {"left_shoulder_abduct": 12.0, "right_shoulder_abduct": 12.0}
    for seed in range(5):
        flags = dict(zip(COCO.joint_names, paint_alone(Pose("stand", angles, yaw), seed)[1], strict=True))
        assert {name: flags[name] for name in (*hidden, *seen)} == dict.fromkeys(hidden, 1) | dict.fromkeys(seen, 2)


def test_of_two_hips_the_far_one_is_hidden_by_the_near_side():
    arms_up = STRAIGHT | {"left_shoulder_abduct": 150.0, "right_shoulder_abduct": 150.0}
    hips = [COCO.index("left_hip"), COCO.index("right_hip")]
    assert paint_alone(Pose("stand", arms_up, 90))[1][hips].tolist() == [1, 2]
    assert paint_alone(Pose("stand", arms_up, -90))[1][hips].tolist() == [2, 1]


def test_hands_folded_before_the_chest_are_hidden_from_behind():
    folded = {"shoulder_flex": 30.0, "shoulder_twist": 70.0, "elbow": 100.0}
    angles = STRAIGHT | {f"{side}_{angle}": value for side in ("left", "right") for angle, value in folded.items()}
    wrists = [COCO.index("left_wrist"), COCO.index("right_wrist")]
    assert (paint_alone(Pose("stand", angles, 180))[1][wrists] == 1).all()
    assert (paint_alone(Pose("stand", angles, 0))[1][wrists] == 2).any()


def test_every_joint_lies_on_the_painted_person():
    for seed in range(20):
        pose = sample_pose(generator(seed))
        joints_xy, _, part_map = paint_alone(pose, seed)
        columns, rows = np.rint(2 * joints_xy + 0.5).astype(int).T
        inside = (columns >= 0) & (rows >= 0) & (columns < part_map.shape[1]) & (rows < part_map.shape[0])
        assert inside.sum() > 8 and (part_map[rows[inside], columns[inside]] > 0).all(), (seed, pose.name)


def test_visibility_is_read_off_the_part_map():
    def wrist_flag(number: int, x: float = 5.0, y: float = 5.0, covered_from: int = 40, empty_to: int = 0) -> int:
        part_map = np.full((20, 40), number, np.uint16)  # of a picture of 10 × 20
        part_map[:, :empty_to] = 0
        part_map[:, covered_from:] = OBSTACLE
        flags = joint_visibility(part_map, np.full((17, 2), (x, y)), 1, np.ones(17, bool))
        return flags[COCO.index("left_wrist")]

    forearm, other_arm, torso = (1 + PARTS.index(name) for name in ("left_forearm", "right_forearm", "torso"))
    assert wrist_flag(forearm) == 2
    for number in (other_arm, torso, forearm + PARTS_PER_PERSON, OBSTACLE, 0):
        assert wrist_flag(number) == 1, number
    for x, y, flag in ((0, 0, 2), (19, 9, 2), (19.01, 9, 0), (19, 9.01, 0), (-0.01, 5, 0), (12, 5, 2)):
        assert wrist_flag(forearm, x, y) == flag, (x, y)
    # Picture pixel 5 is canvas pixel 10.5, rounded to 10: of the three columns from 9 to 11, two must be its own.
    assert [wrist_flag(forearm, covered_from=column) for column in (9, 10, 11, 12)] == [1, 1, 2, 2]
    assert wrist_flag(forearm, covered_from=11, empty_to=10) == 2, "half of what is painted is its own"


def test_obstacles_hide_people(monkeypatch):
    canvas = Canvas(np.zeros((120, 160, 3), np.uint8), np.zeros((120, 160), np.uint16), np.array((0.0, -1.0)))
    paint_obstacle(generator(0), canvas)
    assert np.unique(canvas.part_map).tolist() == [0, OBSTACLE]
    assert canvas.pixels[canvas.part_map > 0].any() and not canvas.pixels[canvas.part_map == 0].any()

    monkeypatch.setattr(scene, "paint_obstacle", lambda rng, canvas: canvas.part_map.fill(OBSTACLE))
    numbers_of_people = [len(draw_scene(generator(i), (64, 80))[1]) for i in range(15)]
    assert 0 < numbers_of_people.count(0) < 9, "about one picture in five has an obstacle"


def test_package_needs_neither_torch_nor_matplotlib():
    code = "import sys, lgmpose.data.synthetic; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stderr
