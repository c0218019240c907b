"""LGM-Pose-next with one choice changed, for ``lgmpose bench`` (``docs/timings.md`` has the result).

A variant is named ``data_scripts.next_variants:NAME``; run the command in the project's folder.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn

from lgmpose.network.config import NEXT_STAGES, VARIANTS
from lgmpose.network.model import LGMPose

NEXT = VARIANTS["lgm-pose-next-coco-256x192"]


def stage(stride: int, **changes) -> dict:
    """Return the change of the config that changes the stage which ends at a stride."""
    changed = {4: 0, 8: 1, 16: 2, 32: 3}[stride]
    return {"stages": tuple(replace(s, **changes) if i == changed else s for i, s in enumerate(NEXT_STAGES))}


INVERTED = tuple(replace(s, block="inverted") if i > 1 else s for i, s in enumerate(NEXT_STAGES))

CHANGES = {
    # early stages
    "inverted_at_4": stage(4, block="inverted", expansion=4),
    "fused_at_8": stage(8, block="fused", expansion=3),
    "depthwise_first_at_8": stage(8, block="depthwise_first"),
    # deep stages: MobileNetV2's blocks, depth
    "inverted_at_16_and_32": {"stages": INVERTED},
    "three_blocks_at_16": stage(16, repeats=3),
    "three_blocks_at_32": stage(32, repeats=3),
    # LARM
    "no_global_block": stage(16, token_width=0),
    "patches_of_one_row": stage(16, patch_hw=(1, 12)),
    "tokens_of_256": stage(16, token_width=256),
    "mlp_ratio_4": {"mlp_ratio": 4},
    # decoder and head
    "no_fusion": {"fusion": "none"},
    "fusion_at_4": {"decoder_channels": (96, 48, 32)},
    "simcc_head": {"head": "simcc"},
    # activations
    "relu": {"activation": "relu"},
    "silu": {"activation": "silu"},
}
globals().update({name: partial(LGMPose, replace(NEXT, **changes)) for name, changes in CHANGES.items()})


def grouped_2x2_at_4() -> nn.Module:
    """Return it with 2×2 kernels in two groups for the 3×3 of stride 1 (CPUBone)."""
    net = LGMPose(NEXT)
    block = net.stages[0][1].layers[0]
    block[0] = nn.Conv2d(block[0].in_channels, block[0].out_channels, 2, padding="same", groups=2, bias=False)
    return net
