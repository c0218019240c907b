"""LGM-Pose assembled (section 3.1, Figure 1): encoder, three deconvolutions with fusion, head.

The encoder has inverted residuals down to stride 32, and a global block at strides 8 and 16. The decoder goes back to
stride 4 and fuses each step with the encoder's feature of the same size. A 1×1 convolution makes K heatmaps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lgmpose.network.config import LGMPoseConfig, Stage
from lgmpose.network.layers import ConvNormAct, InvertedResidual, init_conv
from lgmpose.network.modules import LARM, MobileViM
from lgmpose.network.next import DepthwiseFirst, FusedResidual
from lgmpose.network.resize import resample_larm
from lgmpose.network.simcc import SimCCHead
from lgmpose.network.variants import MobileViTBlock, keep_of_larm, make_fusion, restart_linear_layers

__all__ = ["LGMPose"]

BLOCKS = {"inverted": InvertedResidual, "fused": FusedResidual, "depthwise_first": DepthwiseFirst}


class LGMPose(nn.Module):
    """The network; (B, 3, H, W) → (B, K, H/4, W/4) heatmaps, for the one input size in its config.

    With the head ``simcc`` in its config it has no decoder, and returns (B, K, 2W + 2H): scores of x, then of y.

    Raises:
        ValueError: ``forward`` gets an input of another size.
    """

    def __init__(self, config: LGMPoseConfig):
        super().__init__()
        self.config = config
        act = config.activation

        self.stem = ConvNormAct(3, config.stem_channels, stride=2, activation=act)
        self.stages = nn.ModuleList()
        channels, stride = config.stem_channels, 2
        for stage in config.stages:
            stride *= stage.stride
            map_hw = (config.image_hw[0] // stride, config.image_hw[1] // stride)
            self.stages.append(_make_stage(channels, stage, map_hw, config))
            channels = stage.channels

        self.deconvs, self.fusions = nn.ModuleList(), nn.ModuleList()
        skips = [stage.channels for stage in config.stages[-2::-1]]  # strides 16, 8, 4 come first
        widths = config.decoder_channels if config.head == "heatmap" else ()
        for width, skip in zip(widths, skips[: len(widths)], strict=True):
            self.deconvs.append(ConvNormAct(channels, width, activation=act, transposed=True))
            self.fusions.append(make_fusion(config.fusion, width, skip, activation=act))
            channels = width if config.fusion == "none" else width + skip
        head: nn.Conv2d | nn.ConvTranspose2d = nn.Conv2d(channels, config.num_keypoints, 1)
        self.head: nn.Module = head
        if 0 < len(widths) < 3:  # a decoder that ends before stride 4: the head does the rest
            factor = 2 ** (3 - len(widths))
            head = nn.ConvTranspose2d(channels, config.num_keypoints, factor, stride=factor)
            self.head = nn.Sequential(head)
        self.apply(init_conv)  # the paper does not say how; other layers stay as PyTorch makes them
        if config.linear_init != "own":
            restart_linear_layers(self, small=config.linear_init == "small")
        nn.init.normal_(head.weight, std=0.001)  # heatmaps start near zero, as in SimpleBaseline
        if config.head == "simcc":  # after the others, because it has initial weights of its own
            self.head = SimCCHead(channels, num_keypoints=config.num_keypoints, image_hw=config.image_hw)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Compute the encoder's features: (B, 3, H, W) → maps at strides 2, 4, 8, 16, 32."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def forward_head(self, features: list[Tensor]) -> Tensor:
        """Compute heatmaps (B, K, H/4, W/4), or SimCC's scores, from what ``forward_features`` returns."""
        *skips, x = features
        for deconv, fuse in zip(self.deconvs, self.fusions, strict=True):
            x = fuse(deconv(x), skips.pop())
        return self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        if (H, W) != self.config.image_hw:
            raise ValueError(
                f"this network was built for crops of {self.config.image_hw[0]} × {self.config.image_hw[1]}, got "
                f"{H} × {W}; resized(({H}, {W})) returns the same network for that size"
            )
        return self.forward_head(self.forward_features(x))

    def resized(self, image_hw: tuple[int, int]) -> LGMPose:
        """Return the same network for another input size.

        LARM's weights between patches are resampled (see ``resize.py``), all others are copied. On a resized image, the
        result is close to the original, but not equal: fine-tune it.

        Raises:
            ValueError: height or width is not a multiple of 32, or the head is SimCC's, whose weights fit one size.
        """
        if self.config.head == "simcc":
            raise ValueError(
                f"image_hw {tuple(image_hw)}: a SimCC head fits the input size that it was trained for, "
                f"{self.config.image_hw}; train it for the new size"
            )
        with torch.random.fork_rng():  # the caller's random numbers stay as they are, and the result is reproducible
            torch.manual_seed(0)
            other = LGMPose(self.config.with_(image_hw=image_hw))
        weight = next(self.parameters())
        other.to(weight.device, weight.dtype).train(self.training)
        copied = {name: value for name, value in self.state_dict().items() if ".between_patches." not in name}
        other.load_state_dict(copied, strict=False)
        for ours, theirs in zip(self.modules(), other.modules(), strict=True):
            if isinstance(ours, LARM) and isinstance(theirs, LARM):
                resample_larm(ours, theirs)
        return other


def _make_stage(in_channels: int, stage: Stage, map_hw: tuple[int, int], config: LGMPoseConfig) -> nn.Sequential:
    """Return one stage: (B, C_in, H, W) → (B, c, *map_hw)."""
    act, blocks = config.activation, nn.Sequential()
    for i in range(stage.repeats):
        stride = stage.stride if i == 0 else 1
        make = BLOCKS[stage.block]
        blocks.append(make(in_channels, stage.channels, expansion=stage.expansion, stride=stride, activation=act))
        in_channels = stage.channels
    if stage.token_width and config.global_block == "mobilevim":
        block = MobileViM(
            stage.channels, stage.token_width, map_hw, stage.patch_hw,
            mlp_ratio=config.mlp_ratio, residual=config.larm_residual, activation=act,
        )  # fmt: skip
        blocks.append(keep_of_larm(block, config.larm))
    elif stage.token_width:
        # Table 4's block as its authors made it, with SiLU; our own variant has ReLU6 to measure what SiLU contributes.
        vit_act = "relu6" if config.global_block == "mobilevit_relu6" else "silu"
        blocks.append(
            MobileViTBlock(stage.channels, stage.token_width, layers=stage.vit_layers, activation=vit_act)
        )
    return blocks
