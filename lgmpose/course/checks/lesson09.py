"""Lesson 09: the slope of the heatmap loss, and how far a doubled loss moves a network."""

from __future__ import annotations

import torch

from lgmpose.course.checks import Different, NotAttempted, compare
from lgmpose.training.loop import heatmap_loss
from lgmpose.zoo.catalogue import create_model

TOLERANCE = 0.1


def _slope(attempt) -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 1, 2, 3), (3, 5, 6, 4), (2, 17, 7, 12)):
        predicted, target = (torch.randn(shape, generator=generator) for _ in range(2))
        weights = (torch.rand(shape[:2], generator=generator) < 0.7).float()
        predicted.requires_grad_()
        (right,) = torch.autograd.grad(heatmap_loss(predicted, target, weights), predicted)
        got = attempt(predicted.detach(), target, weights)
        # By the number of pixels, so that the tolerance is about the slopes themselves.
        scale = predicted.numel()
        got = got * scale if isinstance(got, torch.Tensor) else got
        compare(got, right * scale, f"slope of maps {tuple(shape)}, × {scale}")


def _first_step(optimizer_type: type[torch.optim.Optimizer], factor: float) -> float:
    """How far the first step takes all weights of a fresh LGM-Pose, as one Euclidean length."""
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


def _doubled_loss(attempt) -> None:
    try:
        predicted = tuple(float(value) for value in attempt)
    except (TypeError, ValueError):
        if hasattr(attempt, "__iter__") and any(value is None or value is ... for value in attempt):
            raise NotAttempted from None
        raise Different(f"two numbers are asked for, (with SGD, with Adam), not {attempt!r}") from None
    if len(predicted) != 2:
        raise Different(f"two numbers are asked for, (with SGD, with Adam), not {len(predicted)}")
    for name, kind, value in zip(("SGD", "Adam"), (torch.optim.SGD, torch.optim.Adam), predicted, strict=True):
        measured = _first_step(kind, 2.0) / _first_step(kind, 1.0)
        if not abs(value - measured) <= TOLERANCE:
            raise Different(f"with {name} you said {value:g} times as long, measured {measured:.2f} times")


EXERCISES = {"09.1": _slope, "09.2": _doubled_loss}
