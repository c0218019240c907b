"""Tasks of lesson 02: the costs of layers, what HRNet's tool prints, and a model of a layer's time."""

from functools import cache

import torch
from torch import nn

from lgmpose.course.checks import compare, compare_prediction, task
from lgmpose.lab.conventions import count_by_conventions
from lgmpose.lab.macs import count_macs
from lgmpose.network.layers import InvertedResidual
from lgmpose.zoo.catalogue import create_model


@task(
    "02.1",
    "easy",
    way="Parameters: 8 × 3 kernels of 9 weights. The output has 4 × 6 pixels. MACs are parameters × pixels.",
)
def check_three_costs(prediction) -> str:
    return compare_prediction(prediction, (216, 5184, 192))


@task("02.2", "medium")
def check_conv_cost(attempt) -> None:
    for arguments in ((3, 8, 3, (4, 6)), (6, 9, 1, (5, 7)), (6, 12, 3, (8, 4), 3), (8, 8, 5, (3, 5), 8)):
        in_channels, out_channels, kernel, (H, W), *groups = arguments
        weight = nn.Conv2d(in_channels, out_channels, kernel, groups=groups[0] if groups else 1).weight
        expected = (weight.numel(), weight.numel() * H * W, out_channels * H * W)
        compare(attempt(*arguments), expected, f"called with {', '.join(map(str, arguments))}", atol=1e-9)


@task("02.3", "easy", way="Weights: 2 × 3 kernels of 4. Each weight is used once for each pixel of the input.")
def check_deconv_guess(prediction) -> str:
    return compare_prediction(prediction, 480, unit="MACs")


@task("02.4", "medium", way="Set 8 N d² equal to 2 N² d, and divide both sides by 2 N d.")
def check_equal_tokens(prediction) -> str:
    return compare_prediction(prediction, 384, unit="tokens")


@task("02.5", "medium")
def check_macs_by_kind(attempt) -> None:
    conv, deconv = nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 5, 2, stride=2)
    calls = [(conv, 3 * 24, 4 * 24), (nn.ReLU(), 96, 96), (conv, 3 * 6, 4 * 6), (deconv, 96, 5 * 96)]
    expected = {"Conv2d": 27 * 4 * 30, "ReLU": 0, "ConvTranspose2d": 96 * 5 * 4}
    compare(attempt(calls), expected, "called with two calls of a Conv2d, a ReLU and a ConvTranspose2d", atol=1e-9)


@task("02.6", "easy")
def check_printed_by_hrnets_tool(attempt) -> None:
    for true_macs, deconv_macs in ((5_426_380_800, 1_409_286_144), (2**30, 2**28), (3 * 2**30, 0)):
        expected = (true_macs + 3 * deconv_macs) / 2**30
        compare(attempt(true_macs, deconv_macs), expected, f"called with {true_macs:,} and {deconv_macs:,}")


@task(
    "02.7",
    "easy",
    way="The ridge is MACs per second divided by numbers per second; the layer moves two numbers for 9 MACs.",
)
def check_ridge(prediction) -> str:
    return compare_prediction(prediction, (12.0, 4.5), atol=0.05)


@task("02.8", "medium")
def check_least_ms(attempt) -> None:
    cases = ((9e6, 1e6, 50, 20, 0.01), (1e6, 5e6, 50, 10, 0.05), (0, 0, 50, 10, 0.02), (4e8, 1e6, 40, 8, 0))
    for macs, moved, peak, bandwidth, call_ms in cases:
        expected = call_ms + max(macs / peak, moved / bandwidth) / 1e6
        case = f"called with macs={macs:g}, moved={moved:g}, peak={peak}, bandwidth={bandwidth}, call_ms={call_ms}"
        compare(attempt(macs, moved, peak, bandwidth, call_ms), expected, case)


@task("02.9", "hard")
def check_inverted_residual_cost(attempt) -> None:
    for out, expansion, stride, map_hw in ((3, 6, 1, (8, 12)), (5, 4, 2, (12, 8)), (7, 1, 1, (6, 10))):
        block = InvertedResidual(3, out, expansion=expansion, stride=stride)
        expected = (sum(p.numel() for p in block.parameters()), count_macs(block, map_hw)[""].total())
        case = f"called with 3 → {out} channels, expansion={expansion}, stride={stride}, map_hw={map_hw}"
        compare(attempt(3, out, expansion, stride, map_hw), expected, case, atol=1e-9)


@task("02.10", "medium", way="Add three times the deconvolutions' true MACs to the true MACs, and divide by 2³⁰.")
def check_mobilenetv2_by_hrnets_tool(prediction) -> str:
    return compare_prediction(prediction, _printed_by_hrnets_tool(), rtol=0.01, unit="Gi")


@cache
def _printed_by_hrnets_tool() -> float:
    with torch.device("meta"):
        net = create_model("mobilenetv2")
    return count_by_conventions(net, (256, 192)).hrnet_tool / 2**30
