"""Lesson 12: its proofs and its checkers reject named mistakes, a changed package turns it red, stored runs show."""

from __future__ import annotations

import json

import matplotlib
import nbformat
import numpy as np
import pytest
from notebook_tools import notebook_path, run_core, verdict
from test_ablate import made_up_results

import lgmpose.lab.ablate

MISTAKES = [
    # the interval
    pytest.param("b_N[chosen].sum())", "b_N[generator.permutation(chosen)[: len(chosen) // 2]].sum())",
                 id="pairs torn apart"),
    pytest.param("/ counted_N[chosen].sum())", "/ counted_N.sum())", id="labels not drawn again"),
    pytest.param("correct_a_SN.mean(axis=0)", "correct_a_SN[0]", id="first seed only"),
    pytest.param("(2.5, 97.5)", "(5, 95)", id="90 per cent"),
    pytest.param("100 * (a_N.sum() - b_N.sum())", "100 * (b_N.sum() - a_N.sum())", id="sign of the lead"),
    pytest.param("labelled = counted_N > 0", "labelled = counted_N >= 0", id="unlabelled persons drawn"),
    pytest.param("integers(len(counted_N), size=len(counted_N))", "permutation(len(counted_N))",
                 id="drawn without replacement"),
    # the seeds
    pytest.param("/ (R * (S - 1))\n", "/ (R * S)\n", id="variance divided by all runs"),
    pytest.param("stdtrit(R * (S - 1), 0.975)", "1.96", id="normal instead of t"),
    pytest.param("variance * 2 / S", "variance / S", id="margin of one mean"),
    pytest.param("figures_RS.mean(axis=1, keepdims=True)", "figures_RS.mean()", id="networks counted as seeds"),
    # the verdict
    pytest.param("abs(points) <= margin", "points <= margin", id="sign forgotten in the margin"),
    pytest.param(" or abs(points) <= margin", "", id="seeds forgotten"),
    pytest.param("low <= 0 <= high or ", "", id="interval forgotten"),
    pytest.param("(points > 0) == (paper > 0)", "(points > 0) != (paper > 0)", id="ordering turned round"),
]  # fmt: skip


def test_the_proofs_hold():
    assert "paired_by_hand" in run_core("12")


@pytest.mark.parametrize("right, wrong", MISTAKES)
def test_the_proofs_reject(right, wrong):
    with pytest.raises(AssertionError):
        run_core("12", (right, wrong))


def normal_margin(figures, runs_a, runs_b):
    margin = RIGHT_MARGIN(figures, runs_a, runs_b)
    return margin and 0.8 * margin


def bold_verdict(paper, difference, margin):
    return RIGHT_VERDICT(paper, difference, margin or 0.0)


RIGHT, RIGHT_MARGIN, RIGHT_VERDICT = (
    lgmpose.lab.ablate.paired_bootstrap, lgmpose.lab.ablate.seed_margin, lgmpose.lab.ablate.verdict,
)  # fmt: skip


@pytest.mark.parametrize("name, wrong", [
    ("paired_bootstrap", lambda a, b, counted, **more: RIGHT(a, np.roll(b, 1, axis=-1), counted, **more)),
    ("paired_bootstrap", lambda a, b, counted, **more: RIGHT(a[:1], b, counted, **more)),
    ("seed_margin", normal_margin),
    ("verdict", bold_verdict),
], ids=["pairs shifted", "one seed", "narrower margin", "one seed is enough"])  # fmt: skip
def test_a_changed_package_turns_it_red(name, wrong, monkeypatch):
    monkeypatch.setattr(lgmpose.lab.ablate, name, wrong)
    with pytest.raises(AssertionError):
        run_core("12")


def run_after_core(*beginnings: str, **names) -> dict:
    """The core cells, then the cells that hold one of these texts."""
    matplotlib.use("Agg")
    namespace = run_core("12") | names
    for cell in nbformat.read(notebook_path("12"), as_version=4).cells:
        if cell.cell_type == "code" and any(text in cell.source for text in beginnings):
            exec(compile(cell.source, "12", "exec"), namespace)
    return namespace


def test_stored_runs_show_when_there_are_any(tmp_path, monkeypatch, capsys):
    stored = tmp_path / "ablations.json"
    monkeypatch.setattr(lgmpose.lab.ablate, "STORED", stored)
    parts = ("import matplotlib.pyplot", "stored = json", "draw_bars(plt")
    run_after_core(*parts, live=None)
    assert "No stored set" in capsys.readouterr().out
    stored.write_text(json.dumps(made_up_results({"mobilevit": 0.9, "larm-identity": -0.9})))
    namespace = run_after_core(*parts, live=None)
    shown = " ".join(capsys.readouterr().out.split())
    assert "does not hold here" in shown and "LARM (identity): the paper has no such row" in shown
    assert len(namespace["plt"].gcf().axes[1].patches) == 4  # two rows: a bar, and the band that seeds make
    namespace["plt"].close("all")


def test_counts_that_do_not_print_as_the_paper_are_noticed():
    cells = ("import matplotlib.pyplot", "def prints_as")
    right = {"lgm-pose": (1083724, 895062016), "mobilevit": (2537536, 1459720192), "fusion-none": (895284, 771616768),
             "fusion-conv3x3": (2076764, 1589702656), "fusion-dw1": (1078720, 889274368),
             "fusion-dw2": (1083724, 895062016)}  # fmt: skip
    run_after_core(*cells, costs=right)
    for name, wrong in (("fusion-dw1", (1090000, 889274368)), ("mobilevit", (2537536, 2 * 1459720192)),
                        ("lgm-pose", (1083724, 894000000))):  # fmt: skip
        with pytest.raises(AssertionError):
            run_after_core(*cells, costs={**right, name: wrong})


# Exercises


def right_p_value(lead_N, signs_DN):
    return (abs(signs_DN @ lead_N) >= abs(lead_N.sum())).mean()


def one_sided(lead_N, signs_DN):
    return (signs_DN @ lead_N >= lead_N.sum()).mean()


def ties_left_out(lead_N, signs_DN):
    return (abs(signs_DN @ lead_N) > abs(lead_N.sum())).mean()


def complement(lead_N, signs_DN):
    return 1 - right_p_value(lead_N, signs_DN)


def one_coin_for_all(lead_N, signs_DN):
    return (abs(signs_DN[:, 0] * lead_N.sum()) >= abs(lead_N.sum())).mean()


def count_instead_of_share(lead_N, signs_DN):
    return (abs(signs_DN @ lead_N) >= abs(lead_N.sum())).sum()


@pytest.mark.parametrize(
    "wrong", [one_sided, ties_left_out, complement, one_coin_for_all, count_instead_of_share], ids=lambda f: f.__name__
)
def test_exercise_1(wrong):
    assert verdict("12.1", lambda lead_N, signs_DN: ...) == "not attempted yet"
    assert verdict("12.1", right_p_value) == "correct"
    assert "is right" in verdict("12.1", wrong)


@pytest.mark.parametrize("wrong", [5, 37, 95, -1], ids=["one row's", "independent rows'", "complement", "nonsense"])
def test_exercise_2(wrong):
    assert verdict("12.2", ...) == "not attempted yet"
    assert verdict("12.2", 27) == "correct" == verdict("12.2", 25.5)
    assert "measured: 27 %" in verdict("12.2", wrong)
    assert "a str where a number is right" in verdict("12.2", "many")
