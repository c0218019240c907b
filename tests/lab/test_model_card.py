"""The model card says what the result file says, for any data and metric."""

from __future__ import annotations

import copy
import json

import pytest

from lgmpose.lab.model_card import card_text
from lgmpose.metrics import ERROR_KINDS
from lgmpose.zoo.catalogue import WEIGHTS_FOLDER


@pytest.fixture
def result():
    stored = json.loads((WEIGHTS_FOLDER / "lgm-pose-lspet-128x128.json").read_text(encoding="utf-8"))
    return copy.deepcopy(stored)


def cells(text: str) -> list[list[str]]:
    """The cells of all tables of a Markdown text, line by line."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_every_figure_is_in_its_row(result):
    rows = cells(card_text(result))
    for metric, value in result["figures"].items():
        low, high = result["intervals_95"][metric]
        assert [metric, f"{value:.2f} %", f"{low:.2f} … {high:.2f}"] in rows
    for joint, value in result["per_joint"]["PCK@0.2"].items():
        assert [joint, f"{value:.2f}", f"{result['per_joint']['PCKh@0.5'][joint]:.2f}"] in rows
    pair = (result, result["training_persons"])
    for kind, text in ERROR_KINDS.items():
        assert [text, *(f"{part['errors']['PCK@0.2'][kind]:.2f}" for part in pair)] in rows
    assert ["within the threshold", "66.24", "75.69"] in rows
    assert ["7", "128×128", "38 of 46", "10,070", "1.26", "0.003, cosine", "23"] in rows


def test_the_text_has_the_rest(result):
    text = card_text(result)
    measured = sum("PCK@0.2" in row for row in result["log"])
    for part in (
        "1,021,410 parameters", "input 128×128", "14 joints (lsp-14)", result["sha256"], "1.3 MB",
        "PCK@0.2 66.33 %, PCKh@0.5 70.69 %", f"evaluated at least {measured} times", "8.55 hours",
        f"`{result['commit']}`",
        result["machine"], result["command"], result["training_persons"]["command"], "head's size, neck to head top",
        "boxes: ground-truth boxes (around the joints)", "Leeds", "lspet-train",
    ):  # fmt: skip
        assert part in text, part
    assert f"predict photo.jpg --weights {result['weights']}\n" in text and "AP" not in text.replace("API", "")


def test_other_weights_and_data(result):
    """Other weights than the default are named in the command; AP is a fraction; an unlabelled joint has no figure."""
    result["weights"] = "other-256x192.safetensors"
    result["figures"] = {"AP": 0.4567, "PCK@0.2": 61.0}
    result["onnx"] |= {"AP": 0.4321}
    result["training"]["config"]["data"] = "coco:coco"
    result["per_joint"]["PCK@0.2"]["neck"] = None
    text = card_text(result)
    assert "predict photo.jpg --weights other-256x192.safetensors\n" in text
    rows = cells(text)
    assert ["AP", "0.4567", ""] in rows and ["neck", "–", "87.44"] in rows
    assert "AP 0.4321, PCK@0.2 66.33 %" in text and "keypoint similarity" in text and "PCKh@0.5 is" not in text
    assert "Leeds" not in text and "ECCV 2014" in text
    result["training"]["config"]["data"] = "synthetic"
    assert "ECCV 2014" not in card_text(result)


@pytest.mark.parametrize("where", ["validation", "training"])
def test_where_nobodys_torso_is_labelled(result, where):
    """Among the validation persons, or among those of the training set."""
    part = result if where == "validation" else result["training_persons"]
    part["errors"] = {}
    assert not any(row[0] in ERROR_KINDS.values() for row in cells(card_text(result)))
    result["per_joint"] = {}
    assert not any(row[0] == "left_wrist" for row in cells(card_text(result)))
