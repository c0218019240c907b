"""The benchmark of the evaluation job, and the persons that evaluation keeps, against a loop over boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lgmpose import metrics
from lgmpose.cli import main
from lgmpose.inference.top_down import coco_persons, kept_persons
from lgmpose.lab.bench.evaluation_job import as_record_set, evaluation_page, measure_evaluation, simulate
from lgmpose.pose.codecs import DarkCodec
from lgmpose.pose.geometry import fit_aspect
from lgmpose.pose.skeletons import COCO

IMAGE_HW = (96, 64)
STORED = Path(__file__).resolve().parents[2] / "results" / "evaluation_2026-11-29.json"


@pytest.fixture(scope="module")
def job():
    return simulate(60)


def kept_box_by_box(found):
    """``kept_persons`` as one writes it first: picture by picture, person by person, pair by pair."""
    variances = [(2 * sigma) ** 2 for sigma in COCO.oks_sigmas]
    scores, areas, by_picture = [], [], {}
    for i, joint_scores in enumerate(found["joint_scores"]):
        confident = [score for score in joint_scores.tolist() if score > 0.2]
        scores.append(sum(confident) / len(confident) * found["score"][i] if confident else 0.0)
        width, height = fit_aspect(found["box_xywh"][i, 2:], IMAGE_HW)
        areas.append(float(width * height))
        by_picture.setdefault(int(found["image_id"][i]), []).append(i)

    def likeness(i: int, j: int) -> float:
        squared = ((found["keypoints_xy"][i] - found["keypoints_xy"][j]) ** 2).sum(axis=1)
        return float(np.mean(np.exp(-squared / variances / ((areas[i] + areas[j]) / 2) / 2)))

    keep = []
    for picture in sorted(by_picture):
        left = sorted(by_picture[picture], key=lambda i: -scores[i])
        while left:
            best, *others = left
            keep.append(best)
            left = [other for other in others if likeness(other, best) <= 0.9]
    return keep, scores


def test_the_persons_kept_are_those_of_the_loop_over_boxes(job):
    found = job[1]
    keep, scores = kept_persons(
        found["keypoints_xy"], found["joint_scores"], as_record_set(found), COCO.oks_sigmas, IMAGE_HW
    )
    slow_keep, slow_scores = kept_box_by_box(found)
    assert keep.tolist() == slow_keep and 0.3 * len(scores) < len(keep) < 0.9 * len(scores)
    np.testing.assert_allclose(scores, slow_scores, rtol=1e-12)


def test_ground_truth_boxes_are_all_kept_and_unreadable_pictures_left_out(job):
    found, poses = job[1], job[1]["keypoints_xy"].copy()
    poses[[2, 5]] = np.nan
    choose = (poses, found["joint_scores"], as_record_set(found), COCO.oks_sigmas, IMAGE_HW)
    detected = coco_persons(*choose)
    order = [(person["image_id"], -person["score"]) for person in detected]
    assert order == sorted(order) and np.isfinite([person["keypoints"] for person in detected]).all()
    choose[2].has_keypoints = True
    assert kept_persons(*choose)[0].tolist() == [i for i in range(len(poses)) if i not in (2, 5)]


def test_simulated_detections_show_the_persons_and_both_engines_agree(job):
    pytest.importorskip("hotcoco", reason="hotcoco is not installed (extra: fast)")
    truth, found = job
    persons = coco_persons(
        found["keypoints_xy"], found["joint_scores"], as_record_set(found), COCO.oks_sigmas, IMAGE_HW
    )
    fast, plain = (metrics.coco_ap(persons, truth, engine=name) for name in ("hotcoco", "pycocotools"))
    assert fast == pytest.approx(plain, rel=0, abs=1e-12) and 0.5 < plain["AP"] < 0.95
    assert len(truth["annotations"]) == 132 and len(found["score"]) == 1248


def test_the_benchmark_times_each_step(tmp_path, capsys):
    file = tmp_path / "evaluation.json"
    assert main(["lab", "bench-evaluation", "--pictures", "10", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["job"] == {"pictures": 10, "persons": 22, "boxes": 208}
    assert list(result["seconds"]) == ["decode", "rescore, OKS-NMS", "results file", "AP"]
    assert all(result["seconds"].values()) and result["total_s"] == pytest.approx(sum(result["seconds"].values()))
    assert 0.5 < result["figures"]["AP"] < 1 and 22 < result["kept"] < 208, "the decoded poses are the persons'"
    page = file.with_suffix(".md").read_text(encoding="utf-8")
    assert page in capsys.readouterr().out and "208 detected boxes" in page


def test_the_persons_are_those_that_were_decoded(monkeypatch):
    def at_the_corner(self, heatmaps):
        return np.zeros((*heatmaps.shape[:2], 2)), heatmaps.max(axis=(2, 3))

    monkeypatch.setattr(DarkCodec, "decode", at_the_corner)
    assert measure_evaluation(10)["figures"]["AP"] < 0.05


@pytest.mark.parametrize("arguments, name", [(["--pictures", "0"], "pictures 0"), (["--json", "x.txt"], "x.txt")])
def test_the_benchmark_refuses_in_one_line(arguments, name, capsys):
    assert main(["lab", "bench-evaluation", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and name in error and error.count("\n") == 1


def test_the_stored_page_is_that_of_the_stored_result():
    page = evaluation_page(json.loads(STORED.read_text(encoding="utf-8")))
    assert STORED.with_suffix(".md").read_text(encoding="utf-8") == page
