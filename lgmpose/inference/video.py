"""Read the frames of a video and write an annotated copy, by OpenCV."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from lgmpose.errors import UserError

__all__ = ["VIDEO_SUFFIXES", "VideoReader", "is_video", "write_video"]

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts", ".ts", ".flv", ".ogv",
    ".3gp",
)  # fmt: skip
DEFAULT_RATE = 25.0  # frames per second, if the file states none


def is_video(path: Path) -> bool:
    """Return True if a file is a video, judged by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


class VideoReader:
    """Iterate over the frames of a video, (H, W, 3) uint8 RGB; no frame of a file that cannot be read.

    Attributes:
        rate: frames per second.
        stated: number of frames by the file's header, in some formats an estimate; 0 if it states none.
    """

    def __init__(self, path: Path):
        # Absolute, as FFmpeg takes "12:30.mp4" for an address. OpenCV crashes if a path is not UTF-8.
        self.path = str(path.absolute())
        if not self.path.isprintable():
            raise UserError(f"{path}: the name of a video and of its folder must be UTF-8; rename it")
        capture = cv2.VideoCapture(self.path)
        self.stated = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        rate = capture.get(cv2.CAP_PROP_FPS)
        if rate > 240:  # recordings of browsers state the ticks of their clock instead
            rate = self._measured_rate()
        # MP4 stores the rate as a fraction of 16-bit numbers; OpenCV makes 211222 / 1000 of 211.222.
        self.rate = round(rate, 3 if rate < 65 else 2 if rate < 655 else 1) if 0 < rate <= 1000 else DEFAULT_RATE

    def _measured_rate(self) -> float:
        """Return the frames per second by the times of the first 100 frames; NaN if they have none."""
        capture = cv2.VideoCapture(self.path)
        times: list[float] = []
        while len(times) < 100 and capture.grab():
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
        seconds = (times[-1] - times[0]) / 1000 if times else 0.0
        return (len(times) - 1) / seconds if seconds > 0 else math.nan

    def __iter__(self) -> Iterator[np.ndarray]:
        capture = cv2.VideoCapture(self.path)
        while True:
            more, frame = capture.read()
            if not more:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def write_video(path: Path, frames: Iterable[np.ndarray], rate: float) -> int:
    """Write frames (H, W, 3) uint8 RGB to an MP4 file without sound, and return their number.

    The file appears when it is complete; nothing is left of it after an error, or if there is no frame.

    Raises:
        UserError: OpenCV cannot write MP4, or the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix=".lgmpose-", dir=path.parent.absolute()) as folder:
        part, writer, count = os.path.join(folder, "part.mp4"), None, 0
        for frame in frames:
            count += 1
            # The codec takes even sizes only and would cut off a column or row.
            even = cv2.copyMakeBorder(frame, 0, frame.shape[0] % 2, 0, frame.shape[1] % 2, cv2.BORDER_REPLICATE)
            if writer is None:
                fourcc = cv2.VideoWriter.fourcc(*"mp4v")
                writer = cv2.VideoWriter(part, fourcc, rate, (even.shape[1], even.shape[0]))
                if not writer.isOpened():
                    raise UserError(f"{path}: this OpenCV cannot write MP4 (its FFmpeg has no encoder mp4v)")
            writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        if writer is not None:
            writer.release()
            # OpenCV does not report a full disk.
            if int(cv2.VideoCapture(part).get(cv2.CAP_PROP_FRAME_COUNT)) < count:
                raise UserError(f"{path}: not all frames could be written; is the disk full?")
            os.replace(part, path)
    return count
