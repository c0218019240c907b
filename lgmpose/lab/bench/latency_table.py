"""The Markdown report of a ``BenchResult``; published figures come from ``lab.paper``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tabulate import tabulate

from lgmpose.lab.bench.measurement import BenchResult, Row
from lgmpose.lab.bench.plan import SCOPES
from lgmpose.lab.paper import TABLES, PaperRow
from lgmpose.network.config import VARIANTS

__all__ = ["group_rows", "group_title", "markdown", "markdown_table", "setting_name"]

NOTES = """\
* **ms**: median of one run over the rounds; IQR: interquartile range; p95: 95 % of the runs took no longer; n: number
  of runs. **FPS**: persons per second, from the median.
* **× LGM-Pose** (or another reference): this network's time divided by the reference's time in the same round; median
  over the rounds and quartiles. The paper's: the ratio of its frames per second on one Xeon Silver 4214 (for a run on a
  GPU: on one Tesla M10).
* **floor**: a reference value, measured in the same rounds: the time of PyTorch's matrix product with as many
  multiply–accumulates in the backend's precision. **of floor**: that time divided by the measured one (median over the
  rounds). A runtime with a faster product than PyTorch's can exceed 100 %.
* MACs are true multiply–accumulates, activations the numbers written to memory (`lgmpose profile`). In brackets: as
  the paper prints it, for systems that cannot be built. AP (COCO val2017) and PCKh (MPII val) are **reported by the
  papers**, not measured: the networks timed here have random weights.
* **~** marks a noisy figure, not to be quoted: an interquartile range above 10 % of the median, or a load that exceeds
  the number of cores by more than 0.5.
"""


def markdown(result: BenchResult) -> str:
    """Return the whole report: header, a section per group of networks, notes."""
    parts = [f"# {_title(result)}", "\n".join(_header_lines(result))]
    for rows in group_rows(result.rows):
        parts.append(f"## {group_title(rows[0])}")
        settings = list(dict.fromkeys((row.backend, row.threads) for row in rows))
        if len(settings) > 1 and any(row.ratio for row in rows):
            name = _reference_name(rows)
            parts += [f"Time divided by the time of {name}, by backend and threads:", _overview(rows, settings)]
        for setting in settings:
            part = [row for row in rows if (row.backend, row.threads) == setting]
            parts += [f"{setting_name(*setting)}:", _details(part)]
        parts.append("\n".join(_remarks(rows, len(settings))))
    return "\n\n".join([*(part for part in parts if part), NOTES])


def _title(result: BenchResult) -> str:
    """Return what was timed, and at which sizes: readers choose between several reports by their titles."""
    settings = result.header["settings"]
    sizes = " and ".join(dict.fromkeys("{}×{}".format(*row.image_hw) for row in result.rows))
    scope = {"network": "", "decode": ", with decoding", "pipeline": ", from a picture to its keypoints"}
    networks, backends = len({row.label for row in result.rows if row.median_ms}), len(settings["backends"])
    kept = ", with freed memory kept" if settings["keep_memory"] else ""
    return (
        f"Latency at {sizes}{scope[settings['scope']]}: {networks} network{'s' * (networks != 1)}, "
        f"{backends} backend{'s' * (backends != 1)}{kept}"
    )


def _header_lines(result: BenchResult) -> list[str]:
    header, settings = result.header, result.header["settings"]
    versions, devices, loads, limits = {}, {}, [], {}
    for process in header["processes"]:
        versions |= process.get("versions", {})
        if "device_name" in process:
            devices.setdefault(process["device_name"], {})[process["dtype"]] = None  # an ordered set
        loads += [load for load in (process.get("load"), process.get("load_after")) if load is not None]
        if "gemm_gops" in process:
            limits[process["backend"], process["threads"]] = process["gemm_gops"]
    allocator = "default, as in `lgmpose predict`"
    if settings["keep_memory"]:
        kept = all(process.get("keeps_memory", True) for process in header["processes"])
        allocator = "keeps freed memory, as in `lgmpose train`" if kept else "cannot be told to keep freed memory here"
    timed = [row for row in result.rows if row.median_ms]
    noisy = sum(bool(row.noise) for row in timed)
    lines = [
        f"{header['cpu']}, {header['cores']} cores; {header['system']}; device "
        + ", ".join(f"{name} ({', '.join(dtypes)})" for name, dtypes in devices.items()),
        f"{header['date']}; lgmpose {header['lgmpose']}, commit {header['commit'] or 'unknown'}; Python "
        f"{header['python']}; " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Backends: " + "; ".join(f"`{name}`: {what}" for name, what in header["backends"].items()),
        f"Measured by `lgmpose bench`: {SCOPES[settings['scope']]}"
        + (f" ({settings['codec']})" if settings["scope"] != "network" else "")
        + f"; eval mode, `inference_mode`, batches of {', '.join(map(str, settings['batch_sizes']))}; a fresh process "
        "for each backend and number of threads",
        *(["Times are processor times, not wall times"] if settings.get("clock") == "cpu" else []),
        f"{settings['warmup']} warm-up runs (3 if a run takes more than a second), then rounds in which every network "
        f"of a group runs once, in random order: {settings['runs']} rounds, or as many as {settings['seconds']:g} s "
        f"per network allow, but at least {settings['min_rounds']}",
        f"glibc's allocator: {allocator}"
        + (f"; load of the last minute: {min(loads):.1f} to {max(loads):.1f}" if loads else ""),
    ]
    if limits:
        speeds = "; ".join(f"`{backend}`, {threads}: {gops:.0f}" for (backend, threads), gops in limits.items())
        lines.append(f"Speed of a matrix product in the backend's precision, GOP/s, by backend and threads: {speeds}")
    if noisy:
        lines.append(f"**Noisy: {noisy} of {len(timed)} figures**, marked ~; do not quote them")
    if not result.finished:
        lines.append("**Stopped before the end**: some rows are missing")
    return [f"* {line}" for line in lines]


def _overview(rows: Sequence[Row], settings: Sequence[tuple[str, int]]) -> str:
    """Return the table of ratios with one column per setting."""
    head = ["system", f"paper × {_reference_name(rows)}", *(f"{name}, {count}" for name, count in settings)]
    table = []
    for label in dict.fromkeys(row.label for row in rows):
        own = {(row.backend, row.threads): row for row in rows if row.label == label}
        cells = [_marked(own[s], _number(own[s].ratio, 2)) if s in own else "–" for s in settings]
        table.append([label, _number(_paper_ratio(next(iter(own.values())), rows), 2), *cells])
    return markdown_table(head, table)


def _details(rows: Sequence[Row]) -> str:
    """Return the table of one setting."""
    head = [
        "system", "params M", "MACs G", "activations M", "reported", "ms", "IQR", "p95", "n",
        "FPS" if rows[0].batch_size == 1 else "persons/s", f"× {_reference_name(rows)}", "floor ms", "of floor",
        "paper FPS", "paper ×",
    ]  # fmt: skip
    table = []
    for row in rows:
        paper = _paper_row(row)
        ratio = _number(row.ratio, 2)
        if row.ratio_iqr and not row.is_reference:
            ratio += f" [{row.ratio_iqr[0]:.2f}, {row.ratio_iqr[1]:.2f}]"
        table.append([
            row.label,
            _count(row.params, 1e6, 2, paper and paper.params),
            _count(row.macs, 1e9, 3, paper and paper.flops),
            _number(row.activations and row.activations / 1e6, 1),
            "–" if paper is None else f"{paper.pckh} PCKh" if paper.ap is None else f"{paper.ap} AP",
            _marked(row, _number(row.median_ms, 1)),
            _number(row.iqr_ms, 1),
            _number(row.p95_ms, 1),
            str(row.n or "–"),
            _number(row.fps, 1),
            ratio,
            _number(row.floor_ms, 1),
            "–" if row.of_floor is None else _marked(row, f"{row.of_floor:.0%}"),
            _number(_paper_fps(row), 1),
            _number(_paper_ratio(row, rows), 2),
        ])  # fmt: skip
    return markdown_table(head, table)


def _remarks(rows: Sequence[Row], num_settings: int) -> list[str]:
    """Return a line per doubtful figure of the paper, and per system without times: why, and in which settings."""
    lines = []
    for row in rows:
        paper = _paper_row(row) if row.table and row.model else None
        if paper is not None and paper.note:
            lines.append(f"* {row.label}: {paper.note}")
    failed = sorted((row for row in rows if row.reason), key=lambda row: (row.label, row.reason))
    for (label, reason), group in itertools.groupby(failed, key=lambda row: (row.label, row.reason)):
        names = [setting_name(row.backend, row.threads) for row in group]
        where = "" if len(names) == num_settings else f" ({'; '.join(names)})"
        lines.append(f"* {label}{where}: {reason}")
    return list(dict.fromkeys(lines))


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: text to the left, numbers to the right, columns without a value left out."""
    columns = [column for column in zip(head, *rows, strict=True) if any(cell != "–" for cell in column[1:])]
    head, *rows = zip(*columns, strict=True)
    align = ["left", *["right"] * (len(head) - 1)]
    return tabulate(rows, head, tablefmt="pipe", colalign=align, disable_numparse=True)


def group_rows(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows that are compared with each other, by table, size, keypoints and batch size."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.table or 0, row.image_hw, row.num_keypoints, row.batch_size), []).append(row)
    return list(groups.values())


def group_title(row: Row) -> str:
    """Return the heading of a row's group."""
    title = f"Table {row.table}: " if row.table else ""
    title += f"{row.image_hw[0]}×{row.image_hw[1]}"
    if row.num_keypoints:  # 0: only networks from outside the package
        title += f", {row.num_keypoints} keypoints"
    return title if row.batch_size == 1 else f"{title}, {row.batch_size} persons at a time"


def setting_name(backend: str, threads: int) -> str:
    """Return "eager, 2 threads"."""
    return f"{backend}, {threads} thread{'s' if threads > 1 else ''}"


def _reference_name(rows: Sequence[Row]) -> str:
    return next((row.label for row in rows if row.is_reference), "reference")


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _count(count: int | None, unit: float, digits: int, printed: str | None) -> str:
    """Return our count; for a system that cannot be built, what the paper prints: ``1.3 M`` → (1.3)."""
    if count is not None:
        return f"{count / unit:.{digits}f}"
    return f"({printed.split()[0]})" if printed else "–"


def _marked(row: Row, text: str) -> str:
    return f"~{text}" if row.noise and text != "–" else text


def _paper_row(row: Row) -> PaperRow | None:
    """Return what the paper prints for a row; Table 2 has test-dev's accuracy and no speeds, so it is not asked."""
    is_ours = row.model in VARIANTS and VARIANTS[row.model].is_paper
    for paper in TABLES[row.table] if row.table else (*TABLES[1], *TABLES[3]):
        same = paper.name == row.label if row.table else paper.model == row.model
        if paper.image_hw == row.image_hw and (same or (is_ours and paper.name == "LGM-Pose")):
            return paper
    return None


def _paper_fps(row: Row) -> float | None:
    """Return the paper's frames per second: on its CPU, or on its GPU for a row measured on an accelerator."""
    paper = _paper_row(row)
    return paper and (paper.fps_cpu if row.device == "cpu" else paper.fps_gpu)


def _paper_ratio(row: Row, rows: Sequence[Row]) -> float | None:
    """Return the reference's frames per second in the same table of the paper divided by this system's."""
    reference = next((other for other in rows if other.is_reference), None)
    paper, base = _paper_row(row), reference and _paper_row(reference)
    if not paper or not base or paper.table != base.table or not _paper_fps(row) or not _paper_fps(reference):
        return None
    return _paper_fps(reference) / _paper_fps(row)
