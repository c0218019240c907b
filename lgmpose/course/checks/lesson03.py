"""Exercises of lesson 03: folding a BatchNorm into a convolution, and how far the encoder sees."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from lgmpose.course.checks import Different, compare, randomised
from lgmpose.network.modules import LARM
from lgmpose.zoo.catalogue import create_model


def fold(attempt) -> None:
    """Against PyTorch's own folding; a large eps, so that it shows when it is forgotten."""
    for seed, weight_shape in enumerate(((6, 4, 3, 3), (6, 1, 3, 3), (5, 8, 1, 1))):  # plain, depthwise, 1×1
        norm = randomised(nn.BatchNorm2d(weight_shape[0], eps=0.01), seed)
        weight = torch.randn(weight_shape, generator=torch.Generator().manual_seed(seed))
        expected = fuse_conv_bn_weights(
            weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        got = attempt(weight.clone(), norm)
        compare(got, expected, f"called with a weight of shape {weight_shape} and a BatchNorm2d({weight_shape[0]})")


def rows_seen_without_larm(attempt) -> None:
    """Rows of the picture that the centre of the last stage depends on, by its gradient."""
    compare(attempt, attempt, "your prediction")  # a number at all?
    seen = rows_seen()
    if float(attempt) != seen:
        raise Different(f"predicted {float(attempt):g} rows, measured {seen}")


def rows_seen(image_hw: tuple[int, int] = (256, 192)) -> int:
    """Measured on a network of random weights whose LARMs hand on what they get."""
    with torch.random.fork_rng():  # the reader's random numbers stay as they are
        net = randomised(create_model("lgm-pose-coco-256x192", image_hw=image_hw))
    for name, module in list(net.named_modules()):
        if isinstance(module, LARM):
            net.set_submodule(name, nn.Identity())
    generator = torch.Generator().manual_seed(0)
    picture = torch.randn(4, 3, *image_hw, generator=generator, requires_grad=True)
    deepest = net.forward_features(picture)[-1]
    centre = deepest[:, :, deepest.shape[2] // 2, deepest.shape[3] // 2]
    (centre * torch.randn(centre.shape, generator=generator)).sum().backward()
    return int(picture.grad.any(dim=3).any(dim=1).any(dim=0).sum())


EXERCISES = {"03.1": fold, "03.2": rows_seen_without_larm}
