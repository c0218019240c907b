"""``bench()``: checks the plan, starts one worker process per (threads, backend), and gathers what they say."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

import lgmpose
from lgmpose.errors import UserError
from lgmpose.files import check_writable
from lgmpose.lab.bench.machine_limits import machine_rates
from lgmpose.lab.bench.plan import TABLE_NUMBERS, Group, Settings, counted, model_plan, quick_models, table_plan
from lgmpose.lab.bench.result import BenchResult, make_rows
from lgmpose.lab.bench.runtimes import find_backend
from lgmpose.machine import choose_device, commit, cpu_name, num_cores

__all__ = ["bench", "check_output", "end_of_process", "machine_header"]

WORKER = [sys.executable, "-m", "lgmpose.lab.bench.worker"]
# The one-minute load holds this program's own threads, too: half a core above the cores is somebody else.
LOAD_MARGIN = 0.5


def bench(
    models: Sequence[str] = (),
    *,
    backends: Sequence[str] = ("eager",),
    threads: Sequence[int] = (1,),
    image_sizes: Sequence[tuple[int, int]] = (),
    num_keypoints: int | None = None,
    batch_sizes: Sequence[int] = (1,),
    reference: str | None = None,
    tables: Sequence[int] | None = None,
    json_file: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> BenchResult:
    """Measures how long networks take, side by side.

    Args:
        models: names of ``list_models()``; none: ``quick_models()``.
        backends: names of ``backends.BACKENDS``.
        threads: numbers of threads.
        image_sizes: (H, W) each; none: the reference's own.
        num_keypoints: K; None: the reference's own.
        batch_sizes: pictures per run.
        reference: what ratios are taken against; by default the first LGM-Pose among the models, else their first.
        tables: instead of models, the systems of these tables of the paper; () means all that can be.
        json_file: where to keep the result; written whenever a process has ended.
        progress: draw a progress bar.
        **settings: the other fields of ``Settings``: scope, runs, seconds, device …

    Returns:
        The result; after Ctrl-C what there was, with ``finished`` False.

    Raises:
        UserError: anything wrong with the above; nothing has been measured then.
    """
    config = Settings(tuple(backends), tuple(threads), tuple(batch_sizes), **settings)
    if tables is not None and (models or len(image_sizes) or num_keypoints is not None or reference):
        raise UserError("tables brings its own networks, sizes, keypoints and reference: leave those options out")
    if json_file is not None:
        check_output(json_file)
    chosen = [find_backend(name) for name in config.backends]
    if tables is not None:
        groups = table_plan(tables or TABLE_NUMBERS)
    else:
        groups = model_plan(
            tuple(models) or quick_models(), image_sizes, num_keypoints=num_keypoints, reference=reference
        )
    choose_device(config.device)
    if config.scope != "network":
        _check_codec(config.codec)
    groups = counted(groups, progress=progress)

    header = machine_header() | {"settings": asdict(config), "processes": []}
    header["backends"] = {backend.name: backend.what for backend in chosen}
    result = BenchResult(header)
    jobs = [(group, batch) for group in groups for batch in config.batch_sizes]
    processes = [(count, name) for count in config.threads for name in config.backends]
    networks = sum(subject.model is not None for group, _ in jobs for subject in group.subjects)
    with (
        _Bar(len(processes) * networks, progress) as bar,
        tempfile.TemporaryDirectory(prefix="lgmpose-bench-") as scratch,  # what runtimes read, exported once
    ):
        for count, name in processes:
            bar.describe(f"{name}, {count} thread{'s'[: count > 1]}")
            process = _Process(jobs, config, name, count, bar, scratch)
            try:
                process.measure()
            except KeyboardInterrupt:
                result.finished = False
            result.rows += process.rows()  # adds the machine's rates to the environment, too
            header["processes"].append(process.environment)
            if json_file is not None:
                result.save(json_file)
            if not result.finished:
                break
    place = {(group.table, group.image_hw): i for i, group in enumerate(groups)}
    result.rows.sort(key=lambda row: (place[row.table, row.image_hw], row.batch_size))  # stable: the rest stays
    if json_file is not None:
        result.save(json_file)
    return result


def check_output(path: str | Path) -> None:
    """Finds out before the work whether its result can be written; Markdown and plot go beside it.

    Raises:
        UserError: not named .json, or not writable.
    """
    path = Path(path)
    if path.suffix != ".json":
        raise UserError(f"{path}: the result's name must end in .json; table and plot are written beside it")
    check_writable(path)


def _check_codec(name: str) -> None:
    from lgmpose.pose.codecs import make_codec

    try:
        make_codec(name, (64, 64))
    except ValueError as error:
        raise UserError(str(error)) from error


def machine_header() -> dict[str, Any]:
    """When, on what and with which source something was measured."""
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "lgmpose": lgmpose.__version__,
        "commit": commit(),
        "cpu": cpu_name(),
        "cores": num_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


class _Process:
    """One (threads, backend): what is to be measured there, and what has been so far."""

    def __init__(
        self, jobs: Sequence[tuple[Group, int]], config: Settings, backend: str, threads: int, bar: _Bar, scratch: str
    ):
        self.jobs, self.config, self.backend, self.threads = jobs, config, backend, threads
        self.bar, self.scratch = bar, scratch
        self.environment: dict[str, Any] = {"backend": backend, "threads": threads}
        self.measured = [
            [{"times_ms": [], "reason": s.reason, "prepare_s": None} for s in group.subjects] for group, _ in jobs
        ]
        self.probes_ms: list[list] = [[] for _ in jobs]  # per job, per round: see limits.Probes
        self.done: set[int] = set()  # jobs
        self.failed: set[tuple[int, int]] = set()  # (job, network)
        self.current: tuple[int, int | None] = (0, None)  # what the worker is at: job, and network being prepared

    def measure(self) -> None:
        """Runs workers until every job is done or given up; a network that kills its worker is left out of the next."""
        while len(self.done) < len(self.jobs):
            code, last_words = _run_worker(self._job(), self._on_event, self.threads)
            if code == 0 and len(self.done) == len(self.jobs):
                break
            self._after_a_death(end_of_process(code, last_words))

    def _job(self) -> dict[str, Any]:
        groups = [
            {
                "index": i,
                "image_hw": group.image_hw,
                "num_keypoints": group.num_keypoints,
                "batch_size": batch,
                "subjects": [
                    {"model": None if (i, j) in self.failed else subject.model}
                    for j, subject in enumerate(group.subjects)
                ],
            }
            for i, (group, batch) in enumerate(self.jobs)
            if i not in self.done
        ]
        job = {"backend": self.backend, "threads": self.threads, "groups": groups, "scratch": self.scratch}
        return {**asdict(self.config), **job}

    def _on_event(self, event: dict[str, Any]) -> None:
        kind, i, j = event["event"], event.get("group", 0), event.get("subject")
        if kind == "start":
            self.environment.update(event["environment"])
        elif kind == "end":
            self.environment["load_after"] = event["load"]
        elif kind == "preparing":
            self.current = i, j
        elif kind == "ready":
            self.measured[i][j]["prepare_s"] = round(event["seconds"], 2)
            self.current = i, None
            self.bar.show(0.2)
            self.bar.settle()
        elif kind == "failed":
            self.measured[i][j]["reason"] = event["reason"]
            self.failed.add((i, j))
            self.current = i, None
        elif kind == "rounds":
            self.current = i, None
            running = sum(subject.model is not None for subject in self.jobs[i][0].subjects)
            self.bar.show(0.8 * running * event["share"])
            self.probes_ms[i] += event["probes_ms"]
            for times in event["times_ms"]:
                for one, time_ms in zip(self.measured[i], times, strict=True):
                    one["times_ms"].append(time_ms)
        elif kind == "done":
            self.done.add(i)
            self.bar.settle()

    def _after_a_death(self, cause: str) -> None:
        i, j = self.current
        if j is not None:  # this one's doing: again without it
            self.measured[i][j]["reason"] = cause
            self.failed.add((i, j))
            self.current = i, None  # should the next worker die before it says anything, it is the group's turn
            return
        started = "versions" in self.environment
        given_up = {i} if started else set(range(len(self.jobs)))
        for k in given_up - self.done:
            for one, subject in zip(self.measured[k], self.jobs[k][0].subjects, strict=True):
                if subject.model is not None and not one["reason"]:
                    one["reason"] = cause
        self.done |= given_up
        self.current = i + 1, None

    def rows(self) -> list:
        """What there is; networks that were not reached say so."""
        rows, noise = [], self._noise()
        every = [probe for probes in self.probes_ms for probe in probes]
        if every:
            self.environment.update(machine_rates(every))
        for (group, batch), measured, probes in zip(self.jobs, self.measured, self.probes_ms, strict=True):
            for one, subject in zip(measured, group.subjects, strict=True):
                if subject.model is not None and not one["times_ms"] and not one["reason"]:
                    one["reason"] = "not measured: stopped before"
            rows += make_rows(
                group, measured, batch_size=batch, backend=self.backend, threads=self.threads, noise=noise,
                device=self.environment.get("device", "cpu"), probes_ms=probes,
            )  # fmt: skip
        return rows

    def _noise(self) -> list[str]:
        cores, noise = num_cores(), []
        for when, key in (("before", "load"), ("after", "load_after")):
            load = self.environment.get(key)
            if load is not None and load > cores + LOAD_MARGIN:
                noise.append(f"load {load:.1f} on {cores} cores {when}")
        return noise


def _run_worker(job: dict[str, Any], on_event: Callable[[dict], None], threads: int) -> tuple[int, str]:
    """Runs a worker to its end, whatever that is; → its exit status and the last line it wrote to stderr."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        # A session of its own: Ctrl-C reaches this process alone, which then ends the worker and what it started.
        subprocess.Popen(
            WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, encoding="utf-8",
            start_new_session=True,
        ) as worker,  # fmt: skip
    ):
        try:
            with contextlib.suppress(BrokenPipeError):  # it died at once; its exit status will tell
                json.dump(job, worker.stdin)
                worker.stdin.close()
            for line in worker.stdout:
                on_event(json.loads(line))
            code = worker.wait()
        except BaseException:
            _kill(worker)
            raise
        errors.seek(0)
        lines = [line.strip() for line in errors if line.strip()]
        return code, lines[-1] if lines else ""


def _kill(worker: subprocess.Popen) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
    else:
        worker.kill()


def end_of_process(code: int, last_words: str) -> str:
    """Why a process is no more, by its exit status and the last line it wrote to stderr."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        more = ": most likely there was not enough memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{more}"
    return f"its process ended with status {code}: {last_words or 'no message'}"[:300]


class _Bar:
    """tqdm in units of networks; a network's preparation counts 0.2, its rounds 0.8."""

    def __init__(self, total: int, active: bool):
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} gone, {remaining} left"
        self.bar = tqdm(total=total, disable=not active, bar_format=form, leave=False, file=sys.stderr)
        self.settled = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()

    def describe(self, text: str) -> None:
        self.bar.set_description(text)

    def show(self, amount: float) -> None:
        """So much of what is being done now, besides what is settled."""
        self.bar.n = min(self.settled + amount, self.bar.total)
        self.bar.refresh()

    def settle(self) -> None:
        """What is being done now is done."""
        self.settled = self.bar.n
