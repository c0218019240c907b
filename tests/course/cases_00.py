"""Lesson 00: wrong versions that its proofs and its tasks reject."""

import numpy as np

import lgmpose.pose.geometry as geometry

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'half a pixel': ('0.25 * np.sign(heatmap_HW[row, ', '0.5 * np.sign(heatmap_HW[row, '),
    'away': ('row + 1, column] - heatmap_HW[row - 1', 'row - 1, column] - heatmap_HW[row + 1'),
    'axes swapped': ('[4 * x, 4 * y]', '[4 * y, 4 * x]'),
    'the mirrored crop': ('heatmaps_BKHW = net(input_BCHW)', 'heatmaps_BKHW = net(input_BCHW.flip(3))'),
    'crop pixels called picture pixels': ('transform_points(invert_matrix(matrix), crop_xy)', 'crop_xy'),
}  # fmt: skip


def matrix_off_by_a_pixel(patch):
    right = geometry.invert_matrix
    patch.setattr(geometry, "invert_matrix", lambda matrix: right(matrix) + np.array([[0, 0, 1.0], [0, 0, 0]]))


PACKAGE = [matrix_off_by_a_pixel]


def brightest(heatmap_HW):
    row, column = divmod(int(heatmap_HW.argmax()), heatmap_HW.shape[1])
    return column, row


def back_to_picture(crop_xy, corner_xy, scale):
    return corner_xy + crop_xy / scale


def person_score(scores):
    trusted = scores[scores > 0.2]
    return trusted.mean() if len(trusted) else 0.0


def found(predicted_K2, true_K2, visible_K, torso, *, share=0.2, keep=np.less_equal):
    error_K = np.linalg.norm(predicted_K2 - true_K2, axis=1)
    return keep(error_K[visible_K], share * torso).mean()


def sharpness(heatmap_HW, *, reach=2, clip=True, keep_inside=True):
    mass_HW = np.clip(heatmap_HW, 0, None) if clip else heatmap_HW
    row, column = np.unravel_index(heatmap_HW.argmax(), heatmap_HW.shape)
    top, left = (max(0, row - reach), max(0, column - reach)) if keep_inside else (row - reach, column - reach)
    return mass_HW[top : row + reach + 1, left : column + reach + 1].sum() / mass_HW.sum()


RIGHT = {
    "00.1": ["left"],
    "00.2": [brightest, lambda heatmap_HW: np.array(brightest(heatmap_HW))],
    "00.3": [(13, 9), (13.0, 9.0)],
    "00.4": [back_to_picture, lambda *arguments: tuple(back_to_picture(*arguments))],
    "00.5": [(1, 17, 64, 48)],
    "00.6": [person_score],
    "00.7": [32],
    "00.8": [4.22, 4.2, 4.25],
    "00.9": [found],
    "00.10": [sharpness],
}
WRONG = {
    "00.1": {"the reader's own side": "right", "a number": 1, "a sentence": "on the left"},
    "00.2": {
        "row and column exchanged": lambda heatmap_HW: brightest(heatmap_HW)[::-1],
        "divided by the rows": lambda heatmap_HW: divmod(int(heatmap_HW.argmax()), heatmap_HW.shape[0])[::-1],
        "the flat number": lambda heatmap_HW: int(heatmap_HW.argmax()),
        "the row of the largest sum": lambda heatmap_HW: (heatmap_HW.max(0).argmax(), heatmap_HW.sum(1).argmax()),
        "the column of the largest sum": lambda heatmap_HW: (heatmap_HW.sum(0).argmax(), heatmap_HW.max(1).argmax()),
        "the value": lambda heatmap_HW: heatmap_HW.max(),
        "the largest size": lambda heatmap_HW: brightest(abs(heatmap_HW.T)),
    },
    "00.3": {
        "no quarter": (12, 8), "not times 4": (3.25, 2.25), "half a pixel": (14, 10), "rows first": (9, 13),
        "away from the higher neighbour": (11, 7),
    },
    "00.4": {
        "not undone in reverse order": lambda crop_xy, corner_xy, scale: (crop_xy + corner_xy) / scale,
        "multiplied again": lambda crop_xy, corner_xy, scale: corner_xy + crop_xy * scale,
        "corner subtracted": lambda crop_xy, corner_xy, scale: crop_xy / scale - corner_xy,
        "the way in": lambda crop_xy, corner_xy, scale: (crop_xy - corner_xy) * scale,
    },
    "00.5": {
        "columns first": (1, 17, 48, 64), "full size": (1, 17, 256, 192), "colours for joints": (1, 3, 64, 48),
        "joints last": (1, 64, 48, 17), "no batch": (17, 64, 48),
    },
    "00.6": {
        "all joints": lambda scores: scores.mean(),
        "at least 0.2": lambda scores: scores[scores >= 0.2].mean() if (scores >= 0.2).any() else 0.0,
        "nothing above": lambda scores: scores[scores > 0.2].mean(),
        "divided by all": lambda scores: scores[scores > 0.2].sum() / len(scores),
        "forgets the return": lambda scores: print(end="") or None,
    },
    "00.7": {"the map's rows": 8, "the heatmaps' stride": 4, "pixels, not rows": 1024, "steps": 5},
    "00.8": {"one byte each": 1.05, "two bytes each": 2.1, "eight bytes each": 8.4, "bytes": 4_219_716, "bits": 33.8,
             "the other network": 4.086},
    "00.9": {
        "all joints": lambda p, t, v, torso: found(p, t, np.ones(len(v), bool), torso),
        "divided by K": lambda p, t, v, torso: found(p, t, v, torso) * v.mean(),
        "strictly smaller": lambda p, t, v, torso: found(p, t, v, torso, keep=np.less),
        "a torso": lambda p, t, v, torso: found(p, t, v, torso, share=1.0),
        "x and y apart": lambda p, t, v, torso: (abs(p - t)[v] <= 0.2 * torso).mean(),
        "a count": lambda p, t, v, torso: found(p, t, v, torso) * v.sum(),
    },
    "00.10": {
        "a smaller square": lambda heatmap_HW: sharpness(heatmap_HW, reach=1),
        "negative mass counted": lambda heatmap_HW: sharpness(heatmap_HW, clip=False),
        "slices that wrap around": lambda heatmap_HW: sharpness(heatmap_HW, keep_inside=False),
    },
}  # fmt: skip
