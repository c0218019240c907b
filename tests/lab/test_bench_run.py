"""lgmpose bench's processes: real ones, ones that die, Ctrl-C; and backends that must compute what the network does."""

import copy
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from peer_tools import randomise

from lgmpose.cli import main
from lgmpose.inference.backends import STOP_SPINNING
from lgmpose.lab.bench import bench, load_results
from lgmpose.lab.bench import run as bench_run
from lgmpose.lab.bench.runtimes import BACKENDS
from lgmpose.zoo.catalogue import create_model

LGM = "lgm-pose-coco-256x192"

# Backends


@pytest.mark.parametrize("backend", ["eager-folded", "eager-fast"])
@pytest.mark.parametrize("name", [LGM, "dite-hrnet-18"])
def test_the_folded_backends_compute_what_the_network_does(name, backend):
    torch.manual_seed(3)
    net = randomise(create_model(name, image_hw=(64, 96), num_keypoints=5)).float()
    x = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        expected = net(x)
        function = BACKENDS[backend].prepare(copy.deepcopy(net), x)
        torch.testing.assert_close(function(x), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


# by a backend: how far its heatmaps may lie from PyTorch's, in shares of the largest
FILES = {"onnxruntime": 1e-4, "openvino": 1e-4, "openvino-bf16": 0.1, "onnxruntime-int8": 0.5, "openvino-int8": 0.5}


@pytest.mark.parametrize("backend", FILES)
def test_the_runtimes_compute_what_the_network_does_in_their_own_precision(backend, tmp_path, monkeypatch):
    runtime = pytest.importorskip(BACKENDS[backend].requires[-1])
    if reason := BACKENDS[backend].check and BACKENDS[backend].check():
        pytest.skip(reason)
    asked = []
    if runtime.__name__ == "onnxruntime":
        session = runtime.InferenceSession

        def started(path, *more, **named):
            if more:  # without options it is the calibration's
                asked.append((more[0].intra_op_num_threads, more[0].get_session_config_entry(STOP_SPINNING[0])))
            return session(path, *more, **named)

        monkeypatch.setattr(runtime, "InferenceSession", started)
    torch.manual_seed(3)
    net = randomise(create_model("small-hrnet", image_hw=(64, 32), num_keypoints=5)).float().eval()
    x = torch.rand(1, 3, 64, 32)
    with torch.inference_mode():
        expected = net(x).numpy()
    path = tmp_path / f"net-{'int8' if 'int8' in backend else 'fp32'}.onnx"
    BACKENDS[backend].export(copy.deepcopy(net), x, path)
    asked.clear()
    found = BACKENDS[backend].prepare(path, x)(x)
    off = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()
    assert off < FILES[backend], off
    assert (off > 1e-4) == (FILES[backend] > 1e-4), "another precision than it is named by"
    assert asked in ([], [(torch.get_num_threads(), "1")])


# Processes


def test_decoding_alone_can_be_timed():
    result = bench([LGM], image_sizes=[(64, 32)], scope="decode", runs=3, warmup=1, device="cpu", progress=False)
    (row,) = result.rows
    assert row.n == 3 and row.reason == "" and "decod" in result.as_markdown()


def test_a_real_run_in_fresh_processes(tmp_path):
    """In the scope that takes the most code: picture to keypoints."""
    os.environ["OMP_NUM_THREADS"], before = "3", os.environ.get("OMP_NUM_THREADS")  # not what the worker gets
    try:
        result = bench(
            [LGM, "small-hrnet"], threads=[1, 2], image_sizes=[(64, 32)], batch_sizes=[2], scope="pipeline", runs=4,
            warmup=1, device="cpu", json_file=tmp_path / "r.json", progress=False,
        )  # fmt: skip
    finally:
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
    assert [(p["threads"], p["OMP_NUM_THREADS"]) for p in result.header["processes"]] == [(1, "1"), (2, "2")]
    assert [(row.label, row.threads) for row in result.rows] == [
        ("LGM-Pose", 1), ("small-hrnet", 1), ("LGM-Pose", 2), ("small-hrnet", 2),
    ]  # fmt: skip
    for row in result.rows:
        assert row.n == 4 and row.reason == "" and row.fps == pytest.approx(2000 / row.median_ms, rel=1e-3)
        assert row.params > 1e6 and row.macs > 1e6 and row.batch_size == 2
    assert result.finished and load_results(tmp_path / "r.json").rows == result.rows


FAKE = """
import json, os, signal, sys, time
job = json.load(sys.stdin)
def emit(**event):
    print(json.dumps(event), flush=True)
def die(how):
    if how == "exit":
        sys.exit("the last words")
    os.kill(os.getpid(), signal.SIGKILL)
emit(event="start", environment={"versions": {"torch": "0"}, "device": "cpu"})
for group in job["groups"]:
    models = [subject["model"] for subject in group["subjects"]]
    for j, model in enumerate(models):
        if model:
            emit(event="preparing", group=group["index"], subject=j)
            if model == PREPARE_KILLS and job["threads"] == 1:
                die("exit")
            emit(event="ready", group=group["index"], subject=j, seconds=0.1)
    rounds = {"times_ms": [[model and 10.0 for model in models]] * 3, "probes_ms": [[20.0, 5.0]] * 3}
    emit(event="rounds", group=group["index"], share=0.5, **rounds)
    if RUN_KILLS and RUN_KILLS in models and job["threads"] == 1:
        die("kill")
    if HANG:
        time.sleep(60)
    emit(event="rounds", group=group["index"], share=1, **rounds)
    emit(event="done", group=group["index"])
emit(event="end", load=0.0)
"""


def pretend(monkeypatch, prepare_kills=None, run_kills=None, hang=False):
    script = f"PREPARE_KILLS, RUN_KILLS, HANG = {prepare_kills!r}, {run_kills!r}, {hang}\n{FAKE}"
    monkeypatch.setattr("lgmpose.lab.bench.run.WORKER", [sys.executable, "-c", script])


def summary(result):
    return [(row.label, row.image_hw[1], row.threads, row.n, row.reason) for row in result.rows]


OPTIONS = {"image_sizes": [(64, 32), (64, 64)], "threads": [1, 2], "progress": False}


def test_a_network_that_kills_its_process_costs_its_own_row_only(monkeypatch):
    pretend(monkeypatch, prepare_kills="small-hrnet")
    result = bench([LGM, "small-hrnet"], **OPTIONS)
    words = "its process ended with status 1: the last words"
    assert summary(result) == [
        ("LGM-Pose", 32, 1, 6, ""), ("small-hrnet", 32, 1, 0, words),
        ("LGM-Pose", 32, 2, 6, ""), ("small-hrnet", 32, 2, 6, ""),
        ("LGM-Pose", 64, 1, 6, ""), ("small-hrnet", 64, 1, 0, words),
        ("LGM-Pose", 64, 2, 6, ""), ("small-hrnet", 64, 2, 6, ""),
    ]  # fmt: skip
    assert f"* small-hrnet (eager, 1 thread): {words}" in result.as_markdown()


def test_a_process_killed_in_its_rounds_keeps_them_and_later_groups_are_measured(monkeypatch):
    pretend(monkeypatch, run_kills="small-hrnet")
    result = bench(["small-hrnet"], **OPTIONS | {"threads": [1]})
    rows = summary(result)
    reason = "its process was ended by SIGKILL: most likely there was not enough memory"
    (process,) = result.header["processes"]
    assert (process["gemm_gops"], process["copy_gbs"]) == (107.4, 13.4)  # of the probes' 20 and 5 ms
    assert rows == [("small-hrnet", 32, 1, 3, reason), ("small-hrnet", 64, 1, 3, reason)]


def test_a_process_that_never_starts_gives_its_reason_once_per_row(monkeypatch):
    monkeypatch.setattr("lgmpose.lab.bench.run.WORKER", [sys.executable, "-c", "import no_such_module"])
    rows = summary(bench([LGM], **OPTIONS))
    assert len(rows) == 4 and all(n == 0 and "No module named 'no_such_module'" in reason for *_, n, reason in rows)


def test_a_worker_that_dies_before_it_says_anything_is_not_started_for_ever(monkeypatch, tmp_path):
    """As when memory stays full: a network kills its process, and no process after it comes up."""
    started = tmp_path / "started"
    script = f"""
import os, sys
if os.path.exists({str(started)!r}):
    sys.exit("no memory left")
open({str(started)!r}, "w").close()
PREPARE_KILLS, RUN_KILLS, HANG = "small-hrnet", None, False
{FAKE}"""
    monkeypatch.setattr("lgmpose.lab.bench.run.WORKER", [sys.executable, "-c", script])
    started_so_far = []

    def run_worker(*job):
        started_so_far.append(job)
        assert len(started_so_far) <= 8, "more than there are networks: it would go on for ever"
        return original(*job)

    original = bench_run._run_worker
    monkeypatch.setattr(bench_run, "_run_worker", run_worker)
    rows = summary(bench([LGM, "small-hrnet"], **OPTIONS | {"threads": [1]}))
    reasons = [reason for *_, reason in rows]
    assert reasons == [
        "its process ended with status 1: no memory left", "its process ended with status 1: the last words",
        "its process ended with status 1: no memory left", "its process ended with status 1: no memory left",
    ]  # fmt: skip


def test_ctrl_c_keeps_what_was_measured(monkeypatch, tmp_path, capsys):
    pretend(monkeypatch, hang=True)
    started = []
    real = subprocess.Popen

    def popen(*arguments, **options):
        process = real(*arguments, **options)
        if "stdin" in options:
            started.append(process)
        return process

    monkeypatch.setattr(subprocess, "Popen", popen)

    def interrupt_once_there_are_rounds(self, event):
        original(self, event)
        if event["event"] == "rounds":
            os.kill(os.getpid(), signal.SIGINT)

    from lgmpose.lab.bench.run import _Process

    original = _Process._on_event
    monkeypatch.setattr(_Process, "_on_event", interrupt_once_there_are_rounds)
    path = tmp_path / "r.json"
    arguments = ["bench", "--models", LGM, "--image-hw", "64", "32", "--image-hw", "64", "64", "--json", str(path)]
    assert main(arguments) == 130
    assert len(started) == 1 and started[0].poll() == -signal.SIGKILL
    result = load_results(path)
    assert not result.finished and path.with_suffix(".md").is_file()
    assert summary(result) == [("LGM-Pose", 32, 1, 3, ""), ("LGM-Pose", 64, 1, 0, "not measured: stopped before")]
    assert "Stopped before the end" in capsys.readouterr().out
