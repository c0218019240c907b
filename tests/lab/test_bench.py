"""lgmpose bench: the measuring loop, the arithmetic of its figures, the reports, and what a user can do wrong."""

import json
import math
import statistics
from dataclasses import asdict, replace

import pytest
import torch

from lgmpose.cli import main
from lgmpose.errors import UserError
from lgmpose.lab.bench import BenchResult, Row, Settings, bench, load_results, plot, save_report
from lgmpose.lab.bench.machine_limits import COPIED_BYTES, PRODUCT_MACS, floor_ms, machine_rates
from lgmpose.lab.bench.plan import Group, Subject, model_plan, quick_models, table_plan
from lgmpose.lab.bench.result import MAX_BYTES, make_rows, paired_ratio
from lgmpose.lab.bench.runtimes import BACKENDS, Backend
from lgmpose.lab.bench.worker import _environment, measure_rounds, warm_up
from lgmpose.lab.bench.worker import run as run_worker
from lgmpose.lab.paper import NOT_REPRODUCIBLE, TABLES

LGM, LITE = "lgm-pose-coco-256x192", "lite-hrnet-18"


# The loop


class Machine:
    """A clock, and networks that take the time they say: nothing is measured for real."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def clock(self) -> float:
        return self.now

    def network(self, name, seconds, fail_at=None):
        def call():
            self.calls.append(name)
            if fail_at is not None and self.calls.count(name) == fail_at:
                raise RuntimeError("out of order")
            self.now += seconds

        return call

    def synchronize(self):
        self.calls.append("sync")

    def measure(self, networks, **options):
        rounds, failures = [], {}
        measure_rounds(
            networks, **{"runs": 100, "seconds": 5.0, "min_rounds": 10} | options, synchronize=self.synchronize,
            on_round=lambda times, share: rounds.append((times, share)),
            on_failure=lambda index, error: failures.update({index: str(error)}), clock=self.clock,
        )  # fmt: skip
        return rounds, failures


def test_every_network_runs_once_per_round_and_the_time_is_its_own():
    machine = Machine()
    rounds, _ = machine.measure([machine.network("a", 0.002), None, machine.network("b", 0.01)], runs=7)
    assert len(rounds) == 7 and rounds[-1][1] == 1
    for times, _ in rounds:
        assert times == [pytest.approx(2), None, pytest.approx(10)]
    played = [name for name in machine.calls if name != "sync"]
    assert all(sorted(played[i : i + 2]) == ["a", "b"] for i in range(0, 14, 2))
    assert len({tuple(played[i : i + 2]) for i in range(0, 14, 2)}) == 2, "the order never changes"


def test_the_device_is_waited_for_before_and_after_every_run():
    """The path of a GPU, on the CPU: without the second wait its times would be those of starting the work."""
    machine = Machine()
    machine.measure([machine.network("a", 0.01), machine.network("b", 0.01)], runs=3)
    assert len(machine.calls) == 3 * 2 * 3
    for i in range(0, len(machine.calls), 3):
        before, network, after = machine.calls[i : i + 3]
        assert (before, after) == ("sync", "sync") and network in "ab"

    late = Machine()  # work that is done when it is waited for
    late.synchronize = lambda: setattr(late, "now", late.now + late.__dict__.pop("queued", 0))
    rounds, _ = late.measure([lambda: setattr(late, "queued", 0.25)], runs=1)
    assert rounds[0][0] == [pytest.approx(250)]


@pytest.mark.parametrize(
    "seconds_each, rounds",
    [((0.01, 0.02), 100), ((0.11, 0.3), 25), ((0.5, 1.5), 10), ((1e-3, 0.999), 10), ((0.2, 0.1999), 26)],
)
def test_rounds_end_at_the_runs_or_at_the_time_but_not_too_soon(seconds_each, rounds):
    machine = Machine()
    measured, _ = machine.measure([machine.network(str(t), t) for t in seconds_each])  # 2 × 5 s, 100 runs, 10 rounds
    assert len(measured) == rounds


def test_a_network_that_fails_leaves_the_others_alone():
    machine = Machine()
    rounds, failures = machine.measure([machine.network("a", 0.1), machine.network("b", 0.1, fail_at=3)], runs=5)
    assert failures == {1: "out of order"}
    assert [times[1] is None for times, _ in rounds] == [False, False, True, True, True]
    assert all(times[0] is not None for times, _ in rounds)
    rounds, failures = machine.measure([machine.network("c", 0.1, fail_at=1)])
    assert (rounds, failures) == ([], {0: "out of order"})


def test_warm_up_is_shorter_for_slow_networks_only():
    for seconds, runs in ((0.001, 10), (0.9, 10), (1.5, 3)):
        machine = Machine()
        assert warm_up(machine.network("a", seconds), 10, clock=machine.clock) == runs == len(machine.calls)


def test_a_worker_goes_on_after_a_network_that_cannot_be_prepared(monkeypatch):
    def prepare(net, example):
        if net.config.name == LITE:
            raise ValueError("this operator\nis not supported")
        assert not net.training and torch.is_inference_mode_enabled() and example.shape == (2, 3, 64, 32)
        return net

    monkeypatch.setitem(BACKENDS, "picky", Backend("picky", "", prepare))
    group = {
        "index": 4, "image_hw": [64, 32], "num_keypoints": 5, "batch_size": 2,
        "subjects": [{"model": None}, {"model": LITE}, {"model": "small-hrnet"}],
    }  # fmt: skip
    job = asdict(Settings(runs=2, warmup=1)) | {"backend": "picky", "threads": 1, "device": "cpu", "groups": [group]}
    job["scratch"] = ""
    events, threads = [], torch.get_num_threads()
    try:
        run_worker(job, lambda **event: events.append(event))
    finally:
        torch.set_num_threads(threads)
    assert [e["event"] for e in events if e["event"] != "rounds"] == [
        "start", "preparing", "failed", "preparing", "ready", "done", "end",
    ]  # fmt: skip
    failed = next(e for e in events if e["event"] == "failed")
    assert (failed["group"], failed["subject"], failed["reason"]) == (4, 1, "ValueError: this operator")
    times = [t for e in events if e["event"] == "rounds" for t in e["times_ms"]]
    assert len(times) == 2 and all(t[:2] == [None, None] and t[2] > 0 for t in times)


# The figures

GROUP = Group((64, 32), 17, (Subject("LGM-Pose", LGM, macs=10), Subject("other", LITE, macs=20)), "LGM-Pose")


def rows_of(*times, **options):
    measured = [{"times_ms": list(t), "reason": "", "prepare_s": 1.0} for t in times]
    return make_rows(GROUP, measured, **{"batch_size": 1, "backend": "eager", "threads": 1} | options)


def test_figures_are_those_of_the_statistics_module():
    times = [12.0, 10.0, 11.0, 30.0, 10.5, 10.25, 10.75]
    row = rows_of([1.0] * 7, times, batch_size=4)[1]
    quartiles = statistics.quantiles(times, n=4, method="inclusive")
    assert row.n == 7 and row.median_ms == statistics.median(times)
    assert row.iqr_ms == pytest.approx(quartiles[2] - quartiles[0], abs=1e-3)
    assert row.p95_ms == pytest.approx(statistics.quantiles(times, n=20, method="inclusive")[-1], abs=1e-3)
    assert row.fps == pytest.approx(4 * 1000 / 10.75, abs=1e-3)


def test_ratios_are_of_pairs_and_survive_a_machine_that_slows_down():
    """Half-way the machine slows down 3 ×, and one network misses rounds: the ratio of medians is 3 × off."""
    speed = [1.0] * 6 + [3.0] * 5
    reference = [10 * s for s in speed]
    other = [40 * s if 5 <= i else None for i, s in enumerate(speed)]
    assert statistics.median(t for t in other if t) / statistics.median(reference) == 12
    first, second = rows_of(reference, other)
    assert (second.ratio, second.ratio_iqr) == (4, (4, 4)) and first.ratio == 1 and second.n == 6
    # An odd pair out: the middle of 1, 2, 3, 4, 100.
    assert paired_ratio([1, 4, 9, 16, 500], [1, 2, 3, 4, 5]) == (3, 2, 4)
    assert paired_ratio([1, None], [None, 2]) is None and paired_ratio([1.0], []) is None


def test_noise_is_flagged_by_spread_and_by_load():
    quiet, spread = [100.0] * 9 + [104.0], [100.0, 120.0] * 5
    assert [bool(r.noise) for r in rows_of(quiet, spread)] == [False, True]
    assert "interquartile range 18%" in rows_of(quiet, spread)[1].noise[0]
    assert all("load" in r.noise[0] for r in rows_of(quiet, quiet, noise=["load 5.0 on 2 cores before"]))
    # Just below and just above a tenth.
    assert not rows_of(quiet, [100, 100, 100, 109.9, 109.9])[1].noise
    assert rows_of(quiet, [99, 99, 100, 110, 110])[1].noise


# The file and the reports


def example_result(rounds=12) -> BenchResult:
    """Table 1 at 384×288 with made-up times: MACs × 100 ms, whatever they are."""
    header = {
        "date": "2026-01-31T12:00:00+00:00", "lgmpose": "0", "commit": None, "cpu": "made up", "cores": 2,
        "system": "none", "python": "3", "settings": asdict(Settings(threads=(1, 2))), "backends": {"eager": "plain"},
        "processes": [{"device_name": "cpu", "dtype": "float32", "versions": {"torch": "2"}, "load": 0.5}],
    }  # fmt: skip
    (group,) = (g for g in table_plan([1]) if g.image_hw == (384, 288))
    subjects = [replace(s, params=10**6, macs=10**9 * (i + 1), activations=10**7) for i, s in enumerate(group.subjects)]
    group = replace(group, subjects=tuple(s if s.model else o for s, o in zip(subjects, group.subjects, strict=True)))
    rows = []
    for threads in (1, 2):
        measured = [
            {"times_ms": [100 * s.macs / 1e9 / threads] * rounds if s.model else [], "reason": s.reason, "prepare_s": 1}
            for s in group.subjects
        ]
        rows += make_rows(group, measured, batch_size=1, backend="eager", threads=threads)
    return BenchResult(header, rows)


def cells(text, system, heading):
    """Cells of a system's line in the first table after a heading, by their column."""
    lines = text[text.index(heading) :].splitlines()
    table = [line for line in lines if line.startswith("|")]
    head, line = table[0], next(line for line in table if line.startswith(f"| {system} "))
    names = [cell.strip() for cell in head.strip("|").split("|")]
    return dict(zip(names, (cell.strip() for cell in line.strip("|").split("|")), strict=True))


def test_tables_set_ours_beside_the_papers_and_keep_what_cannot_be_built():
    text = example_result().as_markdown()
    lite = cells(text, "Lite-HRNet-30", "eager, 2 threads:")
    paper = {row.name: row for row in TABLES[1] if row.image_hw == (384, 288)}
    assert (lite["ms"], lite["FPS"], lite["n"]) == ("250.0", "4.0", "12")
    assert lite["× LGM-Pose"].startswith("0.50")  # fifth of the rows against the tenth
    assert float(lite["paper ×"]) == pytest.approx(paper["LGM-Pose"].fps_cpu / paper["Lite-HRNet-30"].fps_cpu, abs=0.01)
    assert lite["reported"] == f"{paper['Lite-HRNet-30'].ap} AP"
    assert cells(text, "Lite-HRNet-30", "Times LGM-Pose's time")["eager, 2"] == "0.50"
    for name in ("EDite-HRNet-s", "LMFormer-L"):
        row = cells(text, name, "eager, 1 thread:")
        assert row["ms"] == "–" and row["reported"] == f"{paper[name].ap} AP"
        assert row["params M"] == f"({paper[name].params.split()[0]})"
        assert f"* {name}: {NOT_REPRODUCIBLE[name]}" in text.splitlines()
    assert "~" not in text.split("* **ms**")[0]
    noisy = example_result()
    noisy.rows[0] = replace(noisy.rows[0], noise=("load 9.0 on 2 cores",))
    assert cells(noisy.as_markdown(), "MobileNetV2 1", "eager, 1 thread:")["ms"] == "~100.0"
    assert "Noisy: 1 of 16 figures" in noisy.as_markdown()


def test_of_one_size_the_threads_stand_side_by_side():
    figure = plot(example_result())
    titles = [axes.get_title().split("\n")[1] for axes in figure.axes if axes.get_title()]
    places = [axes.get_position() for axes in figure.axes if axes.get_title()]
    assert titles == ["eager, 1 thread", "eager, 2 threads"]
    assert places[0].y0 == pytest.approx(places[1].y0) and places[0].x1 < places[1].x0


def test_the_papers_ratios_are_to_the_same_reference_as_ours():
    result = example_result()
    base = next(row for row in result.rows if row.label == "Lite-HRNet-18")
    result.rows = [
        replace(row, is_reference=row.label == base.label, ratio=row.median_ms and row.median_ms / base.median_ms)
        for row in result.rows
    ]  # fmt: skip
    text = result.as_markdown()
    own = cells(text, "LGM-Pose", "eager, 1 thread:")
    paper = {row.name: row for row in TABLES[1] if row.image_hw == (384, 288)}
    ratio = paper["Lite-HRNet-18"].fps_cpu / paper["LGM-Pose"].fps_cpu
    assert float(own["paper ×"]) == pytest.approx(ratio, abs=0.01) and "× Lite-HRNet-18" in own
    assert float(cells(text, "LGM-Pose", "Times Lite-HRNet-18's")["paper × Lite-HRNet-18"]) == float(own["paper ×"])


def test_accuracies_of_test_dev_are_not_shown_as_val2017s():
    row = replace(example_result().rows[0], table=None, label="hrnet-w32", model="hrnet-w32", image_hw=(384, 288))
    assert cells(replace(example_result(), rows=[row]).as_markdown(), "hrnet-w32", "thread:").get("reported") is None
    at_256 = replace(row, image_hw=(256, 192))
    page = replace(example_result(), rows=[at_256]).as_markdown()
    assert cells(page, "hrnet-w32", "thread:")["reported"] == "73.4 AP"


def test_a_result_file_gives_the_same_report_again(tmp_path, capsys):
    result = example_result()
    result.save(tmp_path / "r.json")
    again = load_results(tmp_path / "r.json")
    assert again.rows == result.rows and again.header == json.loads(json.dumps(result.header))
    written = save_report(again, tmp_path / "r.json")
    assert [path.name for path in written] == ["r.md", "r.png"]
    text = written[0].read_text()
    assert text == result.as_markdown()
    for path in written:
        path.unlink()
    assert main(["bench", "--render", str(tmp_path / "r.json")]) == 0
    assert written[0].read_text() == text and written[1].stat().st_size > 10_000
    assert text in capsys.readouterr().out


def test_a_large_result_keeps_quantiles_and_the_same_report(tmp_path):
    result = example_result(rounds=6000)
    result.save(tmp_path / "r.json")
    assert (tmp_path / "r.json").stat().st_size < MAX_BYTES
    again = load_results(tmp_path / "r.json")
    assert again.as_markdown() == result.as_markdown()
    assert not again.rows[0].times_ms and again.rows[0].quantiles_ms == (100.0,) * 21


def test_labels_of_the_plot_cover_neither_points_nor_each_other():
    """Points in a heap: many systems of nearly the same cost and speed."""
    result = example_result()
    heap = [
        replace(row, macs=10**9 + i * 10**7, median_ms=100.0 + i) for i, row in enumerate(result.rows) if row.median_ms
    ]
    figure = plot(BenchResult(result.header, [row for row in heap if row.threads == 1]))
    axes, renderer = figure.axes[0], figure.canvas.get_renderer()
    names = {row.label for row in heap}
    boxes = [text.get_window_extent(renderer) for text in axes.texts if text.get_text() in names]
    assert len(boxes) == len(names) == 8
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    points = [axes.transData.transform(p) for dots in axes.collections for p in dots.get_offsets()]
    assert len(points) == 8 and not any(box.contains(*point) for box in boxes for point in points)
    assert "reported" in figure.axes[-1].get_ylabel()


# Plans


def test_the_tables_plan_has_every_row_and_only_theirs():
    groups = table_plan()
    assert [(g.table, g.image_hw, g.num_keypoints) for g in groups] == [
        (1, (256, 192), 17), (1, (384, 288), 17), (3, (256, 256), 16),
    ]  # fmt: skip
    for group in groups:
        rows = [row for row in TABLES[group.table] if row.image_hw == group.image_hw]
        assert [s.label for s in group.subjects] == [row.name for row in rows]
    unbuilt = {s.label for g in groups for s in g.subjects if s.model is None}
    assert unbuilt == set(NOT_REPRODUCIBLE) and [g.image_hw for g in table_plan([3])] == [(256, 256)]


def test_the_plan_of_named_models():
    (group,) = model_plan([LITE, LGM])
    assert (group.image_hw, group.num_keypoints, group.reference) == ((256, 192), 17, "LGM-Pose")
    assert model_plan([LITE, "small-hrnet"])[0].reference == LITE
    assert model_plan([LGM, LITE], reference=LITE)[0].reference == LITE
    groups = model_plan(["lgm-pose-lspet-128x128"], [(64, 32), (32, 64), (64, 32)])
    assert [(g.image_hw, g.num_keypoints) for g in groups] == [((64, 32), 14), ((32, 64), 14)]
    assert quick_models()[0] == LGM


# What a user can do wrong


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--models", "lite-hrnet-81"], "did you mean lite-hrnet-18?"),
        (["--backends", "eagr"], "did you mean eager?"),
        (["--models", LGM, "--image-hw", "100", "64"], "multiples of 32"),
        (["--models", "tokenpose-b", "--image-hw", "256", "100"], "multiples of 32"),
        (["--models", LGM, "lgm-pose-coco-384x288"], "are one network"),
        (["--models", LGM, "--reference", LITE], "not among the models"),
        (["--threads", "0"], "threads 0: at least 1"),
        (["--batch-sizes", "1", "-2"], "batch-sizes -2: at least 1"),
        (["--runs", "0"], "runs 0: at least 1"),
        (["--seconds", "nan"], "seconds nan"),
        (["--tables", "2"], "Table 2 cannot be measured"),
        (["--tables", "--models", LGM], "leave those options out"),
        (["--device", "cuda:7"], "not available"),
        (["--json", "result.txt"], "must end in .json"),
        (["--render", "nowhere.json"], "cannot be read"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lgmpose.lab.bench.run.WORKER", ["false"])  # nothing may start
    if message == "not available" and torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator")
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("error: ") == 1 and "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_cannot_be_written_is_known_before(tmp_path, monkeypatch):
    monkeypatch.setattr("lgmpose.lab.bench.run.counted", lambda *_, **__: pytest.fail("work was started"))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    for path in (tmp_path / "file" / "r.json", tmp_path / "folder.json"):
        with pytest.raises(UserError, match="cannot be written|a folder"):
            bench([LGM], json_file=path)


def test_missing_backends_say_what_to_install(monkeypatch):
    monkeypatch.setitem(BACKENDS, "fast", Backend("fast", "", None, requires=("no_such_module",), extra="speed"))
    with pytest.raises(UserError, match=r"needs no_such_module: pip install 'lgmpose\[speed\]'"):
        bench([LGM], backends=["eager", "fast"])
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match="found no compiler"):
        bench([LGM], backends=["compile"])


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "else"}', '{"kind": "lgmpose bench", "version": 99}'])
def test_files_that_are_no_results(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(UserError, match="r.json"):
        load_results(path)
    path.write_text(json.dumps({"kind": "lgmpose bench", "version": 1, "finished": True, "header": {}, "rows": [{}]}))
    with pytest.raises(UserError, match="damaged"):
        load_results(path)


def test_rows_without_times_have_no_figures():
    row = rows_of([], [1.0])[0]
    assert isinstance(row, Row) and row.median_ms is None and row.ratio is None and not row.noise
    assert math.isclose(rows_of([], [1.0])[1].median_ms, 1.0) and rows_of([], [1.0])[1].ratio is None


def test_the_header_says_what_the_processes_really_ran_with():
    result = example_result()
    result.header["settings"]["keep_memory"] = True
    process = result.header["processes"][0]
    result.header["processes"] = [process, process | {"dtype": "bfloat16"}]
    assert "device cpu (float32, bfloat16)" in result.as_markdown()
    assert "glibc's allocator: keeps freed memory" in result.as_markdown()
    result.header["processes"][0]["keeps_memory"] = False  # macOS, Windows
    assert "told to keep memory, but not in use here" in result.as_markdown()


@pytest.mark.parametrize(
    "name, dtype", [("eager", "float32"), ("openvino-bf16", "bfloat16"), ("onnxruntime-int8", "int8")]
)
def test_a_backends_precision_is_noted(name, dtype):
    backend = replace(BACKENDS[name], requires=())
    assert _environment(torch, torch.device("cpu"), backend, False)["dtype"] == dtype


def test_the_floor_is_the_longer_of_computing_and_copying():
    probes = [20.0, 5.0]  # ms of a product and of a copy
    products, copies = {"macs": 3 * PRODUCT_MACS, "moved": 0}, {"macs": 0, "moved": 3 * COPIED_BYTES}
    assert floor_ms(probes, **products, precision="fp32") == 60
    assert [floor_ms(probes, **copies, precision=name) for name in ("fp32", "bf16", "int8")] == [60, 30, 15]
    assert floor_ms(probes, macs=PRODUCT_MACS, moved=COPIED_BYTES, precision="fp32") == 20
    assert floor_ms(probes, macs=PRODUCT_MACS, moved=2 * COPIED_BYTES, precision="fp32") == 40
    rates = machine_rates([[20.0, 5.0], [10.0, 4.0], [40.0, 6.0]])
    assert rates == {"gemm_gops": round(2 * PRODUCT_MACS / 20e6, 1), "copy_gbs": round(COPIED_BYTES / 5e6, 1)}
