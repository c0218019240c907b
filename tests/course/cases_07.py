"""Lesson 07: wrong versions that its proofs and its tasks reject."""

import torch
import torch.nn.functional as F

import lgmpose.network.modules
from lgmpose.network.modules import SFusion
from lgmpose.network.variants import ConvFusion

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    "backbone first": (
        "torch.cat([up_BCHW, skip_BCHW], dim=1)\n    if",
        "torch.cat([skip_BCHW, up_BCHW], dim=1)\n    if",
    ),
    "shuffle read by rows": (
        "for column in range(half) for row in (0, 1)",
        "for row in (0, 1) for column in range(half)",
    ),
    "shuffle left out": ("per_group=2, shuffle=True", "per_group=2, shuffle=False"),
    "running variance forgotten": ("(var + norm.eps).sqrt()", "(1 + norm.eps)"),
    "running mean forgotten": ("(x_BCHW - mean)", "x_BCHW"),
    "1x1 transposed": ('"oc,bchw->bohw"', '"co,bchw->bohw"'),
    "activation left out": ("module.pointwise[1]).clamp(0, 6)", "module.pointwise[1])"),
    "DW g=2 shuffled": ('rivals["dw2"], per_group=2, shuffle=False', 'rivals["dw2"], per_group=2, shuffle=True'),
    "DW g=1 shuffled": ('rivals["dw1"], per_group=1, shuffle=False', 'rivals["dw1"], per_group=1, shuffle=True'),
    "None takes other channels": ('"none": up_BCHW', '"none": both_BCHW[:, skip:]'),
    "plain convolution without activation": ("padding=1), norm).clamp(0, 6)", "padding=1), norm)"),
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


def shuffle_order(C, rows):
    return [i % rows * (C // rows) + i // rows for i in range(C)]


def grouped_conv(x, weight, per_group, *, first=lambda i, per_group: i // per_group * per_group):
    C = x.shape[1]
    seen = [[(first(i, per_group) + j) % C for j in range(per_group)] for i in range(C)]
    return torch.cat([F.conv2d(x[:, part], weight[i : i + 1], padding=1) for i, part in enumerate(seen)], dim=1)


def parameters(up, skip, *, per_group=2, norms=2, pointwise=True):
    C = up + skip
    return C * per_group * 9 + norms * 2 * C + C * C * pointwise


ORDER = [row * 76 + column for column in range(76) for row in range(4)]
PAIRS = sum((a < 208) != (b < 208) for a, b in zip(ORDER[::2], ORDER[1::2], strict=True))
RIGHT = {
    "07.1": [(1, 0, 2, 0, 2, 1, 4, 2)],
    "07.2": [(576, 144, 72)],
    "07.3": [shuffle_order],
    "07.4": [(0, 2)],
    "07.5": [grouped_conv],
    "07.6": [parameters],
    "07.7": [0.5],
    "07.8": [dense_kernel, by_loops],
    "07.9": [PAIRS],
}
WRONG = {
    "07.1": {
        "the squares overlap": (1, 2, 0, 0, 2, 5, 2, 0),
        "square after square": (1, 0, 2, 1, 2, 0, 4, 2),
        "repeated, not multiplied": (1, 0, 1, 0, 2, 1, 2, 1),
    },
    "07.2": {"two groups": (576, 288, 72), "kernel forgotten": (64, 16, 8), "one output": (72, 18, 9)},
    "07.3": {
        "by rows": lambda C, rows: list(range(C)),
        "rows and columns swapped": lambda C, rows: shuffle_order(C, C // rows),
        "always two rows": lambda C, rows: shuffle_order(C, 2),
        "turned round": lambda C, rows: shuffle_order(C, rows)[::-1],
    },
    "07.4": {"the border counts": (1, 2), "all": (0, 4), "never": (0, 0)},
    "07.5": {
        "sliding groups": lambda x, w, n: grouped_conv(x, w, n, first=lambda i, n: i),
        "interleaved": lambda x, w, n: grouped_conv(x, w, n, first=lambda i, n: i % n),
        "no padding": lambda x, w, n: grouped_conv(x, w, n)[..., 1:-1, 1:-1],
        "by the argument groups": lambda x, w, n: F.conv2d(x, w, padding=1, groups=x.shape[1] // n),
        "per_group as groups (crashes)": lambda x, w, n: torch.cat(
            [F.conv2d(*pair, padding=1) for pair in zip(x.chunk(n, 1), w.chunk(n), strict=True)], dim=1
        ),
    },
    "07.6": {
        "two groups": lambda up, skip: parameters(up, skip, per_group=(up + skip) // 2),
        "depthwise": lambda up, skip: parameters(up, skip, per_group=1),
        "no BatchNorm": lambda up, skip: parameters(up, skip, norms=0),
        "one BatchNorm": lambda up, skip: parameters(up, skip, norms=1),
        "no 1x1": lambda up, skip: parameters(up, skip, pointwise=False),
    },
    "07.7": {"a quarter": 0.25, "all": 1, "two": 2},
    "07.8": {
        "kernel rotated": lambda g, p: by_loops(g, p, flip=True),
        "axes swapped": lambda g, p: by_loops(g, p, transpose=True),
        "sliding groups": lambda g, p: by_loops(g, p, first=lambda m, k: m),
        "groups interleaved": lambda g, p: by_loops(g, p, first=lambda m, k: m % k),
        "in and out swapped": lambda g, p: by_loops(g, p).transpose(0, 1),
        "1x1 forgotten": lambda g, p: by_loops(g, torch.ones_like(p)),
        "groups forgotten": lambda g, p: torch.einsum("om,mkhw->okhw", p, g),
    },
    "07.9": {"as with two rows": 96, "half": 48, "all": 152, "none": 0, "text": "fewer"},
}
