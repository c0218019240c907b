"""The processor's name and the C library's allocator."""

from __future__ import annotations

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lgmpose.machine import cpu_name


def test_a_mac_says_which_processor_it_has(monkeypatch):
    """``platform.processor()`` says "arm" for all of Apple's."""
    monkeypatch.setattr(sys, "platform", "darwin")
    asked = []
    answer = SimpleNamespace(stdout="Apple M2\n")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: asked.append(command) or answer)
    assert cpu_name() == "Apple M2" and asked == [["sysctl", "-n", "machdep.cpu.brand_string"]]

    def missing(*_, **__):
        raise FileNotFoundError("sysctl")

    monkeypatch.setattr(subprocess, "run", missing)
    assert cpu_name() == (platform.processor() or platform.machine())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' allocators are left alone")
def test_freed_memory_is_kept_once_the_allocator_is_told_to():
    """By default each large tensor is made of fresh pages, each of which costs a fault."""
    code = """
import resource, sys, torch
from lgmpose.machine import tune_allocator
if sys.argv[1] == "tuned" and not tune_allocator():
    sys.exit("another C library")
for _ in range(20):  # until the heap is as large as it gets
    torch.ones(16 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {}
    for how in ("plain", "tuned"):
        done = subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True)
        if "another C library" in done.stderr:
            pytest.skip(done.stderr)
        faults[how] = int(done.stdout)
    assert faults["tuned"] < faults["plain"] / 5, faults
