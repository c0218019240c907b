"""Evaluation end to end: a network that knows the answer must score like the answer, on every path."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from inference_tools import noise
from PIL import Image
from torch import nn

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.data.coco import load_coco
from lgmpose.data.crops import CropDataset
from lgmpose.data.mixture import with_skeleton
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.inference import evaluate_weights as evaluate_weights_module
from lgmpose.inference.backends import TorchBackend, open_backend, run_module
from lgmpose.inference.evaluate import evaluate, predict_records
from lgmpose.inference.evaluate_weights import evaluate_weights
from lgmpose.inference.extremes import choose_extremes, mean_errors, save_extremes
from lgmpose.inference.figures import Evaluation, Predictions, figure_text, joint_metrics, joint_results
from lgmpose.inference.options import EvalConfig
from lgmpose.inference.other_boxes import predict_without_boxes, shift_boxes
from lgmpose.inference.predictor import Predictor
from lgmpose.inference.top_down import coco_persons
from lgmpose.machine import machine_header
from lgmpose.metrics import head_size_from_joints
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.geometry import PADDING, transform_points
from lgmpose.pose.skeletons import COCO, LSP, MPII
from lgmpose.zoo.catalogue import create_model, save_weights

IMAGE_HW = (256, 192)


class Oracle(nn.Module):
    """Says, batch by batch, the heatmaps of the true joints of a record set (or of other points given for it)."""

    def __init__(self, record_set, codec, keypoints_xy=None, visibility=None):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))  # evaluation asks a network for its device
        samples = [CropDataset(record_set, codec.image_hw, aligned=codec.aligned)[i] for i in range(len(record_set))]
        if keypoints_xy is None:
            keypoints_xy = [sample["keypoints_xy"] for sample in samples]
            visibility = [sample["visibility"] for sample in samples]
        self.heatmaps = torch.from_numpy(codec.encode(np.stack(keypoints_xy), np.stack(visibility))[0])
        self.position = 0

    def forward(self, inputs):
        batch = self.heatmaps[self.position : self.position + len(inputs)]
        self.position += len(inputs)
        return batch


@pytest.fixture(scope="module")
def coco_sample(shared_data):
    return shared_data / "coco_sample"


@pytest.mark.parametrize("codec_name", ["standard", "dark", "udp"])
def test_the_true_joints_through_heatmaps_have_ap_1_on_coco(coco_sample, codec_name):
    record_set = load_coco(coco_sample / "person_keypoints_sample.json", coco_sample)
    codec = make_codec(codec_name, IMAGE_HW)
    evaluation = evaluate(
        Oracle(record_set, codec), record_set, codec, flip_test=False, batch_size=5, workers=0, progress=False
    )
    # The standard codec rounds to heatmap pixels, which costs the smallest persons some OKS.
    assert evaluation.figures["AP"] >= (0.9 if codec_name == "standard" else 0.999)
    assert evaluation.figures["AP50"] == pytest.approx(1)
    assert evaluation.figures["PCK@0.2"] == 100
    assert evaluation.conditions["boxes"] == "ground-truth boxes" and evaluation.conditions["flip test"] == "off"
    assert "head size" not in evaluation.conditions
    written = coco_persons(evaluation.predictions, record_set, codec.image_hw)
    assert len(written) == 12 and all(len(person["keypoints"]) == 51 for person in written)
    text = evaluation.as_text()
    for word in ("coco-17", "ground-truth boxes", f"decoder: {codec_name}", "256×192", "flip test: off"):
        assert word in text


@pytest.mark.parametrize("kept", [None, ("image_id", "bbox", "keypoints")], ids=["all", "least"])
def test_own_data_has_ap_too(people, tmp_path, kept):
    """Persons of category 7 and numbered from 0, another category of which nothing is said; or no more than is needed
    to train on: no crowds, areas or counts."""
    content = json.loads((people / "annotations.json").read_text())
    content["categories"] = [{**content["categories"][0], "id": 7}, {"id": 1, "name": "dog"}]
    persons = [
        {key: person[key] for key in kept or person} | {"id": i, "category_id": 7}
        for i, person in enumerate(content["annotations"])
    ]
    content["annotations"] = [*persons, {"id": 0, "category_id": 1, "image_id": content["images"][0]["id"]}]
    (tmp_path / "own.json").write_text(json.dumps(content))
    record_set, codec = load_coco(tmp_path / "own.json", people / "images"), make_codec("udp", (64, 96))
    evaluation = evaluate(Oracle(record_set, codec), record_set, codec, flip_test=False, workers=0, progress=False)
    assert evaluation.figures["AP"] > 0.99
    persons = coco_persons(evaluation.predictions, record_set, codec.image_hw)
    assert {person["category_id"] for person in persons} == {7}


def _nearest_truth(record_set, truth):
    """For every detector box, the joints of the person in its picture whose box centre is nearest."""
    points, visibility = [], []
    for record in record_set.records:
        of_image = [person for person in truth.records if person.image_id == record.image_id]
        nearest = min(of_image, key=lambda person: np.abs(person.center_xy - record.center_xy).sum())
        points.append(nearest.keypoints_xy)
        visibility.append(nearest.visibility)
    return points, visibility


def test_each_person_of_a_detector_stays_once(people, tmp_path):
    content = json.loads((people / "annotations.json").read_text())
    truth = load_coco(people / "annotations.json", people / "images")
    boxes = [
        {"image_id": person["image_id"], "category_id": 1, "bbox": person["bbox"], "score": score}
        for person in content["annotations"] for score in (0.6, 0.9)
    ]  # fmt: skip
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    detected = load_coco(people / "annotations.json", people / "images", detections=tmp_path / "boxes.json")
    points, visibility = _nearest_truth(detected, truth)
    dataset, codec = CropDataset(detected, (64, 96), aligned=True), make_codec("udp", (64, 96))
    crop_xy = [transform_points(dataset[i]["matrix"], xy) for i, xy in enumerate(points)]
    oracle = Oracle(detected, codec, crop_xy, visibility)
    evaluation = evaluate(oracle, detected, codec, flip_test=False, progress=False)
    written = coco_persons(evaluation.predictions, detected, codec.image_hw)
    assert len(written) == len(truth) and evaluation.figures["AP"] > 0.99 and "PCK@0.2" not in evaluation.figures
    assert evaluation.conditions["boxes"] == "detector boxes (boxes.json)"
    assert all(0.6 < person["score"] <= 0.9 for person in written), "the better box, times the joints' scores"


def test_flip_test_of_a_mirror_symmetric_oracle_changes_nothing(people):
    """An oracle for the crop and for its mirror: averaged, unshifted (udp), they must give the same joints."""
    record_set = load_records(f"synthetic:{people}").subset(range(6))
    codec = make_codec("udp", (64, 96))
    straight = Oracle(record_set, codec)

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))
            self.calls = 0

        def forward(self, inputs):
            self.calls += 1
            maps = straight.heatmaps
            return maps if self.calls % 2 else maps[:, list(COCO.flip_permutation)].flip(-1)

    plain = evaluate(straight, record_set, codec, flip_test=False, workers=0, progress=False).predictions
    straight.position = 0
    both = Both()
    flipped = evaluate(both, record_set, codec, flip_test=True, workers=0, progress=False).predictions
    assert both.calls == 2
    np.testing.assert_allclose(flipped.keypoints_xy, plain.keypoints_xy, atol=1e-4)


def test_eval_command_prints_conditions_and_writes_files(people, coco_weights, tmp_path, capsys):
    files = [tmp_path / name for name in ("figures.json", "results.json", "sheet.png")]
    arguments = ["--json", str(files[0]), "--results", str(files[1]), "--sheet", str(files[2])]
    data = ["--data", f"synthetic:{people}", "--split", "train", "--limit", "7", "--workers", "0", "--device", "cpu"]
    assert main(["eval", "--weights", str(coco_weights), *data, *arguments]) == 0
    out = capsys.readouterr().out
    for word in ("net.safetensors", "sha256", "synthetic-train", "decoder: dark", "64×96", "flip test: on", ": 7"):
        assert word in out
    figures = json.loads(files[0].read_text())
    assert {"PCK@0.2", "AP"} <= set(figures["figures"]) and figures["conditions"]["persons"] == "7"
    assert machine_header().keys() <= figures.keys()
    assert len(json.loads(files[1].read_text())) == 7
    assert cv2.imread(str(files[2])).shape[2] == 3


def test_eval_says_what_was_left_out(people, coco_weights, tmp_path, capsys):
    content = json.loads((people / "annotations.json").read_text())
    content["annotations"][0]["keypoints"] = None
    (people / "odd.json").write_text(json.dumps(content))
    data = ["--data", f"coco:{people}", "--annotations", str(people / "odd.json"), "--limit", "2", "--workers", "0"]
    assert main(["eval", "--weights", str(coco_weights), *data, "--device", "cpu"]) == 0
    assert "left out or replaced: 1 no keypoints" in capsys.readouterr().out


def test_eval_at_another_size_moves_the_weights(people, coco_weights, capsys):
    data = ["--data", f"synthetic:{people}", "--limit", "2", "--workers", "0", "--device", "cpu"]
    assert main(["eval", "--weights", str(coco_weights), *data, "--image-hw", "96", "64"]) == 0
    assert "input: 96×64" in capsys.readouterr().out
    assert main(["eval", "--weights", str(coco_weights), *data, "--codec", "udp"]) == 0
    assert "decoder: udp" in capsys.readouterr().out
    assert main(["eval", "--weights", str(coco_weights), *data, "--image-hw", "90", "64"]) == 2
    assert "multiples of 32" in capsys.readouterr().err


def test_worst_and_best_are_chosen_by_the_mean_error(people):
    record_set = load_records(f"synthetic:{people}").subset(range(8))
    truth = np.stack([record.keypoints_xy for record in record_set.records])
    shift = np.arange(8)[:, None, None] * np.array([3.0, 4.0])
    sizes = np.array([record.size_wh.max() for record in record_set.records])
    np.testing.assert_allclose(mean_errors(record_set, truth + shift), 5 * np.arange(8) / sizes)
    hidden = replace(record_set.records[0], visibility=np.zeros(17, int))
    assert np.isnan(mean_errors(replace(record_set, records=(hidden,)), truth[:1])).all()


@pytest.mark.parametrize(
    "errors, worst, best",
    [([3], [0], []), ([1, 3, 2], [1, 2], [0]), ([5, 1, 4, 2, 3, 0], [0, 2], [5, 1]), ([np.nan, 1, 2], [2], [1])],
)
def test_nobody_is_both_worst_and_best(errors, worst, best):
    assert choose_extremes(np.array(errors, float), 2) == (worst, best)


def test_the_sheet_has_truth_and_prediction_of_each(people, tmp_path):
    record_set = load_records(f"synthetic:{people}").subset(range(8))
    records = tuple(replace(record, visibility=np.full(17, 2)) for record in record_set.records)
    record_set = replace(record_set, records=records)
    truth = np.stack([record.keypoints_xy for record in record_set.records])
    moved = truth + np.arange(8)[:, None, None] * 8
    save_extremes(record_set, moved, tmp_path / "sheet.png", count=3)
    sheet = cv2.imread(str(tmp_path / "sheet.png")).astype(int)
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 4
    order = np.argsort(-mean_errors(record_set, moved))
    assert len(order) == 8 and sheet.shape[2] == 3
    tiles = [sheet[height * (i // 4) : height * (i // 4 + 1), width * (i % 4) : width * (i % 4 + 1)] for i in range(6)]
    different = [np.abs(tile[:224, :224] - tile[:224, 224:448]).mean() for tile in tiles]
    assert different[3] == 0 < min(different[:3])  # the best comes fourth, and was not moved
    assert (sheet[height:, 2 * width :] == 255).all()
    for wrong, word in ((replace(record_set, has_keypoints=False), record_set.name), (record_set, "nobody")):
        with pytest.raises(UserError, match=word):
            save_extremes(wrong, np.full_like(truth, np.nan), tmp_path / "other.png")


def test_the_sheet_shows_a_photograph_as_it_was_labelled(people, tmp_path):
    record_set = load_records(f"synthetic:{people}").subset([0])
    (record,) = record_set.records
    picture, exif = Image.open(record.image), Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.jpg", quality=100, exif=exif)
    cv2.imwrite(str(tmp_path / "upright.png"), cv2.imread(str(tmp_path / "photo.jpg")))  # turned by OpenCV
    sheets = []
    for name in ("photo.jpg", "upright.png"):
        records = (replace(record, image=str(tmp_path / name)),)
        save_extremes(replace(record_set, records=records), record.keypoints_xy[None], tmp_path / "sheet.png")
        sheets.append(cv2.imread(str(tmp_path / "sheet.png")))
    np.testing.assert_array_equal(*sheets)


OUTPUTS = {"--results": "write_atomically", "--json": "write_atomically", "--sheet": "save_extremes"}


@pytest.mark.parametrize("option", OUTPUTS)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(people, tmp_path, capsys, option):
    (tmp_path / "file").write_text("")
    assert main(["eval", "--data", f"synthetic:{people}", option, str(tmp_path / "file" / "out.png")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "out.png: " in printed.err


@pytest.mark.parametrize("option", OUTPUTS)
def test_a_file_that_fails_does_not_cost_the_figures(people, coco_weights, tmp_path, capsys, monkeypatch, option):
    def disk_full(*_):
        raise UserError("out.png: cannot be written (No space left on device)")

    monkeypatch.setattr(evaluate_weights_module, OUTPUTS[option], disk_full)
    data = ["--data", f"synthetic:{people}", "--limit", "2", "--workers", "0", "--device", "cpu"]
    assert main(["eval", "--weights", str(coco_weights), *data, option, str(tmp_path / "out.png")]) == 2
    printed = capsys.readouterr()
    assert "PCK@0.2" in printed.out and "No space left" in printed.err


def test_every_option_reaches_its_place(people, coco_weights, monkeypatch):
    """What the command asks for is what is read, opened and evaluated."""
    asked = {}

    def note(name, function):
        def noted(*args, **options):
            asked[name] = (args, options)
            return function(*args, **options)

        monkeypatch.setattr(evaluate_weights_module, name, noted)

    for name in ("load_records", "open_backend", "evaluate", "tune_allocator"):
        note(name, getattr(evaluate_weights_module, name))
    data = f"synthetic:{people}"
    evaluate_weights(EvalConfig(data, coco_weights, device="cpu", limit=2))
    wanted = {"detections": None, "annotations": None, "categories": ()}
    assert asked["load_records"] == ((data, "val"), wanted)
    assert asked["open_backend"] == ((coco_weights,), {"device": "cpu", "threads": None}) and "tune_allocator" in asked
    (_, record_set, codec), options = asked["evaluate"]
    expected = {"channels": None, "flip_test": True, "batch_size": 32, "workers": None, "bad_images": "refuse"}
    assert options == expected
    # Sigma is the weights' own, 1.5.
    assert repr(codec) == repr(make_codec("dark", (64, 96), 1.5)) and len(record_set) <= 2
    config = EvalConfig(data, coco_weights, split="train", codec="udp", image_hw=(96, 64), flip_test=False, limit=3,
                        bad_images="skip", batch_size=2, workers=1, device="cpu", threads=1)  # fmt: skip
    before = torch.get_num_threads()
    evaluation = evaluate_weights(config)
    torch.set_num_threads(before)
    assert asked["load_records"][0] == (data, "train") and asked["open_backend"][1] == {"device": "cpu", "threads": 1}
    (_, record_set, codec), options = asked["evaluate"]
    assert options == {"channels": None, "flip_test": False, "batch_size": 2, "workers": 1, "bad_images": "skip"}
    assert repr(codec) == repr(make_codec("udp", (96, 64), 1.5))
    assert evaluation.conditions["input"] == "96×64" and evaluation.conditions["flip test"] == "off"
    low, high = evaluation.intervals["AP"]
    assert low <= evaluation.figures["AP"] <= high


def test_other_boxes_and_annotations_are_asked_for(monkeypatch):
    def load(*args, **options):
        assert options == {"detections": "boxes.json", "annotations": "own.json", "categories": ("player",)}
        raise UserError("loaded")

    monkeypatch.setattr(evaluate_weights_module, "load_records", load)
    with pytest.raises(UserError, match="loaded"):
        evaluate_weights(EvalConfig("coco:x", detections="boxes.json", annotations="own.json", categories=("player",)))


def test_other_numbers_are_refused():
    for options in ({"batch_size": 0}, {"limit": 0}):
        with pytest.raises(UserError, match="0"):
            EvalConfig("synthetic", **options)


def test_weights_are_measured_by_the_joints_that_they_share_with_the_data(people, tiny_weights, monkeypatch):
    """LSP's joints for COCO's persons: as if these had no nose, eyes and ears. The other order of joints counts."""
    whole = load_records(f"synthetic:{people}", "val")
    face = [i for i, name in enumerate(COCO.joint_names) if name not in LSP.joint_names]
    options = {"device": "cpu", "workers": 0, "flip_test": False}
    evaluation = evaluate_weights(EvalConfig(f"synthetic:{people}", tiny_weights, **options))
    assert evaluation.conditions["data"].startswith("synthetic-val without nose, left_eye, right_eye, left_ear")
    assert list(evaluation.figures) == ["PCK@0.2"] and f"{'neck':16}{'–':>12}" in evaluation.as_text()
    shared = evaluation.per_joint["PCK@0.2"]

    for record in whole.records:
        record.visibility[face] = 0
    backend = open_backend(tiny_weights, device="cpu")
    channels = [LSP.joint_names.index(name) if name in LSP.joint_names else 0 for name in COCO.joint_names]
    expected = evaluate(backend, whole, backend.codec, channels=channels, flip_test=False, workers=0, progress=False)
    assert evaluation.predictions is not None and expected.predictions is not None
    for joint in set(COCO.joint_names) & set(LSP.joint_names):
        ours, theirs = LSP.index(joint), COCO.index(joint)
        found, wanted = evaluation.predictions.keypoints_xy[:, ours], expected.predictions.keypoints_xy[:, theirs]
        np.testing.assert_allclose(found, wanted, atol=1e-2)  # two memory layouts
        assert shared[joint] == expected.per_joint["PCK@0.2"][joint]
    assert evaluation.figures["PCK@0.2"] == expected.figures["PCK@0.2"]

    for option in ({"results": "results.json"}, {"detector": "lgm-det"}):  # with AP alone there would be no figure
        with pytest.raises(UserError, match="--results and --detector.*tiny.safetensors lacks some"):
            evaluate_weights(EvalConfig(f"synthetic:{people}", tiny_weights, **option, **options))
    for record in whole.records:
        record.visibility[5:] = 0
    others = replace(whole, skeleton=replace(COCO, joint_names=tuple(f"point {i}" for i in range(17))))
    for chosen, words in (
        (whole, "synthetic-val without nose.* nothing can be measured"),
        (others, "has no joint of synthetic-val; those are point 0"),
    ):
        monkeypatch.setattr(evaluate_weights_module, "load_records", lambda *_, chosen=chosen, **__: chosen)
        with pytest.raises(UserError, match=words):
            evaluate_weights(EvalConfig("synthetic", tiny_weights, **options))


def test_a_sheet_without_truth_is_refused_before_the_work(people, tmp_path, capsys, monkeypatch):
    boxes_alone = replace(load_records(f"synthetic:{people}"), has_keypoints=False)
    monkeypatch.setattr(evaluate_weights_module, "load_records", lambda *_, **__: boxes_alone)
    assert main(["eval", "--data", f"synthetic:{people}", "--sheet", str(tmp_path / "sheet.png")]) == 2
    printed = capsys.readouterr()
    assert boxes_alone.name in printed.err and printed.out == ""


# --- conditions of a prediction ---------------------------------------------------------------------------------------
class Bias(nn.Module):
    """A network whose heatmaps are brighter by 1 in training mode, and that counts the crops it gets."""

    def __init__(self, fails=False):
        super().__init__()
        self.unused, self.sizes, self.fails = nn.Parameter(torch.zeros(1)), [], fails

    def forward(self, inputs):
        if self.fails:
            raise RuntimeError("out of memory")
        self.sizes.append(len(inputs))
        return inputs.new_zeros(len(inputs), 17, 16, 24) + float(self.training)


def test_options_of_an_evaluation_reach_the_network_and_the_conditions(people, capsys):
    record_set, net = load_records(f"synthetic:{people}").subset(range(5)), Bias()
    for options, codec_name, words, sizes in (
        ({}, "dark", "on, shifted", [5, 5]),
        ({"batch_size": 3}, "udp", "on", [3, 3, 2, 2]),
        ({"flip_test": False, "batch_size": 4}, "dark", "off", [4, 1]),
    ):
        codec = make_codec(codec_name, (64, 96))
        with pytest.raises(UserError, match="workers"):
            evaluate(net, record_set, codec, progress=False, workers=-1, **options)
        evaluation = evaluate(net, record_set, codec, progress=False, **options)
        assert evaluation.conditions["flip test"] == words and net.sizes == sizes
        net.sizes.clear()
    assert not any(capsys.readouterr())
    evaluate(net, record_set, codec)
    assert "evaluate" in capsys.readouterr().err


@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_evaluated_in_eval_mode_and_then_as_before(people, training):
    record_set, codec = load_records(f"synthetic:{people}").subset(range(5)), make_codec("standard", (64, 96))
    for net in (Bias(), Bias(fails=True)):
        net.train(training)
        options = {"skeleton": COCO, "batch_size": 2, "progress": False}
        if net.fails:
            with pytest.raises(RuntimeError):
                predict_records(net, record_set, codec, **options)
        else:
            found = predict_records(net, record_set, codec, **options)
            assert found.scores.max() == 0 and net.sizes == [2, 2, 2, 2, 1, 1]  # twice each: the flip test
            net.sizes.clear()
            predict_records(net, record_set, codec, flip_test=False, **options)
            assert net.sizes == [2, 2, 1]
        assert net.training == training


def test_backend_and_module_predict_the_same_with_any_number_of_threads(people, coco_weights):
    record_set = load_records(f"synthetic:{people}").subset(range(5))
    backend = TorchBackend(coco_weights, device="cpu")
    expected = None
    for net in (backend, backend.net):
        for workers in (0, 2, None):
            found = predict_records(
                net, record_set, backend.codec, skeleton=COCO, batch_size=3, workers=workers, progress=False
            )
            expected = expected or found
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
            assert not found.unread.any()
    crops = noise(2, 64, 96, 3)
    with torch.inference_mode():
        mean, std = (torch.tensor(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        inputs = (torch.from_numpy(crops) / 255 - mean) / std
        wanted = backend.net(inputs.permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(run_module(backend.net, crops), wanted, atol=1e-4)
    with pytest.raises(UserError, match="workers"):
        predict_records(backend, record_set, backend.codec, skeleton=COCO, workers=-1, progress=False)


# --- heads and torsos -------------------------------------------------------------------------------------------------
def persons_with_heads(head_size):
    """Two MPII persons, fully labelled, neck to head top 20 pixels; the head box of the first one as given."""
    points = np.random.default_rng(0).uniform(20, 80, (16, 2))
    neck, head_top = MPII.head_segment
    points[head_top] = points[neck] + [0, -20]
    size = np.array([100.0, 100.0])
    records = tuple(
        PersonRecord("none.png", size / 2, size, points, np.full(16, 2), id=i, image_id=i, head_size=of_person)
        for i, of_person in enumerate((head_size, float("nan")))
    )
    return RecordSet("heads", MPII, records, "given")


@pytest.mark.parametrize("head_size, used", [(40.0, [40.0, np.nan]), (float("nan"), [20.0, 20.0])])
def test_heads_are_measured_by_boxes_where_there_is_any_and_by_joints_otherwise(head_size, used):
    record_set = persons_with_heads(head_size)
    truth = np.stack([record.keypoints_xy for record in record_set.records])
    np.testing.assert_allclose(head_size_from_joints(truth, np.full((2, 16), 2), MPII), 20)
    size = used[0]
    for share, percent in ((0.49, 100), (0.51, 0)):
        moved = Predictions(truth + [share * size, 0], np.ones((2, 16)), np.zeros(2, bool))
        result = joint_results(moved, record_set, MPII)["PCKh@0.5"]
        np.testing.assert_array_equal(result.sizes, used)
        assert result.mean_percent == percent
    torso = joint_results(moved, record_set, MPII)["PCK@0.2"].sizes[0]
    for share, percent in ((0.19, 100), (0.21, 0)):
        moved = Predictions(truth + [share * torso, 0], np.ones((2, 16)), np.zeros(2, bool))
        assert joint_results(moved, record_set, MPII)["PCK@0.2"].mean_percent == percent
    assert joint_metrics(record_set) == ("PCK@0.2", "PCKh@0.5")


def test_only_pck_is_printed_in_per_cent():
    assert figure_text("PCK@0.2", 66.2449) == "66.24 %" and figure_text("PCKh@0.5", 100) == "100.00 %"
    assert figure_text("AP", 0.66244) == "0.6624" and figure_text("error, px", 3.2) == "3.2000"
    assert figure_text("AP small", -1) == "–"


def test_the_kind_of_head_is_a_condition(people):
    codec = make_codec("dark", (64, 96))
    record_set = load_records(f"synthetic:{people}").subset(range(2))
    as_mpii = persons_with_heads(40.0)
    for head_size, words in ((40.0, "0.6 × head box"), (float("nan"), "neck to head top")):
        records = tuple(replace(record, image=record_set.records[0].image, head_size=head_size)
                        for record in as_mpii.records)  # fmt: skip
        chosen = replace(as_mpii, records=records)
        evaluation = evaluate(Oracle(chosen, codec), chosen, codec, flip_test=False, progress=False)
        assert evaluation.conditions["head size"] == words and words in evaluation.as_text()
        assert evaluation.headline == "PCKh@0.5" and evaluation.figures["PCKh@0.5"] == 100
        assert "AP" not in evaluation.figures and LSP.name not in evaluation.as_text()


def perfect_ap(record_set, **options):
    codec = make_codec("udp", (64, 96))
    net = Oracle(record_set, codec, **options)
    return evaluate(net, record_set, codec, flip_test=False, workers=0, progress=False).figures["AP"]


def test_ap_of_a_part_is_that_of_its_pictures(people):
    """Whoever is not in the part was not looked for, and so was not missed."""
    train, val = (load_records(f"synthetic:{people}", split) for split in ("train", "val"))
    assert {record.image_id for record in train.records}.isdisjoint(record.image_id for record in val.records)
    for part in (train, val, train.first(5), val.first(1)):
        assert perfect_ap(part) > 0.99


def test_pictures_without_a_box_count_in_the_whole_and_not_in_a_part(people, tmp_path):
    content = json.loads((people / "annotations.json").read_text())
    truth = load_coco(people / "annotations.json", people / "images")
    last = truth.records[-1].image_id
    boxes = [
        {"image_id": person["image_id"], "category_id": 1, "bbox": person["bbox"], "score": 0.9}
        for person in content["annotations"] if person["image_id"] != last
    ]  # fmt: skip
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    detected = load_coco(people / "annotations.json", people / "images", detections=tmp_path / "boxes.json")

    def ap(record_set):
        points, visibility = _nearest_truth(record_set, truth)
        dataset = CropDataset(record_set, (64, 96), aligned=True)
        crop_xy = [transform_points(dataset[i]["matrix"], xy) for i, xy in enumerate(points)]
        return perfect_ap(record_set, keypoints_xy=crop_xy, visibility=visibility)

    assert ap(detected) < ap(detected.subset(range(len(detected)))) - 0.05


def test_a_picture_without_persons_has_no_ap_and_no_interval(people, coco_weights, tmp_path, capsys):
    content = json.loads((people / "annotations.json").read_text())
    first = content["annotations"][0]
    content["annotations"] = [person for person in content["annotations"] if person["image_id"] != first["image_id"]]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "images").symlink_to(people / "images")
    boxes = [
        {"image_id": person["image_id"], "category_id": 1, "bbox": person["bbox"], "score": 0.9}
        for person in (first, content["annotations"][-1])
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    words = ["--data", f"coco:{tmp_path}", "--annotations", str(tmp_path / "annotations.json"), "--limit", "1"]
    words += ["--detections", str(tmp_path / "boxes.json"), "--json", str(tmp_path / "out.json"), "--workers", "0"]
    assert main(["eval", "--weights", str(coco_weights), "--device", "cpu", *words]) == 0
    assert f"{'AP':10} –\n" in capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["figures"]["AP"] == -1 and "AP" not in written["intervals_95"]


def test_test_dev_has_boxes_but_no_truth(people, tmp_path):
    """Pictures without annotations and a detector's boxes: there are poses to write, AP is left to the server."""
    content = json.loads((people / "annotations.json").read_text())
    boxes = [
        {"image_id": person["image_id"], "category_id": 1, "bbox": person["bbox"], "score": 0.9}
        for person in content.pop("annotations")[:5]
    ]
    (tmp_path / "image_info.json").write_text(json.dumps(content))
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    record_set = load_coco(tmp_path / "image_info.json", people / "images", detections=tmp_path / "boxes.json")
    net = create_model("lgm-pose-coco-256x192", image_hw=(64, 96)).eval()
    codec = make_codec("standard", (64, 96))
    evaluation = evaluate(net, record_set, codec, workers=0, progress=False)
    assert evaluation.figures == {} and "boxes: detector boxes" in evaluation.as_text()
    assert 1 <= len(coco_persons(evaluation.predictions, record_set, codec.image_hw)) <= 5


@pytest.mark.parametrize("boxes", ["truth", "detector"])
def test_unreadable_pictures_are_left_out_of_every_figure(people, tmp_path, boxes):
    content = json.loads((people / "annotations.json").read_text())
    truth = load_coco(people / "annotations.json", people / "images")
    pictures = [record.image_id for record in truth.records]
    bad = max(set(pictures), key=pictures.count)
    assert pictures.count(bad) > 1
    record_set = truth
    if boxes == "detector":  # it found no person in the last picture, which counts as missed all the same
        found = [
            {"image_id": person["image_id"], "category_id": 1, "bbox": person["bbox"], "score": 0.9}
            for person in content["annotations"] if person["image_id"] != pictures[-1]
        ]  # fmt: skip
        (tmp_path / "boxes.json").write_text(json.dumps(found))
        record_set = load_coco(people / "annotations.json", people / "images", detections=tmp_path / "boxes.json")
    assert bad != pictures[-1]
    points, visibility = _nearest_truth(record_set, truth)
    crop_xy = [transform_points(CropDataset(record_set, (64, 96))[i]["matrix"], xy) for i, xy in enumerate(points)]
    readable = [i for i, record in enumerate(record_set.records) if record.image_id != bad]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    records = [replace(r, image=str(tmp_path / "bad.png")) if r.image_id == bad else r for r in record_set.records]
    codec = make_codec("dark", (64, 96))

    def figures(of, chosen):
        oracle = Oracle(of, codec, [crop_xy[i] for i in chosen], [visibility[i] for i in chosen])
        return evaluate(oracle, of, codec, flip_test=False, workers=0, bad_images="skip", progress=False)

    spoilt = figures(replace(record_set, records=tuple(records)), readable)
    assert spoilt.conditions["unreadable pictures skipped"] == "1"
    assert spoilt.conditions["persons"] == str(len(readable)) and len(spoilt.predictions.scores) == len(record_set)
    every = [image["id"] for image in content["images"] if image["id"] != bad]
    expected = figures(replace(record_set.subset(readable), image_ids=tuple(every)), readable)
    assert spoilt.figures == expected.figures and 0 < spoilt.figures["AP"] <= 1
    if boxes == "truth":
        assert spoilt.figures["PCK@0.2"] == 100


def test_a_joint_that_nobody_has_labelled_is_null_in_json(people):
    evaluation = evaluate_one_without(people, "left_wrist")
    text = json.dumps(evaluation.as_json())
    assert json.loads(text, parse_constant=pytest.fail)["per_joint"]["PCK@0.2"]["left_wrist"] is None


def test_a_figure_that_nobody_counts_for_is_left_out(people):
    evaluation = evaluate_one_without(people, "left_hip", "right_hip")  # no torso to measure by
    content = json.loads(json.dumps(evaluation.as_json()), parse_constant=pytest.fail)
    assert "AP" in content["figures"]
    for part in ("figures", "intervals_95", "per_joint", "errors"):
        assert "PCK@0.2" not in content[part]


def test_a_figure_says_of_how_many_persons_it_is(people):
    record_set, codec = load_records(f"synthetic:{people}").subset(range(3)), make_codec("dark", (64, 96))
    hips = [record_set.skeleton.index(name) for name in ("left_hip", "right_hip")]
    records = [replace(record, visibility=np.full(17, 2)) for record in record_set.records]
    records[1].visibility[hips] = 0
    for chosen, expected in ((records, "2"), ([records[0], records[2]], None)):
        conditions = evaluate(
            Oracle(record_set.subset(range(len(chosen))), codec), replace(record_set, records=tuple(chosen)), codec,
            flip_test=False, workers=0, progress=False,
        ).conditions  # fmt: skip
        assert conditions["persons"] == str(len(chosen)) and conditions.get("persons in PCK@0.2") == expected


def test_a_network_is_judged_by_what_there_is():
    figures = {"AP": 0.5, "PCK@0.2": 60.0, "PCKh@0.5": 70.0}

    def headline(skeleton, *names):
        return Evaluation({n: figures[n] for n in names}, {"skeleton": skeleton, "data": "some-val"}).headline

    assert headline("coco-17", *figures) == "AP" and headline("mpii-16", *figures) == "PCKh@0.5"
    assert headline("mpii-16", "PCK@0.2") == headline("lsp-14", "PCK@0.2", "PCKh@0.5") == "PCK@0.2"
    with pytest.raises(UserError, match="some-val: no figure to judge by"):
        headline("mpii-16")


@pytest.mark.parametrize("codec_name", ["standard", "dark", "udp"])
def test_heatmaps_that_are_no_numbers_are_nobodys(people, codec_name):
    record_set, codec = load_records(f"synthetic:{people}").subset(range(3)), make_codec(codec_name, (64, 96))
    oracle = Oracle(record_set, codec)
    oracle.heatmaps[1] = np.nan
    evaluation = evaluate(oracle, record_set, codec, flip_test=False, workers=0, progress=False)
    assert len(coco_persons(evaluation.predictions, record_set, codec.image_hw)) == 2
    assert 0 < evaluation.figures["AP"] < 1


def evaluate_one_without(people, *joints):
    record_set = load_records(f"synthetic:{people}").subset([0])
    (record,) = record_set.records
    visibility = record.visibility.copy()
    visibility[[COCO.joint_names.index(joint) for joint in joints]] = 0
    record_set = replace(record_set, records=(replace(record, visibility=visibility),))
    codec = make_codec("dark", (64, 96))
    return evaluate(Oracle(record_set, codec), record_set, codec, flip_test=False, workers=0, progress=False)


def test_shifted_boxes_keep_the_joints_and_stay_near(people):
    record_set = load_records(f"synthetic:{people}")
    shifted, again, other = shift_boxes(record_set), shift_boxes(record_set), shift_boxes(record_set, seed=1)
    factors, moves = [], []
    for old, new, same, different in zip(
        record_set.records, shifted.records, again.records, other.records, strict=True
    ):
        assert new.keypoints_xy is old.keypoints_xy and (new.center_xy == same.center_xy).all()
        assert (new.center_xy != different.center_xy).any()
        factors.append(new.size_wh / old.size_wh)
        moves.append((new.center_xy - old.center_xy) / (old.size_wh / PADDING))
    assert np.ptp(factors, axis=1).max() < 1e-9 and 0.8 <= np.min(factors) < 0.95 and 1.05 < np.max(factors) <= 1.25
    assert 0.05 < np.abs(moves).max() <= 0.1 and shifted.box_source != record_set.box_source
    for whole, limited in zip(shifted.records, shift_boxes(record_set.subset(range(3))).records, strict=False):
        assert (whole.center_xy == limited.center_xy).all() and (whole.size_wh == limited.size_wh).all()


def one_person_per_picture(record_set):
    first = {record.image_id: i for i, record in reversed(list(enumerate(record_set.records)))}
    return record_set.subset(sorted(first.values()))


def test_without_boxes_the_poses_are_those_of_the_predictor(people, coco_weights):
    record_set = one_person_per_picture(load_records(f"synthetic:{people}")).subset(range(3))
    backend = open_backend(coco_weights, device="cpu")
    found = predict_without_boxes(backend, record_set, flip_test=False, progress=False)
    (pose,) = Predictor(coco_weights, detector="none", device="cpu", flip_test=False)(record_set.records[1].image)
    np.testing.assert_allclose(found.keypoints_xy[1], pose.keypoints_xy, atol=1e-4)
    assert not found.unread.any() and found.scores.shape == (3, 17)
    missing = replace(record_set.records[0], image="missing.png")
    damaged = replace(record_set, records=(missing, *record_set.records[1:]))
    with pytest.raises(UserError, match="missing.png"):
        predict_without_boxes(backend, damaged, progress=False)
    found = predict_without_boxes(backend, damaged, bad_images="skip", progress=False)
    assert found.unread.tolist() == [True, False, False] and np.isnan(found.keypoints_xy[0]).all()
    crowd = replace(record_set, records=record_set.records[:1] * 2)
    with pytest.raises(UserError, match="--boxes none"):
        predict_without_boxes(backend, crowd, progress=False)


def test_without_boxes_the_network_may_have_more_joints_than_the_data(people, tmp_path, monkeypatch):
    """MPII's network finds pelvis and thorax, which LSP's data do not have."""
    torch.manual_seed(0)
    net, codec = create_model("lgm-pose-mpii-256x256", image_hw=(64, 64)), make_codec("dark", (64, 64))
    save_weights(tmp_path / "mpii.safetensors", net, MPII, codec)
    data = with_skeleton(one_person_per_picture(load_records(f"synthetic:{people}")).subset(range(2)), LSP)
    data = replace(data, annotation_file=None)
    monkeypatch.setattr(evaluate_weights_module, "load_records", lambda *_, **__: data)
    config = EvalConfig("synthetic", tmp_path / "mpii.safetensors", boxes="none", flip_test=False, device="cpu")
    found = evaluate_weights(config).predictions
    predictor = Predictor(tmp_path / "mpii.safetensors", detector="none", device="cpu", flip_test=False)
    joints = [MPII.index(name) for name in ("right_ankle", "left_wrist", "head_top")]
    ours = [LSP.index(name) for name in ("right_ankle", "left_wrist", "head_top")]
    for record, points in zip(data.records, found.keypoints_xy, strict=True):
        (pose,) = predictor(record.image)
        assert points.shape == (14, 2)
        np.testing.assert_allclose(points[ours], pose.keypoints_xy[joints], atol=1e-4)


def test_boxes_option_changes_what_is_evaluated(people, coco_weights, monkeypatch):
    whole = one_person_per_picture(load_records(f"synthetic:{people}")).subset(range(2))
    monkeypatch.setattr(evaluate_weights_module, "load_records", lambda *_, **__: whole)
    results = {}
    for boxes in ("given", "shifted", "none"):
        config = EvalConfig("synthetic", coco_weights, boxes=boxes, flip_test=False, workers=0, device="cpu")
        results[boxes] = evaluate_weights(config)
    points = [result.predictions.keypoints_xy for result in results.values()]
    assert not np.allclose(points[0], points[1]) and not np.allclose(points[0], points[2])
    assert len({result.conditions["boxes"] for result in results.values()}) == 3
    for option in ({"detections": "boxes.json"}, {"codec": "udp"}, {"image_hw": (64, 64)}):
        with pytest.raises(UserError, match="--boxes none"):
            EvalConfig("synthetic", coco_weights, boxes="none", **option)
