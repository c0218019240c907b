"""The commands of docs/reproduce.md, word for word, on the few real images of COCO and MPII at hand."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from lgmpose.cli import main
from lgmpose.training.checkpoint import read_checkpoint
from lgmpose.zoo.catalogue import load_weights

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text(encoding="utf-8")
BLOCK = re.search(r"```bash\n(.*?)```", PAGE[PAGE.index("\n## Commands\n") :], re.S)[1]
COMMANDS = [line.partition(" #")[0].strip() for line in BLOCK.replace("\\\n", " ").splitlines()]
SMALL = {"--image-hw": "64 64", "--epochs": "2", "--batch-size": "4", "--eval-every": "1", "--device": "cpu"}


@pytest.fixture(scope="module")
def folder(shared_data, tmp_path_factory):
    """The official layouts with the samples in them: the same few pictures are training and validation."""
    folder = tmp_path_factory.mktemp("paper")
    coco, mpii = folder / "data" / "coco", folder / "data" / "mpii"
    (coco / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (coco / "images" / split).mkdir(parents=True)
        for picture in (shared_data / "coco_sample").glob("*.jpg"):
            shutil.copy(picture, coco / "images" / split)
        source = shared_data / "coco_sample" / "person_keypoints_sample.json"
        shutil.copy(source, coco / "annotations" / f"person_keypoints_{split}.json")
    detections = shared_data / "coco_sample" / "person_detections_sample.json"
    shutil.copy(detections, coco / "COCO_val2017_detections_AP_H_56_person.json")
    (mpii / "images").mkdir(parents=True)
    for picture in (shared_data / "mpii_sample").glob("*.jpg"):
        shutil.copy(picture, mpii / "images")
    for split in ("train", "val"):
        shutil.copy(shared_data / "mpii_sample" / "annotations_sample.json", mpii / f"mpii_{split}.json")
    return folder


def words_of(start: str, **changes: str) -> list[str]:
    """The one command that starts so; of a training, what makes it long is changed and nothing else."""
    (line,) = (line for line in COMMANDS if line.startswith(start))
    words = shlex.split(line)
    if "--epochs" not in words and "train" in words:
        for flag, value in (SMALL | changes).items():
            if flag in words:
                del words[words.index(flag) : words.index(flag) + 2]
            words += [flag, *value.split()]
    return words


def run(words: list[str]) -> None:
    assert words[0] == "lgmpose" and not main(words[1:])


def check_run(run_dir: Path, name: str, keypoints: int, persons: str) -> None:
    net, card = load_weights(run_dir / "best.safetensors")
    assert net.config.num_keypoints == keypoints and card["training"]["config"]["model"] == name
    assert card["training"]["persons"] == persons  # not those it was validated on
    config = card["training"]["config"]  # the paper's recipe
    assert (config["optimizer"], config["schedule"], config["lr_steps"]) == ("adam", "steps", [200, 240])
    assert read_checkpoint(run_dir / "last.pt")["progress"]["epoch"] == 2
    assert len((run_dir / "log.csv").read_text(encoding="utf-8").splitlines()) == 3  # the heads, two epochs


def test_coco_is_trained_resumed_and_evaluated(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    with monkeypatch.context() as patch:  # Ctrl-C in the first epoch
        patch.setattr("lgmpose.training.run_folder.StopRequest.asked", True)
        assert main(words_of("lgmpose train --data coco:data/coco --eval")[1:]) == 130
    assert "stopped at epoch 1" in capsys.readouterr().out
    run(words_of("lgmpose resume"))
    check_run(Path("runs/coco"), "lgm-pose-coco-256x192", 17, "person_keypoints_train2017")
    run(words_of("lgmpose eval --data coco"))
    figures = json.loads(Path("runs/coco/figures.json").read_text(encoding="utf-8"))
    assert "AP" in figures["figures"] and "detect" in figures["conditions"]["boxes"]
    truth = COCO("data/coco/annotations/person_keypoints_val2017.json")
    persons = json.loads(Path("runs/coco/val2017.json").read_text(encoding="utf-8"))
    assert persons and len(truth.loadRes("runs/coco/val2017.json").anns) == len(persons)
    assert all(len(person["keypoints"]) == 51 for person in persons)


def test_mpii_is_trained_and_evaluated(folder, monkeypatch):
    monkeypatch.chdir(folder)
    run(words_of("lgmpose train --data mpii"))
    check_run(Path("runs/mpii"), "lgm-pose-mpii-256x256", 16, "mpii-train")
    run(words_of("lgmpose eval --data mpii"))
    figures = json.loads(Path("runs/mpii/figures.json").read_text(encoding="utf-8"))
    assert 0 <= figures["figures"]["PCKh@0.5"] <= 100 and "head" in figures["conditions"]["head size"]


def test_eight_gpus_as_two_processes(folder):
    words = words_of("torchrun")
    words[0:1] = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words[words.index("--nproc-per-node") + 1] = "2"
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    check_run(folder / "runs/coco-8", "lgm-pose-coco-256x192", 17, "person_keypoints_train2017")
