"""Data sets of several formats, all turned into one record type, then into crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lgmpose.errors import UserError

if TYPE_CHECKING:
    from lgmpose.data.boxes import BoxSet
    from lgmpose.data.mixture import Entry
    from lgmpose.data.records import RecordSet

__all__ = ["DATA_HELP", "KINDS", "SPLITS", "load_box_set", "load_records", "load_validation_sets"]

DATA_HELP = (
    "KIND:PATH, where KIND is coco, yolo, via, mpii, lspet, lspet3, lspet-corrected, synthetic or mix; e.g. "
    "lspet:data/lspet_dataset.zip, coco:data/coco, yolo:my_photos, mpii:data/mpii, synthetic:data/synthetic, "
    "mix:sets.toml"
)
SPLITS = ("train", "val", "test", "all")
SYNTHETIC_PICTURES = 600  # of the set that is drawn where none is; the last sixth is its validation part


def load_records(
    data: str,
    split: str = "train",
    *,
    detections: str | None = None,
    annotations: str | None = None,
    categories: Sequence[str] = (),
) -> RecordSet:
    """Load a data set named as on the command line.

    Args:
        data: see ``DATA_HELP``. ``synthetic`` draws the set if it is not there; its default path is ``data/synthetic``.
        split: ``train``, ``val``, ``test`` (LSPET only), or ``all`` for data without an official split.
        detections: COCO detection file to take boxes from instead of the ground truth (COCO only).
        annotations: annotation file to take instead of the usual one below PATH (COCO and MPII); VIA has no usual one.
            COCO's pictures may then be beside the file, or below PATH or PATH/images.
        categories: names of the categories to read (COCO only); see ``coco.load_coco``.

    Raises:
        UserError: The kind is unknown, or the data are missing or bad.
    """
    kind, _, path = data.partition(":")
    if kind not in KINDS or not (path or kind == "synthetic"):
        raise UserError(f"data {data!r}: expected {DATA_HELP}")
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; choose one of {', '.join(SPLITS)}")
    if split == "test" and kind not in ("lspet", "lspet3", "lspet-corrected"):
        raise UserError(f"{data}: {kind} data have no test split here; name their file by --annotations instead")
    if detections is not None and kind != "coco":
        raise UserError(f"{detections}: detector boxes belong to coco data, not to {kind}")
    if annotations is not None and kind not in ("coco", "mpii", "via"):
        raise UserError(f"{annotations}: {kind} data have their own annotations; coco, mpii and via take another file")
    if annotations is None and (kind == "via" or (kind in ("coco", "mpii") and split == "all")):
        raise UserError(f"{data}: name the annotation file for the split {split}: --annotations FILE")
    if categories and kind != "coco":
        raise UserError(f"categories {', '.join(categories)}: are chosen in coco data, not in {kind}")
    if categories:
        return _coco(path, split, annotations, detections, categories)
    return KINDS[kind](path, split, annotations, detections)


def load_validation_sets(
    data: str, annotations: str | None = None, categories: Sequence[str] = ()
) -> list[RecordSet]:
    """Load the sets to validate on: those that a list of sets (``mix``) names, else the data's validation split.

    Raises:
        UserError: as for ``load_records``, or two sets have one name.
    """
    kind, _, path = data.partition(":")
    if kind != "mix":
        return [load_records(data, "val", annotations=annotations, categories=categories)]
    if annotations is not None:
        raise UserError(f"{annotations}: the sets of {path} name their own annotation files")
    from lgmpose.data.mixture import read_mixture

    sets = [_load_entry(entry, "val") for entry in read_mixture(path).val]
    names = [record_set.name for record_set in sets]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: several validation sets are called {max(names, key=names.count)}; give each a name")
    return sets


def _load_entry(entry: Entry, split: str) -> RecordSet:
    part = entry.split or split
    record_set = load_records(
        entry.data, part, detections=entry.detections, annotations=entry.annotations, categories=entry.categories
    )
    record_set = record_set if entry.limit is None else record_set.first(entry.limit)
    return replace(record_set, name=entry.name or record_set.name)


def _mix(path: str, split: str, annotations: str | None, detections: str | None) -> RecordSet:
    from lgmpose.data.mixture import join_sets, read_mixture

    if split != "train":
        raise UserError(f"{path}: a list of data sets is for training; evaluate one set at a time")
    file = read_mixture(path)
    record_sets = [_load_entry(entry, "train") for entry in file.train]
    return join_sets(record_sets, [entry.weight for entry in file.train], joints=file.joints)


def _coco(
    path: str, split: str, annotations: str | None, detections: str | None, categories: Sequence[str] = ()
) -> RecordSet:
    """Load COCO's official layout, or another annotation file with its pictures where common tools put them.

    Roboflow puts the pictures beside the file, CVAT in ``images/SUBSET`` (the file's name ends in SUBSET), and Label
    Studio writes names that begin with ``images/``.
    """
    from lgmpose.data.coco import load_coco

    file, folders = _coco_files(path, split, annotations)
    return load_coco(file, folders, detections=detections, categories=categories)


def load_box_set(data: str, split: str, annotations: str | None = None) -> BoxSet:
    """Load the boxes of all persons of COCO data, for a detector; ``annotations`` as for ``load_records``.

    Raises:
        UserError: other data than COCO's, or the data are missing or bad.
    """
    from lgmpose.data.boxes import load_boxes

    kind, _, path = data.partition(":")
    if kind != "coco" or not path:
        raise UserError(f"data {data!r}: a detector takes coco:FOLDER")
    return load_boxes(*_coco_files(path, split, annotations))


def _coco_files(path: str, split: str, annotations: str | None) -> tuple[Path, list[Path]]:
    """Return the annotation file, and the folders in which its pictures may be."""
    folder = Path(path)
    official = [folder / f"{split}2017", folder / "images" / f"{split}2017"]  # the second is HRNet's
    if annotations is not None:
        file = Path(annotations)
        subset = file.stem.removeprefix("person_keypoints_")
        below = [folder / "images" / subset, folder / "images", folder]
        test = [folder / "test2017", folder / "images" / "test2017"]
        folders = [file.parent, *below, *official, *test]
        return file, folders
    file = folder / "annotations" / f"person_keypoints_{split}2017.json"
    if not file.is_file():
        option = "--annotations" if split == "train" else "--val-annotations (of eval: --annotations)"
        raise UserError(
            f"{file}: no such file; `lgmpose data coco` prepares this layout, {option} FILE takes another file"
        )
    return file, official


def _yolo(path: str, split: str, annotations: str | None, detections: str | None) -> RecordSet:
    from lgmpose.data.yolo import load_yolo

    return load_yolo(path, split)


def _via(path: str, split: str, annotations: str | None, detections: str | None) -> RecordSet:
    from lgmpose.data.via import gather_points

    assert annotations is not None  # load_records has checked it
    return _coco(path, split, str(gather_points(annotations)), None)


def _mpii(path: str, split: str, annotations: str | None, detections: str | None) -> RecordSet:
    from lgmpose.data.mpii import load_mpii

    return load_mpii(annotations or Path(path) / f"mpii_{split}.json", Path(path) / "images")


def _lspet(path: str, split: str, annotations: str | None, detections: str | None, **options: bool) -> RecordSet:
    from lgmpose.data.lspet import load_lspet

    return load_lspet(path, split, **options)


def _synthetic(path: str, split: str, annotations: str | None, detections: str | None) -> RecordSet:
    from lgmpose.data.coco import load_coco
    from lgmpose.data.records import check_records
    from lgmpose.data.synthetic import make_synthetic

    folder = Path(path or "data/synthetic")
    file = folder / "annotations.json"
    if not file.exists():
        file = make_synthetic(folder, SYNTHETIC_PICTURES)
    record_set = load_coco(file, folder / "images")
    if split == "all":
        return record_set
    image_ids = sorted({record.image_id for record in record_set.records})
    held_out = set(image_ids[-max(1, len(image_ids) // 6) :])
    chosen = [i for i, r in enumerate(record_set.records) if (r.image_id in held_out) == (split == "val")]
    return check_records(record_set.subset(chosen, f"synthetic-{split}"), f"{file}, its {split} part")


# Kind of data set -> its loader: (path, split, annotations or None, detections or None) -> records.
KINDS: dict[str, Callable[[str, str, str | None, str | None], RecordSet]] = {
    "coco": _coco,
    "yolo": _yolo,
    "via": _via,
    "mpii": _mpii,
    "lspet": _lspet,
    "lspet3": partial(_lspet, hold_out_test=True),
    "lspet-corrected": partial(_lspet, hold_out_test=True, corrected=True),
    "synthetic": _synthetic,
    "mix": _mix,
}
