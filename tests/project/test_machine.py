"""What the machine has: cores, devices, shared memory, the processor's name, and the C library's allocator."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from lgmpose.errors import UserError
from lgmpose.machine import choose_device, cpu_name, num_cores, workers_that_fit


def test_cores_are_those_of_the_containers_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    file = tmp_path / "cpu.max"
    monkeypatch.setattr("lgmpose.machine.CPU_QUOTA", file)
    assert num_cores() == 8
    for text, cores in (
        ("max 100000\n", 8), ("200000 100000\n", 2), ("150000 100000\n", 2), ("10000 100000\n", 1),
        ("9900000 100000\n", 8), ("", 8),
    ):  # fmt: skip
        file.write_text(text)
        assert num_cores() == cores, text


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    for name, value in (("is_available", True), ("current_accelerator", torch.device("cuda")), ("device_count", 2)):
        monkeypatch.setattr(torch.accelerator, name, lambda value=value: value)
    assert [str(choose_device(name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    with pytest.raises(UserError, match="cuda:9.*cuda:1"):
        choose_device("cuda:9")


@pytest.mark.parametrize("megabytes, fitting", [(1000, 4), (64, 2), (30, 1), (20, 0), (0, 0)])
def test_loader_processes_fit_in_the_free_shared_memory(tmp_path, monkeypatch, capsys, megabytes, fitting):
    """Docker gives 64 MB unless told otherwise."""
    monkeypatch.setattr("lgmpose.machine.SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=megabytes * 10**6))
    assert workers_that_fit(4, 25 * 10**6) == fitting
    err = capsys.readouterr().err
    assert ("--shm-size" in err and err.count("\n") == 1) if fitting < 4 else not err
    workers_that_fit(4, 25 * 10**6, notice=False)
    assert not capsys.readouterr().err


def test_shared_memory_without_a_limit_of_its_own_takes_all(tmp_path, monkeypatch):
    monkeypatch.setattr("lgmpose.machine.SHARED_MEMORY", tmp_path / "none")
    assert workers_that_fit(4, 10**15) == 4


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


@pytest.mark.slow
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
