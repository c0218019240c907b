"""Lesson 08: wrong versions that its proofs and its tasks reject."""

from dataclasses import replace

from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.layers import InvertedResidual
from lgmpose.network.model import LGMPose
from lgmpose.network.modules import MLPBlock

# The right text of the proof, and a wrong one that it must reject.
MISTAKES = {
    'ReLU for ReLU6': ('act=F.relu6):', 'act=F.relu):'),
    'variance for weight': (', "running_var", "weight", "bias"', ', "weight", "running_var", "bias"'),
    'residual forgotten': ('return x + y if x.shape == y.shape else y', 'return y'),
    'activation after the narrowing': ('+ 1}", act=None)', '+ 1}")'),
    'LARM without its residual': ('return x + F.linear(F.gelu', 'return F.linear(F.gelu'),
    'pixels of a patch column by column': ('.permute(0, 3, 5, 1, 2, 4)', '.permute(0, 5, 3, 1, 2, 4)'),
    "MobileViM's input last": ('torch.cat([x, y], dim=1), theta', 'torch.cat([y, x], dim=1), theta'),
    'bare local 3x3': ('conv(x, theta, f"{name}.local")', 'conv(x, theta, f"{name}.local", act=None)'),
    'shuffle the other way': ('.unflatten(1, (2, -1))', '.unflatten(1, (-1, 2))'),
    'backbone first': ('torch.cat([up, skip], dim=1)', 'torch.cat([skip, up], dim=1)'),
    'activation inside SFusion': ('grouped", act=None)', 'grouped")'),
    'deconvolution with ReLU': ('F.relu6(norm(x', 'F.relu(norm(x'),
    'head without bias': (', theta["head.bias"])', ')'),
    'half a BatchNorm': ('(2 * c_out if norm else 0)', '(c_out if norm else 0)'),
    'groups forgotten': ('c_in // groups * c_out', 'c_in * c_out'),
    'first 1x1 at t = 1': ('    if t > 1:\n', '    if t:\n'),
    'depthwise before its stride': (
        'tally.conv(t * c_in, t * c_in, 3, pixels // s**2, groups=t * c_in)',
        'tally.conv(t * c_in, t * c_in, 3, pixels, groups=t * c_in)',
    ),
    'bias of the wrong length': ('(4 * length**2 + length)', '(4 * length**2 + 4 * length)'),
    'MLP linear in the patches': (
        'tally.macs + 8 * length**2 * (pixels // length)',
        'tally.macs + 8 * length * (pixels // length)',
    ),
    'projection up with norm': ('tally.conv(c, d, 1, pixels, norm=False)', 'tally.conv(c, d, 1, pixels)'),
    'deconvolution at output pixels': (
        'tally.conv(width, deconv, 2, pixels)',
        'tally.conv(width, deconv, 2, 4 * pixels)',
    ),
    "head's bias uncounted": ('return tally.params + K, tally.macs', 'return tally.params, tally.macs'),
    'DW g=1 in pairs': ('per_group = 1 if fusion == "dw1" else 2', 'per_group = 2'),
    'wrong stage of the backbone': ('(c[3], c[2], c[1])', '(c[3], c[2], c[0])'),
    '0.9 printed as 0.8': ('(steps < above)', '(steps <= above)'),
    'only cut': ('below=0.5, above=1.0', 'below=0.0, above=1.0'),
}


def rebuilt(patch, change):
    """Build every network of the paper's widths from a changed config."""
    right = LGMPose.__init__

    def wrong(self, config):
        same = config.stages == LGMPoseConfig().stages and config.decoder_channels == LGMPoseConfig().decoder_channels
        right(self, change(config) if same else config)
        self.config = config

    patch.setattr(LGMPose, "__init__", wrong)


def with_stage(config, index, **changes):
    stages = list(config.stages)
    stages[index] = replace(stages[index], **changes)
    return replace(config, stages=tuple(stages))


def decoder_width(patch):
    rebuilt(patch, lambda config: replace(config, decoder_channels=(208, 104, 56)))


def another_network_that_prints_the_papers_figures(patch):
    """Only the exact count shows the difference."""
    rebuilt(patch, lambda config: replace(with_stage(config, 4, channels=136), decoder_channels=(208, 120, 44)))


def stage_stride(patch):
    """Put the first stride of 2 a stage earlier: the parameters and the later sizes stay the same."""
    rebuilt(patch, lambda config: with_stage(with_stage(config, 0, stride=2), 1, stride=1))


def stage_expansion(patch):
    rebuilt(patch, lambda config: with_stage(config, 4, expansion=5))


def stage_repeats(patch):
    rebuilt(patch, lambda config: with_stage(config, 1, repeats=2))


def other_activation(patch):
    rebuilt(patch, lambda config: replace(config, activation="silu"))


def no_residual_in_larm(patch):
    def wrong(self, x):
        return self.project(self.activation(self.expand(self.norm(x))))

    patch.setattr(MLPBlock, "forward", wrong)


def head_without_bias(patch):
    right = LGMPose.__init__

    def wrong(self, config):
        right(self, config)
        self.head.bias = None

    patch.setattr(LGMPose, "__init__", wrong)


def activation_on_the_heatmaps(patch):
    right = LGMPose.forward_head
    patch.setattr(LGMPose, "forward_head", lambda self, features: right(self, features).relu())


def activation_after_an_inverted_residual(patch):
    right = InvertedResidual.forward
    patch.setattr(InvertedResidual, "forward", lambda self, x: right(self, x).clamp(0, 6))


PACKAGE = [
    decoder_width, another_network_that_prints_the_papers_figures, stage_stride, stage_expansion, stage_repeats,
    other_activation, no_residual_in_larm, head_without_bias, activation_on_the_heatmaps,
    activation_after_an_inverted_residual,
]  # fmt: skip


def mobilevit_cost(c, d, layers, pixels, *, sets=4, products=2, ffn=2, norms=2, last_norm=True, bias=True, fuse=3):
    """Add up the block's terms; each keyword is a way to be wrong."""
    convs = 9 * c * c + 2 * c * d + fuse**2 * 2 * c * c
    linears = 4 * d * d + 2 * ffn * d * d
    small = (5 + ffn) * d * bias + norms * 2 * d
    params = convs + 6 * c + layers * (linears + small) + 2 * d * last_norm
    return params, (convs + layers * linears) * pixels + layers * products * (pixels // sets) * d * pixels


def groups_and_kernel(channels, weight):
    return channels // weight.shape[1], weight.shape[-1]


def parameters_by_part(theta, *, skip=("running_mean", "running_var", "num_batches_tracked"), words=1):
    counts = {}
    for name, tensor in theta.items():
        if not name.endswith(skip):
            part = ".".join(name.split(".")[:words])
            counts[part] = counts.get(part, 0) + tensor.numel()
    return counts


def last_of_each(theta):
    return {name.split(".")[0]: tensor.numel() for name, tensor in theta.items() if "running" not in name}


# LARM's first MLP Blocks take 8 · N · pixels · d MACs at strides 8 and 16 and grow 16-fold; the rest grows 4-fold.
BETWEEN = 8 * 48 * (32 * 24 * 96 + 16 * 12 * 192)
RIGHT = {
    "08.1": [(96, 24, 18)],
    "08.2": [(272, 128, 64)],
    "08.3": [groups_and_kernel],
    "08.4": [parameters_by_part],
    "08.5": [("stage 4", "stage 2")],
    "08.6": [164512],
    "08.7": [(1.075, 1.09)],
    "08.8": [mobilevit_cost],
    "08.9": [4 + 12 * BETWEEN / 657_447_936],
}
WRONG = {
    "08.1": {"token width": (192, 24, 18), "stem forgotten": (96, 48, 36), "stage 5": (144, 12, 9)},
    "08.2": {"from the wrong end": (200, 128, 136), "stage 5 first": (352, 176, 88), "no backbone": (176, 80, 40)},
    "08.3": {
        "channels per group": lambda channels, weight: (weight.shape[1], weight.shape[-1]),
        "output channels": lambda channels, weight: (channels // weight.shape[0], weight.shape[-1]),
        "kernel first": lambda channels, weight: groups_and_kernel(channels, weight)[::-1],
        "groups alone": lambda channels, weight: channels // weight.shape[1],
    },
    "08.4": {
        "running statistics counted": lambda theta: parameters_by_part(theta, skip=("num_batches_tracked",)),
        "everything counted": lambda theta: parameters_by_part(theta, skip=("nothing",)),
        "two words": lambda theta: parameters_by_part(theta, words=2),
        "the last tensor of each": last_of_each,
    },
    "08.5": {
        "the same": ("stage 4", "stage 4"),
        "the deepest": ("stage 5", "stage 2"),
        "the widest": ("up 1", "up 3"),
        "turned round": ("stage 2", "stage 4"),
        "no space": ("stage4", "stage2"),
    },
    "08.6": {
        "no BatchNorm": 161856,
        "depthwise as dense": 3145312,
        "no expansion": 18304,
        "without depthwise": 158176,
        "the lesson's network": 146016,
    },
    "08.7": {"rounded only": (1.075, 1.085), "cut only": (1.08, 1.09), "last digit a tenth": (1.03, 1.18)},
    "08.8": {
        "attention over all pixels": lambda *sizes: mobilevit_cost(*sizes, sets=1),
        "one product of two": lambda *sizes: mobilevit_cost(*sizes, products=1),
        "products forgotten": lambda *sizes: mobilevit_cost(*sizes, products=0),
        "feed-forward 4d": lambda *sizes: mobilevit_cost(*sizes, ffn=4),
        "one LayerNorm of two": lambda *sizes: mobilevit_cost(*sizes, norms=1),
        "last LayerNorm forgotten": lambda *sizes: mobilevit_cost(*sizes, last_norm=False),
        "linears without bias": lambda *sizes: mobilevit_cost(*sizes, bias=False),
        "fused by a 1x1": lambda *sizes: mobilevit_cost(*sizes, fuse=1),
        "parameters alone": lambda *sizes: mobilevit_cost(*sizes)[0],
    },
    "08.9": {"pixels alone": 4, "squared": 16, "too small": 2.0, "text": "more"},
}
