"""Several sets joined to one: joints by name, weights, and the file that lists them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lgmpose.data import load_records, load_validation_sets
from lgmpose.data.batches import EpochSampler, draws_per_epoch
from lgmpose.data.mixture import join_sets, join_skeletons, read_mixture
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.data.synthetic import make_synthetic
from lgmpose.errors import UserError
from lgmpose.pose.skeletons import COCO, LSP, MPII, Skeleton, skeleton_from_category
from lgmpose.training.recipe import TrainConfig
from lgmpose.training.trainer import train


def made_up(skeleton: Skeleton, name: str, persons: int = 2) -> RecordSet:
    """Return a set whose joints have the coordinates (index, 100 + index)."""
    points = np.stack([np.arange(skeleton.num_keypoints), 100.0 + np.arange(skeleton.num_keypoints)], 1)
    visibility = np.full(skeleton.num_keypoints, 2)
    records = [PersonRecord("a.png", np.ones(2), np.ones(2), points, visibility, n, n) for n in range(persons)]
    return RecordSet(name, skeleton, tuple(records), "boxes", notes={"crowd": 1})


def test_joints_of_coco_mpii_and_lspet():
    joined = join_skeletons([COCO, MPII, LSP])
    assert joined.joint_names == (*COCO.joint_names, "pelvis", "thorax", "upper_neck", "head_top")
    assert joined.flip_pairs == COCO.flip_pairs and joined.oks_sigmas[:17] == COCO.oks_sigmas
    assert joined.joint_names[joined.upper_body[-1]] == "head_top"
    assert len(set(joined.edges)) == len(joined.edges) and joined.edges[: len(COCO.edges)] == COCO.edges
    assert join_skeletons([MPII, LSP]) is MPII and join_skeletons([COCO]) is COCO


def test_pairs_that_one_set_alone_shows():
    one, two = (skeleton_from_category({"keypoints": names}) for names in (["left_ear"], ["tail", "right_ear", "Lear"]))
    joined = join_skeletons([one, two])
    assert joined.joint_names == ("left_ear", "tail", "right_ear") and joined.flip_pairs == ((0, 2),)


def test_pairs_that_contradict_each_other_are_refused():
    one = skeleton_from_category({"keypoints": ["a", "b", "c"], "flip_pairs": [["a", "b"]]}, "one")
    two = skeleton_from_category({"keypoints": ["a", "c", "d"], "flip_pairs": [["a", "c"]]}, "two")
    with pytest.raises(UserError, match="two and one"):
        join_skeletons([one, two])


def test_a_joined_set_has_every_joint_in_its_place():
    sets = [made_up(LSP, "lsp", 2), made_up(MPII, "mpii", 3)]
    joined = join_sets(sets, [1, 0.5])
    assert joined.skeleton.num_keypoints == 16 and joined.parts == ((2, 1.0), (3, 0.5)) and len(joined) == 5
    assert [record.id for record in joined.records] == list(range(5))
    assert joined.notes == {"lsp: crowd": 1, "mpii: crowd": 1}
    names = joined.skeleton.joint_names
    lsp, mpii = joined.records[0], joined.records[4]
    assert {names[i] for i in np.flatnonzero(lsp.visibility == 0)} == {"pelvis", "thorax"}
    assert (mpii.visibility == 2).all()
    for i, name in enumerate(names):
        assert mpii.keypoints_xy[i, 0] == MPII.index("upper_neck" if name == "neck" else name)
        if lsp.visibility[i]:
            assert lsp.keypoints_xy[i].tolist() == [LSP.index(name), 100 + LSP.index(name)]


def test_the_joints_of_the_first_set_alone():
    joined = join_sets([made_up(COCO, "coco", 1), made_up(LSP, "lsp", 1)], [1, 1], joints="first")
    assert joined.skeleton is COCO
    lsp = joined.records[1]
    assert lsp.visibility[COCO.index("nose")] == 0
    assert lsp.keypoints_xy[COCO.index("left_knee"), 0] == LSP.index("left_knee")


def test_persons_without_a_joint_of_the_first_set_are_left_out_and_counted():
    coco = made_up(COCO, "coco", 3)
    face, box = np.where(np.arange(17) < 5, 2, 0), np.zeros(17, int)
    coco = replace(coco, records=(coco.records[0], *(replace(coco.records[1], visibility=v) for v in (face, box))))
    joined = join_sets([made_up(MPII, "mpii", 1), coco], [1, 0.5], joints="first")
    assert joined.parts == ((1, 1.0), (2, 0.5)) and [record.id for record in joined.records] == [0, 1, 2]
    assert joined.notes["coco: none of the network's joints is labelled"] == 1  # the face; the bare box stays
    assert [record.visibility.any() for record in joined.records] == [True, True, False]


def test_a_set_without_any_joint_of_the_first_set_is_counted_and_not_drawn():
    faces = made_up(COCO, "faces", 2)
    face = np.where(np.arange(17) < 5, 2, 0)
    faces = replace(faces, records=tuple(replace(record, visibility=face) for record in faces.records))
    joined = join_sets([made_up(LSP, "lsp", 4), faces], [1, 1], joints="first")
    assert joined.parts == ((4, 1.0),) and joined.notes["faces: none of the network's joints is labelled"] == 2
    order = EpochSampler(len(joined), 2, seed=0, epoch=0, draws=draws_per_epoch(joined.parts))
    assert sorted(index for batch in order for _, index in batch) == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> list[Path]:
    """Two synthetic sets of six pictures with one person each."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    for seed, folder in enumerate(folders):
        make_synthetic(folder, 6, seed=seed, image_hw=(64, 64), max_people=1, progress=False)
    return folders


def write(folder: Path, text: str) -> str:
    (folder / "sets.toml").write_text(text)
    return f"mix:{folder / 'sets.toml'}"


def test_a_file_of_sets(people, tmp_path):
    one, two = people
    data = write(
        tmp_path,
        f"""
        [[train]]
        data = "synthetic:{one}"
        split = "all"
        weight = 2
        [[train]]
        data = "coco:{two}"
        annotations = "{two}/annotations.json"
        [[val]]
        data = "synthetic:{one}"
        [[val]]
        data = "synthetic:{two}"
        name = "second"
    """,
    )
    train = load_records(data)
    assert train.parts == ((6, 2.0), (6, 1.0)) and train.skeleton is COCO and train.annotation_file is None
    sets = load_validation_sets(data)
    assert [record_set.name for record_set in sets] == ["synthetic-val", "second"]
    assert all(len(record_set) == 1 and record_set.annotation_file for record_set in sets)
    assert len(load_validation_sets(f"synthetic:{one}")) == 1
    with pytest.raises(UserError, match="sets.toml"):
        load_records(data, "val")
    with pytest.raises(UserError, match="other.json.*sets.toml"):
        load_validation_sets(data, "other.json")


def test_a_limit_takes_the_persons_of_the_first_pictures(people, tmp_path):
    text = f"""
        [[train]]
        data = "synthetic:{people[0]}"
        limit = 3
        [[train]]
        data = "synthetic:{people[1]}"
        [[val]]
        data = "synthetic:{people[0]}"
    """
    joined, whole = load_records(write(tmp_path, text)), load_records(f"synthetic:{people[0]}")
    assert joined.parts == ((3, 1.0), (5, 1.0))
    assert [record.image for record in joined.records[:3]] == [record.image for record in whole.records[:3]]


def test_boxes_of_a_detection_file_are_persons_without_joints(people, tmp_path):
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 40], "score": 0.9}]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    one, two = people
    text = f"""
        joints = "first"
        [[train]]
        data = "synthetic:{one}"
        [[train]]
        data = "coco:{two}"
        annotations = "{two}/annotations.json"
        detections = "{tmp_path}/boxes.json"
        [[val]]
        data = "synthetic:{one}"
    """
    joined = load_records(write(tmp_path, text))
    assert joined.parts == ((5, 1.0), (1, 1.0)) and not joined.records[-1].visibility.any()
    config = TrainConfig(write(tmp_path, text), model="lgm-pose-lspet-128x128", batch_size=2)
    with pytest.raises(UserError, match="teacher"):
        train(config, tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[train]", "sets.toml"),
        ("", "sets.toml.*train"),
        ('[[train]]\ndata = "coco:x"', "sets.toml.*val"),
        ('[[train]]\ndata = "coco:x"\nwieght = 2\n[[val]]\ndata = "coco:x"', "sets.toml.*wieght"),
        ('[[train]]\ndata = "coco:x"\nweight = 0\n[[val]]\ndata = "coco:x"', "sets.toml.*weight 0"),
        ('[[train]]\ndata = "coco:x"\nweight = -1\n[[val]]\ndata = "coco:x"', "sets.toml.*weight"),
        ('[[train]]\ndata = "coco:x"\n[[val]]\ndata = "coco:y"\nweight = 2', "sets.toml.*coco:y.*weight"),
        ('[[train]]\ndata = "mix:x.toml"\n[[val]]\ndata = "coco:x"', "sets.toml.*mix:x.toml"),
        ('[[train]]\ndata = "voc:x"\n[[val]]\ndata = "coco:x"', "voc:x"),
        ('[[train]]\ndata = "synthetic:x"\nsplit = "test"\n[[val]]\ndata = "coco:x"', "sets.toml.*test"),
    ],
)
def test_what_is_wrong_in_a_file_of_sets_is_named(tmp_path, text, named):
    with pytest.raises(UserError, match=named):
        load_records(write(tmp_path, text))
    with pytest.raises(UserError, match="none.toml"):
        read_mixture(tmp_path / "none.toml")


def test_validation_sets_of_one_name_are_refused(people, tmp_path):
    entry = f'[[val]]\ndata = "synthetic:{people[0]}"\n'
    with pytest.raises(UserError, match="sets.toml.*synthetic-val"):
        load_validation_sets(write(tmp_path, f'[[train]]\ndata = "synthetic:{people[0]}"\n{entry}{entry}'))
