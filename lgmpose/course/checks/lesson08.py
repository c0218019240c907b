"""Exercises of lesson 08: what a MobileViT block costs, and how the network's MACs grow with its input."""

from functools import cache

from torch import nn

from lgmpose.course.checks import Task, compare, compare_prediction
from lgmpose.lab.macs import count_macs
from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.network.variants import MobileViTBlock


def check_mobilevit_cost(attempt) -> None:
    for c, d, layers, map_hw in ((12, 20, 1, (4, 6)), (8, 24, 3, (6, 10)), (48, 96, 2, (8, 12))):
        pixels = map_hw[0] * map_hw[1]
        case = f"called with c={c}, d={d}, layers={layers}, pixels={pixels}"
        compare(attempt(c, d, layers, pixels), _block_cost(c, d, layers, map_hw), case, atol=1e-9)


@cache
def _block_cost(c: int, d: int, layers: int, map_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the counted parameters and MACs of the block."""
    block = MobileViTBlock(c, d, layers=layers)
    net = nn.Sequential(nn.Conv2d(3, c, 1), block)  # the counter's input has three channels
    macs = count_macs(net, map_hw)["1"].total()
    return sum(p.numel() for p in block.parameters()), macs


def check_growth_of_macs(prediction) -> str:
    return compare_prediction(prediction, _growth(), atol=0.2)


@cache
def _growth() -> float:
    """Return the MACs at 512 × 384 divided by those at 256 × 192."""
    small, large = (
        count_macs(LGMPose(LGMPoseConfig(image_hw)), image_hw)[""].total() for image_hw in ((256, 192), (512, 384))
    )
    return large / small


TASKS = {"08.1": Task(check_mobilevit_cost, "hard"), "08.2": Task(check_growth_of_macs)}
