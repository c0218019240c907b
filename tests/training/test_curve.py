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
    head = "epoch,train_loss,skipped,PCK@0.2\n"
    (tmp_path / "log.csv").write_text(head + "1,0.004,0,0.0000\n2,0.003,0,\n3,0.002,0,40.0000\n")
    save_curve(tmp_path / "log.csv", tmp_path / "curve.png")
    assert [line.get_xydata().tolist() for line in drawn.pop().axes[1].lines] == [[[1, 0], [3, 40]]]
