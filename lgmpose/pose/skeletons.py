"""Skeletons: the joints, how they are connected and mirrored, and their weights.

Three come with the package (COCO-17, MPII-16, LSP-14). Any other is read from the category of a COCO keypoint JSON.
Joint orders are those of the data sets, so joints need no re-ordering on their way in or out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lgmpose.errors import UserError, notice_once

__all__ = [
    "COCO", "LSP", "MPII", "SKELETONS", "Skeleton", "check_sigmas", "notice_unpaired", "side_of",
    "skeleton_from_category", "split_side", "unpaired_joints",
]  # fmt: skip

# COCO's OKS constants lie between 0.025 and 0.107, COCO-WholeBody's smallest is 0.006. Ten times larger or smaller ones
# make OKS 1, or 0, for any pose.
SMALLEST_SIGMA, LARGEST_SIGMA = 0.003, 0.2


@dataclass(frozen=True)
class Skeleton:
    """Names and structure of K joints.

    Attributes:
        name: short name, printed beside every figure.
        joint_names: K names, prefixed by ``left_`` or ``right_``.
        edges: pairs of joint indices to draw.
        flip_pairs: pairs of joint indices that a mirror swaps.
        oks_sigmas: K per-joint constants of OKS (COCO's "k_i / 2"), dimensionless.
        upper_body: joints of the upper body, for half-body augmentation.

    Raises:
        ValueError: a pair, edge or constant does not fit the list of joints.
    """

    name: str
    joint_names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    oks_sigmas: tuple[float, ...]
    upper_body: tuple[int, ...]

    def __post_init__(self):
        K, paired = len(self.joint_names), [joint for pair in self.flip_pairs for joint in pair]
        if len(self.oks_sigmas) != K:
            raise ValueError(f"{len(self.oks_sigmas)} sigmas for {K} keypoints")
        for field, joints in (
            ("skeleton", [joint for edge in self.edges for joint in edge]),
            ("flip_pairs", paired),
            ("upper_body", self.upper_body),
        ):
            if any(not 0 <= joint < K for joint in joints):
                raise ValueError(f"'{field}' has a joint that is not one of the {K}")
        if len(set(paired)) != len(paired):
            raise ValueError("'flip_pairs' has a joint twice")

    @property
    def num_keypoints(self) -> int:
        """Return K."""
        return len(self.joint_names)

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """Return, at index i, the joint that takes i's place in a mirrored image; it is its own inverse."""
        permutation = list(range(self.num_keypoints))
        for a, b in self.flip_pairs:
            permutation[a], permutation[b] = b, a
        return tuple(permutation)

    @property
    def limb_weights(self) -> tuple[float, ...]:
        """Return K weights in the loss, by name: limbs weigh more (HRNet's USE_DIFFERENT_JOINTS_WEIGHT)."""
        weights = {"elbow": 1.2, "knee": 1.2, "wrist": 1.5, "ankle": 1.5}
        return tuple(weights.get(name.rpartition("_")[2], 1.0) for name in self.joint_names)

    def index(self, joint_name: str) -> int:
        """Return the index of a joint. Raises ValueError if this skeleton has no joint of that name."""
        if joint_name not in self.joint_names:
            raise ValueError(f"skeleton {self.name} has no joint {joint_name!r}; it has {', '.join(self.joint_names)}")
        return self.joint_names.index(joint_name)

    @property
    def torso_diagonals(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Return the two hip-to-opposite-shoulder pairs that PCK@0.2 normalises by, or None without such joints."""
        names = ("left_hip", "right_shoulder", "right_hip", "left_shoulder")
        if not set(names) <= set(self.joint_names):
            return None
        a, b, c, d = (self.joint_names.index(name) for name in names)
        return (a, b), (c, d)

    @property
    def head_segment(self) -> tuple[int, int] | None:
        """Return (neck, head top), the segment that PCKh normalises by if there is no head box, or None."""
        for neck in ("neck", "upper_neck"):
            if neck in self.joint_names and "head_top" in self.joint_names:
                return self.joint_names.index(neck), self.joint_names.index("head_top")
        return None


# Words of a name: "LEFT-knee" → LEFT knee, "lHip" → l Hip, "toe1L" → toe1 L. "L1" stays one word: a vertebra, no side.
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+\d*|[A-Z]+\d*|\d+")
# How a word shows a side; the second pattern is tried after the first: "rear_left_paw" is a left one.
_SIDES = (
    re.compile(r"left|right|^(?:[lr]|lt|rt|lft|rgt)$"),
    re.compile(r"^[lr](?=ank|ear$|elb|eye|fin|foo|han|hee|hip|kne|sho|thu|toe|wri)"),  # "Lsho", "rankle", not "lip"
)


def split_side(name: str) -> tuple[str | None, str]:
    """Split a joint's name into its side and the rest, so that the two joints of a pair have the same rest.

    Returns:
        ``left``, ``right`` or None; and the name in lower case, in which a star stands for the side. For example,
        ``left_hip`` gives ``("left", "* hip")``, and ``hip.R`` gives ``("right", "hip *")``.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    for pattern in _SIDES:
        for i, word in enumerate(words):
            if found := pattern.search(word):
                words[i] = f"{word[: found.start()]} * {word[found.end() :]}"
                return {"l": "left", "r": "right"}[found[0][0]], " ".join(" ".join(words).split())
    return None, " ".join(words)


def side_of(name: str) -> str | None:
    """Return ``left`` or ``right`` by a joint's name; None if it shows no side."""
    return split_side(name)[0]


def _pairs_by_name(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Return the pairs of joints whose names differ in the side only, the one that comes first in the order first."""
    found: dict[str, dict[str, list[int]]] = {}
    for i, name in enumerate(names):
        side, rest = split_side(name)
        if side:
            found.setdefault(rest, {"left": [], "right": []})[side].append(i)
    pairs = (both["left"] + both["right"] for both in found.values() if len(both["left"]) == len(both["right"]) == 1)
    return tuple(sorted((min(pair), max(pair)) for pair in pairs))


def unpaired_joints(skeleton: Skeleton) -> tuple[str, ...]:
    """Return the joints whose names show a side, but that belong to no left/right pair."""
    paired = {joint for pair in skeleton.flip_pairs for joint in pair}
    return tuple(name for i, name in enumerate(skeleton.joint_names) if i not in paired and side_of(name))


_COCO_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip

COCO = Skeleton(
    name="coco-17",
    joint_names=_COCO_NAMES,
    edges=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    flip_pairs=_pairs_by_name(_COCO_NAMES),
    oks_sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
        0.089,
    ),
    upper_body=tuple(range(11)),
)  # fmt: skip

_MPII_NAMES = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip

# MPII and LSP publish no OKS constants. Joints that COCO has keep COCO's; trunk and neck joints take the hip's (COCO's
# largest, because their position is the least certain) and the head top the ear's. Only OKS on these skeletons uses
# them.
MPII = Skeleton(
    name="mpii-16",
    joint_names=_MPII_NAMES,
    edges=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12), (12, 7), (7, 13),
        (13, 14), (14, 15),
    ),
    flip_pairs=_pairs_by_name(_MPII_NAMES),
    oks_sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.107, 0.107, 0.107, 0.035, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062,
    ),
    upper_body=tuple(range(7, 16)),
)  # fmt: skip

_LSP_NAMES = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
)  # fmt: skip

LSP = Skeleton(
    name="lsp-14",
    joint_names=_LSP_NAMES,
    edges=(
        (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 12), (12, 9), (9, 10), (10, 11), (12, 13), (8, 2),
        (9, 3),
    ),
    flip_pairs=_pairs_by_name(_LSP_NAMES),
    oks_sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062, 0.107, 0.035,
    ),
    upper_body=tuple(range(6, 14)),
)  # fmt: skip

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO, MPII, LSP)}


def skeleton_from_category(category: dict, name: str | None = None) -> Skeleton:
    """Read a skeleton from one entry of a COCO JSON's ``categories``.

    ``keypoints`` gives the names and ``skeleton`` the edges, counted from 1 as in COCO. Left/right pairs are found by
    the names, such as ``left_hip``, ``hip.R``, ``LHip``, ``Lhip`` or ``kp_l_1``. Where names do not tell,
    ``flip_pairs`` lists the pairs of names. ``sigmas`` may give the OKS constants; without it, each joint gets 0.079,
    about the mean of COCO's body joints.

    Joints with COCO's names in its order are ``COCO``. One line on stderr says so if the entry has other sigmas.

    Args:
        category: the entry.
        name: the skeleton's name; by default, it is made from the name of the category.

    Raises:
        ValueError: names, edges, pairs or sigmas that do not fit each other.
    """
    names = category.get("keypoints")
    if not names or not isinstance(names, (list, tuple)):
        raise ValueError("the category lists no 'keypoints': a skeleton needs the joints' names")
    if not all(isinstance(joint, str) for joint in names) or len(set(names)) != len(names):
        raise ValueError("the category's 'keypoints' are not a list of different names")
    names = tuple(names)
    if names == COCO.joint_names:
        if category.get("sigmas") and tuple(category["sigmas"]) != COCO.oks_sigmas:
            notice_once("notice: joints named as COCO's are COCO's: the category's own sigmas are not used")
        return COCO
    index = {joint: i for i, joint in enumerate(names)}
    try:
        edges = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
        sigmas = tuple(float(s) for s in category.get("sigmas") or (0.079,) * len(names))
        given = [(index[a], index[b]) for a, b in category.get("flip_pairs") or ()]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the category's 'skeleton', 'sigmas' or 'flip_pairs' cannot be read ({error})") from error
    by_hand = {joint for pair in given for joint in pair}
    by_name = [pair for pair in _pairs_by_name(names) if not by_hand & set(pair)]
    lower = re.compile(r"hip|knee|ankle|foot|toe|heel|leg|pelvis", re.IGNORECASE)
    return Skeleton(
        name=name or f"{category.get('name') or 'custom'}-{len(names)}",
        joint_names=names,
        edges=edges,
        flip_pairs=tuple(sorted(by_name + given)),
        oks_sigmas=sigmas,
        upper_body=tuple(i for i, joint in enumerate(names) if not lower.search(joint)),
    )


def notice_unpaired(skeleton: Skeleton) -> None:
    """Print to stderr, once per process, which joints a mirrored image does not swap although it perhaps should.

    To be called where images are mirrored. It is no error: an object without sides has no pairs. But if a body's sides
    are not recognised, mirrored training images get wrong labels, and the flip test averages left with right.
    """
    if unpaired := unpaired_joints(skeleton):
        _notice(f"{skeleton.name}: no left/right partner found for {', '.join(unpaired)}")
    elif skeleton.num_keypoints > 1 and not skeleton.flip_pairs:
        _notice(f"{skeleton.name} has no left/right pairs")


def _notice(what: str) -> None:
    notice_once(
        f"notice: {what}. A mirrored picture does not swap these joints. If they have sides, name them left_… and "
        'right_… in the data\'s category, or list the pairs there: "flip_pairs": [["left_foot", "right_ankle"]]. Or '
        "do not mirror: --flip-prob 0, --no-flip-test"
    )


def check_sigmas(sigmas: Iterable[float], source: str) -> None:
    """Refuse OKS constants that make every pose right or wrong.

    Args:
        sigmas: K per-joint constants.
        source: where they come from, named in the error.

    Raises:
        UserError: One is not in [0.003, 0.2].
    """
    for sigma in sigmas:
        if not SMALLEST_SIGMA <= sigma <= LARGEST_SIGMA:  # also NaN
            raise UserError(
                f"{source}: the OKS constant (sigma) {sigma:g} is not between {SMALLEST_SIGMA} and {LARGEST_SIGMA}; "
                "COCO's lie between 0.025 and 0.107"
            )
