"""The evaluation of a whole data set at once: the same persons and the same AP as box by box, and by both engines."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest

from lgmpose import metrics
from lgmpose.cli import main
from lgmpose.inference.top_down import coco_persons, kept_persons
from lgmpose.lab.bench.evaluation import by_boxes
from lgmpose.lab.bench.simulated import heatmap_batches, simulate
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.geometry import invert_matrix, transform_points
from lgmpose.pose.skeletons import COCO

IMAGE_HW = (96, 64)


@pytest.fixture(scope="module")
def job():
    """A simulation of 60 pictures, and its poses in the pictures."""
    simulation = simulate(60, IMAGE_HW, seed=3)
    return simulation, transform_points(invert_matrix(simulation.matrices), simulation.seen_xy)


@pytest.fixture(scope="module")
def persons(job):
    simulation, keypoints_xy = job
    return coco_persons(
        keypoints_xy, simulation.confidence, simulation.record_set, COCO.oks_sigmas, IMAGE_HW
    )


@pytest.fixture(scope="module")
def truth_file(job, tmp_path_factory):
    path = tmp_path_factory.mktemp("truth") / "truth.json"
    path.write_text(json.dumps(job[0].truth))
    return path


# ---------------------------------------------------------------- persons


def test_the_persons_kept_are_those_of_the_loop_over_boxes(job):
    simulation, keypoints_xy = job
    choose = (keypoints_xy, simulation.confidence, simulation.record_set, COCO.oks_sigmas, IMAGE_HW)
    keep, scores = kept_persons(*choose)
    slow_keep, slow_scores = by_boxes(*choose)
    np.testing.assert_array_equal(keep, slow_keep)
    np.testing.assert_allclose(scores, slow_scores, rtol=1e-12)
    assert 0.3 * len(scores) < len(keep) < 0.9 * len(scores)


def test_ground_truth_boxes_are_all_kept_and_unreadable_pictures_left_out(job):
    simulation, keypoints_xy = job
    keypoints_xy = keypoints_xy.copy()
    keypoints_xy[[2, 5]] = np.nan
    truth = replace(simulation.record_set, has_keypoints=True)
    keep, _ = kept_persons(keypoints_xy, simulation.confidence, truth, COCO.oks_sigmas, IMAGE_HW)
    assert keep.tolist() == [i for i in range(len(truth)) if i not in (2, 5)]
    detected = coco_persons(
        keypoints_xy, simulation.confidence, simulation.record_set, COCO.oks_sigmas, IMAGE_HW
    )
    order = [(person["image_id"], -person["score"]) for person in detected]
    assert order == sorted(order) and np.isfinite([person["keypoints"] for person in detected]).all()


# ---------------------------------------------------------------- AP by both engines


def both(results, truth, **options):
    pytest.importorskip("hotcoco", reason="hotcoco is not installed (extra: fast)")
    fast, plain = (metrics.coco_ap(results, truth, engine=name, **options) for name in ("hotcoco", "pycocotools"))
    assert fast == pytest.approx(plain, rel=0, abs=1e-12)
    return plain


def test_hotcoco_has_pycocotools_figures(persons, truth_file, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = both(persons, truth_file)
        assert 0.3 < figures["AP"] < 0.95 and figures["APM"] != figures["APL"]
        other = both(persons, truth_file, sigmas=np.linspace(0.02, 0.2, 17))  # as another skeleton has them
        assert other["AP"] != figures["AP"]
        some = both(persons, truth_file, image_ids=range(1, 20))
        assert some["AP"] != figures["AP"]
    assert capfd.readouterr() == ("", "")
    assert set(persons[0]) == {"image_id", "category_id", "keypoints", "score"}  # not written into


# ---------------------------------------------------------------- the benchmark


def test_simulated_heatmaps_peak_where_the_simulation_says(job):
    simulation, _ = job
    codec, seen = make_codec("dark", IMAGE_HW), 0
    for boxes, heatmaps in heatmap_batches(simulation, codec, 500):
        crop_xy, scores = codec.decode(heatmaps)
        well_inside = ((simulation.seen_xy[boxes] > 16) & (simulation.seen_xy[boxes] < (48, 80))).all(axis=-1)
        well_inside &= simulation.confidence[boxes] > 0.3
        error = np.linalg.norm(crop_xy - simulation.seen_xy[boxes], axis=-1)[well_inside]
        assert np.percentile(error, 99) < 1
        seen += boxes.stop - boxes.start
    assert seen >= len(simulation.record_set) > 1000


def test_the_benchmark_says_that_both_ways_agree(tmp_path, capsys):
    file = tmp_path / "evaluation.json"
    assert main(["lab", "bench-evaluation", "--pictures", "25", "--rounds", "2", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["job"]["pictures"] == 25 and result["job"]["boxes"] == 520
    assert list(result["seconds"]) == ["decode", "rescore, OKS-NMS", "results", "JSON", "AP"]
    assert result["total_s"] == pytest.approx(sum(result["seconds"].values()))
    assert result["by_boxes"]["same_persons"] and result["by_boxes"]["same_ap"]
    assert len(result["by_boxes"]["seconds"]) == 2 and all(other["same"] for other in result["other_engines"].values())
    page = file.with_suffix(".md").read_text()
    assert page == capsys.readouterr().out and "Peak memory" in page and "the same persons, the same AP" in page


@pytest.mark.parametrize(
    "arguments, message",
    [(["--pictures", "0"], "at least 1"), (["--rounds", "0"], "at least 1"), (["--json", "x.txt"], "end in .json")],
)
def test_the_benchmark_refuses_in_one_line(arguments, message, capsys):
    assert main(["lab", "bench-evaluation", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
