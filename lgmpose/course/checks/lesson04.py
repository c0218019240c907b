"""Tasks of lesson 04: addresses of pixels, NPT-Op by reshape and by slices, copies, and what one output depends on."""

import torch
from torch import Tensor, nn

from lgmpose.course.checks import compare, compare_prediction, random_tensor, task
from lgmpose.course.checks.comparison import Different, NotAttempted
from lgmpose.network.modules import npt_op1, npt_op2, npt_op3

MAP_HW, PATCH_HW = (8, 12), (2, 3)
ORDERS = {"a": "N", "b": "P", "c": "NP", "d": "NN"}  # the axes that are mixed, in order
SIZES = (((4, 6), (2, 3)), ((12, 24), (4, 6)), ((8, 4), (4, 1)))  # map (H, W), patch (h, w)


@task(
    "04.1",
    "easy",
    way="n = patch row × 2 + patch column, p = row inside × 3 + column inside; all four come from `divmod`.",
)
def check_one_address(prediction) -> str:
    return compare_prediction(prediction, _address(3, 2, (4, 6), (2, 3)))


@task("04.2", "medium")
def check_address(attempt) -> None:
    for map_hw, patch_hw in SIZES:
        for row, column in ((0, 0), (map_hw[0] - 1, patch_hw[1] - 1), (map_hw[0] // 2, map_hw[1] - 1)):
            case = f"called with {row}, {column}, {map_hw}, {patch_hw}"
            compare(attempt(row, column, map_hw, patch_hw), _address(row, column, map_hw, patch_hw), case)


def _address(row: int, column: int, map_hw: tuple[int, int], patch_hw: tuple[int, int]) -> tuple[int, int]:
    """Return patch and position of a pixel, as NPT-Op.1 places it."""
    x = torch.zeros(1, 1, *map_hw)
    x[0, 0, row, column] = 1
    p, n = npt_op1(x, patch_hw)[0, :, 0].nonzero()[0].tolist()
    return n, p


@task("04.3", "easy", way="The second row has position 1 of each patch, one column to the right of position 0.")
def check_second_row(prediction) -> str:
    labels = 10 * torch.arange(4)[:, None] + torch.arange(6)
    return compare_prediction(prediction, tuple(npt_op1(labels[None, None], (2, 3))[0, 1, 0].tolist()), labels=True)


@task("04.4", "medium")
def check_order(attempt) -> None:
    if not isinstance(attempt, (tuple, list)) or len(attempt) != 6:
        raise Different("give a tuple of six numbers")
    if any(number is None or number is ... for number in attempt):
        raise NotAttempted
    if sorted(attempt) != list(range(6)):
        raise Different("use each of the numbers 0 to 5 once")
    for (H, W), (h, w) in SIZES:
        tens = 10 if W <= 10 else 100  # the first map has the lesson's labels
        x = (tens * torch.arange(2 * 5 * H)[:, None] + torch.arange(W)).reshape(2, 5, H, W)
        digits = x.reshape(2, 5, H // h, h, W // w, w)
        got = digits.permute(*attempt).reshape(2, h * w, 5, (H // h) * (W // w))
        compare(got, npt_op1(x, (h, w)), f"used on a map of {H} × {W} with patches of {h} × {w}")


@task("04.5", "easy", way="P = 4 × 3 and N = 16 × 12 / P; a linear layer on an axis of length L has L × L weights.")
def check_weights(prediction) -> str:
    return compare_prediction(prediction, (16**2, 12**2), unit="weights")


@task("04.6", "hard", forbidden=("npt_op2", "npt_op3"))
def check_map_from_op1(attempt) -> None:
    for seed, (map_hw, patch_hw) in enumerate(SIZES):
        x = random_tensor(seed, 2, 3, *map_hw)
        case = f"called with tokens of a map of {map_hw} and patches of {patch_hw}"
        compare(attempt(npt_op1(x, patch_hw), patch_hw, map_hw), x, case)


@task("04.7", "medium", way="Only a reshape that joins axes which are not neighbours in memory has to move numbers.")
def check_copies(prediction) -> str:
    x = torch.randn(1, 5, 8, 12)
    split = x.reshape(1, 5, 4, 2, 4, 3)
    permuted = split.permute(0, 3, 5, 1, 2, 4)
    joined = permuted.reshape(1, 6, 5, 16)
    steps = ((x, split), (split, permuted), (permuted, joined), (joined, npt_op2(joined)))
    copied = tuple("no copy" if before.data_ptr() == after.data_ptr() else "copy" for before, after in steps)
    return compare_prediction(prediction, copied, choices=("copy", "no copy"))


@task("04.8", "medium", forbidden=("npt_op1", "permute", "movedim", "moveaxis", "unfold", "im2col", "pixel_unshuffle"))
def check_slices(attempt) -> None:
    for seed, (map_hw, patch_hw) in enumerate(SIZES):
        x = random_tensor(seed, 2, 3, *map_hw)
        case = f"called with a map of {map_hw} and patches of {patch_hw}"
        compare(attempt(x, patch_hw), npt_op1(x, patch_hw), case)


@task(
    "04.9",
    "medium",
    way="Count N and P; the first layer mixes N pixels, the second P, and the groups of one layer never overlap.",
)
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
