"""Evaluate a network on a record set: predict every person, then compute the metrics that its labels allow.

The network is a PyTorch module or any ``backends.Backend``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from lgmpose.data.batches import choose_workers, count_errors, load_batches
from lgmpose.data.crops import CropDataset
from lgmpose.data.mpii_truth import HEAD_BOX_FACTOR
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.inference.backends import Backend, flip_tested, run_module
from lgmpose.inference.figures import Evaluation, Predictions, has_head_boxes, joint_results, summary
from lgmpose.inference.top_down import coco_persons
from lgmpose.metrics import ap_figures, ap_interval, compare_persons
from lgmpose.pose.codecs import StandardCodec
from lgmpose.pose.geometry import invert_matrix, transform_points
from lgmpose.pose.joint_matching import match_joints
from lgmpose.pose.skeletons import Skeleton, notice_unpaired

if TYPE_CHECKING:
    from torch import nn

__all__ = ["channels_for", "evaluate", "evaluate_predictions", "predict_records", "readable"]


def evaluate(  # every argument is a condition of the figures
    net: nn.Module | Backend,
    record_set: RecordSet,
    codec: StandardCodec,
    *,
    channels: Sequence[int] | None = None,
    flip_test: bool = True,
    batch_size: int = 32,
    workers: int | None = None,
    bad_images: str = "refuse",
    progress: bool = True,
) -> Evaluation:
    """Predict every person and compute what the labels allow: PCK@0.2, PCKh@0.5, and AP where there is a COCO JSON.

    AP of a subset covers its pictures. AP of a whole set covers all pictures of the JSON, also those where a detector
    found nobody. Unreadable pictures, if they are skipped, are left out of every figure.

    Args:
        net: PyTorch module, on any device, or backend; finds the joints of the record set's skeleton.
        record_set: the persons.
        codec: how heatmaps are decoded; its ``image_hw`` is the size of the crops.
        channels: the network's heatmap of each joint of the record set, see ``channels_for``; None: all, in order.
        flip_test, batch_size, workers, bad_images: see ``options.EvalConfig``.
        progress: show a bar.

    Raises:
        UserError: unreadable pictures, or no picture at all that can be read.
    """
    every_prediction = predict_records(
        net, record_set, codec, skeleton=record_set.skeleton, channels=channels, flip_test=flip_test,
        batch_size=batch_size, workers=workers, bad_images=bad_images, progress=progress,
    )  # fmt: skip
    return evaluate_predictions(every_prediction, record_set, codec, flip_test=flip_test)


def evaluate_predictions(
    every_prediction: Predictions, record_set: RecordSet, codec: StandardCodec, *, flip_test: bool
) -> Evaluation:
    """Compute the metrics of predictions, one per record, also of unreadable pictures; see ``evaluate``.

    Raises:
        UserError: no picture could be read.
    """
    skeleton = record_set.skeleton
    record_set, predictions, num_skipped = readable(record_set, every_prediction)
    conditions = {
        "data": record_set.name,
        "skeleton": skeleton.name,
        "boxes": record_set.box_source,
        "flip test": ("on, shifted" if codec.flip_shift else "on") if flip_test else "off",
        "decoder": codec.name,
        "input": f"{codec.image_hw[0]}×{codec.image_hw[1]}",
        "persons": str(len(record_set)),
    }
    if num_skipped:
        conditions["unreadable pictures skipped"] = str(num_skipped)
    results = joint_results(predictions, record_set, skeleton) if record_set.has_keypoints else {}
    for name, result in results.items():
        if result.num_persons < len(record_set):  # the others have no torso or head with both ends labelled
            conditions[f"persons in {name}"] = str(result.num_persons)
    intervals = {name: result.interval() for name, result in results.items()}
    figures, per_joint, errors = summary(results, predictions.keypoints_xy, record_set, skeleton)
    if "PCKh@0.5" in figures:  # the two sizes differ by about a third
        by_box = has_head_boxes(record_set)
        conditions["head size"] = f"{HEAD_BOX_FACTOR:g} × head box" if by_box else "neck to head top"
    if record_set.annotation_file is not None:
        compared = compare_persons(
            coco_persons(predictions, record_set, codec.image_hw), record_set.annotation_file, skeleton.oks_sigmas,
            record_set.image_ids, record_set.category_ids,
        )  # fmt: skip
        figures |= ap_figures(compared)
        if (interval := ap_interval(compared)) is not None:
            intervals = {"AP": interval, **intervals}
    return Evaluation(figures, conditions, per_joint, intervals, errors, every_prediction)


def predict_records(  # every argument is a condition of the figures
    net: nn.Module | Backend,
    record_set: RecordSet,
    codec: StandardCodec,
    *,
    skeleton: Skeleton,
    channels: Sequence[int] | None = None,
    flip_test: bool = True,
    batch_size: int = 32,
    workers: int | None = None,
    bad_images: str = "refuse",
    progress: bool = True,
    rotation_deg: float = 0.0,
) -> Predictions:
    """Predict every person of a record set; see ``evaluate``.

    Args:
        skeleton: the joints that are wanted of the network.
        channels: the network's heatmap of each of them; None: all, in their order.
        rotation_deg: rotation of the crops, see ``geometry.crop_matrix``.

    Raises:
        UserError: a picture cannot be read and ``bad_images`` is ``refuse``.
    """
    if flip_test:
        notice_unpaired(skeleton)
    dataset = CropDataset(record_set, codec.image_hw, aligned=codec.aligned, rotation_deg=rotation_deg)
    n, K = len(dataset), skeleton.num_keypoints
    keypoints_xy, scores, unread = np.full((n, K, 2), np.nan), np.zeros((n, K)), np.ones(n, bool)
    keys = [list(range(start, min(start + batch_size, n))) for start in range(0, n, batch_size)]
    num_threads = choose_workers(workers) if workers is not None else max(1, choose_workers(None))
    batches = load_batches(dataset, keys, workers=num_threads)
    with _heatmap_function(net) as every_heatmap_of:

        def heatmaps_of(images: np.ndarray) -> np.ndarray:
            return every_heatmap_of(images) if channels is None else every_heatmap_of(images)[:, list(channels)]

        for batch in tqdm(batches, desc="evaluate", total=len(keys), unit="batch", disable=not progress, leave=False):
            count_errors(batch, bad_images)
            if "image" not in batch:  # no picture of the batch could be read
                continue
            crops, index = batch["image"], batch["index"]
            heatmaps = flip_tested(heatmaps_of, crops, skeleton, codec) if flip_test else heatmaps_of(crops)
            crop_xy, scores[index] = codec.decode(heatmaps)
            keypoints_xy[index] = transform_points(invert_matrix(batch["matrix"]), crop_xy)
            unread[index] = False
    return Predictions(keypoints_xy, scores, unread)


def channels_for(skeleton: Skeleton, learned: Skeleton) -> list[int] | None:
    """Return which heatmap of a network belongs to each joint of a data set; None: all, in their order.

    Joints are matched by name.

    Raises:
        ValueError: the network lacks joints; the message lists them.
    """
    if skeleton.joint_names == learned.joint_names:
        return None
    matched = match_joints(skeleton, learned)
    if missing := [name for i, name in enumerate(skeleton.joint_names) if i not in matched]:
        raise ValueError(", ".join(missing))
    return [matched[i] for i in range(skeleton.num_keypoints)]


@contextmanager
def _heatmap_function(net: Any):
    """Yield the function from crops to heatmaps; a module is in eval mode meanwhile, and then as it was before."""
    if not hasattr(net, "parameters"):
        yield net.heatmaps
        return
    was_training = net.training
    net.eval()
    try:
        yield partial(run_module, net)
    finally:
        net.train(was_training)


def readable(record_set: RecordSet, predictions: Predictions) -> tuple[RecordSet, Predictions, int]:
    """Return a record set and its predictions without unreadable pictures, and the number of these pictures.

    Raises:
        UserError: no picture could be read.
    """
    if not predictions.unread.any():
        return record_set, predictions, 0
    kept = np.flatnonzero(~predictions.unread)
    if not len(kept):
        raise UserError(f"{record_set.name}: none of the pictures could be read, so there is nothing to evaluate")
    unreadable = {record_set.records[i].image_id for i in np.flatnonzero(predictions.unread)}
    left = record_set.subset(kept)
    if record_set.annotation_file is not None:  # AP covers pictures without a box as well
        left = replace(left, image_ids=tuple(i for i in record_set.image_ids or () if i not in unreadable))
    parts = (predictions.keypoints_xy, predictions.scores, predictions.unread)
    return left, Predictions(*(part[kept] for part in parts)), len(unreadable)
