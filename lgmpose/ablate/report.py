"""The ablations for people: a Markdown table with statements, and the paper's bars beside ours."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

from lgmpose.ablate.compare import Comparison, compare, published_pckh
from lgmpose.ablate.config import ABLATIONS, BASELINE
from lgmpose.files import write_atomically

__all__ = ["draw_bars", "markdown", "save_report"]

COLOURS = {
    "holds": "#0072b2",
    "does not hold": "#d55e00",
    "cannot be told": "#9a9a9a",
    "better": "#56b4e9",
    "worse": "#56b4e9",
}


def save_report(json_file: Path, results: dict[str, Any]) -> None:
    """Writes the table and, where Matplotlib is installed, the figure beside the results file."""
    write_atomically(json_file.with_suffix(".md"), markdown(results).encode())
    if importlib.util.find_spec("matplotlib"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4.8), layout="constrained", dpi=110)
        draw_bars(figure, results)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        write_atomically(json_file.with_suffix(".png"), buffer.getvalue())


def markdown(results: dict[str, Any]) -> str:
    """Conditions, the table, and one statement per row."""
    rows = compare(results)
    metrics = list(results["counted"])
    heads = ["network", "paper's PCKh", *(f"{m}, difference" for m in metrics), "parameters", "MACs", "FPS", "× speed"]
    heads += ["seeds", "the paper's ordering"]
    lines = [
        "# Ablations",
        "",
        _conditions(results),
        "",
        "| " + " | ".join(heads) + " |",
        "| --- |" + " --: |" * (len(heads) - 3) + " --- | --- |",
        *(_line(row, metrics, results) for row in rows),
        "",
        "Differences are points to LGM-Pose over the seeds that both have, with paired bootstrap 95 % intervals "
        "(persons drawn again, seeds averaged). A row counts as told only if its interval leaves out 0 and the "
        "difference exceeds what other seeds may change (Fisher's least significant difference over all runs). A row "
        "without any true difference would still be told in up to one table of twenty.",
        "",
    ]
    return "\n".join([*lines, *(f"* {row.statement}" for row in rows if row.statement)]) + "\n"


def _conditions(results: dict[str, Any]) -> str:
    recipe, speed = results["recipe"], results["speed"]
    text = (
        f"`{results['command']}`\n\nEvery network: {recipe['epochs']} epochs, batch {recipe['batch_size']}, "
        "evaluated once, at the end. "
        + ", ".join(f"{name}: {value}" for name, value in results["conditions"].items())
        + ". The paper's figures are PCKh@0.5 on MPII at 256 × 256 after 260 epochs."
    )
    if speed is not None:
        on = speed["conditions"]
        text += (
            f" FPS: one picture at a time, {on['device']}, {on['threads']} thread(s), {on['cpu']}; × speed is the "
            f"median of {on['rounds']} paired rounds"
            + (", on a busy machine: do not quote the FPS." if speed["noisy"] else ".")
        )
    return text


def _line(row: Comparison, metrics: list[str], results: dict[str, Any]) -> str:
    variant, cost = ABLATIONS[row.name], results["costs"].get(row.name)
    paper = variant.paper_pckh
    if paper is not None and row.name != BASELINE:
        paper = f"{paper} ({variant.paper_difference:+.1f})".replace("-", "−")
    cells = [variant.label, "–" if paper is None else str(paper)]
    for metric in metrics:
        difference = f", {row.differences[metric]}" if metric in row.differences else ""
        cells.append(f"{row.figures[metric]:.2f}{difference}")
    cells += [f"{cost['params']:,}", f"{cost['macs'] / 1e6:.1f} M"] if cost else ["–", "–"]
    speed = (results["speed"] or {"variants": {}})["variants"].get(row.name)
    cells += [f"{speed['fps']:.0f}", f"{speed['ratio'][0]:.2f}"] if speed else ["–", "–"]
    return "| " + " | ".join([*cells, " ".join(map(str, row.seeds)), row.verdict or "–"]) + " |"


def draw_bars(figure, results: dict[str, Any] | None) -> None:
    """The paper's differences to LGM-Pose on the left, ours with intervals on the right, a network per row.

    Args:
        figure: a Matplotlib figure to draw in.
        results: content of a results file; None draws the paper's alone.
    """
    names = [name for name in ABLATIONS if name != BASELINE]
    heights = range(len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    paper = [ABLATIONS[name].paper_difference for name in names]
    left.barh(heights, [value or 0 for value in paper], color="#e69f00", height=0.6)
    for y, value in zip(heights, paper, strict=True):
        text = "not in the paper" if value is None else f"{value:+.1f}".replace("-", "−")
        space = 0.05 if (value or 0) >= 0 else -0.05
        left.text((value or 0) + space, y, text, va="center", ha="left" if space > 0 else "right", fontsize=9)
    left.set(
        yticks=list(heights), xlim=(-2.6, 1.6), xlabel="points of PCKh@0.5",
        title=f"the paper: MPII, 256 × 256, 260 epochs\n(LGM-Pose: {published_pckh()})",
    )  # fmt: skip
    left.set_yticklabels([ABLATIONS[name].label for name in names])
    left.invert_yaxis()
    _draw_ours(right, {row.name: row for row in compare(results)} if results else {}, names, results)
    for axes in (left, right):
        axes.axvline(0, color="black", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)


def _draw_ours(axes, rows: dict[str, Comparison], names: list[str], results: dict[str, Any] | None) -> None:
    found = {name: rows[name].differences for name in names if name in rows and rows[name].differences}
    if not found:
        axes.set(title="ours: no runs yet", xticks=[])
        return
    metrics = list(next(iter(found.values())))
    edges = [edge for of in found.values() for d in of.values() for edge in (d.low, d.high, 0)]
    room = max(0.04 * (max(edges) - min(edges)), 0.02)
    for y, name in enumerate(names):
        if name not in found:
            axes.text(room, y, "no run yet", va="center", fontsize=9)
            continue
        for i, metric in enumerate(metrics):
            d = found[name][metric]
            error = [[d.points - d.low], [d.high - d.points]]
            if i == 0:
                axes.barh(y, d.points, color=COLOURS[rows[name].verdict], height=0.6)
                axes.errorbar(d.points, y, xerr=error, color="black", capsize=3, linewidth=1.2)
            else:
                style = {"color": "#555555", "fmt": "d", "markersize": 4, "capsize": 2, "linewidth": 0.8}
                axes.errorbar(d.points, y + 0.22, xerr=error, **style)
        axes.text(max(edges) + room, y, rows[name].verdict, va="center", fontsize=9)
    axes.set_xlim(min(edges) - room, max(edges) + 11 * room)
    conditions, epochs = results["conditions"], results["recipe"]["epochs"]
    base = rows[BASELINE].figures[metrics[0]]
    axes.set(
        xlabel=f"points of {metrics[0]} (bars)" + (f" and {metrics[1]} (diamonds)" if len(metrics) > 1 else ""),
        title=f"ours: {conditions['data']}, {conditions['input']}, {epochs} epochs\n"
        f"(LGM-Pose: {base:.1f}; 95 % intervals)",
    )
