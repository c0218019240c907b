"""Lesson 14: wrong versions that its proofs and its tasks reject."""

import numpy as np

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'hidden joints as visible': ('2 - (n in hidden)', '1 + (n in hidden)'),
    'joints in alphabetical order': ('"keypoints": NAMES, "skeleton"', '"keypoints": sorted(NAMES), "skeleton"'),
    'y before x': ('[(*xy[n],', '[(*xy[n][::-1],'),
    'pictures exchanged': ('"image_id": p["image"]["id"]', '"image_id": persons[i - 1]["image"]["id"]'),
    'points of the next person': ('xy, hidden = p["points"],', 'xy, hidden = persons[i - 1]["points"],'),
}  # fmt: skip


def mirror_pairs(names):
    partners = [name.replace("left_", "right_") for name in names]
    return [
        (i, names.index(partner))
        for i, (name, partner) in enumerate(zip(names, partners, strict=True))
        if name.startswith("left_") and partner in names
    ]


def coco_keypoints(points, hidden, names, *, zeros=True, seen=2, guessed=1):
    flat = []
    for name in names:
        if name in points:
            flat += [*points[name], guessed if name in hidden else seen]
        elif zeros:
            flat += [0, 0, 0]
    return flat


def box_around(points_xyv, margin, *, least=1, sides=2, shift=1, corners=False):
    xy = points_xyv[points_xyv[:, 2] >= least, :2]
    low, size = xy.min(axis=0), xy.max(axis=0) - xy.min(axis=0)
    box = (*(low - shift * margin * size), *((1 + sides * margin) * size))
    return (*box[:2], box[0] + box[2], box[1] + box[3]) if corners else box


def share_right(found, true, labelled, height, limit, *, below="labelled", axis=2, within=np.less_equal):
    distance = np.linalg.norm(found - true, axis=axis)
    right = within(distance, limit * height[:, None]) & labelled
    return 100 * right.sum() / (labelled.sum() if below == "labelled" else labelled.size)


def find_swapped(labels, found, pairs, *, every=True, votes=False, power=1, better=np.less):
    swapped = labels.copy()
    for left, right in pairs if every else pairs[:1]:
        swapped[:, [left, right]] = labels[:, [right, left]]
    joints = [joint for pair in pairs for joint in pair]
    before, after = (np.linalg.norm(x[:, joints] - found[:, joints], axis=2) ** power for x in (labels, swapped))
    fits = (after < before).any(axis=1) if votes else better(after.sum(axis=1), before.sum(axis=1))
    return np.flatnonzero(fits).tolist()


def exchanged_in_place(labels, found, pairs):
    swapped = labels.copy()
    for left, right in pairs:  # the second assignment copies what the first one has just written
        swapped[:, left], swapped[:, right] = swapped[:, right], swapped[:, left]
    before, after = (np.linalg.norm(x - found, axis=2).sum(axis=1) for x in (labels, swapped))
    return np.flatnonzero(after < before).tolist()


RIGHT = {
    "14.1": [mirror_pairs],
    "14.2": [coco_keypoints],
    "14.3": [box_around, lambda *args: np.array(box_around(*args))],
    "14.4": ["b"],
    "14.5": [(40, 64)],
    "14.6": [share_right],
    "14.7": [4.08, 4.2],
    "14.8": [find_swapped],
    "14.9": [(5**0.5, 2)],
}
WRONG = {
    "14.1": {
        "names": lambda names: [(names[a], names[b]) for a, b in mirror_pairs(names)],
        "right first": lambda names: [(b, a) for a, b in mirror_pairs(names)],
        "both directions": lambda names: [*mirror_pairs(names), *((b, a) for a, b in mirror_pairs(names))],
        "neighbours": lambda names: [(i, i + 1) for i, name in enumerate(names) if name.startswith("left_")],
        "left anywhere in the name": lambda names: [
            (i, names.index(name.replace("left", "right")))
            for i, name in enumerate(names)
            if "left" in name and name.replace("left", "right") in names
        ],
        "in the order of the right joints": lambda names: sorted(mirror_pairs(names), key=lambda pair: pair[1]),
        "partner missing (crashes)": lambda names: [
            (i, names.index(name.replace("left_", "right_")))
            for i, name in enumerate(names)
            if name.startswith("left_")
        ],
    },
    "14.2": {
        "missing joints left out": lambda *args: coco_keypoints(*args, zeros=False),
        "1 and 0": lambda *args: coco_keypoints(*args, seen=1, guessed=0),
        "all visible": lambda *args: coco_keypoints(*args, guessed=2),
        "order of the dict": lambda points, hidden, names: coco_keypoints(points, hidden, list(points)),
        "missing key (crashes)": lambda points, hidden, names: [
            number for n in names for number in (*points[n], 1 if n in hidden else 2)
        ],
    },
    "14.3": {
        "zeros count": lambda *args: box_around(*args, least=0),
        "visible joints alone": lambda *args: box_around(*args, least=2),
        "corner cut at the picture": lambda *args: tuple(np.maximum(box_around(*args), 0)),
        "margin on one side": lambda *args: box_around(*args, sides=1, shift=0),
        "corner not moved": lambda *args: box_around(*args, shift=0),
        "corners": lambda *args: box_around(*args, corners=True),
        "pixels": lambda points, margin: tuple(np.array(box_around(points, 0)) + margin),
    },
    "14.4": {"fine": "a", "too low": "c", "a number": 60},
    "14.5": {"one epoch": (10, 16), "no batches": (640, 64), "exchanged": (64, 40), "one number": 40},
    "14.6": {
        "all joints below": lambda *args: share_right(*args, below="all"),
        "a share": lambda *args: share_right(*args) / 100,
        "below the limit": lambda *args: share_right(*args, within=np.less),
        "always a tenth": lambda *args: share_right(*args[:4], 0.1),
        "pixels": lambda f, t, s, height, limit: share_right(f, t, s, np.ones(len(height)), limit),
        "wrong axis (crashes)": lambda *args: share_right(*args, axis=0),
        "height of the next person": lambda f, t, s, height, limit: share_right(f, t, s, np.roll(height, 1), limit),
    },
    "14.7": {"a byte each": 1.02, "bits": 32.6, "half precision": 2.04},
    "14.8": {
        "first pair only": lambda *args: find_swapped(*args, every=False),
        "one better joint is enough": lambda *args: find_swapped(*args, votes=True),
        "squared distances": lambda *args: find_swapped(*args, power=2),
        "equally good is enough": lambda *args: find_swapped(*args, better=np.less_equal),
        "views exchanged": exchanged_in_place,
        "the others": lambda labels, found, pairs: [
            m for m in range(len(labels)) if m not in find_swapped(labels, found, pairs)
        ],
        "nobody": lambda labels, found, pairs: [],
    },
    "14.9": {"as the persons": (5, 4), "inverted": (5**-0.5, 0.5), "no difference": (1, 1), "one number": 2.2},
}
