"""Draw what the stored results say about the limits of the shipped weights: ``lgmpose lab limits limits.png``.

The left panel shows all training over time, and the trials that started from the shipped weights. The right panel
compares persons of the training set with validation persons, part by part. The grey band is the agreement of two
annotators (``lgmpose.lab.agreement``), a reference value and not an upper bound.
"""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lgmpose.errors import UserError
from lgmpose.files import check_writable, open_atomically
from lgmpose.zoo.catalogue import SHIPPED, WEIGHTS_FOLDER

__all__ = ["draw_limits"]

RESULTS = Path(__file__).parents[2] / "results"
METRIC = "PCK@0.2"


def draw_limits(png: Path) -> None:
    """Draw the two panels into a PNG file.

    Raises:
        UserError: the file cannot be written, or the results are not there, as in an installed package.
    """
    check_writable(png)
    if not RESULTS.is_dir():
        raise UserError(f"{RESULTS}: no such folder; run this command in a clone of the repository")
    card = json.loads((WEIGHTS_FOLDER / f"{SHIPPED[0]}.json").read_text(encoding="utf-8"))
    tried, agreement = (
        json.loads(max(RESULTS.glob(f"{name}_*.json")).read_text(encoding="utf-8"))  # the newest
        for name in ("trials", "label-agreement")
    )
    figure = Figure(figsize=(8, 4.2), layout="constrained", dpi=124)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes in (left, right):
        axes.axhspan(*agreement["annotators"]["intervals_95"][METRIC], color="0.9")
        label = f"annotators' agreement ({len(agreement['pairs'])} pairs)"
        axes.axhline(agreement["annotators"]["figures"][METRIC], color="0.6", label=label)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)

    for phase, part in enumerate(card["parts"], 1):
        _draw_part(left, [row for row in card["log"] if row["phase"] == phase], 0, part, "C0")
    for trial, colour in zip(tried["trials"], ("C1", "C2"), strict=True):
        hours = sum(part["hours"] for part in card["parts"])
        for part in trial["parts"]:
            _draw_part(left, part["log"], hours, part["config"], colour)
            hours += part["log"][-1]["seconds"] / 3600
        left.plot([], [], ".-", color=colour, label=f"trial: {trial['name']}")
    left.plot([], [], ".-", color="C0", label="128×128")
    left.plot([], [], ".:", color="C0", label="96×96")
    left.set(xlabel="hours of training, two CPU cores", ylabel=f"{METRIC}, per cent", ylim=(10, 92))
    left.legend(fontsize=8.5, loc="lower right", title="validation persons", title_fontsize=8.5)

    names = [row["name"] for row in tried["seen_and_unseen"]]
    for kind, label, colour in (("train", "500 training persons", "C3"), ("val", "500 validation persons", "C0")):
        right.plot(names, [row[kind] for row in tried["seen_and_unseen"]], "o-", color=colour, label=label)
    right.set(xlabel="weights after", xlim=(-0.4, len(names) - 0.6))
    right.legend(fontsize=8.5, loc="lower right")
    with open_atomically(png) as file:
        figure.savefig(file, format="png")


def _draw_part(axes: Axes, log: list[dict], start_hours: float, part: dict, colour: str) -> None:
    """Draw one part's validation figures. The log's seconds begin at ``start_hours``; 96×96 is dotted."""
    points = [(start_hours + row["seconds"] / 3600, row[METRIC]) for row in log if METRIC in row]
    style = ":" if tuple(part["image_hw"] or ()) == (96, 96) else "-"
    axes.plot(*zip(*points, strict=True), style, color=colour, marker=".", markersize=3, linewidth=1)
