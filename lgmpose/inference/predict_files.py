"""Pictures, folders and videos in; annotated copies and JSON out: what ``lgmpose predict`` does."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from lgmpose.data.images import read_image
from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.inference.drawing import draw_poses
from lgmpose.inference.inputs import (
    as_boxes,
    check_boxes,
    is_own_drawing,
    is_video,
    list_inputs,
    own_result,
    read_detections,
)
from lgmpose.inference.overlap import overlapped
from lgmpose.inference.predictor import SCORE_THRESHOLD, Backend, Pose, Predictor
from lgmpose.metrics import oks_nms
from lgmpose.pose.geometry import PADDING, fit_aspect

__all__ = ["predict_files"]


def predict_files(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    boxes=None,
    detections: str | Path | None = None,
    weights: str | Path | Backend | None = None,
    flip_test: bool = True,
    device: str = "auto",
    threads: int | None = None,
    score_threshold: float = SCORE_THRESHOLD,
    progress: bool = True,
) -> int:
    """Predicts pictures and videos, and writes for each an annotated copy and a JSON.

    ``photo.png`` becomes ``photo_pose.jpg`` and ``photo.json``, ``walk.mov`` becomes ``walk_pose.mp4`` (without sound)
    and ``walk.json``. Where two inputs have the same stem, the later one's outputs are called ``photo_2`` and so on;
    the JSON holds the path it belongs to, and the result of another path is never replaced. What cannot be read is
    reported, and the others are still done.

    Args:
        inputs: pictures, videos and folders of them (not their subfolders).
        out: folder to write to; made if missing.
        boxes: (n, 4) x, y, w, h, for every input; None takes each whole picture. Boxes, these and a detector's, are in
            pixels of the picture as it is shown, turned as its EXIF data say.
        detections: COCO detection list (``bbox``, ``score``, and ``image_id`` or ``file_name``), pictures only. A box
            belongs to the picture whose name without suffix is its ``image_id`` as a number, or whose name is its
            ``file_name``, with as much of the path as it takes to tell two such pictures apart. Boxes with a score
            below 0.5 are left out, and of several categories all but 1; persons found twice are kept once.
        threads: see ``runtimes.open_backend``.
        score_threshold: joints below it are not drawn; the JSON holds all.
        progress: show a bar where there is much to do.

    Returns:
        How many inputs were done, which is all of them.

    Raises:
        UserError: before any work: inputs missing, an unusable folder, weights or detection file, an input, a file of
            another program or another input's result that would be replaced; at the end: inputs that could not be done.
    """
    if boxes is not None and detections is not None:
        raise UserError("boxes come from --box or from a detection file, not from both")
    boxes = None if boxes is None else as_boxes(boxes)
    out = Path(out)
    paths = list_inputs(inputs, out)
    detected = {} if detections is None else read_detections(detections, paths)
    jobs = list(zip(paths, _output_names(paths), strict=True))
    _check_outputs(jobs, out, detections)
    predictor = Predictor(weights, device=device, flip_test=flip_test, threads=threads)

    failures = []
    for path, name in tqdm(jobs, desc="predict", unit="file", disable=not progress or len(jobs) < 2):
        try:
            if is_video(path):
                _predict_video(predictor, path, out, name, boxes, score_threshold, progress)
            else:
                _predict_picture(predictor, path, out, name, boxes, detected.get(path), score_threshold)
        except UserError as error:
            if len(jobs) == 1:
                raise
            failures.append(path)
            tqdm.write(f"skipped: {error}", file=sys.stderr)
    if failures:
        names = ", ".join(path.name for path in failures[:5]) + (", …" if len(failures) > 5 else "")
        raise UserError(
            f"{len(failures)} of {len(jobs)} inputs could not be done, for the reasons above ({names}); "
            f"the others are in {out}"
        )
    return len(jobs)


def _output_names(paths: list[Path]) -> list[str]:
    """A stem per input, no two alike even where capitals do not count."""
    stems = {path.stem.lower() for path in paths}
    taken, names = set(), []
    for path in paths:
        name, number = path.stem, 2
        while name.lower() in taken or (number > 2 and name.lower() in stems):
            name, number = f"{path.stem}_{number}", number + 1
        taken.add(name.lower())
        names.append(name)
    return names


def _output_files(path: Path, out: Path, name: str) -> tuple[Path, Path]:
    return out / f"{name}_pose{'.mp4' if is_video(path) else '.jpg'}", out / f"{name}.json"


def _check_outputs(jobs: list[tuple[Path, str]], out: Path, detections: str | Path | None) -> None:
    """Makes the folder, tries to write there, and refuses to write over an input, a foreign file, another's result."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"{out}: cannot write to this folder ({error.strerror or error}); choose another") from error
    inputs = {path.resolve() for path, _ in jobs}
    sources = inputs | ({Path(detections).resolve()} if detections else set())
    for path, name in jobs:
        drawing, json_file = _output_files(path, out, name)
        for file in (drawing, json_file):
            if file.resolve() in sources:
                raise UserError(f"{file}: an input, which the result of {path} would replace; choose another folder")
        result, kind = own_result(json_file), "frames" if is_video(path) else "people"
        for file, ours in ((json_file, result is not None), (drawing, result is not None and kind in result)):
            if file.exists() and not ours:  # labels that lie beside their picture, a photograph called tree_pose.jpg
                raise UserError(
                    f"{file}: not known as a result of lgmpose predict (which has its {json_file.name} beside it), but "
                    f"that of {path} would replace it; move it away or choose another --out"
                )
        if result is not None and not os.path.exists(result["path"]) and out.samefile(path.parent):
            if path.name in (result.get("image"), result.get("video")):
                continue  # beside its picture, whose folder has moved since
        # That of another input may go: it is made anew, under whatever name.
        if result is not None and Path(result["path"]).resolve() not in inputs:
            raise UserError(
                f"{json_file}: the result of {result['path']}, which that of {path} would replace; choose another --out"
            )


def _drop_other_kind(drawing: Path) -> None:
    """Removes ``X_pose.mp4`` before X.json becomes a picture's, or the reverse: it would pass for somebody else's."""
    other = drawing.with_suffix(".jpg" if drawing.suffix == ".mp4" else ".mp4")
    if other.exists() and is_own_drawing(other):
        other.unlink()


def _as_json(pose: Pose) -> dict[str, Any]:
    return {
        "box_xywh": [round(float(v), 2) for v in pose.box_xywh],
        "score": round(float(pose.score), 4),
        "keypoints": [
            [round(float(x), 2), round(float(y), 2), round(float(score), 4)]
            for (x, y), score in zip(pose.keypoints_xy, pose.scores, strict=True)
        ],
    }


def _header(predictor: Predictor, kind: str, path: Path, picture_hw: tuple[int, int]) -> dict[str, Any]:
    skeleton = predictor.backend.skeleton
    return {
        kind: path.name,
        "path": str(path.absolute()),  # tells in every folder whose result this is
        "image_hw": [int(n) for n in picture_hw],
        "skeleton": {
            "name": skeleton.name,
            "joint_names": list(skeleton.joint_names),
            "edges": [list(edge) for edge in skeleton.edges],
        },
        "weights": predictor.backend.source,
    }


def _predict_picture(
    predictor: Predictor, path: Path, out: Path, name: str, boxes, detected, score_threshold: float
) -> None:
    picture = read_image(path)
    if detected is not None:
        boxes, box_scores = detected
    poses = predictor(picture, None if boxes is None else check_boxes(boxes, picture.shape[:2], str(path)))
    if detected is not None:
        poses = _without_duplicates(poses, box_scores, predictor.backend.image_hw)
    drawn = draw_poses(picture, poses, score_threshold=score_threshold)
    try:
        _, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    except cv2.error as error:
        size = f"{drawn.shape[1]} × {drawn.shape[0]}"
        raise UserError(f"{path}: too large to be written as a JPEG ({size})") from error
    picture_file, json_file = _output_files(path, out, name)
    content = _header(predictor, "image", path, picture.shape[:2]) | {"people": [_as_json(pose) for pose in poses]}
    _drop_other_kind(picture_file)
    # The JSON first: without it the drawing would pass for somebody else's.
    write_atomically(json_file, json.dumps(content).encode())  # escaped: on Linux, not every name is UTF-8
    write_atomically(picture_file, data.tobytes())


def _without_duplicates(poses: list[Pose], box_scores: np.ndarray, image_hw: tuple[int, int]) -> list[Pose]:
    """Persons scored by their boxes too, and of two poses on the same person the better one: best first."""
    scores = np.array([pose.score for pose in poses]) * box_scores
    areas = fit_aspect(np.stack([pose.box_xywh[2:] for pose in poses]) * PADDING, image_hw).prod(axis=1)
    kept = oks_nms(np.stack([pose.keypoints_xy for pose in poses]), scores, areas, poses[0].skeleton.oks_sigmas)
    return [replace(poses[i], score=float(scores[i])) for i in kept]


def _for_opencv(path: Path) -> str:
    """A video's path so that FFmpeg takes no "12:30.mp4" for an address; OpenCV crashes where it is not UTF-8."""
    absolute = str(path.absolute())
    try:
        absolute.encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: the name of a video or of its folder is not UTF-8; rename it") from None
    return absolute


def _frame_rate(path: Path, capture: cv2.VideoCapture) -> float:
    """Frames per second, 25 where nobody knows.

    Of a variable rate (browsers' and screens' recordings) the file may tell its clock's ticks instead, 1000 a second:
    a rate above 240 that is more than twice what the frames' own times say is such a one.
    """
    rate = capture.get(cv2.CAP_PROP_FPS)
    if math.isfinite(rate) and rate > 240:
        probe, times = cv2.VideoCapture(_for_opencv(path)), []
        while len(times) < 100 and probe.grab():
            times.append(probe.get(cv2.CAP_PROP_POS_MSEC))
        probe.release()
        step_ms = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0  # a mean: they are rounded
        if step_ms > 0 and 1000 / step_ms < rate / 2:
            rate = 1000 / step_ms
    rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else 25.0
    # OpenCV makes a fraction of it, 211.222 = 211222 / 1000, and MP4 takes none of more than 16 bits.
    return round(rate, 3 if rate < 65 else 2 if rate < 655 else 1)


def _pictures(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        more, bgr = capture.read()
        if not more:
            return
        yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _predict_video(
    predictor: Predictor, path: Path, out: Path, name: str, boxes, score_threshold: float, progress: bool
) -> None:
    """Three things go on at once, a frame or two apart: reading, the network, and drawing with writing."""
    out_folder = _for_opencv(out)
    capture = cv2.VideoCapture(_for_opencv(path))
    rate = _frame_rate(path, capture)
    promised = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))  # a guess in some formats, absent in others
    video_file, json_file = _output_files(path, out, name)
    part_folder = tempfile.TemporaryDirectory(prefix=".lgmpose-", dir=out_folder)  # no other process writes there
    part = Path(part_folder.name) / "part.mp4"
    writer, frames, header = None, [], {}

    def predicted(picture: np.ndarray) -> tuple[np.ndarray, list[Pose]]:
        checked = None if boxes is None else check_boxes(boxes, picture.shape[:2], str(path))
        return picture, predictor(picture, checked)

    bar = tqdm(total=promised or None, desc=path.name, unit="frame", disable=not progress, leave=False)
    try:
        with (
            contextlib.closing(overlapped(_pictures(capture))) as pictures,
            contextlib.closing(overlapped(map(predicted, pictures))) as results,
        ):
            for picture, poses in results:
                drawn = draw_poses(picture, poses, score_threshold=score_threshold, copy=False)
                drawn = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
                # The codec takes even sizes only and would cut a column or row.
                drawn = cv2.copyMakeBorder(drawn, 0, drawn.shape[0] % 2, 0, drawn.shape[1] % 2, cv2.BORDER_REPLICATE)
                if writer is None:
                    header = _header(predictor, "video", path, picture.shape[:2]) | {"fps": round(rate, 3)}
                    writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), rate, drawn.shape[1::-1])
                    if not writer.isOpened():
                        raise UserError(
                            f"{video_file}: this OpenCV cannot write MP4 (its FFmpeg has no encoder 'mp4v')"
                        )
                writer.write(drawn)
                frames.append({"frame": len(frames), "people": [_as_json(pose) for pose in poses]})
                bar.update()
        if writer is None:
            raise UserError(f"{path}: not a video that can be read (damaged, cut short, or of an unknown format)")
        writer.release()
        # A full disk is no error to OpenCV: what it wrote is counted.
        if int(cv2.VideoCapture(str(part)).get(cv2.CAP_PROP_FRAME_COUNT)) < len(frames):
            raise UserError(f"{video_file}: not all frames could be written; is the disk full?")
        _drop_other_kind(video_file)
        write_atomically(json_file, json.dumps(header | {"frames": frames}).encode())  # first, as a picture's
        os.replace(part, video_file)
    finally:
        bar.close()
        capture.release()
        if writer is not None:
            writer.release()
        part_folder.cleanup()
    if len(frames) < 0.9 * promised:
        tqdm.write(f"{path}: only {len(frames)} of the {promised} frames it promises could be read", file=sys.stderr)
