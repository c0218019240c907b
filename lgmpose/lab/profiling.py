"""Tell what one network costs: parameters and MACs per stage, memory, and frames per second on this machine.

``lgmpose.lab.cost_tables`` compares many networks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from tabulate import tabulate
from torch import nn

from lgmpose.errors import UserError, first_line
from lgmpose.inference.timing import interleaved_times
from lgmpose.lab.bench.measurement import load, summary
from lgmpose.lab.conventions import Conventions, count_by_conventions, in_unit_of, input_hw
from lgmpose.lab.macs import CONVENTION, SecondOpinion, ask_fvcore, count_macs
from lgmpose.lab.paper import CONVENTIONS, PaperRow
from lgmpose.machine import machine_header
from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.peers import PeerConfig
from lgmpose.zoo.outside_networks import is_outside, open_network

__all__ = ["Profile", "StageCost", "count_outside", "measure_fps", "profile"]


NO_SECOND_OPINION = "No second opinion: fvcore is not installed, or cannot run this network."


@dataclass(frozen=True)
class StageCost:
    """Parameters and MACs of one part of a network."""

    name: str
    params: int
    macs: int


@dataclass(frozen=True)
class Profile(Conventions):
    """What a network costs: its counts by all conventions, and these."""

    per_stage: tuple[StageCost, ...]  # adds up to the whole
    fvcore: SecondOpinion | None  # None where fvcore is not installed, or fails on a network from outside

    @property
    def macs(self) -> int:
        """Return the multiply–accumulates of one picture."""
        return self.true_macs

    def as_text(self, fps: dict | None = None, published: PaperRow | None = None) -> str:
        """Return a table to print: cost per stage, second opinion, other conventions, the paper's figures, speed.

        ``fps`` is from ``measure_fps``, ``published`` from ``lgmpose.lab.paper.published``.
        """
        rows = [
            (stage.name, f"{stage.params:,}", f"{stage.macs:,}", f"{stage.macs / max(self.macs, 1):.1%}")
            for stage in (*self.per_stage, StageCost("in all", self.params, self.macs))
        ]
        headers = ("", "parameters", "MACs", "share of MACs")
        align = ("left", "right", "right", "right")
        parts = [
            f"{self.network}, input {_size(self.image_hw)}\n{self.headline(published)}",
            tabulate(rows, headers, tablefmt="plain", colalign=align, disable_numparse=True),
            CONVENTION,
            self.fvcore.as_text(self.macs) if self.fvcore else NO_SECOND_OPINION,
            self.as_table(),
        ]
        if published is not None:
            parts.append(_published_text(published, self.image_hw))
        if fps is not None:
            parts.append(_fps_text(fps))
        return "\n\n".join(parts)

    def headline(self, published: PaperRow | None = None) -> str:
        """Return ``5.43 GMAC; 8.99 Gi as the paper counts it (the HRNet repository's tool)``."""
        macs = f"{self.macs / 1e9:.2f} GMAC" if self.macs >= 1e9 else f"{self.macs / 1e6:.0f} MMAC"
        if published is None or published.convention is None or self.image_hw != published.image_hw:
            return macs
        if published.convention == "true_macs":
            return f"{macs}, as the paper counts it"
        theirs = in_unit_of(published.convention, self, digits=2)
        return f"{macs}; {theirs} as the paper counts it ({CONVENTIONS[published.convention].partition(':')[0]})"

    def as_json(self, fps: dict | None = None, published: PaperRow | None = None) -> dict:
        """Return the same for machines: counts undivided, memory in bytes."""
        row = None if published is None else asdict(published)
        return {**asdict(self), "macs": self.macs, "published": row, "fps": fps}


def profile(net: nn.Module | str, image_hw: tuple[int, int] | None = None) -> Profile:
    """Count a network's parameters, MACs and memory.

    Args:
        net: an ``LGMPose``, counted by stage, or any network, counted by its children. It takes (1, 3, H, W). Its
            training mode, device and weights are left alone. Or a name: see ``zoo.outside_networks.open_network``.
        image_hw: height and width of the input; by default ``net.config.image_hw``.

    Raises:
        ValueError: ``image_hw`` is missing, or one that the network refuses.
        NotImplementedError: see ``lgmpose.lab.macs.count_macs``.
        UserError: a name whose network cannot be built or counted.
    """
    if isinstance(net, str):
        opened, size = open_network(net, image_hw=image_hw)
        return count_outside(opened, size, net) if is_outside(net) else profile(opened)
    image_hw = input_hw(net, image_hw)
    return _profile(net, image_hw, _describe(net), ask_fvcore(net, image_hw))


def count_outside(net: nn.Module, image_hw: tuple[int, int], name: str) -> Profile:
    """Count a network from outside the package, see ``zoo.outside_networks``.

    Raises:
        UserError: it has operators that cannot be counted, or does not run on the meta device.
    """
    try:
        second = ask_fvcore(net, image_hw)
    except Exception:  # fvcore traces with TorchScript, which fails in many ways
        second = None
    try:
        return _profile(net, image_hw, name, second)
    except Exception as error:  # any code can be behind the name
        raise UserError(f"model {name}: cannot be counted ({first_line(error)})") from error


def _profile(net: nn.Module, image_hw: tuple[int, int], name: str, second: SecondOpinion | None) -> Profile:
    counts, macs = count_by_conventions(net, image_hw, name=name), count_macs(net, image_hw)
    stages = []
    for name, members in _stages(net).items():
        parameters = {p for member in members for p in net.get_submodule(member).parameters()}
        stages.append(StageCost(name, sum(p.numel() for p in parameters), sum(macs[m].total() for m in members)))
    in_stages = (sum(stage.params for stage in stages), sum(stage.macs for stage in stages))
    rest = StageCost("rest", counts.params - in_stages[0], counts.true_macs - in_stages[1])
    if rest.params or rest.macs:  # what the network does itself, outside of its children
        stages.append(rest)
    return Profile(**vars(counts), per_stage=tuple(stages), fvcore=second)


def _stages(net: nn.Module) -> dict[str, list[str]]:
    """Return row of the table → names of the modules that it sums."""
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
    if isinstance(c, LGMPoseConfig):
        upper = f"fusion {c.fusion}" if c.head == "heatmap" else f"head {c.head}"
        return f"LGM-Pose ({upper}, global block {c.global_block}, {c.num_keypoints} keypoints)"
    return type(net).__name__


def _size(image_hw: tuple[int, int]) -> str:
    return f"{image_hw[0]} × {image_hw[1]}"


def _published_text(row: PaperRow, image_hw: tuple[int, int]) -> str:
    source = f"the paper (Table {row.table}, {row.name}, {_size(row.image_hw)})"
    lines = [f"{source}: {row.params}, {row.flops}, {row.accuracy}"]
    if row.fps_cpu is not None:
        lines.append(f"{row.fps_cpu} FPS on one Xeon Silver 4214, {row.fps_gpu} FPS on one Tesla M10")
    if row.convention not in (None, "true_macs"):
        lines.append(f"its FLOPs are counted differently: {CONVENTIONS[row.convention]}")
    if row.flops_hw is not None:
        lines.append(f"its FLOPs are those of {_size(row.flops_hw)}")
    if row.note:
        lines.append(row.note)
    if image_hw != row.image_hw:
        lines.append(f"not comparable: for another input size than {_size(image_hw)}")
    return "\n    ".join(lines)


def measure_fps(net: nn.Module, image_hw: tuple[int, int], *, threads: int = 1) -> dict:
    """Measure the frames per second of a network in eval mode alone, on the CPU, one picture (1, 3, H, W) at a time.

    ``lgmpose bench`` compares networks and runtimes.

    Returns:
        ``fps``, ``median_ms``, ``iqr_ms`` (interquartile range), ``p95_ms``, ``n`` (runs), the conditions, and
        ``noise``, the reasons not to quote the figure: an interquartile range above 10 % of the median, or a load above
        the number of cores.
    """
    image, threads_before = torch.rand(1, 3, *image_hw), torch.get_num_threads()
    conditions = {"image_hw": image_hw, "device": "cpu", "dtype": "float32", "threads": threads,
                  "torch": torch.__version__, "load": load(), **machine_header()}  # fmt: skip
    busy = (conditions["load"] or 0) > conditions["cores"]
    noise = [f"load {conditions['load']} on {conditions['cores']} cores"] if busy else []
    torch.set_num_threads(threads)
    with torch.inference_mode():
        times = interleaved_times({"net": lambda: net(image)}, max_seconds=5, min_rounds=3)["net"]
    torch.set_num_threads(threads_before)
    return {**conditions, **summary((1e3 * times).tolist(), (), noise=noise)}


def _fps_text(fps: dict) -> str:
    lines = [
        f"measured: {fps['fps']:.1f} FPS, network alone, one picture of {_size(fps['image_hw'])} at a time",
        f"median {fps['median_ms']:.1f} ms, interquartile range {fps['iqr_ms']:.1f} ms, 95 % within "
        f"{fps['p95_ms']:.1f} ms, {fps['n']} runs",
        f"{fps['cpu']}, device {fps['device']}, {fps['dtype']}, threads {fps['threads']} on {fps['cores']} cores, "
        f"PyTorch {fps['torch']}, load {fps['load']}",
    ]
    if fps["noise"]:
        lines.append(f"noisy, do not quote: {'; '.join(fps['noise'])}")
    return "\n    ".join(lines)
