"""Synthetic people: the same from the same seed, valid for pycocotools, and with joints where the drawing has them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO as PyCoco
from pycocotools.cocoeval import COCOeval

from lgmpose.datasets import synthetic
from lgmpose.datasets.synthetic import draw_scene, make_synthetic
from lgmpose.errors import UserError
from lgmpose.skeletons import COCO

ROOT = Path(__file__).resolve().parents[1]
IMAGE_HW = (96, 120)
NUM_IMAGES = 24
LEFT_RIGHT_MIRRORED = ("spine_side", "spine_twist", "neck_side", "neck_twist", "roll")


def zero_angles() -> dict[str, float]:
    limbs = [angle for angle in synthetic._LIMITS if angle not in synthetic._TRUNK]
    return dict.fromkeys(synthetic._TRUNK, 0.0) | {f"{s}_{angle}": 0.0 for s in ("left", "right") for angle in limbs}


def paint_alone(angles: dict[str, float], yaw: float, *, seed: int = 0, pose: str = "stand"):
    """One person on an empty canvas: (17, 2) joints in picture pixels, (17,) visibility, part map of the canvas."""
    image_hw = (260, 240)
    canvas = np.zeros((2 * image_hw[0], 2 * image_hw[1], 3), np.uint8)
    part_map = np.zeros(canvas.shape[:2], np.uint16)
    person = synthetic._build_person(np.random.default_rng(seed), pose, angles, yaw)
    scale, hips_xy = 95.0, np.array((120.0, 130.0))
    synthetic._paint_person(canvas, part_map, person, 1, scale, hips_xy, np.array((-0.6, -0.8)))
    joints_xy, _ = synthetic._project(person.joints, scale, hips_xy)
    return joints_xy, synthetic._visibility(part_map, joints_xy, 1, person.faces_camera, image_hw), part_map


def joint(name: str) -> int:
    return COCO.index(name)


@pytest.fixture(scope="module")
def small_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    return make_synthetic(folder, NUM_IMAGES, seed=3, image_hw=IMAGE_HW, progress=False)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, list[dict]]]:
    return [draw_scene(np.random.default_rng([5, i]), (144, 200)) for i in range(60)]


# ------------------------------------------------------------------------------------------------------- determinism


def test_equal_seeds_give_equal_bytes_and_a_smaller_set_is_the_beginning_of_a_larger(small_set, tmp_path):
    again = make_synthetic(tmp_path / "a", 7, seed=3, image_hw=IMAGE_HW, progress=False)
    for i in range(7):
        name = f"images/{i:06d}.jpg"
        assert (again.parent / name).read_bytes() == (small_set.parent / name).read_bytes()
    part, whole = (json.loads(path.read_text()) for path in (again, small_set))
    assert part["images"] == whole["images"][:7]
    assert part["annotations"] == [a for a in whole["annotations"] if a["image_id"] < 7]


def test_another_seed_gives_other_pictures(small_set, tmp_path):
    other = make_synthetic(tmp_path, 1, seed=4, image_hw=IMAGE_HW, progress=False)
    assert (other.parent / "images/000000.jpg").read_bytes() != (small_set.parent / "images/000000.jpg").read_bytes()


def test_files_hold_what_draw_scene_draws(small_set):
    image, people = draw_scene(np.random.default_rng([3, 11]), IMAGE_HW, 3)
    stored = cv2.imread(str(small_set.parent / "images/000011.jpg"))[..., ::-1]
    assert image.dtype == np.uint8 and image.shape == stored.shape == (*IMAGE_HW, 3)
    # JPEG halves the resolution of colour, so compare brightness; red and blue swapped would show in the means.
    grey, stored_grey = (
        cv2.cvtColor(np.ascontiguousarray(a), cv2.COLOR_RGB2GRAY).astype(float) for a in (image, stored)
    )
    assert np.abs(grey - stored_grey).mean() < 4
    np.testing.assert_allclose(image.mean((0, 1)), stored.mean((0, 1)), atol=1.5)
    annotations = [a for a in json.loads(small_set.read_text())["annotations"] if a["image_id"] == 11]
    assert len(annotations) == len(people)
    for annotation, person in zip(annotations, people, strict=True):
        keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
        labelled = person["visibility"] > 0
        np.testing.assert_array_equal(keypoints[:, 2], person["visibility"])
        np.testing.assert_allclose(keypoints[labelled, :2], person["keypoints_xy"][labelled], atol=0.006)
        assert not keypoints[~labelled].any()


# ----------------------------------------------------------------------------------------------------------- COCO JSON


def test_pycocotools_reads_the_set_and_gives_perfect_predictions_ap_1(small_set, capsys):
    ground_truth = PyCoco(str(small_set))
    assert len(ground_truth.getImgIds()) == NUM_IMAGES
    assert ground_truth.loadCats(1)[0]["keypoints"] == list(COCO.joint_names)
    assert [tuple(joint - 1 for joint in edge) for edge in ground_truth.loadCats(1)[0]["skeleton"]] == list(COCO.edges)
    annotations = ground_truth.loadAnns(ground_truth.getAnnIds())
    assert 0 not in [a["id"] for a in annotations] and len({a["id"] for a in annotations}) == len(annotations)
    results = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0} for a in annotations
    ]
    evaluation = COCOeval(ground_truth, ground_truth.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)
    capsys.readouterr()


def test_every_annotation_is_complete_and_inside_its_picture(small_set):
    contents = json.loads(small_set.read_text())
    assert contents["info"]["seed"] == 3 and contents["info"]["generator_version"] == synthetic.GENERATOR_VERSION
    for image in contents["images"]:
        assert (image["height"], image["width"]) == IMAGE_HW
        assert cv2.imread(str(small_set.parent / "images" / image["file_name"])).shape == (*IMAGE_HW, 3)
    for annotation in contents["annotations"]:
        assert len(annotation["keypoints"]) == 51
        assert annotation["num_keypoints"] == sum(v > 0 for v in annotation["keypoints"][2::3]) > 0
        assert all(type(v) is int for v in annotation["keypoints"][2::3])
        x, y, w, h = annotation["bbox"]
        assert 0 <= x and 0 <= y and w > 0 and h > 0 and x + w <= IMAGE_HW[1] and y + h <= IMAGE_HW[0]
        assert annotation["iscrowd"] == 0 and annotation["category_id"] == 1


# -------------------------------------------------------------------------------------------------------------- joints


def test_a_joint_is_labelled_exactly_when_it_is_inside_the_picture(scenes):
    outside = 0
    for image, people in scenes:
        limit = np.array((image.shape[1] - 1, image.shape[0] - 1))
        for person in people:
            inside = ((person["keypoints_xy"] >= 0) & (person["keypoints_xy"] <= limit)).all(1)
            np.testing.assert_array_equal(person["visibility"] > 0, inside)
            outside += (~inside).sum()
    assert outside > 0, "no joint was ever outside, so this test has shown nothing"


def test_boxes_hold_all_labelled_joints_and_areas_fit_into_boxes(scenes):
    for _, people in scenes:
        for person in people:
            x, y, w, h = person["box_xywh"]
            labelled = person["keypoints_xy"][person["visibility"] > 0]
            assert (labelled >= (x - 0.5, y - 0.5)).all() and (labelled <= (x + w + 0.5, y + h + 0.5)).all()
            assert 0 < person["area"] <= (w + 1) * (h + 1)


def test_there_are_crowds_loners_and_hidden_joints_of_every_kind(scenes):
    counts = [len(people) for _, people in scenes]
    assert min(counts) >= 1 and max(counts) == 3 and counts.count(1) > 10
    flags = np.concatenate([[person["visibility"] for person in people] for _, people in scenes])
    assert ((flags == 1).sum(0) > 0).all() and ((flags == 2).sum(0) > 0).all()
    assert 0.1 < (flags == 1).mean() < 0.4


def test_max_people_is_kept():
    assert all(len(draw_scene(np.random.default_rng(i), (64, 80), max_people=1)[1]) <= 1 for i in range(10))
    assert max(len(draw_scene(np.random.default_rng(i), (64, 80), max_people=6)[1]) for i in range(40)) > 3


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_sampled_angles_keep_to_the_limits(seed):
    name, angles = synthetic._sample_pose(np.random.default_rng(seed))
    assert name in synthetic._POSES and set(angles) == set(zero_angles())
    for angle, value in angles.items():
        low, high = synthetic._LIMITS[angle.removeprefix("left_").removeprefix("right_")]
        assert low <= value <= high, angle


@given(seed=st.integers(0, 10_000), yaw=st.floats(-180, 180))
@settings(max_examples=60, deadline=None)
def test_bones_keep_their_lengths_in_every_pose(seed, yaw):
    _, angles = synthetic._sample_pose(np.random.default_rng(seed))
    straight = synthetic._build_person(np.random.default_rng(7), "stand", zero_angles(), 0).joints
    posed = synthetic._build_person(np.random.default_rng(7), "stand", angles, yaw).joints
    for side in ("left", "right"):
        for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("eye", "ear")):
            a, b = joint(f"{side}_{a}"), joint(f"{side}_{b}")
            assert np.linalg.norm(posed[a] - posed[b]) == pytest.approx(np.linalg.norm(straight[a] - straight[b]))


# ------------------------------------------------------------------------------------------------------ left and right


@given(seed=st.integers(0, 10_000), yaw=st.floats(-180, 180))
@settings(max_examples=60, deadline=None)
def test_the_mirrored_pose_is_the_mirror_image_with_flip_pairs_swapped(seed, yaw):
    _, angles = synthetic._sample_pose(np.random.default_rng(seed))
    swap = {"left": "right", "right": "left"}
    mirrored = {}
    for name, value in angles.items():
        side, _, rest = name.partition("_")
        sign = -1 if name in LEFT_RIGHT_MIRRORED else 1
        mirrored[f"{swap[side]}_{rest}" if side in swap else name] = sign * value
    joints = synthetic._build_person(np.random.default_rng(1), "stand", angles, yaw).joints
    other = synthetic._build_person(np.random.default_rng(1), "stand", mirrored, -yaw).joints
    np.testing.assert_allclose(other, joints[list(COCO.flip_permutation)] * (-1, 1, 1), atol=1e-9)


@given(yaw=st.floats(-180, 180))
@settings(max_examples=60, deadline=None)
def test_left_is_on_the_pictures_right_for_who_faces_the_viewer_and_on_its_left_from_behind(yaw):
    joints = synthetic._build_person(np.random.default_rng(2), "stand", zero_angles(), yaw).joints
    xy, _ = synthetic._project(joints, 100.0, np.zeros(2))
    if abs(np.cos(np.radians(yaw))) > 0.2:
        for a, b in COCO.flip_pairs:  # (left, right)
            assert np.sign(xy[a, 0] - xy[b, 0]) == np.sign(np.cos(np.radians(yaw))), COCO.joint_names[a]


def test_seen_eyes_are_left_and_right_of_the_nose_in_whole_scenes(scenes):
    """Where both eyes are seen, the left one lies clockwise of the right one around the face: never a mirrored face."""
    checked = 0
    for _, people in scenes:
        for person in people:
            xy, seen = person["keypoints_xy"], person["visibility"] == 2
            names = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
            nose, left, right, left_ear, right_ear = (xy[joint(name)] for name in names)
            # A head looking far up or down shows its nose level with its eyes, from where nothing follows.
            if all(seen[joint(name)] for name in names) and np.linalg.norm(nose - (left + right) / 2) > 2:
                assert np.linalg.norm(left - left_ear) < np.linalg.norm(left - right_ear)
                assert np.cross(np.append(left - right, 0), np.append(nose - (left + right) / 2, 0))[2] > 0
                checked += 1
    assert checked > 10


# ---------------------------------------------------------------------------------------------------------- visibility


@pytest.mark.parametrize("yaw, hidden, seen", [
    (0, (), ("nose", "left_eye", "right_eye", "left_shoulder", "right_shoulder", "left_hip", "right_knee")),
    (180, ("nose", "left_eye", "right_eye"), ("left_shoulder", "right_shoulder", "left_elbow", "right_elbow")),
    (90, ("left_eye", "left_ear", "left_shoulder", "left_hip"), ("right_eye", "nose", "right_ear", "right_shoulder")),
    (-90, ("right_eye", "right_ear", "right_shoulder", "right_hip"), ("left_eye", "nose", "left_ear", "left_shoulder")),
])  # fmt: skip
def test_what_is_seen_depends_on_the_side_the_viewer_stands_on(yaw, hidden, seen):
    angles = zero_angles() | {"left_shoulder_abduct": 12.0, "right_shoulder_abduct": 12.0}
    for seed in range(5):
        _, visibility, _ = paint_alone(angles, yaw, seed=seed)
        flags = dict(zip(COCO.joint_names, visibility, strict=True))
        assert {name: flags[name] for name in hidden} == dict.fromkeys(hidden, 1)
        assert {name: flags[name] for name in seen} == dict.fromkeys(seen, 2)


def test_hands_folded_before_the_chest_are_hidden_from_behind():
    angles = zero_angles()
    for side in ("left", "right"):
        angles |= {f"{side}_shoulder_flex": 30.0, f"{side}_shoulder_twist": 70.0, f"{side}_elbow": 100.0}
    wrists = [joint("left_wrist"), joint("right_wrist")]
    assert (paint_alone(angles, 180)[1][wrists] == 1).all()
    assert (paint_alone(angles, 0)[1][wrists] == 2).any()


def test_every_joint_lies_on_the_painted_person():
    for seed in range(30):
        pose, angles = synthetic._sample_pose(np.random.default_rng(seed))
        joints_xy, _, part_map = paint_alone(angles, 37.0 * seed, seed=seed, pose=pose)
        columns, rows = np.rint(2 * joints_xy + 0.5).astype(int).T
        inside = (columns >= 0) & (rows >= 0) & (columns < part_map.shape[1]) & (rows < part_map.shape[0])
        assert (part_map[rows[inside], columns[inside]] > 0).all(), (seed, pose)


def test_visibility_is_read_off_the_part_map():
    image_hw, wrist = (10, 20), joint("left_wrist")
    joints_xy = np.full((17, 2), 5.0)
    forearm = 1 + synthetic._PARTS.index("left_forearm")
    cases = {forearm: 2, 1 + synthetic._PARTS.index("right_forearm"): 1, 1 + synthetic._PARTS.index("torso"): 1,
             forearm + synthetic._PARTS_PER_PERSON: 1, synthetic._OBSTACLE: 1, 0: 1}  # fmt: skip
    for number, flag in cases.items():
        part_map = np.full((20, 40), number, np.uint16)
        assert synthetic._visibility(part_map, joints_xy, 1, np.ones(17, bool), image_hw)[wrist] == flag, number
    part_map = np.full((20, 40), forearm, np.uint16)
    for x, y, flag in ((0, 0, 2), (19, 9, 2), (19.01, 9, 0), (19, 9.01, 0), (-0.01, 5, 0), (12, 5, 2)):
        moved = np.full((17, 2), (x, y))
        assert synthetic._visibility(part_map, moved, 1, np.ones(17, bool), image_hw)[wrist] == flag, (x, y)


# ------------------------------------------------------------------------------------------------ folders and bad input


def test_a_set_already_there_is_left_alone_and_an_incomplete_one_is_mended(tmp_path):
    annotations = make_synthetic(tmp_path, 3, image_hw=(64, 80), progress=False)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in before}
    assert make_synthetic(tmp_path, 3, image_hw=(64, 80), progress=False) == annotations
    assert {path: path.stat().st_mtime_ns for path in before} == times

    (tmp_path / "images/000001.jpg").unlink()
    make_synthetic(tmp_path, 3, image_hw=(64, 80), progress=False)
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_an_interrupted_set_is_drawn_again(tmp_path, monkeypatch):
    def broken(rng, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "draw_scene", broken)
    with pytest.raises(KeyboardInterrupt):
        make_synthetic(tmp_path, 2, image_hw=(64, 80), progress=False)
    assert not (tmp_path / "annotations.json").exists()
    (tmp_path / "images/000000.jpg").write_bytes(b"half a pict")
    monkeypatch.undo()
    annotations = make_synthetic(tmp_path, 2, image_hw=(64, 80), progress=False)
    assert cv2.imread(str(tmp_path / "images/000000.jpg")).shape == (64, 80, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [annotations.name, "images"]


def test_another_set_in_the_folder_is_refused(small_set, tmp_path):
    for options in ({"seed": 4}, {"image_hw": (96, 128)}, {"max_people": 2}):
        arguments = {"seed": 3, "image_hw": IMAGE_HW, "progress": False} | options
        with pytest.raises(UserError, match=f"another set.*{next(iter(options))}"):
            make_synthetic(small_set.parent, NUM_IMAGES, **arguments)
    with pytest.raises(UserError, match="num_images 24 instead of 25"):
        make_synthetic(small_set.parent, 25, seed=3, image_hw=IMAGE_HW, progress=False)

    (tmp_path / "images").mkdir()
    (tmp_path / "images/000000.jpg").write_bytes(b"somebody's holiday")
    with pytest.raises(UserError, match="do not belong"):
        make_synthetic(tmp_path, 1, progress=False)
    assert (tmp_path / "images/000000.jpg").read_bytes() == b"somebody's holiday"
    shutil.rmtree(tmp_path / "images")
    for contents in ("no JSON", "[]", '{"info": {"year": 2017}}', '{"info": null}'):
        (tmp_path / "annotations.json").write_text(contents)
        with pytest.raises(UserError, match="another folder"):
            make_synthetic(tmp_path, 1, progress=False)


@pytest.mark.parametrize("options, message", [
    ({"num_images": 0}, "num_images is 0"),
    ({"num_images": -3}, "num_images is -3"),
    ({"seed": -1}, "seed is -1"),
    ({"image_hw": (16, 320)}, "image_hw is 16×320"),
    ({"max_people": 0}, "max_people is 0"),
    ({"max_people": 21}, "max_people is 21"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        make_synthetic(tmp_path / "set", **({"num_images": 1, "progress": False} | options))
    assert not (tmp_path / "set").exists()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        make_synthetic(tmp_path / "file", 1, progress=False)


def test_script_writes_says_where_and_ends_with_2_on_bad_input(tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "data_scripts/synthetic.py"), "--out", str(tmp_path / "set"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})

    good = run("--num-images", "2", "--image-hw", "64", "80")
    assert good.returncode == 0, good.stderr
    assert "2 pictures" in good.stdout and str(tmp_path / "set" / "annotations.json") in good.stdout
    bad = run("--num-images", "0")
    assert bad.returncode == 2 and bad.stdout == ""
    assert bad.stderr.splitlines() == ["error: num_images is 0; a set needs at least 1 picture"]


def test_module_needs_neither_torch_nor_matplotlib():
    code = "import sys, lgmpose.datasets.synthetic; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.strip() == "[]", result.stderr
