"""Process-wide settings, made once at start: the C library's allocator, threads, the device."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["choose_device", "tune_allocator"]

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def tune_allocator() -> bool:
    """Tells glibc to keep freed memory; True where that was possible (Linux with glibc).

    By default glibc asks the kernel anew for every large tensor and gives it back at once, so every training step
    faults in gigabytes of fresh pages: that costs about half of the time of a step on a CPU. Call it before the first
    large tensor is made. Memory once used stays with the process.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library (Alpine's musl)
        return False
    return all(mallopt(option, value) == 1 for option, value in (
        (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20),
    ))  # fmt: skip


def choose_device(name: str = "auto"):
    """``auto`` takes the accelerator PyTorch finds (CUDA, MPS, XPU), else the CPU; returns a torch.device."""
    import torch

    if name != "auto":
        return torch.device(name)
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")
