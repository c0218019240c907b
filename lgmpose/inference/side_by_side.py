"""The same pictures through several trained networks, side by side: the paper's Figure 4, with your weights."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lgmpose.data.images import read_image
from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.inference.drawing import draw_poses
from lgmpose.inference.inputs import check_boxes, is_video, list_inputs, read_detections
from lgmpose.inference.predictor import SCORE_THRESHOLD, Backend, Predictor

__all__ = ["compare_networks", "comparison_figure"]

ROW_INCHES = 2.4  # height of a row of pictures
MAX_ROWS = 600  # of a drawn picture
MAX_INCHES = 60.0  # width of the figure: pictures become smaller where there are more


def compare_networks(
    inputs: Sequence[str | Path],
    weights: Sequence[str | Path | Backend],
    out: str | Path,
    *,
    boxes=None,
    detections: str | Path | None = None,
    flip_test: bool = True,
    device: str = "auto",
    score_threshold: float = SCORE_THRESHOLD,
    progress: bool = True,
) -> None:
    """Draws a row of pictures per network, each with the skeletons that network finds, and writes it as one file.

    All networks get the same boxes. Without any, each looks at the whole picture and then closer by itself, as
    ``lgmpose predict`` does.

    Args:
        inputs: pictures and folders of them; ``out``, and drawings of ``lgmpose predict`` beside it, are left out of a
            folder that holds them.
        weights: weights files, or backends; of any networks and skeletons.
        out: the figure, PNG, JPEG, SVG or PDF by its suffix.
        boxes: (n, 4) x, y, w, h in pixels, for every picture.
        detections: COCO detection file with the boxes; see ``inputs.read_detections``.
        score_threshold: joints below it are not drawn.
        progress: show a bar.

    Raises:
        UserError: before any network runs: no weights, an unreadable input, an ``out`` that cannot be written or is
            named as an input.
    """
    if not weights:
        raise UserError("nothing to compare: name at least one weights file (--weights FILE, once per network)")
    if boxes is not None and detections is not None:
        raise UserError("boxes come from --box or from a detection file, not from both")
    out = Path(out)
    _check_out(out)
    paths = list_inputs(inputs, out.parent, figure=out)
    for path in paths:
        if path.resolve() == out.resolve():
            raise UserError(f"{out}: an input, which the comparison would replace; choose another --out")
        if is_video(path):
            raise UserError(f"{path}: a video; networks are compared on pictures")
    detected = {} if detections is None else read_detections(detections, paths)
    boxes_of = {path: boxes if detections is None else detected[path][0] for path in paths}
    for path, its_boxes in boxes_of.items():
        picture = read_image(path)  # and forgotten: many photographs at once fill a laptop's memory
        boxes_of[path] = None if its_boxes is None else check_boxes(its_boxes, picture.shape[:2], str(path))
    predictors = [Predictor(source, device=device, flip_test=flip_test) for source in weights]
    labels = network_labels([predictor.backend for predictor in predictors], weights)

    rows: list[list[np.ndarray]] = [[] for _ in predictors]
    for path in tqdm(paths, desc="compare", unit="picture", disable=not progress):
        picture = read_image(path)
        for row, predictor in zip(rows, predictors, strict=True):
            drawn = draw_poses(picture, predictor(picture, boxes_of[path]), score_threshold=score_threshold)
            row.append(_shrink(drawn))
    figure = comparison_figure(rows, labels, [path.name for path in paths])
    buffer = io.BytesIO()
    figure.savefig(buffer, format=out.suffix[1:].lower())
    write_atomically(out, buffer.getvalue())


def _shrink(picture: np.ndarray) -> np.ndarray:
    """At most MAX_ROWS rows of a picture, which is more than twice what the figure shows of it."""
    height, width = picture.shape[:2]
    if height <= MAX_ROWS:
        return picture
    size = max(1, round(width * MAX_ROWS / height)), MAX_ROWS
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def comparison_figure(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[str], titles: Sequence[str]):
    """A Matplotlib figure: one row of pictures per label, one column per title, all pictures of equal height.

    Args:
        rows: per network the drawn pictures, (H, W, 3) uint8; picture i has the same shape in each row.
        labels: one per row, written beside it.
        titles: one per column, written above it.
    """
    from matplotlib.figure import Figure

    widths = [picture.shape[1] / picture.shape[0] for picture in rows[0]]
    height = min(ROW_INCHES, MAX_INCHES / sum(widths))
    figure = Figure(figsize=(height * sum(widths) + 0.6, height * len(rows) + 0.4), layout="constrained", dpi=110)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    axes = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    for row, label, line in zip(axes, labels, rows, strict=True):
        for axis, picture in zip(row, line, strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(label, fontsize=9, parse_math=False)  # a "$" in a file's name is one
    for axis, title, width in zip(axes[0], titles, widths, strict=True):
        letters = max(6, int(13 * width * height / ROW_INCHES))  # what fits above the picture
        axis.set_title(title if len(title) <= letters else title[: letters - 1] + "…", fontsize=9, parse_math=False)
    return figure


def network_labels(backends: Sequence[Backend], weights: Sequence[str | Path | Backend]) -> list[str]:
    """A short name per network with its input size: the file's stem, or its folder's name where the stem tells little.

    A training run's network is called ``best.safetensors`` in every run; there the run's folder names it.
    """
    names = []
    for backend, source in zip(backends, weights, strict=True):
        path = Path(source if isinstance(source, (str, os.PathLike)) else backend.source["file"])
        names.append(path.resolve().parent.name if path.stem == "best" else path.stem)
    names = [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names, start=1)]
    sizes = ["×".join(map(str, backend.image_hw)) for backend in backends]
    return [f"{name}\n{size}" for name, size in zip(names, sizes, strict=True)]


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".svg", ".pdf"):
        raise UserError(f"{out}: a comparison is written as .png, .jpg, .svg or .pdf")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("comparing needs Matplotlib: pip install 'lgmpose[plot]'")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out.parent}: cannot make this folder ({error.strerror})") from error
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"{out}: cannot be written; choose another --out")
