"""What runs a network. To add a runtime, write a function that prepares it and add a line to ``BACKENDS``.

Everything else (the command's choices, the checks, the fresh process, rows, reports) follows from that line.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lgmpose.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["BACKENDS", "Backend", "find_backend", "fold_batchnorm"]


@dataclass(frozen=True)
class Backend:
    """One way to run a network.

    Attributes:
        name: as in ``--backends``.
        what: one line for the report.
        prepare: (network, example) → a function from pictures like the example, (B, 3, H, W) on the device, to heatmaps
            (B, K, h, w), a tensor or an array. It runs in the worker, within ``inference_mode``; network and example
            are its own, the network in eval mode. A runtime with threads of its own sets them to
            ``torch.get_num_threads()``.
        requires: modules it imports.
        extra: the package's extra that installs them.
        check: what else can be missing: None where nothing is, or one sentence.
    """

    name: str
    what: str
    prepare: Callable[[nn.Module, Tensor], Callable]
    requires: tuple[str, ...] = ()
    extra: str = ""
    check: Callable[[], str | None] | None = None

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        gone = [module for module in self.requires if importlib.util.find_spec(module) is None]
        if gone:
            return f"backend {self.name} needs {', '.join(gone)}: pip install 'lgmpose[{self.extra}]' installs it"
        reason = self.check() if self.check else None
        return reason and f"backend {self.name} cannot run here: {reason}"


def find_backend(name: str) -> Backend:
    """The backend of that name, usable here.

    Raises:
        UserError: an unknown name, or one for which something is not installed.
    """
    if name not in BACKENDS:
        near = difflib.get_close_matches(name, BACKENDS, n=1, cutoff=0.4)
        raise UserError(
            f"no backend {name!r}{f'; did you mean {near[0]}?' if near else ''} There are {', '.join(BACKENDS)}"
        )
    reason = BACKENDS[name].missing()
    if reason:
        raise UserError(reason)
    return BACKENDS[name]


# The backends


def _eager(net: nn.Module, example: Tensor) -> Callable:
    return net


def _eager_folded(net: nn.Module, example: Tensor) -> Callable:
    import torch

    net = fold_batchnorm(net, example)
    for parameter in net.parameters():
        if parameter.ndim == 4:  # convolutions; Dite-HRNet's dynamic kernels have five axes, which .to() refuses
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    # A crop comes from OpenCV as H × W × 3, which is channels_last already: then this costs nothing.
    return lambda images: net(images.contiguous(memory_format=torch.channels_last))


def _compile(net: nn.Module, example: Tensor) -> Callable:
    import torch

    # Networks of one family share their code, and each counts as a recompilation of it; beyond the default of 8 the
    # compiler would leave the rest to eager mode. With fullgraph that would be an error, and so is any other gap.
    torch._dynamo.config.recompile_limit = 256
    return torch.compile(net, dynamic=False, fullgraph=True)


def _no_compiler() -> str | None:
    compilers = [os.environ.get("CXX"), "g++", "clang++", "cl"]
    if any(name and shutil.which(name) for name in compilers):
        return None
    return "torch.compile writes C++ and found no compiler for it; install g++ or clang++, or name one in CXX"


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("eager", "PyTorch as it is", _eager),
        Backend("eager-folded", "PyTorch, channels_last, BatchNorm folded into the convolutions", _eager_folded),
        Backend("compile", "torch.compile with its defaults (Inductor)", _compile, check=_no_compiler),
    )
}


def fold_batchnorm(net: nn.Module, example: Tensor) -> nn.Module:
    """Multiplies every BatchNorm into the convolution or deconvolution before it; the network is changed and returned.

    Which convolution comes before a BatchNorm is seen by running the example: the norm's input is the very tensor that
    the convolution gave. A norm after anything else (a sum, a concatenation, a dynamic convolution) stays.

    Args:
        net: in eval mode.
        example: (B, 3, H, W); one picture of it is run.
    """
    import torch
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    calls = {module: 0 for module in net.modules()}
    before: dict[nn.Module, list] = {module: [] for module in net.modules() if isinstance(module, nn.BatchNorm2d)}

    def seen(module, inputs, output):
        calls[module] += 1
        if isinstance(module, convolutions):
            output.made_by = module
        elif module in before:
            before[module].append(getattr(inputs[0], "made_by", None))

    handles = [m.register_forward_hook(seen) for m in net.modules() if isinstance(m, convolutions) or m in before]
    with torch.inference_mode():
        net(example[:1])
    for handle in handles:
        handle.remove()

    folded = set()
    for norm, sources in before.items():
        conv = sources[0] if sources else None
        # Always this convolution, all that it ever gave, and no groups in a deconvolution, whose weights lie otherwise.
        if conv is None or set(sources) != {conv} or calls[conv] != len(sources):
            continue
        transposed = isinstance(conv, nn.ConvTranspose2d)
        if transposed and conv.groups > 1:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias, transposed
        )
        folded.add(norm)
    for parent in net.modules():
        for name, child in list(parent.named_children()):
            if child in folded:
                setattr(parent, name, nn.Identity())
    return net
