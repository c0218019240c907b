"""Measure the claims: the fresh processes of ``lgmpose.lab.bench``, in turns, and their ratios judged."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec
from tqdm import tqdm

from lgmpose.errors import UserError
from lgmpose.files import as_type, read_json, write_atomically
from lgmpose.lab.bench.measurement import Outcome, Row, check_output, paired_ratio
from lgmpose.lab.bench.plan import BenchConfig, Job
from lgmpose.lab.bench.processes import measure_job
from lgmpose.lab.bench.runtimes import RUNTIMES, find_runtime
from lgmpose.lab.verdict.paper_claims import (
    LGM,
    NOT_TESTED,
    SETTINGS,
    SMALL_HW,
    Finding,
    Timed,
    VerdictConfig,
    cost_findings,
    rule,
    speed_findings,
)
from lgmpose.machine import machine_header, num_cores

__all__ = ["Verdict", "load_verdict", "measure_verdict", "with_mobilevit"]

CANDIDATES = ("eager-fast", "onnxruntime", "openvino")  # of RUNTIMES: exact, and ready within seconds
# Processes differ by more than the rounds of one process, so time goes into processes rather than rounds.
ROUNDS, WARM_UP = 6, 2
EXPORTS_AT_ONCE = 4  # each takes about a gigabyte


class Verdict(msgspec.Struct):
    """All that ``lgmpose verdict`` found on one machine.

    Attributes:
        header: machine, date, source; ``runtime`` (the fastest), ``versions``, ``threads``.
        rule: how the verdicts are decided.
        findings: in the order of the card.
        processes: the medians that the findings come from.
        finished: False if it was stopped; the findings then come from fewer processes.
    """

    header: dict[str, Any]
    rule: str
    findings: list[Finding]
    processes: list[Timed] = []
    not_tested: dict[str, str] = msgspec.field(default_factory=lambda: dict(NOT_TESTED))
    finished: bool = False
    command: str = "lgmpose verdict"
    kind: Literal["lgmpose verdict"] = "lgmpose verdict"

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        write_atomically(path, msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def with_mobilevit():
    """Return LGM-Pose with MobileViT blocks (Table 4), for 256×192, so that it runs in the rounds of the others."""
    from lgmpose.zoo.catalogue import create_model  # PyTorch

    return create_model(LGM, global_block="mobilevit")


def load_verdict(path: str | Path) -> Verdict:
    """Read a result file.

    Raises:
        UserError: no such file, or not a result file of ``lgmpose verdict``.
    """
    what = f"{path}: not a result file of `lgmpose verdict`"
    verdict = as_type(read_json(path), Verdict, what, strict=False)
    if (
        missing := {"date", "cpu", "cores", "system", "threads", "runtime", "lgmpose", "commit", "python"}
        - verdict.header.keys()
    ):
        raise UserError(f"{what}: its header has no {min(missing)}")
    return verdict


def measure_verdict(config: VerdictConfig, json_file: Path) -> Verdict:
    """Count, measure and judge; the result file is rewritten after each process.

    Returns:
        The verdict; after Ctrl-C what the finished processes measured, with ``finished`` False.

    Raises:
        UserError: the result file cannot be written; nothing has been measured then.
    """
    check_output(json_file)
    words = ["lgmpose verdict", *["--quick"] * config.quick, *[f"--threads {config.threads}"] * (config.threads != 1)]
    words += [f"--processes {config.processes}"] * (config.processes is not None)
    print(f"The rule: {rule(config)}\nThe result goes to {json_file}.\nCounting parameters and FLOPs", file=sys.stderr)
    costs, header = cost_findings(), machine_header() | {"threads": config.threads, "runtime": "not found out"}
    result = Verdict(header, rule(config), costs, command=" ".join([*words, "--json FILE"]))
    with tempfile.TemporaryDirectory(prefix="lgmpose-verdict-") as folder, contextlib.suppress(KeyboardInterrupt):
        header["runtime"], header["missing_runtimes"] = _fastest_runtime(config, folder)
        if RUNTIMES[header["runtime"]].requires:
            _export_all(config, header["runtime"], folder)
        backends = {"eager": "eager", "fastest": header["runtime"]}
        plan = [(setting, hw) for _ in range(config.repeats) for setting in SETTINGS for hw in config.networks]
        with tqdm(plan, unit="process", disable=None, leave=False) as bar:
            for setting, hw in bar:
                job = _job(config.networks[hw], hw, backends[setting], config.threads, folder)
                outcome = measure_job(job, bar.set_description)
                header["versions"] = header.get("versions", {}) | outcome.environment.get("versions", {})
                result.processes.append(_timed(setting, job, outcome))
                result.finished = len(result.processes) == len(plan)
                result.findings = costs + [f for s in SETTINGS for f in speed_findings(config, s, result.processes)]
                result.save(json_file)
    result.save(json_file)  # after Ctrl-C in the first process, too
    return result


def _export_all(config: VerdictConfig, backend: str, folder: str) -> None:
    """Run each network once, so that its exported file is there and all measuring processes are alike.

    Nothing is timed here, so several processes may run at once.
    """
    jobs = [_job((m,), hw, backend, config.threads, folder, rounds=1) for hw, ms in config.networks.items() for m in ms]
    pool = ThreadPoolExecutor(min(num_cores(), EXPORTS_AT_ONCE))
    try:
        # The last networks of the list take longest.
        done = [pool.submit(measure_job, job, lambda text: None) for job in reversed(jobs)]
        for one in tqdm(as_completed(done), "exporting networks", len(done), disable=None, leave=False):
            one.result()
    finally:  # after Ctrl-C, too
        pool.shutdown(cancel_futures=True)


def _job(models: tuple[str, ...], hw: tuple[int, int], backend: str, threads: int, folder: str, rounds=ROUNDS) -> Job:
    config = BenchConfig(models=models, backends=(backend,), runs=rounds, warmup=WARM_UP, device="cpu")
    rows = [
        Row(label=model, model=model, image_hw=hw, num_keypoints=17, batch_size=1, backend=backend, threads=threads,
            is_reference=model == LGM)
        for model in models
    ]  # fmt: skip
    return Job(config, rows, folder)


def _fastest_runtime(config: VerdictConfig, folder: str) -> tuple[str, dict[str, str]]:
    """Return the runtime in which LGM-Pose takes the least time, and why others were not tried: name → reason."""
    times, missing = {}, {}
    for backend in tqdm(CANDIDATES, desc="looking for the fastest runtime", disable=None, leave=False):
        try:
            find_runtime(backend)
        except UserError as error:
            missing[backend] = str(error)
            continue
        outcome = measure_job(_job((LGM,), SMALL_HW, backend, config.threads, folder, rounds=20), lambda text: None)
        if LGM in outcome.times_ms:
            times[backend] = median(outcome.times_ms[LGM])
        else:
            missing[backend] = outcome.reasons.get(LGM, "no times")
    if not times:
        raise UserError(f"LGM-Pose runs in no runtime: {missing}")
    return min(times, key=times.__getitem__), missing


def _timed(setting: str, job: Job, outcome: Outcome) -> Timed:
    times = {model: values for model, values in outcome.times_ms.items() if model in job.config.models}
    ratios = {model: paired_ratio(values, times.get(LGM, [])) for model, values in times.items() if model != LGM}
    return Timed(
        setting, job.rows[0].backend, job.rows[0].image_hw,
        {model: round(median(values), 3) for model, values in times.items()},
        {model: round(ratio[0], 4) for model, ratio in ratios.items() if ratio},
        outcome.reasons, outcome.environment.get("load"), outcome.environment.get("load_after"),
    )  # fmt: skip
