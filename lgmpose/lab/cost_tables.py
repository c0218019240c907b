"""Tell what many networks cost, side by side: the whole catalogue at one input size, or one of the paper's tables.

Each row also has the figure that the paper prints, and the way of counting that gives this figure. If no way gives it,
the row says why.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from lgmpose.errors import UserError
from lgmpose.files import check_writable, write_atomically
from lgmpose.lab.conventions import GIBI, Conventions, count_named, in_giga, in_unit_of, megabytes
from lgmpose.lab.paper import NOT_REPRODUCIBLE, TABLES, PaperRow, published
from lgmpose.lab.profiling import count_outside, measure_fps, profile
from lgmpose.network.config import VARIANTS
from lgmpose.zoo.catalogue import list_models
from lgmpose.zoo.outside_networks import is_outside, open_network

__all__ = ["CostRow", "as_json", "as_text", "catalogue_costs", "matches", "paper_costs", "print_costs"]

COUNTERS = {"true_macs": "true MACs", "hrnet_tool": "HRNet tool", "torchstat": "torchstat",
            "torchstat_mebi": "torchstat, Mi"}  # fmt: skip
LEGEND = """\
true MACs: multiply–accumulates, ÷ 10⁹ or 10⁶. HRNet tool: the HRNet repository's count, which takes stride-2
deconvolutions four times, ÷ 2³⁰. torchstat: Lite-HRNet's count, with BatchNorm and ReLU, each module once, ÷ 2³⁰ or
2²⁰. written: elements written to memory. peak: bytes of the tensors alive at once for one picture, eval mode, 32-bit;
weights take 4 bytes a parameter more. given by: the count that gives the FLOPs the paper prints, rounded or truncated
to its digits."""


@dataclass(frozen=True)
class CostRow:
    """One network, or a row of the paper that we cannot rebuild."""

    name: str
    image_hw: tuple[int, int]
    num_keypoints: int
    counts: Conventions | None = None  # None: not in the catalogue, or the network does not take the size
    flops_counts: Conventions | None = None  # the same, for the size that the paper's FLOPs are for
    paper: PaperRow | None = None
    remark: str = ""

    @property
    def params_match(self) -> bool | None:
        """Return whether the paper prints our number of parameters; None where one of the two is missing."""
        if self.counts is None or self.paper is None or self.paper.params is None:
            return None
        return matches(self.paper.params, self.counts.params / 1e6)

    @property
    def flops_match(self) -> bool | None:
        """Return the same of FLOPs, counted by the row's convention; False where no convention gives them."""
        if self.flops_counts is None or self.paper is None or self.paper.flops is None:
            return None
        convention = self.paper.convention
        return convention is not None and matches(self.paper.flops, in_giga(convention, self.flops_counts))

    @property
    def given_by(self) -> str:
        """Return what gives the printed FLOPs (``HRNet tool, at 256 × 192``), or that nothing does."""
        row = self.paper
        if row is None or row.convention is None or not self.flops_match:
            return "-" if self.flops_match is None else "none"
        return COUNTERS[row.convention] + (", at {} × {}".format(*row.flops_hw) if row.flops_hw else "")

    @property
    def why(self) -> str:
        """Return why counts are missing or differ, in one line; an empty text where they agree."""
        differs = self.params_match is False or self.flops_match is False
        return self.remark or (self.paper.note if self.paper and differs else "")


def matches(printed: str, value: float) -> bool:
    """Return whether ``8.9 G`` is a value rounded or truncated to the printed digits. The paper does both."""
    number = printed.split()[0]
    digits = len(number.partition(".")[2])
    truncated = math.floor(value * 10**digits + 1e-9) / 10**digits
    return float(number) in (round(value, digits), truncated)


def catalogue_costs(image_hw: tuple[int, int] = (256, 192), num_keypoints: int = 17) -> list[CostRow]:
    """Count every network of the catalogue, and list the paper's networks that are not in it.

    Of the variants of LGM-Pose that differ only in input size and joints, one is counted.

    Raises:
        UserError: no network takes the size, or the number of keypoints is below 1.
    """
    sized = [name for name, config in VARIANTS.items() if config.image_hw == tuple(image_hw)]
    others = [name for name in list_models() if name not in VARIANTS or not VARIANTS[name].is_paper]
    names = [(sized or list(VARIANTS))[0], *others]
    rows = [_row_of(name, image_hw, num_keypoints, published(name, image_hw=image_hw)) for name in names]
    if all(row.counts is None for row in rows):
        raise UserError(rows[0].remark)
    for name, reason in NOT_REPRODUCIBLE.items():
        paper = [row for table in TABLES.values() for row in table if (row.name, row.image_hw) == (name, image_hw)]
        rows.append(CostRow(name, image_hw, num_keypoints, paper=paper[0] if paper else None, remark=reason))
    return rows


def paper_costs(table: int) -> list[CostRow]:
    """Count the rows of the paper's table 1 to 5. Tables 1 and 2 have 17 keypoints (COCO), the others 16 (MPII)."""
    num_keypoints = 17 if table <= 2 else 16
    return [
        CostRow(paper.name, paper.image_hw, num_keypoints, paper=paper, remark=paper.note)
        if paper.model is None
        else _row_of(paper.model, paper.image_hw, num_keypoints, paper, title=paper.name)
        for paper in TABLES[table]
    ]


def _row_of(
    name: str, image_hw: tuple[int, int], num_keypoints: int, paper: PaperRow | None, *, title: str | None = None
) -> CostRow:
    changes = {}
    if name in VARIANTS and paper is not None:
        changes = {"fusion": paper.fusion, "global_block": paper.global_block}
    try:
        counts = count_named(name, tuple(image_hw), num_keypoints, **changes)
        flops_hw = paper.flops_hw if paper is not None and paper.flops_hw else tuple(image_hw)
        flops_counts = count_named(name, flops_hw, num_keypoints, **changes)
    except UserError as error:
        return CostRow(title or name, image_hw, num_keypoints, paper=paper, remark=str(error))
    return CostRow(title or name, image_hw, num_keypoints, counts, flops_counts, paper)


def as_text(rows: list[CostRow], *, title: str) -> str:
    """Return the table to print, with remarks below it."""
    remarks = list(dict.fromkeys(row.why for row in rows if row.why))
    lines = []
    for row in rows:
        c, paper = row.counts, row.paper
        counts = ("-",) * 6 if c is None else (
            f"{c.params:,}", in_unit_of("true_macs", c), in_unit_of("hrnet_tool", c),
            in_unit_of("torchstat" if c.torchstat >= GIBI else "torchstat_mebi", c),
            f"{c.activations / 1e6:.1f} M", megabytes(c.peak_bytes),
        )  # fmt: skip
        printed = f"{paper.params or '-'}, {paper.flops or '-'}" if paper else "-"
        note = f" [{remarks.index(row.why) + 1}]" if row.why else ""
        lines.append((row.name, "{}×{}".format(*row.image_hw), *counts, printed, row.given_by + note))
    headers = ("", "input", "parameters", "true MACs", "HRNet tool", "torchstat", "written", "peak", "the paper",
               "given by")  # fmt: skip
    align = ("left", *("right",) * 7, "left", "left")
    table = tabulate(lines, headers, tablefmt="plain", colalign=align, disable_numparse=True)
    notes = "\n".join(f"[{number}] {remark}" for number, remark in enumerate(remarks, start=1))
    return "\n\n".join(part for part in (title, table, notes, LEGEND) if part)


def as_json(rows: list[CostRow]) -> list[dict]:
    """Return the rows for machines: counts undivided, memory in bytes."""
    judged = ("params_match", "flops_match", "why")
    return [
        {
            **({} if row.counts is None else asdict(row.counts)),
            "name": row.name, "image_hw": row.image_hw, "num_keypoints": row.num_keypoints,
            "published": None if row.paper is None else asdict(row.paper),
            **{key: getattr(row, key) for key in judged},
        }
        for row in rows
    ]  # fmt: skip


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
    data: list | dict
    chosen = (model, fusion, global_block) != ("lgm-pose-coco-256x192", "sfusion", "mobilevim")
    if table is not None:
        if all_networks or chosen or image_hw is not None or num_keypoints is not None:
            raise UserError(
                "--table has its own networks, sizes and keypoints: leave out --all, --model, --fusion, "
                "--global-block, --image-hw and --num-keypoints"
            )
        rows, title = paper_costs(table), f"Table {table} of the paper, with our counts"
        text, data = as_text(rows, title=title), as_json(rows)
    elif all_networks:
        if chosen:
            raise UserError("--all counts every network as it is: leave out --model, --fusion and --global-block")
        (H, W), K = image_hw or (256, 192), 17 if num_keypoints is None else num_keypoints
        rows, title = catalogue_costs((H, W), K), f"every network, input {H} × {W}, {K} keypoints"
        text, data = as_text(rows, title=title), as_json(rows)
    else:
        changes: dict[str, Any] = {} if num_keypoints is None else {"num_keypoints": num_keypoints}
        if (fusion, global_block) != ("sfusion", "mobilevim"):  # which only LGM-Pose has
            changes |= {"fusion": fusion, "global_block": global_block}
        net, size = open_network(model, image_hw=image_hw, **changes)
        cost = count_outside(net, size, model) if is_outside(model) else profile(net)
        speed = measure_fps(net, size, threads=threads) if fps else None
        row = published(model, fusion, global_block, cost.image_hw)
        text, data = cost.as_text(fps=speed, published=row), cost.as_json(fps=speed, published=row)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())
    print(text)
