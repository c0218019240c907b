"""Networks of every family have right gradients and can be exported; those of the catalogue can also learn (slow)."""

from __future__ import annotations

import pytest
import torch
from peer_tools import blank, slow
from torch import nn

from lgmpose.data import load_records
from lgmpose.data.batches import make_loader, to_input
from lgmpose.data.crops import CropDataset
from lgmpose.data.synthetic import make_synthetic
from lgmpose.inference.evaluate import evaluate
from lgmpose.peers import PEERS
from lgmpose.peers.cpn import CPN
from lgmpose.peers.ditehrnet import DenseContext, DiteHRNet
from lgmpose.peers.hourglass import StackedHourglass
from lgmpose.peers.hrnet import HRNet
from lgmpose.peers.litehrnet import LiteHRNet
from lgmpose.peers.rtmpose import RTMPose
from lgmpose.peers.tinypose import TinyPose
from lgmpose.peers.tokenpose import TokenPose
from lgmpose.pose.codecs import make_codec
from lgmpose.training.loop import heatmap_loss, simcc_loss
from lgmpose.zoo.catalogue import create_model

pytest.importorskip("torchvision")
pytest.importorskip("timm")

HW = (96, 64)
TOKENPOSE = {"tokenpose-b": 5e-4, "tokenpose-l-d6": 1e-3}  # their learning rates
LARGE = ("simplebaseline-r50", "hrnet-w32", "cpn-r50", "hourglass-8", "tokenpose-b", "tokenpose-l-d6")


# A shallow network of every family

SHALLOW = {
    "hrnet": lambda: HRNet(3, widths=(8, 16, 32, 64), modules=(1, 1, 1), blocks=1, bottlenecks=1, bottleneck_width=8),
    "litehrnet": lambda: LiteHRNet(3, modules=(1, 1), widths=(40, 80, 160)),
    "ditehrnet": lambda: DiteHRNet(3, modules=(1, 1), widths=(40, 80, 160)),
    "tinypose": lambda: TinyPose(3, modules=(1, 1), widths=(40, 80, 160)),
    "hourglass": lambda: StackedHourglass(3, stacks=2, channels=16),
    "tokenpose": lambda: TokenPose(num_keypoints=3, image_hw=HW, layers=(1, 2), width=24),
    "cpn": lambda: CPN(3),
    "deconv": lambda: create_model("shufflenetv2", num_keypoints=3, image_hw=HW),
    "mobilevit": lambda: create_model("mobilevit-xxs", num_keypoints=3, image_hw=HW),
    "rtmpose": lambda: RTMPose(3, HW, width=8, blocks=(1, 1, 1, 1)),
    "mobilenetv4": lambda: create_model("mobilenetv4-small", num_keypoints=3, image_hw=HW),
}


def test_every_family_has_a_shallow_network():
    assert set(SHALLOW) == {peer.module for peer in PEERS.values()}


def unused_parameters(net: nn.Module) -> set[str]:
    """Those that the original does not use either, or does not train."""
    unused = {"positions"} if isinstance(net, TokenPose) else set()  # TokenPose's fixed table
    for name, module in net.named_modules():
        if isinstance(module, DenseContext):  # the mask of Dite-HRNet's lowest branch
            unused |= {f"{name}.masks.{len(module.masks) - 1}.{kind}" for kind in ("weight", "bias")}
    return unused


def loss_of(net: nn.Module, images: torch.Tensor, heatmaps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    outputs = net(images)
    if heatmaps.ndim == 3:  # SimCC's targets
        return simcc_loss(outputs, heatmaps, weights, x_bins=2 * images.shape[-1])
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)  # Hourglass and CPN answer several times
    return sum(heatmap_loss(y, heatmaps, weights) for y in outputs)


def check_gradient(net: nn.Module, *batch: torch.Tensor) -> None:
    """One small step against the gradient lowers the loss as predicted; all used parameters have a gradient.

    Training in several processes waits for the gradient of every parameter that requires one.
    """
    before = loss_of(net, *batch)
    before.backward()
    gradients = {key: p.grad for key, p in net.named_parameters()}
    without = {key for key, gradient in gradients.items() if gradient is None}
    assert without == unused_parameters(net) == {key for key, p in net.named_parameters() if not p.requires_grad}
    square = sum(gradient.square().sum() for gradient in gradients.values() if gradient is not None)
    with torch.no_grad():
        for p in net.parameters():
            if p.grad is not None:
                p -= 1e-6 * before / square * p.grad
        after = loss_of(net, *batch)
    assert ((before - after) / before).item() == pytest.approx(1e-6, rel=0.05)


@pytest.mark.parametrize("family", slow(SHALLOW, ("hrnet", "litehrnet", "ditehrnet", "hourglass", "mobilevit")))
def test_the_gradient_is_the_slope_of_the_loss(family):
    torch.manual_seed(0)
    net = blank(SHALLOW[family], gain=2)
    net.training = True  # only the network itself, so that it returns all its outputs; no dropout
    of_joint = (2 * (96 + 64),) if family == "rtmpose" else (24, 16)
    check_gradient(net, torch.rand(2, 3, *HW).double(), torch.rand(2, 3, *of_joint).double(), torch.ones(2, 3))


@pytest.mark.long
@pytest.mark.parametrize("family", SHALLOW)
def test_an_exported_graph_gives_the_same_numbers(family):
    torch.manual_seed(0)
    net = blank(SHALLOW[family], gain=2).float()
    x = torch.rand(2, 3, *HW)
    with torch.no_grad():
        graph = torch.export.export(net, (torch.rand(2, 3, *HW),), strict=False).module()
        expected = net(x)
        assert not torch.allclose(expected[0], expected[1]), "a network that looks at nothing proves nothing"
        torch.testing.assert_close(graph(x), expected)


# The networks of the catalogue


@pytest.mark.long
@pytest.mark.parametrize("name", PEERS)
def test_every_network_exports_whole(name):
    """On the meta device, where nothing could branch on a number."""
    with torch.device("meta"):
        net = create_model(name, image_hw=HW).eval()
        exported = torch.export.export(net, (torch.empty(1, 3, *HW),), strict=False)
    (output,) = [node for node in exported.graph.nodes if node.op == "output"]
    assert output.args[0][0].meta["val"].shape == (1, 17, *codec_of(name).output_shape)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Eight synthetic persons."""
    folder = tmp_path_factory.mktemp("people")
    make_synthetic(folder, 20, seed=3, image_hw=(128, 160), progress=False)
    return load_records(f"synthetic:{folder}").subset(range(8))


def codec_of(name: str, image_hw: tuple[int, int] = HW):
    """The codec that a network learns here."""
    return make_codec("simcc" if name.startswith("rtmpose") else "dark", image_hw)


def batch_of(people, name: str, image_hw: tuple[int, int] = HW):
    """A network's codec and the people's one batch."""
    codec = codec_of(name, image_hw)
    batch = next(iter(make_loader(CropDataset(people, image_hw), codec, [list(range(8))], workers=0)))
    return codec, (to_input(batch["image"]), batch["heatmaps"], batch["weights"])


@pytest.mark.long
@pytest.mark.parametrize("name", PEERS)
def test_the_gradient_is_the_slope_of_the_loss_after_initialisation(name, people):
    torch.manual_seed(0)
    _, (images, heatmaps, weights) = batch_of(people, name)
    net = create_model(name, image_hw=HW, num_keypoints=heatmaps.shape[1]).train().double()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the second loss is of the same function
        if name == "hourglass-8" and isinstance(module, nn.BatchNorm2d):
            module.eval()  # its innermost map has one pixel here: two values to a norm, and gradients of 10³³
    check_gradient(net, images[:2].double(), heatmaps[:2], weights[:2])


@pytest.mark.long
@pytest.mark.parametrize("name", PEERS)
def test_overfits_eight_images(name, people):
    image_hw, rate, steps, fast = HW, 4e-3, 120, 70
    if name in LARGE or codec_of(name).name == "simcc":
        rate, steps = 1e-3, 200
    if name in TOKENPOSE:  # transformers learn slowly at first; they always have 256 tokens
        image_hw, rate, steps, fast = (64, 64), TOKENPOSE[name], 360, 300
    codec, batch = batch_of(people, name, image_hw)
    torch.manual_seed(0)
    net = create_model(name, image_hw=image_hw, num_keypoints=batch[1].shape[1]).train()
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 10) * (1 if step < fast else 0.3)
        loss = loss_of(net, *batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():  # BatchNorm's running averages lag behind the weights; let them settle before judging
        for _ in range(30):
            loss_of(net, *batch)
    result = evaluate(net, people, codec, flip_test=False, workers=0, progress=False)
    assert result.figures["PCK@0.2"] == 100
