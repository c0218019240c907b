"""Codecs: how joints become heatmaps (or SimCC's scores), and how these become joints again.

========  ======================================  ==========================================  =========  ==========
codec     target                                  decoding                                    alignment  flip shift
========  ======================================  ==========================================  =========  ==========
standard  Gaussian at the rounded pixel, cut at   argmax, quarter offset                      ordinary   one pixel
          3 sigma
dark      Gaussian at the exact place, whole map  blur, log, one Newton step                  ordinary   one pixel
udp       Gaussian at the exact place, cut at     blur, log, one Newton step (regularised)    aligned    none
          3 sigma
simcc     no map: Gaussian profiles along x and   argmax of each profile                      ordinary   half a
          y at the rounded half pixel                                                                    crop pixel
========  ======================================  ==========================================  =========  ==========

Sources: SimpleBaseline (Xiao et al. 2018); DARK (Zhang et al. 2020), with the ordinary alignment as in mmpose; UDP
(Huang et al. 2020), its Gaussian form; SimCC (Li et al. 2022) with the targets of RTMPose (Jiang et al. 2023). All are
NumPy, vectorised over batch and joints. Points are crop pixels.

Known differences from the reference code:

* a joint whose patch ends one pixel outside the map has weight 0; the reference code keeps weight 1 for a target that
  is zero everywhere (``StandardCodec.encode``);
* the blur's kernel follows OpenCV's formula, where OpenCV itself has rounded tables for up to 9 taps, that is for a
  sigma below 1.82 (``_taps``);
* a Newton step longer than one pixel, or away from a peak, is not taken (``_newton_step``);
* UDP's decoding is that of mmpose 1.x, not of the UDP-Pose repository (``UDPCodec``);
* SimCC has one sigma for both axes, another score and a shift in the flip test (``SimCCCodec``).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lgmpose.network.config import BINS_PER_PIXEL
from lgmpose.pose.skeletons import Skeleton

__all__ = [
    "CODECS", "CodecName", "DarkCodec", "SIMCC_FACTOR", "SimCCCodec", "StandardCodec", "UDPCodec", "make_codec",
    "merge_flipped",
]  # fmt: skip

SIMCC_FACTOR = 10.0  # RTMPose multiplies scores and targets by it before the softmax
STRIDE = 4  # of the heatmaps of all networks here
SMALLEST = 1e-10  # argument of DARK's logarithm, as in its authors' code


class StandardCodec:
    """Rounded centre and quarter offset (SimpleBaseline, HRNet).

    The error after encoding and decoding is at most 2 crop pixels per coordinate. This is half a heatmap pixel, lost by
    rounding. (The quarter offset helps on a network's maps, whose peaks are not symmetric.) In the last column or row
    of heatmap pixels the error is at most 3 crop pixels: the crop's last pixel is 3/4 of a heatmap pixel beyond the
    map's last.

    Attributes:
        aligned: which alignment ``geometry.crop_matrix`` must use.
        flip_shift: whether the flip test shifts the mirrored heatmap by one pixel. With the ordinary alignment a
            mirrored crop is one crop pixel off, with the aligned one it is not.
        head: the ``head`` of the networks that learn its targets.
    """

    name = "standard"
    head = "heatmap"
    aligned = False
    flip_shift = True

    def __init__(self, image_hw: tuple[int, int], sigma: float | None = None):
        """``sigma`` in heatmap pixels; by default 2, and 3 from 384 rows on, as in the literature."""
        self.image_hw = image_hw
        self.heatmap_hw = (image_hw[0] // STRIDE, image_hw[1] // STRIDE)
        self.sigma = float(sigma if sigma is not None else 3 if image_hw[0] >= 384 else 2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(image_hw={self.image_hw}, sigma={self.sigma:g})"

    @property
    def stride_xy(self) -> np.ndarray:
        """Return crop pixels per heatmap pixel, (2,)."""
        return np.array([self.image_hw[1] / self.heatmap_hw[1], self.image_hw[0] / self.heatmap_hw[0]])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Return the shape of what a network returns for one joint: (h, w), or (2W + 2H,) for SimCC."""
        return self.heatmap_hw

    def to_heatmap(self, points_xy: np.ndarray) -> np.ndarray:
        """Convert crop pixels to heatmap pixels."""
        return points_xy / self.stride_xy

    def to_crop(self, points_xy: np.ndarray) -> np.ndarray:
        """Convert heatmap pixels to crop pixels."""
        return points_xy * self.stride_xy

    def _centres(self, points_xy: np.ndarray) -> np.ndarray:
        """Return where Gaussians are centred, for joints in heatmap pixels."""
        return np.trunc(points_xy + 0.5)  # int(x + 0.5) of the reference code, also left of the crop

    def _cut(self, distance: np.ndarray) -> np.ndarray:
        """Return True for pixels of the patch, 2 · 3σ + 1 pixels wide, by their distance from its centre pixel."""
        return distance <= int(3 * self.sigma + 0.5)

    def encode(self, keypoints_xy: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw joints as heatmaps.

        Args:
            keypoints_xy: (B, K, 2) crop pixels.
            visible: (B, K), 0 for joints that are not labelled.

        Returns:
            heatmaps (B, K, h, w) float32, peak 1; weights (B, K) float32, 0 if a joint is not labelled or its whole
            3-sigma patch lies outside.
        """
        rows, columns, weights = self.profiles(keypoints_xy, visible)
        return rows[..., :, None] * columns[..., None, :], weights

    def profiles(self, keypoints_xy: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows and columns whose products are the heatmaps of ``encode``. They take much less memory.

        Returns:
            rows (B, K, h) and columns (B, K, w) float32: the Gaussian's profiles along y and x, rows 0 where the weight
            is 0; weights (B, K).
        """
        points = self.to_heatmap(np.asarray(keypoints_xy, np.float64))
        labelled = (np.asarray(visible) > 0) & np.isfinite(points).all(axis=-1)
        centres = self._centres(np.where(labelled[..., None], points, 0.0))
        h, w = self.heatmap_hw
        reach = 3 * self.sigma
        rounded = np.floor(centres + 0.5)
        inside = (rounded >= -reach).all(axis=-1) & (rounded[..., 0] < w + reach) & (rounded[..., 1] < h + reach)
        profiles = []
        for axis, length in ((0, w), (1, h)):
            distance = np.arange(length) - centres[..., axis, None]  # (B, K, length)
            profile = np.exp(-(distance**2) / (2 * self.sigma**2))
            nearest = np.abs(np.arange(length) - rounded[..., axis, None])
            profiles.append(np.where(self._cut(nearest), profile, 0).astype(np.float32))
        weights = (labelled & inside).astype(np.float32)
        return profiles[1] * weights[..., None], profiles[0], weights

    def decode(self, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the joints of heatmaps.

        Args:
            heatmaps: (B, K, h, w).

        Returns:
            keypoints_xy (B, K, 2) crop pixels; scores (B, K), the heatmap's maximum. A joint whose maximum is not
            positive (or NaN) is at the crop's origin.
        """
        heatmaps = np.ascontiguousarray(heatmaps, np.float32)  # a network's may be laid out as B h w K
        B, K, h, w = heatmaps.shape
        index = heatmaps.reshape(B, K, h * w).argmax(axis=-1)
        peaks = np.stack([index % w, index // w], axis=-1)
        scores = heatmaps.max(axis=(-1, -2))
        points = self._refine(heatmaps, peaks)
        points[~(scores > 0)] = 0  # also NaN
        return self.to_crop(points), scores

    def merge_flipped(self, heatmaps: np.ndarray, mirrored: np.ndarray, skeleton: Skeleton) -> np.ndarray:
        """Return the flip test's mean; see the function ``merge_flipped``."""
        return merge_flipped(heatmaps, mirrored, skeleton, shift=self.flip_shift)

    def _refine(self, heatmaps: np.ndarray, peaks: np.ndarray) -> np.ndarray:
        """Return sub-pixel points (B, K, 2) from integer peaks: a quarter pixel towards the higher neighbour."""
        h, w = heatmaps.shape[-2:]
        px, py = peaks[..., 0], peaks[..., 1]
        inner = (px > 1) & (px < w - 1) & (py > 1) & (py < h - 1)
        gradient = _gradient(_window(heatmaps, peaks, 1))
        return peaks + np.where(inner[..., None], 0.25 * np.sign(gradient), 0.0)


class DarkCodec(StandardCodec):
    """Distribution-aware coding: exact centre, and a Newton step on the logarithm of the blurred map.

    The error after encoding and decoding is at most 0.01 crop pixels per coordinate (sigma 1.5 to 3) where the blur
    does not reach the border. This is from 7 heatmap pixels inwards with sigma 2, and 10 with sigma 3. Anywhere in the
    crop, the error is at most 4: the blur takes zeros from outside, and the outermost two pixels take no step. Without
    the blur near borders, the error is at most 0.15 on such ideal maps. But on the maps of the shipped network this was
    worse for three joints out of four.
    """

    name = "dark"

    def _centres(self, points_xy: np.ndarray) -> np.ndarray:
        return points_xy

    def _cut(self, distance: np.ndarray) -> np.ndarray:
        return np.ones(distance.shape, bool)

    def _refine(self, heatmaps: np.ndarray, peaks: np.ndarray) -> np.ndarray:
        h, w = heatmaps.shape[-2:]
        if min(h, w) < 5:
            return peaks.astype(float)
        centres = np.clip(peaks, 2, [w - 3, h - 3])
        near = _blurred_window(heatmaps, centres, 2, self.sigma)
        # The blurred map is scaled to its old maximum. That adds one constant to all logarithms, and the step uses
        # their differences. So the scale is computed only where the smallest value may cut something off.
        cut = (near <= SMALLEST).any(axis=(-1, -2))
        if cut.any():
            before, after = heatmaps[cut].max(axis=(-1, -2)), _blur(heatmaps[cut], self.sigma).max(axis=(-1, -2))
            scale = np.divide(before, after, out=np.ones_like(after), where=after > 0)
            near[cut] *= scale[:, None, None]
        logs = np.log(np.maximum(near, SMALLEST)).astype(float)
        xx = (_at(logs, 2, 0) - 2 * _at(logs, 0, 0) + _at(logs, -2, 0)) / 4  # second differences over ± 2 pixels
        yy = (_at(logs, 0, 2) - 2 * _at(logs, 0, 0) + _at(logs, 0, -2)) / 4
        xy = (_at(logs, 1, 1) - _at(logs, 1, -1) - _at(logs, -1, 1) + _at(logs, -1, -1)) / 4
        inner = (peaks == centres).all(axis=-1, keepdims=True)
        return peaks + np.where(inner, _newton_step(_gradient(logs) / 2, xx, xy, yy), 0.0)


class UDPCodec(StandardCodec):
    """Unbiased data processing, Gaussian targets: everything counted between pixel centres.

    The error after encoding and decoding is at most 0.01 crop pixels per coordinate (sigma 1.5 to 3) well inside, as
    for ``DarkCodec``. Anywhere in the crop it is at most 6.5. The decoding is mmpose 1.x's: clip to [0.001, 50], second
    differences over ± 1 pixel, the mixed one along one diagonal, and a small number added to the Hessian's diagonal.
    The UDP-Pose repository decodes as DARK does.
    """

    name = "udp"
    aligned = True
    flip_shift = False

    @property
    def stride_xy(self) -> np.ndarray:
        (H, W), (h, w) = self.image_hw, self.heatmap_hw
        return np.array([(W - 1) / (w - 1), (H - 1) / (h - 1)])

    def _centres(self, points_xy: np.ndarray) -> np.ndarray:
        return points_xy

    def _refine(self, heatmaps: np.ndarray, peaks: np.ndarray) -> np.ndarray:
        logs = np.log(np.clip(_blurred_window(heatmaps, peaks, 1, self.sigma), 1e-3, 50)).astype(float)
        eps = np.finfo(np.float32).eps
        xx = _at(logs, 1, 0) - 2 * _at(logs, 0, 0) + _at(logs, -1, 0) + eps
        yy = _at(logs, 0, 1) - 2 * _at(logs, 0, 0) + _at(logs, 0, -1) + eps
        xy = _at(logs, 1, 1) - _at(logs, 1, 0) - _at(logs, 0, 1) + 2 * _at(logs, 0, 0)
        xy = (xy - _at(logs, -1, 0) - _at(logs, 0, -1) + _at(logs, -1, -1)) / 2
        return peaks + _newton_step(_gradient(logs) / 2, xx, xy, yy)


class SimCCCodec(StandardCodec):
    """Classification of x and of y (SimCC): one score for every half pixel of the crop's width, then of its height.

    Bin i stands for i/2 crop pixels. A target is the Gaussian of a map of 2H × 2W pixels along its middle column and
    row, with the centre rounded to a bin. The error after encoding and decoding is at most 0.25 crop pixels per
    coordinate.

    Differences from RTMPose: one sigma for both axes, by default RTMPose's for y (√(H / 8) bins). A joint's score is
    between 0 and 1: the peak of the softmax divided by the target's, on the axis where this is smaller. RTMPose takes
    the smaller raw maximum, but the loss does not see a constant that is added to all scores. The flip test moves the
    mirrored scores by one bin, which RTMPose leaves out: bin i lies at bin 2W - 2 - i of the mirrored crop.
    """

    name = "simcc"
    head = "simcc"

    def __init__(self, image_hw: tuple[int, int], sigma: float | None = None):
        """``sigma`` in bins; by default √(H / 8)."""
        super().__init__(image_hw, sigma if sigma is not None else (image_hw[0] / 8) ** 0.5)
        self.heatmap_hw = (BINS_PER_PIXEL * image_hw[0], BINS_PER_PIXEL * image_hw[1])  # of the map that is not made

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (sum(self.heatmap_hw),)

    def _cut(self, distance: np.ndarray) -> np.ndarray:
        return np.ones(distance.shape, bool)

    def encode(self, keypoints_xy: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return targets (B, K, 2W + 2H) float32, peaks 1, and weights (B, K); see ``StandardCodec.encode``."""
        rows, columns, weights = self.profiles(keypoints_xy, visible)
        return np.concatenate([columns * weights[..., None], rows], axis=-1), weights

    def decode(self, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return keypoints_xy (B, K, 2) and scores (B, K) of what a network returns, (B, K, 2W + 2H)."""
        bins, shares = [], []
        for part in np.split(np.asarray(heatmaps, np.float32), [self.heatmap_hw[1]], axis=-1):
            length = part.shape[-1]
            perfect = np.exp(-((np.arange(length) - length // 2) ** 2) / (2 * self.sigma**2))
            with np.errstate(invalid="ignore"):  # infinite scores
                shares.append(_softmax_peak(part) / _softmax_peak(perfect))
            bins.append(part.argmax(axis=-1))
        scores = np.minimum(*shares).clip(max=1)  # near a border, part of the target's Gaussian is cut off
        points = np.stack(bins, axis=-1).astype(float)
        points[~(scores > 0)] = 0  # NaN
        return self.to_crop(points), scores

    def merge_flipped(self, heatmaps: np.ndarray, mirrored: np.ndarray, skeleton: Skeleton) -> np.ndarray:
        along_x, along_y = np.split(np.arange(heatmaps.shape[-1]), [self.heatmap_hw[1]])
        there = np.concatenate([along_x[-2::-1], along_x[:1], along_y])  # the last bin has no mirror image
        return (heatmaps + mirrored[:, list(skeleton.flip_permutation)][..., there]) / 2


def _softmax_peak(scores: np.ndarray) -> np.ndarray:
    """Return the largest probability that the softmax gives, (…, bins) → (…)."""
    return 1 / np.exp(SIMCC_FACTOR * (scores - scores.max(axis=-1, keepdims=True))).sum(axis=-1)


def merge_flipped(heatmaps, mirrored, skeleton: Skeleton, *, shift: bool):
    """Return the flip test's mean of a crop's heatmaps and of those of the mirrored crop, mirrored back.

    Args:
        heatmaps: (B, K, h, w), array or tensor.
        mirrored: the same of the mirrored crops, as the network returned them.
        skeleton: says which joints a mirror swaps.
        shift: move the mirrored map one pixel to the right, as the ordinary alignment needs: a mirrored crop is one
            crop pixel beside the crop of the mirrored image, which a stride of 4 turns into most of a heatmap pixel.

    Returns:
        (B, K, h, w).
    """
    back = mirrored[:, list(skeleton.flip_permutation)] / 2  # halves are exact
    back = back[..., ::-1] if isinstance(back, np.ndarray) else back.flip(-1)
    merged = heatmaps / 2
    if shift:
        merged[..., 1:] += back[..., :-1]
        merged[..., :1] += back[..., :1]
    else:
        merged += back
    return merged


def _window(heatmaps: np.ndarray, centres: np.ndarray, reach: int) -> np.ndarray:
    """Return the square of ± reach pixels around one (x, y) of each map, (B, K, 2 · reach + 1, 2 · reach + 1).

    Beyond the map's border, the border's values are repeated.
    """
    B, K, h, w = heatmaps.shape
    offsets = np.arange(-reach, reach + 1)
    x = np.clip(centres[..., 0, None] + offsets, 0, w - 1)[..., None, :]
    y = np.clip(centres[..., 1, None] + offsets, 0, h - 1)[..., :, None]
    b, k = np.arange(B)[:, None, None, None], np.arange(K)[:, None, None]
    return heatmaps[b, k, y, x]


def _at(window: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """Return the value (dx, dy) pixels from the middle of each window (…, y, x)."""
    middle = window.shape[-1] // 2
    return window[..., middle + dy, middle + dx]


def _gradient(window: np.ndarray) -> np.ndarray:
    """Return the differences over ± 1 pixel at the middle of each window, (…, 2) as (x, y)."""
    return np.stack([_at(window, 1, 0) - _at(window, -1, 0), _at(window, 0, 1) - _at(window, 0, -1)], axis=-1)


def _taps(sigma: float) -> np.ndarray:
    """Return the Gaussian of DARK's smoothing: 11 taps for sigma 2, 17 for sigma 3; float32, sum 1."""
    reach = int(2.75 * sigma)
    # OpenCV's rule for a Gaussian kernel of a given width, which the authors' code uses through cv2.GaussianBlur. For
    # up to 9 taps, OpenCV takes rounded values from a table instead (getGaussianKernel): a known, small difference.
    width = 0.3 * (reach - 1) + 0.8
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
    return (taps / taps.sum()).astype(np.float32)


def _blur(heatmaps: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth maps (…, h, w) as DARK does, with zeros outside: one matrix product per axis."""
    taps = _taps(sigma)
    reach = len(taps) // 2
    h, w = heatmaps.shape[-2:]
    rows, columns = (sum(np.eye(n, k=i - reach, dtype=np.float32) * tap for i, tap in enumerate(taps)) for n in (h, w))
    return rows @ heatmaps @ columns.T


def _blurred_window(heatmaps: np.ndarray, centres: np.ndarray, reach: int, sigma: float) -> np.ndarray:
    """Return ``_window`` of maps after ``_blur``, (B, K, 2 · reach + 1, 2 · reach + 1).

    Only what the windows need is smoothed, because whole maps take several times as long.
    """
    taps = _taps(sigma)
    size = 2 * reach + 1
    wide = reach + len(taps) // 2  # what a window is made of reaches that far
    B, K, h, w = heatmaps.shape
    padded = np.zeros((B, K, h + 2 * wide, w + 2 * wide), np.float32)
    padded[..., wide : wide + h, wide : wide + w] = heatmaps
    band = sum(np.eye(size, 2 * wide + 1, k=i, dtype=np.float32) * tap for i, tap in enumerate(taps))
    windows = sliding_window_view(padded, (2 * wide + 1, 2 * wide + 1), axis=(2, 3))
    b, k = np.indices((B, K))
    blurred = band @ windows[b, k, centres[..., 1], centres[..., 0]] @ band.T
    # Beyond the map's border, the border's values are repeated.
    for axis, length in ((0, w), (1, h)):
        centre = centres[..., axis, None]
        inside = np.clip(centre + np.arange(-reach, reach + 1), 0, length - 1) - centre + reach
        blurred = np.take_along_axis(blurred, np.expand_dims(inside, 2 + axis), axis=3 - axis)
    return blurred


def _newton_step(gradient: np.ndarray, xx: np.ndarray, xy: np.ndarray, yy: np.ndarray) -> np.ndarray:
    """Return -Hessian⁻¹ · gradient, (…, 2), at most one pixel either way; 0 if the Hessian is not that of a peak.

    The reference code steps wherever the Hessian is not singular, and as far as it says. But with a saddle or a step of
    more than a pixel, the map around the maximum is no Gaussian, and the integer peak (or a pixel beside it) is the
    better answer.
    """
    determinant = xx * yy - xy * xy
    peak = (determinant > 1e-12) & (xx < 0)
    safe = np.where(peak, determinant, 1.0)
    gx, gy = gradient[..., 0], gradient[..., 1]
    step = -np.stack([yy * gx - xy * gy, xx * gy - xy * gx], axis=-1) / safe[..., None]
    return np.clip(np.where(peak[..., None], step, 0.0), -1.0, 1.0)


CodecName = Literal["standard", "dark", "udp", "simcc"]  # the type of the options; a test compares it with CODECS
CODECS = {codec.name: codec for codec in (StandardCodec, DarkCodec, UDPCodec, SimCCCodec)}


def make_codec(name: str, image_hw: tuple[int, int], sigma: float | None = None) -> StandardCodec:
    """Return the codec of that name for crops of ``image_hw``. Raises ValueError for an unknown name."""
    if name not in CODECS:
        raise ValueError(f"no codec {name!r}; there are {', '.join(CODECS)}")
    return CODECS[name](image_hw, sigma)
