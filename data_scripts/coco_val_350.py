"""Write the annotations of the 350 pictures of COCO's val2017 on which the shipped weights are measured.

    python data_scripts/coco_val_350.py data/coco
    lgmpose eval --data coco:data/coco --annotations data/coco/annotations/person_keypoints_val2017_350.json

2,110 other pictures of val2017 were in the training. The ids are in coco_val_350.txt.
"""

import json
import sys
from pathlib import Path

from lgmpose.errors import UserError
from lgmpose.files import read_json, write_atomically

IDS = Path(__file__).with_suffix(".txt")


def main(folder: Path) -> None:
    """Write the file beside COCO's own.

    Raises:
        UserError: COCO's file is missing or damaged, or lacks some of the pictures.
    """
    source = folder / "annotations" / "person_keypoints_val2017.json"
    content, wanted = read_json(source), set(map(int, IDS.read_text().split()))
    content["images"] = [image for image in content["images"] if image["id"] in wanted]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in wanted]
    if (found := len(content["images"])) < len(wanted):
        raise UserError(f"{source}: has only {found} of the {len(wanted)} pictures; take COCO's own file of val2017")
    target = source.with_name("person_keypoints_val2017_350.json")
    write_atomically(target, json.dumps(content).encode())
    print(f"{target}: {found} pictures, {len(content['annotations'])} annotations")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
