"""The machine's limit, measured in the same rounds as the networks, as a yardstick for them.

A network's arithmetic is held against a matrix product with as many multiply–accumulates on the same threads in the
same precision; what must cross the memory bus at least once (weights, picture, heatmaps) against copying as many bytes.
The larger of the two is the network's floor. It is PyTorch's matrix product, not a law: a runtime with a better one, or
with convolutions that need fewer multiplications (Winograd), may pass it, in fp32 by half and more. Feature maps are
left out of it: how many of them leave the caches is the program's doing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

__all__ = ["BYTES", "COPIED_BYTES", "PRODUCT_MACS", "Probes", "floor_ms", "machine_rates"]

BYTES = {"fp32": 4, "bf16": 2, "int8": 1}  # of one number, by a backend's precision
SIDE = 1024  # of the square matrices
PRODUCT_MACS = SIDE**3
COPIED_BYTES = 64 * 2**20  # more than caches hold
PAUSE_S = 0.01  # before a probe: a runtime's threads that still spin for new work would take a core from it


class Probes:
    """A matrix product and a copy, ready to be timed; they run in PyTorch on the worker's threads."""

    def __init__(self, precision: str, device: Any):
        import torch

        self.device = device
        if precision == "int8":
            a = torch.randint(-100, 100, (SIDE, SIDE), dtype=torch.int8, device=device)
            self.product = lambda: torch._int_mm(a, a)
        else:
            a = torch.rand(SIDE, SIDE, device=device)
            a = a.bfloat16() if precision == "bf16" else a
            self.product = lambda: a @ a
        source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
        target = torch.zeros_like(source)
        self.copy = lambda: target.copy_(source)

    def measure(self, synchronize) -> list[float]:
        """Milliseconds of [product, copy], now."""
        time.sleep(PAUSE_S)
        times = []
        for call in (self.product, self.copy):
            synchronize()
            start = time.perf_counter()
            call()
            synchronize()
            times.append(round(1e3 * (time.perf_counter() - start), 4))
        return times


def floor_ms(probe_ms: Sequence[float], *, macs: int, moved: int, precision: str) -> float:
    """The floor of a network, by one round's probes.

    Args:
        probe_ms: of ``Probes.measure``.
        macs: multiply–accumulates of the whole batch.
        moved: numbers that must cross the memory bus: weights, inputs and outputs.
        precision: of the backend: a key of ``BYTES``.
    """
    product, copy = probe_ms
    return max(product * macs / PRODUCT_MACS, copy * moved * BYTES[precision] / COPIED_BYTES)


def machine_rates(probes_ms: Sequence[Sequence[float]]) -> dict[str, float]:
    """Medians over rounds, as people quote them: operations (2 per MAC) and copied bytes, 10⁹ per second."""
    product, copy = (median(values) for values in zip(*probes_ms, strict=True))
    return {
        "gemm_gops": round(2 * PRODUCT_MACS / product / 1e6, 1),
        "copy_gbs": round(COPIED_BYTES / copy / 1e6, 1),
    }
