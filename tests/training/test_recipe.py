"""The settings of a run: schedules, what is refused, and their form in JSON."""

import json
import math
from dataclasses import replace

import pytest

from lgmpose.data.augment import Augmentation
from lgmpose.errors import UserError
from lgmpose.training.recipe import TrainConfig, learning_rate, recipe, without_folders


def test_the_papers_schedule_divides_the_rate_by_10_at_epochs_200_and_240():
    paper = TrainConfig()
    rates = {epoch: learning_rate(paper, epoch * 10, 10) for epoch in (0, 199, 200, 239, 240, 259)}
    assert rates == pytest.approx({0: 1e-3, 199: 1e-3, 200: 1e-4, 239: 1e-4, 240: 1e-5, 259: 1e-5})
    assert learning_rate(paper, 1999, 10) == pytest.approx(1e-3)  # the last step before


def test_cosine_falls_from_the_rate_to_zero_after_a_warm_up():
    cosine = TrainConfig(schedule="cosine", epochs=4, warmup_steps=5, learning_rate=1.0)
    assert [learning_rate(cosine, step, 10) for step in (0, 20, 40)] == pytest.approx([0.2, 0.5, 0], abs=1e-12)


def test_a_time_limit_lets_the_cosine_follow_the_clock():
    config = TrainConfig(schedule="cosine", epochs=1000, minutes=2, learning_rate=1.0)
    rates = [learning_rate(config, 0, 10, seconds) for seconds in (0, 60, 120, 200)]
    assert rates == pytest.approx([1, 0.5, 0, 0], abs=1e-12)
    with pytest.raises(UserError, match="minutes"):
        TrainConfig(minutes=0)


def test_the_papers_recipe_is_the_default():
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.optimizer, config.learning_rate) == (260, 32, "adam", 1e-3)
    assert (config.schedule, config.lr_steps, config.weight_decay, config.ema_decay) == ("steps", (200, 240), 0, 0)
    assert (config.fusion, config.global_block, config.larm, config.joint_weights) == (
        "sfusion", "mobilevim", "both", "equal"
    )  # fmt: skip
    assert (config.eval_every, config.flip_test, config.seed, config.warmup_steps) == (1, True, 0, 0)


def test_a_recipe_is_a_set_of_options():
    few = recipe("few-pictures", epochs=7, rotation_deg=11.0)
    assert (few.epochs, few.augmentation.rotation_deg) == (7, 11.0)
    assert few.init_weights and few.freeze_epochs and few.epoch_persons and few.augmentation.half_body_prob == 0
    few = recipe("few-pictures")
    # docs/own_pictures.md reports trials of these values.
    assert (few.epochs, few.epoch_persons, few.freeze_epochs, few.batch_size) == (12, 240, 1, 16)
    assert (few.optimizer, few.learning_rate, few.weight_decay, few.schedule) == ("adamw", 2e-3, 0.01, "cosine")
    assert (few.ema_decay, few.codec, few.sigma) == (0.98, "dark", 1.5)
    assert (few.augmentation.scale_factor, few.augmentation.rotation_deg, few.augmentation.colour) == (0.25, 40.0, 0.2)
    for wrong in ({"name": "many-pictures"}, {"name": "few-pictures", "epochs": 0}):
        with pytest.raises(UserError, match="many-pictures|epochs"):
            recipe(**wrong)


def test_json_and_back():
    config = TrainConfig(image_hw=(64, 96), lr_steps=(3,), augmentation=Augmentation(flip_prob=0.1), workers=2)
    values = json.loads(json.dumps(config.as_dict()))
    assert TrainConfig.from_dict(values) == config and values["image_hw"] == [64, 96]
    del values["compile"]  # of an older version
    assert TrainConfig.from_dict(values) == config
    for wrong in ({"learning": 1}, {"epochs": "many"}, {"image_hw": [64]}, {"codec": "none"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            TrainConfig.from_dict(values | wrong)


def test_results_for_others_name_no_folder_of_this_machine():
    config = TrainConfig(
        data="coco:/home/me/coco", val_data="lspet:a/b.zip", annotations="/x/train.json", val_annotations="y/val.json",
        init_weights="/z/part.safetensors", teacher="/z/teacher.npz",
    )  # fmt: skip
    kept = without_folders(config.as_dict())
    assert "/" not in json.dumps(kept)
    assert (kept["data"], kept["val_data"]) == ("coco:coco", "lspet:b.zip") and kept["teacher"] == "teacher.npz"
    default = TrainConfig().as_dict()
    assert without_folders(default) == default
    older = {name: value for name, value in default.items() if name != "teacher"}
    assert without_folders(older) == older


@pytest.mark.parametrize("name, wrong", [
    ("codec", ["x"]), ("precision", ["fp16"]), ("epochs", [0]), ("batch_size", [0, -3]), ("eval_every", [0]),
    ("learning_rate", [0.0, -1.0, math.nan, math.inf]), ("sigma", [0.0, -1.0, math.nan]),
    ("ema_decay", [-0.1, 1.0, 2.0, math.nan]), ("seed", [-1]), ("workers", [-1]), ("weight_decay", [-0.1]),
    ("clip_grad_norm", [-1.0]), ("warmup_steps", [-1]), ("checkpoint_minutes", [-1.0]), ("freeze_epochs", [-1]),
    ("epoch_persons", [0, -5]),
])  # fmt: skip
def test_values_out_of_range_are_refused_by_name(name, wrong):
    for value in wrong:
        with pytest.raises(UserError, match=name):
            TrainConfig(**{name: value})


@pytest.mark.parametrize("name, values", [
    *((name, (-0.1, 1.1, math.nan)) for name in ("half_body_prob", "rotation_prob", "flip_prob", "occlusion_prob")),
    ("colour", (-0.1, 1.1)), ("scale_factor", (-0.1, 1.0)), ("rotation_deg", (-1.0, math.inf)),
    ("half_body_min_joints", (-1,)),
])  # fmt: skip
def test_augmentations_out_of_range_are_refused_by_name(name, values):
    for value in values:
        with pytest.raises(UserError, match=f"^{name} {value}: "):
            replace(Augmentation(), **{name: value})


def test_only_options_that_differ_from_their_defaults_are_asked_of_a_network():
    assert TrainConfig().network_options() == {}
    changes = {"image_hw": (64, 64), "fusion": "none", "larm_residual": False}
    assert TrainConfig(**changes).network_options() == changes
