"""From a picture to poses: boxes, crops, network, joints, back into the picture. Torch is imported only where it runs.

What stands between a picture and its poses besides the network lives in ``Predictor``; the network itself sits behind a
``Backend``, four attributes and one method on arrays, so that another runtime can take its place.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from tqdm.auto import tqdm

from lgmpose.codecs import StandardCodec
from lgmpose.datasets.files import read_json
from lgmpose.datasets.images import read_image
from lgmpose.datasets.lspet import _box_around
from lgmpose.errors import UserError
from lgmpose.geometry import (
    PADDING,
    box_to_center_size,
    crop_matrix,
    fit_aspect,
    invert_matrix,
    transform_points,
    warp_image,
)
from lgmpose.metrics import oks_nms, rescore
from lgmpose.skeletons import Skeleton

__all__ = ["Backend", "Pose", "Predictor", "TorchBackend", "crop_person", "merge_flipped", "predict_files"]

SCORE_THRESHOLD = 0.2  # joints below it are neither drawn nor counted in a person's score, as in COCO's rescoring
# A second look is taken where this share of the joints was found, and they spread over this share of the first look.
SECOND_LOOK_JOINTS = 0.5
SECOND_LOOK_EXTENT = 0.1
DETECTION_THRESHOLD = 0.5  # detector boxes below it are left out: a score for showing, not for AP
OKS_NMS_THRESHOLD = 0.9  # the same person in two detector boxes

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")


@dataclass(frozen=True, eq=False)
class Pose:
    """One person's joints.

    Attributes:
        keypoints_xy: (K, 2) float64, picture pixels.
        scores: (K,) heatmap maxima, about 0..1.
        box_xywh: (4,) float64, the box that was looked at, without padding.
        score: mean of the joint scores above 0.2 (COCO's rescoring); 0 where there is none.
        skeleton: the joints' names and edges.
    """

    keypoints_xy: np.ndarray
    scores: np.ndarray
    box_xywh: np.ndarray
    score: float
    skeleton: Skeleton


class Backend(Protocol):
    """What runs a network: PyTorch here, another runtime elsewhere.

    Attributes:
        image_hw: size of the crops it takes.
        skeleton: the joints it finds.
        codec: how its heatmaps are read.
        source: ``{"file": name, "sha256": first 12 digits}`` of its weights, as written beside results.
    """

    image_hw: tuple[int, int]
    skeleton: Skeleton
    codec: StandardCodec
    source: dict[str, str]

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB → (B, K, h, w) float32."""
        ...


class TorchBackend:
    """A weights file run by PyTorch; see ``Backend``.

    Raises:
        UserError: weights that cannot be read, or a device that is not there.
    """

    def __init__(self, weights: str | Path | None = None, *, device: str = "auto"):
        from lgmpose import zoo
        from lgmpose.runtime import choose_device

        path = Path(weights if weights is not None else zoo.DEFAULT_WEIGHTS)
        self.net, card = zoo.load_weights(path)
        try:
            self.device = choose_device(device)
            self.net.to(self.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"device {device!r} cannot be used here ({reason}); try auto or cpu") from error
        self.image_hw = self.net.config.image_hw
        self.skeleton = zoo.skeleton_of(card)
        self.codec = zoo.codec_of(card, self.image_hw)
        self.source = {"file": path.name, "sha256": zoo.weights_hash(path)}

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB → (B, K, h, w) float32."""
        import torch

        from lgmpose.loader import to_input

        with torch.inference_mode():
            return self.net(to_input(torch.from_numpy(crops).to(self.device))).float().cpu().numpy()


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
    columns = list(range(heatmaps.shape[-1]))[::-1]
    if shift:
        columns = columns[:1] + columns[:-1]
    return (heatmaps + mirrored[:, list(skeleton.flip_permutation)][..., columns]) / 2


def crop_person(picture: np.ndarray, matrix: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """``warp_image`` for photographs: where the crop is much smaller than the person, pixels are averaged first.

    A person 2,000 pixels tall, read at every fifteenth pixel, has jagged edges that no training picture has.

    Args:
        picture: (H, W, 3) uint8.
        matrix: (2, 3), picture → crop.

    Returns:
        (h, w, 3) uint8, black outside the picture.
    """
    factor = int(1 / np.linalg.norm(matrix[:, 0]))
    if factor < 2:
        return warp_image(picture, matrix, image_hw)
    corners = np.array([[0, 0], [image_hw[1], 0], [0, image_hw[0]], [image_hw[1], image_hw[0]]], float)
    corners = transform_points(invert_matrix(matrix), corners)
    low = np.clip(np.floor(corners.min(axis=0)) - factor, 0, None)
    high = np.clip(np.ceil(corners.max(axis=0)) + factor, None, picture.shape[1::-1])
    (x1, y1), (x2, y2) = low.astype(int), high.astype(int)
    region = picture[y1:y2, x1:x2]
    small_wh = np.maximum(np.array([x2 - x1, y2 - y1]) // factor, 1)
    small = cv2.resize(region, [int(n) for n in small_wh], interpolation=cv2.INTER_AREA)
    step = (high - low) / small_wh  # picture pixels per small pixel; pixel i's centre lies at i in both
    to_picture = np.column_stack([np.diag(step), low + (step - 1) / 2])
    return warp_image(small, matrix @ np.vstack([to_picture, [0, 0, 1]]), image_hw)


class Predictor:
    """Finds the joints of people in a picture.

    Args:
        weights: a weights file, the one shipped with the package where None, or a ``Backend``.
        device: ``auto``, ``cpu``, ``cuda``, ``mps`` …
        flip_test: average with the mirrored crop: twice the work, a little more accurate.
        batch_size: how many persons go through the network at once.
        passes: how often to look where no box is given. The first look takes the whole picture, each further one the
            box around the joints found before.

    Raises:
        UserError: weights that cannot be read, or a device that is not there.
    """

    def __init__(
        self,
        weights: str | Path | Backend | None = None,
        *,
        device: str = "auto",
        flip_test: bool = True,
        batch_size: int = 16,
        passes: int = 2,
    ):
        self.backend = weights if hasattr(weights, "heatmaps") else TorchBackend(weights, device=device)
        self.flip_test, self.batch_size, self.passes = flip_test, batch_size, passes

    def __call__(self, image, boxes=None) -> list[Pose]:
        """One pose per box, in the boxes' order; without boxes, one pose from the whole picture.

        Args:
            image: path (EXIF orientation applied), Pillow image (likewise), or (H, W, 3) uint8 RGB array.
            boxes: (n, 4) x, y, w, h in picture pixels, without padding; they may reach beyond the picture. None: the
                whole picture shows one person.

        Raises:
            UserError: no picture, or a box of no area, outside the picture, or not finite.
        """
        picture, name = _load_picture(image)
        if boxes is not None:
            return self._poses(picture, _check_boxes(boxes, picture.shape[:2], name), PADDING)
        (pose,) = self._poses(picture, _whole(picture), 1.0)
        for _ in range(self.passes - 1):
            box_xywh = _second_look(pose, picture.shape[:2])
            if box_xywh is None:
                break
            (pose,) = self._poses(picture, box_xywh[None], PADDING)
        return [pose]

    def heatmaps(self, image, box=None) -> tuple[np.ndarray, np.ndarray]:
        """What the network saw and what it said, for one person.

        Args:
            image: as above.
            box: (4,) x, y, w, h; None takes the whole picture, in one look.

        Returns:
            The crop (H, W, 3) uint8, and its heatmaps (K, h, w).

        Raises:
            UserError: as above.
        """
        picture, name = _load_picture(image)
        boxes = _whole(picture) if box is None else _check_boxes([box], picture.shape[:2], name)
        crops, _ = self._crops(picture, boxes, 1.0 if box is None else PADDING)
        return crops[0], self._heatmaps(crops)[0]

    def _crops(self, picture: np.ndarray, boxes: np.ndarray, padding: float) -> tuple[np.ndarray, np.ndarray]:
        """Crops (n, H, W, 3) uint8 and their matrices (n, 2, 3), picture → crop."""
        codec = self.backend.codec
        matrices = [
            crop_matrix(*box_to_center_size(box, padding), codec.image_hw, aligned=codec.aligned) for box in boxes
        ]
        return np.stack([crop_person(picture, m, codec.image_hw) for m in matrices]), np.stack(matrices)

    def _heatmaps(self, crops: np.ndarray) -> np.ndarray:
        heatmaps = self.backend.heatmaps(crops)
        if not self.flip_test:
            return heatmaps
        mirrored = self.backend.heatmaps(np.ascontiguousarray(crops[:, :, ::-1]))
        return merge_flipped(heatmaps, mirrored, self.backend.skeleton, shift=self.backend.codec.flip_shift)

    def _poses(self, picture: np.ndarray, boxes: np.ndarray, padding: float) -> list[Pose]:
        poses = []
        for start in range(0, len(boxes), self.batch_size):
            batch = boxes[start : start + self.batch_size]
            crops, matrices = self._crops(picture, batch, padding)
            crop_xy, scores = self.backend.codec.decode(self._heatmaps(crops))
            keypoints_xy = transform_points(invert_matrix(matrices), crop_xy)
            person_scores = rescore(scores, np.ones(len(batch)), SCORE_THRESHOLD)
            poses += [
                Pose(*values, skeleton=self.backend.skeleton)
                for values in zip(keypoints_xy, scores, batch, person_scores.tolist(), strict=True)
            ]
        return poses


def _whole(picture: np.ndarray) -> np.ndarray:
    return np.array([[0.0, 0.0, picture.shape[1], picture.shape[0]]])


def _second_look(pose: Pose, picture_hw: tuple[int, int]) -> np.ndarray | None:
    """The box around the joints found, made as the training set's boxes are; None where too little was found."""
    found = pose.keypoints_xy[pose.scores > SCORE_THRESHOLD]
    if len(found) < SECOND_LOOK_JOINTS * len(pose.scores):
        return None
    box_xywh = _box_around(found)
    if box_xywh[2:].max() < SECOND_LOOK_EXTENT * pose.box_xywh[2:].max() or not _overlaps(box_xywh, picture_hw):
        return None
    return box_xywh


# --- what comes in --------------------------------------------------------------------------------------------------
def _load_picture(image) -> tuple[np.ndarray, str]:
    """(H, W, 3) uint8 RGB, and what to call the picture in an error."""
    if isinstance(image, (str, os.PathLike)):
        return read_image(image), str(image)
    if hasattr(image, "getexif") and hasattr(image, "convert"):  # Pillow's; it is no dependency of ours
        name = str(getattr(image, "filename", "") or "the picture")
        return _from_pillow(image, name), name
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.size:
            return np.ascontiguousarray(image), "the picture"
    what = f"an array of {image.dtype}, shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"the picture is {what}; give a path, a Pillow image, or an (H, W, 3) uint8 RGB array")


def _from_pillow(image, name: str) -> np.ndarray:
    from PIL import ImageOps

    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits, in one of Pillow's ways
            grey = (np.clip(np.asarray(image), 0, 65535) // 256).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=-1)
        if image.mode == "F":
            raise UserError(f"{name}: a Pillow image of floats, whose white is unknown; convert it to 8 bits first")
        return np.ascontiguousarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:  # what Pillow raises when it reads a damaged file, which it does only now
        raise UserError(f"{name}: not a picture that can be read ({error})") from error


def _overlaps(box_xywh: np.ndarray, picture_hw: tuple[int, int]) -> bool:
    x, y, w, h = box_xywh
    return x < picture_hw[1] and y < picture_hw[0] and x + w > 0 and y + h > 0


def _as_boxes(boxes) -> np.ndarray:
    """(n, 4) float64, checked as far as that goes without a picture."""
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"boxes are rows of four numbers x, y, w, h; got {boxes!r}") from None
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise UserError(f"boxes are (n, 4) numbers x, y, w, h, one row per person; got an array of shape {array.shape}")
    for number, box in enumerate(array):
        if not np.isfinite(box).all():
            raise UserError(f"box {number} ({_as_text(box)}) has a coordinate that is NaN or infinite")
        if not (box[2:] > 0).all():
            raise UserError(f"box {number} ({_as_text(box)}) has no area; boxes are x, y, width, height")
    return array


def _check_boxes(boxes, picture_hw: tuple[int, int], name: str) -> np.ndarray:
    try:
        array = _as_boxes(boxes)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    for number, box in enumerate(array):
        if not _overlaps(box, picture_hw):
            size = f"{picture_hw[1]} wide and {picture_hw[0]} high"
            raise UserError(f"{name}: box {number} ({_as_text(box)}) lies outside the picture, which is {size}")
    return array


def _as_text(box: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in box)


# --- files in, files out --------------------------------------------------------------------------------------------
def predict_files(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    boxes=None,
    detections: str | Path | None = None,
    weights: str | Path | Backend | None = None,
    flip_test: bool = True,
    device: str = "auto",
    score_threshold: float = SCORE_THRESHOLD,
    progress: bool = True,
) -> int:
    """Predicts pictures and videos, and writes for each an annotated copy and a JSON.

    ``photo.png`` becomes ``photo_pose.jpg`` and ``photo.json``, ``walk.mov`` becomes ``walk_pose.mp4`` (without sound)
    and ``walk.json``. Where two inputs have the same stem, the later one's outputs are called ``photo_2`` and so on;
    the JSON holds the path it belongs to. What cannot be read is reported, and the others are still done.

    Args:
        inputs: pictures, videos and folders of them (not their subfolders).
        out: folder to write to; made if missing.
        boxes: (n, 4) x, y, w, h, for every input; None takes each whole picture. Boxes, these and a detector's, are in
            pixels of the picture as it is shown, turned as its EXIF data say.
        detections: COCO detection list (``bbox``, ``score``, and ``image_id`` or ``file_name``), pictures only. A box
            belongs to the picture whose name without suffix is its ``image_id`` as a number, or whose name is its
            ``file_name``. Boxes with a score below 0.5 are left out, persons found twice are kept once.
        score_threshold: joints below it are not drawn; the JSON holds all.
        progress: show a bar where there is much to do.

    Returns:
        How many inputs were done, which is all of them.

    Raises:
        UserError: before any work: inputs missing, an unusable folder, weights or detection file; at the end: inputs
            that could not be done.
    """
    if boxes is not None and detections is not None:
        raise UserError("boxes come from --box or from a detection file, not from both")
    boxes = None if boxes is None else _as_boxes(boxes)
    out = Path(out)
    paths = _list_inputs(inputs, out)
    detected = {} if detections is None else _read_detections(detections, paths)
    jobs = list(zip(paths, _output_names(paths), strict=True))
    _check_outputs(jobs, out, detections)
    predictor = Predictor(weights, device=device, flip_test=flip_test)

    failures = []
    for path, name in tqdm(jobs, desc="predict", unit="file", disable=not progress or len(jobs) < 2):
        try:
            if _is_video(path):
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


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _list_inputs(inputs: Iterable[str | Path], out: Path) -> list[Path]:
    """Every file once, in the order given, folders by name."""
    paths = []
    for given in map(Path, [inputs] if isinstance(inputs, (str, Path)) else inputs):
        if given.is_dir():
            found = sorted(p for p in given.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES + VIDEO_SUFFIXES)
            if out.exists() and given.samefile(out):  # a second call must not predict what the first one drew
                found = [path for path in found if not path.name.endswith(("_pose.jpg", "_pose.mp4"))]
            if not found:
                known = " ".join(PICTURE_SUFFIXES + VIDEO_SUFFIXES)
                raise UserError(f"{given}: no picture or video in this folder (looked for {known})")
            paths += found
        elif given.exists():
            paths.append(given)
        else:
            raise UserError(f"{given}: no such file or folder")
    if not paths:
        raise UserError("no picture given")
    first: dict[Path, Path] = {}
    for path in paths:
        first.setdefault(path.resolve(), path)
    return list(first.values())


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
    return out / f"{name}_pose{'.mp4' if _is_video(path) else '.jpg'}", out / f"{name}.json"


def _check_outputs(jobs: list[tuple[Path, str]], out: Path, detections: str | Path | None) -> None:
    """Makes the folder, tries to write there, and refuses to write over an input."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(f"{out}: cannot write to this folder ({error.strerror or error}); choose another") from error
    sources = {path.resolve() for path, _ in jobs} | ({Path(detections).resolve()} if detections else set())
    for path, name in jobs:
        for file in _output_files(path, out, name):
            if file.resolve() in sources:
                raise UserError(f"{file}: an input, which the result of {path} would replace; choose another folder")


def _read_detections(source: str | Path, paths: list[Path]) -> dict[Path, tuple[np.ndarray, np.ndarray]]:
    """Boxes (n, 4) and scores (n,) per picture."""
    content = read_json(source)
    if not isinstance(content, list) or not all(isinstance(detection, dict) for detection in content):
        raise UserError(f"{source}: not a list of detections (image_id or file_name, bbox, score each)")
    by_key: dict[Any, list] = {}
    for number, detection in enumerate(content):
        where = f"{source}: detection number {number}"
        score, box = detection.get("score"), detection.get("bbox")
        if not isinstance(score, (int, float)) or not math.isfinite(score):
            raise UserError(f"{where} has no finite 'score'")
        if score < DETECTION_THRESHOLD or detection.get("category_id", 1) != 1:  # 1 is COCO's person
            continue
        try:
            (box,) = _as_boxes([box])
        except (UserError, ValueError):
            raise UserError(f"{where} has a 'bbox' that is not x, y, width, height of some area: {box!r}") from None
        key = Path(detection["file_name"]).name if "file_name" in detection else str(detection.get("image_id"))
        by_key.setdefault(key, []).append((box, score))
    found = {}
    for path in paths:
        number = str(int(path.stem)) if path.stem.isdecimal() else path.stem
        rows = by_key.get(path.name) or by_key.get(number)
        if rows and not _is_video(path):
            found[path] = np.stack([box for box, _ in rows]), np.array([score for _, score in rows])
    without = [path.name for path in paths if path not in found]
    if without:
        names = ", ".join(without[:5]) + (", …" if len(without) > 5 else "")
        raise UserError(
            f"{source}: no box with a score of {DETECTION_THRESHOLD:g} or more for {len(without)} of {len(paths)} "
            f"inputs ({names}); image_id must be the picture's name as a number, or file_name its name"
        )
    return found


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
        "path": str(path),
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
    from lgmpose.plots import draw_poses
    from lgmpose.weights_io import write_atomically

    picture = read_image(path)
    if detected is not None:
        boxes, box_scores = detected
    poses = predictor(picture, None if boxes is None else _check_boxes(boxes, picture.shape[:2], str(path)))
    if detected is not None:
        poses = _without_duplicates(poses, box_scores, predictor.backend.image_hw)
    drawn = draw_poses(picture, poses, score_threshold=score_threshold)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise UserError(f"{path}: too large to be written as a JPEG ({drawn.shape[1]} × {drawn.shape[0]})")
    picture_file, json_file = _output_files(path, out, name)
    content = _header(predictor, "image", path, picture.shape[:2]) | {"people": [_as_json(pose) for pose in poses]}
    write_atomically(picture_file, data.tobytes())
    write_atomically(json_file, json.dumps(content, ensure_ascii=False).encode())


def _without_duplicates(poses: list[Pose], box_scores: np.ndarray, image_hw: tuple[int, int]) -> list[Pose]:
    """Persons scored by their boxes too, and of two poses on the same person the better one: best first."""
    scores = np.array([pose.score for pose in poses]) * box_scores
    areas = [fit_aspect(pose.box_xywh[2:] * PADDING, image_hw).prod() for pose in poses]
    kept = oks_nms(
        np.stack([pose.keypoints_xy for pose in poses]), scores, areas, poses[0].skeleton.oks_sigmas, OKS_NMS_THRESHOLD
    )
    return [replace(poses[i], score=float(scores[i])) for i in kept]


def _predict_video(
    predictor: Predictor, path: Path, out: Path, name: str, boxes, score_threshold: float, progress: bool
) -> None:
    from lgmpose.plots import draw_poses
    from lgmpose.weights_io import write_atomically

    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else 25.0
    promised = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))  # a guess in some formats, absent in others
    video_file, json_file = _output_files(path, out, name)
    part = out / f".{video_file.name}.part.mp4"
    writer, frames, header = None, [], {}
    bar = tqdm(total=promised or None, desc=path.name, unit="frame", disable=not progress, leave=False)
    try:
        while True:
            more, bgr = capture.read()
            if not more:
                break
            picture = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            checked = None if boxes is None else _check_boxes(boxes, picture.shape[:2], str(path))
            poses = predictor(picture, checked)
            drawn = draw_poses(picture, poses, score_threshold=score_threshold, copy=False)
            drawn = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
            # The codec takes even sizes only and would cut a column or row.
            drawn = cv2.copyMakeBorder(drawn, 0, drawn.shape[0] % 2, 0, drawn.shape[1] % 2, cv2.BORDER_REPLICATE)
            if writer is None:
                header = _header(predictor, "video", path, picture.shape[:2]) | {"fps": round(rate, 3)}
                writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), rate, drawn.shape[1::-1])
                if not writer.isOpened():
                    raise UserError(f"{video_file}: this OpenCV cannot write MP4 (its FFmpeg has no encoder 'mp4v')")
            writer.write(drawn)
            frames.append({"frame": len(frames), "people": [_as_json(pose) for pose in poses]})
            bar.update()
        if writer is None:
            raise UserError(f"{path}: not a video that can be read (damaged, cut short, or of an unknown format)")
        writer.release()
        # A full disk is no error to OpenCV: what it wrote is counted.
        if int(cv2.VideoCapture(str(part)).get(cv2.CAP_PROP_FRAME_COUNT)) < len(frames):
            raise UserError(f"{video_file}: not all frames could be written; is the disk full?")
        os.replace(part, video_file)
    finally:
        bar.close()
        capture.release()
        if writer is not None:
            writer.release()
        part.unlink(missing_ok=True)
    if len(frames) < 0.9 * promised:
        tqdm.write(f"{path}: only {len(frames)} of the {promised} frames it promises could be read", file=sys.stderr)
    write_atomically(json_file, json.dumps(header | {"frames": frames}, ensure_ascii=False).encode())
