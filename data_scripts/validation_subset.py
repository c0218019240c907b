"""Write the annotations of the validation persons on which the shipped weights are measured.

    python data_scripts/validation_subset.py coco data/coco
    lgmpose eval --data coco:data/coco --annotations data/coco/annotations/person_keypoints_val2017_350.json

    python data_scripts/validation_subset.py mpii data/mpii
    lgmpose eval --data mpii:data/mpii --annotations data/mpii/mpii_val_216.json

COCO: 350 pictures of val2017; 2,110 others were in the training. MPII: 216 of the 2,958 usual validation persons,
after ``lgmpose data mpii``. The lists are coco_val_350.txt (ids) and mpii_val_216.txt (places in mpii_val.json, and
pictures).
"""

import argparse
import json
from pathlib import Path
from typing import Any

from lgmpose.errors import UserError, run_script
from lgmpose.files import as_type, read_json, write_atomically

LISTS = {"coco": Path(__file__).with_name("coco_val_350.txt"), "mpii": Path(__file__).with_name("mpii_val_216.txt")}


def coco(folder: Path) -> Path:
    """Write the file beside COCO's own, and return its path.

    Raises:
        UserError: COCO's file is missing or damaged, or lacks some of the pictures.
    """
    source = folder / "annotations" / "person_keypoints_val2017.json"
    content = as_type(read_json(source), dict[str, list | dict], f"{source}: not COCO's annotations")
    wanted = set(map(int, LISTS["coco"].read_text().split()))
    for name, key in (("images", "id"), ("annotations", "image_id")):
        entries = as_type(content.get(name), list[dict[str, Any]], f"{source}: has no list of {name}")
        content[name] = [entry for entry in entries if entry.get(key) in wanted]
    if (found := len(content["images"])) < len(wanted):
        raise UserError(f"{source}: has only {found} of the {len(wanted)} pictures; take COCO's own file of val2017")
    return _write(source.with_name("person_keypoints_val2017_350.json"), content)


def mpii(folder: Path) -> Path:
    """Write the file beside ``mpii_val.json``, and return its path.

    Raises:
        UserError: the list is missing or damaged, or its persons are in another order.
    """
    source = folder / "mpii_val.json"
    persons = as_type(read_json(source), list[dict[str, Any]], f"{source}: not a list of persons")
    wanted = [line.split() for line in LISTS["mpii"].read_text().splitlines()]
    if len(persons) != 2958 or any(persons[int(place)].get("image") != picture for place, picture in wanted):
        raise UserError(f"{source}: not the 2,958 persons in their usual order; write it by lgmpose data mpii")
    return _write(source.with_name("mpii_val_216.json"), [persons[int(place)] for place, _ in wanted])


def _write(target: Path, content: dict | list) -> Path:
    write_atomically(target, json.dumps(content).encode())
    print(f"wrote {target}")
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=LISTS)
    parser.add_argument("folder", type=Path, help="folder of the data set")
    args = parser.parse_args()
    run_script(lambda: {"coco": coco, "mpii": mpii}[args.kind](args.folder))
