"""The deployment form of a network: the same function with fewer operations and copies.

The readable modules stay as they are; a copy of the network is rewritten. Tests compare every rewrite with the
readable module. ``fast_form`` of a network other than LGM-Pose only folds its BatchNorms.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lgmpose.network.modules import LARM, SFusion

__all__ = ["FastLARM", "FastSFusion", "channels_last", "fast_form", "fold_batchnorm"]


def fast_form(net: nn.Module) -> nn.Module:
    """Return a faster copy of a network in eval mode, for inference only, laid out as channels_last."""
    net = fold_batchnorm(copy.deepcopy(net))
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SFusion) and (child.shuffle_groups, child.channels_per_group) == (2, 2):
                setattr(parent, name, FastSFusion(child))
            elif isinstance(child, LARM):
                setattr(parent, name, FastLARM(child))
    return channels_last(net.eval())


def channels_last(net: nn.Module) -> nn.Module:
    """Lay out all convolution weights as channels_last; the network is changed and returned."""
    for parameter in net.parameters():
        if parameter.ndim == 4:  # net.to() would refuse Dite-HRNet's dynamic kernels, which have five axes
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return net


class FastSFusion(nn.Module):
    """SFusion as one depthwise convolution and a 1×1, made from an SFusion whose BatchNorms are folded.

    After the shuffle, group i holds channels i and i + C/2 of the concatenation. So each of its two outputs is the sum
    of two depthwise convolutions. The MACs are the same, nothing is shuffled, and runtimes are faster at depthwise
    convolutions than at groups of two. The 1×1 takes the new order of channels and the grouped convolution's bias.
    """

    def __init__(self, fusion: SFusion):
        super().__init__()
        state = fusion.state_dict()
        weight, mix = state["grouped.0.weight"], state["pointwise.0.weight"]  # (C, 2, 3, 3), (C, C, 1, 1)
        first, second = weight[0::2], weight[1::2]  # the two outputs of each group
        # Channels i of the concatenation for both outputs of their groups, then channels i + C/2 likewise.
        depthwise = torch.cat([first[:, :1], second[:, :1], first[:, 1:], second[:, 1:]])
        bias = state["pointwise.0.bias"] + mix[:, :, 0, 0] @ state["grouped.0.bias"]
        C = self.channels = len(weight)
        self.depthwise = nn.Conv2d(2 * C, 2 * C, 3, padding=1, groups=2 * C, bias=False)
        self.depthwise.weight = nn.Parameter(depthwise)
        self.pointwise = nn.Conv2d(C, C, 1)
        self.pointwise.weight = nn.Parameter(torch.cat([mix[:, 0::2], mix[:, 1::2]], dim=1))
        self.pointwise.bias = nn.Parameter(bias)
        self.activation = fusion.pointwise[2]

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        C = self.channels
        x = torch.cat([decoder, encoder], dim=1)
        low, high = x[:, : C // 2], x[:, C // 2 :]
        x = self.depthwise(torch.cat([low, low, high, high], dim=1))
        return self.activation(self.pointwise(x[:, :C] + x[:, C:]))


class FastLARM(nn.Module):
    """LARM with the channel axis first: (B, d, H, W) → (B, d, P, N) → (B, d, N, P) → (B, d, H, W).

    NPT-Op puts patches or pixels before the channels, which moves every element across the whole tensor. LARM never
    mixes channels, so with the channel axis first, each copy stays within one channel's map. No tensor has more than
    four axes, because ncnn has no more.
    """

    def __init__(self, larm: LARM):
        super().__init__()
        self.grid_hw, self.patch_hw = larm.grid_hw, larm.patch_hw
        self.between_patches, self.within_patch = larm.between_patches, larm.within_patch

    def forward(self, x: Tensor) -> Tensor:
        B, d, H, W = x.shape
        (rows, columns), (h, w) = self.grid_hw, self.patch_hw
        x = x.reshape(B * d * rows, h, columns, w).transpose(1, 2)  #            (B·d·rows, columns, h, w)
        x = x.reshape(B, d, rows * columns, h * w).transpose(2, 3)  #            (B, d, P, N)
        x = self.between_patches(x)
        x = self.within_patch(x.transpose(2, 3))  #                              (B, d, N, P)
        x = x.reshape(B * d * rows, columns, h, w).transpose(1, 2)  #            (B·d·rows, h, columns, w)
        return x.reshape(B, d, H, W)


def fold_batchnorm(net: nn.Module) -> nn.Module:
    """Multiply every BatchNorm into the convolution or deconvolution before it; the network is changed and returned.

    A BatchNorm is folded if its module defines a convolution directly before it. In all networks of the catalogue, the
    two are then also called one after the other. Tests compare every network with its fast form. Other norms stay, for
    example those after Dite-HRNet's dynamic convolutions.
    """
    for parent in list(net.modules()):
        for (_, conv), (name, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)) and isinstance(norm, nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))
                conv.weight, conv.bias = fused.weight, fused.bias
                setattr(parent, name, getattr(norm, "act", nn.Identity()))  # timm's norms end with an activation
    return net
