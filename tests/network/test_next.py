"""LGM-Pose-next: its two blocks written out, its costs, and a decoder that ends before stride 4."""

import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peer_tools import blank, macs_on_meta, num_params, random, randomise

from lgmpose.network.config import NEXT_STAGES, LGMPoseConfig, Stage
from lgmpose.network.fast import fold_batchnorm
from lgmpose.network.model import LGMPose
from lgmpose.network.modules import LARM
from lgmpose.network.next import DepthwiseFirst, FusedResidual
from lgmpose.zoo.catalogue import create_model

NEXT = "lgm-pose-next-coco-256x192"


@pytest.mark.parametrize("stride, out_channels", [(1, 6), (1, 8), (2, 6)])
def test_depthwise_first_written_out(stride, out_channels):
    torch.manual_seed(0)
    block = fold_batchnorm(randomise(DepthwiseFirst(6, out_channels, expansion=3, stride=stride)))
    x = random(2, 6, 8, 10)
    (depthwise, _), (widen, _, act), (narrow, _) = block.layers
    y = F.conv2d(x, depthwise.weight, depthwise.bias, stride, padding=2, groups=6)
    y = F.conv2d(F.conv2d(y, widen.weight, widen.bias).clamp(0, 6), narrow.weight, narrow.bias)
    assert widen.out_channels == 18
    torch.testing.assert_close(block(x), x + y if (stride, out_channels) == (1, 6) else y)


@pytest.mark.parametrize("expansion, stride, out_channels", [(1, 1, 6), (1, 2, 8), (4, 1, 6), (4, 2, 6), (4, 1, 8)])
def test_fused_residual_written_out(expansion, stride, out_channels):
    torch.manual_seed(0)
    block = fold_batchnorm(randomise(FusedResidual(6, out_channels, expansion=expansion, stride=stride)))
    x = random(2, 6, 8, 10)
    dense = block.layers[0][0]
    assert dense.weight.shape == (24 if expansion == 4 else out_channels, 6, 3, 3)
    y = F.conv2d(x, dense.weight, dense.bias, stride, padding=1).clamp(0, 6)
    if expansion > 1:
        y = F.conv2d(y, block.layers[1][0].weight, block.layers[1][0].bias)
    torch.testing.assert_close(block(x), x + y if (stride, out_channels) == (1, 6) else y)


def test_next_has_less_than_half_of_lgm_poses_macs_and_one_larm_at_stride_16():
    with torch.device("meta"):
        net, paper = create_model(NEXT), create_model("lgm-pose-coco-256x192")
    costs = [(num_params(network), macs_on_meta(network, (256, 192))) for network in (net, paper)]
    assert costs[0] == (1_701_797, 303_040_512) and costs[0][1] < 0.5 * costs[1][1]
    assert [m.map_hw for m in net.modules() if isinstance(m, LARM)] == [(16, 12)]


@pytest.mark.parametrize("image_hw", [(64, 32), (128, 96)])
def test_next_takes_other_sizes_and_can_be_resized(image_hw):
    torch.manual_seed(0)
    net = blank(lambda: create_model(NEXT, image_hw=image_hw, num_keypoints=3))
    with torch.inference_mode():
        assert net(random(1, 3, *image_hw)).shape == (1, 3, image_hw[0] // 4, image_hw[1] // 4)
        assert net.resized((96, 64))(random(1, 3, 96, 64)).shape == (1, 3, 24, 16)


@pytest.mark.parametrize("widths", [(8,), (8, 8)])
def test_the_head_upsamples_what_the_decoder_leaves(widths):
    """Each pixel of the last map becomes a square of heatmap pixels, by one linear function for all."""
    net = LGMPose(LGMPoseConfig((64, 32), 3, stages=NEXT_STAGES, decoder_channels=widths)).eval()
    factor = 2 ** (3 - len(widths))
    x = torch.rand(1, net.head[0].in_channels, 2, 1)
    y = net.head(x)
    weight, bias = net.head[0].weight, net.head[0].bias
    assert y.shape == (1, 3, 2 * factor, factor)
    expected = torch.einsum("c,ckij->kij", x[0, :, 1, 0], weight) + bias[:, None, None]
    torch.testing.assert_close(y[0, :, factor:], expected)


@pytest.mark.parametrize("changes, message", [
    ({"stages": (Stage(1, 8, 1, 2, block="dense"),)}, "inverted, fused"),
    ({"decoder_channels": ()}, "decoder_channels"),
])  # fmt: skip
def test_unknown_blocks_and_no_decoder_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LGMPoseConfig(**changes)


def test_the_variants_for_the_benchmark_differ_in_what_they_name():
    script = runpy.run_path(str(Path(__file__).resolve().parents[2] / "data_scripts" / "next_variants.py"))
    with torch.device("meta"):
        nets = {name: script[name]().eval() for name in (*script["CHANGES"], "grouped_2x2_at_4")}
        outputs = {name: net(torch.empty(1, 3, 256, 192)).shape[2:] for name, net in nets.items()}
    assert {name for name, shape in outputs.items() if shape != (64, 48)} == {"simcc_head"}
    assert not [m for m in nets["no_global_block"].modules() if isinstance(m, LARM)]
    assert [m.patch_hw for m in nets["patches_of_one_row"].modules() if isinstance(m, LARM)] == [(1, 12)]
    assert nets["grouped_2x2_at_4"].stages[0][1].layers[0][0].groups == 2
