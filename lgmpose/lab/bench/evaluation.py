"""``lgmpose lab bench-evaluation``: how long COCO's evaluation takes once the network has run, step by step.

A made-up job of val2017's size goes through the package's own functions: decoding batch by batch, rescoring, OKS-NMS,
results, JSON, AP. Beside it, in the same rounds, the rescoring and OKS-NMS that goes from box to box in Python, as the
field's code does; both must keep the same persons and reach the same AP.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.inference.top_down import kept_persons
from lgmpose.lab.bench.command import run_command
from lgmpose.lab.bench.report import markdown_table
from lgmpose.lab.bench.result import paired_ratio
from lgmpose.lab.bench.run import machine_header
from lgmpose.lab.bench.simulated import Simulation, heatmap_batches, simulate
from lgmpose.lab.bench.worker import load
from lgmpose.machine import tune_allocator
from lgmpose.metrics import AP_ENGINES, ap_engine, coco_ap, coco_results, results_json
from lgmpose.pose.codecs import StandardCodec, make_codec
from lgmpose.pose.geometry import fit_aspect, invert_matrix, transform_points
from lgmpose.pose.skeletons import COCO

__all__ = ["bench_evaluation", "by_boxes", "markdown", "measure"]

IMAGE_HW, CODEC, BATCH_SIZE = (256, 192), "dark", 32


def measure(num_pictures: int = 5000, rounds: int = 3) -> dict[str, Any]:
    """Runs the job, then ``rounds`` of both ways to choose persons.

    Returns:
        What the JSON file holds: header, seconds per step, peak memory of the job, the choice both ways, AP both ways.
    """
    tune_allocator()  # as evaluation does
    header = machine_header() | {"load": load(), "versions": {p: version(p) for p in ("numpy", ap_engine())}}
    simulation, codec, seconds = simulate(num_pictures, IMAGE_HW), make_codec(CODEC, IMAGE_HW), {}
    records, engine = simulation.record_set, ap_engine()
    with tempfile.TemporaryDirectory() as folder:
        truth_file = Path(folder) / "truth.json"
        truth_file.write_text(json.dumps(simulation.truth))

        keypoints_xy, joint_scores, seconds["decode"] = _decode(simulation, codec)
        choose = (keypoints_xy, joint_scores, records, COCO.oks_sigmas, IMAGE_HW)
        (keep, scores), seconds["rescore, OKS-NMS"] = _timed(kept_persons, *choose)
        image_ids = np.array([record.image_id for record in records.records])

        def results(keep: np.ndarray, scores: np.ndarray) -> list[dict]:
            return coco_results(image_ids[keep], keypoints_xy[keep], joint_scores[keep], scores[keep])

        persons, seconds["results"] = _timed(results, keep, scores)
        _, seconds["JSON"] = _timed(write_atomically, Path(folder) / "results.json", results_json(persons))
        figures, seconds["AP"] = _timed(coco_ap, persons, truth_file, COCO.oks_sigmas)
        peak_mb = _peak_mb()

        other_engines = {}
        for name in AP_ENGINES:
            if name != engine and importlib.util.find_spec(name):
                theirs, other = _timed(coco_ap, persons, truth_file, COCO.oks_sigmas, engine=name)
                other_engines[name] = {"seconds": other, "same": _same(figures, theirs)}
        ours_s, boxes_s = [], []
        for _ in range(rounds):
            _, spent = _timed(kept_persons, *choose)
            ours_s.append(spent)
            (slow_keep, slow_scores), spent = _timed(by_boxes, *choose)
            boxes_s.append(spent)
        slow_figures = coco_ap(results(slow_keep, slow_scores), truth_file, COCO.oks_sigmas)
    return {
        "kind": "lgmpose bench evaluation",
        "header": header | {"load_after": load()},
        "job": {
            "pictures": num_pictures, "boxes": len(records), "persons": len(simulation.truth["annotations"]),
            "joints": COCO.num_keypoints, "input": list(IMAGE_HW), "decoder": CODEC, "batch_size": BATCH_SIZE,
        },
        "seconds": seconds,
        "total_s": sum(seconds.values()),
        "peak_mb": peak_mb,
        "kept": len(keep),
        "ap_by": engine,
        "figures": figures,
        "other_engines": other_engines,
        "by_boxes": {
            "seconds": boxes_s, "ours_seconds": ours_s, "ratio": paired_ratio(boxes_s, ours_s),
            "same_persons": bool(np.array_equal(keep, slow_keep)), "same_ap": slow_figures == figures,
        },
    }  # fmt: skip


def by_boxes(keypoints_xy, joint_scores, record_set, sigmas, image_hw) -> tuple[np.ndarray, np.ndarray]:
    """``kept_persons`` as one would write it down: picture by picture, person by person, pair by pair."""
    variances = [(2 * sigma) ** 2 for sigma in sigmas]
    scores, areas, by_picture = [], [], {}
    for i, record in enumerate(record_set.records):
        confident = [score for score in joint_scores[i].tolist() if score > 0.2]
        scores.append(sum(confident) / len(confident) * record.score if confident else 0.0)
        width, height = fit_aspect(record.size_wh, image_hw)
        areas.append(float(width * height))
        by_picture.setdefault(record.image_id, []).append(i)

    def likeness(i: int, j: int) -> float:
        squared = ((keypoints_xy[i] - keypoints_xy[j]) ** 2).sum(axis=1)
        return float(np.mean(np.exp(-squared / variances / ((areas[i] + areas[j]) / 2) / 2)))

    keep = []
    for picture in sorted(by_picture):
        left = sorted(by_picture[picture], key=lambda i: -scores[i])
        while left:
            best, *others = left
            keep.append(best)
            left = [other for other in others if likeness(other, best) <= 0.9]
    return np.array(keep), np.array(scores)


def markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    header, job, boxes, total = result["header"], result["job"], result["by_boxes"], result["total_s"]
    versions = ", ".join(f"{name} {number}" for name, number in header["versions"].items())
    rows = [[name, f"{s:.2f}", f"{s / total:.0%}"] for name, s in result["seconds"].items()]
    rows.append(["**all**", f"{total:.2f}", "100%"])
    names = {True: "the same", False: "**others**"}
    lines = [
        "# The evaluation job, measured by `lgmpose lab bench-evaluation`",
        "",
        f"* {header['cpu']}, {header['cores']} cores; {header['system']}; load {header['load']} before, "
        f"{header['load_after']} after",
        f"* {header['date']}; lgmpose {header['lgmpose']}, commit {header['commit'] or 'unknown'}; Python "
        f"{header['python']}; {versions}",
        f"* {job['pictures']:,} simulated pictures with {job['persons']:,} persons; {job['boxes']:,} detector boxes, "
        f"{job['joints']} joints each; {job['input'][0]}×{job['input'][1]}, {job['decoder']}, batches of "
        f"{job['batch_size']}; the network itself is not in it",
        "",
        *markdown_table(["step", "s", "share"], rows),
        "",
        f"* Peak memory of the process: {result['peak_mb']:.0f} MB." if result["peak_mb"] else "",
        f"* {result['kept']:,} persons kept; AP {result['figures']['AP']:.6f}, by {result['ap_by']}.",
        *(
            f"* AP by {name}: {other['seconds']:.2f} s, {names[other['same']]} figures (to 1e-12)."
            for name, other in result["other_engines"].items()
        ),
        f"* Rescoring and OKS-NMS box by box in Python: {np.median(boxes['seconds']):.2f} s, against "
        f"{np.median(boxes['ours_seconds']):.2f} s of ours when called again (the table has the first call): "
        f"{boxes['ratio'][0]:.1f}× [{boxes['ratio'][1]:.1f}, {boxes['ratio'][2]:.1f}] "
        f"({len(boxes['seconds'])} paired rounds); {names[boxes['same_persons']]} persons, "
        f"{names[boxes['same_ap']]} AP.",
    ]
    return "\n".join(lines) + "\n"


def _decode(simulation: Simulation, codec: StandardCodec) -> tuple[np.ndarray, np.ndarray, float]:
    """Poses (n, K, 2) in the pictures, joint scores (n, K), and the seconds, those of making the heatmaps not in it."""
    num, spent = len(simulation.record_set), 0.0
    keypoints_xy, scores = np.empty((num, COCO.num_keypoints, 2)), np.empty((num, COCO.num_keypoints))
    for boxes, heatmaps in heatmap_batches(simulation, codec, BATCH_SIZE):
        start = time.perf_counter()
        crop_xy, scores[boxes] = codec.decode(heatmaps)
        keypoints_xy[boxes] = transform_points(invert_matrix(simulation.matrices[boxes]), crop_xy)
        spent += time.perf_counter() - start
    return keypoints_xy, scores, spent


def _timed(function, *arguments, **options) -> tuple[Any, float]:
    start = time.perf_counter()
    value = function(*arguments, **options)
    return value, time.perf_counter() - start


def _peak_mb() -> float | None:
    """The most memory the process has held; None on Windows."""
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def _same(ours: dict[str, float], theirs: dict[str, float]) -> bool:
    return all(math.isclose(ours[name], theirs[name], rel_tol=0, abs_tol=1e-12) for name in ours)


def bench_evaluation(num_pictures: int, rounds: int, json_file: Path | None) -> None:
    """Measure, print the page and keep the result (``lgmpose lab bench-evaluation``).

    Raises:
        UserError: a number below 1, or a file that cannot be written.
    """
    if num_pictures < 1 or rounds < 1:
        raise UserError(f"--pictures {num_pictures} and --rounds {rounds} must be at least 1")
    run_command(lambda: measure(num_pictures, rounds), markdown, json_file)
