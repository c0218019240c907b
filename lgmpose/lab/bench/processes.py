"""``bench()``: checks the plan, starts one worker process after the other, and collects what they measured."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

import msgspec
from msgspec.structs import replace
from tqdm import tqdm

from lgmpose.inference.timing import MIN_ROUNDS
from lgmpose.lab.bench.measurement import (
    PRODUCT,
    PRODUCT_SIDE,
    BenchResult,
    Outcome,
    Row,
    check_output,
    measured,
)
from lgmpose.lab.bench.plan import CODEC, BenchConfig, Job, make_plan
from lgmpose.lab.bench.runtimes import find_runtime
from lgmpose.machine import choose_device, machine_header, num_cores

__all__ = ["LOAD_MARGIN", "bench", "end_of_process", "measure_job"]

# The load of the last minute contains this program's own threads; half a core above the cores is other work.
LOAD_MARGIN = 0.5


def bench(config: BenchConfig, *, json_file: str | Path | None = None, progress: bool = True) -> BenchResult:
    """Measure how long networks take, side by side.

    Each backend with each number of threads measures each group of networks in a fresh process.

    Args:
        config: what to measure, and how.
        json_file: where to keep the result; rewritten whenever a process has ended.
        progress: show a bar.

    Returns:
        The result; after Ctrl-C what the finished processes measured, with ``finished`` False.

    Raises:
        UserError: bad input; nothing has been measured then.
    """
    check_output(json_file)
    runtimes = {name: find_runtime(name) for name in config.backends}
    choose_device(config.device)
    plan = make_plan(config, progress=progress)
    settings = asdict(config) | {"codec": CODEC, "min_rounds": min(MIN_ROUNDS, config.runs)}
    header = machine_header() | {"settings": settings, "processes": []}
    header["backends"] = {name: runtime.what for name, runtime in runtimes.items()}
    result = BenchResult(header, finished=False)
    bar = tqdm(plan, unit="process", disable=None if progress else True, leave=False)
    with tempfile.TemporaryDirectory(prefix="lgmpose-bench-") as folder, contextlib.suppress(KeyboardInterrupt):
        for rows in bar:
            _add(result, rows, measure_job(Job(config, rows, folder), bar.set_description))
            result.finished = len(header["processes"]) == len(plan)
            result.save(json_file)
    result.save(json_file)  # after Ctrl-C in the first process, too
    return result


def measure_job(job: Job, show: Callable[[str], object]) -> Outcome:
    """Run a worker; if a network ends its process while it is prepared, run another worker without that network."""
    reasons: dict[str, str] = {}
    while True:
        rows = [replace(row, reason=row.reason or reasons.get(row.model, "")) for row in job.rows]
        outcome, at, reason = _run_worker(replace(job, rows=rows), show)
        left = [row.model for row in rows if not row.reason]
        reasons |= {at: reason} if at else dict.fromkeys(left, reason) if reason else {}
        if not at or left == [at]:
            outcome.reasons |= reasons
            return outcome


def _run_worker(job: Job, show: Callable[[str], object]) -> tuple[Outcome, str, str]:
    """Run one worker to its end.

    Returns:
        What it measured. If it ended too early: the network that it was preparing, or "", and the reason.
    """
    backend, threads = job.rows[0].backend, str(job.rows[0].threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command, at = [sys.executable, "-m", "lgmpose.lab.bench.worker"], ""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": environment}
    with tempfile.TemporaryFile() as errors, subprocess.Popen(command, stderr=errors, **pipes) as worker:
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended at once; its exit status says why
                worker.stdin.write(msgspec.json.encode(job))
                worker.stdin.close()
            for line in worker.stdout:
                if line.startswith(b"{"):
                    return msgspec.json.decode(line, type=Outcome), "", ""
                at = line.decode().strip()
                show(f"{backend}, {threads} threads: {f'preparing {at}' if at else 'timing'}")
            status = worker.wait()
        except BaseException:
            worker.kill()
            raise
        errors.seek(0)
        return Outcome(), at, end_of_process(status, errors.read().decode(errors="replace"))


def _add(result: BenchResult, rows: list[Row], outcome: Outcome) -> None:
    """Add a process's rows and its environment."""
    environment = {"backend": rows[0].backend, "threads": rows[0].threads} | outcome.environment
    if PRODUCT in outcome.times_ms:  # 10⁹ operations per second, 2 per multiply–accumulate
        environment["gemm_gops"] = round(2 * PRODUCT_SIDE**3 / median(outcome.times_ms[PRODUCT]) / 1e6, 1)
    result.header["processes"].append(environment)
    noise = [
        f"load {environment[key]:.1f} on {num_cores()} cores {when}"
        for when, key in (("before", "load"), ("after", "load_after"))
        if (environment.get(key) or 0) > num_cores() + LOAD_MARGIN and result.header["settings"]["clock"] == "wall"
    ]
    result.rows += measured(rows, outcome, noise)


def end_of_process(status: int, stderr: str) -> str:
    """Return why a process ended, from its exit status and the last line that it wrote to stderr."""
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        return f"its process was ended by {name}" + (": probably out of memory" if name == "SIGKILL" else "")
    return f"its process ended with status {status}: {stderr.strip().rpartition(chr(10))[2] or 'no message'}"[:300]
