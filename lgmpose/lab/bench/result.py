"""What was measured: rows with medians, spread and paired ratios; and the JSON file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.lab.bench.machine_limits import floor_ms
from lgmpose.lab.bench.plan import Group, Subject
from lgmpose.lab.bench.runtimes import BACKENDS

__all__ = ["NOISY_IQR", "BenchResult", "Row", "load_results", "make_rows", "paired_ratio"]

KIND, VERSION = "lgmpose bench", 1
NOISY_IQR = 0.1  # of the median; above it a figure is not to be quoted
MAX_BYTES = 400_000  # of a result file; above it, each row's times give way to their quantiles
QUANTILES = tuple(range(0, 101, 5))


@dataclass(frozen=True)
class Row:
    """One network at one size, by one backend with one number of threads.

    Attributes:
        label: the paper's name for rows of its tables, else the model's.
        reason: why there are no times, or not all of them.
        params, macs, activations: for one picture; None where there is no model.
        times_ms: of one run (of ``batch_size`` pictures) per round; None where a round has none. Empty in large result
            files, which keep ``quantiles_ms`` (0, 5, … 100 %) instead.
        fps: persons per second: 1000 · batch_size / median.
        ratio: median over the rounds of this network's time / the reference's in the same round: 4 is four times as
            slow.
        ratio_iqr: the quartiles of that.
        floor_ms: a yardstick of the time that the machine needs for it (``bench.limits``); median over the rounds.
        of_floor: how much of the measured time that is: median over the rounds of floor / time.
        noise: why the figures are not to be quoted.
        prepare_s: seconds to build, prepare (compile, export …) and warm up.
    """

    label: str
    model: str | None
    table: int | None
    image_hw: tuple[int, int]
    num_keypoints: int
    batch_size: int
    backend: str
    threads: int
    is_reference: bool
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
    prepare_s: float | None = None
    quantiles_ms: tuple[float, ...] = ()
    times_ms: tuple[float | None, ...] = ()


@dataclass
class BenchResult:
    """All rows of one ``lgmpose bench``, and what they were measured with.

    Attributes:
        header: machine, versions, date, settings, and one entry per worker process.
        rows: in the order of groups, batch sizes, threads, backends, networks.
        finished: False after Ctrl-C.
    """

    header: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    finished: bool = True

    def as_markdown(self) -> str:
        """The header and the tables."""
        from lgmpose.lab.bench.report import markdown

        return markdown(self)

    def save(self, path: str | Path) -> None:
        """Writes the JSON.

        Raises:
            UserError: it cannot be written.
        """
        text = self._as_json([asdict(row) for row in self.rows])
        if len(text) > MAX_BYTES:
            text = self._as_json([_thinned(row) for row in self.rows])
        write_atomically(path, text.encode())

    def _as_json(self, rows: list[dict]) -> str:
        """A row per line: differences of two result files can be read."""
        for row in rows:
            for name in [name for name, value in row.items() if value in (None, (), "")]:
                del row[name]
        content = {"kind": KIND, "version": VERSION, "finished": self.finished, "header": self.header}
        lines = [json.dumps(row, separators=(",", ":"), ensure_ascii=False, allow_nan=False) for row in rows]
        head = json.dumps(content, indent=1, ensure_ascii=False)
        return head[:-2] + ',\n "rows": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def load_results(path: str | Path) -> BenchResult:
    """Reads a result file.

    Raises:
        UserError: no such file, or not one of ``lgmpose bench``.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(f"{path}: not a result file of lgmpose bench")
    if content.get("version") != VERSION:
        raise UserError(f"{path}: version {content.get('version')} of the result file; this lgmpose reads {VERSION}")
    known = {f.name for f in fields(Row)}
    try:
        rows = [
            Row(**{k: tuple(v) if isinstance(v, list) else v for k, v in {**_EMPTY, **row}.items() if k in known})
            for row in content["rows"]
        ]
        return BenchResult(content["header"], rows, content["finished"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: a damaged result file ({type(error).__name__}: {error})") from error


_EMPTY = {"model": None, "table": None}  # left out of the file where there is none


def make_rows(
    group: Group,
    measured: Sequence[dict[str, Any]],
    *,
    batch_size: int,
    backend: str,
    threads: int,
    device: str = "cpu",
    noise: Sequence[str] = (),
    probes_ms: Sequence[Sequence[float]] = (),
) -> list[Row]:
    """The rows of one group: statistics of its networks' times.

    Args:
        measured: per network ``times_ms`` (a time or None per round), ``reason`` and ``prepare_s``.
        noise: what disturbed the whole process.
        probes_ms: per round, the machine's limit, of ``limits.Probes``; none where it was not measured.
    """
    precision = BACKENDS[backend].precision if backend in BACKENDS else "fp32"
    reference = next(
        (m["times_ms"] for s, m in zip(group.subjects, measured, strict=True) if s.label == group.reference), []
    )
    rows = []
    for subject, one in zip(group.subjects, measured, strict=True):
        rows.append(
            Row(
                label=subject.label, model=subject.model, table=group.table, image_hw=group.image_hw,
                num_keypoints=group.num_keypoints, batch_size=batch_size, backend=backend, threads=threads,
                is_reference=subject.label == group.reference, device=device, params=subject.params, macs=subject.macs,
                activations=subject.activations, reason=one["reason"], prepare_s=one["prepare_s"],
                times_ms=tuple(one["times_ms"]), **_statistics(one["times_ms"], reference, batch_size, noise),
                **_floor(group, subject, one["times_ms"], probes_ms, batch_size, precision),
            )  # fmt: skip
        )
    return rows


def _statistics(times_ms: Sequence, reference_ms: Sequence, batch_size: int, noise: Sequence[str]) -> dict[str, Any]:
    times = [t for t in times_ms if t is not None]
    if not times:
        return {}
    low, median, high, p95 = np.percentile(times, [25, 50, 75, 95]).tolist()
    spread = (high - low) / median
    noise = list(noise)
    if spread > NOISY_IQR:
        noise.append(f"interquartile range {spread:.0%} of the median")
    ratio = paired_ratio(times_ms, reference_ms)
    return {
        "n": len(times),
        "median_ms": round(median, 3),
        "iqr_ms": round(high - low, 3),
        "p95_ms": round(p95, 3),
        "fps": round(1e3 * batch_size / median, 3),
        "ratio": None if ratio is None else round(ratio[0], 4),
        "ratio_iqr": None if ratio is None else (round(ratio[1], 4), round(ratio[2], 4)),
        "noise": tuple(noise),
    }


def _floor(
    group: Group, subject: Subject, times_ms: Sequence, probes_ms: Sequence, batch_size: int, precision: str
) -> dict[str, Any]:
    rounds = [(t, probe) for t, probe in zip(times_ms, probes_ms, strict=False) if t is not None]
    if not rounds or subject.macs is None:
        return {}
    H, W = group.image_hw
    per_picture = 3 * H * W + group.num_keypoints * H * W // 16  # the picture, and heatmaps a quarter its size
    amounts = {"macs": batch_size * subject.macs, "moved": subject.params + batch_size * per_picture}
    floors = [floor_ms(probe, **amounts, precision=precision) for _, probe in rounds]
    shares = [floor / t for floor, (t, _) in zip(floors, rounds, strict=True)]
    return {"floor_ms": round(float(np.median(floors)), 3), "of_floor": round(float(np.median(shares)), 4)}


def paired_ratio(times_ms: Sequence, reference_ms: Sequence) -> tuple[float, float, float] | None:
    """Median and quartiles of time / reference time over the rounds that have both; None where none has.

    A slow moment of the machine hits both times of a round, and leaves their ratio alone.
    """
    pairs = [t / r for t, r in zip(times_ms, reference_ms, strict=False) if t is not None and r is not None]
    if not pairs:
        return None
    low, median, high = np.percentile(pairs, [25, 50, 75])
    return float(median), float(low), float(high)


def _thinned(row: Row) -> dict[str, Any]:
    values = asdict(row)
    times = [t for t in row.times_ms if t is not None]
    if times:
        values["quantiles_ms"] = tuple(round(float(q), 3) for q in np.percentile(times, QUANTILES))
    values["times_ms"] = ()
    return values
