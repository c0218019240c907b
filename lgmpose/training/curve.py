"""The learning curve of a run, drawn by Matplotlib."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from lgmpose.files import write_atomically

__all__ = ["save_curve"]


def save_curve(log: str | Path | list[dict], png: str | Path) -> None:
    """Draws a run's ``log.csv``, or its rows: training loss on the left, the validation figures on the right.

    A line separates rows of different ``phase``.
    """
    from matplotlib.figure import Figure

    rows = log
    if not isinstance(log, list):
        with Path(log).open(newline="") as file:
            rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(9, 3.4), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    for phase in {row.get("phase"): None for row in rows}:  # not joined: at another input size the loss is another
        part = [(int(row["epoch"]), float(row["train_loss"])) for row in rows if row.get("phase") == phase]
        left.plot(*zip(*part, strict=True), color="C0", marker="." if len(rows) < 40 else None)
    left.set(xlabel="epoch", ylabel="training loss (mean over pixels)", yscale="log")
    names = [name for name in ("PCK@0.2", "PCKh@0.5", "AP") if any(name in row for row in rows)]
    for name in names:
        scale = 100 if name == "AP" else 1
        measured = [(e, row[name]) for e, row in zip(epochs, rows, strict=True) if row.get(name) not in (None, "")]
        points = [(epoch, float(value) * scale) for epoch, value in measured]
        right.plot(*zip(*points, strict=True), label=name, marker="." if len(rows) < 40 else None)
    right.set(xlabel="epoch", ylabel="per cent on the validation persons", ylim=(0, 100))
    starts = [row["epoch"] - 0.5 for a, row in zip(rows, rows[1:], strict=False) if a.get("phase") != row.get("phase")]
    for axes in (left, right):
        for x in starts:
            axes.axvline(x, color="black", linewidth=0.8, linestyle=":")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    if names:
        right.legend(frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(png, buffer.getvalue())
