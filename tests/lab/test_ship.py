"""What ships beside the weights: the run's log, and figures taken from the very file that ships."""

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure

from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.inference.evaluate import Evaluation, evaluate_weights
from lgmpose.lab.ship import _error_table, _joint_table, _log_rows, _yardsticks, ship
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO, MPII
from lgmpose.training.curve import save_curve
from lgmpose.training.recipe import TrainConfig
from lgmpose.zoo.catalogue import create_model, load_weights, save_weights, weights_hash

LOG = """epoch,step,learning_rate,train_loss,seconds,skipped,PCK@0.2
1,3,0.001,0.0041000,7,,
2,6,8.21716e-06,0.0039500,15,0,12.5000
"""  # a cell is empty where nothing was measured, and in older logs where no picture was skipped


@pytest.fixture
def run_dir(tmp_path):
    """An untrained network in the place of a run's best."""
    make_synthetic(tmp_path / "people", 6, progress=False)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "log.csv").write_text(LOG)
    torch.manual_seed(0)
    config = TrainConfig(data=f"synthetic:{tmp_path / 'people'}")
    training = {"config": config.as_dict(), "epoch": 2, "step": 6, "hours": 0.01, "persons": "synthetic-train"}
    net = create_model(config.model)
    save_weights(folder / "best.safetensors", net, COCO, make_codec("standard", (256, 192)), training=training)
    return folder


def test_weights_of_another_activation_ship_and_those_of_another_network_do_not(run_dir, tmp_path):
    name, data = "lgm-pose-coco-256x192", f"synthetic:{tmp_path / 'people'}"
    _, card = load_weights(run_dir / "best.safetensors")
    config = TrainConfig.from_dict(card["training"]["config"])
    for changes, fits in (({"activation": "silu"}, True), ({"fusion": "none"}, False)):
        training = card["training"] | {"config": replace(config, **changes).as_dict()}
        net, codec = create_model(name, **changes), make_codec("standard", (256, 192))
        save_weights(run_dir / "best.safetensors", net, COCO, codec, training=training)
        with nullcontext() if fits else pytest.raises(UserError, match="not a lgm-pose-coco-256x192"):
            ship(data, (run_dir,), name=name, folder=tmp_path / "weights")
    assert load_weights(tmp_path / "weights" / f"{name}.safetensors")[0].config.activation == "silu"
    assert "| silu | σ 40°, of 60 % |" in (tmp_path / "weights" / f"{name}.md").read_text()


def test_the_result_file_holds_the_log_and_the_shipped_files_figures(run_dir, tmp_path):
    name, data = "lgm-pose-coco-256x192", f"synthetic:{tmp_path / 'people'}"
    folder = tmp_path / "weights"
    ship(data, (run_dir,), name=name, folder=folder)
    result = json.loads((folder / f"{name}.json").read_text())
    first = {"epoch": 1, "step": 3, "learning_rate": 1e-3, "train_loss": 0.0041, "seconds": 7}
    second = {"epoch": 2, "step": 6, "learning_rate": 8.21716e-06, "train_loss": 0.00395, "seconds": 15, "skipped": 0}
    assert result["log"] == [{"phase": 1, **first}, {"phase": 1, **second, "PCK@0.2": 12.5}]
    assert all(type(row["epoch"]) is int for row in result["log"])
    assert result["figures"] == evaluate_weights(data, folder / result["weights"]).as_json()["figures"]
    page = (folder / f"{name}.md").read_text()
    assert str(tmp_path) not in page + json.dumps(result)
    assert f"lgmpose predict photo.jpg --weights {name}.safetensors" in page  # not the weights of SHIPPED
    assert "AP and AR are COCO's" in page and "PCKh@0.5" not in page
    for part, options in (("onnx", {"weights": folder / f"{name}.onnx"}), ("training_persons", {"split": "train"})):
        again = evaluate_weights(data, **{"weights": folder / result["weights"]} | options).as_json()["figures"]
        assert {metric: result[part][metric] for metric in again} == again
    first = dict(result["first_persons"])
    again = evaluate_weights(data, folder / result["weights"], limit=first.pop("count"))
    assert again.conditions["persons"] == str(result["first_persons"]["count"])
    assert again.as_json()["figures"] == first
    assert f"AP {result['onnx']['AP']:.4f}" in page
    lost = [part["errors"]["PCK@0.2"]["lost"] for part in (result, result["training_persons"])]
    assert "| elsewhere | {:.2f} | {:.2f} |".format(*lost) in page
    assert result["onnx"]["sha256"] == weights_hash(folder / f"{name}.onnx")


def test_the_card_states_the_evaluations_own_yardsticks():
    conditions = {"head size": "0.6 × head box"}
    page = " ".join(_yardsticks(Evaluation({"PCKh@0.5": 80.0, "PCK@0.2": 70.0}, conditions), MPII).split())
    assert "half of the head's size (0.6 × head box) and pools 14 joints" in page and "COCO" not in page
    assert "pools 12 limb joints" in page and page.endswith("flatters the figures a little.")


def test_a_card_without_figures_of_joints_says_so():
    """Where nobody's torso is labelled, among the validation persons or among those of the training."""
    measured = Evaluation({"PCK@0.2": 70.0}, {}, errors={"PCK@0.2": {}})
    assert "there are no figures" in _joint_table(Evaluation({"AP": 0.5}, {}))
    for validation, seen in ((Evaluation({}, {}), measured), (measured, Evaluation({}, {}))):
        assert "not defined" in _error_table(validation, seen)


def test_a_second_part_is_counted_on_from_the_first(run_dir, tmp_path, monkeypatch):
    """Shipped in between, or together: the same log, hours and steps."""
    monkeypatch.setattr("lgmpose.lab.ship.export", lambda out, **options: out.write_bytes(b""))  # has a test above
    monkeypatch.setattr("lgmpose.lab.ship._figures_of", lambda file, command, evaluation: {"command": command})
    evaluated = ship.__globals__["evaluate_weights"]
    monkeypatch.setattr("lgmpose.lab.ship.evaluate_weights", lambda data, path, **options: evaluated(
        data, path if path.suffix == ".safetensors" else path.with_suffix(".safetensors"), **options))  # fmt: skip
    name, data, folder = "lgm-pose-coco-256x192", f"synthetic:{tmp_path / 'people'}", tmp_path / "weights"
    other = tmp_path / "other"
    other.mkdir()
    (other / "log.csv").write_text(LOG)
    net, card = load_weights(run_dir / "best.safetensors")
    training = {**card["training"], "epoch": 1, "step": 3}  # the best came before the run's end
    codec = make_codec("standard", (256, 192))
    save_weights(run_dir / "best.safetensors", net, COCO, codec, training=training)

    def second_part(first):
        start = {"weights": first.name, "sha256": weights_hash(first), "training": training}
        again = {**training, "epoch": 2, "step": 6, "hours": 0.5, "start": start}
        save_weights(other / "best.safetensors", net, COCO, codec, training=again)

    ship(data, (run_dir,), name=name, folder=folder)
    second_part(folder / f"{name}.safetensors")
    ship(data, (other,), name=name, folder=folder)
    logs = [json.loads((folder / f"{name}.json").read_text())["log"]]
    page = (folder / f"{name}.md").read_text()
    assert "| 1 | 256×192 | 1 |" in page and "| 2 | 256×192 | 2 |" in page and "0.51 h of training up to" in page
    assert "Drawn people, by a seed." in page and "Leeds" not in page
    second_part(run_dir / "best.safetensors")
    ship(data, (run_dir, other), name=name, folder=tmp_path / "at once")
    logs.append(json.loads((tmp_path / "at once" / f"{name}.json").read_text())["log"])
    for log in logs:
        assert [(row["phase"], row["epoch"], row["step"], row["seconds"]) for row in log] == [
            (1, 1, 3, 7), (2, 2, 6, 14), (2, 3, 9, 22),
        ]  # fmt: skip

    for runs in ((other,), (other, run_dir), (run_dir, run_dir)):
        with pytest.raises(UserError, match="did not start from the best weights of"):
            ship(data, runs, name=name, folder=tmp_path / "nowhere")
    with pytest.raises(UserError, match="name a run's folder"):
        ship(data, (), name=name, folder=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_the_curve_does_not_join_losses_of_different_parts(tmp_path, monkeypatch):
    """At another input size the loss is another; the figures of validation go on."""
    drawn, write = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), write(self, *a, **k)))
    losses, figures = [0.004, 0.003, 0.002, 0.001], [10.0, 30.0, 20.0, 40.0]
    log = [
        {"phase": phase, "epoch": epoch, "train_loss": loss, "PCK@0.2": figure}
        for phase, epoch, loss, figure in zip([1, 1, 2, 2], [1, 2, 3, 4], losses, figures, strict=True)
    ]
    save_curve(log, tmp_path / "curve.png")
    left, right = drawn[0].axes
    lines = [[line.get_xydata().tolist() for line in axes.lines] for axes in (left, right)]
    boundary = [[2.5, 0.0], [2.5, 1.0]]
    assert lines[0] == [[[1, 0.004], [2, 0.003]], [[3, 0.002], [4, 0.001]], boundary]
    assert lines[1] == [[[1, 10], [2, 30], [3, 20], [4, 40]], boundary]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_of_zero_is_drawn_and_an_unmeasured_one_is_not(tmp_path, monkeypatch):
    drawn, write = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), write(self, *a, **k)))
    head = "epoch,train_loss,skipped,PCK@0.2\n"
    (tmp_path / "log.csv").write_text(head + "1,0.004,0,0.0000\n2,0.003,0,\n3,0.002,0,40.0000\n")
    for log in (tmp_path / "log.csv", _log_rows(tmp_path / "log.csv")):
        save_curve(log, tmp_path / "curve.png")
        assert [line.get_xydata().tolist() for line in drawn.pop().axes[1].lines] == [[[1, 0], [3, 40]]]


def test_a_run_without_its_log_is_refused_before_anything_is_written(run_dir, tmp_path):
    (run_dir / "log.csv").unlink()
    with pytest.raises(UserError, match="log.csv: not there"):
        ship("synthetic", (run_dir,), name="lgm-pose-coco-256x192", folder=tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_weights_of_another_network_are_refused(run_dir, tmp_path):
    with pytest.raises(UserError, match="not a lgm-pose-mpii-256x256"):
        ship("synthetic", (run_dir,), name="lgm-pose-mpii-256x256", folder=tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
