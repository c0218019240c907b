"""Tasks of lesson 08: shapes, widths and costs of the whole network, printed figures, and a MobileViT block's cost."""

from functools import cache

import torch
from torch import nn

from lgmpose.course.checks import compare, compare_prediction, randomised, task
from lgmpose.lab.macs import count_macs
from lgmpose.lab.profiling import profile
from lgmpose.network.config import VARIANTS, LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.network.variants import MobileViTBlock


@task(
    "08.1", "easy", way="Divide 384 and 288 by the product of the strides, 2 · 1 · 2 · 2 · 2; channels are the column c"
)
def check_shape(prediction) -> str:
    net = LGMPose(VARIANTS["lgm-pose-coco-384x288"]).eval()
    with torch.no_grad():
        shape = net.forward_features(torch.zeros(1, 3, 384, 288))[3].shape[1:]
    return compare_prediction(prediction, tuple(shape))


@task("08.2", "easy", way="Add: the first deconvolution and stage 4, the second and stage 3, the third and stage 2")
def check_fused_channels(prediction) -> str:
    config = VARIANTS["lgm-pose-fast-coco-256x192"]
    skips = [stage.channels for stage in config.stages[-2:0:-1]]
    channels = tuple(up + skip for up, skip in zip(config.decoder_channels, skips, strict=True))
    return compare_prediction(prediction, channels, unit="channels")


@task("08.3", "easy")
def check_groups_and_kernel(attempt) -> None:
    for c_in, c_out, k, groups in ((8, 12, 3, 1), (6, 6, 3, 6), (12, 8, 1, 1), (10, 20, 5, 5)):
        weight = nn.Conv2d(c_in, c_out, k, groups=groups).weight.detach()
        case = f"called with {c_in} channels and a weight of {tuple(weight.shape)}"
        compare(attempt(c_in, weight), (groups, k), case)


@task("08.4", "medium")
def check_parameters_by_part(attempt) -> None:
    for name in ("lgm-pose-lspet-128x128", "lgm-pose-coco-256x192"):
        net = randomised(LGMPose(VARIANTS[name]))
        parts = {part: sum(p.numel() for p in module.parameters()) for part, module in net.named_children()}
        compare(attempt(net.state_dict()), parts, f"called with the weights of {name}", atol=1e-9)


@task("08.5", "easy", way="Multiply channels by channels for each part, and for MACs also by the pixels of its map")
def check_largest_parts(prediction) -> str:
    costs = profile(LGMPose(LGMPoseConfig())).per_stage
    names = [part.name.replace("decoder", "up") for part in costs]  # the lesson says "up 1"
    largest = [max(range(len(costs)), key=lambda i, what=what: getattr(costs[i], what)) for what in ("params", "macs")]
    return compare_prediction(prediction, tuple(names[i] for i in largest), choices=names)


@task("08.6", "medium", way="96 · 576, then 576 · 9, then 576 · 176, and for the BatchNorms 2 · (576 + 576 + 176)")
def check_stage_5(prediction) -> str:
    stage = LGMPose(VARIANTS["lgm-pose-fast-coco-256x192"]).stages[4]
    return compare_prediction(prediction, sum(p.numel() for p in stage.parameters()), unit="parameters")


@task("08.7", "easy", way="Half a hundredth below 1.08, and a whole hundredth above it")
def check_interval(prediction) -> str:
    return compare_prediction(prediction, (1.075, 1.09), atol=0.0005, unit="M")


@task("08.8", "hard")
def check_mobilevit_cost(attempt) -> None:
    for c, d, layers, map_hw in ((8, 12, 0, (4, 6)), (12, 20, 1, (4, 6)), (8, 24, 3, (6, 10)), (48, 96, 2, (8, 12))):
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


@task(
    "08.9",
    "medium",
    way="Four times everything, and 12 times more for the first steps of both LARMs: divide by all MACs",
)
def check_growth_of_macs(prediction) -> str:
    return compare_prediction(prediction, _growth(), atol=0.2)


@cache
def _growth() -> float:
    """Return the MACs at 512 × 384 divided by those at 256 × 192."""
    small, large = (
        count_macs(LGMPose(LGMPoseConfig(image_hw)), image_hw)[""].total() for image_hw in ((256, 192), (512, 384))
    )
    return large / small
