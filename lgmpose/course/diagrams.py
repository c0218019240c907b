"""Draw the lessons' diagrams: chains of blocks with their shapes, and tables of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PINK", "RED", "draw_blocks", "draw_table"]

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#999999"


def draw_blocks(
    axis: Axes, blocks: Sequence[tuple[str, str, str]], skips: Sequence[tuple[int, int]] = (), title: str = ""
) -> None:
    """Draw a chain of blocks from top to bottom.

    Args:
        axis: the axes to draw on.
        blocks: for each block its text, the shape of its result and its colour.
        skips: pairs of block numbers, from 0: the first block's result also goes to the second block, past all others.
        title: of the axes.
    """
    for i, (text, shape, colour) in enumerate(blocks):
        axis.add_patch(Rectangle((0, i - 0.28), 1, 0.56, facecolor=colour, alpha=0.3, edgecolor=colour))
        axis.text(0.5, i, text, ha="center", va="center", fontsize=10)
        axis.text(0.53, i + 0.5, shape, ha="left", va="center", fontsize=9, color="0.3")
        if i + 1 < len(blocks):
            axis.annotate("", (0.5, i + 0.72), (0.5, i + 0.28), arrowprops={"arrowstyle": "->"})
    for i, (start, end) in enumerate(skips, start=1):
        x = -0.05 * i - 0.02
        top, bottom = start + 0.1, end - 0.1  # a skip that ends at a block and one that starts there do not touch
        axis.plot([0, x, x], [top, top, bottom], color="0.25", lw=1.5)
        axis.annotate("", (0, bottom), (x, bottom), arrowprops={"arrowstyle": "->", "color": "0.25", "lw": 1.5})
    axis.set(xlim=(-0.05 * len(skips) - 0.06, 1.02), ylim=(len(blocks) - 0.3, -0.45))
    axis.set_title(title, fontsize=11)
    axis.axis("off")


def draw_table(
    axis: Axes, table, title: str = "", xlabel: str = "", ylabel: str = "", decimals: int = 2, vmax: float | None = None
) -> None:
    """Draw a table of numbers (rows, columns) as squares. The larger a number, the darker its square."""
    table = np.asarray(table)
    vmax = table.max() if vmax is None else vmax
    axis.imshow(table, cmap="Blues", vmin=0, vmax=vmax)
    for (row, column), value in np.ndenumerate(table):
        colour = "white" if value > 0.6 * vmax else "black"
        axis.text(column, row, f"{value:.{decimals}f}", ha="center", va="center", fontsize=10, color=colour)
    axis.set_title(title, fontsize=11)
    axis.set(xlabel=xlabel, ylabel=ylabel, xticks=range(table.shape[1]), yticks=range(table.shape[0]))
    axis.set_xticklabels(range(1, table.shape[1] + 1))
    axis.set_yticklabels(range(1, table.shape[0] + 1))
