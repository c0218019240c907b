"""Ablations: which networks are trained, a set that runs and resumes, intervals, verdicts, tables and figures."""

from __future__ import annotations

import json
import re
import warnings
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.files import lock
from lgmpose.inference.evaluate import evaluate
from lgmpose.lab.ablate import (
    ABLATIONS,
    BASELINE,
    CHOICES,
    FAMILIES,
    NETWORKS,
    OTHER_NETWORKS,
    RECIPE,
    AblateConfig,
    runner,
)
from lgmpose.lab.ablate.comparisons import contrasts, counts, family_note, family_table, joint_verdict, judged_families
from lgmpose.lab.ablate.rows import FURTHER
from lgmpose.lab.ablate.run_table import draw_bars, draw_peers, markdown, save_report
from lgmpose.lab.evidence import NOT_SIGNIFICANT, OPPOSITE, SAME, UNKNOWN_TO_PAPER, Contrast
from lgmpose.lab.paper import TABLES
from lgmpose.machine import num_cores
from lgmpose.metrics import pck
from lgmpose.pose.codecs import make_codec
from lgmpose.zoo.catalogue import codec_of, create_model, load_weights

# --- which networks, which recipe -----------------------------------------------------------------------------------


def test_every_row_of_tables_4_and_5_has_its_network():
    ours = {(v.changes.get("global_block", "mobilevim"), v.changes.get("fusion", "sfusion")): v.paper_pckh
            for v in ABLATIONS.values() if not v.changes.keys() - {"fusion", "global_block"}}  # fmt: skip
    assert ours == {(row.global_block, row.fusion): row.pckh for row in (*TABLES[4], *TABLES[5])}
    assert {name: variant.paper_difference for name, variant in ABLATIONS.items()} == {
        "lgm-pose": 0, "mobilevit": -0.5, "fusion-none": -2.0, "fusion-conv3x3": 0.2, "fusion-dw1": -0.2,
        "fusion-dw2": -0.1, "larm-within": None, "larm-between": None, "larm-identity": None, "larm-no-residual": None,
    }  # fmt: skip
    assert {name: variant.paper_difference for name, variant in OTHER_NETWORKS.items()} == {
        "lgm-pose-fast": None, "mobilenetv2": -3.0, "shufflenetv2": -5.6, "small-hrnet": -8.2, "lite-hrnet-18": -2.3,
    }  # fmt: skip
    assert all(variant.paper_pckh is None for variant in CHOICES.values())
    assert len(NETWORKS) == len(ABLATIONS) + len(OTHER_NETWORKS) + len(CHOICES) + len(FURTHER)


def test_runs_differ_in_seed_and_in_what_the_variant_changes_alone():
    config = AblateConfig()
    base = asdict(config.run_config(BASELINE, 0))
    for name, variant in NETWORKS.items():
        run = asdict(config.run_config(name, 5))
        assert {key for key in run if run[key] != base[key]} == {"seed", *(c.split(".")[0] for c in variant.changes)}
        for key, value in variant.changes.items():
            outer, _, inner = key.partition(".")
            assert (run[outer][inner] if inner else run[outer]) == value
        assert run["eval_every"] == run["epochs"] and run["seed"] == 5


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in CHOICES])
def test_every_row_can_be_trained_at_the_recipes_size(name):
    recipe = AblateConfig().run_config(name, 0)
    with torch.device("meta"):
        net = create_model(recipe.model, num_keypoints=14, **recipe.network_options())
    codec = make_codec(recipe.codec, (96, 96), recipe.sigma)
    assert net(torch.zeros(1, 3, 96, 96, device="meta")).shape == (1, 14, *codec.output_shape)
    for key, value in NETWORKS[name].changes.items():
        assert getattr(recipe if key in ("model", "codec", "sigma") else net.config, key) == value


def test_the_recipe_is_kept_without_this_machines_folders():
    recipe = replace(
        RECIPE, data="lspet:/somewhere/lspet.zip", annotations="elsewhere/a.json", init_weights="b/c.onnx",
        val_data="coco:/somewhere/val", teacher="/somewhere/teacher.npz",
    )  # fmt: skip
    kept = AblateConfig(recipe=recipe).recipe_dict()
    assert (kept["val_data"], kept["teacher"]) == ("coco:val", "teacher.npz")
    assert (kept["data"], kept["annotations"], kept["init_weights"]) == ("lspet:lspet.zip", "a.json", "c.onnx")
    assert not {"seed", "fusion", "global_block", "larm", "larm_residual", "eval_every", "workers"} & kept.keys()
    assert "device" not in kept and kept["epochs"] == 3 and kept["augmentation"]["rotation_deg"] == 45


@pytest.mark.parametrize("arguments, name", [
    (["--variants", "lgm-pose", "resnet"], "resnet"),
    (["--variants", "mobilevit"], "lgm-pose"),
    (["--variants", "lgm-pose", "silu", "silu"], "lgm-pose silu silu"),
    (["--seeds"], "seeds"),
    (["--seeds", "1", "1"], "seeds 1 1"),
    (["--seeds", "0", "-1"], "seeds 0 -1"),
    (["--baseline-seeds", "2", "3"], "seeds 0 1 2 2 3"),
    (["--fusion", "none"], "fusion"),
    (["--seed", "3"], "seed"),
    (["--model", "hrnet-w32"], "hrnet-w32"),
    (["--fps-rounds", "-1"], "fps_rounds -1"),
    (["--tabulate", "--json", "nowhere/a.json"], "nowhere/a.json"),
    (["--tabulate", "--json", "README.md"], "README.md"),
    (["--json", "README.md"], "README.md"),
    (["--data", "nothing:here"], "nothing:here"),
])  # fmt: skip
def test_bad_input_is_refused_in_a_sentence(arguments, name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("README.md").write_text("# not JSON")
    assert main(["ablate", *arguments]) == 2
    output = capsys.readouterr()
    assert name in output.err and "Traceback" not in output.err and output.err.count("\n") == 1


# --- a whole set, on synthetic people -------------------------------------------------------------------------------

NAMES = (BASELINE, "larm-identity")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    make_synthetic(folder, 12, seed=3, image_hw=(64, 80), progress=False)
    recipe = replace(
        RECIPE, data=f"synthetic:{folder}", image_hw=(32, 64), epochs=1, batch_size=4, workers=0, device="cpu",
        flip_test=False, checkpoint_minutes=0, warmup_steps=0,
    )  # fmt: skip
    return AblateConfig(recipe=recipe, variants=NAMES, seeds=(0, 1), out=tmp_path_factory.mktemp("set"), fps_rounds=2)


@pytest.fixture(scope="module")
def no_figures():
    """Drawing takes longer than training on twelve people."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lgmpose.training.trainer.save_curve", lambda *_: None)
        patch.setattr(runner, "save_report", lambda path, of: path.with_suffix(".md").write_text(markdown(of)))
        yield


@pytest.fixture(scope="module")
def results(config, no_figures):
    runner.ablate(config, progress=False)
    return json.loads(config.json_file.read_text())


def test_all_networks_are_trained_with_the_first_seed_first(results):
    assert [(run["seed"], run["variant"]) for run in results["runs"]] == [(s, v) for s in (0, 1) for v in NAMES]
    assert results["recipe"]["epochs"] == 1 and results["conditions"]["input"] == "32×64"


def test_figures_are_those_of_the_weights_each_person_with_its_share(config, results):
    val_set = load_records(config.recipe.data, "val")
    for run in results["runs"][1:3]:
        net, card = load_weights(config.out / f"{run['variant']}-seed{run['seed']}" / "best.safetensors")
        assert all(getattr(net.config, name) == value for name, value in ABLATIONS[run["variant"]].changes.items())
        assert card["training"]["config"]["seed"] == run["seed"]
        anew = evaluate(net, val_set, codec_of(card, (32, 64)), flip_test=False, workers=0, progress=False)
        assert run["figures"]["PCK@0.2"] == round(anew.figures["PCK@0.2"], 4)
        correct, counted = counts(run["correct"]["PCK@0.2"]), counts(results["counted"]["PCK@0.2"])
        assert len(correct) == len(val_set) and (correct <= counted).all()
        assert 100 * correct.sum() / counted.sum() == pytest.approx(anew.figures["PCK@0.2"])
        low, high = run["intervals_95"]["PCK@0.2"]
        assert low <= run["figures"]["PCK@0.2"] <= high
        assert run["steps"] > 0 and {"commit", "machine", "hours"} <= run.keys()
        assert run["other_figures"]["AP"] == pytest.approx(anew.figures["AP"])


def test_costs_are_the_networks_own(results):
    for name in NAMES:
        net = create_model(RECIPE.model, num_keypoints=17, image_hw=(32, 64), **ABLATIONS[name].changes)
        assert results["costs"][name]["params"] == sum(p.numel() for p in net.parameters())
    assert results["costs"]["larm-identity"]["macs"] < results["costs"][BASELINE]["macs"]
    speed = results["speed"]
    assert speed["variants"].keys() == set(NAMES) and speed["conditions"]["rounds"] == 2
    assert speed["conditions"]["image_hw"] == [32, 64] and speed["variants"][BASELINE]["ratio"] == [1, 1, 1]


def test_a_finished_set_is_not_trained_again(config, results, monkeypatch, capsys):
    monkeypatch.setattr(runner, "train", None)
    monkeypatch.setattr(runner, "measure_speeds", None)
    before = config.json_file.read_bytes()
    runner.ablate(config)
    assert config.json_file.read_bytes() == before
    assert family_table(results, FAMILIES["parts"]) in capsys.readouterr().out


def test_only_what_is_missing_is_done(config, results, tmp_path, monkeypatch):
    """Also a run that had ended, but whose process was killed before the results were written: it is not trained."""
    file, stepped, asked = tmp_path / "some.json", [], []
    file.write_text(json.dumps({**results, "runs": results["runs"][:2]}))
    train = runner.train
    monkeypatch.setattr(runner, "train", lambda *args, **options: asked.append(options) or train(*args, **options))
    monkeypatch.setattr(runner, "measure_speeds", None)
    monkeypatch.setattr("lgmpose.training.loop.heatmap_loss", lambda *_: stepped.append(1))
    again = runner.ablate(replace(config, json=file), progress=False)
    assert len(asked) == 2 and all(options["resume"] for options in asked) and not stepped
    assert again["speed"] == results["speed"]
    for old, new in zip(results["runs"], again["runs"], strict=True):
        assert {k: old[k] for k in ("variant", "seed", "figures", "correct", "hours")}.items() <= new.items()


def test_the_baseline_may_have_further_seeds(config):
    more = replace(config, seeds=(0, 2), baseline_seeds=(5,))
    assert more.runs() == [(v, s) for s in (0, 2) for v in NAMES] + [(BASELINE, 5)]


def test_runs_are_measured_on_the_set_that_they_validate_on(config, no_figures, tmp_path):
    """More persons than the training data's own validation part has, and only some of the joints, in another order."""
    folder = tmp_path / "others"
    make_synthetic(folder, 30, seed=4, image_hw=(64, 80), progress=False)
    content = json.loads((folder / "annotations.json").read_text())
    (category,) = content["categories"]
    kept = range(16, 4, -1)
    category["keypoints"], category["skeleton"] = [category["keypoints"][joint] for joint in kept], []
    for person in content["annotations"]:
        person["keypoints"] = [v for joint in kept for v in person["keypoints"][3 * joint : 3 * joint + 3]]
    (tmp_path / "val.json").write_text(json.dumps(content))
    recipe = replace(config.recipe, val_data=f"coco:{folder}", val_annotations=str(tmp_path / "val.json"))
    one = replace(config, recipe=recipe, variants=(BASELINE,), seeds=(0,), out=tmp_path / "set", fps_rounds=0)
    results = runner.ablate(one, progress=False)
    val_set = load_records(recipe.val_data, "val", annotations=recipe.val_annotations)
    assert len(counts(results["counted"]["PCK@0.2"])) == len(val_set) > len(load_records(recipe.data, "val"))
    net = create_model(RECIPE.model, num_keypoints=17, image_hw=(32, 64))  # 17 joints are trained
    assert results["costs"][BASELINE]["params"] == sum(p.numel() for p in net.parameters())
    one.json_file.unlink()  # as if the process had been killed after the training
    again = runner.ablate(one, progress=False)["runs"][0]
    assert all(again[name] == results["runs"][0][name] for name in ("figures", "correct", "hours"))


def test_several_validation_sets_are_refused_before_the_training(config, tmp_path, monkeypatch):
    sets = [replace(load_records(config.recipe.data, "val"), name=name) for name in ("one", "other")]
    monkeypatch.setattr(runner, "load_validation_sets", lambda *_: sets)
    monkeypatch.setattr(runner, "train", None)
    with pytest.raises(UserError, match="one, other.*--val-data"):
        runner.ablate(replace(config, out=tmp_path), progress=False)


def test_the_results_are_written_after_every_run(config, results, tmp_path, monkeypatch):
    file, seen = tmp_path / "some.json", []
    file.write_text(json.dumps({**results, "runs": []}))

    def stop_at_the_third(*_, **__):
        seen.append(len(json.loads(file.read_text())["runs"]))
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "train", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        runner.ablate(replace(config, json=file), progress=False)
    assert seen == [0, 1, 2]


def test_one_process_works_on_a_set(config, results):
    with lock(config.out / ".results.lock"), pytest.raises(UserError, match=re.escape(str(config.out))):
        runner.ablate(config, progress=False)
    with lock(config.out / ".results.lock"):
        runner.ablate(config, tabulate=True, progress=False)  # only reads


def test_table_and_figures_come_from_the_file_alone(config, results, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "save_report", save_report)
    moved = tmp_path / "moved.json"
    moved.write_bytes(config.json_file.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of Matplotlib, say
        assert main(["ablate", "--tabulate", "--json", str(moved)]) == 0
    assert moved.with_suffix(".md").read_text() == config.json_file.with_suffix(".md").read_text() == markdown(results)
    assert moved.read_bytes() == config.json_file.read_bytes()
    assert moved.with_suffix(".png").read_bytes()[:4] == b"\x89PNG" and not (tmp_path / "moved-peers.png").exists()


@pytest.mark.parametrize("names", [(), ("larm-identity",)])
def test_a_report_without_a_run_of_the_baseline_has_no_bars(results, tmp_path, monkeypatch, names):
    """After Ctrl-C in the first training, or where --variants names LGM-Pose last."""
    monkeypatch.setattr(runner, "save_report", save_report)
    runs = [run for run in results["runs"] if run["variant"] in names]
    counted = {name: results[name] if runs else {} for name in ("counted", "conditions")}
    (tmp_path / "set.json").write_text(json.dumps({**results, "runs": runs, **counted}))
    assert main(["ablate", "--tabulate", "--json", str(tmp_path / "set.json")]) == 0
    assert (tmp_path / "set.md").is_file() and not (tmp_path / "set.png").exists()


def test_speeds_are_measured_again_for_new_networks(config, results, monkeypatch):
    asked = []
    monkeypatch.setattr(runner, "train", None)

    def measure(nets, rounds):
        asked.append((set(nets), rounds))
        return results["speed"]

    monkeypatch.setattr(runner, "measure_speeds", measure)
    known = {**results, "runs": results["runs"][:2], "costs": dict.fromkeys(NETWORKS, {"params": 1, "macs": 1})}
    one_seed = replace(config, seeds=(0,))
    for change, expected in (
        ({}, []),
        ({"variants": (*NAMES, "silu", "fusion-dw1")}, [({*NAMES, "fusion-dw1"}, 2)]),
        ({"variants": (*NAMES, "silu", "fusion-dw1"), "fps_rounds": 0}, []),
    ):
        asked.clear()
        config.json_file.with_name("again.json").write_text(json.dumps(known))
        with pytest.raises(TypeError) if "variants" in change else nullcontext():  # the new ones would be trained
            runner.ablate(replace(one_seed, json=config.json_file.with_name("again.json"), **change), progress=False)
        assert asked == expected


def test_another_recipe_is_another_set(config, results, tmp_path):
    other = replace(config, recipe=replace(config.recipe, learning_rate=0.1))
    with pytest.raises(UserError, match="learning_rate"):
        runner.ablate(other, progress=False)
    older = json.loads(json.dumps(results))  # written before there were these options
    del older["recipe"]["joint_weights"], older["recipe"]["augmentation"]["occlusion_prob"]
    file = tmp_path / "older.json"
    file.write_text(json.dumps(older))
    assert len(runner.load_runs(file, config)["runs"]) == 4
    with pytest.raises(UserError, match="joint_weights"):
        runner.load_runs(file, replace(config, recipe=replace(config.recipe, joint_weights="hrnet")))
    more = replace(config, seeds=(0, 1, 2), recipe=replace(config.recipe, workers=1))
    assert len(runner.load_runs(config.json_file, more)["runs"]) == 4  # more seeds or workers belong to the same set


@pytest.mark.parametrize("change, named", [
    (lambda found: found["runs"].append(found["runs"][1]), "larm-identity seed 0"),
    (lambda found: found["runs"][0].update(variant="lgm-posse"), "lgm-posse"),
    (lambda found: found["costs"].update({"lgm-posse": {"params": 1, "macs": 1}}), "lgm-posse"),
])  # fmt: skip
def test_runs_that_count_twice_or_of_unknown_networks_are_refused(results, tmp_path, change, named):
    change(changed := json.loads(json.dumps(results)))
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match=rf"changed\.json: .*{named}"):
        runner.load_runs(tmp_path / "changed.json")


def test_a_new_set_starts_empty(config, tmp_path):
    for _ in range(2):
        fresh = runner.load_runs(tmp_path / "new.json", config)
        assert not any(fresh[name] for name in ("runs", "costs", "counted", "conditions", "speed"))
        for name in ("costs", "counted", "conditions"):
            fresh[name]["x"] = 1
        fresh["runs"].append(1)


def test_runs_on_other_persons_are_not_added(results):
    truth = np.arange(12 * 17 * 2, dtype=float).reshape(12, 17, 2)
    joints = {"PCK@0.2": pck(truth, truth, np.ones((12, 17)), np.ones(12))}
    with pytest.raises(UserError):
        runner.add_run(json.loads(json.dumps(results)), BASELINE, 7, joints, {})
    fresh = {"runs": [], "counted": {}}
    runner.add_run(fresh, BASELINE, 7, joints, {"data": "x"}, hours=2)
    (run,) = fresh["runs"]
    assert (run["variant"], run["seed"], run["hours"], fresh["conditions"]) == (BASELINE, 7, 2, {"data": "x"})
    assert run["figures"] == {"PCK@0.2": 100} and run["correct"] == fresh["counted"]


def test_data_without_a_metric_are_refused_before_the_training(config, monkeypatch, tmp_path):
    val_set = SimpleNamespace(name="toes", skeleton=SimpleNamespace(joint_names=("toe",), num_keypoints=1))
    asked = []

    def load(*arguments):
        asked.append(arguments)
        return [val_set]

    monkeypatch.setattr(runner, "load_validation_sets", load)
    monkeypatch.setattr(runner, "joint_metrics", lambda _: {})
    monkeypatch.setattr(runner, "train", None)
    with pytest.raises(UserError, match="toe"):
        recipe = replace(config.recipe, val_annotations="v.json")
        runner.ablate(replace(config, recipe=recipe, out=tmp_path), progress=False)
    assert asked == [(config.recipe.data, "v.json", ())]


def test_speeds_are_ratios_of_the_same_round(monkeypatch):
    """A machine that slows down, and a network that takes twice as long."""
    drift = np.linspace(1, 3, 30)
    times = {BASELINE: 0.01 * drift, "slow": 0.02 * drift}
    asked = {}
    monkeypatch.setattr(
        runner, "interleaved_times", lambda calls, **options: asked.update(options, names=list(calls)) or times
    )
    net, before = create_model(RECIPE.model, image_hw=(32, 64)), torch.get_num_threads()
    monkeypatch.setattr(runner, "load", lambda: 0.0)
    speed = runner.measure_speeds({BASELINE: net, "slow": net}, 30)
    assert asked == {"rounds": 30, "synchronize": None, "names": [BASELINE, "slow"]}
    assert speed["variants"]["slow"] == {"fps": 25.0, "median_ms": 40.0, "ratio": [0.5, 0.5, 0.5]}
    assert torch.get_num_threads() == before and not speed["noisy"] and speed["conditions"]["threads"] == 1
    monkeypatch.setattr(runner, "load", lambda: num_cores() + 0.5)
    assert runner.measure_speeds({BASELINE: net, "slow": net}, 30)["noisy"]


# --- tables and figures ---------------------------------------------------------------------------------------------


def made_up_results(leads: dict[str, float], seeds=(0, 1), n: int = 300) -> dict:
    """A results file in which each network finds about so many joints of 14 more per person than LGM-Pose."""
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
        "recipe": {"epochs": 3, "image_hw": [96, 96], "batch_size": 32}, "runs": runs, "costs": {}, "speed": None,
        "conditions": {"data": "made-up", "input": "96×96"}, "counted": {"PCKh@0.5": " ".join(["14"] * n)},
    }  # fmt: skip


def table_rows(text: str, heading: str) -> dict[str, dict[str, str]]:
    """Cells of the first table after a heading: network → column → cell."""
    lines = [line.strip("|").split("|") for line in text.split(heading)[1].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    rows = rows[: next((i for i, row in enumerate(rows) if len(row) != len(head)), None)]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_the_stored_report_is_that_of_its_file():
    file = Path(__file__).parents[2] / "results" / "ablations.json"
    results = runner.load_runs(file)
    text = markdown(results)
    assert len(results["runs"]) >= 48
    assert text == file.with_suffix(".md").read_text(encoding="utf-8"), "lgmpose ablate --tabulate"
    assert "`rotation_deg` 45," in text, "nested settings are listed like the others"


def test_families_are_written_out_and_cover_all_rows():
    """A row that is added joins no family by itself; whoever adds one decides here."""
    assert FAMILIES["parts"].rows == tuple(name for name in ABLATIONS if name != BASELINE)
    assert FAMILIES["peers"].rows == tuple(OTHER_NETWORKS) and FAMILIES["recipes"].rows == tuple(CHOICES)
    assert [family.name for family in FAMILIES.values() if family.exploratory] == ["recipes"]
    later = ("survivors", "initial-weights", "fast")
    assert tuple(row for name in later for row in FAMILIES[name].rows) == tuple(FURTHER)


def test_the_table_shows_what_was_found():
    results = made_up_results({"mobilevit": 0.9, "larm-identity": -0.9, "mobilenetv2": -0.9, "rotation-90": 0.9})
    text = markdown(results)
    own = table_rows(text.split("## Other")[0], "thing changed")
    assert list(own) == ["LGM-Pose", "MobileViT block", "no LARM (identity)"]
    row, (found, _) = own["MobileViT block"], contrasts(results, FAMILIES["parts"])["PCKh@0.5"]
    assert (row["the paper"], own["LGM-Pose"]["the paper"]) == ("87.9 (−0.5)", "88.4")
    assert (row["PCKh@0.5"], row["difference (95 %)"]) == (f"{found.figure:.1f}", str(found))
    assert (row["seeds"], row["verdict"], row["p"]) == ("2", OPPOSITE, "< 0.001")
    assert own["no LARM (identity)"]["verdict"] == UNKNOWN_TO_PAPER
    peers = table_rows(text.split("## LGM-Pose, other")[0], "## Other networks")
    assert list(peers) == ["LGM-Pose", "MobileNetV2"] and peers["MobileNetV2"]["verdict"] == SAME
    choices = table_rows(text, "## LGM-Pose, other")
    assert choices["rotation σ 90°"].keys() == {"network", "PCKh@0.5", "difference (95 %)", "seeds"}
    assert all(family_note(results, family) in text for family in judged_families(results))
    assert "## Other" not in markdown(made_up_results({"mobilevit": 0.9}))


def test_the_note_says_what_could_have_been_found_and_how_many_seeds_are_missing():
    results = made_up_results({"mobilevit": 0.9})
    (row,) = contrasts(results, FAMILIES["parts"])["PCKh@0.5"]
    note = family_note(results, FAMILIES["parts"])
    assert f"{row.detectable:.1f} points" in note and "5 seeds" in note
    assert "5 seeds" not in family_note(made_up_results({"mobilevit": 0.9}, seeds=range(5)), FAMILIES["parts"])


def test_metrics_that_disagree_are_both_said():
    clear, open_ = (Contrast("a", 3, 50.0, 2.0, low, 4.0, 0.01, 1.0) for low in (1.0, -1.0))
    assert joint_verdict({"PCKh@0.5": clear, "PCK@0.2": clear}, 0.2) == SAME
    both = joint_verdict({"PCKh@0.5": clear, "PCK@0.2": open_}, 0.2)
    assert f"PCKh@0.5: {SAME}" in both and f"PCK@0.2: {NOT_SIGNIFICANT}" in both


def test_costs_and_speeds_are_in_the_table_and_in_the_figure_of_the_peers():
    from matplotlib.figure import Figure

    results = made_up_results({"fusion-none": -0.9, "mobilenetv2": 0.9})
    on = {"image_hw": [96, 64], "device": "cpu", "threads": 1, "cpu": "made-up", "rounds": 3}
    times = {BASELINE: 5.0, "mobilenetv2": 8.0, "fusion-none": 4.0}
    variants = {name: {"fps": 1e3 / ms, "median_ms": ms, "ratio": [5 / ms] * 3} for name, ms in times.items()}
    results |= {"speed": {"conditions": on, "noisy": True, "variants": variants}}
    results |= {"costs": {name: {"params": 1_000_000, "macs": 10_000_000} for name in times}}
    row = table_rows(markdown(results), "## Costs")["MobileNetV2"]
    shown = [row[name] for name in ("parameters", "MACs", "FPS", "time / LGM-Pose's")]
    assert shown == ["1,000,000", "10.0 M", "125", "1.60"] and "do not quote" in markdown(results)
    draw_peers(figure := Figure(), results)
    (axes,) = figure.axes
    rows = {name: np.mean([run["figures"]["PCKh@0.5"] for run in results["runs"] if run["variant"] == name])
            for name in (BASELINE, "mobilenetv2")}  # fmt: skip
    places = [(dots.get_offsets().tolist(), dots.get_label()) for dots in axes.collections]
    assert [place for place in places if len(place[0]) == 1] == [
        ([[5.0, rows[BASELINE]]], "LGM-Pose, 1.0 M parameters"),
        ([[8.0, rows["mobilenetv2"]]], "MobileNetV2, 1.0 M parameters"),
    ]
    assert "96×64" in axes.get_xlabel()


def test_bars_show_the_paper_and_ours_with_intervals():
    from matplotlib.figure import Figure

    results = made_up_results({"mobilevit": 0.9, "larm-identity": 0.0})
    draw_bars(figure := Figure(), results)
    paper, ours = figure.axes
    assert [round(bar.get_width(), 1) for bar in paper.patches] == [-0.5, -2.0, 0.2, -0.2, -0.1, 0, 0, 0, 0]
    rows = contrasts(results, FAMILIES["parts"])["PCKh@0.5"]
    bar, grey = ours.patches
    assert [bar.get_width(), grey.get_width()] == pytest.approx([row.points for row in rows])
    assert bar.get_facecolor() != grey.get_facecolor(), "what is not significant is grey"
    assert len(ours.texts) == 2 and len(ours.containers) == 4  # bars and their error bars
