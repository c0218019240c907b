"""Lesson 04: its proofs reject wrong NPT-Ops, its exercises wrong answers, and a mutated package turns it red."""

from __future__ import annotations

import pytest
import torch
from notebook_tools import run_core, verdict

import lgmpose.network.modules as modules


def test_the_proofs_hold():
    assert run_core("04")["SIZES"]


# Each proof rejects named wrong versions. Right text → wrong text.

CUT = "x_BdHW.reshape(B, d, H // h, h, W // w, w)"


@pytest.mark.parametrize("mistakes", [
    # 1: loops, tensors and package
    pytest.param([("divmod(row, h)", "divmod(H - 1 - row, h)")], id="loops: rows upside down"),
    pytest.param([("p = inner_row * w + inner_column", "p = inner_column * h + inner_row")],
                 id="loops: places by column"),
    pytest.param([("n = patch_row * (W // w) + patch_column", "n = patch_column * (H // h) + patch_row")],
                 id="loops: patches by column"),
    pytest.param([("permute(0, 3, 5, 1, 2, 4)", "permute(0, 5, 3, 1, 2, 4)")], id="op1: axes swapped"),
    pytest.param([("permute(0, 3, 5, 1, 2, 4)", "permute(0, 3, 5, 1, 4, 2)")], id="op1: patches by column"),
    pytest.param([(CUT, "x_BdHW.reshape(B, d, h, H // h, w, W // w).permute(0, 1, 3, 2, 5, 4)")],
                 id="op1: patch of distant pixels"),
    pytest.param([("places_first.reshape(", "x_BdHW.reshape(")], id="op1: reshape alone"),
    pytest.param([("return x_BPdN.transpose(1, 3)", "return x_BPdN.reshape(*x_BPdN.transpose(1, 3).shape)")],
                 id="op2: reshape for transpose"),
    pytest.param([("return x_BPdN.transpose(1, 3)", "return x_BPdN.transpose(1, 3).flip(1)")],
                 id="op2: really flipped"),
    pytest.param([("permute(0, 3, 1, 4, 2, 5)", "permute(0, 3, 1, 5, 2, 4)")], id="op3: axes swapped"),
    pytest.param([("digits.permute(0, 3, 1, 4, 2, 5).reshape", "digits.reshape")], id="op3: reshape alone"),
    # 2: others' unfolding
    pytest.param([(".view(2, 5, h * w, -1)", ".view(2, h * w, 5, -1).transpose(1, 2)")],
                 id="unfold: channels and places swapped"),
    pytest.param([("F.pixel_unshuffle(x, 2)", "F.pixel_unshuffle(x.mT, 2)")], id="pixel_unshuffle: of the transpose"),
    pytest.param([("return x.transpose(1, 3)", "return x.transpose(1, 3).flip(2)")], id="MobileViT: patches backwards"),
    pytest.param([("F.fold(columns_BdPN.flatten(1, 2)", "F.fold(columns_BdPN.transpose(1, 2).flatten(1, 2)")],
                 id="fold: channels and places swapped"),
    # 3: permutations, identity
    pytest.param([("M1 = as_matrix(lambda unit: op1(", "M1 = as_matrix(lambda unit: 2 * op1(")], id="op1: doubles"),
    pytest.param([("M2 = as_matrix(lambda unit: op2(", "M2 = as_matrix(lambda unit: -op2(")], id="op2: a sign"),
    pytest.param([("M2 = as_matrix(lambda unit: op2(", "M2 = as_matrix(lambda unit: (")], id="op2: left out"),
    pytest.param([("M3 = as_matrix(lambda unit: op3(", "M3 = as_matrix(lambda unit: op3(unit.mean() + ")],
                 id="op3: mixes"),
    # 4: who talks
    pytest.param([("op3(op2(layer(op1(x, patch_hw)))", "op3(op2(op1(x, patch_hw))")], id="over patches: no layer"),
    pytest.param([("op3(op2(layer(op1(x, patch_hw)))", "op3(op2(layer(op1(x + x.sum(1, True), patch_hw)))")],
                 id="over patches: channels talk"),
    pytest.param([("op3(layer(op2(op1(x, patch_hw)))", "op3(op2(op1(x, patch_hw))")], id="over places: no layer"),
    pytest.param([("op3(layer(op2(op1(x, patch_hw)))", "op3(layer(op2(op1(x + x.sum(1, True), patch_hw)))")],
                 id="over places: channels talk"),
])  # fmt: skip
def test_a_wrong_version_breaks_a_proof(mistakes):
    with pytest.raises(AssertionError):
        run_core("04", *mistakes)


# A mutated package turns the lesson red.

op1, op2, op3 = modules.npt_op1, modules.npt_op2, modules.npt_op3
WRONG_PACKAGES = [
    pytest.param("npt_op1", lambda x, patch_hw: op1(x, patch_hw[::-1]), id="op1: patch axes swapped"),
    pytest.param("npt_op1", lambda x, patch_hw: op1(x.mT, patch_hw[::-1]), id="op1: counts by column"),
    pytest.param("npt_op2", lambda x: x.reshape(*x.transpose(1, 3).shape), id="op2: reshape for transpose"),
    pytest.param("npt_op3", lambda x, patch_hw, map_hw: op3(x, patch_hw[::-1], map_hw), id="op3: patch axes swapped"),
    pytest.param("npt_op3", lambda x, patch_hw, map_hw: op3(x.flip(1), patch_hw, map_hw), id="op3: patches backwards"),
]


@pytest.mark.parametrize("name, wrong", WRONG_PACKAGES)
def test_a_mutated_package_turns_it_red(name, wrong, monkeypatch):
    monkeypatch.setattr(modules, name, wrong)
    with pytest.raises(AssertionError):
        run_core("04")


# The exercises


def by_slices(x, patch_hw):
    h, w = patch_hw
    return torch.stack([x[:, :, i::h, j::w].flatten(2) for i in range(h) for j in range(w)], dim=1)


def by_slices_column_first(x, patch_hw):
    h, w = patch_hw
    return torch.stack([x[:, :, i::h, j::w].flatten(2) for j in range(w) for i in range(h)], dim=1)


def close_ups(x, patch_hw):
    return op2(by_slices(x, patch_hw))


def channels_first(x, patch_hw):
    return by_slices(x, patch_hw).transpose(1, 2)


def wrong_step(x, patch_hw):
    h, w = patch_hw
    return torch.stack([x[:, :, i::h, j::h].flatten(2) for i in range(h) for j in range(w)], dim=1)


def test_exercise_1_takes_slices():
    assert verdict("04.1", by_slices) == "correct"
    assert verdict("04.1", op1) == "correct", "by whatever means"
    assert verdict("04.1", lambda x, patch_hw: ...) == verdict("04.1", ...) == "not attempted yet"


@pytest.mark.parametrize("wrong, message", [
    (by_slices_column_first, r"a map of (4, 6) and patches of (2, 3): "),
    (close_ups, "has the shape (2, 4, 3, 6) where (2, 6, 3, 4) is right"),
    (channels_first, "has the shape (2, 3, 6, 4) where (2, 6, 3, 4) is right"),
    (wrong_step, "stops with RuntimeError: stack expects each tensor to be equal size"),
])  # fmt: skip
def test_exercise_1_rejects(wrong, message):
    assert message in verdict("04.1", wrong)


RIGHT = {"a": 16, "b": 6, "c": 96, "d": 16}  # N, P, all, and N again: who met at the table meets again


def test_exercise_2_is_measured():
    assert verdict("04.2", RIGHT) == "correct"
    assert verdict("04.2", dict.fromkeys("abcd", ...)) == verdict("04.2", None) == "not attempted yet"


@pytest.mark.parametrize("wrong, message", [
    pytest.param({"a": 6, "b": 16}, "'a': 6 where 16 is right", id="N and P swapped"),
    pytest.param({"c": 22}, "'c': 22 where 96 is right", id="sum for product"),
    pytest.param({"d": 96}, "'d': 96 where 16 is right", id="depth for a change of seats"),
])  # fmt: skip
def test_exercise_2_rejects(wrong, message):
    assert message in verdict("04.2", RIGHT | wrong)
