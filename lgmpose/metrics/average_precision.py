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
    """AP and AR of predicted persons against a COCO keypoint annotation file.

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
        UserError: a file that cannot be read, persons numbered 0, results for unknown pictures, or numbers of joints
            that differ between results, annotations and sigmas.
    """
    truth = _read_annotations(annotations) if isinstance(annotations, str | Path) else annotations
    if not results:  # pycocotools fails on an empty list
        return dict.fromkeys(AP_NAMES, 0.0)
    name = annotations if isinstance(annotations, str | Path) else "the annotations"
    unknown = {result["image_id"] for result in results} - set(truth.getImgIds())
    if unknown:
        raise UserError(
            f"{name}: results are for pictures that it does not list ({len(unknown)} of them, for one {min(unknown)}); "
            "evaluate against the file that the pictures came from"
        )
    if 0 in truth.anns:
        raise UserError(f"{name}: has a person with id 0, which COCO's evaluation takes for 'no match'; number from 1")

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


def _read_annotations(path: str | Path) -> COCO:
    from pycocotools.coco import COCO

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, AssertionError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a COCO annotation JSON that can be read ({error})") from error
    if not truth.anns:
        raise UserError(f"{path}: lists no persons to evaluate against (COCO keeps test-dev's truth: submit to it)")
    for person in truth.anns.values():
        missing = {"keypoints", "num_keypoints", "area", "bbox", "iscrowd"} - set(person)
        if missing:
            raise UserError(f"{path}: person {person['id']} has no {', '.join(sorted(missing))}, which AP needs")
    return truth
