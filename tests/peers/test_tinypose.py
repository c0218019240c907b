"""PP-TinyPose: published costs, the doubled fusion, and the trained network as its authors' runtime computes it."""

import numpy as np
import pytest
import torch
from peer_tools import blank, randomise_by_kind
from torch import nn

from lgmpose.peers.multibranch import Fusion, separable_step
from lgmpose.peers.tinypose import read_ncnn
from lgmpose.zoo.catalogue import create_model


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("num_keypoints, parameters", [(17, 1_318_625), (16, 1_318_584)])
def test_parameters_are_the_published_ones(num_keypoints, parameters):
    net = blank(lambda: create_model("pp-tinypose", num_keypoints=num_keypoints))
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


@pytest.mark.slow
@torch.no_grad()
def test_the_trained_network_computes_what_ncnn_does(shared_data):
    ncnn = pytest.importorskip("ncnn")
    param = shared_data / "models" / "tinypose_256x192.param"
    if not param.is_file():
        pytest.skip("no PP-TinyPose file beside the checkout")
    x = torch.rand(1, 3, 256, 192, generator=torch.Generator().manual_seed(0)) * 4 - 2
    net = read_ncnn(param)
    theirs = ncnn.Net()
    theirs.opt.use_fp16_packed = theirs.opt.use_fp16_storage = theirs.opt.use_fp16_arithmetic = False
    theirs.load_param(str(param))
    theirs.load_model(str(param.with_suffix(".bin")))
    with theirs.create_extractor() as extractor:
        extractor.input("image", ncnn.Mat(x[0].numpy()).clone())
        expected = np.array(extractor.extract("save_infer_model/scale_0.tmp_1")[1])
    torch.testing.assert_close(net(x)[0], torch.tensor(expected), rtol=1e-4, atol=1e-5)
