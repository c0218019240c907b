"""How far two annotators of one photograph agree: what no network can be asked to pass on their data by much.

``lgmpose lab agreement lspet:PATH``. Leeds Sports Pose Extended holds some photographs twice, at other scales,
and each copy was labelled by itself. One annotator's joints are judged by the other's as if a network had found them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lgmpose.data import RecordSet, load_records
from lgmpose.data.images import read_image
from lgmpose.errors import UserError
from lgmpose.files import check_writable, write_atomically
from lgmpose.inference.evaluate import Evaluation, predict_records, summary
from lgmpose.inference.extremes import save_extremes
from lgmpose.machine import commit
from lgmpose.metrics import (
    bootstrap_interval,
    head_size_from_joints,
    pck,
    pck_joints,
    pckh,
    torso_size,
)
from lgmpose.pose.geometry import box_around_points
from lgmpose.zoo.catalogue import DEFAULT_WEIGHTS, codec_of, load_weights, skeleton_of, weights_hash

__all__ = ["LabelledTwice", "find_copies", "judge"]

THUMBNAIL = 32  # pixels a side
CORRELATION = 0.985  # of two thumbnails: on LSPET, all pairs above are one photograph, looked at one by one
ASPECT_TOLERANCE = 0.02  # of width : height, as the copies' sizes are rounded
OVERLAP = 0.5  # of the boxes around the joints that both labelled: below, they may have meant different people


@dataclass(frozen=True)
class LabelledTwice:
    """Persons that two annotators labelled, each copy once as the truth.

    Attributes:
        truth: 2 n records: the second annotator's of all n pairs, then the first's.
        other_xy: (2 n, K, 2) the other annotator's joints, in the pixels of the record's own picture; NaN where one of
            the two did not label the joint, so that nothing can be compared.
        others: how many further pairs of labels overlap too little to be of one person.
    """

    truth: RecordSet
    other_xy: np.ndarray
    others: int

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The persons' ids, (first, second) annotator."""
        ids = [record.id for record in self.truth.records]
        return list(zip(ids[len(ids) // 2 :], ids[: len(ids) // 2], strict=True))


def find_copies(record_set: RecordSet, progress: bool = True) -> LabelledTwice:
    """Finds photographs that a data set of one person per picture holds twice.

    Two pictures are one photograph if their grey thumbnails correlate by more than ``CORRELATION``. Whoever labelled
    somebody else, or by mistake quite another place, is left out, so the agreement found is rather too good.

    Raises:
        UserError: several persons in one picture, an unreadable picture, or no photograph that is there twice.
    """
    records = record_set.records
    if len({record.image for record in records}) < len(records):
        raise UserError(f"{record_set.name}: several persons in a picture; a set with one in each is needed (lspet)")
    thumbnails = np.empty((len(records), THUMBNAIL**2), np.float32)
    sizes_wh = np.empty((len(records), 2))
    for i, record in enumerate(tqdm(records, desc="compare", unit="picture", disable=not progress, leave=False)):
        image = cv2.cvtColor(read_image(record.image, apply_exif=False), cv2.COLOR_RGB2GRAY)
        sizes_wh[i] = image.shape[1::-1]
        small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        small -= small.mean()
        thumbnails[i] = small / max(np.linalg.norm(small), 1e-6)

    aspect = sizes_wh[:, 0] / sizes_wh[:, 1]
    truths, others, different_people, used = ([], []), ([], []), 0, set()
    for i in range(len(records)):
        alike = (thumbnails[i + 1 :] @ thumbnails[i] > CORRELATION) & (
            abs(aspect[i + 1 :] / aspect[i] - 1) < ASPECT_TOLERANCE
        )
        for j in i + 1 + np.flatnonzero(alike):
            by_both = (records[i].visibility > 0) & (records[j].visibility > 0)
            first, second = ((records[k].keypoints_xy[by_both] + 0.5) / sizes_wh[k] for k in (i, j))
            if by_both.sum() < 2 or _overlap(first, second) < OVERLAP:
                different_people += 1
            elif not used & {i, j}:  # a third copy's pairs would not be independent of the first one
                used |= {i, j}
                for k, here, there in ((0, j, i), (1, i, j)):
                    # A pixel's centre is a whole number, its corner half a pixel before: the corners fit each other.
                    xy = (records[there].keypoints_xy + 0.5) * (sizes_wh[here] / sizes_wh[there]) - 0.5
                    truths[k].append(records[here])
                    others[k].append(np.where(by_both[:, None], xy, np.nan))
    if not truths[0]:
        raise UserError(f"{record_set.name}: holds no photograph twice, so nothing is known of how annotators agree")
    truth = replace(record_set, records=(*truths[0], *truths[1]), name=f"{record_set.name}, labelled twice")
    return LabelledTwice(truth, np.array([*others[0], *others[1]]), different_people)


def _overlap(one_xy: np.ndarray, other_xy: np.ndarray) -> float:
    """Intersection over union of the boxes around two sets of points."""
    boxes = [box_around_points(points) for points in (one_xy, other_xy)]
    low = np.maximum(boxes[0][:2], boxes[1][:2])
    high = np.minimum(boxes[0][:2] + boxes[0][2:], boxes[1][:2] + boxes[1][2:])
    shared = np.prod(np.maximum(high - low, 0))
    return float(shared / max(sum(np.prod(box[2:]) for box in boxes) - shared, 1e-9))


def judge(twice: LabelledTwice, predicted_xy: np.ndarray) -> Evaluation:
    """Figures of predictions (2 n, K, 2) for ``twice.truth``; intervals are over photographs, not over their copies.

    With ``twice.other_xy``: how far the annotators agree, each judged by the other.
    """
    truth, skeleton, n = twice.truth, twice.truth.skeleton, len(twice.truth) // 2
    true_xy = np.stack([record.keypoints_xy for record in truth.records])
    labelled = np.stack([record.visibility for record in truth.records])  # the truth's own size, whatever else is known
    compared = np.isfinite(twice.other_xy).all(axis=-1)
    torsos, heads = (size(true_xy, labelled, skeleton) for size in (torso_size, head_size_from_joints))
    results = {
        "PCK@0.2": pck(predicted_xy, true_xy, compared, torsos, 0.2, pck_joints(skeleton)),
        "PCKh@0.5": pckh(predicted_xy, true_xy, compared, heads, skeleton, 0.5),
    }
    results = {name: result for name, result in results.items() if result.counted.any()}

    def by_pair(flags: np.ndarray, joints: tuple[int, ...]) -> np.ndarray:
        chosen = flags[:, list(joints)]
        return np.concatenate([chosen[:n], chosen[n:]], axis=1)

    intervals = {
        name: bootstrap_interval(by_pair(result.correct, result.joints), by_pair(result.counted, result.joints), 0)
        for name, result in results.items()
    }
    figures, per_joint, errors = summary(results, predicted_xy, truth, skeleton)
    conditions = {"data": truth.name, "skeleton": skeleton.name, "photographs labelled twice": str(n),
                  "joints": "those that both labelled"}  # fmt: skip
    return Evaluation(figures, conditions, per_joint, intervals, errors)


def measure_agreement(
    data: str,
    *,
    weights: Path | None = None,
    json_file: Path | None = None,
    sheet: Path | None = None,
) -> None:
    """How far two annotators of one photograph agree, and a network with either of them on the same photographs.

    Args:
        data: KIND:PATH, of a set with one person per picture (lspet).
        weights: the network to put beside them. It may have been trained on these persons; then it is flattered.
        json_file: where to write the figures.
        sheet: where to draw the pairs that agree least and most (a PNG): one annotator left, the other right.

    Raises:
        UserError: data or weights that cannot be read, no photograph twice, or a file that cannot be written.
    """
    for file in (json_file, sheet):
        if file is not None:
            check_writable(file)
    weights = weights or Path(DEFAULT_WEIGHTS)
    net, card = load_weights(weights)
    train, val = (load_records(data, split) for split in ("train", "val"))
    if (skeleton := skeleton_of(card)).joint_names != train.skeleton.joint_names:
        raise UserError(f"{weights}: finds the joints of {skeleton.name}, {train.name} has {train.skeleton.name}")
    records = sorted((*train.records, *val.records), key=lambda record: record.id)
    twice = find_copies(replace(train, records=tuple(records), name=train.name.removesuffix("-train")))
    codec = codec_of(card, net.config.image_hw)
    annotators = judge(twice, twice.other_xy)
    network = judge(twice, predict_records(net, twice.truth, codec, skeleton=skeleton).keypoints_xy)
    if json_file is not None:
        content = {
            "command": f"lgmpose lab agreement {data.split(':')[0]}:PATH",
            "commit": commit(),
            "pictures": len(records),
            "pairs": twice.pairs,
            "overlap too little": twice.others,
            "annotators": annotators.as_json(),
            "network": {"weights": weights.name, "sha256": weights_hash(weights), **network.as_json()},
        }
        write_atomically(json_file, f"{json.dumps(content, indent=1)}\n".encode())
    if sheet is not None:
        n = len(twice.pairs)
        visibility = np.where(np.isfinite(twice.other_xy[:n]).all(axis=-1), 2, 0)  # what is compared is drawn
        shown = [replace(record, visibility=v) for record, v in zip(twice.truth.records[:n], visibility, strict=True)]
        save_extremes(replace(twice.truth, records=tuple(shown)), twice.other_xy[:n], sheet)
    print(f"{twice.others} pairs more have labels that overlap too little to be of one person: left out")
    for title, evaluation in (("one annotator by the other", annotators), (f"{weights.name} by both", network)):
        print(f"\n{title}\n{evaluation.as_text()}")
