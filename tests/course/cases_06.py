"""Lesson 06: wrong versions that its proofs and its exercises reject."""

import torch
from torch import nn

import lgmpose.network.modules as modules
from lgmpose.network.modules import LARM, MLPBlock, MobileViM, npt_op1, npt_op2, npt_op3

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'loops: LayerNorm left out': (
        '(value - mean) / math.sqrt(variance + 1e-5) * weight + bias',
        'value * weight + bias',
    ),
    'loops: LayerNorm without weight and bias': ('* weight + bias', ''),
    'loops: variance of a sample': (
        '(value - mean) ** 2 for value in table) / len(table)',
        '(value - mean) ** 2 for value in table) / 3',
    ),
    'loops: ReLU for GELU': ('0.5 * unit * (1 + torch.erf(unit / math.sqrt(2)))', 'unit.clamp(min=0)'),
    'loops: no second bias': ('zip(weights, hidden, strict=True)) + bias', 'zip(weights, hidden, strict=True))'),
    'MLP Block: LayerNorm left out': (
        'y = self.project(F.gelu(self.expand(self.norm(x))))',
        'y = self.project(F.gelu(self.expand(x)))',
    ),
    'MLP Block: ReLU for GELU': (
        'y = self.project(F.gelu(self.expand(self.norm(x))))',
        'y = self.project(F.relu(self.expand(self.norm(x))))',
    ),
    'MLP Block: post-norm': (
        'y = self.project(F.gelu(self.expand(self.norm(x))))',
        'y = self.norm(self.project(F.gelu(self.expand(x))))',
    ),
    'MLP Block: sign flipped': ('return x + y if self.residual', 'return x - y if self.residual'),
    'MLP Block: residual forgotten': ('return x + y if self.residual', 'return y if self.residual'),
    'MLP Block: residual always': ('if self.residual else y', 'if True else y'),
    'MLP Block: half as wide': (
        'self.expand = nn.Linear(length, 4 * length)',
        'self.expand = nn.Linear(length, 2 * length)',
    ),
    'LARM: thumbnails do not talk': (
        'x_BPdN = self.between_patches(npt_op1(x_BdHW, self.patch_hw))',
        'x_BPdN = npt_op1(x_BdHW, self.patch_hw)',
    ),
    'LARM: close-ups do not talk': ('x_BNdP = self.within_patch(npt_op2(x_BPdN))', 'x_BNdP = npt_op2(x_BPdN)'),
    'LARM: NPT-Op.2 forgotten': ('x_BNdP = self.within_patch(npt_op2(x_BPdN))', 'x_BNdP = self.within_patch(x_BPdN)'),
    'LARM: residual in one half': (
        'self.between_patches = MLPBlock((H // h) * (W // w), residual)',
        'self.between_patches = MLPBlock((H // h) * (W // w), not residual)',
    ),
    'loops: patches by column': (
        'larm.between_patches(thumbnail.flatten(2))',
        'larm.between_patches(thumbnail.mT.flatten(2))',
    ),
    'loops: first round lost': (
        'close_up = x[:, :, i : i + h, j : j + w]',
        'close_up = x_BdHW[:, :, i : i + h, j : j + w]',
    ),
    'MobileViM: concatenation swapped': ('torch.cat([x_BCHW, y], dim=1)', 'torch.cat([y, x_BCHW], dim=1)'),
    'MobileViM: local feature for the input': (
        'torch.cat([x_BCHW, y], dim=1)',
        'torch.cat([self.local(x_BCHW), y], dim=1)',
    ),
    'MobileViM: 3×3 left out': ('self.project_up(self.local(x_BCHW))', 'self.project_up(x_BCHW)'),
    'MobileViM: LARM left out': ('self.project_down(self.larm(y))', 'self.project_down(y)'),
    'MobileViM: a bias': ('nn.Conv2d(channels, d, 1, bias=False)', 'nn.Conv2d(channels, d, 1)'),
    'MobileViM: no activation after the projection': (
        'self.project_down = ConvNormAct(d, channels, kernel=1)',
        'self.project_down = ConvNormAct(d, channels, kernel=1, activation=None)',
    ),
    'cost: hidden layer forgotten': ('larm, layer = 8 * N + 8 * P', 'larm, layer = 2 * N + 2 * P'),
    "cost: attention's products forgotten": ('4 * d + 2 * N_vit + 4 * d', '4 * d + 4 * d'),
    "cost: attention's output forgotten": ('4 * d + 2 * N_vit + 4 * d', '3 * d + 2 * N_vit + 4 * d'),
    'shuffle: forgotten on one side': ('layer(x_BPNd)[:, :, shuffled]', 'layer(x_BPNd)'),
    'shuffle: none': ('block(x_BPdN[..., shuffled]), block(x_BPdN)[..., shuffled]', 'block(x_BPdN), block(x_BPdN)'),
    'volume: kept by a residual': ('(2, 3), residual=False)', '(2, 3), residual=True)'),
    'volume: lost without one': ('(2, 3), residual=True)', '(2, 3), residual=False)'),
}


def mlp(block, x):
    return block.project(block.activation(block.expand(block.norm(x))))


def residual_subtracted(patch):
    patch.setattr(MLPBlock, "forward", lambda self, x: x - mlp(self, x) if self.residual else mlp(self, x))


def residual_forgotten(patch):
    patch.setattr(MLPBlock, "forward", mlp)


def layer_norm_left_out(patch):
    def wrong(self, x):
        y = self.project(self.activation(self.expand(x)))
        return x + y if self.residual else y

    patch.setattr(MLPBlock, "forward", wrong)


def concatenation_swapped(patch):
    def wrong(self, x):
        y = self.project_down(self.larm(self.project_up(self.local(x))))
        return self.fuse(torch.cat([y, x], dim=1))

    patch.setattr(MobileViM, "forward", wrong)


def larm_without_second_mlp(patch):
    def wrong(self, x):
        return npt_op3(npt_op2(self.between_patches(npt_op1(x, self.patch_hw))), self.patch_hw, self.map_hw)

    patch.setattr(LARM, "forward", wrong)


def bias_in_the_projection(patch):
    right = MobileViM.__init__

    def wrong(self, channels, token_width, *args, **kwargs):
        right(self, channels, token_width, *args, **kwargs)
        self.project_up = nn.Conv2d(channels, token_width, 1)

    patch.setattr(MobileViM, "__init__", wrong)


def patch_axes_swapped_twice(patch):
    """Op.1 and Op.3 undo each other's mistake; the loops, which use neither, show it."""
    patch.setattr(modules, "npt_op1", lambda x, patch_hw: npt_op1(x, patch_hw[::-1]))
    patch.setattr(modules, "npt_op3", lambda x, patch_hw, map_hw: npt_op3(x, patch_hw[::-1], map_hw))


PACKAGE = [
    residual_subtracted, residual_forgotten, layer_norm_left_out, concatenation_swapped, larm_without_second_mlp,
    bias_in_the_projection, patch_axes_swapped_twice,
]  # fmt: skip


def within_first(x, larm):
    tokens = npt_op2(larm.within_patch(npt_op2(npt_op1(x, larm.patch_hw))))
    return npt_op3(npt_op2(larm.between_patches(tokens)), larm.patch_hw, larm.map_hw)


def never_transposed(x, larm):  # runs only because P = N
    tokens = larm.between_patches(larm.within_patch(npt_op2(npt_op1(x, larm.patch_hw))))
    return npt_op3(tokens, larm.patch_hw, larm.map_hw)


def between_forgotten(x, larm):
    return npt_op3(larm.within_patch(npt_op2(npt_op1(x, larm.patch_hw))), larm.patch_hw, larm.map_hw)


GROWTH = {"macs": 4 * (192 + 16) / (48 + 16), "parameters": (8 * 192**2 + 7 * 192 + 2160) / (8 * 48**2 + 7 * 48 + 2160)}
RIGHT = {"06.1": [within_first], "06.2": [GROWTH, {"macs": 13, "parameters": 14}]}
WRONG = {
    "06.1": {
        "between patches first": lambda x, larm: larm(x),
        "never transposed": never_transposed,
        "between patches forgotten": between_forgotten,
        "residual added twice": lambda x, larm: x + within_first(x, larm),
    },
    "06.2": {
        "as a convolution": GROWTH | {"macs": 4},
        "all of it quadratic": GROWTH | {"macs": 16},
        "no parameter grows": GROWTH | {"parameters": 1},
    },
}
