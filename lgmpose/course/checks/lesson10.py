"""Exercises of lesson 10: the gradient of the heatmap loss, and the first step after the loss is doubled."""

from functools import cache

import torch

from lgmpose.course.checks import Task, compare, compare_prediction
from lgmpose.training.loop import heatmap_loss
from lgmpose.zoo.catalogue import create_model


def check_gradient(attempt) -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 1, 2, 3), (3, 5, 6, 4), (2, 17, 7, 12)):
        predicted, target = (torch.randn(shape, generator=generator) for _ in range(2))
        weights = (torch.rand(shape[:2], generator=generator) < 0.7).float()
        predicted.requires_grad_()
        (right,) = torch.autograd.grad(heatmap_loss(predicted, target, weights), predicted)
        got = attempt(predicted.detach(), target, weights)
        # Scaled by the number of pixels, because the tolerance is absolute and the gradients are small.
        scale = predicted.numel()
        got = got * scale if isinstance(got, torch.Tensor) else got
        compare(got, right * scale, f"gradient of maps {tuple(shape)}, × {scale}")


def check_doubled_loss(prediction) -> str:
    """Measure how much longer the first step gets if the loss is doubled: with SGD, with Adam."""
    measured = (_first_step(kind, 2.0) / _first_step(kind, 1.0) for kind in (torch.optim.SGD, torch.optim.Adam))
    return compare_prediction(prediction, tuple(measured), atol=0.1)


@cache
def _first_step(optimizer_type: type[torch.optim.Optimizer], factor: float) -> float:
    """Return the Euclidean length of the first step of all weights of a new LGM-Pose."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((4, 3, 64, 32), generator=generator)
    target = torch.rand((4, 17, 16, 8), generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = create_model("lgm-pose-coco-256x192", image_hw=(64, 32)).train()
    before = torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
    optimizer = optimizer_type(net.parameters(), lr=1e-3)
    (factor * heatmap_loss(net(images), target, torch.ones(4, 17))).backward()
    optimizer.step()
    return float((torch.cat([parameter.detach().flatten() for parameter in net.parameters()]) - before).norm())


TASKS = {"10.1": Task(check_gradient, "hard"), "10.2": Task(check_doubled_loss)}
