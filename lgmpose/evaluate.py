"""How good is a network on a record set: predictions for every person, then the metrics its labels allow."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from lgmpose.codecs import StandardCodec, make_codec, merge_flipped
from lgmpose.datasets import load_records
from lgmpose.datasets.crops import CropDataset
from lgmpose.datasets.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.extremes import save_extremes
from lgmpose.files import write_atomically
from lgmpose.geometry import fit_aspect, invert_matrix, transform_points
from lgmpose.loader import choose_workers, count_errors, make_loader, to_input
from lgmpose.metrics import (
    PCKResult,
    coco_ap,
    coco_results,
    head_size_from_joints,
    oks_nms,
    pck,
    pck_joints,
    pckh,
    rescore,
    torso_size,
)
from lgmpose.runtime import choose_device, tune_allocator
from lgmpose.skeletons import Skeleton
from lgmpose.zoo import DEFAULT_WEIGHTS, at_size, codec_of, load_weights, skeleton_of, weights_hash

__all__ = [
    "Evaluation", "Predictions", "evaluate", "evaluate_weights", "heatmaps_of", "joint_results", "predict_records",
]  # fmt: skip

OKS_NMS_THRESHOLD = 0.9  # HRNet's, on detector boxes
JOINT_SCORE_THRESHOLD = 0.2  # joints below it do not count in a person's score


@torch.inference_mode()
def heatmaps_of(net: nn.Module, inputs: Tensor, skeleton: Skeleton, *, flip_test: bool, flip_shift: bool) -> Tensor:
    """Heatmaps of a batch, averaged with those of the mirrored batch where ``flip_test``.

    Args:
        inputs: (B, 3, H, W), normalised.
        skeleton: tells which joints a mirror swaps.
        flip_shift: see ``codecs.merge_flipped``.

    Returns:
        (B, K, h, w) float32.
    """
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
        skipped: how many pictures could not be read.
    """

    keypoints_xy: np.ndarray
    scores: np.ndarray
    skipped: int


def predict_records(
    net: nn.Module,
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
    dataset = CropDataset(record_set, codec.image_hw, aligned=codec.aligned)
    keys = list(range(len(dataset)))
    batches = [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
    loader = make_loader(dataset, codec, batches, workers=choose_workers(workers), with_heatmaps=False)
    keypoints_xy = np.full((len(dataset), skeleton.num_keypoints, 2), np.nan)
    scores = np.zeros((len(dataset), skeleton.num_keypoints))
    device, skipped, was_training = next(net.parameters()).device, 0, net.training
    net.eval()
    for batch in tqdm(loader, desc="evaluate", unit="batch", disable=not progress, leave=False):
        skipped += count_errors(batch, bad_images)
        if "image" not in batch:
            continue
        inputs = to_input(batch["image"].to(device, non_blocking=True))
        heatmaps = heatmaps_of(net, inputs, skeleton, flip_test=flip_test, flip_shift=codec.flip_shift)
        crop_xy, joint_scores = codec.decode(heatmaps.cpu().numpy())
        index = batch["index"].numpy()
        keypoints_xy[index] = transform_points(invert_matrix(batch["matrix"].numpy()), crop_xy)
        scores[index] = joint_scores
    net.train(was_training)
    return Predictions(keypoints_xy, scores, skipped)


@dataclass(frozen=True)
class Evaluation:
    """Figures with the conditions they hold under.

    Attributes:
        figures: metric name → value; PCK and PCKh in per cent, AP and AR in 0..1.
        conditions: data, skeleton, boxes, flip test, codec, input size, persons … as printed beside the figures.
        per_joint: metric name → joint name → per cent.
        intervals: metric name → 95 % bootstrap interval over persons.
        predictions: what was predicted.
    """

    figures: dict[str, float]
    conditions: dict[str, str]
    per_joint: dict[str, dict[str, float]] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
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
            order = ("PCKh@0.5",)
        return next(name for name in order if name in self.figures)

    def as_json(self) -> dict:
        return {
            "figures": {name: round(value, 4) for name, value in self.figures.items()},
            "intervals_95": {name: [round(v, 2) for v in pair] for name, pair in self.intervals.items()},
            "per_joint": {m: {j: round(v, 2) for j, v in values.items()} for m, values in self.per_joint.items()},
            "conditions": self.conditions,
        }


def evaluate(
    net: nn.Module,
    record_set: RecordSet,
    codec: StandardCodec,
    *,
    skeleton: Skeleton | None = None,
    flip_test: bool = True,
    batch_size: int = 32,
    workers: int | None = None,
    bad_images: str = "refuse",
    progress: bool = True,
    results_file: str | Path | None = None,
) -> Evaluation:
    """Predicts every person and computes what the labels allow: PCK@0.2, PCKh@0.5, and AP where there is a COCO JSON.

    Args:
        results_file: where to write the poses in COCO's results format (what the test-dev server takes).

    Raises:
        UserError: unreadable pictures, or a results file that cannot be written.
    """
    skeleton = skeleton or record_set.skeleton
    predictions = predict_records(
        net, record_set, codec, skeleton=skeleton, flip_test=flip_test, batch_size=batch_size, workers=workers,
        bad_images=bad_images, progress=progress,
    )  # fmt: skip
    conditions = {
        "data": record_set.name,
        "skeleton": skeleton.name,
        "boxes": record_set.box_source,
        "flip test": ("on, shifted" if codec.flip_shift else "on") if flip_test else "off",
        "decoder": codec.name,
        "input": f"{codec.image_hw[0]}×{codec.image_hw[1]}",
        "persons": str(len(record_set)),
    }
    if predictions.skipped:
        conditions["unreadable pictures skipped"] = str(predictions.skipped)
    figures, per_joint, intervals = {}, {}, {}
    if record_set.has_keypoints:
        figures, per_joint, intervals = _joint_accuracy(predictions, record_set, skeleton)
    if record_set.annotation_file is not None or results_file is not None:
        results = _coco_persons(predictions, record_set, skeleton, codec.image_hw)
        if results_file is not None:
            write_atomically(results_file, json.dumps(results).encode())
        if record_set.annotation_file is not None:
            figures.update(coco_ap(results, record_set.annotation_file, sigmas=skeleton.oks_sigmas))
    return Evaluation(figures, conditions, per_joint, intervals, predictions)


def joint_results(predictions: Predictions, record_set: RecordSet, skeleton: Skeleton) -> dict[str, PCKResult]:
    """PCK@0.2 and PCKh@0.5, whichever the skeleton and the labels allow, with every joint's verdict."""
    truth = np.stack([record.keypoints_xy for record in record_set.records])
    visibility = np.stack([record.visibility for record in record_set.records])
    results = {}
    if skeleton.torso_diagonals is not None:
        sizes = torso_size(truth, visibility, skeleton)
        results["PCK@0.2"] = pck(predictions.keypoints_xy, truth, visibility, sizes, 0.2, pck_joints(skeleton))
    head_sizes = np.array([record.head_size for record in record_set.records])
    if not np.isfinite(head_sizes).any() and skeleton.head_segment is not None:
        head_sizes = head_size_from_joints(truth, visibility, skeleton)
    if np.isfinite(head_sizes).any():
        results["PCKh@0.5"] = pckh(predictions.keypoints_xy, truth, visibility, head_sizes, skeleton, 0.5)
    return results


def _joint_accuracy(predictions: Predictions, record_set: RecordSet, skeleton: Skeleton) -> tuple[dict, dict, dict]:
    results = joint_results(predictions, record_set, skeleton)
    figures = {name: result.mean_percent for name, result in results.items()}
    per_joint = {
        name: {joint: float(v) for joint, v in zip(skeleton.joint_names, result.joint_percent, strict=True)}
        for name, result in results.items()
    }
    return figures, per_joint, {name: result.interval() for name, result in results.items()}


def _coco_persons(
    predictions: Predictions, record_set: RecordSet, skeleton: Skeleton, image_hw: tuple[int, int]
) -> list[dict]:
    """Results in COCO's format; detector boxes go through rescoring and OKS-NMS picture by picture."""
    records = record_set.records
    readable = np.isfinite(predictions.keypoints_xy).all(axis=(1, 2))
    scores = rescore(predictions.scores, np.array([r.score for r in records]), JOINT_SCORE_THRESHOLD)
    keep = np.flatnonzero(readable)
    if not record_set.has_keypoints:
        # The area is that of the padded box in the network's aspect ratio, as HRNet has it.
        sizes = np.stack([fit_aspect(record.size_wh, image_hw) for record in records])
        image_ids = np.array([record.image_id for record in records])
        keep = []
        for image_id in np.unique(image_ids[readable]):
            of_image = np.flatnonzero((image_ids == image_id) & readable)
            kept = oks_nms(
                predictions.keypoints_xy[of_image], scores[of_image], sizes[of_image].prod(axis=1),
                skeleton.oks_sigmas, OKS_NMS_THRESHOLD,
            )  # fmt: skip
            keep.extend(of_image[kept])
    image_ids = [records[i].image_id for i in keep]
    return coco_results(image_ids, predictions.keypoints_xy[keep], predictions.scores[keep], scores[keep])


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
    results_file: str | Path | None = None,
    json_file: str | Path | None = None,
    sheet_file: str | Path | None = None,
) -> Evaluation:
    """What ``lgmpose eval`` does; prints the figures with their conditions. See its help for the arguments.

    Raises:
        UserError: bad weights or data, or data of another skeleton than the weights'.
    """
    tune_allocator()
    record_set = load_records(data, split, detections=detections, annotations=annotations)
    path = Path(weights or DEFAULT_WEIGHTS)
    net, card = load_weights(path)
    skeleton = skeleton_of(card)
    if skeleton != record_set.skeleton:
        raise UserError(
            f"{path}: weights for skeleton {skeleton.name}, but {record_set.name} has {record_set.skeleton.name}: "
            "their joints cannot be compared"
        )
    if image_hw is not None:
        net = at_size(net, image_hw)
    if batch_size < 1 or (limit is not None and limit < 1):
        raise UserError(f"batch_size {batch_size} and limit {limit} must be at least 1")
    if limit is not None:
        record_set = record_set.subset(range(min(limit, len(record_set))))
    codec = codec_of(card, net.config.image_hw)
    if codec_name is not None:
        codec = make_codec(codec_name, net.config.image_hw, codec.sigma)
    net = net.to(choose_device(device), memory_format=torch.channels_last)
    evaluation = evaluate(
        net, record_set, codec, flip_test=flip_test, batch_size=batch_size, workers=workers, bad_images=bad_images,
        results_file=results_file,
    )  # fmt: skip
    print(f"weights: {path.name} (sha256 {weights_hash(path)})  {evaluation.as_text()}")
    if json_file is not None:
        content = {"weights": path.name, "sha256": weights_hash(path), **evaluation.as_json()}
        write_atomically(json_file, json.dumps(content, indent=1).encode())
    if sheet_file is not None:
        save_extremes(record_set, evaluation.predictions.keypoints_xy, sheet_file)
    return evaluation
