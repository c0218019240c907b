"""Draw the map of the network with the lesson on each part, and the legend of a skeleton's colours."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from lgmpose.inference.drawing import COLOURS

__all__ = ["add_side_legend", "draw_network_map"]

# Okabe and Ito's colours, which colour-blind readers can tell apart.
KINDS = {
    "data": "#F0E442",
    "borrowed parts": "#56B4E9",
    "borrowed parts and LARM": "#E69F00",
    "upsampling with SFusion": "#009E73",
    "heatmaps and joints": "#CC79A7",
}
# Column, row, label, lessons, kind. The backbone is row 1, the way back up is row 0.
PARTS = (
    (0, 1, "picture\nand box", "00", "data"),
    (1, 1, "crop\n256×192", "09", "data"),
    (2, 1, "stem\n128×96", "03", "borrowed parts"),
    (3, 1, "stage 1\n128×96", "03", "borrowed parts"),
    (4, 1, "stage 2\n64×48", "03", "borrowed parts"),
    (5, 1, "stage 3\n32×24", "04 05 06", "borrowed parts and LARM"),
    (6, 1, "stage 4\n16×12", "04 05 06", "borrowed parts and LARM"),
    (7, 1, "stage 5\n8×6", "03", "borrowed parts"),
    (6, 0, "up\n16×12", "07", "upsampling with SFusion"),
    (5, 0, "up\n32×24", "07", "upsampling with SFusion"),
    (4, 0, "up\n64×48", "07", "upsampling with SFusion"),
    (3, 0, "heat-\nmaps", "01", "heatmaps and joints"),
    (2, 0, "heatmap\ndecoder", "01", "heatmaps and joints"),
    (1, 0, "joints", "00", "heatmaps and joints"),
)
ARROWS = [((i, 1), (i + 1, 1)) for i in range(7)] + [((7, 1), (6, 0))] + [((i, 0), (i - 1, 0)) for i in range(6, 1, -1)]
SKIPS = [((i, 1), (i, 0)) for i in (4, 5, 6)]


def draw_network_map() -> Figure:
    """Draw the way from the picture to the joints, with the size of each map and the lessons about each part."""
    figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for column, row, label, lessons, kind in PARTS:
        x, y = column, 1.35 * row
        axis.add_patch(FancyBboxPatch((x - 0.36, y - 0.3), 0.72, 0.6, "round,pad=0.03", fc=KINDS[kind], ec="black"))
        axis.text(x, y, label, ha="center", va="center", fontsize=9)
        axis.text(x, y + (0.42 if row else -0.42), lessons, ha="center", va="center", fontsize=9, weight="bold")
    for (x0, row0), (x1, row1) in ARROWS + SKIPS:
        skip = x0 == x1
        start = (x0 + (0 if skip else 0.4 if x1 > x0 else -0.4), 1.35 * row0 - (0.34 if row0 > row1 else 0))
        end = (x1 + (0 if skip else -0.4 if x1 > x0 else 0.4), 1.35 * row1 + (0.34 if skip else 0))
        style = {"arrowstyle": "->", "lw": 1.4, "ls": "--" if skip else "-", "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", end, start, arrowprops=style)
    axis.set(
        xlim=(-0.5, 7.5), ylim=(-0.65, 1.9), title="LGM-Pose from picture to joints; bold: the lesson on each part"
    )
    axis.axis("off")
    handles = [Patch(facecolor=colour, edgecolor="black", label=kind) for kind, colour in KINDS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def add_side_legend(figure: Figure) -> None:
    """Add the meaning of a skeleton's colours below a figure. Right and left are the person's own."""
    labels = {name: "head and trunk" if name == "middle" else f"the person's {name}" for name in COLOURS}
    handles = [
        Patch(facecolor=[value / 255 for value in colour], edgecolor="black", label=labels[name])
        for name, colour in COLOURS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=10, frameon=False)
