"""How good is a network on a record set: predictions for every person, then the metrics its labels allow.

The network is a PyTorch module or any ``runtimes.Backend``; PyTorch is imported for a module only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from lgmpose.data import load_records
from lgmpose.data.batches import choose_workers, count_errors, load_batches, make_loader, to_input
from lgmpose.data.crops import CropDataset
from lgmpose.data.mpii_truth import HEAD_BOX_FACTOR
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.files import check_writable, write_atomically
from lgmpose.inference.backends import Backend, TorchBackend, is_exported, merged_heatmaps, open_backend
from lgmpose.inference.extremes import require_truth, save_extremes
from lgmpose.inference.top_down import coco_persons
from lgmpose.machine import tune_allocator
from lgmpose.metrics import (
    ERROR_KINDS,
    PCKResult,
    ap_engine,
    coco_ap,
    error_kinds,
    head_size_from_joints,
    pck,
    pck_joints,
    pckh,
    results_json,
    torso_size,
)
from lgmpose.pose.codecs import StandardCodec, make_codec, merge_flipped
from lgmpose.pose.geometry import invert_matrix, transform_points
from lgmpose.pose.skeletons import Skeleton, notice_unpaired
from lgmpose.zoo.cards import find_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "Evaluation", "Predictions", "evaluate", "evaluate_weights", "has_head_boxes", "heatmaps_of", "joint_metrics",
    "joint_results", "predict_records", "predicted_persons", "readable", "summary",
]  # fmt: skip


def heatmaps_of(net: nn.Module, inputs: Tensor, skeleton: Skeleton, *, flip_test: bool, flip_shift: bool) -> Tensor:
    """Heatmaps of a batch, averaged with those of the mirrored batch where ``flip_test``.

    Args:
        inputs: (B, 3, H, W), normalised.
        skeleton: tells which joints a mirror swaps.
        flip_shift: see ``codecs.merge_flipped``.

    Returns:
        (B, K, h, w) float32.
    """
    import torch

    with torch.inference_mode():
        heatmaps = net(inputs).float()
        if not flip_test:
            return heatmaps
        return merge_flipped(heatmaps, net(inputs.flip(-1)).float(), skeleton, shift=flip_shift)


@dataclass(frozen=True)
class Predictions:
    """One pose per record; persons whose picture could not be read are NaN with score 0.

    Attributes:
        keypoints_xy: (n, K, 2) picture pixels.
        scores: (n, K) heatmap maxima.
        unread: (n,) bool, persons whose picture could not be read.
    """

    keypoints_xy: np.ndarray
    scores: np.ndarray
    unread: np.ndarray


def predict_records(
    net: nn.Module | Backend,
    record_set: RecordSet,
    codec: StandardCodec,
    *,
    skeleton: Skeleton,
    flip_test: bool = True,
    batch_size: int = 32,
    workers: int | None = None,
    bad_images: str = "refuse",
    progress: bool = True,
) -> Predictions:
    """Runs a network on every person of a record set.

    Raises:
        UserError: a picture cannot be read and ``bad_images`` is ``refuse``.
    """
    if flip_test:
        notice_unpaired(skeleton)
    dataset = CropDataset(record_set, codec.image_hw, aligned=codec.aligned)
    keys = list(range(len(dataset)))
    keys = [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
    flip = {"skeleton": skeleton, "flip_test": flip_test, "flip_shift": codec.flip_shift}
    is_backend = callable(getattr(net, "heatmaps", None))
    num_workers = choose_workers(workers)
    if is_backend and workers is None:
        num_workers = max(1, num_workers)  # threads, which are safe where processes are not
    batches = (_run_backend if is_backend else _run_module)(net, dataset, codec, keys, num_workers, flip)
    keypoints_xy = np.full((len(dataset), skeleton.num_keypoints, 2), np.nan)
    scores = np.zeros((len(dataset), skeleton.num_keypoints))
    unread = np.ones(len(dataset), bool)
    for batch in tqdm(batches, desc="evaluate", total=len(keys), unit="batch", disable=not progress, leave=False):
        count_errors(batch, bad_images)
        if "heatmaps" in batch:
            unread[batch["index"]] = False
            crop_xy, joint_scores = codec.decode(batch["heatmaps"])
            keypoints_xy[batch["index"]] = transform_points(invert_matrix(batch["matrix"]), crop_xy)
            scores[batch["index"]] = joint_scores
    return Predictions(keypoints_xy, scores, unread)


def _run_backend(
    backend: Backend, dataset: CropDataset, codec: StandardCodec, keys: list, workers: int, flip: dict
) -> Iterator[dict]:
    """Batches of ``load_batches`` with their ``heatmaps`` (b, K, h, w)."""
    for batch in load_batches(dataset, keys, workers=workers):
        yield batch | ({"heatmaps": merged_heatmaps(backend, batch["image"], **flip)} if "image" in batch else {})


def _run_module(
    net: nn.Module, dataset: CropDataset, codec: StandardCodec, keys: list, workers: int, flip: dict
) -> Iterator[dict]:
    """The same by PyTorch, on the network's device, in eval mode; crops come from loader processes."""
    device, was_training = next(net.parameters()).device, net.training
    net.eval()
    for batch in make_loader(dataset, codec, keys, workers=workers, with_heatmaps=False):
        found = {"errors": batch["errors"]}
        if "image" in batch:
            heatmaps = heatmaps_of(net, to_input(batch["image"].to(device, non_blocking=True)), **flip)
            found |= {name: batch[name].numpy() for name in ("index", "matrix")}
            found["heatmaps"] = heatmaps.cpu().numpy()
        yield found
    net.train(was_training)


@dataclass(frozen=True)
class Evaluation:
    """Figures with the conditions they hold under.

    Attributes:
        figures: metric name → value; PCK and PCKh in per cent, AP and AR in 0..1.
        conditions: data, skeleton, boxes, flip test, codec, input size, persons … as printed beside the figures.
        per_joint: metric name → joint name → per cent.
        intervals: metric name → 95 % bootstrap interval over persons.
        errors: metric name → kind (``metrics.ERROR_KINDS``) → per cent of all joints that are wrong in this way.
        predictions: what was predicted.
    """

    figures: dict[str, float]
    conditions: dict[str, str]
    per_joint: dict[str, dict[str, float]] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    predictions: Predictions | None = None

    def as_text(self) -> str:
        """A few lines for people: conditions, figures with intervals, a table of joints."""
        lines = ["  ".join(f"{name}: {value}" for name, value in self.conditions.items())]
        for name, value in self.figures.items():
            low_high = ""
            if name in self.intervals:
                low_high = "  (95 % interval {:.2f} … {:.2f})".format(*self.intervals[name])
            shown = f"{value:.4f}" if name.startswith(("AP", "AR")) else f"{value:.2f} %"
            lines.append(f"{name:10} {'–' if value == -1 else shown}{low_high}")
        for name, kinds in self.errors.items():
            shares = ", ".join(f"{value:.2f} % {ERROR_KINDS[kind]}" for kind, value in kinds.items())
            lines.append(f"wrong by {name}: {shares}")
        if self.per_joint:
            names = list(next(iter(self.per_joint.values())))
            lines.append(f"{'joint':16}" + "".join(f"{metric:>12}" for metric in self.per_joint))
            lines += [
                f"{joint:16}" + "".join(f"{values[joint]:12.2f}" for values in self.per_joint.values())
                for joint in names
            ]
        return "\n".join(lines)

    @property
    def headline(self) -> str:
        """The figure to judge a network by: AP where there is one, PCKh@0.5 on MPII, else PCK@0.2."""
        order = ("AP", "PCK@0.2", "PCKh@0.5")
        if self.conditions["skeleton"] == "mpii-16":
            order = ("PCKh@0.5", "PCK@0.2", "AP")
        found = [name for name in order if name in self.figures]
        if not found:  # though the whole set has one: those measured by it lie in unreadable pictures
            raise UserError(f"{self.conditions['data']}: no figure to judge by: nobody's torso or head is labelled")
        return found[0]

    def as_json(self) -> dict:
        return {
            "figures": {name: round(value, 4) for name, value in self.figures.items()},
            "intervals_95": {name: [round(v, 2) for v in pair] for name, pair in self.intervals.items()},
            "per_joint": {  # NaN, of a joint that nobody has labelled, is no JSON
                metric: {joint: None if math.isnan(v) else round(v, 2) for joint, v in values.items()}
                for metric, values in self.per_joint.items()
            },
            "errors": {m: {kind: round(v, 2) for kind, v in values.items()} for m, values in self.errors.items()},
            "conditions": self.conditions,
        }


def evaluate(
    net: nn.Module | Backend,
    record_set: RecordSet,
    codec: StandardCodec,
    *,
    skeleton: Skeleton | None = None,
    flip_test: bool = True,
    batch_size: int = 32,
    workers: int | None = None,
    bad_images: str = "refuse",
    progress: bool = True,
) -> Evaluation:
    """Predicts every person and computes what the labels allow: PCK@0.2, PCKh@0.5, and AP where there is a COCO JSON.

    AP of a subset is that of its pictures; of a whole set, that of all the JSON's, so pictures where a detector found
    nobody count as well. Figures leave out unreadable pictures, where these are to be skipped.

    Raises:
        UserError: unreadable pictures, or not one that could be read.
    """
    skeleton = skeleton or record_set.skeleton
    predictions = predict_records(
        net, record_set, codec, skeleton=skeleton, flip_test=flip_test, batch_size=batch_size, workers=workers,
        bad_images=bad_images, progress=progress,
    )  # fmt: skip
    every_prediction = predictions
    if predictions.unread.any():
        record_set, predictions, skipped = readable(record_set, predictions)
    conditions = {
        "data": record_set.name,
        "skeleton": skeleton.name,
        "boxes": record_set.box_source,
        "flip test": ("on, shifted" if codec.flip_shift else "on") if flip_test else "off",
        "decoder": codec.name,
        "input": f"{codec.image_hw[0]}×{codec.image_hw[1]}",
        "persons": str(len(record_set)),
    }
    if record_set.notes:
        conditions["left out or replaced"] = record_set.left_out
    if every_prediction.unread.any():
        conditions["unreadable pictures skipped"] = str(skipped)
    results = joint_results(predictions, record_set, skeleton) if record_set.has_keypoints else {}
    for name, result in results.items():
        if result.num_persons < len(record_set):  # a torso or a head without all of its ends labelled has no size
            conditions[f"persons in {name}"] = str(result.num_persons)
    intervals = {name: result.interval() for name, result in results.items()}
    figures, per_joint, errors = summary(results, predictions.keypoints_xy, record_set, skeleton)
    if "PCKh@0.5" in figures:  # the second is about a third longer, and so the milder
        by_box = has_head_boxes(record_set)
        conditions["head size"] = f"{HEAD_BOX_FACTOR:g} × head box" if by_box else "neck to head top"
    if record_set.annotation_file is not None:
        conditions["AP by"] = ap_engine()
        persons = predicted_persons(predictions, record_set, codec, skeleton)
        figures.update(
            coco_ap(persons, record_set.annotation_file, skeleton.oks_sigmas, image_ids=record_set.image_ids)
        )
    return Evaluation(figures, conditions, per_joint, intervals, errors, every_prediction)


def readable(record_set: RecordSet, predictions: Predictions) -> tuple[RecordSet, Predictions, int]:
    """What is left without unreadable pictures, and how many these are."""
    unreadable = {record_set.records[i].image_id for i in np.flatnonzero(predictions.unread)}
    kept = np.flatnonzero(~predictions.unread)
    if not len(kept):
        raise UserError(f"{record_set.name}: not one picture could be read, so there is nothing to evaluate")
    left = record_set.subset(kept)
    if record_set.annotation_file is not None:  # pictures without a box, too
        left = replace(left, image_ids=tuple(i for i in record_set.image_ids or () if i not in unreadable))
    parts = (predictions.keypoints_xy, predictions.scores, predictions.unread)
    return left, Predictions(*(part[kept] for part in parts)), len(unreadable)


def predicted_persons(
    predictions: Predictions, record_set: RecordSet, codec: StandardCodec, skeleton: Skeleton | None = None
) -> list[dict]:
    """The predictions in COCO's results format, which the test-dev server takes, too; see ``metrics.coco_persons``."""
    sigmas = (skeleton or record_set.skeleton).oks_sigmas
    return coco_persons(predictions.keypoints_xy, predictions.scores, record_set, sigmas, codec.image_hw)


def joint_results(predictions: Predictions, record_set: RecordSet, skeleton: Skeleton) -> dict[str, PCKResult]:
    """PCK@0.2 and PCKh@0.5, whichever the skeleton and the labels allow, with every joint's verdict.

    A metric that no joint of its mean counts for is left out.
    """
    truth = np.stack([record.keypoints_xy for record in record_set.records])
    visibility = np.stack([record.visibility for record in record_set.records])
    results = {}
    if skeleton.torso_diagonals is not None:
        sizes = torso_size(truth, visibility, skeleton)
        results["PCK@0.2"] = pck(predictions.keypoints_xy, truth, visibility, sizes, 0.2, pck_joints(skeleton))
    head_sizes = np.array([record.head_size for record in record_set.records])
    if not has_head_boxes(record_set) and skeleton.head_segment is not None:
        head_sizes = head_size_from_joints(truth, visibility, skeleton)
    if np.isfinite(head_sizes).any():
        results["PCKh@0.5"] = pckh(predictions.keypoints_xy, truth, visibility, head_sizes, skeleton, 0.5)
    return {name: result for name, result in results.items() if result.counted[:, list(result.joints)].any()}


def joint_metrics(record_set: RecordSet) -> tuple[str, ...]:
    """Which metrics ``joint_results`` will have, whatever is predicted."""
    shape = (len(record_set), record_set.skeleton.num_keypoints)
    nothing = Predictions(np.full((*shape, 2), np.nan), np.zeros(shape), np.zeros(shape[0], bool))
    return tuple(joint_results(nothing, record_set, record_set.skeleton))


def has_head_boxes(record_set: RecordSet) -> bool:
    """Whether heads are measured by annotated boxes (MPII); if not, by neck and head top."""
    return any(np.isfinite(record.head_size) for record in record_set.records)


def summary(
    results: dict[str, PCKResult], predicted_xy: np.ndarray, record_set: RecordSet, skeleton: Skeleton
) -> tuple[dict, dict, dict]:
    """An evaluation's ``figures``, ``per_joint`` and ``errors``."""
    figures = {name: result.mean_percent for name, result in results.items()}
    per_joint = {
        name: {joint: float(v) for joint, v in zip(skeleton.joint_names, result.joint_percent, strict=True)}
        for name, result in results.items()
    }
    true_xy = [record.keypoints_xy for record in record_set.records]
    errors = {name: error_kinds(result, predicted_xy, np.stack(true_xy), skeleton) for name, result in results.items()}
    return figures, per_joint, errors


def evaluate_weights(
    data: str,
    weights: str | Path | None,
    *,
    split: str = "val",
    annotations: str | None = None,
    detections: str | None = None,
    codec_name: str | None = None,
    image_hw: tuple[int, int] | None = None,
    flip_test: bool = True,
    limit: int | None = None,
    bad_images: str = "refuse",
    batch_size: int = 32,
    workers: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    results_file: str | Path | None = None,
    json_file: str | Path | None = None,
    sheet_file: str | Path | None = None,
) -> Evaluation:
    """What ``lgmpose eval`` does; prints the figures with their conditions. See its help for the arguments.

    Raises:
        UserError: bad weights or data, data of another skeleton than the weights', or a file that cannot be written.
    """
    for file in (results_file, json_file, sheet_file):
        if file is not None:
            check_writable(file)
    record_set = load_records(data, split, detections=detections, annotations=annotations)
    if sheet_file is not None:
        require_truth(record_set)
    path = find_weights(weights)
    if not is_exported(path):
        tune_allocator()
    backend = open_backend(path, device=device, threads=threads)
    if backend.skeleton.joint_names != record_set.skeleton.joint_names:
        raise UserError(
            f"{path}: weights for skeleton {backend.skeleton.name}, but {record_set.name} has "
            f"{record_set.skeleton.name}: their joints are not the same ones in the same order"
        )
    if batch_size < 1 or (limit is not None and limit < 1):
        raise UserError(f"batch_size {batch_size} and limit {limit} must be at least 1")
    if limit is not None:
        record_set = record_set.first(limit)
    image_hw, net = image_hw or backend.image_hw, backend
    if isinstance(backend, TorchBackend):  # its network itself: read by loader processes, any size
        net = backend.network_at(image_hw)
    elif tuple(image_hw) != backend.image_hw:
        raise UserError(f"{path}: exported for {'×'.join(map(str, backend.image_hw))}; export it for another size anew")
    codec = make_codec(codec_name or backend.codec.name, image_hw, backend.codec.sigma)
    evaluation = evaluate(
        net, record_set, codec, flip_test=flip_test, batch_size=batch_size, workers=workers, bad_images=bad_images,
    )  # fmt: skip
    source = backend.source
    try:
        if results_file is not None:
            persons = predicted_persons(evaluation.predictions, record_set, codec)
            write_atomically(results_file, results_json(persons))
        if json_file is not None:
            content = {"weights": source["file"], "sha256": source["sha256"], **evaluation.as_json()}
            write_atomically(json_file, json.dumps(content, indent=1).encode())
        if sheet_file is not None:
            save_extremes(record_set, evaluation.predictions.keypoints_xy, sheet_file)
    finally:  # a file that fails does not cost the figures, nor a closed pipe the files
        print(f"weights: {source['file']} (sha256 {source['sha256']})  {evaluation.as_text()}")
    return evaluation
