"""Start a network from trained weights with other joints: the trunk is copied, and the rows of the joints by name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lgmpose.pose.joint_matching import match_joints
from lgmpose.pose.skeletons import Skeleton
from lgmpose.zoo.catalogue import build, config_of

__all__ = ["Transfer", "joint_axes", "transfer_weights"]


@dataclass(frozen=True)
class Transfer:
    """What was taken over.

    Attributes:
        trunk: number of tensors that belong to no joint; all are copied.
        matched: joint → the joint of the weights whose row it starts from.
        mirrored: the same for joints that start from the row of the other side.
        fresh: joints that start from random rows.
    """

    trunk: int
    matched: dict[str, str]
    mirrored: dict[str, str]
    fresh: tuple[str, ...]

    def __str__(self) -> str:
        pairs = [new if new == old else f"{new} from {old}" for new, old in self.matched.items()]
        parts = {
            f"{len(self.matched)} joints": pairs,
            "from the other side": [f"{new} from {old}" for new, old in self.mirrored.items()],
            "joints from random rows": list(self.fresh),
        }
        shown = [f"{name}: {', '.join(joints)}" for name, joints in parts.items() if joints]
        return "; ".join([f"taken over: the trunk ({self.trunk} tensors)", *shown])


def joint_axes(net: nn.Module) -> dict[str, int]:
    """Return the tensors that have one row per joint, and along which axis.

    They are found by comparing the network with one that has one more joint, so this works for every network.
    """
    config = config_of(net)
    with torch.device("meta"):  # needs no memory and no random numbers
        other = build(config.with_(num_keypoints=config.num_keypoints + 1)).state_dict()
    axes = {}
    for name, value in net.state_dict().items():
        different = [axis for axis, (a, b) in enumerate(zip(value.shape, other[name].shape, strict=True)) if a != b]
        if different:
            axes[name] = different[0]
    return axes


@torch.no_grad()
def transfer_weights(net: nn.Module, skeleton: Skeleton, source: nn.Module, source_skeleton: Skeleton) -> Transfer:
    """Copy a trained network's weights into one that may have other joints.

    A joint takes the row of the joint with its name, else of the same joint on the other side; see
    ``joint_matching.SAME_JOINTS`` for names that count as one. ``net`` is changed in place. The two configs differ in
    the number of joints only.
    """
    matched = match_joints(skeleton, source_skeleton)
    mirrored = match_joints(skeleton, source_skeleton, mirror=True)
    rows = mirrored | matched
    to_rows, from_rows = torch.tensor([*rows], dtype=torch.int64), torch.tensor([*rows.values()], dtype=torch.int64)
    axes, theirs = joint_axes(net), source.state_dict()
    for name, value in net.state_dict().items():
        if name not in axes:
            value.copy_(theirs[name])
        else:
            value.index_copy_(axes[name], to_rows, theirs[name].index_select(axes[name], from_rows))
    ours, others = skeleton.joint_names, source_skeleton.joint_names
    return Transfer(
        trunk=len(theirs) - len(axes),
        matched={ours[i]: others[j] for i, j in matched.items()},
        mirrored={ours[i]: others[j] for i, j in mirrored.items() if i not in matched},
        fresh=tuple(name for i, name in enumerate(ours) if i not in rows),
    )
