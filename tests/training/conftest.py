"""A tiny data set, network and recipe: an epoch has three steps and takes a fraction of a second."""

from pathlib import Path

import pytest
import torch
from training_tools import TINY

from lgmpose.data.synthetic import make_synthetic
from lgmpose.network.config import VARIANTS
from lgmpose.training.recipe import TrainConfig


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """Return a folder of 12 synthetic images with 17 persons: 13 to train on, 4 to validate on."""
    folder = tmp_path_factory.mktemp("people")
    make_synthetic(folder, 12, seed=3, image_hw=(64, 80), max_people=2, progress=False)
    return folder


@pytest.fixture
def config(people) -> TrainConfig:
    """Return a recipe with dropout (MobileViT's), so that random states matter, and a moving average."""
    return TrainConfig(
        data=f"synthetic:{people}", model="tiny", image_hw=(64, 32), epochs=2, batch_size=4, learning_rate=2e-3, seed=1,
        global_block="mobilevit", ema_decay=0.9, workers=0, device="cpu", flip_test=False, checkpoint_minutes=0,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Add the network ``tiny``, use one thread, and draw no learning curve unless a test has the fixture with_curve."""
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    if "with_curve" not in request.fixturenames:
        monkeypatch.setattr("lgmpose.training.trainer.save_curve", lambda *_: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def with_curve() -> None:
    """Ask for the learning curve."""
