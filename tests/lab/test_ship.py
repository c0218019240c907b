"""What ships beside the weights: the joined log, and figures taken from the very files that ship."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from lgmpose.cli import main
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.inference.evaluate_weights import evaluate_weights
from lgmpose.inference.figures import Evaluation
from lgmpose.inference.options import EvalConfig, ExportConfig
from lgmpose.lab.model_card import BY_HAND, card_text
from lgmpose.lab.ship import ship
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO
from lgmpose.training.recipe import TrainConfig
from lgmpose.training.run_folder import read_log
from lgmpose.zoo.catalogue import SPORTS_WEIGHTS, create_model, load_weights, save_weights, weights_hash

NAME, DATA = "lgm-pose-coco-256x192", "synthetic:/x/people"
LOG = """epoch,step,learning_rate,train_loss,seconds,skipped,PCK@0.2
1,3,0.001,0.0041000,7,,
2,6,8.21716e-06,0.0039500,15,0,12.5000
"""  # a cell is empty where nothing was measured, and in older logs where no picture was skipped


def save_run(folder, data, *, changes=None, **training):
    """An untrained network in the place of a run's best."""
    folder.mkdir(exist_ok=True)
    (folder / "log.csv").write_text(LOG)
    elsewhere = {"init_weights": "/somewhere/part.safetensors", "val_data": "coco:/somewhere/val"}
    config = replace(TrainConfig(data=data, **elsewhere), **changes or {})
    torch.manual_seed(0)
    net = create_model(config.model, **changes or {})
    training = {"config": config.as_dict(), "epoch": 2, "step": 6, "hours": 0.01, "persons": "p", **training}
    save_weights(folder / "best.safetensors", net, COCO, make_codec("standard", (256, 192)), training=training)
    return folder


@pytest.fixture
def fake(monkeypatch):
    """Shipping without the slow steps, which have a test below. A figure tells what was evaluated."""

    def evaluate(config):
        limit = config.limit
        figure = 50 + 10 * (config.weights.suffix == ".onnx") + 5 * (config.split == "train") + (limit or 0) / 1000
        kinds = {"PCK@0.2": {"side": 1.0, "name": 2.0, "near": 3.0, "lost": figure}}
        conditions = {"persons": str(limit or 3), "skeleton": "coco-17"}
        return Evaluation({"PCK@0.2": figure}, conditions, {}, {"PCK@0.2": (40.0, 60.0)}, kinds)

    def export(config):
        weights = config.out.with_suffix(".safetensors")
        assert config == ExportConfig(config.out, weights=weights, format="int8", data="synthetic:/x/people")
        config.out.write_bytes(b"onnx")

    monkeypatch.setattr("lgmpose.lab.ship.evaluate_weights", evaluate)
    monkeypatch.setattr("lgmpose.lab.ship.export", export)


@pytest.mark.slow
def test_the_result_file_holds_the_shipped_files_figures(fake, tmp_path):
    folder, run = tmp_path / "weights", save_run(tmp_path / "run", DATA)
    assert main(["lab", "ship", DATA, str(run), "--name", NAME, "--folder", str(folder)]) == 0
    result, page = json.loads((folder / f"{NAME}.json").read_text()), (folder / f"{NAME}.md").read_text()
    weights, onnx = (folder / f"{NAME}{suffix}" for suffix in (".safetensors", ".onnx"))
    figures = [part["PCK@0.2"] for part in (
        result["figures"], result["first_persons"], result["onnx"], result["onnx"]["first_persons"],
        result["training_persons"])]  # fmt: skip
    assert figures == [50, 50.06, 60, 60.06, 55.5]
    assert result["first_persons"]["count"] == 60 and result["training_persons"]["persons"] == "500"
    assert result["errors"]["PCK@0.2"]["lost"] == 50 and result["training_persons"]["errors"]["PCK@0.2"]["lost"] == 55.5
    assert (result["weights"], result["sha256"]) == (weights.name, weights_hash(weights))
    assert result["onnx"]["sha256"] == weights_hash(onnx) and onnx.name in result["onnx"]["command"]
    assert "--split train --limit 500" in result["training_persons"]["command"]
    assert result["command"] == f"lgmpose eval --data synthetic:PATH/people --weights {weights.name}"
    assert result["network"] == {"params": 1_054_929, "image_hw": [256, 192], "num_keypoints": 17, "onnx_bytes": 4}
    assert page == card_text(result) + "\n" + BY_HAND and (folder / f"{NAME}.png").is_file()
    config = result["training"]["config"]
    assert (config["data"], config["init_weights"]) == ("synthetic:people", "part.safetensors"), "no folders of ours"
    assert config["val_data"] == "coco:val"
    stored = load_weights(weights)[1]
    assert stored["evaluation"]["figures"] == result["figures"] and stored["training"] == result["training"]
    assert weights.stat().st_size < 2.5e6, "16 bits"


def test_weights_of_another_activation_ship_and_those_of_another_network_do_not(fake, tmp_path):
    run, folder = save_run(tmp_path / "run", DATA, changes={"activation": "silu"}), tmp_path / "weights"
    ship(DATA, (run,), name=NAME, folder=folder)
    assert load_weights(folder / f"{NAME}.safetensors")[0].config.activation == "silu"
    assert json.loads((folder / f"{NAME}.json").read_text())["parts"][0]["activation"] == "silu"
    other = save_run(tmp_path / "other", DATA, changes={"fusion": "none"})
    for runs, name in ((run,), "lgm-pose-mpii-256x256"), ((other,), NAME):
        with pytest.raises(UserError, match=name):
            ship(DATA, runs, name=name, folder=tmp_path / "nowhere")
    (run / "log.csv").unlink()
    for runs, named in (((run,), "log.csv"), ((), "folder")):
        with pytest.raises(UserError, match=named):
            ship(DATA, runs, name=NAME, folder=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_after_an_error_the_earlier_files_are_whole(fake, tmp_path, monkeypatch):
    folder, run = tmp_path / "weights", save_run(tmp_path / "run", DATA)
    folder.mkdir()
    for suffix in (".safetensors", ".onnx", ".json", ".md"):
        (folder / f"{NAME}{suffix}").write_text('{"log": [], "sha256": ""}')
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def no_data(config):
        raise UserError("no such data")

    monkeypatch.setattr("lgmpose.lab.ship.evaluate_weights", no_data)
    with pytest.raises(UserError, match="no such data"):
        ship(DATA, (run,), name=NAME, folder=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
def test_a_second_part_is_counted_on_from_the_first(fake, tmp_path):
    """Whether the first part ships in between, or both ship together."""
    first = save_run(tmp_path / "first", DATA, epoch=1, step=3)  # the best came before the run's end
    folder, training = tmp_path / "weights", load_weights(first / "best.safetensors")[1]["training"]

    def second_part(started_from):
        start = {"weights": started_from.name, "sha256": weights_hash(started_from), "training": training}
        return save_run(tmp_path / "second", DATA, hours=0.5, start=start)

    def shipped(*runs, folder=folder):
        ship(DATA, runs, name=NAME, folder=folder)
        return json.loads((folder / f"{NAME}.json").read_text())

    assert [row["phase"] for row in shipped(first)["log"]] == [1, 1]
    results = [shipped(second_part(folder / f"{NAME}.safetensors"))]
    second = second_part(first / "best.safetensors")
    results.append(shipped(first, second, folder=tmp_path / "at once"))
    for result in results:
        assert [(row["phase"], row["epoch"], row["step"], row["seconds"]) for row in result["log"]] == [
            (1, 1, 3, 7), (2, 2, 6, 14), (2, 3, 9, 22),
        ]  # fmt: skip
        assert [(part["epochs"], part["steps"], part["hours"]) for part in result["parts"]] == [
            (1, 3, 0.01), (2, 6, 0.5),
        ]  # fmt: skip
        assert {part["planned"] for part in result["parts"]} == {TrainConfig().epochs}
    for runs in ((second,), (second, first), (first, first)):
        with pytest.raises(UserError, match=runs[0].name):
            ship(DATA, runs, name=NAME, folder=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_log_is_numbers_and_lacks_what_was_not_measured(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    first = {"epoch": 1, "step": 3, "learning_rate": 1e-3, "train_loss": 0.0041, "seconds": 7}
    second = {"epoch": 2, "step": 6, "learning_rate": 8.21716e-06, "train_loss": 0.00395, "seconds": 15, "skipped": 0}
    rows = read_log(tmp_path / "log.csv")
    assert rows == [first, {**second, "PCK@0.2": 12.5}] and all(type(row["epoch"]) is int for row in rows)


@pytest.mark.slow
def test_a_real_run_ships(tmp_path):
    make_synthetic(tmp_path / "people", 3, progress=False)
    data, folder = f"synthetic:{tmp_path / 'people'}", tmp_path / "weights"
    run = save_run(tmp_path / "run", data)
    assert main(["lab", "ship", data, str(run), "--name", NAME, "--folder", str(folder)]) == 0
    result = json.loads((folder / f"{NAME}.json").read_text())
    for part, suffix in ((result, ".safetensors"), (result["onnx"], ".onnx")):
        again = evaluate_weights(EvalConfig(data, folder / f"{NAME}{suffix}")).as_json()["figures"]
        assert again and part.get("figures", {k: v for k, v in part.items() if k in again}) == again
    assert (folder / f"{NAME}.png").read_bytes().startswith(b"\x89PNG")


def test_a_training_that_began_with_other_shipped_weights_names_their_parts(fake, tmp_path):
    earlier = json.loads(SPORTS_WEIGHTS.with_suffix(".json").read_text())["parts"]
    start = {"weights": SPORTS_WEIGHTS.name, "sha256": weights_hash(SPORTS_WEIGHTS),
             "training": load_weights(SPORTS_WEIGHTS)[1]["training"]}  # fmt: skip
    config = TrainConfig(data=DATA, minutes=5.0, teacher="/somewhere/teacher.npz").as_dict()
    ship(DATA, (save_run(tmp_path / "run", DATA, start=start, config=config),), name=NAME, folder=tmp_path)
    result = json.loads((tmp_path / f"{NAME}.json").read_text())
    number = len(earlier) + 1
    assert [row["phase"] for row in result["log"]] == [number, number]
    assert [part["steps"] for part in result["parts"][:-1]] == [part["steps"] for part in earlier]
    assert result["parts"][-1]["planned"] is None
    assert result["training"]["config"]["teacher"] == "teacher.npz"
    row = next(line for line in (tmp_path / f"{NAME}.md").read_text().splitlines() if line.startswith(f"| {number} "))
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["256×192", "2", "6"]
