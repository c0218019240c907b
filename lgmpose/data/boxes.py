"""Pictures with the boxes of all persons in them, to train and to measure a detector: COCO's format, letterboxed."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from lgmpose.data.augment import change_colour
from lgmpose.data.coco import picture_names
from lgmpose.data.images import PAD_VALUE, find_pictures, folder_with_most, read_annotated
from lgmpose.errors import UserError
from lgmpose.files import read_json
from lgmpose.metrics.coco_format import Id, is_usable_box, read_coco_file, usable_area

__all__ = ["BoxSet", "LetterboxDataset", "Picture", "collate_boxes", "load_boxes"]

SCALES = (0.5, 1.6)  # of the picture in training, times the one that fills the input
COLOUR = 0.3  # largest change of contrast, brightness and each channel, as a share
LEAST_SEEN, LEAST_PX = 0.25, 4.0  # a person is left out if less of the box, or of its sides, is in the crop


class _Box(msgspec.Struct):
    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | bool | None = 0


@dataclass(frozen=True)
class Picture:
    """One picture. ``boxes_xywh`` (n, 4) pixels, ``areas`` (n,) square pixels, ``is_crowd`` (n,) bool.

    ``as_shown``: see ``images.read_annotated``.
    """

    image: str
    id: int
    hw: tuple[int, int]
    boxes_xywh: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    as_shown: bool = False


@dataclass(frozen=True)
class BoxSet:
    """Pictures, the name of the data, and how many boxes were left out or completed, by reason."""

    name: str
    pictures: tuple[Picture, ...]
    notes: dict[str, int]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def images(self) -> frozenset[str]:
        """The absolute paths of the pictures."""
        return frozenset(os.path.abspath(picture.image) for picture in self.pictures)

    def print_left_out(self) -> None:
        """Print what was left out or replaced while reading, if anything was."""
        if self.notes:
            left_out = ", ".join(f"{count:,} {reason}" for reason, count in self.notes.items())
            print(f"{self.name}: left out or replaced: {left_out}", flush=True)

    def fingerprint(self) -> dict[str, int]:
        """Return the number of persons, and a checksum of pictures and boxes."""
        boxes = np.concatenate([picture.boxes_xywh for picture in self.pictures])
        checksum = zlib.crc32(repr([picture.id for picture in self.pictures]).encode())
        return {"persons": len(boxes), "crc32": zlib.crc32(boxes.astype(float).tobytes(), checksum)}


def load_boxes(annotations: str | Path, folders: Sequence[Path]) -> BoxSet:
    """Load the boxes of all persons of a COCO file, with and without joints; crowds are marked.

    Boxes and areas are used, left out or replaced by the rules of ``coco_format.read_persons``, and counted.

    Args:
        annotations: COCO's JSON. Persons are the category "person", or the only one.
        folders: where the pictures may be.

    Raises:
        UserError: a file is missing or damaged, there is no such category, or no box at all.
    """
    file = read_coco_file(read_json(annotations), annotations)
    named = [c for c in file.categories if c.name == "person"] or file.categories
    if len(named) != 1:
        raise UserError(f"{annotations}: {len(named)} categories, and not one of them is named person")
    listed = file.pictures
    boxes: dict[int, list[_Box]] = {picture_id: [] for picture_id in listed}
    notes = Counter[str]()
    for entry in file.annotations or []:
        try:
            box = msgspec.convert(entry, _Box, strict=False)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            notes[f"entry that cannot be read: {error}"] += 1
            continue
        if box.category_id != named[0].id:
            notes["another category"] += 1
        elif box.image_id not in listed or not is_usable_box(box.bbox, listed[box.image_id], for_crop=False):
            notes["box without area or outside its picture, or in a picture that the file does not list"] += 1
        else:
            box.area = usable_area(box.area, box.bbox[2] * box.bbox[3], np.zeros((0, 2)), notes)
            boxes[box.image_id].append(box)
    if not any(boxes.values()):
        raise UserError(f"{annotations}: no person with a box ({dict(notes)})")
    names = picture_names(file, annotations)
    paths = find_pictures(folder_with_most(folders, names), names, annotations)
    pictures = [
        Picture(
            paths[picture.file_name],
            picture.id,
            (picture.height, picture.width),
            np.array([box.bbox for box in boxes[picture.id]], float).reshape(-1, 4),
            np.array([box.area for box in boxes[picture.id]], float),
            np.array([bool(box.iscrowd) for box in boxes[picture.id]], bool),
            picture.as_shown,
        )
        for picture in file.images
    ]
    return BoxSet(Path(annotations).stem, tuple(pictures), dict(notes))


class LetterboxDataset:
    """Pictures at random scale, place, side and colour on a grey canvas; a map-style data set without state.

    ``dataset[epoch, index]`` depends on (seed, epoch, index) alone, as in ``crops.CropDataset``. A sample has ``image``
    (H, W, 3) uint8 RGB, ``boxes`` (m, 4) float32 corners in its pixels, ``kinds`` (m,) 1 for a person and -1 for a
    crowd or a person of whom too little is seen, and ``index``; or ``image`` None and ``error``.

    Args:
        box_set: the pictures.
        image_hw: (H, W) of the canvas.
        seed: seed of the random changes.
    """

    def __init__(self, box_set: BoxSet, image_hw: tuple[int, int], *, seed: int = 0):
        self.box_set, self.image_hw, self.seed = box_set, image_hw, seed

    def __len__(self) -> int:
        return len(self.box_set)

    def __getitem__(self, key: tuple[int, ...]) -> dict[str, Any]:
        picture = self.box_set.pictures[key[1]]
        try:
            image = read_annotated(picture.image, picture.hw, picture.as_shown)
        except UserError as error:
            return {"image": None, "error": str(error), "index": key[1]}
        rng = np.random.default_rng((self.seed, *key))
        (H, W), (height, width) = self.image_hw, picture.hw
        scale = min(H / height, W / width) * np.exp(rng.uniform(*np.log(SCALES)))
        left, top = rng.random(2) * (W - scale * width, H - scale * height)  # negative: a part is cut off
        flip = rng.random() < 0.5
        matrix = np.array([[scale, 0, left + (scale - 1) / 2], [0, scale, top + (scale - 1) / 2]])
        corners = picture.boxes_xywh.copy()
        corners[:, 2:] += corners[:, :2]
        corners = corners * scale + (left, top, left, top)
        if flip:
            matrix[0] = (-scale, 0, W - 1 - matrix[0, 2])
            corners[:, [0, 2]] = W - corners[:, [2, 0]]
        canvas = cv2.warpAffine(image, matrix, (W, H), flags=cv2.INTER_LINEAR, borderValue=(PAD_VALUE,) * 3)
        seen = np.clip(corners, 0, (W, H, W, H))
        sides = seen[:, 2:] - seen[:, :2]
        share = sides.prod(1) / (corners[:, 2:] - corners[:, :2]).prod(1)
        usable = (share >= LEAST_SEEN) & (sides.min(1) >= LEAST_PX) & ~picture.is_crowd
        return {
            "image": change_colour(canvas, COLOUR, rng),
            "boxes": seen.astype(np.float32),
            "kinds": np.where(usable, 1.0, -1.0).astype(np.float32),
            "index": key[1],
        }


def collate_boxes(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return samples as one dict of tensors; boxes are padded to one number per picture, with kind 0."""
    import torch  # as in ``batches``: only where tensors are made

    good = [sample for sample in samples if sample["image"] is not None]
    batch: dict[str, Any] = {"errors": [sample["error"] for sample in samples if sample["image"] is None]}
    if good:
        most = max(1, *(len(sample["boxes"]) for sample in good))
        boxes, kinds = np.zeros((len(good), most, 4), np.float32), np.zeros((len(good), most), np.float32)
        for row, sample in enumerate(good):
            boxes[row, : len(sample["boxes"])], kinds[row, : len(sample["boxes"])] = sample["boxes"], sample["kinds"]
        images = np.stack([sample["image"] for sample in good])
        batch |= {"image": torch.from_numpy(images), "boxes": torch.from_numpy(boxes), "kinds": torch.from_numpy(kinds)}
    return batch
