"""The fast form of a network computes what the readable one does; so do its parts, and wrong ones are noticed."""

import copy

import pytest
import torch
from peer_tools import blank, random, randomise, slow
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lgmpose.network.config import FUSIONS
from lgmpose.network.fast import FastLARM, FastSFusion, fast_form, fold_batchnorm
from lgmpose.network.modules import LARM, SFusion
from lgmpose.zoo.catalogue import create_model, list_models

LGM = "lgm-pose-coco-256x192"


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


# Folding

KEPT = {"dite-hrnet-18": 112, "dite-hrnet-30": 192, "cpn-r50": 4, "hourglass-8": 115}  # norms that cannot be folded


@pytest.mark.parametrize("name", slow(list_models(), (LGM, "mobilevit-xxs", "small-hrnet")))
def test_folding_leaves_the_function_as_it_was(name):
    """With random statistics, in double: a wrongly folded norm is off by far more than rounding."""
    torch.manual_seed(1)
    net = blank(lambda: create_model(name, image_hw=(64, 64), num_keypoints=5))
    x = random(1, 3, 64, 64)
    with torch.inference_mode():
        expected = net(x)
        folded = fold_batchnorm(copy.deepcopy(net))
        left = sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
        assert left == KEPT.get(name, 0) < sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
        close(folded(x), expected)


# The rewrite


@pytest.mark.parametrize(
    "changes, replaced",
    [
        ({}, 5),  # three SFusions, two LARMs
        # Other fusions stay as they are; the groups of dw2 are neighbours already.
        *(
            pytest.param({"fusion": fusion}, 2, marks=[pytest.mark.slow] * (fusion != "dw2"))
            for fusion in FUSIONS
            if fusion != "sfusion"
        ),
        pytest.param({"larm_residual": False}, 5, marks=pytest.mark.slow),
        ({"larm": "within_patch"}, 5),
        ({"larm": "identity", "activation": "silu"}, 3),
        pytest.param({"global_block": "mobilevit"}, 3, marks=pytest.mark.slow),
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
        fast = fast_form(net)
        close(fast(x), expected)
        assert not torch.allclose(expected[0], expected[1]), "a network that looks at nothing proves nothing"
    assert sum(isinstance(m, (FastSFusion, FastLARM)) for m in fast.modules()) == replaced
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules()) and not fast.training
    weights = [p for p in fast.parameters() if p.ndim == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items()), "the network was changed"


def test_the_fast_form_takes_any_batch_and_single_precision():
    torch.manual_seed(1)
    net = blank(lambda: create_model(LGM, image_hw=(32, 64), num_keypoints=5)).float()
    fast = fast_form(net)
    for batch in (1, 3):
        x = torch.rand(batch, 3, 32, 64)
        with torch.inference_mode():
            expected = net(x)
            torch.testing.assert_close(fast(x), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def fusion(**options):
    torch.manual_seed(2)
    return fold_batchnorm(randomise(SFusion(6, 4, **options)))


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


class CountAxes(TorchDispatchMode):
    """Keep the largest number of axes of all tensors."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.most = max(self.most, result.ndim if isinstance(result, torch.Tensor) else 0)
        return result


def test_no_tensor_of_the_fast_form_has_more_than_four_axes():
    net, x = blank(lambda: create_model(LGM, image_hw=(32, 64), num_keypoints=5)), random(2, 3, 32, 64)
    for form, most in ((net, 6), (fast_form(net), 4)):
        with torch.no_grad(), CountAxes() as axes:
            form(x)
        assert axes.most == most


def test_of_other_networks_only_the_norms_change():
    torch.manual_seed(4)
    net, x = blank(lambda: create_model("small-hrnet", image_hw=(32, 64), num_keypoints=5)), random(1, 3, 32, 64)
    with torch.inference_mode():
        close(fast_form(net)(x), net(x))
