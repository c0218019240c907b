"""Data sets: COCO, MPII, LSPET and synthetic people, all turned into one record type, then into crops."""

from __future__ import annotations

from pathlib import Path

from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError

__all__ = ["DATA_HELP", "load_records"]

DATA_HELP = (
    "KIND:PATH, where KIND is coco, mpii, lspet or synthetic; e.g. lspet:data/lspet_dataset.zip, coco:data/coco, "
    "mpii:data/mpii, synthetic:data/synthetic"
)
SYNTHETIC_PICTURES = 600  # of the embedded default; the last sixth is its validation part


def load_records(
    data: str, split: str = "train", *, detections: str | None = None, annotations: str | None = None
) -> RecordSet:
    """Reads a data set named as on the command line.

    Args:
        data: see ``DATA_HELP``. ``synthetic`` without a path makes the embedded set under ``data/synthetic``.
        split: ``train`` or ``val``.
        detections: COCO detection file to take boxes from instead of the ground truth (COCO only).
        annotations: annotation file to take instead of the usual place below PATH (COCO and MPII). COCO's pictures may
            then lie in any of the usual places below PATH, or beside the file.

    Raises:
        UserError: unknown kind, or missing or bad data.
    """
    kind, _, path = data.partition(":")
    if split not in ("train", "val"):
        raise UserError(f"no split {split!r}; choose train or val")
    if detections is not None and kind != "coco":
        raise UserError(f"detector boxes belong to coco data, not to {kind}")
    if annotations is not None and kind in ("lspet", "synthetic"):
        raise UserError(f"{annotations}: {kind} data have their own annotations; coco and mpii take another file")
    if kind == "lspet" and path:
        from lgmpose.data.lspet import load_lspet

        return load_lspet(path, split)
    if kind == "coco" and path:
        from lgmpose.data.coco import load_coco

        annotation_file, images, elsewhere = _coco_layout(Path(path), split, annotations)
        return load_coco(annotation_file, images, detections=detections, elsewhere=elsewhere)
    if kind == "mpii" and path:
        from lgmpose.data.mpii import load_mpii

        return load_mpii(annotations or Path(path) / f"mpii_{split}.json", Path(path) / "images")
    if kind == "synthetic":
        from lgmpose.data.coco import load_coco
        from lgmpose.data.records import check_records
        from lgmpose.data.synthetic import make_synthetic

        folder = Path(path or "data/synthetic")
        file = folder / "annotations.json"
        if not file.exists():
            file = make_synthetic(folder, SYNTHETIC_PICTURES)
        record_set = load_coco(file, folder / "images")
        image_ids = sorted({record.image_id for record in record_set.records})
        held_out = set(image_ids[-max(1, len(image_ids) // 6) :])
        chosen = [i for i, r in enumerate(record_set.records) if (r.image_id in held_out) == (split == "val")]
        return check_records(record_set.subset(chosen, f"synthetic-{split}"), f"{file}, its {split} part")
    raise UserError(f"data {data!r}: expected {DATA_HELP}")


def _coco_layout(folder: Path, split: str, annotations: str | None) -> tuple[Path, Path, list[Path]]:
    """Annotation file and picture folder below a COCO root, and where else the pictures may lie.

    Known are the official layout, a folder that holds both together, and what Roboflow (pictures beside the file), CVAT
    (``images/SUBSET``) and Label Studio (names that begin with ``images/``) write.
    """
    official = folder / "annotations" / f"person_keypoints_{split}2017.json"
    usual = [folder / "images" / f"{split}2017", folder / f"{split}2017"]
    if annotations is not None:
        usual += [folder / "images", folder]
        subset = Path(annotations).stem.removeprefix("person_keypoints_")
        others = [folder / "images" / subset, folder / "images" / "test2017", folder / "test2017"]
        others += [Path(annotations).parent]
        return Path(annotations), next((path for path in usual if path.is_dir()), folder), [*usual, *others]
    if official.is_file():
        return official, usual[0] if usual[0].is_dir() else usual[1], usual
    option = "--annotations" if split == "train" else "--val-annotations (of eval: --annotations)"
    raise UserError(
        f"{folder}: no annotations/person_keypoints_{split}2017.json below it; `lgmpose data coco` prepares that "
        f"layout, {option} FILE takes another file"
    )
