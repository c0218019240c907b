"""The modules, one by one, against somebody else's code, written-out mathematics and named wrong versions.

Weights and BatchNorm's statistics are randomised first: at their initial values a forgotten BatchNorm, a forgotten bias
or a wrong order of channels would go unnoticed. Maps are never square.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from lgmpose.network.config import FUSIONS
from lgmpose.network.layers import ConvNormAct, InvertedResidual, channel_shuffle, make_activation
from lgmpose.network.modules import LARM, MLPBlock, MobileViM, SFusion, npt_op1, npt_op2, npt_op3
from lgmpose.network.variants import ConvFusion, MobileViTBlock, NoFusion, TransformerLayer, make_fusion


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randomise(net: nn.Module) -> nn.Module:
    """Random weights, biases and running statistics; eval mode, double precision."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5)
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return net.eval().double()


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# NPT-Op


def round_trip(op1, op2, op3, x, patch_hw):
    return op3(op2(op1(x, patch_hw)), patch_hw, tuple(x.shape[-2:]))


@st.composite
def maps_and_patches(draw):
    patch_hw, grid_hw = (draw(st.tuples(st.integers(1, 5), st.integers(1, 5))) for _ in range(2))
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    H, W = patch_hw[0] * grid_hw[0], patch_hw[1] * grid_hw[1]
    return torch.arange(batch * channels * H * W).reshape(batch, channels, H, W), patch_hw


@settings(deadline=None)
@given(maps_and_patches())
def test_npt_ops_undo_each_other(case):
    x, patch_hw = case
    assert torch.equal(round_trip(npt_op1, npt_op2, npt_op3, x, patch_hw), x)


def op1_by_loops(x, patch_hw):
    """NPT-Op.1 as one would say it: patch n holds at position p the pixel …"""
    (B, d, H, W), (h, w) = x.shape, patch_hw
    out = torch.empty(B, h * w, d, (H // h) * (W // w), dtype=x.dtype)
    for b in range(B):
        for c in range(d):
            for row in range(H):
                for column in range(W):
                    position = (row % h) * w + column % w
                    patch = (row // h) * (W // w) + column // w
                    out[b, position, c, patch] = x[b, c, row, column]
    return out


@settings(deadline=None, max_examples=30)
@given(maps_and_patches())
def test_npt_op1_puts_every_pixel_where_it_belongs(case):
    x, patch_hw = case
    assert torch.equal(npt_op1(x, patch_hw), op1_by_loops(x, patch_hw))


@settings(deadline=None)
@given(maps_and_patches())
def test_npt_op1_and_2_are_unfold(case):
    x, (h, w) = case
    B, d, H, W = x.shape
    x = x.double()
    columns = F.unfold(x, (h, w), stride=(h, w)).view(B, d, h * w, -1)  # (B, d, P, N)
    assert torch.equal(npt_op1(x, (h, w)), columns.transpose(1, 2))
    tokens = npt_op2(npt_op1(x, (h, w)))
    assert torch.equal(tokens, columns.permute(0, 3, 1, 2))
    folded = F.fold(tokens.permute(0, 2, 3, 1).reshape(B, d * h * w, -1), (H, W), (h, w), stride=(h, w))
    assert torch.equal(npt_op3(tokens, (h, w), (H, W)), folded)


def swapped_op1(x, patch_hw):
    """A wrong NPT-Op.1: cuts w × h patches instead of h × w."""
    return npt_op1(x, patch_hw[::-1])


def columnwise_op1(x, patch_hw):
    """A wrong NPT-Op.1: counts the patches column by column."""
    return npt_op1(x.mT, patch_hw[::-1])


def interleaved_op1(x, patch_hw):
    """A wrong NPT-Op.1: a patch is a grid of distant pixels instead of a neighbourhood."""
    (B, d, H, W), (h, w) = x.shape, patch_hw
    return x.reshape(B, d, h, H // h, w, W // w).permute(0, 2, 4, 1, 3, 5).reshape(B, h * w, d, -1)


def reshaped_op1(x, patch_hw):
    """A wrong NPT-Op.1: a reshape without the permutation."""
    (B, d, H, W), (h, w) = x.shape, patch_hw
    return x.reshape(B, h * w, d, (H // h) * (W // w))


def swapped_op3(tokens, patch_hw, map_hw):
    """A wrong NPT-Op.3, that undoes ``swapped_op1``: only where the pixels lie tells."""
    return npt_op3(tokens, patch_hw[::-1], map_hw)


@pytest.mark.parametrize("wrong", [swapped_op1, columnwise_op1, interleaved_op1, reshaped_op1])
def test_wrong_npt_op1_is_caught(wrong):
    x, patch_hw = torch.arange(2 * 3 * 12 * 24).reshape(2, 3, 12, 24), (4, 6)
    assert wrong(x, patch_hw).shape == npt_op1(x, patch_hw).shape, "the shape alone does not tell"
    assert not torch.equal(round_trip(wrong, npt_op2, npt_op3, x, patch_hw), x)
    assert not torch.equal(wrong(x, patch_hw), op1_by_loops(x, patch_hw))


def test_a_wrong_pair_that_undoes_itself_is_caught_by_the_loops():
    x, patch_hw = torch.arange(2 * 3 * 12 * 24).reshape(2, 3, 12, 24), (4, 6)
    assert torch.equal(round_trip(swapped_op1, npt_op2, swapped_op3, x, patch_hw), x), "so identity is not enough"
    assert not torch.equal(swapped_op1(x, patch_hw), op1_by_loops(x, patch_hw))


def test_npt_ops_on_a_map_small_enough_to_read():
    x = torch.arange(8).view(1, 1, 2, 4)  # 0 1 | 2 3
    #                                       4 5 | 6 7
    assert npt_op1(x, (2, 2)).squeeze().tolist() == [[0, 2], [1, 3], [4, 6], [5, 7]]  # one row per position
    assert npt_op2(npt_op1(x, (2, 2))).squeeze().tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]  # one row per patch


def test_patches_that_do_not_fit_are_refused():
    x = torch.zeros(1, 2, 6, 8)
    with pytest.raises(ValueError, match="4 × 2 .* 6 × 8"):
        npt_op1(x, (4, 2))
    with pytest.raises(ValueError, match="3 × 3 .* 6 × 8"):
        LARM((6, 8), (3, 3))
    tokens = npt_op2(npt_op1(x, (3, 4)))  # (B, N = 4, d, P = 12)
    for (h, w), (H, W) in (((4, 4), (6, 8)), ((2, 4), (6, 8)), ((4, 3), (6, 8)), ((3, 4), (12, 8)), ((2, 2), (4, 4))):
        with pytest.raises(ValueError, match=f"{H} × {W}"):
            npt_op3(tokens, (h, w), (H, W))
    assert npt_op3(tokens, (3, 4), (6, 8)).shape == x.shape


# Borrowed layers


@given(st.integers(1, 6), st.integers(1, 6))
def test_channel_shuffle_is_pytorchs(groups, width):
    x = torch.arange(2 * groups * width * 6.0).view(2, groups * width, 2, 3)
    assert torch.equal(channel_shuffle(x, groups), nn.ChannelShuffle(groups)(x))
    assert torch.equal(channel_shuffle(channel_shuffle(x, groups), width), x), "groups and width undo each other"


def test_channel_shuffle_interleaves_two_groups():
    assert channel_shuffle(torch.arange(6).view(1, 6, 1, 1), 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_channel_shuffle_takes_any_memory_layout():
    x = torch.randn(2, 6, 3, 5)
    assert torch.equal(channel_shuffle(x.to(memory_format=torch.channels_last), 2), channel_shuffle(x, 2))


def test_activations():
    x = torch.linspace(-8, 8, 101)
    assert torch.equal(make_activation("relu6")(x.clone()), x.clamp(0, 6))
    assert torch.equal(make_activation("relu")(x.clone()), x.clamp(min=0))
    assert_close(make_activation("silu")(x.clone()), x * torch.sigmoid(x))


@pytest.mark.parametrize("transposed", [False, True])
def test_conv_norm_act_is_the_three_in_turn(transposed):
    block = randomise(ConvNormAct(4, 6, kernel=5, stride=2, groups=1, transposed=transposed))
    conv, norm, _ = block
    x = random(2, 4, 6, 8)
    if transposed:
        y = F.conv_transpose2d(x, conv.weight, stride=2)
    else:
        y = F.conv2d(x, conv.weight, stride=2, padding=2)
    mean, var = norm.running_mean.view(-1, 1, 1), norm.running_var.view(-1, 1, 1)
    y = (y - mean) / (var + norm.eps).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    assert_close(block(x), y.clamp(0, 6))
    assert block(x).shape == ((2, 6, 12, 16) if transposed else (2, 6, 3, 4))


@pytest.mark.parametrize("in_channels, out_channels, expansion, stride", [
    (8, 8, 6, 1), (8, 12, 6, 1), (8, 8, 6, 2), (8, 12, 6, 2), (8, 8, 1, 1), (8, 12, 1, 1), (8, 12, 1, 2),
])  # fmt: skip
def test_inverted_residual_is_torchvisions(in_channels, out_channels, expansion, stride):
    mobilenetv2 = pytest.importorskip("torchvision.models.mobilenetv2")
    ours = InvertedResidual(in_channels, out_channels, expansion=expansion, stride=stride)
    ours = randomise(ours)
    theirs = mobilenetv2.InvertedResidual(in_channels, out_channels, stride, expand_ratio=expansion).eval().double()
    values = ours.state_dict().values()  # the same tensors in the same order under other names
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    x = random(2, in_channels, 6, 10)
    assert_close(ours(x), theirs(x))

    ours.has_residual = not ours.has_residual  # the check notices a residual too many or too few
    if stride == 1 and in_channels == out_channels:
        assert not torch.allclose(ours(x), theirs(x))


# MLP Block, LARM, MobileViM


@pytest.mark.parametrize("residual", [True, False])
def test_mlp_block_is_equation_1(residual):
    block = randomise(MLPBlock(12, ratio=3, residual=residual))
    x = random(2, 5, 4, 12)
    mean = x.mean(-1, keepdim=True)
    normed = (x - mean) / ((x - mean).square().mean(-1, keepdim=True) + 1e-5).sqrt()
    normed = normed * block.norm.weight + block.norm.bias
    hidden = normed @ block.expand.weight.T + block.expand.bias
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    y = hidden @ block.project.weight.T + block.project.bias
    assert hidden.shape[-1] == 36
    assert_close(block(x), x + y if residual else y)
    assert not torch.allclose(block(x), y if residual else x + y)


def reach(function, x: torch.Tensor, channel: int, row: int, column: int) -> torch.Tensor:
    """(C, H, W): which input numbers of the first picture does one output number depend on?"""
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x)[0, channel, row, column], x)
    assert not gradient[1:].any(), "pictures of a batch see each other"
    return gradient[0] != 0


@pytest.mark.parametrize("residual", [True, False])
def test_larm_reaches_the_whole_map_and_no_other_channel(residual):
    larm = randomise(LARM((8, 12), (4, 2), residual=residual))
    seen = reach(larm, random(2, 3, 8, 12), channel=1, row=5, column=7)
    assert seen[1].all()
    assert not seen[0].any() and not seen[2].any()


def test_each_half_of_larm_reaches_what_it_should():
    larm = randomise(LARM((8, 12), (4, 2)))
    x, (row, column) = random(2, 3, 8, 12), (5, 7)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(12), indexing="ij")

    def first_half(x):
        return npt_op3(npt_op2(larm.between_patches(npt_op1(x, (4, 2)))), (4, 2), (8, 12))

    def second_half(x):
        return npt_op3(larm.within_patch(npt_op2(npt_op1(x, (4, 2)))), (4, 2), (8, 12))

    equal_positions = (rows % 4 == row % 4) & (columns % 2 == column % 2)
    assert torch.equal(reach(first_half, x, 1, row, column)[1], equal_positions)
    same_patch = (rows // 4 == row // 4) & (columns // 2 == column // 2)
    assert torch.equal(reach(second_half, x, 1, row, column)[1], same_patch)


def test_larm_is_two_mlp_blocks_over_loops():
    larm = randomise(LARM((6, 8), (3, 2)))
    x = random(2, 3, 6, 8)
    y = x.clone()
    for i in range(3):  # position in the patch
        for j in range(2):
            pixels = x[:, :, i::3, j::2]
            y[:, :, i::3, j::2] = larm.between_patches(pixels.flatten(2)).view_as(pixels)
    z = y.clone()
    for i in range(0, 6, 3):  # patch
        for j in range(0, 8, 2):
            pixels = y[:, :, i : i + 3, j : j + 2]
            z[:, :, i : i + 3, j : j + 2] = larm.within_patch(pixels.flatten(2)).view_as(pixels)
    assert_close(larm(x), z)
    assert larm.grid_hw == (2, 4)


def test_larm_refuses_a_map_it_was_not_built_for():
    larm = LARM((6, 8), (3, 2))
    for map_hw in ((8, 6), (12, 4), (6, 10)):
        with pytest.raises(ValueError, match="built for maps of 6 × 8"):
            larm(torch.zeros(1, 2, *map_hw))
    assert larm(torch.zeros(1, 2, 6, 8)).shape == (1, 2, 6, 8)


def test_mobilevim_is_its_parts_and_sees_everything():
    block = randomise(MobileViM(4, 10, (6, 8), (3, 2)))
    x = random(2, 4, 6, 8)
    local = block.local(x)
    up = torch.einsum("bchw,dc->bdhw", local, block.project_up.weight[:, :, 0, 0])
    down = block.project_down(block.larm(up))
    assert_close(block(x), block.fuse(torch.cat([x, down], dim=1)))
    assert not torch.allclose(block(x), block.fuse(torch.cat([down, x], dim=1))), "the input comes first"

    smooth = randomise(MobileViM(4, 10, (6, 8), (3, 2), activation="silu"))  # ReLU6 has no gradient where it clips
    assert reach(smooth, x, channel=2, row=1, column=6).all()


# Fusions


@pytest.mark.parametrize("name", ["sfusion", "dw1", "dw2"])
def test_sfusion_is_a_loop_over_groups(name):
    fuse = randomise(make_fusion(name, 6, 4, activation="relu6"))
    decoder, encoder = random(2, 6, 5, 7), random(2, 4, 5, 7)
    x = torch.cat([decoder, encoder], dim=1)
    if name == "sfusion":  # channels i and C/2 + i become neighbours
        x = torch.stack([x[:, :5], x[:, 5:]], dim=2).flatten(1, 2)
    width = 1 if name == "dw1" else 2
    conv, norm = fuse.grouped
    y = torch.cat(
        [F.conv2d(x[:, i : i + width], conv.weight[i : i + width], padding=1) for i in range(0, 10, width)], dim=1
    )
    assert_close(fuse(decoder, encoder), fuse.pointwise(norm(y)))
    assert fuse(decoder, encoder).shape[1] == 10
    assert not torch.allclose(fuse(decoder, encoder), fuse.pointwise(norm(y).clamp(0, 6))), "no activation in between"


def test_every_name_of_a_fusion_has_a_module_and_others_are_refused_by_name():
    for name in FUSIONS:
        assert isinstance(make_fusion(name, 6, 4, activation="relu6"), torch.nn.Module)
    with pytest.raises(ValueError, match="attention"):
        make_fusion("attention", 6, 4, activation="relu6")


def test_sfusion_and_dw2_differ_by_a_permutation_of_channels_only():
    sfusion = randomise(make_fusion("sfusion", 6, 4, activation="relu6"))
    dw2 = make_fusion("dw2", 6, 4, activation="relu6").eval().double()
    dw2.load_state_dict(sfusion.state_dict())
    x = random(2, 10, 5, 7)
    shuffled = nn.ChannelShuffle(2)(x)
    assert not torch.allclose(dw2(x[:, :6], x[:, 6:]), sfusion(x[:, :6], x[:, 6:])), "a shuffle left out is caught"
    assert_close(dw2(shuffled[:, :6], shuffled[:, 6:]), sfusion(x[:, :6], x[:, 6:]))


def test_sfusions_groups_mix_both_sources_where_dw2s_do_not():
    """Only the shuffle lets a group of the 3×3 see decoder and encoder at once."""
    mixed = {}
    for name in ("sfusion", "dw2"):
        fuse = randomise(make_fusion(name, 6, 6, activation="relu6"))
        x = random(1, 12, 5, 7)

        def grouped(x, fuse=fuse):
            return fuse.grouped(channel_shuffle(x, fuse.shuffle_groups))

        seen = torch.stack([reach(grouped, x, c, 2, 3).flatten(1).any(1) for c in range(12)])  # (out, in)
        assert (seen.sum(1) == 2).all(), "two channels per group"
        mixed[name] = int((seen[:, :6].any(1) & seen[:, 6:].any(1)).sum())
    assert mixed == {"sfusion": 12, "dw2": 0}


def test_other_fusions():
    decoder, encoder = random(2, 6, 5, 7), random(2, 4, 5, 7)
    none = make_fusion("none", 6, 4, activation="relu6")
    assert isinstance(none, NoFusion) and not list(none.parameters())
    assert torch.equal(none(decoder, encoder), decoder)
    conv = randomise(make_fusion("conv3x3", 6, 4, activation="relu6"))
    assert isinstance(conv, ConvFusion)
    x = F.conv2d(torch.cat([decoder, encoder], dim=1), conv.conv[0].weight, padding=1)
    assert_close(conv(decoder, encoder), conv.conv[1](x).clamp(0, 6))
    assert isinstance(make_fusion("sfusion", 6, 4, activation="relu6"), SFusion)


# The MobileViT block


def test_attention_is_pytorchs():
    layer = randomise(TransformerLayer(12, heads=4))
    x = random(2, 3, 7, 12)  # (B, P, N, d)
    q, k, v = layer.qkv(x).unflatten(-1, (3, 4, 3)).permute(3, 0, 1, 4, 2, 5)  # each (B, P, heads, N, d/heads)
    fused = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).flatten(3)
    assert_close(layer.attention(x), layer.out(fused))

    theirs = nn.MultiheadAttention(12, 4, batch_first=True).eval().double()
    theirs.load_state_dict({
        "in_proj_weight": layer.qkv.weight, "in_proj_bias": layer.qkv.bias,
        "out_proj.weight": layer.out.weight, "out_proj.bias": layer.out.bias,
    })  # fmt: skip
    tokens = x.flatten(0, 1)  # P runs with the batch: attention is over N alone
    assert_close(layer.attention(x).flatten(0, 1), theirs(tokens, tokens, tokens)[0])


def test_transformer_layer_is_pytorchs():
    layer = randomise(TransformerLayer(12, heads=4, ffn_ratio=2))
    theirs = nn.TransformerEncoderLayer(12, 4, 24, activation=F.silu, batch_first=True, norm_first=True).eval().double()
    names = {
        "norm1.": "norm1.", "qkv.": "self_attn.in_proj_", "out.": "self_attn.out_proj.", "norm2.": "norm2.",
        "expand.": "linear1.", "project.": "linear2.",
    }  # fmt: skip
    state = layer.state_dict()
    theirs.load_state_dict(
        {their + kind: state[our + kind] for our, their in names.items() for kind in ("weight", "bias")}
    )
    x = random(6, 7, 12)
    assert_close(layer(x[:, None])[:, 0], theirs(x))


def test_mobilevit_block_is_its_parts():
    block = randomise(MobileViTBlock(4, 8, layers=2))
    x = random(2, 4, 6, 8)
    y = block.project_up(block.local(x))
    out = torch.empty_like(y)
    for i in range(2):  # position in the 2 × 2 patch
        for j in range(2):
            tokens = y[:, :, i::2, j::2].flatten(2).transpose(1, 2)  # (B, N, d)
            tokens = block.norm(block.layers(tokens[:, None]))[:, 0]
            out[:, :, i::2, j::2] = tokens.transpose(1, 2).unflatten(-1, (3, 4))
    assert_close(block(x), block.fuse(torch.cat([x, block.project_down(out)], dim=1)))
    assert len(block.layers) == 2


def test_dropout_is_mobilevits():
    layers = [TransformerLayer(8), *MobileViTBlock(4, 8, layers=2).modules(), TransformerLayer(8, dropout=0.3)]
    assert [m.dropout.p for m in layers if isinstance(m, TransformerLayer)] == [0.1, 0.1, 0.1, 0.3]
    layer = TransformerLayer(8, dropout=1.0).train()
    x = torch.randn(1, 4, 3, 8)
    assert torch.equal(layer(x), x), "attention and feed-forward are both dropped"


def test_mobilevit_block_sees_everything():
    block = randomise(MobileViTBlock(4, 8, layers=1))
    assert reach(block, random(2, 4, 6, 8), channel=2, row=1, column=6).all()
