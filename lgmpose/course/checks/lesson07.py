"""Tasks of lesson 07: deconvolution, grouped convolution and shuffle by hand, and SFusion's two convolutions as one."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from lgmpose.course.checks import Different, compare, compare_prediction, random_tensor, task
from lgmpose.network.layers import channel_shuffle
from lgmpose.network.modules import SFusion


@task(
    "07.1",
    "easy",
    way="Multiply the four weights by 1 for the left square and by 2 for the right one, and read row by row",
)
def check_deconvolution(prediction) -> str:
    weights = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    result = F.conv_transpose2d(torch.tensor([[[[1.0, 2.0]]]]), weights[None, None], stride=2)
    return compare_prediction(prediction, tuple(result.flatten().tolist()))


@task("07.2", "easy", way="Output channels × channels that each one sees × 9")
def check_weights(prediction) -> str:
    convolutions = (nn.Conv2d(8, 8, 3, groups=groups, bias=False) for groups in (1, 4, 8))
    return compare_prediction(prediction, tuple(convolution.weight.numel() for convolution in convolutions))


@task("07.3", "easy", forbidden=("channel_shuffle", "channel_shuffle_"))
def check_shuffle_order(attempt) -> None:
    for C, rows in ((8, 2), (12, 3), (20, 4), (5, 1)):
        compare(attempt(C, rows), _order(C, rows), f"called with C={C}, rows={rows}")


@task("07.4", "easy", way="Write u0 u1 u2 u3 above u4 u5 s0 s1 and count the columns with a u and an s")
def check_small_pairs(prediction) -> str:
    return compare_prediction(prediction, (_mixed_pairs(6, 2, 1), _mixed_pairs(6, 2, 2)), unit="pairs")


class WithoutGroups(TorchFunctionMode):
    """Raise ``Different`` where a convolution is called with the argument ``groups``."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.conv2d and (len(args) > 6 or "groups" in (kwargs or {})):
            raise Different("uses the argument groups of the convolution, which this task asks you to replace")
        return function(*args, **(kwargs or {}))


@task("07.5", "medium", rule=lambda attempt: WithoutGroups())
def check_grouped_conv(attempt) -> None:
    for seed, (C, per_group, map_hw) in enumerate(((8, 2, (4, 5)), (6, 3, (3, 7)), (5, 1, (4, 4)), (4, 4, (6, 3)))):
        x, weight = random_tensor(seed, 2, C, *map_hw), random_tensor(seed + 10, C, per_group, 3, 3)
        expected = F.conv2d(x, weight, padding=1, groups=C // per_group)
        compare(attempt(x.clone(), weight.clone(), per_group), expected, f"called with C={C}, per_group={per_group}")


@task("07.6", "medium")
def check_parameters(attempt) -> None:
    for up, skip in ((5, 3), (52, 48), (208, 96)):
        expected = sum(p.numel() for p in SFusion(up, skip).parameters())
        compare(attempt(up, skip), expected, f"called with up={up}, skip={skip}", atol=1e-9)


@task("07.7", "easy", way="Two groups, each with C/2 × C/2 × 9 weights; divide by C × C × 9")
def check_two_groups(prediction) -> str:
    dense, halves = (nn.Conv2d(8, 8, 3, groups=groups, bias=False).weight.numel() for groups in (1, 2))
    return compare_prediction(prediction, halves / dense)


@task("07.8", "hard")
def check_dense_kernel(attempt) -> None:
    generator = torch.Generator().manual_seed(61)
    for C, per_group, out in ((6, 2, 4), (12, 3, 12), (5, 1, 7), (8, 8, 3)):
        grouped = torch.randn(C, per_group, 3, 3, generator=generator)
        pointwise = torch.randn(out, C, generator=generator)
        block_diagonal = torch.zeros(C, C, 3, 3)  # the grouped convolution as a dense one
        for middle in range(C):
            first = middle // per_group * per_group
            block_diagonal[middle, first : first + per_group] = grouped[middle]
        expected = torch.einsum("om,mchw->ochw", pointwise, block_diagonal)
        case = f"called with weights of {tuple(grouped.shape)} and {tuple(pointwise.shape)}"
        compare(attempt(grouped.clone(), pointwise.clone()), expected, case)


@task("07.9", "medium", way="Only pairs of rows 2 and 3 can be mixed: count the channels of row 2 that are below 208")
def check_four_rows(prediction) -> str:
    return compare_prediction(prediction, _mixed_pairs(208, 96, 4), unit="pairs")


def _order(C: int, rows: int) -> list[int]:
    return channel_shuffle(torch.arange(C).view(1, -1, 1, 1), rows).flatten().tolist()


def _mixed_pairs(up: int, skip: int, rows: int) -> int:
    order = _order(up + skip, rows)
    return sum((a < up) != (b < up) for a, b in zip(order[::2], order[1::2], strict=True))
