"""The typed tables against the paper's text, where it is there, and against checksums."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lgmpose
from lgmpose.lab.paper import CONVENTIONS, NOT_REPRODUCIBLE, ROWS, TABLES, PaperRow, published
from lgmpose.network.config import FUSIONS, GLOBAL_BLOCKS

PAPER = Path(__file__).resolve().parents[3] / "shared" / "specs" / "paper.txt"
ALL = [row for rows in TABLES.values() for row in rows]
SIZES = {(256, 192), (384, 288), (256, 256)}


@pytest.fixture(scope="module")
def text() -> str:
    if not PAPER.is_file():
        pytest.skip("no text of the paper beside the checkout")
    return PAPER.read_text(encoding="utf-8")


def as_printed(row: PaperRow) -> list[str]:
    """A row's cells in the order of its table, numbers without trailing zeros."""
    cells = {
        1: (*"_PI", row.params, row.flops, row.ap, row.ap50, row.ap75, row.ap_medium, row.ap_large, row.ar,
            row.fps_cpu, row.fps_gpu),
        2: ("I", row.params, row.flops, row.ap, row.ap50, row.ap75, row.ap_medium, row.ap_large, row.ar),
        3: ("I", row.params, row.flops, row.pckh, row.fps_cpu, row.fps_gpu),
    }.get(row.table, (row.params, row.flops, row.pckh, row.fps_cpu, row.fps_gpu))  # fmt: skip
    special = {"P": "NY"[bool(row.pretrained)], "I": "{}x{}".format(*row.image_hw)}
    return [*row.name.split(), *(special.get(c, normal(c)) for c in cells if c != "_")]


def normal(cell: str | float | None) -> str:
    """``0.90 G``, ``1.1M`` and 84.3 as both sides write them; digits after the point of printed costs are kept."""
    if cell is None:
        return "-"
    return re.sub(r" ?[MG]$", "", cell) if isinstance(cell, str) else f"{cell:g}"


def printed_rows(text: str, table: int) -> list[list[str]]:
    """The rows that the paper's text has below a table's caption, split into words."""
    lines = iter(text[text.index(f"Table {table}: ") :].splitlines()[2:])
    rows = []
    for line in lines:
        if not line.strip() or line.startswith("\\"):
            return rows
        if not line.endswith("networks"):
            rows.append(re.sub(r"\[\d+\]", "", line).split())
    raise AssertionError("a table without an end")


@pytest.mark.parametrize("table", TABLES)
def test_every_cell_is_the_papers(text, table):
    first_accuracy = {1: 5, 2: 3, 3: 3, 4: 2, 5: 2}[table]  # cells after the name that are no floats
    expected = printed_rows(text, table)
    assert len(expected) == len(TABLES[table]) > 1
    for row, words in zip(TABLES[table], expected, strict=True):
        ours = as_printed(row)
        start = len(row.name.split()) + first_accuracy - (table == 1)
        printed = [w if w == "-" or i < start else f"{float(w):g}" for i, w in enumerate(words)]
        assert ours == [re.sub(r"(?<=\d)M$", "", w) for w in printed], row.name


CHECKSUMS = {
    1: {
        "params": 189.8,
        "flops": 71.05,
        "ap": 1753.8,
        "ap50": 2108.0,
        "ap75": 1794.0,
        "ap_medium": 1406.3,
        "ap_large": 1616.5,
        "ar": 1760.3,
        "fps_cpu": 216.8,
        "fps_gpu": 666.4,
    },
    2: {
        "params": 180.5,
        "flops": 84.9,
        "ap": 900.2,
        "ap50": 1176.1,
        "ap75": 996.3,
        "ap_medium": 856.3,
        "ap_large": 974.6,
        "ar": 973.8,
    },
    3: {"params": 114.7, "flops": 33.99, "pckh": 1127.7, "fps_cpu": 114.1, "fps_gpu": 385.4},
    4: {"params": 3.6, "flops": 2.3, "pckh": 176.3, "fps_cpu": 44.5, "fps_gpu": 149.3},
    5: {"params": 6.18, "flops": 4.89, "pckh": 439.9, "fps_cpu": 121.9, "fps_gpu": 397.38},
}  # taken when every cell had been compared with the paper's text


@pytest.mark.parametrize("table", TABLES)
def test_no_figure_has_changed(table):
    """The sum of each column stays, also where the paper's text is not there to compare with."""
    assert checksums(table) == CHECKSUMS[table]


def checksums(table: int) -> dict[str, float]:
    columns = ("params", "flops", "ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "pckh", "fps_cpu", "fps_gpu")
    sums = {}
    for column in columns:
        cells = [getattr(row, column) for row in TABLES[table] if getattr(row, column) is not None]
        if cells:
            sums[column] = round(sum(float(str(cell).split()[0]) for cell in cells), 2)
    return sums


def test_rows_carry_what_is_known_of_them():
    for row in ALL:
        assert row.image_hw in SIZES and (row.flops_hw is None or row.flops_hw in SIZES - {row.image_hw})
        assert (row.pretrained is None) == (row.table != 1)
        assert (row.ap is None) == (row.table > 2) and (row.pckh is None) == (row.table <= 2)
        assert row.convention is None or row.convention in CONVENTIONS
        assert row.convention or row.note, f"{row.name}: neither a convention nor the reason why there is none"
        assert row.fusion in FUSIONS and row.global_block in GLOBAL_BLOCKS
        if row.name in NOT_REPRODUCIBLE:
            assert row.model is None and row.note.startswith("not reproducible: ") and "\n" not in row.note
    assert {row.name for row in ALL if row.note.startswith("not reproducible")} == set(NOT_REPRODUCIBLE)
    assert len(ROWS) == 11 and all(row.model.startswith("lgm-pose") for row in ROWS)
    assert {row.name for row in ALL if row.model is None} == {*NOT_REPRODUCIBLE, "CPN", "UDP", "DARK"}


def test_published_finds_every_row_by_its_network_and_size():
    assert published("hrnet-w32").flops == "7.1 G"
    assert published("hrnet-w32", image_hw=(384, 288)).flops == "16.0 G"
    assert published("tokenpose-b", image_hw=(256, 256)) is None
    for row in ALL:
        if row.model is not None:
            found = published(row.model, row.fusion, row.global_block, row.image_hw)
            assert (found.model, found.image_hw) == (row.model, row.image_hw) and found.table <= row.table


def test_published_takes_the_first_table_and_knows_no_other_networks():
    assert published("lgm-pose-coco-384x288").ap == 71.0, "Table 1's, before Table 2's"
    assert published("lgm-pose-mpii-256x256").table == 3
    assert published("lgm-pose-mpii-256x256", fusion="conv3x3").pckh == 88.6
    assert published("lgm-pose-mpii-256x256", global_block="mobilevit").flops == "1.4 G"
    assert published("lgm-pose-mpii-256x256", "dw1", "mobilevit") is None, "the paper tried no such pair"
    assert published("resnet50") is None
    for row in ROWS:
        assert row.model in lgmpose.list_models() and row.convention == "true_macs"
        assert row.accuracy.split()[0] in {str(row.ap), str(row.pckh)}
