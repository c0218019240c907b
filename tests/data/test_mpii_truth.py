"""MPII's validation truth and its PCKh: the published figure on the real file, and a count by hand on a small one.

"Mutants" are named wrong versions: each must change the number, or the test that guards it would be blind.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from lgmpose.data.mpii_truth import HEAD_BOX_FACTOR, MPIITruth, load_mpii_truth, mpii_pckh, one_based
from lgmpose.errors import UserError
from lgmpose.metrics import pck, pckh_joints
from lgmpose.pose.skeletons import MPII

MPII_MEAN = 82.3367
MPII_ROW = {
    0: 65.20, 1: 73.44, 2: 82.00, 3: 81.86, 4: 73.28, 5: 65.69, 8: 97.71, 9: 95.60, 10: 76.40, 11: 83.37, 12: 92.15,
    13: 93.27, 14: 83.36, 15: 77.07,
}  # fmt: skip


@pytest.fixture(scope="module")
def real(shared_data) -> MPIITruth:
    return load_mpii_truth(shared_data / "mpii_sample" / "val_truth_2958.mat")


def small_truth(num: int = 60) -> tuple[np.ndarray, MPIITruth]:
    """Predictions (1-based) and the truth of some made-up persons, a fifth of the joints missing."""
    rng = np.random.default_rng(0)
    true_xy = rng.uniform(50, 600, (num, 16, 2))
    corners = rng.uniform(50, 600, (num, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(30, 70, (num, 2))], axis=1)
    published = true_xy + rng.normal(0, 1, true_xy.shape) * np.where(np.arange(16) == 8, 3, 16)[:, None]
    return published, MPIITruth(true_xy, (rng.random((num, 16)) < 0.8).astype(int), boxes, published)


def test_pckh_by_hand():
    predicted, truth = small_truth()
    for threshold in (0.1, 0.5):
        right = total = 0
        for person in range(60):
            left, top, right_edge, bottom = truth.head_boxes_xyxy[person]
            head = 0.6 * np.hypot(right_edge - left, bottom - top)
            for joint in range(16):
                if joint not in (6, 7) and truth.visibility[person, joint]:
                    dx, dy = predicted[person, joint] - truth.keypoints_xy_1based[person, joint]
                    right, total = right + (np.hypot(dx, dy) / head <= threshold), total + 1
        result = mpii_pckh(predicted, truth, threshold)
        assert 5 < result.mean_percent < 95
        assert result.mean_percent == pytest.approx(100 * right / total)
    assert mpii_pckh(predicted, truth).mean_percent == result.mean_percent  # 0.5 is the default
    assert HEAD_BOX_FACTOR == 0.6


@pytest.mark.parametrize("which", ["small", "real"])
def test_mutants_give_another_figure(which, request):
    """One quirk forgotten at a time. The published figure has four decimals, so a difference of 1e-3 is caught."""
    truth = small_truth()[1] if which == "small" else request.getfixturevalue("real")
    predicted, true, visibility, sizes = (
        truth.published_xy_1based, truth.keypoints_xy_1based, truth.visibility, truth.head_sizes
    )  # fmt: skip
    fourteen = pckh_joints(MPII)
    right = mpii_pckh(predicted, truth)
    assert right.mean_percent == pck(predicted, true, visibility, sizes, 0.5, fourteen).mean_percent
    half_perimeters = np.abs(truth.head_boxes_xyxy[:, 2:] - truth.head_boxes_xyxy[:, :2]).sum(axis=1) * 0.6
    no_neck = [joint for joint in fourteen if joint != 8]
    mutants = {
        "0.6 forgotten": pck(predicted, true, visibility, sizes / 0.6, 0.5, fourteen).mean_percent,
        "half perimeter for diagonal": pck(predicted, true, visibility, half_perimeters, 0.5, fourteen).mean_percent,
        "missing joints counted": pck(predicted, true, visibility * 0 + 1, sizes, 0.5, fourteen).mean_percent,
        "pelvis and thorax counted": pck(predicted, true, visibility, sizes, 0.5).mean_percent,
        "neck left out too": pck(predicted, true, visibility, sizes, 0.5, no_neck).mean_percent,
        "plain mean of joints": right.joint_percent[list(fourteen)].mean(),
        "0-based predictions": mpii_pckh(predicted - 1, truth).mean_percent,
        "x and y swapped": pck(predicted[..., ::-1], true, visibility, sizes, 0.5, fourteen).mean_percent,
    }
    for name, percent in mutants.items():
        assert abs(percent - right.mean_percent) > 1e-3, name


def test_the_published_figure(real):
    result = mpii_pckh(one_based(real.published_xy_1based - 1), real)
    assert result.mean_percent == pytest.approx(MPII_MEAN, abs=1e-4)
    for joint, percent in MPII_ROW.items():
        assert result.joint_percent[joint] == pytest.approx(percent, abs=0.005)
    assert len(result.joints) == 14 and result.num_persons == 2958
    assert result.counted.sum() == (real.visibility > 0).sum() < real.visibility.size


def save_truth(path, truth: MPIITruth, **changes):
    arrays = {
        "pos_gt_src": truth.keypoints_xy_1based.transpose(1, 2, 0),
        "jnt_missing": 1 - truth.visibility.T,
        "headboxes_src": truth.head_boxes_xyxy.reshape(-1, 2, 2).transpose(1, 2, 0),
        "pos_pred_src": truth.published_xy_1based.transpose(1, 2, 0),
    }
    savemat(path, {name: array for name, array in (arrays | changes).items() if array is not None})
    return path


def test_the_file_is_read_as_it_was_written(tmp_path):
    _, truth = small_truth()
    read = load_mpii_truth(save_truth(tmp_path / "truth.mat", truth))
    for name in ("keypoints_xy_1based", "visibility", "head_boxes_xyxy", "published_xy_1based", "head_sizes"):
        np.testing.assert_allclose(getattr(read, name), getattr(truth, name), err_msg=name)
    assert load_mpii_truth(save_truth(tmp_path / "bare.mat", truth, pos_pred_src=None)).published_xy_1based is None


def test_files_that_are_no_truth_are_refused(tmp_path):
    _, truth = small_truth()
    whole = save_truth(tmp_path / "whole.mat", truth).read_bytes()
    for name, data in (("cut.mat", whole[: len(whole) // 2]), ("text.mat", b"not MATLAB at all" * 20), ("0.mat", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            load_mpii_truth(tmp_path / name)
    with pytest.raises(UserError, match="absent.mat"):
        load_mpii_truth(tmp_path / "absent.mat")
    for name, change in (
        ("pos_gt_src", None), ("jnt_missing", None), ("headboxes_src", None), ("pos_gt_src", np.zeros((14, 2, 60))),
        ("jnt_missing", np.zeros((16, 9))), ("headboxes_src", np.zeros((4, 60))),
    ):  # fmt: skip
        save_truth(tmp_path / "other.mat", truth, **{name: change})
        with pytest.raises(UserError, match="other.mat"):
            load_mpii_truth(tmp_path / "other.mat")
