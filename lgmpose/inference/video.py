"""Read videos, streams and cameras frame by frame, and write H.264 videos that browsers play.

Files and streams are read with PyAV (FFmpeg): times are the file's own time stamps, also with a variable frame rate.
Frames are as players show them: turned as the file's rotation says, with square pixels, and all of one size. Cameras
are read with OpenCV, which numbers them on every system. Only one frame is in memory at a time.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from lgmpose.errors import UserError

__all__ = [
    "STREAM_SCHEMES", "VideoFrame", "VideoReader", "VideoWriter", "is_camera", "is_stream", "is_video",
    "without_password",
]  # fmt: skip

STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "srt", "tcp")
STREAM_TIMEOUT_S = 15.0
TIME_BASE = Fraction(1, 90_000)  # of written videos, in seconds: fine enough for every frame rate
RESTART_S = 0.5  # a time stamp this much earlier than the last one starts a new part, as in films joined by `cat`
BT_601 = 6  # FFmpeg's AVCOL_SPC_SMPTE170M
DEFAULT_RATE = 25.0  # frames per second, if neither time stamps nor a rate are stated
# FFmpeg also opens text files and photographs. These are not videos.
NO_VIDEO_FORMATS = ("tty", "image2", "_pipe")
# User name and password of an address. The second form is a password with "/", "?" or "#", which makes the address
# invalid: after the ":" there is no port.
_LOGIN = re.compile(r"(?<=://)([^/?#]*@|[^/?#@:\[]*:(?!\d+/).*@)")
PHOTO_BRANDS = ("heic", "heix", "mif1", "avif")  # of HEIF files, which have the container of MP4


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """One frame: (H, W, 3) uint8 RGB as shown, its number from 0, and its time in seconds after the first frame."""

    picture: np.ndarray
    index: int
    time_s: float


def is_camera(source: Any) -> bool:
    """Return True for the number of a camera, such as 0 or "0", unless a file has this name."""
    return str(source).isdecimal() and not os.path.exists(str(source))


def is_stream(source: Any) -> bool:
    """Return True for an address, such as ``rtsp://...``."""
    return isinstance(source, str) and "://" in source


def without_password(source: str | int | Path) -> str:
    """Return the text that names a source in messages and results: an address without user name and password."""
    return _LOGIN.sub("", str(source), count=1) if is_stream(source) else str(source)


def is_video(path: Path) -> bool:
    """Return True if a file holds moving pictures, judged by its content: an animated GIF does, a photograph not."""
    import av

    try:
        with open(path, "rb") as file, av.open(file, "r") as container:
            stream, brand = _film(container), container.metadata.get("major_brand", "")
            if stream is None or brand in PHOTO_BRANDS or any(n in container.format.name for n in NO_VIDEO_FORMATS):
                return False
            packets = (packet for packet in container.demux(stream) if packet.size)
            return container.format.name != "gif" or next(packets, None) is None or next(packets, None) is not None
    except (av.FFmpegError, OSError, ValueError):
        return False


def _film(container: Any) -> Any:
    """Return the stream of moving pictures, as FFmpeg chooses it; None: there is none, or only the cover of music."""
    import av

    stream = container.streams.best("video")
    return None if stream is None or stream.disposition & av.stream.Disposition.attached_pic else stream


class VideoReader:
    """Iterate over the frames of a video file, a stream (its address) or a camera (its number), once.

    Attributes:
        name: the source as messages name it.
        frames: number of frames that the container states; 0 if it states none.
        rate: mean number of frames per second that the container states; None if it states none.
        is_live: the source has no end: a camera, or a stream without a stated duration.
        damaged: number of packets that could not be decoded; they are left out.

    Raises:
        UserError: it cannot be opened, or holds no video.
    """

    def __init__(self, source: str | int | Path):
        self.name, self.damaged, self.frames = without_password(source), 0, 0
        self.rate: float | None = None
        if is_camera(source):
            self._frames, self.is_live = _camera_frames(int(str(source))), True
            return
        self.is_live = False
        self._frames = self._file_frames(source)

    def _file_frames(self, source: str | int | Path) -> Iterator[VideoFrame]:
        import av

        try:
            if is_stream(source):
                scheme = urlsplit(str(source)).scheme.lower()
                if scheme not in STREAM_SCHEMES:
                    raise UserError(f"{self.name}: no stream of this kind; use {', '.join(STREAM_SCHEMES)}, or a file")
                options = {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}
                container = av.open(str(source), "r", options=options, timeout=STREAM_TIMEOUT_S)
            else:
                # As an open file: FFmpeg takes a name such as "12:30.mp4" for an address.
                container = av.open(open(str(source), "rb"), "r")
        except (av.FFmpegError, OSError, ValueError) as error:
            # Without the cause, which may name the address with its password.
            raise UserError(f"{self.name}: cannot be opened as a video ({_reason(error)})") from None
        stream = _film(container)
        if stream is None:
            raise UserError(f"{self.name}: holds no video")
        stream.thread_type = "AUTO"
        self.frames, self.rate = stream.frames, float(stream.average_rate or 0) or None
        self.is_live = is_stream(source) and container.duration is None
        return self._decoded(container, stream)

    def _decoded(self, container, stream) -> Iterator[VideoFrame]:
        import av

        index, first_s, last_s = 0, None, 0.0  # first_s: the time stamp that counts as 0
        step_s = 1 / (self.rate or DEFAULT_RATE)
        width = height = None
        with container:
            try:
                for packet in container.demux(stream):
                    try:
                        decoded = packet.decode()
                    except av.error.InvalidDataError:
                        self.damaged += 1
                        continue
                    for frame in decoded:
                        next_s = last_s + step_s if index else 0.0
                        if frame.time is not None and (first_s is None or frame.time - first_s < last_s - RESTART_S):
                            first_s = frame.time - next_s
                        last_s = max(last_s, next_s if frame.time is None else frame.time - first_s)
                        if width is None:  # later frames may have another size; players show them in the first one
                            width, height = _shown_width(frame.width, stream.sample_aspect_ratio), frame.height
                        picture = frame.to_ndarray(format="rgb24", width=width, height=height)
                        picture = np.rot90(picture, round(frame.rotation / 90) % 4)
                        yield VideoFrame(np.ascontiguousarray(picture), index, last_s)
                        index += 1
            except (av.FFmpegError, OSError) as error:
                if index == 0:
                    raise UserError(f"{self.name}: no frame can be read ({_reason(error)})") from None
                self.damaged += 1
        if index == 0:
            raise UserError(f"{self.name}: not a video that can be read: it holds no frame")

    def __iter__(self) -> Iterator[VideoFrame]:
        return self._frames


def _shown_width(width: int, pixel_ratio: Fraction | None) -> int:
    """Return the width at which players show a picture whose pixels are not square. Absurd ratios do not count."""
    ratio = float(pixel_ratio or 1)
    return width if abs(ratio - 1) < 0.01 or not 0.1 < ratio < 10 else max(1, round(width * ratio))


def _camera_frames(number: int) -> Iterator[VideoFrame]:
    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        raise UserError(f"camera {number}: there is no such camera, or another program uses it")

    def frames() -> Iterator[VideoFrame]:
        start, index = 0.0, 0
        try:
            while True:
                more, bgr = camera.read()
                now = time.monotonic()
                start = start if index else now  # some cameras take seconds until the first frame
                if not more and index == 0:
                    raise UserError(f"camera {number}: gives no picture; another program may use it")
                if not more:
                    return
                yield VideoFrame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), index, now - start)
                index += 1
        finally:
            camera.release()

    return frames()


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


class VideoWriter:
    """Write frames as H.264 in an MP4 file, without sound, each with its own time.

    Args:
        path: the file.
        image_hw: size of the frames. The codec takes even sizes, so an odd one gets a further row or column.
        rate: frames per second, a hint for players; the frames' times count.

    Raises:
        UserError: this PyAV has no H.264, or the file cannot be written.
    """

    def __init__(self, path: str | Path, image_hw: tuple[int, int], rate: float | None = None):
        import av

        self._name, self._hw, self._last = str(path), image_hw, -1
        try:
            # As an absolute path; FFmpeg takes a name such as "12:30.mp4" for an address.
            self._container = av.open(os.path.abspath(path), "w", format="mp4", options={"movflags": "faststart"})
            hint = Fraction(rate or DEFAULT_RATE).limit_denominator(1001)
            self._stream: Any = self._container.add_stream("libx264", rate=hint)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be written as H.264 ({_reason(error)})") from error
        self._stream.height, self._stream.width = (side + side % 2 for side in image_hw)
        self._stream.pix_fmt = "yuv420p"  # what browsers play
        self._stream.codec_context.time_base = TIME_BASE
        self._stream.codec_context.colorspace = BT_601  # how PyAV turns RGB into YUV; players guess otherwise
        self._stream.options = {"crf": "20", "preset": "veryfast"}

    def write(self, picture: np.ndarray, time_s: float) -> None:
        """Append a frame (H, W, 3) uint8 RGB that is shown from ``time_s`` on."""
        import av

        height, width = self._hw
        even: Any = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        self._last = max(round(time_s / TIME_BASE), self._last + 1)  # times must grow
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._write_packets(frame)

    def _write_packets(self, frame) -> None:
        import av

        try:
            self._container.mux(self._stream.encode(frame))
            if frame is None:
                self._container.close()  # writes the index
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self._name}: cannot be written ({_reason(error)})") from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *error) -> None:
        """Write what the codec still holds, and close the file; after an error, only close it."""
        if error[0] is None:
            self._write_packets(None)
        with contextlib.suppress(OSError, ValueError):
            self._container.close()
