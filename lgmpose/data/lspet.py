"""Leeds Sports Pose Extended (Johnson and Everingham, CVPR 2011): sports pictures from Flickr, one person each.

The official archive holds ``joints.mat`` with ``joints`` of shape (14, 3, n), that is x, y, flag in 1-based MATLAB
pixels, and ``images/im00001.jpg`` … There is no official split; ours puts 500 persons aside. Joints flagged 0 carry
junk.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lgmpose.data.images import ZIP_SEPARATOR
from lgmpose.data.records import PADDING, PersonRecord, RecordSet, check_records
from lgmpose.errors import UserError
from lgmpose.pose.geometry import box_around_points, box_to_center_size
from lgmpose.pose.skeletons import LSP

__all__ = ["NUM_VALIDATION", "load_lspet", "split_lspet"]

NUM_VALIDATION = 500
VAL_LIST = Path(__file__).with_name("lspet_val_500.txt")
SPLIT_SEED = 0


def split_lspet(checksums: list[int], near_duplicates: Sequence[tuple[int, int]] = (), seed: int = SPLIT_SEED) -> tuple:
    """Indices (0-based) of the training and the validation persons.

    The 500 validation pictures are known by content, whatever they are called and however many others there are: the
    package holds the CRC-32 of each. (They were drawn once, by a seed, from the pictures without a near-duplicate.) A
    set that has none of them gets a split drawn in the same way.

    Args:
        checksums: CRC-32 of every picture's file.
        near_duplicates: pairs of 1-based picture numbers; where a split must be drawn, both members go to training.
        seed: for that draw.
    """
    known = {int(line, 16) for line in VAL_LIST.read_text().splitlines() if not line.startswith("#")}
    validation = [i for i, checksum in enumerate(checksums) if checksum in known]
    if not validation:
        held = {number - 1 for pair in near_duplicates for number in pair}
        order = np.random.default_rng(seed).permutation(len(checksums))
        candidates = [int(i) for i in order if int(i) not in held]
        validation = sorted(candidates[: min(NUM_VALIDATION, len(candidates) // 2)])
    chosen = set(validation)
    return [i for i in range(len(checksums)) if i not in chosen], validation


def load_lspet(path: str | Path, split: str = "train", *, near_duplicates: str | Path | None = None) -> RecordSet:
    """Reads LSPET from its zip or from a folder with the same content.

    Args:
        path: ``lspet_dataset.zip`` or the folder it was unpacked to.
        split: ``train``, ``val`` or ``all``.
        near_duplicates: JSON of pairs of 1-based picture numbers; by default ``<name>_near_duplicates.json`` beside
            the data, if there.

    Returns:
        One record per person with at least two labelled joints; centre and extent from the labelled joints.

    Raises:
        UserError: missing, truncated or misshapen data.
    """
    path = Path(path)
    if split not in ("train", "val", "all"):
        raise UserError(f"lspet has no split {split!r}; choose train, val or all")
    joints, names, checksums, prefix = _read(path)
    train, val = split_lspet(checksums, _read_pairs(path, near_duplicates))
    chosen = {"train": train, "val": val, "all": range(len(names))}[split]

    records, notes = [], {}
    for i in chosen:
        xy, flag = joints[:, :2, i] - 1.0, joints[:, 2, i] > 0  # MATLAB counts from 1
        if flag.sum() < 2:
            notes["fewer than two labelled joints"] = notes.get("fewer than two labelled joints", 0) + 1
            continue
        box = box_around_points(xy[flag])
        center_xy, size_wh = box_to_center_size(box, PADDING)
        records.append(
            PersonRecord(
                image=prefix + names[i],
                center_xy=center_xy,
                size_wh=size_wh,
                keypoints_xy=xy,
                visibility=np.where(flag, 2, 0),
                id=i + 1,
                image_id=i + 1,
                area=float(box[2] * box[3]),
            )
        )
    record_set = RecordSet(f"lspet-{split}", LSP, tuple(records), "ground-truth boxes (around the joints)", notes=notes)
    return check_records(record_set, path)


def _read(path: Path) -> tuple[np.ndarray, list[str], list[int], str]:
    """joints (14, 3, n) float64, sorted picture names, their files' CRC-32, and the prefix that makes a name a path."""
    if path.is_dir():
        mat_file = next((p for p in (path / "joints.mat", path / "lspet_dataset" / "joints.mat") if p.is_file()), None)
        if mat_file is None:
            raise UserError(f"{path}: no joints.mat in it; unpack the official lspet_dataset.zip there")
        data, folder = mat_file.read_bytes(), mat_file.parent
        names = sorted(f"images/{p.name}" for p in (folder / "images").glob("im*.jpg"))
        checksums = [zlib.crc32((folder / name).read_bytes()) for name in names]
        prefix = f"{folder}/"
    elif path.is_file():
        try:
            with zipfile.ZipFile(path) as archive:
                members = {info.filename: info.CRC for info in archive.infolist()}
                mat_name = next((name for name in members if name.split("/")[-1] == "joints.mat"), None)
                if mat_name is None:
                    raise UserError(f"{path}: holds no joints.mat, so it is not the LSPET archive")
                data = archive.read(mat_name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise UserError(
                f"{path}: not a whole zip ({error}); fetch lspet_dataset.zip again with `lgmpose data lspet`"
            ) from error
        root = mat_name[: -len("joints.mat")]
        names = sorted(name for name in members if name.startswith(f"{root}images/") and name.endswith(".jpg"))
        checksums = [members[name] for name in names]
        prefix = str(path)[: -len(".zip")] + ZIP_SEPARATOR if path.suffix == ".zip" else None
        if prefix is None:
            raise UserError(f"{path}: expected a file that ends in .zip")
    else:
        raise UserError(
            f"{path}: no such file or folder; LSPET comes from https://sam.johnson.io/research/lspet.html "
            "(see `lgmpose data lspet --help`)"
        )
    joints = _read_joints(data, path)
    if joints.shape[2] != len(names):
        raise UserError(f"{path}: joints.mat describes {joints.shape[2]} persons, but there are {len(names)} pictures")
    return joints, names, checksums, prefix


def _read_joints(data: bytes, path: Path) -> np.ndarray:
    from scipy.io import loadmat

    try:
        content = loadmat(io.BytesIO(data))
    except Exception as error:  # almost anything, as in files.load_mat
        raise UserError(f"{path}: joints.mat cannot be read ({error})") from error
    joints = content.get("joints")
    if joints is None or joints.dtype.kind not in "fiu" or joints.ndim != 3 or joints.shape[:2] != (14, 3):
        found = "no array 'joints'" if joints is None else f"'joints' of shape {joints.shape}, type {joints.dtype}"
        raise UserError(f"{path}: joints.mat holds {found}; expected (14, 3, n), the extended LSP format")
    return joints.astype(np.float64)


def _read_pairs(path: Path, near_duplicates: str | Path | None) -> list[tuple[int, int]]:
    if near_duplicates is None:
        near_duplicates = path.with_name(f"{path.stem}_near_duplicates.json")
        if not near_duplicates.is_file():
            return []
    try:
        return [(int(a), int(b)) for a, b in json.loads(Path(near_duplicates).read_text())]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{near_duplicates}: not a JSON list of pairs of picture numbers ({error})") from error
