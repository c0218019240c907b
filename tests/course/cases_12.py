"""Lesson 12: wrong versions that its proofs and its tasks reject."""

import math

import numpy as np

from lgmpose.course.checks.lesson12 import stored_growth

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'not sorted': ('values = sorted(values)', 'values = list(values)'),
    'no straight line between': ('(place - below) * (values[above] - values[below])', '0'),
    'other percentiles': ('/ 100 * (len(values) - 1)', '/ 100 * len(values) - 0.5'),
    '90th for the 95th': ('for p in (25, 50, 75, 95)', 'for p in (25, 50, 75, 90)'),
    'half the range': ('"iqr_ms": high - low', '"iqr_ms": (high - low) / 2'),
    'mean for median': ('"median_ms": median', '"median_ms": sum(clean) / len(clean)'),
    'FPS of the mean': ('"fps": 1000 / median', '"fps": 1000 * len(clean) / sum(clean)'),
    'ratio turned round': ('[a / b for a, b in pairs', '[b / a for a, b in pairs'),
    'pairs torn apart': (
        'pairs = zip(times_a, times_b, strict=True)',
        'pairs = zip(*(sorted(filter(None, t)) for t in [times_a, times_b]))',
    ),
    'quartiles exchanged': ('for p in (50, 25, 75))', 'for p in (50, 75, 25))'),
    'always the same order': ('        shuffle(order)\n', ''),
    'seconds for milliseconds': ('times_Q[i] = 1e3 *', 'times_Q[i] ='),
    'clock never set back within a round': (
        '            start = clock()\n',
        '            start = clock() if i == order[0] else start\n',
    ),
    'two runs timed as one': ('            calls[i]()\n', '            calls[i](), calls[i]()\n'),
    'the wrong network called the new one': (
        'paired_ratio(times_TQ[:, 1], times_TQ[:, 0])',
        'paired_ratio(times_TQ[:, 0], times_TQ[:, 1])',
    ),
}  # fmt: skip


def ratios_of(times_a, times_b):
    return [a / b for a, b in zip(times_a, times_b, strict=True) if a is not None and b is not None]


def fair_ratio(times_a, times_b):
    return float(np.median(ratios_of(times_a, times_b)))


def one_round(calls, order, clock, *, scale=1e3, append=False, once=False):
    times_ms, start = [None] * len(calls), clock()
    for place, i in enumerate(order):
        start = start if once else clock()
        calls[i]()
        times_ms[place if append else i] = scale * (clock() - start)
    return times_ms


def agreed(first, second):
    return {
        name for name in first.keys() & second.keys()
        if min(first[name][0], second[name][0]) > 1 or max(first[name][1], second[name][1]) < 1
    }  # fmt: skip


def ratio_interval(times_a, times_b, *, tail=0.025, shift=0, ratio=lambda a, b: a / b):
    ratios = sorted(ratio(a, b) for a, b in zip(times_a, times_b, strict=True) if a is not None and b is not None)
    n, k = len(ratios), 0
    while sum(math.comb(n, heads) for heads in range(k + 1)) / 2**n <= tail:
        k += 1
    k = max(0, k + shift)
    return (ratios[k - 1], ratios[n - k]) if k else (-math.inf, math.inf)


def not_paired(times_a, times_b):
    times_a, times_b = ([t for t in times if t is not None] for times in (times_a, times_b))
    return ratio_interval(*zip(*zip(times_a, times_b, strict=False), strict=True))


OWN, OTHER = stored_growth()
RIGHT = {
    "12.1": ["c"],
    "12.2": [fair_ratio],
    "12.3": [17.5],
    "12.4": [one_round, lambda *args: np.array(one_round(*args))],
    "12.5": [0.6144, 0.61],
    "12.6": ["a"],
    "12.7": [agreed],
    "12.8": [ratio_interval, lambda *args: np.array(ratio_interval(*args))],
    "12.9": [(OWN, OTHER), (2.2, 1.37)],
}
WRONG = {
    "12.1": {"as in truth": "a", "a little": "b", "a number": 1.06},
    "12.2": {
        "ratio of the means": lambda a, b: (
            np.mean([t for t in a if t is not None]) / np.mean([t for t in b if t is not None])
        ),
        "ratio of the medians": lambda a, b: (
            np.median([t for t in a if t is not None]) / np.median([t for t in b if t is not None])
        ),
        "mean of the ratios": lambda a, b: np.mean(ratios_of(a, b)),
        "upper of the two in the middle": lambda a, b: sorted(ratios_of(a, b))[len(ratios_of(a, b)) // 2],
        "inverted": lambda a, b: 1 / fair_ratio(a, b),
        "gaps forgotten (crashes)": lambda a, b: np.median([x / y for x, y in zip(a, b, strict=True)]),
    },
    "12.3": {"the middle of two": 15.0, "the lower one": 10, "quarter of the range": 27.5, "quarter of the way": 12.5},
    "12.4": {
        "seconds": lambda *args: one_round(*args, scale=1),
        "in the order of running": lambda *args: one_round(*args, append=True),
        "clock read once": lambda *args: one_round(*args, once=True),
        "order ignored, and added up": lambda calls, order, clock: [sum(one_round(calls, order, clock))],
        "order ignored": lambda calls, order, clock: one_round(calls, range(len(calls)), clock),
        "nothing is called": lambda calls, order, clock: [0.0] * len(calls),
    },
    "12.5": {"milliseconds": 0.0006144, "inverted": 1.63, "twice, as FLOPs": 1.23, "no pixels": 0.0128},
    "12.6": {"a cause": "b", "in general": "c", "the figure": -0.52},
    "12.7": {
        "first run only": lambda first, second: {n for n in first if first[n][0] > 1 or first[n][1] < 1},
        "faster only": lambda first, second: {
            n for n in first.keys() & second.keys() if min(first[n][0], second[n][0]) > 1
        },
        "1 is on a side": lambda first, second: {
            n for n in first.keys() & second.keys()
            if min(first[n][0], second[n][0]) >= 1 or max(first[n][1], second[n][1]) <= 1
        },
        "by the middle": lambda first, second: {
            n for n in first.keys() & second.keys() if (sum(first[n]) > 2) == (sum(second[n]) > 2)
        },
        "below 1 by one end": lambda first, second: {
            n for n in first.keys() & second.keys()
            if min(first[n][0], second[n][0]) > 1 or (first[n][1] < 1 and second[n][0] < 1)
        },
        "names of one run too": lambda first, second: agreed(first, first | second),
        "by the lower quartile": lambda first, second: {
            n for n in first if n in second and (first[n][0] > 1) == (second[n][0] > 1)
        },
    },
    "12.8": {
        "quartiles": lambda a, b: tuple(np.percentile(ratios_of(a, b), [25, 75]).tolist()),
        "90 per cent": lambda *args: ratio_interval(*args, tail=0.05),
        "one rank too wide": lambda *args: ratio_interval(*args, shift=-1),
        "one rank too narrow": lambda *args: ratio_interval(*args, shift=1),
        "ratio inverted": lambda *args: ratio_interval(*args, ratio=lambda a, b: b / a),
        "rounds without a time break the pairs": not_paired,
    },
    "12.9": {
        "no growth": (1.0, 1.0), "as the pixels": (2.25, 2.25), "the middle of both": (1.8, 1.8),
        "exchanged": (OTHER, OWN), "calls alone": (1.0, 1.0), "nan": (OWN, math.nan), "one number": 2.25,
    },
}  # fmt: skip
