"""Lesson 08: wrong versions that its proofs and its exercises reject."""

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
    'encoder first': ('torch.cat([decoder, encoder], dim=1)', 'torch.cat([encoder, decoder], dim=1)'),
    'activation inside SFusion': ('grouped", act=None)', 'grouped")'),
    'deconvolution with ReLU': ('F.relu6(norm(F.conv_transpose2d', 'F.relu(norm(F.conv_transpose2d'),
    'head without bias': (', theta["head.bias"])', ')'),
    'half a BatchNorm': ('(2 * c_out if norm else 0)', '(c_out if norm else 0)'),
    'groups forgotten': ('c_in // groups * c_out', 'c_in * c_out'),
    'first 1x1 at t = 1': ('        if t > 1:\n', '        if t:\n'),
    'depthwise before its stride': (
        'self.conv(t * c_in, t * c_in, 3, pixels // s**2, groups=t * c_in)',
        'self.conv(t * c_in, t * c_in, 3, pixels, groups=t * c_in)',
    ),
    'bias of the wrong length': ('(4 * length**2 + length)', '(4 * length**2 + 4 * length)'),
    'MLP linear in the patches': (
        'self.macs + 8 * length**2 * (pixels // length)',
        'self.macs + 8 * length * (pixels // length)',
    ),
    'projection up with norm': ('self.conv(c, d, 1, pixels, norm=False)', 'self.conv(c, d, 1, pixels)'),
    'deconvolution at output pixels': (
        'tally.conv(width, deconv, 2, pixels)',
        'tally.conv(width, deconv, 2, 4 * pixels)',
    ),
    "head's bias uncounted": ('return tally.params + K, tally.macs', 'return tally.params, tally.macs'),
    'DW g=1 in pairs': ('(1 if fusion == "dw1" else 2)', '2'),
    'wrong encoder stage': ('(c[3], c[2], c[1])', '(c[3], c[2], c[0])'),
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


# LARM's first MLP Blocks take 8 · N · pixels · d MACs at strides 8 and 16 and grow 16-fold; the rest grows 4-fold.
BETWEEN = 8 * 48 * (32 * 24 * 96 + 16 * 12 * 192)
RIGHT = {"08.1": [mobilevit_cost], "08.2": [4 + 12 * BETWEEN / 657_447_936]}
WRONG = {
    "08.1": {
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
    "08.2": {"pixels alone": 4, "squared": 16, "too small": 2.0, "text": "more"},
}
