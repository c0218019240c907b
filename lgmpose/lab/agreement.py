"""Measure how far two annotators of one photograph agree: ``lgmpose lab agreement lspet:PATH``.

Leeds Sports Pose Extended holds some photographs twice, at different scales, and each copy was labelled separately. The
joints of one annotator are measured against those of the other, as predictions of a network would be.

The agreement is a reference value, not an upper bound for a network. Two labels with independent errors differ more
from each other than each differs from the truth. ``against_noisy_labels`` estimates the upper bound under two
assumptions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lgmpose.data import load_records
from lgmpose.data.images import read_image
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.files import check_writable, write_atomically
from lgmpose.inference.evaluate import predict_records
from lgmpose.inference.figures import Evaluation, summary
from lgmpose.lab.conventions import input_hw
from lgmpose.machine import machine_header
from lgmpose.metrics import bootstrap_interval, head_size_from_joints, pck, pck_joints, pckh, torso_size
from lgmpose.pose.geometry import box_around_points
from lgmpose.zoo.cards import find_weights
from lgmpose.zoo.catalogue import SPORTS_WEIGHTS, codec_of, load_weights, skeleton_of, weights_hash

__all__ = ["LabelledTwice", "against_noisy_labels", "find_copies", "judge", "measure_agreement"]

THUMBNAIL = 32  # pixels a side
CORRELATION = 0.985  # of two thumbnails; on LSPET we looked at every pair above it, and each is one photograph
ASPECT_TOLERANCE = 0.02  # of width : height, because the copies' sizes are rounded
OVERLAP = 0.5  # IoU of the boxes around the joints that both labelled; below, they may be of different persons
NOTE = (
    "A reference value, not an upper bound for a network: two labels with independent errors differ more from each "
    "other than each differs from the truth. Pairs whose labels overlap too little are left out."
)


@dataclass(frozen=True)
class LabelledTwice:
    """Persons that two annotators labelled, with each label once as the truth.

    Attributes:
        truth: 2 n records: the second annotator's of all n pairs, then the first's.
        other_xy: (2 n, K, 2) the other annotator's joints, in pixels of the record's own picture; NaN where only one of
            the two labelled the joint.
        num_left_out: number of further pairs whose labels overlap too little to be of one person.
    """

    truth: RecordSet
    other_xy: np.ndarray
    num_left_out: int

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Return the record ids of each person that is there twice: (by the first annotator, by the second)."""
        ids = [record.id for record in self.truth.records]
        return list(zip(ids[len(ids) // 2 :], ids[: len(ids) // 2], strict=True))


def find_copies(record_set: RecordSet) -> LabelledTwice:
    """Find photographs that a data set of one person per picture holds twice.

    Two pictures are one photograph if their grey thumbnails correlate by more than ``CORRELATION``. Pairs whose labels
    overlap too little are left out, so the agreement that is found is too high rather than too low.

    Raises:
        UserError: several persons in one picture, an unreadable picture, or no photograph that is there twice.
    """
    records = record_set.records
    if len({record.image for record in records}) < len(records):
        raise UserError(f"{record_set.name}: several persons in a picture; a set with one in each is needed (lspet)")
    thumbnails, sizes_wh = _thumbnails(records)
    aspect = sizes_wh[:, 0] / sizes_wh[:, 1]
    truth: tuple[list[PersonRecord], ...] = ([], [])  # the second annotator's, the first's
    other_xy: tuple[list[np.ndarray], ...] = ([], [])
    num_left_out, used = 0, set[int]()
    for i in range(len(records)):
        same_shape = abs(aspect[i + 1 :] / aspect[i] - 1) < ASPECT_TOLERANCE
        alike = (thumbnails[i + 1 :] @ thumbnails[i] > CORRELATION) & same_shape
        for j in (i + 1 + np.flatnonzero(alike)).tolist():
            by_both = (records[i].visibility > 0) & (records[j].visibility > 0)
            # Pixel centres have whole coordinates; corners, half a pixel before, are what scales with a picture.
            corners = {k: (records[k].keypoints_xy + 0.5) / sizes_wh[k] for k in (i, j)}
            if by_both.sum() < 2 or _box_iou(corners[i][by_both], corners[j][by_both]) < OVERLAP:
                num_left_out += 1
            elif not used & {i, j}:  # a third copy's pairs would not be independent of the first pair
                used |= {i, j}
                for k, here, there in ((0, j, i), (1, i, j)):
                    truth[k].append(records[here])
                    xy = corners[there] * sizes_wh[here] - 0.5
                    other_xy[k].append(np.where(by_both[:, None], xy, np.nan))
    if not truth[0]:
        raise UserError(f"{record_set.name}: holds no photograph twice, so agreement cannot be measured")
    twice = replace(record_set, records=(*truth[0], *truth[1]), name=f"{record_set.name}, labelled twice")
    return LabelledTwice(twice, np.array([*other_xy[0], *other_xy[1]]), num_left_out)


def _thumbnails(records: tuple[PersonRecord, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures' grey thumbnails (n, THUMBNAIL²), with mean 0 and norm 1, and their sizes (n, 2), (w, h)."""
    thumbnails, sizes_wh = np.empty((len(records), THUMBNAIL**2), np.float32), np.empty((len(records), 2))
    for i, record in enumerate(tqdm(records, desc="compare", unit="picture", disable=None, leave=False)):
        image = cv2.cvtColor(read_image(record.image, apply_exif=False), cv2.COLOR_RGB2GRAY)
        sizes_wh[i] = image.shape[1::-1]
        small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        small -= small.mean()
        thumbnails[i] = small / max(float(np.linalg.norm(small)), 1e-6)
    return thumbnails, sizes_wh


def _box_iou(one_xy: np.ndarray, other_xy: np.ndarray) -> float:
    """Return the intersection over union of the boxes around two sets of points."""
    one, other = (box_around_points(points) for points in (one_xy, other_xy))
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    shared = np.prod(np.maximum(high - low, 0))
    return float(shared / max(np.prod(one[2:]) + np.prod(other[2:]) - shared, 1e-9))


def judge(twice: LabelledTwice, predicted_xy: np.ndarray, *, tolerance: float = 1.0) -> Evaluation:
    """Evaluate predictions (2 n, K, 2) against ``twice.truth``; with ``twice.other_xy``, the annotators' agreement.

    The thresholds of both metrics are multiplied by ``tolerance``. Intervals are over photographs: the bootstrap draws
    both labels of a photograph together.
    """
    truth, skeleton, n = twice.truth, twice.truth.skeleton, len(twice.truth) // 2
    true_xy = np.stack([record.keypoints_xy for record in truth.records])
    labelled = np.stack([record.visibility for record in truth.records])  # sizes are the truth's own
    compared = np.isfinite(twice.other_xy).all(axis=-1)
    torsos, heads = (size(true_xy, labelled, skeleton) for size in (torso_size, head_size_from_joints))
    results = {
        "PCK@0.2": pck(predicted_xy, true_xy, compared, torsos, 0.2 * tolerance, pck_joints(skeleton)),
        "PCKh@0.5": pckh(predicted_xy, true_xy, compared, heads, skeleton, 0.5 * tolerance),
    }
    results = {name: result for name, result in results.items() if result.counted.any()}
    intervals = {}
    for name, result in results.items():
        correct, counted = (flags[:, list(result.joints)] for flags in (result.correct, result.counted))
        both = [np.hstack([flags[:n], flags[n:]]) for flags in (correct, counted)]
        intervals[name] = bootstrap_interval(both[0], both[1])
    figures, per_joint, errors = summary(results, predicted_xy, truth, skeleton)
    conditions = {"data": truth.name, "skeleton": skeleton.name, "photographs labelled twice": str(n),
                  "joints": "those that both labelled"}  # fmt: skip
    return Evaluation(figures, conditions, per_joint, intervals, errors)


def against_noisy_labels(twice: LabelledTwice) -> dict[str, dict[str, float]]:
    """Estimate the metrics of a perfect network, measured with one annotator's labels.

    Returns:
        Assumption → metric → per cent. ``both imprecise``: both labels have independent, normally distributed errors of
        the same size. So two labels are √2 times as far apart as a label and the truth. The estimate is the agreement
        at √2 times the threshold. ``one wrong``: where labels differ by more than the threshold, one of the two is
        right. So half of the disagreement is left.
    """
    imprecise, strict = judge(twice, twice.other_xy, tolerance=2**0.5).figures, judge(twice, twice.other_xy).figures
    return {
        "both imprecise": {metric: round(value, 4) for metric, value in imprecise.items()},
        "one wrong": {metric: round(50 + value / 2, 4) for metric, value in strict.items()},
    }


def measure_agreement(data: str, *, weights: Path | None = None, json_file: Path | None = None) -> None:
    """Print how far two annotators of one photograph agree, and a network with either of them.

    If the network was trained on these persons, its figures are too high. The options are those of the command.

    Raises:
        UserError: data or weights that cannot be read, no photograph twice, or a file that cannot be written.
    """
    if json_file is not None:
        check_writable(json_file)
    weights = find_weights(weights or SPORTS_WEIGHTS.name)
    net, card = load_weights(weights)
    train, val = (load_records(data, split) for split in ("train", "val"))
    if (skeleton := skeleton_of(card)).joint_names != train.skeleton.joint_names:
        raise UserError(f"{weights}: predicts the joints of {skeleton.name}; {train.name} has {train.skeleton.name}")
    records = tuple(sorted((*train.records, *val.records), key=lambda record: record.id))
    twice = find_copies(replace(train, records=records, name=train.name.removesuffix("-train")))
    annotators = judge(twice, twice.other_xy)
    predictions = predict_records(net, twice.truth, codec_of(card, input_hw(net)), skeleton=skeleton)
    network, noise = judge(twice, predictions.keypoints_xy), against_noisy_labels(twice)
    if json_file is not None:
        content = {
            "command": f"lgmpose lab agreement {data.split(':')[0]}:PATH",
            "note": NOTE,
            **machine_header(),
            "pictures": len(records),
            "pairs": twice.pairs,
            "overlap too little": twice.num_left_out,
            "annotators": annotators.as_json(),
            "a perfect network (estimated)": noise,
            "network": {"weights": weights.name, "sha256": weights_hash(weights), **network.as_json()},
        }
        write_atomically(json_file, f"{json.dumps(content, indent=1)}\n".encode())
    print(f"Left out: {twice.num_left_out} pairs whose labels overlap too little to be of one person.\n{NOTE}")
    for title, evaluation in (("one annotator by the other", annotators), (f"{weights.name} by both", network)):
        print(f"\n{title}\n{evaluation.as_text()}")
    print("\na network that knows the truth, measured by one annotator (estimated)")
    for assumption, figures in noise.items():
        print(f"{assumption}: " + ", ".join(f"{metric} {value:.1f} %" for metric, value in figures.items()))
