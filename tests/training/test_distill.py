"""Learning from a teacher: the targets, its peaks in picture pixels, which networks can teach, and a whole run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_tools import losses_of

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.errors import UserError
from lgmpose.inference.backends import flip_tested
from lgmpose.peers.tinypose import read_ncnn
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.geometry import crop_matrix, invert_matrix, transform_points
from lgmpose.pose.skeletons import COCO, LSP
from lgmpose.training.checkpoint import fingerprint
from lgmpose.training.distill import TEACHER_FILE, Teacher, mixed_targets, open_teacher, teach, teacher_peaks
from lgmpose.training.trainer import train
from lgmpose.zoo.catalogue import create_model, save_weights

IMAGE_HW = (64, 48)
CODEC = make_codec("dark", IMAGE_HW, 1.5)
XY = np.array([[[20.0, 20], [30, 40], [10, 50], [40, 10]]])
VISIBLE = np.array([[2, 2, 2, 0]])


def peaks(*heights: float, moved=(0.0, 0.0, 0.0, 0.0)) -> np.ndarray:
    return np.concatenate([XY + np.array(moved)[:, None], np.array(heights)[None, :, None]], axis=-1)


def test_without_peaks_the_targets_are_the_labels():
    heatmaps, weights = mixed_targets(CODEC, 0.5, XY, VISIBLE, peaks(0.1, 0, 0, 0.2))
    expected = CODEC.encode(XY, VISIBLE)
    np.testing.assert_array_equal(heatmaps, expected[0])
    np.testing.assert_array_equal(weights, expected[1])


def test_label_and_teacher_share_a_joint_where_they_agree_and_a_missing_joint_is_the_teachers():
    found = peaks(0.8, 0.8, 0.8, 0.5, moved=(1.5, 0, 9, 0))  # 9 pixels are more than 4 % of 64
    heatmaps, weights = mixed_targets(CODEC, 0.25, XY, VISIBLE, found)
    labels, maps = CODEC.encode(XY, np.ones((1, 4)))[0], CODEC.encode(found[..., :2], np.ones((1, 4)))[0]
    np.testing.assert_allclose(heatmaps[0, 0], 0.75 * labels[0, 0] + 0.25 * 0.8 * maps[0, 0], atol=1e-6)
    np.testing.assert_allclose(heatmaps[0, 2], labels[0, 2])
    np.testing.assert_allclose(heatmaps[0, 3], 0.5 * maps[0, 3])
    np.testing.assert_allclose(weights[0], [1, 1, 1, (0.5 - 0.2) / (0.6 - 0.2)], rtol=1e-6)


def test_a_teacher_who_looks_at_somebody_else_adds_no_joints():
    elsewhere = peaks(0.9, 0.9, 0.9, 0.9, moved=(9, 9, 0, 0))  # one of three labels agrees
    assert mixed_targets(CODEC, 0.5, XY, VISIBLE, elsewhere)[1].tolist() == [[1, 1, 1, 0]]
    both = np.concatenate([elsewhere, peaks(0.9, 0.9, 0.9, 0.9)])  # the second person is the teacher's, too
    weights = mixed_targets(CODEC, 0.5, XY.repeat(2, 0), VISIBLE.repeat(2, 0), both)[1]
    assert weights.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    nobody = np.zeros((1, 4), int)
    assert mixed_targets(CODEC, 0.5, XY, nobody, elsewhere)[1].tolist() == [[1, 1, 1, 1]]


class Fixed:
    """A network whose peaks are at one place of every crop, as high as the crop's upper half is bright."""

    def heatmaps(self, crops):
        points = np.broadcast_to([20.0, 24.0], (len(crops), 14, 2))
        brightness = crops[:, :32].mean((1, 2, 3)) / 255
        return CODEC.encode(points, np.ones((len(crops), 14)))[0] * brightness[:, None, None, None]


@pytest.mark.parametrize("turns", [False, True])
def test_peaks_are_in_picture_pixels_and_belong_to_the_joints_of_the_data(people, turns):
    record_set = load_records(f"synthetic:{people}", "train").first(3)
    found = teach(Teacher(Fixed(), LSP, CODEC), record_set, turns=turns, progress=False)
    assert found.shape == (len(record_set), 17, 3)
    known = [COCO.joint_names.index(name) for name in LSP.joint_names if name in COCO.joint_names]
    assert (found[:, known, 2] > 0).all() and np.delete(found[..., 2], known, axis=1).max() == 0
    middle = flip_tested(Fixed().heatmaps, np.full((1, *IMAGE_HW, 3), 255, np.uint8), LSP, CODEC)
    crop_xy = CODEC.decode(middle)[0][0, 0]
    for record, rows in zip(record_set.records, found, strict=True):
        places = []
        for angle in (0, 90, 180, 270) if turns else (0,):
            size = record.size_wh[::-1] if angle in (90, 270) else record.size_wh
            matrix = crop_matrix(record.center_xy, size, IMAGE_HW, rotation_deg=angle)
            places.append(transform_points(invert_matrix(matrix), crop_xy[None])[0])
        assert min(np.abs(rows[known[0], :2] - place).max() for place in places) < 0.05


def test_a_run_keeps_its_teachers_peaks_and_another_run_takes_them(config, people, tmp_path, capsys):
    torch.manual_seed(5)
    save_weights(tmp_path / "teacher.safetensors", create_model("tiny"), COCO, make_codec("dark", (64, 32)))
    config = replace(config, teacher=str(tmp_path / "teacher.safetensors"), epochs=1)
    train(config, tmp_path / "one", progress=False)
    assert not any(capsys.readouterr())  # no bar of the teacher's, of the training or of the evaluation
    record_set = load_records(config.data, "train")
    expected = teach(open_teacher(config.teacher, "cpu"), record_set, turns=False, progress=False)
    with np.load(tmp_path / "one" / TEACHER_FILE) as content:
        np.testing.assert_array_equal(content["peaks"], expected)
    again = replace(config, teacher=str(tmp_path / "one" / TEACHER_FILE))
    train(again, tmp_path / "two", progress=False)
    assert losses_of(tmp_path / "one") == losses_of(tmp_path / "two")
    turned = teacher_peaks(replace(config, teacher_turns=True), record_set, tmp_path / "turned.npz", progress=False)
    assert not np.array_equal(turned, expected) and (turned[..., 2].mean(1) >= expected[..., 2].mean(1) - 1e-6).all()
    weighted = replace(record_set, parts=((len(record_set), 0.5),))  # the persons are the same
    np.testing.assert_array_equal(teacher_peaks(again, weighted, tmp_path / "x.npz"), expected)
    with pytest.raises(UserError, match="other persons"):
        teacher_peaks(again, record_set.first(4), tmp_path / "x.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK")
    for name in ("bad.npz", "absent.npz", "absent.onnx", "absent.param"):
        with pytest.raises(UserError, match=name.removesuffix("param")):
            teacher_peaks(replace(config, teacher=str(tmp_path / name)), record_set, tmp_path / "x.npz")


@pytest.fixture
def two_teachers(tmp_path) -> list[str]:
    files = [str(tmp_path / name / "teacher.safetensors") for name in ("a", "b")]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        Path(file).parent.mkdir()
        save_weights(file, create_model("tiny"), COCO, make_codec("dark", (64, 32)))
    return files


@pytest.mark.parametrize("change", ["teacher", "teacher_turns", "persons"])
def test_a_run_that_starts_again_with_another_teacher_asks_it(config, two_teachers, tmp_path, capsys, change):
    config, record_set = replace(config, teacher=two_teachers[0]), load_records(config.data, "train")
    file = tmp_path / TEACHER_FILE
    first = teacher_peaks(config, record_set, file, progress=False)
    before = file.stat().st_ino
    np.testing.assert_array_equal(teacher_peaks(config, record_set, file), first)
    assert file.stat().st_ino == before and capsys.readouterr().out == ""
    if change == "persons":
        record_set = record_set.first(4)
    else:
        config = replace(config, **{change: two_teachers[1] if change == "teacher" else True})
    found = teacher_peaks(config, record_set, file)
    assert str(file) in capsys.readouterr().out
    expected = teach(open_teacher(config.teacher, "cpu"), record_set, turns=config.teacher_turns, progress=False)
    np.testing.assert_array_equal(found, expected)
    with np.load(file) as content:
        np.testing.assert_array_equal(content["peaks"], expected)


def test_a_resumed_run_keeps_its_peaks_without_its_teacher(config, two_teachers, tmp_path, capsys):
    config = replace(config, teacher=two_teachers[0], epochs=1)
    train(config, tmp_path / "run", progress=False)
    before = (tmp_path / "run" / TEACHER_FILE).read_bytes()
    Path(two_teachers[0]).unlink()
    train(config, tmp_path / "run", resume=True, progress=False)
    assert (tmp_path / "run" / TEACHER_FILE).read_bytes() == before


def test_the_teacher_changes_what_is_learned(config, tmp_path):
    record_set = load_records(config.data, "train")
    shape = (len(record_set), 17)
    points = np.stack([record.keypoints_xy for record in record_set.records])
    rows = np.concatenate([points, np.full((*shape, 1), 0.5)], axis=-1).astype(np.float32)
    made_by = f'{{"data": {fingerprint(record_set)}}}'.replace("'", '"')
    np.savez(tmp_path / "teacher.npz", peaks=rows, made_by=made_by)
    losses = []
    for share in (0.0, 1.0):
        changed = replace(config, teacher=str(tmp_path / "teacher.npz"), teacher_share=share, epochs=1)
        train(changed, tmp_path / str(share), progress=False)
        losses.append(losses_of(tmp_path / str(share))[0])
    assert losses[1] < 0.5 * losses[0]  # half as high, so a quarter of the squares while the network predicts about 0


def write_onnx(path, joints: int, batch):
    """Write a network that shows joint k the mean of the red values of each 4 × 4 pixels, times k."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    weight = np.zeros((joints, 3, 4, 4), np.float32)
    weight[:, 0] = np.arange(joints)[:, None, None] / 16
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[4, 4], strides=[4, 4])
    ends = [helper.make_tensor_value_info("x", 1, (batch, 3, 32, 24)),
            helper.make_tensor_value_info("y", 1, (batch, joints, 8, 6))]  # fmt: skip
    graph = helper.make_graph([node], "net", [ends[0]], [ends[1]], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@pytest.mark.parametrize("batch", [1, "n"])
def test_any_onnx_file_with_heatmaps_teaches(tmp_path, batch):
    teacher = open_teacher(write_onnx(tmp_path / "net.onnx", 17, batch))
    assert teacher.skeleton is COCO and teacher.codec.image_hw == (32, 24)
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 24, 3), np.uint8)
    red = (crops[..., 0] / 255 - 0.485) / 0.229
    expected = red.reshape(3, 8, 4, 6, 4).mean((2, 4))
    np.testing.assert_allclose(teacher.net.heatmaps(crops)[:, 2], 2 * expected, atol=1e-4)
    with pytest.raises(UserError, match="five.onnx"):
        open_teacher(write_onnx(tmp_path / "five.onnx", 5, batch))


def test_an_exported_ncnn_file_teaches_what_its_weights_teach(tmp_path):
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    torch.manual_seed(2)
    save_weights(tmp_path / "net.safetensors", create_model("tiny"), COCO, make_codec("udp", (64, 32)))
    arguments = ["--weights", tmp_path / "net.safetensors", "--format", "ncnn", "--out", tmp_path / "net.param"]
    assert main(["export", *map(str, arguments)]) == 0
    ours, theirs = (open_teacher(str(tmp_path / name), "cpu") for name in ("net.safetensors", "net.param"))
    assert theirs.skeleton is COCO and str(theirs.codec) == str(ours.codec)
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 32, 3), np.uint8)
    np.testing.assert_allclose(theirs.net.heatmaps(crops), ours.net.heatmaps(crops), atol=1e-5)


def test_other_ncnn_files_are_refused(tmp_path):
    (tmp_path / "net.bin").write_bytes(bytes(8))
    (tmp_path / "net.param").write_text("7767517\n1 1\nConvolution c 1 1 x y 0=4 6=12\n")
    with pytest.raises(UserError, match="net.param"):
        read_ncnn(tmp_path / "net.param")
    with pytest.raises(UserError, match="absent"):
        read_ncnn(tmp_path / "absent.param")
