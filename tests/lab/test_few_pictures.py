"""The table of few labelled persons: which cells are trained, resumed and shown, on a tiny network and data set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_tools import TINY

from lgmpose.cli import main
from lgmpose.data import load_records
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.lab import few_pictures
from lgmpose.lab.few_pictures import FewPicturesConfig, interval, measure_few_pictures, page, train_on
from lgmpose.network.config import VARIANTS
from lgmpose.training.recipe import TrainConfig


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("people")
    make_synthetic(folder, 12, seed=3, image_hw=(64, 80), max_people=2, progress=False)
    return f"synthetic:{folder}"


@pytest.fixture
def settings(monkeypatch) -> TrainConfig:
    monkeypatch.setitem(VARIANTS, "tiny", TINY)
    monkeypatch.setattr("lgmpose.training.trainer.save_curve", lambda *_: None)
    return TrainConfig(
        model="tiny", image_hw=(64, 32), epochs=1, epoch_persons=4, batch_size=4, workers=0, device="cpu", codec="dark"
    )


@pytest.mark.slow
def test_renamed_joints_are_measured_by_the_torsos_of_the_complete_labels(people, settings):
    train_set, val_set = load_records(people), load_records(people, "val")
    renamed = {"nose": "tip", "left_knee": "left_mark", "right_knee": "right_mark"}
    few, cell = train_set.subset([0, 1, 2]), None
    for names in (renamed, None):
        cell = train_on(few, val_set, settings, renamed=names)
        assert 0 <= cell["pck"] <= 100 and len(cell["correct"]) == len(val_set)
        labelled = sum(int((r.visibility[[0, 13, 14] if names else slice(5, 17)] > 0).sum()) for r in val_set.records)
        assert sum(cell["counted"]) == labelled
        assert 100 * sum(cell["correct"]) / sum(cell["counted"]) == pytest.approx(cell["pck"], abs=1e-3)


@pytest.mark.slow
def test_data_below_the_current_folder(people, settings, monkeypatch):
    folder = Path(people.removeprefix("synthetic:"))
    monkeypatch.chdir(folder.parent)
    data = f"synthetic:{folder.name}"
    cell = train_on(load_records(data).subset([0]), load_records(data, "val"), settings)
    assert sum(cell["counted"]) > 0


def test_finished_cells_are_not_repeated(people, settings, tmp_path, monkeypatch):
    trained = []

    def fake(train_set, val_set, settings, *, renamed=None):
        trained.append((len(train_set), settings.seed, bool(renamed), bool(settings.init_weights)))
        if len(trained) == 4:
            raise KeyboardInterrupt
        return {"pck": 50.0, "correct": [1, 1], "counted": [2, 2], "seconds": 1.0}

    monkeypatch.setattr(few_pictures, "train_on", fake)
    config, file = FewPicturesConfig(people, persons=(2, 3), draws=2), tmp_path / "few.json"
    with pytest.raises(KeyboardInterrupt):
        measure_few_pictures(config, file)
    measure_few_pictures(config, file)
    del trained[3]  # interrupted, then done again
    assert len(trained) == len(set(trained)) == 16 and {persons for persons, *_ in trained[:8]} == {2}
    result = json.loads(file.read_text())
    assert len(result["cells"]) == 16 and "50.0" in (tmp_path / "few.md").read_text()
    assert page(result).count("50.0 (50.0 … 50.0)") == 8
    result["cells"].pop()
    assert page(result).count("50.0 (50.0 … 50.0)") == 7 and "50.0 (50.0 … 50.0; 1)" in page(result)


def test_the_interval_covers_draws_and_persons():
    rng = np.random.default_rng(0)
    cells = [{"correct": rng.binomial(10, p, 40).tolist(), "counted": [10] * 40} for p in (0.5, 0.6, 0.7)]
    low, high = interval(cells)
    assert 0.5 * 100 - 5 < low < 58 and 62 < high < 75
    alone = interval(cells[:1])
    assert alone[1] - alone[0] < high - low


@pytest.mark.parametrize(
    "changes, named", [({"persons": (999,)}, "999"), ({"draws": 0}, "draws")]
)
def test_what_cannot_be_measured_is_refused(people, tmp_path, changes, named):
    with pytest.raises(UserError, match=named):
        measure_few_pictures(FewPicturesConfig(people, **changes), tmp_path / "few.json")


def test_cells_of_other_data_are_not_mixed_in(people, tmp_path, monkeypatch):
    """As many persons, of other pictures."""
    monkeypatch.setattr(
        few_pictures, "train_on", lambda *_, **__: {"pck": 50.0, "correct": [1], "counted": [2], "seconds": 1.0}
    )
    file, config = tmp_path / "few.json", FewPicturesConfig(people, persons=(2,), draws=1)
    measure_few_pictures(config, file)
    load = few_pictures.load_records

    def other(data, split="train", **options):
        found = load(data, split, **options)
        return replace(found, records=tuple(replace(record, id=record.id + 1000) for record in found.records))

    monkeypatch.setattr(few_pictures, "load_records", other)
    with pytest.raises(UserError, match="few.json.*other data.*--json"):
        measure_few_pictures(config, file)
    monkeypatch.undo()
    older = {name: value for name, value in json.loads(file.read_text()).items() if name != "data"}
    file.write_text(json.dumps(older))
    assert len(measure_few_pictures(config, file)["cells"]) == 4


@pytest.mark.parametrize("content", ["[]", '{"cells": []}', '{"cells": [{}]}'])
def test_a_file_of_another_measurement_is_refused(people, tmp_path, capsys, content):
    (tmp_path / "few.json").write_text(content)
    assert main(["lab", "few-pictures", "--data", people, "--json", str(tmp_path / "few.json")]) == 2
    assert "few.json" in capsys.readouterr().err
