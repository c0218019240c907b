"""SimpleBaseline, MobileNetV2 and ShuffleNetV2: counts, the head, and backbones equal to torchvision's classifiers."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from peer_tools import macs_on_meta, num_params, random, randomise
from torch import nn
from torch.testing import assert_close

from lgmpose.errors import UserError
from lgmpose.peers.cpn import CPN
from lgmpose.peers.deconv import DeconvHead, DeconvPose, mobilenetv2, shufflenetv2, simplebaseline_r50

models = pytest.importorskip("torchvision").models

# Parameters for 17 and 16 joints; GMAC for 17 at 256 × 192, 384 × 288 and 256 × 256; counted on the reference code.
COUNTS = {
    simplebaseline_r50: (33_999_697, 33_999_440, 5.426, 12.209, 7.235),
    mobilenetv2: (9_569_809, 9_569_552, 1.565, 3.521, 2.087),
    shufflenetv2: (7_550_965, 7_550_708, 1.362, 3.065, 1.816),
}
CLASSIFIERS = {
    simplebaseline_r50: models.resnet50, mobilenetv2: models.mobilenet_v2, shufflenetv2: models.shufflenet_v2_x1_0,
}  # fmt: skip
SIZES = ((256, 192), (384, 288), (256, 256))
HW = (32, 64)  # small and not square


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def on_meta(make, num_keypoints: int) -> DeconvPose:
    """Shapes without numbers: made at once, however large."""
    with torch.device("meta"):
        return make(num_keypoints)


def randomised(make) -> DeconvPose:
    return randomise(on_meta(make, 3).to_empty(device="cpu"))


# Counts


@pytest.mark.parametrize("make", COUNTS, ids=lambda make: make.__name__)
def test_params_macs_and_shapes(make):
    params_17, params_16, *gmacs = COUNTS[make]
    net = on_meta(make, 17)
    assert num_params(net) == params_17 and net.head[-1].out_channels == 17
    assert num_params(on_meta(make, 16)) == params_16
    for (H, W), gmac in list(zip(SIZES, gmacs, strict=True))[: None if make is shufflenetv2 else 1]:
        assert round(macs_on_meta(net, (H, W)) / 1e9, 3) == gmac


# The head


def deconvolution_by_stuffing(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A deconvolution as its definition has it: zeros between the pixels, then a convolution with the kernel turned."""
    B, C, H, W = x.shape
    stuffed = x.new_zeros(B, C, 2 * H - 1, 2 * W - 1)
    stuffed[:, :, ::2, ::2] = x
    kernel = weight.shape[-1]
    return F.conv2d(stuffed, weight.transpose(0, 1).flip(2, 3), padding=kernel - 1 - 1)


def test_the_head_is_three_deconvolutions_and_a_1x1():
    head = randomise(DeconvHead(in_channels=6, num_keypoints=5, width=8))
    x = y = random(2, 6, 2, 3)
    weights = [tensor for name, tensor in head.state_dict().items() if not name.endswith("tracked")]
    for i in range(3):
        weight, gain, bias, mean, var = weights[5 * i : 5 * i + 5]
        y = deconvolution_by_stuffing(y, weight)
        column = (1, -1, 1, 1)
        y = (y - mean.view(column)) / (var.view(column) + 1e-5).sqrt() * gain.view(column) + bias.view(column)
        y = y.clamp(min=0)
        assert y.shape == (2, 8, 2 ** (i + 2), 3 * 2 ** (i + 1))
    y = torch.einsum("bchw,kc->bkhw", y, weights[15][:, :, 0, 0]) + weights[16].view(1, -1, 1, 1)
    assert_close(head(x), y)
    assert len(weights) == 17, "no bias in front of a BatchNorm"


def test_the_head_starts_near_zero():
    head = DeconvHead(in_channels=64, num_keypoints=5).eval()
    for module in head:
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            assert abs(module.weight.std().item() - 0.001) < 1e-4
    assert not head[-1].bias.any()


# The backbones


@pytest.mark.slow
@pytest.mark.parametrize("make", COUNTS, ids=lambda make: make.__name__)
def test_the_backbone_is_torchvisions_classifier_without_its_last_layer(make):
    """Published weights of the classifier load by name; only its last linear layer is left over."""
    net = randomised(make)
    weights = net.backbone.state_dict()
    x = random(2, 3, *HW)
    with torch.no_grad():
        features = net.backbone(x)
        assert features[0].std() > 1e-3 and not torch.allclose(features[0], features[1]), "dead features prove nothing"
        assert_close(net(x), net.head(features))
        with torch.device("meta"):
            classifier = CLASSIFIERS[make](weights=None).eval()
        prefix, last = ("features.", "classifier") if make is mobilenetv2 else ("", "fc")
        missing, unexpected = classifier.load_state_dict(
            {prefix + name: tensor for name, tensor in weights.items()}, strict=False, assign=True
        )
        assert not unexpected and {name.split(".")[0] for name in missing} == {last}
        setattr(classifier, last, nn.Identity())
        assert_close(features.mean(dim=(2, 3)), classifier(x))


# Bad input


@pytest.mark.parametrize("image_hw", [(64, 100), (100, 64), (48, 64), (0, 64), (16, 32)])
def test_sizes_that_do_not_fit_are_refused(image_hw):
    net = DeconvPose(backbone=nn.Identity(), channels=3, num_keypoints=2)
    with pytest.raises(ValueError, match=f"{image_hw[0]} × {image_hw[1]}.* 32"):
        net(torch.zeros(1, 3, *image_hw))


@pytest.mark.parametrize("make", [*COUNTS, CPN], ids=lambda make: make.__name__)
def test_without_torchvision_the_extra_is_named(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # what an import finds where nothing is installed
    with pytest.raises(UserError, match=r"torchvision.*lgmpose\[peers\]"):
        make(17)
