"""Measure how good a network gets with few labelled persons: ``lgmpose lab few-pictures``.

The recipe ``few-pictures`` is trained on random draws of 10 to 500 persons. Trainings start from the shipped weights
and from random weights. They use the data's own joints, and six joints under names that the shipped weights do not
have. All networks are measured on the same validation persons by PCK@0.2, whose torso sizes come from the complete
labels.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from tabulate import tabulate

from lgmpose.data import load_records
from lgmpose.data.records import PADDING, RecordSet
from lgmpose.errors import UserError
from lgmpose.files import as_type, read_json, write_atomically
from lgmpose.lab.bench.measurement import check_output
from lgmpose.machine import MachineHeader, machine_header
from lgmpose.metrics import pck, pck_joints, torso_size
from lgmpose.training.recipe import TrainConfig, recipe

__all__ = ["STARTS", "FewPicturesConfig", "measure_few_pictures", "page", "train_on"]

# From random weights the trunk is not frozen, the rate is higher and the training twice as long.
STARTS: dict[str, dict[str, Any]] = {
    "weights": {},
    "scratch": {"init_weights": None, "freeze_epochs": 0, "learning_rate": 2e-3, "epochs": 24},
}
SIX_JOINTS = {  # joint of the data → a name that matches no joint of the weights
    "pelvis": "belt", "thorax": "collar", "left_elbow": "left_marker_a", "right_elbow": "right_marker_a",
    "left_knee": "left_marker_b", "right_knee": "right_marker_b",
}  # fmt: skip
JOINTS = {"all": None, "six": SIX_JOINTS}  # the data's own joints, or six of them under other names
BOOTSTRAP = 2000


class _Cell(msgspec.Struct):
    """One training."""

    joints: Literal["all", "six"]
    start: Literal["weights", "scratch"]
    persons: int
    draw: int
    pck: float
    correct: list[int]
    counted: list[int]
    seconds: float


class _Result(MachineHeader):
    """What is used of a result file."""

    cells: list[_Cell]


@dataclass(frozen=True)
class FewPicturesConfig:
    """What to measure.

    Raises:
        UserError: a number that is out of range.
    """

    data: str  # KIND:PATH of data with MPII's joints
    annotations: str | None = None  # annotation file for training, if it is not in its usual place
    val_annotations: str | None = None  # the same for validation
    persons: tuple[int, ...] = (10, 20, 50, 100, 200, 500)  # numbers of training persons, measured in this order
    draws: int = 3  # random draws of each number
    workers: int | None = None  # loader processes; None: chosen for this machine

    def __post_init__(self):
        if self.draws < 1 or not self.persons or min(self.persons) < 1:
            raise UserError(f"persons {self.persons} and draws {self.draws} must be at least 1")


def measure_few_pictures(config: FewPicturesConfig, json_file: Path) -> dict[str, Any]:
    """Train and measure all cells that ``json_file`` does not have yet, and write it and its page after each cell.

    Raises:
        UserError: bad data, or a file of another measurement.
    """
    from lgmpose.training.checkpoint import fingerprint  # PyTorch

    check_output(json_file)
    result: dict[str, Any] = machine_header() | {"cells": []}
    if json_file.exists():
        result = read_json(json_file)
        as_type(result, _Result, f"{json_file}: not a result of lgmpose lab few-pictures", strict=True)
    train_set = load_records(config.data, "train", annotations=config.annotations)
    val_set = load_records(config.data, "val", annotations=config.val_annotations)
    if max(config.persons) > len(train_set):
        raise UserError(f"{config.data}: has {len(train_set)} training persons, {max(config.persons)} are needed")
    data = {"train": fingerprint(train_set), "val": fingerprint(val_set)}
    sets = {"validation_persons": len(val_set), "training_persons": len(train_set), "data": data}
    if any(result.get(name, value) != value for name, value in sets.items()):  # older files have no "data"
        raise UserError(f"{json_file}: its cells were measured on other data than {config.data}; choose another --json")
    result |= sets
    done = {_key(cell) for cell in result["cells"]}
    # An interrupted measurement has all draws of the first numbers of persons.
    for persons, draw, joints, start in itertools.product(config.persons, range(config.draws), JOINTS, STARTS):
        cell = {"joints": joints, "start": start, "persons": persons, "draw": draw}
        if _key(cell) in done:
            continue
        chosen = np.random.default_rng(draw).permutation(len(train_set))[:persons]
        settings = recipe("few-pictures", **STARTS[start], seed=draw, workers=config.workers)
        cell |= train_on(train_set.subset(chosen), val_set, settings, renamed=JOINTS[joints])
        result["cells"].append(cell)
        write_atomically(json_file, json.dumps(result).encode())
        write_atomically(json_file.with_suffix(".md"), page(result).encode())
        print(f"{joints} joints, {start}, {persons} persons, draw {draw}: PCK@0.2 {cell['pck']:.1f} %, "
              f"{cell['seconds']:.0f} s", flush=True)  # fmt: skip
    return result


def _key(cell: dict[str, Any]) -> tuple:
    return cell["joints"], cell["start"], cell["persons"], cell["draw"]


def train_on(
    train_set: RecordSet, val_set: RecordSet, settings: TrainConfig, *, renamed: dict[str, str] | None = None
) -> dict[str, Any]:
    """Train on some persons and measure once, after the last epoch, on all validation persons.

    Args:
        train_set: the persons to train on.
        val_set: the persons to measure on; their complete labels give the torso sizes.
        settings: the recipe.
        renamed: the joints to train → their new names; None: all joints under their own names.

    Returns:
        ``pck`` in per cent, ``correct`` and ``counted`` joints of each validation person, and ``seconds``.
    """
    from lgmpose.training.trainer import train  # PyTorch

    skeleton = val_set.skeleton
    chosen = [skeleton.index(name) for name in renamed] if renamed else list(range(skeleton.num_keypoints))
    names = list(renamed.values()) if renamed else list(skeleton.joint_names)
    with tempfile.TemporaryDirectory(prefix="few-pictures-", ignore_cleanup_errors=True) as folder:
        files = {}
        for option, record_set in (("annotations", train_set), ("val_annotations", val_set)):
            files[option] = f"{folder}/{option}.json"
            Path(files[option]).write_text(json.dumps(_as_coco(record_set, chosen, names)))
        settings = replace(settings, data=f"coco:{folder}", eval_every=settings.epochs, **files)
        began = time.monotonic()
        evaluation = train(settings, f"{folder}/run", progress=False)
        seconds = time.monotonic() - began
    assert evaluation is not None and evaluation.predictions is not None
    truth = np.stack([record.keypoints_xy for record in val_set.records])
    visibility = np.stack([record.visibility for record in val_set.records])
    sizes = torso_size(truth, visibility, skeleton)
    joints = tuple(range(len(chosen))) if renamed else pck_joints(skeleton)
    result = pck(evaluation.predictions.keypoints_xy, truth[:, chosen], visibility[:, chosen], sizes, 0.2, joints)
    return {
        "pck": round(result.mean_percent, 3),
        "correct": result.correct[:, list(joints)].sum(1).tolist(),
        "counted": result.counted[:, list(joints)].sum(1).tolist(),
        "seconds": round(seconds, 1),
    }


def _as_coco(record_set: RecordSet, chosen: list[int], names: list[str]) -> dict[str, Any]:
    """Return a COCO file of persons with some of their joints, with the crops' boxes, one entry per picture."""
    import cv2

    numbers = {image: i for i, image in enumerate(dict.fromkeys(record.image for record in record_set.records))}
    images, annotations = [], []
    for image, number in numbers.items():
        height, width = cv2.imread(image).shape[:2]
        images.append({"id": number, "file_name": os.path.abspath(image), "height": height, "width": width})
    for i, record in enumerate(record_set.records):
        joints = np.column_stack([record.keypoints_xy, record.visibility])[chosen]
        joints[joints[:, 2] == 0] = 0
        size_wh = record.size_wh / PADDING
        annotations.append({
            "id": i, "image_id": numbers[record.image], "category_id": 1, "iscrowd": 0,
            "bbox": [*(record.center_xy - size_wh / 2), *size_wh], "keypoints": joints.ravel().tolist(),
        })  # fmt: skip
    new_name = dict(zip(chosen, names, strict=True))
    pairs = [[new_name[a], new_name[b]] for a, b in record_set.skeleton.flip_pairs if {a, b} <= new_name.keys()]
    category = {"id": 1, "name": "person", "keypoints": names, "skeleton": [], "flip_pairs": pairs}
    return {"images": images, "annotations": annotations, "categories": [category]}


def interval(cells: list[dict[str, Any]], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean of several draws, by drawing both the draws and the persons again."""
    rng = np.random.default_rng(seed)
    correct, counted = (np.array([cell[name] for cell in cells]) for name in ("correct", "counted"))
    draws, persons = correct.shape
    # How often each draw and each person is drawn again, in each of the repetitions.
    draws_B = rng.multinomial(draws, np.full(draws, 1 / draws), BOOTSTRAP)
    persons_B = rng.multinomial(persons, np.full(persons, 1 / persons), BOOTSTRAP)
    means = 100 * ((draws_B @ correct) * persons_B).sum(1) / ((draws_B @ counted) * persons_B).sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def page(result: dict[str, Any]) -> str:
    """Return the table of a result as Markdown."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for cell in result["cells"]:
        groups.setdefault((cell["persons"], cell["joints"], cell["start"]), []).append(cell)
    columns = [(joints, start) for joints in JOINTS for start in STARTS]
    draws, rows = max(map(len, groups.values()), default=0), []
    for persons in sorted({key[0] for key in groups}):
        row = [str(persons)]
        for joints, start in columns:
            cells = groups.get((persons, joints, start), [])
            if not cells:
                row.append("–")
                continue
            low, high = interval(cells)
            mean = np.mean([cell["pck"] for cell in cells])
            fewer = f"; {len(cells)}" if len(cells) < draws else ""
            row.append(f"{mean:.1f} ({low:.1f} … {high:.1f}{fewer})")
        rows.append(row)
    titles = {"all": "all joints", "six": "six new joints", "weights": "shipped weights", "scratch": "random weights"}
    header = ["labelled persons", *(f"{titles[joints]}, {titles[start]}" for joints, start in columns)]
    seconds = {start: [c["seconds"] for c in result["cells"] if c["start"] == start] for start in STARTS}
    times = ", ".join(f"{titles[start]} {np.median(values):.0f} s" for start, values in seconds.items() if values)
    return "\n".join([
        "# Few labelled persons, measured by `lgmpose lab few-pictures`", "",
        f"* {result['cpu']}, {result['cores']} cores; {result['system']}; {result['date']}; lgmpose "
        f"{result['lgmpose']}, commit {result['commit'] or 'unknown'}; Python {result['python']}",
        f"* PCK@0.2 in per cent on {result['validation_persons']} validation persons, after the last epoch. In "
        f"brackets: 95 % interval over draws and persons (bootstrap); {draws} draws, if no smaller number stands there",
        "* Recipe `few-pictures`, 128×128. From random weights: no frozen epoch, learning rate "
        f"{STARTS['scratch']['learning_rate']} and {STARTS['scratch']['epochs']} epochs",
        "* all joints: the mean of shoulders, elbows, wrists, hips, knees and ankles; six new joints: of all six",
        f"* Median time of a run: {times}", "", tabulate(rows, header, tablefmt="github"), "",
    ])  # fmt: skip
