"""Write the boxes of COCO's persons without joints as a detection file, for a training with a teacher.

    python data_scripts/unlabelled_boxes.py data/coco/annotations/person_keypoints_train2017.json boxes.json

Name the file as ``detections`` of an entry of a list of data sets (docs/own_pictures.md). Crowds and boxes whose longer
side is below 32 pixels are left out.
"""

import argparse
import json
from pathlib import Path

import msgspec

from lgmpose.errors import run_script
from lgmpose.files import as_type, read_json, write_atomically
from lgmpose.metrics.coco_format import Id, whole_ids

LEAST_SIDE = 32  # pixels


class Entry(msgspec.Struct):
    """One entry of ``annotations``."""

    image_id: Id
    category_id: Id
    bbox: tuple[float, float, float, float]
    keypoints: list[float] | None = None
    num_keypoints: int | None = None
    iscrowd: int | bool | None = 0

    @property
    def has_joints(self) -> bool:
        """Whether a joint is labelled, also where the file does not count them."""
        return bool(any((self.keypoints or [])[2::3]) if self.num_keypoints is None else self.num_keypoints)


class AnnotationFile(msgspec.Struct):
    """COCO's annotations; what else is in the file is not read."""

    annotations: list[Entry]


def main(annotations: Path, out: Path) -> None:
    """Write the file and print how many boxes it has.

    Raises:
        UserError: the annotations are missing or damaged, or the file cannot be written.
    """
    content = read_json(annotations)
    if isinstance(content, dict):
        content = content | {"annotations": whole_ids(content.get("annotations"))}
    file = as_type(content, AnnotationFile, f"{annotations}: not COCO's annotations")
    boxes = [
        {"image_id": entry.image_id, "category_id": entry.category_id, "bbox": entry.bbox, "score": 1.0}
        for entry in file.annotations
        if not entry.iscrowd and not entry.has_joints and max(entry.bbox[2:]) >= LEAST_SIDE
    ]
    write_atomically(out, json.dumps(boxes).encode())
    print(f"{out}: {len(boxes)} boxes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("annotations", type=Path, help="COCO's annotations")
    parser.add_argument("out", type=Path, help="detection file to write")
    args = parser.parse_args()
    run_script(lambda: main(args.annotations, args.out))
