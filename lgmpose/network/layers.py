"""Borrowed parts: convolution-norm-activation, MobileNetV2's inverted residual, ShuffleNet's channel shuffle."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ConvNormAct", "InvertedResidual", "channel_shuffle", "make_activation"]


def make_activation(name: str) -> nn.Module:
    """The activation of ``LGMPoseConfig.activation``."""
    return {"relu6": nn.ReLU6, "relu": nn.ReLU, "silu": nn.SiLU}[name](inplace=True)


class ConvNormAct(nn.Sequential):
    """Convolution without bias → BatchNorm → activation; (B, C_in, H, W) → (B, C_out, H/s, W/s).

    ``activation=None`` leaves the activation out; ``transposed`` makes the decoder's 2 × 2, stride 2 deconvolution,
    (B, C_in, H, W) → (B, C_out, 2H, 2W).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: str | None = "relu6",
        transposed: bool = False,
    ):
        if transposed:
            conv = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=False)
        else:
            conv = nn.Conv2d(
                in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False
            )
        layers = [conv, nn.BatchNorm2d(out_channels)]
        if activation is not None:
            layers.append(make_activation(activation))
        super().__init__(*layers)


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018): 1×1 widen → 3×3 depthwise → 1×1 narrow without activation.

    (B, C_in, H, W) → (B, C_out, H/s, W/s). The input is added where the shapes allow it. Expansion 1 has no first 1×1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, expansion: int, stride: int = 1, activation: str = "relu6"
    ):
        super().__init__()
        hidden = in_channels * expansion
        self.has_residual = stride == 1 and in_channels == out_channels
        layers = [] if expansion == 1 else [ConvNormAct(in_channels, hidden, kernel=1, activation=activation)]
        layers += [
            ConvNormAct(hidden, hidden, stride=stride, groups=hidden, activation=activation),
            ConvNormAct(hidden, out_channels, kernel=1, activation=None),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.has_residual else self.layers(x)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """ShuffleNet's transposition of channels: (B, C, H, W) → (B, C, H, W).

    Channels seen as a (groups, C/groups) table are read column by column, so that neighbours come from different
    groups: for groups = 2, channels 0 1 2 | 3 4 5 become 0 3 1 4 2 5.
    """
    B, C, H, W = x.shape
    return x.view(B, groups, C // groups, H, W).transpose(1, 2).reshape(B, C, H, W)
