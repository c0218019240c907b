"""The shipped weights, their 8-bit file, their result file and their card belong together."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from lgmpose.inference.backends import ExportedBackend
from lgmpose.lab.model_card import BY_HAND, card_text
from lgmpose.zoo.catalogue import SHIPPED, WEIGHTS_FOLDER, load_weights, weights_hash

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture(params=SHIPPED)
def shipped(request):
    return request.param, json.loads((WEIGHTS_FOLDER / f"{request.param}.json").read_text(encoding="utf-8"))


def test_the_result_file_belongs_to_the_weights(shipped):
    name, result = shipped
    path = WEIGHTS_FOLDER / result["weights"]
    assert path.name == f"{name}.safetensors" and weights_hash(path) == result["sha256"]
    _, card = load_weights(path)
    assert card["evaluation"]["figures"] == result["figures"]
    assert card["evaluation"]["per_joint"] == result["per_joint"]
    pytest.importorskip("onnxruntime")
    backend = ExportedBackend(path.with_suffix(".onnx"))
    assert backend.source["sha256"] == result["onnx"]["sha256"]
    assert backend.card["weights"] == {"file": path.name, "sha256": result["sha256"]}
    assert backend.card["precision"] == "int8" and path.with_suffix(".onnx").stat().st_size < 1.6e6


def test_the_card_is_made_from_the_result_file(shipped):
    name, result = shipped
    generated, by_hand = (WEIGHTS_FOLDER / f"{name}.md").read_text(encoding="utf-8").split(BY_HAND)
    assert generated == card_text(result) + "\n"
    assert result["sha256"] in by_hand, "which weights the text is about"


def test_what_is_written_by_hand_has_the_stored_figures():
    name = "lgm-pose-lspet-128x128"
    result = json.loads((WEIGHTS_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    text = (WEIGHTS_FOLDER / f"{name}.md").read_text(encoding="utf-8").split(BY_HAND)[1]
    agreement, tried = (
        json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))
        for file in ("label-agreement_2026-11-30", "trials_2026-11-27")
    )
    assert agreement["network"]["sha256"] == tried["from_sha256"] == result["sha256"]
    metric = "PCK@0.2"
    own, seen, side = (part[metric] for part in (result["figures"], result["training_persons"], result["errors"]))
    gaps = [row["train"] - row["val"] for row in tried["seen_and_unseen"]]
    annotators, silu = agreement["annotators"], tried["against_the_shipped"][metric]
    best = [[max(row.get(metric, 0) for row in part["log"]) for part in trial["parts"]] for trial in tried["trials"]]
    figures = [own, seen, own + side["side"], annotators["figures"][metric], *annotators["intervals_95"][metric]]
    figures += [agreement["network"]["figures"][metric], annotators["errors"][metric]["side"], side["side"]]
    figures += [best[0][0], silu["silu"], result["training_persons"]["errors"][metric]["side"]]
    for figure in figures:
        assert f"{figure:.1f} %" in text or f"{figure:.1f} …" in text or f"… {figure:.1f}" in text, figure
    for points in (seen - own, *gaps[:2]):
        assert f"{points:.1f}" in text, points
    low, high = silu["difference_interval_95"]
    assert f"{silu['silu'] - silu['relu6']:.1f} points (−{-low:.1f} … {high:.1f})" in text
    assert all(f"{times:.2f} times" in text for times in tried["speed"]["silu_over_relu6"].values())


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_the_metrics_are_reproduced_on_a_part_of_the_data(shipped, suffix, shared_data, tmp_path):
    """The first 60 validation persons, by the very file that ships."""
    from lgmpose.inference.evaluate_weights import evaluate_weights
    from lgmpose.inference.options import EvalConfig

    name, result = shipped
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    expected = dict((result["onnx"] if suffix == ".onnx" else result)["first_persons"])
    data, annotations, persons = f"lspet:{shared_data / 'lspet_dataset.zip'}", None, "500"
    if "coco" in name:
        zipfile.ZipFile(shared_data / "coco_val_350.zip").extractall(tmp_path)
        data, persons = f"coco:{tmp_path}", "854"
    elif "mpii" in name:
        zipfile.ZipFile(shared_data / "mpii_people.zip").extractall(tmp_path)
        data, annotations, persons = f"mpii:{tmp_path}", str(tmp_path / "annot" / "valid.json"), "216"
    count = expected.pop("count")
    evaluation = evaluate_weights(EvalConfig(data, f"{name}{suffix}", annotations=annotations, limit=count, workers=0))
    assert evaluation.conditions["persons"] == str(count) and result["conditions"]["persons"] == persons
    # On another processor a joint at the threshold may fall on the other side: two of 600, or in 8 bits a dozen.
    for metric, value in expected.items():
        tolerance = (2 if suffix == ".onnx" else 0.4) / (100 if metric.startswith("A") else 1)  # AP and AR are shares
        assert evaluation.figures[metric] == pytest.approx(value, abs=tolerance), metric


def test_the_detector_belongs_to_its_card_and_result_file():
    file = WEIGHTS_FOLDER / "lgm-det.onnx"
    result = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    assert weights_hash(file) == result["sha256"] and result["sha256"] in card
    assert file.stat().st_size < 4e6
    for detector in result["detectors"].values():
        figures = detector["figures"]
        assert f"| {figures['AP']:.3f} | {figures['AP50']:.3f} |" in card
    assert result["detectors"]["lgm-det"]["figures"]["AP50"] >= 0.4, "the least of a default detector"


@pytest.mark.slow
def test_the_detector_finds_people(shared_data, tmp_path):
    """A part of its validation pictures. The whole set has an AP50 of 0.41."""
    pytest.importorskip("onnxruntime")
    from lgmpose.data import load_box_set
    from lgmpose.inference.detector_figures import evaluate_detector
    from lgmpose.inference.detectors import open_detector

    zipfile.ZipFile(shared_data / "coco_val_350.zip").extractall(tmp_path)
    box_set = load_box_set(f"coco:{tmp_path}", "val")
    some = replace(box_set, pictures=box_set.pictures[:100])
    figures = evaluate_detector(open_detector("lgm-det"), some, progress=False).figures
    assert 0.3 < figures["AP50"] < 0.5
