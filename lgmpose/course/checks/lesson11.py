"""Tasks of lesson 11: PCK, PCKh, OKS, average precision, and non-maximum suppression by OKS."""

import numpy as np

from lgmpose.course.checks import compare, compare_prediction, task
from lgmpose.metrics import coco_ap, coco_results, oks_nms, pck, rescore
from lgmpose.pose.skeletons import COCO

ERRORS_PX = np.array([[10.0, 0], [10, 0], [10, 0], [13, 0]])  # of the lesson's four joints


@task("11.1", "easy", way="0.2 × 65 = 13 pixels are allowed, and an error of exactly 13 is allowed, too")
def check_longer_torso(prediction) -> str:
    result = pck(ERRORS_PX[None], np.zeros((1, 4, 2)), np.ones((1, 4)), np.array([65.0]))
    return compare_prediction(prediction, result.mean_percent, atol=0.5, unit="%")


@task("11.2", "medium", forbidden=("pck", "pckh"))
def check_pck(attempt) -> None:
    rng = np.random.default_rng(5)
    for case, B, hidden, threshold in (
        ("one person", 1, 0.0, 0.2),
        ("persons of different size", 6, 0.0, 0.2),
        ("some joints not labelled", 6, 0.4, 0.2),
        ("the threshold 0.7, an error exactly on it", 3, 0.2, 0.7),
    ):
        true_BK2, torso_B = rng.uniform(0, 300, (B, 5, 2)).round(), rng.uniform(20, 120, B)
        predicted_BK2 = true_BK2 + rng.normal(0, 12, (B, 5, 2)) * torso_B[:, None, None] / 60
        visible_BK = np.where(rng.random((B, 5)) < hidden, 0, rng.integers(1, 3, (B, 5)))
        visible_BK[0, 0] = 2
        if threshold == 0.7:
            torso_B[0], predicted_BK2[0, 0] = 90.0, true_BK2[0, 0] + (63, 0)
        expected = pck(predicted_BK2, true_BK2, visible_BK, torso_B, threshold).mean_percent
        compare(attempt(predicted_BK2, true_BK2, visible_BK, torso_B, threshold), expected, case)


@task("11.3", "easy", way="Diagonal of the box, times 0.6, times 0.5")
def check_head(prediction) -> str:
    return compare_prediction(prediction, 0.5 * 0.6 * float(np.hypot(30, 40)), atol=0.1, unit="pixels")


@task("11.4", "medium", way="Set the exponent to −1/2: d = 2σ√A")
def check_wrist_distance(prediction) -> str:
    measured = 2 * COCO.oks_sigmas[COCO.index("left_wrist")] * 10_000**0.5
    return compare_prediction(prediction, measured, rtol=0.02, unit="pixels")


@task("11.5", "easy", forbidden=("rescore",))
def check_score(attempt) -> None:
    rng = np.random.default_rng(8)
    for case, joint_scores_K in (
        ("all joints sure", rng.uniform(0.3, 1, 17)),
        ("some joints below 0.2", rng.uniform(0, 0.5, 17)),
        ("a joint at exactly 0.2", np.array([0.9, 0.7, 0.1, 0.2])),
        ("no joint above 0.2", np.array([0.1, 0.2, 0.05])),
    ):
        expected = float(rescore(joint_scores_K[None], np.array([0.5]))[0])
        compare(attempt(joint_scores_K.copy(), 0.5), expected, case)


@task("11.6", "hard")
def check_match(attempt) -> None:
    rng = np.random.default_rng(9)
    cases = [(np.array([0.9, 0.8, 0.6]), np.array([[0.8, 0.3], [0.75, 0.4], [0.2, 0.55]]), t) for t in (0.5, 0.75)]
    cases.append((np.array([0.7]), np.array([[0.5]]), 0.5))  # exactly at the threshold
    # The better free person is taken, although it is not the first one; and the order of the scores decides.
    cases.append((np.array([0.3, 0.9, 0.5]), np.array([[0.9, 0.6], [0.6, 0.7], [0.2, 0.8]]), 0.5))
    cases += [(rng.random(n), rng.random((n, m)), 0.5) for n, m in ((4, 3), (6, 2), (2, 5))]
    for scores, oks_nm, threshold in cases:
        got = attempt(scores.copy(), oks_nm.copy(), threshold)
        got = [bool(value) for value in got] if isinstance(got, (tuple, list, np.ndarray)) else got
        case = f"{len(scores)} proposals, {oks_nm.shape[1]} true persons, threshold {threshold}"
        compare(got, _matched(scores, oks_nm, threshold), case)


def _matched(scores: np.ndarray, oks_nm: np.ndarray, threshold: float) -> list[bool]:
    taken, right = np.zeros(oks_nm.shape[1], bool), []
    for i in np.argsort(-scores, kind="stable"):
        free = np.where(taken, -1.0, oks_nm[i])
        right.append(bool(free.max() >= threshold))
        taken[free.argmax()] |= right[-1]
    return right


@task("11.7", "medium", way="Add height × width of the three parts of the staircase")
def check_staircase(prediction) -> str:
    people = np.random.default_rng(4).uniform(0, 200, (4, 17, 2))
    poses = np.concatenate([people[:2], people[:1] + 5000, people[2:3], people[:1] + 9000])
    measured = _ap(people, [1, 2, 3, 4], poses, [1, 2, 3, 3, 4], np.linspace(0.9, 0.5, 5))
    return compare_prediction(prediction, measured, atol=0.01)


@task("11.8", "medium", way="The OKS of each pose is 14 / 17. Count the thresholds that it passes")
def check_three_lost_joints(prediction) -> str:
    people = np.random.default_rng(4).uniform(0, 200, (10, 17, 2))
    poses = people.copy()
    poses[:, :3] += 5000
    measured = _ap(people, range(1, 11), poses, range(1, 11), np.linspace(0.5, 0.9, 10))
    return compare_prediction(prediction, measured, atol=0.02)


@task("11.9", "hard", forbidden=("oks_nms",))
def check_pose_nms(attempt) -> None:
    rng, sigmas = np.random.default_rng(3), np.array(COCO.oks_sigmas)
    for case in range(8):
        num_people, copies = 3 + case % 2, 3
        people = rng.uniform(0, 300, (num_people, 17, 2))
        poses = np.repeat(people, copies, axis=0) + rng.normal(0, 4, (num_people * copies, 17, 2))
        areas = rng.uniform(2000, 40000, len(poses))
        order, scores = rng.permutation(len(poses)), rng.random(len(poses))
        poses = poses[order]
        threshold = (0.9, 0.6, 0.75, 0.3)[case % 4]
        got = attempt(poses.copy(), scores.copy(), areas.copy(), sigmas.copy(), threshold)
        expected = oks_nms(poses, scores, areas, sigmas, threshold)
        compare(got, expected, f"called with {len(poses)} poses and the threshold {threshold}")
    # Three poses in a row: the middle one is similar to both others and is dropped; the outer two are kept.
    chain = people[0] + np.arange(3)[:, None, None] * 4.0
    got = attempt(chain, np.array([0.9, 0.8, 0.7]), np.full(3, 5000.0), sigmas, 0.6)
    compare(got, np.array([0, 2]), "called with three poses, the middle one similar to both others")
    # Two equal poses have an OKS of exactly the threshold, 1; the third pose is far away.
    poses = np.concatenate([people[:1], people[:1], people[1:2] + 4000])
    got = attempt(poses, np.array([0.5, 0.9, 0.7]), np.full(3, 5000.0), sigmas, 1.0)
    compare(got, np.array([1, 2, 0]), "called with two equal poses and the threshold 1")


@task("11.10", "medium", way="Draw the staircase for both rankings; it takes the best precision from each recall on")
def check_false_persons(prediction) -> str:
    """Compute AP with false persons scored lower than all true persons, then higher."""
    people = np.random.default_rng(4).uniform(0, 200, (10, 17, 2))
    poses, ids, measured = np.concatenate([people, people + 5000]), [*range(1, 11)], []
    for score in (0.1, 0.95):
        scores = np.concatenate([np.linspace(0.5, 0.9, 10), np.full(10, score)])
        measured.append(_ap(people, ids, poses, [*ids, *ids], scores))
    return compare_prediction(prediction, tuple(measured), atol=0.02)


def _ap(people_BK2: np.ndarray, true_ids, poses_BK2: np.ndarray, ids, scores: np.ndarray) -> float:
    """Return the AP of poses; each true person is alone in its picture, and all joints are labelled."""
    joints_BK3 = np.concatenate([people_BK2, np.full((len(people_BK2), 17, 1), 2.0)], axis=2)
    person = {"category_id": 1, "iscrowd": 0, "area": 5000.0, "bbox": [0, 0, 200, 200], "num_keypoints": 17}
    truth = {
        "images": [{"id": i} for i in true_ids],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            person | {"id": i, "image_id": i, "keypoints": joints.ravel().tolist()}
            for i, joints in zip(true_ids, joints_BK3, strict=True)
        ],
    }
    return coco_ap(coco_results(list(ids), poses_BK2, np.ones((len(poses_BK2), 17)), scores), truth)["AP"]
