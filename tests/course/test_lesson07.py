"""Lesson 07: its proofs and its checkers reject named mistakes, and a changed package turns it red."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from notebook_tools import run_core, verdict

import lgmpose.network.layers
from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.network.modules import MLPBlock

WITH_T = "self.conv(t * c_in, t * c_in, 3, pixels // s**2, groups=t * c_in)"
FORWARD = [
    pytest.param("act=F.relu6):", "act=F.relu):", id="ReLU for ReLU6"),
    pytest.param(', "running_var", "weight", "bias"', ', "weight", "running_var", "bias"', id="variance for weight"),
    pytest.param("return x + y if x.shape == y.shape else y", "return y", id="residual forgotten"),
    pytest.param('+ 1}", act=None)', '+ 1}")', id="activation after the narrowing"),
    pytest.param("return x + F.linear(F.gelu", "return F.linear(F.gelu", id="LARM without its residual"),
    pytest.param(".permute(0, 3, 5, 1, 2, 4)", ".permute(0, 5, 3, 1, 2, 4)", id="pixels of a patch column by column"),
    pytest.param("torch.cat([x, y], dim=1), theta", "torch.cat([y, x], dim=1), theta", id="MobileViM's input last"),
    pytest.param('conv(x, theta, f"{name}.local")', 'conv(x, theta, f"{name}.local", act=None)', id="bare local 3x3"),
    pytest.param(".unflatten(1, (2, -1))", ".unflatten(1, (-1, 2))", id="shuffle the other way"),
    pytest.param("torch.cat([decoder, encoder], dim=1)", "torch.cat([encoder, decoder], dim=1)", id="encoder first"),
    pytest.param('grouped", act=None)', 'grouped")', id="activation inside SFusion"),
    pytest.param("F.relu6(norm(F.conv_transpose2d", "F.relu(norm(F.conv_transpose2d", id="deconvolution with ReLU"),
    pytest.param(', theta["head.bias"])', ")", id="head without bias"),
]  # fmt: skip
COUNT = [
    pytest.param("(2 * c_out if norm else 0)", "(c_out if norm else 0)", id="half a BatchNorm"),
    pytest.param("c_in // groups * c_out", "c_in * c_out", id="groups forgotten"),
    pytest.param("        if t > 1:\n", "        if t:\n", id="first 1x1 at t = 1"),
    pytest.param(WITH_T, WITH_T.replace("pixels // s**2", "pixels"), id="depthwise before its stride"),
    pytest.param("(4 * length**2 + length)", "(4 * length**2 + 4 * length)", id="bias of the wrong length"),
    pytest.param("self.macs + 8 * length**2 * (pixels // length)", "self.macs + 8 * length * (pixels // length)",
                 id="MLP linear in the patches"),
    pytest.param("self.conv(c, d, 1, pixels, norm=False)", "self.conv(c, d, 1, pixels)", id="projection up with norm"),
    pytest.param("tally.conv(width, deconv, 2, pixels)", "tally.conv(width, deconv, 2, 4 * pixels)",
                 id="deconvolution at output pixels"),
    pytest.param("return tally.params + K, tally.macs", "return tally.params, tally.macs", id="head's bias uncounted"),
    pytest.param('(1 if fusion == "dw1" else 2)', "2", id="DW g=1 in pairs"),
    pytest.param("(c[3], c[2], c[1])", "(c[3], c[2], c[0])", id="wrong encoder stage"),
    # how a figure is read
    pytest.param("(steps < above)", "(steps <= above)", id="0.9 printed as 0.8"),
    pytest.param("below=0.5, above=1.0", "below=0.0, above=1.0", id="only cut"),
]  # fmt: skip


def test_the_proofs_hold():
    assert "lgm_pose" in run_core("07")


@pytest.mark.parametrize("right, wrong", FORWARD + COUNT)
def test_the_proofs_reject(right, wrong):
    with pytest.raises(AssertionError):
        run_core("07", (right, wrong))


# The package changed


def rebuilt(monkeypatch, change):
    """Every network of the recovered widths is built from a changed config."""
    right = LGMPose.__init__

    def wrong(self, config):
        same = config.stages == LGMPoseConfig().stages and config.decoder_channels == LGMPoseConfig().decoder_channels
        right(self, change(config) if same else config)
        self.config = config

    monkeypatch.setattr(LGMPose, "__init__", wrong)


def with_stage(config, index, **changes):
    stages = list(config.stages)
    stages[index] = replace(stages[index], **changes)
    return config.with_(stages=tuple(stages))


def decoder_width(monkeypatch):
    rebuilt(monkeypatch, lambda config: config.with_(decoder_channels=(208, 104, 56)))


def survivor_of_the_search(monkeypatch):
    """Prints the paper's figures all the same: only the exact count tells."""
    change = {"decoder_channels": (208, 120, 44)}
    rebuilt(monkeypatch, lambda config: with_stage(config, 4, channels=136).with_(**change))


def stage_stride(monkeypatch):
    """The first stride of 2 a stage earlier: same parameters, same sizes from there on."""
    rebuilt(monkeypatch, lambda config: with_stage(with_stage(config, 0, stride=2), 1, stride=1))


def stage_expansion(monkeypatch):
    rebuilt(monkeypatch, lambda config: with_stage(config, 4, expansion=5))


def stage_repeats(monkeypatch):
    rebuilt(monkeypatch, lambda config: with_stage(config, 1, repeats=2))


def other_activation(monkeypatch):
    rebuilt(monkeypatch, lambda config: config.with_(activation="silu"))


def no_residual_in_larm(monkeypatch):
    right = MLPBlock.__init__
    monkeypatch.setattr(MLPBlock, "__init__", lambda self, n, ratio=4, residual=True: right(self, n, residual=False))


def head_without_bias(monkeypatch):
    right = LGMPose.__init__

    def wrong(self, config):
        right(self, config)
        self.head.bias = None

    monkeypatch.setattr(LGMPose, "__init__", wrong)


def bias_added_to_the_stem(monkeypatch):
    right = LGMPose.__init__

    def wrong(self, config):
        right(self, config)
        self.stem[0].bias = torch.nn.Parameter(torch.zeros(config.stem_channels))

    monkeypatch.setattr(LGMPose, "__init__", wrong)


def activation_on_the_heatmaps(monkeypatch):
    right = LGMPose.forward_head
    monkeypatch.setattr(LGMPose, "forward_head", lambda self, features: right(self, features).relu())


def activation_after_an_inverted_residual(monkeypatch):
    block = lgmpose.network.layers.InvertedResidual
    right = block.forward
    monkeypatch.setattr(block, "forward", lambda self, x: right(self, x).clamp(0, 6))


def skips_in_the_wrong_order(monkeypatch):
    """Stage 3 and stage 2 have the same width; at the wrong size one is stretched."""
    right = LGMPose.forward_features

    def wrong(self, x):
        features = right(self, x)
        features[1] = torch.nn.functional.interpolate(features[2], scale_factor=2)[:, : features[1].shape[1]]
        return features

    monkeypatch.setattr(LGMPose, "forward_features", wrong)


@pytest.mark.parametrize(
    "mutation",
    [
        decoder_width, survivor_of_the_search, stage_stride, stage_expansion, stage_repeats, other_activation,
        no_residual_in_larm, head_without_bias, bias_added_to_the_stem, activation_on_the_heatmaps,
        activation_after_an_inverted_residual, skips_in_the_wrong_order,
    ],
)  # fmt: skip
def test_a_changed_package_turns_the_lesson_red(mutation, monkeypatch):
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        run_core("07")


# Exercise 1


def mobilevit_cost(c, d, layers, pixels, *, sets=4, products=2, ffn=2, norms=2, last_norm=True, bias=True, fuse=3):
    """The block, term by term; each keyword is a way to be wrong."""
    convs = 9 * c * c + 2 * c * d + fuse**2 * 2 * c * c
    linears = 4 * d * d + 2 * ffn * d * d
    small = (5 + ffn) * d * bias + norms * 2 * d
    params = convs + 6 * c + layers * (linears + small) + 2 * d * last_norm
    return params, (convs + layers * linears) * pixels + layers * products * (pixels // sets) * d * pixels


def test_exercise_1_takes_what_is_right():
    assert verdict("07.1", mobilevit_cost) == "correct"


def test_exercises_wait_for_an_attempt():
    assert verdict("07.1", lambda c, d, layers, pixels: ...) == verdict("07.2", ...) == "not attempted yet"
    assert verdict("07.1", None) == verdict("07.2", None) == "not attempted yet"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"sets": 1}, id="attention over all pixels"),
        pytest.param({"products": 1}, id="one product of two"),
        pytest.param({"products": 0}, id="products forgotten"),
        pytest.param({"ffn": 4}, id="feed-forward 4d"),
        pytest.param({"norms": 1}, id="one LayerNorm of two"),
        pytest.param({"last_norm": False}, id="last LayerNorm forgotten"),
        pytest.param({"bias": False}, id="linears without bias"),
        pytest.param({"fuse": 1}, id="fused by a 1x1"),
    ],
)
def test_exercise_1_rejects(change):
    assert "is right" in verdict("07.1", lambda *sizes: mobilevit_cost(*sizes, **change))


def test_exercise_1_wants_both():
    assert "a tuple of 2" in verdict("07.1", lambda *sizes: mobilevit_cost(*sizes)[0])


# Exercise 2


def test_exercise_2_is_a_sum_of_two_growths():
    """LARM's first blocks take 8·N·pixels·d MACs at strides 8 and 16 and grow 16-fold, all else 4-fold."""
    between = 8 * 48 * (32 * 24 * 96 + 16 * 12 * 192)
    assert verdict("07.2", 4 + 12 * between / 657_447_936) == "correct"


@pytest.mark.parametrize("wrong", [pytest.param(4, id="pixels alone"), pytest.param(16, id="squared"), 2.0, "more"])
def test_exercise_2_rejects(wrong):
    assert verdict("07.2", wrong) not in ("correct", "not attempted yet")
