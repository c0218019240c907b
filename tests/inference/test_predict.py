"""Pictures in, poses out: the way there and back, every kind of picture, bad input, files, and drawing."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from lgmpose.cli import main
from lgmpose.data.images import read_image
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.inference import predict_files as predict_files_module
from lgmpose.inference.drawing import COLOURS, contact_sheet, draw_poses, heatmap_overlay
from lgmpose.inference.evaluate import predict_records
from lgmpose.inference.inputs import load_picture, read_detections
from lgmpose.inference.predict_files import _output_names, predict_files
from lgmpose.inference.predictor import Predictor, crop_person
from lgmpose.network.config import LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.pose.codecs import make_codec, merge_flipped
from lgmpose.pose.geometry import box_to_center_size, crop_matrix, warp_image
from lgmpose.pose.skeletons import COCO, LSP, Skeleton
from lgmpose.zoo import catalogue as zoo

PUPPET = Skeleton("puppet-3", ("nose", "left_hand", "right_hand"), ((0, 1), (0, 2)), ((1, 2),), (0.1,) * 3, (0, 1, 2))


class DotBackend:
    """A perfect network for red noses and green hands: the hand further right is the left one, mirrored or not."""

    skeleton = PUPPET
    source = {"file": "none", "sha256": "0"}

    def __init__(self, image_hw=(96, 64), codec="dark"):
        self.image_hw, self.codec = image_hw, make_codec(codec, image_hw)

    def heatmaps(self, crops):
        points = np.stack([self._points(crop.astype(float)) for crop in crops])
        return self.codec.encode(np.nan_to_num(points), np.isfinite(points[..., 0]))[0]

    def _points(self, crop):
        nose, hands = crop[..., 0], crop[..., 1]
        columns = np.flatnonzero(hands.max(axis=0) > 100)
        middle = (columns.min() + columns.max()) // 2 if len(columns) else 0
        left, right = hands.copy(), hands.copy()
        left[:, : middle + 1], right[:, middle + 1 :] = 0, 0
        return np.array([self._centre(plane) for plane in (nose, left, right)])

    def _centre(self, plane):
        if plane.max() < 100:
            return np.array([np.nan, np.nan])
        plane = np.where(plane > 30, plane, 0)  # JPEG's noise
        rows, columns = np.indices(plane.shape)
        return np.array([(columns * plane).sum(), (rows * plane).sum()]) / plane.sum()


def puppet_picture(height, width, points_xy, sigma=2.0):
    picture = np.zeros((height, width, 3), np.float64)
    rows, columns = np.indices((height, width))
    for (x, y), channel in zip(points_xy, (0, 1, 1), strict=True):
        picture[..., channel] += 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return picture.round().clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    zoo.save_weights(path, LGMPose(LGMPoseConfig((64, 64), 14)), LSP, make_codec("dark", (64, 64)))
    return path


@pytest.fixture(scope="session")
def tiny(tiny_weights):
    return Predictor(tiny_weights, device="cpu")


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def write_png(path, array):
    assert cv2.imwrite(str(path), array)
    return path


# --- there and back ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("image_hw", [(96, 64), (64, 96)])
@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("codec", ["dark", "udp"])
@pytest.mark.parametrize(
    "corner", [(40, 30), (-9, -10), (98, 46)], ids=["inside", "over the top left", "over the bottom right"]
)
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


def test_many_boxes_keep_their_order_and_batches_do_not_matter():
    first, second = np.array([[20, 20], [30, 40], [12, 38]]), np.array([[90, 25], [101, 41], [84, 44]])
    picture = np.maximum(puppet_picture(70, 120, first), puppet_picture(70, 120, second))
    boxes = [(5, 10, 35, 40), (75, 15, 35, 40), (5, 10, 35, 40)]
    for batch_size in (1, 2, 16):
        poses = Predictor(DotBackend(), batch_size=batch_size)(picture, boxes)
        for pose, truth in zip(poses, (first, second, first), strict=True):
            np.testing.assert_allclose(pose.keypoints_xy, truth, atol=1)


def test_flip_test_needs_both_the_swap_and_the_shift():
    """Both halves of the flip test show a joint within a heatmap pixel of each other only with swap and shift right."""
    points = np.array([[[30.0, 40.0], [40.0, 60.0], [22.0, 52.0]]])
    codec = make_codec("dark", (96, 64))
    mirrored_xy = (points * [-1, 1] + [63, 0])[:, list(PUPPET.flip_permutation)]  # as a mirrored crop shows them
    plain, mirrored = (codec.encode(p, np.ones((1, 3)))[0] for p in (points, mirrored_xy))
    offset = {
        shift: codec.decode(merge_flipped(plain, mirrored, PUPPET, shift=shift))[0] - points for shift in (True, False)
    }
    np.testing.assert_allclose(offset[True], np.broadcast_to([0.5, 0], (1, 3, 2)), atol=0.1)  # (4 - 3) / 2 crop pixels
    np.testing.assert_allclose(offset[False], np.broadcast_to([-1.5, 0], (1, 3, 2)), atol=0.1)  # -3 / 2
    unswapped = Skeleton("unpaired", PUPPET.joint_names, (), (), PUPPET.oks_sigmas, ())
    assert merge_flipped(plain, mirrored, unswapped, shift=True).max(axis=(2, 3))[0, 1:].max() < 0.6
    as_tensors = merge_flipped(torch.from_numpy(plain), torch.from_numpy(mirrored), PUPPET, shift=True)
    np.testing.assert_array_equal(as_tensors.numpy(), merge_flipped(plain, mirrored, PUPPET, shift=True))


@pytest.mark.parametrize("codec", ["dark", "udp"])
def test_predictor_and_evaluation_are_the_same_pipeline(tiny_weights, tmp_path, codec):
    predictor = Predictor(tiny_weights, device="cpu")
    predictor.backend.codec = make_codec(codec, (64, 64))
    picture = cv2.GaussianBlur(noise(90, 120), (0, 0), 2)
    file = write_png(tmp_path / "a.png", picture[..., ::-1])
    boxes = np.array([[10, 5, 60, 70], [50, -10, 90, 60.5]])
    records = tuple(
        PersonRecord(str(file), *box_to_center_size(box), np.ones((14, 2)), np.ones(14, int), id=i, image_id=1)
        for i, box in enumerate(boxes)
    )
    predictions = predict_records(
        predictor.backend.net, RecordSet("x", LSP, records, "given"), predictor.backend.codec, skeleton=LSP, workers=0,
        progress=False,
    )  # fmt: skip
    poses = predictor(file, boxes)
    np.testing.assert_allclose([pose.keypoints_xy for pose in poses], predictions.keypoints_xy, atol=1e-4)
    np.testing.assert_allclose([pose.scores for pose in poses], predictions.scores, atol=1e-6)


def test_large_persons_are_averaged_down_to_the_same_place():
    rows, columns = np.indices((900, 1100))
    for box in ((200, 150, 400, 500), (-100, -80, 700, 600), (700, 500, 600, 700)):
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
    rough = noise(900, 1100)
    matrix = crop_matrix(*box_to_center_size((200, 150, 400, 500)), (96, 64))
    assert crop_person(rough, matrix, (96, 64)).std() < 0.3 * warp_image(rough, matrix, (96, 64)).std()


def test_a_second_look_goes_nearer():
    points = np.array([[240.0, 100.0], [272.0, 170.0], [205.0, 168.0]])
    picture = puppet_picture(300, 400, points, sigma=4)
    (once,), (twice,) = (Predictor(DotBackend(codec="udp"), passes=passes)(picture) for passes in (1, 2))
    np.testing.assert_array_equal(once.box_xywh, [0, 0, 400, 300])
    np.testing.assert_allclose(twice.box_xywh, [205 - 3.5, 100 - 3.5, 67 + 7, 70 + 7], atol=6)
    np.testing.assert_allclose(twice.keypoints_xy, points, atol=1.5)


@pytest.mark.parametrize("found", [0, 1, 3])
def test_no_second_look_at_next_to_nothing(found):
    class Crowded(DotBackend):  # its joints all in one place, and only some of them sure
        def heatmaps(self, crops):
            heatmaps = self.codec.encode(np.full((len(crops), 3, 2), 32.0), np.ones((len(crops), 3)))[0]
            heatmaps[:, found:] *= 0.05
            return heatmaps

    (pose,) = Predictor(Crowded(), flip_test=False)(noise(100, 80))
    np.testing.assert_array_equal(pose.box_xywh, [0, 0, 80, 100])
    assert (pose.scores > 0.2).sum() == found


def test_heatmaps_for_lessons(tiny):
    picture = noise(100, 70)
    crop, heatmaps = tiny.heatmaps(picture)
    assert crop.shape == (64, 64, 3) and crop.dtype == np.uint8 and heatmaps.shape == (14, 16, 16)
    np.testing.assert_array_equal(crop, warp_image(picture, crop_matrix([35, 50], [70, 100], (64, 64)), (64, 64)))
    assert tiny.heatmaps(picture, (10, 10, 30, 30))[1].shape == (14, 16, 16)


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
    "boxes, message",
    [
        ([[1, 2, 3]], r"the picture: boxes are \(n, 4\)"),
        ([1, 2, 3, 4], r"\(n, 4\).*shape \(4,\)"),
        ([[1, 2, 3, 4], [1, 2, 3]], "rows of four"),
        ([["a", 0, 1, 1]], "rows of four"),
        ([[1, 2, 9, 9], [np.nan, 0, 5, 5]], "box 1 .*NaN"),
        ([[0, 0, np.inf, 5]], "box 0 .*infinite"),
        ([[3, 3, 0, 5]], r"box 0 \(3, 3, 0, 5\) has no area"),
        ([[3, 3, 5, -5]], "no area"),
        ([[500, 3, 5, 5]], "box 0 .*outside the picture, which is 30 wide and 40 high"),
        ([[-50, 3, 50, 5]], "outside"),
        ([[3, 40, 5, 5]], "outside"),
    ],
)
def test_bad_boxes(tiny, boxes, message):
    with pytest.raises(UserError, match=message):
        tiny(noise(40, 30), boxes)


def test_no_boxes_no_poses(tiny):
    assert tiny(noise(40, 30), []) == []
    assert tiny(noise(40, 30), np.zeros((0, 4))) == []


def test_extreme_boxes_are_survived(tiny):
    boxes = [[-1e7, -1e7, 3e7, 3e7], [29.99, 39.99, 1e-3, 1e-3], [0, 5, 30, 1e-6], [15, -1e6, 1, 2e6]]
    poses = tiny(noise(40, 30), boxes)
    assert all(np.isfinite(pose.keypoints_xy).all() for pose in poses)


@pytest.mark.parametrize(
    "image",
    [noise(9, 9)[..., 0], noise(9, 9) / 255, noise(9, 9, 4), noise(0, 9), torch.ones(9, 9, 3), None, 7],
    ids=["grey", "float", "RGBA", "empty", "tensor", "None", "number"],
)
def test_other_arrays_are_refused(tiny, image):
    with pytest.raises(UserError, match=r"give a path, a Pillow image, or an \(H, W, 3\) uint8 RGB array"):
        tiny(image)


def test_unreadable_pictures_are_named(tiny, tmp_path):
    with pytest.raises(UserError, match="gone.jpg: no such file"):
        tiny(tmp_path / "gone.jpg")
    Image.fromarray(noise(64, 64)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut.jpg: the JPEG is cut short"):
        tiny(tmp_path / "cut.jpg")
    with pytest.raises(UserError, match="cut.jpg: not a picture"):
        tiny(Image.open(tmp_path / "cut.jpg"))
    with pytest.raises(UserError, match="Pillow image of floats"):
        tiny(Image.fromarray(noise(9, 9)[..., 0].astype(np.float32)))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_ends_at_its_own_end_marker(tmp_path, progressive):
    """Not at its thumbnail's, nor at the end of the file: phones append films, depth maps and more to a photograph."""

    def jpeg(size, **options):
        buffer = io.BytesIO()
        Image.fromarray(noise(*size)).save(buffer, "JPEG", **options)
        return buffer.getvalue()

    exif = b"Exif\0\0" + jpeg((20, 30)) + bytes(9)  # what matters here is the end marker in it
    photo, file = jpeg((64, 96), progressive=progressive, exif=exif), tmp_path / "photo.jpg"
    assert photo.count(b"\xff\xd9") == 2 and photo.index(b"\xff\xd9") < len(photo) / 2
    file.write_bytes(photo)
    expected = read_image(file)
    for behind in (bytes(9000), b"\0\0\0\x18ftypmp42" + noise(50, 70).tobytes(), b"\xff" * 5000):
        file.write_bytes(photo + behind)
        np.testing.assert_array_equal(read_image(file), expected)
    for length in range(3, len(photo) - 1, 23):
        file.write_bytes(photo[:length])
        with pytest.raises(UserError, match="photo.jpg: the JPEG is cut short"):
            read_image(file)


def test_bad_weights_and_devices(tiny_weights, tmp_path):
    with pytest.raises(UserError, match="gone.safetensors: no such weights"):
        Predictor(tmp_path / "gone.safetensors")
    for device in ("toaster", "cuda:99"):
        with pytest.raises(UserError, match=f"device '{device}'"):
            Predictor(tiny_weights, device=device)


def test_importing_loads_neither_torch_nor_plotting_nor_pillow():
    code = (
        "import sys, lgmpose.inference.predictor, lgmpose.inference.drawing; "
        "print([m for m in ('torch', 'matplotlib', 'PIL', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- files ------------------------------------------------------------------------------------------------------------
def test_a_picture_becomes_a_drawing_and_a_json(tiny, tiny_weights, tmp_path):
    file, out = tmp_path / "mein bild ä.png", tmp_path / "new" / "out"
    Image.fromarray(noise(60, 44)).save(file)
    assert predict_files([file], out, boxes=[[4, 5, 30, 40]], weights=tiny_weights, progress=False) == 1
    content = json.loads((out / f"{file.stem}.json").read_bytes())
    assert content["image"] == file.name and content["image_hw"] == [60, 44]
    assert content["skeleton"]["name"] == "lsp-14" and content["skeleton"]["joint_names"] == list(LSP.joint_names)
    assert content["skeleton"]["edges"] == [list(edge) for edge in LSP.edges]
    assert content["weights"] == {"file": "tiny.safetensors", "sha256": zoo.weights_hash(tiny_weights)}
    (person,) = content["people"]
    (pose,) = tiny(file, [[4, 5, 30, 40]])
    assert person["box_xywh"] == [4, 5, 30, 40] and person["score"] == round(pose.score, 4)
    np.testing.assert_allclose(person["keypoints"], np.column_stack([pose.keypoints_xy, pose.scores]), atol=0.006)
    drawn = np.asarray(Image.open(out / f"{file.stem}_pose.jpg"))
    assert drawn.shape == (60, 44, 3)


def test_a_folder_is_done_by_name_and_one_bad_picture_does_not_stop_it(tiny_weights, tmp_path, capsys):
    for name in ("b.PNG", "a.jpg", "c.webp"):
        write_png(tmp_path / name, noise(30, 40))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 nothing \xff\xd9")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"1 of 4 inputs could not be done.*broken.jpg.*the others are in"):
        predict_files([tmp_path], out, weights=tiny_weights, progress=False)
    assert "broken.jpg: not a picture" in capsys.readouterr().err
    assert sorted(p.name for p in out.iterdir()) == sorted(
        f"{stem}{end}" for stem in "abc" for end in ("_pose.jpg", ".json")
    )
    # Into the very folder, twice: what the first call drew is not predicted by the second.
    (tmp_path / "broken.jpg").unlink()
    assert [predict_files(tmp_path, tmp_path, weights=tiny_weights, progress=False) for _ in range(2)] == [3, 3]


def test_equal_names_get_outputs_of_their_own(tiny_weights, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_png(tmp_path / folder / "photo.png", noise(20 if folder == "one" else 30, 40))
    write_png(tmp_path / "one" / "photo_2.png", noise(50, 40))
    inputs = [tmp_path / "one", tmp_path / "two", tmp_path / "one" / "photo.png"]  # one of them twice
    assert predict_files(inputs, tmp_path / "out", weights=tiny_weights, progress=False) == 3
    found = {p.stem: json.loads(p.read_text()) for p in (tmp_path / "out").glob("*.json")}
    heights = {name: content["image_hw"][0] for name, content in found.items()}
    assert heights == {"photo": 20, "photo_2": 50, "photo_3": 30}
    assert found["photo_3"]["path"] == str(tmp_path / "two" / "photo.png")
    names = _output_names([tmp_path / n for n in ("A.png", "a.jpg", "a_2.png", "a.bmp", "b.png")])
    assert names == ["A", "a_3", "a_2", "a_4", "b"]


def write_video(path, frames, rate=10):
    fourcc = cv2.VideoWriter_fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), fourcc, rate, frames[0].shape[1::-1])
    if not writer.isOpened():
        pytest.skip("this OpenCV has no encoder for the test's video")
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def test_a_video_becomes_a_video_and_a_json(tmp_path):
    truth = [np.array([[40.0 + 3 * i, 20], [60 + 3 * i, 50], [30 + 3 * i, 48]]) for i in range(5)]
    frames = [puppet_picture(76, 102, points, sigma=3)[..., ::-1].copy() for points in truth]
    file = write_video(tmp_path / "walk.avi", frames)
    assert predict_files([file], tmp_path / "out", weights=DotBackend(), progress=True) == 1
    content = json.loads((tmp_path / "out" / "walk.json").read_text())
    assert content["video"] == "walk.avi" and content["fps"] == 10 and content["image_hw"] == [76, 102]
    assert [frame["frame"] for frame in content["frames"]] == list(range(5))
    for frame, points in zip(content["frames"], truth, strict=True):
        np.testing.assert_allclose(np.array(frame["people"][0]["keypoints"])[:, :2], points, atol=1.5)
    drawn = cv2.VideoCapture(str(tmp_path / "out" / "walk_pose.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and drawn.get(cv2.CAP_PROP_FPS) == 10
    assert drawn.read()[1].shape == (76, 102, 3)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["walk.json", "walk_pose.mp4"]


@pytest.mark.parametrize("suffix", ["m4v", "MPG", "mpeg", "wmv", "MTS", "m2ts", "3gp"])
def test_videos_are_known_by_these_names_too(tmp_path, suffix):
    file = write_video(tmp_path / "walk.avi", [noise(32, 32)] * 2).rename(tmp_path / f"walk.{suffix}")
    assert predict_files([tmp_path], tmp_path / "out", weights=DotBackend(), progress=False) == 1
    content = json.loads((tmp_path / "out" / "walk.json").read_text())
    assert content["video"] == file.name and len(content["frames"]) == 2


def test_a_video_of_odd_size_and_unknown_length(tmp_path, monkeypatch):
    """OpenCV writes even sizes only, so the input is a stand-in."""

    class OddCapture:
        def __init__(self):
            self.left = [noise(75, 101, seed=i) for i in range(3)]

        def get(self, _):
            return float("nan") if _ == cv2.CAP_PROP_FPS else -1

        def read(self):
            return (True, self.left.pop()) if self.left else (False, None)

        def release(self):
            pass

    (tmp_path / "odd.webm").write_bytes(b"")
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: OddCapture() if path.endswith("odd.webm") else real(path))
    assert predict_files([tmp_path / "odd.webm"], tmp_path / "out", weights=DotBackend(), progress=False) == 1
    content = json.loads((tmp_path / "out" / "odd.json").read_text())
    assert content["image_hw"] == [75, 101] and content["fps"] == 25 and len(content["frames"]) == 3
    assert real(str(tmp_path / "out" / "odd_pose.mp4")).read()[1].shape == (76, 102, 3)  # a row and a column were added


@pytest.mark.parametrize("rate", [1000, 90000])
def test_a_clocks_ticks_are_no_frame_rate(tmp_path, monkeypatch, rate):
    """Browsers' recordings: OpenCV tells the container's time base, and only the frames' times how fast they go."""

    class Ticking:
        def __init__(self):
            self.frame = -1

        def get(self, what):
            return {cv2.CAP_PROP_FPS: rate, cv2.CAP_PROP_POS_MSEC: round(self.frame * 1000 / 30)}.get(what, -1)

        def grab(self):
            self.frame += 1
            return self.frame < 31

        def read(self):
            return (True, noise(32, 32)) if self.grab() else (False, None)

        def release(self):
            pass

    (tmp_path / "walk.webm").write_bytes(b"")
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: Ticking() if path.endswith(".webm") else real(path))
    assert predict_files(tmp_path, tmp_path / "out", weights=DotBackend(), progress=False) == 1
    content = json.loads((tmp_path / "out" / "walk.json").read_text())
    assert content["fps"] == pytest.approx(30, abs=0.1) and len(content["frames"]) == 31
    drawn = real(str(tmp_path / "out" / "walk_pose.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(content["fps"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no colon in names")
def test_a_name_that_looks_like_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "walk.avi", [noise(32, 32)] * 2).rename("2026-11-27T12:30:05.avi")
    assert predict_files("2026-11-27T12:30:05.avi", "out:1", weights=DotBackend(), progress=False) == 1
    assert sorted(path.name for path in (tmp_path / "out:1").iterdir()) == [
        "2026-11-27T12:30:05.json", "2026-11-27T12:30:05_pose.mp4",
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are text")
def test_a_video_whose_name_is_not_utf_8_is_refused(tmp_path, monkeypatch):
    video = write_video(tmp_path / "walk.avi", [noise(32, 32)] * 2).rename(tmp_path / os.fsdecode(b"m\xfcller.avi"))
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: pytest.fail("OpenCV ends the whole process at such a name"))
    with pytest.raises(UserError, match="ller.avi: .* not UTF-8; rename it"):
        predict_files(video, tmp_path / "out", weights=DotBackend(), progress=False)


def test_two_processes_never_write_one_file(tmp_path, monkeypatch):
    """The same command twice at once: each writes a file of its own until it is whole."""
    file, parts, real = write_video(tmp_path / "walk.avi", [noise(32, 32)] * 2), [], cv2.VideoWriter
    monkeypatch.setattr(cv2, "VideoWriter", lambda part, *rest: parts.append(part) or real(part, *rest))
    for _ in range(2):
        assert predict_files(file, tmp_path / "out", weights=DotBackend(), progress=False) == 1
    assert len(set(parts)) == 2 and len(list((tmp_path / "out").iterdir())) == 2


def test_bad_videos(tmp_path, monkeypatch):
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x18ftypmp42 and nothing else")
    with pytest.raises(UserError, match="cut.mp4: not a video"):
        predict_files([tmp_path / "cut.mp4"], tmp_path / "out", weights=DotBackend(), progress=False)
    file = write_video(tmp_path / "good.avi", [noise(32, 32)] * 2)
    with pytest.raises(UserError, match="good.avi: box 0 .* outside"):
        predict_files([file], tmp_path / "out", boxes=[[99, 99, 5, 5]], weights=DotBackend(), progress=False)
    monkeypatch.setattr(cv2, "VideoWriter_fourcc", lambda *_: 0x21212121)
    with pytest.raises(UserError, match="good_pose.mp4: this OpenCV cannot write MP4"):
        predict_files([file], tmp_path / "out", weights=DotBackend(), progress=False)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")], ids=["Ctrl-C", "an error"])
@pytest.mark.parametrize("stage", ["network", "drawing"])
def test_a_video_stopped_in_the_middle_leaves_nothing(tmp_path, monkeypatch, error, stage):
    file = write_video(tmp_path / "walk.avi", [noise(32, 32)] * 20)
    frames, before = [], threading.active_count()

    def stop(frame):
        frames.append(frame)
        if len(frames) == 4:
            raise error

    class Stopping(DotBackend):
        def heatmaps(self, crops):
            stop(crops)
            return super().heatmaps(crops)

    if stage == "drawing":
        real = predict_files_module.draw_poses
        monkeypatch.setattr(predict_files_module, "draw_poses", lambda *a, **k: (stop(a), real(*a, **k))[1])
    network = Stopping() if stage == "network" else DotBackend()
    with pytest.raises(type(error)):
        predict_files(file, tmp_path / "out", boxes=[[1, 1, 30, 30]], weights=network, flip_test=False, progress=False)
    assert not list((tmp_path / "out").iterdir())
    assert len(frames) == 4 and threading.active_count() == before


def test_reading_a_video_runs_only_a_few_frames_ahead(tmp_path, monkeypatch):
    file = write_video(tmp_path / "walk.avi", [noise(32, 32)] * 20)
    read, drawn, real = [], [], predict_files_module.draw_poses

    class Counting:
        def __init__(self, name):
            self.capture = cv2_capture(name)

        def __getattr__(self, name):
            if name == "read":
                read.append(name)
            return getattr(self.capture, name)

    def slow_drawing(*arguments, **options):
        drawn.append(None)
        time.sleep(0.005)
        assert len(read) <= len(drawn) + 2  # one in the network, one read
        return real(*arguments, **options)

    cv2_capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    monkeypatch.setattr(predict_files_module, "draw_poses", slow_drawing)
    assert predict_files([file], tmp_path / "out", weights=DotBackend(), progress=False) == 1
    assert len(drawn) == 20 and len(read) == 21


def test_what_cannot_work_is_refused_before_any_work(tiny_weights, tmp_path):
    picture = write_png(tmp_path / "7.png", noise(20, 20))
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text("")

    def refused(message, inputs=picture, out=tmp_path / "out", **options):
        with pytest.raises(UserError, match=message):
            predict_files([inputs] if inputs else [], out, **{"weights": tmp_path / "never looked for", **options})

    refused("a file: cannot write to this folder", out=tmp_path / "a file")
    refused("below: cannot write to this folder", out=tmp_path / "a file" / "below")
    refused("gone.png: no such file or folder", inputs=tmp_path / "gone.png")
    refused("empty: no picture or video in this folder", inputs=tmp_path / "empty")
    refused("no picture given", inputs=None)
    refused("box 0 .* no area", boxes=[[1, 1, 0, 4]])
    refused("not from both", boxes=[[1, 1, 4, 4]], detections="x.json")
    refused("x.json: no such file", detections=tmp_path / "x.json")
    drawn = write_png(tmp_path / "7_pose.jpg", noise(20, 20))
    with pytest.raises(UserError, match="7_pose.jpg: an input, which the result of .*7.png would replace"):
        predict_files([picture, drawn], tmp_path, weights=tiny_weights)


@pytest.mark.parametrize(
    "foreign", ['{"version": "5.4.1", "shapes": []}', '{"people": []}', "[]", "notes", ""],
    ids=["LabelMe", "OpenPose", "list", "no JSON", "empty"],
)  # fmt: skip
def test_a_json_of_another_program_is_not_replaced(tmp_path, foreign):
    for name in ("a.png", "b.png"):
        write_png(tmp_path / name, noise(20, 20))
    labels = tmp_path / "b.json"
    labels.write_text(foreign)
    with pytest.raises(UserError, match=r"b.json: not known as a result .* beside it.*b.png .* another --out"):
        predict_files([tmp_path], tmp_path, weights=DotBackend(), progress=False)
    assert labels.read_text() == foreign and sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.json", "b.png"]
    assert predict_files([tmp_path], tmp_path / "out", weights=DotBackend(), progress=False) == 2


def test_own_results_are_replaced(tmp_path):
    write_png(tmp_path / "photo.png", noise(20, 20))
    write_video(tmp_path / "walk.avi", [noise(32, 32)] * 2)
    for _ in range(2):
        assert predict_files([tmp_path], tmp_path, weights=DotBackend(), progress=False) == 2


@pytest.mark.parametrize("given", ["the folder", "the picture", "both"])
def test_a_photograph_named_like_a_drawing_is_not_replaced(tmp_path, given):
    picture = write_png(tmp_path / "a.png", noise(20, 20))
    photograph = write_png(tmp_path / "a_pose.jpg", noise(20, 20))
    before = photograph.read_bytes()
    inputs = {"the folder": tmp_path, "the picture": picture, "both": [picture, photograph]}[given]
    with pytest.raises(UserError, match="a_pose.jpg: .* would replace"):
        predict_files(inputs, tmp_path, weights=DotBackend(), progress=False)
    assert photograph.read_bytes() == before and not list(tmp_path.glob("*.json"))


def test_a_photograph_named_like_a_drawing_is_an_input(tmp_path):
    for name in ("warrior.png", "tree_pose.jpg"):
        write_png(tmp_path / name, noise(20, 20))
    for _ in range(2):
        assert predict_files(tmp_path, tmp_path, weights=DotBackend(), progress=False) == 2
    drawn = ["tree_pose.json", "tree_pose_pose.jpg", "warrior.json", "warrior_pose.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*drawn, "tree_pose.jpg", "warrior.png"])


@pytest.mark.parametrize("suffix", ["png", "avi"])
def test_a_kill_between_drawing_and_json_leaves_no_stranger(tmp_path, monkeypatch, suffix):
    if suffix == "png":
        write_png(tmp_path / "a.png", noise(20, 20))
    else:
        write_video(tmp_path / "a.avi", [noise(32, 32)] * 2)
    real, killed = os.replace, []

    def kill_at_second(*names):
        killed.append(names)
        if len(killed) == 2:
            raise KeyboardInterrupt
        real(*names)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", kill_at_second)
        predict_files(tmp_path, tmp_path, weights=DotBackend(), progress=False)
    assert predict_files(tmp_path, tmp_path, weights=DotBackend(), progress=False) == 1
    assert (tmp_path / f"a_pose.{'jpg' if suffix == 'png' else 'mp4'}").exists()


def test_the_result_of_another_picture_is_not_replaced(tmp_path, monkeypatch):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_png(tmp_path / folder / "a.png", noise(20, 20))
    out = tmp_path / "out"

    def predict(*inputs):
        return predict_files(inputs, out, weights=DotBackend(), progress=False)

    monkeypatch.chdir(tmp_path)
    assert predict("one/a.png") == 1
    before = (out / "a.json").read_bytes()
    with pytest.raises(UserError, match=r"a.json: the result of .*one.a.png, which that of two.a.png would replace"):
        predict("two/a.png")
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(UserError, match="choose another --out"):  # the same words as in the next folder, another file
        predict("a.png")
    assert (out / "a.json").read_bytes() == before
    monkeypatch.chdir(tmp_path / "one")
    assert predict("a.png") == predict(tmp_path / "one") == 1
    assert predict(tmp_path / "two", ".") == 2, "one's result is made anew, as a_2"
    paths = {name: json.loads((out / f"{name}.json").read_text())["path"] for name in ("a", "a_2")}
    assert paths == {"a": str(tmp_path / "two" / "a.png"), "a_2": str(tmp_path / "one" / "a.png")}


def test_a_folder_that_moved_with_its_results_is_predicted_again(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    write_png(before / "a.png", noise(20, 20))
    assert predict_files(before, before, weights=DotBackend(), progress=False) == 1
    before.rename(after)
    assert predict_files(after, after, weights=DotBackend(), progress=False) == 1
    assert json.loads((after / "a.json").read_text())["path"] == str(after / "a.png")


def test_a_picture_and_a_video_of_one_name_leave_no_stranger(tmp_path):
    """As a telephone's moving photographs; what the first call drew must not be the last one's input."""
    write_video(tmp_path / "a.avi", [noise(32, 32)] * 2)
    assert predict_files(tmp_path, tmp_path, weights=DotBackend(), progress=False) == 1
    write_png(tmp_path / "a.PNG", noise(20, 20))  # capitals come first, so that a.json becomes this one's
    for _ in range(2):
        assert predict_files(tmp_path, tmp_path, weights=DotBackend(), progress=False) == 2
    names = ["a.PNG", "a.avi", "a.json", "a_2.json", "a_2_pose.mp4", "a_pose.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    out, pair = tmp_path / "out", [tmp_path / "a.PNG", tmp_path / "a.avi"]
    for inputs in (pair, pair[::-1], pair):
        assert predict_files(inputs, out, weights=DotBackend(), progress=False) == 2
    assert sorted(path.name for path in out.iterdir()) == names[2:]


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_dots_after_a_link_lead_where_the_link_does(tmp_path):
    deep = tmp_path / "elsewhere" / "in"
    deep.mkdir(parents=True)
    (tmp_path / "link").symlink_to(deep)
    write_png(tmp_path / "elsewhere" / "a.png", noise(20, 20))
    write_video(tmp_path / "elsewhere" / "w.avi", [noise(32, 32)] * 2)
    folder = tmp_path / "link" / ".."
    for _ in range(2):
        inputs = [folder / "a.png", folder / "w.avi"]
        assert predict_files(inputs, folder / "out", weights=DotBackend(), progress=False) == 2
    assert len(list((tmp_path / "elsewhere" / "out").iterdir())) == 4


def test_drawings_without_their_json_are_kept(tmp_path):
    out = tmp_path / "out"
    picture = write_png(tmp_path / "a.png", noise(20, 20))
    assert predict_files(picture, out, weights=DotBackend(), progress=False) == 1
    (out / "a.json").unlink()
    with pytest.raises(UserError, match="a_pose.jpg: not known as a result .* a.json beside it"):
        predict_files(picture, out, weights=DotBackend(), progress=False)


def test_detector_boxes_find_their_picture(tmp_path, tiny_weights):
    for name in ("000007.png", "walker.png", "8.png"):
        write_png(tmp_path / name, noise(60, 60))
    rows = [
        {"image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.9},
        {"image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.8},  # the same person again
        {"image_id": 7, "category_id": 1, "bbox": [5, 5, 30, 40], "score": 0.4},
        {"image_id": 7, "category_id": 2, "bbox": [5, 5, 30, 40], "score": 0.9},
        {"file_name": "some/where/walker.png", "bbox": [3, 3, 50, 50], "score": 0.5},
        {"file_name": None, "image_id": 8, "bbox": [3, 3, 50, 50], "score": 0.5},
    ]
    source = tmp_path / "boxes.json"

    def run(content, *inputs):
        source.write_text(json.dumps(content))
        return predict_files(inputs, tmp_path / "out", detections=source, weights=tiny_weights, progress=False)

    assert run(rows, tmp_path / "000007.png", tmp_path / "walker.png") == 2
    (person,) = json.loads((tmp_path / "out" / "000007.json").read_text())["people"]
    assert person["box_xywh"] == [1, 2, 30, 40]
    assert len(json.loads((tmp_path / "out" / "walker.json").read_text())["people"]) == 1
    assert run(rows, tmp_path / "8.png") == 1
    with pytest.raises(UserError, match=r"no box with a score of 0.5 or more for 1 of 2 inputs \(walker.png\)"):
        run(rows[:4], tmp_path / "000007.png", tmp_path / "walker.png")
    for bad, message in (
        ({"a": 1}, "not a list of detections"),
        ([{"image_id": 7, "bbox": [1, 2, 3, 4]}], "detection number 0 has no finite 'score'"),
        ([{"image_id": 7, "bbox": [1, 2, 3], "score": 1}], "detection number 0 has a 'bbox'"),
        ([{"image_id": 7, "score": 1}], "'bbox'"),
        ([{"image_id": 7, "bbox": [1, 2, 0, 3], "score": 1}], "'bbox'"),
        ([{"file_name": None, "bbox": [1, 2, 3, 4], "score": 1}], "no box .*000007.png.*file_name its name"),
    ):
        with pytest.raises(UserError, match=message):
            run(bad, tmp_path / "000007.png")


@pytest.fixture
def cameras(tmp_path):
    """Two pictures of one name, and a function: what boxes each of them gets from these rows."""
    pictures = [tmp_path / camera / "0001.png" for camera in ("cam1", "cam2")]
    for picture in pictures:
        picture.parent.mkdir()
        write_png(picture, noise(60, 60))

    def found(*rows, inputs=pictures):
        source = tmp_path / "boxes.json"
        source.write_text(json.dumps([{"bbox": [i + 1, 1, 9, 9], "score": 0.9} | row for i, row in enumerate(rows)]))
        boxes = read_detections(source, inputs)
        return [boxes[path][0][:, 0].tolist() for path in inputs]

    return found


def test_pictures_of_one_name_get_the_boxes_of_their_folder(cameras, tmp_path, monkeypatch):
    rows = [{"file_name": f"{camera}/0001.png"} for camera in ("cam1", "cam2", "cam3", "cam1")]
    assert cameras(*rows) == [[1, 4], [2]]
    monkeypatch.chdir(tmp_path / "cam1")  # the words typed do not tell the folder, nor are all the file's inputs
    assert cameras(*rows, inputs=[Path("0001.png")]) == [[1, 4]]


@pytest.mark.parametrize(
    "rows",
    [
        [{"file_name": "0001.png"}],
        [{"file_name": "day/0001.png"}],
        [{"file_name": "cam1/0001.png"}, {"file_name": "0001.png"}],
        [{"file_name": "cam1/0001.png"}, {"file_name": "cam3/0001.png"}],
        [{"image_id": 1}],
    ],
)
def test_boxes_that_fit_two_pictures_are_refused(cameras, rows):
    with pytest.raises(UserError, match=r"boxes.json: boxes of .*1.* fit both .*cam1.0001.png and .*cam2.0001.png; "):
        cameras(*rows)


def test_a_picture_that_two_folders_boxes_fit_is_refused(cameras, tmp_path):
    copy = write_png(tmp_path / "0001.png", noise(60, 60))
    rows = [{"file_name": f"{camera}/0001.png"} for camera in ("cam1", "cam2")]
    with pytest.raises(UserError, match="boxes of both cam1.0001.png and cam2.0001.png fit .*0001.png; "):
        cameras(*rows, inputs=[copy])
    assert cameras(rows[1], inputs=[copy]) == [[1]]


def test_boxes_that_another_name_of_their_picture_outdoes_are_not_dropped(cameras, tmp_path):
    with pytest.raises(UserError, match=r"boxes of 0001.png may be those of .*cam1.0001.png, which another fits"):
        cameras({"file_name": "cam1/0001.png"}, {"file_name": "0001.png"}, inputs=[tmp_path / "cam1" / "0001.png"])
    assert cameras({"file_name": ""}, {"image_id": 1}, inputs=[tmp_path / "cam1" / "0001.png"]) == [[2]]


def test_many_folders_of_one_name_are_matched_in_little_memory(tmp_path):
    source, folders = tmp_path / "boxes.json", [f"sequence{i}" for i in range(1500)]
    rows = [{"file_name": f"{folder}/rgb.png", "bbox": [1, 1, 9, 9], "score": 0.9} for folder in folders]
    source.write_text(json.dumps(rows))
    tracemalloc.start()
    found = read_detections(source, [tmp_path / folder / "rgb.png" for folder in folders])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 1500 and peak < 50e6, peak


def test_numbers_of_pandas_and_of_other_categories(cameras, tmp_path):
    picture = [tmp_path / "cam1" / "0001.png"]
    for image_id in (1, 1.0, "1", "0001"):
        assert cameras({"image_id": image_id}, inputs=picture) == [[1]]
    for category in (0, 7):
        assert cameras({"image_id": 1, "category_id": category}, inputs=picture) == [[1]]
    several = [{"image_id": 1, "category_id": category} for category in (0, 7, 7)]
    assert cameras(*several, {"image_id": 1, "category_id": 1}, inputs=picture) == [[4]]
    with pytest.raises(UserError, match=r"no box .*\(0001.png\) \(3 left out: their category_id is not 1"):
        cameras(*several, inputs=picture)


def test_detections_of_coco(shared_data, tiny_weights, tmp_path):
    folder = shared_data / "coco_sample"
    detections = folder / "person_detections_sample.json"
    assert predict_files([folder], tmp_path, detections=detections, weights=tiny_weights, progress=False) == 4
    for file in tmp_path.glob("*.json"):
        content = json.loads(file.read_text())
        of_picture = [d for d in json.loads(detections.read_text()) if d["image_id"] == int(file.stem)]
        assert 1 <= len(content["people"]) <= sum(d["score"] >= 0.5 for d in of_picture)


# --- drawing ----------------------------------------------------------------------------------------------------------
def lsp_pose(scores=1.0, scale=1.0):
    legs = [[35, 95], [35, 75], [40, 55], [55, 55], [60, 75], [60, 95]]
    arms = [[20, 50], [25, 40], [35, 25], [60, 25], [70, 40], [75, 50]]
    xy = np.array([*legs, *arms, [47, 20], [47, 5]], float) * scale
    return SimpleNamespace(keypoints_xy=xy, scores=np.broadcast_to(scores, 14), score=1.0, skeleton=LSP)


def test_a_line_between_the_two_sides_has_neithers_colour():
    eyes = np.full((17, 2), np.nan)
    eyes[1], eyes[2] = (300, 200), (100, 200)
    pose = SimpleNamespace(keypoints_xy=eyes, scores=np.isfinite(eyes[:, 0]).astype(float), score=1.0, skeleton=COCO)
    assert (1, 2) in COCO.edges
    drawn = draw_poses(np.full((400, 400, 3), 128, np.uint8), [pose])
    assert tuple(drawn[200, 200]) == COLOURS["middle"]


@pytest.mark.parametrize("left, right", [("left_", "right_"), ("l_", "r_"), ("L.", "R.")])
def test_sides_have_their_colours(left, right):
    pose = lsp_pose(scale=4)
    names = [name.replace("left_", left).replace("right_", right) for name in LSP.joint_names]
    pose.skeleton = replace(LSP, joint_names=tuple(names))
    drawn = draw_poses(np.full((400, 400, 3), 128, np.uint8), [pose])
    assert drawn.shape == (400, 400, 3) and drawn.dtype == np.uint8
    for (x, y), colour in (
        ((35, 85), "right leg"), ((60, 85), "left leg"), ((30, 32.5), "right arm"), ((65, 32.5), "left arm"),
        ((47, 12), "middle"), ((37.5, 40), "middle"), ((47.5, 55), "middle"),
    ):  # fmt: skip
        assert tuple(drawn[int(4 * y), int(4 * x)]) == COLOURS[colour], colour


def test_drawing_leaves_out_what_is_unsure_and_copies_unless_told():
    picture = noise(100, 90)
    before = picture.copy()
    np.testing.assert_array_equal(draw_poses(picture, [lsp_pose(0.1)]), before)
    np.testing.assert_array_equal(draw_poses(picture, []), before)
    unsure_leg = lsp_pose(np.where(np.arange(14) < 2, 0.1, 0.9))
    np.testing.assert_array_equal(draw_poses(picture, [unsure_leg])[62:, :45], before[62:, :45])
    assert (draw_poses(picture, [lsp_pose()]) != before).any() and (picture == before).all()
    assert draw_poses(picture, [lsp_pose()], copy=False) is picture and (picture != before).any()


def test_drawing_survives_wild_poses():
    pose = lsp_pose()
    pose.keypoints_xy[:4] = [[np.nan, 3], [1e12, 3], [-1e12, np.inf], [3, 1e7]]
    assert draw_poses(noise(30, 20), [pose, lsp_pose(scale=0)]).shape == (30, 20, 3)
    assert draw_poses(noise(1, 1), [lsp_pose(scale=0.01)]).shape == (1, 1, 3)


def test_heatmaps_shine_where_they_peak():
    crop = np.full((64, 48, 3), 200, np.uint8)
    heatmaps = np.zeros((14, 16, 12), np.float32)
    np.testing.assert_array_equal(heatmap_overlay(crop, heatmaps), np.full_like(crop, 120))
    heatmaps[3, 4, 9] = 1
    shown = heatmap_overlay(crop, heatmaps).astype(int)
    assert shown.shape == (64, 48, 3)
    y, x = np.unravel_index(np.abs(shown - 120).sum(axis=-1).argmax(), (64, 48))
    assert (y, x) == (16, 36)  # map pixel i speaks of crop pixel 4 i


def test_contact_sheet():
    images = [np.full((100 + 20 * i, 120, 3), 40 * i, np.uint8) for i in range(5)]
    sheet = contact_sheet(images, 3, [f"picture {i} with a title much longer than its cell is wide" for i in range(5)])
    assert sheet.shape == (8 + 2 * (140 + 18 + 8), 8 + 3 * (120 + 8), 3) and sheet.dtype == np.uint8
    for i, (row, column) in enumerate(((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))):
        assert (sheet[8 + 70 + row * 166, 8 + 60 + column * 128] == 40 * i).all()
    assert contact_sheet(images[:1], 9).shape[1] == 120 + 16
    with pytest.raises(ValueError, match="2 titles for 1"):
        contact_sheet(images[:1], 1, ["a", "b"])
    with pytest.raises(ValueError, match="a picture and a column"):
        contact_sheet([], 1)


def test_hidden_files_of_a_folder_are_no_pictures(tiny_weights, tmp_path):
    write_png(tmp_path / "1.png", noise(30, 40))
    (tmp_path / "._1.png").write_bytes(b"\0\5\x16\7")  # a Mac's, on a disk that is none of its own
    (tmp_path / ".walk_pose.mp4.part.mp4").write_bytes(b"")  # of a call that was killed
    assert predict_files(tmp_path, tmp_path / "out", weights=tiny_weights, progress=False) == 1


@pytest.mark.parametrize("rate", [211.222, 119.935, 64.1234, 59.94, 239.97, 999.9])
def test_slow_motion_becomes_a_video(tmp_path, rate):
    file = write_video(tmp_path / "slow.avi", [noise(32, 32)] * 3, rate=rate)
    assert predict_files([file], tmp_path / "out", weights=DotBackend(), progress=False) == 1
    drawn = cv2.VideoCapture(str(tmp_path / "out" / "slow_pose.mp4"))
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(rate, rel=1e-3)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are text")
def test_a_name_that_is_not_utf_8(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_png(tmp_path / "m.png", noise(30, 40)).rename(folder / os.fsdecode(b"m\xfcller.png"))
    write_png(folder / "z.png", noise(30, 40))
    assert predict_files(folder, tmp_path / "out", weights=DotBackend(), progress=False) == 2
    paths = {json.loads(file.read_text())["path"] for file in (tmp_path / "out").glob("*.json")}
    assert paths == {str(path) for path in folder.iterdir()}


def test_a_picture_too_large_to_be_read_does_not_stop_the_others(tmp_path, capsys):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0)  # more than OpenCV's 2³⁰ pixels
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    write_png(tmp_path / "z.png", noise(30, 40))
    with pytest.raises(UserError, match="1 of 2 inputs could not be done"):
        predict_files(tmp_path, tmp_path / "out", weights=DotBackend(), progress=False)
    assert "huge.png: too large to be read" in capsys.readouterr().err
    assert (tmp_path / "out" / "z.json").exists()


def test_joints_below_the_threshold_asked_for_are_not_drawn(tmp_path, tiny_weights):
    picture = write_png(tmp_path / "1.png", noise(60, 44))
    drawn = []
    for threshold in ("2", "0"):
        out = tmp_path / threshold
        words = ["predict", picture, "--weights", tiny_weights, "--out", out, "--score-threshold", threshold]
        assert main([str(word) for word in words]) == 0
        drawn.append(cv2.imread(str(out / "1_pose.jpg")).astype(int))
    plain = cv2.imdecode(cv2.imencode(".jpg", cv2.imread(str(picture)), [cv2.IMWRITE_JPEG_QUALITY, 92])[1], 1)
    assert (drawn[0] == plain).all() and (drawn[1] != plain).any()
