"""COCO's average precision (AP) of poses, over the OKS thresholds 0.50, 0.55 ... 0.95. pycocotools defines it.

``compare_persons`` matches predicted persons with the truth. From the matches, ``ap_figures`` computes AP and AR, and
``ap_interval`` the interval of AP. ``coco_ap`` does both steps of the figures.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lgmpose.errors import UserError, notice_once
from lgmpose.files import read_json
from lgmpose.metrics.coco_format import Category, CocoFile, one_skeleton, read_coco_file, read_persons
from lgmpose.pose.skeletons import check_sigmas

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

__all__ = ["AP_NAMES", "ap_figures", "ap_interval", "coco_ap", "coco_results", "compare_persons"]

AP_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")  # in the order of COCOeval.stats
MAX_PERSONS = 20  # of a picture that COCO evaluates


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


def coco_ap(
    results: list[dict],
    annotations: str | Path | dict,
    sigmas: Sequence[float] | None = None,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
) -> dict[str, float]:
    """Return AP and AR of predicted persons: ``ap_figures`` of ``compare_persons``, which has the same arguments."""
    return ap_figures(compare_persons(results, annotations, sigmas, image_ids, category_ids))


def compare_persons(
    results: list[dict],
    annotations: str | Path | dict,
    sigmas: Sequence[float] | None = None,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
) -> COCOeval | None:
    """Match predicted persons with those of a COCO keypoint annotation file.

    ``coco_format.read_persons`` decides which persons of the file count, and with which box and area. At most the 20
    best-scored predictions of a picture count (COCO's rule for keypoints).

    Args:
        results: as ``coco_results`` returns them; not changed.
        annotations: path of the annotation JSON, or its decoded content.
        sigmas: K OKS constants; None means COCO's.
        image_ids: pictures to evaluate; None means all in the file.
        category_ids: the categories whose members count as persons; None means the results' category and all that list
            the same joints.

    Returns:
        The matches, for ``ap_figures`` and ``ap_interval``; None for empty results.

    Raises:
        UserError: The file cannot be read or has no usable person, the results are for pictures or categories that it
            does not list, or the numbers of joints of results and sigmas differ.
    """
    file, name = _annotated(annotations)
    if not results:  # pycocotools fails on an empty list
        return None
    from pycocotools.cocoeval import COCOeval  # here, because it is slow to import and only AP needs it

    _check_listed(results, file, name)
    truth = _truth(file, results, name, category_ids)
    with contextlib.redirect_stdout(io.StringIO()):
        # Copies, as loadRes writes areas, boxes and ids into the dicts it is given.
        evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "keypoints")
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
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    return evaluation


def ap_figures(compared: COCOeval | None) -> dict[str, float]:
    """Return AP and AR of matches from ``compare_persons``.

    M and L are persons of medium (32² to 96² square pixels) and large segment area.

    Returns:
        AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL in [0, 1]; −1 (pycocotools' sign for "not defined") where the
        pictures have no labelled person of that size. All are 0 for empty results.
    """
    if compared is None:
        return dict.fromkeys(AP_NAMES, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        compared.accumulate()
        compared.summarize()
    return dict(zip(AP_NAMES, compared.stats.tolist(), strict=True))


def ap_interval(compared: COCOeval | None, num: int = 1000, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval (percentile method) of AP: pictures are drawn with replacement.

    A picture that is drawn twice counts twice, with all its persons. Drawings without a labelled person are left out.

    Args:
        compared: matches from ``compare_persons``.
        num: number of drawings.
        seed: of the drawings.

    Returns:
        (low, high) in [0, 1]; None where AP is not defined, because the pictures have no labelled person.
    """
    if compared is None:
        return 0.0, 0.0
    pictures = len(compared.params.imgIds)  # the first of evalImgs are those of persons of any size
    found = [(i, part) for i, part in enumerate(compared.evalImgs[:pictures]) if part is not None]
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
    precision_TD = np.zeros((len(right_TD), len(order) + 1))  # the last column, 0, is for recalls that are not reached
    aps = []
    for times_N in np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), num):
        if not (total := times_N @ persons_N):
            continue
        times_TD = np.where(ignored_TD, 0, times_N[picture_D])
        hits_TD, shown_TD = np.cumsum(times_TD * right_TD, axis=1), np.cumsum(times_TD, axis=1)
        exact_TD = hits_TD / np.maximum(shown_TD, 1)
        precision_TD[:, :-1] = np.maximum.accumulate(exact_TD[:, ::-1], axis=1)[:, ::-1]
        reached_TR = [np.searchsorted(recall_D, compared.params.recThrs) for recall_D in hits_TD / total]
        aps.append(np.take_along_axis(precision_TD, np.stack(reached_TR), axis=1).mean())
    low, high = np.percentile(aps, [2.5, 97.5])
    return float(low), float(high)


def _annotated(annotations: str | Path | dict) -> tuple[CocoFile, str]:
    """Return an annotation file's checked content, and its name for messages."""
    name = "the annotations" if isinstance(annotations, dict) else str(annotations)
    file = read_coco_file(annotations if isinstance(annotations, dict) else read_json(annotations), name)
    if not file.annotations:
        raise UserError(f"{name}: lists no persons to evaluate against; the annotations of test-dev are not public")
    return file, name


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
