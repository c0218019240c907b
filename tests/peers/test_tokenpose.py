"""TokenPose-B and -L/D6: counts, and equality with PyTorch's transformer and with scalar re-derivations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from peer_tools import num_params, random, randomise
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from lgmpose.peers.tokenpose import EncoderLayer, TokenPose, choose_patch_hw, sine_positions
from lgmpose.zoo.catalogue import create_model

HW = (128, 192)  # the map of 32 × 48 is cut into 16 × 16 patches of 2 × 3


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def on_meta(name: str, num_keypoints: int = 17, image_hw: tuple[int, int] = (256, 192)) -> TokenPose:
    with torch.device("meta"):
        return create_model(name, num_keypoints=num_keypoints, image_hw=image_hw).eval()


# Counts. MACs: of convolutions and linear layers, then of the attention's products.


@pytest.mark.parametrize("name, num_keypoints, image_hw, expected_params, expected_macs, expected_attention", [
    ("tokenpose-b", 17, (256, 192), 13_514_368, 5.933e9, 0.343e9),
    ("tokenpose-l-d6", 16, (256, 256), 21_492_448, 12.721e9, None),
    pytest.param("tokenpose-b", 17, (384, 288), 18_484_000, 12.04e9, None, marks=pytest.mark.slow),
    pytest.param("tokenpose-b", 17, (256, 256), 14_482_432, 7.52e9, None, marks=pytest.mark.slow),
    pytest.param("tokenpose-l-d6", 17, (256, 192), 20_864_928, None, None, marks=pytest.mark.slow),
])  # fmt: skip
def test_counts_equal_the_reference(
    name, num_keypoints, image_hw, expected_params, expected_macs, expected_attention
):
    net = on_meta(name, num_keypoints, image_hw)
    assert num_params(net) == expected_params
    with torch.no_grad(), FlopCounterMode(display=False) as mode:
        y = net(torch.empty(1, 3, *image_hw, device="meta"))
    assert y.shape == (1, num_keypoints, image_hw[0] // 4, image_hw[1] // 4)
    macs = {operator: flops // 2 for operator, flops in mode.get_flop_counts()["Global"].items()}
    products = macs.pop(torch.ops.aten.bmm)
    tokens, layers = num_keypoints + net.positions.shape[1], sum(len(group) for group in net.groups)
    assert products == layers * 2 * tokens**2 * 192
    if expected_macs is not None:
        assert sum(macs.values()) == pytest.approx(expected_macs, rel=1e-3)
    if expected_attention is not None:
        assert products == pytest.approx(expected_attention, abs=0.5e6)  # given to the million


def test_the_table_of_positions_is_counted_but_not_trained():
    net = on_meta("tokenpose-b")
    assert net.positions.numel() == 49_152
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 13_465_216
    assert "positions" in net.state_dict()


def test_default_patches_are_the_authors():
    assert choose_patch_hw((64, 48)) == (4, 3)
    assert choose_patch_hw((64, 64)) == (4, 4)
    assert choose_patch_hw((96, 72)) == (6, 4)
    assert choose_patch_hw((16, 8)) == (1, 1)


# What it computes


def as_pytorch(layer: EncoderLayer) -> nn.TransformerEncoderLayer:
    """The same weights in PyTorch's own layer."""
    width = layer.out.in_features
    other = nn.TransformerEncoderLayer(
        width, layer.heads, layer.mlp[0].out_features, dropout=0, activation="gelu", batch_first=True, norm_first=True
    ).eval().double()  # fmt: skip
    p = layer.state_dict()
    names = {
        "out.": "self_attn.out_proj.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
        "mlp.0.": "linear1.",
        "mlp.2.": "linear2.",
    }
    state = {new + key: p[old + key] for old, new in names.items() for key in ("weight", "bias")}
    state |= {"self_attn.in_proj_weight": p["qkv.weight"], "self_attn.in_proj_bias": torch.zeros(3 * width).double()}
    other.load_state_dict(state)
    return other


def test_a_layer_is_pytorchs_transformer_layer():
    layer, x = randomise(EncoderLayer(24, heads=4, mlp_ratio=3)), random(2, 7, 24)
    assert_close(layer(x), as_pytorch(layer)(x))
    wrong = randomise(EncoderLayer(24, heads=3, mlp_ratio=3))
    wrong.load_state_dict(layer.state_dict())
    assert not torch.allclose(layer(x), wrong(x), rtol=1e-3, atol=1e-3)


def test_positions_equal_the_formula():
    H, W, width = 3, 5, 12
    table = sine_positions((H, W), width)
    assert table.shape == (1, H * W, width)
    for row in range(H):
        for column in range(W):
            expected = []
            for position, side in ((row, H), (column, W)):
                for channel in range(width // 2):
                    angle = 2 * math.pi * (position + 1) / side / 10_000 ** (2 * (channel // 2) / (width // 2))
                    expected.append(math.cos(angle) if channel % 2 else math.sin(angle))
            assert_close(table[0, row * W + column], torch.tensor(expected), atol=1e-5, rtol=0)


def small(layers=(3,)) -> TokenPose:
    """A network whose backbone is one convolution, of three joints."""
    with torch.device("meta"):
        net = TokenPose(num_keypoints=3, image_hw=HW, layers=layers, width=24, heads=4)
        net.backbone = nn.Conv2d(3, 32, 4, stride=4)
    net = randomise(net.to_empty(device="cpu"))
    net.positions.data.copy_(sine_positions((16, 16), 24))
    return net


def tokenpose_by_hand(net, x, *, columns_first=False, positions_on_keypoints=False, before_every_group=False):
    """Token by token; the keywords make wrong versions."""
    x = net.backbone(x)
    B, C, H, W = x.shape
    (h, w), K = net.patch_hw, net.keypoint_tokens.shape[1]
    corners = [(top, left) for top in range(0, H, h) for left in range(0, W, w)]
    if columns_first:
        corners = [(top, left) for left in range(0, W, w) for top in range(0, H, h)]
    tokens = [net.keypoint_tokens[:, k].expand(B, -1) for k in range(K)]
    for top, left in corners:
        pixels = [x[:, :, top + i, left + j] for i in range(h) for j in range(w)]  # P tensors of (B, C)
        tokens.append(F.linear(torch.cat(pixels, dim=1), net.embed.weight, net.embed.bias))
    tokens, positions = torch.stack(tokens, dim=1), sine_positions((H // h, W // w), 24).double()

    def add_positions(tokens):
        tokens = tokens.clone()
        tokens[:, K:] += positions
        if positions_on_keypoints:
            tokens[:, :K] += positions[:, :K]
        return tokens

    tokens, found = add_positions(tokens), []
    for g, group in enumerate(net.groups):
        for i, layer in enumerate(group):
            if i > 0 or (before_every_group and g > 0):
                tokens = add_positions(tokens)
            tokens = as_pytorch(layer)(tokens)
        found.append(tokens[:, :K])
    return net.head(torch.cat(found, dim=-1)).reshape(B, K, H, W)


@torch.no_grad()
@pytest.mark.parametrize("layers", [(3,), (1, 2, 1)])
def test_it_is_the_network_that_the_layout_describes(layers):
    net, x = small(layers), random(2, 3, *HW)
    assert_close(net(x), tokenpose_by_hand(net, x))
    wrongs = [{"columns_first": True}, {"positions_on_keypoints": True}]
    for wrong in wrongs + [{"before_every_group": True}] * (len(layers) > 1):
        assert not torch.allclose(net(x), tokenpose_by_hand(net, x, **wrong), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_exchanged_keypoint_tokens_exchange_heatmaps():
    net, x, order = small(), random(1, 3, *HW), [2, 0, 1]
    before = net(x)
    net.keypoint_tokens.copy_(net.keypoint_tokens[:, order])
    assert_close(net(x), before[:, order])


def test_the_heads_hidden_layer_is_there_where_it_is_wide_enough():
    for name, expected in (("tokenpose-b", [(192, 384), (384, 64 * 48)]), ("tokenpose-l-d6", [(576, 64 * 48)])):
        linear = [m for m in on_meta(name).head if isinstance(m, nn.Linear)]
        assert [(m.in_features, m.out_features) for m in linear] == expected
    for width, count in ((64, 2), (65, 1)):  # 32 × 32 pixels: a hidden layer of 128
        with torch.device("meta"):
            head = TokenPose(num_keypoints=1, image_hw=(128, 128), layers=(1,), width=width, heads=1).head
        assert sum(isinstance(m, nn.Linear) for m in head) == count


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match="128 × 192.* 192 × 128"):
        small()(random(1, 3, 192, 128))
