"""Lesson 05: its proofs reject wrong LARMs, its exercises wrong answers, and a mutated package turns it red."""

from __future__ import annotations

import pytest
import torch
from notebook_tools import run_core, verdict
from torch import nn

import lgmpose.network.modules as modules
from lgmpose.network.modules import LARM, MLPBlock, MobileViM, npt_op1, npt_op2, npt_op3


def test_the_proofs_hold():
    assert run_core("05")["SIZES"]


# Each proof rejects named wrong versions. Right text → wrong text.

EQUATION = "y = self.project(F.gelu(self.expand(self.norm(x))))"
FUSE = "torch.cat([x_BCHW, y], dim=1)"


@pytest.mark.parametrize("right, wrong", [
    # Equation 1 by loops
    pytest.param("(value - mean) / math.sqrt(variance + 1e-5) * weight + bias", "value * weight + bias",
                 id="loops: LayerNorm left out"),
    pytest.param("* weight + bias", "", id="loops: LayerNorm without weight and bias"),
    pytest.param("(value - mean) ** 2 for value in table) / len(table)", "(value - mean) ** 2 for value in table) / 3",
                 id="loops: variance of a sample"),
    pytest.param("0.5 * unit * (1 + torch.erf(unit / math.sqrt(2)))", "unit.clamp(min=0)", id="loops: ReLU for GELU"),
    pytest.param("zip(weights, hidden, strict=True)) + bias", "zip(weights, hidden, strict=True))",
                 id="loops: no second bias"),
    # MLP Block
    pytest.param(EQUATION, EQUATION.replace("self.norm(x)", "x"), id="MLP Block: LayerNorm left out"),
    pytest.param(EQUATION, EQUATION.replace("F.gelu", "F.relu"), id="MLP Block: ReLU for GELU"),
    pytest.param(EQUATION, "y = self.norm(self.project(F.gelu(self.expand(x))))", id="MLP Block: post-norm"),
    pytest.param("return x + y if self.residual", "return x - y if self.residual", id="MLP Block: sign flipped"),
    pytest.param("return x + y if self.residual", "return y if self.residual", id="MLP Block: residual forgotten"),
    pytest.param("if self.residual else y", "if True else y", id="MLP Block: residual always"),
    pytest.param("self.expand = nn.Linear(length, 4 * length)", "self.expand = nn.Linear(length, 2 * length)",
                 id="MLP Block: half as wide"),
    # LARM
    pytest.param("x_BPdN = self.between_patches(npt_op1(x_BdHW, self.patch_hw))",
                 "x_BPdN = npt_op1(x_BdHW, self.patch_hw)", id="LARM: thumbnails do not talk"),
    pytest.param("x_BNdP = self.within_patch(npt_op2(x_BPdN))", "x_BNdP = npt_op2(x_BPdN)",
                 id="LARM: close-ups do not talk"),
    pytest.param("x_BNdP = self.within_patch(npt_op2(x_BPdN))", "x_BNdP = self.within_patch(x_BPdN)",
                 id="LARM: NPT-Op.2 forgotten"),  # P = N at the first size, so no shape tells
    pytest.param("self.between_patches = MLPBlock((H // h) * (W // w), residual)",
                 "self.between_patches = MLPBlock((H // h) * (W // w), not residual)", id="LARM: residual in one half"),
    # LARM by loops
    pytest.param("larm.between_patches(thumbnail.flatten(2))", "larm.between_patches(thumbnail.mT.flatten(2))",
                 id="loops: patches by column"),
    pytest.param("close_up = x[:, :, i : i + h, j : j + w]", "close_up = x_BdHW[:, :, i : i + h, j : j + w]",
                 id="loops: first round lost"),
    # MobileViM
    pytest.param(FUSE, "torch.cat([y, x_BCHW], dim=1)", id="MobileViM: concatenation swapped"),
    pytest.param(FUSE, "torch.cat([self.local(x_BCHW), y], dim=1)", id="MobileViM: local feature for the input"),
    pytest.param("self.project_up(self.local(x_BCHW))", "self.project_up(x_BCHW)", id="MobileViM: 3×3 left out"),
    pytest.param("self.project_down(self.larm(y))", "self.project_down(y)", id="MobileViM: LARM left out"),
    pytest.param("nn.Conv2d(channels, d, 1, bias=False)", "nn.Conv2d(channels, d, 1)", id="MobileViM: a bias"),
    pytest.param("self.project_down = ConvNormAct(d, channels, kernel=1)",
                 "self.project_down = ConvNormAct(d, channels, kernel=1, activation=None)",
                 id="MobileViM: no activation after the projection"),
    # What it costs
    pytest.param("larm, layer = 8 * N + 8 * P", "larm, layer = 2 * N + 2 * P", id="cost: hidden layer forgotten"),
    pytest.param("4 * d + 2 * N_vit + 4 * d", "4 * d + 4 * d", id="cost: attention's products forgotten"),
    pytest.param("4 * d + 2 * N_vit + 4 * d", "3 * d + 2 * N_vit + 4 * d", id="cost: attention's output forgotten"),
    # Shuffled patches
    pytest.param("layer(x_BPNd)[:, :, shuffled]", "layer(x_BPNd)", id="shuffle: forgotten on one side"),
    pytest.param("block(x_BPdN[..., shuffled]), block(x_BPdN)[..., shuffled]", "block(x_BPdN), block(x_BPdN)",
                 id="shuffle: none"),
    # Volume
    pytest.param("(2, 3), residual=False)", "(2, 3), residual=True)", id="volume: kept by a residual"),
    pytest.param("(2, 3), residual=True)", "(2, 3), residual=False)", id="volume: lost without one"),
])  # fmt: skip
def test_a_wrong_version_breaks_a_proof(right, wrong):
    with pytest.raises(AssertionError):
        run_core("05", (right, wrong))


# A mutated package turns the lesson red.


def mlp(block, x):
    return block.project(block.activation(block.expand(block.norm(x))))


def sign_flipped(block, x):
    return x - mlp(block, x) if block.residual else mlp(block, x)


def residual_forgotten(block, x):
    return mlp(block, x)


def layer_norm_left_out(block, x):
    y = block.project(block.activation(block.expand(x)))
    return x + y if block.residual else y


def concatenation_swapped(block, x):
    y = block.project_down(block.larm(block.project_up(block.local(x))))
    return block.fuse(torch.cat([y, x], dim=1))


def larm_without_second_round(larm, x):
    return npt_op3(npt_op2(larm.between_patches(npt_op1(x, larm.patch_hw))), larm.patch_hw, larm.map_hw)


@pytest.mark.parametrize("owner, wrong", [
    (MLPBlock, sign_flipped),
    (MLPBlock, residual_forgotten),
    (MLPBlock, layer_norm_left_out),
    (MobileViM, concatenation_swapped),
    (LARM, larm_without_second_round),
])  # fmt: skip
def test_a_mutated_module_turns_it_red(owner, wrong, monkeypatch):
    monkeypatch.setattr(owner, "forward", wrong)
    with pytest.raises(AssertionError):
        run_core("05")


def test_a_bias_added_to_project_up_turns_it_red(monkeypatch):
    right = MobileViM.__init__

    def with_bias(self, channels, token_width, *args, **kwargs):
        right(self, channels, token_width, *args, **kwargs)
        self.project_up = nn.Conv2d(channels, token_width, 1)

    monkeypatch.setattr(MobileViM, "__init__", with_bias)
    with pytest.raises(AssertionError):
        run_core("05")


def test_swapped_patch_axes_turn_it_red(monkeypatch):
    """Both swapped, so that they undo each other: the loops, which use no NPT-Op, see it."""
    monkeypatch.setattr(modules, "npt_op1", lambda x, patch_hw: npt_op1(x, patch_hw[::-1]))
    monkeypatch.setattr(modules, "npt_op3", lambda x, patch_hw, map_hw: npt_op3(x, patch_hw[::-1], map_hw))
    with pytest.raises(AssertionError):
        run_core("05")


# The exercises


def within_first(x, larm):
    tokens = npt_op2(larm.within_patch(npt_op2(npt_op1(x, larm.patch_hw))))
    return npt_op3(npt_op2(larm.between_patches(tokens)), larm.patch_hw, larm.map_hw)


def between_first(x, larm):
    return larm(x)


def never_turned(x, larm):  # runs where P = N
    tokens = larm.between_patches(larm.within_patch(npt_op2(npt_op1(x, larm.patch_hw))))
    return npt_op3(tokens, larm.patch_hw, larm.map_hw)


def between_forgotten(x, larm):
    return npt_op3(larm.within_patch(npt_op2(npt_op1(x, larm.patch_hw))), larm.patch_hw, larm.map_hw)


def residual_added_twice(x, larm):
    return x + within_first(x, larm)


def test_exercise_1_takes_the_other_order():
    assert verdict("05.1", within_first) == "correct"
    assert verdict("05.1", lambda x, larm: ...) == verdict("05.1", ...) == "not attempted yet"


@pytest.mark.parametrize("wrong", [between_first, never_turned, between_forgotten, residual_added_twice])
def test_exercise_1_rejects(wrong):
    message = verdict("05.1", wrong)
    assert message.startswith("called with a map of (8, 32) and a LARM with patches of (2, 8): ")
    assert message.endswith("is right")


RIGHT = {"macs": 4 * (192 + 16) / (48 + 16), "parameters": (8 * 192**2 + 7 * 192 + 2160) / (8 * 48**2 + 7 * 48 + 2160)}


def test_exercise_2_is_counted():
    assert verdict("05.2", RIGHT) == verdict("05.2", {"macs": 13, "parameters": 15}) == "correct"
    assert verdict("05.2", {"macs": ..., "parameters": ...}) == verdict("05.2", None) == "not attempted yet"


@pytest.mark.parametrize("wrong, message", [
    pytest.param({"macs": 4}, "'macs': 4 where 13 is right", id="as a convolution"),
    pytest.param({"macs": 16}, "'macs': 16 where 13 is right", id="all of it quadratic"),
    pytest.param({"parameters": 1}, "'parameters': 1 where 14.2592 is right", id="none grow"),
])  # fmt: skip
def test_exercise_2_rejects(wrong, message):
    assert message in verdict("05.2", RIGHT | wrong)
