"""MobileViT-XXS, -XS and -S: counts with and without a classifier, and equality with somebody else's code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from peer_tools import num_params, random, randomise, slow
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from lgmpose.network.layers import ConvNormAct
from lgmpose.network.variants import MobileViTBlock
from lgmpose.peers.mobilevit import SIZES, MobileViT, mobilevit_s, mobilevit_xs, mobilevit_xxs

# Backbone; with the classifier; each block and the transformer in it. Counted on the authors' code.
PARAMS = {
    "xxs": (924_784, 1_272_024, [(135_712, 67_072), (329_696, 208_480), (413_184, 224_544)]),
    "xs": (1_895_216, 2_317_848, [(273_024, 149_760), (658_800, 466_320), (779_760, 502_704)]),
    "s": (4_833_952, 5_578_632, [(612_288, 335_232), (1_680_768, 1_188_480), (2_159_760, 1_390_800)]),
}
# The classifier at 256 × 256: GMAC of convolutions and linear layers, MMAC of the attention's products.
CLASSIFIER_MACS = {"xxs": (0.329, 78), "xs": (0.909, 117), "s": (1.823, 178)}
NETWORKS = {"xxs": mobilevit_xxs, "xs": mobilevit_xs, "s": mobilevit_s}
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
            net = NETWORKS[size](num_keypoints, (384, 288))
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
        net = mobilevit_xxs(17, (256, 192)).eval()
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


# The block on maps that 2 × 2 patches do not tile

PYTORCHS = {
    "norm1.": "norm1.", "qkv.": "self_attn.in_proj_", "out.": "self_attn.out_proj.", "norm2.": "norm2.",
    "expand.": "linear1.", "project.": "linear2.",
}  # fmt: skip

def block_by_pytorch(block: MobileViTBlock, x: torch.Tensor, *, stretch: str = "authors") -> torch.Tensor:
    """The block from PyTorch's parts: its encoder layer, ``F.unfold`` and ``F.fold``, and the block's convolutions."""
    H, W = x.shape[-2:]
    even_hw = (H + H % 2, W + W % 2)
    y = block.project_up(block.local(x))
    if stretch == "zeros":
        y = F.pad(y, (0, W % 2, 0, H % 2))
    elif stretch == "corners":
        y = F.interpolate(y, even_hw, mode="bilinear", align_corners=True)
    else:
        y = F.interpolate(y, even_hw, mode="bilinear", align_corners=False)
    d = y.shape[1]
    tokens = F.unfold(y, 2, stride=2).unflatten(1, (d, 4)).permute(0, 2, 3, 1).flatten(0, 1)  # (B P, N, d)
    for ours in block.layers:
        layer = nn.TransformerEncoderLayer(d, 4, 2 * d, activation=F.silu, batch_first=True, norm_first=True)
        values = ours.state_dict()
        layer.load_state_dict(
            {their + kind: values[our + kind] for our, their in PYTORCHS.items() for kind in ("weight", "bias")}
        )
        layer.eval().double()
        tokens = layer(tokens)
    tokens = block.norm(tokens).unflatten(0, (-1, 4)).permute(0, 3, 1, 2).flatten(1, 2)  # (B, d P, N)
    y = F.fold(tokens, even_hw, 2, stride=2)
    if stretch == "zeros":
        y = y[:, :, :H, :W]
    else:
        y = F.interpolate(y, (H, W), mode="bilinear", align_corners=stretch == "corners")
    return block.fuse(torch.cat([x, block.project_down(y)], dim=1))


@pytest.mark.parametrize("map_hw", [(4, 6), (4, 5), (3, 6), (3, 5), (1, 2)])
def test_the_block_takes_any_map(map_hw):
    block = randomise(MobileViTBlock(4, 8, layers=2), gain=2)
    x = random(2, 4, *map_hw)
    assert_close(block(x), block_by_pytorch(block, x))


@pytest.mark.parametrize("wrong", ["zeros", "corners"])
def test_another_way_to_an_even_map_is_caught(wrong):
    block = randomise(MobileViTBlock(4, 8, layers=2), gain=2)
    even, odd = random(2, 4, 4, 6), random(2, 4, 3, 5)
    assert_close(block(even), block_by_pytorch(block, even, stretch=wrong))
    assert not torch.allclose(block(odd), block_by_pytorch(block, odd, stretch=wrong))


# The whole network


def mobilevit_by_hand(net: MobileViT, x: torch.Tensor, *, activation=F.silu, residual: bool = True) -> torch.Tensor:
    """The authors' table line by line, from functions and the weights; the blocks by ``block_by_pytorch``."""
    p = net.state_dict()

    def conv_norm(x, name, stride=1, groups=1):
        weight = p[f"{name}.0.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        return F.batch_norm(x, *(p[f"{name}.1.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))

    x = activation(conv_norm(x, "stem", stride=2))
    for name, stride in (
        ("layer1", 1), ("layer2.0", 2), ("layer2.1", 1), ("layer2.2", 1),
        ("layer3.0", 2), ("layer3.1", None), ("layer4.0", 2), ("layer4.1", None), ("layer5.0", 2), ("layer5.1", None),
    ):  # fmt: skip
        if stride is None:
            x = block_by_pytorch(net.get_submodule(name), x)
            continue
        y = activation(conv_norm(x, f"{name}.layers.0"))
        y = activation(conv_norm(y, f"{name}.layers.1", stride, groups=y.shape[1]))
        y = conv_norm(y, f"{name}.layers.2")
        x = x + y if residual and x.shape == y.shape else y
    return x


@pytest.mark.parametrize("size", slow(("xxs", "xs"), ("xxs",)))  # only XXS's layer 1 adds its input
def test_the_backbone_is_the_authors_table(size):
    net = randomise(MobileViT(SIZES[size]), gain=2)
    x = random(2, 3, *HW)
    with torch.no_grad():
        features = net(x)
        assert_close(features, mobilevit_by_hand(net, x))
        assert not torch.allclose(features, mobilevit_by_hand(net, x, activation=F.relu6))
        assert not torch.allclose(features, mobilevit_by_hand(net, x, residual=False))
    activations = [type(m) for m in net.modules() if type(m).__module__.endswith("activation")]
    assert set(activations) == {nn.SiLU}, "in the blocks, too"


@pytest.mark.parametrize(
    "size, image_hw", slow([("xxs", HW), ("xxs", (128, 64)), ("xs", HW), ("s", HW)], [("xxs", HW)])
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


@pytest.mark.parametrize("size, dropout", [("xxs", 0.05), ("xs", 0.1), ("s", 0.1)])
def test_dropout_is_the_authors(size, dropout):
    assert {module.p for module in MobileViT(SIZES[size]).modules() if isinstance(module, nn.Dropout)} == {dropout}
