"""Lesson 01: its proofs and exercises reject named wrong versions, and a package gone wrong turns it red."""

from __future__ import annotations

import numpy as np
import pytest
from notebook_tools import run_core, verdict

from lgmpose.pose import codecs


def test_core_runs_by_itself():
    assert {"encode_by_hand", "dark_by_hand", "merge_by_hand"} <= set(run_core("01"))


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(("np.floor(x_true + 0.5)", "np.floor(x_true)"), id="centre truncated, not rounded"),
        pytest.param(("(2 * sigma**2))", "sigma**2)"), id="Gaussian without its 2"),
        pytest.param(('"standard": (True, True)', '"standard": (True, False)'), id="patch not cut"),
        pytest.param(('"standard": (True, True)', '"standard": (False, True)'), id="exact centre for a rounded one"),
        pytest.param(("(x - x_top) ** 2 + (y - y_top) ** 2", "(x - y_top) ** 2 + (y - x_top) ** 2"), id="axes swapped"),
        pytest.param(("(W - 1) / (w - 1)", "W / w"), id="UDP with pixels counted"),
        pytest.param(("np.log(np.maximum(", "(np.maximum("), id="no logarithm"),
        pytest.param(("smooth_HW = blur_by_hand(heatmap_HW, sigma)", "smooth_HW = heatmap_HW"), id="no blur"),
        pytest.param(("corners / 4], [corners / 4", "-corners / 4], [-corners / 4"), id="mixed difference's sign"),
        pytest.param(("x + 2] - 2 * log_HW[y, x] + log_HW[y, x - 2]) / 4",
                      "x + 1] - 2 * log_HW[y, x] + log_HW[y, x - 1])"), id="second difference over one pixel"),
        pytest.param(("np.array([x, y]) - np.linalg", "np.array([x, y]) + np.linalg"), id="step the wrong way"),
        pytest.param(("hessian, [gx, gy]", "hessian, [gy, gx]"), id="gradient's axes swapped"),
        pytest.param(("max(x - 1, 0) if shift", "min(x + 1, W - 1) if shift"), id="shifted to the left"),
        pytest.param(("max(x - 1, 0) if shift else x", "x"), id="not shifted"),
        pytest.param(("= right, left  #", "= left, right  #"), id="left and right not swapped"),
    ],
)  # fmt: skip
def test_proofs_reject(mistake):
    with pytest.raises(AssertionError):
        run_core("01", mistake)


@pytest.mark.parametrize(
    ("home", "name", "wrong"),
    [
        pytest.param(codecs.StandardCodec, "_centres", lambda self, xy: np.trunc(xy), id="centres truncated"),
        pytest.param(codecs, "_taps", lambda sigma: np.ones(1, np.float32), id="DARK without its blur"),
        pytest.param(codecs, "_newton_step", lambda g, xx, xy, yy: 0 * g, id="no Newton step"),
        pytest.param(codecs.UDPCodec, "_stride_xy", np.array([4.0, 4.0]), id="UDP with the ordinary stride"),
        pytest.param(codecs, "merge_flipped", lambda a, b, skeleton, *, shift: (a + b[..., ::-1]) / 2, id="no swap"),
    ],
)
def test_a_wrong_package_turns_it_red(monkeypatch, home, name, wrong):
    monkeypatch.setattr(home, name, wrong)
    with pytest.raises(AssertionError):
        run_core("01")


def gaussian_at_peak(heatmap, log=np.log, spread=lambda curvature: (-1 / curvature) ** 0.5, swap=False, sign=-1):
    y, x = divmod(int(heatmap.argmax()), heatmap.shape[1])
    logs, results = log(heatmap), []
    for (left, middle, right), start in ((logs[y, x - 1 : x + 2], x), (logs[y - 1 : y + 2, x], y)):
        curvature = right - 2 * middle + left
        results.append((start + sign * (right - left) / 2 / curvature, spread(curvature)))
    (x, sigma_x), (y, sigma_y) = results[::-1] if swap else results
    return x, y, sigma_x, sigma_y


def test_exercise_1():
    assert verdict("01.1", gaussian_at_peak) == "correct"
    assert verdict("01.1", lambda heatmap: np.array(gaussian_at_peak(heatmap))) == "correct"
    assert verdict("01.1", lambda heatmap: ...) == verdict("01.1", None) == "not attempted yet"
    for wrong in (
        lambda heatmap: gaussian_at_peak(heatmap, log=lambda x: x),  # no logarithm
        lambda heatmap: gaussian_at_peak(heatmap, spread=lambda curvature: -1 / curvature),  # the variance
        lambda heatmap: gaussian_at_peak(heatmap, spread=lambda curvature: (-0.5 / curvature) ** 0.5),
        lambda heatmap: gaussian_at_peak(heatmap, sign=1),
        lambda heatmap: gaussian_at_peak(heatmap, swap=True),
        lambda heatmap: gaussian_at_peak(heatmap.T),
    ):
        assert "is right" in verdict("01.1", wrong)
    assert "4" in verdict("01.1", lambda heatmap: gaussian_at_peak(heatmap)[:2])


def test_exercise_2():
    assert verdict("01.2", (3.5, 0.5)) == "correct"
    assert verdict("01.2", ...) == verdict("01.2", (..., ...)) == "not attempted yet"
    for wrong in ((1.5, 0.5), (3.0, 1.0), (0.5, 3.5), (7, 1)):  # stride 4's, UDP's thinking, exchanged, not halved
        assert "measured were 3.50 and 0.50" in verdict("01.2", wrong)
    assert "two numbers" in verdict("01.2", 3.5)
