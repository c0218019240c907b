"""Figures with sliders: on a stored page they are drawn once, in a live notebook each value has its control."""

import pytest

from lgmpose.course.clock import fastest_ms
from lgmpose.course.widgets import STATIC, sliders


def test_a_stored_page_draws_the_first_values(monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    drawn = []
    sliders(lambda **values: drawn.append(values), x=(0.0, 8.0, 0.5, 3.0), patch=["2 × 3", "4 × 4"])
    assert drawn == [{"x": 3.0, "patch": "2 × 3"}]


def test_a_live_notebook_has_one_control_for_each_value(monkeypatch):
    ipywidgets = pytest.importorskip("ipywidgets")
    monkeypatch.delenv(STATIC, raising=False)
    made = {}
    monkeypatch.setattr(ipywidgets, "interact", lambda draw, **controls: made.update(controls))
    sliders(lambda **values: None, x=(0.0, 8.0, 0.5, 3.0), groups=(1, 6, 1, 2), patch=["2 × 3", "4 × 4"])
    assert {name: control.value for name, control in made.items()} == {"x": 3.0, "groups": 2, "patch": "2 × 3"}
    assert (made["x"].min, made["x"].max, made["x"].step) == (0.0, 8.0, 0.5)
    assert isinstance(made["groups"], ipywidgets.IntSlider) and list(made["patch"].options) == ["2 × 3", "4 × 4"]


def test_the_clock_returns_the_shortest_call():
    calls = []
    ms = fastest_ms(lambda: calls.append(sum(range(1000))), seconds=0.01)
    assert len(calls) >= 5 and 0 < ms < 10
