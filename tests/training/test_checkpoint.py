"""The state of a run: its moving average, and what is written and restored."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from training_tools import assert_equal_states

from lgmpose.data import load_records
from lgmpose.errors import UserError
from lgmpose.training.checkpoint import Run, fingerprint, read_checkpoint, resume_command
from lgmpose.training.muon import Muon
from lgmpose.training.recipe import TrainConfig
from lgmpose.zoo.catalogue import create_model


def started(config: TrainConfig, device: str = "cpu", steps: int = 1) -> Run:
    """Return a run after some steps on noise."""
    run = Run(config, create_model(config.model, image_hw=(64, 32)), torch.device(device))
    for _ in range(steps):
        run.net(torch.randn(2, 3, 64, 32)).square().mean().backward()
        run.optimizer.step()
        run.step += 1
        run.update_ema()
    return run


def test_the_moving_average_follows_its_definition(config):
    run = started(config, steps=0)
    name = "head.weight"
    expected = run.net.state_dict()[name].clone()
    for step in range(1, 100):
        with torch.no_grad():
            run.net.head.weight.add_(torch.randn_like(run.net.head.weight))
        run.step = step
        run.update_ema()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * run.net.head.weight
    torch.testing.assert_close(run.ema[name], expected)
    torch.testing.assert_close(run.deployed().head.weight, expected)
    assert started(replace(config, ema_decay=0.0)).ema is None


def test_the_minutes_of_a_run_are_over_after_sixty_seconds_each(config):
    run = started(replace(config, minutes=2.0), steps=0)
    for seconds, over in ((0, False), (119, False), (120, True), (300, True)):
        run.seconds = seconds
        assert run.out_of_time == over
    assert not started(config, steps=0).out_of_time


def test_after_frozen_epochs_what_is_fixed_in_a_network_stays_fixed(config):
    with torch.device("meta"):
        net = create_model("tokenpose-b", image_hw=(64, 64))  # with a fixed table of positions
    run = Run(replace(config, freeze_epochs=1), net, torch.device("meta"))
    run.freeze_trunk()
    assert {name for name, p in net.named_parameters() if p.requires_grad} == {"keypoint_tokens"}
    run.epoch = 1
    run.freeze_trunk()
    assert {name for name, p in net.named_parameters() if not p.requires_grad} == {"positions"}


def test_averaged_weights_draw_no_random_numbers(config):
    """Rank 0 alone asks for them: its dropout must stay like the others'."""
    run = started(config)
    before = torch.get_rng_state()
    run.deployed()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind, name", [(torch.optim.Adam, "adam"), (torch.optim.AdamW, "adamw"), (Muon, "muon")])
def test_the_optimizer_is_the_one_of_the_settings(config, kind, name):
    run = started(replace(config, optimizer=name, weight_decay=0.25, learning_rate=0.5), steps=0)
    (group,) = run.optimizer.param_groups
    assert type(run.optimizer) is kind and (group["weight_decay"], group["lr"], group["fused"]) == (0.25, 0.5, True)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_everything_is_restored(config, tmp_path, optimizer):
    config = replace(config, optimizer=optimizer)
    run = started(config, steps=2)
    progress = {
        "epoch": 3, "epoch_step": 2, "step": 11, "epoch_loss": 0.1 + 0.2, "skipped": 7, "best": -math.inf,
        "seconds": 12.5, "start": {"weights": "x"}, "processes": 2, "data": {"persons": 5, "crc32": 9},
    }  # fmt: skip
    vars(run).update(progress)
    run.save(tmp_path / "last.pt")
    draws = torch.rand(3)
    other = started(config, steps=1)
    other.processes = 2
    other.restore(tmp_path / "last.pt")
    assert torch.equal(torch.rand(3), draws)
    assert {name: getattr(other, name) for name in progress} == progress
    assert_equal_states(other.net.state_dict(), run.net.state_dict())
    assert_equal_states(other.ema, run.ema)
    states = [one.optimizer.state_dict()["state"] for one in (run, other)]
    assert len(states[0]) == len(list(run.net.parameters()))
    for number, state in states[0].items():
        assert_equal_states(states[1][number], state)
        for name, tensor in state.items():
            assert states[1][number][name].stride() == tensor.stride()  # the fused step walks memory


def test_a_run_begun_without_a_gpu_can_go_on_with_one(config, tmp_path, monkeypatch):
    """The checkpoint has no random state of a GPU, so none is set; everything else is restored."""
    run = started(config)
    run.save(tmp_path / "last.pt")
    draws = torch.rand(3)
    monkeypatch.setattr(torch, "get_device_module", lambda device: pytest.fail("a random state was set"))
    other = started(config, steps=0)
    other.device = torch.device("cuda")
    other.restore(tmp_path / "last.pt")
    assert torch.equal(torch.rand(3), draws) and other.step == 1
    assert_equal_states(other.net.state_dict(), run.net.state_dict())
    assert len(other.optimizer.state) == len(run.optimizer.state) > 0


def test_a_device_without_a_fused_step_can_resume_what_one_with_it_began(config, tmp_path):
    run = started(config)
    run.save(tmp_path / "last.pt")
    other = started(config, steps=0)
    other.optimizer.param_groups[0]["fused"] = False
    other.restore(tmp_path / "last.pt")
    assert other.optimizer.param_groups[0]["fused"] is False and other.optimizer.state


def test_a_second_gpu_has_its_own_random_state(config, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: asked.append(device) or torch.zeros(4))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: asked.append((device, len(state))))
    run = started(config)
    run.device = torch.device("cuda:1")
    run.save(tmp_path / "last.pt")
    run.restore(tmp_path / "last.pt")
    assert asked == [torch.device("cuda:1"), (torch.device("cuda:1"), 4)]


@pytest.mark.parametrize("has_bf16", [True, False])
def test_auto_is_bf16_on_gpus_that_have_it(config, monkeypatch, has_bf16):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 or including_emulation)
    net = create_model("tiny")
    monkeypatch.setattr(net, "to", lambda device: net)
    cuda = torch.device("cuda")
    assert Run(config, net, cuda).bf16 == has_bf16 and not Run(config, net, torch.device("cpu")).bf16
    assert Run(replace(config, precision="bf16"), net, torch.device("cpu")).bf16
    assert not Run(replace(config, precision="fp32"), net, cuda).bf16


def test_another_number_of_processes_names_the_command(config, tmp_path):
    run = started(config)
    run.processes = 8
    run.save(tmp_path / "last.pt")
    with pytest.raises(UserError, match="--nproc-per-node 8 -m lgmpose resume"):
        started(config).restore(tmp_path / "last.pt")
    assert resume_command(tmp_path / "a run", 1) == f'lgmpose resume "{tmp_path / "a run"}"'


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04", None])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "last.pt"
    torch.save({"net": {}}, path) if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match="last.pt: "):
        read_checkpoint(path)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="no last.pt"):
        read_checkpoint(tmp_path / "last.pt")


def test_ids_and_labelled_joints_make_the_fingerprint(config):
    whole = load_records(config.data)
    first = whole.records[0]
    named = [replace(whole, records=(replace(first, id=id),)) for id in (1, 2, "a3f9", "a3fa")]  # ids may be texts
    moved = replace(first, keypoints_xy=first.keypoints_xy + 1)
    unlabelled = replace(first, visibility=first.visibility * 0)
    others = [replace(whole, records=(one,)) for one in (moved, unlabelled)]
    assert len({fingerprint(one)["crc32"] for one in (*named, *others)}) == 6
    assert fingerprint(whole)["persons"] == len(whole)
    elsewhere = replace(unlabelled, keypoints_xy=first.keypoints_xy + 1)  # what is not labelled does not count
    assert fingerprint(replace(whole, records=(elsewhere,))) == fingerprint(others[1])


@pytest.mark.parametrize(
    "place, value",
    [
        (("progress", "epoch"), -1), (("progress", "best"), "high"), (("config", "epochs"), None), (("net",), []),
        (("net", "head.bias"), torch.zeros(3)), (("rng", "cpu"), torch.zeros(3)), (("rng",), {}),
        (("optimizer", 0, "exp_avg"), torch.zeros(1)), (("optimizer", 999), {}), (("ema", "head.bias"), 3),
    ],
)  # fmt: skip
def test_a_damaged_value_of_a_checkpoint_is_refused_before_it_is_used(config, tmp_path, place, value):
    run = started(config)
    run.save(tmp_path / "last.pt")
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    node = state
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    torch.save(state, tmp_path / "last.pt")
    before = run.net.head.bias.clone()
    with pytest.raises(UserError, match="last.pt"):
        run.restore(tmp_path / "last.pt")
    assert torch.equal(run.net.head.bias, before)
