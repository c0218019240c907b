"""Skeletons: against the protocol's pairs, pycocotools' constants, and what a COCO JSON declares."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from lgmpose.cli import main
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError, notice_once
from lgmpose.pose.skeletons import (
    COCO,
    LSP,
    MPII,
    SKELETONS,
    check_sigmas,
    notice_unpaired,
    side_of,
    skeleton_from_category,
    unpaired_joints,
)

ANIMAL = {
    "name": "cat",
    "keypoints": ["nose", "paw_left", "tail", "paw_right", "left_hip"],
    "skeleton": [[1, 2], [1, 4], [5, 3]],
}


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_structure(skeleton):
    k = skeleton.num_keypoints
    assert len(set(skeleton.joint_names)) == len(skeleton.oks_sigmas) == k == int(skeleton.name.split("-")[1])
    assert all(0 <= joint < k for edge in skeleton.edges for joint in edge)
    reached = {0}  # every joint hangs together with the first
    for _ in range(k):
        reached |= {joint for edge in skeleton.edges if reached & set(edge) for joint in edge}
    assert reached == set(range(k))
    assert [skeleton.index(name) for name in skeleton.joint_names] == list(range(k))
    with pytest.raises(ValueError, match="third_elbow"):
        skeleton.index("third_elbow")


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_a_mirror_swaps_sides_and_is_its_own_inverse(skeleton):
    order = np.array(skeleton.flip_permutation)
    np.testing.assert_array_equal(order[order], np.arange(skeleton.num_keypoints))
    for name, mirrored in zip(skeleton.joint_names, order, strict=True):
        side = {"left": "right", "right": "left"}.get(name.split("_")[0])
        expected = name if side is None else f"{side}_{name.split('_', 1)[1]}"
        assert skeleton.joint_names[mirrored] == expected
    # Mirrored edges are edges again, else a drawn skeleton would change with the side.
    edges = {frozenset(edge) for edge in skeleton.edges}
    assert {frozenset(int(order[joint]) for joint in edge) for edge in skeleton.edges} == edges


def test_pairs_are_the_protocols():
    assert COCO.flip_pairs == tuple((i, i + 1) for i in range(1, 17, 2))
    assert set(MPII.flip_pairs) == {(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)}
    assert set(LSP.flip_pairs) == {(0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)}


def test_upper_bodies_are_the_protocols():
    assert COCO.upper_body == tuple(range(11))
    assert MPII.upper_body == tuple(range(7, 16))
    assert {LSP.joint_names[i] for i in LSP.upper_body} == {
        "neck", "head_top", *(f"{s}_{j}" for s in ("left", "right") for j in ("wrist", "elbow", "shoulder")),
    }  # fmt: skip


def test_oks_constants_are_pycocotools():
    np.testing.assert_allclose(COCO.oks_sigmas, Params(iouType="keypoints").kpt_oks_sigmas, rtol=1e-15)
    for other in (MPII, LSP):  # a joint that COCO has keeps COCO's
        for name, sigma in zip(other.joint_names, other.oks_sigmas, strict=True):
            if name in COCO.joint_names:
                assert sigma == COCO.oks_sigmas[COCO.index(name)]


def test_limb_weights_are_hrnets():
    assert COCO.limb_weights == (1, 1, 1, 1, 1, 1, 1, 1.2, 1.2, 1.5, 1.5, 1, 1, 1.2, 1.2, 1.5, 1.5)
    assert MPII.limb_weights == (1.5, 1.2, 1, 1, 1.2, 1.5, 1, 1, 1, 1, 1.5, 1.2, 1, 1, 1.2, 1.5)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_torso_joins_each_hip_with_the_opposite_shoulder(skeleton):
    for hip, shoulder in skeleton.torso_diagonals:
        a, b = skeleton.joint_names[hip], skeleton.joint_names[shoulder]
        assert a.endswith("_hip") and b.endswith("_shoulder") and a.split("_")[0] != b.split("_")[0]
    assert len({joint for pair in skeleton.torso_diagonals for joint in pair}) == 4


def test_head_segments():
    assert LSP.head_segment == (12, 13)
    assert MPII.head_segment == (8, 9)
    assert COCO.head_segment is None


def test_lower_body_parts_are_not_in_the_upper_body():
    lower = ["left_hip", "kneeR", "Ankle_l", "right_foot", "big_toe", "heel", "left_upper_leg", "Pelvis"]
    assert skeleton_from_category({"keypoints": ["nose", *lower, "wrist"]}).upper_body == (0, 9)


@pytest.mark.parametrize(
    "stated, notices",
    [({}, 0), ({"sigmas": list(COCO.oks_sigmas)}, 0), ({"skeleton": [[1, 2]]}, 0), ({"sigmas": [0.05] * 17}, 1)],
)
def test_cocos_joints_are_coco_and_own_sigmas_are_not_used(stated, notices, capsys):
    notice_once.cache_clear()
    assert skeleton_from_category({"name": "person", "keypoints": list(COCO.joint_names)} | stated) is COCO
    printed = capsys.readouterr().err
    assert printed.count("\n") == printed.count("sigmas") == notices


def test_category_of_the_coco_sample_is_coco(shared_data):
    content = json.loads((shared_data / "coco_sample" / "person_keypoints_sample.json").read_text())
    category = next(category for category in content["categories"] if category["name"] == "person")
    assert skeleton_from_category(category) is COCO
    assert tuple((a - 1, b - 1) for a, b in category["skeleton"]) == COCO.edges


def test_category_of_another_animal():
    skeleton = skeleton_from_category(ANIMAL | {"sigmas": [0.1, 0.2, 0.3, 0.2, 0.1]})
    assert skeleton.name == "cat-5" and skeleton.joint_names == tuple(ANIMAL["keypoints"])
    assert skeleton.edges == ((0, 1), (0, 3), (4, 2))
    assert skeleton.flip_pairs == ((1, 3),) and skeleton.flip_permutation == (0, 3, 2, 1, 4)  # a lone left_hip stays
    assert skeleton.oks_sigmas == (0.1, 0.2, 0.3, 0.2, 0.1)
    assert skeleton.upper_body == (0, 1, 2, 3)
    assert skeleton.torso_diagonals is None and skeleton.head_segment is None
    assert skeleton_from_category(ANIMAL, "mine").name == "mine"
    assert skeleton_from_category({"keypoints": ["dot"]}).edges == ()


@pytest.mark.parametrize(
    "left, right",
    [
        ("l_shoulder", "r_shoulder"), ("L_Shoulder", "R_Shoulder"), ("shoulder_l", "shoulder_r"),
        ("shoulder.L", "shoulder.R"), ("l-eye", "r-eye"), ("Eye L", "Eye R"), ("LShoulder", "RShoulder"),
        ("lShoulder", "rShoulder"), ("shoulderL", "shoulderR"), ("toe1L", "toe1R"), ("LeftEye", "RightEye"),
        ("eye left", "eye right"), ("leftear", "rightear"), ("Lsho", "Rsho"), ("LSHO", "RSHO"), ("lankle", "rankle"),
        ("lear", "rear"), ("kp_l_1", "kp_r_1"), ("LEFT-knee", "right_knee"), ("leftear", "Right Ear"),
        ("hip (left)", "hip (right)"), ("lt_hip", "rt_hip"), ("rear_left_paw", "rear_right_paw"),
    ],
)  # fmt: skip
def test_sides_are_recognised(left, right):
    skeleton = skeleton_from_category({"keypoints": [right, "nose", left]})
    assert skeleton.flip_pairs == ((0, 2),) and skeleton.flip_permutation == (2, 1, 0)
    assert unpaired_joints(skeleton) == ()
    assert [side_of(name) for name in (left, "nose", right)] == ["left", None, "right"]
    for names in (["nose", left], [right, "nose"]):  # one side alone is no pair, and is named
        skeleton = skeleton_from_category({"keypoints": names})
        assert skeleton.flip_pairs == () and unpaired_joints(skeleton) == (({left, right} & set(names)).pop(),)


@pytest.mark.parametrize(
    "names",
    [
        ("rib", "lib"), ("lip", "rip"), ("LIP", "RIP"), ("Lip", "Rip"), ("tail", "tair"), ("L1", "R1"),
        ("leg", "reg"), ("light", "tight"),
    ],
)  # fmt: skip
def test_letters_that_are_no_sides(names):
    skeleton = skeleton_from_category({"keypoints": names})
    assert skeleton.flip_pairs == () == unpaired_joints(skeleton)
    assert [side_of(name) for name in names] == [None, None]


@pytest.mark.parametrize("names, unpaired", [
    (["left_shoulder", "rigth_shoulder", "left_hip", "right_hip"], ("left_shoulder",)),
    (["left_foot", "right_ankle", "l_eye", "r_eye"], ("left_foot", "right_ankle")),
    (["left_knee", "LEFT knee", "right_knee"], ("left_knee", "LEFT knee", "right_knee")),  # which of the two?
    (["left_knee", "LEFT knee", "r_knee", "R knee"], ("left_knee", "LEFT knee", "r_knee", "R knee")),
    (list(COCO.joint_names[:-1]), ("left_ankle",)),
])  # fmt: skip
def test_joints_without_a_partner_are_named(names, unpaired, capsys):
    skeleton = skeleton_from_category({"keypoints": names, "name": "custom"})
    assert unpaired_joints(skeleton) == unpaired
    notice_once.cache_clear()
    for _ in range(2):  # said once
        notice_unpaired(skeleton)
    message = capsys.readouterr().err
    assert message.count("notice") == message.count("\n") == 1
    assert skeleton.name in message and ", ".join(unpaired) in message and "flip_pairs" in message
    assert not any(name in message for name in set(names) - set(unpaired))


def test_pairs_may_be_given_by_hand(capsys):
    names = ["left_foot", "nose", "right_ankle", "left_eye", "a", "right_eye", "b"]
    skeleton = skeleton_from_category({"keypoints": names, "flip_pairs": [["right_ankle", "left_foot"], ["a", "b"]]})
    assert {frozenset(pair) for pair in skeleton.flip_pairs} == {frozenset(p) for p in ((0, 2), (3, 5), (4, 6))}
    assert skeleton.flip_permutation == (2, 1, 0, 5, 6, 3, 4) and unpaired_joints(skeleton) == ()
    other = skeleton_from_category({"keypoints": names, "flip_pairs": [["left_eye", "left_foot"]]})
    assert other.flip_pairs == ((3, 0),) and set(unpaired_joints(other)) == {"right_ankle", "right_eye"}
    notice_once.cache_clear()
    notice_unpaired(skeleton)
    notice_unpaired(COCO)
    notice_unpaired(skeleton_from_category({"keypoints": ["dot"]}))  # a single joint needs no pair
    assert not capsys.readouterr().err
    notice_unpaired(skeleton_from_category({"keypoints": ["tip", "end"], "name": "stick"}))
    assert "stick-2" in capsys.readouterr().err


@pytest.mark.slow
def test_mirroring_without_pairs_is_said_once_where_a_run_mirrors(tmp_path, capsys):
    file = make_synthetic(tmp_path / "data", 6, image_hw=(64, 96), progress=False)
    content = json.loads(file.read_text())
    content["categories"][0] |= {"name": "star", "keypoints": [f"tip {i}" for i in range(17)]}
    file.write_text(json.dumps(content))
    data = ["--data", f"synthetic:{tmp_path / 'data'}", "--device", "cpu", "--workers", "0"]
    options = ["--batch-size", "2", "--epochs", "2", "--image-hw", "64", "32"]

    def notices(*arguments):
        notice_once.cache_clear()
        assert main(list(map(str, arguments))) == 0
        return capsys.readouterr().err.count("notice: star-17")

    assert notices("train", *data, *options, "--out", tmp_path / "run") == 1
    assert notices("train", *data, *options, "--out", tmp_path / "a", "--no-flip-test") == 1
    assert notices("train", *data, *options, "--out", tmp_path / "b", "--flip-prob", 0) == 1
    assert notices("train", *data, *options, "--out", tmp_path / "c", "--flip-prob", 0, "--no-flip-test") == 0
    weights = ["--weights", tmp_path / "run" / "best.safetensors"]
    predict = ["predict", tmp_path / "data" / "images" / "000000.jpg", "--out", tmp_path / "out"]
    for command in (["eval", *data, *weights], [*predict, *weights]):
        assert notices(*command) == 1 and notices(*command, "--no-flip-test") == 0
    assert notices(*predict) == 0


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"keypoints": []}, "keypoints"),
        ({"keypoints": "abc"}, "keypoints"),
        ({"keypoints": [1, 2, 3, 4, 5]}, "keypoints"),
        ({"keypoints": ["a", "b", "c", "d", "a"]}, "keypoints"),
        ({"skeleton": [[0, 1]]}, "skeleton"),
        ({"skeleton": [[1, 6]]}, "skeleton"),
        ({"skeleton": [[1, 2, 3]]}, "skeleton"),
        ({"skeleton": [[1, float("inf")]]}, "skeleton"),
        ({"skeleton": 7}, "skeleton"),
        ({"sigmas": [0.1]}, "1 sigmas"),
        ({"sigmas": ["a"] * 5}, "sigmas"),
        ({"flip_pairs": [["nose", "ear"]]}, "flip_pairs.*ear"),
        ({"flip_pairs": [["nose", "nose"]]}, "flip_pairs"),
        ({"flip_pairs": [["nose", "tail"], ["tail", "left_hip"]]}, "flip_pairs"),
        ({"flip_pairs": [[["nose"], "tail"]]}, "flip_pairs"),
    ],
)
def test_bad_categories_are_refused(change, key):
    with pytest.raises(ValueError, match=key):
        skeleton_from_category(ANIMAL | change)


@pytest.mark.parametrize("wrong", [0, -0.05, float("nan"), float("inf"), 0.25, 0.0025])
def test_constants_that_make_every_pose_right_or_wrong_are_refused(wrong):
    for skeleton in (COCO, MPII, LSP):
        check_sigmas(skeleton.oks_sigmas, skeleton.name)
        with pytest.raises(UserError, match="place"):
            check_sigmas([*skeleton.oks_sigmas[1:], wrong], "place")
        with pytest.raises(UserError):
            check_sigmas([10 * sigma for sigma in skeleton.oks_sigmas], skeleton.name)
    check_sigmas([0.2, 0.003], "the limits")
