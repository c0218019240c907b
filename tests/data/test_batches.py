"""Batches: who gets which samples in which order, what the network is given, and the same whatever the workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lgmpose import data
from lgmpose.data.augment import Augmentation
from lgmpose.data.batches import (
    EpochSampler,
    choose_workers,
    count_errors,
    draws_per_epoch,
    load_batches,
    make_loader,
    to_input,
)
from lgmpose.data.crops import CropDataset
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.pose.codecs import make_codec
from lgmpose.pose.skeletons import LSP

IMAGE_HW = (64, 96)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> RecordSet:
    """Ten persons in pictures of noise; the one with id 3 cannot be read."""
    folder, rng, records = tmp_path_factory.mktemp("people"), np.random.default_rng(0), []
    for n in range(10):
        file = folder / f"{n}.png"
        cv2.imwrite(str(file), rng.integers(0, 255, (80, 100, 3), np.uint8))
        points, size_wh = rng.uniform(10, 70, (14, 2)), np.array([90.0, 70.0])
        records.append(PersonRecord(str(file), np.array([50.0, 40.0]), size_wh, points, rng.integers(0, 3, 14), n, n))
    (folder / "3.png").write_bytes(b"no picture")
    return RecordSet("noise", LSP, tuple(records), "ground-truth boxes")


# --- sampling -----------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 200), st.integers(1, 8), st.sampled_from([1, 2, 4]), st.integers(0, 99), st.integers(0, 99),
    st.integers(0, 30),
)  # fmt: skip
def test_sampler_parts_every_epoch_among_the_processes(length, share, world, seed, epoch, first_step):
    batch_size = share * world
    options = {"seed": seed, "epoch": epoch}
    batches = list(EpochSampler(length, batch_size, **options))
    indices = [i for batch in batches for _, i in batch]
    assert {e for batch in batches for e, _ in batch} <= {epoch}
    assert [len(batch) for batch in batches] == [batch_size] * (length // batch_size)
    assert len(set(indices)) == len(indices) and set(indices) <= set(range(length))  # what is left out fills no batch

    ranks = [EpochSampler(length, batch_size, rank=rank, world=world, **options) for rank in range(world)]
    joined = [sum(parts, []) for parts in zip(*ranks, strict=True)]  # the processes' slices, put together
    assert joined == batches
    assert all(sampler.steps == len(batches) == len(sampler) for sampler in ranks)

    later = EpochSampler(length, batch_size, first_step=first_step, **options)
    assert list(later) == batches[first_step:] and len(later) == len(batches[first_step:])
    assert later.steps == len(batches)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0.2, 5)), min_size=1, max_size=3), st.integers(1, 90))
def test_sets_are_drawn_by_their_weights(parts, total):
    draws = draws_per_epoch(parts, total)
    assert [samples for samples, _ in draws] == [samples for samples, _ in parts]
    weight = sum(n * w for n, w in parts)
    for (_, drawn), (n, w) in zip(draws, parts, strict=True):
        assert abs(drawn - total * n * w / weight) < 1 + 1e-9
    length = sum(n for n, _ in parts)
    keys = [key[1:] for (key,) in EpochSampler(length, 1, seed=2, epoch=3, draws=draws)]
    assert len(keys) == len(set(keys)) == sum(drawn for _, drawn in draws) == total
    first = 0
    for n, drawn in draws:
        times = [sum(key[0] == i for key in keys) for i in range(first, first + n)]
        assert sum(times) == drawn and max(times) - min(times) <= 1
        first += n


def test_without_weights_each_sample_comes_once():
    assert draws_per_epoch([(7, 1.0)]) == [(7, 7)] and draws_per_epoch([(7, 1), (4, 2.0)]) == [(7, 7), (4, 8)]
    same = [list(EpochSampler(20, 4, seed=5, epoch=1, draws=draws)) for draws in (None, [(20, 20)])]
    assert same[0] == same[1]


def test_a_repeated_sample_is_augmented_in_another_way(people):
    dataset = CropDataset(people, IMAGE_HW, augmentation=Augmentation(), seed=1)
    matrices = [dataset[key]["matrix"] for key in ((2, 5), (2, 5, 1), (2, 5, 2), (2, 5))]
    assert np.array_equal(matrices[0], matrices[3])
    assert all(not np.array_equal(matrices[0], other) for other in matrices[1:3])


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        tuple(i for batch in EpochSampler(40, 8, seed=seed, epoch=epoch) for _, i in batch)
        for seed in range(3) for epoch in range(3)
    ]  # fmt: skip
    assert len(set(orders)) == 9 and tuple(range(40)) not in orders
    assert all(sorted(order) == list(range(40)) for order in orders)


# --- what the network is given ------------------------------------------------------------------------------------
def test_to_input_is_the_textbooks_normalisation():
    images = torch.randint(0, 256, (2, *IMAGE_HW, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = to_input(images)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((images.double() / 255 - mean) / std).permute(0, 3, 1, 2)
    assert found.shape == (2, 3, *IMAGE_HW) and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["standard", "udp"])
def test_batches_are_their_samples_with_heatmaps(people, name):
    codec = make_codec(name, IMAGE_HW)
    dataset = CropDataset(people, IMAGE_HW, aligned=codec.aligned, augmentation=Augmentation(), seed=5)
    keys = [(2, 7), (2, 0), (2, 9)]
    (batch,) = make_loader(dataset, codec, [keys], workers=0)
    samples = [dataset[key] for key in keys]
    assert batch["errors"] == [] and batch["index"].tolist() == [7, 0, 9]
    for key in ("image", "matrix"):
        np.testing.assert_array_equal(batch[key], np.stack([sample[key] for sample in samples]))
    for i, sample in enumerate(samples):
        heatmaps, weights = codec.encode(sample["keypoints_xy"][None], sample["visibility"][None])
        np.testing.assert_array_equal(batch["heatmaps"][i], heatmaps[0])
        np.testing.assert_array_equal(batch["weights"][i], weights[0])
        assert (batch["weights"][i][sample["visibility"] == 0] == 0).all()
    assert batch["heatmaps"].shape == (3, 14, 16, 24) and batch["heatmaps"].dtype == torch.float32

    (bare,) = make_loader(dataset, codec, [keys], workers=0, with_heatmaps=False)
    assert set(bare) == {"errors", "index", "image", "matrix"}


def test_unreadable_pictures_are_left_out_and_counted_or_refused(people):
    codec = make_codec("dark", IMAGE_HW)
    batch, empty = make_loader(CropDataset(people, IMAGE_HW), codec, [[2, 3, 4, 3], [3]], workers=0)
    assert batch["index"].tolist() == [2, 4] and len(batch["image"]) == len(batch["heatmaps"]) == 2
    assert count_errors(batch, "skip") == 2
    assert "image" not in empty and empty["index"].tolist() == [] and count_errors(empty, "skip") == 1
    with pytest.raises(UserError, match=r"3\.png.* --bad-images"):
        count_errors(batch, "refuse")
    (good,) = make_loader(CropDataset(people, IMAGE_HW), codec, [[1, 2]], workers=0)
    assert count_errors(good, "refuse") == 0


def test_workers_change_nothing(people):
    codec = make_codec("dark", IMAGE_HW)
    dataset = CropDataset(people, IMAGE_HW, augmentation=Augmentation(colour=0.1), seed=1)
    sampler = EpochSampler(len(people), 2, seed=1, epoch=4, first_step=1)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    alone, helped = (list(make_loader(dataset, codec, sampler, workers=workers)) for workers in (0, 2))
    assert torch.equal(torch.get_rng_state(), state)  # dropout would see another sequence after a resume
    assert len(alone) == len(helped) == 4
    for one, other in zip(alone, helped, strict=True):
        assert one.keys() == other.keys() and one["errors"] == other["errors"]
        for key in set(one) - {"errors"}:
            assert torch.equal(one[key], other[key])
    assert sum(len(batch["errors"]) for batch in alone) <= 1


def test_workers_are_as_asked_and_none_in_notebooks(monkeypatch):
    assert choose_workers(0) == 0 and choose_workers(5) == 5
    with pytest.raises(UserError, match="-1"):
        choose_workers(-1)
    monkeypatch.setattr("lgmpose.data.batches.num_cores", lambda: 12)
    monkeypatch.setattr("sys.platform", "darwin")
    assert choose_workers(None) == 0
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert choose_workers(None) == 6
    monkeypatch.setattr("lgmpose.data.batches.num_cores", lambda: 64)
    assert choose_workers(None) == 8
    monkeypatch.setattr("lgmpose.data.batches.num_cores", lambda: 1)
    assert choose_workers(None) == 1
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    assert choose_workers(None) == 0


def test_no_module_of_the_room_needs_torch_at_import():
    """Exported networks are evaluated without it; MATLAB files, too, are read by what is imported where it is used."""
    names = [path.stem for path in Path(data.__file__).parent.glob("*.py") if path.stem != "__init__"]
    code = f"""
import importlib, sys
sys.modules["torch"] = None
for name in {names}:
    importlib.import_module(f"lgmpose.data.{{name}}")
print(*({{"scipy", "matplotlib", "pycocotools"}} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_threads_read_the_same_batches_as_the_calling_one(people):
    dataset = CropDataset(people, IMAGE_HW)
    keys = [[0, 1, 2], [3], [4, 3, 5, 6], [7]]
    alone, helped = (list(load_batches(dataset, keys, workers=workers)) for workers in (0, 3))
    assert [batch["index"].tolist() for batch in alone] == [[0, 1, 2], [], [4, 5, 6], [7]]
    assert [len(batch["errors"]) for batch in alone] == [0, 1, 1, 0] and "image" not in alone[1]
    for one, other in zip(alone, helped, strict=True):
        assert one.keys() == other.keys() and one["errors"] == other["errors"]
        for name in set(one) - {"errors"}:
            np.testing.assert_array_equal(one[name], other[name])
    np.testing.assert_array_equal(alone[0]["image"][1], dataset[1]["image"])
    assert list(load_batches(dataset, [], workers=2)) == []


def test_a_loader_process_that_gives_no_batch_is_not_waited_for_for_ever(people):
    codec = make_codec("standard", (64, 64))
    loaders = [make_loader(CropDataset(people, (64, 64)), codec, [[0]], workers=workers) for workers in (0, 1)]
    assert loaders[0].timeout == 0 < loaders[1].timeout
