"""Lesson 00: wrong versions that its proof and its exercises reject."""

import numpy as np

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'half a pixel': ('0.25 * np.sign(heatmap_HW[row, ', '0.5 * np.sign(heatmap_HW[row, '),
    'away': ('row + 1, column] - heatmap_HW[row - 1', 'row - 1, column] - heatmap_HW[row + 1'),
    'axes swapped': ('[4 * x, 4 * y]', '[4 * y, 4 * x]'),
}


def sharpness(heatmap_HW, *, reach=2, clip=True, keep_inside=True):
    mass_HW = np.clip(heatmap_HW, 0, None) if clip else heatmap_HW
    row, column = np.unravel_index(heatmap_HW.argmax(), heatmap_HW.shape)
    top, left = (max(0, row - reach), max(0, column - reach)) if keep_inside else (row - reach, column - reach)
    return mass_HW[top : row + reach + 1, left : column + reach + 1].sum() / mass_HW.sum()


RIGHT = {"00.1": [sharpness]}
WRONG = {
    "00.1": {
        "a smaller square": lambda heatmap_HW: sharpness(heatmap_HW, reach=1),
        "negative mass counted": lambda heatmap_HW: sharpness(heatmap_HW, clip=False),
        "slices that wrap around": lambda heatmap_HW: sharpness(heatmap_HW, keep_inside=False),
    },
    "00.2": {"text": "many", "two numbers": (7, 7)},
}
