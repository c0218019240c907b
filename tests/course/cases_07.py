"""Lesson 07: wrong versions that its proofs and its exercises reject."""

import torch
import torch.nn.functional as F

import lgmpose.network.modules
from lgmpose.network.modules import SFusion
from lgmpose.network.variants import ConvFusion

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'encoder first': (
        '    x_BCHW = torch.cat([decoder_BDHW, encoder_BEHW], dim=1)\n    if',
        '    x_BCHW = torch.cat([encoder_BEHW, decoder_BDHW], dim=1)\n    if',
    ),
    'shuffle read by rows': (
        'for column in range(columns) for row in range(rows)',
        'for row in range(rows) for column in range(columns)',
    ),
    'rows and columns swapped': ('rows, columns = n, C // n', 'rows, columns = C // n, n'),
    'shuffle left out': ('k=2, shuffle=True', 'k=2, shuffle=False'),
    'running variance forgotten': ('(var + norm.eps).sqrt()', '(1 + norm.eps)'),
    'running mean forgotten': ('(x_BCHW - mean)', 'x_BCHW'),
    '1x1 transposed': ('"oc,bchw->bohw"', '"co,bchw->bohw"'),
    'activation left out': ('package.pointwise[1]).clamp(0, 6)', 'package.pointwise[1])'),
    'DW g=2 shuffled': ('rivals["dw2"], k=2, shuffle=False', 'rivals["dw2"], k=2, shuffle=True'),
    'DW g=1 shuffled': ('rivals["dw1"], k=1, shuffle=False', 'rivals["dw1"], k=1, shuffle=True'),
    'None takes other channels': ('"none": decoder_BDHW', '"none": both_BCHW[:, E:]'),
    'plain convolution without activation': ('padding=1), norm).clamp(0, 6)', 'padding=1), norm)'),
}


def one_channel_per_group(patch):
    patch.setitem(SFusion.__init__.__kwdefaults__, "channels_per_group", 1)


def no_shuffle(patch):
    patch.setattr(lgmpose.network.modules, "channel_shuffle", lambda x, groups: x)


def other_shuffle(patch):
    right = lgmpose.network.modules.channel_shuffle
    patch.setattr(lgmpose.network.modules, "channel_shuffle", lambda x, groups: right(x, x.shape[1] // groups))


def encoder_first(patch):
    right = SFusion.forward
    patch.setattr(SFusion, "forward", lambda self, decoder, encoder: right(self, encoder, decoder))


def activation_between(patch):
    def wrong(self, decoder, encoder):
        x = lgmpose.network.modules.channel_shuffle(torch.cat([decoder, encoder], dim=1), 2)
        return self.pointwise(F.relu6(self.grouped(x)))

    patch.setattr(SFusion, "forward", wrong)


def plain_fusion_without_norm(patch):
    def wrong(self, decoder, encoder):
        conv, _, activation = self.conv
        return activation(conv(torch.cat([decoder, encoder], dim=1)))

    patch.setattr(ConvFusion, "forward", wrong)


PACKAGE = [
    one_channel_per_group, no_shuffle, other_shuffle, encoder_first, activation_between, plain_fusion_without_norm
]  # fmt: skip


def dense_kernel(grouped, pointwise):
    """Compute the response of the two convolutions to an impulse, without a formula."""
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


ORDER = [row * 76 + column for column in range(76) for row in range(4)]
PAIRS = sum((a < 208) != (b < 208) for a, b in zip(ORDER[::2], ORDER[1::2], strict=True))
RIGHT = {"07.1": [dense_kernel, by_loops], "07.2": [PAIRS]}
WRONG = {
    "07.1": {
        "kernel rotated": lambda g, p: by_loops(g, p, flip=True),
        "axes swapped": lambda g, p: by_loops(g, p, transpose=True),
        "sliding groups": lambda g, p: by_loops(g, p, first=lambda m, k: m),
        "groups interleaved": lambda g, p: by_loops(g, p, first=lambda m, k: m % k),
        "in and out swapped": lambda g, p: by_loops(g, p).transpose(0, 1),
        "1x1 forgotten": lambda g, p: by_loops(g, torch.ones_like(p)),
        "groups forgotten": lambda g, p: torch.einsum("om,mkhw->okhw", p, g),
    },
    "07.2": {"as with n = 2": 96, "half": 48, "all": 152, "none": 0, "text": "fewer"},
}
