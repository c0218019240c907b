"""The command line as a user meets it: one clear line and exit status 2 for whatever he or she did wrong."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

from lgmpose.cli import main
from lgmpose.data import DATA_HELP, KINDS
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError, run_script
from lgmpose.lab.bench.runtimes import RUNTIMES
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO
from lgmpose.training.checkpoint import Run
from lgmpose.training.recipe import TrainConfig, recipe
from lgmpose.zoo.catalogue import create_model, list_models, save_weights


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    make_synthetic(folder, 8, seed=2, image_hw=(96, 128), progress=False)
    return folder


@pytest.fixture
def coco(people, tmp_path):
    """A copy in COCO's own layout whose annotations a test may spoil: returns the folder and the JSON's path."""
    folder = tmp_path / "coco"
    shutil.copytree(people / "images", folder / "images" / "val2017")
    annotations = folder / "annotations" / "person_keypoints_val2017.json"
    annotations.parent.mkdir()
    shutil.copy(people / "annotations.json", annotations)
    return folder, annotations


def refused(capsys, *arguments) -> str:
    """Runs a command that must fail: one line on stderr, status 2, no traceback; returns the line."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert lines[-1].startswith("error: ") and "Traceback" not in captured.err
    return lines[-1]


def test_options_that_are_given_replace_those_of_a_recipe(monkeypatch, capsys):
    trained = []
    monkeypatch.setattr("lgmpose.training.trainer.train", lambda config, out: trained.append(config))
    changes = ["--epochs", "3", "--rotation_deg=5"]
    assert main(["train", "--recipe", "few-pictures", "--data", "coco:x", *changes]) == 0
    assert main(["train", *changes, "--data", "coco:x", "--recipe=few-pictures"]) == 0
    expected = recipe("few-pictures", data="coco:x", epochs=3, rotation_deg=5.0)
    assert trained == [expected, expected]
    assert "many-pictures" in refused(capsys, "train", "--recipe", "many-pictures")
    assert "few-pictures" in refused(capsys, "train", "--recipe")


def test_a_pipe_without_the_characters_gets_question_marks(monkeypatch):
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")  # what Windows gives a program whose output is redirected
    monkeypatch.setattr(sys, "stdout", pipe)
    assert main(["profile", "--no-fps", "--model", "small-hrnet"]) == 0
    pipe.flush()
    shown = pipe.buffer.getvalue().decode("cp1252")
    assert "?" in shown and "256 × 192" in shown


def spoil(annotations, change):
    content = json.loads(annotations.read_text())
    change(content)
    annotations.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: [a.update(keypoints=[1, 2, 2]) for a in c["annotations"]], "3 keypoint values"),
        (lambda c: c.update(annotations=[]), "no person"),
        (lambda c: [a.update(keypoints=[float("nan"), 5, 2] * 17) for a in c["annotations"]], "NaN"),
        (lambda c: [a.update(keypoints=[0] * 51) for a in c["annotations"]], "no person"),
        (lambda c: c["images"][0].update(file_name="gone.jpg"), "gone.jpg"),
    ],
)
def test_bad_annotations(coco, capsys, change, message):
    folder, annotations = coco
    spoil(annotations, change)
    line = refused(capsys, "eval", "--data", f"coco:{folder}")
    assert message in line and ("person_keypoints_val2017.json" in line or "gone.jpg" in line)


def test_broken_json_and_missing_files(coco, capsys, tmp_path):
    folder, annotations = coco
    annotations.write_text('{"images": [')
    assert "person_keypoints_val2017.json: not valid JSON" in refused(capsys, "eval", "--data", f"coco:{folder}")
    assert "lgmpose data coco" in refused(capsys, "eval", "--data", f"coco:{tmp_path}")
    assert "expected KIND:PATH" in refused(capsys, "train", "--data", "somewhere/else")
    assert "no such file or folder" in refused(capsys, "eval", "--data", f"lspet:{tmp_path / 'no.zip'}")
    assert "nothing to predict" in refused(capsys, "predict")


def test_damaged_lspet_archives(tmp_path, capsys):
    path = tmp_path / "lspet.zip"
    savemat(tmp_path / "joints.mat", {"joints": np.zeros((16, 3, 2))})
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "joints.mat", "joints.mat")
    line = refused(capsys, "eval", "--data", f"lspet:{path}")
    assert str(path) in line and "(16, 3, 2)" in line and "(14, 3, n)" in line
    path.write_bytes(path.read_bytes()[:-30])
    assert "not a whole zip" in refused(capsys, "eval", "--data", f"lspet:{path}")


def test_a_corrupt_picture_is_refused_or_skipped_as_asked(coco, tmp_path, capsys):
    folder, annotations = coco
    weights = tmp_path / "net.safetensors"
    net = create_model("lgm-pose-coco-256x192", image_hw=(64, 64))
    save_weights(weights, net, COCO, make_codec("standard", (64, 64)))
    picture = folder / "images" / "val2017" / "000002.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    command = ["eval", "--data", f"coco:{folder}", "--weights", weights, "--workers", "1", "--device", "cpu"]
    line = refused(capsys, *command)
    assert "000002.jpg: the JPEG is cut short" in line and "--bad-images skip" in line
    assert main([str(argument) for argument in [*command, "--bad-images", "skip"]]) == 0
    out, persons = capsys.readouterr().out, json.loads(annotations.read_text())["annotations"]
    others = sum(person["image_id"] != 2 for person in persons)
    assert others < len(persons) - 1, "one picture with several persons"
    assert f"persons: {others}  unreadable pictures skipped: 1" in out
    for other in (folder / "images" / "val2017").iterdir():
        other.write_bytes(b"")
    assert "person_keypoints_val2017" in refused(capsys, *command, "--bad-images", "skip")


def test_weights_that_are_none(people, tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04 something zipped")
    data = ["--data", f"synthetic:{people}"]
    assert "pickle" in refused(capsys, "eval", *data, "--weights", tmp_path / "w.pth")
    assert "no such weights file" in refused(capsys, "eval", *data, "--weights", tmp_path / "w.safetensors")


def test_predict_says_what_is_wrong_with_its_input(tmp_path, capsys):
    picture = tmp_path / "photo.png"
    cv2.imwrite(str(picture), np.full((40, 60, 3), 128, np.uint8))
    out = tmp_path / "out"
    for box, message in (
        ("1,2,3", "four numbers"),
        ("1,2,0,5", "box 0"),
        ("nan,2,4,5", "box 0"),
        ("500,2,4,5", "outside the picture"),
    ):
        assert message in refused(capsys, "predict", picture, "--box", box, "--out", out)
    assert "nowhere.jpg" in refused(capsys, "predict", tmp_path / "nowhere.jpg", "--out", out)
    (tmp_path / "taken").write_text("a file")
    assert "taken" in refused(capsys, "predict", picture, "--out", tmp_path / "taken")
    assert not out.exists() or not list(out.iterdir())


def test_predict_writes_a_picture_and_a_json(tmp_path):
    picture = tmp_path / "photo.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8))
    out = tmp_path / "out"
    assert main(["predict", str(picture), "--box", "5,5,40,70", "--box", "0,0,60,90", "--out", str(out)]) == 0
    content = json.loads((out / "photo.json").read_text())
    assert len(content["people"]) == 2 and len(content["people"][0]["keypoints"]) == 17
    assert cv2.imread(str(out / "photo_pose.jpg")).shape == (90, 60, 3)


def test_resume_without_a_run(tmp_path, capsys):
    assert f"{tmp_path}: " in refused(capsys, "resume", tmp_path)


def test_resume_takes_the_settings_of_the_run_except_those_that_are_given(people, tmp_path, capsys, monkeypatch):
    config = TrainConfig(data=f"synthetic:{people}", image_hw=(64, 64), workers=0, device="cpu", checkpoint_minutes=7)
    run, resumed = tmp_path / "run", []
    Run(config, create_model(config.model, image_hw=(64, 64)), torch.device("cpu")).save(run / "last.pt")
    assert "last.pt" in refused(capsys, "train", "--data", config.data, "--out", run)
    monkeypatch.setattr("lgmpose.training.trainer.train", lambda *a, **k: resumed.append((*a, k)))
    for given, changes in (
        ([], {}),
        (["--device", "auto", "--workers=auto", "--checkpoint_minutes", "2"],
         {"device": "auto", "workers": None, "checkpoint_minutes": 2.0}),
        (["--workers", "3"], {"workers": 3}),
        (["--bad-images", "skip"], {"bad_images": "skip"}),
    ):  # fmt: skip
        assert main(["resume", str(run), *given]) == 0
        assert resumed.pop() == (replace(config, **changes), run, {"resume": True, "session_type": None})
    for words in (["--resume", str(run)], [f"--resume={run}"], ["--resume"]):
        assert "lgmpose resume RUN" in refused(capsys, "train", *words)


def test_a_run_is_by_default_in_the_folder_runs(people, monkeypatch):
    trained = []
    monkeypatch.setattr("lgmpose.training.trainer.train", lambda config, out: trained.append((config.seed, out)))
    assert main(["train", "--data", f"synthetic:{people}", "--seed", "3"]) == 0
    assert main(["train", "--data", f"synthetic:{people}", "--out", "here"]) == 0
    assert trained == [(3, Path("runs/lgm-pose-coco-256x192-synthetic")), (0, Path("here"))]


def test_an_augmentation_that_leaves_no_crop(people, tmp_path, capsys):
    options = ["--data", f"synthetic:{people}", "--out", tmp_path / "run"]
    assert "scale_factor 1.0: " in refused(capsys, "train", *options, "--scale-factor", "1")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_written(people, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file where the folder should be")
    options = ["--batch-size", "4", "--image-hw", "64", "64"]
    line = refused(capsys, "train", "--data", f"synthetic:{people}", *options, "--out", tmp_path / "taken" / "run")
    assert "cannot be written" in line


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="its Path says that nothing is there, and so do the commands")
def test_a_closed_folder_is_one_sentence(people, tmp_path, capsys, monkeypatch):
    """Python 3.11's Path raises where it may not look, and tests may run as root, who may look everywhere."""
    closed = tmp_path / "closed"
    real = os.stat

    def stat(path, *args, **options):
        if str(path).startswith(str(closed)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    data = ["--data", f"synthetic:{people}"]
    for words in (
        ["predict", closed / "photo.jpg"], ["eval", *data, "--weights", closed / "w.safetensors"],
        ["train", *data, "--out", closed / "run"], ["compare", closed / "photo.jpg"],
    ):  # fmt: skip
        assert f"{closed}" in (line := refused(capsys, *words)) and line.endswith("Permission denied")


def test_annotations_where_there_are_none_to_choose(coco, capsys):
    folder, annotations = coco
    assert "lspet data have their own" in refused(capsys, "train", "--data", "lspet:x.zip", "--annotations", "a.json")
    line = refused(
        capsys, "train", "--data", f"coco:{folder / 'images' / 'val2017'}", "--annotations", annotations
    )
    assert "--val-annotations" in line


def test_a_file_that_is_no_checkpoint_in_its_place(tmp_path, capsys):
    for content in (b"", b"nothing", b"PK\x03\x04"):
        (tmp_path / "last.pt").write_bytes(content)
        assert f"{tmp_path / 'last.pt'}: " in refused(capsys, "resume", tmp_path)


def test_profile_lists_every_network(capsys):
    assert main(["profile", "--list"]) == 0
    assert capsys.readouterr().out.split() == list_models()


def test_help_of_every_command(capsys):
    for command in ([], ["data"], ["data", "coco"], ["train"], ["resume"], ["eval"], ["predict"], ["profile"], ["lab"],
                    ["lab", "ship"], ["course", "build"]):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            main([*command, "--help"])
        assert not end.value.code and f"usage: {' '.join(['lgmpose', *command])}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "eval"])
def test_the_helps_name_every_kind_of_data(command, capsys):
    """These helps are comments of the options, which cannot be built from KINDS."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out.partition("--data ")[2].partition(" --")[0]
    for text_of_help in (text, DATA_HELP):
        for kind in KINDS.keys() - ({"mix"} if command == "eval" and text_of_help is text else set()):
            assert re.search(rf"\b{kind}\b", text_of_help), kind


def test_the_help_of_bench_names_every_runtime(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    words = set(re.findall(r"[\w-]+", capsys.readouterr().out.partition("--backends ")[2].partition(" --threads")[0]))
    assert words >= set(RUNTIMES)


def test_the_core_has_its_commands_without_the_rooms_above_it():
    """Hide lab and course as an installation without them would."""
    code = """
import sys
sys.modules["lgmpose.lab"] = sys.modules["lgmpose.course"] = None
from lgmpose.cli import main
main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "{data,train,train-detector,eval-detector,resume,eval,predict,compare,export}" in done.stdout


@pytest.mark.parametrize(
    "error, status, line",
    [
        (UserError("a.json: no such file"), 2, "error: a.json: no such file"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "pictures"), 2, "error: pictures: No such file"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_a_script_ends_like_a_command(capsys, error, status, line):
    def fail():
        raise error

    with pytest.raises(SystemExit) as ended:
        run_script(fail)
    assert ended.value.code == status and capsys.readouterr().err.startswith(line)
    run_script(lambda: Path("written"))
