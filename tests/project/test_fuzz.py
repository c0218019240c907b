"""Spoilt input files of every kind end in a result or in the project's own error; ``tests/fuzz.py`` tries more."""

from __future__ import annotations

import random

import pytest
from fuzz import WEIRD, run_case, spoil_json
from fuzz_kinds import KINDS, Kind

NEEDED = {
    "videos": ("av",), "onnx": ("onnx", "onnxruntime"),
    "detectors": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino"), "yolo": ("yaml", "PIL"),
}  # fmt: skip
SLOW = ("weights", "checkpoints", "onnx", "openvino", "ablation-results", "videos", "mpii-release")


def open_cases(name: str, count: int, folder) -> dict[str, int]:
    for module in NEEDED.get(name, ()):
        pytest.importorskip(module)
    kind, outcomes = KINDS[name], {"result": 0, "refused": 0}
    kind.build(folder)
    for number in range(count):
        outcome, text = run_case(kind, number, folder)
        assert outcome in outcomes, f"python tests/fuzz.py --kinds {name} --only {number}\n{text}"
        outcomes[outcome] += 1
    return outcomes


@pytest.mark.parametrize("name", [name for name in KINDS if name not in SLOW])
def test_spoilt_files_are_read_or_refused(name, tmp_path):
    open_cases(name, 20, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_more_spoilt_files_are_read_or_refused(name, tmp_path):
    """Both outcomes occur: a kind whose good files are refused would test nothing."""
    outcomes = open_cases(name, 100, tmp_path)
    assert min(outcomes.values()) > 0 or name == "own-results", outcomes


def test_a_case_can_be_repeated_and_a_fault_is_seen(tmp_path):
    seen = []

    def use(path, folder):
        seen.append(path.read_bytes())
        raise (KeyError if b"nan" in seen[-1].lower() else ValueError)("a traceback")

    kind = Kind("any", lambda folder: None, lambda rng, folder, case, number: _written(case, rng), use)
    outcomes = [run_case(kind, number, tmp_path) for number in (1, 2, 1)]
    assert [outcome for outcome, _ in outcomes] == ["fault"] * 3 and "a traceback" in outcomes[0][1]
    assert seen[0] == seen[2] != seen[1] and outcomes[0] == outcomes[2]


def _written(case, rng: random.Random):
    (case / "f.json").write_bytes(spoil_json(rng, {"a": [1, 2, {"b": "text"}]}))
    return case / "f.json"


def test_values_of_every_type_are_tried():
    assert {type(value) for value in WEIRD} == {type(None), bool, int, float, str, list, dict}
