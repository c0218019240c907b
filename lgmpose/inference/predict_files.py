"""Predict pictures, folders and videos, and write annotated copies and JSON: ``lgmpose predict``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lgmpose.data.images import read_image
from lgmpose.errors import UserError
from lgmpose.inference.detections import read_detections
from lgmpose.inference.drawing import draw_poses
from lgmpose.inference.input_files import list_inputs
from lgmpose.inference.inputs import as_boxes, check_boxes
from lgmpose.inference.outputs import Outputs, header, plan_outputs, pose_as_json
from lgmpose.inference.predictor import SCORE_THRESHOLD, Predictor
from lgmpose.inference.video import VideoReader, is_video, write_video

__all__ = ["predict_files"]


def predict_files(
    predictor: Predictor,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    boxes=None,
    detections: str | Path | None = None,
    score_threshold: float = SCORE_THRESHOLD,
) -> int:
    """Predict pictures and videos, and write an annotated copy and a JSON file for each.

    ``photo.png`` becomes ``photo_pose.jpg`` and ``photo.json``; ``walk.mov`` becomes ``walk_pose.mp4`` (without sound)
    and ``walk.json``. No other file is ever replaced; see ``outputs.plan_outputs``. An input that cannot be read is
    reported, and the others are still done.

    Args:
        predictor: finds the joints.
        inputs: pictures, videos and folders of them (not their subfolders).
        out: folder to write to; made if missing.
        boxes: (n, 4) x, y, w, h, for every input; None: each whole picture shows one person. Boxes are in pixels of the
            picture as it is shown, turned as its EXIF data say.
        detections: file with the boxes of pictures; see ``detections.read_detections``.
        score_threshold: joints below it are not drawn; the JSON file has all.

    Returns:
        How many inputs were done, which is all of them.

    Raises:
        UserError: before any work: inputs are missing, or the folder or the detection file cannot be used; at the end:
            inputs that could not be done.
    """
    if boxes is not None and detections is not None:
        raise UserError("boxes come from --box or from a detection file, not from both")
    boxes = None if boxes is None else as_boxes(boxes)
    paths = list_inputs(inputs)
    if detections is not None and (videos := [path for path in paths if is_video(path)]):
        raise UserError(f"{videos[0]}: a video; a detection file is for pictures only")
    detected = {} if detections is None else read_detections(detections, paths)
    planned = plan_outputs(paths, Path(out))
    failures = []
    for path, outputs in zip(tqdm(paths, desc="predict", unit="file", disable=None), planned, strict=True):
        try:
            if is_video(path):
                _predict_video(predictor, path, outputs, boxes, score_threshold)
            else:
                _predict_picture(predictor, path, outputs, detected.get(path, (boxes, None)), score_threshold)
        except UserError as error:
            if len(paths) == 1:
                raise
            failures.append(path.name)
            tqdm.write(f"skipped: {error}", file=sys.stderr)
    if failures:
        names = ", ".join(failures[:5]) + (", …" if len(failures) > 5 else "")
        raise UserError(
            f"{len(failures)} of {len(paths)} inputs could not be done, for the reasons above ({names}); "
            f"the others are in {out}"
        )
    return len(paths)


def _predict_picture(
    predictor: Predictor, path: Path, outputs: Outputs, boxes_and_scores: tuple, score_threshold: float
) -> None:
    picture = read_image(path)
    boxes, box_scores = boxes_and_scores
    if boxes is not None:
        boxes = check_boxes(boxes, picture.shape[:2], str(path))
    poses = predictor(picture, boxes, box_scores)
    content = header(predictor.backend, "image", path, picture.shape[:2])
    content["people"] = [pose_as_json(pose) for pose in poses]
    outputs.write_picture(content, draw_poses(picture, poses, score_threshold=score_threshold))


def _predict_video(
    predictor: Predictor, path: Path, outputs: Outputs, boxes: np.ndarray | None, score_threshold: float
) -> None:
    reader = VideoReader(path)

    def drawn_frames() -> Iterator[np.ndarray]:
        frames: list[dict[str, Any]] = []
        for picture in tqdm(reader, path.name, reader.stated or None, unit="frame", disable=None, leave=False):
            checked = None if boxes is None else check_boxes(boxes, picture.shape[:2], str(path))
            poses = predictor(picture, checked)
            frames.append({"frame": len(frames), "people": [pose_as_json(pose) for pose in poses]})
            yield draw_poses(picture, poses, score_threshold=score_threshold, copy=False)
        if frames:
            content = header(predictor.backend, "video", path, picture.shape[:2])
            outputs.write_json(content | {"fps": reader.rate, "frames": frames})

    count = write_video(outputs.drawing, drawn_frames(), reader.rate)
    if not count:
        raise UserError(f"{path}: not a video that can be read (damaged, cut short, or of an unknown format)")
    if count < 0.9 * reader.stated:
        tqdm.write(f"{path}: only {count} of {reader.stated} frames could be read", file=sys.stderr)
