"""OKS, OKS-NMS and rescoring: against pycocotools, a slow version, and by hand."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgmpose import metrics
from lgmpose.pose.skeletons import COCO

seeds = st.integers(0, 2**32 - 1)


@contextlib.contextmanager
def quiet():
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def their_oks(predicted, truth, visibility, areas, sigmas):
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
                "bbox": [0, 0, 1, 1], "num_keypoints": int((visibility[i] > 0).sum()),
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
    visibility[np.arange(m), rng.integers(0, num_keypoints, m)] = 2  # each person has a labelled joint
    areas = rng.uniform(0, 4e4, m) * (rng.random(m) < 0.9)  # some have no area
    sigmas = rng.uniform(0.02, 0.15, num_keypoints)
    ours = metrics.oks(predicted, truth, visibility, areas, sigmas)
    np.testing.assert_allclose(ours, their_oks(predicted, truth, visibility, areas, sigmas), rtol=0, atol=1e-9)
    assert ours.shape == (n, m) and (ours >= 0).all() and (ours <= 1).all()


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
    with pytest.raises(ValueError, match="labelled"):
        metrics.oks(predicted, truth, np.zeros((1, 2)), np.array([400.0]), [0.1, 0.1])
    assert metrics.oks(np.zeros((0, 2, 2)), truth, np.ones((1, 2)), np.array([400.0]), [0.1, 0.1]).shape == (0, 1)
    empty = metrics.oks(predicted, np.zeros((0, 2, 2)), np.zeros((0, 2)), np.zeros(0), [0.1, 0.1])
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


def test_thresholds_are_the_fields():
    """NMS drops above 0.9 and a person's score is the mean of the joints above 0.2, where nothing else is asked for."""
    pose = np.array([[10.0, 50.0]])
    for oks, num_kept in ((0.901, 1), (0.899, 2)):
        poses = np.stack([pose, pose + (np.sqrt(-np.log(oks) * 32), 0)])
        assert len(metrics.oks_nms(poses, np.ones(2), np.full(2, 400.0), [0.1])) == num_kept
    assert metrics.JOINT_SCORE_THRESHOLD == 0.2
    assert metrics.rescore(np.array([[0.19, 0.21]]), np.ones(1)) == pytest.approx([0.21])
