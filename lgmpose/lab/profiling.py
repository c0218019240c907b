"""What one network costs: parameters and multiply–accumulates per stage, memory, and frames per second.

``lgmpose.lab.cost_tables`` sets many networks side by side.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import asdict, dataclass

import torch
from torch import nn

from lgmpose.lab.conventions import Conventions, count_by_conventions, in_unit_of
from lgmpose.lab.macs import CONVENTION, count_macs, default_counter
from lgmpose.lab.paper import CONVENTIONS, PaperRow, published
from lgmpose.machine import cpu_name, num_cores
from lgmpose.network.model import LGMPose
from lgmpose.peers import PeerConfig

__all__ = ["Profile", "StageCost", "measure_fps", "profile", "published"]


@dataclass(frozen=True)
class StageCost:
    """Parameters and MACs of one part of a network."""

    name: str
    params: int
    macs: int


@dataclass(frozen=True)
class Profile:
    """What a network costs; MACs are for one picture of ``image_hw``."""

    network: str  # in words
    image_hw: tuple[int, int]
    params: int
    macs: int
    macs_flop_counter: int  # the second count: FlopCounterMode / 2
    counter: str  # which one made ``macs``
    per_stage: tuple[StageCost, ...]  # adds up to the whole
    conventions: Conventions  # the same network as others count it, and the memory it takes

    def as_text(self, fps: dict | None = None, published: PaperRow | None = None) -> str:
        """A table to print: cost per stage and in all, by both counters, the paper's figure, the measured speed.

        Args:
            fps: from ``measure_fps``.
            published: from ``lgmpose.lab.paper.published``.
        """
        width = max(len(stage.name) for stage in self.per_stage)
        rows = [*self.per_stage, StageCost("in all", self.params, self.macs)]
        lines = [
            f"{self.network}, input {_size(self.image_hw)}",
            self.headline(published),
            "",
            f"{'':{width}}  {'parameters':>12}  {'MACs':>15}  share of MACs",
        ]
        lines += [f"{r.name:{width}}  {r.params:>12,}  {r.macs:>15,}  {r.macs / self.macs:>13.1%}" for r in rows]
        lines.append("")
        if self.counter == "FlopCounterMode":
            lines.append("counted by FlopCounterMode / 2 alone: fvcore, the second opinion, is not installed")
        elif self.macs == self.macs_flop_counter:
            lines.append(f"fvcore and FlopCounterMode / 2 agree: {self.macs:,} MACs")
        else:
            lines.append(f"fvcore counts {self.macs:,} MACs, FlopCounterMode / 2 {self.macs_flop_counter:,}")
        lines += [CONVENTION, "", self.conventions.as_table()]
        if published is not None:
            lines += ["", *_published_lines(published, self.image_hw)]
        if fps is not None:
            lines += ["", *_fps_lines(fps)]
        return "\n".join(lines)

    def headline(self, published: PaperRow | None = None) -> str:
        """``5.43 GMAC; 8.99 Gi as the paper counts it (the HRNet repository's tool)``."""
        macs = f"{self.macs / 1e9:.2f} GMAC" if self.macs >= 1e9 else f"{self.macs / 1e6:.0f} MMAC"
        if published is None or published.convention is None or tuple(self.image_hw) != published.image_hw:
            return macs
        if published.convention == "true_macs":
            return f"{macs}, as the paper counts it"
        theirs = in_unit_of(published.convention, self.conventions, digits=2)
        return f"{macs}; {theirs} as the paper counts it ({CONVENTIONS[published.convention].partition(':')[0]})"

    def as_json(self, fps: dict | None = None, published: PaperRow | None = None) -> dict:
        """The same for machines: counts undivided, memory in bytes."""
        counts = asdict(self.conventions)
        del counts["modules"], counts["network"]
        return {
            "network": self.network,
            **counts,
            "counter": self.counter,
            "macs": self.macs,
            "per_stage": [asdict(stage) for stage in self.per_stage],
            "published": None if published is None else asdict(published),
            "fps": fps,
        }


def profile(net: nn.Module, image_hw: tuple[int, int] | None = None) -> Profile:
    """Counts a network's parameters and MACs. See ``count_macs``.

    Args:
        net: an ``LGMPose``, counted by stage, or any network, counted by its children. It takes (1, 3, H, W); its
            training mode, device and weights are left alone.
        image_hw: the input's height and width; by default ``net.config.image_hw``.

    Raises:
        ValueError: ``image_hw`` is missing, or one that the network refuses.
        NotImplementedError: see ``count_macs``.
    """
    image_hw = image_hw or _input_hw(net)
    conventions = count_by_conventions(net, image_hw)  # its MACs are FlopCounterMode's, which it also asks
    counter = default_counter()
    counts = count_macs(net, image_hw, counter=counter)
    macs = counts[""].total()
    params = sum(p.numel() for p in net.parameters())

    stages = []
    for name, members in _stages(net).items():
        parameters = {p for member in members for p in net.get_submodule(member).parameters()}
        stages.append(StageCost(name, sum(p.numel() for p in parameters), sum(counts[m].total() for m in members)))
    rest = StageCost("rest", params - sum(s.params for s in stages), macs - sum(s.macs for s in stages))
    if rest.params or rest.macs:  # what the network does itself, outside of its children
        stages.append(rest)
    return Profile(
        _describe(net), tuple(image_hw), params, macs, conventions.true_macs, counter, tuple(stages), conventions
    )


def _input_hw(net: nn.Module) -> tuple[int, int]:
    image_hw = getattr(getattr(net, "config", None), "image_hw", None)
    if image_hw is None:
        raise ValueError(f"{type(net).__name__} does not say its input size: give image_hw=(height, width)")
    return image_hw


def _stages(net: nn.Module) -> dict[str, list[str]]:
    """Row of the table → names of the modules that it sums."""
    if not isinstance(net, LGMPose):
        return {name: [name] for name, _ in net.named_children()}
    stages = {"stem": ["stem"]}
    stages |= {f"stage {i + 1}": [f"stages.{i}"] for i in range(len(net.stages))}
    stages |= {f"decoder {i + 1}": [f"deconvs.{i}", f"fusions.{i}"] for i in range(len(net.deconvs))}
    return stages | {"head": ["head"]}


def _describe(net: nn.Module) -> str:
    c = getattr(net, "config", None)
    if isinstance(c, PeerConfig):
        return f"{c.name} ({c.num_keypoints} keypoints)"
    if not isinstance(net, LGMPose):
        return type(net).__name__
    return f"LGM-Pose (fusion {c.fusion}, global block {c.global_block}, {c.num_keypoints} keypoints)"


def _size(image_hw: tuple[int, int]) -> str:
    return f"{image_hw[0]} × {image_hw[1]}"


def _published_lines(row: PaperRow, image_hw: tuple[int, int]) -> list[str]:
    source = f"the paper (Table {row.table}, {row.name}, {_size(row.image_hw)})"
    lines = [f"{source}: {row.params}, {row.flops}, {row.accuracy}"]
    if row.fps_cpu is not None:
        lines.append(f"    {row.fps_cpu} FPS on one Xeon Silver 4214, {row.fps_gpu} FPS on one Tesla M10")
    if row.convention not in (None, "true_macs"):
        lines.append(f"    its FLOPs are counted otherwise: {CONVENTIONS[row.convention]}")
    if row.flops_hw is not None:
        lines.append(f"    its FLOPs are those of {_size(row.flops_hw)}")
    if row.note:
        lines.append(f"    {row.note}")
    if tuple(image_hw) != row.image_hw:
        lines.append(f"    for another input size than {_size(image_hw)}: not comparable")
    return lines


# Speed


def measure_fps(
    net: nn.Module,
    image_hw: tuple[int, int] | None = None,
    *,
    threads: int = 1,
    warmup: int = 10,
    min_runs: int = 100,
    seconds: float = 5.0,
) -> dict:
    """Frames per second of the network alone: one picture at a time, eval mode, ``inference_mode``, as it stands.

    Runs where the network lives, in its own precision. A fair comparison of runtimes (ONNX, OpenVINO, …) takes a fresh
    process for each: their threads get into each other's way.

    Args:
        image_hw: the input's height and width; by default ``net.config.image_hw``.
        threads: PyTorch's, on the CPU.
        warmup: runs before the clock starts.
        min_runs: stop after so many runs,
        seconds: or after so long, whichever comes first; but not before the third run.

    Returns:
        ``median_ms``, ``iqr_ms`` (interquartile range), ``p95_ms``, ``runs``, ``fps`` (1000 / median); what it ran on:
        ``image_hw``, ``device``, ``dtype``, ``cpu``, ``cores``, ``threads``, ``torch``, ``load`` (of the minute before;
        None on Windows); ``noisy`` and its reasons, ``noise``: an interquartile range above 10 % of the median, or a
        load above the number of cores.

    Raises:
        ValueError: ``image_hw`` is missing, or one that the network refuses.
    """
    image_hw = image_hw or _input_hw(net)
    first = next(net.parameters())
    generator = torch.Generator().manual_seed(0)  # its own: measuring must not change a training run beside it
    image = torch.rand(1, 3, *image_hw, generator=generator).to(first.device, first.dtype)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    modes = {module: module.training for module in net.modules()}
    threads_before = torch.get_num_threads()
    times_ms = []
    try:
        torch.set_num_threads(threads)
        net.eval()
        with torch.inference_mode():
            for _ in range(warmup):
                net(image)
            _synchronize(image)
            end = time.perf_counter() + seconds
            while len(times_ms) < min_runs and (time.perf_counter() < end or len(times_ms) < 3):
                start = time.perf_counter()
                net(image)
                _synchronize(image)
                times_ms.append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads_before)
        for module, training in modes.items():
            module.training = training

    median_ms = statistics.median(times_ms)
    quartiles = statistics.quantiles(times_ms, n=4, method="inclusive")
    iqr_ms = quartiles[2] - quartiles[0]
    cores = num_cores()
    noise = []
    if iqr_ms > 0.1 * median_ms:
        noise.append(f"the interquartile range is {iqr_ms / median_ms:.0%} of the median")
    if load is not None and load > cores:
        noise.append(f"load {load:.1f} on {cores} cores")
    return {
        "image_hw": tuple(image_hw),
        "median_ms": median_ms,
        "iqr_ms": iqr_ms,
        "p95_ms": statistics.quantiles(times_ms, n=20, method="inclusive")[-1],
        "runs": len(times_ms),
        "fps": 1e3 / median_ms,
        "device": str(image.device),
        "dtype": str(image.dtype).removeprefix("torch."),
        "cpu": cpu_name(),
        "cores": cores,
        "threads": threads,
        "torch": torch.__version__,
        "load": load,
        "noisy": bool(noise),
        "noise": noise,
    }


def _synchronize(image: torch.Tensor) -> None:
    """Waits for an accelerator: its calls return before the work is done."""
    if image.device.type != "cpu":
        torch.accelerator.synchronize(image.device)


def _fps_lines(fps: dict) -> list[str]:
    load = "" if fps["load"] is None else f", load {fps['load']:.1f}"
    lines = [
        f"measured: {fps['fps']:.1f} FPS, network alone, one picture of {_size(fps['image_hw'])} at a time",
        f"    median {fps['median_ms']:.1f} ms, interquartile range {fps['iqr_ms']:.1f} ms, 95 % within "
        f"{fps['p95_ms']:.1f} ms, {fps['runs']} runs",
        f"    {fps['cpu']}, device {fps['device']}, {fps['dtype']}, threads {fps['threads']} on {fps['cores']} cores, "
        f"PyTorch {fps['torch']}{load}",
    ]
    if fps["noisy"]:
        lines.append(f"    noisy, do not quote: {'; '.join(fps['noise'])}")
    return lines
