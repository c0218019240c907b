"""COCO's average precision (AP) of poses, over the OKS thresholds 0.50, 0.55 ... 0.95.

pycocotools defines it. hotcoco (``pip install 'lgmpose[fast]'``) computes the same figures many times faster and is
used where it is installed. The tests compare both, and evaluation prints which of them computed a figure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lgmpose.errors import UserError, notice_once
from lgmpose.files import read_json
from lgmpose.metrics.coco_format import Category, CocoFile, one_skeleton, read_coco_file, read_persons
from lgmpose.pose.skeletons import check_sigmas

if TYPE_CHECKING:
    from pycocotools.coco import COCO

__all__ = ["AP_ENGINES", "AP_NAMES", "ap_engine", "ap_interval", "coco_ap", "coco_results", "results_json"]

AP_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")  # in the order of COCOeval.stats
MAX_PERSONS = 20  # of a picture that COCO evaluates


def ap_engine() -> str:
    """Return the name of the package that computes AP here."""
    return next(name for name in AP_ENGINES if importlib.util.find_spec(name))


def coco_results(
    image_ids: Sequence[int] | np.ndarray,
    keypoints_xy: np.ndarray,
    joint_scores: np.ndarray,
    scores: Sequence[float] | np.ndarray,
    category_id: int = 1,
) -> list[dict]:
    """Return predicted persons in COCO's results format, as ``json.dump`` and the test server take it.

    Args:
        image_ids: n picture ids.
        keypoints_xy: (n, K, 2) pixels, 0-based.
        joint_scores: (n, K) confidences.
        scores: (n,) scores of the persons.
        category_id: id of the category "person" in the annotations; COCO's is 1.

    Returns:
        n dicts of plain numbers: ``image_id``, ``category_id``, ``keypoints`` [x, y, score, x, ...] and ``score``.

    Raises:
        ValueError: The lengths differ, or a number is NaN or infinite, which JSON cannot hold.
    """
    joints = np.concatenate([np.asarray(keypoints_xy, float), np.asarray(joint_scores, float)[..., None]], axis=-1)
    image_ids, scores = np.asarray(image_ids, int), np.asarray(scores, float)
    if not len(image_ids) == len(joints) == len(scores):
        raise ValueError(f"{len(image_ids)} image ids, {len(joints)} poses and {len(scores)} scores: they must match")
    if not (np.isfinite(joints).all() and np.isfinite(scores).all()):
        raise ValueError("a predicted coordinate or score is NaN or infinite, which COCO's results format cannot hold")
    rows = joints.reshape(len(joints), 3 * joints.shape[1]).tolist()
    return [
        {"image_id": image_id, "category_id": int(category_id), "keypoints": row, "score": score}
        for image_id, row, score in zip(image_ids.tolist(), rows, scores.tolist(), strict=True)
    ]


def results_json(results: list[dict]) -> Iterator[bytes]:
    """Yield ``json.dumps(results)`` in pieces, as the whole text of val2017's results takes hundreds of megabytes."""
    yield b"["
    for start in range(0, len(results), 1000):
        yield (", " if start else "").encode() + json.dumps(results[start : start + 1000])[1:-1].encode()
    yield b"]"


def coco_ap(
    results: list[dict],
    annotations: str | Path | dict,
    sigmas: Sequence[float] | None = None,
    image_ids: Sequence[int] | None = None,
    engine: str | None = None,
    category_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """Return AP and AR of predicted persons against those of a COCO keypoint annotation file.

    ``coco_format.read_persons`` decides which persons of the file count, and with which box and area. At most the 20
    best-scored predictions of a picture count (COCO's rule for keypoints). M and L are persons of medium (32² to 96²
    square pixels) and large segment area.

    Args:
        results: as ``coco_results`` returns them; not changed.
        annotations: path of the annotation JSON, or its decoded content.
        sigmas: K OKS constants; None means COCO's.
        image_ids: pictures to evaluate; None means all in the file.
        engine: one of ``AP_ENGINES``; None means ``ap_engine()``.
        category_ids: the categories whose members count as persons; None means the results' category and all that list
            the same joints.

    Returns:
        AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL in [0, 1]; −1 (pycocotools' sign for "not defined") where the
        pictures have no labelled person of that size. All are 0 for empty results.

    Raises:
        UserError: The file cannot be read or has no usable person, the results are for pictures or categories that it
            does not list, or the numbers of joints of results and sigmas differ.
    """
    if not results:  # pycocotools fails on an empty list
        _annotated(annotations)
        return dict.fromkeys(AP_NAMES, 0.0)
    evaluation = _compared(results, annotations, sigmas, image_ids, engine or ap_engine(), category_ids)
    with _quiet():
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(AP_NAMES, evaluation.stats.tolist(), strict=True))


def ap_interval(
    results: list[dict],
    annotations: str | Path | dict,
    sigmas: Sequence[float] | None = None,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
    num: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval (percentile method) of AP: pictures are drawn with replacement.

    The arguments are those of ``coco_ap``, and ``num`` is the number of drawings. A picture that is drawn twice counts
    twice, with all its persons. Drawings without a labelled person are left out.

    Returns:
        (low, high) in [0, 1]; None where AP is not defined, because the pictures have no labelled person.

    Raises:
        UserError: as ``coco_ap``.
    """
    if not results:
        return 0.0, 0.0
    evaluation = _compared(results, annotations, sigmas, image_ids, "pycocotools", category_ids)
    pictures = len(evaluation.params.imgIds)  # the first of evalImgs are those of persons of any size
    found = [(i, part) for i, part in enumerate(evaluation.evalImgs[:pictures]) if part is not None]
    persons_N = np.zeros(pictures)
    for i, part in found:
        persons_N[i] = np.count_nonzero(np.equal(part["gtIgnore"], 0))
    if not persons_N.any():
        return None
    order = np.argsort(-np.concatenate([part["dtScores"] for _, part in found]), kind="stable")
    picture_D = np.repeat([i for i, _ in found], [len(part["dtScores"]) for _, part in found])[order]
    right_TD, ignored_TD = (
        np.concatenate([part[name] for _, part in found], axis=1)[:, order] > 0 for name in ("dtMatches", "dtIgnore")
    )
    aps = []
    for times_N in np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), num):
        if not (total := times_N @ persons_N):
            continue
        times_TD = np.where(ignored_TD, 0, times_N[picture_D])
        hits_TD, shown_TD = np.cumsum(times_TD * right_TD, axis=1), np.cumsum(times_TD, axis=1)
        precision_TD = np.maximum.accumulate((hits_TD / np.maximum(shown_TD, 1))[:, ::-1], axis=1)[:, ::-1]
        for hits_D, precision_D in zip(hits_TD, precision_TD, strict=True):
            first = np.searchsorted(hits_D / total, evaluation.params.recThrs)  # where each recall is reached
            aps.append(np.append(precision_D, 0)[first].mean())
    low, high = np.percentile(np.reshape(aps, (-1, len(right_TD))).mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def _annotated(annotations: str | Path | dict) -> tuple[CocoFile, str]:
    """Return an annotation file's checked content, and its name for messages."""
    name = "the annotations" if isinstance(annotations, dict) else str(annotations)
    file = read_coco_file(annotations if isinstance(annotations, dict) else read_json(annotations), name)
    if not file.annotations:
        raise UserError(f"{name}: lists no persons to evaluate against; the annotations of test-dev are not public")
    return file, name


def _compared(
    results: list[dict],
    annotations: str | Path | dict,
    sigmas: Sequence[float] | None,
    image_ids: Sequence[int] | None,
    engine: str,
    category_ids: Sequence[int] | None,
) -> Any:
    """Return a COCOeval whose results are matched with the truth; the arguments are those of ``coco_ap``."""
    file, name = _annotated(annotations)
    _check_listed(results, file, name)
    evaluation = AP_ENGINES[engine](_truth(file, results, name, category_ids), results)
    if sigmas is not None:
        check_sigmas(sigmas, "sigmas")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, float)
    num_keypoints = len(evaluation.params.kpt_oks_sigmas)
    if odd := {len(result["keypoints"]) for result in results} - {3 * num_keypoints}:
        raise UserError(
            f"a person of the results has {min(odd)} keypoint numbers, but there are OKS constants for "
            f"{num_keypoints} joints of 3 numbers each; give the sigmas of the skeleton"
        )
    if image_ids is not None:
        evaluation.params.imgIds = sorted({int(i) for i in image_ids})
    with _quiet():
        evaluation.evaluate()
    return evaluation


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # hotcoco warns of constants other than COCO's, which other skeletons need.
        warnings.filterwarnings("ignore", "hotcoco: kpt_oks_sigmas differ")
        yield


def _check_listed(results: list[dict], file: CocoFile, name: str) -> None:
    """Raise UserError if a result is of a picture or a category that the file does not list."""
    listed = {"image_id": set(file.pictures), "category_id": {category.id for category in file.categories}}
    for key, known in listed.items():
        if unknown := {result[key] for result in results} - known:
            raise UserError(
                f"{name}: does not list the {key} {min(unknown)} of the results ({len(unknown)} such ids); evaluate "
                "against the file that the pictures came from"
            )


def _truth(file: CocoFile, results: list[dict], name: str, category_ids: Sequence[int] | None) -> COCO:
    """Return the persons of the results' category as COCO's evaluation wants them, all fields filled in."""
    from pycocotools.coco import COCO

    category_id = results[0]["category_id"]
    chosen = next((c for c in file.categories if c.id == category_id), Category(category_id))
    ids = one_skeleton(file.categories, chosen) if category_ids is None else set(category_ids)
    num_keypoints = len(results[0]["keypoints"]) // 3
    persons, notes = read_persons(file.annotations or [], file.pictures, ids, num_keypoints)
    if not persons:
        raise UserError(f"{name}: has no person to evaluate against ({dict(notes)})")
    crowded = Counter(person.image_id for person in persons if person.visibility.any())
    if max(crowded.values(), default=0) > MAX_PERSONS:
        notice_once(
            f"notice: {name} has pictures with more than {MAX_PERSONS} persons; by COCO's rule AP and AR count the "
            f"{MAX_PERSONS} best-scored predictions of a picture only, so that not even perfect poses reach 1"
        )
    truth = COCO()
    truth.dataset = {
        "images": [{"id": picture_id} for picture_id in file.pictures],
        "categories": [{"id": category_id, "name": "person"}],
        "annotations": [
            {
                "id": number,  # from 1, as 0 means "no match" in the evaluation
                "image_id": person.image_id,
                "category_id": category_id,
                "iscrowd": int(person.is_crowd),
                "keypoints": np.column_stack([person.keypoints_xy, person.visibility]).ravel().tolist(),
                "num_keypoints": int((person.visibility > 0).sum()),
                "bbox": person.box_xywh.tolist(),
                "area": person.area,
            }
            for number, person in enumerate(persons, 1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _pycocotools(truth: COCO, results: list[dict]) -> Any:
    from pycocotools.cocoeval import COCOeval  # here, because it is slow to import and only AP needs it

    with contextlib.redirect_stdout(io.StringIO()):
        # Copies, as loadRes writes areas, boxes and ids into the dicts it is given.
        return COCOeval(truth, truth.loadRes([dict(result) for result in results]), "keypoints")


def _hotcoco(truth: COCO, results: list[dict]) -> Any:
    import hotcoco

    annotations = hotcoco.COCO(truth.dataset)
    return hotcoco.COCOeval(annotations, annotations.load_res(results), "keypoints")


# The first that is installed is used.
AP_ENGINES: dict[str, Callable[[COCO, list[dict]], Any]] = {"hotcoco": _hotcoco, "pycocotools": _pycocotools}
