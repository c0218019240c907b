"""Lesson 13: wrong versions that its proofs and its tasks reject."""

import numpy as np
from scipy.stats import t

import lgmpose.lab.evidence

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'labels not drawn again': ('/ counted_M[chosen_M].sum())', '/ counted_M.sum())'),
    'unlabelled persons drawn': ('labelled_M = counted_M > 0', 'labelled_M = counted_M >= 0'),
    'drawn without replacement': (
        'generator.integers(len(lead_M), size=len(lead_M))', 'generator.permutation(len(lead_M))',
    ),
    '90 per cent': ('(2.5, 97.5)', '(5, 95)'),
    'variance divided by all runs': ('sum(len(runs) - 1 for runs in figures)', 'sum(len(runs) for runs in figures)'),
    'networks counted as seeds': ('runs - runs.mean()', 'runs - np.mean([r.mean() for r in figures])'),
    'one row alone': ('.max(axis=1)', '[:, 0]'),
    'normal instead of t': ('np.sqrt(rng.chisquare(freedom, draws) / freedom)', 'np.ones(draws)'),
    'luck of the baseline forgotten': ('1 / runs_R[1:]) + 1 / runs_R[0]', '1 / runs_R[1:])'),
    'persons forgotten': ('covariance_RR = by_persons_RR + by_seeds_RR', 'covariance_RR = by_seeds_RR'),
    'seeds forgotten': ('covariance_RR = by_persons_RR + by_seeds_RR', 'covariance_RR = by_persons_RR'),
    'costs only rounded': (', math.floor(value * unit) / unit)', ',)'),
    'costs only cut': ('(round(value * unit) / unit, ', '(None, '),
}  # fmt: skip


def first_seed_only(patch):
    right = lgmpose.lab.evidence.judge

    def wrong(family, runs, counted):
        return right(family, {name: found[:1] for name, found in runs.items()}, counted)

    patch.setattr(lgmpose.lab.evidence, "judge", wrong)


def persons_exchanged(patch):
    right = lgmpose.lab.evidence.judge

    def wrong(family, runs, counted):
        return right(family, runs | {"lgm-pose": np.roll(runs["lgm-pose"], 1, axis=1)}, counted)

    patch.setattr(lgmpose.lab.evidence, "judge", wrong)


PACKAGE = [first_seed_only, persons_exchanged]


def p_value(lead_M, signs_DM):
    return (abs(signs_DM @ lead_M) >= abs(lead_M.sum())).mean()


def bootstrap(lead_M, counted_M, chosen_DM, *, ends=(2.5, 97.5), scale=100, own=True):
    joints = counted_M[chosen_DM].sum(axis=1) if own else counted_M.sum()
    low, high = np.percentile(scale * lead_M[chosen_DM].sum(axis=1) / joints, ends)
    return float(low), float(high)


def seed_variance(figures):
    return sum(((np.array(f) - np.mean(f)) ** 2).sum() for f in figures) / sum(len(f) - 1 for f in figures)


def seeds_needed(spread, difference, *, rows=9, networks=10, means=2, start=2):
    seeds = start
    while t.isf(0.025 / rows, networks * (seeds - 1)) * spread * (means / seeds) ** 0.5 > difference:
        seeds += 1
    return seeds


RIGHT = {
    "13.1": [41.4, 41],
    "13.2": [100 * 6 / 76],
    "13.3": [bootstrap, lambda *args: list(bootstrap(*args))],
    "13.4": ["c"],
    "13.5": [seed_variance],
    "13.6": [27, 25.5],
    "13.7": [0.6],
    "13.8": [p_value],
    "13.9": [seeds_needed],
}
WRONG = {
    "13.1": {"persons only": 3, "a whole point": 414, "ten points": 4141},
    "13.2": {"each person once": 100 * 4 / 78, "joints of all": 100 * 6 / 78, "a share": 6 / 76, "a count": 6},
    "13.3": {
        "joints of all persons": lambda *args: bootstrap(*args, own=False),
        "90 per cent": lambda *args: bootstrap(*args, ends=(5, 95)),
        "a share": lambda *args: bootstrap(*args, scale=1),
        "turned round": lambda *args: bootstrap(*args)[::-1],
        "a number": lambda *args: bootstrap(*args)[0],
    },
    "13.4": {"narrower": "a", "the same": "b", "a number": 2},
    "13.5": {
        "one mean for all": lambda figures: float(np.var(np.concatenate(figures), ddof=1)),
        "divided by the runs": lambda figures: float(np.mean([np.var(f) for f in figures])),
        "mean of the networks": lambda figures: float(np.mean([np.var(f, ddof=1) for f in figures])),
        "standard deviation": lambda figures: seed_variance(figures) ** 0.5,
    },
    "13.6": {"one row's": 5, "independent rows'": 37, "complement": 95, "negative": -1, "text": "many"},
    "13.7": {"half": 0.5, "inverted": 1.67, "parameters": 0.52, "saved": 0.4, "counted": 0.563},
    "13.8": {
        "one-sided": lambda lead_M, signs_DM: (signs_DM @ lead_M >= lead_M.sum()).mean(),
        "ties left out": lambda lead_M, signs_DM: (abs(signs_DM @ lead_M) > abs(lead_M.sum())).mean(),
        "complement": lambda lead_M, signs_DM: 1 - p_value(lead_M, signs_DM),
        "one sign for all": lambda lead_M, signs_DM: p_value(lead_M.sum(keepdims=True), signs_DM[:, :1]),
        "a count": lambda lead_M, signs_DM: (abs(signs_DM @ lead_M) >= abs(lead_M.sum())).sum(),
        "never zero": lambda lead_M, signs_DM: float(
            ((abs(signs_DM @ lead_M) >= abs(lead_M.sum())).sum() + 1) / (len(signs_DM) + 1)
        ),
    },
    "13.9": {
        "each row alone": lambda *args: seeds_needed(*args, rows=1),
        "one mean": lambda *args: seeds_needed(*args, means=1),
        "two networks": lambda *args: seeds_needed(*args, networks=2),
        "one too many": lambda *args: seeds_needed(*args) + 1,
        "never fewer than three": lambda *args: seeds_needed(*args, start=3),
    },
}
