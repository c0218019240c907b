"""Pictures: learning curves, skeletons on photographs, heatmaps, contact sheets. Matplotlib is imported when used."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from lgmpose.weights_io import write_atomically

__all__ = ["save_curve"]


def save_curve(log_csv: str | Path, png: str | Path) -> None:
    """Draws a run's ``log.csv``: training loss on the left, the validation figures on the right."""
    from matplotlib.figure import Figure

    with Path(log_csv).open(newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(9, 3.4), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [float(row["train_loss"]) for row in rows], color="C0", marker="." if len(rows) < 40 else None)
    left.set(xlabel="epoch", ylabel="training loss (mean over pixels)", yscale="log")
    names = [name for name in rows[-1] if name.startswith(("PCK", "AP")) and name in ("PCK@0.2", "PCKh@0.5", "AP")]
    for name in names:
        points = [(e, float(row[name]) * (100 if name == "AP" else 1)) for e, row in zip(epochs, rows, strict=True) if row.get(name)]
        right.plot(*zip(*points, strict=True), label=name, marker="." if len(rows) < 40 else None)
    right.set(xlabel="epoch", ylabel="per cent on the validation persons", ylim=(0, 100))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    if names:
        right.legend(frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(png, buffer.getvalue())
