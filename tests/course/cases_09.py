"""Lesson 09: wrong versions that its proofs and its tasks reject."""

import numpy as np

from lgmpose.pose import geometry, skeletons

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    "coco box one pixel wider": ("left + w - 1)", "left + w)"),
    "coco box not padded": ("1.25 * (right - left)", "(right - left)"),
    "coco keypoints as three rows": (".reshape(-1, 3)", ".reshape(3, -1).T"),
    "mpii pixels counted from 0": ("np.array(joints)[:15] - 1", "np.array(joints)[:15]"),
    "mpii centre not moved down": ("+ 15 * 0.8 - 1]", "- 1]"),
    "mpii scale without room": ("[200 * 0.8 * 1.25] * 2", "[200 * 0.8] * 2"),
    "lspet junk joint used": ("joints_K3n[1:, :2, 0] - 1", "joints_K3n[:, :2, 0] - 1"),
    "lspet pixels counted from 0": ("joints_K3n[1:, :2, 0] - 1", "joints_K3n[1:, :2, 0]"),
    "H and W swapped": ("size_wh[1] * W / H)", "size_wh[1] * H / W)"),
    "rotated both ways": ("[np.sin(angle), -np.cos(angle)]", "[-np.sin(angle), -np.cos(angle)]"),
    "flip ignored": ("[0 if flip else W, H / 2]", "[W, H / 2]"),
    "two scales": ("H / 2 - W / 2]", "0]"),
    "shift forgotten": (" + matrix[:, 2]", ""),
    "matrix not inverted": ("invert_matrix(package)", "package"),
    "sides not swapped": ("if flip:  #", "if False:  #"),
    "another epoch's draws": ("((5, 0, index))", "((5, 1, index))"),
    "pixels mirrored": ("(image_hw[1], image_hw[0]))", "(image_hw[1], image_hw[0]))[:, ::-1]"),
    "every joint a left one": ('.replace("·", "right")', '.replace("·", "left")'),
}


def mirrored_about_another_axis(patch):
    right = geometry.crop_matrix

    def wrong(*args, **kwargs):
        matrix = right(*args, **kwargs)
        matrix[0, 2] -= kwargs.get("flip", False)
        return matrix

    patch.setattr(geometry, "crop_matrix", wrong)


def a_pair_forgotten(patch):
    patch.setitem(vars(skeletons.LSP), "flip_pairs", skeletons.LSP.flip_pairs[1:])


PACKAGE = [mirrored_about_another_axis, a_pair_forgotten]


def read_keypoints(flat, shape=(-1, 3), transpose=False):
    table = np.array(flat).reshape(shape)
    table = table.T if transpose else table
    return table[:, :2], table[:, 2]


def coco_box(bbox, image_hw, one=1, padding=1.25, last=1, cut_centre=True, cut_top=True, from_first=True):
    x, y, w, h = bbox
    H, W = image_hw
    left, top = max(0, x), max(0, y) if cut_top else y
    start = (left, top) if from_first else (x, y)
    right, bottom = min(W - last, start[0] + w - one), min(H - last, start[1] + h - one)
    centre = ((left + right) / 2, (top + bottom) / 2) if cut_centre else (x + w / 2, y + h / 2)
    return centre, (padding * (right - left), padding * (bottom - top))


def grow(w, h, image_hw, swap=False, again=False):
    H, W = image_hw[::-1] if swap else image_hw
    new_w = max(w, h * W / H)
    return new_w, max(h, (1.1 * new_w if again else w) * H / W)


def back(matrix, points_xy, transpose=True, first=True):
    inverse = np.linalg.inv(matrix[:, :2])
    inverse = inverse.T if transpose else inverse
    return (points_xy - matrix[:, 2]) @ inverse if first else points_xy @ inverse - matrix[:, 2]


def partners(names, third="#"):
    return [names.index(n.replace("left", third).replace("right", "left").replace(third, "right")) for n in names]


def outline(box_xywh, image_hw, rotation_deg, padding=1.25, shape=lambda H, W: W / H, sign=1, order=(0, 1, 2, 3)):
    x, y, w, h = box_xywh
    H, W = image_hw
    width = padding * max(w, h * shape(H, W))
    angle = sign * np.deg2rad(rotation_deg)
    right, down = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * width / W
    steps = np.array([[-W, -H], [W, -H], [W, H], [-W, H]]) / 2
    return (np.array([x + w / 2, y + h / 2]) + steps @ np.array([right, down]))[list(order)]


def half_body(keypoints_K2, visibility_K, upper, draw, limit=0.5, least=2, middle=np.mean, labelled_only=True, few=2):
    labelled = np.flatnonzero(visibility_K > (0 if labelled_only else -1))
    up, low = [k for k in labelled if k in upper], [k for k in labelled if k not in upper]
    chosen = up if draw < limit and len(up) > least else low if len(low) > least else up
    if len(chosen) < few:
        return None, None
    chosen_xy = keypoints_K2[chosen]
    return middle(chosen_xy, axis=0), 1.5 * np.ptp(chosen_xy, axis=0)


def middle_of_extent(points_xy, axis):
    return (points_xy.max(axis=axis) + points_xy.min(axis=axis)) / 2


RIGHT = {
    "09.1": [read_keypoints],
    "09.2": [coco_box, lambda *args: np.array(coco_box(*args))],
    "09.3": [(200, 120, 112)],
    "09.4": [grow, lambda *args: np.array(grow(*args))],
    "09.5": [(40, 16)],
    "09.6": [back],
    "09.7": [19, 20.5],
    "09.8": [partners, lambda names: np.array(partners(names))],
    "09.9": [outline],
    "09.10": [half_body],
}
BLANK = {
    "09.1": [lambda flat: (..., ...)],
    "09.2": [lambda bbox, hw: (..., ...)],
    "09.4": [lambda w, h, hw: (..., ...)],
}
WRONG = {
    "09.1": {
        "three rows": lambda flat: read_keypoints(flat, (3, -1), True),
        "one list": lambda flat: np.array(flat).reshape(-1, 3),
        "exchanged": lambda flat: read_keypoints(flat)[::-1],
        "x alone": lambda flat: (np.array(flat)[0::3], np.array(flat)[2::3]),
    },
    "09.2": {
        "columns counted": lambda *args: coco_box(*args, one=0),
        "not padded": lambda *args: coco_box(*args, padding=1),
        "cut a pixel late": lambda *args: coco_box(*args, last=0),
        "centre of the uncut box": lambda *args: coco_box(*args, cut_centre=False),
        "H for W": lambda bbox, hw: coco_box(bbox, hw[::-1]),
        "top not cut": lambda *args: coco_box(*args, cut_top=False),
        "counted from x, not from first": lambda *args: coco_box(*args, from_first=False),
    },
    "09.3": {
        "counted from 1": (200, 121, 113),
        "centre not moved": (200, 120, 100),
        "not padded": (160, 120, 112),
        "moved up": (200, 120, 88),
        "a side alone": 200,
    },
    "09.4": {
        "H and W swapped": lambda *args: grow(*args, swap=True),
        "from the new width": lambda *args: grow(*args, again=True),
        "shorter side fitted": lambda w, h, hw: (w, w * hw[0] / hw[1]) if w > h else (h * hw[1] / hw[0], h),
        "stretched": lambda w, h, hw: (h * hw[1] / hw[0], h),
        "shrunk": lambda w, h, hw: (min(w, h * hw[1] / hw[0]), min(h, w * hw[0] / hw[1])),
    },
    "09.5": {"above means larger": (40, 48), "from the corner": (16, -16), "not made smaller": (74, -18), "one": 40},
    "09.6": {
        "not transposed": lambda *args: back(*args, transpose=False),
        "constants last": lambda *args: back(*args, first=False),
        "there again": lambda m, p: p @ m[:, :2].T + m[:, 2],
        "the package's": lambda m, p: geometry.transform_points(geometry.invert_matrix(m), p),
    },
    "09.7": {"of the rotated ones": 32, "none": 0, "not beyond": 68, "a share": 0.19, "all rotated ones": 60},
    "09.8": {
        "replaced twice": lambda names: [
            names.index(name.replace("left", "right").replace("right", "left")) for name in names
        ],
        "themselves": lambda names: list(range(len(names))),
        "names": lambda names: [names[partner] for partner in partners(names)],
        "reversed": lambda names: list(range(len(names)))[::-1],
    },
    "09.9": {
        "not padded": lambda *args: outline(*args, padding=1.0),
        "H and W swapped": lambda *args: outline(*args, shape=lambda H, W: H / W),
        "rotated the other way": lambda *args: outline(*args, sign=-1),
        "corners in the other order": lambda *args: outline(*args, order=(0, 3, 2, 1)),
    },
    "09.10": {
        "always the upper half": lambda *args: half_body(*args, limit=9),
        "middle of the extent": lambda *args: half_body(*args, middle=middle_of_extent),
        "unlabelled joints too": lambda *args: half_body(*args, labelled_only=False),
        "two are enough": lambda *args: half_body(*args, least=1),
        "three are needed": lambda *args: half_body(*args, few=3),
        "one is enough": lambda *args: half_body(*args, few=1),
        "one None for both": lambda *args: None if half_body(*args)[0] is None else half_body(*args),
        "a draw below 0": lambda *args: half_body(*args, limit=0),
    },
}
