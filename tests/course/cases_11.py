"""Lesson 11: wrong versions that its proofs and its exercises reject."""

import numpy as np

from lgmpose import metrics
from lgmpose.data import mpii_truth

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'head box without its factor': ('= 0.6 * np.hypot', '= np.hypot'),
    'pixels counted from 0': ('joint] + 1 - truth', 'joint] - truth'),
    'thorax counted': ('name in ("pelvis", "thorax")', 'name == "pelvis"'),
    'no neck': ('name in ("pelvis", "thorax")', 'name in ("pelvis", "thorax", "upper_neck")'),
    'missing joints counted': ('if not truth.visibility[person, joint] or', 'if'),
    'OKS with half the variance': ('(2 * sigmas_K) ** 2', '(2 * sigmas_K**2)'),
    'OKS without its 2': (' / (area + np.spacing(1)) / 2', ' / (area + np.spacing(1))'),
    'unlabelled joints counted': ('exponent_K = exponent_K[visible_K > 0]', 'pass'),
    'hidden joints left out': ('exponent_K[visible_K > 0]', 'exponent_K[visible_K > 1]'),
    'x for y': ('predicted_K2[:, 1] - true_K2[:, 1]', 'predicted_K2[:, 0] - true_K2[:, 1]'),
    'a person found twice counts twice': ('free.remove(best)', 'pass'),
    'pictures not merged by score': ('proposed.sort(key=lambda pair: -pair[0])', 'pass'),
    'precision there, not the best beyond': (
        'precision[recall >= r].max(initial=0)',
        'precision[recall >= r][:1].sum()',
    ),
    'eleven samples': ('np.linspace(0, 1, 101)', 'np.linspace(0, 1, 11)'),
    'threshold too high': ('oks_nm[i, best] >= threshold', 'oks_nm[i, best] >= threshold + 0.05'),
}


def oks_without_its_2(patch):
    right = metrics.oks
    patch.setattr(metrics, "oks", lambda p, t, v, areas, *rest, **more: right(p, t, v, areas / 2, *rest, **more))


def pixels_counted_from_0(patch):
    patch.setattr(mpii_truth, "one_based", lambda points: points)


PACKAGE = [oks_without_its_2, pixels_counted_from_0]


def pose_nms(poses, scores, areas, sigmas, threshold, *, mean=lambda a, b: (a + b) / 2, keep=np.less_equal, two=2):
    waiting, kept = list(np.argsort(-scores, kind="stable")), []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        squared = ((poses[waiting] - poses[best]) ** 2).sum(axis=-1)
        scale = mean(areas[waiting], areas[best])[:, None] * two
        alike = np.exp(-squared / scale / (2 * sigmas) ** 2).mean(axis=1)
        waiting = [i for i, stays in zip(waiting, keep(alike, threshold), strict=True) if stays]
    return kept


def not_greedy(poses, scores, areas, sigmas, threshold):
    """Drop whatever is similar to a better pose, even to a dropped one."""
    order = np.argsort(-scores)
    return [
        i for rank, i in enumerate(order)
        if all(metrics.oks(poses[[i]], poses[[j]], np.ones((1, 17)), [(areas[i] + areas[j]) / 2], sigmas) <= threshold
               for j in order[:rank])
    ]  # fmt: skip


RIGHT = {"11.1": [pose_nms, lambda *args: np.array(pose_nms(*args))], "11.2": [(1.0, 0.5)]}
WRONG = {
    "11.1": {
        "at the threshold dropped": lambda *args: pose_nms(*args, keep=np.less),
        "area of the other alone": lambda *args: pose_nms(*args, mean=lambda a, b: a),
        "area of the best alone": lambda *args: pose_nms(*args, mean=lambda a, b: a * 0 + b),
        "without the 2": lambda *args: pose_nms(*args, two=1),
        "in the order given": lambda *args: sorted(pose_nms(*args)),
        "worst first": lambda poses, scores, *rest: pose_nms(poses, -scores, *rest),
        "not greedy": not_greedy,
    },
    "11.2": {"both low": (0.5, 0.5), "none left": (1.0, 0.0), "exchanged": (0.5, 1.0), "between": (0.75, 0.25),
             "one number": 1.0},
}  # fmt: skip
