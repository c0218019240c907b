"""Lesson 02: wrong versions that its proofs and its exercises reject."""

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'kernel turned': ('weight_OCKK[o, c, i, j] * x', 'weight_OCKK[o, c, j, i] * x'),
    'deconv without stride': ('row * stride + i, column * stride + j]', 'row + i, column + j]'),
    'groups forgotten': ('(in_channels // groups) * kernel**2', 'in_channels * kernel**2'),
    'kernel not squared': ('(in_channels // groups) * kernel**2', '(in_channels // groups) * kernel'),
    'deconv at output resolution': ('in_channels * prod(in_hw) *', 'in_channels * 4 * prod(in_hw) *'),
    'linear layer for one vector': ('return vectors * in_features', 'return in_features'),
    "attention's second product forgotten": ('return 2 * tokens * tokens', 'return tokens * tokens'),
    "hooks: deconv's output": ('return read * layer.weight[0]', 'return written * layer.weight[0]'),
    'hooks: all kernels': ('return written * layer.weight[0]', 'return written * layer.weight'),
    "hooks: linear's other axis": ('layer.in_features if', 'layer.out_features if'),
    'one layer of attention missed': ('(2, 6 * 4, 96)', '(1, 6 * 4, 96)'),
    'one set of tokens instead of four': ('layers * 4 * attention_macs', 'layers * attention_macs'),
    "HRNet's tool: one too many": ('true + 3 * deconvs', 'true + 4 * deconvs'),
    'torchstat: one per element of a norm': ('nn.BatchNorm2d: 2', 'nn.BatchNorm2d: 1'),
    'torchstat: a module at every call': ('for layer, written in once.items()', 'for layer, _, written in calls'),
}


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


RIGHT = {"02.1": [cost], "02.2": [4.973, 4.8, 5.1]}
WRONG = {
    "02.1": {
        "BatchNorms forgotten": lambda *arguments: cost(*arguments, norms=0),
        "one parameter per channel of a BatchNorm": lambda *arguments: cost(*arguments, norms=1),
        "stride forgotten": lambda *arguments: cost(*arguments, after=False),
        "first 1x1 forgotten": lambda *arguments: cost(*arguments, first=False),
        "kernel not squared": lambda *arguments: cost(*arguments, taps=3),
        "first 1x1 at expansion 1": first_1x1_at_expansion_1,
    },
    "02.2": {"true MACs": 1.458, "divided by 10**9": 5.34, "four times too much added": 6.145, "nan": float("nan")},
}
