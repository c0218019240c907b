"""Lesson 03: wrong versions that its proofs and its exercises reject."""

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
    'axes swapped': ('weight_C1KK[:, 0, i, j, None, None]', 'weight_C1KK[:, 0, j, i, None, None]'),
    'turned': ('weight_C1KK[:, 0, i, j, None, None]', 'weight_C1KK[:, 0, 2 - i, 2 - j, None, None]'),
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


def fold(weight, norm, *, eps=True, mean=True, axis=0, root=True):
    scale = norm.running_var + (norm.eps if eps else 0)
    scale = norm.weight / (scale.sqrt() if root else scale)
    shape = [1] * 4
    shape[axis] = -1
    bias = norm.bias - norm.running_mean * scale if mean else norm.bias
    return weight * (scale.view(shape) if weight.shape[axis] == len(scale) else scale[0]), bias


RIGHT = {"03.1": [fold], "03.2": [163]}
WRONG = {
    "03.1": {
        "eps forgotten": lambda weight, norm: fold(weight, norm, eps=False),
        "running mean forgotten": lambda weight, norm: fold(weight, norm, mean=False),
        "input channels scaled": lambda weight, norm: fold(weight, norm, axis=1),
        "variance for its root": lambda weight, norm: fold(weight, norm, root=False),
        "weight alone": lambda weight, norm: fold(weight, norm)[0],
    },
    "03.2": {"as without MobileViM": 115, "one side only": 139, "everything": 256},
}
