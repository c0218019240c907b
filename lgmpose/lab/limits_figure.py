"""What limits the shipped weights, drawn from the stored results: ``lgmpose lab limits limits.png``.

On the left all training, hour by hour, with what was tried afterwards; on the right how persons that the network was
trained on fare beside others, part by part. The grey band is how far two annotators agree (``lgmpose.lab.agreement``).
"""

from __future__ import annotations

import io
import json
from pathlib import Path

from matplotlib.figure import Figure

from lgmpose.files import check_writable, write_atomically
from lgmpose.zoo.catalogue import SHIPPED, WEIGHTS_FOLDER

__all__ = ["draw_limits"]

RESULTS = Path(__file__).parents[2] / "results"
METRIC = "PCK@0.2"


def draw_limits(png: Path) -> None:
    """Draws the two panels.

    Args:
        png: where to.

    Raises:
        UserError: the file cannot be written.
    """
    check_writable(png)
    card = json.loads((WEIGHTS_FOLDER / f"{SHIPPED[0]}.json").read_text(encoding="utf-8"))
    tried = json.loads((RESULTS / "trials_2026-11-27.json").read_text(encoding="utf-8"))
    annotators = json.loads((RESULTS / "label-agreement_2026-11-27.json").read_text(encoding="utf-8"))["annotators"]

    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes in (left, right):
        axes.axhspan(*annotators["intervals_95"][METRIC], color="0.9")
        axes.axhline(annotators["figures"][METRIC], color="0.6", label="one annotator by another")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)

    for phase, part in enumerate(card["parts"], 1):
        _draw(left, [row for row in card["log"] if row["phase"] == phase], 0, part, "C0")
    hours = sum(part["hours"] for part in card["parts"])
    for trial, colour in zip(tried["trials"], ("C1", "C2"), strict=True):
        after = hours
        for part in trial["parts"]:
            after = _draw(left, part["log"], after, part["config"], colour)
        left.plot([], [], ".-", color=colour, label=f"tried since: {trial['name']}")
    left.plot([], [], ".-", color="C0", label="128×128 and 192×192")
    left.plot([], [], ".:", color="C0", label="96×96")
    left.set(xlabel="hours of training, two CPU cores", ylabel=f"{METRIC}, per cent", ylim=(10, 92))
    left.legend(fontsize=7, loc="lower right", title="validation persons", title_fontsize=7)

    names = [row["name"] for row in tried["seen_and_unseen"]]
    for kind, label, colour in (("train", "500 persons trained on", "C3"), ("val", "500 validation persons", "C0")):
        right.plot(names, [row[kind] for row in tried["seen_and_unseen"]], "o-", color=colour, label=label)
    right.set(xlabel="weights after", xlim=(-0.4, len(names) - 0.6))
    right.legend(fontsize=7, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(png, buffer.getvalue())


def _draw(axes, log: list[dict], start: float, part: dict, colour: str) -> float:
    """One part's validation figures, the log's seconds after ``start`` hours; → the hours when it ended."""
    points = [(start + row["seconds"] / 3600, row[METRIC]) for row in log if METRIC in row]
    small = tuple(part["image_hw"] or (128, 128)) == (96, 96)
    axes.plot(*zip(*points, strict=True), ":" if small else "-", color=colour, marker=".", markersize=3, linewidth=1)
    return start + log[-1]["seconds"] / 3600
