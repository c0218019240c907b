"""Metrics against other people's numbers and code (MPII's published figure, pycocotools, scipy), or hand counts.

"Mutants" are named wrong versions: each must change the number, or the test that guards it would be blind.
"""

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lgmpose import metrics
from lgmpose.data.mpii_truth import load_mpii_truth
from lgmpose.errors import UserError
from lgmpose.pose.skeletons import COCO, LSP, MPII, skeleton_from_category

seeds = st.integers(0, 2**32 - 1)


# ---------------------------------------------------------------- PCKh on MPII: the published figure

MPII_MEAN = 82.3367
MPII_ROW = {
    0: 65.20, 1: 73.44, 2: 82.00, 3: 81.86, 4: 73.28, 5: 65.69, 8: 97.71, 9: 95.60, 10: 76.40, 11: 83.37, 12: 92.15,
    13: 93.27, 14: 83.36, 15: 77.07,
}  # fmt: skip


@pytest.fixture(scope="module")
def mpii(shared_data):
    return load_mpii_truth(shared_data / "mpii_sample" / "val_truth_2958.mat")


def test_mpii_pckh_is_the_published_figure(mpii):
    result = metrics.mpii_pckh(mpii.published_xy_1based, mpii)
    assert result.mean_percent == pytest.approx(MPII_MEAN, abs=1e-4)
    for joint, percent in MPII_ROW.items():
        assert result.joint_percent[joint] == pytest.approx(percent, abs=0.005)
    assert len(result.joints) == 14 and result.num_persons == 2958 and result.num_without_size == 0
    assert result.joint_counts.sum() == (mpii.visibility > 0).sum() < mpii.visibility.size


def test_mpii_mutants_give_another_figure(mpii):
    """One quirk forgotten at a time. The published figure has four decimals, so a difference of 1e-3 is caught."""
    predicted, true, visibility, sizes = (
        mpii.published_xy_1based, mpii.keypoints_xy_1based, mpii.visibility, mpii.head_sizes
    )  # fmt: skip
    fourteen = metrics.pckh_joints(MPII)
    right = metrics.pck(predicted, true, visibility, sizes, 0.5, fourteen)
    assert right.mean_percent == pytest.approx(MPII_MEAN, abs=1e-4)
    half_perimeters = np.abs(mpii.head_boxes_xyxy[:, 2:] - mpii.head_boxes_xyxy[:, :2]).sum(axis=1) * 0.6
    mutants = {
        "0.6 forgotten": metrics.pck(predicted, true, visibility, sizes / 0.6, 0.5, fourteen).mean_percent,
        "half perimeter for diagonal": metrics.pck(
            predicted, true, visibility, half_perimeters, 0.5, fourteen
        ).mean_percent,
        "missing joints counted": metrics.pck(
            predicted, true, np.ones_like(visibility), sizes, 0.5, fourteen
        ).mean_percent,
        "pelvis and thorax counted": metrics.pck(predicted, true, visibility, sizes, 0.5).mean_percent,
        "neck left out too": metrics.pck(
            predicted, true, visibility, sizes, 0.5, [joint for joint in fourteen if joint != 8]
        ).mean_percent,
        "plain mean of joints": right.joint_percent[list(fourteen)].mean(),
        "0-based predictions": metrics.mpii_pckh(predicted - 1, mpii).mean_percent,
        "x and y swapped": metrics.pck(predicted[..., ::-1], true, visibility, sizes, 0.5, fourteen).mean_percent,
    }
    for name, percent in mutants.items():
        assert abs(percent - MPII_MEAN) > 1e-3, name


def test_one_based_is_the_inverse_of_counting_from_zero(mpii):
    zero_based = mpii.published_xy_1based - 1
    result = metrics.mpii_pckh(metrics.one_based(zero_based), mpii)
    assert result.mean_percent == pytest.approx(MPII_MEAN, abs=1e-4)


def test_mpii_truth_that_is_no_truth_is_refused(tmp_path, shared_data):
    from scipy.io import savemat

    with pytest.raises(UserError, match="no such file"):
        load_mpii_truth(tmp_path / "absent.mat")
    whole = (shared_data / "mpii_sample" / "val_truth_2958.mat").read_bytes()
    for name, data in (("cut.mat", whole[: len(whole) // 2]), ("text.mat", b"not MATLAB at all" * 20), ("0.mat", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=f"{name}: not a MATLAB file"):
            load_mpii_truth(tmp_path / name)
    savemat(tmp_path / "lacks.mat", {"jnt_missing": np.zeros((16, 3))})
    with pytest.raises(UserError, match="pos_gt_src"):
        load_mpii_truth(tmp_path / "lacks.mat")
    arrays = {"pos_gt_src": np.zeros((14, 2, 3)), "jnt_missing": np.zeros((14, 3)), "headboxes_src": np.ones((2, 2, 3))}
    savemat(tmp_path / "fourteen.mat", arrays)
    with pytest.raises(UserError, match="16 joints"):
        load_mpii_truth(tmp_path / "fourteen.mat")


# ---------------------------------------------------------------- PCK by hand


def standing_lsp() -> np.ndarray:
    """(1, 14, 2): a person in a 200 × 100 (H × W) picture. Hips 12 apart, shoulders 28 apart, 48 px between them."""
    xy = np.zeros((14, 2))
    for name, point in {
        "right_ankle": (40, 190), "right_knee": (42, 150), "right_hip": (44, 110), "left_hip": (56, 110),
        "left_knee": (58, 150), "left_ankle": (60, 190), "right_wrist": (20, 120), "right_elbow": (28, 92),
        "right_shoulder": (36, 62), "left_shoulder": (64, 62), "left_elbow": (72, 92), "left_wrist": (80, 120),
        "neck": (50, 56), "head_top": (50, 31),
    }.items():  # fmt: skip
        xy[LSP.index(name)] = point
    return xy[None]


TORSO = np.hypot(20, 48)  # 52: from the hip at x 44 to the shoulder at x 64, 48 px above


def test_torso_and_head_size_by_hand():
    xy, visible = standing_lsp(), np.ones((1, 14), int)
    assert TORSO == 52
    assert metrics.torso_size(xy, visible, LSP) == pytest.approx([52])
    assert metrics.head_size_from_joints(xy, visible, LSP) == pytest.approx([25])

    longer = xy.copy()
    longer[0, LSP.index("left_shoulder")] = (44 + 33, 110 - 56)  # right hip to left shoulder: hypot(33, 56) = 65
    assert metrics.torso_size(longer, visible, LSP) == pytest.approx([(52 + 65) / 2])
    one_diagonal = visible.copy()
    one_diagonal[0, LSP.index("left_hip")] = 0
    assert metrics.torso_size(longer, one_diagonal, LSP) == pytest.approx([65])  # same-side distances would differ
    no_diagonal = one_diagonal.copy()
    no_diagonal[0, LSP.index("left_shoulder")] = 0
    assert np.isnan(metrics.torso_size(longer, no_diagonal, LSP)).all()
    no_neck = visible.copy()
    no_neck[0, LSP.index("neck")] = 0
    assert np.isnan(metrics.head_size_from_joints(xy, no_neck, LSP)).all()


def test_skeletons_without_torso_or_head_are_refused():
    hand = skeleton_from_category({"name": "hand", "keypoints": ["wrist", "thumb", "index"]})
    with pytest.raises(UserError, match="no hips and shoulders"):
        metrics.torso_size(np.zeros((1, 3, 2)), np.ones((1, 3)), hand)
    with pytest.raises(UserError, match="no neck and head top"):
        metrics.head_size_from_joints(np.zeros((1, 17, 2)), np.ones((1, 17)), COCO)


def test_pck_by_hand():
    true, visible = standing_lsp(), np.ones((1, 14), int)
    predicted = true.copy()
    predicted[0, LSP.index("left_wrist")] += (0, 10.3)  # 10.4 = 0.2 × 52 is allowed: correct
    predicted[0, LSP.index("right_wrist")] += (10.5, 0)  # wrong
    predicted[0, LSP.index("left_knee")] += (8, 8)  # 11.3 px away, though 8 in x and 8 in y: wrong
    predicted[0, LSP.index("neck")] += (90, 0)  # wrong, but not one of the twelve
    sizes = metrics.torso_size(true, visible, LSP)
    twelve = metrics.pck(predicted, true, visible, sizes, joints=metrics.pck_joints(LSP))
    assert twelve.mean_percent == pytest.approx(100 * 10 / 12)
    assert twelve.joint_percent[LSP.index("left_wrist")] == 100 and twelve.joint_percent[LSP.index("neck")] == 0
    assert metrics.pck(predicted, true, visible, sizes).mean_percent == pytest.approx(100 * 11 / 14)  # all joints

    heads = metrics.pckh(predicted, true, visible, metrics.head_size_from_joints(true, visible, LSP), LSP)
    assert heads.mean_percent == pytest.approx(100 * 13 / 14)  # 12.5 px are allowed: only the neck is wrong
    assert len(heads.joints) == 14


def test_an_error_of_exactly_the_threshold_is_correct():
    """Whole errors of 7/10 of a size. Comparing with threshold × size would get some wrong: 0.7 × 90 < 63."""
    sizes = np.arange(10.0, 400, 10)
    predicted = np.stack([7 * sizes / 10, 0 * sizes], axis=-1)[:, None]  # (n, 1, 2)
    true, visible = np.zeros_like(predicted), np.ones((len(sizes), 1))
    assert metrics.pck(predicted, true, visible, sizes, 0.7).mean_percent == 100
    assert (predicted[:, 0, 0] <= 0.7 * sizes).mean() < 1  # the mutant
    assert metrics.pck(predicted + (1e-9, 0), true, visible, sizes, 0.7).mean_percent == 0


def test_mean_pools_all_labelled_joints_and_is_no_mean_of_means():
    true = np.repeat(standing_lsp(), 2, axis=0)
    visible = np.ones((2, 14), int)
    visible[1, 1:] = 0  # the second person has one labelled joint, and that is wrong
    predicted = true.copy()
    predicted[1, 0] += 1000
    predicted[1, 1:] = np.nan  # junk where nothing is labelled must not matter
    result = metrics.pck(predicted, true, visible, np.array([52.0, 52.0]))
    assert result.mean_percent == pytest.approx(100 * 14 / 15)  # neither (100 + 0) / 2 nor the mean over joints
    assert result.joint_counts.tolist() == [2] + [1] * 13
    assert result.joint_percent.tolist() == [50.0] + [100.0] * 13


def test_persons_without_a_size_are_left_out_and_counted():
    true = np.repeat(standing_lsp(), 4, axis=0)
    visible = np.ones((4, 14), int)
    visible[1, [LSP.index("left_hip"), LSP.index("right_hip")]] = 0
    true[2, [LSP.index("left_hip"), LSP.index("right_hip")]] = (50, 110)  # a torso of no length …
    true[2, [LSP.index("left_shoulder"), LSP.index("right_shoulder")]] = (50, 110)
    result = metrics.pck(true, true, visible, metrics.torso_size(true, visible, LSP))
    assert (result.num_persons, result.num_without_size) == (2, 2)
    assert result.joint_counts.tolist() == [2] * 14 and result.mean_percent == 100
    nobody = metrics.pck(true, true, visible, np.full(4, np.nan))
    assert np.isnan(nobody.mean_percent) and np.isnan(nobody.joint_percent).all() and nobody.num_without_size == 4
    assert np.isnan(nobody.interval()).all()


def test_nan_predictions_are_wrong_and_wrong_shapes_are_refused():
    true, visible = standing_lsp(), np.ones((1, 14))
    assert metrics.pck(np.full_like(true, np.nan), true, visible, np.array([52.0])).mean_percent == 0
    for bad in (true[:, :13], true[0], true[..., :1]):
        with pytest.raises(ValueError, match=r"\(n, K, 2\)"):
            metrics.pck(bad, true, visible, np.array([52.0]))
    with pytest.raises(ValueError, match=r"\(n, K, 2\)"):
        metrics.pck(true, true, visible, np.array(52.0))


@pytest.mark.parametrize("skeleton", [COCO, MPII, LSP], ids=lambda s: s.name)
def test_joints_of_the_means(skeleton):
    """The twelve are the same joints in every skeleton; PCKh leaves out pelvis and thorax only."""
    twelve = {skeleton.joint_names[joint] for joint in metrics.pck_joints(skeleton)}
    parts = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    assert twelve == {f"{side}_{part}" for side in ("left", "right") for part in parts}
    left_out = set(skeleton.joint_names) - {skeleton.joint_names[joint] for joint in metrics.pckh_joints(skeleton)}
    assert left_out == ({"pelvis", "thorax"} if skeleton is MPII else set())


def random_persons(seed: int, num: int = 6, skeleton=LSP):
    """Whole-numbered joints, so that moving and doubling them is exact in floating point."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, (480, 640), (num, skeleton.num_keypoints, 2)).astype(float)
    predicted = true + rng.integers(-60, 61, true.shape)
    return predicted, true, rng.integers(0, 3, true.shape[:2])


@given(seeds, st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(-3, 3))
@settings(max_examples=40, deadline=None)
def test_pck_does_not_change_when_the_picture_moves_grows_or_is_mirrored(seed, dx, dy, doublings):
    predicted, true, visible = random_persons(seed)
    sizes = metrics.torso_size(true, visible, LSP)
    before = metrics.pck(predicted, true, visible, sizes)

    def change(xy):
        return (xy + (dx, dy)) * 2.0**doublings

    moved = metrics.pck(
        change(predicted), change(true), visible, metrics.torso_size(change(true), visible, LSP)
    )
    np.testing.assert_array_equal(moved.correct, before.correct)
    swap, mirror = list(LSP.flip_permutation), np.array([-1.0, 1.0])
    mirrored_true, mirrored_visible = (true * mirror)[:, swap], visible[:, swap]
    mirrored = metrics.pck(
        (predicted * mirror)[:, swap], mirrored_true, mirrored_visible,
        metrics.torso_size(mirrored_true, mirrored_visible, LSP),
    )  # fmt: skip
    np.testing.assert_array_equal(mirrored.correct[:, swap], before.correct)


@given(seeds, st.floats(0, 2), st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_pck_rises_with_the_threshold(seed, a, b):
    predicted, true, visible = random_persons(seed)
    sizes = metrics.torso_size(true, visible, LSP)
    low, high = (metrics.pck(predicted, true, visible, sizes, threshold) for threshold in sorted((a, b)))
    assert (low.correct <= high.correct).all()
    assert not (high.correct & (visible == 0)).any()
    assert (high.counted == low.counted).all()


# ---------------------------------------------------------------- bootstrap


def test_bootstrap_equals_scipys():
    """scipy.stats.bootstrap, paired and by percentiles, draws persons from another stream: equal up to the drawing."""
    rng = np.random.default_rng(1)
    skill = rng.random((300, 1))
    correct, counted = rng.random((300, 14)) < skill, rng.random((300, 14)) < 0.8
    ours = metrics.bootstrap_interval(correct, counted, seed=0, num=10_000)
    theirs = stats.bootstrap(
        ((correct & counted).sum(1), counted.sum(1)),
        lambda hits, totals, axis=-1: 100 * hits.sum(axis) / totals.sum(axis),
        paired=True, vectorized=True, method="percentile", n_resamples=10_000, rng=rng,
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert ours == pytest.approx(tuple(theirs), abs=0.05 * width)  # a 90 % interval would be off by 0.08
    # Mutant: drawing single joints instead of persons takes the joints of a person for independent.
    single = metrics.bootstrap_interval(correct[counted][:, None], np.ones((counted.sum(), 1)), seed=0)
    assert single[1] - single[0] < 0.6 * width


def test_bootstrap_is_seeded_and_cancels_what_is_shared():
    rng = np.random.default_rng(2)
    counted = rng.random((200, 12)) < 0.9
    correct_a = rng.random((200, 12)) < rng.random((200, 1))
    interval = metrics.bootstrap_interval(correct_a, counted, seed=3)
    assert interval == metrics.bootstrap_interval(correct_a, counted, seed=3)
    assert interval != metrics.bootstrap_interval(correct_a, counted, seed=4)
    assert interval[0] < 100 * correct_a[counted].mean() < interval[1]
    correct_b = correct_a & (rng.random((200, 12)) < 0.97)  # a little worse on the same persons
    low, high = metrics.bootstrap_interval(correct_a.astype(int) - correct_b, counted, seed=3)
    assert 0 < low < 100 * (correct_a[counted].mean() - correct_b[counted].mean()) < high < interval[1] - interval[0]
    # Persons without a counted joint take no part, however many there are.
    padded = np.concatenate([counted, np.zeros((500, 12), bool)])
    assert metrics.bootstrap_interval(np.concatenate([correct_a, np.ones((500, 12), bool)]), padded, 3) == interval


# ---------------------------------------------------------------- OKS against pycocotools


@contextlib.contextmanager
def quiet():
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def their_oks(predicted, truth, visibility, areas, boxes, sigmas):
    """pycocotools' computeOks on one picture of a data set made up around the arrays."""
    from pycocotools.coco import COCO as CocoAPI
    from pycocotools.cocoeval import COCOeval

    def flat(xy, third):
        return np.concatenate([xy, np.asarray(third, float)[:, None]], axis=1).ravel().tolist()

    api = CocoAPI()
    api.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": float(areas[i]),
                "bbox": boxes[i].tolist(), "num_keypoints": int((visibility[i] > 0).sum()),
                "keypoints": flat(truth[i], visibility[i]),
            }
            for i in range(len(truth))
        ],
    }  # fmt: skip
    results = [  # falling scores, as computeOks sorts by them
        {"image_id": 1, "category_id": 1, "score": 1 - i / 100, "keypoints": flat(xy, np.ones(len(xy)))}
        for i, xy in enumerate(predicted)
    ]
    with quiet():
        api.createIndex()
        evaluation = COCOeval(api, api.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.params.imgIds, evaluation.params.catIds = [1], [1]
        evaluation._prepare()
        return evaluation.computeOks(1, 1)


@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(1, 20), st.floats(0, 300), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_oks_equals_pycocotools_on_random_persons(seed, n, m, num_keypoints, spread_px, share_labelled):
    rng = np.random.default_rng(seed)
    truth = rng.normal(200, 100, (m, num_keypoints, 2))
    predicted = truth[rng.integers(0, m, n)] + rng.normal(0, spread_px, (n, num_keypoints, 2))
    visibility = rng.integers(1, 3, (m, num_keypoints)) * (rng.random((m, num_keypoints)) < share_labelled)
    visibility[rng.random(m) < 0.3] = 0  # some persons have no labelled joint
    areas = rng.uniform(0, 4e4, m) * (rng.random(m) < 0.9)  # some have no area
    boxes = np.concatenate([rng.normal(150, 100, (m, 2)), rng.uniform(0, 300, (m, 2))], axis=1)
    sigmas = rng.uniform(0.02, 0.15, num_keypoints)
    ours = metrics.oks(predicted, truth, visibility, areas, sigmas, boxes)
    np.testing.assert_allclose(
        ours, their_oks(predicted, truth, visibility, areas, boxes, sigmas), rtol=0, atol=1e-9
    )
    assert ours.shape == (n, m) and (ours >= 0).all() and (ours <= 1).all()


@pytest.fixture(scope="module")
def sample(shared_data):
    """The real annotations: path, and arrays of the 14 persons (two have no labelled joint)."""
    path = shared_data / "coco_sample" / "person_keypoints_sample.json"
    persons = json.loads(path.read_text())["annotations"]
    keypoints = np.array([person["keypoints"] for person in persons], float).reshape(-1, 17, 3)
    return {
        "path": path,
        "image_ids": np.array([person["image_id"] for person in persons]),
        "xy": keypoints[..., :2],
        "visibility": keypoints[..., 2],
        "areas": np.array([person["area"] for person in persons]),
        "boxes": np.array([person["bbox"] for person in persons]),
    }


@pytest.mark.parametrize("spread_px", [0, 1, 5, 25])
def test_oks_equals_pycocotools_on_real_persons(sample, spread_px):
    from pycocotools.coco import COCO as CocoAPI
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(spread_px)
    predicted = sample["xy"] + rng.normal(0, spread_px, sample["xy"].shape)
    scores = 1 - np.arange(14) / 100
    with quiet():
        api = CocoAPI(str(sample["path"]))
        results = metrics.coco_results(sample["image_ids"], predicted, np.ones((14, 17)), scores)
        evaluation = COCOeval(api, api.loadRes(results), "keypoints")
        evaluation.evaluate()
    for image_id in np.unique(sample["image_ids"]):
        here = sample["image_ids"] == image_id
        ours = metrics.oks(
            predicted[here], sample["xy"][here], sample["visibility"][here], sample["areas"][here], COCO.oks_sigmas,
            sample["boxes"][here],
        )  # fmt: skip
        np.testing.assert_allclose(ours, evaluation.ious[image_id, 1], rtol=0, atol=1e-9)


def test_oks_by_hand_and_its_mutants():
    """One joint, σ 0.1, area 400, 3 px right and 4 px down: exp(−25 / (2 · 400 · 0.04))."""
    truth, predicted = np.array([[[10.0, 20.0], [0, 0]]]), np.array([[[13.0, 24.0], [500, 500]]])
    value = metrics.oks(predicted, truth, np.array([[1, 0]]), np.array([400.0]), [0.1, 0.1])
    assert value == pytest.approx(np.exp(-25 / 32))
    for wrong in (np.exp(-25 / 64), np.exp(-25 / 16), np.exp(-25 / 8), np.exp(-25 / 32) / 2):  # 2, σ or mask forgotten
        assert abs(value - wrong) > 0.05
    # An area of 0 is taken for np.spacing(1) = 2.2e-16, as pycocotools does: 1e-9 px off is then no longer perfect.
    dot = metrics.oks(truth + 1e-9, truth, np.array([[1, 0]]), np.zeros(1), [0.1, 0.1])
    assert dot == pytest.approx(np.exp(-2e-18 / 0.04 / np.spacing(1) / 2), abs=1e-5) and dot < 0.95
    with pytest.raises(ValueError, match="boxes"):
        metrics.oks(predicted, truth, np.zeros((1, 2)), np.array([400.0]), [0.1, 0.1])
    assert metrics.oks(np.zeros((0, 2, 2)), truth, np.ones((1, 2)), np.array([400.0]), [0.1, 0.1]).shape == (0, 1)
    empty = metrics.oks(predicted, np.zeros((0, 2, 2)), np.zeros((0, 2)), np.zeros(0), [0.1, 0.1], np.zeros((0, 4)))
    assert empty.shape == (1, 0)


# ---------------------------------------------------------------- NMS and rescoring


def slow_nms(poses, scores, areas, sigmas, threshold):
    """NMS as one would explain it: walk down the ranking, keep whoever is not too like somebody kept before."""

    def likeness(i, j):
        total = 0.0
        for k, sigma in enumerate(sigmas):
            dx, dy = poses[i][k][0] - poses[j][k][0], poses[i][k][1] - poses[j][k][1]
            scale = (areas[i] + areas[j]) / 2
            total += float(np.exp(-(dx * dx + dy * dy) / (2 * scale * (2 * sigma) ** 2)))
        return total / len(sigmas)

    ranking = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    for i in ranking:
        if all(likeness(i, j) <= threshold for j in kept):
            kept.append(i)
    return kept


@given(seeds, st.integers(0, 25), st.sampled_from([0.3, 0.6, 0.9]), st.booleans())
@settings(max_examples=50, deadline=None)
def test_nms_equals_the_slow_one(seed, num, threshold, ties):
    rng = np.random.default_rng(seed)
    people = rng.uniform(0, (640, 480), (4, 17, 2))
    poses = people[rng.integers(0, 4, num)] + rng.normal(0, 1, (num, 17, 2)) * rng.uniform(0, 15, (num, 1, 1))
    scores = rng.integers(0, 3, num) / 2 if ties else rng.random(num)
    areas = rng.uniform(1e3, 4e4, num)
    kept = metrics.oks_nms(poses, scores, areas, COCO.oks_sigmas, threshold)
    assert kept.tolist() == slow_nms(poses.tolist(), scores.tolist(), areas.tolist(), COCO.oks_sigmas, threshold)


def test_nms_on_real_detector_boxes(shared_data):
    """118 boxes of a detector with the same pose stretched into each: boxes on one person become like poses."""
    boxes = json.loads((shared_data / "coco_sample" / "person_detections_sample.json").read_text())
    template = np.random.default_rng(0).random((17, 2))
    dropped = 0
    for image_id in {box["image_id"] for box in boxes}:
        here = [box for box in boxes if box["image_id"] == image_id]
        box_xywh, scores = np.array([box["bbox"] for box in here]), np.array([box["score"] for box in here])
        poses = box_xywh[:, None, :2] + template * box_xywh[:, None, 2:]
        areas = box_xywh[:, 2:].prod(axis=1) * 1.25**2
        kept = metrics.oks_nms(poses, scores, areas, COCO.oks_sigmas)
        assert kept.tolist() == slow_nms(poses, scores, areas, COCO.oks_sigmas, 0.9)
        assert kept[0] == scores.argmax() and (np.diff(scores[kept]) <= 0).all()
        dropped += len(here) - len(kept)
    assert dropped > 0


def test_nms_by_hand():
    """Joints shifted by d all have OKS exp(−d² / (2 · area · (2σ)²)): with area 400, σ 0.1, 0.9 lies at d = 1.836."""
    pose = np.array([[10.0, 50.0], [30.0, 20.0], [25.0, 70.0]])
    border_px = np.sqrt(-np.log(0.9) * 32)
    for shift_px, num_kept in ((0, 1), (border_px - 0.01, 1), (border_px + 0.01, 2)):
        poses = np.stack([pose, pose + (shift_px, 0)])
        kept = metrics.oks_nms(poses, np.array([0.3, 0.8]), np.array([400.0, 400.0]), [0.1] * 3)
        assert kept.tolist() == [1, 0][:num_kept]
    # The scale is the mean of both areas, 400 here, neither the kept one's 100 nor the other's 700.
    poses = np.stack([pose, pose + (border_px + 0.01, 0)])
    for areas, num_kept in (((100, 700), 2), ((700, 100), 2), ((100, 720), 1), ((720, 100), 1)):
        assert len(metrics.oks_nms(poses, np.array([0.3, 0.8]), np.array(areas, float), [0.1] * 3)) == num_kept
    # Suppression does not pass on: c is like b, but b was dropped for being like a.
    chain = np.stack([pose, pose + (1.5, 0), pose + (3, 0)])
    assert metrics.oks_nms(chain, np.array([0.9, 0.8, 0.7]), np.full(3, 400.0), [0.1] * 3).tolist() == [0, 2]
    assert metrics.oks_nms(np.zeros((0, 3, 2)), np.zeros(0), np.zeros(0), [0.1] * 3).tolist() == []


def test_rescoring_by_hand():
    joint_scores = np.array([[0.9, 0.5, 0.2, 0.1], [0.2, 0.1, 0.0, -0.3], [0.25, 0.25, 0.25, 0.25]])
    # 0.2 itself takes no part: (0.9 + 0.5) / 2 × 0.5; nobody above: 0; 0.25 × 1
    assert metrics.rescore(joint_scores, np.array([0.5, 0.9, 1.0])) == pytest.approx([0.35, 0, 0.25])
    assert metrics.rescore(joint_scores, np.ones(3), threshold=0.6) == pytest.approx([0.9, 0, 0])
    assert metrics.rescore(np.zeros((0, 4)), np.zeros(0)).shape == (0,)


# ---------------------------------------------------------------- COCO's average precision


def perfect_results(sample, keep=slice(None)):
    """The labelled persons themselves as predictions."""
    labelled = np.flatnonzero((sample["visibility"] > 0).any(axis=1))[keep]
    num = len(labelled)
    return metrics.coco_results(
        sample["image_ids"][labelled], sample["xy"][labelled], np.ones((num, 17)), np.linspace(1, 0.5, num)
    )


def test_perfect_prediction_has_ap_one(sample):
    results = perfect_results(sample)
    assert len(results) == 12
    figures = metrics.coco_ap(results, sample["path"])
    assert tuple(figures) == metrics.AP_NAMES
    assert figures == pytest.approx(dict.fromkeys(metrics.AP_NAMES, 1.0))
    assert set(results[0]) == {"image_id", "category_id", "keypoints", "score"}  # not written into
    assert json.loads(json.dumps(results)) == results


def test_ap_when_persons_are_missed_is_the_recall_points_reached(sample):
    """9 of 12 found, all of them right: recall 0.75, and precision 1 at 76 of the 101 recall points 0, 0.01 … 1."""
    figures = metrics.coco_ap(perfect_results(sample, slice(0, 9)), sample["path"])
    assert figures["AR"] == pytest.approx(0.75)
    assert figures["AP"] == pytest.approx(76 / 101)


def test_ap_falls_with_wrong_poses_and_ranking(sample):
    def ap(xy, scores=None):
        labelled = (sample["visibility"] > 0).any(axis=1)
        scores = np.ones(12) if scores is None else scores
        results = metrics.coco_results(sample["image_ids"][labelled], xy[labelled], np.ones((12, 17)), scores)
        return metrics.coco_ap(results, sample["path"])["AP"]

    swapped = sample["xy"][:, list(COCO.flip_permutation)]
    assert ap(swapped) < 0.6
    assert ap(sample["xy"][..., ::-1]) < 0.1  # y, x
    blurred = [ap(sample["xy"] + np.random.default_rng(0).normal(0, px, sample["xy"].shape)) for px in (0, 2, 5, 20)]
    assert blurred == sorted(blurred, reverse=True) and blurred[-1] < 0.5 < blurred[0]
    half_wrong = sample["xy"].copy()
    half_wrong[:7] += 1000
    wrong = (np.arange(14) < 7)[(sample["visibility"] > 0).any(axis=1)]
    assert ap(half_wrong, np.where(wrong, 0.1, 0.9)) > ap(half_wrong, np.where(wrong, 0.9, 0.1)) + 0.1


def test_ap_on_chosen_pictures_with_chosen_sigmas_and_a_loaded_api(sample):
    from pycocotools.coco import COCO as CocoAPI

    with quiet():
        api = CocoAPI(str(sample["path"]))
    first = int(sample["image_ids"][0])  # holds one labelled person, a large one
    results = perfect_results(sample)
    others_missed = [result for result in results if result["image_id"] == first]
    assert metrics.coco_ap(others_missed, api)["AR"] == pytest.approx(1 / 12)
    alone = metrics.coco_ap(others_missed, api, image_ids=[first])
    assert (alone["AR"], alone["APL"]) == pytest.approx((1, 1))
    assert alone["APM"] == alone["ARM"] == -1  # no medium person there
    assert metrics.coco_ap(results, api, image_ids=[first]) == alone

    blurred = [dict(result) for result in results]
    for result in blurred:
        result["keypoints"] = (np.array(result["keypoints"]) + 5).tolist()
    strict, usual, lax = (
        metrics.coco_ap(blurred, api, sigmas=factor * np.array(COCO.oks_sigmas))["AP"] for factor in (0.5, 1, 3)
    )
    assert strict < usual < lax and usual == metrics.coco_ap(blurred, api)["AP"]


def test_no_results_are_zero_and_nothing_is_printed(sample, capsys):
    assert metrics.coco_ap([], sample["path"]) == dict.fromkeys(metrics.AP_NAMES, 0.0)
    metrics.coco_ap(perfect_results(sample), sample["path"])
    assert capsys.readouterr() == ("", "")


def test_results_are_plain_numbers(sample):
    results = metrics.coco_results(
        np.array([7, 8], np.int32), np.arange(12, dtype=np.float32).reshape(2, 3, 2), np.full((2, 3), 0.5, np.float32),
        np.array([0.25, 1], np.float32), category_id=np.int64(3),
    )  # fmt: skip
    assert results[1] == {"image_id": 8, "category_id": 3, "keypoints": [6, 7, 0.5, 8, 9, 0.5, 10, 11, 0.5], "score": 1}
    kinds = {type(value) for result in results for value in (result["image_id"], result["score"], *result["keypoints"])}
    assert kinds == {int, float}
    assert metrics.coco_results([], np.zeros((0, 3, 2)), np.zeros((0, 3)), []) == []
    with pytest.raises(ValueError, match="NaN"):
        metrics.coco_results([1], np.full((1, 3, 2), np.nan), np.ones((1, 3)), [1.0])
    with pytest.raises(ValueError, match="match"):
        metrics.coco_results([1, 2], np.zeros((1, 3, 2)), np.ones((1, 3)), [1.0])


@pytest.fixture(params=metrics.AP_ENGINES)
def engine(request):
    return pytest.importorskip(request.param) and request.param


def blurred_results(sample, rng):
    xy = sample["xy"] + rng.normal(0, 6, sample["xy"].shape)
    return metrics.coco_results(sample["image_ids"], xy, np.ones((14, 17)), rng.random(14))


def test_ap_of_a_real_file_is_what_pycocotools_makes_of_it(sample, engine):
    from pycocotools.coco import COCO as CocoAPI
    from pycocotools.cocoeval import COCOeval

    for seed in range(5):
        results = blurred_results(sample, np.random.default_rng(seed))
        with quiet():
            api = CocoAPI(str(sample["path"]))
            evaluation = COCOeval(api, api.loadRes([dict(result) for result in results]), "keypoints")
            for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
                step()
        ours = metrics.coco_ap(results, sample["path"], engine=engine)
        assert list(ours.values()) == pytest.approx(evaluation.stats.tolist(), rel=0, abs=1e-12)
        assert 0 < ours["AP"] < 1


def test_ap_fills_in_what_files_leave_out(sample, tmp_path, engine):
    """``load_coco`` reads such files, and a training must not end at its first evaluation for them."""
    path, data = tmp_path / "own.json", json.loads(sample["path"].read_text())
    persons, results = data["annotations"], blurred_results(sample, np.random.default_rng(0))

    def ap(persons, **changes):
        path.write_text(json.dumps({**data, "annotations": persons} | changes))
        return metrics.coco_ap(results, path, engine=engine)

    def without(*keys):
        return [{key: value for key, value in person.items() if key not in keys} for person in persons]

    expected = ap(persons)
    assert 0 < expected["AP"] < 1
    assert ap(without("id", "iscrowd", "num_keypoints")) == expected
    assert ap([{**person, "id": i} for i, person in enumerate(persons)]) == expected  # 0 is taken for "no match"
    boxes = ap([{**person, "area": person["bbox"][2] * person["bbox"][3]} for person in persons])
    assert ap(without("area")) == ap([{**person, "area": 0} for person in persons]) == boxes != expected
    unlabelled = [np.array(person["keypoints"], object).reshape(-1, 3) for person in persons]
    for joints in unlabelled:
        joints[joints[:, 2] == 0, :2] = None
    unlabelled = [{**p, "keypoints": j.ravel().tolist()} for p, j in zip(persons, unlabelled, strict=True)]
    assert ap(unlabelled) == expected
    others = [{"id": 1, "category_id": 2}, {"category_id": 3, "image_id": 1, "keypoints": [1, 2, 2]}, {}]
    categories = [*data["categories"], {"id": 2, "name": "dog"}, {"id": 3, "name": "cat", "keypoints": ["tail"]}]
    assert ap(persons + others, categories=categories) == expected
    # A crowd excuses whom it hides, by its box; COCO gives it joints, all of them zeros.
    crowd = {"image_id": persons[-1]["image_id"], "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 640, 480]}
    as_coco_has_it = ap([*persons, {**crowd, "id": 99, "area": 9e4, "keypoints": [0] * 51, "num_keypoints": 0}])
    assert ap([*persons, crowd]) == ap([*persons, {**crowd, "keypoints": []}]) == as_coco_has_it != expected
    assert ap([*persons, {**crowd, "bbox": None}]) == expected


def test_ap_refuses_what_it_cannot_evaluate(sample, tmp_path):
    results = perfect_results(sample)
    with pytest.raises(UserError, match="no such file"):
        metrics.coco_ap(results, tmp_path / "absent.json")
    whole = sample["path"].read_text()
    data = json.loads(whole)
    for name, text in (("cut.json", whole[: len(whole) // 2]), ("list.json", "[]"), ("empty.json", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=f"{name}: not (a COCO annotation|valid JSON)"):
            metrics.coco_ap(results, tmp_path / name)
    (tmp_path / "test-dev.json").write_text(json.dumps({"images": data["images"], "categories": data["categories"]}))
    with pytest.raises(UserError, match="no persons"):
        metrics.coco_ap(results, tmp_path / "test-dev.json")
    without = [{key: value for key, value in p.items() if key != "keypoints"} for p in data["annotations"]]
    boxes_only = {**data, "annotations": without}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes_only))
    with pytest.raises(UserError, match="has no keypoints"):
        metrics.coco_ap(results, tmp_path / "boxes.json")
    for key in ("image_id", "category_id"):
        with pytest.raises(UserError, match="does not list"):
            metrics.coco_ap([{**results[0], key: 123456789}], sample["path"])
    with pytest.raises(UserError, match="keypoint numbers"):
        metrics.coco_ap(results, sample["path"], sigmas=LSP.oks_sigmas)


# ---------------------------------------------------------------- weight of the import


def test_metrics_import_neither_torch_nor_matplotlib():
    code = "import sys, lgmpose.metrics; print(*({'torch', 'matplotlib', 'scipy', 'pycocotools'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


# ---------------------------------------------------------------- kinds of errors


def test_error_kinds_by_hand():
    """One person, torso 10, PCK@0.2: within 2 pixels is right, within 4 near."""
    names = ("left_hip", "right_hip", "head_top", "left_knee", "right_knee")
    true = np.array([[[0, 0], [100, 0], [50, 100], [0, 50], [100, 50]]], float)
    skeleton = skeleton_from_category({"keypoints": list(names)})

    def kinds(predicted, visibility=(1, 1, 1, 1, 1)):
        result = metrics.pck(np.array([predicted], float), true, np.array([visibility]), [10.0], 0.2)
        found = metrics.error_kinds(result, np.array([predicted], float), true, skeleton)
        assert list(found) == list(metrics.ERROR_KINDS)
        assert sum(found.values()) + result.mean_percent == pytest.approx(100)
        return {kind: share for kind, share in found.items() if share}

    assert kinds([[2, 0], [0, 1], [0, 50], [0, 47], [70, 70]]) == {"side": 20, "name": 20, "near": 20, "lost": 20}
    assert kinds([[0, 0], [100, 0], [50, 98], [100, 50], [0, 50]]) == {"side": 40}
    assert kinds([[0, 0], [100, 0], [np.nan, np.nan], [0, 50], [100, 50]]) == {"lost": 20}
    assert kinds([[0, 0], [100, 0], [50, 104], [0, 54.1], [100, 50]]) == {"near": 20, "lost": 20}
    # A place whose label is missing is nobody's; what is right by a hair's breadth stays right beside its twin.
    assert kinds([[100, 0], [5, 5], [50, 100], [0, 50], [100, 50]], (1, 0, 1, 1, 1)) == {"lost": 25}
    true[0, 1] = 0, 3
    assert kinds([[0, 2], [0, 1], [50, 100], [0, 50], [100, 50]]) == {}


def test_error_kinds_pool_persons_of_the_mean_only():
    rng = np.random.default_rng(0)
    true, visibility = rng.uniform(0, 100, (30, 14, 2)), rng.random((30, 14)) < 0.8
    sizes = np.where(np.arange(30) % 5, 20.0, np.nan)
    predicted = true + rng.normal(0, 8, true.shape)
    predicted[::2] = predicted[::2][:, LSP.flip_permutation]
    result = metrics.pck(predicted, true, visibility, sizes, 0.2, metrics.pck_joints(LSP))
    kinds = metrics.error_kinds(result, predicted, true, LSP)
    assert sum(kinds.values()) + result.mean_percent == pytest.approx(100) and min(kinds.values()) > 0
    sides = metrics.pck(predicted[:, LSP.flip_permutation], true, visibility, sizes, 0.2, metrics.pck_joints(LSP))
    twin_counted = result.counted[:, LSP.flip_permutation]
    exchanged = sides.correct[:, LSP.flip_permutation] & twin_counted & result.counted & ~result.correct
    pool = list(result.joints)
    assert kinds["side"] == pytest.approx(100 * exchanged[:, pool].sum() / result.counted[:, pool].sum())
    nobody = metrics.pck(predicted, true, np.zeros_like(visibility), sizes, 0.2)
    assert all(np.isnan(share) for share in metrics.error_kinds(nobody, predicted, true, LSP).values())
