"""The slips against the tables: their arithmetic, their facts and their quotations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lgmpose.lab.paper import TABLES, PaperRow
from lgmpose.lab.slips import SLIPS, added_params, cpu, gpu, mlp_share, over, slips_table
from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.network.modules import MLPBlock
from lgmpose.network.variants import TransformerLayer

PAPER = Path(__file__).resolve().parents[3] / "shared" / "specs" / "paper.txt"
SMALL, LARGE, SQUARE = (256, 192), (384, 288), (256, 256)


def row(table: int, name: str, image_hw: tuple[int, int]) -> PaperRow:
    (found,) = [r for r in TABLES[table] if (r.name, r.image_hw) == (name, image_hw)]
    return found


def test_arithmetic():
    ours, lite = row(1, "LGM-Pose", SMALL), row(1, "Lite-HRNet-18", SMALL)
    assert cpu(ours, lite) == "33.1/7.4 = 4.5×" and gpu(ours, lite) == "80.1/27.2 = 2.9×"
    assert gpu(lite, ours) == "27.2/80.1 = 0.34×" and gpu(lite, lite) == "27.2/27.2 = 1.00×"
    assert over(row(3, "LGM-Pose", SQUARE), row(3, "TokenPose", SQUARE), "flops") == "0.9/9.1 = 0.10×"
    assert added_params("Conv 3x3") == "2.1 - 0.8 = 1.3 M"


def test_mlp_blocks_and_a_transformers_feed_forward_part():
    """Counted on the modules themselves."""
    blocks = [m for m in LGMPose(LGMPoseConfig(SQUARE, 16)).modules() if isinstance(m, MLPBlock)]
    for stage, pair, d in ((3, blocks[:2], 96), (4, blocks[2:], 192)):
        layer = TransformerLayer(d)
        parts = (layer.norm2, layer.expand, layer.project)
        ours, theirs = (sum(p.numel() for m in modules for p in m.parameters()) for modules in (pair, parts))
        assert mlp_share(stage) == ours / theirs
    assert (round(mlp_share(3), 2), round(mlp_share(4), 2)) == (0.95, 0.22)


def test_every_ratio_is_made_of_the_tables_figures():
    """Also those that are typed, such as "553 · 2²⁰"; a cell of another table would not be noticed."""
    cells = {
        str(value).split()[0]
        for rows in TABLES.values()
        for r in rows
        for value in (r.params, r.flops, r.fps_cpu, r.fps_gpu)
    }
    found = [m for slip in SLIPS for m in re.findall(r"([\d.]+)(?:/| - )([\d.]+) = ", f"{slip.finds} {slip.why}")]
    assert len(found) >= 25 and {figure for pair in found for figure in pair} <= cells


def test_facts_hold_in_the_tables():
    dite_18, dite_30 = row(1, "Dite-HRNet-18", SMALL), row(1, "Dite-HRNet-30", SMALL)
    assert dite_18.fps_gpu == dite_30.fps_gpu < row(3, "Dite-HRNet-18", SQUARE).fps_gpu
    assert dite_18.fps_gpu < row(1, "Dite-HRNet-18", LARGE).fps_gpu
    ours = [row(t, "LGM-Pose", hw).fps_cpu for t, hw in ((1, SMALL), (3, SQUARE), (1, LARGE))]
    assert ours == [33.1, 24.4, 24.5] and round(384 * 288 / 256**2, 1) == 1.7
    for at_square, at_small in (("SimpleBaseline",) * 2, ("HRNet",) * 2, ("TokenPose", "TokenPose-B")):
        a, b = row(3, at_square, SQUARE), row(1, at_small, SMALL)
        assert (a.fps_cpu, a.fps_gpu) == (b.fps_cpu, b.fps_gpu)
        assert at_square == "TokenPose" or (a.flops, a.params) == (b.flops, b.params)
    assert all(row(t, "MobileNetV2 1", hw).params == "9.6 M" for t, hw in ((1, SMALL), (1, LARGE), (3, SQUARE)))
    assert row(2, "MobileNetV2 1", LARGE).params == "9.8 M"
    assert row(2, "SimpleBaseline", SMALL).ap < row(2, "LGM-Pose", LARGE).ap
    assert row(1, "SimpleBaseline", SMALL).ap > row(1, "LGM-Pose", SMALL).ap
    for name in ("MobileNetV2 1", "ShuffleNetV2 1", "TokenPose-B"):
        assert row(1, name, SMALL).pretrained is False


def test_quotations_are_the_papers():
    if not PAPER.is_file():
        pytest.skip("no text of the paper beside the checkout")
    text = PAPER.read_text(encoding="utf-8")
    quotations = [quotation for slip in SLIPS for quotation in re.findall(r'"(.+?)"', slip.says)]
    assert len(quotations) > 8
    for quotation in quotations:
        assert quotation in text, quotation


def test_they_become_a_table():
    lines = slips_table().splitlines()
    assert len(lines) == len(SLIPS) + 2 and all(line.count("|") == 5 for line in lines)
    for slip, line in zip(SLIPS, lines[2:], strict=True):
        assert slip.says and slip.finds and slip.why and "|" not in slip.says + slip.finds + slip.why
        assert slip.command == "" or slip.command.startswith("lgmpose ")
        assert (
            line
            == f"| {slip.says} | {slip.finds} | {slip.why} | {f'`{slip.command}`' if slip.command else 'reading'} |"
        )
