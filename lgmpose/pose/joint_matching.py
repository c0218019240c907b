"""Which joints of two skeletons are the same one, by their names: for weights and for data sets with other joints."""

from __future__ import annotations

from lgmpose.pose.skeletons import Skeleton, split_side

__all__ = ["SAME_JOINTS", "joint_keys", "match_joints"]

# Names without their side that data sets give to nearly the same place. Each group is one joint.
SAME_JOINTS = (
    ("neck", "upper neck", "neck base"),
    ("head top", "top head", "top of head", "headtop", "head tip"),
    ("pelvis", "mid hip", "midhip", "hip center", "hip centre", "center hip"),
    ("thorax", "chest", "sternum"),
)
_SYNONYMS = {name: group[0] for group in SAME_JOINTS for name in group}
Key = tuple[str | None, str]  # side, and the name without it


def joint_keys(skeleton: Skeleton) -> tuple[Key, ...]:
    """Return what identifies each joint: its side and the rest of its name, in one spelling.

    "LShoulder" and "left-shoulder" get one key, and so do the names of a group of ``SAME_JOINTS``. If two joints of one
    skeleton would get the same key, both get their own names as keys.
    """
    keys = []
    for name in skeleton.joint_names:
        side, rest = split_side(name)
        rest = " ".join(word for word in rest.split() if word != "*")
        keys.append((side, _SYNONYMS.get(rest, rest)))
    own = ((None, name) for name in skeleton.joint_names)
    return tuple(key if keys.count(key) == 1 else name for key, name in zip(keys, own, strict=True))


def match_joints(skeleton: Skeleton, other: Skeleton, *, mirror: bool = False) -> dict[int, int]:
    """Return which joint of ``other`` is the same as each joint of ``skeleton``: index → index.

    Args:
        skeleton: the joints to match. Those without a counterpart are not in the result.
        other: the joints to match them with.
        mirror: match a joint with the one of the other side instead.
    """
    index = {key: i for i, key in enumerate(joint_keys(other))}
    index = {(None, name): i for i, name in enumerate(other.joint_names)} | index
    matched = {}
    for i, (side, rest) in enumerate(joint_keys(skeleton)):
        if mirror and side is None:
            continue
        wanted = {"left": "right", "right": "left"}[side] if mirror and side else side
        if (wanted, rest) in index:
            matched[i] = index[wanted, rest]
    return matched
