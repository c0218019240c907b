"""Multiply–accumulates (MACs) of a network, counted by two independent counters.

One MAC is one multiplication and the addition that follows it. Convolutions, deconvolutions (at their input's
resolution), linear layers and the two products of an attention are counted, for one picture, and nothing else: norms,
activations, sums and resampling have none. Papers print "FLOPs" and mean MACs, or twice as many, or MACs / 2^30.

fvcore records the operators that a network calls and knows for each what it costs. PyTorch's ``FlopCounterMode`` meets
them further down, on their way to the device's kernels, and counts 2 × MACs.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["CONVENTION", "count_macs", "default_counter"]

CONVENTION = (
    "MACs: multiply–accumulates of convolutions, deconvolutions (at input resolution), linear layers and attention\n"
    "products, for one picture, and nothing else. LGM-Pose's FLOPs in the paper are taken to be these (so its\n"
    "widths were found); FlopCounterMode counts 2 per MAC."
)


def default_counter() -> str:
    """``fvcore`` where it is installed, else ``FlopCounterMode``."""
    return "fvcore" if importlib.util.find_spec("fvcore") else "FlopCounterMode"


def count_macs(net: nn.Module, image_hw: tuple[int, int], *, counter: str | None = None) -> dict[str, Counter[str]]:
    """MACs of one picture by module and operator.

    The network itself is not run: a copy in eval mode on the CPU is, all of whose weights are zero.

    Args:
        net: takes (1, 3, H, W).
        image_hw: the input's height and width.
        counter: ``fvcore`` or ``FlopCounterMode``; None takes ``default_counter()``.

    Returns:
        module name → operator → MACs; a module's counts include those of the modules in it, and ``""`` is the whole.

    Raises:
        NotImplementedError: (fvcore only) an operator that is neither counted nor known to be light.
        ModuleNotFoundError: fvcore was asked for and is not installed.
    """
    count = {"fvcore": _count_with_fvcore, "FlopCounterMode": _count_with_flop_counter}[counter or default_counter()]
    with torch.no_grad(), visible_attention():
        return count(_shell(net), torch.zeros(1, 3, *image_hw))


def _shell(net: nn.Module) -> nn.Module:
    """A float copy on the CPU whose weights are zeros, wherever the original lives (on the meta device, too)."""
    memo = {id(p): nn.Parameter(torch.zeros_like(p, device="cpu"), requires_grad=False) for p in net.parameters()}
    memo |= {id(b): torch.zeros_like(b, device="cpu") for b in net.buffers()}
    return copy.deepcopy(net, memo).eval().float()


@contextmanager
def visible_attention() -> Iterator[None]:
    """Makes attention run as ordinary products.

    ``nn.MultiheadAttention``'s fast path and the fused attention kernels are single operators that hide their products
    from counters: some versions of both count them as 0.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _count_with_flop_counter(net: nn.Module, image: torch.Tensor) -> dict[str, Counter[str]]:
    with FlopCounterMode(display=False) as mode:
        net(image)
    root = type(net).__name__
    counts = {name: Counter() for name, _ in net.named_modules()}
    for name, by_operator in mode.get_flop_counts().items():
        if name == "Global":
            name = ""
        elif name.startswith(f"{root}."):
            name = name.removeprefix(f"{root}.")
        else:
            continue  # the root once more
        counts[name] = Counter({str(operator): flops // 2 for operator, flops in by_operator.items()})
    return counts


def _count_with_fvcore(net: nn.Module, image: torch.Tensor) -> dict[str, Counter[str]]:
    with warnings.catch_warnings():
        # fvcore's last release, of 2022, traces through TorchScript, which PyTorch has deprecated since; nothing that a
        # user could do about it, and should it stop working, FlopCounterMode is the other counter.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(net, image)
        # Not its own handlers: they also count norms and resampling, and miss fused attention.
        analysis.clear_op_handles().set_op_handle(**_HEAVY, **dict.fromkeys(_LIGHT))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)  # checked below; harmless
        counts = analysis.by_module_and_operator()
    unknown = sorted(analysis.unsupported_ops())
    if unknown:
        raise NotImplementedError(
            f"MACs of {', '.join(unknown)} in {type(net).__name__}: not known. Give it a count in macs._HEAVY, or "
            "enter it in macs._LIGHT if it multiplies nothing of size"
        )
    return {name: Counter({op: int(macs) for op, macs in by.items()}) for name, by in counts.items()}


# What follows maps TorchScript's operators to MACs, from the shapes of their inputs and outputs (torch._C.Value).


def _shape(value) -> list[int]:
    return value.type().sizes()


def _convolution(inputs, outputs) -> Counter[str]:
    transposed = inputs[6].toIValue()  # (input, weight, bias, stride, padding, dilation, transposed, …)
    # Every pixel that the kernel visits, an output's or (deconvolution) an input's, costs one row of the weights.
    return Counter(conv=prod(_shape(inputs[0] if transposed else outputs[0])) * prod(_shape(inputs[1])[1:]))


def _convolution_mode(inputs, outputs) -> Counter[str]:  # padding="same"
    return Counter(conv=prod(_shape(outputs[0])) * prod(_shape(inputs[1])[1:]))


def _linear(inputs, outputs) -> int:
    return prod(_shape(outputs[0])) * _shape(inputs[1])[1]


def _product(inputs, outputs) -> int:
    return prod(_shape(outputs[0])) * _shape(inputs[0])[-1]


def _added_product(inputs, outputs) -> int:  # the first input is what is added
    return _product(inputs[1:], outputs)


def _einsum(inputs, outputs) -> int:
    operands = [_shape(value) for value in inputs[1].node().inputs()]
    terms = inputs[0].toIValue().replace(" ", "").split("->")[0].split(",")
    if len(terms) > 2 or any("." in term for term in terms):
        raise NotImplementedError(f"MACs of einsum {inputs[0].toIValue()!r}: only two operands without an ellipsis")
    pairs = zip("".join(terms), sum(operands, []), strict=True)
    sizes = dict(pairs)  # a letter that both operands have counts once
    return prod(sizes.values()) if len(terms) == 2 else 0


def _attention(inputs, outputs) -> Counter[str]:
    query, key, value = map(_shape, inputs[:3])
    return Counter(attention=prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))  # Q Kᵀ, then weights V


_HEAVY = {
    "aten::_convolution": _convolution,
    "aten::_convolution_mode": _convolution_mode,
    "aten::linear": _linear,
    "aten::matmul": _product,
    "aten::mm": _product,
    "aten::bmm": _product,
    "aten::addmm": _added_product,
    "aten::baddbmm": _added_product,
    "aten::einsum": _einsum,
    "aten::scaled_dot_product_attention": _attention,
}

# A few operations per element: norms, activations, arithmetic, reductions, pooling, resampling, rearranging. fvcore
# knows most that only rearrange.
_LIGHT = tuple(
    f"aten::{name}"
    for name in (
        "batch_norm group_norm instance_norm layer_norm "
        "celu elu elu_ gelu hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ leaky_relu leaky_relu_ "
        "log_softmax prelu relu6 relu6_ sigmoid sigmoid_ silu silu_ softmax softplus tanh tanh_ "
        "abs add add_ div div_ exp log mul mul_ neg pow reciprocal rsqrt rsub sqrt square sub sub_ cos sin "
        "amax amin mean min norm prod std sum var argmax cumsum "
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d avg_pool1d avg_pool2d max_pool2d "
        "upsample_bicubic2d upsample_bilinear2d upsample_nearest2d "
        "clamp_max clamp_min erf maximum minimum grid_sampler im2col col2im mT mH numpy_T "
        "alias channel_shuffle clone dropout_ expand_as feature_dropout fill_ flip le lt linspace lift_fresh meshgrid "
        "movedim native_channel_shuffle ne new_ones numel ones_like pad permute_copy pixel_shuffle pixel_unshuffle "
        "repeat repeat_interleave reshape_as rot90 swapaxes tile transpose_ unflatten unfold view_as where zero_"
    ).split()
)
