"""Poses in the formats of other programs: COCO results, CSV, and ``supervision.KeyPoints``."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from lgmpose.errors import UserError, require
from lgmpose.files import open_atomically
from lgmpose.inference.predictor import Pose
from lgmpose.metrics.average_precision import coco_results

__all__ = ["COCO_FILE", "CSV_FILE", "FORMATS", "ResultTables", "check_formats", "to_supervision"]

FORMATS = ("json", "coco", "csv")
COCO_FILE, CSV_FILE = "poses_coco.json", "poses.csv"
CSV_COLUMNS = ("file", "frame", "time_s", "person", "person_score", "joint", "x", "y", "score")
CSV_HEAD = "\ufeff" + ",".join(CSV_COLUMNS) + "\r\n"  # Excel takes a file for UTF-8 only with a byte-order mark
COCO_HEAD = '[\n{"file_name": '


def check_formats(text: str) -> tuple[str, ...]:
    """Return the formats of a list such as ``json,coco,csv``.

    Raises:
        UserError: an unknown format.
    """
    formats = tuple(dict.fromkeys(part.strip() for part in text.lower().split(",")))
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"--format {text}: {name!r} is not one of {', '.join(FORMATS)}")
    return formats


class ResultTables:
    """One CSV file and one COCO results file with the people of all inputs of a call, written while it runs.

    They appear in the folder when the block is left without an error. A file of the same name is replaced only if it is
    such a table. ``formats`` are some of ``FORMATS``.

    Raises:
        UserError: a file of the same name is something else, or it cannot be written.
    """

    def __init__(self, out: Path, formats: Sequence[str]):
        self._paths = {name: out / file for name, file in (("coco", COCO_FILE), ("csv", CSV_FILE)) if name in formats}
        for name, path in self._paths.items():
            head = (CSV_HEAD if name == "csv" else COCO_HEAD).encode()
            if path.exists() and path.read_bytes()[: len(head)] not in (head, b"[\n\n]\n"):
                raise UserError(f"{path}: not written by lgmpose predict; move it, or choose another --out")
        self._files: dict[str, IO[bytes]] = {}
        self._stack = contextlib.ExitStack()
        self._rows = 0

    def __enter__(self) -> ResultTables:
        self._files = {name: self._stack.enter_context(open_atomically(path)) for name, path in self._paths.items()}
        self._write("csv", CSV_HEAD)
        self._write("coco", "[\n")
        return self

    def __exit__(self, *error) -> None:
        if error[0] is None:
            self._write("coco", "\n]\n")
        self._stack.__exit__(*error)

    def _write(self, name: str, text: str) -> None:
        if name in self._files:
            self._files[name].write(text.encode("utf-8", errors="backslashreplace"))  # not all file names are UTF-8

    def add(self, file_name: str, image_id: int, poses: Sequence[Pose], frame: int | None = None) -> None:
        """Append the people of a picture, or of a frame (its number) of a video; ``image_id`` is for the COCO file."""
        for number, pose in enumerate(poses, start=1):
            if "coco" in self._files:
                row = json.dumps(_coco_row(file_name, image_id, pose, frame))
                self._write("coco", (",\n" if self._rows else "") + row)
            if "csv" in self._files:
                self._write("csv", _csv_rows(file_name, number, pose, frame))
            self._rows += 1


def _coco_row(file_name: str, image_id: int, pose: Pose, frame: int | None) -> dict:
    xy, scores = pose.keypoints_xy[None].round(2), pose.scores[None].astype(float).round(4)
    (result,) = coco_results([image_id], xy, scores, [pose.score])
    row = {"file_name": file_name, **result, "score": round(pose.score, 4), "bbox": pose.box_xywh.round(2).tolist()}
    return row if frame is None else {**row, "frame": frame, "time_s": pose.time_s, "track_id": pose.id}


def _csv_rows(file_name: str, number: int, pose: Pose, frame: int | None) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    time_s = "" if pose.time_s is None else round(pose.time_s, 4)
    person = (file_name, frame or 0, time_s, pose.id or number, round(pose.score, 4))
    for joint, (x, y), score in zip(pose.skeleton.joint_names, pose.keypoints_xy, pose.scores, strict=True):
        writer.writerow([*person, joint, round(float(x), 2), round(float(y), 2), round(float(score), 4)])
    return text.getvalue()


def to_supervision(poses: Sequence[Pose]):
    """Return poses as ``supervision.KeyPoints``, with identities in ``data["tracker_id"]``.

    Raises:
        UserError: supervision is not installed.
    """
    require("supervision", "supervision", "to_supervision")
    import supervision

    if not poses:
        return supervision.KeyPoints.empty()
    return supervision.KeyPoints(
        xy=np.stack([pose.keypoints_xy for pose in poses]).astype(np.float32),
        keypoint_confidence=np.stack([pose.scores for pose in poses]).astype(np.float32),
        class_id=np.zeros(len(poses), int),
        data={"tracker_id": np.array([pose.id or 0 for pose in poses])},
    )
