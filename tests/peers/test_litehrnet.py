"""Lite- and Dite-HRNet: published costs, and every part against the same thing said another way."""

import pytest
import torch
import torch.nn.functional as F
from peer_tools import blank, randomise_by_kind
from torch import nn

from lgmpose.network.layers import ConvNormAct
from lgmpose.peers.ditehrnet import DenseContext, DiteHRNet, DiteStem, DynamicConv, GlobalContext, SplitConv
from lgmpose.peers.litehrnet import CrossResolutionWeighting, LiteHRNet, LiteStem, SpatialWeighting
from lgmpose.peers.multibranch import Fusion, HalfBlock
from lgmpose.zoo.catalogue import create_model


@pytest.fixture
def branches():
    torch.manual_seed(1)
    return [torch.randn(2, 4, 16, 24), torch.randn(2, 8, 8, 12), torch.randn(2, 16, 4, 6)]


# Costs.


def conv_macs(net: nn.Module, image_hw: tuple[int, int]) -> tuple[int, int]:
    """MACs of convolutions: each layer counted once, and as executed."""
    calls: dict[nn.Module, list[int]] = {}

    def note(module, inputs, output):
        weight = module.weight if isinstance(module, nn.Conv2d) else module.kernels[0]
        calls.setdefault(module, []).append(output.numel() * weight[0].numel())

    handles = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, (nn.Conv2d, DynamicConv))]
    with torch.no_grad():
        net(torch.zeros(1, 3, *image_hw))
    for handle in handles:
        handle.remove()
    return sum(macs[0] for macs in calls.values()), sum(map(sum, calls.values()))


@pytest.mark.parametrize(
    "name, k17, k16, mega_macs",
    [  # (each layer once, as executed or None where it was not published)
        ("lite-hrnet-18", 1_130_769, 1_130_728,
         {(256, 192): (198.6, 242.3), (384, 288): (446.8, 545.1), (256, 256): (264.6, 322.9)}),
        pytest.param("lite-hrnet-30", 1_763_717, 1_763_676,
         {(256, 192): (309.5, 386.1), (384, 288): (696.0, 868.5), (256, 256): (412.4, 514.6)}, marks=pytest.mark.slow),
        ("dite-hrnet-18", 1_186_933, 1_186_892,
         {(256, 192): (199.4, 243.2), (384, 288): (448.6, None), (256, 256): (265.7, None)}),
        pytest.param("dite-hrnet-30", 1_862_549, 1_862_508,
         {(256, 192): (314.3, 391.0), (384, 288): (707.1, None), (256, 256): (418.9, None)}, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_parameters_and_macs_are_those_of_the_published_networks(name, k17, k16, mega_macs):
    net = blank(lambda: create_model(name)).float()
    num_params = sum(p.numel() for p in net.parameters())
    assert num_params == k17
    # 40 weights and a bias fewer; and on the 1/4 map 40 MACs fewer per pixel.
    assert num_params - 41 == k16

    # Maps grow with the picture and what follows a global mean does not: MACs are a · HW + c. Two small pictures give
    # a and c, a third confirms them.
    (once, executed), (once_2, executed_2) = conv_macs(net, (64, 96)), conv_macs(net, (64, 32))
    per_pixel, per_pixel_2 = (once - once_2) / (64 * 64), (executed - executed_2) / (64 * 64)

    def at(hw):
        extra = hw[0] * hw[1] - 64 * 96
        return once + per_pixel * extra, executed + per_pixel_2 * extra

    assert at((32, 160)) == conv_macs(net, (32, 160))
    for image_hw, (published_once, published_executed) in mega_macs.items():
        fewer = 40 * image_hw[0] * image_hw[1] / 16 if image_hw == (256, 256) else 0  # that column has 16 keypoints
        assert (at(image_hw)[0] - fewer) / 1e6 == pytest.approx(published_once, rel=1e-3)
        if published_executed:
            assert (at(image_hw)[1] - fewer) / 1e6 == pytest.approx(published_executed, rel=1e-3)


# Lite-HRNet's parts.


def test_spatial_weighting_is_squeeze_and_excitation():
    ops = pytest.importorskip("torchvision.ops")
    net, theirs = randomise_by_kind(SpatialWeighting(20)), ops.SqueezeExcitation(20, 5)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), net.state_dict().values(), strict=True)))
    x = torch.randn(2, 20, 8, 12)
    torch.testing.assert_close(net(x), theirs(x))


def test_cross_resolution_weighting_written_out(branches):
    net = randomise_by_kind(CrossResolutionWeighting((4, 8, 16)))
    shrink, grow = net.weights[0], net.weights[1]
    assert shrink[0].out_channels == 28 // 8
    cells = [x.unflatten(2, (4, -1)).unflatten(4, (6, -1)).mean(dim=(3, 5)) for x in branches]
    weights = grow[1](grow[0](shrink(torch.cat(cells, 1)))).sigmoid()
    for x, y, a in zip(branches, net(branches), (weights[:, :4], weights[:, 4:12], weights[:, 12:]), strict=True):
        s = x.shape[2] // 4
        torch.testing.assert_close(y, x * torch.kron(a, torch.ones(s, s)))


def test_half_block_passes_the_first_half_to_the_even_channels(branches):
    class Negate(nn.Module):
        def forward(self, xs):
            return [-x for x in xs]

    for x, y in zip(branches, HalfBlock(Negate())(branches), strict=True):
        half = x.shape[1] // 2
        torch.testing.assert_close(y[:, 0::2], x[:, :half])
        torch.testing.assert_close(y[:, 1::2], -x[:, half:])


@pytest.mark.parametrize("make", [LiteStem, DiteStem])
def test_stems_send_the_first_half_to_the_even_channels(make):
    net = randomise_by_kind(make())
    x = torch.rand(2, 3, 64, 96)
    y = net.conv(x)
    torch.testing.assert_close(net(x)[:, 0::2], net.first(y[:, :16]))
    torch.testing.assert_close(net(x)[:, 1::2], net.second(y[:, 16:]))
    assert net(x).shape == (2, 32, 16, 24)


# Dite-HRNet's parts.


@pytest.mark.parametrize("groups, stride", [(1, 1), (8, 2)])
def test_dynamic_conv_is_a_sum_of_convolutions_weighted_per_picture(groups, stride):
    net = randomise_by_kind(DynamicConv(8, 8, kernel=3, num_kernels=4, stride=stride, groups=groups))
    x = torch.randn(3, 8, 10, 14)
    weights = net.attention(x)
    assert weights.shape == (3, 4) and (weights > 0).all() and (weights < 1).all()
    assert (weights.sum(1) - 1).abs().min() > 1e-2  # a sigmoid each, no softmax
    each = torch.stack([F.conv2d(x, k, stride=stride, padding=1, groups=groups) for k in net.kernels], dim=1)
    torch.testing.assert_close(net(x), (each * weights[:, :, None, None, None]).sum(1), rtol=1e-4, atol=1e-5)


def test_global_context_written_out():
    net = randomise_by_kind(GlobalContext(8, reduction=4))
    x = torch.randn(2, 8, 6, 10)
    mask = net.mask(x).exp() / net.mask(x).exp().sum(dim=(2, 3), keepdim=True)
    gate = net.gate((x * mask).sum(dim=(2, 3), keepdim=True))
    torch.testing.assert_close(net(x), net.norm(x * gate))


def test_dense_context_gathers_by_a_plain_reshape(branches):
    net = randomise_by_kind(DenseContext((4, 8, 16)))
    gathered = []
    for x, mask in zip(branches[:2], net.masks[:2], strict=True):
        B, C, H, W = x.shape
        r = H * W // 24
        attention, flat = mask(x).flatten(1).softmax(1), x.flatten(1)
        out = torch.zeros(B, C, 24)
        for p in range(24):
            for c in range(C):
                run = flat[:, (p * C + c) * r : (p * C + c + 1) * r]
                out[:, c, p] = (run * attention[:, p * r : (p + 1) * r]).sum(1)
        gathered.append(out.view(B, C, 4, 6))
    weights = net.gate(torch.cat([*gathered, branches[2]], 1)).split((4, 8, 16), 1)
    for x, y, a in zip(branches, net(branches), weights, strict=True):
        s = x.shape[2] // 4
        torch.testing.assert_close(y, x * torch.kron(a, torch.ones(s, s)))


def test_split_conv_has_growing_kernels_and_interleaves_its_groups():
    net = SplitConv(8, groups=4, num_kernels=1).eval()
    for conv in net.convs:
        nn.init.ones_(conv[0].weight)
    impulse = torch.zeros(1, 8, 15, 15)
    impulse[:, :, 7, 7] = 1
    spread = (net(impulse)[0] != 0).sum(dim=(1, 2)).sqrt()
    assert spread.tolist() == [3, 5, 7, 9, 3, 5, 7, 9]
    assert all(isinstance(conv, ConvNormAct) for conv in net.convs)
    assert SplitConv(8, groups=2, num_kernels=2).convs[1][0].kernels.shape == (2, 4, 1, 5, 5)


# Assembled.


@pytest.mark.parametrize("network", [LiteHRNet, DiteHRNet])
def test_images_of_a_batch_do_not_affect_each_other(network):
    net = randomise_by_kind(network(3, modules=(1, 1, 1))).double()
    x = torch.rand(2, 3, 64, 96).double()
    with torch.no_grad():
        y = net(x)
        assert y.shape == (2, 3, 16, 24)
        torch.testing.assert_close(net(x[1:]), y[1:], rtol=0, atol=1e-9 * float(y.abs().max()))


@pytest.mark.parametrize("network, quirk", [(LiteHRNet, "lite"), (DiteHRNet, "dite")])
def test_every_fusion_has_the_quirk_of_the_published_code(network, quirk):
    with torch.device("meta"):
        net = network(3, modules=(1, 1, 1))
    assert {module.quirk for module in net.modules() if isinstance(module, Fusion)} == {quirk}
    with pytest.raises(ValueError, match="96 × 72"):
        net(torch.zeros(1, 3, 96, 72, device="meta"))
