"""Tasks of lesson 10: the heatmap loss, its gradient, Adam, moving averages, and reading a curve."""

from functools import cache

import torch
from torch import Tensor

from lgmpose.course.checks import Task, compare, compare_prediction
from lgmpose.training.loop import heatmap_loss
from lgmpose.zoo.catalogue import create_model


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


def check_fast_loss(attempt) -> None:
    for case, predicted, target, weights in _maps((1, 1, 2, 3), (3, 5, 6, 4), (2, 17, 7, 12)):
        compare(attempt(predicted, target, weights), heatmap_loss(predicted, target, weights), case)


def check_gradient(attempt) -> None:
    for case, predicted, target, weights in _maps((1, 1, 2, 3), (3, 5, 6, 4), (2, 17, 7, 12)):
        leaf = predicted.clone().requires_grad_()
        (right,) = torch.autograd.grad(heatmap_loss(leaf, target, weights), leaf)
        got = attempt(predicted, target, weights)
        # Scaled by the number of pixels, because the tolerance is absolute and the gradients are small.
        got = got * predicted.numel() if isinstance(got, Tensor) else got
        compare(got, right * predicted.numel(), f"{case}, × {predicted.numel()}")


def check_two_places(prediction) -> str:
    return compare_prediction(prediction, (0.75, 0.25), atol=0.01)


def check_second_step(prediction) -> str:
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer, places = torch.optim.Adam([weight], lr=1.0), []
    for gradient in (4.0, -4.0):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        places.append(weight.item())
    return compare_prediction(prediction, abs(places[1] - places[0]), rtol=0.05, unit="rates")


def check_average(prediction) -> str:
    average, steps = 0.0, 0
    while average <= 0.5:
        average, steps = 0.9 * average + 0.1, steps + 1
    return compare_prediction(prediction, steps, unit="steps")


def check_forgotten_gradients(prediction) -> str:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(3):
        weight.sum().backward()
        optimizer.step()
    return compare_prediction(prediction, weight.item(), atol=0.01)


def check_nothing(attempt) -> None:
    for case, _, target, weights in _maps((2, 3, 4, 5), (1, 14, 8, 6)):
        compare(attempt(target, weights), heatmap_loss(torch.zeros_like(target), target, weights), case)


def check_line(attempt) -> None:
    generator = torch.Generator().manual_seed(0)
    for steps, rate in ((1, 0.1), (2, 0.1), (60, 0.05)):
        x = torch.randn(7, generator=generator, dtype=torch.float64)
        y = 2 * x - 1 + 0.1 * torch.randn(7, generator=generator, dtype=torch.float64)
        line = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([line], lr=rate)
        for _ in range(steps):
            optimizer.zero_grad()
            (0.5 * ((line[0] * x + line[1] - y) ** 2).mean()).backward()
            optimizer.step()
        got = attempt(x.clone(), y.clone(), steps, rate)
        got = tuple(got) if isinstance(got, (Tensor, list)) else got
        compare(got, tuple(line.tolist()), f"{steps} steps with rate {rate}", atol=1e-4)


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


TASKS = {
    "10.1": Task(
        check_labelled_loss,
        "easy",
        hints=(
            "What is the squared difference of one pixel with target 0 and painted 9? How many such pixels are there?",
            "Six times 81 is 486. The first joint still adds 6.",
            "Divide the sum of both by twice the number of all pixels: two joints with six pixels each.",
        ),
        way="Add 6 × 81 to the 6 of the first joint, and divide by 2 × 12",
    ),
    "10.2": Task(
        check_fast_loss,
        "medium",
        hints=(
            "Subtract and square whole tensors at once. The result has four axes, the weights only two.",
            "`weights_BK[:, :, None, None]` has the shape (B, K, 1, 1). Multiplied by a tensor (B, K, H, W), each "
            "weight is used for its whole heatmap.",
            '"My loss is too large when some joints are not labelled": divide by the number of all pixels, so take '
            '`.mean()` of everything. "It is exactly twice as large": the half.',
        ),
        forbidden=("heatmap_loss",),
    ),
    "10.3": Task(
        check_gradient,
        "medium",
        hints=(
            "The formula is above: a (p − t) / n. Which shape must a get, so that it fits to (B, K, H, W)?",
            "`weights_BK[:, :, None, None]` gives the weights two more axes. n counts all elements of the target: "
            "`target_BKHW.numel()`.",
            '"It is right for weights 0 and 1, but not for 1.5": the weight occurs once, not squared. '
            '"It is twice as large": the 2 of the square cancels with the half. '
            '"The sign is wrong": painted minus target.',
        ),
        forbidden=("heatmap_loss", "backward", "grad"),
    ),
    "10.4": Task(
        check_two_places,
        "easy",
        hints=(
            "Look at one pixel only, the peak at A. Which four targets does it have?",
            "At A the targets are 1, 1, 1 and 0. The best answer is their mean.",
            '"(1, 0): it paints the more frequent place": the squared error does not choose. It takes the mean, at A '
            "and at B separately.",
        ),
        way="Take the mean of the four targets, at A and at B separately",
    ),
    "10.5": Task(
        check_second_step,
        "hard",
        hints=(
            "Start with m = 0.4 and v = 0.016, which the first step left behind, and use g = −4 and t = 2.",
            "m = 0.9 × 0.4 + 0.1 × (−4). v = 0.999 × 0.016 + 0.001 × 16. Then divide m by 1 − 0.9² and v by 1 − "
            "0.999².",
            "m̂ is −0.04 / 0.19. v̂ is 16 again, because both gradients have the same square. Divide m̂ by √16 and "
            "leave out the sign.",
        ),
        way="m = 0.9 × 0.4 − 0.1 × 4 and v = 0.999 × 0.016 + 0.001 × 16, both corrected for t = 2",
    ),
    "10.6": Task(
        check_average,
        "easy",
        hints=(
            "Compute the first averages: 0.9 × 0 + 0.1 × 1 = 0.1, then 0.9 × 0.1 + 0.1 = 0.19, and so on.",
            "The distance to 1 is multiplied by 0.9 in each step. After n steps the average is 1 − 0.9ⁿ.",
            "For which n is 0.9ⁿ below 0.5 for the first time? A loop of three lines tells you.",
        ),
        way="After n steps the average is 1 − 0.9ⁿ",
    ),
    "10.7": Task(
        check_forgotten_gradients,
        "easy",
        hints=(
            "Write down the stored gradient after each `backward()`: it is never set back to 0.",
            "The stored gradients are 1, 2 and 3.",
            "Each step subtracts 0.1 times the stored gradient. Add the three steps. Mind the sign.",
        ),
        way="The stored gradients are 1, 2 and 3. Each step subtracts 0.1 times the stored one",
    ),
    "10.8": Task(
        check_nothing,
        "easy",
        hints=(
            "Put 0 for the painted heatmaps into the loss.",
            "The squared difference is then `target_BKHW**2`. Keep the weights and the half.",
            'You may call your own `fast_loss` with `torch.zeros_like(target_BKHW)`. "It is too large": do '
            "unlabelled joints count? Their weight is 0.",
        ),
    ),
    "10.9": Task(
        check_line,
        "hard",
        hints=(
            "The loss is the mean of (slope x + offset − y)² / 2. Its derivative with respect to offset is the mean "
            "of the differences. With respect to slope, each difference is also multiplied by x.",
            "Put slope and offset into one tensor of two numbers. Then `adam_by_hand` of the lesson can do the step. "
            "Start m and v at 0, outside the loop.",
            '"The first step is right, later ones are not": does t start at 1 and grow by 1 in each step, and are m '
            'and v kept from step to step? "Everything is slightly off": both gradients must be taken at the old '
            "slope and offset.",
        ),
        forbidden=("backward", "grad", "Adam"),
    ),
    "10.10": Task(
        check_doubled_loss,
        "medium",
        hints=(
            "If the loss is doubled, what happens to every gradient?",
            "SGD's step is the rate times the gradient. For Adam, look at the table of the first step: put 8 in "
            "place of 4.",
            "In Adam's first step, m̂ = g and √v̂ = |g|. Any factor of g cancels.",
        ),
        way="SGD's step is proportional to the gradient. In Adam's step, a factor of the gradient cancels",
    ),
}
