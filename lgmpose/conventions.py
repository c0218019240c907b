"""One network, three counts: what papers mean by "FLOPs", side by side.

* ``true_macs``: multiply–accumulates of convolutions, deconvolutions (at their input's resolution), linear layers and
  attention products, as in ``lgmpose.macs``. Papers divide by 10⁹, or by 2³⁰ and call that G, too.
* ``hrnet_tool``: the summary tool of the HRNet repository, which SimpleBaseline, HRNet, UDP, DARK and TokenPose quote.
  Every module with "Conv" in its class name costs its weight's elements × its *output's* height × width: a stride-2
  deconvolution counts four times. A linear layer costs its output's elements × ``input.size(1)``, which is right for
  (B, C) and is the number of tokens for (B, N, C). Products between activations cost nothing. It prints ÷ 2³⁰.
* ``torchstat``: the fork in the Lite-HRNet and Dite-HRNet repositories, which all small networks are quoted by. Modules
  only, each once however often it is called: convolutions and their biases, 2 per element of a BatchNorm, 1 of a ReLU,
  and pooling. It prints ÷ 2²⁰ ("M") or ÷ 2³⁰ ("G").

Besides, ``activations``: how many numbers the network writes to memory, which tells more of its speed than MACs do.

A copy on the meta device is run, which has shapes but no numbers: the largest network takes a second or two.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from math import ceil, prod

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lgmpose.macs import visible_attention
from lgmpose.peers.ditehrnet import DynamicConv

__all__ = ["Conventions", "ModuleCounts", "count_by_conventions"]

GIBI, MEBI = 2**30, 2**20


@dataclass(frozen=True)
class ModuleCounts:
    """What one module costs by itself, without the modules in it."""

    name: str
    kind: str  # its class
    calls: int
    true_macs: int
    hrnet_tool: int
    torchstat: int
    activations: int


@dataclass(frozen=True)
class Conventions:
    """The counts of one network for one picture, undivided: the sums over ``modules``."""

    network: str
    image_hw: tuple[int, int]
    params: int  # frozen ones, too
    true_macs: int
    hrnet_tool: int
    torchstat: int
    activations: int
    modules: tuple[ModuleCounts, ...]  # those that cost anything

    def as_text(self) -> str:
        """A table to print, each count in the unit its tool prints."""
        H, W = self.image_hw
        rows = [
            ("true MACs", _decimal(self.true_macs), "multiply–accumulates, ÷ 10⁹ or 10⁶"),
            ("HRNet tool", f"{self.hrnet_tool / GIBI:.3f} Gi", "÷ 2³⁰; deconvolutions at output resolution: ×4"),
            ("torchstat", _binary(self.torchstat), "÷ 2³⁰ or 2²⁰; with BatchNorm, ReLU, pooling; each module once"),
            ("activations", _decimal(self.activations), "numbers written to memory"),
        ]
        lines = [f"{self.network}, input {H} × {W}, {self.params:,} parameters", ""]
        return "\n".join(lines + [f"{name:11}  {count:>10}  {note}" for name, count, note in rows])


def count_by_conventions(
    net: nn.Module, image_hw: tuple[int, int] | None = None, *, name: str | None = None
) -> Conventions:
    """Counts one network by all conventions, in eval mode; the network itself is neither run nor changed.

    Args:
        net: takes (1, 3, H, W), on any device.
        image_hw: the input's height and width; by default ``net.config.image_hw``.
        name: what to call it; by default its class.

    Raises:
        ValueError: ``image_hw`` is missing, or one that the network refuses.
    """
    if image_hw is None:
        image_hw = getattr(getattr(net, "config", None), "image_hw", None)
    if image_hw is None:
        raise ValueError(f"{type(net).__name__} does not say its input size: give image_hw=(height, width)")
    shell = _on_meta(net)
    recorder = _Recorder(shell)
    image = torch.empty(1, 3, *image_hw, device="meta")
    with torch.no_grad(), visible_attention(), torch.device("meta"), recorder:
        shell(image)

    kinds = {name: type(module).__name__ for name, module in shell.named_modules()}
    rows = [
        ModuleCounts(name, kind, recorder.calls[name], *(counter[name] for counter in recorder.counters))
        for name, kind in kinds.items()
    ]
    return Conventions(
        network=name or type(net).__name__,
        image_hw=tuple(image_hw),
        params=sum(p.numel() for p in net.parameters()),
        true_macs=recorder.macs.total(),
        hrnet_tool=recorder.hrnet_tool.total(),
        torchstat=recorder.torchstat.total(),
        activations=recorder.activations.total(),
        modules=tuple(r for r in rows if r.true_macs or r.hrnet_tool or r.torchstat or r.activations),
    )


def _on_meta(net: nn.Module) -> nn.Module:
    """A copy in eval mode whose tensors have shapes and no numbers."""
    memo = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False) for p in net.parameters()}
    memo |= {id(b): torch.empty_like(b, device="meta") for b in net.buffers()}
    return copy.deepcopy(net, memo).eval()


class _Recorder(TorchDispatchMode):
    """While it is active: the tools' counts at each module's end, and what each operator computes and writes."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.calls = Counter()  # this and the next by the module's name
        self.macs, self.hrnet_tool, self.torchstat, self.activations = Counter(), Counter(), Counter(), Counter()
        self.counters = (self.macs, self.hrnet_tool, self.torchstat, self.activations)
        self._running = []  # names of the modules being run, the innermost last
        for name, module in net.named_modules():
            module.register_forward_pre_hook(self._enter(name))
            module.register_forward_hook(self._leave(name))

    def _enter(self, name: str):
        return lambda module, inputs: self._running.append(name)

    def _leave(self, name: str):
        def hook(module, inputs, output):
            self._running.pop()
            self.calls[name] += 1
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                self.hrnet_tool[name] += _by_hrnet_tool(module, inputs[0], output)
                self.torchstat[name] = _by_torchstat(module, inputs[0], output)  # not +=: each module once

        return hook

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        module = self._running[-1]
        if func.overloadpacket in flop_registry:  # what FlopCounterMode counts by, too; 2 per MAC
            self.macs[module] += flop_registry[func.overloadpacket](*args, **kwargs, out_val=outputs) // 2
        # The first result alone: those after it are indices and statistics, which tell little and differ by device.
        result = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        if isinstance(result, Tensor) and _writes(func):
            self.activations[module] += result.numel()
        return outputs


def _writes(func: torch._ops.OpOverload) -> bool:
    """Whether an operator fills memory: a result that shares it with an argument is a view, unless written in place."""
    if func.overloadpacket.__name__.startswith(("empty", "_unsafe_view")):
        return False
    alias = func._schema.returns[0].alias_info
    return alias is None or alias.is_write


def _by_hrnet_tool(module: nn.Module, x: Tensor, y: Tensor) -> int:
    if isinstance(module, nn.Linear):
        return y.numel() * x.shape[1]
    if "Conv" in type(module).__name__ and isinstance(getattr(module, "weight", None), Tensor):
        return module.weight.numel() * prod(y.shape[2:])
    return 0


def _by_torchstat(module: nn.Module, x: Tensor, y: Tensor) -> int:
    """For one picture. Sigmoids, other norms and activations, and all that is no module cost nothing."""
    if isinstance(module, nn.Linear):
        return y.numel() * module.in_features
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        pixels = x.shape[2:] if isinstance(module, nn.ConvTranspose2d) else y.shape[2:]
        return module.weight.numel() * prod(pixels) + (y.numel() if module.bias is not None else 0)
    if isinstance(module, DynamicConv):  # which Dite-HRNet's fork was taught: as a convolution with one kernel
        return module.kernels[0].numel() * prod(y.shape[2:])
    if isinstance(module, nn.BatchNorm2d):
        return 2 * x.numel()
    if isinstance(module, (nn.ReLU, nn.ReLU6, nn.PReLU, nn.ELU, nn.LeakyReLU)):
        return x.numel()
    if isinstance(module, (nn.AvgPool2d, nn.MaxPool2d)):
        return y.numel() * prod(_pair(module.kernel_size))
    if isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
        rows, columns = (_window_sum(x.shape[axis], y.shape[axis]) for axis in (2, 3))
        return x.shape[1] * rows * columns
    if isinstance(module, nn.Upsample):
        return prod(y.shape[2:])  # the channels are forgotten
    return 0


def _window_sum(from_size: int, to_size: int) -> int:
    """Sum of (window + 1) over the windows that adaptive pooling cuts one axis into."""
    return sum(ceil((i + 1) * from_size / to_size) - i * from_size // to_size + 1 for i in range(to_size))


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _decimal(count: int) -> str:
    return f"{count / 1e9:.3f} G" if count >= 1e9 else f"{count / 1e6:.1f} M"


def _binary(count: int) -> str:
    return f"{count / GIBI:.3f} Gi" if count >= GIBI else f"{count / MEBI:.1f} Mi"
