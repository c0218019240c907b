"""What tests of several networks share: networks whose every weight and statistic matters, and random inputs."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def slow(names, quick) -> list:
    """Return parameters of a test; all but the quick ones are marked as slow."""
    return [
        name if name in quick else pytest.param(*([name] if isinstance(name, str) else name), marks=pytest.mark.slow)
        for name in names
    ]


def num_params(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def macs_on_meta(net: nn.Module, image_hw: tuple[int, int]) -> int:
    """Return the MACs of a network on the meta device, which returns heatmaps of a quarter of the input's size."""
    with torch.no_grad(), FlopCounterMode(display=False) as mode:
        y = net.eval()(torch.empty(1, 3, *image_hw, device="meta"))
    assert y.ndim == 4 and y.shape[-2:] == (image_hw[0] // 4, image_hw[1] // 4)
    return mode.get_total_flops() // 2


def randomise(net: nn.Module, gain: float = 1.0) -> nn.Module:
    """Random weights and running statistics that keep a deep network's numbers in range; eval mode, double."""
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith(("num_batches_tracked", "positions")):  # counters, and TokenPose's fixed table
                continue
            if tensor.ndim > 1:
                tensor.normal_(std=gain * tensor[0].numel() ** -0.5)
            elif name.endswith(("running_var", "weight")):
                tensor.uniform_(0.5, 1.5)
            else:
                tensor.normal_(std=0.3)
    return net.eval().double()


def blank(make, gain: float = 1.0) -> nn.Module:
    """Build a network without the time that its own initialisation takes, then ``randomise`` it."""
    with torch.device("meta"):
        net = make()
    net = net.to_empty(device="cpu")
    for name, tensor in net.state_dict().items():
        if name.endswith("positions"):  # TokenPose's table, which is lost, too
            tensor.uniform_(-1, 1)
    return randomise(net, gain)


def randomise_by_kind(net: nn.Module) -> nn.Module:
    """Convolutions that keep a signal alive, and statistics by which a missing or misplaced norm shows; eval mode."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return net.eval()


class Call(nn.Module):
    """A network that is one function, with the modules it uses."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)
