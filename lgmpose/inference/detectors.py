"""Find the people in a picture: boxes for the pose network.

A detector is anything with ``detect(picture) -> (boxes_xywh, scores)``. ``open_detector`` opens those that a user can
name: an ONNX file with YOLOX's or RTMDet's head, a detector of torchvision, or a Python function.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from lgmpose.data.images import PAD_VALUE
from lgmpose.errors import UserError, notice_once, require
from lgmpose.inference.backends import onnx_session
from lgmpose.machine import num_cores
from lgmpose.pose.skeletons import SKELETONS, Skeleton
from lgmpose.zoo.cards import WEIGHTS_FOLDER

__all__ = [
    "DEFAULT_DETECTOR", "DETECTORS", "Detector", "LetterboxDetector", "OnnxDetector", "PinnedFile",
    "TorchvisionDetector", "cache_folder", "default_detector", "detect_people", "open_detector", "rtmdet_boxes",
]  # fmt: skip

MIN_SCORE = 0.05  # no detector returns boxes below it
NMS_IOU = 0.6  # of two boxes that overlap more, the one with the lower score is left out
STRIDES = (8, 16, 32)
RTMDET_MEAN = np.array([103.53, 116.28, 123.675], np.float32)  # BGR
RTMDET_STD = np.array([57.375, 57.12, 58.395], np.float32)


class Detector(Protocol):
    """Finds the people in a picture."""

    def detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (n, 4) as x, y, width, height in pixels, and scores (n,) in 0..1, of a picture (H, W, 3) uint8.

        Threads may call it at once.
        """
        ...


@dataclass(frozen=True)
class PinnedFile:
    """A detector that is downloaded once, from the address of a commit, and checked by its hash."""

    url: str
    sha256: str
    megabytes: float
    licence: str


DETECTORS = {
    "yolox-nano": PinnedFile(
        "https://raw.githubusercontent.com/Kazuhito00/YOLOX-ONNX-TFLite-Sample/"
        "3d4f1119d0694200671c08069ecb847aa0d8495a/model/yolox_nano.onnx",
        "695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14",
        3.7,
        "Apache-2.0",
    ),
}
DEFAULT_DETECTOR = "lgm-det"  # comes with the package


def cache_folder() -> Path:
    """Return the folder of downloaded detectors: ``$LGMPOSE_CACHE``, or ``lgmpose`` in the user's cache folder."""
    if folder := os.environ.get("LGMPOSE_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lgmpose"


def open_detector(
    detector: str | Path | Detector | Callable[[np.ndarray], tuple], *, threads: int | None = None, device: str = "auto"
) -> Detector:
    """Open a detector.

    Args:
        detector: ``lgm-det``, a name of ``DETECTORS`` (downloaded once into ``cache_folder()``), an ONNX file,
            ``torchvision:NAME``, an object with ``detect``, or a function that takes a picture and returns what
            ``detect`` does.
        threads: CPU threads of an ONNX file; None: all cores of the process.
        device: for torchvision.

    Raises:
        UserError: an unknown name, a missing or unknown file, or a download that fails.
    """
    if hasattr(detector, "detect"):
        return detector
    if callable(detector):
        return _FunctionDetector(detector)
    name = str(detector)
    if name.startswith("torchvision:"):
        return TorchvisionDetector(name.removeprefix("torchvision:"), device=device)
    if name == DEFAULT_DETECTOR:
        return OnnxDetector(WEIGHTS_FOLDER / f"{name}.onnx", threads=threads)
    if name in DETECTORS:
        return OnnxDetector(_downloaded(name), threads=threads)
    if not os.path.isfile(name):
        raise UserError(
            f"detector {name!r}: no such file; give an .onnx file, torchvision:NAME, none, "
            f"or {' or '.join((DEFAULT_DETECTOR, *DETECTORS))}"
        )
    return OnnxDetector(name, threads=threads)


def default_detector(skeleton: Skeleton, *, threads: int | None = None) -> Detector | None:
    """Return the detector that comes with the package.

    Args:
        skeleton: the joints of the network. Only the package's own skeletons are known to be those of people.
        threads: as for ``open_detector``.

    Returns:
        The detector; None for other joints, and without ONNX Runtime. Then one line on stderr says that every picture
        is treated as showing one person.
    """
    if SKELETONS.get(skeleton.name) != skeleton:
        notice_once(
            f"joints of your own: each picture is taken to show one person or object; --detector {DEFAULT_DETECTOR} "
            "finds people (--detector none: no notice)"
        )
        return None
    if importlib.util.find_spec("onnxruntime") is None:
        notice_once(
            "the detector needs ONNX Runtime (pip install 'lgmpose[onnx]'); without it, each picture is taken to show "
            "one person (--detector none: no notice)"
        )
        return None
    return open_detector(DEFAULT_DETECTOR, threads=threads)


def _downloaded(name: str) -> Path:
    """Return the file of a detector of ``DETECTORS``, which is downloaded if it is not in the cache."""
    pinned, path = DETECTORS[name], cache_folder() / f"{name}.onnx"
    if path.is_file():
        return _checked(path, pinned)
    from lgmpose.data.prepare.fetch import fetch  # only a download needs it

    what = f"the detector {name} ({pinned.megabytes} MB, {pinned.licence})"
    notice_once(f"downloading {what} from {pinned.url} to {path}")
    try:
        return _checked(fetch(pinned.url, path, retries=1), pinned)
    except UserError as error:
        raise UserError(f"{error}. Without a network, put that file at {path}, or use --detector none") from error


def _checked(path: Path, pinned: PinnedFile) -> Path:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != pinned.sha256:
        raise UserError(f"{path}: not the file of {pinned.url} (its SHA-256 is {digest}); delete it and run this again")
    return path


@dataclass(frozen=True)
class _FunctionDetector:
    function: Callable[[np.ndarray], tuple]

    def detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.function(picture)


def detect_people(detector: Detector, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what a detector finds, as arrays: boxes (n, 4) and scores (n,).

    Raises:
        UserError: the detector returned something else, such as boxes without scores.
    """
    returned = detector.detect(picture)
    try:
        boxes, scores = returned
        boxes, scores = np.asarray(boxes, float).reshape(-1, 4), np.asarray(scores, float).reshape(-1)
    except (TypeError, ValueError) as error:
        raise UserError(f"the detector must return boxes (n, 4) and scores (n,): {error}") from error
    if len(boxes) != len(scores):
        raise UserError(f"the detector returned {len(boxes)} boxes and {len(scores)} scores")
    return boxes, scores


class LetterboxDetector:
    """A network that gets the picture letterboxed to one size, as BGR; see ``Detector``.

    Args:
        image_hw: size of its input.
        run: input (1, 3, H, W) float32 → outputs.
        head: outputs and ``image_hw`` → corners (n, 4) in input pixels, and scores (n,).
    """

    def __init__(
        self,
        image_hw: tuple[int, int],
        run: Callable[[np.ndarray], Sequence[np.ndarray]],
        head: Callable[..., tuple[np.ndarray, np.ndarray]],
    ):
        self.image_hw, self._run, self._head = image_hw, run, head

    def detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the people's boxes and scores, best first; see ``Detector``."""
        height, width = picture.shape[:2]
        scale = min(self.image_hw[0] / height, self.image_hw[1] / width)
        small_wh = max(1, round(width * scale)), max(1, round(height * scale))
        canvas = np.full((*self.image_hw, 3), PAD_VALUE, np.float32)
        canvas[: small_wh[1], : small_wh[0]] = cv2.resize(picture, small_wh)[..., ::-1]
        if self._head is rtmdet_boxes:
            canvas = (canvas - RTMDET_MEAN) / RTMDET_STD
        corners, scores = self._head(self._run(canvas.transpose(2, 0, 1)[None]), self.image_hw)
        corners = corners * np.tile([width / small_wh[0], height / small_wh[1]], 2)
        return _without_duplicates(np.clip(corners, 0, [width, height, width, height]), scores)


class OnnxDetector(LetterboxDetector):
    """An ONNX file with the head of YOLOX or RTMDet, recognised by its outputs. The input is BGR, letterboxed.

    * YOLOX: one output (1, n, 5 + classes): centre and log size in grid units, objectness, class scores of which the
      first is that of persons. The input is 0..255.
    * RTMDet: an output (1, h, w, 5) per stride: logit, then the distances from the grid point to the left, top, right
      and bottom edge in pixels. The input is normalised.

    Args:
        path: the file.
        threads: CPU threads; None: all cores of the process.

    Raises:
        UserError: no ONNX file, or one with other inputs or outputs.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None):
        self._arguments = Path(path).absolute(), threads
        session = onnx_session(path, threads or num_cores())
        inputs, outputs = session.get_inputs(), [output.shape for output in session.get_outputs()]
        shape, kind = (inputs[0].shape, inputs[0].type) if inputs else ([], "nothing")
        fits = len(inputs) == 1 and len(shape) == 4 and all(isinstance(side, int) for side in shape[2:])
        # A name or None in the place of a number: any.
        fits = fits and all(s == n or not isinstance(s, int) for s, n in zip(shape, (1, 3), strict=False))
        if not fits or kind != "tensor(float)":
            raise UserError(
                f"{path}: its input is {kind}, {shape}; a detector takes one picture (1, 3, H, W) of fixed size, in "
                "32-bit floats"
            )
        name, image_hw = inputs[0].name, (shape[2], shape[3])
        cells = sum((image_hw[0] // stride) * (image_hw[1] // stride) for stride in STRIDES)
        if len(outputs) == 1 and len(outputs[0]) == 3 and outputs[0][1] == cells and outputs[0][2] > 5:
            head = _yolox_boxes
        elif len(outputs) == len(STRIDES) and all(len(output) == 4 and output[3] == 5 for output in outputs):
            head = rtmdet_boxes
        else:
            raise UserError(
                f"{path}: its outputs {outputs} are neither YOLOX's (1, {cells}, 5 + classes) nor RTMDet's "
                "(1, h, w, 5) for three strides"
            )
        super().__init__(image_hw, lambda canvas: session.run(None, {name: canvas}), head)

    def __reduce__(self) -> tuple:
        """Pickle the file's name: a runtime's session cannot be pickled."""
        path, threads = self._arguments
        return partial(type(self), path, threads=threads), ()


def _grid(image_hw: tuple[int, int], stride: int) -> np.ndarray:
    """Return the (x, y) of each cell's upper left corner, row by row, in pixels: (n, 2)."""
    rows, columns = np.indices((image_hw[0] // stride, image_hw[1] // stride))
    return np.stack([columns.ravel(), rows.ravel()], axis=1) * float(stride)


def _yolox_boxes(outputs: Sequence[np.ndarray], image_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return corners (n, 4) x1, y1, x2, y2 in input pixels, and scores (n,)."""
    rows = outputs[0][0].astype(float)
    grids = [_grid(image_hw, stride) for stride in STRIDES]
    strides = np.repeat(STRIDES, [len(grid) for grid in grids])[:, None]
    centres = rows[:, :2] * strides + np.concatenate(grids)
    half_sizes = np.exp(rows[:, 2:4]) * strides / 2
    return np.hstack([centres - half_sizes, centres + half_sizes]), rows[:, 4] * rows[:, 5]


def rtmdet_boxes(outputs: Sequence[np.ndarray], image_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return corners (n, 4) x1, y1, x2, y2 in input pixels, and scores (n,)."""
    largest_first = sorted(outputs, key=lambda output: -output.shape[1])
    rows = np.concatenate([output.reshape(-1, 5) for output in largest_first]).astype(float)
    points = np.concatenate([_grid(image_hw, stride) for stride in STRIDES])
    return np.hstack([points - rows[:, 1:3], points + rows[:, 3:5]]), 1 / (1 + np.exp(-rows[:, 0]))


def _without_duplicates(corners: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x, y, width, height (m, 4) and scores (m,) of the boxes left after non-maximum suppression, best first."""
    boxes = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    usable = np.flatnonzero(finite & (scores >= MIN_SCORE) & (boxes[:, 2:] > 0).all(axis=1))
    kept = cv2.dnn.NMSBoxes(boxes[usable].tolist(), scores[usable].tolist(), MIN_SCORE, NMS_IOU)
    kept = usable[np.asarray(kept, int)]
    return boxes[kept], scores[kept]


class TorchvisionDetector:
    """A detector of torchvision with its COCO weights, which torchvision downloads on first use.

    Args:
        name: its name in torchvision, such as ``ssdlite320_mobilenet_v3_large``.
        device: ``auto``, ``cpu``, ``cuda`` …

    Raises:
        UserError: torchvision is not installed or has no such detector, or the download fails.
    """

    def __init__(self, name: str, *, device: str = "auto"):
        require("torchvision", "peers", f"torchvision:{name}")
        from torchvision.models import detection, get_model_weights, list_models  # takes seconds

        from lgmpose.machine import choose_device

        if name not in list_models(module=detection):
            raise UserError(f"torchvision:{name}: not one of its detectors: {', '.join(list_models(module=detection))}")
        weights: Any = get_model_weights(name)
        self._device = choose_device(device)
        self._person = weights.DEFAULT.meta["categories"].index("person")
        try:
            self._net = getattr(detection, name)(weights=weights.DEFAULT).eval().to(self._device)
        except (OSError, ValueError) as error:  # ValueError: the address is refused by a proxy
            raise UserError(
                f"torchvision:{name}: its weights cannot be downloaded from {weights.DEFAULT.url} ({error})"
            ) from error

    def detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the people's boxes and scores, best first; see ``Detector``."""
        import torch

        image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).to(self._device) / 255
        with torch.inference_mode():
            found = {key: value.cpu().numpy() for key, value in self._net([image])[0].items()}
        people = found["labels"] == self._person
        return _without_duplicates(found["boxes"][people].astype(float), found["scores"][people].astype(float))
