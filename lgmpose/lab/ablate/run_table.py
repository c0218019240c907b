"""The results of the ablations as Markdown tables with statements, and as figures."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

from tabulate import tabulate

from lgmpose.files import write_atomically
from lgmpose.lab.ablate.rows import ABLATIONS, BASELINE, CHOICES, NETWORKS, OTHER_NETWORKS
from lgmpose.lab.ablate.verdicts import PAPER_PCKH, Comparison, compare

__all__ = ["draw_bars", "draw_peers", "markdown", "save_report"]

SECTIONS = {  # heading → rows, and how to read them
    "## LGM-Pose with one thing changed": (ABLATIONS, """\
Differences are percentage points to LGM-Pose over the seeds that both have, with paired bootstrap 95 % intervals
(persons resampled, seeds averaged). A difference counts as significant only if its interval excludes 0 and if it
exceeds what other seeds may change (Fisher's least significant difference, from the runs of its table). This rule tests
each row alone. The page docs/ablations.md judges the same runs by Dunnett's test."""),
    "## Other networks, the same recipe": (OTHER_NETWORKS, """\
All are trained from scratch on the same pictures by the same recipe, which was chosen for LGM-Pose. A better result
here means that a network learns fast from few pictures; it says little about the end of a long training."""),
    "## LGM-Pose, other recipes and activations": (CHOICES, """\
One thing of the recipe is changed at a time. A short training favours what learns quickly: an augmentation that costs
points here may gain them in a long training."""),
}  # fmt: skip


def save_report(json_file: Path, results: dict[str, Any]) -> None:
    """Write the tables and, if Matplotlib is installed, the figures beside the results file.

    ``NAME.png`` shows the ablations, ``NAME-peers.png`` the other networks, as soon as they have runs and speeds.
    """
    write_atomically(json_file.with_suffix(".md"), markdown(results).encode())
    if not importlib.util.find_spec("matplotlib"):
        return
    from matplotlib.figure import Figure

    figures = {json_file.with_suffix(".png"): (draw_bars, (10, 4.8))}
    if len(_timed_peers(results)) > 1:
        figures[json_file.with_name(f"{json_file.stem}-peers.png")] = (draw_peers, (7.5, 4.6))
    for path, (draw, size) in figures.items():
        figure, buffer = Figure(figsize=size, layout="constrained", dpi=110), io.BytesIO()
        draw(figure, results)
        figure.savefig(buffer, format="png")
        write_atomically(path, buffer.getvalue())


def markdown(results: dict[str, Any]) -> str:
    """Return the conditions, a table per section, and a statement per row."""
    rows = {row.name: row for row in compare(results)}
    parts = [
        "# Ablations, measured by `lgmpose ablate`",
        "Every network is evaluated once, at the end of its training. The paper's figures are PCKh@0.5 on MPII at "
        "256 × 256 after 260 epochs. Verdicts on this page test each row alone. The page docs/ablations.md corrects "
        "for the number of rows; its verdicts are stricter, and the project's conclusions follow them.",
        "Recipe: " + ", ".join(f"{name} {value}" for name, value in results["recipe"].items() if value is not None),
        "Evaluation: " + ", ".join(f"{name} {value}" for name, value in results["conditions"].items()),
    ]
    if (speed := results["speed"]) is not None:
        on = speed["conditions"]
        parts.append(
            f"FPS: one picture at a time, {on['device']}, {on['threads']} thread(s), {on['cpu']}; × speed is the "
            f"median of {on['rounds']} paired rounds"
            + ("; busy machine, do not quote the FPS" if speed["noisy"] else "")
        )
    for heading, (table, remark) in SECTIONS.items():
        names = [name for name in table if name in rows]
        if names:
            shown = [rows[name] for name in dict.fromkeys([BASELINE, *names]) if name in rows]
            cells = [_cells(row, results, costs=table is not CHOICES) for row in shown]
            align = ["left", *["right"] * (len(cells[0]) - 3), "left", "left"]
            text = tabulate(cells, "keys", tablefmt="pipe", colalign=align, disable_numparse=True)
            statements = "\n".join(f"* {row.statement}" for row in shown if row.statement and row.name in table)
            parts += [heading, text, remark, statements]
    return "\n\n".join(parts) + "\n"


def _cells(row: Comparison, results: dict[str, Any], costs: bool) -> dict[str, str]:
    """Return a row's cells by their headings; "–" where nothing is known."""
    variant, cost = NETWORKS[row.name], results["costs"].get(row.name)
    speed = (results["speed"] or {"variants": {}})["variants"].get(row.name)
    cells = {"network": variant.label}
    if costs:
        paper = "–" if variant.paper_pckh is None else str(variant.paper_pckh)
        if variant.paper_difference:
            paper += f" ({variant.paper_difference:+.1f})".replace("-", "−")
        cells["paper's PCKh"] = paper
    for metric in results["counted"]:
        difference = f", {row.differences[metric]}" if metric in row.differences else ""
        cells[f"{metric}, difference"] = f"{row.figures[metric]:.2f}{difference}"
    if costs:
        cells["parameters"], cells["MACs"] = (f"{cost['params']:,}", f"{cost['macs'] / 1e6:.1f} M") if cost else "––"
        cells["FPS"], cells["× speed"] = (f"{speed['fps']:.0f}", f"{speed['ratio'][0]:.2f}") if speed else "––"
    last = "the paper's ordering" if costs else "here"
    return cells | {"seeds": " ".join(map(str, row.seeds)), last: row.verdict or "–"}


def draw_bars(figure, results: dict[str, Any]) -> None:
    """Draw the paper's differences to LGM-Pose on the left, and ours with intervals on the right, a network per row.

    The grey band behind our bars shows what other seeds may change: a bar that ends in it is not significant.

    Args:
        figure: a Matplotlib figure to draw in.
        results: content of a results file with a run of LGM-Pose.
    """
    names = [name for name in ABLATIONS if name != BASELINE]
    rows = {row.name: row for row in compare(results)}
    metric, conditions = next(iter(results["counted"])), results["conditions"]
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(range(len(names)), [ABLATIONS[name].paper_difference or 0 for name in names], color="#e69f00", height=0.6)
    left.set_yticks(range(len(names)), [ABLATIONS[name].label for name in names])
    left.set(xlabel="points of PCKh@0.5")
    left.set(title=f"paper: MPII, 256 × 256, 260 epochs\n(LGM-Pose: {PAPER_PCKH})")
    left.invert_yaxis()
    for y, name in enumerate(names):
        if name not in rows or not rows[name].differences:
            continue
        d, margin, found = rows[name].differences[metric], rows[name].margin, rows[name].verdict
        if margin is not None:
            right.barh(y, 2 * margin, left=-margin, color="#e8e8e8", height=1, zorder=0.5)
        right.barh(y, d.points, color="#9a9a9a" if found == "not significant" else "#0072b2", height=0.6)
        right.errorbar(d.points, y, xerr=[[d.points - d.low], [d.high - d.points]], color="black", capsize=3)
        right.annotate(found, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    right.set(
        xlabel=f"points of {metric}; grey: what other seeds change",
        title=f"ours: {conditions['data']}, {conditions['input']}, {results['recipe']['epochs']} epochs\n"
        f"(LGM-Pose: {rows[BASELINE].figures[metric]:.1f}; 95 % intervals)",
    )  # fmt: skip
    for axes in (left, right):
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(axis="x", alpha=0.3)


def _timed_peers(results: dict[str, Any]) -> list[Comparison]:
    """Return LGM-Pose and the peers that have both runs and speed."""
    speeds = (results["speed"] or {"variants": {}})["variants"]
    return [row for row in compare(results) if row.name in (BASELINE, *OTHER_NETWORKS) and row.name in speeds]


def draw_peers(figure, results: dict[str, Any]) -> None:
    """Draw accuracy against the time of one picture: a small dot per seed, their mean as a large one.

    Args:
        figure: a Matplotlib figure to draw in.
        results: content of a results file that holds speeds.
    """
    axes, metric, speed = figure.subplots(), next(iter(results["counted"])), results["speed"]
    for i, row in enumerate(_timed_peers(results)):
        ms, label = speed["variants"][row.name]["median_ms"], NETWORKS[row.name].label
        runs = [run["figures"][metric] for run in results["runs"] if run["variant"] == row.name]
        axes.scatter([ms] * len(runs), runs, s=14, color=f"C{i}", alpha=0.5)
        label += f", {results['costs'][row.name]['params'] / 1e6:.1f} M parameters"
        axes.scatter(ms, row.figures[metric], s=70, color=f"C{i}", edgecolor="white", zorder=3, label=label)
    on, conditions = speed["conditions"], results["conditions"]
    axes.legend()
    axes.set(
        xlabel="ms for one picture of {}×{}, {}, {} thread(s)".format(*on["image_hw"], on["device"], on["threads"]),
        ylabel=f"{metric} (%)",
        title=f"{conditions['data']}, {conditions['input']}, {results['recipe']['epochs']} epochs, from scratch\n"
        "large: mean of the seeds, small: one seed",
    )
    axes.grid(alpha=0.3)
