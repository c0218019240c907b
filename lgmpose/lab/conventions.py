"""Count one network by the three conventions that papers call "FLOPs", and the memory that it takes.

* ``true_macs``: multiply–accumulates of convolutions, deconvolutions (at their input's resolution), linear layers and
  attention products, see ``lgmpose.lab.macs``. Papers divide by 10⁹, or by 2³⁰ and call that G, too.
* ``hrnet_tool``: the summary tool of the HRNet repository, which SimpleBaseline, HRNet, UDP, DARK and TokenPose quote.
  A module with "Conv" in its class name costs its weight's elements × its *output's* height × width. So a stride-2
  deconvolution counts four times. A linear layer costs its output's elements × ``input.size(1)``, which is right for
  (B, C) and is the number of tokens for (B, N, C). Products of activations cost nothing. The tool prints ÷ 2³⁰.
* ``torchstat``: the fork in the Lite-HRNet and Dite-HRNet repositories, which papers quote for small networks. It sees
  modules only, each once however often it is called: convolutions and their biases, 2 per element of a BatchNorm, 1 of
  a ReLU, and pooling. It prints ÷ 2²⁰ ("M") or ÷ 2³⁰ ("G").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

import torch
from tabulate import tabulate
from torch import Tensor, nn

from lgmpose.lab.macs import run_on_meta, stand_in
from lgmpose.peers.ditehrnet import DynamicConv
from lgmpose.zoo.catalogue import create_model

__all__ = ["GIBI", "Conventions", "by_hrnet_tool", "by_torchstat", "count_by_conventions", "count_named", "in_giga",
           "in_unit_of", "input_hw", "megabytes"]  # fmt: skip

GIBI, MEBI = 2**30, 2**20


@dataclass(frozen=True)
class Conventions:
    """The counts of one network for one picture, undivided. Memory is in bytes, with 32-bit floats."""

    network: str
    image_hw: tuple[int, int]
    params: int  # frozen ones, too
    true_macs: int
    hrnet_tool: int
    torchstat: int
    activations: int  # elements that its operators write to memory
    peak_bytes: int  # of the tensors alive at once, without the weights
    weight_bytes: int  # parameters and BatchNorm's statistics

    def as_text(self) -> str:
        """Return a table to print, with a title."""
        H, W = self.image_hw
        return f"{self.network}, input {H} × {W}, {self.params:,} parameters\n\n{self.as_table()}"

    def as_table(self) -> str:
        """Return a line for each count, in the unit that its tool prints."""
        torchstat = "torchstat" if self.torchstat >= GIBI else "torchstat_mebi"
        rows = [
            ("true MACs", in_unit_of("true_macs", self), "multiply–accumulates, ÷ 10⁹ or 10⁶"),
            ("HRNet tool", in_unit_of("hrnet_tool", self), "÷ 2³⁰; deconvolutions at output resolution: ×4"),
            ("torchstat", in_unit_of(torchstat, self), "÷ 2³⁰ or 2²⁰; with BatchNorm, ReLU, pooling; each module once"),
            ("activations", f"{self.activations / 1e6:.1f} M", "elements written to memory"),
            ("peak memory", megabytes(self.peak_bytes), "tensors alive at once for one picture, without the weights"),
            ("weights", megabytes(self.weight_bytes), "parameters and BatchNorm's statistics, 32-bit"),
        ]
        return tabulate(rows, tablefmt="plain", colalign=("left", "right", "left"), disable_numparse=True)


def in_giga(convention: str, counts: Conventions) -> float:
    """Return the count in the "G" of papers, for a convention of ``lgmpose.lab.paper.CONVENTIONS``."""
    return {
        "true_macs": counts.true_macs / 1e9,
        "hrnet_tool": counts.hrnet_tool / GIBI,
        "torchstat": counts.torchstat / GIBI,
        "torchstat_mebi": counts.torchstat / MEBI / 1000,
    }[convention]


def in_unit_of(convention: str, counts: Conventions, *, digits: int = 3) -> str:
    """Return the count with the unit that it is divided by, such as ``8.991 Gi``; millions have one digit."""
    if convention == "torchstat_mebi":
        return f"{counts.torchstat / MEBI:.1f} Mi"
    if convention != "true_macs":
        return f"{in_giga(convention, counts):.{digits}f} Gi"
    macs = counts.true_macs
    return f"{macs / 1e9:.{digits}f} G" if macs >= 1e9 else f"{macs / 1e6:.1f} M"


def megabytes(count: int) -> str:
    """Return ``9.4 MB`` for a number of bytes, of 10⁶ bytes each."""
    return f"{count / 1e6:.1f} MB"


def input_hw(net: nn.Module, image_hw: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return ``image_hw``, or ``net.config.image_hw`` where it is None.

    Raises:
        ValueError: neither is given.
    """
    image_hw = image_hw or getattr(getattr(net, "config", None), "image_hw", None)
    if image_hw is None:
        raise ValueError(f"{type(net).__name__} does not say its input size: give image_hw=(height, width)")
    return tuple(image_hw)


def count_by_conventions(
    net: nn.Module, image_hw: tuple[int, int] | None = None, *, name: str | None = None
) -> Conventions:
    """Count one network by all conventions. A copy is run in eval mode on the meta device; the network is not changed.

    Args:
        net: takes (1, 3, H, W), on any device.
        image_hw: height and width of the input; by default ``net.config.image_hw``.
        name: what to call it; by default its class.

    Raises:
        ValueError: ``image_hw`` is missing, or one that the network refuses.
        NotImplementedError: see ``lgmpose.lab.macs.count_macs``.
    """
    image_hw = input_hw(net, image_hw)
    copy = stand_in(net)
    hrnet_tool, torchstat = [], {}

    def count(module: nn.Module, inputs: tuple, output: object) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            hrnet_tool.append(by_hrnet_tool(module, inputs[0], output))
            torchstat[module] = by_torchstat(module, inputs[0], output)  # of several calls, the last one stays

    for module in copy.modules():
        module.register_forward_hook(count)
    done = run_on_meta(copy, image_hw)
    return Conventions(
        network=name or type(net).__name__,
        image_hw=image_hw,
        params=sum(p.numel() for p in net.parameters()),
        true_macs=done.macs[""].total(),
        hrnet_tool=sum(hrnet_tool),
        torchstat=sum(torchstat.values()),
        activations=done.activations,
        peak_bytes=done.peak_bytes,
        weight_bytes=sum(tensor.nbytes for tensor in (*copy.parameters(), *copy.buffers())),
    )


@lru_cache
def count_named(name: str, image_hw: tuple[int, int], num_keypoints: int, **changes: str) -> Conventions:
    """Return the counts of a network of the catalogue. Its weights are never made.

    Raises:
        UserError: see ``create_model``.
    """
    with torch.device("meta"):
        net = create_model(name, image_hw=image_hw, num_keypoints=num_keypoints, **changes)
    return count_by_conventions(net, image_hw, name=name)


def by_hrnet_tool(module: nn.Module, x: Tensor, y: Tensor) -> int:
    """Return what the HRNet repository's tool counts for one call of a module, from x to y."""
    if isinstance(module, nn.Linear):
        return y.numel() * x.shape[1]
    weight = getattr(module, "weight", None)
    if "Conv" in type(module).__name__ and isinstance(weight, Tensor):
        return weight.numel() * prod(y.shape[2:])
    return 0


def by_torchstat(module: nn.Module, x: Tensor, y: Tensor) -> int:
    """Return what torchstat counts for a module, from x to y, (1, C, H, W).

    Activations and norms that are not listed below count nothing, and neither do functions that are not modules.
    """
    match module:
        case nn.Linear():
            return y.numel() * module.in_features
        case nn.Conv2d() | nn.ConvTranspose2d():
            pixels = x.shape[2:] if isinstance(module, nn.ConvTranspose2d) else y.shape[2:]
            return module.weight.numel() * prod(pixels) + (y.numel() if module.bias is not None else 0)
        case DynamicConv():  # Dite-HRNet's fork counts it as a convolution with one kernel
            return prod(module.kernels.shape[1:]) * prod(y.shape[2:])
        case nn.BatchNorm2d():
            return 2 * x.numel()
        case nn.ReLU() | nn.ReLU6() | nn.PReLU() | nn.ELU() | nn.LeakyReLU():
            return x.numel()
        case nn.AvgPool2d() | nn.MaxPool2d():
            size = module.kernel_size
            return y.numel() * (size**2 if isinstance(size, int) else prod(size))
        case nn.AdaptiveAvgPool2d() | nn.AdaptiveMaxPool2d():
            rows, columns = (_window_sum(x.shape[axis], y.shape[axis]) for axis in (2, 3))
            return x.shape[1] * rows * columns
        case nn.Upsample():
            return prod(y.shape[2:])  # torchstat forgets the channels
    return 0


def _window_sum(from_size: int, to_size: int) -> int:
    """Return the sum of (window + 1) over the windows that adaptive pooling cuts one axis into."""
    return sum(ceil((i + 1) * from_size / to_size) - i * from_size // to_size + 1 for i in range(to_size))
