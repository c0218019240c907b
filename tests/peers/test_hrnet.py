"""HRNet-W32, Small HRNet, and the skeleton of branches: published costs, equal to torchvision's and timm's networks."""

import pytest
import torch
from peer_tools import macs_on_meta, num_params, randomise_by_kind
from torch import nn

from lgmpose.peers.hrnet import HRNet, HRNetStem3, basic_block, bottleneck_block
from lgmpose.peers.litehrnet import LiteHRNet
from lgmpose.peers.multibranch import Fusion, IterativeHead, Transition, dense_step, separable_step
from lgmpose.zoo.catalogue import create_model


def same_weights(net: nn.Module, theirs: nn.Module) -> nn.Module:
    """Copies theirs into net in the order of definition; what theirs has beyond the end of net is left out."""
    own, other = net.state_dict(), list(theirs.state_dict().items())
    assert len(other) >= len(own)
    for (name, value), (their_name, their_value) in zip(own.items(), other, strict=False):
        assert value.shape == their_value.shape, (name, their_name)
        own[name] = their_value
    net.load_state_dict(own)
    return net.eval()


@pytest.fixture(scope="module")
def on_meta():
    with torch.device("meta"):
        return {"w32": create_model("hrnet-w32").eval(), "small": create_model("small-hrnet").eval()}


def test_parameters_are_those_of_the_published_networks(on_meta):
    assert num_params(on_meta["w32"]) == 28_536_113
    assert num_params(on_meta["small"]) == 1_284_961
    with torch.device("meta"):
        assert num_params(create_model("hrnet-w32", num_keypoints=16)) == 28_536_080
        assert num_params(create_model("small-hrnet", num_keypoints=16)) == 1_284_961 - 17


@pytest.mark.parametrize(
    "name, image_hw, giga_macs",
    [
        pytest.param("w32", (256, 192), 7.645, marks=pytest.mark.slow),
        pytest.param("w32", (384, 288), 17.201, marks=pytest.mark.slow),
        pytest.param("w32", (256, 256), 10.193, marks=pytest.mark.slow),
        ("small", (256, 192), 0.571), ("small", (384, 288), 1.284), ("small", (256, 256), 0.761),
    ],
)  # fmt: skip
def test_macs_are_those_of_the_published_networks(on_meta, name, image_hw, giga_macs):
    assert macs_on_meta(on_meta[name], image_hw) / 1e9 == pytest.approx(giga_macs, rel=1e-3)


def test_the_stem_of_tokenpose_is_hrnet_without_its_last_stage(on_meta):
    with torch.device("meta"):
        net = HRNetStem3(width=32).eval()
        assert net(torch.zeros(1, 3, 64, 96)).shape == (1, 32, 16, 24)
        wide = HRNetStem3(width=48).eval()
        assert wide(torch.zeros(1, 3, 64, 96)).shape == (1, 48, 16, 24)
    shapes = {name: value.shape for name, value in on_meta["w32"].backbone.state_dict().items()}
    assert all(shapes[name] == value.shape for name, value in net.state_dict().items())
    assert not any(name.startswith("trunk.stages.2") for name in net.state_dict())


def test_blocks_equal_torchvisions():
    resnet = pytest.importorskip("torchvision.models.resnet")
    x = torch.randn(2, 64, 10, 14)
    theirs = randomise_by_kind(resnet.BasicBlock(64, 64))
    torch.testing.assert_close(same_weights(basic_block(64), theirs)(x), theirs(x))
    projection = nn.Sequential(nn.Conv2d(64, 128, 1, bias=False), nn.BatchNorm2d(128))
    theirs = randomise_by_kind(resnet.Bottleneck(64, 32, downsample=projection))
    torch.testing.assert_close(same_weights(bottleneck_block(64, 32), theirs)(x), theirs(x))
    theirs = randomise_by_kind(resnet.Bottleneck(128, 32))
    x = torch.randn(2, 128, 10, 14)
    torch.testing.assert_close(same_weights(bottleneck_block(128, 32), theirs)(x), theirs(x))


@pytest.mark.slow
def test_hrnet_w32_equals_timms():
    timm = pytest.importorskip("timm")
    theirs = randomise_by_kind(timm.create_model("hrnet_w32", pretrained=False))
    net = create_model("hrnet-w32")
    same_weights(net.backbone, theirs)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        y = theirs.act2(theirs.bn2(theirs.conv2(theirs.act1(theirs.bn1(theirs.conv1(x))))))
        expected, actual = theirs.stages(y)[0], net.backbone(x)
    scale = expected.abs().max()
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=1e-5)


def test_the_stem_is_two_convolutions_each_with_norm_and_relu():
    stem = randomise_by_kind(create_model("small-hrnet").backbone.stem)
    x = y = torch.rand(1, 3, 64, 96)
    for conv, norm, _ in stem:
        y = norm(nn.functional.conv2d(y, conv.weight, stride=2, padding=1)).relu()
    torch.testing.assert_close(stem(x), y)
    assert y.shape == (1, 64, 16, 24)


def test_a_transition_starts_the_new_branch_from_the_lowest_as_it_came():
    net = randomise_by_kind(Transition((6, 8), (6, 10, 12), step=dense_step))
    high, low = torch.randn(2, 6, 8, 12), torch.randn(2, 8, 4, 6)
    first, second, third = net([high, low])
    assert torch.equal(first, high)
    torch.testing.assert_close(second, net.adjust[1](low))
    torch.testing.assert_close(third, net.descend(low))
    assert second.shape == (2, 10, 4, 6) and third.shape == (2, 12, 2, 3)


@pytest.fixture
def branches():
    torch.manual_seed(1)
    return [torch.randn(2, 4, 16, 24), torch.randn(2, 6, 8, 12), torch.randn(2, 8, 4, 6)]


def by_hand(fusion: Fusion, xs: list[torch.Tensor], *, quirk: str) -> list[torch.Tensor]:
    """The fusions written out for three branches; up and down are the fusion's own convolutions."""
    up = {(i, j): fusion.paths[i][j][0](xs[j]) for i, j in ((0, 1), (0, 2), (1, 2))}
    up = {(i, j): x.repeat_interleave(2 ** (j - i), 2).repeat_interleave(2 ** (j - i), 3) for (i, j), x in up.items()}
    times = 1 if quirk == "none" else 2
    total = times * xs[0] + up[0, 1] + up[0, 2]
    first = {"none": xs[0], "lite": total, "dite": total.relu()}[quirk]
    one = times * fusion.paths[1][0](first) + xs[1] + up[1, 2]
    two = times * fusion.paths[2][0](first) + fusion.paths[2][1](xs[1]) + xs[2]
    return [total.relu(), one.relu(), two.relu()]


@pytest.mark.parametrize("step", [dense_step, separable_step])
@pytest.mark.parametrize("quirk", ["none", "lite", "dite"])
def test_fusion_equals_the_sum_written_out(branches, quirk, step):
    fusion = randomise_by_kind(Fusion((4, 6, 8), step=step, quirk=quirk))
    before = [x.clone() for x in branches]
    outputs = fusion(branches)
    torch.testing.assert_close(outputs, by_hand(fusion, branches, quirk=quirk))
    assert all(torch.equal(x, y) for x, y in zip(branches, before, strict=True)), "the input was changed"
    for other in {"none", "lite", "dite"} - {quirk}:  # the comparison has teeth
        assert not torch.allclose(outputs[2], by_hand(fusion, branches, quirk=other)[2], atol=1e-2)


def test_paths_have_a_relu_after_every_step_but_the_last():
    fusion = Fusion((4, 6, 8, 10), step=dense_step)
    down = fusion.paths[3][0]
    assert [type(step[-1]) for step in down] == [nn.ReLU, nn.ReLU, nn.BatchNorm2d]
    assert [step[0].out_channels for step in down] == [4, 4, 10]
    assert [type(m) for m in fusion.paths[0][3][0]] == [nn.Conv2d, nn.BatchNorm2d]


def test_the_quirk_runs_the_paths_down_from_branch_0_twice(branches):
    for quirk, times in (("none", 1), ("lite", 2)):
        fusion = Fusion((4, 6, 8), step=separable_step, quirk=quirk).train()
        fusion(branches)
        for name, count in fusion.named_buffers():
            if name.endswith("num_batches_tracked"):
                assert count == (times if name.startswith(("paths.1.0", "paths.2.0")) else 1), name


def test_iterative_head_goes_up_by_aligned_bilinear_upsampling(branches):
    head = randomise_by_kind(IterativeHead((4, 6, 8)))

    def up(x):  # between n samples lie n − 1 intervals: corners stay corners
        H, W = x.shape[-2:]
        rows, columns = (torch.linspace(0, n - 1, 2 * n) for n in (H, W))
        hat_h = (1 - (rows[:, None] - torch.arange(H)).abs()).clamp(min=0)
        hat_w = (1 - (columns[:, None] - torch.arange(W)).abs()).clamp(min=0)
        return hat_h @ x @ hat_w.T

    x = head.steps[2](branches[2])
    x = head.steps[1](branches[1] + up(x))
    x = head.steps[0](branches[0] + up(x))
    torch.testing.assert_close(head(branches), x, rtol=1e-4, atol=1e-5)


def test_any_multiple_of_32_and_no_other_size():
    net = HRNet(3, widths=(4, 8, 16, 32), modules=(1, 1, 1), blocks=1, bottlenecks=1, bottleneck_width=4).eval()
    for H, W in ((64, 96), (32, 160)):
        assert net(torch.zeros(2, 3, H, W)).shape == (2, 3, H // 4, W // 4)
    for H, W in ((256, 200), (100, 192), (16, 32), (0, 32)):
        with pytest.raises(ValueError, match=f"{H} × {W}"):
            net(torch.zeros(1, 3, H, W))


def test_convolutions_start_with_a_deviation_of_0_001():
    for net in (HRNet(3, widths=(16, 32), modules=(1,)), LiteHRNet(3, modules=(1,), widths=(40, 80))):
        weights = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 1000]
        assert [w for w in weights if not 0.0009 < w.std() < 0.0011] == [] != weights
        assert not net.head.bias.any()
