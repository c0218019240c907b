"""The typed tables against the paper's text, and the slips against the tables."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from lgmpose.lab.paper import CONVENTIONS, NOT_REPRODUCIBLE, ROWS, SLIPS, TABLES, PaperRow, published, slips_table
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
    name = row.name if row.reference is None else f"{row.name}[{row.reference}]"
    cells = {
        1: (*"_PI", row.params, row.flops, row.ap, row.ap50, row.ap75, row.ap_medium, row.ap_large, row.ar,
            row.fps_cpu, row.fps_gpu),
        2: ("I", row.params, row.flops, row.ap, row.ap50, row.ap75, row.ap_medium, row.ap_large, row.ar),
        3: ("I", row.params, row.flops, row.pckh, row.fps_cpu, row.fps_gpu),
    }.get(row.table, (row.params, row.flops, row.pckh, row.fps_cpu, row.fps_gpu))  # fmt: skip
    special = {"P": "NY"[bool(row.pretrained)], "I": "{}x{}".format(*row.image_hw)}
    return [*name.split(), *(special.get(c, normal(c)) for c in cells if c != "_")]


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
            rows.append(line.split())
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


def test_headings_part_large_from_small(text):
    for table in (1, 2, 3):
        part = text[text.index(f"Table {table}: ") :]
        large = part[part.index("Large networks") : part.index("Small networks")].splitlines()[1:]
        assert sum(row.large for row in TABLES[table]) == len(large)
        assert [row.large for row in TABLES[table]] == sorted((row.large for row in TABLES[table]), reverse=True)


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


def all_figures() -> set[str]:
    figures = {field.name for field in fields(PaperRow) if field.type == "float | None"}
    values = {f"{getattr(row, name):g}" for row in ALL for name in figures if getattr(row, name) is not None}
    return values | {f"{float(normal(cost)):g}" for row in ALL for cost in (row.params, row.flops) if cost}


def test_arithmetic_of_the_slips_is_that_of_the_tables():
    known, count = all_figures(), 0
    for slip in SLIPS:
        parts = f"{slip.finds} {slip.why}"
        for a, sign, b, result, times in re.findall(r"([\d.]+)(/| - )([\d.]+) = ([\d.]+\d)(×?)", parts):
            assert {f"{float(a):g}", f"{float(b):g}"} <= known, slip
            value = float(a) / float(b) if sign == "/" else float(a) - float(b)
            assert f"{value:.{len(result.partition('.')[2])}f}" == result and bool(times) == (sign == "/"), slip
            count += 1
        assert len(re.findall(r" = ", parts)) == len(re.findall(r"[\d.]+(?:/| - )[\d.]+ = [\d.]+\d", parts)), slip
    assert count >= 18


def row(table: int, name: str, image_hw: tuple[int, int]) -> PaperRow:
    (found,) = [r for r in TABLES[table] if (r.name, r.image_hw) == (name, image_hw)]
    return found


def test_facts_of_the_slips_hold_in_the_tables():
    small, large, square = (256, 192), (384, 288), (256, 256)
    dite_18, dite_30 = row(1, "Dite-HRNet-18", small), row(1, "Dite-HRNet-30", small)
    assert dite_18.fps_gpu == dite_30.fps_gpu < row(3, "Dite-HRNet-18", square).fps_gpu
    assert dite_18.fps_gpu < row(1, "Dite-HRNet-18", large).fps_gpu
    ours = [row(t, "LGM-Pose", hw).fps_cpu for t, hw in ((1, small), (3, square), (1, large))]
    assert ours == [33.1, 24.4, 24.5] and round(384 * 288 / 256**2, 1) == 1.7
    for at_square, at_small in (("SimpleBaseline",) * 2, ("HRNet",) * 2, ("TokenPose", "TokenPose-B")):
        a, b = row(3, at_square, square), row(1, at_small, small)
        assert (a.fps_cpu, a.fps_gpu) == (b.fps_cpu, b.fps_gpu)
        assert at_square == "TokenPose" or (a.flops, a.params) == (b.flops, b.params)
    assert all(row(t, "MobileNetV2 1", hw).params == "9.6 M" for t, hw in ((1, small), (1, large), (3, square)))
    assert row(2, "MobileNetV2 1", large).params == "9.8 M"
    for name in ("MobileNetV2 1", "ShuffleNetV2 1", "TokenPose-B"):
        assert row(1, name, small).pretrained is False


def test_quotations_are_the_papers(text):
    quotations = [quotation for slip in SLIPS for quotation in re.findall(r'"(.+?)"', slip.says)]
    assert len(quotations) > 8
    for quotation in quotations:
        assert quotation in text, quotation


def test_slips_become_a_table():
    lines = slips_table().splitlines()
    assert len(lines) == len(SLIPS) + 2 and all(line.count("|") == 5 for line in lines)
    for slip in SLIPS:
        assert slip.says and slip.finds and slip.why and "|" not in slip.says + slip.finds + slip.why
        assert slip.command == "" or slip.command.startswith("lgmpose ")
