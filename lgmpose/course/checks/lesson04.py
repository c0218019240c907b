"""Exercises of lesson 04: NPT-Op.1 from slices, and which pixels one output depends on."""

import torch
from torch import Tensor, nn

from lgmpose.course.checks import Task, compare, compare_prediction
from lgmpose.network.modules import npt_op1, npt_op2, npt_op3

MAP_HW, PATCH_HW = (8, 12), (2, 3)
ORDERS = {"a": "N", "b": "P", "c": "NP", "d": "NN"}  # the axes that are mixed, in order


def check_slices(attempt) -> None:
    for seed, (map_hw, patch_hw) in enumerate((((4, 6), (2, 3)), ((12, 24), (4, 6)), ((8, 4), (4, 1)))):
        x = torch.randn(2, 3, *map_hw, generator=torch.Generator().manual_seed(seed))
        case = f"called with a map of {map_hw} and patches of {patch_hw}"
        compare(attempt(x.clone(), patch_hw), npt_op1(x, patch_hw), case)


def check_reach(prediction) -> str:
    """Measure by the gradient how many pixels one output depends on."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = {"N": nn.Linear(16, 16), "P": nn.Linear(6, 6)}
    measured = {}
    for letter, order in ORDERS.items():
        x = torch.randn(1, 1, *MAP_HW, generator=generator).requires_grad_()
        y = x
        for axis in order:
            y = _mix(y, axis, layers)
        (gradient,) = torch.autograd.grad(y[0, 0, 3, 7], x)
        measured[letter] = int((gradient != 0).sum())
    return compare_prediction(prediction, measured, unit="pixels")


def _mix(x: Tensor, axis: str, layers: dict[str, nn.Module]) -> Tensor:
    tokens = npt_op1(x, PATCH_HW)  # (B, P, d, N)
    tokens = npt_op2(layers["N"](tokens)) if axis == "N" else layers["P"](npt_op2(tokens))
    return npt_op3(tokens, PATCH_HW, MAP_HW)


TASKS = {
    "04.1": Task(check_slices, "hard", forbidden=("npt_op1", "unfold", "pixel_unshuffle")),
    "04.2": Task(check_reach),
}
