"""Lesson 02: wrong versions that its proofs and its tasks reject."""

from torch import nn

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    "kernel turned": ("weight_OCkk[o, c, i, j] * pixel", "weight_OCkk[o, c, j, i] * pixel"),
    "deconv without stride": ("row * stride + i, column * stride + j]", "row + i, column + j]"),
    "groups forgotten": ("(in_channels // groups) * kernel**2", "in_channels * kernel**2"),
    "kernel not squared": ("(in_channels // groups) * kernel**2", "(in_channels // groups) * kernel"),
    "deconv at output resolution": ("in_channels * prod(in_hw) *", "in_channels * 4 * prod(in_hw) *"),
    "linear layer for one vector": ("return vectors * in_features", "return in_features"),
    "attention's second product forgotten": ("return 2 * tokens * tokens", "return tokens * tokens"),
    "hooks: deconv's output": ("return read * layer.weight[0]", "return written * layer.weight[0]"),
    "hooks: all kernels": ("return written * layer.weight[0]", "return written * layer.weight"),
    "hooks: linear's other axis": ("layer.in_features if", "layer.out_features if"),
    "one layer of attention missed": ("(2, 6 * 4, 96)", "(1, 6 * 4, 96)"),
    "one set of tokens instead of four": ("layers * 4 * attention_macs", "layers * attention_macs"),
    "HRNet's tool: one too many": ("true + 3 * deconvs", "true + 4 * deconvs"),
    "torchstat: one per element of a norm": ("nn.BatchNorm2d: 2", "nn.BatchNorm2d: 1"),
    "torchstat: a module at every call": ("for layer, written in once.items()", "for layer, _, written in calls"),
}


def conv_cost(in_channels, out_channels, kernel, out_hw, groups=1, *, taps=2, both=False, rows=True):
    pixels = out_hw[0] * out_hw[1]
    outputs = out_channels // groups if both else out_channels
    params = outputs * (in_channels // groups) * kernel**taps
    return params, params * pixels, (out_channels if rows else in_channels) * pixels


def macs_by_kind(calls, *, add=True, output=False, zeros=True):
    by_kind = {}
    for layer, read, written in calls:
        name = type(layer).__name__
        count = 0
        if isinstance(layer, nn.Conv2d):
            count = written * layer.weight[0].numel()
        elif isinstance(layer, nn.ConvTranspose2d):
            count = (written if output else read) * layer.weight[0].numel()
        if count or zeros:
            by_kind[name] = count + (by_kind.get(name, 0) if add else 0)
    return by_kind


def least_ms(macs, moved, peak, bandwidth, call_ms, *, join=max, per_ms=1e6, call=True):
    return (call_ms if call else 0) + join((macs / peak / per_ms, moved / bandwidth / per_ms))


def cost(in_channels, out_channels, expansion, stride, map_hw, *, first=True, norms=2, after=True, taps=9):
    """Return (parameters, MACs) of an inverted residual; each keyword is a way to be wrong."""
    hidden, pixels = in_channels * expansion, map_hw[0] * map_hw[1]
    pixels_after = pixels // stride**2 if after else pixels
    widen = in_channels * hidden if first and expansion > 1 else 0
    params = widen + (norms * hidden if widen else 0) + (taps + norms + out_channels) * hidden + norms * out_channels
    return params, widen * pixels + (taps + out_channels) * hidden * pixels_after


def first_1x1_at_expansion_1(in_channels, out_channels, expansion, stride, map_hw):
    params, macs = cost(in_channels, out_channels, expansion, stride, map_hw)
    extra = in_channels**2 if expansion == 1 else 0
    return params + extra, macs + extra * map_hw[0] * map_hw[1]


RIGHT = {
    "02.1": [(216, 5184, 192)],
    "02.2": [conv_cost],
    "02.3": [480],
    "02.4": [384],
    "02.5": [macs_by_kind],
    "02.6": [lambda true, deconv: (true + 3 * deconv) / 2**30],
    "02.7": [(12, 4.5)],
    "02.8": [least_ms],
    "02.9": [cost],
    "02.10": [4.973, 4.95, 5.0],
}
WRONG = {
    "02.1": {"no padding": (216, 1728, 64), "kernel not squared": (72, 1728, 192),
             "activations per weight": (216, 5184, 216), "bias counted": (224, 5376, 192)},
    "02.2": {
        "groups forgotten": lambda *arguments: conv_cost(*arguments[:4]),
        "output channels divided too": lambda *arguments: conv_cost(*arguments, both=True),
        "kernel not squared": lambda *arguments: conv_cost(*arguments, taps=1),
        "activations of the input": lambda *arguments: conv_cost(*arguments, rows=False),
        "two values": lambda *arguments: conv_cost(*arguments)[:2],
    },
    "02.3": {"output's pixels": 1920, "one output channel": 160, "weights alone": 24},
    "02.4": {"half": 192, "d itself": 96, "squared": 9216, "per token 8": 768},
    "02.5": {
        "last call only": lambda calls: macs_by_kind(calls, add=False),
        "deconvolution's output": lambda calls: macs_by_kind(calls, output=True),
        "without zeros": lambda calls: macs_by_kind(calls, zeros=False),
        "one sum": lambda calls: sum(macs_by_kind(calls).values()),
    },
    "02.6": {
        "four times added": lambda true, deconv: (true + 4 * deconv) / 2**30,
        "all four times": lambda true, deconv: 4 * true / 2**30,
        "divided by 10**9": lambda true, deconv: (true + 3 * deconv) / 1e9,
        "not divided": lambda true, deconv: true + 3 * deconv,
    },
    "02.7": {"exchanged": (4.5, 12), "written numbers only": (12, 9), "upside down": (5 / 60, 2 / 9),
             "product": (300, 4.5)},
    "02.8": {
        "sum for maximum": lambda *arguments: least_ms(*arguments, join=sum),
        "minimum": lambda *arguments: least_ms(*arguments, join=min),
        "call forgotten": lambda *arguments: least_ms(*arguments, call=False),
        "seconds": lambda *arguments: least_ms(*arguments, per_ms=1e9),
    },
    "02.9": {
        "BatchNorms forgotten": lambda *arguments: cost(*arguments, norms=0),
        "one parameter per channel of a BatchNorm": lambda *arguments: cost(*arguments, norms=1),
        "stride forgotten": lambda *arguments: cost(*arguments, after=False),
        "first 1x1 forgotten": lambda *arguments: cost(*arguments, first=False),
        "kernel not squared": lambda *arguments: cost(*arguments, taps=3),
        "first 1x1 at expansion 1": first_1x1_at_expansion_1,
    },
    "02.10": {"true MACs": 1.458, "divided by 10**9": 5.34, "four times too much added": 6.145, "nan": float("nan"),
              "torchstat's value": 4.92, "two conventions": 5.08},
}  # fmt: skip
