"""The SimCC head: its attention written out, its norm, and LGM-Pose with it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.fast import fast_form
from lgmpose.network.model import LGMPose
from lgmpose.network.simcc import GatedAttention, ScaleNorm


def test_scale_norm_leaves_vectors_of_one_size():
    y = ScaleNorm(16)(torch.randn(5, 16) * torch.tensor([1e-3, 1, 10, 1e3, 0])[:, None])
    torch.testing.assert_close(y.square().mean(1).sqrt(), torch.tensor([1.0, 1, 1, 1, 0]))


def test_gated_attention_written_out_for_one_token():
    """With one token the attention is a single number: the squared, scaled product of its query and key."""
    torch.manual_seed(0)
    net, x = GatedAttention(), torch.randn(1, 1, 256)
    u, v, z = F.silu(F.linear(x[0, 0] / x.square().mean().sqrt(), net.expand.weight)).split([512, 512, 128])
    a = max((z * net.gamma[0] + net.beta[0]) @ (z * net.gamma[1] + net.beta[1]) / math.sqrt(128), 0) ** 2
    torch.testing.assert_close(net(x)[0, 0], F.linear(u * a * v, net.project.weight) + x[0, 0])


def test_lgm_pose_scores_the_encoders_last_map_without_a_decoder():
    """With as many parameters and MACs as counted by hand: RTMPose's head on 144 channels of 8 × 6 cells."""
    counted = []
    with torch.device("meta"):
        net = LGMPose(LGMPoseConfig(head="simcc")).eval()
        for layer in net.head.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.register_forward_hook(lambda m, _, y: counted.append(y.numel() * m.weight[0].numel()))
        assert net(torch.empty(2, 3, 256, 192)).shape == (2, 17, 2 * 192 + 2 * 256)
    head = 17 * (49 * 144 + 1) + 256 * 48 + 512 * (192 + 256) + 426_754
    assert sum(p.numel() for p in net.head.parameters()) == head
    assert sum(counted) / 2 == 49 * 144 * 17 * 48 + 17 * (256 * 48 + 425_984 + 512 * (192 + 256))
    assert not [name for name, _ in net.named_parameters() if name.startswith(("deconvs", "fusions"))]


def test_the_fast_form_gives_the_same_scores():
    torch.manual_seed(0)
    net = LGMPose(LGMPoseConfig((64, 32), 5, head="simcc")).eval()
    x = torch.rand(2, 3, 64, 32)
    torch.testing.assert_close(fast_form(net)(x), net(x), atol=1e-5, rtol=1e-4)


def test_what_does_not_fit_the_head_is_refused():
    with pytest.raises(ValueError, match="fusion 'dw1'"):
        LGMPoseConfig(head="simcc", fusion="dw1")
    with pytest.raises(ValueError, match="head 'points'"):
        LGMPoseConfig(head="points")
    with torch.device("meta"), pytest.raises(ValueError, match=r"\(128, 96\)"):
        LGMPose(LGMPoseConfig(head="simcc")).resized((128, 96))
