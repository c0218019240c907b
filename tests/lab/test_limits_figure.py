"""What the figure of the shipped weights' limits draws of the stored results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from lgmpose.cli import main
from lgmpose.zoo.catalogue import SHIPPED, WEIGHTS_FOLDER

RESULTS = Path(__file__).resolve().parents[2] / "results"
METRIC = "PCK@0.2"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_stored_figure_is_drawn(tmp_path, monkeypatch):
    drawn, write = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), write(self, *a, **k)))
    assert main(["lab", "limits", str(tmp_path / "limits.png")]) == 0
    assert (tmp_path / "limits.png").read_bytes().startswith(b"\x89PNG")
    left, right = drawn[0].axes
    card, tried = read(WEIGHTS_FOLDER / f"{SHIPPED[0]}.json"), read(RESULTS / "trials_2026-11-27.json")
    lines = [(line.get_xydata().tolist(), line.get_linestyle()) for line in left.lines if len(line.get_xdata()) > 2]
    styles = {tuple(xy): style for points, style in lines for xy in points}
    for row in (row for row in card["log"] if METRIC in row):
        small = card["parts"][row["phase"] - 1]["image_hw"] == [96, 96]
        assert styles.pop((row["seconds"] / 3600, row[METRIC])) == (":" if small else "-")
    hours = sum(part["hours"] for part in card["parts"])
    for trial in tried["trials"]:
        after = hours
        for part in trial["parts"]:
            for row in (row for row in part["log"] if METRIC in row):
                assert styles.pop((after + row["seconds"] / 3600, row[METRIC])), "trials come after the training"
            after += part["log"][-1]["seconds"] / 3600
    assert not styles
    for line, kind in zip(right.lines[1:], ("train", "val"), strict=True):
        assert list(line.get_ydata()) == [row[kind] for row in tried["seen_and_unseen"]]
    stored = read(RESULTS / "label-agreement_2026-11-30.json")
    agreement = stored["annotators"]
    assert str(len(stored["pairs"])) in left.lines[0].get_label()
    for axes in (left, right):
        assert set(axes.lines[0].get_ydata()) == {agreement["figures"][METRIC]}
        box = axes.patches[0].get_bbox()
        assert [box.y0, box.y1] == pytest.approx(agreement["intervals_95"][METRIC])


def test_a_file_that_cannot_be_written(tmp_path, capsys):
    assert main(["lab", "limits", str(tmp_path)]) == 2 and str(tmp_path) in capsys.readouterr().err


def test_without_the_stored_results_one_line_says_where_to_run_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lgmpose.lab.limits_figure.RESULTS", tmp_path / "results")
    assert main(["lab", "limits", str(tmp_path / "limits.png")]) == 2
    assert str(tmp_path / "results") in capsys.readouterr().err
