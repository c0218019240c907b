"""The labelling tool of lesson 14: sliders show the stored point, and moving them stores another one."""

import pytest

from lgmpose.course.labelling import label_points
from lgmpose.course.widgets import STATIC


def test_a_stored_page_shows_nothing_and_changes_nothing(monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    points, drawn = [{"nose": (1.0, 2.0)}], []
    label_points(points, ["nose"], (10, 20), lambda *chosen: drawn.append(chosen))
    assert points == [{"nose": (1.0, 2.0)}] and drawn == []


def test_a_moved_slider_stores_the_point_of_the_chosen_picture_and_joint(monkeypatch):
    pytest.importorskip("ipywidgets")
    display = pytest.importorskip("IPython.display")
    monkeypatch.delenv(STATIC, raising=False)
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    points = [{"nose": (1.0, 2.0)}, {"nose": (3.0, 4.0)}]
    label_points(points, ["nose", "tail"], (10, 20), lambda picture, joint: None)
    (box,) = shown
    (picture, joint), x, y = box.children[0].children, *box.children[1:3]
    assert (x.value, y.value, x.max, y.max) == (1.0, 2.0, 9.0, 19.0)
    x.value = 5.0
    picture.value = 1
    assert (x.value, y.value) == (3.0, 4.0), "the sliders move to the point of the other picture"
    y.value = 9.0
    joint.value = "tail"  # not labelled yet
    x.value = 7.0
    assert points == [{"nose": (5.0, 2.0)}, {"nose": (3.0, 9.0), "tail": (7.0, 0.0)}]
