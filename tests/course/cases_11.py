"""Lesson 11: wrong versions that its proofs and its tasks reject."""

import numpy as np

from lgmpose import metrics
from lgmpose.data import mpii_truth

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    "head box without its factor": ("= 0.6 * np.hypot", "= np.hypot"),
    "pixels counted from 0": ("predicted_BK2[b, k] + 1 - truth", "predicted_BK2[b, k] - truth"),
    "thorax counted": ('name in ("pelvis", "thorax")', 'name == "pelvis"'),
    "no neck": ('name in ("pelvis", "thorax")', 'name in ("pelvis", "thorax", "upper_neck")'),
    "missing joints counted": ("if missing or", "if"),
    "OKS with half the variance": ("(2 * sigmas_K) ** 2", "(2 * sigmas_K**2)"),
    "OKS without its 2": (" / (area + tiny) / 2", " / (area + tiny)"),
    "unlabelled joints counted": ("exponent_K = exponent_K[visible_K > 0]", "pass"),
    "hidden joints left out": ("exponent_K[visible_K > 0]", "exponent_K[visible_K > 1]"),
    "x for y": ("predicted_K2[:, 1] - true_K2[:, 1]", "predicted_K2[:, 0] - true_K2[:, 1]"),
    "a person found twice counts twice": ("free.remove(best)", "pass"),
    "pictures not merged by score": ("proposed.sort(key=lambda pair: -pair[0])", "pass"),
    "precision there, not the best beyond": (
        "precision[recall >= r].max(initial=0)",
        "precision[recall >= r][:1].sum()",
    ),
    "eleven samples": ("np.linspace(0, 1, 101)", "np.linspace(0, 1, 11)"),
    "threshold too high": ("oks_nm[i, best] >= threshold", "oks_nm[i, best] >= threshold + 0.05"),
}


def oks_without_its_2(patch):
    right = metrics.oks
    patch.setattr(metrics, "oks", lambda p, t, v, areas, *rest, **more: right(p, t, v, areas / 2, *rest, **more))


def pixels_counted_from_0(patch):
    patch.setattr(mpii_truth, "one_based", lambda points: points)


PACKAGE = [oks_without_its_2, pixels_counted_from_0]


def pck_percent(predicted, true, visible, torso, threshold, least=0, within=np.less_equal):
    error = np.linalg.norm(predicted - true, axis=-1) / torso[:, None]
    return 100 * within(error, threshold)[visible > least].mean()


def mean_of_persons(predicted, true, visible, torso, threshold):
    right = np.linalg.norm(predicted - true, axis=-1) / torso[:, None] <= threshold
    return 100 * np.nanmean(
        [hits[seen > 0].mean() if seen.any() else np.nan for hits, seen in zip(right, visible, strict=True)]
    )


def multiplied(predicted, true, visible, torso, threshold):
    return 100 * (np.linalg.norm(predicted - true, axis=-1) <= threshold * torso[:, None])[visible > 0].mean()


def person_score(joint_scores, box_score, least=0.2, sure=np.greater):
    chosen = joint_scores[sure(joint_scores, least)]
    return chosen.mean() * box_score if len(chosen) else 0.0


def match(scores, oks_nm, threshold, remove=True, only_right=True, first=False, sort=True, least=np.greater_equal):
    free, right = list(range(oks_nm.shape[1])), []
    for i in np.argsort(-scores, kind="stable") if sort else range(len(scores)):
        fitting = [j for j in free if oks_nm[i, j] >= threshold] if first else free
        best = fitting[0] if first and fitting else max(fitting, key=lambda j: oks_nm[i, j], default=None)
        right.append(best is not None and bool(least(oks_nm[i, best], threshold)))
        if remove and best is not None and (right[-1] or not only_right):
            free.remove(best)
    return right


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
    order, kept = np.argsort(-scores), []
    for rank, i in enumerate(order):
        others = [
            metrics.oks(poses[[i]], poses[[j]], np.ones((1, 17)), [(areas[i] + areas[j]) / 2], sigmas)
            for j in order[:rank]
        ]
        if all(alike <= threshold for alike in others):
            kept.append(i)
    return kept


RIGHT = {
    "11.1": [100],
    "11.2": [pck_percent],
    "11.3": [15],
    "11.4": [12.4],
    "11.5": [person_score],
    "11.6": [match, lambda *args: np.array(match(*args))],
    "11.7": [0.69, 0.6875],
    "11.8": [0.7],
    "11.9": [pose_nms, lambda *args: np.array(pose_nms(*args))],
    "11.10": [(1.0, 0.5)],
}
WRONG = {
    "11.1": {"as before": 75, "a share": 1, "fewer": 25, "none": 0},
    "11.2": {
        "unlabelled joints too": lambda *args: pck_percent(*args, least=-1),
        "below the threshold": lambda *args: pck_percent(*args, within=np.less),
        "visible joints alone": lambda *args: pck_percent(*args, least=1),
        "mean of the persons": mean_of_persons,
        "multiplied": multiplied,
        "a share": lambda *args: pck_percent(*args) / 100,
        "the package's": lambda *args: metrics.pck(*args).mean_percent,
    },
    "11.3": {"half the diagonal": 25, "whole head": 30, "the longer side": 12, "the diagonal": 50},
    "11.4": {"one sigma": 6.2, "twice": 24.8, "with the root of 2": 17.5, "the area": 1240},
    "11.5": {
        "all joints": lambda joints, box: joints.mean() * box,
        "0.2 included": lambda joints, box: person_score(joints, box, sure=np.greater_equal),
        "others count 0": lambda joints, box: np.where(joints > 0.2, joints, 0).mean() * box,
        "the best joint": lambda joints, box: joints.max() * box,
        "box forgotten": lambda joints, box: person_score(joints, 1.0),
    },
    "11.6": {
        "found twice": lambda *args: match(*args, remove=False),
        "taken although below": lambda *args: match(*args, only_right=False),
        "the first that fits": lambda *args: match(*args, first=True),
        "in the order given": lambda *args: match(*args, sort=False),
        "above the threshold": lambda *args: match(*args, least=np.greater),
        "a number": lambda *args: sum(match(*args)),
    },
    "11.7": {"precision at the end": 0.6, "mean precision": 0.803, "recall": 0.75, "one step": 0.5, "perfect": 1},
    "11.8": {"the OKS": 0.82, "all or nothing": 0, "perfect": 1, "eight thresholds": 0.8},
    "11.9": {
        "at the threshold dropped": lambda *args: pose_nms(*args, keep=np.less),
        "area of the other alone": lambda *args: pose_nms(*args, mean=lambda a, b: a),
        "area of the best alone": lambda *args: pose_nms(*args, mean=lambda a, b: a * 0 + b),
        "without the 2": lambda *args: pose_nms(*args, two=1),
        "in the order given": lambda *args: sorted(pose_nms(*args)),
        "worst first": lambda poses, scores, *rest: pose_nms(poses, -scores, *rest),
        "not greedy": not_greedy,
        "the package's": lambda *args: metrics.oks_nms(*args),
    },
    "11.10": {
        "both low": (0.5, 0.5),
        "none left": (1.0, 0.0),
        "exchanged": (0.5, 1.0),
        "between": (0.75, 0.25),
        "one number": 1.0,
    },
}
