"""Leeds Sports Pose Extended (Johnson and Everingham, CVPR 2011): sports pictures from Flickr, one person each.

The official archive holds ``joints.mat`` with ``joints`` of shape (14, 3, n), that is x, y, flag in 1-based MATLAB
pixels, and ``images/im00001.jpg`` and so on. There is no official split; ours holds out 500 persons for validation, and
``lspet3`` another 500 for a test. ``lspet-corrected`` is ``lspet3`` with corrected labels of training persons. The
coordinates of joints whose flag is 0 are arbitrary.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from lgmpose.data.images import ZIP_ERRORS, ZIP_SEPARATOR
from lgmpose.data.matlab import load_mat
from lgmpose.data.records import PADDING, PersonRecord, RecordSet, check_records
from lgmpose.errors import UserError, notice_once
from lgmpose.files import read_json
from lgmpose.pose.geometry import box_around_points, box_to_center_size
from lgmpose.pose.skeletons import LSP

__all__ = ["CHANGES", "NUM_VALIDATION", "TEST_LIST", "VAL_LIST", "load_lspet", "picture_checksums", "split_lspet"]

NUM_VALIDATION = 500
VAL_LIST = Path(__file__).with_name("lspet_val_500.txt")
# Drawn by content: the smallest CRC-32s of the training pictures without a near-duplicate. The shipped weights were
# trained on them, so they are a test only for trainings on ``lspet3``.
TEST_LIST = Path(__file__).with_name("lspet_test_500.txt")
# Corrections of training labels, by the CRC-32 of the picture; see data_scripts/find_lspet_errors.py.
CHANGES = Path(__file__).with_name("lspet_changes.json")
SPLIT_SEED = 0


def split_lspet(checksums: list[int], seed: int = SPLIT_SEED) -> tuple[list[int], list[int]]:
    """Return the indices (0-based) of the training and the validation persons.

    The package holds the CRC-32 of each of the 500 validation pictures, which were drawn once from the pictures without
    a near-duplicate. So they are recognised by their content, whatever their names are and whatever other pictures
    there are. If the set has none of them, validation pictures are drawn by the seed, and one line on stderr says so.
    """
    known = _listed(VAL_LIST)
    validation = [i for i, checksum in enumerate(checksums) if checksum in known]
    if not validation:
        order = np.random.default_rng(seed).permutation(len(checksums))
        validation = sorted(order[: min(NUM_VALIDATION, len(order) // 2)].tolist())
        notice_once(
            f"LSPET: none of the {len(checksums)} pictures is one of the known {NUM_VALIDATION} validation pictures; "
            f"{len(validation)} others are drawn for the validation, so figures cannot be compared with the package's"
        )
    chosen = set(validation)
    return [i for i in range(len(checksums)) if i not in chosen], validation


def _listed(path: Path) -> set[int]:
    """Return the checksums in a list of pictures."""
    return {int(line, 16) for line in path.read_text().splitlines() if not line.startswith("#")}


def load_lspet(
    path: str | Path, split: str = "train", *, hold_out_test: bool = False, corrected: bool = False
) -> RecordSet:
    """Load LSPET from its zip or from a folder with the same content.

    Args:
        path: ``lspet_dataset.zip`` or the folder it was unpacked to.
        split: ``train``, ``val``, ``test`` or ``all``.
        hold_out_test: leave the 500 test persons out of ``train``.
        corrected: apply ``CHANGES``. They change no label of a validation or test person.

    Returns:
        One record per person with at least two labelled joints; centre and extent from the labelled joints.

    Raises:
        UserError: The data are missing, cut short or of another shape.
    """
    path = Path(path)
    joints, images, checksums = _read(path)
    if split not in ("train", "val", "test", "all"):
        raise UserError(f"lspet has no split {split!r}; choose train, val, test or all")
    chosen = list(range(len(images))) if split == "all" else split_lspet(checksums)[split == "val"]
    if split == "test" or (split == "train" and hold_out_test):
        listed = _listed(TEST_LIST)
        chosen = [i for i in chosen if (checksums[i] in listed) == (split == "test")]
    if not chosen:
        raise UserError(f"{path}: holds none of the persons of the split {split}, which are known by their pictures")
    changes = read_json(CHANGES) if corrected else {}
    records, changed = [], 0
    for i in chosen:
        xy, flag = joints[:, :2, i] - 1.0, joints[:, 2, i] > 0  # MATLAB counts from 1
        if change := changes.get(f"{checksums[i]:08x}"):
            changed += _apply_change(xy, flag, change)
        if flag.sum() < 2:
            continue
        box = box_around_points(xy[flag])
        center_xy, size_wh = box_to_center_size(box, PADDING)
        records.append(
            PersonRecord(
                image=images[i],
                center_xy=center_xy,
                size_wh=size_wh,
                keypoints_xy=xy,
                visibility=np.where(flag, 2, 0),
                id=i + 1,
                image_id=i + 1,
                area=float(box[2] * box[3]),
            )
        )
    left_out = len(chosen) - len(records)
    notes = {"fewer than two labelled joints": left_out} if left_out else {}
    if changed:
        notes["joints with a corrected label"] = changed
    name = f"{'lspet-corrected' if corrected else 'lspet3' if hold_out_test else 'lspet'}-{split}"
    record_set = RecordSet(name, LSP, tuple(records), "ground-truth boxes (around the joints)", notes=notes)
    return check_records(record_set, path)


def _apply_change(xy: np.ndarray, flag: np.ndarray, change: dict[str, list]) -> int:
    """Correct the labels (14, 2) and flags (14,) of one person in place; return how many joints were corrected.

    ``change`` has pairs of joints that are ``exchanged``, and rows of joint, x, y that are ``moved`` or ``filled``.
    """
    for a, b in change.get("exchanged", []):
        xy[[a, b]], flag[[a, b]] = xy[[b, a]], flag[[b, a]]
    rows = change.get("moved", []) + change.get("filled", [])
    for joint, x, y in rows:
        xy[joint], flag[joint] = (x, y), True
    return 2 * len(change.get("exchanged", [])) + len(rows)


def picture_checksums(path: str | Path) -> list[int]:
    """Return the CRC-32 of each picture's file, in the order of their names."""
    return _read(Path(path))[2]


def _read(path: Path) -> tuple[np.ndarray, list[str], list[int]]:
    """Return joints (14, 3, n) float64, the pictures' paths sorted by name, and the CRC-32 of their files."""
    if path.is_dir():
        data, images, checksums = _read_folder(path)
    elif path.is_file():
        data, images, checksums = _read_zip(path)
    else:
        raise UserError(
            f"{path}: no such file or folder; LSPET comes from https://sam.johnson.io/research/lspet.html "
            "(see `lgmpose data lspet --help`)"
        )
    joints = load_mat(io.BytesIO(data), f"{path}: joints.mat").get("joints")
    if joints is None or joints.dtype.kind not in "fiu" or joints.ndim != 3 or joints.shape[:2] != (14, 3):
        found = "no array 'joints'" if joints is None else f"'joints' of shape {joints.shape}, type {joints.dtype}"
        raise UserError(f"{path}: joints.mat holds {found}; expected (14, 3, n), the extended LSP format")
    if joints.shape[2] != len(images):
        raise UserError(f"{path}: joints.mat describes {joints.shape[2]} persons, but there are {len(images)} pictures")
    return joints.astype(np.float64), images, checksums


def _read_folder(path: Path) -> tuple[bytes, list[str], list[int]]:
    mat_file = next((p for p in (path / "joints.mat", path / "lspet_dataset" / "joints.mat") if p.is_file()), None)
    if mat_file is None:
        raise UserError(f"{path}: no joints.mat in it; unpack the official lspet_dataset.zip there")
    pictures = sorted((mat_file.parent / "images").glob("im*.jpg"))
    return mat_file.read_bytes(), [str(p) for p in pictures], [zlib.crc32(p.read_bytes()) for p in pictures]


def _read_zip(path: Path) -> tuple[bytes, list[str], list[int]]:
    if path.suffix != ".zip":
        raise UserError(f"{path}: expected a file that ends in .zip")
    try:
        with zipfile.ZipFile(path) as archive:
            checksums = {info.filename: info.CRC for info in archive.infolist()}
            mat_name = next((name for name in checksums if name.split("/")[-1] == "joints.mat"), None)
            if mat_name is None:
                raise UserError(f"{path}: holds no joints.mat, so it is not the LSPET archive")
            data = archive.read(mat_name)
    except (OSError, *ZIP_ERRORS) as error:
        raise UserError(
            f"{path}: not a whole zip ({error}); fetch lspet_dataset.zip again with `lgmpose data lspet`"
        ) from error
    folder = mat_name.removesuffix("joints.mat") + "images/"
    names = sorted(name for name in checksums if name.startswith(folder) and name.endswith(".jpg"))
    prefix = str(path).removesuffix(".zip") + ZIP_SEPARATOR
    return data, [prefix + name for name in names], [checksums[name] for name in names]
