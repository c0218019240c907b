"""The fast form of a network: the same function, without what the mathematics does not need.

The modules that students read stay as they are; this module rewrites a copy of a network for running it. What it does:

* every BatchNorm is multiplied into the convolution before it;
* SFusion's shuffle and its grouped convolution become depthwise convolutions without a shuffle (``FastSFusion``);
* LARM's reshapes keep the channel axis outermost, so that each copy stays within one channel's map (``FastLARM``).

``fast_form`` of any other network only folds its BatchNorms. Tests hold every rewrite to the readable module.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lgmpose.network.modules import LARM, SFusion

__all__ = ["FastLARM", "FastSFusion", "channels_last", "fast_form", "fold_batchnorm"]


def fast_form(net: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a network that computes the same, faster, laid out as channels_last; for inference only.

    Args:
        net: in eval mode; not changed.
        example: (B, 3, H, W), as the network takes it; one picture of it is run.
    """
    net = fold_batchnorm(copy.deepcopy(net), example)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SFusion) and child.shuffle and child.grouped[0].weight.shape[1] == 2:
                setattr(parent, name, FastSFusion(child))
            elif isinstance(child, LARM):
                setattr(parent, name, FastLARM(child))
    return channels_last(net.eval())


def channels_last(net: nn.Module) -> nn.Module:
    """Lays out every convolution's weights as channels_last; the network is changed and returned."""
    for parameter in net.parameters():
        if parameter.ndim == 4:  # convolutions; Dite-HRNet's dynamic kernels have five axes, which .to() refuses
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return net


class FastSFusion(nn.Module):
    """SFusion with two channels per group, as one depthwise convolution and a 1×1; the BatchNorms already folded.

    After the shuffle, group i holds channels i and i + C/2 of the concatenation. So its two outputs are sums of
    depthwise convolutions: one of channel i, one of channel i + C/2. Written so, nothing has to be shuffled, the
    multiply–accumulates stay the same, and runtimes have fast code for depthwise convolutions but slow code for
    groups of two. The order of the sums (all first outputs of the groups, then all second ones) and the grouped
    convolution's bias go into the 1×1, for nothing but a BatchNorm stands between the two.
    """

    def __init__(self, fusion: SFusion):
        super().__init__()
        grouped, pointwise = fusion.grouped[0], fusion.pointwise[0]
        C = self.out_channels = fusion.out_channels
        weight = grouped.weight.detach()  # (C, 2, 3, 3): row 2i and 2i + 1 are group i's outputs
        first, second = weight[0::2], weight[1::2]
        self.depthwise = nn.Conv2d(2 * C, 2 * C, 3, padding=1, groups=2 * C, bias=False)
        # Channels i of the concatenation for both outputs of their groups, then channels i + C/2 likewise.
        self.depthwise.weight.data = torch.cat([first[:, :1], second[:, :1], first[:, 1:], second[:, 1:]])
        mix = pointwise.weight.detach()
        self.pointwise = nn.Conv2d(C, C, 1)
        self.pointwise.weight.data = torch.cat([mix[:, 0::2], mix[:, 1::2]], dim=1)
        self.pointwise.bias.data = pointwise.bias.detach() + mix[:, :, 0, 0] @ grouped.bias.detach()
        self.activation = fusion.pointwise[2]

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        C = self.out_channels
        x = torch.cat([decoder, encoder], dim=1)
        low, high = x[:, : C // 2], x[:, C // 2 :]
        x = self.depthwise(torch.cat([low, low, high, high], dim=1))
        return self.activation(self.pointwise(x[:, :C] + x[:, C:]))


class FastLARM(nn.Module):
    """LARM with the channel axis outermost all the way: (B, d, H, W) → (B, d, P, N) → (B, d, N, P) → (B, d, H, W).

    NPT-Op puts an axis of patches or pixels before the channels, which moves every number across the whole tensor.
    LARM never mixes channels, so where their axis stands changes nothing but the copies.
    """

    def __init__(self, larm: LARM):
        super().__init__()
        self.map_hw, self.patch_hw = larm.map_hw, larm.patch_hw
        self.between_patches, self.within_patch = larm.between_patches, larm.within_patch

    def forward(self, x: Tensor) -> Tensor:
        B, d = x.shape[:2]
        (H, W), (h, w) = self.map_hw, self.patch_hw
        x = x.reshape(B, d, H // h, h, W // w, w).permute(0, 1, 3, 5, 2, 4)  # (B, d, h, w, H/h, W/w)
        x = self.between_patches(x.reshape(B, d, h * w, (H // h) * (W // w)))  # (B, d, P, N)
        x = self.within_patch(x.transpose(2, 3))  # (B, d, N, P)
        x = x.reshape(B, d, H // h, W // w, h, w).permute(0, 1, 2, 4, 3, 5)  # (B, d, H/h, h, W/w, w)
        return x.reshape(B, d, H, W)


def fold_batchnorm(net: nn.Module, example: Tensor) -> nn.Module:
    """Multiplies every BatchNorm into the convolution or deconvolution before it; the network is changed and returned.

    Which convolution comes before a BatchNorm is seen by running the example: the norm's input is the very tensor that
    the convolution gave. A norm after anything else (a sum, a concatenation, a dynamic convolution) stays.

    Args:
        net: in eval mode.
        example: (B, 3, H, W); one picture of it is run.
    """
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    calls = {module: 0 for module in net.modules()}
    before: dict[nn.Module, list] = {module: [] for module in net.modules() if isinstance(module, nn.BatchNorm2d)}

    def seen(module, inputs, output):
        calls[module] += 1
        if isinstance(module, convolutions):
            output.made_by = module
        elif module in before:
            before[module].append(getattr(inputs[0], "made_by", None))

    handles = [m.register_forward_hook(seen) for m in net.modules() if isinstance(m, convolutions) or m in before]
    with torch.inference_mode():
        net(example[:1])
    for handle in handles:
        handle.remove()

    folded = set()
    for norm, sources in before.items():
        conv = sources[0] if sources else None
        # Always this convolution, as often as it was called; no groups in a deconvolution, whose weights lie otherwise.
        # Whether something else reads the convolution's output, too (a sum beside the norm), is not seen here: no
        # network of the catalogue has that, and a test holds each of them to its fast form.
        if conv is None or set(sources) != {conv} or calls[conv] != len(sources):
            continue
        transposed = isinstance(conv, nn.ConvTranspose2d)
        if transposed and conv.groups > 1:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias, transposed
        )
        folded.add(norm)
    for parent in net.modules():
        for name, child in list(parent.named_children()):
            if child in folded:
                setattr(parent, name, nn.Identity())
    return net
