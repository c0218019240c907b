"""The paper's tables with our counts, and ``lgmpose profile``."""

from __future__ import annotations

import json

import pytest

from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.lab.cost_tables import as_text, catalogue_costs, matches, paper_costs
from lgmpose.lab.paper import NOT_REPRODUCIBLE, TABLES
from lgmpose.peers import PEERS

pytest.importorskip("torchvision")  # the backbones of some

NO_NETWORK = {(1, "MSFNet"), (1, "EDite-HRNet-s"), (1, "LMFormer-L"), (3, "EDite-HRNet-s"), (3, "LMFormer-L"),
              (2, "CPN"), (2, "UDP"), (2, "DARK")}  # fmt: skip
OTHER_FLOPS = {(1, "Hourglass"), (1, "CPN")}
OTHER_PARAMS = {(1, "Hourglass"), (1, "CPN"), (2, "MobileNetV2 1")}


@pytest.mark.parametrize("table", [*(pytest.param(t, marks=pytest.mark.slow) for t in (1, 2, 3)), 4, 5])
def test_every_row_of_the_papers_tables_is_given_by_its_convention_or_says_why_not(table):
    rows = paper_costs(table)
    assert [row.paper for row in rows] == list(TABLES[table])
    text = as_text(rows, title="title")
    for row in rows:
        key = (table, row.name)
        assert (row.counts is None) == (key in NO_NETWORK)
        if key not in NO_NETWORK:
            assert row.flops_match == (key not in OTHER_FLOPS), row.name
            assert row.params_match == (key not in OTHER_PARAMS), row.name
            assert f"{row.counts.params:,}" in text
        assert bool(row.why) == (key in NO_NETWORK | OTHER_FLOPS | OTHER_PARAMS), row.name
        assert not row.why or text.count(f"] {row.why}") == 1, "once, below the table"


@pytest.mark.parametrize("printed, value, expected", [
    ("8.9 G", 8.991, True), ("8.9 G", 8.86, True), ("8.9 G", 8.84, False), ("8.9 G", 9.0, False),
    ("16.0 G", 16.02, True), ("0.27 G", 0.2795, True), ("0.27 G", 0.28, False), ("1.1 M", 1.2, False),
])  # fmt: skip
def test_a_printed_figure_is_rounded_or_truncated(printed, value, expected):
    assert matches(printed, value) == expected


@pytest.mark.slow
def test_every_network_of_the_catalogue_in_one_table(capsys, tmp_path):
    path = tmp_path / "costs.json"
    assert main(["profile", "--all", "--json", str(path)]) == 0
    out, rows = capsys.readouterr().out, json.loads(path.read_text())
    own = [row["name"] for row in rows if row["name"].startswith("lgm-pose")]
    others = [f"lgm-pose-{name}" for name in (
        "fast-coco-256x192", "simcc-coco-256x192", "next-coco-256x192", "t3-mpii-256x256", "three-blocks-mpii-256x256",
    )]  # fmt: skip
    assert own == ["lgm-pose-coco-256x192", *others], "its other variants differ by size alone"
    assert [row["name"] for row in rows[6:]] == [*PEERS, *NOT_REPRODUCIBLE]
    for row in rows:
        (line,) = [line for line in out.splitlines() if line.startswith(row["name"] + " ")]
        if row["name"] in NOT_REPRODUCIBLE:
            assert row["why"] == NOT_REPRODUCIBLE[row["name"]] and row["why"] in out and "params" not in row
        else:
            assert f"{row['params']:,}" in line
        if row["published"]:
            assert row["published"]["flops"] in line
            given = row["name"] not in ("hourglass-8", "cpn-r50", *NOT_REPRODUCIBLE)
            assert bool(row["flops_match"]) == given


@pytest.fixture
def two_peers(monkeypatch):
    monkeypatch.setattr("lgmpose.lab.cost_tables.list_models", lambda: ["small-hrnet", "cpn-r50"])


@pytest.mark.slow
def test_other_sizes_and_those_that_not_all_take(monkeypatch):
    monkeypatch.setattr("lgmpose.lab.cost_tables.list_models", lambda: ["small-hrnet", "hourglass-8"])
    rows = {row.name: row for row in catalogue_costs((32, 64), 5)}
    assert rows["hourglass-8"].counts is None and "64" in rows["hourglass-8"].why
    small = rows["small-hrnet"]
    assert small.counts.image_hw == (32, 64) and small.paper is None and small.num_keypoints == 5
    with pytest.raises(UserError, match="100 × 100"):
        catalogue_costs((100, 100))
    with pytest.raises(UserError, match="num_keypoints 0"):
        catalogue_costs(num_keypoints=0)


def test_lgm_pose_is_the_variant_of_that_size(monkeypatch):
    monkeypatch.setattr("lgmpose.lab.cost_tables.list_models", lambda: [])
    assert [catalogue_costs(hw)[0].name for hw in ((128, 128), (64, 64))] == [
        "lgm-pose-lspet-128x128", "lgm-pose-coco-256x192",
    ]  # fmt: skip


def test_what_gives_the_papers_figure_is_named(two_peers):
    rows = {row.name: row for row in catalogue_costs()}
    assert list(rows) == ["lgm-pose-coco-256x192", "small-hrnet", "cpn-r50", *NOT_REPRODUCIBLE]
    given = {name: row.given_by for name, row in rows.items()}
    assert given["lgm-pose-coco-256x192"] == "true MACs" and given["small-hrnet"] == "torchstat, Mi"
    assert given["cpn-r50"] == "none" and given["MSFNet"] == "-"
    assert rows["MSFNet"].paper.flops == "7.4 G" and rows["cpn-r50"].params_match is False


def test_flops_may_be_those_of_another_size(monkeypatch):
    (row,) = [row for row in TABLES[3] if row.name == "SimpleBaseline"]
    monkeypatch.setitem(TABLES, 3, (row,))
    (cost,) = paper_costs(3)
    assert cost.counts.image_hw == (256, 256) and cost.flops_counts.image_hw == (256, 192) and cost.num_keypoints == 16
    assert cost.flops_match and cost.given_by == "HRNet tool, at 256 × 192"


@pytest.mark.slow
def test_the_command_counts_a_table_or_everything_or_one(capsys, tmp_path, two_peers):
    path = tmp_path / "a" / "cost.json"
    assert main(["profile", "--table", "4", "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert "2,537,536" in out and "2.5 M, 1.4 G" in out
    assert [(row["name"], row["num_keypoints"]) for row in json.loads(path.read_text())] == [
        ("MobileViT Block", 16), ("MobileViM Block", 16),
    ]  # fmt: skip
    assert main(["profile", "--all", "--image-hw", "64", "96", "--num-keypoints", "3", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    assert {(tuple(row["image_hw"]), row["num_keypoints"]) for row in rows} == {((64, 96), 3)}
    one = ["profile", "--no-fps", "--json", str(path)]
    assert main([*one, "--image-hw", "64", "96", "--num-keypoints", "3", "--fusion", "none"]) == 0
    data = json.loads(path.read_text())
    assert data["image_hw"] == [64, 96] and data["published"] is None and data["fps"] is None
    assert "fusion none" in data["network"] and "3 keypoints" in data["network"]
    assert main([*one, "--model", "lgm-pose-mpii-256x256", "--global-block", "mobilevit"]) == 0
    data = json.loads(path.read_text())
    assert data["macs"] == 1_459_720_192 and data["published"]["table"] == 4
    assert main([*one, "--model", "small-hrnet", "--image-hw", "64", "64"]) == 0
    assert json.loads(path.read_text())["network"].startswith("small-hrnet")
    capsys.readouterr()
    assert main(["profile", "--list"]) == 0 and capsys.readouterr().out.split() == ["small-hrnet", "cpn-r50"]


@pytest.mark.parametrize("options", [
    "--table 1 --image-hw 64 64", "--table 1 --all", "--table 1 --num-keypoints 3", "--table 1 --model hrnet-w32",
    "--all --fusion none", "--all --global-block mobilevit", "--threads 0", "--json FILE/x.json",
])  # fmt: skip
def test_options_without_an_effect_are_refused(options, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["profile", "--no-fps", *options.replace("FILE", str(tmp_path / "file")).split()]) == 2
    assert options.split()[0].lstrip("-").replace("json", "file") in capsys.readouterr().err


def test_the_speed_takes_its_number_of_threads(monkeypatch, capsys):
    asked = []

    def measure(net, image_hw, threads):
        asked.append((net.config.image_hw, threads))
        times = {"fps": 12.5, "median_ms": 80.0, "iqr_ms": 1.0, "p95_ms": 82.0, "n": 7, "noise": ()}
        machine = {"cpu": "", "cores": 4, "torch": "", "load": None}
        return {"image_hw": (64, 64), "device": "cpu", "dtype": "float32", "threads": 3, **machine, **times}

    monkeypatch.setattr("lgmpose.lab.cost_tables.measure_fps", measure)
    assert main(["profile", "--image-hw", "64", "64", "--threads", "3"]) == 0
    assert asked == [((64, 64), 3)] and "12.5 FPS" in capsys.readouterr().out
