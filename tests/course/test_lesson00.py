"""Lesson 00: its proof and its exercises refuse wrong versions."""

import numpy as np
import pytest
from notebook_tools import run_core, verdict

from lgmpose.course.checks.lesson00 import joints_found_upside_down


def sharpness(heatmap_HW, *, reach=2, clip=True, keep_inside=True):
    mass_HW = np.clip(heatmap_HW, 0, None) if clip else heatmap_HW
    row, column = np.unravel_index(heatmap_HW.argmax(), heatmap_HW.shape)
    top, left = (max(0, row - reach), max(0, column - reach)) if keep_inside else (row - reach, column - reach)
    return mass_HW[top : row + reach + 1, left : column + reach + 1].sum() / mass_HW.sum()


def test_the_proof_holds():
    assert run_core("00")["ours_xy"].shape == (5, 14, 2)


@pytest.mark.parametrize(
    "right, wrong",
    [
        pytest.param("0.25 * np.sign(heatmap_HW[row, ", "0.5 * np.sign(heatmap_HW[row, ", id="half a pixel"),
        pytest.param("row + 1, column] - heatmap_HW[row - 1", "row - 1, column] - heatmap_HW[row + 1", id="away"),
        pytest.param("[4 * x, 4 * y]", "[4 * y, 4 * x]", id="axes swapped"),
    ],
)
def test_the_proof_refuses(right, wrong):
    with pytest.raises(AssertionError):
        run_core("00", (right, wrong))


def test_sharpness():
    assert verdict("00.1", sharpness) == "correct"
    assert verdict("00.1", lambda heatmap_HW: None) == "not attempted yet"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"reach": 1}, id="a smaller square"),
        pytest.param({"clip": False}, id="negative mass counted"),
        pytest.param({"keep_inside": False}, id="slices that wrap around"),
    ],
)
def test_sharpness_refuses(options):
    assert verdict("00.1", lambda heatmap_HW: sharpness(heatmap_HW, **options)).startswith("called with")


def test_upside_down():
    found = joints_found_upside_down()
    assert verdict("00.2", found) == verdict("00.2", float(found)) == "correct"
    assert verdict("00.2", found + 0.5).startswith("a prediction is a whole number")
    assert verdict("00.2", ...) == "not attempted yet"
    assert f"measured: {found} of the 14" in verdict("00.2", found - 2 if found > 7 else found + 2)
    assert verdict("00.2", "many").startswith("a prediction is a whole number")
