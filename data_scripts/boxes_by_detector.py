"""Label people in pictures by a detector, to train another detector on more pictures (`lgmpose train-detector`).

    python data_scripts/boxes_by_detector.py PICTURES boxes.json --detector rtmdet_nano.onnx --add labelled.json

Writes a COCO file. Boxes with a score of 0.5 or more are persons. Those with 0.3 to 0.5 may be persons: they are marked
as crowds, which the training ignores. ``--add`` joins the pictures and boxes of a labelled COCO file. Its pictures and
PICTURES must then lie in one folder, for example as links. Pictures that the file has already are not labelled again.
Unreadable pictures are left out and counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import tyro
from tqdm import tqdm

from lgmpose.data.images import read_image
from lgmpose.errors import UserError, run_script
from lgmpose.files import as_type, check_writable, read_json, write_atomically
from lgmpose.inference.detectors import detect_people, open_detector
from lgmpose.metrics.coco_format import Category, Picture

SURE, POSSIBLE = 0.5, 0.3  # scores
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class Box(msgspec.Struct):
    """What is read of an entry of ``annotations``."""

    id: int
    category_id: int


class Labelled(msgspec.Struct):
    """What is read of a labelled COCO file."""

    images: list[Picture] = []
    categories: list[Category] = []
    annotations: list[Box] = []


@dataclass(frozen=True)
class Arguments:
    """Label people in pictures by a detector."""

    pictures: tyro.conf.Positional[Path]  # folder
    out: tyro.conf.Positional[Path]  # the COCO file to write
    detector: str  # yolox-nano, or an .onnx file
    add: Path | None = None  # COCO file whose pictures and boxes are joined


def main(arguments: Arguments) -> None:
    """Write the file, and print how many boxes it has.

    Raises:
        UserError: no picture, a bad detector or file, or a file that cannot be written.
    """
    check_writable(arguments.out)
    content = read_json(arguments.add) if arguments.add else {}
    known = as_type(content, Labelled, f"{arguments.add}: not a COCO annotation file", strict=True)
    person = next((category.id for category in known.categories if category.name == "person"), 1)
    images = list(content.get("images", []))
    boxes = [entry for entry in content.get("annotations", []) if entry["category_id"] == person]
    names = {image.file_name for image in known.images}
    files = sorted(file for file in arguments.pictures.iterdir() if file.suffix.lower() in SUFFIXES)
    files = [file for file in files if file.name not in names]
    if not files:
        raise UserError(f"{arguments.pictures}: has no picture to label ({', '.join(SUFFIXES)})")
    detector = open_detector(arguments.detector)
    image_id = max((image.id for image in known.images), default=0)
    box_id = max((box.id for box in known.annotations), default=0)
    sure = possible = unread = 0
    for file in tqdm(files, desc="label", unit="picture"):
        try:
            picture = read_image(file)
        except UserError as error:
            tqdm.write(f"left out: {error}")
            unread += 1
            continue
        image_id += 1
        images.append({"id": image_id, "file_name": file.name, "height": picture.shape[0], "width": picture.shape[1]})
        for (x, y, width, height), score in zip(*detect_people(detector, picture), strict=True):
            if score < POSSIBLE:
                continue
            box_id, is_sure = box_id + 1, score >= SURE
            sure, possible = sure + is_sure, possible + (not is_sure)
            box = [round(float(value), 1) for value in (x, y, width, height)]
            boxes.append({
                "id": box_id, "image_id": image_id, "category_id": person, "bbox": box,
                "area": round(box[2] * box[3], 1), "iscrowd": int(not is_sure), "score": round(float(score), 3),
            })  # fmt: skip
    content = {"images": images, "annotations": boxes, "categories": [{"id": person, "name": "person"}]}
    write_atomically(arguments.out, json.dumps(content).encode())
    labelled = f"{len(files) - unread} pictures labelled" + (f", {unread} unreadable ones left out" if unread else "")
    print(f"{arguments.out}: {labelled}; {sure} persons and {possible} possible ones")


if __name__ == "__main__":
    run_script(lambda: main(tyro.cli(Arguments)))
