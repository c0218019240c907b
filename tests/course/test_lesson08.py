"""Lesson 08: its proofs hold, and neither they nor its exercises let named mistakes pass."""

import numpy as np
import pytest
from notebook_tools import run_core, verdict

from lgmpose.pose import geometry


def test_the_proofs_hold():
    names = run_core("08")
    assert names["worst"] < 1e-3 and names["mirrored"] > 0


@pytest.mark.parametrize(
    "mistake",
    [
        # COCO
        pytest.param(("left + w - 1)", "left + w)"), id="coco box one pixel wider"),
        pytest.param(("1.25 * (right - left)", "(right - left)"), id="coco box not padded"),
        pytest.param((".reshape(-1, 3)", ".reshape(3, -1).T"), id="coco keypoints as three rows"),
        # MPII
        pytest.param(("np.array(joints)[:15] - 1", "np.array(joints)[:15]"), id="mpii pixels counted from 0"),
        pytest.param(("+ 15 * 0.8 - 1]", "- 1]"), id="mpii centre not moved down"),
        pytest.param(("round(200 * 0.8 * 1.25)", "round(200 * 0.8)"), id="mpii scale without room"),
        # LSPET
        pytest.param(("joints_K3n[1:, :2, 0] - 1", "joints_K3n[:, :2, 0] - 1"), id="lspet junk joint used"),
        pytest.param(("joints_K3n[1:, :2, 0] - 1", "joints_K3n[1:, :2, 0]"), id="lspet pixels counted from 0"),
        # the matrix
        pytest.param(("size_wh[1] * W / H)", "size_wh[1] * H / W)"), id="H and W swapped"),
        pytest.param(("[np.sin(angle), -np.cos(angle)]", "[-np.sin(angle), -np.cos(angle)]"), id="rotated both ways"),
        pytest.param(("[0 if flip else W, H / 2]", "[W, H / 2]"), id="flip ignored"),
        pytest.param(("H / 2 - W / 2]", "0]"), id="two scales"),
        pytest.param((" + matrix[:, 2]", ""), id="shift forgotten"),
        pytest.param(("invert_matrix(package)", "package"), id="matrix not inverted"),
        # the sample
        pytest.param(("if flip:  #", "if False:  #"), id="sides not swapped"),
        pytest.param(("((5, 0, index))", "((5, 1, index))"), id="another epoch's draws"),
        pytest.param(("(image_hw[1], image_hw[0]))", "(image_hw[1], image_hw[0]))[:, ::-1]"), id="pixels mirrored"),
        pytest.param(('.replace("·", "right")', '.replace("·", "left")'), id="every joint a left one"),
    ],
)
def test_the_proofs_reject(mistake):
    with pytest.raises(AssertionError):
        run_core("08", mistake)


def test_a_package_that_mirrors_about_another_axis_turns_the_lesson_red(monkeypatch):
    def shifted(*args, **kwargs):
        matrix = geometry_crop_matrix(*args, **kwargs)
        matrix[0, 2] -= kwargs.get("flip", False)
        return matrix

    geometry_crop_matrix = geometry.crop_matrix
    monkeypatch.setattr(geometry, "crop_matrix", shifted)
    with pytest.raises(AssertionError):
        run_core("08")


def test_a_package_that_forgets_a_pair_turns_the_lesson_red(monkeypatch):
    from lgmpose.pose import skeletons

    pairs = skeletons.LSP.flip_pairs
    monkeypatch.setitem(vars(skeletons.LSP), "flip_pairs", pairs[1:])
    with pytest.raises(AssertionError):
        run_core("08")


def right_outline(box_xywh, image_hw, rotation_deg, padding=1.25, shape=lambda H, W: W / H, sign=1, order=(0, 1, 2, 3)):
    x, y, w, h = box_xywh
    H, W = image_hw
    width = padding * max(w, h * shape(H, W))
    angle = sign * np.deg2rad(rotation_deg)
    right, down = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * width / W
    steps = np.array([[-W, -H], [W, -H], [W, H], [-W, H]]) / 2
    return (np.array([x + w / 2, y + h / 2]) + steps @ np.array([right, down]))[list(order)]


def test_the_right_outline_and_blanks():
    assert verdict("08.1", right_outline) == "correct"
    for blank in (None, ..., lambda box_xywh, image_hw, rotation_deg: ...):
        assert verdict("08.1", blank) == "not attempted yet"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"padding": 1.0}, id="not padded"),
        pytest.param({"shape": lambda H, W: H / W}, id="H and W swapped"),
        pytest.param({"sign": -1}, id="turned the other way"),
        pytest.param({"order": (0, 3, 2, 1)}, id="corners the other way round"),
    ],
)
def test_wrong_outlines(wrong):
    assert "is right" in verdict("08.1", lambda *args: right_outline(*args, **wrong))


def test_half_bodies_are_measured():
    assert verdict("08.2", 69) == "correct"
    assert verdict("08.2", ...) == verdict("08.2", None) == "not attempted yet"
    for wrong in (50, 31, 0.69):
        assert "measured" in verdict("08.2", wrong)
    assert "number" in verdict("08.2", "most")
