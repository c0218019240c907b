"""Skeletons: which joints there are, how they are connected, mirrored and weighed.

Three come with the package (COCO-17, MPII-16, LSP-14); any other is read from the category of a COCO keypoint JSON.
Joint orders are those of the data sets themselves, so an array of joints needs no re-ordering on its way in or out.
"""

from __future__ import annotations

import functools
import re
import sys
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "COCO", "LSP", "MPII", "SKELETONS", "Skeleton", "notice_unpaired", "side_of", "skeleton_from_category",
    "skeleton_from_dict", "skeleton_to_dict",
]  # fmt: skip


@dataclass(frozen=True)
class Skeleton:
    """Names and structure of K joints.

    Attributes:
        name: short name, as printed beside every figure.
        joint_names: K names, ``left_``/``right_`` prefixed.
        edges: pairs of joint indices to draw.
        flip_pairs: pairs of joint indices that a mirror swaps.
        oks_sigmas: K per-joint constants of OKS (COCO's "k_i / 2"), dimensionless.
        upper_body: joints of the upper body, for half-body augmentation.
    """

    name: str
    joint_names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    oks_sigmas: tuple[float, ...]
    upper_body: tuple[int, ...]

    @property
    def num_keypoints(self) -> int:
        return len(self.joint_names)

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """Index i holds the joint that takes i's place in a mirrored picture; its own inverse."""
        permutation = list(range(self.num_keypoints))
        for a, b in self.flip_pairs:
            permutation[a], permutation[b] = b, a
        return tuple(permutation)

    @property
    def limb_weights(self) -> tuple[float, ...]:
        """K weights in the loss, more for what is hard (HRNet's USE_DIFFERENT_JOINTS_WEIGHT): by the joints' names."""
        weights = {"elbow": 1.2, "knee": 1.2, "wrist": 1.5, "ankle": 1.5}
        return tuple(weights.get(name.rpartition("_")[2], 1.0) for name in self.joint_names)

    def index(self, joint_name: str) -> int:
        """Index of a joint. Raises ValueError when this skeleton has no joint of that name."""
        if joint_name not in self.joint_names:
            raise ValueError(f"skeleton {self.name} has no joint {joint_name!r}; it has {', '.join(self.joint_names)}")
        return self.joint_names.index(joint_name)

    @property
    def torso_diagonals(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """The two hip-to-opposite-shoulder pairs that PCK@0.2 normalises by, or None without hips and shoulders."""
        names = ("left_hip", "right_shoulder", "right_hip", "left_shoulder")
        if not set(names) <= set(self.joint_names):
            return None
        a, b, c, d = (self.joint_names.index(name) for name in names)
        return (a, b), (c, d)

    @property
    def head_segment(self) -> tuple[int, int] | None:
        """(neck, head top), the segment that PCKh normalises by when there is no head box, or None."""
        for neck in ("neck", "upper_neck"):
            if neck in self.joint_names and "head_top" in self.joint_names:
                return self.joint_names.index(neck), self.joint_names.index("head_top")
        return None


# A lone letter is a side only at an end of the name, and set off from it: "lip" is not the left one of "rip".
_SIDE = re.compile(
    r"(?i:left|right|^[lr](?=[\W_])|(?<=[\W_])[lr]$)"  # … l_hip, hip.R
    r"|^[lr](?=[A-Z])|^[LR](?=[A-Z][a-z])|(?<=[a-z0-9])[LR]$"  # lHip, LHip, hipL
)
_OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}


def side_of(name: str) -> str | None:
    """``left`` or ``right`` by a joint's name; None where it has no side."""
    found = _SIDE.search(name)
    return {"l": "left", "r": "right"}[found[0][0].lower()] if found else None


def _pairs_by_name(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Left/right pairs found by swapping the side in the name, whichever comes first in the joint order first."""
    pairs = []
    for i, name in enumerate(names):
        swapped = _SIDE.sub(lambda m: _OTHER_SIDE[m[0].lower()], name).lower()
        lowered = [other.lower() for other in names]
        if swapped != name.lower() and swapped in lowered and lowered.index(swapped) > i:
            pairs.append((i, lowered.index(swapped)))
    return tuple(pairs)


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

# MPII and LSP publish no OKS constants. A joint that COCO has too keeps COCO's; trunk and neck joints take the hip's
# (the widest, as their place is the vaguest) and the head top the ear's. Only OKS on these skeletons uses them.
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
    """Reads a skeleton from one entry of a COCO JSON's ``categories``.

    ``keypoints`` gives the names and ``skeleton`` the edges (1-based, as COCO writes them). Left/right pairs are found
    by name: ``left`` and ``right`` anywhere in it, or a lone letter as in ``l_hip``, ``hip.R``, ``LHip``. ``sigmas``
    may give the OKS constants; without it each joint gets 0.079, the mean over COCO's body joints being of that size.

    Raises:
        ValueError: no joint names or not one for each joint, an edge outside the joints, or a wrong number of sigmas.
    """
    names = tuple(category.get("keypoints") or ())
    if not names:
        raise ValueError("the category lists no 'keypoints': a skeleton needs the joints' names")
    if not all(isinstance(joint, str) for joint in names) or len(set(names)) != len(names):
        raise ValueError("the category's 'keypoints' are not a list of different names")
    if names == COCO.joint_names:
        return COCO
    edges = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
    if any(not 0 <= joint < len(names) for edge in edges for joint in edge):
        raise ValueError(f"the category's 'skeleton' names a joint outside 1..{len(names)}")
    sigmas = tuple(float(s) for s in category.get("sigmas") or (0.079,) * len(names))
    if len(sigmas) != len(names):
        raise ValueError(f"the category has {len(sigmas)} sigmas for {len(names)} keypoints")
    lower = re.compile(r"hip|knee|ankle|foot|toe|heel|leg|pelvis", re.IGNORECASE)
    return Skeleton(
        name=name or f"{category.get('name', 'custom')}-{len(names)}",
        joint_names=names,
        edges=edges,
        flip_pairs=_pairs_by_name(names),
        oks_sigmas=sigmas,
        upper_body=tuple(i for i, joint in enumerate(names) if not lower.search(joint)),
    )


def notice_unpaired(skeleton: Skeleton) -> None:
    """Says on stderr, once a process, that mirroring swaps no joints of this skeleton; to be called where it mirrors.

    Not an error: an object without sides has no pairs. But where the names of a body's sides are not recognised, half
    of the training pictures get wrong labels, and the flip test averages left with right.
    """
    if skeleton.num_keypoints > 1 and not skeleton.flip_pairs:
        _say_once(
            f"notice: {skeleton.name} has no left/right pairs, so a mirrored picture swaps no joints. Where its joints "
            "do have sides, name them left_… and right_… (or l_…, r_…) in the data's category, or do not mirror "
            "(--flip-prob 0, --no-flip-test)"
        )


@functools.cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)


def skeleton_to_dict(skeleton: Skeleton) -> dict[str, Any]:
    """All of a skeleton, for JSON."""
    return asdict(skeleton)


def skeleton_from_dict(values: dict[str, Any]) -> Skeleton:
    """The skeleton of a card; one of the package's own is returned as the very object."""
    skeleton = Skeleton(
        name=values["name"],
        joint_names=tuple(values["joint_names"]),
        edges=tuple(tuple(edge) for edge in values["edges"]),
        flip_pairs=tuple(tuple(pair) for pair in values["flip_pairs"]),
        oks_sigmas=tuple(values["oks_sigmas"]),
        upper_body=tuple(values["upper_body"]),
    )
    # Its name alone tells little: own data may call their category "lsp", too.
    own = SKELETONS.get(skeleton.name)
    return own if own == skeleton else skeleton
