"""Layers that LGM-Pose takes from other networks: MobileNetV2's inverted residual, ShuffleNet's channel shuffle."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ConvNormAct", "InvertedResidual", "channel_shuffle", "init_conv", "make_activation"]


def make_activation(name: str) -> nn.Module:
    """Return a new activation layer, by its name in ``config.ACTIVATIONS``."""
    return {"relu6": nn.ReLU6, "relu": nn.ReLU, "silu": nn.SiLU}[name](inplace=True)


class ConvNormAct(nn.Sequential):
    """Convolution without bias → BatchNorm → activation; (B, C_in, H, W) → (B, C_out, H/s, W/s).

    Args:
        activation: None leaves it out.
        transposed: make the decoder's deconvolution instead, 2 × 2 with stride 2: (B, C_in, H, W) → (B, C_out, 2H, 2W).
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
        conv: nn.Module
        if transposed:
            conv = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=False)
        else:
            conv = nn.Conv2d(
                in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False
            )
        norm = nn.BatchNorm2d(out_channels)
        super().__init__(conv, norm, *([make_activation(activation)] if activation else []))


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018): 1×1 widens → 3×3 depthwise → 1×1 narrows, without activation.

    (B, C_in, H, W) → (B, C_out, H/s, W/s). With stride 1 and equal widths, the input is added. With expansion 1, the
    first 1×1 is left out.
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


def init_conv(module: nn.Module) -> None:
    """Initialise a convolution as MobileNetV2 does, normal by its fan-out; for ``net.apply``."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Reorder channels as ShuffleNet does: (B, C, H, W) → (B, C, H, W).

    The channels form a table of ``groups`` rows, which is read column by column, so that neighbours come from different
    groups. For groups = 2, channels 0 1 2 | 3 4 5 become 0 3 1 4 2 5.
    """
    B, C, H, W = x.shape
    return x.view(B, groups, C // groups, H, W).transpose(1, 2).reshape(B, C, H, W)
