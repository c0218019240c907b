"""Lesson 03: wrong versions that its proofs and its tasks reject."""

from torch import nn

import lgmpose.network.layers
from lgmpose.network.layers import InvertedResidual

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'not shuffled': ('y_BCHW[:, i * groups + group]', 'y_BCHW[:, group * (C // groups) + i]'),
    'nothing copied': ('for i in range(C // groups)', 'for i in range(0)'),
    'inverse shuffle': (
        'y_BCHW[:, i * groups + group] = x_BCHW[:, group * (C // groups) + i]',
        'y_BCHW[:, group * (C // groups) + i] = x_BCHW[:, i * groups + group]',
    ),
    'too early': ('second(shuffle_by_loops(first(x), 2))', 'second(first(shuffle_by_loops(x, 2)))'),
    'other groups': ('nn.Conv2d(6, 6, 1, groups=2)', 'nn.Conv2d(6, 6, 1, groups=3)'),
    "norm's bias forgotten": ('* gain + bias', '* gain'),
    'running mean forgotten': ('(x_BCHW - mean)', 'x_BCHW'),
    'variance for spread': ('(variance + bn.eps).sqrt()', '(variance + bn.eps)'),
    'channels turned': (
        '"oc,bchw->bohw", weight_OC11[:, :, 0, 0]',
        '"oc,bchw->bohw", weight_OC11[:, :, 0, 0].flip(1)',
    ),
    'axes swapped': ('weight_C1kk[:, 0, i, j, None, None]', 'weight_C1kk[:, 0, j, i, None, None]'),
    'turned': ('weight_C1kk[:, 0, i, j, None, None]', 'weight_C1kk[:, 0, 2 - i, 2 - j, None, None]'),
    'no activation after widening': ('conv.weight), bn).clamp(0, 6)', 'conv.weight), bn)'),
    'ReLU for ReLU6': ('.clamp(min=0, max=6)', '.clamp(min=0)'),
    'activation at the end': (
        'y_BCHW = norm_by_hand(pointwise_by_hand(wide_BCHW, conv.weight), bn)',
        'y_BCHW = norm_by_hand(pointwise_by_hand(wide_BCHW, conv.weight), bn).clamp(0, 6)',
    ),
    'residual forgotten': ('return x_BCHW + y_BCHW if fits else y_BCHW', 'return y_BCHW'),
    'residual everywhere': (
        'return x_BCHW + y_BCHW if fits else y_BCHW',
        'return x_BCHW[:, :1, ::stride, ::stride] + y_BCHW',
    ),
    'another expansion': (
        'TorchvisionBlock(8, out_channels, stride, expansion)',
        'TorchvisionBlock(8, out_channels, stride, expansion + 1)',
    ),
}


def shuffle_left_out(patch):
    patch.setattr(lgmpose.network.layers, "channel_shuffle", lambda x, groups: x)


def inverse_shuffle(patch):
    def wrong(x, groups):
        B, C, H, W = x.shape
        return x.view(B, C // groups, groups, H, W).transpose(1, 2).reshape(B, C, H, W)

    patch.setattr(lgmpose.network.layers, "channel_shuffle", wrong)


def without_residual(patch):
    patch.setattr(InvertedResidual, "forward", lambda self, x: self.layers(x))


def activation_after_the_block(patch):
    right = InvertedResidual.forward
    patch.setattr(InvertedResidual, "forward", lambda self, x: right(self, x).clamp(0, 6))


PACKAGE = [shuffle_left_out, inverse_shuffle, without_residual, activation_after_the_block]


def shuffled(x, groups, *, inverse=False, axes=(1, 2)):
    B, C, H, W = x.shape
    rows, columns = (C // groups, groups) if inverse else (groups, C // groups)
    return x.view(B, rows, columns, H, W).transpose(*axes).reshape(B, C, H, W)


def norm(x, bn, *, eps=True, root=True, mean=True, bias=True, shape=(-1, 1, 1)):
    spread = bn.running_var + (bn.eps if eps else 0)
    y = (x - bn.running_mean.view(shape)) if mean else x
    y = y / (spread.sqrt() if root else spread).view(shape) * bn.weight.view(shape)
    return y + bn.bias.view(shape) if bias else y


def receptive_field(layers, *, late=True, kernel_less=1, strides=True):
    side = total = 1
    for kernel, stride in layers:
        if not late:
            total *= stride
        side += (kernel - kernel_less) * (total if strides else 1)
        if late:
            total *= stride
    return side, total


def fold(weight, norm, *, eps=True, mean=True, axis=0, root=True):
    scale = norm.running_var + (norm.eps if eps else 0)
    scale = norm.weight / (scale.sqrt() if root else scale)
    shape = [1] * 4
    shape[axis] = -1
    bias = norm.bias - norm.running_mean * scale if mean else norm.bias
    return weight * (scale.view(shape) if weight.shape[axis] == len(scale) else scale[0]), bias


RIGHT = {
    "03.1": [[0, 4, 1, 5, 2, 6, 3, 7], (0, 4, 1, 5, 2, 6, 3, 7)],
    "03.2": [shuffled],
    "03.3": [(2, 4)],
    "03.4": [0.25],
    "03.5": [norm],
    "03.6": [3],
    "03.7": [receptive_field],
    "03.8": [fold],
    "03.9": [163],
}
WRONG = {
    "03.1": {"four groups": [0, 2, 4, 6, 1, 3, 5, 7], "not shuffled": list(range(8)),
             "halves exchanged": [4, 5, 6, 7, 0, 1, 2, 3], "from 1": [1, 5, 2, 6, 3, 7, 4, 8]},
    "03.2": {
        "inverse": lambda x, groups: shuffled(x, groups, inverse=True),
        "not transposed": lambda x, groups: shuffled(x, groups, axes=(1, 1)),
        "the package's": lambda x, groups: lgmpose.network.layers.channel_shuffle(x, groups),
        "PyTorch's": lambda x, groups: nn.ChannelShuffle(groups)(x),
        "channels last": lambda x, groups: shuffled(x, groups).permute(0, 2, 3, 1),
    },
    "03.3": {"everything": (2, 16), "no effect": (2, 2), "a whole group more": (1, 2), "exchanged": (4, 2)},
    "03.4": {"one of them": 0.75, "half": 0.5, "per cent": 25},
    "03.5": {
        "eps forgotten": lambda x, bn: norm(x, bn, eps=False),
        "variance for its root": lambda x, bn: norm(x, bn, root=False),
        "mean forgotten": lambda x, bn: norm(x, bn, mean=False),
        "bias forgotten": lambda x, bn: norm(x, bn, bias=False),
        "the batch's own statistics": lambda x, bn: (x - x.mean((0, 2, 3), True)) / x.std((0, 2, 3), keepdim=True),
        "calls bn": lambda x, bn: bn(x),
        "shapes (crashes)": lambda x, bn: norm(x, bn, shape=(-1,)),
    },
    "03.6": {"all": 8, "stride 1": 4, "equal channels": 4, "none": 0},
    "03.7": {
        "stride too early": lambda layers: receptive_field(layers, late=False),
        "kernel for kernel - 1": lambda layers: receptive_field(layers, kernel_less=0),
        "strides forgotten": lambda layers: receptive_field(layers, strides=False),
        "side alone": lambda layers: receptive_field(layers)[0],
    },
    "03.8": {
        "eps forgotten": lambda weight, norm: fold(weight, norm, eps=False),
        "running mean forgotten": lambda weight, norm: fold(weight, norm, mean=False),
        "input channels scaled": lambda weight, norm: fold(weight, norm, axis=1),
        "variance for its root": lambda weight, norm: fold(weight, norm, root=False),
        "weight alone": lambda weight, norm: fold(weight, norm)[0],
    },
    "03.9": {"as without MobileViM": 115, "one side only": 139, "two pixels each": 119, "everything": 256},
}  # fmt: skip
