"""Lesson 01: wrong versions that its proofs and its exercises reject."""

import numpy as np

from lgmpose.pose import codecs

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'centre truncated, not rounded': ('np.floor(x_true + 0.5)', 'np.floor(x_true)'),
    'Gaussian without its 2': ('(2 * sigma**2))', 'sigma**2)'),
    'patch not cut': ('"standard": (True, True)', '"standard": (True, False)'),
    'exact centre for a rounded one': ('"standard": (True, True)', '"standard": (False, True)'),
    'axes swapped': ('(x - x_top) ** 2 + (y - y_top) ** 2', '(x - y_top) ** 2 + (y - x_top) ** 2'),
    'UDP with pixels counted': ('(W - 1) / (w - 1)', 'W / w'),
    'no logarithm': ('np.log(np.maximum(', '(np.maximum('),
    'no blur': ('smooth_HW = blur_by_hand(heatmap_HW, sigma)', 'smooth_HW = heatmap_HW'),
    "mixed difference's sign": ('corners / 4], [corners / 4', '-corners / 4], [-corners / 4'),
    'second difference over one pixel': (
        'x + 2] - 2 * log_HW[y, x] + log_HW[y, x - 2]) / 4',
        'x + 1] - 2 * log_HW[y, x] + log_HW[y, x - 1])',
    ),
    'step the wrong way': ('np.array([x, y]) - np.linalg', 'np.array([x, y]) + np.linalg'),
    "gradient's axes swapped": ('hessian, [gx, gy]', 'hessian, [gy, gx]'),
    'shifted to the left': ('max(x - 1, 0) if shift', 'min(x + 1, W - 1) if shift'),
    'not shifted': ('max(x - 1, 0) if shift else x', 'x'),
    'left and right not swapped': ('= right, left  #', '= left, right  #'),
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


def gaussian_at_peak(heatmap, log=np.log, spread=lambda curvature: (-1 / curvature) ** 0.5, swap=False, sign=-1):
    y, x = divmod(int(heatmap.argmax()), heatmap.shape[1])
    logs, results = log(heatmap), []
    for (left, middle, right), start in ((logs[y, x - 1 : x + 2], x), (logs[y - 1 : y + 2, x], y)):
        curvature = right - 2 * middle + left
        results.append((start + sign * (right - left) / 2 / curvature, spread(curvature)))
    (x, sigma_x), (y, sigma_y) = results[::-1] if swap else results
    return x, y, sigma_x, sigma_y


RIGHT = {"01.1": [gaussian_at_peak, lambda heatmap: np.array(gaussian_at_peak(heatmap))], "01.2": [(3.5, 0.5)]}
WRONG = {
    "01.1": {
        "no logarithm": lambda heatmap: gaussian_at_peak(heatmap, log=lambda x: x),
        "the variance": lambda heatmap: gaussian_at_peak(heatmap, spread=lambda curvature: -1 / curvature),
        "half the variance": lambda heatmap: gaussian_at_peak(heatmap, spread=lambda c: (-0.5 / c) ** 0.5),
        "step the wrong way": lambda heatmap: gaussian_at_peak(heatmap, sign=1),
        "axes swapped": lambda heatmap: gaussian_at_peak(heatmap, swap=True),
        "transposed": lambda heatmap: gaussian_at_peak(heatmap.T),
        "centre alone": lambda heatmap: gaussian_at_peak(heatmap)[:2],
    },
    "01.2": {"stride 4's": (1.5, 0.5), "as for UDP": (3.0, 1.0), "exchanged": (0.5, 3.5), "not halved": (7, 1),
             "one number": 3.5},
}  # fmt: skip
