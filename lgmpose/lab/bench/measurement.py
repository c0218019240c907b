"""What was measured: one row per network and setting, with medians, spread and paired ratios, and its JSON file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec.structs import replace

from lgmpose.errors import UserError
from lgmpose.files import as_type, check_writable, read_json, write_atomically
from lgmpose.machine import MachineHeader

__all__ = [
    "PRODUCT", "PRODUCT_SIDE", "BenchResult", "Outcome", "Row", "check_output", "keep", "load", "load_results",
    "measured", "paired_ratio", "summary",
]  # fmt: skip

Times = Sequence[float | None]  # one per round; None where a round has none
NOISY_IQR = 0.1  # of the median; above it a time is flagged as noisy
PRODUCT, PRODUCT_SIDE = "matrix product", 1024  # measured in the same rounds as the networks; side of its matrices


class Outcome(msgspec.Struct):
    """What one process measured.

    Attributes:
        environment: what the process ran with: device, versions, load and more.
        times_ms: model, or ``PRODUCT`` → time of each round.
        reasons: model → why it has no times.
    """

    environment: dict[str, Any] = {}
    times_ms: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One network at one size, by one backend with one number of threads.

    Attributes:
        label: the paper's name for rows of its tables, else the model's.
        reason: why there are no times.
        params, macs, activations: for one picture; None where there is no model.
        times_ms: of one run (of ``batch_size`` pictures) per round; in older files None where a round has none.
        fps: persons per second: 1000 · batch_size / median.
        ratio: this network's time / the reference's in the same round, median over the rounds: 4 is four times slower.
        ratio_iqr: the quartiles of that ratio.
        floor_ms: reference value: time of PyTorch's matrix product with as many MACs, median over the rounds.
        of_floor: floor / time in the same round, median over the rounds.
        noise: why the time is not reliable.
    """

    label: str
    image_hw: tuple[int, int]
    num_keypoints: int
    batch_size: int
    backend: str
    threads: int
    is_reference: bool
    model: str | None = None
    table: int | None = None
    device: str = "cpu"
    params: int | None = None
    macs: int | None = None
    activations: int | None = None
    reason: str = ""
    n: int = 0
    median_ms: float | None = None
    iqr_ms: float | None = None
    p95_ms: float | None = None
    fps: float | None = None
    ratio: float | None = None
    ratio_iqr: tuple[float, float] | None = None
    floor_ms: float | None = None
    of_floor: float | None = None
    noise: tuple[str, ...] = ()
    times_ms: tuple[float | None, ...] = ()


class _Settings(msgspec.Struct):
    scope: str
    codec: str
    batch_sizes: list[int]
    warmup: int
    runs: int
    seconds: float
    min_rounds: int
    keep_memory: bool
    clock: str = "wall"  # older files have none


class _Process(msgspec.Struct):
    backend: str
    threads: int
    device_name: str = ""
    dtype: str = ""
    versions: dict[str, str] = {}
    load: float | None = None
    load_after: float | None = None
    gemm_gops: float | None = None
    keeps_memory: bool = True


class _Header(MachineHeader):
    """What the report takes from a result's header."""

    backends: dict[str, str]
    settings: _Settings
    processes: list[_Process]


class BenchResult(msgspec.Struct):
    """All rows of one ``lgmpose bench``.

    Attributes:
        header: machine, versions, date, settings, and one entry per worker process.
        rows: in the order of groups, batch sizes, threads, backends, networks.
        finished: False after Ctrl-C.
    """

    header: dict[str, Any]
    rows: list[Row] = []
    finished: bool = True
    kind: Literal["lgmpose bench"] = "lgmpose bench"

    def save(self, path: str | Path | None) -> None:
        """Write the JSON file, with one row per line; nothing if there is no path.

        Raises:
            UserError: it cannot be written.
        """
        if path is not None:
            head = {"kind": self.kind, "finished": self.finished, "header": self.header}
            start = msgspec.json.format(msgspec.json.encode(head), indent=1)[:-2] + b',\n "rows": [\n  '
            rows = b",\n  ".join(msgspec.json.encode(row) for row in self.rows)
            write_atomically(path, start + rows + b"\n ]\n}\n")


def load_results(path: str | Path) -> BenchResult:
    """Read a result file.

    Raises:
        UserError: no such file, or not a result file of ``lgmpose bench``.
    """
    what = f"{path}: not a result file of `lgmpose bench`"
    result = as_type(read_json(path), BenchResult, what, strict=True)
    as_type(result.header, _Header, f"{what}, its header", strict=True)
    return result


def measured(rows: Sequence[Row], outcome: Outcome, noise: Sequence[str] = ()) -> list[Row]:
    """Return the rows of one process (from ``plan.make_plan``), filled with the times that it measured.

    ``noise`` says why the times of the whole process are not reliable; empty if they are.
    """
    times_ms, done = outcome.times_ms, []
    reference_ms = next(times_ms.get(row.model, []) for row in rows if row.is_reference)
    for row in rows:
        own_ms = times_ms.get(row.model, [])
        fields = summary(own_ms, reference_ms, row.batch_size, noise)
        if own_ms and PRODUCT in times_ms:
            floor_ms = np.array(times_ms[PRODUCT]) * row.batch_size * row.macs / PRODUCT_SIDE**3
            fields["floor_ms"] = round(float(np.median(floor_ms)), 3)
            fields["of_floor"] = round(float(np.median(floor_ms / own_ms)), 4)
        fields["reason"] = row.reason or outcome.reasons.get(row.model, "")
        device = outcome.environment.get("device", "cpu")
        done.append(replace(row, device=device, times_ms=tuple(own_ms), **fields))
    return done


def summary(times_ms: Times, reference_ms: Times, batch_size: int = 1, noise: Sequence[str] = ()) -> dict[str, Any]:
    """Return the fields of ``Row`` that describe its times; {} without times."""
    times = [t for t in times_ms if t is not None]
    if not times:
        return {}
    low, median, high, p95 = np.percentile(times, [25, 50, 75, 95]).tolist()
    spread = (high - low) / median
    ratio = paired_ratio(times_ms, reference_ms)
    return {
        "n": len(times),
        "median_ms": round(median, 3),
        "iqr_ms": round(high - low, 3),
        "p95_ms": round(p95, 3),
        "fps": round(1e3 * batch_size / median, 3),
        "ratio": ratio and round(ratio[0], 4),
        "ratio_iqr": ratio and (round(ratio[1], 4), round(ratio[2], 4)),
        "noise": (*noise, f"interquartile range {spread:.0%} of the median") if spread > NOISY_IQR else tuple(noise),
    }


def paired_ratio(times_ms: Times, reference_ms: Times) -> tuple[float, float, float] | None:
    """Return median and quartiles of time / reference time over the rounds that have both, or None.

    A slow phase of the machine changes both times of a round, but not their ratio.
    """
    pairs = [t / r for t, r in zip(times_ms, reference_ms, strict=False) if t is not None and r is not None]
    if not pairs:
        return None
    low, median, high = np.percentile(pairs, [25, 50, 75]).tolist()
    return median, low, high


def check_output(path: str | Path | None) -> None:
    """Check before the work that its result can be written; the report is written beside it.

    Raises:
        UserError: not named .json, or not writable.
    """
    if path is not None and Path(path).suffix != ".json":
        raise UserError(f"{path}: the result's name must end in .json; the report is written beside it")
    if path is not None:
        check_writable(path)


def keep(result: dict[str, Any], page: str, path: Path | None) -> None:
    """Print a result's page; write the JSON file, and the page beside it, if there is a path."""
    print(page)
    if path is not None:
        write_atomically(path, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        write_atomically(path.with_suffix(".md"), page.encode())


def load() -> float | None:
    """Return how many processes wanted a core, on average over the last minute; None on Windows."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
