"""Weights for other joints: which rows are copied, from which joint, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from training_tools import TINY

from lgmpose.network.config import VARIANTS
from lgmpose.peers import PEERS
from lgmpose.pose.skeletons import COCO, LSP, MPII, skeleton_from_category
from lgmpose.zoo.catalogue import create_model
from lgmpose.zoo.transfer import joint_axes, transfer_weights


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", TINY)


def networks(name: str, skeleton, source_skeleton):
    torch.manual_seed(1)
    net = create_model(name, num_keypoints=skeleton.num_keypoints, image_hw=(64, 64))
    return net, create_model(name, num_keypoints=source_skeleton.num_keypoints, image_hw=(64, 64))


@pytest.mark.parametrize(
    "name",
    ["tiny", *(pytest.param(n, marks=pytest.mark.slow) for n in ("hourglass-8", "tokenpose-b"))],
)
def test_rows_go_to_their_joints_and_all_else_is_copied(name):
    net, source = networks(name, MPII, LSP)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    taken = transfer_weights(net, MPII, source, LSP)
    axes = joint_axes(net)
    assert taken.trunk == len(before) - len(axes) and taken.fresh == ("pelvis", "thorax") and not taken.mirrored
    assert taken.matched["upper_neck"] == "neck" and len(taken.matched) == 14
    for key, value in net.state_dict().items():
        old = source.state_dict()[key]
        if key not in axes:
            assert torch.equal(value, old)
            continue
        for i, joint in enumerate(MPII.joint_names):
            expected = before[key].select(axes[key], i)
            if joint in taken.matched:
                expected = old.select(axes[key], LSP.index(taken.matched[joint]))
            assert torch.equal(value.select(axes[key], i), expected), (key, joint)


def test_a_joint_starts_from_the_other_side_where_its_own_is_missing():
    right = skeleton_from_category({"keypoints": ["right_knee", "right_hand", "tail"]})
    both = skeleton_from_category({"keypoints": ["tail_tip", "left_knee", "right_knee", "left_hand"]})
    net, source = networks("tiny", both, right)
    taken = transfer_weights(net, both, source, right)
    assert taken.matched == {"right_knee": "right_knee"} and taken.fresh == ("tail_tip",)
    assert taken.mirrored == {"left_knee": "right_knee", "left_hand": "right_hand"}
    assert torch.equal(net.head.weight[1:], source.head.weight[[0, 0, 1]])
    assert all(joint in str(taken) for joint in both.joint_names)


def test_no_joint_in_common():
    tail = skeleton_from_category({"keypoints": ["tail"]})
    net, source = networks("tiny", tail, COCO)
    head = net.head.weight.clone()
    assert transfer_weights(net, tail, source, COCO).fresh == ("tail",)
    assert torch.equal(net.head.weight, head) and torch.equal(net.stem[0].weight, source.stem[0].weight)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*VARIANTS, *PEERS])
def test_every_network_has_rows_of_joints(name):
    with torch.device("meta"):
        net = create_model(name, num_keypoints=5)
    axes = joint_axes(net)
    assert axes and all(net.state_dict()[key].shape[axis] == 5 for key, axis in axes.items())
