"""The configuration of LGM-Pose, and the configurations that have a name.

Every value is tagged with its source:

* ``paper``: the text or a table states it;
* ``recovered``: the text does not state it, and a search found no network without it that has all printed costs;
* ``chosen``: the paper does not state it, and the search found several values that meet the printed costs.

``lgmpose lab search`` repeats the search; its result is ``results/search_*.json``. Widths, repeats, patches and ratios
are chosen: together they meet all 16 printed figures, but so do other combinations. Recovered are the 1×1 that ends
SFusion, and that its grouped convolution does not have two groups (``modules.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

__all__ = [
    "ACTIVATIONS", "BINS_PER_PIXEL", "DETECTOR_NAME", "FUSIONS", "GLOBAL_BLOCKS", "LARM_PARTS", "NEXT_STAGES",
    "STAGES", "STRIDE", "VARIANTS", "Activation", "Block", "Fusion", "GlobalBlock", "Head", "LGMPoseConfig", "LarmPart",
    "LinearInit", "Stage", "check_image_hw",
]  # fmt: skip

# Each list of names stands here only. The options of `lgmpose train` and `lgmpose profile` have these types.
Fusion = Literal["none", "conv3x3", "dw1", "dw2", "sfusion"]  # paper, Table 5
GlobalBlock = Literal["mobilevim", "mobilevit", "mobilevit_relu6"]  # paper, Table 4; the last is our own variant
# What is kept of LARM's two MLP Blocks: the first one works between patches, the second within a patch. The paper has
# "both" only, the others are our own variants.
LarmPart = Literal["both", "between_patches", "within_patch", "identity"]
Activation = Literal["relu6", "relu", "silu"]
Block = Literal["inverted", "fused", "depthwise_first"]
# Initial weights of the linear layers in the global blocks: PyTorch's default, or small ones (standard deviation 0.02,
# as in MobileViT). own: LARM has PyTorch's and a MobileViT block small ones.
LinearInit = Literal["own", "default", "small"]
# What the network returns for a joint: a map, as in the paper, or scores of x and y (``simcc.py``).
Head = Literal["heatmap", "simcc"]
FUSIONS, GLOBAL_BLOCKS = get_args(Fusion), get_args(GlobalBlock)
LARM_PARTS, ACTIVATIONS = get_args(LarmPart), get_args(Activation)
MOST_LAYERS = 100  # in a row; a damaged file may ask for billions
DETECTOR_NAME = "lgm-det"  # the detector on the same encoder
BINS_PER_PIXEL = 2  # that a SimCC head scores along each axis of the crop
STRIDE = 32  # of the deepest stage; the input's height and width are multiples of it


@dataclass(frozen=True)
class Stage:
    """One stage of the encoder: n inverted residuals, then a global block if ``token_width`` is set."""

    expansion: int  # chosen; t: hidden width of an inverted residual / its input width
    channels: int  # chosen; c: output width
    repeats: int  # chosen; n: number of inverted residuals
    stride: int  # chosen; s: of the first inverted residual
    token_width: int = 0  # chosen; d: width inside the global block; 0 means no global block
    patch_hw: tuple[int, int] = (0, 0)  # chosen; of MobileViM; a MobileViT block always has 2 × 2
    vit_layers: int = 0  # chosen, as in MobileViT; L: transformer layers of a MobileViT block (Table 4)
    block: str = "inverted"  # one of Block; paper: inverted residuals; the others are our own variant's (``next.py``)


# chosen: t = 1 then 6 as in MobileNetV2, d = 2c, two global blocks, patches that tile the maps of all input sizes
#      t   c  n  s    d   patch  L        stride after the stage
# The docs count stages from 1: stage 3 is ``stages[2]``.
STAGES = (
    Stage(1, 32, 1, 1),  #                     2
    Stage(6, 48, 3, 2),  #                     4
    Stage(6, 48, 1, 2, 96, (4, 4), 2),  #      8
    Stage(6, 96, 2, 2, 192, (2, 2), 4),  #    16
    Stage(6, 144, 1, 2),  #                   32
)


def check_image_hw(image_hw: Sequence[int], least: int = STRIDE) -> None:
    """Check that a network of stride 32 can take inputs of this size.

    Raises:
        ValueError: height or width is not a multiple of 32, or is below ``least``.
    """
    height, width = image_hw
    if height % STRIDE or width % STRIDE or min(height, width) < least:
        raise ValueError(f"image_hw {height} × {width}: use multiples of {STRIDE}, at least {least}")


@dataclass(frozen=True)
class LGMPoseConfig:
    """Everything that distinguishes one LGM-Pose network from another.

    Raises:
        ValueError: the size is not a multiple of 32, a choice is unknown, or there is no keypoint.
    """

    image_hw: tuple[int, int] = (256, 192)  # paper; LARM's weights depend on it
    num_keypoints: int = 17  # paper: 17 on COCO, 16 on MPII
    fusion: str = "sfusion"  # one of FUSIONS; paper: its choice of Table 5
    global_block: str = "mobilevim"  # one of GLOBAL_BLOCKS; paper: its choice of Table 4
    # chosen: residual connections of LARM's two MLP Blocks; equation 1 has none, the transformer that they replace has
    larm_residual: bool = True
    larm: str = "both"  # paper: both MLP Blocks; the others of LARM_PARTS leave out one or both
    activation: str = "relu6"  # chosen: MobileNetV2's
    linear_init: str = "own"  # chosen: one of LinearInit
    # one of Head; paper: heatmaps. simcc, our own variant, scores the encoder's last map: no decoder, no fusion
    head: str = "heatmap"
    stem_channels: int = 16  # chosen
    stages: tuple[Stage, ...] = STAGES  # chosen, see above
    # With fewer than three, our own variant, the head upsamples the rest
    decoder_channels: tuple[int, ...] = (208, 104, 52)  # chosen: half the width at every step
    mlp_ratio: int = 4  # chosen: hidden width of an MLP Block / the length of its axis

    def __post_init__(self):
        object.__setattr__(self, "image_hw", tuple(self.image_hw))  # JSON has a list, which equals no tensor's shape
        check_image_hw(self.image_hw)
        for name, allowed in (
            ("fusion", FUSIONS), ("global_block", GLOBAL_BLOCKS), ("larm", LARM_PARTS), ("activation", ACTIVATIONS),
            ("linear_init", get_args(LinearInit)), ("head", get_args(Head)),
        ):  # fmt: skip
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(allowed)}")
        if self.global_block != "mobilevim" and self.larm != "both":
            raise ValueError(f"larm {self.larm!r}: only for global_block 'mobilevim'; MobileViT blocks have no LARM")
        if self.head == "simcc" and self.fusion != "sfusion":
            raise ValueError(f"fusion {self.fusion!r}: only for heatmaps; the SimCC head has no decoder to fuse with")
        if any(stage.block not in get_args(Block) for stage in self.stages):
            raise ValueError(f"stages: block is one of {', '.join(get_args(Block))}")
        if any(stage.repeats > MOST_LAYERS or stage.vit_layers > MOST_LAYERS for stage in self.stages):
            raise ValueError(f"stages: repeats and vit_layers are at most {MOST_LAYERS}")
        if not 1 <= len(self.decoder_channels) <= 3:
            raise ValueError(f"decoder_channels {self.decoder_channels}: give one to three, for strides 16, 8 and 4")
        if self.num_keypoints < 1:
            raise ValueError(f"num_keypoints {self.num_keypoints}: at least 1")

    @property
    def is_paper(self) -> bool:
        """True for the paper's network at any input size, with any number of keypoints."""
        return replace(self, image_hw=(256, 192), num_keypoints=17) == LGMPoseConfig()

    def with_(self, **changes) -> LGMPoseConfig:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


# Our own faster variant. The paper's network spends most of its time where the maps are large; here these maps are
# narrower and less expanded, and the deep stages are wider: as many parameters, half the MACs, half the activations.
FAST_STAGES = (
    Stage(1, 16, 1, 1),
    Stage(3, 24, 2, 2),
    Stage(4, 48, 2, 2, 96, (4, 4), 2),
    Stage(6, 96, 3, 2, 192, (2, 2), 4),
    Stage(6, 176, 1, 2),
)

# LGM-Pose-next, our own variant for CPUs. Its first stage ends at stride 4, only stride 16 has a global block, and the
# decoder ends at stride 8 (docs/timings.md says what else was tried).
NEXT_STAGES = (
    Stage(1, 32, 2, 2, block="fused"),
    Stage(4, 64, 2, 2),
    Stage(4, 128, 4, 2, 128, (2, 2), block="depthwise_first"),
    Stage(4, 256, 2, 2, block="depthwise_first"),
)

# Two other networks with all printed costs, from the search: they show whether conclusions depend on what is chosen.
T3_STAGES = (
    Stage(1, 48, 2, 1),
    Stage(3, 56, 4, 2),
    Stage(3, 56, 4, 2, 84, (4, 4), 2),
    Stage(3, 120, 1, 2, 180, (2, 2), 4),
    Stage(3, 224, 1, 2),
)
THREE_BLOCK_STAGES = (
    Stage(1, 40, 1, 1),
    Stage(3, 72, 3, 2),
    Stage(3, 72, 2, 2, 108, (4, 4), 2),
    Stage(3, 80, 4, 2, 120, (2, 2), 4),
    Stage(3, 96, 1, 2, 144, (1, 1), 3),
)

VARIANTS = {
    "lgm-pose-coco-256x192": LGMPoseConfig((256, 192), 17),  # Table 1
    "lgm-pose-coco-384x288": LGMPoseConfig((384, 288), 17),  # Tables 1 and 2
    "lgm-pose-mpii-256x256": LGMPoseConfig((256, 256), 16),  # Tables 3, 4 and 5
    "lgm-pose-lspet-128x128": LGMPoseConfig((128, 128), 14),  # our own: small enough to train on two CPU cores
    "lgm-pose-fast-coco-256x192": LGMPoseConfig(  # our own
        (256, 192), 17, stages=FAST_STAGES, decoder_channels=(176, 80, 40)
    ),
    "lgm-pose-simcc-coco-256x192": LGMPoseConfig((256, 192), 17, head="simcc"),  # our own
    "lgm-pose-next-coco-256x192": LGMPoseConfig(  # our own
        (256, 192), 17, stages=NEXT_STAGES, decoder_channels=(96, 48), mlp_ratio=2
    ),
    "lgm-pose-t3-mpii-256x256": LGMPoseConfig(  # from the search, and the next one
        (256, 256), 16, stem_channels=8, stages=T3_STAGES, decoder_channels=(188, 120, 24), mlp_ratio=2
    ),
    "lgm-pose-three-blocks-mpii-256x256": LGMPoseConfig(
        (256, 256), 16, stem_channels=32, stages=THREE_BLOCK_STAGES, decoder_channels=(248, 88, 16), mlp_ratio=2
    ),
}
