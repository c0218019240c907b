"""PP-TinyPose: Lite-HRNet's skeleton with plain ShuffleNetV2 units in place of the channel weighting.

PaddleDetection's pose network for phones (2021), which has no paper. Its backbone is Lite-HRNet's "wider naive"
variant: without attention, sigmoid and pooling, which are slow or badly supported on phones.

As in the published code, every fusion adds branch 0 twice (see ``quirk`` of ``multibranch.Fusion``).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lgmpose.network.layers import ConvNormAct
from lgmpose.peers.litehrnet import LiteStem
from lgmpose.peers.multibranch import LIGHT_MODULES, HalfBlock, LightHRNet, Parallel

__all__ = ["TinyPose", "pp_tinypose", "shuffle_units"]


def shuffle_units(widths: Sequence[int]) -> HalfBlock:
    """Return one ShuffleNetV2 unit per branch: 1×1 → depthwise 3×3 → 1×1 on half of the channels; branches → same."""
    return HalfBlock(
        Parallel(
            nn.Sequential(
                ConvNormAct(half, half, kernel=1, activation="relu"),
                ConvNormAct(half, half, groups=half, activation=None),
                ConvNormAct(half, half, kernel=1, activation="relu"),
            )
            for half in (width // 2 for width in widths)
        )
    )


class TinyPose(LightHRNet):
    """PP-TinyPose; (B, 3, H, W) → (B, K, H/4, W/4). Arguments and errors: see ``LightHRNet``."""

    make_stem, make_block, quirk = LiteStem, staticmethod(shuffle_units), "tiny"


def pp_tinypose(num_keypoints: int, image_hw: tuple[int, int]) -> TinyPose:
    """Return PP-TinyPose: 1.32 M parameters."""
    return TinyPose(num_keypoints, modules=LIGHT_MODULES[18])
