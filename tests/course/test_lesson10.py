"""Lesson 10: its proofs and exercises reject named wrong versions, and a package gone wrong turns it red."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from notebook_tools import run_core, verdict

from lgmpose import metrics
from lgmpose.data import mpii_truth

PCK_MODULE = importlib.import_module("lgmpose.metrics.pck")  # lgmpose.metrics.pck is the function of that name


def test_core_runs_by_itself():
    assert {"pckh_by_hand", "oks_by_hand", "ap_by_hand"} <= set(run_core("10"))


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(("= 0.6 * np.hypot", "= np.hypot"), id="head box without its factor"),
        pytest.param(("joint] + 1 - truth", "joint] - truth"), id="pixels counted from 0"),
        pytest.param(('name in ("pelvis", "thorax")', 'name == "pelvis"'), id="thorax counted"),
        pytest.param(('name in ("pelvis", "thorax")', 'name in ("pelvis", "thorax", "upper_neck")'), id="no neck"),
        pytest.param(("if not truth.visibility[person, joint] or", "if"), id="missing joints counted"),
        pytest.param(("(2 * sigmas_K) ** 2", "(2 * sigmas_K**2)"), id="OKS with half the variance"),
        pytest.param((" / (area + np.spacing(1)) / 2", " / (area + np.spacing(1))"), id="OKS without its 2"),
        pytest.param(("exponent_K = exponent_K[visible_K > 0]", "pass"), id="unlabelled joints counted"),
        pytest.param(("exponent_K[visible_K > 0]", "exponent_K[visible_K > 1]"), id="hidden joints left out"),
        pytest.param(("predicted_K2[:, 1] - true_K2[:, 1]", "predicted_K2[:, 0] - true_K2[:, 1]"), id="x for y"),
        pytest.param(("free.remove(best)", "pass"), id="a person found twice counts twice"),
        pytest.param(("proposed.sort(key=lambda pair: -pair[0])", "pass"), id="pictures not merged by score"),
        pytest.param(
            ("precision[recall >= r].max(initial=0)", "precision[recall >= r][:1].sum()"),
            id="precision there, not the best beyond",
        ),
        pytest.param(("np.linspace(0, 1, 101)", "np.linspace(0, 1, 11)"), id="eleven samples"),
        pytest.param(("oks_nm[i, best] >= threshold", "oks_nm[i, best] >= threshold + 0.05"), id="threshold too high"),
    ],
)
def test_proofs_reject(mistake):
    with pytest.raises(AssertionError):
        run_core("10", mistake)


def oks_without_its_2(predicted, truth, visibility, areas, sigmas, boxes=None, oks=metrics.oks):
    return oks(predicted, truth, visibility, areas / 2, sigmas, boxes)


@pytest.mark.parametrize(
    ("home", "name", "wrong"),
    [
        pytest.param(metrics, "oks", oks_without_its_2, id="OKS without its 2"),
        pytest.param(mpii_truth, "one_based", lambda points: points, id="counting from 0"),
        pytest.param(PCK_MODULE, "pckh_joints", lambda skeleton: tuple(range(14)), id="the first fourteen"),
    ],
)
def test_a_wrong_package_turns_it_red(monkeypatch, home, name, wrong):
    monkeypatch.setattr(home, name, wrong)
    with pytest.raises(AssertionError):
        run_core("10")


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
    """Drops whatever is like a better-scored pose, be that one dropped or not."""
    order = np.argsort(-scores)
    return [
        i for rank, i in enumerate(order)
        if all(metrics.oks(poses[[i]], poses[[j]], np.ones((1, 17)), [(areas[i] + areas[j]) / 2], sigmas) <= threshold
               for j in order[:rank])
    ]  # fmt: skip


def test_exercise_1():
    assert verdict("10.1", pose_nms) == "correct"
    assert verdict("10.1", lambda *args: np.array(pose_nms(*args))) == "correct"
    assert verdict("10.1", lambda *args: ...) == verdict("10.1", None) == "not attempted yet"
    for name, wrong in {
        "at the threshold dropped": lambda *args: pose_nms(*args, keep=np.less),
        "area of the other alone": lambda *args: pose_nms(*args, mean=lambda a, b: a),
        "area of the best alone": lambda *args: pose_nms(*args, mean=lambda a, b: a * 0 + b),
        "without the 2": lambda *args: pose_nms(*args, two=1),
        "in the order given": lambda *args: sorted(pose_nms(*args)),
        "worst first": lambda poses, scores, *rest: pose_nms(poses, -scores, *rest),
        "not greedy": not_greedy,
    }.items():
        assert verdict("10.1", wrong).startswith("called with"), name


def test_exercise_2():
    assert verdict("10.2", (1.0, 0.5)) == "correct"
    assert verdict("10.2", ...) == verdict("10.2", (..., ...)) == "not attempted yet"
    for wrong in ((0.5, 0.5), (1.0, 0.0), (0.5, 1.0), (0.75, 0.25)):
        assert "measured were 1.00 and 0.50" in verdict("10.2", wrong)
    assert "two numbers" in verdict("10.2", 1.0)
