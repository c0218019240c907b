"""Exercises of lesson 03: folding a BatchNorm into a convolution, and the encoder's receptive field without LARM."""

from functools import cache

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lgmpose.course.checks import Task, compare, compare_prediction, randomised
from lgmpose.network.modules import LARM
from lgmpose.zoo.catalogue import create_model


def check_fold(attempt) -> None:
    """Compare with PyTorch's own folding. The eps is large, so that leaving it out shows."""
    for seed, weight_shape in enumerate(((6, 4, 3, 3), (6, 1, 3, 3), (5, 8, 1, 1))):  # plain, depthwise, 1×1
        norm = randomised(nn.BatchNorm2d(weight_shape[0], eps=0.01), seed)
        weight = torch.randn(weight_shape, generator=torch.Generator().manual_seed(seed))
        expected = fuse_conv_bn_weights(
            weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        got = attempt(weight.clone(), norm)
        compare(got, expected, f"called with a weight of shape {weight_shape} and a BatchNorm2d({weight_shape[0]})")


def check_rows_seen_without_larm(prediction) -> str:
    return compare_prediction(prediction, _rows_seen(), atol=0.5)


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


TASKS = {"03.1": Task(check_fold, "hard"), "03.2": Task(check_rows_seen_without_larm)}
