"""One network, three counts: what papers mean by "FLOPs", side by side.

* ``true_macs``: multiply–accumulates of convolutions, deconvolutions (at their input's resolution), linear layers and
  attention products, as in ``lgmpose.lab.macs``. Papers divide by 10⁹, or by 2³⁰ and call that G, too.
* ``hrnet_tool``: the summary tool of the HRNet repository, which SimpleBaseline, HRNet, UDP, DARK and TokenPose quote.
  Every module with "Conv" in its class name costs its weight's elements × its *output's* height × width: a stride-2
  deconvolution counts four times. A linear layer costs its output's elements × ``input.size(1)``, which is right for
  (B, C) and is the number of tokens for (B, N, C). Products between activations cost nothing. It prints ÷ 2³⁰.
* ``torchstat``: the fork in the Lite-HRNet and Dite-HRNet repositories, which all small networks are quoted by. Modules
  only, each once however often it is called: convolutions and their biases, 2 per element of a BatchNorm, 1 of a ReLU,
  and pooling. It prints ÷ 2²⁰ ("M") or ÷ 2³⁰ ("G").

Besides, what tells more of a network's speed than MACs do:

* ``activations``: how many numbers it writes to memory.
* ``peak_bytes``: of the tensors alive at once in its forward pass, at the worst moment: one picture, eval mode, no
  gradients, 32-bit floats, as PyTorch's eager mode calls one operator after the other. The picture counts, the weights
  (``weight_bytes``: parameters and BatchNorm's statistics) do not, nor does a kernel's own work space.

The network runs on the meta device, on tensors that have shapes and no numbers: the largest takes about a second.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, prod

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lgmpose.lab.macs import visible_attention
from lgmpose.peers.ditehrnet import DynamicConv

__all__ = ["Conventions", "ModuleCounts", "count_by_conventions", "in_giga", "in_unit_of", "megabytes"]

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
    peak_bytes: int  # not a sum: see above
    weight_bytes: int
    modules: tuple[ModuleCounts, ...]  # those that cost anything

    def as_text(self) -> str:
        """A table to print, with a title."""
        H, W = self.image_hw
        return f"{self.network}, input {H} × {W}, {self.params:,} parameters\n\n{self.as_table()}"

    def as_table(self) -> str:
        """A line for each count, in the unit its tool prints."""
        rows = [
            ("true MACs", in_unit_of("true_macs", self), "multiply–accumulates, ÷ 10⁹ or 10⁶"),
            ("HRNet tool", in_unit_of("hrnet_tool", self), "÷ 2³⁰; deconvolutions at output resolution: ×4"),
            ("torchstat", _binary(self.torchstat), "÷ 2³⁰ or 2²⁰; with BatchNorm, ReLU, pooling; each module once"),
            ("activations", _decimal(self.activations), "numbers written to memory"),
            ("peak memory", megabytes(self.peak_bytes), "tensors alive at once for one picture, weights apart"),
            ("weights", megabytes(self.weight_bytes), "parameters and BatchNorm's statistics, 32-bit"),
        ]
        return "\n".join(f"{name:11}  {count:>10}  {note}" for name, count, note in rows)


# What the paper's FLOPs would be by a convention of ``lgmpose.lab.paper.CONVENTIONS``: the count, and its divisor.


def in_giga(convention: str, counts: Conventions) -> float:
    """The count as tables print it, in their "G"."""
    return {
        "true_macs": counts.true_macs / 1e9,
        "hrnet_tool": counts.hrnet_tool / GIBI,
        "torchstat": counts.torchstat / GIBI,
        "torchstat_mebi": counts.torchstat / MEBI / 1000,
    }[convention]


def in_unit_of(convention: str, counts: Conventions, *, digits: int = 3) -> str:
    """The count with the unit that it is divided by, such as ``8.991 Gi``; millions have one digit."""
    if convention == "true_macs":
        return _decimal(counts.true_macs)
    if convention == "torchstat_mebi":
        return f"{counts.torchstat / MEBI:.1f} Mi"
    return f"{in_giga(convention, counts):.{digits}f} Gi"


def count_by_conventions(
    net: nn.Module, image_hw: tuple[int, int] | None = None, *, name: str | None = None
) -> Conventions:
    """Counts one network by all conventions, in eval mode, on stand-ins for its tensors; it is left as it was.

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
    tensors = {name: _on_meta(t) for name, t in (*net.named_parameters(), *net.named_buffers())}
    recorder = _Recorder(tensors.values())
    with recorder.watching(net), _in_eval_mode(net), torch.no_grad(), visible_attention(), torch.device("meta"):
        image = torch.empty(1, 3, *image_hw)
        recorder.memory.add(image)
        with recorder:
            functional_call(net, tensors, (image,))

    rows = [
        ModuleCounts(name, type(module).__name__, recorder.calls[name], *(c[name] for c in recorder.counters))
        for name, module in net.named_modules()
    ]
    return Conventions(
        network=name or type(net).__name__,
        image_hw=tuple(image_hw),
        params=sum(p.numel() for p in net.parameters()),
        true_macs=recorder.macs.total(),
        hrnet_tool=recorder.hrnet_tool.total(),
        torchstat=recorder.torchstat.total(),
        activations=recorder.activations.total(),
        peak_bytes=recorder.memory.peak_bytes,
        weight_bytes=sum(tensor.nbytes for tensor in tensors.values()),
        modules=tuple(r for r in rows if r.true_macs or r.hrnet_tool or r.torchstat or r.activations),
    )


def _on_meta(tensor: Tensor) -> Tensor:
    """Its stand-in: the same shape, no numbers."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype, device="meta")


@contextmanager
def _in_eval_mode(net: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


class _LiveBytes:
    """Bytes of the storages that are alive, now and at the worst moment; those in ``apart`` do not count."""

    def __init__(self, apart: Iterable[Tensor]):
        self.peak_bytes = 0
        self._now = 0
        self._apart = {tensor.untyped_storage()._cdata for tensor in apart}
        self._seen = {}  # address of a storage → reference that tells when it is gone

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address in self._apart or address in self._seen:
            return  # a view
        self._seen[address] = weakref.ref(storage, lambda _: self._remove(address, size))
        self._now += size
        self.peak_bytes = max(self.peak_bytes, self._now)

    def _remove(self, address: int, size: int) -> None:
        del self._seen[address]
        self._now -= size


class _Recorder(TorchDispatchMode):
    """While it is active: the tools' counts at each module's end, and what each operator computes and writes."""

    def __init__(self, weights: Iterable[Tensor]):
        super().__init__()
        self.calls = Counter()  # this and the next by the module's name
        self.macs, self.hrnet_tool, self.torchstat, self.activations = Counter(), Counter(), Counter(), Counter()
        self.counters = (self.macs, self.hrnet_tool, self.torchstat, self.activations)
        self.memory = _LiveBytes(apart=weights)
        self._running = []  # names of the modules being run, the innermost last
        self._known = {}  # operator and shapes of its inputs → MACs, and shapes of its results

    @contextmanager
    def watching(self, net: nn.Module) -> Iterator[None]:
        """Takes note of which module runs; by hooks for all modules there are, since thousands of hooks take time."""
        self._names = {module: name for name, module in net.named_modules()}
        handles = (register_module_forward_pre_hook(self._enter), register_module_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, inputs: tuple) -> None:
        self._running.append(self._names.get(module, ""))  # one that the network hides counts for the whole

    def _leave(self, module: nn.Module, inputs: tuple, output: object) -> None:
        name = self._running.pop()
        self.calls[name] += 1
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            self.hrnet_tool[name] += _by_hrnet_tool(module, inputs[0], output)
            self.torchstat[name] = _by_torchstat(module, inputs[0], output)  # not +=: each module once

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        macs, outputs = self._run(func, args, kwargs or {})
        module = self._running[-1] if self._running else ""
        self.macs[module] += macs
        results = [t for t in (outputs if isinstance(outputs, (tuple, list)) else [outputs]) if isinstance(t, Tensor)]
        # Of activations the first result alone: those after it are indices and statistics, which tell little.
        if results and _writes(func):
            self.activations[module] += results[0].numel()
            # In eval mode BatchNorm's statistics are empty on the devices that compute something.
            for result in results[:1] if "batch_norm" in func.__name__ else results:
                self.memory.add(result)
        return outputs

    def _run(self, func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> tuple[int, object]:
        """MACs and results of an operator. Shapes met before are not worked out again: that takes PyTorch long."""
        key = (func, _signature(args), _signature(tuple(kwargs.items())))
        if key in self._known:
            macs, shapes = self._known[key]
            if shapes is None:
                return macs, args[0]
            results = [torch.empty_strided(*shape, dtype=dtype, device="meta") for *shape, dtype in shapes]
            return macs, results[0] if len(results) == 1 else tuple(results)
        outputs = func(*args, **kwargs)
        macs = 0
        if func.overloadpacket in flop_registry:  # what FlopCounterMode counts by, too; 2 per MAC
            macs = flop_registry[func.overloadpacket](*args, **kwargs, out_val=outputs) // 2
        if _writes(func):
            if args and outputs is args[0]:  # in place
                self._known[key] = macs, None
            elif isinstance(outputs, Tensor) or all(isinstance(t, Tensor) for t in outputs):
                tensors = [outputs] if isinstance(outputs, Tensor) else outputs
                self._known[key] = macs, [(t.shape, t.stride(), t.dtype) for t in tensors]
        return macs, outputs


def _signature(value: object) -> object:
    """What an operator's results depend on, of one argument."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, (list, tuple)):
        return tuple(map(_signature, value))
    return type(value), value


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


def megabytes(count: int) -> str:
    """``9.4 MB``, of 10⁶ bytes."""
    return f"{count / 1e6:.1f} MB"


def _decimal(count: int) -> str:
    return f"{count / 1e9:.3f} G" if count >= 1e9 else f"{count / 1e6:.1f} M"


def _binary(count: int) -> str:
    return f"{count / GIBI:.3f} Gi" if count >= GIBI else f"{count / MEBI:.1f} Mi"
