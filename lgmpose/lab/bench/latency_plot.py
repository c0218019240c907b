"""The plot of a ``BenchResult``: the median time of every network, one panel per group, one marker per setting."""

from __future__ import annotations

from pathlib import Path

from lgmpose.errors import UserError, require
from lgmpose.files import open_atomically, write_atomically
from lgmpose.lab.bench.latency_table import group_rows, group_title, markdown, setting_name
from lgmpose.lab.bench.measurement import BenchResult

__all__ = ["plot", "save_report"]

MARKERS = "osD^vP*X"


def save_report(result: BenchResult, json_file: str | Path) -> list[Path]:
    """Write the Markdown report and, if Matplotlib is installed, the plot beside a result file; return their paths."""
    written = [Path(json_file).with_suffix(".md")]
    write_atomically(written[0], markdown(result).encode())
    if any(row.median_ms for row in result.rows):
        try:
            figure = plot(result)
        except UserError:  # no Matplotlib
            return written
        written.append(Path(json_file).with_suffix(".png"))
        with open_atomically(written[1]) as file:
            figure.savefig(file, format="png")
    return written


def plot(result: BenchResult):
    """Return a ``matplotlib.figure.Figure`` with the networks as rows, the fastest at the top, and times on a log axis.

    Raises:
        UserError: Matplotlib is not installed, or no network has a time.
    """
    require("matplotlib", "plot", "a plot")
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    groups = group_rows([row for row in result.rows if row.median_ms])
    if not groups:
        raise UserError("nothing to plot: no network has a time")
    backends, threads = (list(dict.fromkeys(getattr(r, name) for r in result.rows)) for name in ("backend", "threads"))
    height = 1.6 + 0.3 * max(len({row.label for row in rows}) for rows in groups)
    figure = Figure(figsize=(0.5 + 6 * len(groups), height), layout="constrained", dpi=110)
    for axes, rows in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        fastest = {}
        for row in rows:
            fastest[row.label] = min(row.median_ms, fastest.get(row.label, row.median_ms))
        labels = sorted(fastest, key=fastest.get, reverse=True)
        for setting in dict.fromkeys((row.backend, row.threads) for row in rows):
            part = [row for row in rows if (row.backend, row.threads) == setting]
            axes.plot(
                [row.median_ms for row in part], [labels.index(row.label) for row in part], linestyle="", alpha=0.8,
                color=f"C{backends.index(setting[0]) % 10}", marker=MARKERS[threads.index(setting[1]) % len(MARKERS)],
                label=setting_name(*setting),
            )  # fmt: skip
        axes.set(xscale="log", xlabel="ms per run, median", title=group_title(rows[0]), yticks=range(len(labels)))
        axes.set_yticklabels(labels)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))  # beside the plot: points may be anywhere
    return figure
