"""The convolution blocks of LGM-Pose-next, our own variant for CPUs.

Processors run few large convolutions faster than many small ones. So where maps are large and narrow, one dense 3×3
replaces MobileNetV2's 1×1 and depthwise 3×3 (EfficientNetV2, Tan and Le 2021). Where maps are small, the depthwise
convolution comes first, on the narrow input: one of MobileNetV4's universal inverted bottlenecks (Qin et al. 2024).
Both have one activation. With stride 1 and equal widths, the input is added.
"""

from __future__ import annotations

from torch import Tensor, nn

from lgmpose.network.layers import ConvNormAct

__all__ = ["DepthwiseFirst", "FusedResidual"]


class FusedResidual(nn.Module):
    """Dense 3×3 widens → 1×1 narrows, without activation; (B, C_in, H, W) → (B, C_out, H/s, W/s).

    With expansion 1, it is the 3×3 alone.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, expansion: int, stride: int = 1, activation: str = "relu6"
    ):
        super().__init__()
        self.has_residual = stride == 1 and in_channels == out_channels
        hidden = in_channels * expansion if expansion > 1 else out_channels
        layers = [ConvNormAct(in_channels, hidden, stride=stride, activation=activation)]
        if expansion > 1:
            layers.append(ConvNormAct(hidden, out_channels, kernel=1, activation=None))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.has_residual else self.layers(x)


class DepthwiseFirst(nn.Module):
    """5×5 depthwise, without activation → 1×1 widens → 1×1 narrows; (B, C_in, H, W) → (B, C_out, H/s, W/s)."""

    def __init__(
        self, in_channels: int, out_channels: int, *, expansion: int, stride: int = 1, activation: str = "relu6"
    ):
        super().__init__()
        self.has_residual = stride == 1 and in_channels == out_channels
        hidden = in_channels * expansion
        self.layers = nn.Sequential(
            ConvNormAct(in_channels, in_channels, kernel=5, stride=stride, groups=in_channels, activation=None),
            ConvNormAct(in_channels, hidden, kernel=1, activation=activation),
            ConvNormAct(hidden, out_channels, kernel=1, activation=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.has_residual else self.layers(x)
