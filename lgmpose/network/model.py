"""LGM-Pose assembled (section 3.1, Figure 1): encoder, three deconvolutions with fusion, head.

An encoder of inverted residuals with a global block at strides 8 and 16 goes down to stride 32; a decoder comes back to
stride 4, each step meeting the encoder's feature of the same size; a 1×1 convolution makes K heatmaps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgmpose.network.config import LGMPoseConfig, Stage
from lgmpose.network.layers import ConvNormAct, InvertedResidual
from lgmpose.network.modules import LARM, MLPBlock, MobileViM
from lgmpose.network.variants import MobileViTBlock, make_fusion

__all__ = ["LGMPose"]


class LGMPose(nn.Module):
    """The network; (B, 3, H, W) → (B, K, H/4, W/4) heatmaps, for the one input size in its config.

    Raises (in ``forward``):
        ValueError: an input of another size.
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
        for width, skip in zip(config.decoder_channels, skips[:3], strict=True):
            self.deconvs.append(ConvNormAct(channels, width, activation=act, transposed=True))
            self.fusions.append(make_fusion(config.fusion, width, skip, activation=act))
            channels = self.fusions[-1].out_channels
        self.head = nn.Conv2d(channels, config.num_keypoints, 1)
        self.apply(_init_weights)
        nn.init.normal_(self.head.weight, std=0.001)  # heatmaps start near zero, as SimpleBaseline's do

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → the encoder's features at strides 2, 4, 8, 16, 32."""
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def forward_head(self, features: list[Tensor]) -> Tensor:
        """Features of ``forward_features`` → (B, K, H/4, W/4)."""
        *skips, x = features
        for deconv, fuse in zip(self.deconvs, self.fusions, strict=True):
            x = fuse(deconv(x), skips.pop())
        return self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        if (H, W) != self.config.image_hw:
            raise ValueError(
                f"this network was built for pictures of {self.config.image_hw[0]} × {self.config.image_hw[1]}, got "
                f"{H} × {W}; resized(({H}, {W})) gives the same network for that size"
            )
        return self.forward_head(self.forward_features(x))

    def resized(self, image_hw: tuple[int, int]) -> LGMPose:
        """The same network for another input size.

        LARM's matrices hold one row or column per patch: they are resampled over the grid of patches. All else is
        copied. The result is close to the original on a resized picture, not equal: fine-tune it.

        Raises:
            ValueError: not multiples of 32.
        """
        with torch.random.fork_rng():  # nobody else's random numbers change by it, and the result is always the same
            torch.manual_seed(0)
            other = LGMPose(self.config.with_(image_hw=tuple(image_hw)))
        state = self.state_dict()
        for name, module in self.named_modules():
            if isinstance(module, LARM) and isinstance(module.between_patches, MLPBlock):
                target = other.get_submodule(name)
                new = _resample_mlp(module.between_patches, target.between_patches, module.grid_hw, target.grid_hw)
                state.update({f"{name}.between_patches.{key}": value for key, value in new.items()})
        other.load_state_dict(state)
        return other.to(self.head.weight.device, self.head.weight.dtype).train(self.training)


def _make_stage(in_channels: int, stage: Stage, map_hw: tuple[int, int], config: LGMPoseConfig) -> nn.Sequential:
    blocks = []
    for i in range(stage.repeats):
        blocks.append(
            InvertedResidual(
                in_channels if i == 0 else stage.channels,
                stage.channels,
                expansion=stage.expansion,
                stride=stage.stride if i == 0 else 1,
                activation=config.activation,
            )
        )
    if stage.token_width and config.global_block != "mobilevim":
        # Table 4 replaces the block as its authors made it, SiLU included; with ReLU6 everywhere we tell its worth.
        activation = "relu6" if config.global_block == "mobilevit_relu6" else "silu"
        blocks.append(
            MobileViTBlock(stage.channels, stage.token_width, layers=stage.vit_layers, activation=activation)
        )
    elif stage.token_width:
        blocks.append(
            MobileViM(
                stage.channels,
                stage.token_width,
                map_hw,
                stage.patch_hw,
                mlp_ratio=config.mlp_ratio,
                residual=config.larm_residual,
                larm=config.larm,
                activation=config.activation,
            )
        )
    return nn.Sequential(*blocks)


def _init_weights(module: nn.Module) -> None:
    """Convolutions as MobileNetV2 initialises them, the rest as PyTorch does; the paper says nothing."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _grid_resampler(from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Tensor:
    """(N_to, N_from) matrix of bilinear, anti-aliased resampling between two grids; every row sums to 1."""
    impulses = torch.eye(from_hw[0] * from_hw[1]).view(-1, 1, *from_hw)
    return F.interpolate(impulses, size=to_hw, mode="bilinear", antialias=True, align_corners=False).flatten(1).T


def _resample_mlp(
    source: MLPBlock, target: MLPBlock, from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> dict[str, Tensor]:
    """Weights of ``target``, an MLP Block over another grid of patches, that do what ``source`` does.

    A vector over the new grid is brought to the old one, sent through the old matrices, and brought back. A hidden unit
    belongs to no patch, so units are not resampled: a larger grid keeps target's fresh units with outgoing weights 0
    (the function stays as it is, and they can learn), a smaller one keeps those that matter most.
    """
    if from_hw == to_hw:
        return {key: value.clone() for key, value in source.state_dict().items()}
    up = _grid_resampler(from_hw, to_hw).to(source.norm.weight)
    down = _grid_resampler(to_hw, from_hw).to(source.norm.weight)
    state = {key: value.to(up) for key, value in target.state_dict().items()}
    importance = source.expand.weight.norm(dim=1) * source.project.weight.norm(dim=0)
    kept = importance.topk(min(len(importance), target.expand.out_features)).indices.sort().values
    state["norm.weight"], state["norm.bias"] = up @ source.norm.weight, up @ source.norm.bias
    state["expand.weight"][: len(kept)] = source.expand.weight[kept] @ down
    state["expand.bias"][: len(kept)] = source.expand.bias[kept]
    state["project.weight"].zero_()
    state["project.weight"][:, : len(kept)] = up @ source.project.weight[:, kept]
    state["project.bias"] = up @ source.project.bias
    return {key: value.detach() for key, value in state.items()}
