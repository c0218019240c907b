"""The learning curve of a run, drawn by Matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lgmpose.files import open_atomically

__all__ = ["save_curve"]


def save_curve(rows: list[dict[str, Any]], png: Path) -> None:
    """Draw the rows of a run's ``log.csv``: training loss on the left, validation figures on the right.

    Rows may have a ``phase``, such as another input size. Phases are separated by lines, and their losses not joined.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    marker = "." if len(rows) < 40 else None
    for phase in dict.fromkeys(row.get("phase") for row in rows):
        part = [(int(row["epoch"]), float(row["train_loss"])) for row in rows if row.get("phase") == phase]
        left.plot(*zip(*part, strict=True), color="C0", marker=marker)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    columns = dict.fromkeys(name for row in rows for name in row)  # of several validation sets: "SET PCK@0.2"
    for name in sorted(columns, key=lambda name: name.rpartition(" ")[2] != "PCK@0.2"):
        if (metric := name.rpartition(" ")[2]) not in ("PCK@0.2", "PCKh@0.5", "AP"):
            continue
        scale = 100 if metric == "AP" else 1
        points = [(int(row["epoch"]), scale * float(row[name])) for row in rows if row.get(name) not in (None, "")]
        if points:
            right.plot(*zip(*points, strict=True), label=name, marker=marker)
    right.set(xlabel="epoch", ylabel="per cent on the validation persons", ylim=(0, 100))
    if any(" " in line.get_label() for line in right.lines):  # names of sets are long: below the plot
        figure.set_figheight(3.4 + 0.22 * len(right.lines))
        legend = right.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
        for text in legend.get_texts():
            text.set_parse_math(False)  # a set's name may hold a "$"
    elif right.lines:
        right.legend(frameon=False, loc="lower right")
    starts = [int(b["epoch"]) - 0.5 for a, b in zip(rows, rows[1:], strict=False) if a.get("phase") != b.get("phase")]
    for axes in (left, right):
        for x in starts:
            axes.axvline(x, color="black", linewidth=0.8, linestyle=":")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    with open_atomically(png) as file:
        figure.savefig(file, format="png")
