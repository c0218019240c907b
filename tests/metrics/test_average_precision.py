"""COCO's AP: against pycocotools itself, by hand, and on annotation files that other tools write."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest

from lgmpose import metrics
from lgmpose.errors import UserError
from lgmpose.pose.skeletons import COCO, LSP


@contextlib.contextmanager
def quiet():
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def generated_content() -> dict:
    """Fourteen persons in four pictures, medium and large, two of them without a labelled joint; a large one alone."""
    rng, persons = np.random.default_rng(0), []
    for i, image_id in enumerate([785, *[40083] * 5, *[196141] * 6, 197388, 197388]):
        height = 90.0 if i % 3 == 1 else 220.0
        box = np.array([rng.uniform(0, 500), rng.uniform(0, 250), height / 2, height])
        xy = box[:2] + rng.uniform(0.05, 0.95, (17, 2)) * box[2:]
        visibility = np.zeros(17) if i in (4, 13) else rng.choice([0, 1, 2], 17, p=[0.2, 0.2, 0.6])
        xy[visibility == 0] = 0
        persons.append({
            "id": 100 + i, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": box.tolist(),
            "area": 0.53 * box[2] * box[3], "num_keypoints": int((visibility > 0).sum()),
            "keypoints": np.column_stack([xy.round(2), visibility]).ravel().tolist(),
        })  # fmt: skip
    images = [
        {"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in (785, 40083, 196141, 197388)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(COCO.joint_names), "skeleton": []}
    return {"images": images, "categories": [category], "annotations": persons}


@pytest.fixture(scope="module", params=["generated", "real"])
def sample(request, tmp_path_factory):
    """An annotation file of 14 persons, 12 of them labelled: its path, and arrays of all."""
    if request.param == "real":
        path = request.getfixturevalue("shared_data") / "coco_sample" / "person_keypoints_sample.json"
    else:
        path = tmp_path_factory.mktemp("ap") / "persons.json"
        path.write_text(json.dumps(generated_content()))
    persons = json.loads(path.read_text())["annotations"]
    keypoints = np.array([person["keypoints"] for person in persons], float).reshape(-1, 17, 3)
    return {
        "path": path,
        "image_ids": np.array([person["image_id"] for person in persons]),
        "xy": keypoints[..., :2],
        "visibility": keypoints[..., 2],
    }


def perfect_results(sample, keep=slice(None)):
    """The labelled persons themselves as predictions."""
    labelled = np.flatnonzero((sample["visibility"] > 0).any(axis=1))[keep]
    num = len(labelled)
    return metrics.coco_results(
        sample["image_ids"][labelled], sample["xy"][labelled], np.ones((num, 17)), np.linspace(1, 0.5, num)
    )


def blurred_results(sample, seed=0):
    rng = np.random.default_rng(seed)
    xy = sample["xy"] + rng.normal(0, 6, sample["xy"].shape)
    return metrics.coco_results(sample["image_ids"], xy, np.ones((14, 17)), rng.random(14))


# ---------------------------------------------------------------- right figures


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
    labelled = (sample["visibility"] > 0).any(axis=1)

    def ap(xy, scores=None):
        scores = np.ones(12) if scores is None else scores
        results = metrics.coco_results(sample["image_ids"][labelled], xy[labelled], np.ones((12, 17)), scores)
        return metrics.coco_ap(results, sample["path"])["AP"]

    assert ap(sample["xy"][:, list(COCO.flip_permutation)]) < 0.6
    assert ap(sample["xy"][..., ::-1]) < 0.1  # y, x
    blurred = [ap(sample["xy"] + np.random.default_rng(0).normal(0, px, sample["xy"].shape)) for px in (0, 2, 5, 20)]
    assert blurred == sorted(blurred, reverse=True) and blurred[-1] < 0.5 < blurred[0]
    half_wrong = sample["xy"].copy()
    half_wrong[:7] += 1000
    wrong = (np.arange(14) < 7)[labelled]
    assert ap(half_wrong, np.where(wrong, 0.1, 0.9)) > ap(half_wrong, np.where(wrong, 0.9, 0.1)) + 0.1


def test_ap_on_chosen_pictures_with_chosen_sigmas_and_decoded_content(sample):
    content = json.loads(sample["path"].read_text())
    before = copy.deepcopy(content)
    first = int(sample["image_ids"][0])  # holds one labelled person, a large one
    results = perfect_results(sample)
    others_missed = [result for result in results if result["image_id"] == first]
    assert metrics.coco_ap(others_missed, content)["AR"] == pytest.approx(1 / 12)
    alone = metrics.coco_ap(others_missed, content, image_ids=[first])
    assert (alone["AR"], alone["APL"]) == pytest.approx((1, 1))
    assert alone["APM"] == alone["ARM"] == -1  # no medium person there
    assert metrics.coco_ap(results, content, image_ids=[first]) == alone

    blurred = [dict(result) for result in results]
    for result in blurred:
        result["keypoints"] = (np.array(result["keypoints"]) + 5).tolist()
    strict, usual, lax = (
        metrics.coco_ap(blurred, content, sigmas=factor * np.array(COCO.oks_sigmas))["AP"] for factor in (0.5, 1, 1.8)
    )
    assert strict < usual < lax and usual == metrics.coco_ap(blurred, content)["AP"]
    assert content == before


def test_no_results_are_zero_and_nothing_is_printed(sample, capsys):
    assert metrics.coco_ap([], sample["path"]) == dict.fromkeys(metrics.AP_NAMES, 0.0)
    metrics.coco_ap(perfect_results(sample), sample["path"])
    assert capsys.readouterr() == ("", "")


def test_results_are_plain_numbers():
    results = metrics.coco_results(
        np.array([7, 8], np.int32), np.arange(12, dtype=np.float32).reshape(2, 3, 2), np.full((2, 3), 0.5, np.float32),
        np.array([0.25, 1], np.float32), category_id=np.int64(3),
    )  # fmt: skip
    assert results[1] == {"image_id": 8, "category_id": 3, "keypoints": [6, 7, 0.5, 8, 9, 0.5, 10, 11, 0.5], "score": 1}
    kinds = {type(value) for result in results for value in (*result.values(), *result["keypoints"])}
    assert kinds == {int, float, list}
    assert metrics.coco_results([7], np.zeros((1, 3, 2)), np.zeros((1, 3)), [0.5])[0]["category_id"] == 1
    assert metrics.coco_results([], np.zeros((0, 3, 2)), np.zeros((0, 3)), []) == []
    with pytest.raises(ValueError, match="NaN"):
        metrics.coco_results([1], np.full((1, 3, 2), np.nan), np.ones((1, 3)), [1.0])
    with pytest.raises(ValueError, match="NaN"):
        metrics.coco_results([1], np.zeros((1, 3, 2)), np.ones((1, 3)), [np.inf])
    with pytest.raises(ValueError, match="2 image ids"):
        metrics.coco_results([1, 2], np.zeros((1, 3, 2)), np.ones((1, 3)), [1.0])


def test_ap_of_a_whole_file_is_what_pycocotools_makes_of_it(sample):
    from pycocotools.coco import COCO as CocoAPI
    from pycocotools.cocoeval import COCOeval

    for seed in range(5):
        results = blurred_results(sample, seed)
        with quiet():
            api = CocoAPI(str(sample["path"]))
            evaluation = COCOeval(api, api.loadRes([dict(result) for result in results]), "keypoints")
            for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
                step()
        ours = metrics.coco_ap(results, sample["path"])
        assert list(ours.values()) == pytest.approx(evaluation.stats.tolist(), rel=0, abs=1e-12)
        assert 0 < ours["AP"] < 1


# ---------------------------------------------------------------- files of other tools


@pytest.fixture
def ap_of(sample):
    """AP of blurred predictions against the sample's persons, changed; and these persons."""
    content, results = json.loads(sample["path"].read_text()), blurred_results(sample)

    def ap(persons, **changes):
        return metrics.coco_ap(results, {**content, "annotations": persons} | changes)

    return ap, content["annotations"], content


def without(persons, *keys):
    return [{key: value for key, value in person.items() if key not in keys} for person in persons]


def test_ap_fills_in_what_files_leave_out(ap_of):
    ap, persons, content = ap_of
    expected = ap(persons)
    assert 0 < expected["AP"] < 1
    assert ap(without(persons, "id", "iscrowd", "num_keypoints")) == expected
    assert ap([{**person, "id": i} for i, person in enumerate(persons)]) == expected  # 0 is taken for "no match"
    texts = [{**p, "image_id": str(p["image_id"]), "category_id": "1", "iscrowd": "0"} for p in persons]
    assert ap(texts, images=[{**image, "id": str(image["id"])} for image in content["images"]]) == expected
    unlabelled = [np.array(person["keypoints"], object).reshape(-1, 3) for person in persons]
    for joints in unlabelled:
        joints[joints[:, 2] == 0, :2] = None
    unlabelled = [{**p, "keypoints": j.ravel().tolist()} for p, j in zip(persons, unlabelled, strict=True)]
    assert ap(unlabelled) == expected
    others = [{"id": 1, "category_id": 2}, {"category_id": 3, "image_id": 1, "keypoints": [1, 2, 2]}, {}, None, [3]]
    categories = [*content["categories"], {"id": 2, "name": "dog"}, {"id": 3, "name": "cat", "keypoints": ["tail"]}]
    assert ap(persons + others, categories=categories) == expected


def test_persons_of_several_categories_with_the_same_joints_are_all_evaluated(ap_of):
    ap, persons, content = ap_of
    person = content["categories"][0]
    categories = [person, {**person, "id": 5, "name": "goalkeeper"}]
    mixed = [{**p, "category_id": 5 if i % 2 else 1} for i, p in enumerate(persons)]
    assert ap(mixed, categories=categories) == ap(persons)


def test_areas_that_are_not_in_square_pixels_are_replaced_by_the_boxes(ap_of):
    ap, persons, _ = ap_of
    boxes = ap([{**person, "area": person["bbox"][2] * person["bbox"][3]} for person in persons])
    assert boxes == ap(without(persons, "area")) != ap(persons)
    for area in (0, 1, -5, 1e-4, 1e9, float("nan"), float("inf"), None):
        assert ap([{**person, "area": area} for person in persons]) == boxes, area
    assert ap([{**person, "area": person["area"] / 307200} for person in persons]) == boxes
    half = [{**person, "area": person["bbox"][2] * person["bbox"][3] / 50} for person in persons]
    assert ap(half) != boxes  # small, but possible for a person who is mostly hidden


def test_persons_without_a_box_get_one_from_their_joints(ap_of):
    ap, persons, _ = ap_of
    labelled = [person for person in persons if sum(v > 0 for v in person["keypoints"][2::3]) > 1]
    expected = ap(labelled)
    for box in ([0, 0, 0, 0], [5, 5, 30, 0], [5, 5, -30, 20], [1, 2, 3], [], None, [float("nan")] * 4):
        assert ap([{**person, "bbox": box} for person in labelled]) == expected, box
    assert ap([*labelled, {**labelled[0], "bbox": None, "keypoints": [1, 2, 2, *[0] * 48]}]) == expected  # left out


def test_crowds_excuse_and_hidden_joints_count(ap_of):
    ap, persons, _ = ap_of
    expected = ap(persons)
    # A crowd excuses predictions in its box; COCO gives it joints, all of them zeros.
    crowd = {"image_id": persons[-1]["image_id"], "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 640, 480]}
    as_coco_has_it = ap([*persons, {**crowd, "id": 99, "area": 9e4, "keypoints": [0] * 51, "num_keypoints": 0}])
    assert ap([*persons, crowd]) == ap([*persons, {**crowd, "keypoints": []}]) == as_coco_has_it != expected
    assert ap([*persons, {**crowd, "iscrowd": "1"}]) == as_coco_has_it
    assert ap([*persons, {**crowd, "bbox": None}]) == expected
    hidden = [np.array(person["keypoints"]).reshape(-1, 3) for person in persons]
    for joints in hidden:
        joints[:, 2] = np.minimum(joints[:, 2], 1)
    assert ap([{**p, "keypoints": j.ravel().tolist()} for p, j in zip(persons, hidden, strict=True)]) == expected
    crowded = [{**p, "iscrowd": 1} for p in persons[:7]] + persons[7:]
    assert ap(crowded)["AP"] != expected["AP"]


def test_more_than_twenty_persons_in_a_picture_are_mentioned_once(capsys, tmp_path):
    """Perfect poses of 30 persons reach 20/30 of the recall."""
    rng, persons = np.random.default_rng(0), []
    for i in range(30):
        joints = np.column_stack([rng.uniform(50, 400, (17, 2)), np.full(17, 2)])
        persons.append({"id": i, "image_id": 4, "category_id": 1, "keypoints": joints.ravel().tolist()})
    poses = np.array([person["keypoints"] for person in persons]).reshape(30, 17, 3)[..., :2]
    content = {"images": [{"id": 4, "height": 480, "width": 640}], "categories": [{"id": 1}], "annotations": persons}
    path = tmp_path / "crowded.json"
    path.write_text(json.dumps(content))
    results = metrics.coco_results([4] * 30, poses, np.ones((30, 17)), np.linspace(1, 0.5, 30))
    for _ in range(2):
        assert metrics.coco_ap(results, path)["AR"] == pytest.approx(20 / 30)
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1 and "20" in errors and "crowded.json" in errors
    path.write_text(json.dumps({**content, "annotations": persons[:20]}))
    assert metrics.coco_ap(results[:20], path)["AP"] == pytest.approx(1)
    assert capsys.readouterr().err == ""


def test_ap_refuses_what_it_cannot_evaluate(sample, tmp_path):
    results, whole = perfect_results(sample), sample["path"].read_text()
    with pytest.raises(UserError, match="absent.json"):
        metrics.coco_ap(results, tmp_path / "absent.json")
    content = json.loads(whole)
    bad = {
        "cut.json": whole[: len(whole) // 2],
        "empty.json": "",
        "list.json": "[]",
        "test-dev.json": json.dumps({"images": content["images"], "categories": content["categories"]}),
        "boxes.json": json.dumps({**content, "annotations": without(content["annotations"], "keypoints")}),
    }
    for name, text in bad.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=name):
            metrics.coco_ap(results, tmp_path / name)
    for key in ("image_id", "category_id"):
        with pytest.raises(UserError, match=f"{key} 123456789"):
            metrics.coco_ap([{**results[0], key: 123456789}], sample["path"])
    with pytest.raises(UserError, match="14 joints"):
        metrics.coco_ap(results, sample["path"], sigmas=LSP.oks_sigmas)
    for factor in (0, -1, 10, float("nan")):
        with pytest.raises(UserError, match="sigma"):
            metrics.coco_ap(results, sample["path"], sigmas=factor * np.array(COCO.oks_sigmas))


def test_the_interval_of_ap_draws_whole_pictures(tmp_path):
    """Two pictures give three different drawings, whose AP is known from their parts."""
    content, rng = json.loads(json.dumps(generated_content())), np.random.default_rng(1)
    content["annotations"] = [p for p in content["annotations"] if p["image_id"] in (40083, 196141)]
    content["images"] = content["images"][1:3]
    xy = np.array([p["keypoints"] for p in content["annotations"]]).reshape(-1, 17, 3)[..., :2]
    image_ids = np.array([p["image_id"] for p in content["annotations"]])
    noisy = xy + rng.normal(0, np.where(image_ids == 40083, 4, 12)[:, None, None], xy.shape)
    results = metrics.coco_results(image_ids, noisy, np.ones(xy.shape[:2]), rng.random(len(xy)))
    both = metrics.coco_ap(results, content)["AP"]
    alone = [
        metrics.coco_ap([r for r in results if r["image_id"] == i], content, image_ids=[i])["AP"]
        for i in (40083, 196141)
    ]
    found = metrics.ap_interval(metrics.compare_persons(results, content), num=200)
    assert found == pytest.approx((min(both, *alone), max(both, *alone)))
    assert min(alone) < both - 0.05 and max(alone) > both + 0.05
    for i, ap in zip((40083, 196141), alone, strict=True):
        compared = metrics.compare_persons([r for r in results if r["image_id"] == i], content, image_ids=[i])
        assert metrics.ap_interval(compared, num=5) == pytest.approx((ap, ap))
        assert metrics.ap_figures(compared)["AP"] == ap
    assert metrics.ap_interval(metrics.compare_persons([], content)) == (0, 0)
    for nobody in ([], [{**content["annotations"][0], "keypoints": [0] * 51}]):  # or one without a labelled joint
        alone = {**content, "annotations": [p for p in content["annotations"] if p["image_id"] != 40083] + nobody}
        compared = metrics.compare_persons(results, alone, image_ids=[40083])
        assert metrics.ap_figures(compared)["AP"] == -1 and metrics.ap_interval(compared) is None
