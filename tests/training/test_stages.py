"""Training in stages within a time limit, and the boxes of persons without joints: the scripts of data_scripts."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from training_tools import log_of

from lgmpose.errors import UserError
from lgmpose.zoo.catalogue import load_weights

SCRIPTS = Path(__file__).resolve().parents[2] / "data_scripts"


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look the module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stages(people, tmp_path):
    """Return the script and a function that makes its options."""
    (tmp_path / "sets.toml").write_text(
        f'[[train]]\ndata = "synthetic:{people}"\n[[val]]\ndata = "synthetic:{people}"\n'
    )
    module = script("train_in_stages")

    def options(**changes):
        defaults = {
            "sets": tmp_path / "sets.toml", "out": tmp_path / "out", "minutes": 60.0, "sizes": ("64x32", "96x64"),
            "shares": (0.5, 0.5), "reserve": 0.0, "model": "tiny", "init_weights": None, "batch_size": 4,
            "device": "cpu", "workers": 0,
        }  # fmt: skip
        return module.Stages(**defaults | changes)

    return module, options


def test_each_stage_starts_from_the_one_before(stages, tmp_path):
    module, options = stages
    before = [tmp_path / "1", tmp_path / "2"]
    last = module.stage_config(options(teacher="t.onnx"), 1, 2.0, before)
    assert last.init_weights == str(before[1] / "best.safetensors") and last.teacher == str(before[0] / "teacher.npz")
    first = module.stage_config(options(teacher="t.onnx"), 0, 2.0, [])
    assert first.teacher == "t.onnx" and first.init_weights is None and first.image_hw == (64, 32)
    with pytest.raises(UserError, match="shares"):
        module.main(options(shares=(1.0,)))
    with pytest.raises(UserError, match="minutes"):
        module.main(options(minutes=0.1, reserve=1.0))


@pytest.mark.slow
def test_all_stages_are_trained_and_the_same_command_repeats_nothing(stages, tmp_path, monkeypatch):
    module, options = stages
    settings = module.stage_config
    monkeypatch.setattr(module, "stage_config", lambda *given: replace(settings(*given), minutes=1e-6))
    module.main(options())
    folders = [tmp_path / "out" / name for name in ("1-64x32", "2-96x64")]
    net, card = load_weights(folders[1] / "best.safetensors")
    assert net.config.image_hw == (96, 64) and card["training"]["start"]["weights"] == "best.safetensors"
    before = [log_of(folder) for folder in folders]
    module.main(options())
    assert [log_of(folder) for folder in folders] == before


def test_boxes_without_joints_become_detections(tmp_path):
    entries = [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 10], "num_keypoints": 0, "iscrowd": 0},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 10], "num_keypoints": 3, "iscrowd": 0},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 10], "num_keypoints": 0, "iscrowd": 1},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 31, 10], "num_keypoints": 0, "iscrowd": 0},
    ]
    (tmp_path / "a.json").write_text(json.dumps({"annotations": entries}))
    script("unlabelled_boxes").main(tmp_path / "a.json", tmp_path / "b.json")
    (box,) = json.loads((tmp_path / "b.json").read_text())
    assert box == {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 10], "score": 1.0}
