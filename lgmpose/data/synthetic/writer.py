"""A whole set of pictures in COCO's keypoint format, and what to do with a folder that already holds something."""

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

GENERATOR_VERSION = 1  # raise whenever the same seed draws another picture


def make_synthetic(
    folder: str | Path,
    num_images: int,
    *,
    seed: int = 0,
    image_hw: tuple[int, int] = (256, 320),
    max_people: int = 3,
    progress: bool = True,
) -> Path:
    """Draws a set of synthetic people and writes it in COCO's keypoint format.

    Writes ``images/000000.jpg`` … and, last and at once, ``annotations.json``. Picture i depends on ``seed`` and i
    alone, so a smaller set is the beginning of a larger one. A set already there is not drawn again, an interrupted
    one is. Of several processes that ask for the same set, one draws and the others wait.

    Args:
        folder: where to; made if need be.
        num_images: how many pictures.
        seed: of all randomness, 0 or more.
        image_hw: (H, W) of every picture in pixels, at least 32 each.
        max_people: most people in one picture, 1 to 20.
        progress: show a progress bar.

    Returns:
        Path of ``annotations.json``; the pictures lie in ``images`` beside it.

    Raises:
        UserError: a number out of range, a folder that cannot be written, or one that holds something else.
    """
    height, width = image_hw
    if num_images < 1:
        raise UserError(f"num_images is {num_images}; a set needs at least 1 picture")
    if seed < 0:
        raise UserError(f"seed is {seed}; it must be 0 or more")
    if min(height, width) < 32:
        raise UserError(f"image_hw is {height}×{width}; people need at least 32 × 32 pixels")
    if not 1 <= max_people <= 20:
        raise UserError(f"max_people is {max_people}; it must lie between 1 and 20")
    images = Path(folder) / "images"
    annotations = Path(folder) / "annotations.json"
    partial = Path(folder) / "annotations.json.part"
    info = {
        "description": "Synthetic people drawn by LGM-Pose",
        "generator_version": GENERATOR_VERSION,
        "seed": int(seed),
        "num_images": int(num_images),
        "image_hw": [int(height), int(width)],
        "max_people": int(max_people),
    }
    try:
        # A finished set needs no lock, so that it may lie on a read-only disk.
        if annotations.is_file() and _is_complete(annotations, partial, images, info):
            return annotations
        with lock(Path(folder) / ".drawing.lock"):
            if not _is_complete(annotations, partial, images, info):  # unless another process drew it meanwhile
                _draw(annotations, partial, images, info, progress)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error
    return annotations


def _draw(annotations: Path, partial: Path, images: Path, info: dict, progress: bool) -> None:
    """Writes pictures and annotations of the set that ``info`` describes."""
    height, width = info["image_hw"]
    images.mkdir(parents=True, exist_ok=True)
    write_atomically(partial, json.dumps({"info": info}).encode())  # marks an interrupted set as ours
    annotations.unlink(missing_ok=True)
    image_entries, person_entries = [], []
    for i in tqdm(range(info["num_images"]), desc="drawing people", unit="picture", disable=not progress):
        image, found = draw_scene(np.random.default_rng([info["seed"], i]), (height, width), info["max_people"])
        encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        (images / _file_name(i)).write_bytes(encoded.tobytes())
        image_entries.append({"id": i, "file_name": _file_name(i), "height": height, "width": width})
        for person in found:
            # pycocotools takes 0 for "no person": numbers of persons start at 1.
            person_entries.append(_coco_annotation(person, len(person_entries) + 1, i))
    contents = {"info": info, "images": image_entries, "annotations": person_entries}
    write_atomically(annotations, json.dumps(contents | {"categories": [_coco_category()]}).encode())
    partial.unlink(missing_ok=True)


def _coco_annotation(person: dict, person_id: int, image_id: int) -> dict:
    """One entry of COCO's ``annotations`` from one dict of ``draw_scene``; a joint outside the picture is 0, 0, 0."""
    visibility = person["visibility"]
    xy = np.where(visibility[:, None] > 0, person["keypoints_xy"].round(2), 0)
    keypoints = np.concatenate((xy, visibility[:, None]), axis=1)
    return {
        "id": person_id,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": [int(n) if i % 3 == 2 else n for i, n in enumerate(keypoints.ravel().tolist())],
        "num_keypoints": int((visibility > 0).sum()),
        "bbox": person["box_xywh"].round(2).tolist(),
        "area": person["area"],
        "iscrowd": 0,
    }


def _coco_category() -> dict:
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(COCO.joint_names),
        "skeleton": [[a + 1, b + 1] for a, b in COCO.edges],  # COCO counts joints from 1
    }


def _is_complete(annotations: Path, partial: Path, images: Path, info: dict) -> bool:
    """Whether the folder already holds this very set; False if it is empty or drawing was interrupted.

    Raises:
        UserError: it holds another set, or pictures that did not come from here.
    """
    if annotations.is_file():
        _check_same_set(annotations, info)
        names = {entry.name for entry in os.scandir(images) if entry.stat().st_size} if images.is_dir() else set()
        return all(_file_name(i) in names for i in range(info["num_images"]))
    if partial.is_file():
        if partial.read_bytes().strip(b"\0"):  # a full disk or a power cut may have left it empty
            _check_same_set(partial, info)
    elif images.exists() and (not images.is_dir() or any(images.iterdir())):
        raise UserError(f"{images} already holds files that do not belong to a synthetic set; choose another folder")
    return False


def _check_same_set(file: Path, info: dict) -> None:
    """Raises ``UserError`` unless the file describes a synthetic set of the same settings."""
    try:
        found = dict(json.loads(file.read_text(encoding="utf-8"))["info"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: not an annotation file of synthetic people; choose another folder") from None
    differing = [f"{key} {found.get(key)} instead of {info[key]}" for key in info if found.get(key) != info[key]]
    if differing:
        reason = f"{file.parent} already holds another set ({', '.join(differing)})"
        raise UserError(f"{reason}; choose another folder or delete this one")


def _file_name(image_id: int) -> str:
    return f"{image_id:06d}.jpg"
