"""MobileViT-XXS, -XS and -S with SimpleBaseline's head.

Mehta and Rastegari, "MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer", ICLR 2022. Its
block is what MobileViM was derived from, and the paper's Table 4 compares the two; this is the whole network that the
block was made for. It was not published as a pose network: the head is the one of the other light classifiers.

Inverted residuals lead down to stride 8. At strides 8, 16 and 32, each is followed by a MobileViT block with 2, 4 and 3
transformer layers. All activations are SiLU.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lgmpose.network.layers import ConvNormAct, InvertedResidual, init_conv
from lgmpose.network.variants import MobileViTBlock
from lgmpose.peers.deconv import DeconvPose

__all__ = ["SIZES", "MobileViT", "MobileViTSize", "mobilevit_pose"]


@dataclass(frozen=True)
class MobileViTSize:
    """One row of the authors' table of widths."""

    expansion: int
    layer1: int
    layer2: int
    global_layers: tuple[tuple[int, int], ...]  # (channels C, token width d) of layers 3, 4, 5
    dropout: float = 0.1  # while training


STEM_CHANNELS = 16
TRANSFORMER_LAYERS = (2, 4, 3)  # in layers 3, 4, 5

SIZES = {
    #          expansion  layer1  layer2  layer3    layer4     layer5
    "xxs": MobileViTSize(2, 16, 24, ((48, 64), (64, 80), (80, 96)), dropout=0.05),
    "xs": MobileViTSize(4, 32, 48, ((64, 96), (80, 120), (96, 144))),
    "s": MobileViTSize(4, 32, 64, ((96, 144), (128, 192), (160, 240))),
}


class MobileViT(nn.Sequential):
    """The backbone, with its authors' names of layers; (B, 3, H, W) → (B, C5, H/32, W/32).

    It ends with layer 5, without the classifier's 1×1 convolution to 4 × C5 channels, as in its authors' networks for
    detection and segmentation.
    """

    def __init__(self, size: MobileViTSize):
        def inverted_residual(in_channels: int, out_channels: int, stride: int) -> InvertedResidual:
            return InvertedResidual(
                in_channels, out_channels, expansion=size.expansion, stride=stride, activation="silu"
            )

        super().__init__()
        self.stem = ConvNormAct(3, STEM_CHANNELS, stride=2, activation="silu")  #       stride 2
        self.layer1 = inverted_residual(STEM_CHANNELS, size.layer1, 1)
        self.layer2 = nn.Sequential(  #                                                 stride 4
            inverted_residual(size.layer1, size.layer2, 2),
            inverted_residual(size.layer2, size.layer2, 1),
            inverted_residual(size.layer2, size.layer2, 1),
        )
        in_channels = size.layer2
        widths = zip(size.global_layers, TRANSFORMER_LAYERS, strict=True)
        for number, ((channels, token_width), layers) in enumerate(widths, start=3):  # strides 8, 16, 32
            layer = nn.Sequential(
                inverted_residual(in_channels, channels, 2),
                MobileViTBlock(channels, token_width, layers=layers, dropout=size.dropout),
            )
            self.add_module(f"layer{number}", layer)
            in_channels = channels
        self.out_channels = in_channels
        self.apply(init_conv)  # as the authors do; a TransformerLayer initialises itself


def mobilevit_pose(num_keypoints: int, *, size: str) -> DeconvPose:
    """Return MobileViT of a size of ``SIZES`` with SimpleBaseline's head."""
    backbone = MobileViT(SIZES[size])
    return DeconvPose(backbone=backbone, channels=backbone.out_channels, num_keypoints=num_keypoints)
