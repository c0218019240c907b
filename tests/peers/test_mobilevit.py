"""MobileViT-XXS, -XS and -S: counts with and without a classifier, and equality with somebody else's code."""

from __future__ import annotations

import pytest
import torch
from peer_tools import num_params, random, randomise, slow
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from lgmpose.network.layers import ConvNormAct
from lgmpose.network.variants import MobileViTBlock
from lgmpose.peers.mobilevit import SIZES, MobileViT, mobilevit_pose

# Backbone; with the classifier; each block and the transformer in it. Counted on the authors' code.
PARAMS = {
    "xxs": (924_784, 1_272_024, [(135_712, 67_072), (329_696, 208_480), (413_184, 224_544)]),
    "xs": (1_895_216, 2_317_848, [(273_024, 149_760), (658_800, 466_320), (779_760, 502_704)]),
    "s": (4_833_952, 5_578_632, [(612_288, 335_232), (1_680_768, 1_188_480), (2_159_760, 1_390_800)]),
}
# The classifier at 256 × 256: GMAC of convolutions and linear layers, MMAC of the attention's products.
CLASSIFIER_MACS = {"xxs": (0.329, 78), "xs": (0.909, 117), "s": (1.823, 178)}
HW = (64, 96)  # the last map is 2 × 3: odd, as 384 × 288's 12 × 9 is


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def classifier(backbone: MobileViT, num_classes: int = 1000) -> nn.Sequential:
    """What the authors put on the backbone for ImageNet: 1×1 to four times the channels, mean, linear."""
    channels = backbone.out_channels
    return nn.Sequential(
        backbone,
        ConvNormAct(channels, 4 * channels, kernel=1, activation="silu"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * channels, num_classes),
    )


def macs_on_meta(net: nn.Module, image_hw: tuple[int, int]) -> tuple[dict[str, int], tuple[int, ...]]:
    with torch.no_grad(), FlopCounterMode(display=False) as mode:
        shape = net.eval()(torch.empty(1, 3, *image_hw, device="meta")).shape
    return {str(op): flops // 2 for op, flops in mode.get_flop_counts()["Global"].items()}, tuple(shape)


def attention_macs(size: str, patches: tuple[int, int, int]) -> int:
    """Q Kᵀ and weights V, for each of the 4 pixels of a patch: 2 N² d, in 2, 4 and 3 layers."""
    widths = [width for _, width in SIZES[size].global_layers]
    return sum(layers * 4 * 2 * N**2 * d for layers, N, d in zip((2, 4, 3), patches, widths, strict=True))


# Counts


@pytest.mark.parametrize("size", SIZES)
def test_params(size):
    backbone_params, classifier_params, blocks = PARAMS[size]
    with torch.device("meta"):
        backbone = MobileViT(SIZES[size])
        assert num_params(classifier(backbone)) == classifier_params
    assert num_params(backbone) == backbone_params
    found = [block for block in backbone.modules() if isinstance(block, MobileViTBlock)]
    assert [(num_params(block), num_params(block.layers, block.norm)) for block in found] == blocks


@pytest.mark.parametrize("size", slow(SIZES, ("xxs",)))
def test_pose_networks_are_backbone_and_head(size):
    for num_keypoints in (17, 16):
        with torch.device("meta"):
            net = mobilevit_pose(num_keypoints, size=size)
        channels = net.backbone.out_channels
        head_params = 16 * 256 * (channels + 256 + 256) + 3 * 2 * 256 + 257 * num_keypoints
        assert num_params(net) == PARAMS[size][0] + head_params
    with torch.no_grad(), FlopCounterMode(display=False) as mode:
        assert net.eval()(torch.empty(1, 3, 384, 288, device="meta")).shape == (1, 16, 96, 72)
    macs = {name: sum(by.values()) // 2 for name, by in mode.get_flop_counts().items()}
    # Deconvolutions: 16 products per input pixel, at 1, 4 and 16 times the pixels of 12 × 9; the 1×1 at 64 times.
    head_macs = 12 * 9 * (16 * 256 * (channels + 4 * 256 + 16 * 256) + 64 * 256 * 16)
    assert macs["DeconvPose.head"] == head_macs
    assert macs["DeconvPose"] == macs["DeconvPose.backbone"] + head_macs
    # Attention sees 24 × 18, 12 × 9 and, stretched, 6 × 5 patches.
    attention = sum(flops for op, flops in mode.get_flop_counts()["Global"].items() if str(op) == "aten.bmm") // 2
    assert attention == attention_macs(size, (24 * 18, 12 * 9, 6 * 5))


@pytest.mark.parametrize("image_hw", [(256, 192), (256, 256), (96, 32), (32, 64)])
def test_one_network_takes_every_multiple_of_32(image_hw):
    with torch.device("meta"):
        net = mobilevit_pose(17, size="xxs").eval()
        assert net(torch.empty(2, 3, *image_hw)).shape == (2, 17, image_hw[0] // 4, image_hw[1] // 4)
    with pytest.raises(ValueError, match=f"{image_hw[0]} × {image_hw[1] + 16}"):
        net(torch.empty(1, 3, image_hw[0], image_hw[1] + 16, device="meta"))


@pytest.mark.parametrize("size", slow(SIZES, ("xs",)))
def test_macs_of_the_classifier(size):
    with torch.device("meta"):
        net = classifier(MobileViT(SIZES[size]))
    macs, shape = macs_on_meta(net, (256, 256))
    attention = macs.pop("aten.bmm")
    assert (round(sum(macs.values()) / 1e9, 3), round(attention / 1e6)) == CLASSIFIER_MACS[size]
    assert shape == (1, 1000)
    assert attention == attention_macs(size, (16 * 16, 8 * 8, 4 * 4))


# The whole network


@pytest.mark.parametrize(
    "size, image_hw",
    slow([("xxs", HW), ("xxs", (128, 64)), ("xxs", (32, 64)), ("xs", HW), ("s", HW)], [("xxs", HW), ("xxs", (32, 64))]),
)
def test_the_classifier_is_timms(size, image_hw):
    timm = pytest.importorskip("timm")
    theirs = randomise(timm.create_model(f"mobilevit_{size}"), gain=2)
    ours = classifier(MobileViT(SIZES[size])).eval().double()
    values = theirs.state_dict().values()  # the same tensors in the same order under other names
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    x = random(2, 3, *image_hw)
    with torch.no_grad():
        features = ours[0](x)
        assert features.std() > 1e-3 and not torch.allclose(features[0], features[1]), "dead features prove nothing"
        assert_close(ours(x), theirs(x))
        assert not torch.allclose(ours(x), ours(x.flip(-1)))
    activations = [type(m) for m in ours.modules() if type(m).__module__.endswith("activation")]
    assert set(activations) == {nn.SiLU}, "in the blocks, too"


@pytest.mark.parametrize("size, dropout", [("xxs", 0.05), ("xs", 0.1), ("s", 0.1)])
def test_dropout_is_the_authors(size, dropout):
    assert {module.p for module in MobileViT(SIZES[size]).modules() if isinstance(module, nn.Dropout)} == {dropout}
