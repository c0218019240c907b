"""The learning curve, as Matplotlib gets it."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from lgmpose.training.curve import save_curve


@pytest.fixture
def drawn(monkeypatch):
    figures, write = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), write(self, *a, **k)))
    return figures


def test_losses_of_different_parts_are_not_joined(drawn, tmp_path):
    """At another input size the loss is another; the figures of validation go on."""
    losses, figures = [0.004, 0.003, 0.002, 0.001], [10.0, 30.0, 20.0, 40.0]
    log = [
        {"phase": phase, "epoch": epoch, "train_loss": loss, "PCK@0.2": figure}
        for phase, epoch, loss, figure in zip([1, 1, 2, 2], [1, 2, 3, 4], losses, figures, strict=True)
    ]
    save_curve(log, tmp_path / "curve.png")
    left, right = drawn[0].axes
    lines = [[line.get_xydata().tolist() for line in axes.lines] for axes in (left, right)]
    boundary = [[2.5, 0.0], [2.5, 1.0]]
    assert lines[0] == [[[1, 0.004], [2, 0.003]], [[3, 0.002], [4, 0.001]], boundary]
    assert lines[1] == [[[1, 10], [2, 30], [3, 20], [4, 40]], boundary]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_of_zero_is_drawn_and_an_unmeasured_one_is_not(drawn, tmp_path):
    values = [("0.0000", "0.25"), ("", ""), ("40.0000", "0.5")]  # as log.csv has them
    rows = [
        {"epoch": str(epoch), "train_loss": "0.004", "PCK@0.2": pck, "AP": ap}
        for epoch, (pck, ap) in enumerate(values, 1)
    ]
    save_curve(rows, tmp_path / "curve.png")
    right = drawn.pop().axes[1]
    assert [line.get_xydata().tolist() for line in right.lines] == [[[1, 0], [3, 40]], [[1, 25], [3, 50]]]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["PCK@0.2", "AP"]


def test_the_legend_of_several_sets_covers_nothing(drawn, tmp_path):
    names = [f"{data} {name}" for data in ("person_keypoints_val2017", "5$_$10") for name in ("PCK@0.2", "AP")]
    rows = [{"epoch": epoch, "train_loss": 0.01} | dict.fromkeys(names, 0.4) for epoch in (1, 2)]
    save_curve(rows, tmp_path / "curve.png")
    right = drawn.pop().axes[1]
    legend, plot = right.get_legend().get_window_extent(), right.get_window_extent()
    assert legend.y1 < plot.y0 and legend.y0 >= 0
    assert legend.x0 > right.figure.bbox.x1 / 3 and plot.height > 200
