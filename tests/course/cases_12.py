"""Lesson 12: wrong versions that its proofs and its exercises reject."""

import math

import numpy as np

from lgmpose.course.checks.lesson12 import stored_growth

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'not sorted': ('values = sorted(values)', 'values = list(values)'),
    'no straight line between': ('(place - below) * (values[above] - values[below])', '0'),
    'other percentiles': ('/ 100 * (len(values) - 1)', '/ 100 * len(values) - 0.5'),
    '90th for the 95th': ('for p in (25, 50, 75, 95)', 'for p in (25, 50, 75, 90)'),
    'sigmas for quartiles': ('for p in (25, 50, 75, 95)', 'for p in (16, 50, 84, 95)'),
    'half the range': ('"iqr_ms": high - low', '"iqr_ms": (high - low) / 2'),
    'mean for median': ('"median_ms": median', '"median_ms": sum(times_ms) / len(times_ms)'),
    'FPS of the mean': ('"fps": 1000 / median', '"fps": 1000 * len(times_ms) / sum(times_ms)'),
    'ratio turned round': ('[a / b for a, b in zip', '[b / a for a, b in zip'),
    'pairs torn apart': (
        'zip(times_a, times_b, strict=True)',
        'zip(*(sorted(filter(None, t)) for t in [times_a, times_b]))',
    ),
    'quartiles exchanged': ('for p in (50, 25, 75))', 'for p in (50, 75, 25))'),
    'always the same order': ('        shuffle(order)\n', ''),
    'seconds for milliseconds': ('times_N[i] = 1e3 *', 'times_N[i] ='),
    'clock never set back within a round': (
        '            start = clock()\n',
        '            start = clock() if i == order[0] else start\n',
    ),
    'two runs timed as one': ('            calls[i]()\n', '            calls[i](), calls[i]()\n'),
    'the wrong network called the new one': (
        'paired_ratio(times_RN[:, 1], times_RN[:, 0])',
        'paired_ratio(times_RN[:, 0], times_RN[:, 1])',
    ),
}


def ratio_interval(times_a, times_b, *, tail=0.025, shift=0, ratio=lambda a, b: a / b):
    ratios = sorted(ratio(a, b) for a, b in zip(times_a, times_b, strict=True) if a is not None and b is not None)
    n, k = len(ratios), 0
    while sum(math.comb(n, heads) for heads in range(k + 1)) / 2**n <= tail:
        k += 1
    k = max(0, k + shift)
    return (ratios[k - 1], ratios[n - k]) if k else (-math.inf, math.inf)


def quartiles(times_a, times_b):
    ratios = [a / b for a, b in zip(times_a, times_b, strict=True) if a is not None and b is not None]
    return tuple(np.percentile(ratios, [25, 75]).tolist())


def not_paired(times_a, times_b):
    times_a, times_b = ([t for t in times if t is not None] for times in (times_a, times_b))
    return ratio_interval(*zip(*zip(times_a, times_b, strict=False), strict=True))


OWN, OTHER = stored_growth()
RIGHT = {
    "12.1": [ratio_interval, lambda *args: np.array(ratio_interval(*args))],
    "12.2": [(OWN, OTHER), (1.2 * OWN, 0.8 * OTHER)],
}
WRONG = {
    "12.1": {
        "quartiles": quartiles,
        "90 per cent": lambda *args: ratio_interval(*args, tail=0.05),
        "one rank too wide": lambda *args: ratio_interval(*args, shift=-1),
        "one rank too narrow": lambda *args: ratio_interval(*args, shift=1),
        "ratio inverted": lambda *args: ratio_interval(*args, ratio=lambda a, b: b / a),
        "rounds without a time break the pairs": not_paired,
    },
    "12.2": {"no growth": (1.0, 1.0), "exchanged": (OTHER, OWN), "second too large": (OWN, 1.5 * OTHER),
             "first too small": (0.6 * OWN, OTHER), "nan": (OWN, math.nan), "one number": 2.25},
}  # fmt: skip
