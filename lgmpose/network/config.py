"""What LGM-Pose is made of: one frozen dataclass and the named variants.

Every value says where it comes from: ``paper`` (stated in the text or a table), ``recovered`` (the paper's figure that
holds it is not in its text; found by search among the networks that cost what its eight rows say), or ``chosen`` (the
paper does not say and the cost does not tell).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = [
    "ACTIVATIONS", "FUSIONS", "GLOBAL_BLOCKS", "LARM_PARTS", "STAGES", "STRIDE", "VARIANTS", "LGMPoseConfig", "Stage",
]  # fmt: skip

FUSIONS = ("none", "conv3x3", "dw1", "dw2", "sfusion")  # paper, Table 5
GLOBAL_BLOCKS = ("mobilevim", "mobilevit", "mobilevit_relu6")  # paper, Table 4; the last is ours
LARM_PARTS = ("both", "between_patches", "within_patch", "identity")  # ours: the paper never takes LARM apart
ACTIVATIONS = ("relu6", "relu", "silu")
STRIDE = 32  # the deepest stage's; input sizes are multiples of it


@dataclass(frozen=True)
class Stage:
    """One row of the encoder's table: n inverted residuals, then a global block where ``token_width`` is set."""

    expansion: int  # t: hidden width of an inverted residual / its input width
    channels: int  # c: output width
    repeats: int  # n: number of inverted residuals
    stride: int  # s: of the first one
    token_width: int = 0  # d: width inside the global block; 0 = no global block
    patch_hw: tuple[int, int] = (0, 0)  # of MobileViM; a MobileViT block always has 2 × 2
    vit_layers: int = 0  # L: transformer layers where the block is MobileViT (Table 4)


# recovered; t = 1 then 6 as in MobileNetV2, d = 2c
#      t   c  n  s    d   patch  L        stride after the stage
STAGES = (
    Stage(1, 32, 1, 1),  #                     2
    Stage(6, 48, 3, 2),  #                     4
    Stage(6, 48, 1, 2, 96, (4, 4), 2),  #      8
    Stage(6, 96, 2, 2, 192, (2, 2), 4),  #    16
    Stage(6, 144, 1, 2),  #                   32
)


@dataclass(frozen=True)
class LGMPoseConfig:
    """Everything that tells one LGM-Pose from another.

    Raises:
        ValueError: a size that is no multiple of 32, an unknown choice, or a number of keypoints below 1.
    """

    image_hw: tuple[int, int] = (256, 192)  # paper; LARM's matrices fit this size only
    num_keypoints: int = 17  # paper: 17 on COCO, 16 on MPII
    fusion: str = "sfusion"  # paper, Table 5: one of FUSIONS
    global_block: str = "mobilevim"  # paper, Table 4: one of GLOBAL_BLOCKS
    larm_residual: bool = True  # chosen: equation 1 shows none, the transformer it replaces has one: both are offered
    larm: str = "both"  # paper: both MLP Blocks; the others of LARM_PARTS, one of the two or none, are ours
    activation: str = "relu6"  # chosen: MobileNetV2's, and about 1.3 × faster than SiLU on a CPU
    stem_channels: int = 16  # recovered
    stages: tuple[Stage, ...] = STAGES  # recovered
    decoder_channels: tuple[int, ...] = (208, 104, 52)  # recovered: half the width at every step
    mlp_ratio: int = 4  # recovered: hidden width of an MLP Block / its axis length

    def __post_init__(self):
        object.__setattr__(self, "image_hw", tuple(self.image_hw))  # a list, as JSON has it, would equal no shape
        height, width = self.image_hw
        if height % STRIDE or width % STRIDE or height <= 0 or width <= 0:
            raise ValueError(f"image_hw {height} × {width}: height and width must be positive multiples of {STRIDE}")
        for name, value, allowed in (
            ("fusion", self.fusion, FUSIONS),
            ("global_block", self.global_block, GLOBAL_BLOCKS),
            ("larm", self.larm, LARM_PARTS),
            ("activation", self.activation, ACTIVATIONS),
        ):
            if value not in allowed:
                raise ValueError(f"{name} {value!r}: choose one of {', '.join(allowed)}")
        if self.global_block != "mobilevim" and self.larm != "both":
            raise ValueError(f"larm {self.larm!r} belongs to MobileViM; a MobileViT block has no LARM to take apart")
        if len(self.decoder_channels) != 3:
            raise ValueError(f"decoder_channels {self.decoder_channels}: three steps lead from stride 32 to stride 4")
        if self.num_keypoints < 1:
            raise ValueError(f"num_keypoints {self.num_keypoints}: at least 1")

    @property
    def heatmap_hw(self) -> tuple[int, int]:
        """The network's output size: stride 4."""
        return self.image_hw[0] // 4, self.image_hw[1] // 4

    def with_(self, **changes) -> LGMPoseConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)


# ours: the paper's network spends most of its time where maps are large. Here those maps are narrow and hardly widened,
# and the parameters saved there stand in the deep stages: as many in all, half the MACs, half the activations.
FAST_STAGES = (
    Stage(1, 16, 1, 1),
    Stage(3, 24, 2, 2),
    Stage(4, 48, 2, 2, 96, (4, 4), 2),
    Stage(6, 96, 3, 2, 192, (2, 2), 4),
    Stage(6, 176, 1, 2),
)

VARIANTS = {
    "lgm-pose-coco-256x192": LGMPoseConfig((256, 192), 17),  # Table 1
    "lgm-pose-coco-384x288": LGMPoseConfig((384, 288), 17),  # Tables 1 and 2
    "lgm-pose-mpii-256x256": LGMPoseConfig((256, 256), 16),  # Tables 3, 4 and 5
    "lgm-pose-lspet-128x128": LGMPoseConfig((128, 128), 14),  # ours: small enough to train on two CPU cores
    "lgm-pose-fast-coco-256x192": LGMPoseConfig(  # ours
        (256, 192), 17, stages=FAST_STAGES, decoder_channels=(176, 80, 40)
    ),
}
