"""Predict pictures, folders, videos, cameras and streams, and write drawings and results: ``lgmpose predict``."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from lgmpose.errors import UserError
from lgmpose.files import open_atomically
from lgmpose.inference.detections import read_detections
from lgmpose.inference.drawing import draw_poses
from lgmpose.inference.formats import COCO_FILE, ResultTables
from lgmpose.inference.input_files import Source, list_sources, read_source
from lgmpose.inference.inputs import as_boxes, check_boxes
from lgmpose.inference.outputs import Outputs, header, plan_outputs, pose_as_json
from lgmpose.inference.predictor import SCORE_THRESHOLD, Pose, Predictor
from lgmpose.inference.tracking import TrackedFrame, TrackOptions, follow
from lgmpose.inference.video import VideoReader, VideoWriter
from lgmpose.inference.window import Window

__all__ = ["PredictOptions", "predict_files"]


@dataclass(frozen=True)
class PredictOptions:
    """What ``predict_files`` writes and shows, and how it follows people through videos.

    Attributes:
        score_threshold: joints below it are not drawn; the result files have all.
        formats: some of ``formats.FORMATS``; the JSON file per input is always written.
        track: how people are followed.
        show: show the drawings in a window.
    """

    score_threshold: float = SCORE_THRESHOLD
    formats: tuple[str, ...] = ("json",)
    track: TrackOptions = TrackOptions()
    show: bool = False


def predict_files(
    predictor: Predictor,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    boxes=None,
    detections: str | Path | None = None,
    options: PredictOptions | None = None,
) -> int:
    """Predict pictures and videos, and write an annotated copy and a JSON file for each.

    ``photo.png`` becomes ``photo_pose.jpg`` and ``photo.json``; ``walk.mov`` becomes ``walk_pose.mp4`` (without sound)
    and ``walk.json``. No other file is ever replaced; see ``outputs.plan_outputs``. An input that cannot be read is
    reported, and the others are still done. Ctrl-C ends a camera or stream; what came before is written.

    Args:
        predictor: finds the people and their joints.
        inputs: pictures, videos, folders of them (not their subfolders), numbers of cameras, and addresses.
        out: folder to write to.
        boxes: (n, 4) x, y, w, h, for every input, instead of a detector. Boxes are in pixels of the picture as it is
            shown, turned as its EXIF data say.
        detections: file with the boxes of pictures; see ``detections.read_detections``.
        options: what is written and shown.

    Returns:
        How many inputs were done, which is all of them.

    Raises:
        UserError: before any work: inputs are missing, or the folder, the detection file or the window cannot be used;
            at the end: inputs that could not be done.
    """
    if boxes is not None and detections is not None:
        raise UserError("boxes come from --box or from a detection file, not from both")
    boxes = None if boxes is None else as_boxes(boxes)
    options = options or PredictOptions()
    sources = list_sources(inputs)
    not_pictures = [source for source in sources if source.kind == "video" or not isinstance(source.where, Path)]
    if detections is not None and not_pictures:
        raise UserError(f"{not_pictures[0].place}: a detection file is for files of pictures only")
    paths = [source.where for source in sources if isinstance(source.where, Path)]
    found: dict[Any, tuple] = {} if detections is None else dict(read_detections(detections, paths))
    planned = plan_outputs(sources, Path(out), reserved=[COCO_FILE])
    tables = ResultTables(Path(out), options.formats)
    window = Window("lgmpose") if options.show else None
    with tables:
        job = _Job(predictor, options, tables, window, _numbers_of(sources))
        failures = job.do_all(sources, planned, found, boxes)
    if job.counts:
        print(_summary(job.counts))
    if window is not None and sources[-1].kind == "picture":
        window.wait()
    if failures:
        names = ", ".join(failures[:5]) + (", …" if len(failures) > 5 else "")
        raise UserError(
            f"{len(failures)} of {len(sources)} inputs could not be done, for the reasons above ({names}); "
            f"the others are in {out}"
        )
    return len(sources)


def _summary(counts: list[int]) -> str:
    """Return how many people there are in pictures, whose numbers of people are given."""
    pictures = "1 picture" if len(counts) == 1 else f"{len(counts)} pictures"
    empty = f" (no person in {counts.count(0)} of them)" if 0 in counts and len(counts) > 1 else ""
    people = "1 person" if sum(counts) == 1 else f"{sum(counts)} people"
    return f"{people} in {pictures}{empty}"


def _numbers_of(sources: Sequence[Source]) -> dict[Source, int]:
    """Return the numbers of pictures, 7 for ``000007.jpg`` as in COCO, if all have such names; otherwise nothing.

    Numbers of more than 15 digits do not count: programs that read them as floats would change them.
    """
    stems = [Path(source.name).stem for source in sources]
    numbered = all(
        stem.isdecimal() and len(stem.lstrip("0")) <= 15 and source.kind == "picture"
        for stem, source in zip(stems, sources, strict=True)
    )
    numbers = {source: int(stem) for source, stem in zip(sources, stems, strict=True)} if numbered else {}
    return numbers if len(set(numbers.values())) == len(sources) else {}


@dataclass
class _Job:
    """What all inputs of a call share; ``counts`` are the numbers of people in the pictures done."""

    predictor: Predictor
    options: PredictOptions
    tables: ResultTables
    window: Window | None
    numbers: dict[Source, int]
    counts: list[int] = field(default_factory=list)
    num_images: int = 0  # pictures and frames so far; the next one is an image of this number plus 1

    def do_all(
        self, sources: Sequence[Source], planned: Sequence[Outputs], found: dict[Any, tuple], boxes: np.ndarray | None
    ) -> list[str]:
        """Do every input and return the names of those that could not be done; if it is the only one, raise instead."""
        failures = []
        for source, outputs in zip(tqdm(sources, "predict", unit="file", disable=None), planned, strict=True):
            try:
                self.do(source, outputs, *found.get(source.where, (boxes, None)))
            except UserError as error:
                if len(sources) == 1:
                    raise
                failures.append(source.name)
                tqdm.write(f"skipped: {error}", file=sys.stderr)
        return failures

    def do(self, source: Source, outputs: Outputs, boxes: np.ndarray | None, box_scores: np.ndarray | None) -> None:
        """Predict one input and write its files."""
        if source.kind == "video":
            self._do_video(source, outputs, boxes)
        else:
            self._do_picture(source, outputs, boxes, box_scores)

    def _do_picture(self, source: Source, outputs: Outputs, boxes, box_scores) -> None:
        picture = read_source(source)
        if boxes is not None:
            boxes = check_boxes(boxes, picture.shape[:2], source.place)
        poses = self.predictor(picture, boxes, box_scores)
        content = header(self.predictor.backend, source, picture.shape[:2])
        content["people"] = [pose_as_json(pose) for pose in poses]
        drawn = self._drawn(picture, poses, copy=True)
        outputs.write_picture(content, drawn)
        self.num_images += 1
        self.tables.add(source.name, self.numbers.get(source, self.num_images), poses)
        self.counts.append(len(poses))

    def _do_video(self, source: Source, outputs: Outputs, boxes: np.ndarray | None) -> None:
        reader = VideoReader(source.where)
        frames = follow(self.predictor, reader, self.options.track, boxes)
        with tempfile.TemporaryDirectory(prefix=".lgmpose-", dir=outputs.drawing.parent.absolute()) as folder:
            part = os.path.join(folder, "part.mp4")
            with open_atomically(outputs.json_file) as json_file:
                count, ids = self._write_frames(source, reader, frames, json_file, part)
            # After the JSON file: without it, the drawing would count as somebody else's.
            os.replace(part, outputs.drawing)
        tqdm.write(f"{source.name}: {count} frames, {len(ids)} people")
        if count < 0.9 * reader.frames:
            tqdm.write(f"{source.place}: only {count} of {reader.frames} frames could be read", file=sys.stderr)
        elif reader.damaged:
            tqdm.write(f"{source.place}: {reader.damaged} damaged packets were left out", file=sys.stderr)

    def _write_frames(
        self, source: Source, reader: VideoReader, frames: Iterator[TrackedFrame], json_file: IO[bytes], drawing: str
    ) -> tuple[int, set[int | None]]:
        """Write frame by frame, so that memory does not grow, and return the number of frames and the identities."""
        count = 0
        ids: set[int | None] = set()
        with contextlib.ExitStack() as stack:
            bar = tqdm(frames, source.name, reader.frames or None, unit="frame", disable=None, leave=False)
            try:
                for frame in bar:
                    if count == 0:
                        hw = frame.picture.shape[:2]
                        writer = stack.enter_context(VideoWriter(drawing, hw, reader.rate))
                        content = header(self.predictor.backend, source, hw) | {"fps": reader.rate}
                        json_file.write(json.dumps(content)[:-1].encode() + b', "frames": [')
                    people = [pose_as_json(pose) for pose in frame.poses]
                    entry = {"frame": frame.index, "time_s": round(frame.time_s, 4), "people": people}
                    json_file.write((",\n" if count else "\n").encode() + json.dumps(entry).encode())
                    writer.write(self._drawn(frame.picture, frame.poses, copy=False), frame.time_s)
                    self.num_images, count = self.num_images + 1, count + 1
                    self.tables.add(source.name, self.num_images, frame.poses, frame.index)
                    ids.update(pose.id for pose in frame.poses)
                    if reader.is_live and self.window is not None and not self.window.is_open:
                        break
            except KeyboardInterrupt:  # the only end of a camera
                if not (reader.is_live and count):
                    raise
        json_file.write(b"\n]}\n")
        return count, ids

    def _drawn(self, picture: np.ndarray, poses: Sequence[Pose], *, copy: bool) -> np.ndarray:
        drawn = draw_poses(picture, poses, score_threshold=self.options.score_threshold, copy=copy)
        if self.window is not None:
            self.window.show(drawn)
        return drawn
