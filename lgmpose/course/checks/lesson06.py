"""Exercises of lesson 06: LARM in the other order, and what a larger input costs it."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lgmpose.course.checks import Task, compare, compare_prediction, randomised
from lgmpose.network.modules import LARM, npt_op1, npt_op2, npt_op3


def check_within_first(attempt) -> None:
    cases = (((8, 32), (2, 8), True), ((12, 18), (2, 3), True), ((8, 12), (4, 2), False))
    for seed, (map_hw, patch_hw, residual) in enumerate(cases):
        larm = randomised(LARM(map_hw, patch_hw, residual=residual), seed)
        x = torch.randn(2, 3, *map_hw, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            tokens = larm.within_patch(npt_op2(npt_op1(x, patch_hw)))  # (B, N, d, P)
            tokens = npt_op2(larm.between_patches(npt_op2(tokens)))  # to (B, P, d, N) and back
            expected = npt_op3(tokens, patch_hw, map_hw)
            got = attempt(x.clone(), larm)
        kind = "a LARM" if residual else "a LARM without residual"
        compare(got, expected, f"called with a map of {map_hw} and {kind} with patches of {patch_hw}")


def check_growth(prediction) -> str:
    """Count LARM's MACs and parameters on a map, and on one with twice as many rows and columns."""
    small, large = (_cost(LARM(map_hw, (4, 4)), map_hw) for map_hw in ((32, 24), (64, 48)))
    growth = {name: large[name] / small[name] for name in small}
    return compare_prediction(prediction, growth, rtol=0.05)


def _cost(larm: nn.Module, map_hw: tuple[int, int]) -> dict[str, int]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        larm(torch.zeros(1, 1, *map_hw))  # one channel is enough: every channel costs the same
    return {"macs": counter.get_total_flops() // 2, "parameters": sum(p.numel() for p in larm.parameters())}


TASKS = {"06.1": Task(check_within_first, "hard"), "06.2": Task(check_growth)}
