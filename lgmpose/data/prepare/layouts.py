"""The folder layout of each official data set, and how it is filled: ``lgmpose data NAME``.

* coco: OUT/annotations/person_keypoints_train2017.json and ..._val2017.json, OUT/train2017/, OUT/val2017/
* mpii: OUT/mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat (or directly in OUT), OUT/images/; the lists are
  written to OUT/mpii_all.json, OUT/mpii_train.json and OUT/mpii_val.json
* lspet: OUT/lspet_dataset.zip, which is read as it is

What is missing is unpacked from the official archive. The archive is taken from OUT or from a place given by
``--from``, or it is downloaded if ``--download`` is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
import tyro

from lgmpose.data import load_records
from lgmpose.data.coco import load_coco, picture_names
from lgmpose.data.images import find_pictures
from lgmpose.data.lspet import load_lspet
from lgmpose.data.mpii import load_mpii
from lgmpose.data.mpii_split import mpii_split
from lgmpose.data.prepare.fetch import extract, fetch
from lgmpose.data.prepare.mpii_matlab import convert_mpii_mat
from lgmpose.data.records import RecordSet
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.files import read_json, write_atomically
from lgmpose.metrics.coco_format import read_coco_file

__all__ = ["COCO_COUNTS", "MPII_MAT", "MPII_NOT_IN_ARCHIVE", "Coco", "Lspet", "Mpii", "Synthetic"]

COCO_COUNTS = {"train2017": 118_287, "val2017": 5_000}  # pictures that the official annotations list
MPII_SITE = "https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr/"
MPII_MAT = "mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat"
# The annotations have persons with joints in these three pictures, which the official archive does not hold.
MPII_NOT_IN_ARCHIVE = frozenset({"002878268.jpg", "013401523.jpg", "040348287.jpg"})


@dataclass(frozen=True)
class _Official:
    """Options shared by the three official data sets."""

    URLS: ClassVar[dict[str, str]]  # official archive -> its address

    sources: Annotated[
        tuple[Path, ...],
        tyro.conf.arg(name="from", help="an official archive, or a folder with official archives"),
        tyro.conf.UseAppendAction,
    ] = ()
    download: bool = False  # download the archives that are missing
    out: Path = Path("data")

    def archive(self, name: str, reason: str) -> Path:
        """Return an official archive.

        Raises:
            UserError: It is nowhere and may not be downloaded; ``reason`` says why it is needed.
        """
        for source in self.sources:
            if not source.exists():
                raise UserError(f"{source}: no such file or folder (given with --from)")
        places = [self.out / name, *(s if s.name == name else s / name for s in self.sources)]
        found = next((place for place in places if place.is_file()), None)
        if found is None and self.download:
            found = fetch(self.URLS[name], self.out / name)
        if found is None:
            archives = "".join(f"\n  {archive}  {url}" for archive, url in self.URLS.items())
            raise UserError(
                f"{reason}\nIt is in {name}. Put this archive into {self.out}, name its folder with --from, or add "
                f"--download. The archives of this data set are{archives}"
            )
        return found

    def unpack(self, name: str, reason: str) -> None:
        """Unpack an official archive into the folder."""
        extract(self.archive(name, reason), self.out)

    def require_file(self, archive: str, *names: str) -> Path:
        """Return the first of some files that is in the folder. Unpack its archive if necessary."""
        files = [self.out / name for name in names]
        if not any(file.is_file() for file in files):
            self.unpack(archive, f"{files[0]}: no such file")
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            raise UserError(f"{archive}: has no {names[0]}; it is not the official archive")
        return found

    def require_pictures(self, folder: Path, names: Iterable[str], annotations: Path, archive: str) -> None:
        """Check that all pictures are in a folder. Unpack their archive if necessary."""
        names = set(names)
        try:
            find_pictures(folder, names, annotations)
        except UserError as error:
            self.unpack(archive, str(error))
            find_pictures(folder, names, annotations)


@dataclass(frozen=True)
class Coco(_Official):
    """COCO 2017 keypoints: annotations and pictures of the training and validation splits."""

    URLS: ClassVar[dict[str, str]] = {
        "annotations_trainval2017.zip": "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
        "train2017.zip": "http://images.cocodataset.org/zips/train2017.zip",
        "val2017.zip": "http://images.cocodataset.org/zips/val2017.zip",
    }

    out: Path = Path("data/coco")  # folder to fill; then the path of --data coco:PATH
    splits: tuple[Literal["train2017", "val2017"], ...] = ("train2017", "val2017")  # which parts of the data set

    def prepare(self) -> dict[str, RecordSet]:
        """Fill the folder; return the records of each split."""
        found: dict[str, RecordSet] = {}
        for split in self.splits:
            place = f"annotations/person_keypoints_{split}.json"
            file = self.require_file("annotations_trainval2017.zip", place)
            names = picture_names(read_coco_file(read_json(file), file), file)
            if len(names) != COCO_COUNTS[split]:
                raise UserError(f"{file}: lists {len(names):,} pictures instead of {COCO_COUNTS[split]:,}")
            self.require_pictures(self.out / split, names, file, f"{split}.zip")
            found[split] = load_coco(file, self.out / split)
        return _report("coco", found)


@dataclass(frozen=True)
class Mpii(_Official):
    """MPII Human Pose: the MATLAB annotations are converted to JSON. Hidden joints are kept."""

    URLS: ClassVar[dict[str, str]] = {
        "mpii_human_pose_v1_u12_2.zip": MPII_SITE + "mpii_human_pose_v1_u12_2.zip",
        "mpii_human_pose_v1.tar.gz": MPII_SITE + "mpii_human_pose_v1.tar.gz",
    }

    out: Path = Path("data/mpii")  # folder to fill; then the path of --data mpii:PATH

    def prepare(self) -> dict[str, RecordSet]:
        """Fill the folder and write the lists; return the records of ``train`` and ``val``.

        The validation list is the standard one of 2,958 persons in its own order.
        """
        images = self.out / "images"
        mat = self.require_file("mpii_human_pose_v1_u12_2.zip", MPII_MAT, Path(MPII_MAT).name)
        persons, notes = convert_mpii_mat(mat)
        train, val = mpii_split(persons, mat)
        may_be_absent = MPII_NOT_IN_ARCHIVE - {persons[number].image for number in val}
        needed = {person.image for person in persons} - may_be_absent
        self.require_pictures(images, needed, mat, "mpii_human_pose_v1.tar.gz")
        absent = {name for name in may_be_absent if not (images / name).is_file()}
        kept = [number for number, person in enumerate(persons) if person.image not in absent]
        notes["person whose picture is not in MPII's archive"] = len(persons) - len(kept)
        for name, numbers in (("all", kept), ("train", sorted(set(train) & set(kept))), ("val", val)):
            content = msgspec.json.encode([persons[number] for number in numbers])
            write_atomically(self.out / f"mpii_{name}.json", content)
        print(f"{mat}: {len(kept):,} persons with joints; left out: {dict(+notes)}")
        return _report("mpii", {s: load_mpii(self.out / f"mpii_{s}.json", images) for s in ("train", "val")})


@dataclass(frozen=True)
class Lspet(_Official):
    """Leeds Sports Pose Extended: 10,000 sports pictures. The zip file is used without unpacking."""

    URLS: ClassVar[dict[str, str]] = {"lspet_dataset.zip": "https://sam.johnson.io/research/lspet_dataset.zip"}

    out: Path = Path("data/lspet")  # folder of the download

    def prepare(self) -> dict[str, RecordSet]:
        """Find or download the zip; return the records of ``train`` and ``val``."""
        archive = self.archive("lspet_dataset.zip", f"{self.out / 'lspet_dataset.zip'}: no such file")
        found = {split: load_lspet(archive, split) for split in ("train", "val")}
        return _report("lspet", found)


@dataclass(frozen=True)
class Synthetic:
    """Draw pictures of people, with annotations in COCO's format. The same seed gives the same pictures."""

    out: Path = Path("data/synthetic")  # folder to fill; then the path of --data synthetic:PATH
    num_images: int = 600  # number of pictures
    seed: int = 0  # seed of all random numbers
    image_hw: tuple[int, int] = (256, 320)  # height and width of the pictures
    max_people: int = 3  # largest number of people in one picture

    def prepare(self) -> dict[str, RecordSet]:
        """Draw the set; return the records of ``train`` and ``val``."""
        if self.num_images == 1:
            raise UserError("--num-images 1: at least 2, one to train on and one to validate with")
        make_synthetic(self.out, self.num_images, seed=self.seed, image_hw=self.image_hw, max_people=self.max_people)
        return _report("synthetic", {split: load_records(f"synthetic:{self.out}", split) for split in ("train", "val")})


def _report(dataset: str, found: dict[str, RecordSet]) -> dict[str, RecordSet]:
    for split, records in found.items():
        pictures = len({record.image_id for record in records.records})
        left_out = records.left_out or "none"
        print(f"{dataset} {split}: {len(records):,} persons in {pictures:,} pictures; left out: {left_out}")
        print(f"  pictures like {records.records[0].image}")
        if records.annotation_file is not None:
            print(f"  annotations {records.annotation_file}")
    return found
