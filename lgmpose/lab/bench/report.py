"""What a result says: Markdown tables, and latency against MACs as a plot. Published figures come from ``paper``."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.lab.bench.plan import SCOPES, TABLE_NUMBERS
from lgmpose.lab.bench.result import BenchResult, Row
from lgmpose.lab.paper import TABLES, PaperRow, published
from lgmpose.network.config import STAGES, VARIANTS

__all__ = ["markdown", "markdown_table", "plot", "save_report"]

NOTES = """\
* **ms**: median over the rounds of one run; IQR: interquartile range; p95: 95 % of the runs took no longer; n: runs.
  **FPS**: persons per second by the median.
* **× LGM-Pose** (or another reference): how many times the reference's time a network takes: the median over the rounds
  of the ratio within one round, and its quartiles. The paper's: the ratio of its frames per second on one Xeon Silver
  4214 (for a run on a GPU here: on one Tesla M10).
* **floor**: a yardstick, measured in the same rounds: the time of PyTorch's matrix product with as many
  multiply–accumulates in the backend's precision, or of copying weights, pictures and heatmaps, whichever is longer;
  **of floor**: that time over the measured one (median of the rounds). A better product than PyTorch's may pass 100 %.
* MACs are true multiply–accumulates, activations the numbers written to memory (`lgmpose profile`). In brackets: as
  the paper prints it, for systems that cannot be built. AP (COCO val2017) and PCKh (MPII val) are **reported by the
  papers**, not measured: the networks timed here have random weights.
* **~** marks a noisy figure, not to be quoted: an interquartile range above 10 % of the median, or a load above the
  number of cores (with half a core of grace for this program itself).
"""


def save_report(result: BenchResult, json_file: str | Path) -> list[Path]:
    """Writes the Markdown and, where Matplotlib is installed, the plot beside a result file. → what was written.

    Raises:
        UserError: they cannot be written.
    """
    written = [Path(json_file).with_suffix(".md")]
    write_atomically(written[0], markdown(result).encode())
    if any(row.median_ms for row in result.rows):
        try:
            figure = plot(result)
        except UserError:  # no Matplotlib
            return written
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        written.append(Path(json_file).with_suffix(".png"))
        write_atomically(written[1], buffer.getvalue())
    return written


# Markdown


def markdown(result: BenchResult) -> str:
    """The whole report."""
    lines = ["# Latency, measured by `lgmpose bench`", "", *_header_lines(result), ""]
    for rows in _groups(result.rows):
        first = rows[0]
        lines += [f"## {_title(first)}", ""]
        settings = _settings_of(rows)
        if len(settings) > 1 and any(row.ratio for row in rows):
            lines += [*_overview(rows, settings), ""]
        for setting in settings:
            part = [row for row in rows if (row.backend, row.threads) == setting]
            lines += [f"{_setting_name(setting)}:", "", *_details(part), ""]
        lines += [*_reasons(rows, settings), ""]
    text = "\n".join([*lines, NOTES])
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def _header_lines(result: BenchResult) -> list[str]:
    header, settings = result.header, result.header["settings"]
    processes = header["processes"]
    versions, devices, loads = {}, {}, []
    for process in processes:
        versions |= process.get("versions", {})
        if process.get("device_name"):
            devices.setdefault(process["device_name"], {})[process.get("dtype", "")] = None  # a set, in order
        loads += [load for load in (process.get("load"), process.get("load_after")) if load is not None]
    allocator = "as it is, as in `lgmpose predict`"
    if settings["keep_memory"]:  # which another C library may have refused; of older results it is not known
        kept = all(process.get("keeps_memory", True) for process in processes)
        allocator = "keeps freed memory, as in `lgmpose train`" if kept else "told to keep memory, but not in use here"
    commit = f", commit {header['commit']}" if header["commit"] else ""
    timed = [row for row in result.rows if row.median_ms]
    noisy = sum(bool(row.noise) for row in timed)
    lines = [
        f"* {header['cpu']}, {header['cores']} cores; {header['system']}; device "
        + ", ".join(f"{name} ({', '.join(dtypes)})" for name, dtypes in devices.items()),
        f"* {header['date']}; lgmpose {header['lgmpose']}{commit}; Python {header['python']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "* Backends: " + "; ".join(f"`{name}`: {what}" for name, what in header["backends"].items()),
        f"* Measured: {SCOPES[settings['scope']]}"
        + (f" ({settings['codec']})" if settings["scope"] != "network" else "")
        + f"; eval mode, `inference_mode`, batches of {', '.join(map(str, settings['batch_sizes']))}; one fresh "
        "process per backend and number of threads",
        f"* {settings['warmup']} warm-up runs (3 where one takes more than a second), then rounds in each of which "
        f"every network of a group runs once, in random order: {settings['runs']} rounds, or as many as "
        f"{settings['seconds']:g} s per network allow, but at least {settings['min_rounds']}",
        f"* glibc's allocator: {allocator}"
        + (f"; load (one minute's) from {min(loads):.1f} to {max(loads):.1f}" if loads else ""),
    ]
    limits = [
        f"`{p['backend']}`, {p['threads']}: {p['gemm_gops']:.0f} GOP/s, {p['copy_gbs']:.0f} GB/s"
        for p in processes if "gemm_gops" in p
    ]  # fmt: skip
    if limits:
        lines.append("* The machine's limit (matrix product, copy), by process and threads: " + "; ".join(limits))
    if noisy:
        lines.append(f"* **Noisy: {noisy} of {len(timed)} figures**, marked ~; do not quote them")
    if not result.finished:
        lines.append("* **Stopped before the end**: some rows are missing")
    return lines


def _overview(rows: Sequence[Row], settings: Sequence[tuple[str, int]]) -> list[str]:
    """Ratios of all settings side by side: is the claim true here?"""
    reference = _reference_name(rows)
    head = ["system", f"paper × {reference}", *(f"{name}, {count}" for name, count in settings)]
    table = []
    for label in dict.fromkeys(row.label for row in rows):
        own = {(row.backend, row.threads): row for row in rows if row.label == label}
        row = next(iter(own.values()))
        cells = [_mark(own[s], _number(own[s].ratio, 2)) if s in own else "–" for s in settings]
        table.append([label, _number(_paper_ratio(row, rows), 2), *cells])
    return [f"Times {reference}'s time, by backend and threads:", "", *markdown_table(head, table)]


def _details(rows: Sequence[Row]) -> list[str]:
    reference = _reference_name(rows)
    speed = "FPS" if rows[0].batch_size == 1 else "persons/s"
    head = [
        "system", "params M", "MACs G", "activations M", "reported", "ms", "IQR", "p95", "n", speed, f"× {reference}",
        "floor ms", "of floor", "paper FPS", "paper ×",
    ]  # fmt: skip
    table = []
    for row in rows:
        paper = _paper_row(row)
        ratio = _number(row.ratio, 2)
        if row.ratio_iqr and not row.is_reference:
            ratio += f" [{row.ratio_iqr[0]:.2f}, {row.ratio_iqr[1]:.2f}]"
        table.append([
            row.label,
            _counted(row.params, 1e6, 2, paper and paper.params),
            _counted(row.macs, 1e9, 3, paper and paper.flops),
            _number(row.activations and row.activations / 1e6, 1),
            _accuracy(paper),
            _mark(row, _number(row.median_ms, 1)),
            _number(row.iqr_ms, 1),
            _number(row.p95_ms, 1),
            str(row.n or "–"),
            _number(row.fps, 1),
            ratio,
            _number(row.floor_ms, 1),
            "–" if row.of_floor is None else _mark(row, f"{row.of_floor:.0%}"),
            _number(_paper_fps(row), 1),
            _number(_paper_ratio(row, rows), 2),
        ])  # fmt: skip
    return markdown_table(head, table)


def _reasons(rows: Sequence[Row], settings: Sequence[tuple[str, int]]) -> list[str]:
    """One line per system without figures (where only some settings failed, which), and per figure in doubt."""
    notes = {row.label: _paper_row(row).note for row in rows if row.table and row.model}
    lines = [f"* {label}: {note}" for label, note in notes.items() if note]
    for (label, reason), failed in itertools.groupby(
        sorted((row for row in rows if row.reason), key=lambda r: (r.label, r.reason)), lambda r: (r.label, r.reason)
    ):
        where = [(row.backend, row.threads) for row in failed]
        places = "" if len(where) == len(settings) else f" ({'; '.join(map(_setting_name, where))})"
        lines.append(f"* {label}{places}: {reason}")
    return lines


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table that can be read as it stands: columns padded, numbers to the right, empty columns left out."""
    columns = [column for column in zip(head, *rows, strict=True) if any(cell != "–" for cell in column[1:])]
    head, *rows = zip(*columns, strict=True)
    widths = [max(3, *map(len, column)) for column in columns]  # fewer than three characters make no rule

    def line(cells: Iterable[str]) -> str:
        padded = (c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (w - 1) if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return [line(head), line(rule), *map(line, rows)]


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    def key(row: Row):
        return row.table or 0, row.image_hw, row.num_keypoints, row.batch_size

    groups: dict = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def _title(row: Row) -> str:
    title = f"{row.image_hw[0]}×{row.image_hw[1]}, {row.num_keypoints} keypoints"
    title = f"Table {row.table}: {title}" if row.table else title
    return title if row.batch_size == 1 else f"{title}, {row.batch_size} persons at a time"


def _settings_of(rows: Sequence[Row]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((row.backend, row.threads) for row in rows))


def _setting_name(setting: tuple[str, int]) -> str:
    return f"{setting[0]}, {setting[1]} thread{'s' if setting[1] > 1 else ''}"


def _reference_name(rows: Sequence[Row]) -> str:
    return next((row.label for row in rows if row.is_reference), "reference")


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _counted(count: int | None, unit: float, digits: int, printed: str | None) -> str:
    """Our count or, in brackets, what the paper prints for a system that cannot be built: ``1.3 M`` → (1.3)."""
    if count is not None:
        return f"{count / unit:.{digits}f}"
    return f"({printed.split()[0]})" if printed else "–"


def _mark(row: Row, text: str) -> str:
    return f"~{text}" if row.noise and text != "–" else text


# What the paper prints for a row


def _paper_row(row: Row) -> PaperRow | None:
    if row.table is None:
        paper = _own_row(row) or published(row.model, image_hw=row.image_hw)
        return paper if paper and paper.table in TABLE_NUMBERS else None  # Table 2 has test-dev's AP and no speeds
    rows = [r for r in TABLES[row.table] if (r.name, r.image_hw) == (row.label, row.image_hw)]
    return rows[0] if rows else None


def _own_row(row: Row) -> PaperRow | None:
    """LGM-Pose's row at this size: its variants are one network, whichever was named."""
    if row.model not in VARIANTS or VARIANTS[row.model].stages != STAGES:
        return None
    own = (r for table in TABLE_NUMBERS for r in TABLES[table] if r.name == "LGM-Pose")
    return next((r for r in own if r.image_hw == row.image_hw), None)


def _paper_fps(row: Row) -> float | None:
    """The paper's frames per second: on its CPU or, for a row measured on an accelerator, on its GPU."""
    paper = _paper_row(row)
    return paper and _fps_of(paper, row.device)


def _paper_ratio(row: Row, rows: Sequence[Row]) -> float | None:
    """The reference's frames per second in the paper's table over this system's; None where one of them has none."""
    reference = next((other for other in rows if other.is_reference), None)
    paper, own = _paper_row(row), _paper_fps(row)
    base = reference and _paper_row(reference)
    if own is None or base is None or base.table != paper.table or _paper_fps(reference) is None:
        return None
    return _paper_fps(reference) / own


def _fps_of(paper: PaperRow, device: str) -> float | None:
    return paper.fps_cpu if device == "cpu" else paper.fps_gpu


def _accuracy(paper: PaperRow | None) -> str:
    if paper is None:
        return "–"
    return f"{paper.ap} AP" if paper.ap is not None else f"{paper.pckh} PCKh"


# The plot


def plot(result: BenchResult, *, backend: str | None = None, threads: int | None = None):
    """Latency against MACs, a panel per input size and per (backend, threads); the colour is the published accuracy.

    Sizes stand side by side; of a single size, the numbers of threads do.

    Args:
        backend: only this one.
        threads: only this number.

    Returns:
        A ``matplotlib.figure.Figure``.

    Raises:
        UserError: Matplotlib is not installed, or there is nothing to draw.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError("a plot needs Matplotlib: pip install 'lgmpose[plot]' installs it") from error
    rows = [
        row for row in result.rows
        if row.median_ms and backend in (None, row.backend) and threads in (None, row.threads)
    ]  # fmt: skip
    if not rows:
        raise UserError("nothing to draw: no network has a time")
    settings, columns = _settings_of(rows), _groups(rows)
    counts = list(dict.fromkeys(count for _, count in settings))
    across = len(columns) if len(columns) > 1 else len(counts)
    down = len(settings) * len(columns) // across
    if down * across < len(settings) * len(columns):  # not every backend has every number of threads
        across, down = len(columns), len(settings)
    figure = Figure(figsize=(1.2 + 5.4 * across, 0.6 + 4.2 * down), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)  # knows how wide letters are
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    panels = grid if len(columns) > 1 else grid.reshape(-1, 1)
    if len(columns) == 1 and across > 1:  # row by row: a backend's numbers of threads
        settings = sorted(settings, key=lambda s: (list(dict.fromkeys(b for b, _ in settings)).index(s[0]), s[1]))
    macs, times = [row.macs / 1e9 for row in rows], [row.median_ms for row in rows]
    limits = (min(macs) / 1.7, max(macs) * 2.5), (min(times) / 1.5, max(times) * 1.8)
    for j, group in enumerate(columns):
        colours = _colour_scale(group)
        for i, setting in enumerate(settings):
            part = [row for row in group if (row.backend, row.threads) == setting]
            _panel(panels[i, j], part, colours, limits)
            panels[i, j].set_title(f"{_title(group[0])}\n{_setting_name(setting)}", fontsize=10)
        if colours is not None:
            metric = "AP on COCO val2017" if _paper_row(_with_accuracy(group)[0]).ap else "PCKh@0.5 on MPII val"
            bar = figure.colorbar(colours, ax=panels[:, j].tolist(), shrink=0.85, pad=0.02)
            bar.set_label(f"{metric}, reported by the papers", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("measured latency (ms)")
    for axes in grid[-1]:
        axes.set_xlabel("true MACs (G)")
    figure.canvas.draw()  # labels can be placed once everything has its size
    figure.set_layout_engine("none")
    for axes in panels.flat:
        _place_labels(figure, axes)
    return figure


def _with_accuracy(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if _value(row) is not None]


def _value(row: Row) -> float | None:
    paper = _paper_row(row)
    return None if paper is None else paper.ap if paper.ap is not None else paper.pckh


def _colour_scale(rows: Sequence[Row]):
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    values = [_value(row) for row in _with_accuracy(rows)]
    if not values:
        return None
    low, high = min(values), max(values)
    return ScalarMappable(Normalize(low, high if high > low else low + 1), "viridis")


def _panel(axes, rows: Sequence[Row], colours, limits) -> None:
    """One scatter, with lines of equal speed behind it; what is to be labelled is left in ``axes.labelled``."""
    axes.set(xscale="log", yscale="log")
    axes.labelled = []
    for row in rows:
        value = _value(row)
        axes.scatter(
            row.macs / 1e9, row.median_ms, s=110 if row.is_reference else 60, zorder=3, linewidths=1.2,
            marker="*" if row.is_reference else "o", edgecolors="black",
            c=["white" if value is None else colours.to_rgba(value)],
        )  # fmt: skip
        axes.labelled.append((row.macs / 1e9, row.median_ms, row.label))
    (left, right), (low, high) = limits
    for speed in (1, 3, 10, 30, 100, 300, 1000):  # GMAC/s
        axes.plot([left, right], [1e3 * left / speed, 1e3 * right / speed], color="0.85", linewidth=0.8, zorder=1)
        x = min(right, high * speed / 1e3)  # where the line leaves the panel: to the right or at the top
        if 1.1 * left < x and 1.1 * low < 1e3 * x / speed:
            axes.text(0.985 * x, 0.97e3 * x / speed, f"{speed} GMAC/s", fontsize=7, color="0.55", ha="right", va="top")
    axes.set(xlim=(left, right), ylim=(low, high))
    axes.grid(alpha=0.15, which="both")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, position: f"{value:g}")
        if limits[axis is axes.yaxis][1] / limits[axis is axes.yaxis][0] > 60:
            axis.set_minor_formatter("")  # two decades: 1, 10, 100 are enough
        else:
            axis.set_minor_formatter(lambda value, position: f"{value:.2g}")
    axes.spines[["top", "right"]].set_visible(False)


def _place_labels(figure, axes) -> None:
    """Writes each label where it covers no point and no other label: the first free place of rings around its point."""
    from matplotlib.transforms import Bbox

    renderer = figure.canvas.get_renderer()
    points = [(axes.transData.transform((x, y)), text) for x, y, text in axes.labelled]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for (x, y), _ in points]
    taken += [text.get_window_extent(renderer) for text in axes.texts]  # of the lines of equal speed
    frame = axes.get_window_extent(renderer)
    to_data = axes.transData.inverted().transform
    for (x, y), text in sorted(points, key=lambda point: -point[0][1]):
        label = axes.text(*to_data((x, y)), text, fontsize=8, ha="center", va="center", zorder=4)
        size = label.get_window_extent(renderer)
        best = None
        for ring, turn in itertools.product((0, 10, 20, 32, 46, 62), range(16)):
            angle = 2 * math.pi * turn / 16
            cx = x + math.cos(angle) * (size.width / 2 + 10 + ring)
            cy = y + math.sin(angle) * (size.height / 2 + 9 + ring)
            box = Bbox.from_bounds(cx - size.width / 2, cy - size.height / 2, size.width, size.height)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                best = cx, cy, box, ring
                break
        cx, cy, box, ring = best or (x, y + 12, size, 0)
        label.set_position(to_data((cx, cy)))
        taken.append(box)
        if ring >= 20:  # far away: a line says whose it is
            axes.plot(*zip(to_data((x, y)), to_data((cx, cy)), strict=True), color="0.6", linewidth=0.7, zorder=2)
