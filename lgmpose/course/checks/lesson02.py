"""Exercises of lesson 02: the cost of an inverted residual, and what HRNet's tool prints for MobileNetV2."""

from functools import cache

import torch

from lgmpose.course.checks import Task, compare, compare_prediction
from lgmpose.lab.conventions import count_by_conventions
from lgmpose.lab.macs import count_macs
from lgmpose.network.layers import InvertedResidual
from lgmpose.zoo.catalogue import create_model


def check_inverted_residual_cost(attempt) -> None:
    for out_channels, expansion, stride, map_hw in ((3, 6, 1, (8, 12)), (5, 4, 2, (12, 8)), (7, 1, 1, (6, 10))):
        block = InvertedResidual(3, out_channels, expansion=expansion, stride=stride)
        macs = count_macs(block, map_hw)[""].total()
        expected = (sum(p.numel() for p in block.parameters()), macs)
        arguments = (3, out_channels, expansion, stride, map_hw)
        compare(attempt(*arguments), expected, f"called with {', '.join(map(str, arguments))}", atol=1e-9)


def check_mobilenetv2_by_hrnets_tool(prediction) -> str:
    return compare_prediction(prediction, _printed_by_hrnets_tool(), rtol=0.05)


@cache
def _printed_by_hrnets_tool() -> float:
    with torch.device("meta"):
        net = create_model("mobilenetv2")
    return count_by_conventions(net, (256, 192)).hrnet_tool / 2**30


TASKS = {"02.1": Task(check_inverted_residual_cost, "hard"), "02.2": Task(check_mobilenetv2_by_hrnets_tool)}
