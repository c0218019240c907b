"""Count the multiply–accumulates (MACs) of a network with PyTorch's ``FlopCounterMode``, and with fvcore to compare.

One MAC is one multiplication and the addition that follows it. Counted are convolutions, deconvolutions (at their
input's resolution), linear layers and the two products of an attention, for one picture. Norms, activations, sums and
resampling count nothing. Papers print "FLOPs" and mean MACs, or twice as many, or MACs / 2^30.

The network runs on the meta device, where tensors have shapes but no numbers, so that counting needs no memory.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["CONVENTION", "ForwardPass", "SecondOpinion", "ask_fvcore", "count_macs", "run_on_meta", "stand_in"]

CONVENTION = """\
MACs: multiply–accumulates of convolutions, deconvolutions (at input resolution), linear layers and attention
products, for one picture, and nothing else. We assume that the paper's FLOPs of LGM-Pose are these MACs."""

# Parts of the names of operators that multiply much. FlopCounterMode counts those that it does not know as 0.
HEAVY = ("attention", "conv", "dist", "dot", "fft", "gru", "linalg", "lstm", "mm", "mv", "rnn", "transformer")
NORMS = ("linalg_vector_norm",)  # named like them, but one multiplication per element, as in other norms


@dataclass(frozen=True)
class ForwardPass:
    """What a network did for one picture, in eval mode and with 32-bit floats.

    Attributes:
        macs: module name → operator → MACs. A module includes the modules in it, and ``""`` is the whole network.
        activations: how many elements its operators wrote to memory.
        peak_bytes: bytes of the tensors that were alive at once, at the worst moment. The input picture is included.
            Weights and the working memory of operators are not.
    """

    macs: dict[str, Counter[str]]
    activations: int
    peak_bytes: int


def count_macs(net: nn.Module, image_hw: tuple[int, int]) -> dict[str, Counter[str]]:
    """Return the MACs of one picture, by a copy of the network: module name → operator → MACs; ``""`` is the whole.

    Raises:
        NotImplementedError: an operator that multiplies and that ``FlopCounterMode`` does not know.
    """
    return run_on_meta(stand_in(net), image_hw).macs


def stand_in(net: nn.Module, device: str = "meta") -> nn.Module:
    """Return a copy in eval mode whose tensors are 32-bit zeros on another device. The weights are not copied."""
    memo: dict[int, Tensor] = {}
    for tensor in (*net.parameters(), *net.buffers()):
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        memo[id(tensor)] = torch.zeros_like(tensor, dtype=dtype, device=device)
    return copy.deepcopy(net, memo).eval()


def run_on_meta(net: nn.Module, image_hw: tuple[int, int]) -> ForwardPass:
    """Run a network that is on the meta device (see ``stand_in``), and return the counts of its operations.

    Raises:
        NotImplementedError: see ``count_macs``.
    """
    written = _Written()
    with torch.no_grad(), torch.device("meta"):  # where PyTorch has no fused attention, which would hide products
        image = torch.zeros(1, 3, *image_hw)
        written.hold(image)
        with FlopCounterMode(display=False) as counter, written:  # ``written`` sees operators before they decompose
            net(image)
    root = type(net).__name__
    macs: dict[str, Counter[str]] = {name: Counter() for name, _ in net.named_modules()}
    for name, by_operator in counter.get_flop_counts().items():
        if name != root:  # the same as "Global"
            name = "" if name == "Global" else name.removeprefix(f"{root}.")
            macs[name] = Counter({str(operator): flops // 2 for operator, flops in by_operator.items()})
    return ForwardPass(macs, written.elements, written.peak_bytes)


class _Written(TorchDispatchMode):
    """Count the numbers that operators write, and the largest number of bytes that were in use at one time."""

    def __init__(self):
        super().__init__()
        self.elements = self.peak_bytes = 0
        self.alive = WeakIdKeyDictionary()  # storage → bytes; PyTorch frees a storage with its last tensor

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        heavy = any(part in name for part in HEAVY) and name not in NORMS
        if func.overloadpacket not in flop_registry and heavy:
            raise NotImplementedError(f"MACs of {func}: FlopCounterMode does not know this operator")
        results = [t for t in (outputs if isinstance(outputs, (tuple, list)) else [outputs]) if isinstance(t, Tensor)]
        if results and _writes(func):
            self.elements += results[0].numel()  # not the others, which are indices and statistics
            self.hold(*(results[:1] if "batch_norm" in name else results))  # in eval mode its statistics are empty
        return outputs

    def hold(self, *tensors: Tensor) -> None:
        """Count the memory of tensors as long as they are alive."""
        for storage in (tensor.untyped_storage() for tensor in tensors):
            self.alive[storage] = storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, sum(self.alive.values()))


def _writes(func: torch._ops.OpOverload) -> bool:
    """Return whether an operator fills memory. A result that shares an argument's memory is a view, unless written."""
    if func.overloadpacket.__name__.startswith(("empty", "_unsafe_view")):
        return False
    alias = func._schema.returns[0].alias_info
    return alias is None or alias.is_write


@dataclass(frozen=True)
class SecondOpinion:
    """What fvcore counts, by its own rules.

    Attributes:
        macs: MACs of convolutions, linear layers and products.
        others: operator → operations that are no MACs by our convention, such as norms and resampling.
        unknown: operators that multiply and that fvcore does not count.
    """

    macs: int
    others: dict[str, int]
    unknown: tuple[str, ...]

    def as_text(self, ours: int) -> str:
        """Return a line or two to print beside our number of MACs."""
        difference = self.macs - ours
        text = "the same number" if not difference else f"{abs(difference):,} {'fewer' if difference < 0 else 'more'}"
        text = f"Second opinion: fvcore counts {text} for convolutions, linear layers and products."
        if self.unknown:
            text += f"\nIt does not count {', '.join(self.unknown)}."
        if self.others:
            others = ", ".join(f"{name} {count:,}" for name, count in self.others.items())
            text += f"\nIt also counts operations that are not MACs: {others}."
        return text


def ask_fvcore(net: nn.Module, image_hw: tuple[int, int]) -> SecondOpinion | None:
    """Return fvcore's counts of one picture; None where fvcore is not installed (``pip install lgmpose[profile]``)."""
    if importlib.util.find_spec("fvcore") is None:
        return None
    with warnings.catch_warnings(), torch.no_grad():
        # fvcore's last release, of 2022, uses TorchScript, which PyTorch has deprecated. Users cannot change that.
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(stand_in(net, "cpu"), torch.zeros(1, 3, *image_hw))
        counts = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
        skipped = analysis.unsupported_ops()
    products = {name for name in counts if name in ("conv", "linear", "matmul", "einsum", "bmm", "addmm")}
    return SecondOpinion(
        sum(int(counts[name]) for name in products),
        {name: int(count) for name, count in counts.items() if name not in products and count},
        tuple(sorted(name for name in skipped if any(part in name for part in HEAVY))),
    )
