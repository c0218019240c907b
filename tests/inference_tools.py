"""What several tests of inference share: a perfect network for simple pictures, and files of noise."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np

from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import Skeleton

PUPPET = Skeleton("puppet-3", ("nose", "left_hand", "right_hand"), ((0, 1), (0, 2)), ((1, 2),), (0.1,) * 3, (0, 1, 2))


class DotBackend:
    """A perfect network for red noses and green hands. The hand further right is the left one, mirrored or not."""

    skeleton = PUPPET
    source = {"file": "none", "sha256": "0"}

    def __init__(self, image_hw=(96, 64), codec="dark"):
        self.image_hw, self.codec = image_hw, make_codec(codec, image_hw)

    def heatmaps(self, crops):
        points = np.stack([self._points(crop.astype(float)) for crop in crops])
        return self.codec.encode(np.nan_to_num(points), np.isfinite(points[..., 0]))[0]

    def _points(self, crop):
        nose, hands = crop[..., 0], crop[..., 1]
        columns = np.flatnonzero(hands.max(axis=0) > 100)
        middle = (columns.min() + columns.max()) // 2 if len(columns) else 0
        left, right = hands.copy(), hands.copy()
        left[:, : middle + 1], right[:, middle + 1 :] = 0, 0
        return np.array([self._centre(plane) for plane in (nose, left, right)])

    def _centre(self, plane):
        if plane.max() < 100:
            return np.array([np.nan, np.nan])
        plane = np.where(plane > 30, plane, 0)  # JPEG's noise
        rows, columns = np.indices(plane.shape)
        return np.array([(columns * plane).sum(), (rows * plane).sum()]) / plane.sum()


def puppet_picture(height, width, points_xy, sigma=2.0):
    """Return a picture for ``DotBackend``: a nose and two hands."""
    picture = np.zeros((height, width, 3), np.float64)
    rows, columns = np.indices((height, width))
    for (x, y), channel in zip(points_xy, (0, 1, 1), strict=True):
        picture[..., channel] += 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return picture.round().clip(0, 255).astype(np.uint8)


def noise(*shape, seed=0):
    """Return (H, W, 3) uint8 of noise, or another shape if more than two numbers are given."""
    shape = shape if len(shape) > 2 else (*shape, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_png(path, array):
    assert cv2.imwrite(str(path), array)
    return path


def write_film(path, frames, rate=10, times=None, rotation=0, codec=None, pixel_ratio=None):
    """Write a video with PyAV; lossless enough that joints stay where they are.

    Args:
        path: the file; its suffix decides the container.
        frames: (H, W, 3) uint8 RGB each.
        rate: frames per second.
        times: seconds of each frame, instead of a constant rate.
        rotation: degrees counter-clockwise that players turn the frames.
        codec: by default one that fits the container.
        pixel_ratio: width of a pixel divided by its height.
    """
    codecs = {".avi": "mjpeg", ".gif": "gif", ".ogv": "libtheora", ".flv": "flv"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec or codecs.get(path.suffix, "libx264"), rate=Fraction(rate))
        stream.height, stream.width = frames[0].shape[:2]
        formats = {"gif": "rgb8", "mjpeg": "yuvj420p"}
        stream.pix_fmt = formats.get(stream.codec_context.name, "yuv420p")
        if stream.codec_context.name == "libx264":
            stream.options = {"crf": "10"}
        else:
            stream.bit_rate = 4_000_000
        if pixel_ratio:
            stream.codec_context.sample_aspect_ratio = pixel_ratio
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[i]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
