"""Getting COCO, MPII and LSPET ready: find or fetch the official files, unpack, verify, convert.

``lgmpose data NAME``, and the scripts in ``data_scripts``, fill one of the classes at the end and call its ``prepare``.
Nothing is downloaded unless asked for; what is missing is listed with the place to get it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lgmpose.data import load_records
from lgmpose.data.coco import load_coco, pictures_by_id
from lgmpose.data.mpii import convert_mpii_mat, load_mpii, mpii_split
from lgmpose.data.prepare.fetch import check_sha256, extract, fetch, record_sha256
from lgmpose.data.reading import read_coco, require_pictures
from lgmpose.data.records import RecordSet
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.files import write_atomically

__all__ = [
    "Archive", "Coco", "Lspet", "Mpii", "Synthetic", "prepare_coco", "prepare_lspet", "prepare_mpii",
]  # fmt: skip


@dataclass(frozen=True)
class Archive:
    """An official download: its name, its address, and the page that explains it."""

    name: str
    url: str
    page: str


COCO_PAGE = "https://cocodataset.org/#download"
COCO_ANNOTATIONS = Archive(
    "annotations_trainval2017.zip", "http://images.cocodataset.org/annotations/annotations_trainval2017.zip", COCO_PAGE
)
COCO_PICTURES = {
    split: Archive(f"{split}.zip", f"http://images.cocodataset.org/zips/{split}.zip", COCO_PAGE)
    for split in ("train2017", "val2017")
}
COCO_COUNTS = {"train2017": 118_287, "val2017": 5_000}  # pictures that the official annotations list
COCO_DETECTIONS = (
    "The boxes of the published figures (COCO_val2017_detections_AP_H_56_person.json) are linked from the README of "
    "https://github.com/leoxiaobin/deep-high-resolution-net.pytorch under 'Data preparation'."
)

MPII_PAGE = "http://human-pose.mpi-inf.mpg.de/#download"
MPII_SITE = "https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr/"
MPII_PICTURES = Archive("mpii_human_pose_v1.tar.gz", MPII_SITE + "mpii_human_pose_v1.tar.gz", MPII_PAGE)
MPII_ANNOTATIONS = Archive("mpii_human_pose_v1_u12_2.zip", MPII_SITE + "mpii_human_pose_v1_u12_2.zip", MPII_PAGE)
MPII_MAT = "mpii_human_pose_v1_u12_1.mat"
# The annotations have persons with joints in these three, but the official archive does not hold them.
MPII_NOT_IN_ARCHIVE = frozenset({"002878268.jpg", "013401523.jpg", "040348287.jpg"})

LSPET = Archive(
    "lspet_dataset.zip",
    "https://sam.johnson.io/research/lspet_dataset.zip",
    "https://sam.johnson.io/research/lspet.html",
)
LSPET_COUNT = 10_000


@dataclass(frozen=True)
class _Place:
    """Where to look and how to get what is not there."""

    out: Path
    sources: tuple[Path, ...]
    download: bool
    sha256: dict[str, str]
    progress: bool

    def find(self, name: str, listed: Iterable[str] = ()) -> Path | None:
        """A file or folder of this name in the output folder or a source, at most one folder deep; or the source.

        Other data sets have folders of the same name; with ``listed``, only one that has such a file in it counts.
        What may not be read (a disk's ``lost+found``, say) counts as not there.
        """
        # os.path's functions, since Path.exists and Path.is_dir raise PermissionError within a closed folder
        last, listed = Path(name).name, tuple(listed)
        for root in (self.out, *self.sources):
            candidates = [root] if root.name == last and name == last else []
            if os.path.isdir(root):
                candidates += [root / name, *(folder / name for folder in _folders(root))]
            for candidate in candidates:
                if listed:
                    if any(os.path.isfile(candidate / file) for file in listed):
                        return candidate
                elif os.path.exists(candidate):
                    return candidate
        return None

    def archive(self, archive: Archive) -> Path | None:
        """The archive, its hash checked if one is known: found, or downloaded if that is allowed, else None."""
        path = self.find(archive.name)
        expected = self.sha256.get(archive.name)
        if path is None and self.download:
            return fetch(archive.url, self.out / archive.name, sha256=expected, progress=self.progress)
        if path is not None:
            check_sha256(path, expected, record_in=self.out)
        return path

    def unpacked(self, name: str, archive: Archive, listed: Iterable[str] = ()) -> Path | None:
        """A file or folder that comes in an archive, unpacking it if need be; None if there is neither."""
        path = self.find(name, listed)
        if path is None and (packed := self.archive(archive)) is not None:
            extract(packed, self.out, progress=self.progress)
            path = self.find(name, listed)
            if path is None:
                raise UserError(f"{packed}: there is no {name} in it; it is not the official archive")
            record_sha256(packed, record_in=self.out)
        return path

    def pictures(self, folder_name: str, archive: Archive, names: Iterable[str], annotations: Path) -> Path | None:
        """The folder of pictures, every one of ``names`` in it; a half-unpacked one is completed from its archive."""
        names = sorted(set(names))
        folder = self.unpacked(folder_name, archive, names)
        if folder is None:
            return None
        try:
            require_pictures(folder, names, annotations)
        except UserError:
            packed = self.archive(archive)
            if packed is None:
                raise
            extract(packed, self.out, progress=self.progress)
            folder = self.out / folder_name
            require_pictures(folder, names, annotations)
            record_sha256(packed, record_in=self.out)
        return folder


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(folder for folder in root.iterdir() if os.path.isdir(folder))
    except OSError:
        return []


def _place(
    out: str | Path, sources: Iterable[str | Path], download: bool, sha256: dict[str, str] | None, progress: bool,
    names: Iterable[str],
) -> _Place:  # fmt: skip
    """``names`` are those of the data set's archives: a hash for another would be passed over in silence."""
    sources = tuple(Path(source) for source in sources)
    for name in (sha256 or {}).keys() - set(names):
        raise UserError(f"{name}: a hash for none of this data set's archives, which are {', '.join(sorted(names))}")
    for source in sources:
        if not os.path.exists(source):
            raise UserError(f"{source}: no such file or folder (given with --from)")
    return _Place(Path(out), sources, download, sha256 or {}, progress)


def _refuse_missing(dataset: str, place: _Place, missing: list[tuple[str, Archive]], extra: str = "") -> None:
    if not missing:
        return
    looked = ", ".join(str(root) for root in (place.out, *place.sources))
    lines = [f"{dataset} is not complete; looked in {looked}. Missing:"]
    lines += [f"  {what}: in {archive.name}, {archive.url}" for what, archive in missing]
    lines.append(f"The official page is {missing[0][1].page}")
    lines.append("Download these and name their folder with --from, or add --download to have them fetched.")
    raise UserError("\n".join(lines + ([extra] if extra else [])))


def prepare_coco(
    out: str | Path,
    *,
    sources: Iterable[str | Path] = (),
    splits: Iterable[str] = ("train2017", "val2017"),
    download: bool = False,
    sha256: dict[str, str] | None = None,
    progress: bool = True,
) -> dict[str, RecordSet]:
    """Makes ``annotations/person_keypoints_SPLIT.json`` and the pictures' folder ``SPLIT`` available and verifies both.

    Args:
        out: folder for downloads and unpacked files.
        sources: files (the official zips) or folders (holding the zips, or unpacked already; those are used in place).
        splits: ``train2017`` (18 GB of pictures), ``val2017`` (0.8 GB).
        download: fetch what is nowhere to be found.
        sha256: hash that an archive must have, by its name.

    Returns:
        The records of each split; ``annotation_file`` and each record's ``image`` say where the files lie.

    Raises:
        UserError: saying what is missing and where to get it, or what is wrong with what is there.
    """
    names = [archive.name for archive in (COCO_ANNOTATIONS, *COCO_PICTURES.values())]
    place, missing, found = _place(out, sources, download, sha256, progress, names), [], {}
    for split in splits:
        if split not in COCO_PICTURES:
            raise UserError(f"COCO has no split {split!r}; choose from {', '.join(COCO_PICTURES)}")
        name = f"person_keypoints_{split}.json"
        annotations = place.find(name) or place.unpacked(f"annotations/{name}", COCO_ANNOTATIONS)
        if annotations is None:
            missing.append((f"annotations/{name}", COCO_ANNOTATIONS))
            if place.find(split) is None and place.find(COCO_PICTURES[split].name) is None:
                missing.append((f"{split}/ ({COCO_COUNTS[split]:,} pictures)", COCO_PICTURES[split]))
            continue
        by_id = pictures_by_id(read_coco(annotations)["images"], annotations)
        listed = [picture["file_name"] for picture in by_id.values()]
        if len(listed) != COCO_COUNTS[split]:
            raise UserError(f"{annotations}: lists {len(listed):,} pictures instead of {COCO_COUNTS[split]:,}")
        pictures = place.pictures(split, COCO_PICTURES[split], listed, annotations)
        if pictures is None:
            missing.append((f"{split}/ ({COCO_COUNTS[split]:,} pictures)", COCO_PICTURES[split]))
        else:
            found[split] = (annotations, pictures)
    _refuse_missing("COCO", place, missing, COCO_DETECTIONS)
    for split, (annotations, pictures) in found.items():
        _link(place, f"annotations/{annotations.name}", annotations)
        if pictures != place.out / "images" / split:  # where load_records looks first
            _link(place, split, pictures)
    return {split: load_coco(annotations, pictures) for split, (annotations, pictures) in found.items()}


def prepare_mpii(
    out: str | Path,
    *,
    sources: Iterable[str | Path] = (),
    download: bool = False,
    sha256: dict[str, str] | None = None,
    progress: bool = True,
) -> dict[str, RecordSet]:
    """Converts the official MATLAB file into ``mpii_all.json``, ``mpii_train.json`` and ``mpii_val.json`` in ``out``.

    The validation list is the standard one of 2,958 persons in its own order (``mpii_split``). Persons in the three
    pictures that the official archive lacks are left out and counted. Arguments, errors: as in ``prepare_coco``.

    Returns:
        The records of ``train`` and ``val``.
    """
    names = [MPII_PICTURES.name, MPII_ANNOTATIONS.name]
    place, missing = _place(out, sources, download, sha256, progress, names), []
    mat = place.find(MPII_MAT) or place.unpacked(MPII_MAT, MPII_ANNOTATIONS)
    if mat is None:
        missing.append((MPII_MAT, MPII_ANNOTATIONS))
        if place.find("images") is None and place.find(MPII_PICTURES.name) is None:
            missing.append(("images/ (12.9 GB)", MPII_PICTURES))
        _refuse_missing("MPII", place, missing)
    entries, notes = convert_mpii_mat(mat)
    train, val = mpii_split(entries, mat)
    may_be_absent = MPII_NOT_IN_ARCHIVE - {entries[index]["image"] for index in val}
    needed = {entry["image"] for entry in entries} - may_be_absent
    pictures = place.pictures("images", MPII_PICTURES, needed, mat)
    if pictures is None:
        _refuse_missing("MPII", place, [("images/ (12.9 GB)", MPII_PICTURES)])
    absent = {name for name in may_be_absent if not (pictures / name).is_file()}
    kept = [index for index, entry in enumerate(entries) if entry["image"] not in absent]
    if len(kept) < len(entries):
        notes = notes | {"person whose picture is not in MPII's archive": len(entries) - len(kept)}
    place.out.mkdir(parents=True, exist_ok=True)
    for name, indices in (("all", kept), ("train", sorted(set(train) & set(kept))), ("val", val)):
        chosen = [entries[index] for index in indices]
        write_atomically(place.out / f"mpii_{name}.json", json.dumps(chosen).encode())
    _link(place, "images", pictures)
    print(f"{mat}: {len(kept):,} persons with joints (left out: {notes})")
    return {split: load_mpii(place.out / f"mpii_{split}.json", pictures) for split in ("train", "val")}


def prepare_lspet(
    out: str | Path,
    *,
    sources: Iterable[str | Path] = (),
    download: bool = False,
    sha256: dict[str, str] | None = None,
    progress: bool = True,
) -> dict[str, RecordSet]:
    """Finds ``lspet_dataset.zip`` (used as it is, never unpacked) or its unpacked folder, and reads both splits.

    Arguments, errors: as in ``prepare_coco``.

    Returns:
        The records of ``train`` and ``val``; together 10,000 persons, fewer in copies that leave pictures out.
    """
    from lgmpose.data.lspet import load_lspet

    zips = [Path(source) for source in sources if Path(source).suffix == ".zip"]
    place = _place(out, sources, download, sha256, progress, [LSPET.name, *(path.name for path in zips)])
    joints = place.find("lspet_dataset/joints.mat") or place.find("joints.mat")
    if zips:  # under whatever name it was saved
        path = zips[0]
        expected = place.sha256.get(path.name) or place.sha256.get(LSPET.name)
        check_sha256(path, expected, record_in=place.out)
    elif joints is not None and place.find(LSPET.name) is None:  # a bare joints.mat may be plain LSP's
        path = joints.parent
    else:
        path = place.archive(LSPET)
    if path is None:
        _refuse_missing("LSPET", place, [("joints.mat and images/ (10,000 pictures)", LSPET)])
    found = {split: load_lspet(path, split=split) for split in ("train", "val")}
    if path.is_file():
        record_sha256(path, record_in=place.out)
    total = sum(len(records) for records in found.values())
    if total < LSPET_COUNT:
        print(f"{path}: {total:,} persons of the official {LSPET_COUNT:,}")
    return found


def _link(place: _Place, name: str, target: Path) -> None:
    """Makes ``out/name`` lead to files that are used where they lie, so that ``KIND:OUT`` names the whole data set."""
    link = place.out / name
    if link.is_file() or target.resolve() == link.resolve():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        if link.is_dir():  # with none of the pictures in it, else it would have been found first
            if any(link.iterdir()):
                raise UserError(f"{link}: holds other files than {target}, to which it must lead; move it away")
            link.rmdir()
        link.symlink_to(target.resolve())
    except OSError as error:
        raise UserError(
            f"{link}: cannot be linked to {target} ({error.strerror}); move the files there, or unpack them with --out"
        ) from error


# --- the command line ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Options:
    """Options shared by the three data sets that are fetched."""

    sources: Annotated[
        tuple[Path, ...],
        tyro.conf.arg(name="from", help="official archive, or folder with archives or unpacked files, there already"),
        tyro.conf.UseAppendAction,
    ] = ()
    download: bool = False  # fetch what is missing from the official servers
    sha256: tyro.conf.UseAppendAction[tuple[str, ...]] = ()  # NAME=HEX that an archive must have

    def _arguments(self) -> dict:
        hashes = {}
        for pair in self.sha256:
            name, separator, digest = pair.partition("=")
            if not separator or len(digest) != 64:
                raise UserError(f"--sha256 {pair}: write NAME=HEX with the 64 hexadecimal digits of the archive's hash")
            hashes[name] = digest
        return {"sources": self.sources, "download": self.download, "sha256": hashes}


@dataclass(frozen=True)
class Coco(_Options):
    """COCO 2017 keypoints: annotations and pictures of the training and validation splits."""

    out: Path = Path("data/coco")  # where downloads and unpacked files go; then the path of --data coco:PATH
    splits: tuple[Literal["train2017", "val2017"], ...] = ("train2017", "val2017")  # which pictures

    def prepare(self) -> None:
        _report("coco", prepare_coco(self.out, splits=self.splits, **self._arguments()))


@dataclass(frozen=True)
class Mpii(_Options):
    """MPII Human Pose: the MATLAB annotations are converted, occluded joints kept."""

    out: Path = Path("data/mpii")  # where downloads and converted files go; then the path of --data mpii:PATH

    def prepare(self) -> None:
        _report("mpii", prepare_mpii(self.out, **self._arguments()))


@dataclass(frozen=True)
class Lspet(_Options):
    """Leeds Sports Pose Extended: 10,000 sports pictures; read from the zip as it is."""

    out: Path = Path("data/lspet")  # where a download goes

    def prepare(self) -> None:
        _report("lspet", prepare_lspet(self.out, **self._arguments()))


@dataclass(frozen=True)
class Synthetic:
    """Drawn people in COCO's format, the same for the same seed."""

    out: Path = Path("data/synthetic")  # the folder to fill; then the path of --data synthetic:PATH
    num_images: int = 600
    seed: int = 0
    image_hw: tuple[int, int] = (256, 320)
    max_people: int = 3

    def prepare(self) -> None:
        if self.num_images == 1:
            raise UserError("--num-images 1: at least 2, one to train on and one to validate with")
        make_synthetic(
            self.out, self.num_images, seed=self.seed, image_hw=self.image_hw, max_people=self.max_people
        )
        _report("synthetic", {split: load_records(f"synthetic:{self.out}", split) for split in ("train", "val")})


def _report(dataset: str, found: dict[str, RecordSet]) -> None:
    for split, records in found.items():
        pictures = len({record.image_id for record in records.records})
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in records.notes.items()) or "none"
        print(f"{dataset} {split}: {len(records):,} persons in {pictures:,} pictures; left out: {left_out}")
        print(f"  pictures like {records.records[0].image}")
        if records.annotation_file is not None:
            print(f"  annotations {records.annotation_file}")
