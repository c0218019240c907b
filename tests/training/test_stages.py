"""The scripts of data_scripts: stages within a time limit, recipes compared, boxes, a photo timed."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from training_tools import log_of

from lgmpose.data.mixture import read_mixture
from lgmpose.data.mpii_split import read_val_list
from lgmpose.errors import UserError
from lgmpose.zoo.catalogue import WEIGHTS_FOLDER, load_weights

SCRIPTS = Path(__file__).resolve().parents[2] / "data_scripts"


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look the module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stages(people, tmp_path):
    """Return the script and a function that makes its options."""
    (tmp_path / "sets.toml").write_text(
        f'[[train]]\ndata = "synthetic:{people}"\n[[val]]\ndata = "synthetic:{people}"\n'
    )
    module = script("train_in_stages")

    def options(**changes):
        defaults = {
            "sets": tmp_path / "sets.toml", "out": tmp_path / "out", "minutes": 60.0, "sizes": ("64x32", "96x64"),
            "shares": (0.5, 0.5), "reserve": 0.0, "model": "tiny", "init_weights": None, "batch_size": 4,
            "device": "cpu", "workers": 0,
        }  # fmt: skip
        return module.Stages(**defaults | changes)

    return module, options


def test_each_stage_starts_from_the_one_before(stages, tmp_path):
    module, options = stages
    before = [tmp_path / "1", tmp_path / "2"]
    last = module.stage_config(options(teacher="t.onnx"), 1, 2.0, before)
    assert last.init_weights == str(before[1] / "best.safetensors") and last.teacher == str(before[0] / "teacher.npz")
    first = module.stage_config(options(teacher="t.onnx"), 0, 2.0, [])
    assert first.teacher == "t.onnx" and first.init_weights is None and first.image_hw == (64, 32)
    with pytest.raises(UserError, match="shares"):
        module.main(options(shares=(1.0,)))
    with pytest.raises(UserError, match="sizes 64 "):
        module.main(options(sizes=("96x64", "64 ")))
    with pytest.raises(UserError, match="minutes"):
        module.main(options(minutes=0.1, reserve=1.0))


@pytest.mark.slow
def test_all_stages_are_trained_and_the_same_command_repeats_nothing(stages, tmp_path, monkeypatch):
    module, options = stages
    settings = module.stage_config
    monkeypatch.setattr(module, "stage_config", lambda *given: replace(settings(*given), minutes=1e-6))
    module.main(options())
    folders = [tmp_path / "out" / name for name in ("1-64x32", "2-96x64")]
    net, card = load_weights(folders[1] / "best.safetensors")
    assert net.config.image_hw == (96, 64) and card["training"]["start"]["weights"] == "best.safetensors"
    before = [log_of(folder) for folder in folders]
    module.main(options())
    assert [log_of(folder) for folder in folders] == before


RECIPES = """
baseline = "all"
seeds = [0, 1]
baseline_seeds = [5]
[options]
data = "synthetic:{people}"
model = "tiny"
image_hw = [64, 32]
epochs = 1
batch_size = 4
device = "cpu"
workers = 0
[rows.all]
[rows.fast]
learning_rate = 1.0
teacher = ""
"""


@pytest.mark.slow
def test_recipes_are_compared_and_the_same_command_repeats_nothing(people, tmp_path, monkeypatch, capsys):
    module, file = script("compare_recipes"), tmp_path / "recipes.toml"
    file.write_text(RECIPES.format(people=people))
    arguments = module.Arguments(file, tmp_path / "out")
    module.main(arguments)
    content = json.loads((tmp_path / "out" / "recipes.json").read_text())
    runs = [("all", 0), ("all", 1), ("all", 5), ("fast", 0), ("fast", 1)]
    assert [(run["row"], run["seed"]) for run in content["runs"]] == runs
    assert content["rows"]["fast"]["learning_rate"] == 1.0 and content["rows"]["all"]["learning_rate"] == 1e-3
    assert content["rows"]["fast"]["teacher"] is None
    counted = [int(number) for number in content["counted"].split()]
    for run in content["runs"]:
        right = sum(map(int, run["correct"].split()))
        assert 100 * right / sum(counted) == pytest.approx(run["figures"]["PCK@0.2"], abs=1e-3)
    written = (tmp_path / "out" / "recipes.md").read_text()
    assert "| fast" in written and "| AP" in written
    assert Image.open(tmp_path / "out" / "recipes.png").width > 500
    without_ap = {row: [run for run in content["runs"] if run["row"] == row] for row in ("all", "fast")}
    for row, runs_of_row in without_ap.items():  # only data with COCO's annotations have AP
        more = {"figures": {"PCK@0.2": 50.0}, "counted": content["counted"], "correct": content["counted"]}
        without_ap[row] = [run | more for run in runs_of_row]
    made = module.table(without_ap, module.contrasts(module.read_comparison(file)[0], without_ap))
    assert "AP" not in made and "nan" not in made and made.splitlines()[-1].startswith("| fast")
    capsys.readouterr()
    file_of_runs = tmp_path / "out" / "recipes.json"
    cut = {**content, "runs": content["runs"][:-1]}  # killed after a training, before its result was written
    file_of_runs.write_text(json.dumps(cut))
    module.main(arguments)
    assert json.loads(file_of_runs.read_text())["runs"] == content["runs"] and "[5/5]" in capsys.readouterr().out
    monkeypatch.setattr(module, "train_and_measure", None)  # nothing is left to train
    monkeypatch.setattr(module, "machine_header", lambda: {"commit": "a later one"})
    before = file_of_runs.read_bytes()
    module.main(arguments)
    assert file_of_runs.read_bytes() == before  # it still names the commit of the training
    assert "| fast" in capsys.readouterr().out
    file.write_text(file.read_text().replace("learning_rate = 1.0", "learning_rate = 2.0"))
    with pytest.raises(UserError, match="other recipes"):
        module.main(arguments)


@pytest.mark.parametrize(
    "change, words",
    [
        (('baseline = "all"', 'baseline = "none"'), "none of the rows"),
        (("epochs", "epoch"), "unknown setting epoch"),
        (("seeds = [0, 1]", "seeds = []"), "not a comparison"),
        (("seeds = [5]", "seeds = [1]"), "a seed twice"),
        (("[rows.all]", "[rows.all"), "TOML"),
    ],
)
def test_bad_comparisons_are_refused_before_the_work(people, tmp_path, change, words):
    module, file = script("compare_recipes"), tmp_path / "recipes.toml"
    file.write_text(RECIPES.format(people=people).replace(*change))
    with pytest.raises(UserError, match=words):
        module.main(module.Arguments(file, tmp_path / "out"))


def test_the_shipped_comparisons_and_their_lists_are_in_order():
    read = script("compare_recipes").read_comparison
    configs = read(SCRIPTS / "recipes_coco.toml")[1]
    assert configs["no-teacher"].teacher is None and configs["all"].teacher == "teacher.npz"
    for file in SCRIPTS.glob("recipes_*.toml"):
        comparison, configs = read(file)
        assert len(configs) == len(comparison.rows) > 1
        for config in configs.values():
            kind, _, path = config.data.partition(":")
            sets = read_mixture(SCRIPTS / "recipes_coco" / path).train if kind == "mix" else []
            assert kind != "mix" or len(sets) >= 3
            assert all(entry.weight == 0 or entry.weight >= 0.1 for entry in sets)  # what is left out has weight 0


def test_boxes_without_joints_become_detections(tmp_path):
    entries = [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 10], "num_keypoints": 0, "iscrowd": 0},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 10], "num_keypoints": 3, "iscrowd": 0},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 10], "num_keypoints": 0, "iscrowd": 1},
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 31, 10], "num_keypoints": 0, "iscrowd": 0},
    ]
    uncounted = {"image_id": "1", "category_id": 1, "bbox": [0, 0, 40, 10]}  # without num_keypoints
    entries += [uncounted | {"keypoints": [5, 5, 1]}, uncounted | {"bbox": [0, 0, 99, 99], "keypoints": [0, 0, 0]}]
    (tmp_path / "a.json").write_text(json.dumps({"annotations": entries}))
    main = script("unlabelled_boxes").main
    main(tmp_path / "a.json", tmp_path / "b.json")
    box, other = json.loads((tmp_path / "b.json").read_text())
    assert box == {"image_id": 1, "category_id": 1, "bbox": [0, 0, 40, 10], "score": 1.0}
    assert other["bbox"] == [0, 0, 99, 99] and other["image_id"] == 1
    for damaged in ("[]", "{}", '{"annotations": [{"image_id": 1}]}'):
        (tmp_path / "a.json").write_text(damaged)
        with pytest.raises(UserError, match="a.json: not COCO's annotations"):
            main(tmp_path / "a.json", tmp_path / "b.json")


def test_the_350_pictures_are_taken_from_cocos_file(tmp_path):
    module = script("validation_subset")
    ids = [int(line) for line in module.LISTS["coco"].read_text().split()]
    assert len(set(ids)) == 350
    annotations = [{"image_id": i} for i in (ids[0], 1, ids[0])]
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "person_keypoints_val2017.json"
    for damaged in ("[]", "{}", '{"images": [1], "annotations": []}'):
        file.write_text(damaged)
        with pytest.raises(UserError, match="val2017.json: "):
            module.coco(tmp_path)
    file.write_text(json.dumps({"images": [{"id": i} for i in (*ids[:-1], 1)], "annotations": annotations}))
    with pytest.raises(UserError, match="only 349 of the 350"):
        module.coco(tmp_path)
    file.write_text(json.dumps({"images": [{"id": i} for i in (*ids, 1)], "annotations": annotations}))
    written = json.loads(module.coco(tmp_path).read_text())
    assert len(written["images"]) == 350 and written["annotations"] == [annotations[0], annotations[2]]


def test_the_216_persons_are_taken_from_the_usual_validation_list(tmp_path):
    module, usual = script("validation_subset"), read_val_list()
    wanted = [line.split() for line in module.LISTS["mpii"].read_text().splitlines()]
    assert all(usual[int(place)].picture in ("", picture) for place, picture in wanted)
    persons = [{"image": person.picture, "place": place} for place, person in enumerate(usual)]
    for place, picture in wanted:
        persons[int(place)]["image"] = picture
    for other in (persons[::-1], [{}] * len(persons), [1], {}):
        (tmp_path / "mpii_val.json").write_text(json.dumps(other))
        with pytest.raises(UserError, match="mpii_val.json: not "):
            module.mpii(tmp_path)
    (tmp_path / "mpii_val.json").write_text(json.dumps(persons))
    written = json.loads(module.mpii(tmp_path).read_text())
    assert [entry["place"] for entry in written] == [int(place) for place, _ in wanted] and len(written) == 216


def test_the_labelling_refuses_bad_files_before_it_begins(tmp_path, monkeypatch):
    module = script("boxes_by_detector")
    monkeypatch.setattr(module, "open_detector", lambda name: pytest.fail("too late"))
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    (tmp_path / "known.json").write_text('{"annotations": [{"id": 1}]}')
    with pytest.raises(UserError, match="known.json: not a COCO"):
        module.main(module.Arguments(tmp_path, tmp_path / "out.json", "d.onnx", add=tmp_path / "known.json"))
    with pytest.raises(UserError, match="a.png"):
        module.main(module.Arguments(tmp_path, tmp_path / "a.png" / "out.json", "d.onnx"))


@pytest.mark.slow
def test_people_are_labelled_by_a_detector_unless_they_are_labelled_already(tmp_path, monkeypatch, capsys):
    module, boxes = script("boxes_by_detector"), [((4, 4, 20, 40), 0.9), ((30, 4, 10, 10), 0.4), ((0, 0, 9, 9), 0.1)]
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    known = {
        "images": [{"id": 7, "file_name": "a.png", "height": 48, "width": 64}],
        "annotations": [{"id": 3, "image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}],
        "categories": [{"id": 5, "name": "person"}],
    }
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    (tmp_path / "known.json").write_text(json.dumps(known))
    monkeypatch.setattr(module, "open_detector", lambda name: None)
    monkeypatch.setattr(module, "detect_people", lambda *_: tuple(zip(*boxes, strict=True)))
    module.main(module.Arguments(tmp_path, tmp_path / "out.json", "d.onnx", add=tmp_path / "known.json"))
    content = json.loads((tmp_path / "out.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", "b.png"]
    found = [(box["image_id"], box["bbox"], box["iscrowd"]) for box in content["annotations"]]
    assert found == [(7, [1, 2, 3, 4], 0), (8, [4, 4, 20, 40], 0), (8, [30, 4, 10, 10], 1)]
    assert {box["category_id"] for box in content["annotations"]} == {5} == {content["categories"][0]["id"]}
    assert "1 unreadable" in capsys.readouterr().out
    (tmp_path / "cut.png").unlink()
    with pytest.raises(UserError, match="no picture"):
        module.main(module.Arguments(tmp_path, tmp_path / "out.json", "d.onnx", add=tmp_path / "out.json"))


@pytest.mark.slow
def test_a_photo_is_timed_part_by_part(tmp_path):
    pytest.importorskip("onnxruntime")
    module = script("time_photo")
    weights = WEIGHTS_FOLDER / "lgm-pose-lspet-128x128.onnx"
    arguments = module.Arguments((weights,), (), tmp_path / "photo", people=(1, 2), batch_sizes=(1, 2), seconds=0.1)
    module.main(arguments)
    content = json.loads((tmp_path / "photo.json").read_text())
    at = {(row["people"], row["batch_size"], row["part"]): row["median_ms"] for row in content["rows"]}
    assert {key[:2] for key in at} == {(1, 1), (2, 1), (2, 2)} and len(at) == 12
    assert all(at[key] > 0 for key in at) and "| lgm-pose-lspet-128x128 | 2 " in (tmp_path / "photo.md").read_text()
