"""Derive which persons make up MPII's standard validation split (lgmpose/data/mpii_val_2958.csv).

Usage: python data_scripts/derive_mpii_split.py --truth val_truth_2958.mat --joints joints_a.csv joints_b.csv --out FILE
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

import numpy as np

from lgmpose.data.mpii import MATCH_PX
from lgmpose.data.mpii_split import VAL_LIST, find_persons
from lgmpose.data.mpii_truth import load_mpii_truth
from lgmpose.errors import UserError, run_script
from lgmpose.files import read_text, write_atomically

UPPER_NECK = 8


def read_joint_tables(paths: list[Path]) -> tuple[list[str], np.ndarray]:
    """Return picture names and (n, 16, 2) 1-based joints from tables of lines ``picture, x0, y0, … x15, y15``.

    The tables hold only persons with all 16 joints labelled; a negative coordinate is a joint outside the picture.
    """
    names, joints = [], []
    for path in paths:
        for number, line in enumerate(csv.reader(io.StringIO(read_text(path), newline="")), start=1):
            if len(line) != 33:
                raise UserError(f"{path}: line {number} has {len(line)} fields instead of 33")
            names.append(line[0])
            try:
                joints.append([float(cell) for cell in line[1:]])
            except ValueError as error:
                raise UserError(f"{path}: line {number} has a coordinate that is no number ({error})") from error
    return names, np.array(joints, np.float64).reshape(-1, 16, 2)


def derive_split(truth_path: Path, table_paths: list[Path]) -> tuple[list[list], dict[str, int]]:
    """Find every validation person in the tables by joint coordinates.

    Returns:
        One line per validation person in the order of the truth (picture or '', then joint, x, y twice), and counts.
    """
    truth = load_mpii_truth(truth_path)
    names, table = read_joint_tables(table_paths)
    # The truth has some labelled coordinates overwritten with 0; those joints identify nobody.
    usable = (truth.visibility > 0) & (truth.keypoints_xy_1based > 0.5).all(2)
    counts = {"by all 16 joints": 0, "by all but overwritten joints": 0, "not in the tables": 0, "ambiguous": 0}
    lines, taken = [], set()
    for points, own_usable in zip(truth.keypoints_xy_1based, usable, strict=True):
        found = find_persons(table, np.flatnonzero(own_usable), points[own_usable])
        if len(found) > 1 or taken & set(found.tolist()):
            counts["ambiguous"] += 1
            found = found[:0]
        taken |= set(found.tolist())
        if len(found):
            whole = (np.abs(table[found[0]] - points) <= MATCH_PX).all()
            counts["by all 16 joints" if whole else "by all but overwritten joints"] += 1
        else:
            counts["not in the tables"] += 1
        # The upper neck comes first: computed from the head box, its fractions of a pixel make it nearly unique.
        joints = sorted(np.flatnonzero(own_usable), key=lambda joint: joint != UPPER_NECK)[:2]
        line = [names[found[0]] if len(found) else ""]
        for joint in joints:
            line += [int(joint), *(f"{value:.2f}".rstrip("0").rstrip(".") for value in points[joint])]
        lines.append(line)
    return lines, counts


def write_val_list(lines: list[list], path: Path) -> None:
    """Write the list as ``read_val_list`` reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "joint_a", "x_a", "y_a", "joint_b", "x_b", "y_b"])
    writer.writerows(lines)
    write_atomically(path, text.getvalue().encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--truth", type=Path, required=True, help="val_truth_2958.mat (gt_valid.mat)")
    parser.add_argument("--joints", type=Path, nargs="+", required=True, help="tables of all persons' joints (CSV)")
    parser.add_argument("--out", type=Path, default=VAL_LIST, help="list to write (default: the package's own)")
    args = parser.parse_args()
    lines, counts = derive_split(args.truth, args.joints)
    write_val_list(lines, args.out)
    print(f"{args.out}: {len(lines)} persons; pictures found {counts}")


if __name__ == "__main__":
    run_script(main)
