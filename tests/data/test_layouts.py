"""``lgmpose data``: the layouts of the official data sets, filled from archives that are there or from a server."""

from __future__ import annotations

import io
import json
import os
from collections import Counter

import msgspec
import numpy as np
import pytest
from scipy.io import savemat
from test_fetch import Server, make_tar, make_zip
from test_mpii import small_everybody

from lgmpose.cli import main
from lgmpose.data import load_records, mpii_split
from lgmpose.data.mpii_split import read_val_list
from lgmpose.data.prepare import fetch as fetch_module
from lgmpose.data.prepare import layouts
from lgmpose.errors import UserError

COCO_ARCHIVES = ("annotations_trainval2017.zip", "train2017.zip", "val2017.zip")
MPII_ARCHIVES = ("mpii_human_pose_v1_u12_2.zip", "mpii_human_pose_v1.tar.gz")


@pytest.fixture
def tiny_coco(tmp_path, monkeypatch):
    """Official archives of a COCO whose val2017 has two pictures."""
    content = {
        "categories": [{"id": 1, "name": "person", "keypoints": ["head", "foot"]}],
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 60} for i in (1, 2)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 20], "keypoints": [3, 4, 2, 5, 6, 1]}
            for i in (1, 2)
        ],
    }
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    annotations = {"annotations/person_keypoints_val2017.json": json.dumps(content).encode()}
    make_zip(downloads / "annotations_trainval2017.zip", annotations)
    make_zip(downloads / "val2017.zip", {"val2017/1.jpg": b"1", "val2017/2.jpg": b"2"})
    monkeypatch.setitem(layouts.COCO_COUNTS, "val2017", 2)
    return downloads


def test_coco(tiny_coco, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["data", "coco", "--out", str(out), "--from", str(tiny_coco), "--splits", "val2017"]
    assert main(arguments) == 0
    assert "val2017: 2 persons in 2 pictures" in capsys.readouterr().out
    assert set(os.listdir(out)) == {"annotations", "val2017"}
    records = load_records(f"coco:{out}", "val")
    assert len(records) == 2 and records.records[0].image == str(out / "val2017" / "1.jpg")
    # A half-unpacked folder is completed; without the archive, the missing picture is named.
    (out / "val2017" / "2.jpg").unlink()
    assert main(arguments) == 0
    (out / "val2017" / "2.jpg").unlink()
    (tiny_coco / "val2017.zip").unlink()
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert "2.jpg" in message and all(name in message for name in COCO_ARCHIVES)
    # What was unpacked by hand needs no archive; an archive in the folder itself needs no --from.
    (out / "val2017" / "2.jpg").touch()
    assert main([*arguments[:4], "--splits", "val2017"]) == 0
    (out / "annotations" / "person_keypoints_val2017.json").unlink()
    (tiny_coco / "annotations_trainval2017.zip").rename(out / "annotations_trainval2017.zip")
    assert main([*arguments[:4], "--splits", "val2017"]) == 0


def test_a_single_archive_may_be_named(tiny_coco, tmp_path):
    sources = tuple(tiny_coco.iterdir())
    assert len(layouts.Coco(out=tmp_path / "out", sources=sources, splits=("val2017",)).prepare()["val2017"]) == 2


@pytest.mark.parametrize("content", ["{}", "[]", '{"images": 2}', '{"images": [{"id": 1}, {"id": 2}]}', "<html>"])
def test_annotations_without_pictures_are_refused(tiny_coco, tmp_path, content):
    (tmp_path / "out" / "annotations").mkdir(parents=True)
    (tmp_path / "out" / "annotations" / "person_keypoints_val2017.json").write_text(content)
    with pytest.raises(UserError, match="person_keypoints_val2017.json"):
        layouts.Coco(out=tmp_path / "out", sources=(tiny_coco,), splits=("val2017",)).prepare()


def test_annotations_of_another_number_of_pictures_and_archives_of_something_else_are_refused(tiny_coco, tmp_path):
    layouts.COCO_COUNTS["val2017"] = 3  # the fixture puts it back
    with pytest.raises(UserError, match="person_keypoints_val2017.json.* 3"):
        layouts.Coco(out=tmp_path / "out", sources=(tiny_coco,), splits=("val2017",)).prepare()
    make_zip(tiny_coco / "annotations_trainval2017.zip", {"readme.txt": b""})
    with pytest.raises(UserError, match="annotations_trainval2017.zip"):
        layouts.Coco(out=tmp_path / "new", sources=(tiny_coco,), splits=("val2017",)).prepare()


@pytest.mark.parametrize(
    ("dataset", "names"), [("coco", COCO_ARCHIVES), ("mpii", MPII_ARCHIVES), ("lspet", ("lspet_dataset.zip",))]
)
def test_what_is_missing_is_said_with_where_to_get_it(dataset, names, tmp_path, capsys):
    out = tmp_path / "nothing"
    assert main(["data", dataset, "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and str(out) in message and "--from" in message and "--download" in message
    for name in names:
        assert f"/{name}" in message  # its address
    assert main(["data", dataset, "--from", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not out.exists()


def test_downloads(tiny_coco, tmp_path, monkeypatch):
    """The pictures' archive comes from the server, cut once on the way."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    server = Server()
    server.content, server.cut_after = (tiny_coco / "val2017.zip").read_bytes(), [50]
    (tiny_coco / "val2017.zip").unlink()
    monkeypatch.setattr(fetch_module.time, "sleep", lambda seconds: None)
    monkeypatch.setitem(layouts.Coco.URLS, "val2017.zip", server.url)
    coco = layouts.Coco(out=tmp_path / "out", sources=(tiny_coco,), splits=("val2017",), download=True)
    assert len(coco.prepare()["val2017"]) == 2
    server.close()
    assert len(server.requests) == 2 and (tmp_path / "out" / "val2017.zip").is_file()


def test_archives_that_are_not_whole_leave_nothing(tiny_coco, tmp_path, capsys):
    """Half a zip, then an error page of a server, then the real one: nothing of the first two stands in its way."""
    out, archive = tmp_path / "out", tiny_coco / "val2017.zip"
    arguments = ["data", "coco", "--out", str(out), "--from", str(tiny_coco), "--splits", "val2017"]
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>moved</html>"):
        archive.write_bytes(content)
        assert main(arguments) == 2
        assert "val2017.zip" in capsys.readouterr().err
        assert os.listdir(out) == ["annotations"]
    archive.write_bytes(whole)
    assert main(arguments) == 0


def make_lspet(path, count: int):
    """An archive like the official one, of ``count`` persons."""
    joints = io.BytesIO()
    savemat(joints, {"joints": np.arange(14 * 3 * count, dtype=float).reshape(14, 3, count) + 1})
    pictures = {f"images/im{i + 1:05d}.jpg": bytes([i]) for i in range(count)}
    return make_zip(path, {"joints.mat": joints.getvalue(), **pictures})


def test_lspet_is_read_in_place(tmp_path, capsys):
    archive = make_lspet(tmp_path / "lspet_dataset.zip", 9)
    for source in (archive, tmp_path):
        found = layouts.Lspet(out=tmp_path / "out", sources=(source,)).prepare()
        assert len(found["train"]) + len(found["val"]) == 9
    assert not (tmp_path / "out").exists()
    assert "lspet val: 4 persons in 4 pictures" in capsys.readouterr().out
    archive.write_bytes(archive.read_bytes()[:-100])
    assert main(["data", "lspet", "--out", str(tmp_path / "out"), "--from", str(archive)]) == 2
    assert "lspet_dataset.zip" in capsys.readouterr().err
    make_lspet(archive, 9)
    assert main(["data", "lspet", "--out", str(tmp_path)]) == 0  # in its own place


def test_the_real_lspet(shared_data, tmp_path):
    records = layouts.Lspet(out=tmp_path / "out", sources=(shared_data,)).prepare()
    assert len(records["val"]) == 500
    assert len(records["train"]) + len(records["val"]) <= 9_000


def test_mpii(tmp_path, monkeypatch, capsys):
    """From the official file's name to lists in the standard order; the file's own content is stood in for."""
    everybody, val = small_everybody(40)
    monkeypatch.setattr(mpii_split, "read_val_list", lambda: read_val_list()[:40])
    train = [number for number in range(len(everybody)) if everybody[number].image.startswith("train_")]
    for number, name in zip(train, sorted(layouts.MPII_NOT_IN_ARCHIVE), strict=False):  # pictures that it lacks
        everybody[number].image = name
    monkeypatch.setattr(layouts, "convert_mpii_mat", lambda path: (list(everybody), Counter({"test picture": 1})))
    pictures = {f"images/{person.image}": b"" for person in everybody}
    lacking = {name: pictures.pop(f"images/{name}") for name in layouts.MPII_NOT_IN_ARCHIVE}
    downloads, out = tmp_path / "downloads", tmp_path / "out"
    downloads.mkdir()
    make_zip(downloads / MPII_ARCHIVES[0], {layouts.MPII_MAT: b"stands in"})
    make_tar(downloads / MPII_ARCHIVES[1], pictures)
    arguments = ["data", "mpii", "--out", str(out), "--from", str(downloads)]

    def listed(split: str) -> list:
        return json.loads((out / f"mpii_{split}.json").read_text())

    def as_dicts(numbers) -> list:
        return json.loads(msgspec.json.encode([everybody[number] for number in numbers]))

    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "mpii val: 40 persons" in output and f"mpii train: {len(train) - 3} persons" in output
    assert f"{len(everybody) - 3} persons with joints" in output and "'test picture': 1" in output
    assert listed("val") == as_dicts(val) and listed("train") == as_dicts(train[3:])
    assert [person["image"] for person in listed("all")] == [p.image for p in everybody if p.image not in lacking]
    assert len(load_records(f"mpii:{out}", "val")) == 40
    # One that is there is used; any other that is missing, or that validation needs, is refused.
    (out / "images" / everybody[train[0]].image).touch()
    assert main(arguments) == 0
    assert listed("train") == as_dicts([train[0], *train[3:]])
    (downloads / MPII_ARCHIVES[1]).unlink()
    (downloads / MPII_ARCHIVES[0]).unlink()
    (out / layouts.MPII_MAT).rename(out / "mpii_human_pose_v1_u12_1.mat")  # the file alone will do, too
    assert main(arguments) == 0
    (out / "images" / everybody[train[5]].image).unlink()
    assert main(arguments) == 2
    assert everybody[train[5]].image in capsys.readouterr().err
    (out / "images" / everybody[train[5]].image).touch()
    unnamed = next(number for number in val if everybody[number].image.startswith("unknown_"))
    everybody[unnamed].image = everybody[train[1]].image
    assert main(arguments) == 2
    assert everybody[train[1]].image in capsys.readouterr().err


def test_synthetic(tmp_path, capsys):
    out = ["data", "synthetic", "--out", str(tmp_path / "people"), "--image-hw", "64", "64"]
    assert main([*out, "--num-images", "1"]) == 2
    assert "--num-images" in capsys.readouterr().err
    assert main([*out, "--num-images", "8", "--max-people", "1", "--seed", "3"]) == 0
    assert "synthetic train: " in capsys.readouterr().out
    info = json.loads((tmp_path / "people" / "annotations.json").read_text())["info"]
    assert (info["num_images"], info["seed"], info["image_hw"], info["max_people"]) == (8, 3, [64, 64], 1)
