"""What the tests of several peers share: networks whose every weight and statistic matters, and random inputs."""

import torch
from torch import nn


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


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)
