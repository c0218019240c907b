"""Lesson 06: wrong versions that its proofs and its tasks reject."""

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
    'LARM: first step left out': (
        'x_BPdN = self.between_patches(npt_op1(x_BdHW, self.patch_hw))',
        'x_BPdN = npt_op1(x_BdHW, self.patch_hw)',
    ),
    'LARM: second step left out': ('x_BNdP = self.within_patch(npt_op2(x_BPdN))', 'x_BNdP = npt_op2(x_BPdN)'),
    'LARM: NPT-Op.2 forgotten': ('x_BNdP = self.within_patch(npt_op2(x_BPdN))', 'x_BNdP = self.within_patch(x_BPdN)'),
    'LARM: residual in one half': (
        'self.between_patches = MLPBlock((H // h) * (W // w), residual)',
        'self.between_patches = MLPBlock((H // h) * (W // w), not residual)',
    ),
    'loops: patches by column': (
        'larm.between_patches(small.flatten(2))',
        'larm.between_patches(small.mT.flatten(2))',
    ),
    'loops: first round lost': (
        'patch = x[:, :, i : i + h, j : j + w]',
        'patch = x_BdHW[:, :, i : i + h, j : j + w]',
    ),
    'MobileViM: concatenation swapped': ('torch.cat([x_BCHW, y_BCHW], dim=1)', 'torch.cat([y_BCHW, x_BCHW], dim=1)'),
    'MobileViM: local feature for the input': (
        'torch.cat([x_BCHW, y_BCHW], dim=1)',
        'torch.cat([self.local(x_BCHW), y_BCHW], dim=1)',
    ),
    'MobileViM: 3×3 left out': ('self.project_up(self.local(x_BCHW))', 'self.project_up(x_BCHW)'),
    'MobileViM: LARM left out': ('self.project_down(self.larm(y_BdHW))', 'self.project_down(y_BdHW)'),
    'MobileViM: a bias': ('nn.Conv2d(channels, d, 1, bias=False)', 'nn.Conv2d(channels, d, 1)'),
    'MobileViM: no activation after the projection': (
        'self.project_down = ConvNormAct(d, channels, kernel=1)',
        'self.project_down = ConvNormAct(d, channels, kernel=1, activation=None)',
    ),
    'cost: hidden layer forgotten': ('larm, layer = 8 * N + 8 * P', 'larm, layer = 2 * N + 2 * P'),
    "cost: attention's products forgotten": ('4 * d + 2 * N_vit + 4 * d', '4 * d + 4 * d'),
    "cost: attention's output forgotten": ('4 * d + 2 * N_vit + 4 * d', '3 * d + 2 * N_vit + 4 * d'),
    'size: kept by a residual': ('(2, 3), residual=False)', '(2, 3), residual=True)'),
    'size: lost without one': ('(2, 3), residual=True)', '(2, 3), residual=False)'),
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


def first_step(x, block, patch_hw):
    return npt_op3(npt_op2(block(npt_op1(x, patch_hw))), patch_hw, x.shape[2:])


def first_step_by_slices(x, block, patch_hw, *, columns=False, step=True):
    (h, w), y = patch_hw, torch.empty_like(x)
    for i in range(h):
        for j in range(w):
            small = x[:, :, i::h, j::w]
            if columns:
                y[:, :, i::h, j::w] = block(small.mT.flatten(2)).reshape(small.mT.shape).mT
            else:
                y[:, :, i::h, j::w] = block(small.flatten(2)).reshape(small.shape) if step else small
    return y


def macs(map_hw, patch_hw, d, *, factor=8, within=True, channels=True):
    pixels, P = map_hw[0] * map_hw[1], patch_hw[0] * patch_hw[1]
    return factor * (pixels // P + P * within) * pixels * (d if channels else 1)


def parameters(N, P, *, norm=2, biases=5, blocks=2):
    return sum(8 * n * n + (norm + biases) * n for n in (N, P)[:blocks])


GROWTH = {"macs": 4 * (192 + 16) / (48 + 16), "parameters": (8 * 192**2 + 7 * 192 + 2160) / (8 * 48**2 + 7 * 48 + 2160)}
RIGHT = {
    "06.1": [(-1, -1, 1, 1)],
    "06.2": [lambda x, block: x + mlp(block, x)],
    "06.3": [(48, 768)],
    "06.4": [first_step_by_slices],
    "06.5": [(4608, 41472)],
    "06.6": [macs],
    "06.7": [parameters],
    "06.8": [{"without": "same", "with": "other"}],
    "06.9": [within_first],
    "06.10": [GROWTH, {"macs": 13, "parameters": 14.3}],
}
WRONG = {
    "06.1": {"not centred": (1, 1, 3, 3), "sample's deviation": (-0.87, -0.87, 0.87, 0.87), "to 0 … 1": (0, 0, 1, 1)},
    "06.2": {
        "input forgotten": lambda x, block: mlp(block, x),
        "LayerNorm forgotten": lambda x, block: x + block.project(block.activation(block.expand(x))),
        "no activation": lambda x, block: x + block.project(block.expand(block.norm(x))),
        "normalised input added": lambda x, block: block.norm(x) + mlp(block, x),
        "the block itself": lambda x, block: block(x),
    },
    "06.3": {"pixels of a patch": (16, 768), "second step alone": (48, 64), "as convolutions": (9, 25)},
    "06.4": {
        "columns first": lambda *all: first_step_by_slices(*all, columns=True),
        "nothing mixed": lambda *all: first_step_by_slices(*all, step=False),
        "one patch (crashes)": lambda x, block, patch_hw: block(x[:, :, : patch_hw[0], : patch_hw[1]].flatten(2)),
        "by NPT-Op": first_step,
    },
    "06.5": {"C for 2C": (2304, 20736), "with biases": (4656, 41520), "kernel forgotten": (4608, 4608)},
    "06.6": {
        "hidden layer forgotten": lambda *sizes: macs(*sizes, factor=2),
        "first step alone": lambda *sizes: macs(*sizes, within=False),
        "channels forgotten": lambda *sizes: macs(*sizes, channels=False),
        "per number": lambda map_hw, patch_hw, d: macs(map_hw, patch_hw, d) / (d * map_hw[0] * map_hw[1]),
    },
    "06.7": {
        "no LayerNorm": lambda N, P: parameters(N, P, norm=0),
        "no biases": lambda N, P: parameters(N, P, biases=0),
        "one block": lambda N, P: parameters(N, P, blocks=1),
        "a bias of the input's length": lambda N, P: parameters(N, P, biases=2),
    },
    "06.8": {
        "both the same": {"without": "same", "with": "same"},
        "both other": {"without": "other", "with": "other"},
        "turned round": {"without": "other", "with": "same"},
    },
    "06.9": {
        "between patches first": lambda x, larm: larm(x),
        "never transposed": never_transposed,
        "between patches forgotten": between_forgotten,
        "residual added twice": lambda x, larm: x + within_first(x, larm),
    },
    "06.10": {
        "as a convolution": GROWTH | {"macs": 4},
        "all of it quadratic": GROWTH | {"macs": 16},
        "nearly 13": GROWTH | {"macs": 11.7},
        "no parameter grows": GROWTH | {"parameters": 1},
    },
}
