"""A whole set of pictures in COCO's keypoint format."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from lgmpose.data.synthetic.scene import draw_scene
from lgmpose.errors import UserError
from lgmpose.files import lock, write_atomically
from lgmpose.pose.skeletons import COCO

__all__ = ["GENERATOR_VERSION", "make_synthetic"]

GENERATOR_VERSION = 1  # raise it whenever the same seed draws another picture


def make_synthetic(
    folder: str | Path,
    num_images: int,
    *,
    seed: int = 0,
    image_hw: tuple[int, int] = (256, 320),
    max_people: int = 3,
    progress: bool = True,
) -> Path:
    """Draw a set of synthetic people and write it in COCO's keypoint format.

    Writes ``images/000000.jpg`` … and, last and atomically, ``annotations.json``. Picture i depends on ``seed`` and i
    only, so a smaller set is the beginning of a larger one. A set that is already there is not drawn again, an
    interrupted one is. Of several processes that ask for the same set, one draws and the others wait.

    Args:
        folder: where to write.
        num_images: number of pictures.
        seed: seed of all randomness, 0 or more.
        image_hw: (H, W) of every picture in pixels, at least 32 each.
        max_people: most people in one picture, 1 to 20.
        progress: show a bar.

    Returns:
        Path of ``annotations.json``; the pictures are in ``images`` beside it.

    Raises:
        UserError: a number out of range, a folder that cannot be written, or one that holds something else.
    """
    height, width = image_hw
    for name, value, fits, hint in (
        ("num_images", num_images, num_images >= 1, "at least 1"),
        ("seed", seed, seed >= 0, "0 or more"),
        ("image_hw", f"{height}×{width}", min(height, width) >= 32, "at least 32 × 32 pixels"),
        ("max_people", max_people, 1 <= max_people <= 20, "between 1 and 20"),
    ):
        if not fits:
            raise UserError(f"{name} {value}: {hint}")
    info = {
        "description": "Synthetic people drawn by LGM-Pose",
        "generator_version": GENERATOR_VERSION,
        "seed": int(seed),
        "num_images": int(num_images),
        "image_hw": [int(height), int(width)],
        "max_people": int(max_people),
    }
    folder = Path(folder)
    annotations, lock_file = folder / "annotations.json", folder / ".drawing.lock"
    try:
        own = annotations.is_file() or lock_file.is_file()
        if not own and (folder / "images").is_dir() and any((folder / "images").iterdir()):
            raise UserError(f"{folder / 'images'}: not pictures of a synthetic set; choose another folder")
        # A complete set needs no lock, so that it may be on a read-only disk.
        if not _is_complete(annotations, info):
            with lock(lock_file):
                if not _is_complete(annotations, info):  # unless another process drew it meanwhile
                    _draw(annotations, info, progress)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error
    return annotations


def _draw(annotations: Path, info: dict, progress: bool) -> None:
    """Write pictures and annotations of the set that ``info`` describes."""
    height, width = info["image_hw"]
    images = annotations.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    annotations.unlink(missing_ok=True)
    image_entries: list[dict] = []
    person_entries: list[dict] = []
    for i in tqdm(range(info["num_images"]), desc="drawing people", unit="picture", disable=not progress):
        image, found = draw_scene(np.random.default_rng([info["seed"], i]), (height, width), info["max_people"])
        encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        (images / _file_name(i)).write_bytes(encoded.tobytes())
        image_entries.append({"id": i, "file_name": _file_name(i), "height": height, "width": width})
        for person in found:
            # Numbers of persons start at 1: pycocotools takes 0 for "no person".
            person_entries.append(_coco_annotation(person, len(person_entries) + 1, i))
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(COCO.joint_names),
        "skeleton": [[a + 1, b + 1] for a, b in COCO.edges],  # COCO counts joints from 1
    }
    contents = {"info": info, "images": image_entries, "annotations": person_entries, "categories": [category]}
    write_atomically(annotations, json.dumps(contents).encode())


def _coco_annotation(person: dict, person_id: int, image_id: int) -> dict:
    """Return an entry of COCO's ``annotations`` from a dict of ``draw_scene``; joints outside are 0, 0, 0."""
    visibility = person["visibility"]
    xy = np.where(visibility[:, None] > 0, person["keypoints_xy"].round(2), 0)
    return {
        "id": person_id,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": [v for (x, y), flag in zip(xy.tolist(), visibility.tolist(), strict=True) for v in (x, y, flag)],
        "num_keypoints": int((visibility > 0).sum()),
        "bbox": person["box_xywh"].round(2).tolist(),
        "area": person["area"],
        "iscrowd": 0,
    }


def _is_complete(annotations: Path, info: dict) -> bool:
    """Return True if the folder holds this very set, False if it holds none or only a part of it.

    Raises:
        UserError: it holds another set, or annotations that did not come from here.
    """
    if not annotations.is_file():
        return False
    try:
        found = dict(json.loads(annotations.read_text(encoding="utf-8"))["info"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{annotations}: not annotations of synthetic people; choose another folder") from None
    differing = [f"{key} {found.get(key)} instead of {info[key]}" for key in info if found.get(key) != info[key]]
    if differing:
        reason = f"{annotations.parent} already holds another set ({', '.join(differing)})"
        raise UserError(f"{reason}; choose another folder or delete this one")
    images = annotations.parent / "images"
    names = {entry.name for entry in os.scandir(images) if entry.stat().st_size} if images.is_dir() else set()
    return all(_file_name(i) in names for i in range(info["num_images"]))


def _file_name(image_id: int) -> str:
    return f"{image_id:06d}.jpg"
