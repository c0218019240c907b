"""Heatmap codecs: each class holds how joints become heatmaps and how heatmaps become joints again.

========  =====================================  ==========================================  =========  ==========
codec     target                                 decoding                                    alignment  flip shift
========  =====================================  ==========================================  =========  ==========
standard  Gaussian at the rounded pixel, cut at   argmax, quarter offset                      ordinary   one pixel
          3 sigma
dark      Gaussian at the exact place, whole map  blur, log, one Newton step                  ordinary   one pixel
udp       Gaussian at the exact place, cut at     blur, log, one Newton step (regularised)    aligned    none
          3 sigma
========  =====================================  ==========================================  =========  ==========

Sources: SimpleBaseline (Xiao et al. 2018); DARK (Zhang et al. 2020), here with the ordinary affine as in mmpose; UDP
(Huang et al. 2020), its Gaussian form. All numpy and vectorised over batch and joints; points are crop pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lgmpose.pose.skeletons import Skeleton

__all__ = ["CODECS", "DarkCodec", "StandardCodec", "UDPCodec", "make_codec", "merge_flipped"]

STRIDE = 4  # of the heatmaps, in every network here
SMALLEST = 1e-10  # a logarithm's argument, in DARK's own code


class StandardCodec:
    """Rounded centre and quarter offset (SimpleBaseline, HRNet).

    Decodes what it encodes to within 2 crop pixels per coordinate, half a heatmap pixel lost by rounding (the quarter
    offset helps on a network's maps, whose peaks are not symmetric; on its own targets it does nothing). A joint in the
    last column or row of heatmap cells may be 3 crop pixels off: the crop's last pixel is 3/4 of a heatmap pixel
    beyond the map's last. Holds for every sigma and every joint inside the crop.

    Attributes:
        aligned: which alignment ``geometry.crop_matrix`` must use.
        flip_shift: whether the mirrored heatmap is shifted by one pixel in the flip test: with the ordinary
            alignment a mirrored crop is one crop pixel off, with the aligned one it is not.
    """

    name = "standard"
    aligned = False
    flip_shift = True

    def __init__(self, image_hw: tuple[int, int], sigma: float | None = None):
        """``sigma`` in heatmap pixels; by default 2, or 3 from 384 rows on, as all the literature has it."""
        self.image_hw = tuple(image_hw)
        self.heatmap_hw = (image_hw[0] // STRIDE, image_hw[1] // STRIDE)
        self.sigma = float(sigma if sigma is not None else 3 if image_hw[0] >= 384 else 2)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(image_hw={self.image_hw}, sigma={self.sigma:g})"

    # --- crop pixels ↔ heatmap pixels ---------------------------------------------------------------------------
    @property
    def _stride_xy(self) -> np.ndarray:
        return np.array([self.image_hw[1] / self.heatmap_hw[1], self.image_hw[0] / self.heatmap_hw[0]])

    def to_heatmap(self, points_xy: np.ndarray) -> np.ndarray:
        """Crop pixels → heatmap pixels."""
        return points_xy / self._stride_xy

    def to_crop(self, points_xy: np.ndarray) -> np.ndarray:
        """Heatmap pixels → crop pixels."""
        return points_xy * self._stride_xy

    # --- encoding -----------------------------------------------------------------------------------------------
    def _centres(self, points_xy: np.ndarray) -> np.ndarray:
        return np.trunc(points_xy + 0.5)  # int(x + 0.5) of the published codes, left of the crop too

    def _cut(self, distance: np.ndarray) -> np.ndarray:
        # The patch is 2 · 3σ + 1 pixels wide around the centre pixel.
        return distance <= int(3 * self.sigma + 0.5)

    def encode(self, keypoints_xy: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joints → heatmaps.

        Args:
            keypoints_xy: (B, K, 2) crop pixels.
            visible: (B, K), 0 for joints that are not labelled.

        Returns:
            heatmaps (B, K, h, w) float32, peak 1; weights (B, K) float32, 0 where a joint is not labelled or its
            whole 3-sigma patch lies outside.
        """
        points = self.to_heatmap(np.asarray(keypoints_xy, np.float64))
        labelled = (np.asarray(visible) > 0) & np.isfinite(points).all(axis=-1)
        centres = self._centres(np.where(labelled[..., None], points, 0.0))
        h, w = self.heatmap_hw
        reach = 3 * self.sigma
        rounded = np.floor(centres + 0.5)
        inside = (rounded >= -reach).all(axis=-1) & (rounded[..., 0] < w + reach) & (rounded[..., 1] < h + reach)
        profiles = []  # a Gaussian is a product of one profile along x and one along y
        for axis, length in ((0, w), (1, h)):
            distance = np.arange(length) - centres[..., axis, None]  # (B, K, length)
            profile = np.exp(-(distance**2) / (2 * self.sigma**2))
            nearest = np.abs(np.arange(length) - rounded[..., axis, None])
            profiles.append(np.where(self._cut(nearest), profile, 0).astype(np.float32))
        weights = (labelled & inside).astype(np.float32)
        heatmaps = profiles[1][..., :, None] * profiles[0][..., None, :] * weights[..., None, None]
        return heatmaps, weights

    # --- decoding -----------------------------------------------------------------------------------------------
    def decode(self, heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heatmaps → joints.

        Args:
            heatmaps: (B, K, h, w).

        Returns:
            keypoints_xy (B, K, 2) crop pixels; scores (B, K), the heatmap's maximum. A joint whose maximum is not
            positive (or NaN) sits at the crop's origin.
        """
        heatmaps = np.ascontiguousarray(heatmaps, np.float32)  # a network's may lie as B h w K
        peaks, scores = _argmax(heatmaps)
        points = self._refine(heatmaps, peaks)
        points[~(scores > 0)] = 0  # NaN too
        return self.to_crop(points), scores

    def _refine(self, heatmaps: np.ndarray, peaks: np.ndarray) -> np.ndarray:
        # A quarter pixel towards the higher neighbour, except at the border.
        B, K, h, w = heatmaps.shape
        px, py = peaks[..., 0], peaks[..., 1]
        inner = (px > 1) & (px < w - 1) & (py > 1) & (py < h - 1)
        x, y = np.clip(px, 1, max(w - 2, 1)), np.clip(py, 1, max(h - 2, 1))
        b, k = np.ogrid[:B, :K]
        offset = np.stack(
            [heatmaps[b, k, y, x + 1] - heatmaps[b, k, y, x - 1], heatmaps[b, k, y + 1, x] - heatmaps[b, k, y - 1, x]],
            axis=-1,
        )
        return peaks + np.where(inner[..., None], 0.25 * np.sign(offset), 0.0)


class DarkCodec(StandardCodec):
    """Distribution-aware coding: exact centre, and a Newton step on the logarithm of the blurred map.

    Decodes what it encodes to within 0.01 crop pixels per coordinate (sigma 1.5 to 3) where the blur does not reach the
    border (from 7 heatmap pixels inwards with sigma 2, 10 with sigma 3), and to within 4 anywhere in the crop: zeros
    are blurred in from outside, and the outermost two pixels take no step. A decoder without the blur near borders is
    good to 0.15 on such ideal maps, but on a network's (the shipped one on LSPET) it was worse for three joints out of
    four, so the published one stands.
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
        near = _blurred_near(heatmaps, centres, self.sigma, 2)
        # The published code rescales the blurred map to the old maximum. A blur only lowers it, so values grow, and the
        # logarithm of all of them by one constant, which differences do not see. Only where the clip may cut must the
        # maximum be known, which takes the whole map's blur.
        cut = (near <= SMALLEST).any(axis=(-1, -2))
        if cut.any():
            whole = _blur(heatmaps[cut], self.sigma).max(axis=(-1, -2))
            original = heatmaps[cut].max(axis=(-1, -2))
            near[cut] *= np.divide(original, whole, out=np.ones_like(whole), where=whole > 0)[:, None, None]
        inner = (peaks == centres).all(axis=-1, keepdims=True)
        return peaks + np.where(inner, _wide_step(np.log(np.maximum(near, SMALLEST)).astype(float)), 0.0)


class UDPCodec(StandardCodec):
    """Unbiased data processing, Gaussian targets: everything counted between pixel centres.

    Decodes what it encodes to within 0.01 crop pixels per coordinate (sigma 1.5 to 3) well inside, as ``DarkCodec``,
    and to within 6.5 anywhere in the crop.
    """

    name = "udp"
    aligned = True
    flip_shift = False

    @property
    def _stride_xy(self) -> np.ndarray:
        (H, W), (h, w) = self.image_hw, self.heatmap_hw
        return np.array([(W - 1) / (w - 1), (H - 1) / (h - 1)])

    def _centres(self, points_xy: np.ndarray) -> np.ndarray:
        return points_xy

    def _refine(self, heatmaps: np.ndarray, peaks: np.ndarray) -> np.ndarray:
        logs = np.log(np.clip(_blurred_near(heatmaps, peaks, self.sigma, 1), 1e-3, 50)).astype(np.float64)

        def at(dx: int, dy: int) -> np.ndarray:
            return logs[..., 1 + dy, 1 + dx]

        gradient = np.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], axis=-1) / 2
        eps = np.finfo(np.float32).eps
        xx, yy = at(1, 0) - 2 * at(0, 0) + at(-1, 0) + eps, at(0, 1) - 2 * at(0, 0) + at(0, -1) + eps
        # The mixed difference along the diagonal alone, as UDP's own code has it.
        xy = (at(1, 1) - at(1, 0) - at(0, 1) + 2 * at(0, 0) - at(-1, 0) - at(0, -1) + at(-1, -1)) / 2
        return peaks + _newton_step(gradient, xx, xy, yy)


def merge_flipped(heatmaps, mirrored, skeleton: Skeleton, *, shift: bool):
    """Flip test: the mean of a crop's heatmaps and those of the mirrored crop, mirrored back.

    Args:
        heatmaps: (B, K, h, w), array or tensor.
        mirrored: the same of the mirrored crops, as the network gave them.
        skeleton: tells which joints a mirror swaps.
        shift: move the mirrored map one pixel to the right, as the ordinary alignment needs: there a mirrored crop lies
            one crop pixel beside the crop of the mirrored picture, which a stride of 4 turns into most of a heatmap
            pixel.

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


def _argmax(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, K, h, w) → integer peaks (B, K, 2) as (x, y), maxima (B, K)."""
    B, K, h, w = heatmaps.shape
    flat = heatmaps.reshape(B, K, h * w)
    index = flat.argmax(axis=-1)
    return np.stack([index % w, index // w], axis=-1), np.take_along_axis(flat, index[..., None], -1)[..., 0]


def _taps(sigma: float) -> np.ndarray:
    """The Gaussian of DARK's smoothing: 11 pixels for sigma 2, 17 for 3; float32, sum 1."""
    reach = int(2.75 * sigma)
    # OpenCV's rule for a Gaussian kernel of a given width, which the original code relies on.
    width = 0.3 * (reach - 1) + 0.8
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
    return (taps / taps.sum()).astype(np.float32)


def _blur_rows(taps: np.ndarray, to: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """A blur along one axis as matrices: ``to`` (…, m) are the places wanted, ``length`` places from ``start`` (…) on
    are what they are made from, zeros the rest. → (…, m, length)."""
    distance = np.abs(to[..., None] - start[..., None, None] - np.arange(length))
    reach = len(taps) // 2
    return np.where(distance <= reach, taps[reach + np.minimum(distance, reach)], 0)


def _blur(heatmaps: np.ndarray, sigma: float) -> np.ndarray:
    """DARK's smoothing of whole maps (…, h, w), zeros outside."""
    taps, origin = _taps(sigma), np.zeros((), int)
    rows, columns = (_blur_rows(taps, np.arange(n), origin, n) for n in heatmaps.shape[-2:])
    return rows @ heatmaps @ columns.T


def _blurred_near(heatmaps: np.ndarray, centres: np.ndarray, sigma: float, reach: int) -> np.ndarray:
    """``_blur`` in a square around one pixel of each map only, for about a tenth of the time.

    Args:
        heatmaps: (B, K, h, w), contiguous.
        centres: (B, K, 2) integer (x, y).
        reach: pixels to each side; beyond the map's border, the border's are repeated.

    Returns:
        (B, K, 2 · reach + 1, 2 · reach + 1), y before x.
    """
    B, K, h, w = heatmaps.shape
    taps = _taps(sigma)
    lengths = [min(2 * reach + len(taps), n) for n in (h, w)]  # of the window that the square is made from
    starts, matrices = [], []
    for axis, n, length in ((1, h, lengths[0]), (0, w, lengths[1])):
        centre, places = centres[..., axis].reshape(-1), np.arange(n)  # all there can be, then those there are
        start = np.clip(places - reach - len(taps) // 2, 0, n - length)
        to = np.clip(places[:, None] + np.arange(-reach, reach + 1), 0, n - 1)
        starts.append(start[centre])
        matrices.append(_blur_rows(taps, to, start, length)[centre])
    windows = sliding_window_view(heatmaps.reshape(B * K, h, w), lengths, axis=(1, 2))
    near = matrices[0] @ windows[np.arange(B * K), starts[0], starts[1]] @ matrices[1].swapaxes(-1, -2)
    return near.reshape(B, K, 2 * reach + 1, 2 * reach + 1)


def _wide_step(logs: np.ndarray) -> np.ndarray:
    """DARK's step from the middle of 5 × 5 logarithms (…, y, x) to the top: differences over ± 1 pixel, second ones
    over ± 2."""

    def at(dx: int, dy: int) -> np.ndarray:
        return logs[..., 2 + dy, 2 + dx]

    gradient = np.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], axis=-1) / 2
    xx = (at(2, 0) - 2 * at(0, 0) + at(-2, 0)) / 4
    yy = (at(0, 2) - 2 * at(0, 0) + at(0, -2)) / 4
    xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    return _newton_step(gradient, xx, xy, yy)


def _newton_step(gradient: np.ndarray, xx: np.ndarray, xy: np.ndarray, yy: np.ndarray) -> np.ndarray:
    """-Hessian⁻¹ · gradient, (…, 2); zero where the Hessian is not that of a peak. At most one pixel either way.

    The originals step wherever the Hessian is not singular, and as far as it says. A saddle or a step of more than a
    pixel means that the map around the maximum is no Gaussian, and the integer peak (or a pixel beside it) is then the
    better answer.
    """
    determinant = xx * yy - xy * xy
    peak = (determinant > 1e-12) & (xx < 0)
    safe = np.where(peak, determinant, 1.0)
    gx, gy = gradient[..., 0], gradient[..., 1]
    step = -np.stack([yy * gx - xy * gy, xx * gy - xy * gx], axis=-1) / safe[..., None]
    return np.clip(np.where(peak[..., None], step, 0.0), -1.0, 1.0)


CODECS = {codec.name: codec for codec in (StandardCodec, DarkCodec, UDPCodec)}


def make_codec(name: str, image_hw: tuple[int, int], sigma: float | None = None) -> StandardCodec:
    """The codec of that name for crops of ``image_hw``. Raises ValueError for an unknown name."""
    if name not in CODECS:
        raise ValueError(f"no codec {name!r}; there are {', '.join(CODECS)}")
    return CODECS[name](image_hw, sigma)
