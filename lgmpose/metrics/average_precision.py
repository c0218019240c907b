"""COCO's average precision over OKS thresholds 0.50, 0.55 … 0.95.

pycocotools defines it. hotcoco (``pip install 'lgmpose[fast]'``) computes the same figures many times faster, and does
so where it is installed; tests hold both equal, and what computed a figure is said beside it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lgmpose.data.reading import read_coco
from lgmpose.errors import UserError

if TYPE_CHECKING:
    from pycocotools.coco import COCO

__all__ = ["AP_ENGINES", "AP_NAMES", "ap_engine", "coco_ap", "coco_results", "results_json"]

AP_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")  # in the order of COCOeval.stats


def ap_engine() -> str:
    """What computes AP here, as its package is called."""
    return next(name for name in AP_ENGINES if importlib.util.find_spec(name))


def coco_results(
    image_ids: Sequence[int],
    keypoints_xy: np.ndarray,
    joint_scores: np.ndarray,
    scores: np.ndarray,
    category_id: int = 1,
) -> list[dict]:
    """Predicted persons in COCO's results format, as ``json.dump`` and the test server take it.

    Args:
        image_ids: n numbers of pictures.
        keypoints_xy: (n, K, 2) pixels, 0-based.
        joint_scores: (n, K) confidences.
        scores: (n,) persons' scores.
        category_id: the annotations' number of "person"; COCO's is 1.

    Returns:
        n dicts of plain numbers: ``image_id``, ``category_id``, ``keypoints`` [x, y, score, x, …] and ``score``.

    Raises:
        ValueError: shapes that do not fit together, or a number that is NaN or infinite (JSON has none).
    """
    joints = np.concatenate([np.asarray(keypoints_xy, float), np.asarray(joint_scores, float)[..., None]], axis=-1)
    image_ids, scores = np.asarray(image_ids, int), np.asarray(scores, float)
    if not len(image_ids) == len(joints) == len(scores):
        raise ValueError(f"{len(image_ids)} image ids, {len(joints)} poses and {len(scores)} scores: they must match")
    if not (np.isfinite(joints).all() and np.isfinite(scores).all()):
        raise ValueError("a predicted coordinate or score is NaN or infinite, which COCO's results format cannot hold")
    category_id, rows = int(category_id), joints.reshape(len(joints), 3 * joints.shape[1]).tolist()
    return [
        {"image_id": image_id, "category_id": category_id, "keypoints": row, "score": score}
        for image_id, row, score in zip(image_ids.tolist(), rows, scores.tolist(), strict=True)
    ]


def results_json(results: list[dict]) -> Iterator[bytes]:
    """``json.dumps(results)`` in pieces: as one string, val2017's would take hundreds of megabytes while it is made."""
    yield b"["
    for start in range(0, len(results), 1000):
        yield (", " if start else "").encode() + json.dumps(results[start : start + 1000])[1:-1].encode()
    yield b"]"


def coco_ap(
    results: list[dict],
    annotations: str | Path | COCO,
    sigmas: Sequence[float] | None = None,
    image_ids: Sequence[int] | None = None,
    engine: str | None = None,
) -> dict[str, float]:
    """AP and AR of predicted persons against those of their category in a COCO keypoint annotation file.

    At most the 20 best-scored persons per picture count (COCO's rule for keypoints). M and L are persons of medium
    (32² to 96² square pixels) and large segment area.

    Args:
        results: as ``coco_results`` makes them; not changed.
        annotations: path of the annotation JSON, or the ``pycocotools.coco.COCO`` read from it.
        sigmas: per-joint constants of OKS; None means COCO-17's.
        image_ids: pictures to evaluate; None means all in the file.
        engine: one of ``AP_ENGINES``; None means ``ap_engine()``.

    Returns:
        AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL in [0, 1]; −1 where the pictures have no labelled person of
        that area (pycocotools' sign for "not defined"). All are 0 for empty results.

    Raises:
        UserError: a file that cannot be read, a person without joints or box, results for unknown pictures or
            categories, or numbers of joints that differ between results, annotations and sigmas.
    """
    from_file = isinstance(annotations, str | Path)
    name, content = (annotations, read_coco(annotations)) if from_file else ("the annotations", annotations.dataset)
    if not content.get("annotations"):
        raise UserError(f"{name}: lists no persons to evaluate against (COCO keeps test-dev's truth: submit to it)")
    if not results:  # pycocotools fails on an empty list
        return dict.fromkeys(AP_NAMES, 0.0)
    for key, what, part in (("image_id", "pictures", "images"), ("category_id", "categories", "categories")):
        unknown = {result[key] for result in results} - {item.get("id") for item in content.get(part) or ()}
        if unknown:
            raise UserError(
                f"{name}: results are for {what} that it does not list ({len(unknown)} of them, for one "
                f"{min(unknown)}); evaluate against the file that the pictures came from"
            )
    truth = _truth(content, {r["category_id"] for r in results}, len(results[0]["keypoints"]), name)

    evaluation = AP_ENGINES[engine or ap_engine()](truth, results)
    if sigmas is not None:
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, float)
    num_keypoints = len(evaluation.params.kpt_oks_sigmas)
    for what, persons in (("the results", results), (name, truth.anns.values())):
        odd = [p for p in persons if len(p["keypoints"]) != 3 * num_keypoints]
        if odd:
            raise UserError(
                f"{what}: a person of picture {odd[0]['image_id']} has {len(odd[0]['keypoints'])} keypoint numbers, "
                f"but OKS has constants for {num_keypoints} joints of 3 numbers each; give the skeleton's own sigmas"
            )
    if image_ids is not None:
        evaluation.params.imgIds = sorted({int(i) for i in image_ids})
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # hotcoco warns of what was asked for: constants other than COCO's, for another skeleton.
        warnings.filterwarnings("ignore", "hotcoco: kpt_oks_sigmas differ")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(AP_NAMES, evaluation.stats.tolist(), strict=True))


def _truth(content: dict, category_ids: set[int], num_values: int, name: str | Path) -> COCO:
    """The persons of an annotation file as COCO's evaluation wants them; those of other categories are left out.

    COCO's own files say everything. Others leave out what ``load_coco`` does without, and that is filled in: nobody is
    a crowd, joints are counted, the area is the box's. Ids are given anew: 0 is the evaluation's sign for "no match".

    Args:
        content: of the annotation file.
        category_ids: of the results.
        num_values: 3 K, how many numbers make up a pose; a crowd without joints gets as many zeros, as COCO's have.
        name: of the file, for errors.
    """
    from pycocotools.coco import COCO

    persons = []
    for person in content["annotations"]:
        if person.get("category_id") not in category_ids:
            continue
        keypoints, box_xywh, crowd = person.get("keypoints"), person.get("bbox"), int(person.get("iscrowd") or 0)
        if crowd:
            if not box_xywh:  # where it is decides whom it excuses
                continue
            keypoints = keypoints if len(keypoints or ()) == num_values else [0] * num_values
        for key, values in (("keypoints", keypoints), ("bbox", box_xywh)):
            if not values:
                raise UserError(f"{name}: person {person.get('id')} has no {key}, which AP needs")
        keypoints, box_xywh = (np.asarray(values, float).tolist() for values in (keypoints, box_xywh))
        persons.append({
            "id": len(persons) + 1,
            "image_id": person["image_id"],
            "category_id": person["category_id"],
            "iscrowd": crowd,
            "keypoints": keypoints,
            "num_keypoints": sum(flag > 0 for flag in keypoints[2::3]),
            "bbox": box_xywh,
            "area": float(person.get("area") or box_xywh[2] * box_xywh[3]),
        })  # fmt: skip
    truth = COCO()
    truth.dataset = {
        "images": [{"id": picture["id"]} for picture in content["images"]],
        "categories": [{"id": category_id, "name": "person"} for category_id in sorted(category_ids)],
        "annotations": persons,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _pycocotools(truth: COCO, results: list[dict]):
    from pycocotools.cocoeval import COCOeval  # here, because it is slow to import and only AP needs it

    with contextlib.redirect_stdout(io.StringIO()):
        # Copies, as loadRes writes areas, boxes and ids into the dicts it is given.
        return COCOeval(truth, truth.loadRes([dict(result) for result in results]), "keypoints")


def _hotcoco(truth: COCO, results: list[dict]):
    import hotcoco

    annotations = hotcoco.COCO(truth.dataset)
    return hotcoco.COCOeval(annotations, annotations.load_res(results), "keypoints")


AP_ENGINES = {"hotcoco": _hotcoco, "pycocotools": _pycocotools}  # the first that is installed is taken
