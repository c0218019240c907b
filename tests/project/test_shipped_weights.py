"""The shipped weights, their 8-bit file, their result file and their card belong together."""

from __future__ import annotations

import json
import re

import pytest

from lgmpose.inference.backends import OnnxBackend
from lgmpose.zoo.catalogue import SHIPPED, WEIGHTS_FOLDER, load_weights, weights_hash


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
    backend = OnnxBackend(path.with_suffix(".onnx"))
    assert backend.source["sha256"] == result["onnx"]["sha256"]
    assert backend.card["weights"] == {"file": path.name, "sha256": result["sha256"]}
    assert backend.card["precision"] == "int8" and path.with_suffix(".onnx").stat().st_size < 1.5e6


def test_the_cards_tables_are_those_of_the_result_file(shipped):
    name, result = shipped
    card = (WEIGHTS_FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert result["sha256"] in card
    for metric, value in result["figures"].items():
        low, high = result["intervals_95"][metric]
        assert f"| {metric} | {value:.2f} % | {low:.2f} … {high:.2f} |" in card
    for joint, value in result["per_joint"]["PCK@0.2"].items():
        assert re.search(rf"\| {joint} \| {value:.2f} \|", card), joint
    metric = "PCK@0.2"
    for kind, percent in result["errors"][metric].items():
        assert f" | {percent:.2f} | {result['training_persons']['errors'][metric][kind]:.2f} |" in card, kind


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_the_metrics_are_reproduced_on_a_part_of_the_data(shipped, suffix, shared_data):
    """The first 60 validation persons, by the very file that ships."""
    from lgmpose.inference.evaluate import evaluate_weights

    name, result = shipped
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    expected = dict((result["onnx"] if suffix == ".onnx" else result)["first_persons"])
    data, count = f"lspet:{shared_data / 'lspet_dataset.zip'}", expected.pop("count")
    evaluation = evaluate_weights(data, f"{name}{suffix}", limit=count, workers=0)
    assert evaluation.conditions["persons"] == str(count) and result["conditions"]["persons"] == "500"
    # On another processor a joint at the threshold may fall on the other side: two of 600, or in 8 bits a dozen.
    assert evaluation.figures == pytest.approx(expected, abs=2 if suffix == ".onnx" else 0.4)
