"""Tasks of lesson 06: the MLP Block, LARM's two steps, what they cost, and LARM in the other order."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lgmpose.course.checks import compare, compare_prediction, random_tensor, randomised, task
from lgmpose.network.modules import LARM, MLPBlock, MobileViM, npt_op1, npt_op2, npt_op3
from lgmpose.network.variants import MobileViTBlock


@task("06.1", "easy", way="Subtract the mean, 2. Then divide by the square root of the mean of the squares")
def check_layer_norm(prediction) -> str:
    values = F.layer_norm(torch.tensor([1.0, 1.0, 3.0, 3.0]), (4,), eps=0)
    return compare_prediction(prediction, tuple(values.tolist()), atol=0.05)


@task("06.2", "medium", forbidden=("MLPBlock",))
def check_mlp_block(attempt) -> None:
    for seed, shape in enumerate(((4,), (2, 5), (2, 3, 7, 12))):
        block = randomised(MLPBlock(shape[-1]), seed)
        x = random_tensor(seed, *shape)
        with torch.no_grad():
            compare(attempt(x, block), block(x), f"called with a tensor of {shape}")


@task(
    "06.3",
    "easy",
    way="After the first: one pixel for each patch, so the number of patches. After both: all positions as well",
)
def check_reach(prediction) -> str:
    """Count by the gradient the pixels that one output depends on."""
    larm = randomised(LARM((32, 24), (4, 4)))
    x = random_tensor(0, 1, 1, 32, 24).requires_grad_()
    first = npt_op3(npt_op2(larm.between_patches(npt_op1(x, (4, 4)))), (4, 4), (32, 24))
    reached = [torch.autograd.grad(y[0, 0, 9, 13], x)[0] for y in (first, larm(x))]
    return compare_prediction(prediction, tuple(int((gradient != 0).sum()) for gradient in reached), unit="pixels")


@task("06.4", "medium", forbidden=("npt_op1", "npt_op2", "npt_op3", "LARM"))
def check_first_step(attempt) -> None:
    for seed, (map_hw, patch_hw) in enumerate((((4, 6), (2, 3)), ((12, 8), (3, 4)), ((8, 4), (4, 1)))):
        mlp = randomised(LARM(map_hw, patch_hw), seed).between_patches
        x = random_tensor(seed, 2, 3, *map_hw)
        with torch.no_grad():
            expected = npt_op3(npt_op2(mlp(npt_op1(x, patch_hw))), patch_hw, map_hw)
            got = attempt(x, mlp, patch_hw)
        compare(got, expected, f"called with a map of {map_hw} and patches of {patch_hw}")


@task(
    "06.5", "easy", way="The concatenation has 2C channels. Multiply: channels in × channels out × pixels of the kernel"
)
def check_last_convolution(prediction) -> str:
    blocks = (MobileViM(48, 96, (32, 24), (4, 4)), MobileViTBlock(48, 96, layers=1))
    weights = tuple(next(block.fuse.children()).weight.numel() for block in blocks)  # type: ignore[union-attr]
    return compare_prediction(prediction, weights, unit="weights")


@task("06.6", "medium")
def check_larm_macs(attempt) -> None:
    for map_hw, patch_hw, d in (((8, 12), (2, 3), 1), ((32, 24), (4, 4), 96), ((16, 12), (2, 2), 5)):
        expected = d * _cost(LARM(map_hw, patch_hw), map_hw)["macs"]  # every channel costs the same
        compare(attempt(map_hw, patch_hw, d), expected, f"called with {map_hw}, {patch_hw}, d={d}", atol=1e-9)


@task("06.7", "medium")
def check_larm_parameters(attempt) -> None:
    for map_hw, patch_hw in (((4, 6), (2, 3)), ((8, 4), (4, 1)), ((32, 24), (4, 4))):
        P = patch_hw[0] * patch_hw[1]
        N = map_hw[0] * map_hw[1] // P
        expected = _cost(LARM(map_hw, patch_hw), map_hw)["parameters"]
        compare(attempt(N, P), expected, f"called with N={N}, P={P}", atol=1e-9)


@task("06.8", "medium", way="LayerNorm removes any common factor; a residual connection adds the input with its factor")
def check_factor_ten(prediction) -> str:
    measured = {}
    for name, residual in (("without", False), ("with", True)):
        block, x = randomised(MLPBlock(12, residual=residual)), random_tensor(0, 3, 12)
        with torch.no_grad():
            measured[name] = "same" if torch.allclose(block(10 * x), block(x), atol=1e-3) else "other"
    return compare_prediction(prediction, measured, choices=("same", "other"))


@task("06.9", "hard")
def check_within_first(attempt) -> None:
    cases = (((8, 32), (2, 8), True), ((12, 18), (2, 3), True), ((8, 12), (4, 2), False))
    for seed, (map_hw, patch_hw, residual) in enumerate(cases):
        larm = randomised(LARM(map_hw, patch_hw, residual=residual), seed)
        x = random_tensor(seed, 2, 3, *map_hw)
        with torch.no_grad():
            tokens = larm.within_patch(npt_op2(npt_op1(x, patch_hw)))  # (B, N, d, P)
            tokens = npt_op2(larm.between_patches(npt_op2(tokens)))  # to (B, P, d, N) and back
            expected = npt_op3(tokens, patch_hw, map_hw)
            got = attempt(x, larm)
        kind = "a LARM" if residual else "a LARM without residual"
        compare(got, expected, f"called with a map of {map_hw} and {kind} with patches of {patch_hw}")


@task(
    "06.10",
    "medium",
    way="Put N = 48 and then N = 192 into (8N + 8P) · d · H · W and into 8N² + 7N + 8P² + 7P, and divide",
)
def check_growth(prediction) -> str:
    """Count LARM's MACs and parameters on a map, and on one with twice as many rows and columns."""
    small, large = (_cost(LARM(map_hw, (4, 4)), map_hw) for map_hw in ((32, 24), (64, 48)))
    return compare_prediction(prediction, {name: large[name] / small[name] for name in small}, rtol=0.05)


def _cost(larm: nn.Module, map_hw: tuple[int, int]) -> dict[str, int]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        larm(torch.zeros(1, 1, *map_hw))  # one channel is enough: every channel costs the same
    return {"macs": counter.get_total_flops() // 2, "parameters": sum(p.numel() for p in larm.parameters())}
