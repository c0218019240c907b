"""Lesson 02: its proofs reject wrong versions, its exercises too."""

from __future__ import annotations

import pytest
import torch
from notebook_tools import run_core, verdict

import lgmpose.lab.conventions
import lgmpose.lab.macs


def test_proofs_hold():
    names = run_core("02")
    assert (names["true"], names["hrnet_tool"]) == (5_426_380_800, 9_654_239_232)


@pytest.mark.parametrize("right, wrong", [
    # the loops
    pytest.param("weight_OCKK[o, c, i, j] * x", "weight_OCKK[o, c, j, i] * x", id="kernel turned"),
    pytest.param("row * stride + i, column * stride + j]", "row + i, column + j]", id="deconv without stride"),
    # the closed forms
    pytest.param("(in_channels // groups) * kernel**2", "in_channels * kernel**2", id="groups forgotten"),
    pytest.param("(in_channels // groups) * kernel**2", "(in_channels // groups) * kernel", id="kernel not squared"),
    pytest.param("in_channels * prod(in_hw) *", "in_channels * 4 * prod(in_hw) *", id="deconv at output resolution"),
    pytest.param("return vectors * in_features", "return in_features", id="linear layer for one vector"),
    pytest.param("return 2 * tokens * tokens", "return tokens * tokens", id="attention's second product forgotten"),
    # the hooks
    pytest.param("return read * layer.weight[0]", "return written * layer.weight[0]", id="hooks: deconv's output"),
    pytest.param("return written * layer.weight[0]", "return written * layer.weight", id="hooks: all kernels"),
    pytest.param("layer.in_features if", "layer.out_features if", id="hooks: linear's other axis"),
    pytest.param("(2, 6 * 4, 96)", "(1, 6 * 4, 96)", id="one layer of attention missed"),
    pytest.param("layers * 4 * attention_macs", "layers * attention_macs", id="one set of tokens instead of four"),
    # the three conventions
    pytest.param("true + 3 * deconvs", "true + 4 * deconvs", id="HRNet's tool: one too many"),
    pytest.param("nn.BatchNorm2d: 2", "nn.BatchNorm2d: 1", id="torchstat: one per element of a norm"),
    pytest.param(
        "for layer, written in once.items()", "for layer, _, written in calls", id="torchstat: a module at every call"
    ),
])  # fmt: skip
def test_proofs_reject(right, wrong):
    with pytest.raises(AssertionError):
        run_core("02", (right, wrong))


@pytest.mark.parametrize("name", ["_by_hrnet_tool", "_by_torchstat"])
def test_a_wrong_convention_turns_the_lesson_red(monkeypatch, name):
    original = getattr(lgmpose.lab.conventions, name)

    def deconvolutions_the_other_way(module, x, y):
        factor = {"_by_hrnet_tool": 0.25, "_by_torchstat": 4}[name]
        count = original(module, x, y)
        return int(factor * count) if isinstance(module, torch.nn.ConvTranspose2d) else count

    monkeypatch.setattr(lgmpose.lab.conventions, name, deconvolutions_the_other_way)
    with pytest.raises(AssertionError):
        run_core("02")


def test_a_wrong_counter_turns_the_lesson_red(monkeypatch):
    """Doubled products, "FLOPs" as others mean them."""
    heavy = {**lgmpose.lab.macs._HEAVY, "aten::linear": lambda i, o: 2 * lgmpose.lab.macs._linear(i, o)}
    monkeypatch.setattr(lgmpose.lab.macs, "_HEAVY", heavy)
    with pytest.raises(AssertionError):
        run_core("02")


def cost(in_channels, out_channels, expansion, stride, map_hw, *, first=True, norms=2, after=True, taps=9):
    """(parameters, MACs) of an inverted residual, right unless told otherwise."""
    hidden, pixels = in_channels * expansion, map_hw[0] * map_hw[1]
    pixels_after = pixels // stride**2 if after else pixels
    widen = in_channels * hidden if first and expansion > 1 else 0
    params = widen + (norms * hidden if widen else 0) + (taps + norms + out_channels) * hidden + norms * out_channels
    return params, widen * pixels + (taps + out_channels) * hidden * pixels_after


def test_exercise_1_correct():
    assert verdict("02.1", cost) == "correct"


@pytest.mark.parametrize("wrong", [
    pytest.param({"norms": 0}, id="BatchNorms forgotten"),
    pytest.param({"norms": 1}, id="one parameter per BatchNorm's channel"),
    pytest.param({"after": False}, id="stride forgotten"),
    pytest.param({"first": False}, id="first 1×1 forgotten"),
    pytest.param({"taps": 3}, id="kernel not squared"),
])  # fmt: skip
def test_exercise_1_rejects(wrong):
    message = verdict("02.1", lambda *arguments: cost(*arguments, **wrong))
    assert message.startswith(("called with 3, 3, 6, 1, (8, 12)", "called with 3, 5, 4, 2, (12, 8)"))
    assert "is right" in message


def test_exercise_1_rejects_a_first_1x1_at_expansion_1():
    def always_widens(in_channels, out_channels, expansion, stride, map_hw):
        params, macs = cost(in_channels, out_channels, expansion, stride, map_hw)
        extra = in_channels**2 if expansion == 1 else 0
        return params + extra, macs + extra * map_hw[0] * map_hw[1]

    assert "called with 3, 7, 1, 1, (6, 10)" in verdict("02.1", always_widens)


@pytest.mark.parametrize("attempt, expected", [
    (4.973, "correct"), (4.8, "correct"), (5.1, "correct"),
    pytest.param(1.458, "predicted 1.458, counted 4.973", id="true MACs"),
    pytest.param(5.34, "predicted 5.34, counted 4.973", id="÷ 10⁹"),
    pytest.param(6.145, "predicted 6.145, counted 4.973", id="four times too much added"),
    pytest.param(float("nan"), "predicted nan, counted 4.973", id="not a number"),
])  # fmt: skip
def test_exercise_2(attempt, expected):
    assert verdict("02.2", attempt) == expected


def test_blank_stubs_are_not_attempted():
    def stub(*arguments): ...

    for exercise, attempt in (("02.1", stub), ("02.1", None), ("02.2", ...), ("02.2", None)):
        assert verdict(exercise, attempt) == "not attempted yet"
