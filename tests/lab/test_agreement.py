"""How far annotators agree: which pictures count as one photograph, and what is computed of two people's labels."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

from lgmpose.cli import main
from lgmpose.data.lspet import load_lspet
from lgmpose.errors import UserError
from lgmpose.lab.agreement import NOTE, against_noisy_labels, find_copies, judge
from lgmpose.metrics import torso_size
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import COCO, LSP
from lgmpose.zoo.catalogue import SPORTS_WEIGHTS, create_model, save_weights, weights_hash

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "results" / "label-agreement_2026-11-30.json"


def texture(seed: int, height: int = 80, width: int = 60) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def body(seed: int) -> np.ndarray:
    """(14, 2) joints within (10 … 50, 10 … 70), the hips 30 px below the shoulders: a torso of some size."""
    xy = np.random.default_rng(seed).uniform((10, 10), (50, 70), (14, 2))
    for name, place in {"right_shoulder": (20, 20), "left_shoulder": (40, 20), "right_hip": (20, 50),
                        "left_hip": (40, 50), "neck": (30, 15), "head_top": (30, 5)}.items():  # fmt: skip
        xy[LSP.index(name)] = place
    return xy


def write_set(folder: Path, pictures: list[np.ndarray], labels: list[np.ndarray], flags: np.ndarray) -> Path:
    (folder / "images").mkdir(parents=True)
    for i, picture in enumerate(pictures, start=1):
        cv2.imwrite(str(folder / "images" / f"im{i:05d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    joints = np.concatenate([np.stack(labels, axis=-1) + 1, flags[:, None]], axis=1)  # (14, 3, n), from 1
    savemat(folder / "joints.mat", {"joints": joints})
    return folder


def a_set(folder: Path) -> Path:
    """Pictures 1 and 3 are one photograph, 3 half as large again and all lower; 2 and 4 too, of different people."""
    large = cv2.resize(texture(0), (90, 120), interpolation=cv2.INTER_CUBIC)
    second = body(0)  # a pixel's corner is half a pixel before its centre: corners fit corners
    second[LSP.index("left_knee")] += (30, 0)  # wrong by any measure
    second[[LSP.index("right_ankle"), LSP.index("left_ankle")]] = second[
        [LSP.index("left_ankle"), LSP.index("right_ankle")]
    ]
    flags = np.ones((14, 5))
    flags[LSP.index("right_wrist"), 2] = 0
    labels = [body(0), body(1) * 0.3, (second + 0.5) * 1.5 - 0.5, body(1) * 0.3 + (42, 56), body(2)]
    return write_set(folder, [texture(0), texture(1), large, texture(1), texture(2)], labels, flags)


def test_copies_are_found_at_another_scale_and_different_people_left_out(tmp_path):
    twice = find_copies(load_lspet(a_set(tmp_path / "set"), "all"))
    assert twice.pairs == [(1, 3)] and twice.num_left_out == 1
    assert [record.id for record in twice.truth.records] == [3, 1]
    assert np.argwhere(np.isnan(twice.other_xy[..., 0])).tolist() == [[k, LSP.index("right_wrist")] for k in (0, 1)]
    for record, other in zip(twice.truth.records, twice.other_xy, strict=True):
        scale = 1.5 if record.id == 3 else 1
        same = [LSP.index(name) for name in ("neck", "left_elbow", "right_hip")]
        np.testing.assert_allclose(other[same], record.keypoints_xy[same], atol=1e-9)
        apart = other[LSP.index("left_knee")] - record.keypoints_xy[LSP.index("left_knee")]
        np.testing.assert_allclose(apart, (-30 * scale if record.id == 3 else 30, 0), atol=1e-9)


def test_a_third_copy_adds_nothing_and_half_a_body_is_the_same_person(tmp_path):
    flags = np.ones((14, 5))
    flags[[LSP.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("ankle", "knee", "hip")], 4] = 0
    pictures = [texture(seed) for seed in (0, 0, 0, 1, 1)]
    labels = [body(0), body(0) + 1, body(0) + 2, body(1), body(1)]
    twice = find_copies(load_lspet(write_set(tmp_path / "set", pictures, labels, flags), "all"))
    assert twice.pairs == [(1, 2), (4, 5)] and twice.num_left_out == 0


def test_pictures_with_several_persons_are_refused(tmp_path):
    record_set = load_lspet(a_set(tmp_path / "set"), "all")
    with pytest.raises(UserError, match="several persons in a picture"):
        find_copies(record_set.subset([0, 0]))


def test_agreement_is_judged_both_ways(tmp_path):
    twice = find_copies(load_lspet(a_set(tmp_path / "set"), "all"))
    found = judge(twice, twice.other_xy)
    # 11 limb joints of each are labelled by both; one knee and two ankles differ
    assert found.figures["PCK@0.2"] == pytest.approx(100 * 8 / 11)
    assert found.errors["PCK@0.2"]["side"] == pytest.approx(100 * 2 / 11)
    assert found.intervals["PCK@0.2"] == (found.figures["PCK@0.2"],) * 2  # one photograph: nothing to draw from
    assert found.per_joint["PCK@0.2"]["left_knee"] == 0 and found.per_joint["PCK@0.2"]["right_hip"] == 100
    exact = np.stack([record.keypoints_xy for record in twice.truth.records])
    assert judge(twice, exact).figures["PCK@0.2"] == 100


def test_label_noise_is_estimated_from_the_agreement(tmp_path):
    """Of two joints that differ, one is within √2 times the threshold."""
    labels, threshold = [body(0), body(0)], 0.2 * torso_size(body(0)[None], np.ones((1, 14)), LSP)[0]
    labels[1][LSP.index("left_knee"), 0] += 1.2 * threshold
    labels[1][LSP.index("right_wrist"), 0] += 2 * threshold
    twice = find_copies(load_lspet(write_set(tmp_path / "set", [texture(0)] * 2, labels, np.ones((14, 2))), "all"))
    found = against_noisy_labels(twice)
    assert found["both imprecise"]["PCK@0.2"] == pytest.approx(100 * 11 / 12, abs=1e-3)
    assert found["one wrong"]["PCK@0.2"] == pytest.approx(100 * 11 / 12, abs=1e-3)


def test_intervals_are_over_photographs(tmp_path):
    """Both directions of a pair are drawn together; of the second pair, one is right, the other misses two joints."""
    larger = body(1)
    for name in ("right_hip", "left_hip"):
        larger[LSP.index(name)] += (0, 8)  # within a fifth of this annotator's torso, not of the other's
    labels, pictures = [body(0), body(0), body(1), larger], [texture(seed) for seed in (0, 0, 1, 1)]
    data = write_set(tmp_path / "set", pictures, labels, np.ones((14, 4)))
    twice = find_copies(load_lspet(data, "all"))
    found = judge(twice, twice.other_xy)
    assert found.figures["PCK@0.2"] == pytest.approx(100 * 46 / 48)
    assert found.intervals["PCK@0.2"] == pytest.approx((100 * 22 / 24, 100))


def test_nothing_is_there_twice(tmp_path):
    pictures = [texture(seed) for seed in range(3)]
    pictures.append(cv2.resize(texture(0), (80, 60)))  # squeezed: no copy
    pictures += [np.full((80, 60, 3), 90, np.uint8)] * 2  # without a texture nothing correlates
    folder = write_set(tmp_path / "set", pictures, [body(0)] * 6, np.ones((14, 6)))
    with pytest.raises(UserError, match="no photograph twice"):
        find_copies(load_lspet(folder, "all"))


@pytest.mark.slow
def test_the_command_writes_what_it_prints(tmp_path, capsys):
    file = tmp_path / "found.json"
    data = f"lspet:{a_set(tmp_path / 'set')}"
    assert main(["lab", "agreement", data, "--json", str(file)]) == 0
    found, out = json.loads(file.read_text()), capsys.readouterr().out
    assert (found["pictures"], found["pairs"], found["overlap too little"]) == (5, [[1, 3]], 1)
    assert found["annotators"]["figures"]["PCK@0.2"] == pytest.approx(100 * 8 / 11, abs=1e-3)
    network = found["network"]
    assert network["weights"] == SPORTS_WEIGHTS.name and network["sha256"] == weights_hash(SPORTS_WEIGHTS)
    assert network["figures"]["PCK@0.2"] != found["annotators"]["figures"]["PCK@0.2"]
    for who in ("annotators", "network"):
        assert f"{found[who]['figures']['PCKh@0.5']:.2f} %" in out
    assert found["a perfect network (estimated)"]["one wrong"]["PCK@0.2"] == pytest.approx(50 + 400 / 11, abs=1e-3)
    assert NOTE in out and found["note"] == NOTE


@pytest.mark.slow
def test_the_stored_figures_are_what_the_command_finds(shared_data, tmp_path):
    file = tmp_path / "found.json"
    assert main(["lab", "agreement", f"lspet:{shared_data / 'lspet_dataset.zip'}", "--json", str(file)]) == 0
    found, stored = json.loads(file.read_text()), json.loads(STORED.read_text())
    assert found["pairs"] == stored["pairs"] and found["annotators"] == stored["annotators"]
    assert found["note"] == stored["note"] and found["network"]["sha256"] == stored["network"]["sha256"]
    for name, value in stored["network"]["figures"].items():
        assert found["network"]["figures"][name] == pytest.approx(value, abs=0.5)


def test_mistakes_are_one_line(tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    with torch.random.fork_rng():
        net = create_model("lgm-pose-coco-256x192", image_hw=(64, 64))
    save_weights(other, net, COCO, make_codec("standard", (64, 64)))
    data = f"lspet:{a_set(tmp_path / 'set')}"
    for arguments, name in (
        (["lspet:nowhere"], "nowhere"), ([data, "--weights", "none.safetensors"], "none.safetensors"),
        ([data, "--weights", str(other)], "other.safetensors"), ([data, "--json", str(tmp_path)], str(tmp_path)),
    ):  # fmt: skip
        assert main(["lab", "agreement", *arguments]) == 2
        # A notice may come first, as the made-up pictures are none of the known ones.
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and name in line
