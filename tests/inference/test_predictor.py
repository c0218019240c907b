"""From pictures to poses: there and back, boxes, closer looks, every kind of picture, bad input, threads."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from inference_tools import PUPPET, DotBackend, noise, puppet_picture, write_png
from PIL import Image

from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.inference import predictor as predictor_module
from lgmpose.inference.backends import open_backend
from lgmpose.inference.evaluate import predict_records
from lgmpose.inference.inputs import as_boxes, load_picture
from lgmpose.inference.predictor import Predictor, crop_person
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.geometry import box_to_center_size, crop_matrix, warp_image
from lgmpose.pose.skeletons import LSP
from lgmpose.zoo.cards import SPORTS_WEIGHTS


@pytest.fixture(scope="module")
def tiny(tiny_weights):
    return Predictor(tiny_weights, detector="none", device="cpu")


class Script:
    """A backend that notes the crops it gets and answers with joints on the heatmap's grid, as sure as it is told."""

    skeleton, source, image_hw = PUPPET, {"file": "none", "sha256": "0"}, (64, 64)

    def __init__(self, points=((21, 21), (42, 42), (29.4, 33.6)), heights=(1.0, 1.0, 1.0)):
        self.codec, self.crops = make_codec("udp", self.image_hw), []
        self.points, self.heights = np.array(points, float), np.array(heights)

    def heatmaps(self, crops):
        self.crops += list(crops)
        heatmaps = self.codec.encode(np.repeat(self.points[None], len(crops), 0), np.ones((len(crops), 3)))[0]
        return heatmaps * self.heights[:, None, None].astype(np.float32)


# --- there and back ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("image_hw, codec", [((96, 64), "dark"), ((64, 96), "udp")])
@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("corner", [(40, 30), (-9, -10), (98, 46)])
def test_joints_come_back_to_where_they_are_in_the_picture(image_hw, flip_test, codec, corner):
    box = (*corner, 48, 70)
    points = np.array([[21.3, 19.8], [33.6, 45.2], [15.4, 40.7]]) + corner
    picture = puppet_picture(110, 140, points)
    (pose,) = Predictor(DotBackend(image_hw, codec), flip_test=flip_test)(picture, [box])
    # The ordinary alignment's flip test is half a crop pixel off; everything else is as exact as the dots.
    np.testing.assert_allclose(pose.keypoints_xy, points, atol=0.75 if flip_test and codec == "dark" else 0.25)
    assert pose.scores.min() > 0.8 and pose.score == pytest.approx(pose.scores.mean())
    np.testing.assert_array_equal(pose.box_xywh, box)
    assert pose.skeleton is PUPPET


def test_boxes_keep_their_order_in_batches_of_any_size():
    first, second = np.array([[20, 20], [30, 40], [12, 38]]), np.array([[90, 25], [101, 41], [84, 44]])
    picture = np.maximum(puppet_picture(70, 120, first), puppet_picture(70, 120, second))
    boxes = [(5, 10, 35, 40), (75, 15, 35, 40), (5, 10, 35, 40)] * 2
    for options in ({"batch_size": 1}, {"batch_size": 2}, {}):
        sizes = []
        backend = DotBackend()
        run = backend.heatmaps
        backend.heatmaps = lambda crops, run=run, sizes=sizes: sizes.append(len(crops)) or run(crops)
        poses = Predictor(backend, **options, flip_test=False)(picture, boxes)
        for pose, truth in zip(poses, (first, second, first) * 2, strict=True):
            np.testing.assert_allclose(pose.keypoints_xy, truth, atol=1)
        assert sizes == {1: [1] * 6, 2: [2] * 3, 4: [4, 2]}[options.get("batch_size", 4)]


def test_a_detectors_scores_count_and_each_person_stays_once():
    first, second = np.array([[20, 20], [30, 40], [12, 38]]), np.array([[90, 25], [101, 41], [84, 44]])
    picture = np.maximum(puppet_picture(70, 120, first), puppet_picture(70, 120, second))
    boxes = [(5, 10, 35, 40), (75, 15, 35, 40), (4, 9, 37, 42)]
    predictor = Predictor(DotBackend(codec="udp"))
    plain = predictor(picture, boxes)
    poses = predictor(picture, boxes, [0.4, 0.9, 0.8])
    assert [tuple(pose.box_xywh) for pose in poses] == [boxes[1], boxes[2]]
    np.testing.assert_allclose([pose.score for pose in poses], [0.9 * plain[1].score, 0.8 * plain[2].score])
    assert predictor(picture, [], []) == predictor(picture, []) == predictor(picture, np.zeros((0, 4))) == []


@pytest.mark.parametrize("shift, kept", [(4, 1), (5, 2)])
def test_two_poses_are_one_person_by_the_padded_box_in_the_networks_aspect_ratio(shift, kept):
    """Its area is 50². OKS is exp(-shift² / (2 · 50² · 0.2²)), which is 0.9 for a shift of 4.6 pixels."""
    boxes = [(10, 20, 40, 20), (10 + shift, 20, 40, 20)]
    assert len(Predictor(Script(), flip_test=False)(noise(100, 100), boxes, [0.9, 0.8])) == kept


@pytest.mark.parametrize("codec", ["dark", "udp"])
def test_predictor_and_evaluation_are_the_same_pipeline(tiny_weights, tmp_path, codec):
    predictor = Predictor(tiny_weights, device="cpu")
    predictor.backend.codec = make_codec(codec, (64, 64))
    file = write_png(tmp_path / "a.png", cv2.GaussianBlur(noise(90, 120), (0, 0), 2))
    boxes = np.array([[10, 5, 40, 45], [50, -10, 45, 30.5]])  # small enough not to be averaged down
    records = tuple(
        PersonRecord(str(file), *box_to_center_size(box), np.ones((14, 2)), np.ones(14, int), id=i, image_id=1)
        for i, box in enumerate(boxes)
    )
    for flip_test in (True, False):
        predictor.flip_test = flip_test
        predictions = predict_records(
            predictor.backend.net, RecordSet("x", LSP, records, "given"), predictor.backend.codec, skeleton=LSP,
            flip_test=flip_test, workers=0, progress=False,
        )  # fmt: skip
        poses = predictor(file, boxes)
        np.testing.assert_allclose([pose.keypoints_xy for pose in poses], predictions.keypoints_xy, atol=1e-3)
        np.testing.assert_allclose([pose.scores for pose in poses], predictions.scores, atol=1e-6)


def test_the_flip_test_is_the_default(tiny_weights):
    picture, box = noise(60, 60), [[5, 5, 50, 50]]
    default, on, off = (
        Predictor(tiny_weights, device="cpu", **options)(picture, box)[0].scores
        for options in ({}, {"flip_test": True}, {"flip_test": False})
    )
    np.testing.assert_array_equal(default, on)
    assert (default != off).any()


@pytest.mark.parametrize("flip_test", [True, False])
def test_joints_that_a_mirror_does_not_swap_are_named_where_it_matters(flip_test, capsys):
    for name in ("predictor", "records"):
        backend = DotBackend()
        backend.skeleton = replace(PUPPET, name=f"{name} {flip_test}", joint_names=("nose", "left_hand", "right_foot"))
        backend.skeleton = replace(backend.skeleton, flip_pairs=())
        if name == "predictor":
            Predictor(backend, flip_test=flip_test)
        else:
            nobody = RecordSet("x", backend.skeleton, (), "given")
            predict_records(backend, nobody, backend.codec, skeleton=backend.skeleton, flip_test=flip_test)
        assert (f"{name} {flip_test}" in capsys.readouterr().err) == flip_test


# --- crops ------------------------------------------------------------------------------------------------------------
def test_large_persons_are_averaged_down_to_the_same_place():
    rows, columns = np.indices((900, 1100))
    for box in ((200, 150, 400, 500), (-100, -80, 700, 600), (700, 500, 600, 700), (300, 300, 160, 200)):
        # Averaging a ramp changes nothing; half of an averaged pixel of offset would change it by two or three.
        ramps = np.dstack([(columns - box[0]) / box[2], (rows - box[1]) / box[3], (rows - columns + 1100) / 2000])
        ramps = (255 * ramps.clip(0, 1)).round().astype(np.uint8)
        matrix = crop_matrix(*box_to_center_size(box), (96, 64))
        averaged, sampled = (crop(ramps, matrix, (96, 64)).astype(float) for crop in (crop_person, warp_image))
        inside = (np.minimum(averaged, sampled).min(axis=-1) > 8) & (np.maximum(averaged, sampled).max(axis=-1) < 247)
        white = np.full_like(ramps, 255)
        inside &= np.minimum(crop_person(white, matrix, (96, 64)), warp_image(white, matrix, (96, 64)))[..., 0] == 255
        assert inside.sum() > 500
        assert np.abs((averaged - sampled)[inside].mean(axis=0)).max() < 0.35
        assert np.abs((averaged - sampled)[inside]).max() <= 2


@pytest.mark.parametrize("factor, averaged", [(1.9, False), (2.1, True), (2.9, True), (6.0, True)])
def test_persons_are_averaged_from_twice_the_crops_size_on(factor, averaged):
    picture = noise(500, 700)
    matrix = crop_matrix([350, 250], [64 * factor, 64 * factor], (64, 64))
    crop, sampled = crop_person(picture, matrix, (64, 64)), warp_image(picture, matrix, (64, 64))
    assert (crop.std() < 0.8 * sampled.std()) if averaged else (crop == sampled).all()


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_a_crop_of_whole_pixels_is_their_mean(factor):
    picture, side = noise(64 * factor, 64 * factor), 64 * factor
    crop = crop_person(picture, crop_matrix([side / 2 + (factor - 1) / 2] * 2, [side] * 2, (64, 64)), (64, 64))
    means = picture.reshape(64, factor, 64, factor, 3).mean(axis=(1, 3))
    assert np.abs(crop - means)[1:-1, 1:-1].max() <= 1


def test_heatmaps_are_those_of_the_padded_box_or_of_the_whole_picture():
    picture, backend = noise(100, 70), Script()
    predictor = Predictor(backend, flip_test=False)
    crop, heatmaps = predictor.heatmaps(picture)
    assert crop.dtype == np.uint8 and heatmaps.shape == (3, 16, 16)
    for box, padding in (((0, 0, 70, 100), 1.0), ((10, 20, 30, 36), 1.25)):
        crop, _ = predictor.heatmaps(picture, None if padding == 1 else box)
        matrix = crop_matrix(*box_to_center_size(box, padding), (64, 64), aligned=True)
        np.testing.assert_array_equal(crop, warp_image(picture, matrix, (64, 64)))
        np.testing.assert_array_equal(crop, backend.crops[-1])
    np.testing.assert_array_equal(predictor(picture, [(10, 20, 30, 36)]) and backend.crops[-1], crop)


# --- closer looks -----------------------------------------------------------------------------------------------------
def test_without_a_box_each_look_goes_nearer():
    points = np.array([[240.0, 100.0], [272.0, 170.0], [205.0, 168.0]])
    picture = puppet_picture(300, 400, points, sigma=4)
    (pose,) = Predictor(DotBackend(codec="udp"))(picture)
    # The box around the joints, with a margin of 5 % of its longer side.
    np.testing.assert_allclose(pose.box_xywh, [205 - 3.5, 100 - 3.5, 67 + 7, 70 + 7], atol=3)
    np.testing.assert_allclose(pose.keypoints_xy, points, atol=1.6)


def test_there_are_three_looks_the_first_without_padding():
    backend, picture = Script(), noise(100, 80)
    (pose,) = Predictor(backend, flip_test=False)(picture)
    assert len(backend.crops) == 3
    whole = crop_matrix([40, 50], [80, 100], (64, 64), aligned=True)
    np.testing.assert_array_equal(backend.crops[0], warp_image(picture, whole, (64, 64)))
    matrix = crop_matrix(*box_to_center_size(pose.box_xywh, 1.25), (64, 64), aligned=True)
    np.testing.assert_array_equal(backend.crops[2], warp_image(picture, matrix, (64, 64)))


@pytest.mark.parametrize(
    "heights, looks",
    [((1, 0.23, 0.18), 3), ((1, 0.18, 0.18), 1), ((0.18, 0.18, 0.18), 1)],
)
def test_only_joints_that_were_found_are_looked_at(heights, looks):
    backend = Script(heights=heights)
    (pose,) = Predictor(backend, flip_test=False)(noise(64, 64))
    assert len(backend.crops) == looks
    if looks == 1:
        np.testing.assert_array_equal(pose.box_xywh, [0, 0, 64, 64])
    else:  # joints 0 and 1 lie at the corners of the box
        assert pose.box_xywh[2:].max() < 64 * 24 / 40
    assert pose.score == pytest.approx(np.mean([h for h in heights if h > 0.2] or 0), abs=0.02)


# --- every kind of picture --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["grey", "RGBA", "16-bit grey", "16-bit RGB", "palette", "one bit", "one pixel"])
def test_kinds_of_pictures(tmp_path, tiny, kind):
    rgb = noise(40, 30)
    file = tmp_path / "picture.png"
    if kind == "grey":
        cv2.imwrite(str(file), rgb[..., 0])
        expected = np.repeat(rgb[..., :1], 3, axis=-1)
    elif kind == "RGBA":
        Image.fromarray(np.dstack([rgb, noise(40, 30, 1, seed=1)])).save(file)
        expected = rgb
    elif kind == "16-bit grey":
        cv2.imwrite(str(file), rgb[..., 0].astype(np.uint16) * 256 + 7)
        expected = np.repeat(rgb[..., :1], 3, axis=-1)
    elif kind == "16-bit RGB":
        cv2.imwrite(str(file), rgb[..., ::-1].astype(np.uint16) * 256 + 7)
        expected = rgb
    elif kind == "palette":
        Image.fromarray(rgb).quantize(16).save(file)
        expected = np.asarray(Image.open(file).convert("RGB"))
    elif kind == "one bit":
        Image.fromarray(rgb[..., 0]).convert("1").save(file)
        expected = np.asarray(Image.open(file).convert("RGB"))
    else:
        Image.fromarray(rgb[:1, :1]).save(file)
        expected = rgb[:1, :1]
    for source in (file, str(file), Image.open(file), expected):
        np.testing.assert_array_equal(load_picture(source)[0], expected)
    (pose,) = tiny(file)
    assert pose.keypoints_xy.shape == (14, 2) and np.isfinite(pose.keypoints_xy).all()


def test_values_beyond_16_bits_are_white_and_not_black_again():
    picture, _ = load_picture(Image.fromarray(np.array([[0, 255, 65535, 65536, 70000, -1]], np.int32)))
    assert picture[0, :, 0].tolist() == [0, 0, 255, 255, 255, 0]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photographs_are_turned_upright(tmp_path, orientation):
    points = np.array([[70.0, 25.0], [90.0, 60.0], [52.0, 50.0]])
    upright = puppet_picture(80, 120, points, sigma=2.5)
    stored = np.rot90(upright, {1: 0, 3: 2, 6: 1, 8: 3}[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.jpg", quality=98, exif=exif)
    for source in (tmp_path / "photo.jpg", Image.open(tmp_path / "photo.jpg")):
        (pose,) = Predictor(DotBackend(codec="udp"))(source)
        np.testing.assert_allclose(pose.keypoints_xy, points, atol=1)


# --- bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "boxes, word",
    [
        ([[1, 2, 3]], r"\(1, 3\)"),
        ([1, 2, 3, 4], r"\(4,\)"),
        ([[1, 2, 3, 4], [1, 2, 3]], "x, y, w, h"),
        ([["a", 0, 1, 1]], "x, y, w, h"),
        ([[1, 2, 9, 9], [np.nan, 0, 5, 5]], "box 1 "),
        ([[0, 0, np.inf, 5]], "box 0 "),
        ([[0, 0, 1e22, 1e22]], "box 0 "),
        ([[3, 3, 0, 5]], r"box 0 \(3, 3, 0, 5\)"),
        ([[3, 3, 5, -5]], "box 0 "),
        ([[1, 2, 9, 9], [500, 3, 5, 5]], "box 1 .*30 .* 40"),
        ([[-50, 3, 50, 5]], "outside"),
        ([[3, 40, 5, 5]], "outside"),
        ([[30, 3, 5, 5]], "outside"),
        ([[3, -5, 5, 5]], "outside"),
    ],
)
def test_bad_boxes(tiny, boxes, word):
    with pytest.raises(UserError, match=f"^the picture: .*{word}"):
        tiny(noise(40, 30), boxes)


@pytest.mark.parametrize("scores", [[0.5], [0.5, 0.4, 0.3], [[0.5, 0.4]], [0.5, np.nan], ["a", "b"], 0.5])
def test_there_is_one_score_per_box(tiny, scores):
    with pytest.raises(UserError, match="box_scores"):
        tiny(noise(40, 30), [[1, 2, 9, 9], [3, 4, 9, 9]], scores)


def test_scores_without_boxes_are_refused(tiny):
    with pytest.raises(UserError, match="box_scores"):
        tiny(noise(40, 30), box_scores=[0.5])


@pytest.mark.parametrize("name, value", [("batch_size", 0), ("batch_size", -1), ("min_box_score", 2)])
def test_options_out_of_range(name, value):
    with pytest.raises(UserError, match=name):
        Predictor(DotBackend(), **{name: value})


def test_no_boxes_are_an_empty_table():
    assert as_boxes([]).shape == (0, 4)


def test_the_default_detector_gets_the_threads(monkeypatch):
    monkeypatch.setattr("lgmpose.inference.detectors.default_detector", lambda skeleton, threads: (skeleton, threads))
    assert Predictor(DotBackend(), threads=3).detector == (DotBackend().skeleton, 3)


def test_extreme_boxes_are_survived(tiny):
    boxes = [[-1e7, -1e7, 3e7, 3e7], [29.99, 39.99, 1e-3, 1e-3], [0, 5, 30, 1e-6], [15, -1e6, 1, 2e6]]
    boxes += [[-1, -1, 1.001, 1.001]]  # only its corner is in the picture
    poses = tiny(noise(40, 30), boxes)
    assert all(np.isfinite(pose.keypoints_xy).all() for pose in poses)


@pytest.mark.parametrize(
    "image",
    [noise(9, 9)[..., 0], noise(9, 9) / 255, noise(9, 9, 4), noise(0, 9), torch.ones(9, 9, 3), None, 7],
    ids=["grey", "float", "RGBA", "empty", "tensor", "None", "number"],
)
def test_other_arrays_are_refused(tiny, image):
    with pytest.raises(UserError, match=r"\(H, W, 3\) uint8 RGB"):
        tiny(image)


def test_unreadable_pictures_are_named(tiny, tmp_path):
    Image.fromarray(noise(64, 64)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    for image in (tmp_path / "gone.jpg", tmp_path / "cut.jpg", Image.open(tmp_path / "cut.jpg")):
        with pytest.raises(UserError, match=r"(gone|cut)\.jpg: "):
            tiny(image)
    with pytest.raises(UserError, match="the picture: .*floats"):
        tiny(Image.fromarray(noise(9, 9)[..., 0].astype(np.float32)))


def test_bad_weights_and_devices(tiny_weights, tmp_path):
    with pytest.raises(UserError, match="gone.safetensors"):
        Predictor(tmp_path / "gone.safetensors")
    for device in ("toaster", "cuda:99"):
        with pytest.raises(UserError, match=f"device '{device}'"):
            Predictor(tiny_weights, device=device)
    with pytest.raises(UserError, match="threads 0"):
        Predictor(tiny_weights, threads=0)


def test_options_reach_the_backend(tiny_weights, monkeypatch):
    asked = []
    monkeypatch.setattr(
        predictor_module, "open_backend", lambda *args, **options: asked.append((args, options)) or DotBackend()
    )
    Predictor(tiny_weights, device="cpu", threads=3)
    Predictor()
    assert asked == [((tiny_weights,), {"device": "cpu", "threads": 3}), ((None,), {"device": "auto", "threads": None})]
    before = torch.get_num_threads()
    try:
        open_backend(tiny_weights, device="cpu", threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_importing_loads_neither_torch_nor_plotting_nor_pillow():
    code = (
        "import sys, lgmpose.inference.predictor, lgmpose.inference.drawing; "
        "print([m for m in ('torch', 'matplotlib', 'PIL', 'pandas', 'scipy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- processes and threads --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".xml"])
def test_threads_share_a_predictor(suffix, shipped_xml):
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
    path = shipped_xml if suffix == ".xml" else SPORTS_WEIGHTS.with_suffix(suffix)
    predictor = Predictor(path, device="cpu", flip_test=False)
    crops = [noise(128, 128, 3, seed=seed)[None] for seed in range(4)]
    expected = [predictor.backend.heatmaps(crop) for crop in crops]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found, wanted in zip(pool.map(predictor.backend.heatmaps, crops), expected, strict=True):
                np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".xml"])
def test_eight_threads_predict_what_one_does(suffix, shipped_xml):
    """Each of eight threads predicts all pictures. ``LGMPOSE_TEST_PICTURES`` sets their number."""
    path = shipped_xml if suffix == ".xml" else SPORTS_WEIGHTS.with_suffix(suffix)
    predictor = Predictor(path, device="cpu", detector="none")
    pictures = [noise(128, 128, 3, seed=seed) for seed in range(int(os.environ.get("LGMPOSE_TEST_PICTURES", "6")))]

    def predict_all(_=None):
        poses = [pose for picture in pictures for pose in predictor(picture, [[10, 10, 90, 100], [40, 5, 80, 120]])]
        return np.array([np.column_stack([pose.keypoints_xy, pose.scores]) for pose in poses])

    expected = predict_all()
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(predict_all, range(8)):
            np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".xml"])
def test_a_pickled_predictor_works_in_another_process(suffix, shipped_xml, tmp_path, monkeypatch):
    """As in a process pool of macOS and Windows, with its detector."""
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # of this process
    path = shipped_xml if suffix == ".xml" else SPORTS_WEIGHTS.with_suffix(suffix)
    predictor = Predictor(path, device="cpu", threads=3, detector="lgm-det")
    (tmp_path / "predictor").write_bytes(pickle.dumps(predictor))
    code = f"""
import pickle, sys
from pathlib import Path
import numpy as np
predictor = pickle.loads(Path({str(tmp_path / "predictor")!r}).read_bytes())
picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
assert len(predictor.detector.detect(picture)) == 2
if "torch" in sys.modules:
    import torch
    assert torch.get_num_threads() == 3
print(predictor(picture, [[10, 10, 90, 100]])[0].keypoints_xy.tolist())
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    expected = predictor(noise(128, 128), [[10, 10, 90, 100]])[0].keypoints_xy
    np.testing.assert_allclose(json.loads(done.stdout or "0"), expected, atol=1e-3, err_msg=done.stderr)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("suffix, threads, works", [
    pytest.param(".safetensors", 1, True, marks=pytest.mark.slow),
    pytest.param(".safetensors", 2, False, marks=pytest.mark.slow), (".onnx", 2, True), (".xml", 1, False),
])  # fmt: skip
def test_a_forked_process_works_or_says_why_not(suffix, threads, works, shipped_xml):
    """In a process of its own, which may be forked and whose threads can be set."""
    path = shipped_xml if suffix == ".xml" else SPORTS_WEIGHTS.with_suffix(suffix)
    code = f"""
import os, signal
import numpy as np
from lgmpose.errors import UserError
from lgmpose.inference.backends import open_backend
backend, crops = open_backend({str(path)!r}, device="cpu", threads={threads}), np.zeros((2, 128, 128, 3), np.uint8)
expected = backend.heatmaps(crops)
if not os.fork():
    signal.alarm(60)
    try:
        os._exit(10 if np.allclose(backend.heatmaps(crops), expected, atol=1e-5) else 11)
    except UserError as error:
        os._exit(12 if "fork" in str(error) and {Path(path).name!r} in str(error) else 13)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == ("10" if works else "12"), done.stderr
