"""MobileNetV4-small with LGM-Pose's decoder: what a backbone made for CPUs would bring.

Qin et al., "MobileNetV4: Universal Models for the Mobile Ecosystem", ECCV 2024. The backbone is timm's, without
weights; the extra ``timm`` installs it. It was not published as a pose network: deconvolutions, SFusion and the 1×1 at
the end are LGM-Pose's, with the widths of ``LGMPoseConfig``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lgmpose.errors import require
from lgmpose.network.config import LGMPoseConfig, check_image_hw
from lgmpose.network.layers import ConvNormAct
from lgmpose.network.modules import SFusion

__all__ = ["MobileNetV4Pose"]


class MobileNetV4Pose(nn.Module):
    """Backbone, three deconvolutions with SFusion, and a 1×1; (B, 3, H, W) → (B, K, H/4, W/4).

    Raises:
        UserError: timm is not installed.
        ValueError: in ``forward``, H or W is not a multiple of 32.
    """

    def __init__(self, num_keypoints: int):
        super().__init__()
        require("timm", "timm", "this network's backbone")
        import timm  # an optional dependency

        backbone: Any = timm.create_model(
            "mobilenetv4_conv_small", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
        )
        self.backbone: nn.Module = backbone
        *skips, channels = backbone.feature_info.channels()  # strides 4, 8, 16; stride 32
        self.deconvs, self.fusions = nn.ModuleList(), nn.ModuleList()
        for width, skip in zip(LGMPoseConfig.decoder_channels, reversed(skips), strict=True):
            self.deconvs.append(ConvNormAct(channels, width, transposed=True))
            self.fusions.append(SFusion(width, skip))
            channels = width + skip
        self.head = nn.Conv2d(channels, num_keypoints, 1)
        nn.init.normal_(self.head.weight, std=0.001)  # heatmaps start near zero

    def forward(self, x: Tensor) -> Tensor:
        check_image_hw(x.shape[-2:])
        *skips, x = self.backbone(x)
        for deconv, fuse in zip(self.deconvs, self.fusions, strict=True):
            x = fuse(deconv(x), skips.pop())
        return self.head(x)
