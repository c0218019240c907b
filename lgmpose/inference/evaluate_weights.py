"""Evaluate a weights file on a data set, print the figures and write files: ``lgmpose eval``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from lgmpose.data import load_records
from lgmpose.data.mixture import with_skeleton
from lgmpose.errors import UserError
from lgmpose.files import check_writable, write_atomically
from lgmpose.inference.backends import Backend, TorchBackend, open_backend
from lgmpose.inference.detectors import open_detector
from lgmpose.inference.evaluate import channels_for, evaluate, evaluate_predictions
from lgmpose.inference.extremes import require_truth, save_extremes
from lgmpose.inference.figures import Evaluation, Predictions, joint_metrics
from lgmpose.inference.options import EvalConfig
from lgmpose.inference.other_boxes import predict_without_boxes, shift_boxes, with_detected_boxes
from lgmpose.inference.top_down import coco_persons
from lgmpose.machine import machine_header, tune_allocator
from lgmpose.pose.codecs import StandardCodec, make_codec
from lgmpose.pose.joint_matching import match_joints
from lgmpose.zoo.cards import find_weights

if TYPE_CHECKING:
    from torch import nn

    from lgmpose.data.records import RecordSet

__all__ = ["evaluate_weights"]


def evaluate_weights(config: EvalConfig) -> Evaluation:
    """Evaluate weights, print the figures with their conditions, and write the files that the options name.

    Raises:
        UserError: bad weights or data, weights without any joint of the data, or a file that cannot be written.
    """
    for file in (config.results, config.json, config.sheet):
        if file is not None:
            check_writable(file)
    others = {"detections": config.detections, "annotations": config.annotations}
    record_set = load_records(config.data, config.split, **others, categories=config.categories)
    if config.sheet is not None:
        require_truth(record_set)
    path = find_weights(config.weights)
    tune_allocator()
    backend = open_backend(path, device=config.device, threads=config.threads)
    skeleton = record_set.skeleton
    record_set, channels = _with_shared_joints(record_set, backend, path)
    if record_set.skeleton is not skeleton and (config.results is not None or config.detector not in (None, "none")):
        raise UserError(f"--results and --detector: the weights need all joints of the data; {path} lacks some")
    if config.detector not in (None, "none"):
        detector = open_detector(config.detector, threads=config.threads, device=config.device)
        record_set = with_detected_boxes(record_set, config, detector)
    record_set.print_left_out()
    if config.limit is not None:
        record_set = record_set.first(config.limit)
    image_hw = config.image_hw or backend.image_hw
    net = _network(backend, image_hw, path)
    codec = _codec(config.codec or backend.codec.name, image_hw, backend.codec, path)
    flip_test, bad_images = config.flip_test, config.bad_images
    if config.boxes == "none":
        found = predict_without_boxes(backend, record_set, flip_test=flip_test, bad_images=bad_images)
        if channels is not None:
            found = replace(found, keypoints_xy=found.keypoints_xy[:, channels], scores=found.scores[:, channels])
        record_set = replace(record_set, box_source="none, the whole picture is searched")
        evaluation = evaluate_predictions(found, record_set, codec, flip_test=flip_test)
    else:
        record_set = shift_boxes(record_set) if config.boxes == "shifted" else record_set
        evaluation = evaluate(
            net, record_set, codec, channels=channels, flip_test=flip_test, batch_size=config.batch_size,
            workers=config.workers, bad_images=bad_images,
        )  # fmt: skip
    source, predictions = backend.source, cast(Predictions, evaluation.predictions)
    try:
        if config.results is not None:
            write_atomically(config.results, msgspec.json.encode(coco_persons(predictions, record_set, image_hw)))
        if config.json is not None:
            content = {"weights": source["file"], "sha256": source["sha256"], **evaluation.as_json()} | machine_header()
            write_atomically(config.json, json.dumps(content, indent=1).encode())
        if config.sheet is not None:
            save_extremes(record_set, predictions.keypoints_xy, config.sheet)
    finally:  # a file that cannot be written does not cost the figures
        print(f"weights: {source['file']} (sha256 {source['sha256']})  {evaluation.as_text()}")
    return evaluation


def _network(backend: Backend, image_hw: tuple[int, int], path: Path) -> nn.Module | Backend:
    """Return what computes heatmaps of crops of a size."""
    if isinstance(backend, TorchBackend):
        from lgmpose.network.fast import channels_last
        from lgmpose.zoo.catalogue import at_size

        return channels_last(at_size(backend.net, image_hw))  # as trained: the shipped figures are those of this form
    if tuple(image_hw) != backend.image_hw:
        size = "×".join(map(str, backend.image_hw))
        raise UserError(f"{path}: exported for input size {size}; export it again for another size")
    return backend


def _codec(name: str, image_hw: tuple[int, int], learned: StandardCodec, path: Path) -> StandardCodec:
    """Return the codec to decode with; the network learned the codec ``learned``."""
    codec = make_codec(name, image_hw, learned.sigma)
    if codec.head != learned.head:
        raise UserError(f"codec {name}: needs a network with a {codec.head} head; {path} has a {learned.head} head")
    return codec


def _with_shared_joints(record_set: RecordSet, backend: Backend, path: Path) -> tuple[RecordSet, list[int] | None]:
    """Return the set with joints that the network has, and which of its heatmaps belongs to each; None: all, in order.

    If the network lacks joints of the data, the set takes the network's skeleton. It then has no AP, which needs all.
    """
    skeleton = record_set.skeleton
    try:
        return record_set, channels_for(skeleton, backend.skeleton)
    except ValueError as error:
        name = f"{record_set.name} without {error} (the weights lack them)"
    if not match_joints(skeleton, backend.skeleton):
        raise UserError(
            f"{path}: weights for skeleton {backend.skeleton.name}, which has no joint of {record_set.name}; "
            f"those are {', '.join(skeleton.joint_names)}"
        )
    shared = replace(with_skeleton(record_set, backend.skeleton), name=name, annotation_file=None)
    if not joint_metrics(shared):
        raise UserError(f"{name}: no person has a labelled torso or head, so nothing can be measured")
    return shared, None
