"""A training loop written by hand from the recipe, which the package's runs are compared with, and readers of a run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import torch

from lgmpose.data import load_records
from lgmpose.data.batches import EpochSampler, make_loader, to_input
from lgmpose.data.crops import CropDataset
from lgmpose.network.config import LGMPoseConfig, Stage
from lgmpose.pose.codecs import make_codec
from lgmpose.training.recipe import TrainConfig
from lgmpose.zoo.catalogue import create_model

TINY = LGMPoseConfig(
    (64, 32), 17, stem_channels=8, decoder_channels=(8, 8, 8),
    stages=(
        Stage(1, 8, 1, 1), Stage(1, 8, 1, 2), Stage(1, 8, 1, 2, 8, (4, 4), 1), Stage(1, 8, 1, 2, 8, (2, 2), 1),
        Stage(1, 8, 1, 2),
    ),
)  # fmt: skip


def losses_of(run_dir: Path) -> list[float]:
    """Return the column ``loss`` of ``loss.csv``; the steps must be numbered from 0 without a gap."""
    with open(run_dir / "loss.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(len(rows)))
    return [float(row["loss"]) for row in rows]


def log_of(run_dir: Path) -> list[dict[str, str]]:
    """Return the rows of ``log.csv``."""
    with open(run_dir / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def by_hand(config: TrainConfig) -> tuple[list[float], torch.nn.Module, dict[str, torch.Tensor]]:
    """Train on one CPU without the training room's loop, session and state.

    Returns:
        The losses, the network, and the moving average of its state.
    """
    torch.manual_seed(config.seed)
    records = load_records(config.data, "train")
    options = {"fusion": config.fusion, "global_block": config.global_block, "activation": config.activation}
    net = create_model(config.model, num_keypoints=records.skeleton.num_keypoints, image_hw=config.image_hw, **options)
    net = net.to(memory_format=torch.channels_last).train()
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    optimizer = kind(net.parameters(), lr=1.0, weight_decay=config.weight_decay, fused=True)
    average = {name: value.detach().clone() for name, value in net.state_dict().items()}
    codec = make_codec(config.codec, config.image_hw, config.sigma)
    aligned = config.codec == "udp"
    dataset = CropDataset(
        records, config.image_hw, aligned=aligned, augmentation=config.augmentation, seed=config.seed
    )
    weights_of_joints = torch.tensor(records.skeleton.limb_weights).square()
    if config.joint_weights == "equal":
        weights_of_joints = torch.ones_like(weights_of_joints)
    steps = len(records) // config.batch_size
    losses: list[float] = []
    for epoch in range(config.epochs):
        sampler = EpochSampler(len(records), config.batch_size, seed=config.seed, epoch=epoch)
        for batch in make_loader(dataset, codec, sampler, workers=0):
            step = len(losses)
            if config.schedule == "cosine":
                rate = config.learning_rate * (1 + math.cos(math.pi * step / (steps * config.epochs))) / 2
            else:
                rate = config.learning_rate * 0.1 ** sum(epoch >= start for start in config.lr_steps)
            if config.warmup_steps:
                rate *= min(1.0, (step + 1) / config.warmup_steps)
            optimizer.param_groups[0]["lr"] = rate
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
                predicted = net(to_input(batch["image"]))
            errors = (predicted.float() - batch["heatmaps"]).square()
            loss = 0.5 * (errors * (batch["weights"] * weights_of_joints)[..., None, None]).mean()
            optimizer.zero_grad()
            loss.backward()
            if config.clip_grad_norm:
                torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip_grad_norm)
            optimizer.step()
            losses.append(loss.item())
            decay = min(config.ema_decay, (1 + step + 1) / (10 + step + 1))
            for name, value in net.state_dict().items():
                floating = value.is_floating_point()
                average[name] = torch.lerp(average[name], value, 1 - decay) if floating else value.clone()
    return losses, net, average


def assert_equal_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Compare two states bit for bit."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different
