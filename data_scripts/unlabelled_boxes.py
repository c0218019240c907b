"""Write the boxes of COCO's persons without joints as a detection file, for a training with a teacher.

    python data_scripts/unlabelled_boxes.py data/coco/annotations/person_keypoints_train2017.json boxes.json

Name the file as ``detections`` of an entry of a list of data sets (docs/own_pictures.md). Crowds and boxes whose longer
side is below 32 pixels are left out.
"""

import json
import sys
from pathlib import Path

from lgmpose.files import read_json

LEAST_SIDE = 32  # pixels


def main(annotations: Path, out: Path) -> None:
    """Write the file and print how many boxes it has."""
    boxes = [
        {"image_id": entry["image_id"], "category_id": entry["category_id"], "bbox": entry["bbox"], "score": 1.0}
        for entry in read_json(annotations)["annotations"]
        if not entry.get("iscrowd") and not entry.get("num_keypoints") and max(entry["bbox"][2:]) >= LEAST_SIDE
    ]
    out.write_text(json.dumps(boxes), encoding="utf-8")
    print(f"{out}: {len(boxes)} boxes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
