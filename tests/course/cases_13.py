"""Lesson 13: wrong versions that its proofs and its exercises reject."""

import numpy as np

import lgmpose.lab.ablate

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'pairs torn apart': ('b_N[chosen].sum())', 'b_N[generator.permutation(chosen)[: len(chosen) // 2]].sum())'),
    'labels not drawn again': ('/ counted_N[chosen].sum())', '/ counted_N.sum())'),
    'first seed only': ('correct_a_SN.mean(axis=0)', 'correct_a_SN[0]'),
    '90 per cent': ('(2.5, 97.5)', '(5, 95)'),
    'sign of the lead': ('100 * (a_N.sum() - b_N.sum())', '100 * (b_N.sum() - a_N.sum())'),
    'unlabelled persons drawn': ('labelled = counted_N > 0', 'labelled = counted_N >= 0'),
    'drawn without replacement': ('integers(len(counted_N), size=len(counted_N))', 'permutation(len(counted_N))'),
    'variance divided by all runs': ('/ (R * (S - 1))\n', '/ (R * S)\n'),
    'normal instead of t': ('stdtrit(R * (S - 1), 0.975)', '1.96'),
    'margin of one mean': ('variance * 2 / S', 'variance / S'),
    'networks counted as seeds': ('figures_RS.mean(axis=1, keepdims=True)', 'figures_RS.mean()'),
    'sign forgotten in the margin': ('abs(points) <= margin', 'points <= margin'),
    'seeds forgotten': (' or abs(points) <= margin', ''),
    'interval forgotten': ('low <= 0 <= high or ', ''),
    'ordering turned round': ('(points > 0) == (paper > 0)', '(points > 0) != (paper > 0)'),
}


def pairs_shifted(patch):
    right = lgmpose.lab.ablate.paired_bootstrap

    def wrong(a, b, counted, **more):
        return right(a, np.roll(b, 1, axis=-1), counted, **more)

    patch.setattr(lgmpose.lab.ablate, "paired_bootstrap", wrong)


def first_seed_only(patch):
    right = lgmpose.lab.ablate.paired_bootstrap

    def wrong(a, b, counted, **more):
        return right(a[:1], b, counted, **more)

    patch.setattr(lgmpose.lab.ablate, "paired_bootstrap", wrong)


def narrower_margin(patch):
    right = lgmpose.lab.ablate.seed_margin
    patch.setattr(lgmpose.lab.ablate, "seed_margin", lambda *args: (right(*args) or 0) * 0.8 or None)


def one_seed_is_enough(patch):
    right = lgmpose.lab.ablate.verdict

    def wrong(paper, difference, margin):
        return right(paper, difference, margin or 0.0)

    patch.setattr(lgmpose.lab.ablate, "verdict", wrong)


PACKAGE = [pairs_shifted, first_seed_only, narrower_margin, one_seed_is_enough]


def p_value(lead_N, signs_DN):
    return (abs(signs_DN @ lead_N) >= abs(lead_N.sum())).mean()


RIGHT = {"13.1": [p_value], "13.2": [27, 25.5]}
WRONG = {
    "13.1": {
        "one-sided": lambda lead_N, signs_DN: (signs_DN @ lead_N >= lead_N.sum()).mean(),
        "ties left out": lambda lead_N, signs_DN: (abs(signs_DN @ lead_N) > abs(lead_N.sum())).mean(),
        "complement": lambda lead_N, signs_DN: 1 - p_value(lead_N, signs_DN),
        "one sign for all": lambda lead_N, signs_DN: p_value(lead_N.sum(keepdims=True), signs_DN[:, :1]),
        "a count": lambda lead_N, signs_DN: (abs(signs_DN @ lead_N) >= abs(lead_N.sum())).sum(),
    },
    "13.2": {"one row's": 5, "independent rows'": 37, "complement": 95, "negative": -1, "text": "many"},
}
