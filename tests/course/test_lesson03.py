"""Lesson 03: its proofs reject wrong versions, its exercises too, and a mutated package turns it red."""

from __future__ import annotations

import pytest
import torch
from notebook_tools import run_core, verdict
from torch import nn

import lgmpose.network.layers
from lgmpose.network.layers import ConvNormAct, InvertedResidual


def test_proofs_hold():
    names = run_core("03")
    assert names["mended"].tolist() == [[1] * 6] * 6


@pytest.mark.parametrize("right, wrong", [
    # the shuffle by loops, and what it mends
    pytest.param("y_BCHW[:, i * groups + group]", "y_BCHW[:, group * (C // groups) + i]", id="not shuffled"),
    pytest.param("for i in range(C // groups)", "for i in range(0)", id="nothing copied"),
    pytest.param("y_BCHW[:, i * groups + group] = x_BCHW[:, group * (C // groups) + i]",
                 "y_BCHW[:, group * (C // groups) + i] = x_BCHW[:, i * groups + group]", id="inverse shuffle"),
    pytest.param("second(shuffle_by_loops(first(x), 2))", "second(first(shuffle_by_loops(x, 2)))", id="too early"),
    pytest.param("nn.Conv2d(6, 6, 1, groups=2)", "nn.Conv2d(6, 6, 1, groups=3)", id="other groups"),
    # the block by hand
    pytest.param("* gain + bias", "* gain", id="norm's bias forgotten"),
    pytest.param("(x_BCHW - mean)", "x_BCHW", id="running mean forgotten"),
    pytest.param("(variance + bn.eps).sqrt()", "(variance + bn.eps)", id="variance for spread"),
    pytest.param('"oc,bchw->bohw", weight_OC11[:, :, 0, 0]', '"oc,bchw->bohw", weight_OC11[:, :, 0, 0].flip(1)',
                 id="channels turned"),
    pytest.param("weight_C1KK[:, 0, i, j, None, None]", "weight_C1KK[:, 0, j, i, None, None]", id="axes swapped"),
    pytest.param("weight_C1KK[:, 0, i, j, None, None]", "weight_C1KK[:, 0, 2 - i, 2 - j, None, None]", id="turned"),
    pytest.param("conv.weight), bn).clamp(0, 6)", "conv.weight), bn)", id="no activation after widening"),
    pytest.param(".clamp(min=0, max=6)", ".clamp(min=0)", id="ReLU for ReLU6"),
    pytest.param("y_BCHW = norm_by_hand(pointwise_by_hand(wide_BCHW, conv.weight), bn)",
                 "y_BCHW = norm_by_hand(pointwise_by_hand(wide_BCHW, conv.weight), bn).clamp(0, 6)",
                 id="activation at the end"),
    pytest.param("return x_BCHW + y_BCHW if fits else y_BCHW", "return y_BCHW", id="residual forgotten"),
    pytest.param("return x_BCHW + y_BCHW if fits else y_BCHW",
                 "return x_BCHW[:, :1, ::stride, ::stride] + y_BCHW", id="residual everywhere"),
    # the comparison with torchvision
    pytest.param("TorchvisionBlock(8, out_channels, stride, expansion)",
                 "TorchvisionBlock(8, out_channels, stride, expansion + 1)", id="another expansion"),
])  # fmt: skip
def test_proofs_reject(right, wrong):
    with pytest.raises(AssertionError):
        run_core("03", (right, wrong))


def left_out(x, groups):
    return x


def wrong_grouping(x, groups):
    B, C, H, W = x.shape
    return x.view(B, C // groups, groups, H, W).transpose(1, 2).reshape(B, C, H, W)


@pytest.mark.parametrize("wrong", [left_out, wrong_grouping])
def test_a_wrong_shuffle_in_the_package_turns_the_lesson_red(monkeypatch, wrong):
    monkeypatch.setattr(lgmpose.network.layers, "channel_shuffle", wrong)
    with pytest.raises(AssertionError):
        run_core("03")


def without_residual(self, x):
    return self.layers(x)


def residual_at_stride_2(self, x):
    y = self.layers(x)
    if x.shape[1] != y.shape[1]:
        return y
    return y + x[:, :, :: x.shape[2] // y.shape[2], :: x.shape[3] // y.shape[3]][:, :, : y.shape[2], : y.shape[3]]


@pytest.mark.parametrize("wrong", [without_residual, residual_at_stride_2])
def test_a_wrong_residual_in_the_package_turns_the_lesson_red(monkeypatch, wrong):
    monkeypatch.setattr(InvertedResidual, "forward", wrong)
    with pytest.raises(AssertionError):
        run_core("03")


def with_bias(self):
    conv = self[0]
    conv.bias = nn.Parameter(torch.zeros(conv.out_channels))


def with_activation(self):
    if len(self) == 2:
        self[1].register_forward_hook(lambda norm, inputs, output: output.clamp(0, 6))


def with_another_eps(self):
    self[1].eps = 1e-3


@pytest.mark.parametrize("wrong", [with_bias, with_activation, with_another_eps])
def test_a_wrong_layer_in_the_package_turns_the_lesson_red(monkeypatch, wrong):
    original = ConvNormAct.__init__

    def mutated(self, *args, **kwargs):
        original(self, *args, **kwargs)
        wrong(self)

    monkeypatch.setattr(ConvNormAct, "__init__", mutated)
    with pytest.raises(AssertionError):
        run_core("03")


def fold(weight, norm, *, eps=True, mean=True, axis=0, root=True):
    scale = norm.running_var + (norm.eps if eps else 0)
    scale = norm.weight / (scale.sqrt() if root else scale)
    shape = [1] * 4
    shape[axis] = -1
    bias = norm.bias - norm.running_mean * scale if mean else norm.bias
    return weight * (scale.view(shape) if weight.shape[axis] == len(scale) else scale[0]), bias


def test_exercise_1_correct():
    assert verdict("03.1", fold) == "correct"


@pytest.mark.parametrize("wrong", [
    pytest.param({"eps": False}, id="eps forgotten"),
    pytest.param({"mean": False}, id="running mean forgotten"),
    pytest.param({"axis": 1}, id="input channels scaled"),
    pytest.param({"root": False}, id="variance for spread"),
])  # fmt: skip
def test_exercise_1_rejects(wrong):
    message = verdict("03.1", lambda weight, norm: fold(weight, norm, **wrong))
    assert message.startswith("called with a weight of shape (6, 4, 3, 3)") and "is right" in message


def test_exercise_1_rejects_a_lone_weight():
    assert "a tuple of 2" in verdict("03.1", lambda weight, norm: fold(weight, norm)[0])


@pytest.mark.parametrize("attempt, expected", [
    pytest.param(163, "correct", id="right"),
    pytest.param(115, "predicted 115 rows, measured 163", id="as without MobileViM"),
    pytest.param(139, "predicted 139 rows, measured 163", id="one side only"),
    pytest.param(256, "predicted 256 rows, measured 163", id="everything"),
])  # fmt: skip
def test_exercise_2(attempt, expected):
    assert verdict("03.2", attempt) == expected


def test_blank_stubs_are_not_attempted():
    def stub(*arguments): ...

    for exercise, attempt in (("03.1", stub), ("03.1", None), ("03.2", ...), ("03.2", None)):
        assert verdict(exercise, attempt) == "not attempted yet"
