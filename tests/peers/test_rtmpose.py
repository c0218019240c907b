"""RTMPose: published costs to the unit, and the parts that a count does not see."""

import math

import pytest
import torch
import torch.nn.functional as F
from peer_tools import randomise_by_kind
from torch import nn

from lgmpose.peers.rtmpose import (
    ChannelAttention,
    CSPLayer,
    SpatialPyramid,
    rtmpose_s,
    rtmpose_t,
)

T_COSTS = {
    (256, 192): (3_337_007, 354_611_456), (128, 96): (3_213_103, 95_205_888), (256, 256): (3_373_871, 469_593_344),
    (384, 288): (3_467_055, 785_654_272),
}  # fmt: skip
S_COSTS = {
    (256, 192): (5_473_251, 676_220_928), (128, 96): (5_349_347, 175_722_496), (256, 256): (5_510_115, 898_355_200),
    (384, 288): (5_603_299, 1_509_085_184),
}  # fmt: skip


@pytest.mark.parametrize("make, image_hw, costs", [
    *((rtmpose_t, image_hw, costs) for image_hw, costs in T_COSTS.items()),
    *((rtmpose_s, image_hw, costs) for image_hw, costs in S_COSTS.items()),
])  # fmt: skip
def test_costs_are_the_published_ones(make, image_hw, costs):
    """Parameters, and MACs of convolutions and linear layers; the products of the attention are not among them."""
    counted = []
    with torch.device("meta"):
        net = make(17, image_hw).eval()
        for layer in net.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.register_forward_hook(lambda m, _, y: counted.append(y.numel() * m.weight[0].numel()))
        assert net(torch.empty(1, 3, *image_hw)).shape == (1, 17, 2 * image_hw[1] + 2 * image_hw[0])
    assert (sum(p.numel() for p in net.parameters()), sum(counted)) == costs


def test_a_size_that_the_strides_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="100 × 96"):
        rtmpose_t(17, (100, 96))


def test_x_comes_before_y():
    net = rtmpose_t(3, (64, 32)).eval()
    nn.init.zeros_(net[1].y_scores.weight)
    scores = net(torch.rand(1, 3, 64, 32))
    assert scores[..., :64].abs().min() > 0 and scores[..., 64:].abs().max() == 0


def test_channel_attention_is_clipped_and_linear_between():
    net, x = ChannelAttention(2), torch.tensor([[[[3.0]], [[60.0]]]])
    net.conv.weight.data = torch.eye(2).view(2, 2, 1, 1)
    net.conv.bias.data = torch.tensor([-1.5, 0.0])
    torch.testing.assert_close(net(x), torch.tensor([[[[3 * (1.5 / 6 + 0.5)]], [[60.0]]]]))


def test_pyramid_is_the_maxima_of_three_windows():
    net = randomise_by_kind(SpatialPyramid(8)).eval()
    image = torch.randn(1, 8, 6, 20)
    narrow = net.narrow(image)
    padded = [(k, F.pad(narrow, [k // 2] * 4, value=-math.inf)) for k in (5, 9, 13)]
    maxima = [x.unfold(2, k, 1).unfold(3, k, 1).amax((4, 5)) for k, x in padded]
    torch.testing.assert_close(net(image), net.widen(torch.cat([narrow, *maxima], 1)))


def test_the_last_stage_has_no_residual():
    layers = [layer for layer in rtmpose_s(3, (64, 32))[0] if isinstance(layer, CSPLayer)]
    assert [[block.residual for block in list(layer.main)[1:]] for layer in layers] == [
        [True], [True, True], [True, True], [False],
    ]  # fmt: skip
