"""What many networks cost, side by side: the whole catalogue at one input size, or one of the paper's tables.

Beside each network stands what the paper prints of it, and which way of counting gives that figure, or why none does.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lgmpose.errors import UserError
from lgmpose.files import check_writable, write_atomically
from lgmpose.lab.conventions import GIBI, Conventions, count_by_conventions, in_giga, in_unit_of, megabytes
from lgmpose.lab.paper import NOT_REPRODUCIBLE, TABLES, PaperRow, published
from lgmpose.lab.profiling import measure_fps, profile
from lgmpose.network.config import STAGES, VARIANTS
from lgmpose.zoo.catalogue import create_model, list_models

__all__ = ["CostRow", "as_json", "as_text", "catalogue_costs", "count", "matches", "paper_costs", "print_costs"]

COUNTERS = {
    "true_macs": "true MACs", "hrnet_tool": "HRNet tool", "torchstat": "torchstat", "torchstat_mebi": "torchstat, Mi",
}  # fmt: skip


@dataclass(frozen=True)
class CostRow:
    """One network, or a row of the paper that is none of ours."""

    name: str
    image_hw: tuple[int, int]
    num_keypoints: int
    counts: Conventions | None  # None: not a network of the catalogue, or one that does not take the size
    flops_counts: Conventions | None  # the same, for the size that the paper's FLOPs are for
    paper: PaperRow | None
    remark: str = ""

    @property
    def params_match(self) -> bool | None:
        """Whether our parameters are those that the paper prints; None where it prints none, or we have none."""
        if self.counts is None or self.paper is None or self.paper.params is None:
            return None
        return matches(self.paper.params, self.counts.params / 1e6)

    @property
    def flops_match(self) -> bool | None:
        """The same of FLOPs, counted by the row's convention; False where no convention gives them."""
        if self.flops_counts is None or self.paper is None or self.paper.flops is None:
            return None
        convention = self.paper.convention
        return convention is not None and matches(self.paper.flops, in_giga(convention, self.flops_counts))

    @property
    def verdict(self) -> str:
        """``HRNet tool, at 256 × 192``: what gives the printed FLOPs; else that nothing does."""
        if self.flops_match is None:
            return "-"
        if not self.flops_match:
            return "none"
        size = f", at {_size(self.paper.flops_hw)}" if self.paper.flops_hw else ""
        return COUNTERS[self.paper.convention] + size

    @property
    def why(self) -> str:
        """What there is to say of the row; one line, "" where nothing is."""
        if self.counts is None or self.params_match is False or self.flops_match is False:
            return self.remark or (self.paper.note if self.paper else "")
        return self.remark


def matches(printed: str, value: float) -> bool:
    """Whether ``8.9 G`` is what a value rounds to, or is cut to: the paper does both."""
    number = printed.split()[0]
    digits = len(number.partition(".")[2])
    cut = math.floor(value * 10**digits + 1e-9) / 10**digits
    return float(number) in (round(value, digits), cut)


def catalogue_costs(image_hw: tuple[int, int] = (256, 192), num_keypoints: int = 17) -> list[CostRow]:
    """Every network of the catalogue, once (of those that differ by their sizes alone, one), then the paper's others.

    Raises:
        UserError: no network takes the size, or the number of keypoints is below 1.
    """
    others = (name for name in list_models() if name not in VARIANTS or VARIANTS[name].stages != STAGES)
    names = [_own_name(image_hw), *others]
    rows = [_row_of(name, image_hw, num_keypoints, published(name, image_hw=image_hw)) for name in names]
    if all(row.counts is None for row in rows):
        raise UserError(rows[0].remark)
    for name, reason in NOT_REPRODUCIBLE.items():
        paper = [row for table in TABLES.values() for row in table if (row.name, row.image_hw) == (name, image_hw)]
        rows.append(CostRow(name, image_hw, num_keypoints, None, None, paper[0] if paper else None, reason))
    return rows


def paper_costs(table: int) -> list[CostRow]:
    """One of the paper's tables, 1 to 5, row by row; 17 keypoints in Tables 1 and 2 (COCO), 16 in the others (MPII)."""
    num_keypoints = 17 if table <= 2 else 16
    rows = []
    for paper in TABLES[table]:
        if paper.model is None:
            rows.append(CostRow(paper.name, paper.image_hw, num_keypoints, None, None, paper, paper.note))
        else:
            rows.append(_row_of(paper.model, paper.image_hw, num_keypoints, paper, title=paper.name))
    return rows


def _own_name(image_hw: tuple[int, int]) -> str:
    """The variant of LGM-Pose that is made for a size; the first where none is."""
    fitting = [name for name, config in VARIANTS.items() if config.image_hw == tuple(image_hw)]
    return (fitting or list(VARIANTS))[0]


def _row_of(
    name: str, image_hw: tuple[int, int], num_keypoints: int, paper: PaperRow | None, *, title: str | None = None
) -> CostRow:
    changes = {}
    if name in VARIANTS and paper is not None:
        changes = {"fusion": paper.fusion, "global_block": paper.global_block}
    try:
        counts = count(name, tuple(image_hw), num_keypoints, **changes)
    except UserError as error:
        return CostRow(title or name, image_hw, num_keypoints, None, None, paper, str(error))
    flops_counts = counts
    if paper is not None and paper.flops_hw:
        flops_counts = count(name, paper.flops_hw, num_keypoints, **changes)
    return CostRow(title or name, image_hw, num_keypoints, counts, flops_counts, paper)


@lru_cache
def count(name: str, image_hw: tuple[int, int], num_keypoints: int, **changes: str) -> Conventions:
    """A named network's counts, without ever making its weights.

    Raises:
        UserError: see ``create_model``.
    """
    with torch.device("meta"), _Unfilled():
        net = create_model(name, image_hw=image_hw, num_keypoints=num_keypoints, **changes)
    return count_by_conventions(net, image_hw, name=name)


class _Unfilled(TorchDispatchMode):
    """Skips what fills weights with numbers. On the meta device there are none, and finding that out takes time."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        in_place = func.overloadpacket.__name__.endswith("_")  # normal_, uniform_, fill_, copy_ …
        return args[0] if in_place else func(*args, **(kwargs or {}))


def as_text(rows: list[CostRow], *, title: str) -> str:
    """The table to print; remarks follow below it."""
    head = (
        "", "input", "parameters", "true MACs", "HRNet tool", "torchstat", "written", "peak", "the paper", "given by",
    )  # fmt: skip
    cells, remarks = [head], []
    for row in rows:
        why = ""
        if row.why:
            if row.why not in remarks:
                remarks.append(row.why)
            why = f" [{remarks.index(row.why) + 1}]"
        c = row.counts
        counts = ("-",) * 6 if c is None else (
            f"{c.params:,}", in_unit_of("true_macs", c), in_unit_of("hrnet_tool", c),
            in_unit_of("torchstat" if c.torchstat >= GIBI else "torchstat_mebi", c),
            f"{c.activations / 1e6:.1f} M", megabytes(c.peak_bytes),
        )  # fmt: skip
        paper = "-" if row.paper is None else ", ".join(_or_dash(x) for x in (row.paper.params, row.paper.flops))
        cells.append((row.name, f"{row.image_hw[0]}×{row.image_hw[1]}", *counts, paper, row.verdict + why))
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = [title, ""]
    for line in cells:
        padded = zip(line, widths, (str.ljust, *[str.rjust] * 7, str.ljust, str.ljust), strict=True)
        lines.append("  ".join(align(cell, width) for cell, width, align in padded).rstrip())
    lines += ["", *(f"[{i}] {remark}" for i, remark in enumerate(remarks, start=1)), *([""] if remarks else []), LEGEND]
    return "\n".join(lines)


LEGEND = """\
true MACs: multiply–accumulates, ÷ 10⁹ or 10⁶. HRNet tool: the HRNet repository's count, which takes stride-2
deconvolutions four times, ÷ 2³⁰. torchstat: Lite-HRNet's count, with BatchNorm and ReLU, each module once, ÷ 2³⁰ or
2²⁰. written: numbers written to memory. peak: bytes of the tensors alive at once for one picture, eval mode, 32-bit;
the weights come on top, 4 bytes a parameter. given by: the count that gives the FLOPs the paper prints, rounded or cut
to its digits."""


def _size(image_hw: tuple[int, int]) -> str:
    return f"{image_hw[0]} × {image_hw[1]}"


def _or_dash(text: str | None) -> str:
    return text or "-"


def as_json(rows: list[CostRow]) -> list[dict]:
    """The rows for machines: counts undivided, memory in bytes."""
    found = []
    for row in rows:
        counts = {} if row.counts is None else asdict(row.counts)
        found.append(
            {
                "name": row.name,
                "model": counts.pop("network", None),
                "image_hw": row.image_hw,
                "num_keypoints": row.num_keypoints,
                **{key: value for key, value in counts.items() if key not in ("modules", "image_hw")},
                "published": None if row.paper is None else asdict(row.paper),
                "params_match": row.params_match,
                "flops_match": row.flops_match,
                "why": row.why,
            }
        )
    return found


def print_costs(  # the options of ``lgmpose profile``
    model: str, *, image_hw: tuple[int, int] | None, num_keypoints: int | None, fusion: str, global_block: str,
    fps: bool, threads: int, all_networks: bool, table: int | None, json_file: Path | None, list_names: bool,
) -> None:  # fmt: skip
    """Print what one network costs, every network, or a table of the paper, and write it as JSON.

    Raises:
        UserError: options that have no effect together, or a file that cannot be written.
    """
    if threads < 1:
        raise UserError(f"threads {threads}: at least 1")
    if list_names:
        print("\n".join(list_models()))
        return
    if json_file is not None:
        check_writable(json_file)
    one = (model, fusion, global_block) != ("lgm-pose-coco-256x192", "sfusion", "mobilevim")  # a certain network
    if table is not None:
        if all_networks or image_hw is not None or num_keypoints is not None or one:
            raise UserError(
                "--table has its own networks, sizes and keypoints: leave out --all, --model, --fusion, "
                "--global-block, --image-hw and --num-keypoints"
            )
        rows = paper_costs(table)
        text = as_text(rows, title=f"Table {table} of the paper, with our counts")
        data = as_json(rows)
    elif all_networks:
        if one:
            raise UserError("--all is every network as it is: leave out --model, --fusion and --global-block")
        hw, K = image_hw or (256, 192), 17 if num_keypoints is None else num_keypoints
        rows = catalogue_costs(hw, K)
        text = as_text(rows, title=f"every network, input {hw[0]} × {hw[1]}, {K} keypoints")
        data = as_json(rows)
    else:
        options = {"image_hw": image_hw, "num_keypoints": num_keypoints}
        options["fusion"] = None if fusion == "sfusion" else fusion
        options["global_block"] = None if global_block == "mobilevim" else global_block
        changes = {name: value for name, value in options.items() if value is not None}
        net = create_model(model, **changes).eval()
        row = published(model, fusion, global_block, net.config.image_hw)
        cost = profile(net)
        speed = measure_fps(net, threads=threads) if fps else None
        text, data = cost.as_text(fps=speed, published=row), cost.as_json(fps=speed, published=row)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())
    print(text)
