"""``lgmpose lab bench-evaluation``: how long COCO's evaluation takes after the network has run, step by step.

A simulated job of val2017's size goes through the package's own functions. The network itself is not in it.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.inference.top_down import kept_persons
from lgmpose.lab.bench.latency_table import markdown_table
from lgmpose.lab.bench.measurement import load
from lgmpose.machine import machine_header, tune_allocator
from lgmpose.metrics import ap_engine, coco_ap, coco_results, results_json
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO

__all__ = ["as_record_set", "evaluation_page", "measure_evaluation", "simulate"]

IMAGE_HW, CODEC, BATCH_SIZE = (256, 192), "dark", 32
# val2017 has 5,000 pictures with 11,004 persons; the field shares a file of 104,125 detected boxes for them.
BOXES_PER_PICTURE, PERSONS_PER_PICTURE, PICTURE_HW = 20.8, 2.2, (480, 640)


def simulate(num_pictures: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Draw persons, and a detector's boxes that show each of them several times, more or less exactly.

    Returns:
        The truth as a COCO annotation file, and the detections: ``image_id`` (n,), ``box_xywh`` (n, 4), ``score`` (n,),
        ``keypoints_xy`` (n, 17, 2) in picture pixels, where the network's heatmaps peak, and ``joint_scores`` (n, 17).
    """
    rng = np.random.default_rng(0)
    persons, boxes = (max(1, round(rate * num_pictures)) for rate in (PERSONS_PER_PICTURE, BOXES_PER_PICTURE))
    height = np.clip(rng.lognormal(4.4, 0.8, persons), 16, PICTURE_HW[0])
    size = np.stack([height * rng.uniform(0.3, 0.7, persons), height], axis=1)
    corner = rng.random((persons, 2)) * (np.array(PICTURE_HW[::-1]) - size)
    joints = corner[:, None] + rng.random((persons, 17, 2)) * size[:, None]
    picture = rng.integers(1, num_pictures + 1, persons)
    who = rng.integers(0, persons, boxes)
    error = rng.exponential(0.05, (boxes, 1))  # of a box and its pose, in box sizes
    detections = {
        "image_id": picture[who],
        "box_xywh": np.hstack([corner[who] + rng.normal(0, 1, (boxes, 2)) * error * size[who], size[who]]),
        "score": rng.beta(5, 2, boxes) * np.exp(-4 * error[:, 0]),
        "keypoints_xy": joints[who] + rng.normal(0, 1, (boxes, 17, 2)) * error[..., None] * size[who, None],
        "joint_scores": rng.beta(6, 2, (boxes, 17)),
    }
    annotations = [
        {
            "id": i + 1, "image_id": int(picture[i]), "category_id": 1, "bbox": [*map(float, (*corner[i], *size[i]))],
            "keypoints": np.column_stack([joints[i], np.full(17, 2)]).ravel().tolist(),
        }
        for i in range(persons)
    ]  # fmt: skip
    pictures = [{"id": i + 1} for i in range(num_pictures)]
    return {"images": pictures, "categories": [{"id": 1, "name": "person"}], "annotations": annotations}, detections


def as_record_set(found: dict[str, np.ndarray]) -> Any:
    """Return what ``kept_persons`` reads of a record set, for the boxes of ``simulate``."""
    columns = found["image_id"].tolist(), found["box_xywh"][:, 2:], found["score"].tolist()
    names = ("image_id", "size_wh", "score")
    records = [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
    return SimpleNamespace(records=records, has_keypoints=False, category_id=1)


def measure_evaluation(num_pictures: int = 5000) -> dict[str, Any]:
    """Run a simulated evaluation; return what the JSON file holds.

    Raises:
        UserError: ``num_pictures`` below 1.
    """
    if num_pictures < 1:
        raise UserError(f"pictures {num_pictures}: at least 1")
    tune_allocator()  # as evaluation does
    header = machine_header() | {"load": load()}
    truth, found = simulate(num_pictures)
    seconds: dict[str, float] = {}

    @contextmanager
    def step(name: str):
        start = time.perf_counter()
        yield
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start

    codec = make_codec(CODEC, IMAGE_HW)
    corner, scale = found["box_xywh"][:, None, :2], found["box_xywh"][:, None, 2:] / np.array(IMAGE_HW[::-1])
    crop_xy, joint_scores = (found["keypoints_xy"] - corner) / scale, found["joint_scores"]
    for start in range(0, len(crop_xy), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        heatmaps = codec.encode(crop_xy[batch], np.ones(joint_scores[batch].shape))[0]
        heatmaps *= joint_scores[batch, :, None, None].astype(np.float32)
        with step("decode"):
            crop_xy[batch], joint_scores[batch] = codec.decode(heatmaps)
    keypoints_xy = corner + crop_xy * scale
    with step("rescore, OKS-NMS"):
        keep, scores = kept_persons(keypoints_xy, joint_scores, as_record_set(found), COCO.oks_sigmas, IMAGE_HW)
    with tempfile.TemporaryDirectory() as folder, step("results file"):
        persons = coco_results(found["image_id"][keep], keypoints_xy[keep], joint_scores[keep], scores[keep])
        write_atomically(Path(folder) / "results.json", results_json(persons))
    with step("AP"):
        figures = coco_ap(persons, truth, COCO.oks_sigmas)
    return {
        "kind": "lgmpose bench evaluation", "header": header | {"load_after": load()}, "seconds": seconds,
        "job": {"pictures": num_pictures, "boxes": len(keypoints_xy), "persons": len(truth["annotations"])},
        "total_s": sum(seconds.values()), "kept": len(keep), "ap_by": ap_engine(), "figures": figures,
    }  # fmt: skip


def evaluation_page(result: dict[str, Any]) -> str:
    """Return the result as a Markdown page."""
    h, job, total = result["header"], result["job"], result["total_s"]
    rows = [[name, f"{s:.2f}", f"{s / total:.0%}"] for name, s in result["seconds"].items()]
    return f"""\
# The evaluation job, measured by `lgmpose lab bench-evaluation`

* {h['cpu']}, {h['cores']} cores; {h['system']}; load {h['load']} to {h['load_after']}
* {h['date']}; lgmpose {h['lgmpose']}, commit {h['commit'] or 'unknown'}; Python {h['python']}
* {job['pictures']:,} simulated pictures with {job['persons']:,} persons and {job['boxes']:,} detected boxes; \
17 joints, {IMAGE_HW[0]}×{IMAGE_HW[1]}, {CODEC}, batches of {BATCH_SIZE}; without the network
* {result['kept']:,} persons kept; AP {result['figures']['AP']:.6f}, by {result['ap_by']}

{markdown_table(["step", "s", "share"], [*rows, ["**all**", f"{total:.2f}", "100%"]])}
"""
