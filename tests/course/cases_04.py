"""Lesson 04: wrong versions that its proofs and its tasks reject."""

import torch

import lgmpose.network.modules as modules

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'loops: rows upside down': ('divmod(row, h)', 'divmod(H - 1 - row, h)'),
    'loops: positions by column': ('p = inner_row * w + inner_column', 'p = inner_column * h + inner_row'),
    'loops: patches by column': (
        'n = patch_row * (W // w) + patch_column',
        'n = patch_column * (H // h) + patch_row',
    ),
    'op1: axes swapped': ('permute(0, 3, 5, 1, 2, 4)', 'permute(0, 5, 3, 1, 2, 4)'),
    'op1: patches by column': ('permute(0, 3, 5, 1, 2, 4)', 'permute(0, 3, 5, 1, 4, 2)'),
    'op1: patch of distant pixels': (
        'x_BdHW.reshape(B, d, H // h, h, W // w, w)',
        'x_BdHW.reshape(B, d, h, H // h, w, W // w).permute(0, 1, 3, 2, 5, 4)',
    ),
    'op1: reshape alone': ('positions_first.reshape(', 'x_BdHW.reshape('),
    'op2: reshape for transpose': (
        'return x_BPdN.transpose(1, 3)',
        'return x_BPdN.reshape(*x_BPdN.transpose(1, 3).shape)',
    ),
    'op2: really flipped': ('return x_BPdN.transpose(1, 3)', 'return x_BPdN.transpose(1, 3).flip(1)'),
    'op3: axes swapped': ('permute(0, 3, 1, 4, 2, 5)', 'permute(0, 3, 1, 5, 2, 4)'),
    'op3: reshape alone': ('digits.permute(0, 3, 1, 4, 2, 5).reshape', 'digits.reshape'),
    'unfold: channels and positions swapped': ('.view(2, 5, h * w, -1)', '.view(2, h * w, 5, -1).transpose(1, 2)'),
    'pixel_unshuffle: of the transpose': ('F.pixel_unshuffle(x, 2)', 'F.pixel_unshuffle(x.mT, 2)'),
    'MobileViT: patches backwards': ('return x.transpose(1, 3)', 'return x.transpose(1, 3).flip(2)'),
    'fold: channels and positions swapped': (
        'F.fold(columns_BdPN.flatten(1, 2)',
        'F.fold(columns_BdPN.transpose(1, 2).flatten(1, 2)',
    ),
    'op1: doubles': ('M1 = as_matrix(lambda unit: op1(', 'M1 = as_matrix(lambda unit: 2 * op1('),
    'op2: a sign': ('M2 = as_matrix(lambda unit: op2(', 'M2 = as_matrix(lambda unit: -op2('),
    'op2: left out': ('M2 = as_matrix(lambda unit: op2(', 'M2 = as_matrix(lambda unit: ('),
    'op3: mixes': ('M3 = as_matrix(lambda unit: op3(', 'M3 = as_matrix(lambda unit: op3(unit.mean() + '),
    'over patches: no layer': ('op3(op2(layer(op1(x, patch_hw)))', 'op3(op2(op1(x, patch_hw))'),
    'over patches: channels mixed': (
        'op3(op2(layer(op1(x, patch_hw)))',
        'op3(op2(layer(op1(x + x.sum(1, True), patch_hw)))',
    ),
    'over positions: no layer': ('op3(layer(op2(op1(x, patch_hw)))', 'op3(op2(op1(x, patch_hw))'),
    'over positions: channels mixed': (
        'op3(layer(op2(op1(x, patch_hw)))',
        'op3(layer(op2(op1(x + x.sum(1, True), patch_hw)))',
    ),
}

op1, op2, op3 = modules.npt_op1, modules.npt_op2, modules.npt_op3


def op1_patch_axes_swapped(patch):
    patch.setattr(modules, "npt_op1", lambda x, patch_hw: op1(x, patch_hw[::-1]))


def op1_counts_by_column(patch):
    patch.setattr(modules, "npt_op1", lambda x, patch_hw: op1(x.mT, patch_hw[::-1]))


def op2_reshapes_instead_of_transposing(patch):
    patch.setattr(modules, "npt_op2", lambda x: x.reshape(*x.transpose(1, 3).shape))


def op3_patch_axes_swapped(patch):
    patch.setattr(modules, "npt_op3", lambda x, patch_hw, map_hw: op3(x, patch_hw[::-1], map_hw))


def op3_patches_backwards(patch):
    patch.setattr(modules, "npt_op3", lambda x, patch_hw, map_hw: op3(x.flip(1), patch_hw, map_hw))


PACKAGE = [
    op1_patch_axes_swapped, op1_counts_by_column, op2_reshapes_instead_of_transposing, op3_patch_axes_swapped,
    op3_patches_backwards,
]  # fmt: skip


def address(row, column, map_hw, patch_hw, *, patches=None, width=None):
    (h, w), (_, W) = patch_hw, map_hw
    (patch_row, inner_row), (patch_column, inner_column) = divmod(row, h), divmod(column, w)
    return patch_row * (patches or W // w) + patch_column, inner_row * (width or w) + inner_column


def map_from_op1(x, patch_hw, map_hw, *, order=(0, 3, 4, 1, 5, 2), turned=False):
    (B, _, d, _), (h, w), (H, W) = x.shape, patch_hw, map_hw
    if turned:
        h, w = w, h
    return x.reshape(B, h, w, d, H // h, W // w).permute(order).reshape(B, d, H, W)


def by_slices(x, patch_hw, *, order="rows", step=None):
    h, w = patch_hw
    positions = [(i, j) for i in range(h) for j in range(w)]
    if order == "columns":
        positions.sort(key=lambda position: position[::-1])
    return torch.stack([x[:, :, i::h, j :: step or w].flatten(2) for i, j in positions], dim=1)



def by_movedim(x, patch_hw):
    (B, d, H, W), (h, w) = x.shape, patch_hw
    return x.reshape(B, d, H // h, h, W // w, w).movedim((3, 5), (1, 2)).reshape(B, h * w, d, -1)


RIGHT = {
    "04.1": [(2, 5)],
    "04.2": [address],
    "04.3": [[1, 4, 21, 24], (1, 4, 21, 24)],
    "04.4": [(0, 3, 5, 1, 2, 4), [0, 3, 5, 1, 2, 4]],
    "04.5": [(256, 144)],
    "04.6": [map_from_op1],
    "04.7": [("no copy", "no copy", "copy", "no copy")],
    "04.8": [by_slices],
    "04.9": [{"a": 16, "b": 6, "c": 96, "d": 16}],
}
BLANK = {"04.9": [dict.fromkeys("abcd", ...)]}
WRONG = {
    "04.1": {"exchanged": (5, 2), "counted from 1": (3, 6), "by column": (1, 5), "row and column": (3, 2)},
    "04.2": {
        "row and column": lambda row, column, map_hw, patch_hw: (row, column),
        "exchanged": lambda *arguments: address(*arguments)[::-1],
        "patches in a column": lambda r, c, map_hw, patch_hw: address(
            r, c, map_hw, patch_hw, patches=map_hw[0] // patch_hw[0]
        ),
        "height for width": lambda r, c, map_hw, patch_hw: address(r, c, map_hw, patch_hw, width=patch_hw[0]),
        "map's width": lambda r, c, map_hw, patch_hw: address(r, c, map_hw, patch_hw, patches=map_hw[1]),
    },
    "04.3": {"a row of the map": [10, 11, 12, 13], "one patch": [0, 1, 2, 10], "position 3": [10, 13, 30, 33]},
    "04.4": {
        "not permuted": (0, 1, 2, 3, 4, 5),
        "patches first": (0, 2, 4, 1, 3, 5),
        "columns before rows": (0, 5, 3, 1, 2, 4),
        "an axis twice": (0, 3, 5, 1, 2, 2),
        "five axes": (0, 3, 5, 1, 2),
    },
    "04.5": {"exchanged": (144, 256), "not squared": (16, 12), "times channels": (768, 576)},
    "04.6": {
        "reshape alone": lambda x, patch_hw, map_hw: x.reshape(x.shape[0], x.shape[2], *map_hw),
        "patch axes exchanged (crashes)": lambda x, patch_hw, map_hw: map_from_op1(x, patch_hw, map_hw, turned=True),
        "inside before patch": lambda x, patch_hw, map_hw: map_from_op1(x, patch_hw, map_hw, order=(0, 3, 1, 4, 2, 5)),
        "the package's": lambda x, patch_hw, map_hw: op3(op2(x), patch_hw, map_hw),
    },
    "04.7": {
        "all": ("copy",) * 4,
        "none": ("no copy",) * 4,
        "permute copies": ("no copy", "copy", "no copy", "no copy"),
        "both exchanges": ("no copy", "copy", "copy", "copy"),
    },
    "04.8": {
        "column by column": lambda x, patch_hw: by_slices(x, patch_hw, order="columns"),
        "patches first": lambda x, patch_hw: op2(by_slices(x, patch_hw)),
        "channels first": lambda x, patch_hw: by_slices(x, patch_hw).transpose(1, 2),
        "wrong step (crashes)": lambda x, patch_hw: by_slices(x, patch_hw, step=patch_hw[0]),
        "a permute by another name": by_movedim,
        "the package's": op1,
    },
    "04.9": {
        "N and P swapped": {"a": 6, "b": 16, "c": 96, "d": 16},
        "sum for product": {"a": 16, "b": 6, "c": 22, "d": 16},
        "two layers on one axis see everything": {"a": 16, "b": 6, "c": 96, "d": 96},
    },
}
