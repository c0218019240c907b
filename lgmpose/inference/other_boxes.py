"""Predictions with worse boxes than the given ones, for ``lgmpose eval --boxes``: shifted boxes, or none at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tqdm import tqdm

from lgmpose.data.images import read_annotated
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.inference.backends import Backend
from lgmpose.inference.figures import Predictions
from lgmpose.inference.predictor import Predictor
from lgmpose.pose.geometry import PADDING

__all__ = ["predict_without_boxes", "shift_boxes"]

SHIFT = 0.1  # largest move of a box's centre, as a share of its width and of its height
FACTOR = 1.25  # largest factor of a box's size; the smallest is its inverse


def shift_boxes(record_set: RecordSet, seed: int = 0) -> RecordSet:
    """Move and scale every box at random, as an inexact detector would.

    The centre moves by up to 10 % of the box's width and height. Width and height are multiplied by one factor from
    0.8 to 1.25. A person's change depends on the seed and on the person's position in the set, not on the set's size:
    the first persons of ``--limit N`` get the same boxes as in the whole set.

    Returns:
        The set with the new boxes, and with a ``box_source`` that says so.
    """
    drawn = np.random.default_rng(seed).uniform(-1, 1, (len(record_set), 3))  # row by row
    moves, factors = SHIFT * drawn[:, :2], FACTOR ** drawn[:, 2]
    records = tuple(  # a move is a share of the box, and size_wh has its padding
        replace(record, center_xy=record.center_xy + move * record.size_wh / PADDING, size_wh=record.size_wh * factor)
        for record, move, factor in zip(record_set.records, moves, factors, strict=True)
    )
    source = f"{record_set.box_source}, shifted by up to {SHIFT:.0%}, scaled by {1 / FACTOR:g} to {FACTOR:g}"
    return replace(record_set, records=records, box_source=source)


def predict_without_boxes(
    backend: Backend,
    record_set: RecordSet,
    *,
    flip_test: bool = True,
    bad_images: str = "refuse",
    progress: bool = True,
) -> Predictions:
    """Predict the person of every picture as ``Predictor`` does without a box and without a detector.

    Args:
        backend: runs the network.
        record_set: one person per picture.
        flip_test: average with the heatmaps of the mirrored crops.
        bad_images: ``refuse`` or ``skip`` unreadable pictures.
        progress: show a bar.

    Raises:
        UserError: a picture shows several persons, or it cannot be read and ``bad_images`` is ``refuse``.
    """
    if len({record.image_id for record in record_set.records}) < len(record_set):
        raise UserError(f"--boxes none is for one person per picture; some pictures of {record_set.name} show several")
    predictor = Predictor(backend, detector="none", flip_test=flip_test)
    n, K = len(record_set), record_set.skeleton.num_keypoints
    keypoints_xy, scores, unread = np.full((n, K, 2), np.nan), np.zeros((n, K)), np.ones(n, bool)
    for i, record in enumerate(tqdm(record_set.records, desc="evaluate", disable=not progress, leave=False)):
        try:
            picture = read_annotated(record.image, record.stated_hw)
        except UserError as error:
            if bad_images == "refuse":
                raise UserError(f"{error}; --bad-images skip leaves such pictures out") from error
            continue
        (pose,) = predictor(picture)
        keypoints_xy[i], scores[i], unread[i] = pose.keypoints_xy, pose.scores, False
    return Predictions(keypoints_xy, scores, unread)
