"""PP-TinyPose: published costs, the doubled fusion, and the trained network as its authors' runtime computes it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peer_tools import blank, randomise_by_kind
from torch import nn

from lgmpose.network.fast import fold_batchnorm
from lgmpose.peers.multibranch import Fusion, HalfBlock, separable_step
from lgmpose.peers.tinypose import pp_tinypose
from lgmpose.zoo.catalogue import create_model


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("num_keypoints, parameters", [(17, 1_318_625), (16, 1_318_584)])
def test_parameters_are_the_published_ones(num_keypoints, parameters):
    net = blank(lambda: pp_tinypose(num_keypoints, (256, 192)))
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize("image_hw, macs", [((256, 192), 302_331_648), ((128, 96), 75_582_912)])
def test_macs_are_the_published_ones(image_hw, macs):
    counted = []
    with torch.device("meta"):
        net = create_model("pp-tinypose", image_hw=image_hw).eval()
        for layer in convolutions(net):
            layer.register_forward_hook(lambda layer, _, y: counted.append(y.numel() * layer.weight[0].numel()))
        net(torch.empty(1, 3, *image_hw))
    assert len(counted) == 269 and sum(counted) == macs


def test_the_doubled_fusion_computes_what_lite_hrnets_does():
    torch.manual_seed(0)
    branches = [torch.randn(2, 4, 16, 24), torch.randn(2, 8, 8, 12), torch.randn(2, 16, 4, 6)]
    net = randomise_by_kind(Fusion((4, 8, 16), step=separable_step, quirk="tiny"))
    ours = net(branches)
    net.quirk = "lite"
    for y, theirs in zip(ours, net(branches), strict=True):
        torch.testing.assert_close(y, theirs)


def ncnn_weights(param: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (weights, bias) of every convolution of an ncnn file in its order. Weights are fp16 behind a mark."""
    data, at, found = param.with_suffix(".bin").read_bytes(), 0, []
    for line in param.read_text().splitlines():
        kind, *rest = line.split() or [""]
        if kind not in ("Convolution", "ConvolutionDepthWise"):
            continue
        values = dict(item.split("=") for item in rest if "=" in item)
        channels, size = int(values["0"]), int(values["6"])
        assert data[at : at + 4] == bytes.fromhex("476b3001")
        weights = np.frombuffer(data, np.float16, size, at + 4)
        at += 4 + -(-size * 2 // 4) * 4  # padded to whole words
        found.append((weights, np.frombuffer(data, np.float32, channels, at)))
        at += 4 * channels
    assert at == len(data)
    return found


def in_their_order(net: nn.Module, x: torch.Tensor) -> list[nn.Conv2d]:
    """Return the convolutions as executed, but with both units of a branch before those of the next branch."""
    order: list[nn.Conv2d] = []
    hooks = [layer.register_forward_hook(lambda layer, *_: order.append(layer)) for layer in convolutions(net)]
    net(x)
    for hook in hooks:
        hook.remove()
    for block in net.modules():
        if isinstance(block, nn.Sequential) and len(block) == 2 and isinstance(block[0], HalfBlock):
            first, second = block[0].layers[0], block[1].layers[0]
            start = order.index(convolutions(first)[0])
            units = [unit for pair in zip(first, second, strict=True) for unit in pair]
            theirs = [layer for unit in units for layer in convolutions(unit)]
            order[start : start + len(theirs)] = theirs
    return order


@pytest.mark.slow
@torch.no_grad()
def test_the_trained_network_computes_what_ncnn_does(shared_data):
    ncnn = pytest.importorskip("ncnn")
    param = shared_data / "models" / "tinypose_256x192.param"
    if not param.is_file():
        pytest.skip("no PP-TinyPose file beside the checkout")
    x = torch.rand(1, 3, 256, 192, generator=torch.Generator().manual_seed(0)) * 4 - 2
    net = fold_batchnorm(create_model("pp-tinypose").eval())
    for layer, (weights, bias) in zip(in_their_order(net, x), ncnn_weights(param), strict=True):
        layer.weight.copy_(torch.tensor(weights).view_as(layer.weight))
        layer.bias.copy_(torch.tensor(bias))
    theirs = ncnn.Net()
    theirs.opt.use_fp16_packed = theirs.opt.use_fp16_storage = theirs.opt.use_fp16_arithmetic = False
    theirs.load_param(str(param))
    theirs.load_model(str(param.with_suffix(".bin")))
    with theirs.create_extractor() as extractor:
        extractor.input("image", ncnn.Mat(x[0].numpy()).clone())
        expected = np.array(extractor.extract("save_infer_model/scale_0.tmp_1")[1])
    torch.testing.assert_close(net(x)[0], torch.tensor(expected), rtol=1e-4, atol=1e-5)
