"""Exercises of lesson 07: SFusion's two convolutions as one dense kernel, and the pairs that a shuffle mixes."""

import torch

from lgmpose.course.checks import Task, compare, compare_prediction
from lgmpose.network.layers import channel_shuffle


def check_dense_kernel(attempt) -> None:
    generator = torch.Generator().manual_seed(61)
    for C, k, out in ((6, 2, 4), (12, 3, 12), (5, 1, 7), (8, 8, 3)):
        grouped = torch.randn(C, k, 3, 3, generator=generator)
        pointwise = torch.randn(out, C, generator=generator)
        block_diagonal = torch.zeros(C, C, 3, 3)  # the grouped convolution as a dense one
        for m in range(C):
            first = m // k * k
            block_diagonal[m, first : first + k] = grouped[m]
        expected = torch.einsum("om,mchw->ochw", pointwise, block_diagonal)
        case = f"called with weights of {tuple(grouped.shape)} and {tuple(pointwise.shape)}"
        compare(attempt(grouped.clone(), pointwise.clone()), expected, case)


def check_mixed_pairs(prediction) -> str:
    decoder, encoder = 208, 96
    source = (torch.arange(decoder + encoder) >= decoder).view(1, -1, 1, 1)
    pairs = channel_shuffle(source, 4).flatten().view(-1, 2)
    return compare_prediction(prediction, int((pairs[:, 0] != pairs[:, 1]).sum()))


TASKS = {"07.1": Task(check_dense_kernel, "hard"), "07.2": Task(check_mixed_pairs)}
