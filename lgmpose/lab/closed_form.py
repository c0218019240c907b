"""Costs of LGM-Pose in closed form, for many candidate networks at once.

A candidate is a dictionary: the names of ``recovery.SPACE`` → an array with one value per network. Costs have the shape
(2, n): parameters, and multiply–accumulates as ``macs.py`` counts them. ``tests/lab/test_recovery.py`` compares both
with the counts of built networks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

__all__ = ["Candidates", "decoder_costs", "encoder_costs", "has_block"]

Candidates = Mapping[str, np.ndarray]
VIT_LAYERS = {3: 2, 4: 4, 5: 3}  # stage → transformer layers of Table 4's block, as in MobileViT


def conv_costs(c_in, c_out, kernel: int, pixels: float, *, groups=1, norm: bool = True) -> np.ndarray:
    """Return the costs of a convolution without bias and its BatchNorm; ``pixels`` is the size of the output."""
    weights = c_in * c_out * kernel**2 / groups
    return np.array([weights + 2 * c_out * norm, weights * pixels])


def encoder_costs(c: Candidates, image_hw: tuple[int, int], global_block: str = "mobilevim") -> np.ndarray:
    """Return the costs (2, n) of the stem and the five stages."""
    pixels = image_hw[0] * image_hw[1] / 4
    costs = conv_costs(3, c["stem_channels"], 3, pixels)
    width = c["stem_channels"]
    for stage in range(1, 6):
        before, pixels = pixels, pixels / (1 if stage == 1 else 4)
        expansion, channels = (1 if stage == 1 else c["expansion"]), c[f"channels_{stage}"]
        costs = costs + _residual(width, channels, expansion, before, pixels)
        costs = costs + (c[f"repeats_{stage}"] - 1) * _residual(channels, channels, expansion, pixels, pixels)
        width = channels
        if stage >= 3:
            block = _mobilevit if global_block == "mobilevit" else _mobilevim
            costs = costs + has_block(c, stage) * block(c, stage, pixels)
    return costs


def has_block(c: Candidates, stage: int) -> np.ndarray:
    """Return which candidates (n,) have a global block at a stage; ``global_blocks`` 34 means at stages 3 and 4."""
    return np.isin(c["global_blocks"], [blocks for blocks in (34, 45, 345) if str(stage) in str(blocks)])


def _residual(c_in, c_out, expansion, pixels_in: float, pixels_out: float) -> np.ndarray:
    """Return the costs of an inverted residual. With expansion 1 it has no first 1×1."""
    hidden = c_in * expansion
    widen = np.where(expansion == 1, 0, 1) * conv_costs(c_in, hidden, 1, pixels_in)
    return widen + conv_costs(hidden, hidden, 3, pixels_out, groups=hidden) + conv_costs(hidden, c_out, 1, pixels_out)


def _around_tokens(channels, d, pixels: float) -> np.ndarray:
    """Return the costs of what both blocks share: 3×3, 1×1 up to d without BatchNorm, 1×1 down to the channels."""
    up = conv_costs(channels, d, 1, pixels, norm=False)
    return conv_costs(channels, channels, 3, pixels) + up + conv_costs(d, channels, 1, pixels)


def _mobilevim(c: Candidates, stage: int, pixels: float) -> np.ndarray:
    channels, ratio = c[f"channels_{stage}"], c["mlp_ratio"]
    in_patch = np.maximum(c[f"patch_pixels_{stage}"], 1)  # 0 where the stage has no block
    d, patches = channels * c["token_ratio"], pixels / in_patch
    costs = _around_tokens(channels, d, pixels) + conv_costs(2 * channels, channels, c["fuse_kernel"], pixels)
    for length in (patches, in_patch):  # LayerNorm, length → ratio · length → length with biases, on every row
        weights, rows = 2 * ratio * length**2, d * pixels / length
        costs = costs + np.array([weights + (ratio + 3) * length, weights * rows])
    return costs


def _mobilevit(c: Candidates, stage: int, pixels: float) -> np.ndarray:
    channels = c[f"channels_{stage}"]
    d = channels * c["token_ratio"]
    weights = 3 * d**2 + d**2 + 4 * d**2  # q, k and v; the output; the feed-forward part of width 2 d
    attention = 2 * pixels**2 / 4 * d  # two products over the positions of 2×2 patches
    layer = np.array([weights + 11 * d, weights * pixels + attention])  # 11 d: biases and two LayerNorms
    costs = _around_tokens(channels, d, pixels) + conv_costs(2 * channels, channels, 3, pixels)
    return costs + VIT_LAYERS[stage] * layer + np.array([2 * d, 0 * d])


def decoder_costs(c: Candidates, image_hw: tuple[int, int], num_keypoints: int, fusion: str = "sfusion") -> np.ndarray:
    """Return the costs (2, n) of the deconvolutions, the fusions (a row of Table 5) and the head."""
    pixels, width = image_hw[0] * image_hw[1] / 32**2, c["channels_5"]
    costs = np.zeros((2, 1))
    for step, stage in ((1, 4), (2, 3), (3, 2)):
        out = c[f"decoder_{step}"]
        weights = width * out * c["deconv_kernel"] ** 2
        costs = costs + np.array([weights + 2 * out, weights * pixels])
        pixels, width = 4 * pixels, out
        if fusion == "none":
            continue
        width = out + c[f"channels_{stage}"]
        if fusion == "conv3x3":
            costs = costs + conv_costs(width, width, 3, pixels)
        else:
            grouped = np.where(c["grouping"] == 1, 2, width / c["grouping"])  # two groups, or so many channels each
            groups = width if fusion == "dw1" else grouped
            costs = costs + conv_costs(width, width, 3, pixels, groups=groups)
            costs = costs + c["pointwise"] * conv_costs(width, width, 1, pixels)
    return costs + np.array([(width + 1) * num_keypoints, width * num_keypoints * pixels])
