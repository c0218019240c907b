"""Lesson 06: its proofs and its checkers reject named mistakes, and a changed package turns it red."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from notebook_tools import run_core, verdict

import lgmpose.network.modules
from lgmpose.network.modules import SFusion
from lgmpose.network.variants import ConvFusion

CAT = "    x_BCHW = torch.cat([decoder_BDHW, encoder_BEHW], dim=1)\n    if"
MISTAKES = [
    pytest.param(CAT, CAT.replace("decoder_BDHW, encoder_BEHW", "encoder_BEHW, decoder_BDHW"), id="encoder first"),
    pytest.param("for column in range(columns) for row in range(rows)",
                 "for row in range(rows) for column in range(columns)", id="shuffle read by rows"),
    pytest.param("rows, columns = n, C // n", "rows, columns = C // n, n", id="rows and columns swapped"),
    pytest.param("k=2, shuffle=True", "k=2, shuffle=False", id="shuffle left out"),
    pytest.param("(var + norm.eps).sqrt()", "(1 + norm.eps)", id="running variance forgotten"),
    pytest.param("(x_BCHW - mean)", "x_BCHW", id="running mean forgotten"),
    pytest.param('"oc,bchw->bohw"', '"co,bchw->bohw"', id="1x1 transposed"),
    pytest.param("package.pointwise[1]).clamp(0, 6)", "package.pointwise[1])", id="activation left out"),
    # the rivals of Table 5
    pytest.param('rivals["dw2"], k=2, shuffle=False', 'rivals["dw2"], k=2, shuffle=True', id="DW g=2 shuffled"),
    pytest.param('rivals["dw1"], k=1, shuffle=False', 'rivals["dw1"], k=1, shuffle=True', id="DW g=1 shuffled"),
    pytest.param('"none": decoder_BDHW', '"none": both_BCHW[:, E:]', id="None takes other channels"),
    pytest.param("padding=1), norm).clamp(0, 6)", "padding=1), norm)", id="plain convolution without activation"),
]  # fmt: skip


def test_the_proofs_hold():
    assert "sfusion_by_hand" in run_core("06")


@pytest.mark.parametrize("right, wrong", MISTAKES)
def test_the_proofs_reject(right, wrong):
    with pytest.raises(AssertionError):
        run_core("06", (right, wrong))


def one_channel_per_group(monkeypatch):
    monkeypatch.setitem(SFusion.__init__.__kwdefaults__, "channels_per_group", 1)


def no_shuffle(monkeypatch):
    monkeypatch.setattr(lgmpose.network.modules, "channel_shuffle", lambda x, groups: x)


def other_shuffle(monkeypatch):
    right = lgmpose.network.modules.channel_shuffle
    monkeypatch.setattr(lgmpose.network.modules, "channel_shuffle", lambda x, groups: right(x, x.shape[1] // groups))


def encoder_first(monkeypatch):
    right = SFusion.forward
    monkeypatch.setattr(SFusion, "forward", lambda self, decoder, encoder: right(self, encoder, decoder))


def activation_between(monkeypatch):
    def forward(self, decoder, encoder):
        x = lgmpose.network.modules.channel_shuffle(torch.cat([decoder, encoder], dim=1), 2)
        return self.pointwise(F.relu6(self.grouped(x)))

    monkeypatch.setattr(SFusion, "forward", forward)


def plain_fusion_without_norm(monkeypatch):
    def forward(self, decoder, encoder):
        conv, _, activation = self.conv
        return activation(conv(torch.cat([decoder, encoder], dim=1)))

    monkeypatch.setattr(ConvFusion, "forward", forward)


@pytest.mark.parametrize(
    "mutation",
    [one_channel_per_group, no_shuffle, other_shuffle, encoder_first, activation_between, plain_fusion_without_norm],
)
def test_a_changed_package_turns_the_lesson_red(mutation, monkeypatch):
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        run_core("06")


# Exercise 1


def dense_kernel(grouped, pointwise):
    """What the two convolutions answer to an impulse, turned round: nobody's formula."""
    C, k = grouped.shape[:2]
    impulses = torch.zeros(C, C, 5, 5)
    impulses[range(C), range(C), 2, 2] = 1
    answers = F.conv2d(F.conv2d(impulses, grouped, padding=1, groups=C // k), pointwise[:, :, None, None])
    return answers[:, :, 1:4, 1:4].flip(-1, -2).transpose(0, 1)


def by_loops(grouped, pointwise, *, first=lambda m, k: m // k * k, flip=False, transpose=False):
    C, k = grouped.shape[:2]
    kernel = torch.zeros(len(pointwise), C, 3, 3)
    for m in range(C):
        for j in range(k):
            part = grouped[m, j].T if transpose else grouped[m, j]
            kernel[:, (first(m, k) + j) % C] += pointwise[:, m, None, None] * part
    return kernel.flip(-1, -2) if flip else kernel


def test_exercise_1_takes_what_is_right():
    assert verdict("06.1", dense_kernel) == "correct"
    assert verdict("06.1", by_loops) == "correct"


def test_exercises_wait_for_an_attempt():
    assert verdict("06.1", lambda grouped, pointwise: ...) == verdict("06.2", ...) == "not attempted yet"
    assert verdict("06.1", None) == verdict("06.2", None) == "not attempted yet"


@pytest.mark.parametrize(
    "wrong, message",
    [
        pytest.param(lambda g, p: by_loops(g, p, flip=True), "is right", id="turned round"),
        pytest.param(lambda g, p: by_loops(g, p, transpose=True), "is right", id="axes swapped"),
        pytest.param(lambda g, p: by_loops(g, p, first=lambda m, k: m), "is right", id="sliding groups"),
        pytest.param(lambda g, p: by_loops(g, p, first=lambda m, k: m % k), "is right", id="groups dealt out"),
        pytest.param(lambda g, p: by_loops(g, p).transpose(0, 1), "has the shape", id="in and out swapped"),
        pytest.param(lambda g, p: by_loops(g, torch.ones_like(p)), "is right", id="1x1 forgotten"),
        pytest.param(lambda g, p: torch.einsum("om,mkhw->okhw", p, g), "has the shape", id="groups forgotten"),
    ],
)
def test_exercise_1_rejects(wrong, message):
    assert message in verdict("06.1", wrong)


# Exercise 2


def test_exercise_2_is_a_matter_of_counting():
    order = [row * 76 + column for column in range(76) for row in range(4)]
    pairs = zip(order[::2], order[1::2], strict=True)
    assert verdict("06.2", sum((a < 208) != (b < 208) for a, b in pairs)) == "correct"


@pytest.mark.parametrize("wrong", [pytest.param(96, id="as with n = 2"), pytest.param(48, id="half"), 152, 0, "fewer"])
def test_exercise_2_rejects(wrong):
    assert "right" in verdict("06.2", wrong)
