"""Ablations: the switches in the network, the set that runs and resumes, the intervals, the plain statements."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
import tyro
from torch.testing import assert_close

import lgmpose.lab.ablate.ablation as ablate_run
from lgmpose.cli import main
from lgmpose.course.checks import randomised
from lgmpose.data import load_records
from lgmpose.data.augment import Augmentation
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.inference.evaluate import evaluate
from lgmpose.lab.ablate import (
    ABLATIONS,
    BASELINE,
    CHOICES,
    NETWORKS,
    PEERS,
    AblateConfig,
    Difference,
    compare,
    paired_bootstrap,
    seed_margin,
)  # fmt: skip
from lgmpose.lab.ablate.ablation_report import draw_bars, draw_peers, markdown
from lgmpose.lab.ablate.ablation_results import add_run, load_results
from lgmpose.lab.ablate.recipe_rows import RECIPE
from lgmpose.lab.ablate.statistics import counts, verdict
from lgmpose.lab.paper import TABLES
from lgmpose.metrics import bootstrap_interval, pck
from lgmpose.network.config import LARM_PARTS, LGMPoseConfig
from lgmpose.network.modules import LARM, npt_op1, npt_op2, npt_op3
from lgmpose.zoo.catalogue import codec_of, create_model, load_weights
from lgmpose.zoo.tensor_files import config_from_dict, read_tensors

# --- the switch of LARM's parts -------------------------------------------------------------------------------------


def small_net(**changes):
    return randomised(create_model("lgm-pose-lspet-128x128", image_hw=(64, 96), **changes))


def test_the_default_network_is_the_one_it_was():
    named = create_model("lgm-pose-lspet-128x128", larm="both")
    assert named.config == LGMPoseConfig((128, 128), 14)
    card = asdict(named.config)
    del card["larm"]  # as cards were written before there was a choice
    assert config_from_dict(json.loads(json.dumps(card))) == named.config


@pytest.mark.parametrize("parts", LARM_PARTS[:3])
def test_a_larm_does_what_is_left_of_it(parts):
    larm = randomised(LARM((6, 8), (3, 2), parts=parts))
    x = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    y = npt_op1(x, (3, 2))
    if parts != "within_patch":
        y = larm.between_patches(y)
    y = npt_op2(y)
    if parts != "between_patches":
        y = larm.within_patch(y)
    assert_close(larm(x), npt_op3(y, (3, 2), (6, 8)))
    alone = {"between_patches": 8, "within_patch": 6}  # N patches, P pixels: the axis each MLP mixes
    assert {m.normalized_shape[0] for m in larm.modules() if isinstance(m, torch.nn.LayerNorm)} == {
        length for name, length in alone.items() if parts in ("both", name)
    }


@pytest.mark.parametrize("parts", LARM_PARTS)
def test_every_choice_makes_a_network_that_differs_learns_and_resizes(parts):
    net, whole = small_net(larm=parts), small_net()
    extra = whole.state_dict().keys() - net.state_dict().keys()
    gone = {"both": (), "between_patches": ("within_patch",), "within_patch": ("between_patches",)}
    gone = gone.get(parts, ("within_patch", "between_patches"))
    assert net.state_dict().keys() <= whole.state_dict().keys()
    assert extra == {name for name in whole.state_dict() if any(part in name for part in gone)}
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    net.load_state_dict({name: whole.state_dict()[name] for name in net.state_dict()})
    assert torch.equal(net(image), whole(image)) == (parts == "both")
    net.train()(torch.cat([image, -image])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert net.eval().resized((96, 64))(torch.zeros(1, 3, 96, 64)).shape == (1, 14, 24, 16)


def test_identity_leaves_the_block_its_convolutions():
    block = small_net(larm="identity").stages[2][-1]
    x = torch.randn(2, 48, 8, 12, generator=torch.Generator().manual_seed(0))
    down = block.project_down(block.project_up(block.local(x)))
    assert_close(block(x), block.fuse(torch.cat([x, down], dim=1)))


def test_a_mobilevit_block_has_no_larm_to_take_apart():
    with pytest.raises(UserError, match="larm 'identity' belongs to MobileViM"):
        create_model("lgm-pose-lspet-128x128", larm="identity", global_block="mobilevit")


# --- which networks, which recipe -----------------------------------------------------------------------------------


def test_every_row_of_tables_4_and_5_has_its_network():
    ours = {(v.changes.get("global_block", "mobilevim"), v.changes.get("fusion", "sfusion")): v.paper_pckh
            for v in ABLATIONS.values() if not v.changes.keys() - {"fusion", "global_block"}}  # fmt: skip
    assert ours == {(row.global_block, row.fusion): row.pckh for row in (*TABLES[4], *TABLES[5])}
    differences = {name: variant.paper_difference for name, variant in ABLATIONS.items()}
    assert differences == {
        "lgm-pose": 0, "mobilevit": -0.5, "fusion-none": -2.0, "fusion-conv3x3": 0.2, "fusion-dw1": -0.2,
        "fusion-dw2": -0.1, "larm-within": None, "larm-between": None, "larm-identity": None, "larm-no-residual": None,
    }  # fmt: skip


def test_peers_have_table_3s_figures_and_the_recipe_can_train_them():
    differences = {name: variant.paper_difference for name, variant in PEERS.items()}
    assert differences == {
        "lgm-pose-fast": None, "mobilenetv2": -3.0, "shufflenetv2": -5.6, "small-hrnet": -8.2, "lite-hrnet-18": -2.3,
    }  # fmt: skip
    assert not PEERS.keys() & ABLATIONS.keys()
    for name in PEERS:
        recipe = AblateConfig().run_config(name, 0)
        with torch.device("meta"):
            net = create_model(recipe.model, num_keypoints=14, **recipe.network_options())
        assert net(torch.zeros(1, 3, 96, 96, device="meta")).shape == (1, 14, 24, 24)


def test_runs_differ_in_seed_and_in_what_the_variant_changes_alone():
    config = AblateConfig()
    base = asdict(config.run_config(BASELINE, 0))
    for name, variant in NETWORKS.items():
        run = asdict(config.run_config(name, 5))
        assert {key for key in run if run[key] != base[key]} == {"seed", *(c.split(".")[0] for c in variant.changes)}
        for key, value in variant.changes.items():
            outer, _, inner = key.partition(".")
            assert (run[outer][inner] if inner else run[outer]) == value
        assert run["eval_every"] == run["epochs"]


def test_the_stored_command_makes_the_same_set():
    recipe = replace(
        RECIPE, data="lspet:/somewhere/lspet_dataset.zip", image_hw=(64, 96), epochs=7, flip_test=False, sigma=None,
        augmentation=replace(Augmentation(), rotation_deg=10), lr_steps=(3,), annotations="elsewhere/a.json",
    )  # fmt: skip
    config = AblateConfig(recipe=recipe, variants=(BASELINE, "mobilevit"), seeds=(3, 4))
    words = config.command().removeprefix("lgmpose ablate ").split()
    assert "somewhere" not in config.command()
    again = tyro.cli(AblateConfig, args=words, config=(tyro.conf.OmitArgPrefixes,))
    assert again == replace(config, recipe=replace(recipe, data="lspet:PATH/lspet_dataset.zip", annotations="a.json"))


@pytest.mark.parametrize("arguments, message", [
    (["--variants", "lgm-pose", "resnet"], "variants 'resnet': choose from lgm-pose, mobilevit"),
    (["--variants", "mobilevit"], "lgm-pose is missing"),
    (["--seeds"], "seeds: give one at least"),
    (["--seeds", "1", "1"], "seeds 1 1: one of them stands there twice"),
    (["--fusion", "none"], "fusion: not to be set here"),
    (["--seed", "3"], "seed: not to be set here"),
    (["--seeds", "0", "-1"], "seeds 0 -1: none below 0"),
    (["--model", "hrnet-w32"], "the ablations are LGM-Pose's"),
    (["--fps-rounds", "-1"], "fps_rounds -1"),
    (["--tabulate", "--json", "nowhere/a.json"], "no results yet"),
    (["--data", "nothing:here"], "data 'nothing:here'"),
    (["--json", "README.md"], "cannot be read as JSON"),
])  # fmt: skip
def test_bad_input_is_refused_in_a_sentence(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("# not JSON")
    assert main(["ablate", *arguments]) == 2
    output = capsys.readouterr()
    assert message in output.err + output.out and "Traceback" not in output.err


# --- a whole set, on made-up people ---------------------------------------------------------------------------------

NAMES = (BASELINE, "fusion-none", "larm-identity")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    make_synthetic(folder, 12, seed=3, image_hw=(64, 80), progress=False)
    recipe = replace(
        RECIPE, data=f"synthetic:{folder}", image_hw=(32, 64), epochs=1, batch_size=4, workers=0, device="cpu",
        flip_test=False, checkpoint_minutes=0, warmup_steps=0,
    )  # fmt: skip
    return AblateConfig(recipe=recipe, variants=NAMES, out=tmp_path_factory.mktemp("set"), fps_rounds=1)


@pytest.fixture(scope="module")
def results(config):
    with pytest.MonkeyPatch.context() as patch:  # drawing a figure takes longer than training on ten people
        patch.setattr("lgmpose.training.loop.save_curve", lambda *_: None)
        patch.setattr(ablate_run, "save_report", lambda path, of: path.with_suffix(".md").write_text(markdown(of)))
        assert ablate_run.ablate(config, progress=False)
    return json.loads(config.json_file.read_text())


def test_the_first_seed_of_all_comes_first(results):
    assert [(run["seed"], run["variant"]) for run in results["runs"]] == [(s, v) for s in (0, 1) for v in NAMES]


def test_figures_are_those_of_the_weights_each_person_with_its_share(config, results):
    val_set = load_records(config.recipe.data, "val")
    for run in (results["runs"][1], results["runs"][3]):
        net, card = load_weights(config.out / f"{run['variant']}-seed{run['seed']}" / "best.safetensors")
        for name, value in ABLATIONS[run["variant"]].changes.items():
            assert getattr(net.config, name) == value
        assert card["training"]["config"]["seed"] == run["seed"]
        anew = evaluate(net, val_set, codec_of(card, (32, 64)), flip_test=False, workers=0, progress=False)
        assert run["figures"]["PCK@0.2"] == round(anew.figures["PCK@0.2"], 4)
        correct, counted = counts(run["correct"]["PCK@0.2"]), counts(results["counted"]["PCK@0.2"])
        assert len(correct) == len(val_set) and (correct <= counted).all()
        assert 100 * correct.sum() / counted.sum() == pytest.approx(anew.figures["PCK@0.2"])
        assert {"commit", "machine", "hours", "steps"} <= run.keys()


def test_costs_are_the_networks_own(config, results):
    for name in NAMES:
        net = create_model(RECIPE.model, num_keypoints=17, image_hw=(32, 64), **ABLATIONS[name].changes)
        assert results["costs"][name]["params"] == sum(p.numel() for p in net.parameters())
    assert results["costs"]["larm-identity"]["macs"] < results["costs"][BASELINE]["macs"]
    assert results["speed"]["variants"].keys() == set(NAMES)


def test_a_finished_set_is_not_trained_again(config, results, monkeypatch, capsys):
    monkeypatch.setattr(ablate_run, "train", None)
    before = config.json_file.read_bytes()
    assert ablate_run.ablate(config)
    assert config.json_file.read_bytes() == before
    assert (
        "no fusion: the paper's PCKh differs by −2.0 points (86.4 against 88.4); ours differs by"
        in capsys.readouterr().out
    )


def test_table_and_figure_come_from_the_file_alone(config, results, tmp_path):
    moved = tmp_path / "moved.json"
    moved.write_bytes(config.json_file.read_bytes())
    other = AblateConfig(out=tmp_path / "none", json=moved)  # another recipe, no runs: neither is looked at
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of Matplotlib, say
        assert not ablate_run.ablate(other, tabulate=True, progress=False)  # all networks are asked for
    assert moved.with_suffix(".md").read_text() == config.json_file.with_suffix(".md").read_text()
    assert moved.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert moved.read_bytes() == config.json_file.read_bytes()


def test_runs_that_ended_before_they_were_noted_are_only_evaluated(config, results, monkeypatch):
    config.json_file.write_text(json.dumps({**results, "runs": results["runs"][:4]}))
    stepped = []
    monkeypatch.setattr(ablate_run, "save_report", lambda *_: None)
    monkeypatch.setattr("lgmpose.training.loop._step", lambda *_: stepped.append(1))
    assert ablate_run.ablate(config, progress=False) and not stepped
    again = json.loads(config.json_file.read_text())
    for old, new in zip(results["runs"], again["runs"], strict=True):
        assert {k: old[k] for k in ("variant", "seed", "figures", "correct", "hours")}.items() <= new.items()


def test_results_are_written_under_the_lock_alone(config, results, tmp_path, monkeypatch):
    held, save = [], ablate_run.save_results

    @contextmanager
    def lock(path):
        held.append(path)
        yield
        held.pop()

    def checked(*arguments):
        assert held == [config.out / ".results.lock"]
        save(*arguments)

    file = tmp_path / "some.json"
    file.write_text(json.dumps({**results, "runs": results["runs"][:4]}))
    monkeypatch.setattr(ablate_run, "lock", lock)
    monkeypatch.setattr(ablate_run, "save_results", checked)
    monkeypatch.setattr(ablate_run, "save_report", lambda *_: None)
    assert ablate_run.ablate(replace(config, json=file), progress=False)
    assert len(json.loads(file.read_text())["runs"]) == 6


def test_another_recipe_is_another_set(config, results):
    other = replace(config, recipe=replace(config.recipe, learning_rate=0.1))
    with pytest.raises(UserError, match=r"its runs have learning_rate = 0.002, not 0.1"):
        ablate_run.ablate(other, progress=False)
    older = json.loads(config.json_file.read_text())  # written before there were these options
    del older["recipe"]["joint_weights"], older["recipe"]["augmentation"]["occlusion_prob"]
    file = config.json_file.with_name("older.json")
    file.write_text(json.dumps(older))
    assert len(load_results(file, config)["runs"]) == 6
    with pytest.raises(UserError, match="its runs have joint_weights = 'equal', not 'hrnet'"):
        load_results(file, replace(config, recipe=replace(config.recipe, joint_weights="hrnet")))
    more = replace(config, seeds=(0, 1, 2), recipe=replace(config.recipe, workers=1))
    assert len(load_results(config.json_file, more)["runs"]) == 6  # more seeds or workers belong to the same set


def test_other_persons_cannot_be_paired(results):
    points = np.zeros((3, 17, 2))
    other = pck(points, points, np.ones((3, 17)), np.ones(3), joints=range(12))
    with pytest.raises(UserError, match="not those of the runs before"):
        add_run(results, "mobilevit", 0, {"PCK@0.2": other}, {})


def test_asked_to_stop_it_stops_and_says_so(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lgmpose.training.loop.StopRequest", lambda: nullcontext(SimpleNamespace(asked=True)))
    with pytest.raises(KeyboardInterrupt):  # which the command line makes exit status 130
        ablate_run.ablate(replace(config, out=tmp_path, fps_rounds=0))
    assert "stopped; the same command goes on" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["lgm-pose-seed0"]


def test_asked_to_stop_in_an_evaluation_it_starts_no_other_network(config, tmp_path, monkeypatch):
    stop = SimpleNamespace(asked=False)

    def evaluated(*args, **options):
        stop.asked = True
        return evaluate(*args, **options)

    monkeypatch.setattr("lgmpose.training.loop.StopRequest", lambda: nullcontext(stop))
    monkeypatch.setattr("lgmpose.training.loop.evaluate", evaluated)
    with pytest.raises(KeyboardInterrupt):
        ablate_run.ablate(replace(config, out=tmp_path, fps_rounds=0), progress=False)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["lgm-pose-seed0"]


def test_what_could_not_be_compared_or_kept_is_refused_before_the_work(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablate_run, "_costs", lambda *_: pytest.fail("work was started"))
    val_set = load_records(config.recipe.data, "val")
    hand = replace(val_set.skeleton, name="hand", joint_names=tuple(f"joint {i}" for i in range(17)))
    with monkeypatch.context() as patch:
        patch.setattr(ablate_run, "load_records", lambda *_, **__: replace(val_set, skeleton=hand))
        with pytest.raises(UserError, match="compared by PCK or PCKh, which need hips and shoulders"):
            ablate_run.ablate(replace(config, out=tmp_path / "hand"), progress=False)
    records = [replace(record, visibility=record.visibility.copy()) for record in val_set.records]
    for record in records:  # the joints are there, but nobody's torso is whole
        record.visibility[[val_set.skeleton.joint_names.index(f"{side}_hip") for side in ("left", "right")]] = 0
    with monkeypatch.context() as patch:
        patch.setattr(ablate_run, "load_records", lambda *_, **__: replace(val_set, records=tuple(records)))
        with pytest.raises(UserError, match="compared by PCK or PCKh, which need hips and shoulders"):
            ablate_run.ablate(replace(config, out=tmp_path / "no hips"), progress=False)
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        ablate_run.ablate(replace(config, out=tmp_path / "taken" / "set"), progress=False)


def test_unreadable_pictures_are_nobodys_mistake(config, tmp_path, monkeypatch):
    folder = tmp_path / "people"
    shutil.copytree(config.recipe.data.partition(":")[2], folder)
    recipe = replace(config.recipe, data=f"synthetic:{folder}", bad_images="skip")
    records = load_records(recipe.data, "val").records
    readable = sum(record.image_id != records[0].image_id for record in records)
    Path(records[0].image).write_bytes(Path(records[0].image).read_bytes()[:300])
    monkeypatch.setattr("lgmpose.training.loop.save_curve", lambda *_: None)
    monkeypatch.setattr(ablate_run, "save_report", lambda *_: None)
    of_one = replace(config, recipe=recipe, out=tmp_path / "set", variants=(BASELINE,), seeds=(0,), fps_rounds=0)
    assert ablate_run.ablate(of_one, progress=False)
    results = json.loads(of_one.json_file.read_text())
    assert results["conditions"]["persons"] == str(readable)
    assert len(counts(results["counted"]["PCK@0.2"])) == readable > 0


def test_killed_it_goes_on_and_ends_where_an_undisturbed_set_does(config, results, tmp_path, monkeypatch):
    out = tmp_path / "killed"
    arguments = ["--out", out, "--variants", *NAMES[:2], "--data", config.recipe.data, "--workers", 0]
    arguments += [
        "--seeds",
        0,
        "--image-hw",
        32,
        64,
        "--epochs",
        1,
        "--batch-size",
        4,
        "--device",
        "cpu",
        "--fps-rounds",
        0,
    ]
    arguments += ["--no-flip-test", "--checkpoint-minutes", 0, "--warmup-steps", 0]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "lgmpose", "ablate", *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    target, deadline = out / "fusion-none-seed0" / "last.safetensors", time.monotonic() + 120
    while not target.exists():  # the second run has made a step
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    noted = json.loads((out / "ablations.json").read_text())["runs"]
    assert [run["variant"] for run in noted] == [BASELINE]
    monkeypatch.setattr("lgmpose.training.loop.save_curve", lambda *_: None)
    monkeypatch.setattr(ablate_run, "save_report", lambda *_: None)
    stamp = (out / "lgm-pose-seed0" / "best.safetensors").stat().st_mtime_ns
    assert ablate_run.ablate(replace(config, variants=NAMES[:2], seeds=(0,), out=out, fps_rounds=0), progress=False)
    assert (out / "lgm-pose-seed0" / "best.safetensors").stat().st_mtime_ns == stamp
    calm, killed = (read_tensors(f / "fusion-none-seed0" / "last.safetensors")[0] for f in (config.out, out))
    assert calm.keys() == killed.keys() and all(torch.equal(calm[k], killed[k]) for k in calm)


def test_a_machine_that_slows_down_does_not_change_who_is_faster(monkeypatch):
    clock = iter(range(10**6))

    def measure(net, **_):
        return {"median_ms": net * (1 + 0.02 * next(clock)), "noise": [], "image_hw": (8, 8), "device": "cpu",
                "dtype": "float32", "cpu": "", "cores": 1, "threads": 1, "torch": ""}  # fmt: skip

    monkeypatch.setattr(ablate_run, "measure_fps", measure)
    speeds = ablate_run.measure_speeds({BASELINE: 10.0, "slow": 20.0, "same": 10.0}, rounds=30)["variants"]
    for name, ratio in ((BASELINE, 1), ("slow", 0.5), ("same", 1)):
        assert speeds[name]["ratio"][0] == pytest.approx(ratio, rel=0.03)
        assert speeds[name]["ratio"][1] <= ratio * 1.001 and ratio * 0.999 <= speeds[name]["ratio"][2]


# --- intervals ------------------------------------------------------------------------------------------------------


def two_networks(rng, n=200, joints=12):
    """Counts of two networks on the same persons; some persons are hard for both."""
    easy = rng.beta(2, 2, (n, 1))
    counted = rng.random((n, joints)) < 0.9
    a, b = (counted & (rng.random((n, joints)) < np.clip(easy + lead, 0, 1)) for lead in (0.03, 0.0))
    return a, b, counted


def test_bootstrap_is_the_metrics_own_when_there_is_one_run_each():
    a, b, counted = two_networks(np.random.default_rng(0))
    ours = paired_bootstrap(a.sum(1), b.sum(1), counted.sum(1), seed=4, num=300)
    assert (ours.low, ours.high) == bootstrap_interval(a.astype(int) - b, counted, 4, 300)
    assert ours.points == pytest.approx(100 * (a.sum() - b.sum()) / counted.sum())


def test_bootstrap_agrees_with_scipys_over_several_seeds():
    rng = np.random.default_rng(1)
    counted = rng.integers(8, 13, 150)
    a, b = (rng.binomial(counted, chance, (3, 150)) for chance in (0.55, 0.5))
    ours = paired_bootstrap(a, b, counted, num=9000)

    def pooled(a, b, counted, axis):
        return 100 * (a - b).sum(axis) / counted.sum(axis)

    theirs = scipy.stats.bootstrap(
        (a.mean(0), b.mean(0), counted), pooled, paired=True, vectorized=True, method="percentile", n_resamples=9000,
        rng=rng,
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_bootstrap_has_the_width_of_the_closed_form():
    rng = np.random.default_rng(2)
    lead = rng.integers(-3, 4, 400)  # joints; 12 of each person count
    ours = paired_bootstrap(lead + 6, np.full(400, 6), np.full(400, 12), num=4000)
    half = 1.96 * 100 / 12 * lead.std() / np.sqrt(400)
    assert ours.low == pytest.approx(ours.points - half, abs=0.1 * half)
    assert ours.high == pytest.approx(ours.points + half, abs=0.1 * half)


def test_what_both_find_hard_cancels_out():
    a, b, counted = two_networks(np.random.default_rng(3))
    paired = paired_bootstrap(a.sum(1), b.sum(1), counted.sum(1))
    alone = np.diff(bootstrap_interval(a, counted, 0))[0]
    assert paired.high - paired.low < alone
    assert paired_bootstrap(a.sum(1), a.sum(1), counted.sum(1)) == Difference(0, 0, 0)
    with_empty = [np.append(values, 0) for values in (a.sum(1), b.sum(1), counted.sum(1))]
    assert paired_bootstrap(*with_empty) == paired


@pytest.mark.parametrize("shapes", [((5,), (5,), (6,)), ((2, 5), (4,), (5,)), ((5,), (5,), (1, 5))])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="must share n persons"):
        paired_bootstrap(*(np.ones(shape) for shape in shapes))


def test_seed_margin_is_where_the_t_test_has_five_per_cent():
    a = np.array([50.0, 50.7, 49.1])
    margin = seed_margin([a, a + 3], 3, 3)
    assert scipy.stats.ttest_ind(a, a + margin).pvalue == pytest.approx(0.05)
    unequal = np.array([40.0, 41.0])
    margin = seed_margin([a, unequal], 3, 2)
    assert scipy.stats.ttest_ind(a, unequal - unequal.mean() + a.mean() + margin).pvalue == pytest.approx(0.05)
    assert seed_margin([a, a, a, a], 2, 2) < seed_margin([a], 2, 2)  # more networks tell more of the spread
    assert seed_margin([[50.0], [51.0], []], 1, 1) is None


# --- statements -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paper, points, low, high, margin, expected", [
    (-2.0, -3.0, -4.0, -2.0, 1.0, "holds"),
    (0.2, 3.0, 2.0, 4.0, 1.0, "holds"),
    (-2.0, 3.0, 2.0, 4.0, 1.0, "does not hold"),
    (0.2, -3.0, -4.0, -2.0, 1.0, "does not hold"),
    (None, -3.0, -4.0, -2.0, 1.0, "worse"),
    (None, 3.0, 2.0, 4.0, 1.0, "better"),
    (-2.0, -3.0, -6.5, 0.5, 1.0, "cannot be told"),  # the interval contains 0
    (-2.0, -3.0, -6.0, 0.0, 1.0, "cannot be told"),
    (-2.0, -3.0, -4.0, -2.0, 3.5, "cannot be told"),  # seeds may change as much
    (-2.0, -3.0, -4.0, -2.0, None, "cannot be told"),  # one seed
    (None, 0.0, 0.0, 0.0, 0.0, "cannot be told"),
])  # fmt: skip
def test_a_verdict_needs_both_kinds_of_chance_ruled_out(paper, points, low, high, margin, expected):
    found, reason = verdict(paper, Difference(points, low, high), margin)
    assert found == expected and reason


def made_up_results(leads, seeds=(0, 1), n=300):
    """A results file in which each network finds so many joints of 14 more per person, about."""
    rng = np.random.default_rng(0)
    base = rng.integers(3, 10, n)
    runs = []
    for seed in seeds:
        for name, lead in {BASELINE: 0.0, **leads}.items():
            correct = base + (rng.random(n) < abs(lead)) * int(np.sign(lead)) + rng.integers(-1, 2, n)
            runs.append({
                "variant": name, "seed": seed, "hours": 0.1, "figures": {"PCKh@0.5": 100 * correct.sum() / 14 / n},
                "correct": {"PCKh@0.5": " ".join(map(str, correct))},
            })  # fmt: skip
    return {
        "command": "lgmpose ablate", "recipe": {"epochs": 3, "image_hw": [96, 96], "batch_size": 32}, "runs": runs,
        "conditions": {"data": "made-up", "input": "96×96"}, "counted": {"PCKh@0.5": " ".join(["14"] * n)}, "costs": {},
        "speed": None,
    }  # fmt: skip


def test_statements_say_what_the_runs_can_tell():
    leads = {"mobilevit": 0.9, "fusion-none": -0.9, "fusion-conv3x3": 0.0, "larm-identity": -0.9}
    rows = {row.name: row for row in compare(made_up_results(leads))}
    verdicts = {name: row.verdict for name, row in rows.items()}
    assert verdicts == {
        BASELINE: "", "mobilevit": "does not hold", "fusion-none": "holds", "fusion-conv3x3": "cannot be told",
        "larm-identity": "worse",
    }  # fmt: skip
    assert "The paper's ordering does not hold here: here it is better" in rows["mobilevit"].statement
    assert "The paper's ordering holds here" in rows["fusion-none"].statement
    assert "Cannot be told at this size: the interval contains 0." in rows["fusion-conv3x3"].statement
    assert "the paper has no such row" in rows["larm-identity"].statement
    difference = rows["fusion-none"].differences["PCKh@0.5"]
    assert difference.points == pytest.approx(np.mean(rows["fusion-none"].per_seed["PCKh@0.5"]))
    assert f"{difference.points:+.2f}".replace("-", "−") in rows["fusion-none"].statement
    one_seed = compare(made_up_results(leads, seeds=(0,)))
    assert {row.verdict for row in one_seed} == {"", "cannot be told"}


def test_what_an_ablation_tells_does_not_hang_on_other_tables():
    alone = made_up_results({"mobilevit": 0.9, "fusion-none": -0.2})
    more = made_up_results({"mobilevit": 0.9, "fusion-none": -0.2, "mobilenetv2": 0.5, "silu": 0.3})
    wild = [run for run in more["runs"] if run["variant"] in PEERS | CHOICES]
    for run in wild:  # seeds far apart
        run["figures"]["PCKh@0.5"] += 20 * run["seed"]
    alone["runs"] += wild
    rows = {row.name: row for row in compare(alone)}
    before = {row.name: row for row in compare({**alone, "runs": [r for r in alone["runs"] if r not in wild]})}
    assert all(rows[name].statement == before[name].statement for name in before)
    assert rows["mobilenetv2"].verdict == rows["silu"].verdict == "cannot be told"


def test_only_seeds_that_both_have_are_compared():
    results = made_up_results({"mobilevit": 0.9, "fusion-none": 0.5})
    results["runs"] = [run for run in results["runs"] if (run["variant"], run["seed"]) != ("mobilevit", 0)]
    rows = {row.name: row for row in compare(results)}
    one, base = (
        next(r for r in results["runs"] if (r["variant"], r["seed"]) == (v, 1)) for v in ("mobilevit", BASELINE)
    )
    lead = one["figures"]["PCKh@0.5"] - base["figures"]["PCKh@0.5"]
    assert rows["mobilevit"].differences["PCKh@0.5"].points == pytest.approx(lead)
    assert rows["mobilevit"].seeds == (1,) and "over 1 seed." in rows["mobilevit"].statement


def test_table_and_bars_show_what_was_found():
    from matplotlib.figure import Figure

    results = made_up_results({"mobilevit": 0.9, "larm-identity": -0.9})
    text = markdown(results)
    (line,) = (line for line in text.splitlines() if line.startswith("| MobileViT block"))
    row = next(row for row in compare(results) if row.name == "mobilevit")
    assert "87.9 (−0.5)" in line and str(row.differences["PCKh@0.5"]) in line and "does not hold" in line
    assert row.statement in text
    figure = Figure()
    draw_bars(figure, results)
    paper, ours = figure.axes
    assert [round(bar.get_width(), 1) for bar in paper.patches] == [-0.5, -2.0, 0.2, -0.2, -0.1, 0, 0, 0, 0]
    band, bar, *_ = ours.patches  # two rows, two patches each
    assert len(ours.patches) == 4 and row.margin > 0
    assert (band.get_x(), band.get_width()) == pytest.approx((-row.margin, 2 * row.margin))
    assert bar.get_width() == pytest.approx(row.differences["PCKh@0.5"].points)
    draw_bars(Figure(), None)


def test_choices_of_the_recipe_have_a_table_and_no_speed_of_their_own(config):
    text = markdown(made_up_results({"rotation-90": 0.9})).split("## LGM-Pose, other recipes")[1]
    (line,) = (line for line in text.splitlines() if line.startswith("| rotation σ 90°"))
    assert "| better |" in line and "| LGM-Pose |" in text
    assert not CHOICES.keys() & (ABLATIONS | PEERS).keys()
    val_set = load_records(config.recipe.data, "val")
    known = {"costs": {}, "speed": {"variants": {"fusion-none": {}}}}
    costs, speed = ablate_run._costs(replace(config, variants=(BASELINE, "silu")), known, val_set)
    assert costs.keys() == {BASELINE, "silu", "fusion-none"}
    assert speed["variants"].keys() == {BASELINE, "fusion-none"}  # those known before, measured again beside the new


def test_what_other_processes_add_meanwhile_is_kept(config, results, tmp_path, monkeypatch):
    """One process times the networks while another finishes a run of its own."""
    file = tmp_path / "both.json"
    file.write_text(json.dumps({**results, "runs": results["runs"][:5], "speed": None}))
    measure = ablate_run.measure_speeds

    def meanwhile(*arguments, **options):
        file.write_text(json.dumps({**results, "speed": None}))
        return measure(*arguments, **options)

    monkeypatch.setattr(ablate_run, "measure_speeds", meanwhile)
    monkeypatch.setattr(ablate_run, "train", None)
    monkeypatch.setattr(ablate_run, "save_report", lambda *_: None)
    assert ablate_run.ablate(replace(config, json=file, seeds=(0,)), progress=False)
    after = json.loads(file.read_text())
    assert len(after["runs"]) == 6 and after["speed"]["variants"].keys() == set(NAMES)
    assert "--seeds 0 1" in after["command"]  # of all its runs, not of the last call alone


def test_peers_have_a_table_and_a_figure_of_their_own():
    from matplotlib.figure import Figure

    results = made_up_results({"fusion-none": -0.9, "mobilenetv2": 0.9})
    own, peers = markdown(results).split("## Other networks")
    assert "| no fusion" in own and "| MobileNetV2" not in own and "| no fusion" not in peers
    (line,) = (line for line in peers.splitlines() if line.startswith("| MobileNetV2"))
    assert "85.4 (−3.0)" in line and "does not hold" in line and "| LGM-Pose |" in peers
    assert "## Other networks" not in markdown(made_up_results({"fusion-none": -0.9}))
    where = {"image_hw": [96, 96], "device": "cpu", "threads": 1, "cpu": "made-up", "rounds": 3}
    times = {BASELINE: 5.0, "mobilenetv2": 8.0, "fusion-none": 4.0}
    variants = {name: {"fps": 1e3 / ms, "median_ms": ms, "ratio": [5 / ms] * 3} for name, ms in times.items()}
    results |= {"speed": {"conditions": where, "noisy": False, "variants": variants}}
    results |= {"costs": {name: {"params": 1_000_000, "macs": 10_000_000} for name in times}}
    figure = Figure()
    draw_peers(figure, results)
    (axes,) = figure.axes
    assert sorted(text.get_text() for text in axes.texts) == ["LGM-Pose, 1.0 M", "MobileNetV2, 1.0 M"]
    rows = {row.name: row.figures["PCKh@0.5"] for row in compare(results)}
    assert {tuple(text.xy) for text in axes.texts} == {(5.0, rows[BASELINE]), (8.0, rows["mobilenetv2"])}
    assert "96×96" in axes.get_xlabel() and axes.get_ylabel() == "PCKh@0.5 (%)"
