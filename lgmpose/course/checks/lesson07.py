"""Exercises of lesson 07: what a MobileViT block costs, and how the network's cost grows with its input."""

from __future__ import annotations

from functools import cache

from torch import nn

from lgmpose.course.checks import Different, compare
from lgmpose.lab.macs import count_macs
from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.network.variants import MobileViTBlock


@cache
def _block_cost(c: int, d: int, layers: int, map_hw: tuple[int, int]) -> tuple[int, int]:
    """Parameters and MACs of the real block, counted."""
    block = MobileViTBlock(c, d, layers=layers)
    net = nn.Sequential(nn.Conv2d(3, c, 1), block)  # the counter gives pictures of three channels
    macs = count_macs(net, map_hw, counter="FlopCounterMode")["1"].total()
    return sum(p.numel() for p in block.parameters()), macs


def _mobilevit_cost(attempt) -> None:
    for c, d, layers, map_hw in ((12, 20, 1, (4, 6)), (8, 24, 3, (6, 10)), (48, 96, 2, (8, 12))):
        pixels = map_hw[0] * map_hw[1]
        case = f"called with c={c}, d={d}, layers={layers}, pixels={pixels}"
        compare(attempt(c, d, layers, pixels), _block_cost(c, d, layers, map_hw), case, atol=1e-9)


@cache
def _growth() -> float:
    """MACs at 512 × 384 over those at 256 × 192."""
    macs = [
        count_macs(LGMPose(LGMPoseConfig(image_hw)), image_hw, counter="FlopCounterMode")[""].total()
        for image_hw in ((256, 192), (512, 384))
    ]
    return macs[1] / macs[0]


def _growth_of_macs(attempt) -> None:
    try:
        predicted = float(attempt)
    except (TypeError, ValueError):
        raise Different(f"a number is asked for, not {attempt!r}") from None
    if not abs(predicted - _growth()) <= 0.2:
        raise Different(f"you said {predicted:g}, measured: {_growth():.2f}. Which part grows faster than the picture?")


EXERCISES = {"07.1": _mobilevit_cost, "07.2": _growth_of_macs}
