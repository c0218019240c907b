"""Tasks of lesson 03: channel shuffle, BatchNorm, receptive field, and a BatchNorm folded into a convolution."""

from functools import cache

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lgmpose.course.checks import compare, compare_prediction, random_tensor, randomised, task
from lgmpose.network.layers import channel_shuffle
from lgmpose.network.modules import LARM
from lgmpose.zoo.catalogue import create_model


@task("03.1", "easy", way="The table has the rows 0 1 2 3 and 4 5 6 7; read its columns.")
def check_order(prediction) -> str:
    shuffled = channel_shuffle(torch.arange(8).view(1, 8, 1, 1), 2).flatten()
    return compare_prediction(prediction, tuple(shuffled.tolist()), labels=True)


@task("03.2", "medium", forbidden=("channel_shuffle", "native_channel_shuffle", "ChannelShuffle"))
def check_shuffle(attempt) -> None:
    for B, C, groups in ((1, 6, 2), (2, 12, 3), (2, 8, 4)):
        x = random_tensor(C, B, C, 3, 5)
        case = f"called with a tensor of shape {tuple(x.shape)} and {groups} groups"
        compare(attempt(x, groups), channel_shuffle(x, groups), case)


@task(
    "03.3",
    "medium",
    way="Count back: 2 channels of the second convolution, and for each of them the 2 channels of its first group.",
)
def check_reach(prediction) -> str:
    return compare_prediction(prediction, tuple(_inputs_seen(shuffled) for shuffled in (False, True)), unit="channels")


def _inputs_seen(shuffled: bool) -> int:
    """Count the input channels that output channel 0 depends on: 16 channels, two convolutions in 8 groups."""
    first, second = (randomised(nn.Conv2d(16, 16, 1, groups=8), seed) for seed in (0, 1))
    x = random_tensor(0, 1, 16, 1, 1).requires_grad_()
    y = first(x)
    y = second(channel_shuffle(y, 2) if shuffled else y)
    (gradient,) = torch.autograd.grad(y[0, 0, 0, 0], x)
    return int((gradient != 0).sum())


@task("03.4", "easy", way="Two independent chances of one half are multiplied.")
def check_share(prediction) -> str:
    return compare_prediction(prediction, 0.5 * 0.5, atol=0.03)


@task("03.5", "medium", forbidden=("batch_norm", "_BatchNorm"))
def check_norm(attempt) -> None:
    for seed, (B, C, H, W) in enumerate(((2, 3, 4, 5), (1, 6, 6, 2))):
        bn = randomised(nn.BatchNorm2d(C, eps=0.01), seed)  # a large eps: leaving it out shows
        x = random_tensor(seed, B, C, H, W)
        with torch.no_grad():
            expected = bn(x)
        compare(attempt(x, bn), expected, f"called with a tensor of shape {(B, C, H, W)}")


@task("03.6", "easy", way="Count the lines with stride 1 whose first and last number of channels are equal.")
def check_blocks_that_add(prediction) -> str:
    with torch.device("meta"):
        net = create_model("lgm-pose-coco-256x192")
    added = sum(getattr(block, "has_residual", False) for stage in net.stages for block in stage)
    return compare_prediction(prediction, added, unit="blocks")


@task("03.7", "medium")
def check_receptive_field(attempt) -> None:
    cases = {
        ((3, 2), (3, 1)): (7, 2),
        ((3, 1), (3, 1), (3, 1)): (7, 1),
        ((7, 2), (3, 2), (1, 1), (3, 1)): (19, 4),
        ((3, 2), (1, 1), (5, 2), (3, 2), (3, 1)): (35, 8),
    }
    for layers, expected in cases.items():
        compare(attempt(list(layers)), expected, f"called with {list(layers)}")


@task("03.8", "hard", forbidden=("fuse_conv_bn_weights", "fuse_conv_bn_eval"))
def check_fold(attempt) -> None:
    """Compare with PyTorch's own folding. The eps is large, so that leaving it out shows."""
    for seed, weight_shape in enumerate(((6, 4, 3, 3), (6, 1, 3, 3), (5, 8, 1, 1))):  # plain, depthwise, 1×1
        norm = randomised(nn.BatchNorm2d(weight_shape[0], eps=0.01), seed)
        weight = random_tensor(seed, *weight_shape)
        expected = fuse_conv_bn_weights(
            weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        got = attempt(weight, norm)
        compare(got, expected, f"called with a weight of shape {weight_shape} and a BatchNorm2d({weight_shape[0]})")


@task(
    "03.9", "medium", way="A 3×3 adds 2 × the stride of its stage; look up the strides of the stages with a MobileViM."
)
def check_rows_seen_without_larm(prediction) -> str:
    return compare_prediction(prediction, _rows_seen(), unit="rows")


@cache
def _rows_seen(image_hw: tuple[int, int] = (256, 192)) -> int:
    """Count the input rows that influence the centre of the last stage's map, without LARM (each is an identity)."""
    with torch.random.fork_rng():  # does not change the reader's random numbers
        net = randomised(create_model("lgm-pose-coco-256x192", image_hw=image_hw))
    for name, module in list(net.named_modules()):
        if isinstance(module, LARM):
            net.set_submodule(name, nn.Identity())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, *image_hw, generator=generator, requires_grad=True)
    deepest = net.forward_features(images)[-1]
    centre = deepest[:, :, deepest.shape[2] // 2, deepest.shape[3] // 2]
    (centre * torch.randn(centre.shape, generator=generator)).sum().backward()
    return int(images.grad.any(dim=3).any(dim=1).any(dim=0).sum())
