"""What ships beside the weights: the run's log, and figures taken from the very file that ships."""

import json

import pytest
import torch

from lgmpose.codecs import make_codec
from lgmpose.datasets.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.evaluate import evaluate_weights
from lgmpose.recipe import TrainConfig
from lgmpose.ship import ship
from lgmpose.skeletons import COCO
from lgmpose.zoo import create_model, save_weights

LOG = """epoch,step,learning_rate,train_loss,seconds,skipped,PCK@0.2
1,3,0.001,0.0041000,7,,
2,6,8.21716e-06,0.0039500,15,,12.5000
"""


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


def test_the_result_file_holds_the_log_and_the_shipped_files_figures(run_dir, tmp_path):
    name, data = "lgm-pose-coco-256x192", f"synthetic:{tmp_path / 'people'}"
    ship(run_dir, data, name=name, folder=tmp_path / "weights")
    result = json.loads((tmp_path / "weights" / f"{name}.json").read_text())
    first = {"epoch": 1, "step": 3, "learning_rate": 1e-3, "train_loss": 0.0041, "seconds": 7}
    second = {"epoch": 2, "step": 6, "learning_rate": 8.21716e-06, "train_loss": 0.00395, "seconds": 15}
    assert result["log"] == [first, second | {"PCK@0.2": 12.5}]
    assert all(type(row["epoch"]) is int for row in result["log"])
    again = evaluate_weights(data, tmp_path / "weights" / result["weights"]).as_json()
    assert result["figures"] == again["figures"]
    assert str(tmp_path) not in (tmp_path / "weights" / f"{name}.md").read_text() + json.dumps(result)


def test_weights_of_another_network_are_refused(run_dir, tmp_path):
    with pytest.raises(UserError, match="not a lgm-pose-mpii-256x256"):
        ship(run_dir, "synthetic", name="lgm-pose-mpii-256x256", folder=tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
