"""YOLO-pose folders of Ultralytics, Roboflow and Label Studio, converted to COCO's format and read from there.

One text file per picture, one line per person: class, centre and size of the box, then x, y and perhaps a visibility of
every joint. All coordinates are fractions of the picture as it is shown, that is turned as its EXIF data say.
``data.yaml`` names the folders of pictures, the number of joints and their left/right pairs. Label Studio writes
``notes.json`` instead. Source: Ultralytics' documentation of pose data sets; Label Studio's of its YOLO export.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from lgmpose.data.coco import load_coco
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError, require
from lgmpose.files import as_type, read_json, read_text, write_atomically
from lgmpose.pose.skeletons import COCO

__all__ = ["load_yolo"]

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


class _Settings(msgspec.Struct):
    """``data.yaml``. ``names`` are the classes; ``kpt_names`` the joints, for each class if it is a dict."""

    kpt_shape: tuple[Annotated[int, msgspec.Meta(ge=1, le=10_000)], Literal[2, 3]]  # joints; x, y, perhaps a flag
    names: dict[int, str] | list[str]
    kpt_names: dict[int, list[str]] | list[str] | None = None
    flip_idx: list[int] | None = None
    path: str | None = None
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    valid: str | list[str] | None = None


class _LabelStudioClass(msgspec.Struct):
    id: int
    name: str
    keypoints: list[str] = []


class _Notes(msgspec.Struct):
    """``notes.json`` of Label Studio."""

    categories: list[_LabelStudioClass]


def load_yolo(path: str | Path, split: str = "train") -> RecordSet:
    """Load one split of a YOLO-pose folder.

    It is written as a COCO file, ``lgmpose-SPLIT.json`` in the folder, so that checks and AP are those of COCO data.

    Args:
        path: the folder with ``data.yaml`` or ``notes.json``, or a ``.yaml`` file.
        split: ``train``, ``val``, or ``all`` for both, which is all there is in a folder of Label Studio.

    Raises:
        UserError: a file is missing or has other content than such folders have; the message names file and line.
    """
    path = Path(path)
    file = path if path.suffix in (".yaml", ".yml") else path / "data.yaml"
    if (file.parent / "notes.json").is_file() and not file.is_file():
        file = file.with_name("notes.json")
        if split != "all":
            raise UserError(f"{file}: Label Studio exports no split {split}; use the split all")
        settings = _read_notes(file)
    else:
        settings = _read_settings(file)
    content = _to_coco(settings, file, _picture_folders(settings, file, split))
    annotations = file.with_name(f"lgmpose-{split}.json")
    write_atomically(annotations, json.dumps(content).encode())
    return load_coco(annotations, file.parent)


def _read_notes(file: Path) -> _Settings:
    notes = as_type(read_json(file), _Notes, f"{file}: not the notes of Label Studio")
    joints = next((category.keypoints for category in notes.categories if category.keypoints), None)
    if joints is None:
        raise UserError(f"{file}: lists no keypoints; export a project that has KeyPointLabels, as 'YOLO with images'")
    names = {category.id: category.name for category in notes.categories}
    return _Settings((len(joints), 3), names, kpt_names=joints, train="images")


def _read_settings(file: Path) -> _Settings:
    if not file.is_file():
        raise UserError(f"{file}: no such file; a YOLO-pose folder has a data.yaml")
    require("yaml", "yolo", str(file))
    import yaml  # an optional dependency

    try:
        content = yaml.safe_load(read_text(file))
    except (RecursionError, ValueError, yaml.YAMLError) as error:  # ValueError: a date that does not exist
        raise UserError(f"{file}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    settings = as_type(content, _Settings, f"{file}: not the settings of a pose data set")
    K, flip = settings.kpt_shape[0], settings.flip_idx
    if flip is not None and (sorted(flip) != list(range(K)) or any(flip[flip[i]] != i for i in range(K))):
        raise UserError(f"{file}: flip_idx {flip} must list each of the {K} joints once, and pair them both ways")
    return settings


def _joint_names(settings: _Settings, file: Path) -> list[str]:
    """Return the joints' names. Without ``kpt_names``, joints with the number and the pairs of COCO's are COCO's."""
    K, names = settings.kpt_shape[0], settings.kpt_names
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    if not names:
        is_coco = settings.flip_idx == list(COCO.flip_permutation)
        names = list(COCO.joint_names) if is_coco else [f"joint_{i + 1}" for i in range(K)]
    if len(names) != K:
        raise UserError(f"{file}: kpt_names has {len(names)} names for {K} joints")
    return names


def _picture_folders(settings: _Settings, file: Path, split: str) -> list[Path]:
    """Return the folders of pictures of a split.

    Raises:
        UserError: none is named for the split, or it does not exist.
    """
    stated = {"train": settings.train, "val": settings.val or settings.valid}
    folders = []
    for part in ("train", "val") if split == "all" else (split,):
        named = stated[part] or []
        folders += [named] if isinstance(named, str) else named
    if not folders:
        raise UserError(f"{file}: names no folder of pictures for the split {split}")
    found = []
    for name in dict.fromkeys(folders):
        # Roboflow writes ../train/images and means a folder beside data.yaml.
        base = file.parent
        places = [base / (settings.path or "") / name, base / name, base / name.removeprefix("../")]
        place = next((place for place in places if place.is_dir()), None)
        if place is None:
            raise UserError(f"{places[0]}: no such folder of pictures; {file} names it for the split {split}")
        found.append(place)
    return found


def _to_coco(settings: _Settings, file: Path, folders: Sequence[Path]) -> dict[str, Any]:
    """Return the content of a COCO file, whose file names are relative to the folder of ``file``."""
    names = _joint_names(settings, file)
    flip = settings.flip_idx or list(range(len(names)))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    pictures = [p for folder in folders for p in sorted(folder.rglob("*")) if p.suffix.lower() in PICTURES]
    if not pictures:
        raise UserError(f"{folders[0]}: no pictures in it; {file} names this folder")
    found = 0
    for number, picture in enumerate(pictures, 1):
        width, height = _size(picture)
        file_name = Path(os.path.relpath(picture, file.parent)).as_posix()
        size = {"width": width, "height": height, "as_shown": True}
        images.append({"id": number, "file_name": file_name, **size})
        labels = _label_file(picture)
        if labels.is_file():  # a picture without a labels file shows no person
            found += 1
            for line_number, line in enumerate(read_text(labels).splitlines(), 1):
                if line.strip():
                    person = _person(line, f"{labels}: line {line_number}", settings.kpt_shape, (width, height))
                    annotations.append(person | {"id": len(annotations) + 1, "image_id": number})
    if not found:
        raise UserError(f"{_label_file(pictures[0])}: no such file, and none for any other picture of {folders[0]}")
    classes = settings.names if isinstance(settings.names, dict) else dict(enumerate(settings.names))
    category = {
        "keypoints": names,
        "skeleton": [],
        "flip_pairs": [[names[i], names[j]] for i, j in enumerate(flip) if i < j],
    }
    categories = [category | {"id": index + 1, "name": name} for index, name in classes.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _label_file(picture: Path) -> Path:
    """Return the text file of a picture: in the folder ``labels`` instead of ``images``, else beside the picture."""
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    there, beside = Path(*parts).with_suffix(".txt"), picture.with_suffix(".txt")
    return beside if beside.is_file() and not there.is_file() else there  # "images" may be far above the data


def _size(picture: Path) -> tuple[int, int]:
    """Return width and height of a picture as it is shown."""
    require("PIL", "yolo", str(picture))
    from PIL import Image  # an optional dependency, which reads the header only

    try:
        with Image.open(picture) as image:
            turned = image.getexif().get(0x0112, 1) in TURNED
            return image.size[::-1] if turned else image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{picture}: not a picture that can be read ({error})") from error


def _person(line: str, where: str, kpt_shape: tuple[int, int], size_wh: tuple[int, int]) -> dict[str, Any]:
    """Return the COCO annotation of one line, in pixels."""
    K, dimensions = kpt_shape
    width, height = size_wh
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        raise UserError(f"{where} is not a list of numbers") from None
    if len(values) != 5 + K * dimensions:
        raise UserError(f"{where} has {len(values)} numbers; class, box and {K} joints are {5 + K * dimensions}")
    if not all(map(math.isfinite, values)) or max(map(abs, values[1:5])) > 2:
        raise UserError(f"{where}: coordinates must be fractions of the picture, 0 to 1")
    x, y, w, h = values[1] * width, values[2] * height, values[3] * width, values[4] * height
    keypoints: list[float] = []
    for start in range(5, len(values), dimensions):
        joint_x, joint_y, *flag = values[start : start + dimensions]
        seen = int(flag[0]) if flag else 2 * (joint_x != 0 or joint_y != 0)  # (0, 0): not labelled
        keypoints += [joint_x * width, joint_y * height, seen] if seen > 0 else [0, 0, 0]
    return {
        "category_id": int(values[0]) + 1,
        "bbox": [x - w / 2, y - h / 2, w, h],
        "area": w * h,
        "iscrowd": 0,
        "keypoints": keypoints,
    }
