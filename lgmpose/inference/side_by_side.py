"""Draw the same pictures through several networks, a row for each, as in the paper's Figure 4: ``lgmpose compare``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lgmpose.data.images import read_image
from lgmpose.errors import UserError, require
from lgmpose.files import check_writable, open_atomically
from lgmpose.inference.detections import read_detections
from lgmpose.inference.drawing import draw_poses
from lgmpose.inference.input_files import kind_of, list_inputs
from lgmpose.inference.inputs import check_boxes
from lgmpose.inference.predictor import SCORE_THRESHOLD, Backend, Predictor

__all__ = ["compare_networks", "comparison_figure", "network_labels"]

ROW_INCHES = 2.4  # height of a row of pictures
MAX_INCHES = 60.0  # width of the figure; with more pictures, all become smaller
MAX_HEIGHT = 600  # pixels of a drawn picture, more than twice what the figure shows
FORMATS = (".png", ".jpg", ".jpeg", ".svg", ".pdf")


def compare_networks(  # the options of the command
    inputs: str | Path | Sequence[str | Path],
    weights: Sequence[str | Path | Backend],
    out: str | Path,
    *,
    boxes=None,
    detections: str | Path | None = None,
    detector: str | Path | Callable = "none",
    flip_test: bool = True,
    device: str = "auto",
    score_threshold: float = SCORE_THRESHOLD,
) -> None:
    """Draw a row of pictures per network, each with the skeletons that this network finds, and write one figure.

    All networks get the same boxes. Without boxes and detector, each picture shows one person, as for ``Predictor``.

    Args:
        inputs: pictures and folders of them; ``out`` is left out of a folder.
        weights: weights files or backends, of any networks and skeletons.
        out: the figure, PNG, JPEG, SVG or PDF by its suffix.
        boxes: (n, 4) x, y, w, h in pixels, for every picture.
        detections: file with the boxes; see ``detections.read_detections``.
        detector: finds the boxes of all networks; see ``detectors.open_detector``.
        flip_test, device: see ``Predictor``.
        score_threshold: joints below it are not drawn.

    Raises:
        UserError: before any network runs: no weights, an input that cannot be read, or an ``out`` that cannot be
            written or is an input.
    """
    out = Path(out)
    if not weights:
        raise UserError("nothing to compare: name at least one weights file (--weights FILE, once per network)")
    if [boxes is not None, detections is not None, detector != "none"].count(True) > 1:
        raise UserError("boxes come from --box, from --detections or from --detector, not from several")
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"{out}: a comparison is written as .png, .jpg, .svg or .pdf")
    require("matplotlib", "plot", "comparing")
    check_writable(out)
    paths = list_inputs(inputs, skip=out)
    if out.resolve() in {path.resolve() for path in paths}:
        raise UserError(f"{out}: an input, which the comparison would replace; choose another --out")
    if videos := [path for path in paths if kind_of(path) == "video"]:
        raise UserError(f"{videos[0]}: a video; networks are compared on pictures")
    given = _checked_boxes(paths, boxes, detections)
    predictors = [Predictor(source, detector="none", device=device, flip_test=flip_test) for source in weights]
    finder = Predictor(predictors[0].backend, detector=detector, device=device, flip_test=False)
    rows: list[list[np.ndarray]] = [[] for _ in predictors]
    for path in tqdm(paths, desc="compare", unit="picture", disable=None):
        picture = read_image(path)
        found = given[path] if finder.detector is None else finder.find_people(picture, str(path))
        for row, predictor in zip(rows, predictors, strict=True):
            poses = predictor(picture, *found)
            row.append(_shrink(draw_poses(picture, poses, score_threshold=score_threshold)))
    labels = network_labels([predictor.backend for predictor in predictors], weights)
    with open_atomically(out) as file:
        comparison_figure(rows, labels, [path.name for path in paths]).savefig(file, format=out.suffix[1:].lower())


def _checked_boxes(
    paths: Sequence[Path], boxes, detections: str | Path | None
) -> dict[Path, tuple[np.ndarray | None, np.ndarray | None]]:
    """Read every picture, and return its boxes (n, 4) and their scores (n,); None where there are none."""
    detected = {} if detections is None else read_detections(detections, paths)
    given = {}
    for path in paths:
        picture_hw = read_image(path).shape[:2]  # read again later: all at once may not fit into memory
        found, scores = detected.get(path, (boxes, None))
        given[path] = None if found is None else check_boxes(found, picture_hw, str(path)), scores
    return given


def _shrink(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if height <= MAX_HEIGHT:
        return picture
    return cv2.resize(picture, (max(1, round(width * MAX_HEIGHT / height)), MAX_HEIGHT), interpolation=cv2.INTER_AREA)


def comparison_figure(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str], titles: Sequence[str]):
    """Return a Matplotlib figure: one row of pictures per label, one column per title, all of equal height.

    Args:
        rows: per network the drawn pictures, (H, W, 3) uint8; picture i has the same shape in each row.
        labels: one per row, written beside it.
        titles: one per column, written above it.
    """
    from matplotlib.figure import Figure

    widths = [picture.shape[1] / picture.shape[0] for picture in rows[0]]
    height = min(ROW_INCHES, MAX_INCHES / sum(widths))
    figure = Figure(figsize=(height * sum(widths) + 0.6, height * len(rows) + 0.4), layout="constrained", dpi=110)
    axes = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    for row, label, pictures in zip(axes, labels, rows, strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(label, fontsize=9, parse_math=False)  # a file's name may hold a "$"
    for axis, title, width in zip(axes[0], titles, widths, strict=True):
        letters = max(6, int(13 * width * height / ROW_INCHES))  # what fits above the picture
        axis.set_title(title if len(title) <= letters else title[: letters - 1] + "…", fontsize=9, parse_math=False)
    return figure


def network_labels(backends: Sequence[Backend], weights: Sequence[str | Path | Backend]) -> list[str]:
    """Return a short name per network with its input size: the file's stem, or the run folder's name.

    The network of every training run is called ``best.safetensors``; there the folder's name tells more.
    """
    names = []
    for backend, source in zip(backends, weights, strict=True):
        path = Path(source if isinstance(source, (str, os.PathLike)) else backend.source["file"])
        names.append(path.resolve().parent.name if path.stem == "best" else path.stem)
    names = [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names, start=1)]
    sizes = ["×".join(map(str, backend.image_hw)) for backend in backends]
    return [f"{name}\n{size}" for name, size in zip(names, sizes, strict=True)]
