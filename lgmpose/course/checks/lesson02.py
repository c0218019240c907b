"""Exercises of lesson 02: the cost of an inverted residual by arithmetic, and MobileNetV2 by HRNet's tool."""

from __future__ import annotations

import torch

from lgmpose.course.checks import Different, compare
from lgmpose.lab.conventions import count_by_conventions
from lgmpose.lab.macs import count_macs
from lgmpose.network.layers import InvertedResidual
from lgmpose.zoo.catalogue import create_model


def inverted_residual_cost(attempt) -> None:
    """Parameters and MACs of blocks as they stand in the package, counted by a machine."""
    for out_channels, expansion, stride, map_hw in ((3, 6, 1, (8, 12)), (5, 4, 2, (12, 8)), (7, 1, 1, (6, 10))):
        block = InvertedResidual(3, out_channels, expansion=expansion, stride=stride)
        macs = count_macs(block, map_hw, counter="FlopCounterMode")[""].total()
        expected = (sum(p.numel() for p in block.parameters()), macs)
        arguments = (3, out_channels, expansion, stride, map_hw)
        compare(attempt(*arguments), expected, f"called with {', '.join(map(str, arguments))}", atol=1e-9)


def mobilenetv2_by_hrnets_tool(attempt) -> None:
    """What that tool prints, counted now; 5 % off is close enough."""
    compare(attempt, attempt, "your prediction")  # a number at all?
    with torch.device("meta"):
        net = create_model("mobilenetv2")
    printed = count_by_conventions(net, (256, 192)).hrnet_tool / 2**30
    if not abs(float(attempt) - printed) <= 0.05 * printed:  # a NaN is far off, too
        raise Different(f"predicted {float(attempt):.4g}, counted {printed:.4g}")


EXERCISES = {"02.1": inverted_residual_cost, "02.2": mobilenetv2_by_hrnets_tool}
