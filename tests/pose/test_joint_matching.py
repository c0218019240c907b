"""Joints of two skeletons, matched by name, by synonym and by the name of the other side."""

from __future__ import annotations

from lgmpose.pose.joint_matching import SAME_JOINTS, joint_keys, match_joints
from lgmpose.pose.skeletons import COCO, LSP, MPII, Skeleton, skeleton_from_category


def skeleton(*names: str) -> Skeleton:
    return skeleton_from_category({"keypoints": list(names)})


def by_name(ours: Skeleton, theirs: Skeleton, **options) -> dict[str, str]:
    matched = match_joints(ours, theirs, **options)
    return {ours.joint_names[i]: theirs.joint_names[j] for i, j in matched.items()}


def test_spellings_of_one_joint():
    ours = skeleton("LShoulder", "hip.R", "nose tip", "left-wrist")
    assert by_name(ours, COCO) == {"LShoulder": "left_shoulder", "hip.R": "right_hip", "left-wrist": "left_wrist"}


def test_data_sets_share_the_joints_that_have_several_names():
    assert by_name(MPII, LSP) == {name: name for name in LSP.joint_names if name != "neck"} | {"upper_neck": "neck"}
    assert by_name(skeleton("MidHip", "chest"), MPII) == {"MidHip": "pelvis", "chest": "thorax"}
    assert set(by_name(COCO, LSP)) == {name for name in COCO.joint_names[5:]}
    names = [name for group in SAME_JOINTS for name in group]
    assert len(set(names)) == len(names)


def test_the_other_side():
    ours = skeleton("left_knee", "right_knee", "neck")
    assert by_name(ours, skeleton("right_knee", "neck"), mirror=True) == {"left_knee": "right_knee"}


def test_joints_of_one_skeleton_stay_apart():
    both = skeleton("neck", "upper_neck", "left_hip")
    assert len(set(joint_keys(both))) == 3
    assert by_name(both, both) == {name: name for name in both.joint_names}
    assert by_name(LSP, both) == {"left_hip": "left_hip", "neck": "neck"}
