"""Crops on the device: equal to the ordinary crops, whole runs, and pictures that cannot be read."""

from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from training_tools import assert_equal_states, losses_of

from lgmpose.data import load_records
from lgmpose.data.augment import Augmentation
from lgmpose.data.batches import make_loader
from lgmpose.data.crops import CropDataset
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO
from lgmpose.training.checkpoint import read_checkpoint
from lgmpose.training.device_crops import DeviceCrops
from lgmpose.training.distill import mixed_profiles, mixed_targets
from lgmpose.training.trainer import resume, train

IMAGE_HW = (64, 48)
CPU = torch.device("cpu")


@pytest.fixture
def smooth(tmp_path) -> RecordSet:
    """Return four persons in a smooth coloured picture, where one more interpolation changes little."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.float32)
    picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 16), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "smooth.png"), picture)
    rng = np.random.default_rng(1)
    records = [
        PersonRecord(
            str(tmp_path / "smooth.png"), np.array([160.0 + 30 * i, 150.0]), np.array([50.0, 90.0 + 9 * i]),
            rng.uniform((140, 110), (260, 190), (17, 2)), np.full(17, 2), i, 1,
        )
        for i in range(4)
    ]  # fmt: skip
    return RecordSet("smooth", COCO, tuple(records), "boxes")


@pytest.mark.parametrize("name", ["dark", "udp"])
def test_crops_are_those_of_the_ordinary_way(smooth, name):
    # Within the margin: what is beyond it is black.
    augmentation = Augmentation(0.0, scale_factor=0.1, rotation_deg=7, colour=0.2, occlusion_prob=0.5)
    codec = make_codec(name, IMAGE_HW)
    dataset = CropDataset(smooth, IMAGE_HW, aligned=codec.aligned, augmentation=augmentation, seed=4)
    crops = DeviceCrops(dataset, codec, CPU, workers=0, bad_images="refuse")
    keys = [[(epoch, i) for epoch in range(3) for i in range(4)]]
    (plain,) = make_loader(dataset, codec, keys, workers=0)
    (plans,) = make_loader(crops.plans, codec, keys, workers=0, encode=codec.profiles)
    found = crops.with_images(plans)
    for key in ("heatmaps", "weights", "index"):
        assert torch.equal(found[key], plain[key])
    difference = (found["image"] - plain["image"].float()).abs()
    assert found["image"].shape == (12, *IMAGE_HW, 3)
    assert difference.mean() < 1 and difference.flatten(1).quantile(0.99, dim=1).max() < 4
    mirrored = (found["image"].flip(2) - plain["image"].float()).abs().mean()
    assert mirrored > 20 * difference.mean()  # the comparison can fail


def test_a_run_is_like_one_without_a_cache_and_is_resumed_bit_for_bit(config, tmp_path):
    cached = replace(config, cache="device")
    train(config, tmp_path / "plain", progress=False)
    train(cached, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lgmpose.training.trainer.evaluate", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # after the first epoch's last step
            train(cached, tmp_path / "run", progress=False)
    resume(tmp_path / "run")
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole") != losses_of(tmp_path / "plain")
    assert losses_of(tmp_path / "whole") == pytest.approx(losses_of(tmp_path / "plain"), rel=0.05)
    one, other = (read_checkpoint(tmp_path / name / "last.pt")["ema"] for name in ("run", "whole"))
    assert_equal_states(one, other)


def test_the_targets_of_a_teacher_are_those_of_the_ordinary_way(smooth):
    peaks = np.stack([record.keypoints_xy for record in smooth.records])
    peaks = np.concatenate([peaks + 1, np.random.default_rng(3).random((*peaks.shape[:2], 1))], axis=-1)
    records = [replace(record, visibility=np.arange(17) % 3) for record in smooth.records]
    codec = make_codec("dark", IMAGE_HW)
    dataset = CropDataset(replace(smooth, records=tuple(records)), IMAGE_HW, augmentation=Augmentation(), teacher=peaks)
    crops = DeviceCrops(dataset, codec, CPU, workers=0, bad_images="refuse")
    keys = [[(1, i) for i in range(4)]]
    (plain,) = make_loader(dataset, codec, keys, workers=0, encode=partial(mixed_targets, codec, 0.5))
    (plans,) = make_loader(crops.plans, codec, keys, workers=0, encode=partial(mixed_profiles, codec, 0.5))
    torch.testing.assert_close(crops.with_images(plans)["heatmaps"], plain["heatmaps"])
    assert torch.equal(plans["weights"], plain["weights"])


def test_unreadable_pictures_are_skipped_or_refused(config, tmp_path):
    record_set = load_records(config.data, "train").first(6)
    broken = [replace(record, image=str(tmp_path / "absent.png")) for record in record_set.records[:2]]
    record_set = replace(record_set, records=(*broken, *record_set.records[2:]))
    dataset, codec = CropDataset(record_set, IMAGE_HW), make_codec("dark", IMAGE_HW)
    with pytest.raises(UserError, match="absent.png"):
        DeviceCrops(dataset, codec, CPU, workers=0, bad_images="refuse")
    crops = DeviceCrops(dataset, codec, CPU, workers=0, bad_images="skip")
    plans = make_loader(crops.plans, codec, [[0, 2], [1, 0]], workers=0, encode=codec.profiles)
    batches = [crops.with_images(batch) for batch in plans]
    assert [len(batch["errors"]) for batch in batches] == [1, 2]
    assert len(batches[0]["image"]) == 1 and "image" not in batches[1]
