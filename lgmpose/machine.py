"""The machine: cores, memory, devices, names, and the C library's allocator."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import math
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from lgmpose import __version__
from lgmpose.errors import UserError

__all__ = [
    "MachineHeader", "choose_device", "commit", "cpu_name", "machine_header", "num_cores", "tune_allocator",
    "workers_that_fit",
]  # fmt: skip

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of Linux's control groups, version 2: "200000 100000" or "max 100000"
SHARED_MEMORY = Path("/dev/shm")  # Linux; 64 MB in a Docker container unless --shm-size says otherwise
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def tune_allocator() -> bool:
    """Make glibc keep freed memory; return True if that was possible (Linux with glibc).

    By default, glibc requests the memory of every large tensor from the kernel and returns it at once. So every
    training step maps gigabytes of new pages, which takes about half of a step's time on a CPU. Call this function
    before the first large tensor is created. The process keeps all memory that it once used.
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
    """Return a torch.device; ``auto`` is the accelerator that PyTorch finds (CUDA, MPS, XPU), else the CPU.

    Raises:
        UserError: unknown device, or one that is not available.
    """
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; use auto, cpu, cuda, mps or xpu") from None
    if device.type != "cpu" and (found is None or found.type != device.type):
        raise UserError(f"device {name!r} is not available here; auto would take {found or 'cpu'}")
    if device.type != "cpu" and (device.index or 0) >= (count := torch.accelerator.device_count()):
        raise UserError(f"device {name!r} is not available here; the last one is {device.type}:{count - 1}")
    return device


def num_cores() -> int:
    """Return the number of cores this process may use; a container or a batch job may have fewer than the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no quota, or "max"
        quota, period = map(int, CPU_QUOTA.read_text().split())
        cores = max(1, min(cores, math.ceil(quota / period)))
    return cores


def workers_that_fit(workers: int, bytes_each: int, notice: bool = True) -> int:
    """Return the number of loader processes whose batches fit in the free shared memory (Linux).

    With too little of it, a loader process would fail and training would wait for its batch for ever. ``notice``
    prints one line if fewer fit than are wanted.
    """
    if not SHARED_MEMORY.is_dir():
        return workers
    free = shutil.disk_usage(SHARED_MEMORY).free
    fitting = min(workers, free // bytes_each)
    if fitting < workers and notice:
        print(f"{SHARED_MEMORY}: {free / 1e6:.0f} MB free, enough for {fitting} of {workers} loader processes; more "
              "shared memory (docker run --shm-size 2g) makes loading faster", file=sys.stderr)  # fmt: skip
    return fitting


def cpu_name() -> str:
    """Return the processor's name, or its architecture if the system does not tell the name."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]  # "Apple M2"; Python says only "arm"
            return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        if sys.platform == "win32":
            import winreg

            path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
                return winreg.QueryValueEx(key, "ProcessorNameString")[0].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str | None:
    """Return the source's commit, with "+" if the package differs from it; None for an installed package."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # otherwise git would find the repository that contains the environment
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        found = git("rev-parse", "--short=10", "HEAD")
        return found + ("+" if git("status", "--porcelain", "--", "lgmpose") else "") or None
    except (OSError, subprocess.TimeoutExpired):
        return None


class MachineHeader(msgspec.Struct):
    """What ``machine_header`` returns, as result files keep it."""

    date: str
    lgmpose: str
    commit: str | None
    cpu: str
    cores: int
    system: str
    python: str


def machine_header() -> dict[str, str | int | None]:
    """Return when, on which machine and with which source something is measured."""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"), "lgmpose": __version__,
        "commit": commit(), "cpu": cpu_name(), "cores": num_cores(),
        "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
    }  # fmt: skip
