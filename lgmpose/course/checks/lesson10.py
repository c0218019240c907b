"""Tasks of lesson 10: the heatmap loss, its gradient, Adam, moving averages, and reading a curve."""

import dis
from contextlib import contextmanager
from functools import cache
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor

from lgmpose.course.checks import Different, compare, compare_prediction, task
from lgmpose.training.loop import heatmap_loss
from lgmpose.zoo.catalogue import create_model


@task("10.1", "easy", way="Add 6 × 81 to the 6 of the first joint, and divide by 2 × 12")
def check_labelled_loss(prediction) -> str:
    target = torch.zeros(1, 2, 2, 3)
    target[0, 0, 0, 1] = 4
    painted = torch.tensor([[[[1, 2, 0], [0, 0, 1]], [[9, 9, 9], [9, 9, 9]]]]).float()
    return compare_prediction(prediction, float(heatmap_loss(painted, target, torch.ones(1, 2))), rtol=0.01)


def _maps(*shapes: tuple[int, ...]):
    """Yield a case in words and random heatmaps, targets and weights. The last weights are not only 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    for number, shape in enumerate(shapes, 1):
        predicted, target = (torch.randn(shape, generator=generator) for _ in range(2))
        weights = (torch.rand(shape[:2], generator=generator) < 0.7).float()
        if number == len(shapes):
            weights = weights * (1 + torch.rand(shape[:2], generator=generator))
        yield (
            f"maps {tuple(shape)}, weights {'from 0 to 2' if number == len(shapes) else '0 and 1'}",
            predicted,
            target,
            weights,
        )


@contextmanager
def without_loop(attempt):
    """Raise ``Different`` if a function loops, or calls a function of the same notebook that does."""
    code = getattr(attempt, "__code__", None)
    if code is not None and _loops(code, attempt.__globals__, set()):
        raise Different("has a loop, or calls a function that has one. This task asks you to avoid loops")
    yield


def _loops(code: CodeType, names: dict[str, Any], seen: set[CodeType]) -> bool:
    """Return whether code jumps back, as every `for` and `while` does; ``names`` are the globals that it sees."""
    seen.add(code)
    if any(step.opname.startswith("JUMP_BACKWARD") for step in dis.get_instructions(code)):
        return True
    called = (names.get(name) for name in code.co_names)
    codes = [f.__code__ for f in called if isinstance(f, FunctionType) and f.__module__ == names.get("__name__")]
    codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]  # generators, inner functions
    return any(_loops(inner, names, seen) for inner in codes if inner not in seen)


@task("10.2", "medium", forbidden=("heatmap_loss",), rule=without_loop)
def check_fast_loss(attempt) -> None:
    for case, predicted, target, weights in _maps((1, 1, 2, 3), (3, 5, 6, 4), (2, 17, 7, 12)):
        compare(attempt(predicted, target, weights), heatmap_loss(predicted, target, weights), case)


@task("10.3", "medium", forbidden=("heatmap_loss", "backward", "grad"))
def check_gradient(attempt) -> None:
    for case, predicted, target, weights in _maps((1, 1, 2, 3), (3, 5, 6, 4), (2, 17, 7, 12)):
        leaf = predicted.clone().requires_grad_()
        (right,) = torch.autograd.grad(heatmap_loss(leaf, target, weights), leaf)
        got = attempt(predicted, target, weights)
        # Scaled by the number of pixels, because the tolerance is absolute and the gradients are small.
        got = got * predicted.numel() if isinstance(got, Tensor) else got
        compare(got, right * predicted.numel(), f"{case}, × {predicted.numel()}")


@task("10.4", "easy", way="Take the mean of the four targets, at A and at B separately")
def check_two_places(prediction) -> str:
    return compare_prediction(prediction, (0.75, 0.25), atol=0.01)


@task("10.5", "hard", way="m = 0.9 × 0.4 − 0.1 × 4 and v = 0.999 × 0.016 + 0.001 × 16, both corrected for t = 2")
def check_second_step(prediction) -> str:
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer, places = torch.optim.Adam([weight], lr=1.0), []
    for gradient in (4.0, -4.0):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        places.append(weight.item())
    return compare_prediction(prediction, abs(places[1] - places[0]), rtol=0.05, unit="rates")


@task("10.6", "easy", way="After n steps the average is 1 − 0.9ⁿ")
def check_average(prediction) -> str:
    average, steps = 0.0, 0
    while average <= 0.5:
        average, steps = 0.9 * average + 0.1, steps + 1
    return compare_prediction(prediction, steps, unit="steps")


@task("10.7", "easy", way="The stored gradients are 1, 2 and 3. Each step subtracts 0.1 times the stored one")
def check_forgotten_gradients(prediction) -> str:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(3):
        weight.sum().backward()
        optimizer.step()
    return compare_prediction(prediction, weight.item(), atol=0.01)


@task("10.8", "easy")
def check_nothing(attempt) -> None:
    for case, _, target, weights in _maps((2, 3, 4, 5), (1, 14, 8, 6)):
        compare(attempt(target, weights), heatmap_loss(torch.zeros_like(target), target, weights), case)


@task("10.9", "hard", forbidden=("backward", "grad", "Adam"))
def check_line(attempt) -> None:
    generator = torch.Generator().manual_seed(0)
    # Adam hides a factor of the gradients, unless they are as small as its eps.
    for steps, rate, size in ((1, 0.1, 1), (2, 0.1, 1), (60, 0.05, 1), (1, 0.1, 1e-8)):
        x = torch.randn(7, generator=generator, dtype=torch.float64)
        y = size * (2 * x - 1 + 0.1 * torch.randn(7, generator=generator, dtype=torch.float64))
        line = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([line], lr=rate)
        for _ in range(steps):
            optimizer.zero_grad()
            (0.5 * ((line[0] * x + line[1] - y) ** 2).mean()).backward()
            optimizer.step()
        case = f"steps={steps}, rate={rate}" + (", y and the gradients about 1e-8" if size < 1 else "")
        compare(attempt(x.clone(), y.clone(), steps, rate), tuple(line.tolist()), case, atol=1e-4)


@task(
    "10.10",
    "medium",
    way="SGD's step is proportional to the gradient. In Adam's step, a factor of the gradient cancels",
)
def check_doubled_loss(prediction) -> str:
    """Measure how much longer the first step gets if the loss is doubled: with SGD, with Adam."""
    measured = (_first_step(kind, 2.0) / _first_step(kind, 1.0) for kind in (torch.optim.SGD, torch.optim.Adam))
    # Rounded: Adam's eps makes its factor 1.01 in this network, and the lesson teaches that any factor cancels.
    return compare_prediction(prediction, tuple(round(factor, 1) for factor in measured), atol=0.1)


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
