"""Lesson 01: wrong versions that its proofs and its tasks reject."""

import numpy as np

from lgmpose.pose import codecs

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    "centre truncated, not rounded": ("np.floor(x_true + 0.5)", "np.floor(x_true)"),
    "Gaussian without its 2": ("(2 * sigma**2))", "sigma**2)"),
    "patch not cut": ('"standard": (True, True)', '"standard": (True, False)'),
    "exact centre for a rounded one": ('"standard": (True, True)', '"standard": (False, True)'),
    "axes swapped": ("(x - x_top) ** 2 + (y - y_top) ** 2", "(x - y_top) ** 2 + (y - x_top) ** 2"),
    "UDP with pixels counted": ("(W - 1) / (w - 1)", "W / w"),
    "no logarithm": ("np.log(np.maximum(", "(np.maximum("),
    "no blur": ("smooth_HW = blur_by_hand(heatmap_HW, sigma)", "smooth_HW = heatmap_HW"),
    "mixed difference's sign": ("xy = (same - other) / 4", "xy = (other - same) / 4"),
    "second difference over one pixel": (
        "x + 2] - 2 * log_HW[y, x] + log_HW[y, x - 2]) / 4",
        "x + 1] - 2 * log_HW[y, x] + log_HW[y, x - 1])",
    ),
    "step the wrong way": ("np.array([x, y]) - np.linalg", "np.array([x, y]) + np.linalg"),
    "gradient's axes swapped": ("np.array([gx, gy]),", "np.array([gy, gx]),"),
    "shifted to the left": ("max(x - 1, 0) if shift", "min(x + 1, W - 1) if shift"),
    "not shifted": ("max(x - 1, 0) if shift else x", "x"),
    "left and right not swapped": ("= right, left  #", "= left, right  #"),
}


def dark_decodes_like_standard(patch):
    patch.setattr(
        codecs.DarkCodec, "decode", lambda self, maps: codecs.StandardCodec(self.image_hw, self.sigma).decode(maps)
    )


def standard_encodes_like_dark(patch):
    right = codecs.StandardCodec.encode
    patch.setattr(
        codecs.StandardCodec, "encode", lambda self, *args: right(codecs.DarkCodec(self.image_hw, self.sigma), *args)
    )


def sides_not_swapped(patch):
    patch.setattr(codecs, "merge_flipped", lambda maps, mirrored, skeleton, *, shift: (maps + mirrored[..., ::-1]) / 2)


PACKAGE = [dark_decodes_like_standard, standard_encodes_like_dark, sides_not_swapped]


def bump(x_true, width, sigma, *, power=2, divisor=2):
    return np.exp(-(np.abs(np.arange(width) - x_true) ** power) / (divisor * sigma**2))


def quarter_offset(heatmap, *, step=0.25, sign=np.sign, swap=False):
    y, x = divmod(int(heatmap.argmax()), heatmap.shape[1])
    x_moved = x + step * sign(heatmap[y, x + 1] - heatmap[y, x - 1])
    y_moved = y + step * sign(heatmap[y + 1, x] - heatmap[y - 1, x])
    return (y_moved, x_moved) if swap else (x_moved, y_moved)


def offset_from_peak(left, middle, right, *, log=np.log, sign=-1, half=2):
    left, middle, right = log(left), log(middle), log(right)
    return sign * (right - left) / half / (right - 2 * middle + left)


def gaussian_at_peak(heatmap, log=np.log, spread=lambda curvature: (-1 / curvature) ** 0.5, swap=False, sign=-1):
    y, x = divmod(int(heatmap.argmax()), heatmap.shape[1])
    logs, results = log(heatmap), []
    for (left, middle, right), start in ((logs[y, x - 1 : x + 2], x), (logs[y - 1 : y + 2, x], y)):
        curvature = right - 2 * middle + left
        results.append((start + sign * (right - left) / 2 / curvature, spread(curvature)))
    (x, sigma_x), (y, sigma_y) = results[::-1] if swap else results
    return x, y, sigma_x, sigma_y


RIGHT = {
    "01.1": [bump, lambda x_true, width, sigma: list(bump(x_true, width, sigma))],
    "01.2": [1.4422, 1.44],
    "01.3": [quarter_offset, lambda heatmap: np.array(quarter_offset(heatmap))],
    "01.4": [0, 0.0],
    "01.5": [offset_from_peak],
    "01.6": [(3, 1), (3.0, 1.0)],
    "01.7": [-0.25],
    "01.8": [lambda width, stride: (width * stride - 1 - stride * np.arange(width))[::-1]],
    "01.9": [gaussian_at_peak, lambda heatmap: np.array(gaussian_at_peak(heatmap))],
    "01.10": [(3.5, 0.5)],
}
WRONG = {
    "01.1": {
        "distance not squared": lambda x_true, width, sigma: bump(x_true, width, sigma, power=1),
        "without its 2": lambda x_true, width, sigma: bump(x_true, width, sigma, divisor=1),
        "multiplied by sigma": lambda x, width, sigma: np.exp(-((np.arange(width) - x) ** 2) / 2 * sigma**2),
        "pixels from 1": lambda x_true, width, sigma: bump(x_true - 1, width, sigma),
        "sum 1 instead of peak 1": lambda *arguments: bump(*arguments) / bump(*arguments).sum(),
    },
    "01.2": {"heatmap pixels": 0.36, "squared": 0.52, "sum of both": 2.0, "x alone": 1.2},
    "01.3": {
        "half a pixel": lambda heatmap: quarter_offset(heatmap, step=0.5),
        "away from the higher": lambda heatmap: quarter_offset(heatmap, step=-0.25),
        "(y, x)": lambda heatmap: quarter_offset(heatmap, swap=True),
        "moves also where equal": lambda heatmap: quarter_offset(heatmap, sign=lambda d: 1 if d > 1e-12 else -1),
        "argmax alone": lambda heatmap: quarter_offset(heatmap, step=0),
    },
    "01.4": {"half": 0.76, "a quarter pixel": 1.0, "everything": 1.53},
    "01.5": {
        "no logarithm": lambda *values: offset_from_peak(*values, log=lambda value: value),
        "step the wrong way": lambda *values: offset_from_peak(*values, sign=1),
        "slope not halved": lambda *values: offset_from_peak(*values, half=1),
        "quarter offset": lambda left, middle, right: 0.25 * np.sign(right - left),
    },
    "01.6": {"heatmap pixels": (0.375, 0.125), "stride 4's": (1, 0), "moved one pixel": (3, 2), "exchanged": (1, 3),
             "one number": 3},
    "01.7": {"not divided": -1.0, "sign lost": 0.25, "the width": 2, "divided twice": -0.0625},
    "01.8": {
        "not turned back": lambda width, stride: width * stride - 1 - stride * np.arange(width),
        "pixels from 1": lambda width, stride: (width * stride - stride * np.arange(width))[::-1],
        "heatmap pixels mirrored": lambda width, stride: stride * (width - 1 - np.arange(width))[::-1],
        "not mirrored": lambda width, stride: stride * np.arange(width),
    },
    "01.9": {
        "no logarithm": lambda heatmap: gaussian_at_peak(heatmap, log=lambda x: x),
        "the variance": lambda heatmap: gaussian_at_peak(heatmap, spread=lambda curvature: -1 / curvature),
        "half the variance": lambda heatmap: gaussian_at_peak(heatmap, spread=lambda c: (-0.5 / c) ** 0.5),
        "step the wrong way": lambda heatmap: gaussian_at_peak(heatmap, sign=1),
        "axes swapped": lambda heatmap: gaussian_at_peak(heatmap, swap=True),
        "transposed": lambda heatmap: gaussian_at_peak(heatmap.T),
        "centre alone": lambda heatmap: gaussian_at_peak(heatmap)[:2],
    },
    "01.10": {"stride 4's": (1.5, 0.5), "as for UDP": (3.0, 1.0), "exchanged": (0.5, 3.5), "not halved": (7, 1),
              "one number": 3.5},
}  # fmt: skip
