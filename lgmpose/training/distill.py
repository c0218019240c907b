"""Learn from a teacher besides the labels: ``lgmpose train --teacher FILE``.

The teacher predicts every person once, in the unchanged crop, with the flip test. Only the position and the height of
each heatmap's peak are kept. Positions are in picture pixels, so that any augmentation can move them. The height tells
how sure the teacher is. In training, targets are drawn from labels and peaks together (``mixed_targets``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from lgmpose.data.images import normalise
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.files import open_atomically
from lgmpose.inference.backends import OPENERS, ncnn_card, open_backend, open_graph
from lgmpose.inference.evaluate import predict_records
from lgmpose.machine import choose_device, num_cores
from lgmpose.pose.codecs import StandardCodec, make_codec
from lgmpose.pose.joint_matching import match_joints
from lgmpose.pose.skeletons import COCO, LSP, MPII, Skeleton
from lgmpose.training.checkpoint import fingerprint
from lgmpose.training.recipe import TrainConfig
from lgmpose.zoo.cards import find_weights, weights_hash

__all__ = ["TEACHER_FILE", "Teacher", "mixed_profiles", "mixed_targets", "open_teacher", "teach", "teacher_peaks"]

TEACHER_FILE = "teacher.npz"  # in a run's folder
NEAR = 0.04  # of the crop's height: label and teacher closer than this agree
LEAST_SCORE, SURE_SCORE = 0.2, 0.6  # height of a peak that is ignored, and of one that counts like a label
LEAST_LABELS, LEAST_AGREEMENT = 3, 0.5  # with so many labels, this share of them must agree for peaks to be used alone


def mixed_targets(
    codec: StandardCodec, share: float, keypoints_xy: np.ndarray, visibility: np.ndarray, peaks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw heatmaps from labels and from a teacher's peaks.

    A labelled joint has its label as target. Where the teacher agrees, ``share`` of the target is the teacher's peak. A
    joint without a label has the teacher's peak alone, with a weight that rises with the peak's height. This holds only
    if the teacher agrees with the person's labels: otherwise it may have found another person.

    Args:
        codec: draws the heatmaps.
        share: 0..1.
        keypoints_xy: (B, K, 2) labels in crop pixels.
        visibility: (B, K), 0 where there is no label.
        peaks: (B, K, 3) the teacher's x, y in crop pixels, and height.

    Returns:
        heatmaps (B, K, h, w) and weights (B, K), float32; see ``StandardCodec.encode``.
    """
    rows, columns, weights = mixed_profiles(codec, share, keypoints_xy, visibility, peaks)
    return np.swapaxes(rows, 2, 3) @ columns, weights


def mixed_profiles(
    codec: StandardCodec, share: float, keypoints_xy: np.ndarray, visibility: np.ndarray, peaks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what ``mixed_targets`` multiplies: rows (B, K, 2, h), columns (B, K, 2, w), of label and peak; weights."""
    label_rows, label_columns, label_weights = codec.profiles(keypoints_xy, visibility)
    heights = peaks[..., 2].clip(0, 1).astype(np.float32)
    peak_rows, peak_columns, inside = codec.profiles(peaks[..., :2], heights > LEAST_SCORE)
    labelled = visibility > 0
    near = labelled & (np.linalg.norm(peaks[..., :2] - keypoints_xy, axis=-1) < NEAR * codec.image_hw[0])
    near &= heights > LEAST_SCORE
    count = labelled.sum(axis=1)
    trusted = (count < LEAST_LABELS) | (near.sum(axis=1) >= LEAST_AGREEMENT * count)
    sure = np.clip((heights - LEAST_SCORE) / (SURE_SCORE - LEAST_SCORE), 0, 1)
    of_teacher = np.where(labelled, share * near, trusted[:, None]).astype(np.float32)
    rows = [label_rows * (1 - of_teacher)[..., None], peak_rows * (of_teacher * heights)[..., None]]
    weights = np.where(labelled, label_weights, inside * sure * trusted[:, None]).astype(np.float32)
    return np.stack(rows, axis=2), np.stack([label_columns, peak_columns], axis=2), weights


@dataclass(frozen=True)
class Teacher:
    """A pose network: a PyTorch module or what has the ``heatmaps`` of a ``backends.Backend``; its joints and codec."""

    net: Any
    skeleton: Skeleton
    codec: StandardCodec


def open_teacher(name: str, device: str = "auto") -> Teacher:
    """Open a teacher.

    Args:
        name: weights or an exported file of lgmpose; another ONNX file that returns heatmaps; or the ``.param`` file of
            PP-TinyPose in ncnn's format, with the ``.bin`` beside it.
        device: for weights and PP-TinyPose.

    Raises:
        UserError: the file is missing or is none of these.
    """
    path = find_weights(name)
    if not path.is_file():
        raise UserError(f"teacher {name}: no such file")
    if path.suffix == ".param" and ncnn_card(path) is None:
        from lgmpose.peers.tinypose import IMAGE_HW, read_ncnn  # only this teacher needs it

        return Teacher(read_ncnn(path).to(choose_device(device)), COCO, make_codec("dark", IMAGE_HW))
    if path.suffix == ".onnx":
        run, card, shapes = open_graph(path, num_cores())
        if card is None:
            return _plain_onnx(path, run, shapes)
    backend = open_backend(path, device="auto" if path.suffix in OPENERS else device)
    return Teacher(backend, backend.skeleton, backend.codec)


def _plain_onnx(path: Path, run: Callable[[np.ndarray], np.ndarray], shapes: list) -> Teacher:
    """Return an ONNX file without a card as a teacher; its inputs are normalised as those of all pose networks."""
    skeletons = {skeleton.num_keypoints: skeleton for skeleton in (COCO, MPII, LSP)}
    batch = shapes[0][0] if isinstance(shapes[0][0], int) else None
    maps = len(shapes) == 2 and [len(shape) for shape in shapes] == [4, 4] and shapes[1][1] in skeletons
    if not maps or batch not in (1, None):
        raise UserError(
            f"teacher {path}: goes from {shapes[:1]} to {shapes[1:]}; give a network from (1, 3, H, W) to heatmaps "
            "(1, K, H/4, W/4), with 17 (COCO), 16 (MPII) or 14 (LSP) joints"
        )
    image_hw = shapes[0][2], shapes[0][3]
    if [4 * side for side in shapes[1][2:]] != list(image_hw):
        raise UserError(f"teacher {path}: its heatmaps {shapes[1]} are not a quarter of its input {shapes[0]}")

    def heatmaps(crops: np.ndarray) -> np.ndarray:
        inputs = normalise(crops)
        size = batch or len(inputs)
        return np.concatenate([run(inputs[i : i + size]) for i in range(0, len(inputs), size)])

    return Teacher(SimpleNamespace(heatmaps=heatmaps), skeletons[shapes[1][1]], make_codec("dark", image_hw))


def teach(teacher: Teacher, record_set: RecordSet, *, turns: bool, progress: bool = True) -> np.ndarray:
    """Return the teacher's peaks for all persons: (n, K, 3) x, y in picture pixels, and height.

    Joints that the teacher does not know, and persons whose picture cannot be read, have height 0.

    Args:
        teacher: the network.
        record_set: the persons.
        turns: show each person at four rotations, and keep the one with the largest mean height (people upside down).
        progress: show a bar.
    """
    places = match_joints(teacher.skeleton, record_set.skeleton)
    if not places:
        raise UserError(f"the teacher knows none of the joints of {record_set.name}")
    best = np.zeros((len(record_set), teacher.skeleton.num_keypoints, 3), np.float32)
    for angle in (0, 90, 180, 270) if turns else (0,):
        records = record_set.records
        if angle in (90, 270):
            records = tuple(replace(record, size_wh=record.size_wh[::-1]) for record in records)
        found = predict_records(
            teacher.net, replace(record_set, records=records), teacher.codec, skeleton=teacher.skeleton,
            rotation_deg=float(angle), bad_images="skip", progress=progress,
        )  # fmt: skip
        better = found.scores.mean(axis=1) > best[..., 2].mean(axis=1)
        best[better] = np.concatenate([found.keypoints_xy, found.scores[..., None]], axis=-1)[better]
    peaks = np.zeros((len(record_set), record_set.skeleton.num_keypoints, 3), np.float32)
    peaks[:, list(places.values())] = best[:, list(places)]
    return peaks


def teacher_peaks(
    config: TrainConfig, record_set: RecordSet, file: Path, *, resumed: bool = False, progress: bool = True
) -> np.ndarray:
    """Return the teacher's peaks of a run, see ``teach``: from its file, or computed and written to it.

    Args:
        config: names the teacher: a network (``open_teacher``), or the file of an earlier run with the same persons.
            The weights of a list's sets may differ.
        record_set: the training persons.
        file: the run's own file. It may be left from a run that was interrupted before its first checkpoint. If that
            run had another teacher, other persons or another ``teacher_turns``, the peaks are computed again.
        resumed: the run continues from a checkpoint. It keeps its peaks, whether its teacher still exists or not.
        progress: show a bar.

    Raises:
        UserError: bad teacher, or a file of other data.
    """
    name = config.teacher or ""
    named = name.endswith(".npz")
    if named and not Path(name).is_file():
        raise UserError(f"teacher {name}: no such file")
    given = Path(name) if named else file
    kept = named or (resumed and file.is_file())  # there is no teacher to compare with
    persons = fingerprint(replace(record_set, parts=()))  # how often each one is drawn does not matter
    made_by: dict[str, Any] = {"data": persons}
    if not kept:
        made_by |= {"sha256": _teacher_hash(name), "turns": config.teacher_turns}
    if given.is_file():
        peaks = _stored_peaks(given, (len(record_set), record_set.skeleton.num_keypoints, 3), made_by)
        if peaks is not None:
            return peaks
        if kept:
            raise UserError(f"{given}: made for other persons than those of {config.data}; name the teacher itself")
        if progress:
            print(f"{file}: from another teacher, other persons or another --teacher-turns; computing it again")
    with torch.random.fork_rng(devices=[]):  # the training draws the same numbers whether the file is there or not
        peaks = teach(open_teacher(name, config.device), record_set, turns=config.teacher_turns, progress=progress)
    with open_atomically(file) as out:
        np.savez(out, peaks=peaks, made_by=json.dumps(made_by | {"teacher": Path(name).name}))
    return peaks


def _teacher_hash(name: str) -> str:
    """Return the hash of a teacher's weights, which ncnn has beside the ``.param`` file."""
    path = Path(name).with_suffix(".bin") if name.endswith(".param") else find_weights(name)
    if not path.is_file():
        raise UserError(f"teacher {path}: no such file")
    return weights_hash(path)


def _stored_peaks(path: Path, shape: tuple[int, ...], made_by: dict[str, Any]) -> np.ndarray | None:
    """Return the peaks of a teacher's file; None if they have another shape or were made by something else."""
    try:
        with np.load(path) as content:
            peaks, stored = content["peaks"], json.loads(str(content["made_by"]))
        same = {name: stored.get(name) for name in made_by} == made_by
        return peaks if same and peaks.shape == shape and np.isfinite(peaks).all() else None
    except Exception as error:  # a damaged file raises almost anything
        raise UserError(f"{path}: not a teacher's file, or a damaged one ({error})") from error
