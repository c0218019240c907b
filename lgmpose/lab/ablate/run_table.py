"""The results of the ablations as Markdown tables with statements, and as figures."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from tabulate import tabulate

from lgmpose.files import open_atomically, write_atomically
from lgmpose.lab.ablate.comparisons import (
    PAPER_PCKH,
    contrasts,
    family_section,
    joint_verdict,
    judged_families,
    mean_figures,
)
from lgmpose.lab.ablate.rows import ABLATIONS, BASELINE, CHOICES, FAMILIES, NETWORKS, OTHER_NETWORKS
from lgmpose.lab.evidence import NOT_SIGNIFICANT

__all__ = ["costs_table", "draw_bars", "draw_peers", "markdown", "save_report"]

REMARKS = {  # family → how to read its table
    "peers": """\
All are trained from scratch on the same pictures by the same recipe, which was chosen for LGM-Pose. A better result
here means that a network learns fast from few pictures; it says little about the end of a long training.""",
    "recipes": """\
One thing of the recipe is changed at a time. A short training favours what learns quickly: an augmentation that costs
points here may gain them in a long training.""",
}


def save_report(json_file: Path, results: dict[str, Any]) -> None:
    """Write the tables and, if Matplotlib is installed, the figures beside the results file.

    ``NAME.png`` shows the ablations, as soon as LGM-Pose has a run. ``NAME-peers.png`` shows the other networks, as
    soon as they have runs and speeds.
    """
    write_atomically(json_file.with_suffix(".md"), markdown(results).encode())
    if not importlib.util.find_spec("matplotlib"):
        return
    from matplotlib.figure import Figure

    figures = {}
    if any(run["variant"] == BASELINE for run in results["runs"]):
        figures[json_file.with_suffix(".png")] = draw_bars, (8, 4.8)
    if len(_timed_peers(results)) > 1:
        figures[json_file.with_name(f"{json_file.stem}-peers.png")] = draw_peers, (7.5, 4.6)
    for path, (draw, size) in figures.items():
        figure = Figure(figsize=size, layout="constrained", dpi=110)
        draw(figure, results)
        with open_atomically(path) as file:
            figure.savefig(file, format="png")


def markdown(results: dict[str, Any]) -> str:
    """Return the conditions, a table per family, and the costs."""
    recipe = {name: value for name, value in results["recipe"].items() if value is not None}
    recipe |= recipe.pop("augmentation", {})
    parts = [
        "# Ablations, measured by `lgmpose ablate`",
        "Every network is evaluated once, at the end of its training. The paper's figures are PCKh@0.5 on MPII at "
        "256 × 256 after 260 epochs. Differences are percentage points to LGM-Pose, with simultaneous 95 % intervals "
        "over persons and seeds and p values adjusted for the rows of the table (`lgmpose/lab/evidence.py`).",
        "Recipe: " + ", ".join(f"`{name}` {value}" for name, value in recipe.items()),
        "Evaluation: " + ", ".join(f"{name} {value}" for name, value in results["conditions"].items()),
    ]
    for family in judged_families(results):
        parts.append(family_section(results, family))
        if family.name in REMARKS:
            parts.append(REMARKS[family.name])
    if costs := costs_table(results):
        parts += ["## Costs", costs]
    return "\n\n".join(parts) + "\n"


def costs_table(results: dict[str, Any]) -> str:
    """Return the table of costs and speeds, and how speeds were measured; "" where there are no costs."""
    speed = results["speed"]
    rows = []
    for name, cost in results["costs"].items():
        if name in CHOICES:  # most of them change no network
            continue
        timed = (speed or {"variants": {}})["variants"].get(name)
        fps = (f"{timed['fps']:.0f}", f"{1 / timed['ratio'][0]:.2f}") if timed else ("–", "–")
        rows.append([NETWORKS[name].label, f"{cost['params']:,}", f"{cost['macs'] / 1e6:.1f} M", *fps])
    if not rows:
        return ""
    head = ["network", "parameters", "MACs", "FPS", "time / LGM-Pose's"]
    text = tabulate(rows, head, "pipe", colalign=["left", *["right"] * 4], disable_numparse=True)
    if speed is not None:
        on = speed["conditions"]
        text += f"\n\nFPS: one picture at a time, {on['device']}, {on['threads']} thread(s), {on['cpu']}; the last "
        text += f"column is the median of {on['rounds']} paired rounds"
        text += "; busy machine, do not quote the FPS" if speed["noisy"] else ""
    return text


def draw_bars(figure, results: dict[str, Any]) -> None:
    """Draw the paper's differences to LGM-Pose on the left, and ours with intervals on the right, a network per row.

    Differences that are not significant are grey.

    Args:
        figure: a Matplotlib figure to draw in.
        results: content of a results file with a run of LGM-Pose.
    """
    names = [name for name in ABLATIONS if name != BASELINE]
    metric, conditions = next(iter(results["counted"])), results["conditions"]
    rows = {row.row: row for row in contrasts(results, FAMILIES["parts"])[metric]}
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(range(len(names)), [ABLATIONS[name].paper_difference or 0 for name in names], color="#e69f00", height=0.6)
    left.set_yticks(range(len(names)), [ABLATIONS[name].label for name in names])
    left.set(xlabel="points of PCKh@0.5")
    left.set(title=f"paper: MPII,\n256 × 256, 260 epochs\n(LGM-Pose: {PAPER_PCKH})")
    left.invert_yaxis()
    for y, name in enumerate(names):
        if name not in rows:
            continue
        row = rows[name]
        found = joint_verdict({metric: row}, ABLATIONS[name].paper_difference)
        right.barh(y, row.points, color="#0072b2" if row.significant else "#9a9a9a", height=0.6)
        if row.high < float("inf"):
            error = [[row.points - row.low], [row.high - row.points]]
            right.errorbar(row.points, y, xerr=error, color="black", capsize=3)
        text = "not significant" if found == NOT_SIGNIFICANT else found.replace(", ", ",\n").replace("; ", ";\n")
        right.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    right.set(
        xlabel=f"points of {metric}\nsimultaneous 95 % intervals",
        title=f"ours: {conditions['data']},\n{conditions['input']}, {results['recipe']['epochs']} epochs\n"
        f"(LGM-Pose: {mean_figures(results, BASELINE)[metric]:.1f})",
    )
    for axes in (left, right):
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(axis="x", alpha=0.3)


def _timed_peers(results: dict[str, Any]) -> list[str]:
    """Return LGM-Pose and the peers that have both runs and speed."""
    speeds = (results["speed"] or {"variants": {}})["variants"]
    trained = {run["variant"] for run in results["runs"]}
    return [name for name in (BASELINE, *OTHER_NETWORKS) if name in trained and name in speeds]


def draw_peers(figure, results: dict[str, Any]) -> None:
    """Draw accuracy against the time of one picture: a small dot per seed, their mean as a large one.

    Args:
        figure: a Matplotlib figure to draw in.
        results: content of a results file that holds speeds.
    """
    axes, metric, speed = figure.subplots(), next(iter(results["counted"])), results["speed"]
    for i, name in enumerate(_timed_peers(results)):
        ms, label = speed["variants"][name]["median_ms"], NETWORKS[name].label
        runs = [run["figures"][metric] for run in results["runs"] if run["variant"] == name]
        axes.scatter([ms] * len(runs), runs, s=14, color=f"C{i}", alpha=0.5)
        label += f", {results['costs'][name]['params'] / 1e6:.1f} M parameters"
        axes.scatter(ms, sum(runs) / len(runs), s=70, color=f"C{i}", edgecolor="white", zorder=3, label=label)
    on, conditions = speed["conditions"], results["conditions"]
    axes.legend()
    axes.set(
        xlabel="ms for one picture of {}×{}, {}, {} thread(s)".format(*on["image_hw"], on["device"], on["threads"]),
        ylabel=f"{metric} (%)",
        title=f"{conditions['data']}, {conditions['input']}, {results['recipe']['epochs']} epochs, from scratch\n"
        "large: mean of the seeds, small: one seed",
    )
    axes.grid(alpha=0.3)
