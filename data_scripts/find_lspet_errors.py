"""Find wrong labels of Leeds Sports Pose Extended: where two networks agree with each other, but not with the label.

    python data_scripts/find_lspet_errors.py lspet_dataset.zip --teacher tinypose_256x192.param --out runs/lspet-errors

Three kinds of changes are proposed for the training persons. Validation and test persons keep their labels.

* ``exchanged``: both networks find the left joint where the right one is labelled, and the right where the left is.
* ``moved``: both find the joint far from its label.
* ``filled``: both find a joint without a label.

The folder then holds ``changes.json``, which ``--data lspet-corrected:PATH`` applies after it is copied to
``lgmpose/data/lspet_changes.json``, and ``sheet-*.png``: a random sample of each kind to look at, with the label in red
and the change in green. After an interruption, the same command resumes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import tyro

from lgmpose.data import load_records
from lgmpose.data.images import read_image
from lgmpose.data.lspet import picture_checksums
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError, run_script
from lgmpose.files import open_atomically, write_atomically
from lgmpose.training.distill import open_teacher, teach

CHUNK = 500  # persons whose predictions are saved together
RED, GREEN, GREY = (235, 60, 60), (60, 220, 90), (190, 190, 190)
CELL = 380  # pixels, side of a picture on a sheet


@dataclass(frozen=True)
class Arguments:
    """Find wrong labels of LSPET."""

    lspet: tyro.conf.Positional[Path]  # lspet_dataset.zip, or the folder it was unpacked to
    teacher: str  # see `lgmpose train --help`
    weights: str = "lgm-pose-coco-256x192.onnx"  # the other network
    out: Path = Path("runs/lspet-errors")
    # distances in shares of the longer side of the box around the person's labels; scores are heights of peaks
    near: float = 0.06  # the networks agree with each other, or with a label
    far: float = 0.15  # a label is wrong
    apart: float = 0.12  # least distance of a left and a right joint that are exchanged
    score: float = 0.5  # least score of both networks for exchanged and moved joints
    fill_score: float = 0.5  # the same for filled joints
    sample: int = 36  # changes of each kind on the sheets
    seed: int = 0  # of the sample


def predictions(name: str, record_set: RecordSet, folder: Path) -> np.ndarray:
    """Return a network's peaks (n, 14, 3) x, y, height: from the folder, or predicted at four rotations and saved."""
    folder.mkdir(parents=True, exist_ok=True)
    network, parts = None, []
    for start in range(0, len(record_set), CHUNK):
        file = folder / f"{start:05d}.npy"
        persons = replace(record_set, records=record_set.records[start : start + CHUNK])
        if not file.is_file():
            network = network or open_teacher(name)
            print(f"{folder.name}: persons {start + 1} to {start + len(persons)} of {len(record_set)}", flush=True)
            with open_atomically(file) as out:
                np.save(out, teach(network, persons, turns=True))
        parts.append(np.load(file))
        if len(parts[-1]) != len(persons):
            raise UserError(f"{file}: of other data; delete {folder}")
    return np.concatenate(parts)


def find_changes(record: PersonRecord, peaks: np.ndarray, pairs: list[tuple[int, int]], limits: Arguments) -> dict:
    """Return kind → changes of one person.

    Args:
        record: the person.
        peaks: (2, 14, 3), x, y and height of both networks.
        pairs: left and right joints.
        limits: the thresholds.

    Returns:
        ``exchanged``: lists of two joints; ``moved`` and ``filled``: lists of joint, x, y.
    """
    labels, labelled = record.keypoints_xy, record.visibility > 0
    size = float(np.ptp(labels[labelled], axis=0).max())
    xy, heights = peaks[..., :2], peaks[..., 2].min(axis=0)
    agreed = np.linalg.norm(xy[0] - xy[1], axis=-1) < limits.near * size
    middle = xy.mean(axis=0)
    sure = agreed & (heights >= limits.score)
    changes: dict[str, list] = {"exchanged": [], "moved": [], "filled": []}
    done = set()
    for a, b in pairs:
        if not (sure[a] and sure[b] and labelled[a] and labelled[b]):
            continue
        crossed = max(np.linalg.norm(labels[a] - middle[b]), np.linalg.norm(labels[b] - middle[a])) / size
        if crossed < limits.near and np.linalg.norm(middle[a] - middle[b]) > limits.apart * size:
            changes["exchanged"].append([a, b])
            done |= {a, b}
    wrong = np.linalg.norm(labels - middle, axis=-1) > limits.far * size
    for joint in np.flatnonzero(sure & labelled & wrong):
        if joint not in done:
            changes["moved"].append([int(joint), *middle[joint].round().astype(int).tolist()])
    right = labelled & ~wrong & (heights > 0)
    if right.sum() >= 0.5 * (labelled & (heights > 0)).sum():  # else the networks may see another person
        for joint in np.flatnonzero(agreed & ~labelled & (heights >= limits.fill_score)):
            changes["filled"].append([int(joint), *middle[joint].round().astype(int).tolist()])
    return {kind: found for kind, found in changes.items() if found}


def draw(record: PersonRecord, kind: str, change: list, edges: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the person: all labels grey, a label that is changed red, the change green."""
    labels, labelled = record.keypoints_xy, record.visibility > 0
    image = read_image(record.image, apply_exif=False)
    shown = np.concatenate([labels[labelled], [change[1:]]] if kind != "exchanged" else [labels[labelled]])
    margin = 0.15 * np.ptp(shown, axis=0).max() + 5
    (left, top), (right, bottom) = (shown.min(0) - margin).clip(0).astype(int), (shown.max(0) + margin).astype(int)
    image = image[top:bottom, left:right]
    scale = CELL / max(image.shape[:2])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)

    def at(xy: np.ndarray | list) -> tuple[int, int]:
        x, y = (np.asarray(xy) - (left, top)) * scale
        return int(x), int(y)

    for a, b in edges:
        if labelled[a] and labelled[b]:
            cv2.line(image, at(labels[a]), at(labels[b]), GREY, 1, cv2.LINE_AA)
    if kind == "exchanged":
        for joint, letter in zip(change, "RL", strict=True):  # of the new sides: the first is the left joint's label
            cv2.circle(image, at(labels[joint]), 4, GREEN, -1, cv2.LINE_AA)
            cv2.putText(image, letter, at(labels[joint] + 5 / scale), cv2.FONT_HERSHEY_SIMPLEX, 0.6, GREEN, 2)
    else:
        if kind == "moved":
            cv2.line(image, at(labels[change[0]]), at(change[1:]), RED, 1, cv2.LINE_AA)
            cv2.circle(image, at(labels[change[0]]), 4, RED, -1, cv2.LINE_AA)
        cv2.circle(image, at(change[1:]), 4, GREEN, -1, cv2.LINE_AA)
    cell = np.zeros((CELL + 16, CELL, 3), np.uint8)
    cell[: image.shape[0], : image.shape[1]] = image[:CELL, :CELL]
    return cell


def save_sheets(record_set: RecordSet, found: list[dict], limits: Arguments) -> None:
    """Draw the sample of each kind, 12 pictures per sheet."""
    names = record_set.skeleton.joint_names
    for kind in ("exchanged", "moved", "filled"):
        every = [(person, change) for person, changes in enumerate(found) for change in changes.get(kind, [])]
        order = np.random.default_rng(limits.seed).permutation(len(every))[: limits.sample]
        cells = []
        for number, i in enumerate(order):
            person, change = every[i]
            record = record_set.records[person]
            cell = draw(record, kind, change, record_set.skeleton.edges)
            text = f"{number + 1}: {record.id} {names[change[0]]}"
            cv2.putText(cell, text, (3, CELL + 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
            cells.append(cell)
        for sheet in range(0, len(cells), 12):
            some = cells[sheet : sheet + 12]
            some += [np.zeros_like(some[0])] * (-len(some) % 4)
            rows = [np.concatenate(some[i : i + 4], axis=1) for i in range(0, len(some), 4)]
            picture = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
            data = cv2.imencode(".png", picture)[1].tobytes()
            write_atomically(limits.out / f"sheet-{kind}-{sheet // 12 + 1}.png", data)


def main(arguments: Arguments) -> None:
    """Predict, compare with the labels, and write the changes and the sheets.

    Raises:
        UserError: bad data or networks, or one network given twice.
    """
    if Path(arguments.teacher).stem == Path(arguments.weights).stem:
        raise UserError(f"{arguments.teacher} and {arguments.weights}: give two networks with different file names")
    record_set = load_records(f"lspet3:{arguments.lspet}", "train")
    networks = (arguments.teacher, arguments.weights)
    peaks = np.stack([predictions(name, record_set, arguments.out / Path(name).stem) for name in networks])
    names = record_set.skeleton.joint_names
    pairs = [(names.index(f"left_{name[6:]}"), i) for i, name in enumerate(names) if name.startswith("right_")]
    found = [find_changes(record, peaks[:, i], pairs, arguments) for i, record in enumerate(record_set.records)]
    checksums = picture_checksums(arguments.lspet)
    pictures = {f"{checksums[r.id - 1]:08x}": c for r, c in zip(record_set.records, found, strict=True) if c}
    write_atomically(arguments.out / "changes.json", (json.dumps(pictures, separators=(",", ":")) + "\n").encode())
    save_sheets(record_set, found, arguments)
    for kind in ("exchanged", "moved", "filled"):
        count = sum(len(changes.get(kind, [])) for changes in found)
        print(f"{kind}: {count:,} {'pairs' if kind == 'exchanged' else 'joints'}")
    print(f"{len(pictures):,} of {len(record_set):,} pictures have changes; written: {arguments.out}/changes.json")


if __name__ == "__main__":
    run_script(lambda: main(tyro.cli(Arguments)))
