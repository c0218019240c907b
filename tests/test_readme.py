"""README and model cards say what the result files say, and the result files what the weights themselves carry."""

import json
import re
from pathlib import Path

import pytest

from lgmpose.paper import slips_table
from lgmpose.zoo import SHIPPED, WEIGHTS_FOLDER, load_weights, weights_hash

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(params=SHIPPED)
def shipped(request):
    return request.param, json.loads((WEIGHTS_FOLDER / f"{request.param}.json").read_text())


def test_result_file_belongs_to_the_weights(shipped):
    name, result = shipped
    path = WEIGHTS_FOLDER / result["weights"]
    assert path.name == f"{name}.safetensors" and weights_hash(path) == result["sha256"]
    _, card = load_weights(path)
    assert card["evaluation"]["figures"] == result["figures"]
    assert card["evaluation"]["per_joint"] == result["per_joint"]


def test_model_card_and_readme_print_the_result_files_figures(shipped):
    name, result = shipped
    card = (WEIGHTS_FOLDER / f"{name}.md").read_text()
    readme = (ROOT / "README.md").read_text()
    for metric, value in result["figures"].items():
        low, high = result["intervals_95"][metric]
        assert f"| {metric} | {value:.2f} % | {low:.2f} … {high:.2f} |" in card
    for joint, value in result["per_joint"]["PCK@0.2"].items():
        assert re.search(rf"\| {joint} \| {value:.2f} \|", card), joint
    assert result["sha256"] in card
    if name == SHIPPED[0]:
        figures = result["figures"]
        assert f"| {figures['PCK@0.2']:.1f} % | {figures['PCKh@0.5']:.1f} % |" in readme


def test_shipped_figures_are_reproduced_on_a_part_of_the_data(shipped, shared_data):
    """The first 60 validation persons, through the very file that ships; the rest is one command away."""
    from lgmpose.datasets import load_records
    from lgmpose.evaluate import evaluate
    from lgmpose.zoo import codec_of

    name, result = shipped
    net, card = load_weights(WEIGHTS_FOLDER / f"{name}.safetensors")
    val = load_records(f"lspet:{shared_data / 'lspet_dataset.zip'}", "val")
    assert str(len(val)) == result["conditions"]["persons"]
    expected = dict(result["first_persons"])
    part = val.subset(range(expected.pop("count")))
    evaluation = evaluate(net, part, codec_of(card, net.config.image_hw), workers=0, progress=False)
    # A joint on the threshold's edge may fall either side on another processor; two of some 600 joints may.
    assert evaluation.figures == pytest.approx(expected, abs=0.4)


def test_slips_are_those_of_the_code():
    assert slips_table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_speeds_are_those_of_the_result_file():
    from lgmpose.bench import load_results
    from lgmpose.paper import TABLES

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (file,) = set(re.findall(r"lgmpose/results/(bench_[\d-]+)\.md", readme))
    rows = load_results(ROOT / "lgmpose" / "results" / f"{file}.json").rows
    measured = {(row.label, tuple(row.image_hw), row.backend, row.threads): row for row in rows}
    published = {(row.name, row.image_hw): row.fps_cpu for row in TABLES[1] if row.fps_cpu}
    lines = re.findall(r"^\| (.+), (\d+)×(\d+) \| ([\d.]+) \| ([~\d. |]+) \|$", readme, re.MULTILINE)
    assert len(lines) == len(published) - 2, "one line per system with a published speed, but LGM-Pose's own"
    columns = [(backend, threads) for threads in (1, 2) for backend in ("eager", "eager-folded")]
    for name, height, width, paper, cells in lines:
        image_hw = int(height), int(width)
        assert paper == f"{published['LGM-Pose', image_hw] / published[name, image_hw]:.2f}", name
        ours = [measured[name, image_hw, *column] for column in columns]
        assert cells.split(" | ") == [f"{'~' if row.noise else ''}{row.ratio:.2f}" for row in ours], name
    # What is said below the table.
    for (name, _, _, _), row in measured.items():
        if name == "Small HRNet":
            assert 0.45 < row.ratio < 0.75
        elif row.ratio is not None and name != "LGM-Pose":
            assert row.ratio > 1, name
