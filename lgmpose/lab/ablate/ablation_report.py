"""The results for people: Markdown tables with statements, the paper's bars beside ours, accuracy against speed."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

from lgmpose.files import write_atomically
from lgmpose.lab.ablate.recipe_rows import ABLATIONS, BASELINE, CHOICES, NETWORKS, PEERS
from lgmpose.lab.ablate.statistics import Comparison, compare, published_pckh

__all__ = ["draw_bars", "draw_peers", "markdown", "save_report"]

COLOURS = {
    "holds": "#0072b2",
    "does not hold": "#d55e00",
    "cannot be told": "#9a9a9a",
    "better": "#56b4e9",
    "worse": "#56b4e9",
}

SECTIONS = (  # below the ablations: heading and remark of the peers' table and of the choices'
    (
        "Other networks, the same recipe",
        "Trained on the same pictures by the same recipe, from scratch: none had its rate or its epochs chosen for it, "
        "though LGM-Pose's recipe was. A lead here is one of learning fast on few pictures, and says little about the "
        "end of a long training.",
    ),
    (
        "LGM-Pose, other recipes and activations",
        "One thing of the recipe changed at a time. A few epochs favour what learns quickly: an augmentation that "
        "costs points here may earn them in a long training.",
    ),
)


def save_report(json_file: Path, results: dict[str, Any]) -> None:
    """Writes the tables and, where Matplotlib is installed, the figures beside the results file.

    ``NAME.png`` has the ablations, ``NAME-peers.png`` the other networks, once their runs and speeds are there.
    """
    write_atomically(json_file.with_suffix(".md"), markdown(results).encode())
    if not importlib.util.find_spec("matplotlib"):
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained", dpi=110)
    draw_bars(figure, results)
    _save(figure, json_file.with_suffix(".png"))
    if _peers_timed(results):
        figure = Figure(figsize=(7.5, 4.6), layout="constrained", dpi=110)
        draw_peers(figure, results)
        _save(figure, json_file.with_name(f"{json_file.stem}-peers.png"))


def _save(figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


def markdown(results: dict[str, Any]) -> str:
    """Conditions, the tables, and one statement per row."""
    rows = compare(results)
    metrics = list(results["counted"])
    own = [row for row in rows if row.name in ABLATIONS]
    base = [row for row in rows if row.name == BASELINE]
    heads = {"name": "network", "paper": "paper's PCKh", **{metric: f"{metric}, difference" for metric in metrics}}
    heads |= {"params": "parameters", "macs": "MACs", "fps": "FPS", "ratio": "× speed", "seeds": "seeds"}
    heads |= {"verdict": "the paper's ordering"}
    # Recipes change neither costs nor speed, and the paper has none of them.
    recipe_heads = {key: heads[key] for key in ("name", *metrics, "seeds", "verdict")}
    recipe_heads |= {"name": "recipe", "verdict": "here"}
    lines = [
        "# Ablations" + (" and other networks" if len(rows) > len(own) else ""),
        "",
        _conditions(results),
        "",
        *_table(heads, own, results),
        "Differences are points to LGM-Pose over the seeds that both have, with paired bootstrap 95 % intervals "
        "(persons drawn again, seeds averaged). A row counts as told only if its interval leaves out 0 and the "
        "difference exceeds what other seeds may change (Fisher's least significant difference, by its table's runs). "
        "A row without any true difference would still be told in up to one table of twenty. A row with fewer seeds "
        "than LGM-Pose's has no others yet; a network of the command without a row, none.",
        "",
        *_statements(own),
    ]
    for (heading, remark), group in zip(SECTIONS, (PEERS, CHOICES), strict=True):
        found = [row for row in rows if row.name in group]
        if found:
            shown = recipe_heads if group is CHOICES else heads
            lines += [f"## {heading}", "", *_table(shown, [*base, *found], results), remark, ""]
            lines += _statements(found)
    return "\n".join(lines).rstrip() + "\n"


def _table(heads: dict[str, str], rows: list[Comparison], results: dict[str, Any]) -> list[str]:
    """A row per comparison; ``heads`` chooses its cells by their keys and gives them titles."""
    left = {"name", "seeds", "verdict"}  # words; numbers stand right
    lines = [list(heads.values()), ["---" if key in left else "--:" for key in heads]]
    lines += [[cells[key] for key in heads] for cells in (_cells(row, results) for row in rows)]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def _statements(rows: list[Comparison]) -> list[str]:
    return [*(f"* {row.statement}" for row in rows if row.statement), ""]


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


def _cells(row: Comparison, results: dict[str, Any]) -> dict[str, str]:
    """All that is known of a row, as text; "–" where nothing is."""
    variant, cost = NETWORKS[row.name], results["costs"].get(row.name)
    paper = variant.paper_pckh
    if paper is not None and row.name != BASELINE:
        paper = f"{paper} ({variant.paper_difference:+.1f})".replace("-", "−")
    cells = {"name": variant.label, "paper": "–" if paper is None else str(paper)}
    for metric in results["counted"]:
        difference = f", {row.differences[metric]}" if metric in row.differences else ""
        cells[metric] = f"{row.figures[metric]:.2f}{difference}"
    cells["params"], cells["macs"] = (f"{cost['params']:,}", f"{cost['macs'] / 1e6:.1f} M") if cost else ("–", "–")
    speed = (results["speed"] or {"variants": {}})["variants"].get(row.name)
    cells["fps"], cells["ratio"] = (f"{speed['fps']:.0f}", f"{speed['ratio'][0]:.2f}") if speed else ("–", "–")
    return cells | {"seeds": " ".join(map(str, row.seeds)), "verdict": row.verdict or "–"}


def draw_bars(figure, results: dict[str, Any] | None) -> None:
    """The paper's differences to LGM-Pose on the left, ours with intervals on the right, a network per row.

    Behind ours lies the band of what other seeds may change: a row whose bar ends in it cannot be told.

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
        yticks=list(heights), xlim=(-2.6, 1.6), xlabel="points of PCKh@0.5 more than LGM-Pose",
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
        if (margin := rows[name].margin) is not None:
            axes.barh(y, 2 * margin, left=-margin, color="#e8e8e8", height=1, zorder=0.5)
        for i, metric in enumerate(metrics):
            d = found[name][metric]
            error = [[d.points - d.low], [d.high - d.points]]
            if i == 0:
                axes.barh(y, d.points, color=COLOURS[rows[name].verdict], height=0.6)
                axes.errorbar(d.points, y, xerr=error, color="black", capsize=3, linewidth=1.2)
            else:
                style = {"color": "#555555", "fmt": "d", "markersize": 4, "capsize": 2, "linewidth": 0.8}
                axes.errorbar(d.points, y + 0.39, xerr=error, **style)
        axes.text(max(edges) + room, y, rows[name].verdict, va="center", fontsize=9)
    axes.set_xlim(min(edges) - room, max(edges) + 11 * room)
    conditions, epochs = results["conditions"], results["recipe"]["epochs"]
    base = rows[BASELINE].figures[metrics[0]]
    axes.set(
        xlabel=f"points of {metrics[0]} (bars)"
        + (f", {metrics[1]} (diamonds)" if len(metrics) > 1 else "")
        + " more"
        + f"\nlight grey: what other seeds may change of {metrics[0]}",
        title=f"ours: {conditions['data']}, {conditions['input']}, {epochs} epochs\n"
        f"(LGM-Pose: {base:.1f}; 95 % intervals)",
    )


def _peers_timed(results: dict[str, Any]) -> list[Comparison]:
    """LGM-Pose and the peers that have both runs and speed; [] without a peer."""
    speeds = (results["speed"] or {"variants": {}})["variants"]
    rows = [row for row in compare(results) if row.name in (BASELINE, *PEERS) and row.name in speeds]
    return rows if any(row.name in PEERS for row in rows) else []


def draw_peers(figure, results: dict[str, Any]) -> None:
    """Accuracy against time of one picture: LGM-Pose and its peers, a small dot per seed, the mean as a large one.

    Args:
        figure: a Matplotlib figure to draw in.
        results: content of a results file that holds speeds.
    """
    rows, axes = _peers_timed(results), figure.subplots()
    metric, speed = next(iter(results["counted"])), results["speed"]
    times = {row.name: speed["variants"][row.name]["median_ms"] for row in rows}
    wide = max(times.values()) - min(times.values())
    for row in rows:
        ms = times[row.name]
        found = [run["figures"][metric] for run in results["runs"] if run["variant"] == row.name]
        colour = "#0072b2" if row.name not in PEERS or "lgm-pose" in row.name else "#d55e00"
        axes.scatter([ms] * len(found), found, s=14, color=colour, alpha=0.5)
        axes.scatter(ms, row.figures[metric], s=70, color=colour, edgecolor="white", zorder=3)
        label = f"{NETWORKS[row.name].label}, {results['costs'][row.name]['params'] / 1e6:.1f} M"
        # To the right, where neither the next point nor the edge is near.
        later = [other for other in rows if 0 < times[other.name] - ms < wide / 4]
        near = any(abs(other.figures[metric] - row.figures[metric]) < 3 for other in later)
        place, side = (-8, "right") if near or ms > min(times.values()) + 0.85 * wide else (8, "left")
        where = {"xytext": (place, 0), "textcoords": "offset points", "ha": side, "va": "center"}
        axes.annotate(label, (ms, row.figures[metric]), fontsize=9, **where)
    on, conditions = speed["conditions"], results["conditions"]
    height, width = on["image_hw"]
    axes.margins(x=0.1, y=0.15)
    axes.set(
        xlabel=f"ms for one picture of {height}×{width}, {on['device']}, {on['threads']} thread(s)"
        + (" (busy machine)" if speed["noisy"] else ""),
        ylabel=f"{metric} (%)",
        title=f"the same recipe, {results['recipe']['epochs']} epochs, from scratch; {conditions['data']}, "
        f"{conditions['input']}\nlarge: mean of the seeds, small: one seed; blue: ours; M: million parameters",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
