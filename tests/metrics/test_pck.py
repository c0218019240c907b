"""PCK, PCKh, their intervals and the kinds of errors: against hand counts and scipy.

"Mutants" are named wrong versions: each must change the number, or the test that guards it would be blind.
"""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgmpose import metrics
from lgmpose.errors import UserError
from lgmpose.pose.skeletons import COCO, LSP, MPII, skeleton_from_category

seeds = st.integers(0, 2**32 - 1)


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
    with pytest.raises(UserError, match="hand.*hip"):
        metrics.torso_size(np.zeros((1, 3, 2)), np.ones((1, 3)), hand)
    with pytest.raises(UserError, match="coco-17.*neck"):
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
    assert result.counted.sum(axis=0).tolist() == [2] + [1] * 13
    assert result.joint_percent.tolist() == [50.0] + [100.0] * 13


def test_persons_without_a_size_are_left_out():
    true = np.repeat(standing_lsp(), 4, axis=0)
    visible = np.ones((4, 14), int)
    visible[1, [LSP.index("left_hip"), LSP.index("right_hip")]] = 0
    true[2, [LSP.index("left_hip"), LSP.index("right_hip")]] = (50, 110)  # a torso of no length …
    true[2, [LSP.index("left_shoulder"), LSP.index("right_shoulder")]] = (50, 110)
    result = metrics.pck(true, true, visible, metrics.torso_size(true, visible, LSP))
    assert result.num_persons == 2
    assert result.counted.sum(axis=0).tolist() == [2] * 14 and result.mean_percent == 100
    nobody = metrics.pck(true, true, visible, np.full(4, np.nan))
    assert np.isnan(nobody.mean_percent) and np.isnan(nobody.joint_percent).all() and nobody.num_persons == 0
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


def test_bootstrap_is_the_percentile_method_over_persons():
    """The definition in a loop. The stream of random numbers is NumPy's, so it is equal but for rounding."""
    rng = np.random.default_rng(1)
    correct, counted = rng.random((300, 14)) < rng.random((300, 1)), rng.random((300, 14)) < 0.8
    hits, totals = (correct & counted).sum(1), counted.sum(1)
    draws, percents = np.random.default_rng(5), []
    for _ in range(700):
        chosen = draws.integers(300, size=300)
        percents.append(100 * hits[chosen].sum() / totals[chosen].sum())
    low, high = metrics.bootstrap_interval(correct, counted, seed=5, num=700)
    assert (low, high) == pytest.approx(tuple(np.percentile(percents, (2.5, 97.5))), rel=1e-12)
    assert metrics.bootstrap_interval(hits, totals, 5, 700) == (low, high)  # counts instead of flags
    # Mutant: drawing single joints instead of persons takes the joints of a person for independent.
    single = metrics.bootstrap_interval(correct[counted][:, None], np.ones((counted.sum(), 1)), seed=0)
    assert single[1] - single[0] < 0.6 * (high - low)


def test_bootstrap_of_one_person_or_none():
    counted = np.array([[True, True, False, True]])
    assert metrics.bootstrap_interval(np.array([[True, False, True, True]]), counted) == pytest.approx((200 / 3,) * 2)
    assert np.isnan(metrics.bootstrap_interval(counted, ~counted & False)).all()


def test_a_results_interval_is_over_the_joints_of_its_mean():
    predicted, true, visible = random_persons(3, num=40)
    sizes = np.full(40, 60.0)
    result = metrics.pck(predicted, true, visible, sizes, 0.5, metrics.pck_joints(LSP))
    pool = list(result.joints)
    expected = metrics.bootstrap_interval(result.correct[:, pool], result.counted[:, pool], 0, 1000)
    assert result.interval() == expected
    assert result.interval(1) == metrics.bootstrap_interval(result.correct[:, pool], result.counted[:, pool], 1)
    assert result.interval(num=50) != expected != metrics.bootstrap_interval(result.correct, result.counted)


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
    # Persons without a counted joint are left out, however many there are.
    padded = np.concatenate([counted, np.zeros((500, 12), bool)])
    assert metrics.bootstrap_interval(np.concatenate([correct_a, np.ones((500, 12), bool)]), padded, 3) == interval


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


# ---------------------------------------------------------------- weight of the import


def test_metrics_import_neither_torch_nor_matplotlib():
    code = "import sys, lgmpose.metrics; print(*({'torch', 'matplotlib', 'scipy', 'pycocotools'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""

