"""The fast form of a network computes what the readable one does; so do its parts, and wrong ones are noticed."""

import copy

import pytest
import torch
from peer_tools import blank, random, randomise
from torch import nn

from lgmpose.network.fast import FastLARM, FastSFusion, fast_form, fold_batchnorm
from lgmpose.network.modules import LARM, SFusion
from lgmpose.zoo.catalogue import create_model

LGM = "lgm-pose-coco-256x192"


# Folding


@pytest.mark.parametrize(
    "name, left",
    [
        (LGM, 0), ("mobilevit-xxs", 0), ("small-hrnet", 0),
        *(pytest.param(name, left, marks=pytest.mark.slow) for name, left in (
            ("mobilenetv2", 0), ("shufflenetv2", 0), ("lite-hrnet-18", 0), ("dite-hrnet-18", 112))),
    ],
)  # fmt: skip
def test_folding_leaves_the_function_as_it_was(name, left):
    """With random statistics, in double: an unfolded, doubly or wrongly folded norm is off by far more than rounding.

    What is left in Dite-HRNet are norms after dynamic convolutions and after gates.
    """
    torch.manual_seed(1)
    net = blank(lambda: create_model(name, image_hw=(32, 64), num_keypoints=5))
    x = random(2, 3, 32, 64)
    with torch.inference_mode():
        expected = net(x)
        folded = fold_batchnorm(copy.deepcopy(net), x)
        assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) > left
        assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) == left
        torch.testing.assert_close(folded(x), expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


class Awkward(nn.Module):
    """Norms that must stay, and one that is folded although its convolution runs twice."""

    def __init__(self):
        super().__init__()
        self.twice, self.its_norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.shared, self.first, self.second = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.after_sum, self.grouped = nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2)
        self.after_grouped = nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.its_norm(self.twice(x)) + self.its_norm(self.twice(x.flip(-1)))
        y = self.after_sum(self.first(self.shared(y)) + self.second(self.shared(-y)))
        return self.after_grouped(self.grouped(y))


def test_folding_leaves_alone_what_it_cannot_fold():
    torch.manual_seed(2)
    net, x = randomise(Awkward()), random(1, 3, 6, 5)
    folded = fold_batchnorm(copy.deepcopy(net), x)
    torch.testing.assert_close(folded(x), net(x))
    kept = {name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert kept == {"first", "second", "after_sum", "after_grouped"}


# The rewrite


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize(
    "changes, replaced",
    [
        ({}, 5),
        ({"fusion": "dw2"}, 2),  # its groups are neighbours already
        ({"fusion": "dw1"}, 2),
        ({"fusion": "none"}, 2),
        ({"larm_residual": False}, 5),
        ({"larm": "within_patch"}, 5),
        ({"larm": "identity"}, 3),
        ({"global_block": "mobilevit"}, 3),
        ({"activation": "silu"}, 5),
    ],
    ids=str,
)
def test_the_fast_form_is_the_same_function(changes, replaced):
    torch.manual_seed(0)
    net = blank(lambda: create_model(LGM, image_hw=(32, 64), num_keypoints=5, **changes))
    x = random(2, 3, 32, 64)
    before = copy.deepcopy(net.state_dict())
    with torch.inference_mode():
        expected = net(x)
        fast = fast_form(net, x)
        close(fast(x), expected)
        assert not torch.allclose(expected[0], expected[1]), "a network that looks at nothing proves nothing"
    assert sum(isinstance(m, (FastSFusion, FastLARM)) for m in fast.modules()) == replaced
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules()) and not fast.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items()), "the network was changed"


def test_the_fast_form_takes_any_batch_and_single_precision():
    torch.manual_seed(1)
    net = blank(lambda: create_model(LGM, image_hw=(32, 64), num_keypoints=5)).float()
    fast = fast_form(net, torch.rand(1, 3, 32, 64))
    for batch in (1, 3):
        x = torch.rand(batch, 3, 32, 64)
        with torch.inference_mode():
            expected = net(x)
            torch.testing.assert_close(fast(x), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def fusion(**options):
    torch.manual_seed(2)
    net = randomise(SFusion(6, 4, **options))
    net.grouped, net.pointwise = _folded(net.grouped), _folded(net.pointwise)
    return net


def _folded(layers: nn.Sequential) -> nn.Sequential:
    example = random(1, layers[0].in_channels, 4, 5)
    return fold_batchnorm(layers, example)


def test_the_depthwise_sfusion_written_out():
    net, d, e = fusion(), random(2, 6, 5, 7), random(2, 4, 5, 7)
    close(FastSFusion(net)(d, e), net(d, e))
    wrong = FastSFusion(net)
    wrong.depthwise.weight.data = wrong.depthwise.weight.data.roll(1, dims=0)  # another channel's kernel
    assert not torch.allclose(wrong(d, e), net(d, e))
    # Another shuffle is another function: the fast form is of that with two groups.
    unshuffled = fusion(shuffle_groups=1)
    assert not torch.allclose(FastSFusion(unshuffled)(d, e), unshuffled(d, e))


@pytest.mark.parametrize("patch_hw", [(2, 3), (4, 2)])
def test_larm_with_its_channels_outermost(patch_hw):
    torch.manual_seed(3)
    net, x = randomise(LARM((8, 6), patch_hw)), random(2, 5, 8, 6)
    close(FastLARM(net)(x), net(x))


def test_of_other_networks_only_the_norms_change():
    torch.manual_seed(4)
    net, x = blank(lambda: create_model("small-hrnet", image_hw=(32, 64), num_keypoints=5)), random(1, 3, 32, 64)
    with torch.inference_mode():
        close(fast_form(net, x)(x), net(x))
