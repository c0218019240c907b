"""SimCC from the loss to the exported file: targets are learned, and every command reads them by the card."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.data.batches import make_loader, to_input
from lgmpose.data.crops import CropDataset
from lgmpose.errors import UserError
from lgmpose.inference.predictor import Predictor
from lgmpose.pose.codecs import make_codec
from lgmpose.training.loop import simcc_loss
from lgmpose.training.trainer import train
from lgmpose.zoo.catalogue import create_model, load_weights, save_weights


@pytest.fixture
def simcc(config):
    """Return the recipe with the SimCC head."""
    return replace(config, codec="simcc", global_block="mobilevim")


def test_the_loss_of_zero_scores_is_that_of_mmposes_code():
    """0.01829 for 256 × 192: there the divergence is divided by the bins of its axis, and each axis has its sigma."""
    total = 0.0
    for sigma, bins, of_axis in ((4.9, 384, slice(384)), (5.66, 512, slice(384, None))):
        target, weights = make_codec("simcc", (256, 192), sigma).encode(np.full((1, 17, 2), 90.0), np.ones((1, 17)))
        target = torch.from_numpy(target[..., of_axis])
        total += simcc_loss(torch.zeros_like(target), target, torch.from_numpy(weights), x_bins=bins).item() / bins
    assert total == pytest.approx(0.01829, abs=1e-5)


def test_the_loss_is_the_divergence_per_axis():
    rng = np.random.default_rng(0)
    found, wanted, weights = rng.random((2, 3, 10)), rng.random((2, 3, 10)), np.array([[1, 0, 2], [1, 1, 0.5]])
    expected = 0.0
    for b, k in np.ndindex(2, 3):
        for axis in (slice(0, 4), slice(4, 10)):
            q, p = (np.exp(10 * scores[b, k, axis]) for scores in (found, wanted))
            q, p = q / q.sum(), p / p.sum()
            expected += weights[b, k] * (p * np.log(p / q)).sum() / 6
    loss = partial(simcc_loss, x_bins=4)
    found, wanted, weights = (torch.tensor(values, dtype=torch.float32) for values in (found, wanted, weights))
    assert loss(found, wanted, weights).item() == pytest.approx(expected, rel=1e-4)
    assert loss(wanted + 3, wanted, weights).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_one_crop_is_overfitted_and_an_exchange_of_the_axes_shows(people):
    records = load_records(f"synthetic:{people}").subset([0])
    codec, x_bins = make_codec("simcc", (96, 64)), 2 * 64
    batch = next(iter(make_loader(CropDataset(records, (96, 64)), codec, [[0, 0]], workers=0)))
    torch.manual_seed(0)
    net = create_model("tiny", head="simcc", image_hw=(96, 64)).train()
    optimizer, losses = torch.optim.Adam(net.parameters(), 1e-3), []
    for _ in range(80):
        loss = simcc_loss(net(to_input(batch["image"])), batch["heatmaps"], batch["weights"], x_bins=x_bins)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]
    with torch.no_grad():
        scores = net(to_input(batch["image"])).numpy()
    seen = batch["weights"].numpy() > 0
    assert seen.sum() > 8

    def worst(scores: np.ndarray) -> float:
        wanted = codec.decode(batch["heatmaps"].numpy())[0]
        return np.abs(codec.decode(scores)[0] - wanted)[seen].max()

    assert worst(scores) <= 1
    assert worst(np.concatenate([scores[..., x_bins:], scores[..., :x_bins]], axis=-1)) > 5


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["none", "device"])
def test_trained_weights_are_evaluated_used_and_exported(simcc, people, tmp_path, capsys, cache):
    pytest.importorskip("onnxruntime")
    train(replace(simcc, cache=cache), tmp_path / "run", progress=False)
    best, graph = tmp_path / "run" / "best.safetensors", tmp_path / "net.onnx"
    net, card = load_weights(best)
    assert (card["codec"], net.config.head) == ({"name": "simcc", "sigma": 8**0.5}, "simcc")
    assert not main(["eval", "--weights", str(best), "--data", f"synthetic:{people}", "--workers", "0"])
    assert "simcc" in capsys.readouterr().out
    assert not main(["export", "--weights", str(best), "--out", str(graph), "--verify"])
    picture = load_records(f"synthetic:{people}").records[0].image
    poses = [Predictor(weights, detector="none")(picture)[0] for weights in (best, graph)]
    np.testing.assert_allclose(poses[0].scores, poses[1].scores, atol=1e-3)
    assert np.isfinite(poses[1].keypoints_xy).all() and (poses[1].scores <= 1).all()


def test_codec_and_head_belong_together(simcc, people, tmp_path, capsys):
    with pytest.raises(UserError, match="codec simcc.*small-hrnet"):
        train(replace(simcc, model="small-hrnet", global_block="mobilevim"), tmp_path / "run", progress=False)
    with pytest.raises(UserError, match="teacher"):
        replace(simcc, teacher="net.onnx")
    net, skeleton = create_model("tiny", head="simcc"), load_records(f"synthetic:{people}").skeleton
    save_weights(tmp_path / "wrong.safetensors", net, skeleton, make_codec("dark", (64, 32)))
    with pytest.raises(UserError, match="wrong.safetensors"):
        load_weights(tmp_path / "wrong.safetensors")
    save_weights(tmp_path / "net.safetensors", net, skeleton, make_codec("simcc", (64, 32)))
    arguments = ["eval", "--weights", str(tmp_path / "net.safetensors"), "--data", f"synthetic:{people}"]
    for option, word in ((["--codec", "dark"], "net.safetensors"), (["--image-hw", "64", "64"], "64")):
        assert main([*arguments, *option]) != 0
        assert word in capsys.readouterr().err
