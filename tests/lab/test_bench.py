"""lgmpose bench: the plan, the statistics, the result file, the report and the plot. No network is timed here."""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.lab.bench import BenchConfig, BenchResult, bench, load_results, markdown, plot, save_report
from lgmpose.lab.bench.measurement import PRODUCT, PRODUCT_SIDE, Outcome, Row, measured, paired_ratio, summary
from lgmpose.lab.bench.plan import make_plan, quick_models
from lgmpose.lab.bench.runtimes import find_runtime
from lgmpose.lab.paper import NOT_REPRODUCIBLE, TABLES

LGM, LITE = "lgm-pose-coco-256x192", "lite-hrnet-18"
STORED = Path(__file__).resolve().parents[2] / "results"
STORED_FILES = [file for file in sorted(STORED.glob("*.json")) if b'"kind": "lgmpose bench",' in file.read_bytes()]


# --- the statistics -------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_statistics_module():
    times = [12.0, 10.0, 11.0, 30.0, 10.5, 10.25, 10.75]
    found = summary(times, [1.0] * 7, batch_size=4)
    quartiles = statistics.quantiles(times, n=4, method="inclusive")
    assert found["n"] == 7 and found["median_ms"] == statistics.median(times)
    assert found["iqr_ms"] == pytest.approx(quartiles[2] - quartiles[0], abs=1e-3)
    assert found["p95_ms"] == pytest.approx(statistics.quantiles(times, n=20, method="inclusive")[-1], abs=1e-3)
    assert found["fps"] == pytest.approx(4 * 1000 / 10.75, abs=1e-3)
    assert summary([], [1.0]) == {} and summary([1.0], [])["ratio"] is None


def test_ratios_are_of_pairs_and_survive_a_machine_that_slows_down():
    """Half-way the machine becomes 3 × slower, and one network misses rounds: the ratio of medians is 3 × off."""
    speed = [1.0] * 6 + [3.0] * 5
    reference = [10 * s for s in speed]
    other = [40 * s if 5 <= i else None for i, s in enumerate(speed)]
    assert statistics.median(t for t in other if t) / statistics.median(reference) == 12
    found = summary(other, reference)
    assert (found["ratio"], found["ratio_iqr"], found["n"]) == (4, (4, 4), 6)
    assert paired_ratio([1, 4, 9, 16, 500], [1, 2, 3, 4, 5]) == (3, 2, 4)  # the middle of 1, 2, 3, 4, 100
    assert paired_ratio([1, None], [None, 2]) is None


def test_noise_is_a_wide_interquartile_range_or_what_disturbed_the_process():
    assert not summary([100, 100, 100, 109.9, 109.9], [])["noise"]
    assert len(summary([99, 99, 100, 110, 110], [])["noise"]) == 1
    assert summary([100.0] * 9, [], noise=["load 5"])["noise"] == ("load 5",)
    assert len(summary([100.0, 120.0] * 5, [], noise=["load 5"])["noise"]) == 2


def unmeasured(label, model, **changes) -> Row:
    values = {"image_hw": (64, 32), "num_keypoints": 17, "batch_size": 1, "backend": "eager", "threads": 1}
    return Row(label=label, model=model, **values | {"is_reference": False} | changes)


def test_rows_get_their_times_and_what_the_machine_could_do():
    rows = [
        unmeasured("ours", LGM, macs=PRODUCT_SIDE**3, batch_size=2, is_reference=True),
        unmeasured("none", None, reason="no code"), unmeasured("other", LITE, macs=10),
        unmeasured("broken", "small-hrnet", macs=10),
    ]  # fmt: skip
    times = {LGM: [10.0, 20.0, 30.0], LITE: [40.0, 40.0, 60.0], PRODUCT: [5.0, 10.0, 6.0]}
    outcome = Outcome({"device": "cuda"}, times, {"small-hrnet": "it broke"})
    ours, none, other, broken = measured(rows, outcome, ["load"])
    assert (ours.device, ours.ratio, other.ratio) == ("cuda", 1, 2)
    assert ours.times_ms == (10, 20, 30) and ours.fps == 100 and "load" in ours.noise
    # Twice the product's MACs in a batch of two: floors of 10, 20 and 12 ms, against 10, 20 and 30 ms.
    assert (ours.floor_ms, ours.of_floor) == (12, 1)
    assert (none.reason, none.median_ms, broken.reason, broken.n) == ("no code", None, "it broke", 0)
    assert [row.label for row in (ours, none, other, broken)] == ["ours", "none", "other", "broken"]


# --- the file and the report ----------------------------------------------------------------------------------------


def table_plan(table: int, **options) -> list[list[Row]]:
    """The plan of a table of the paper, without building its networks."""
    counts = SimpleNamespace(params=10**6, true_macs=10**9, activations=10**7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lgmpose.lab.conventions.count_named", lambda *_: counts)
        return make_plan(BenchConfig(tables=(table,), **options))


@pytest.fixture(scope="module")
def result() -> BenchResult:
    """Table 1 at 384 × 288 by two numbers of threads, with made-up times: the i-th network takes 100 i ms."""
    plan = [rows for rows in table_plan(1, threads=(1, 2)) if rows[0].image_hw == (384, 288)]
    made_up = BenchResult({
        "date": "2026-01-31T12:00:00+00:00", "lgmpose": "0", "commit": None, "cpu": "made up", "cores": 2,
        "system": "none", "python": "3", "backends": {"eager": "plain"},
        "settings": asdict(BenchConfig(threads=(1, 2))) | {"codec": "dark", "min_rounds": 10},
        "processes": [
            {"device_name": "cpu", "dtype": "float32", "versions": {"torch": "2"}, "load": 0.5, "backend": "eager",
             "threads": 1, "gemm_gops": 74.0},
        ],
    })  # fmt: skip
    for rows in plan:
        models = [row.model for row in rows if row.model]
        times = {model: [100.0 * (i + 1) / rows[0].threads] * 12 for i, model in enumerate(models)}
        made_up.rows += measured(rows, Outcome(times_ms=times))
    return made_up


def cells(text: str, system: str, heading: str) -> dict[str, str]:
    """Cells of a system's line in the first table after a heading, by their column."""
    table = [line for line in text[text.index(heading) :].splitlines() if line.startswith("|")]
    line = next(line for line in table if line.startswith(f"| {system} "))
    names, values = ([cell.strip() for cell in row.strip("|").split("|")] for row in (table[0], line))
    return dict(zip(names, values, strict=True))


def test_tables_show_ours_beside_the_papers_and_keep_what_cannot_be_built(result):
    text = markdown(result)
    paper = {row.name: row for row in TABLES[1] if row.image_hw == (384, 288)}
    ours, lite = (cells(text, name, "eager, 2 threads:") for name in ("LGM-Pose", "Lite-HRNet-30"))
    assert (lite["ms"], lite["FPS"], lite["n"]) == ("250.0", "4.0", "12")
    ratio = float(lite["ms"]) / float(ours["ms"])
    assert lite["× LGM-Pose"].startswith(f"{ratio:.2f} [") and ours["× LGM-Pose"] == "1.00"
    assert float(lite["paper ×"]) == pytest.approx(paper["LGM-Pose"].fps_cpu / paper["Lite-HRNet-30"].fps_cpu, abs=0.01)
    assert lite["reported"] == f"{paper['Lite-HRNet-30'].ap} AP" and lite["MACs G"] == "1.000"
    assert cells(text, "Lite-HRNet-30", "## Table 1")["eager, 2"] == f"{ratio:.2f}"
    for name in ("EDite-HRNet-s", "LMFormer-L"):
        row = cells(text, name, "eager, 1 thread:")
        assert row["ms"] == "–" and row["params M"] == f"({paper[name].params.split()[0]})"
        assert f"* {name}: {NOT_REPRODUCIBLE[name]}" in text.splitlines()
    assert "~" not in text.split("* **ms**")[0] and "`eager`, 1: 74" in text


def test_noise_failures_and_an_early_end_are_shown(result):
    changes = {
        ("MobileNetV2 1", 1): {"noise": ("load",)}, ("MobileNetV2 1", 2): {"noise": ("load",)},
        ("Lite-HRNet-18", 2): {"reason": "it broke", "median_ms": None},
    }  # fmt: skip
    rows = [msgspec.structs.replace(row, **changes.get((row.label, row.threads), {})) for row in result.rows]
    text = markdown(msgspec.structs.replace(result, rows=rows, finished=False))
    assert cells(text, "MobileNetV2 1", "eager, 1 thread:")["ms"] == "~100.0"
    assert "2 of 15 figures" in text and "Stopped" in text
    assert "* Lite-HRNet-18 (eager, 2 threads): it broke" in text.splitlines()


def test_the_papers_ratios_have_the_same_reference_as_ours(result):
    base = {row.threads: row for row in result.rows if row.label == "Lite-HRNet-18"}
    rows = [
        msgspec.structs.replace(
            row, is_reference=row.label == "Lite-HRNet-18",
            ratio=row.median_ms and row.median_ms / base[row.threads].median_ms,
        )
        for row in result.rows
    ]  # fmt: skip
    text = markdown(msgspec.structs.replace(result, rows=rows))
    own = cells(text, "LGM-Pose", "eager, 1 thread:")
    paper = {row.name: row for row in TABLES[1] if row.image_hw == (384, 288)}
    ratio = paper["Lite-HRNet-18"].fps_cpu / paper["LGM-Pose"].fps_cpu
    assert float(own["paper ×"]) == pytest.approx(ratio, abs=0.01) and "× Lite-HRNet-18" in own


@pytest.mark.parametrize(
    "model, image_hw, device, reported, fps",
    [
        ("hrnet-w32", (384, 288), "cpu", None, None),  # Table 2 alone has it, on test-dev
        ("hrnet-w32", (256, 192), "cpu", "73.4 AP", "6.6"),
        ("hrnet-w32", (256, 192), "cuda", "73.4 AP", "22.1"),
        (LGM, (384, 288), "cpu", "its", "own"),  # a variant at another size is the paper's network at that size
        ("lgm-pose-fast-coco-256x192", (256, 192), "cpu", None, None),
    ],
)
def test_named_networks_get_the_papers_figures_of_their_size(result, model, image_hw, device, reported, fps):
    changes = {"table": None, "label": model, "model": model, "image_hw": image_hw, "device": device}
    row = msgspec.structs.replace(result.rows[0], **changes)
    found = cells(markdown(msgspec.structs.replace(result, rows=[row])), model, "thread:")
    if model == LGM:
        paper = next(r for r in TABLES[1] if (r.name, r.image_hw) == ("LGM-Pose", image_hw))
        reported, fps = f"{paper.ap} AP", str(paper.fps_cpu)
    assert (found.get("reported"), found.get("paper FPS")) == (reported, fps)


def test_a_result_file_gives_the_same_report_again(result, tmp_path, capsys):
    path = tmp_path / "r.json"
    result.save(path)
    again = load_results(path)
    assert again.rows == result.rows and again.header == json.loads(json.dumps(result.header))
    assert [file.name for file in save_report(again, path)] == ["r.md", "r.png"]
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert text == markdown(result)
    path.with_suffix(".md").unlink()
    assert main(["bench", "--render", str(path)]) == 0
    assert path.with_suffix(".md").read_text(encoding="utf-8") == text and text in capsys.readouterr().out


@pytest.mark.parametrize("file", STORED_FILES, ids=lambda file: file.stem)
def test_stored_reports_are_those_of_their_files(file):
    assert file.with_suffix(".md").read_text(encoding="utf-8") == markdown(load_results(file)), "lgmpose bench --render"


def test_stored_reports_differ_in_their_titles():
    titles = {file.with_suffix(".md").read_text(encoding="utf-8").splitlines()[0] for file in STORED_FILES}
    assert len(titles) == len(STORED_FILES) >= 5


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "else", "header": {}}', '{"header": {}, "rows": [{}]}'])
def test_files_that_are_no_results_are_refused(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UserError, match=r"r\.json"):
        load_results(tmp_path / "r.json")
    with pytest.raises(UserError, match="nowhere"):
        load_results(tmp_path / "nowhere.json")


def test_the_plot_has_a_panel_per_group_and_a_marker_per_setting(result):
    smaller = [msgspec.structs.replace(row, image_hw=(256, 192)) for row in result.rows if row.threads == 1]
    figure = plot(msgspec.structs.replace(result, rows=[*result.rows, *smaller]))
    large, small = figure.axes
    assert "384×288" in large.get_title() and "256×192" in small.get_title()
    assert [line.get_label() for line in large.lines] == ["eager, 1 thread", "eager, 2 threads"]
    assert [line.get_label() for line in small.lines] == ["eager, 1 thread"]
    timed = {row.label: row.median_ms for row in result.rows if row.threads == 1 and row.median_ms}
    labels = [text.get_text() for text in large.get_yticklabels()]
    for x, y in zip(*large.lines[0].get_data(), strict=True):
        assert timed[labels[int(y)]] == x
    assert labels == sorted(timed, key=timed.get, reverse=True), "the fastest is at the top"
    with pytest.raises(UserError):
        plot(BenchResult({}))


# --- plans ----------------------------------------------------------------------------------------------------------


def test_the_plan_of_a_table_has_every_row_and_only_its_own():
    plan = [*table_plan(1), *table_plan(3)]
    assert [(rows[0].table, rows[0].image_hw, rows[0].num_keypoints) for rows in plan] == [
        (1, (256, 192), 17), (1, (384, 288), 17), (3, (256, 256), 16),
    ]  # fmt: skip
    for rows in plan:
        paper = [row for row in TABLES[rows[0].table] if row.image_hw == rows[0].image_hw]
        assert [(row.label, row.model) for row in rows] == [(row.name, row.model) for row in paper]
        assert [row.label for row in rows if row.is_reference] == ["LGM-Pose"]
        assert all((row.params, row.macs, row.activations) == (10**6, 10**9, 10**7) for row in rows if row.model)
    assert {row.label for rows in plan for row in rows if row.reason} == set(NOT_REPRODUCIBLE)


def test_a_process_for_each_size_batch_threads_and_backend():
    config = {"threads": (1, 2), "backends": ("eager", "compile"), "batch_sizes": (1, 5)}
    plan = table_plan(3, **config)
    settings = [(rows[0].batch_size, rows[0].threads, rows[0].backend) for rows in plan]
    assert settings == [(b, n, name) for b in (1, 5) for n in (1, 2) for name in ("eager", "compile")]
    assert all(len({(row.batch_size, row.threads, row.backend) for row in rows}) == 1 for rows in plan)


@pytest.mark.slow
def test_the_plan_of_named_models_has_their_counts():
    other = "small-hrnet"
    (rows,) = make_plan(BenchConfig(models=(other, LGM, other), image_hw=((64, 32), (64, 32))))
    assert [(row.label, row.model, row.is_reference) for row in rows] == [(other, other, False), (LGM, LGM, True)]
    assert {(row.image_hw, row.num_keypoints, row.table) for row in rows} == {((64, 32), 17, None)}
    ((twice,),) = make_plan(BenchConfig(models=(other,), image_hw=((64, 64),)))
    assert twice.is_reference and twice.params == rows[0].params
    assert twice.macs == pytest.approx(2 * rows[0].macs, rel=0.01)
    assert twice.activations == pytest.approx(2 * rows[0].activations, rel=0.01) != pytest.approx(twice.macs, rel=0.5)
    ((own,),) = make_plan(BenchConfig(models=("lgm-pose-lspet-128x128",)))
    assert (own.image_hw, own.num_keypoints) == ((128, 128), 14)
    assert quick_models()[0] == LGM == BenchConfig().models[0]


@pytest.mark.parametrize(
    "arguments, name",
    [
        (["--models", "lite-hrnet-81"], "lite-hrnet-18"),
        (["--backends", "eagr"], "eager"),
        (["--models", LGM, "--image-hw", "100", "64"], "image_hw"),
        (["--models", "tokenpose-b", "--image-hw", "256", "100"], "tokenpose-b"),
        (["--models"], "models"),
        (["--threads", "0"], "threads 0"),
        (["--batch-sizes", "1", "-2"], "batch_sizes -2"),
        (["--runs", "0"], "runs 0"),
        (["--seconds", "nan"], "nan"),
        (["--warmup", "-1"], "-1"),
        (["--tables", "2"], "tables 2"),
        (["--tables", "--models", LGM], "models"),
        (["--device", "cuda:7"], "cuda:7"),
        (["--json", "result.txt"], "result.txt"),
        (["--json", "file/r.json"], "file"),
        (["--render", "nowhere.json"], "nowhere.json"),
        (["--render", "r.json", "--json", "other.json"], "other.json"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(arguments, name, capsys, monkeypatch, tmp_path):
    import torch

    if "cuda:7" in arguments and torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator")
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    monkeypatch.setattr("lgmpose.machine.subprocess.run", lambda *_, **__: pytest.fail("a process was started"))
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert re.search(rf"^error: .*{re.escape(name)}", captured.err) and captured.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_package_is_named(monkeypatch):
    find_runtime("openvino-bf16")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(UserError, match="openvino"):
        bench(BenchConfig(models=(LGM,), backends=("eager", "openvino-bf16")))
