"""The results of ``lgmpose predict``: a drawing and a JSON file per input, and which files they may replace."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lgmpose.errors import UserError
from lgmpose.files import read_json, write_atomically
from lgmpose.inference.predictor import Backend, Pose

if TYPE_CHECKING:
    from lgmpose.inference.input_files import Source

__all__ = ["Outputs", "header", "is_own_drawing", "plan_outputs", "pose_as_json"]

JSON_VERSION = 1  # of the result files; it grows when a field changes its meaning
JPEG_QUALITY, JPEG_MAX_SIDE = 92, 65500  # the longest side that the JPEG library takes
LONGEST_STEM = 200  # bytes; disks take names of 255, and results have further letters


@dataclass(frozen=True)
class Outputs:
    """The two files that hold the result of one input."""

    drawing: Path
    json_file: Path

    def write_picture(self, content: dict[str, Any], drawn: np.ndarray) -> None:
        """Write the JSON file and a drawing (H, W, 3) uint8 RGB.

        Raises:
            UserError: a side is longer than JPEG allows, or a file cannot be written.
        """
        if max(drawn.shape) > JPEG_MAX_SIDE:
            raise UserError(f"{self.drawing}: {drawn.shape[1]} × {drawn.shape[0]} is too large for JPEG")
        bgr = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        # The JSON file first: without it, the drawing counts as somebody else's. Not every file name is UTF-8.
        write_atomically(self.json_file, json.dumps(content).encode())
        write_atomically(self.drawing, data.tobytes())


def plan_outputs(sources: Sequence[Source], out: Path, reserved: Sequence[str] = ()) -> list[Outputs]:
    """Make the output folder and choose the files for each input's result.

    The result of ``photo.png`` is ``photo_pose.jpg`` and ``photo.json``. An existing file is replaced only if it is an
    earlier result of the same input. In every other case the next free name is taken: ``photo_2``, ``photo_3`` …
    A name of more than 200 bytes is shortened.

    ``reserved`` are names of further files that this call writes.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"{out}: cannot write to this folder ({error.strerror or error}); choose another") from error
    inputs = {source.where.resolve() for source in sources if isinstance(source.where, Path)}
    taken = {Path(name).stem.lower() for name in reserved}
    planned = []
    for source in sources:
        stem, number = _shortened(Path(source.name).stem), 1
        name = stem
        while True:
            outputs = Outputs(out / f"{name}_pose{'.mp4' if source.kind == 'video' else '.jpg'}", out / f"{name}.json")
            if name.lower() not in taken and _may_write(outputs, source, inputs):  # some disks ignore capitals
                break
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.lower())
        planned.append(outputs)
    return planned


def _shortened(stem: str) -> str:
    data = os.fsencode(stem)
    return stem if len(data) <= LONGEST_STEM else data[:LONGEST_STEM].decode(errors="ignore")


def _may_write(outputs: Outputs, source: Source, inputs: set[Path]) -> bool:
    """Return True if writing the result of a source replaces nothing but an earlier result of it."""
    if outputs.drawing.resolve() in inputs:
        return False
    result = _own_result(outputs.json_file)
    if result is not None:
        if isinstance(source.where, Path):
            return Path(result["path"]).resolve() == source.where.resolve()
        return result["path"] == source.place
    return not (outputs.json_file.exists() or outputs.drawing.exists())


def _own_result(json_file: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file that ``lgmpose predict`` wrote; None for any other file, or none."""
    try:
        content = read_json(json_file)
    except UserError:
        return None
    ours = isinstance(content, dict) and isinstance(content.get("path"), str)
    return content if ours and ("people" in content or "frames" in content) else None


def is_own_drawing(path: Path) -> bool:
    """Return True if ``X_pose.jpg`` or ``X_pose.mp4`` was drawn by ``lgmpose predict``: its ``X.json`` is beside it.

    The name alone does not tell: ``tree_pose.jpg`` may be a photograph.
    """
    key = {"_pose.jpg": "people", "_pose.mp4": "frames"}.get(path.name[-9:])
    result = _own_result(path.with_name(f"{path.name[:-9]}.json")) if key else None
    return result is not None and key in result


def header(backend: Backend, source: Source, picture_hw: tuple[int, ...]) -> dict[str, Any]:
    """Return what every result says of its input and of the network."""
    skeleton = backend.skeleton
    return {
        "version": JSON_VERSION,
        "video" if source.kind == "video" else "image": source.name,
        "path": source.place,
        "image_hw": list(picture_hw),
        "skeleton": {"name": skeleton.name, "joint_names": skeleton.joint_names, "edges": skeleton.edges},
        "weights": backend.source,
    }


def pose_as_json(pose: Pose) -> dict[str, Any]:
    """Return a person for a result: box, score, and x, y and score of each joint; in a video also the identity."""
    keypoints = np.column_stack([pose.keypoints_xy.round(2), pose.scores.astype(float).round(4)])
    person = {"box_xywh": pose.box_xywh.round(2).tolist(), "score": round(pose.score, 4),
              "keypoints": keypoints.tolist()}  # fmt: skip
    return person if pose.id is None else {"id": pose.id, **person}
