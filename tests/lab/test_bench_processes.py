"""lgmpose bench: real worker processes, workers that end too early, Ctrl-C, and what the runtimes compute."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from peer_tools import randomise

from lgmpose.cli import main
from lgmpose.inference.backends import STOP_SPINNING
from lgmpose.lab.bench import BenchConfig, bench, load_results, markdown
from lgmpose.lab.bench.measurement import PRODUCT, Row
from lgmpose.lab.bench.plan import Job
from lgmpose.lab.bench.runtimes import RUNTIMES, Runtime
from lgmpose.lab.bench.worker import run
from lgmpose.zoo.catalogue import create_model

LGM, OTHER = "lgm-pose-coco-256x192", "small-hrnet"


def make_job(tmp_path, scope="network", backend="eager", threads=1, models=(LGM, OTHER)) -> Job:
    config = BenchConfig(models=(LGM,), scope=scope, runs=3, warmup=1, device="cpu")
    shared = {"backend": backend, "threads": threads, "batch_size": 2, "image_hw": (64, 32), "num_keypoints": 5}
    rows = [Row(label=name, model=name, is_reference=name == LGM, **shared) for name in models]
    rows.append(Row(label="none", model=None, is_reference=False, reason="no code", **shared))
    return Job(config, rows, str(tmp_path))


@pytest.fixture(autouse=True)
def threads_stay_as_they_were():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# --- one process ----------------------------------------------------------------------------------------------------


def test_a_worker_measures_what_it_is_asked_for(tmp_path, monkeypatch):
    asked, told = [], []

    def prepare(net, example, folder):
        asked.append((net.config.image_hw, net.config.num_keypoints, tuple(example.shape), net.training))
        assert torch.is_inference_mode_enabled() and torch.get_num_threads() == 3 and folder == tmp_path
        return lambda images: asked.append("run")

    monkeypatch.setitem(RUNTIMES, "picky", Runtime("", prepare, "bfloat16"))
    outcome = run(make_job(tmp_path, backend="picky", threads=3), told.append)
    assert told == [LGM, OTHER, ""]
    networks = [entry for entry in asked if entry != "run"]
    assert networks == [((64, 32), 5, (2, 3, 64, 32), False)] * 2
    assert asked.count("run") == 2 * (1 + 1 + 3), "each once in advance, once to warm up, and in three rounds"
    assert outcome.times_ms.keys() == {LGM, OTHER, PRODUCT}
    assert all(len(times) == 3 and min(times) >= 0 for times in outcome.times_ms.values())
    assert outcome.environment["dtype"] == "bfloat16" and outcome.environment["device"] == "cpu"


def test_rounds_end_as_they_are_asked_to(tmp_path, monkeypatch):
    """At so many seconds per network, the matrix product among them."""
    import lgmpose.inference.timing as timing

    asked = {}

    def times(calls, **options):
        asked.update(options)
        return {name: np.array([0.5]) for name in calls}

    monkeypatch.setattr(timing, "interleaved_times", times)
    job = make_job(tmp_path)
    run(msgspec.structs.replace(job, config=replace(job.config, clock="cpu")))
    assert asked["clock"] is time.process_time
    outcome = run(job)
    assert asked.pop("clock") is time.perf_counter
    assert asked == {"rounds": 3, "warmup": 1, "max_seconds": 3 * job.config.seconds, "synchronize": None}
    assert outcome.times_ms == {LGM: [500], OTHER: [500], PRODUCT: [500]}


def test_an_accelerator_is_waited_for_and_exported_files_run_on_the_cpu(tmp_path, monkeypatch):
    """On PyTorch's device without numbers, as nothing else is everywhere."""
    waited, seen = [], []
    monkeypatch.setattr("lgmpose.machine.choose_device", torch.device)
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    job = make_job(tmp_path, models=(LGM,), scope="network")
    job = msgspec.structs.replace(job, config=replace(job.config, device="meta"))
    outcome = run(job)
    assert outcome.environment["device"] == "meta" == str(waited[0]) and not outcome.reasons
    assert len(waited) >= 2 * 3, "after each of the two calls in three rounds"
    exported = Runtime("", lambda net, x, _: seen.append(x.device) or net, requires=("re",))
    monkeypatch.setitem(RUNTIMES, "eager", exported)
    monkeypatch.setattr(sys.modules["re"], "__version__", "1.2+3", raising=False)
    environment = run(job).environment
    assert environment["device"] == "cpu" == str(seen[0]) and environment["versions"]["re"] == "1.2"


def test_a_network_that_cannot_be_prepared_leaves_the_others_alone(tmp_path, monkeypatch):
    def prepare(net, example, folder):
        if getattr(net.config, "name", "") == OTHER:
            raise ValueError("this operator\nis not supported")
        return net

    monkeypatch.setitem(RUNTIMES, "picky", Runtime("", prepare))
    outcome = run(make_job(tmp_path, backend="picky", models=(OTHER, LGM)))
    assert outcome.reasons == {OTHER: "ValueError: this operator"}
    assert outcome.times_ms.keys() == {LGM, PRODUCT}
    assert run(make_job(tmp_path, backend="picky", models=(OTHER,))).times_ms == {}


@pytest.mark.parametrize("scope, decoded", [("network", 0), ("decode", 2), ("pipeline", 2)])
def test_a_scope_contains_what_it_says(tmp_path, monkeypatch, scope, decoded):
    """The pipeline is the predictor's: in batches of the persons that it is given, without mirrored crops."""
    from lgmpose.pose.codecs import DarkCodec

    seen, passed = [], []
    decode = DarkCodec.decode
    monkeypatch.setattr(DarkCodec, "decode", lambda self, maps: seen.append(maps.shape) or decode(self, maps))

    def prepare(net, example, folder):
        return lambda images: passed.append(tuple(images.shape)) or net(images)

    monkeypatch.setitem(RUNTIMES, "noting", Runtime("", prepare))
    outcome = run(make_job(tmp_path, scope=scope, backend="noting", models=(LGM,)))
    assert set(passed) == {(2, 3, 64, 32)} and len(passed) == 5
    assert set(seen) == ({(decoded, 5, 16, 8)} if decoded else set()) and len(seen) == (5 if decoded else 0)
    assert (PRODUCT in outcome.times_ms) == (scope == "network")


def test_a_simcc_head_is_decoded_by_its_own_codec(tmp_path):
    outcome = run(make_job(tmp_path, scope="decode", models=("rtmpose-t",)))
    assert not outcome.reasons and outcome.times_ms.keys() == {"rtmpose-t"}


# --- many processes -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_run_in_fresh_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # not what the workers get
    file = tmp_path / "r.json"
    config = BenchConfig(
        models=(LGM, OTHER), threads=(2,), image_hw=((64, 32),), batch_sizes=(2,), scope="pipeline", runs=4, warmup=1,
        device="cpu", keep_memory=True,
    )  # fmt: skip
    result = bench(config, json_file=file, progress=False)
    (process,) = result.header["processes"]
    assert (process["threads"], process["OMP_NUM_THREADS"], process["versions"]["torch"]) == (
        2, "2", torch.__version__.partition("+")[0],
    )  # fmt: skip
    assert process["keeps_memory"] == tune_allocator_works()
    assert [(row.label, row.threads) for row in result.rows] == [(LGM, 2), (OTHER, 2)]
    for row in result.rows:
        assert row.n == 4 and row.reason == "" and row.fps == pytest.approx(2000 / row.median_ms, rel=1e-3)
        assert row.params > 1e6 and row.macs > 1e6 and row.batch_size == 2
    assert result.finished and load_results(file).rows == result.rows
    assert result.header["settings"]["scope"] == "pipeline" and result.header["settings"]["min_rounds"] == 4


def tune_allocator_works() -> bool:
    """In a process of its own, since the allocator stays as it is set."""
    code = "from lgmpose.machine import tune_allocator; print(tune_allocator())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "True"


FAKE = """
import json, os, signal, sys, time
job = json.load(sys.stdin)
models = [row["model"] for row in job["rows"] if not row.get("reason")]
threads = job["rows"][0]["threads"]
for model in models:
    print(model, flush=True)
    if model == PREPARE_KILLS and threads == 1:
        sys.exit("first words\\nlast words")
print("", flush=True)
if RUN_KILLS in models:
    os.kill(os.getpid(), signal.SIGKILL)
if HANG and threads == 2:
    time.sleep(60)
times = {model: [10.0, 20.0, 10.0] for model in models} | {"matrix product": [20.0] * 3}
environment = {"versions": {}, "load": LOADS[0], "load_after": LOADS[1]}
print(json.dumps({"environment": environment, "times_ms": times}), flush=True)
"""


def pretend(monkeypatch, prepare_kills=None, run_kills=None, hang=False, loads=(0.0, None)) -> list[subprocess.Popen]:
    """Let another program stand in for the worker; returns the processes that are started."""
    values = f"PREPARE_KILLS, RUN_KILLS, HANG, LOADS = {prepare_kills!r}, {run_kills!r}, {hang}, {loads}\n"
    started, popen = [], subprocess.Popen

    def start(command, **options):
        if command[1:] != ["-m", "lgmpose.lab.bench.worker"]:
            return popen(command, **options)
        started.append(popen([sys.executable, "-c", values + FAKE], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    counts = SimpleNamespace(params=10, true_macs=10, activations=10)
    monkeypatch.setattr("lgmpose.lab.conventions.count_named", lambda *_: counts)
    return started


def summary(result) -> list[tuple]:
    return [(row.label, row.image_hw[1], row.threads, row.n, row.reason) for row in result.rows]


SIZES = ((64, 32), (64, 64))


def test_a_network_that_ends_its_process_costs_only_its_own_row(monkeypatch):
    started = pretend(monkeypatch, prepare_kills=OTHER)
    result = bench(BenchConfig(models=(LGM, OTHER), image_hw=SIZES, threads=(1, 2)), progress=False)
    found = [(*row[:-1], row[-1].rpartition(": ")[2]) for row in summary(result)]
    assert found == [
        (LGM, 32, 1, 3, ""), (OTHER, 32, 1, 0, "last words"), (LGM, 32, 2, 3, ""), (OTHER, 32, 2, 3, ""),
        (LGM, 64, 1, 3, ""), (OTHER, 64, 1, 0, "last words"), (LGM, 64, 2, 3, ""), (OTHER, 64, 2, 3, ""),
    ]  # fmt: skip
    assert "(eager, 1 thread)" in markdown(result) and len(started) == 6
    assert {process["gemm_gops"] for process in result.header["processes"]} == {107.4}
    assert result.finished


def test_the_only_network_may_end_its_process(monkeypatch):
    started = pretend(monkeypatch, prepare_kills=OTHER)
    result = bench(BenchConfig(models=(OTHER,), image_hw=SIZES[:1]), progress=False)
    assert len(started) == 1 and result.rows[0].n == 0 and "last words" in result.rows[0].reason


def test_a_process_killed_in_its_rounds_is_not_started_again(monkeypatch):
    started = pretend(monkeypatch, run_kills=OTHER)
    result = bench(BenchConfig(models=(LGM, OTHER), image_hw=SIZES), progress=False)
    assert len(started) == 2 and all(n == 0 and "SIGKILL" in reason for *_, n, reason in summary(result))


def test_a_process_that_never_starts_gives_its_reason(monkeypatch):
    pretend(monkeypatch)
    monkeypatch.setattr(f"{__name__}.FAKE", "import no_such_module")
    rows = summary(bench(BenchConfig(models=(LGM,), image_hw=SIZES), progress=False))
    assert len(rows) == 2 and all(n == 0 and "no_such_module" in reason for *_, n, reason in rows)


@pytest.mark.parametrize("above, noisy", [((0.4, 0.4), False), ((0.6, 0), True), ((0, 0.6), True)])
def test_a_busy_machine_is_noted(monkeypatch, above, noisy):
    from lgmpose.machine import num_cores

    for clock in ("wall", "cpu"):  # other programs hardly change processor times
        pretend(monkeypatch, loads=tuple(num_cores() + more for more in above))
        (row,) = bench(BenchConfig(models=(LGM,), image_hw=SIZES[:1], clock=clock), progress=False).rows
        assert any("load" in reason for reason in row.noise) == (noisy and clock == "wall")


def test_ctrl_c_keeps_what_was_measured(monkeypatch, tmp_path, capsys):
    started = pretend(monkeypatch, hang=True)
    path = tmp_path / "r.json"
    watch = """
import os, signal, sys, time
parent = os.getppid()
while not os.path.exists(sys.argv[1]) and os.getppid() == parent:
    time.sleep(0.01)
time.sleep(0.5)
if os.getppid() == parent:  # not a later process with its number
    os.kill(parent, signal.SIGINT)
"""
    subprocess.Popen([sys.executable, "-c", watch, str(path)])
    arguments = ["bench", "--models", LGM, "--image-hw", "64", "32", "--threads", "1", "2", "--json", str(path)]
    assert main(arguments) == 130
    assert len(started) == 2 and started[1].wait() == -signal.SIGKILL
    result = load_results(path)
    assert not result.finished and summary(result) == [(LGM, 32, 1, 3, "")]
    assert path.with_suffix(".md").is_file() and "Stopped" in capsys.readouterr().out


def test_ctrl_c_in_the_first_process_leaves_a_file_without_rows(monkeypatch, tmp_path):
    pretend(monkeypatch)
    interrupt = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"
    monkeypatch.setattr(f"{__name__}.FAKE", interrupt)
    result = bench(BenchConfig(models=(LGM,), image_hw=SIZES[:1]), json_file=tmp_path / "r.json", progress=False)
    assert not result.finished and not result.rows
    assert not load_results(tmp_path / "r.json").finished and "Stopped" in markdown(result)


def test_what_libraries_print_does_not_reach_the_result():
    code = """
import lgmpose.lab.bench.worker as worker
worker.run = lambda job, tell: tell(job.rows[0].model) or print("noise") or worker.Outcome(reasons={"a": "b"})
worker.main()
"""
    job = msgspec.json.encode(make_job("")).decode()
    done = subprocess.run([sys.executable, "-c", code], input=job, capture_output=True, text=True)
    name, outcome = done.stdout.splitlines()
    assert name == LGM and json.loads(outcome)["reasons"] == {"a": "b"} and "noise" in done.stderr


# --- runtimes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "eager-folded", "eager-fast"])
def test_pytorch_in_other_forms_computes_what_the_network_does(backend, tmp_path):
    torch.manual_seed(3)
    net = randomise(create_model(LGM, image_hw=(64, 96), num_keypoints=5)).float().eval()
    x = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        expected = net(x)
        function = RUNTIMES[backend].prepare(copy.deepcopy(net), x, tmp_path)
        torch.testing.assert_close(function(x), expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    modules = [type(module).__name__ for module in getattr(function, "modules", lambda: [])()]
    assert ("BatchNorm2d" in modules) == (backend == "eager")


def test_the_compiler_is_asked_for_one_whole_graph(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(torch, "compile", lambda net, **options: asked.update(options) or net)
    RUNTIMES["compile"].prepare("a network", torch.zeros(1, 3, 8, 8), tmp_path)
    assert asked == {"dynamic": False, "fullgraph": True}


# by backend: how far its heatmaps may differ from PyTorch's, relative to the largest
FILES = {"onnxruntime": 1e-4, "openvino": 1e-4, "openvino-bf16": 0.1, "onnxruntime-int8": 0.5, "openvino-int8": 0.5}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network, an input, its heatmaps, and a folder that all runtimes share, as the processes of one run do."""
    torch.manual_seed(3)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, stride=2, padding=1), torch.nn.BatchNorm2d(16), torch.nn.ReLU6(),
        torch.nn.Conv2d(16, 5, 3, stride=2, padding=1),
    ).eval()  # fmt: skip
    net.config = "small"
    x = torch.rand(1, 3, 64, 32)
    with torch.inference_mode():
        return net, x, net(x).numpy(), tmp_path_factory.mktemp("exported")


@pytest.mark.parametrize("backend", FILES)
def test_runtimes_compute_what_the_network_does_in_their_own_precision(backend, network, monkeypatch):
    module = pytest.importorskip(RUNTIMES[backend].requires[-1])
    asked = []
    if module.__name__ == "onnxruntime":
        session = module.InferenceSession

        def start(path, *more, **named):
            if more:  # without options it is the calibration's
                asked.append((more[0].intra_op_num_threads, more[0].get_session_config_entry(STOP_SPINNING[0])))
            return session(path, *more, **named)

        monkeypatch.setattr(module, "InferenceSession", start)
    torch.set_num_threads(1)
    net, x, expected, folder = network
    try:
        found = RUNTIMES[backend].prepare(copy.deepcopy(net), x, folder)(x)
    except Exception as error:
        if "bfloat16" in str(error):
            pytest.skip(str(error))
        raise
    off = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()
    assert off < FILES[backend] and (off > 1e-4) == (FILES[backend] > 1e-4), off
    assert RUNTIMES[backend].dtype == {"bf16": "bfloat16", "int8": "int8"}.get(backend.rpartition("-")[2], "float32")
    assert asked in ([], [(1, "1")])


def test_a_network_is_exported_once_for_all_runtimes(network, monkeypatch):
    net, x, _, folder = network
    files = {file.name for file in folder.iterdir()}
    if not files:
        pytest.skip("no runtime is installed that reads files")
    assert len(files) <= 2 and all(file.endswith(("fp32.onnx", "int8.onnx")) for file in files)
    monkeypatch.setattr("lgmpose.inference.export.graph.export_graph", None)
    backend = "onnxruntime" if any("int8" in file for file in files) else "openvino"
    RUNTIMES[backend].prepare(net, x, folder)
    with pytest.raises(TypeError):  # another size is another file
        RUNTIMES[backend].prepare(net, torch.rand(1, 3, 64, 64), folder)
