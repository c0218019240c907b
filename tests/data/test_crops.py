"""Crops and augmentation: joints keep their pixels, sides swap in mirrored ones, and draws depend on the key alone."""

from __future__ import annotations

import colorsys
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from lgmpose.data.augment import Augmentation, augment_record, change_colour, occlude
from lgmpose.data.crops import CropDataset
from lgmpose.data.images import read_image
from lgmpose.data.records import PersonRecord, RecordSet
from lgmpose.errors import UserError
from lgmpose.pose.geometry import box_to_center_size, crop_matrix, fit_aspect, transform_points, warp_image
from lgmpose.pose.skeletons import LSP

COLOURS = np.array([colorsys.hsv_to_rgb(j / 14, 1, 1) for j in range(14)]) * 255
NOTHING = Augmentation(half_body_prob=0, scale_factor=0, rotation_prob=0, flip_prob=0)
IMAGE_HW = (128, 96)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> RecordSet:
    """Six persons, one to a picture (H 260, W 320), each joint a disc of its own colour; one joint is not labelled."""
    folder, records = tmp_path_factory.mktemp("people"), []
    for n in range(6):
        rng = np.random.default_rng(n)
        cells = rng.permutation(30)[:14]  # of a grid, so that no disc hides another
        points = np.stack([40 + 48 * (cells % 6), 30 + 48 * (cells // 6)], -1) + rng.uniform(-12, 12, (14, 2))
        picture = np.full((260, 320, 3), 90, np.uint8)
        for point, colour in zip(points, COLOURS, strict=True):
            cv2.circle(picture, tuple(int(v) for v in point.round()), 8, colour.tolist(), -1)
        cv2.imwrite(str(folder / f"{n}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        low, high = points.min(0), points.max(0)
        visibility = np.full(14, 2)
        visibility[n] = 0
        points[n] = np.nan if n % 2 else -1e5  # junk
        center_xy, size_wh = box_to_center_size([*low, *(high - low)])
        records.append(PersonRecord(str(folder / f"{n}.png"), center_xy, size_wh, points, visibility, n, n))
    return RecordSet("discs", LSP, tuple(records), "ground-truth boxes")


def draws(record, augmentation: Augmentation, n: int, seed: int = 0) -> list[tuple]:
    rng = np.random.default_rng(seed)
    return [augment_record(record, LSP.upper_body, augmentation, rng) for _ in range(n)]


# --- samples ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("image_hw", [(128, 96), (96, 160)])
def test_without_augmentation_a_sample_is_the_records_crop(people, image_hw, aligned):
    dataset = CropDataset(people, image_hw, aligned=aligned)
    assert len(dataset) == 6
    sample, record = dataset[3], people.records[3]
    matrix = crop_matrix(record.center_xy, record.size_wh, image_hw, aligned=aligned)
    picture = cv2.cvtColor(cv2.imread(record.image), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(sample["image"], warp_image(picture, matrix, image_hw))
    np.testing.assert_array_equal(sample["matrix"], matrix)
    np.testing.assert_allclose(
        sample["keypoints_xy"], transform_points(matrix, record.keypoints_xy).astype(np.float32), rtol=1e-6
    )
    np.testing.assert_array_equal(sample["visibility"], record.visibility)
    assert sample["keypoints_xy"].dtype == np.float32 and sample["visibility"].dtype == np.int64
    assert sample["index"] == 3
    same = CropDataset(people, image_hw, aligned=aligned, augmentation=NOTHING)[3]  # NOTHING does nothing
    for key in ("image", "matrix"):
        np.testing.assert_array_equal(same[key], sample[key])


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("image_hw", [(128, 96), (96, 160)])
def test_joints_stay_on_their_pixels_and_sides_swap_in_a_mirror(people, image_hw, aligned):
    dataset = CropDataset(people, image_hw, aligned=aligned, augmentation=Augmentation(), seed=1)
    order, seen = np.array(LSP.flip_permutation), {False: 0, True: 0}
    for epoch in range(6):
        for index in range(6):
            sample = dataset[epoch, index]
            flipped = bool(np.linalg.det(sample["matrix"][:, :2]) < 0)
            colours = COLOURS[order] if flipped else COLOURS
            visibility = people.records[index].visibility
            np.testing.assert_array_equal(sample["visibility"], visibility[order] if flipped else visibility)
            for j in np.flatnonzero(sample["visibility"]):
                x, y = sample["keypoints_xy"][j].round().astype(int)
                if 2 <= x < image_hw[1] - 2 and 2 <= y < image_hw[0] - 2:
                    difference = np.abs(sample["image"][y, x] - colours).max(axis=-1)
                    assert difference.argmin() == j and difference[j] < 60, (epoch, index, LSP.joint_names[j])
                    seen[flipped] += 1
    assert min(seen.values()) > 100


def test_a_sample_depends_on_seed_epoch_and_index_alone(people):
    def sample(epoch, index, seed=7):
        return CropDataset(people, IMAGE_HW, augmentation=Augmentation(colour=0.2), seed=seed)[epoch, index]

    dataset = CropDataset(people, IMAGE_HW, augmentation=Augmentation(colour=0.2), seed=7)
    keys = [(epoch, index) for epoch in range(3) for index in range(6)]
    in_order = {key: dataset[key] for key in keys}
    for key in reversed(keys):
        for name, value in sample(*key).items():
            np.testing.assert_array_equal(value, in_order[key][name])
    np.testing.assert_array_equal(dataset[4]["image"], in_order[0, 4]["image"])  # no epoch: the first
    matrices = [in_order[key]["matrix"].ravel() for key in keys] + [sample(0, 0, seed=8)["matrix"].ravel()]
    assert len(np.unique(np.round(matrices, 6), axis=0)) == len(matrices)


def test_the_order_of_the_draws_is_kept(people):
    """A resumed run must see the pictures that it would have seen: half body 2, scale 1, rotation 2, flip 1."""
    record = people.records[2]
    for epoch in range(5):
        rng = np.random.default_rng((11, epoch, 2))
        rng.random(), rng.standard_normal()  # half body or not; which half
        size_wh = record.size_wh * np.clip(1 + 0.3 * rng.standard_normal(), 0.7, 1.3)
        rotation = np.clip(40 * rng.standard_normal(), -80, 80)
        rotation = rotation if rng.random() < 0.6 else 0.0
        flip = rng.random() < 0.5
        expected = crop_matrix(record.center_xy, size_wh, IMAGE_HW, rotation_deg=rotation, flip=flip)
        dataset = CropDataset(people, IMAGE_HW, augmentation=Augmentation(half_body_prob=0), seed=11)
        np.testing.assert_array_equal(dataset[epoch, 2]["matrix"], expected)


def test_a_teachers_peaks_move_with_the_joints(people):
    points = np.stack([record.keypoints_xy for record in people.records])
    heights = np.random.default_rng(0).random(points.shape[:2])
    peaks = np.concatenate([points, heights[..., None]], axis=-1)
    dataset = CropDataset(people, IMAGE_HW, augmentation=Augmentation(), seed=2, teacher=peaks)
    flips = set()
    for key in [(epoch, index) for epoch in range(4) for index in range(3)]:
        sample = dataset[key]
        flip = bool(np.linalg.det(sample["matrix"][:, :2]) < 0)
        order = list(people.skeleton.flip_permutation) if flip else slice(None)
        np.testing.assert_allclose(sample["peaks"][:, :2], sample["keypoints_xy"], atol=1e-3)
        np.testing.assert_array_equal(sample["peaks"][:, 2], heights[key[1]][order])
        flips.add(flip)
    assert flips == {True, False}


def test_unreadable_pictures_give_their_reason(people, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((50, 50, 3), np.uint8))[1].tobytes()[:-200])
    records = [replace(people.records[0], image=str(tmp_path / name)) for name in ("cut.jpg", "absent.jpg")]
    dataset = CropDataset(replace(people, records=tuple(records)), IMAGE_HW)
    for index, name in enumerate(["cut.jpg", "absent.jpg"]):
        sample = dataset[0, index]
        assert sample["image"] is None and sample["index"] == index and name in sample["error"]


def photograph(file, orientation):
    """A JPEG stored with H 40 and W 60 that is to be shown turned. Returns both arrays."""
    exif, noise = Image.Exif(), np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    exif[0x0112] = orientation
    Image.fromarray(cv2.resize(noise, (60, 40))).save(file, exif=exif)
    return read_image(file, apply_exif=False), read_image(file)


@pytest.mark.parametrize("orientation", [3, 5, 6, 7, 8])
def test_a_photograph_is_seen_as_its_annotators_saw_it(people, tmp_path, orientation):
    stored, upright = photograph(tmp_path / "photo.jpg", orientation)
    record = replace(people.records[0], image=str(tmp_path / "photo.jpg"), center_xy=np.array([20.0, 30.0]))
    expected = {None: stored, (60, 40): upright, (40, 60): stored}  # 3 is upside down and fits both: as stored
    for stated_hw in (None, upright.shape[:2], (40, 60)):
        records = replace(people, records=(replace(record, size_wh=np.array([60.0, 80.0]), stated_hw=stated_hw),))
        sample = CropDataset(records, IMAGE_HW)[0]
        np.testing.assert_array_equal(
            sample["image"], warp_image(expected[stated_hw], sample["matrix"], IMAGE_HW), err_msg=f"stated {stated_hw}"
        )


def test_a_picture_of_another_size_than_stated_is_a_bad_one(people):
    record = replace(people.records[0], stated_hw=(320, 260))
    sample = CropDataset(replace(people, records=(record,)), IMAGE_HW)[0]
    assert sample["image"] is None and record.image in sample["error"] and "260" in sample["error"]


# --- what is drawn ------------------------------------------------------------------------------------------------
def test_rotation_scale_and_flip_are_distributed_as_stated(people):
    record = people.records[0]
    drawn = draws(record, Augmentation(half_body_prob=0), 4000)
    rotations, flips = np.array([d[2] for d in drawn]), np.array([d[3] for d in drawn])
    scales = np.array([d[1] / record.size_wh for d in drawn])
    np.testing.assert_array_equal([d[0] for d in drawn], np.broadcast_to(record.center_xy, (4000, 2)))
    assert flips.mean() == pytest.approx(0.5, abs=0.03)
    assert (rotations != 0).mean() == pytest.approx(0.6, abs=0.03)
    turned = rotations[rotations != 0]
    assert np.abs(turned).max() == 80  # clipped at two sigma, which 4.6 % reach
    assert (np.abs(turned) == 80).mean() == pytest.approx(2 * norm.sf(2), abs=0.015)
    assert (np.abs(turned) < 40).mean() == pytest.approx(1 - 2 * norm.sf(1), abs=0.035)
    np.testing.assert_allclose(scales[:, 0], scales[:, 1])
    assert scales.min() == pytest.approx(0.7) and scales.max() == pytest.approx(1.3)
    assert (scales[:, 0] > 1.2999).mean() == pytest.approx(norm.sf(1), abs=0.03)
    assert np.corrcoef(flips, rotations != 0)[0, 1] == pytest.approx(0, abs=0.06)


def test_half_bodies(people):
    record = people.records[5]
    labelled = set(np.flatnonzero(record.visibility))
    halves = {}
    for upper in (True, False):
        chosen = [j for j in sorted(labelled) if (j in LSP.upper_body) == upper]
        points = record.keypoints_xy[chosen]
        halves[upper] = points.mean(0), 1.5 * (points.max(0) - points.min(0))
    augmentation = replace(NOTHING, half_body_prob=1.0)
    took_upper = []
    for center_xy, size_wh, *_ in draws(record, augmentation, 2000):
        upper = bool(np.allclose(center_xy, halves[True][0]))
        np.testing.assert_allclose(center_xy, halves[upper][0])
        np.testing.assert_allclose(fit_aspect(size_wh, IMAGE_HW), fit_aspect(halves[upper][1], IMAGE_HW))
        took_upper.append(upper)
    assert np.mean(took_upper) == pytest.approx(norm.cdf(0.5), abs=0.03)  # 0.69, as in the published code
    drawn = draws(record, replace(NOTHING, half_body_prob=0.3), 3000)
    assert np.mean([not np.array_equal(d[0], record.center_xy) for d in drawn]) == pytest.approx(0.3, abs=0.03)


def test_bodies_with_few_labelled_joints_stay_whole_and_small_halves_are_not_taken(people):
    augmentation = replace(NOTHING, half_body_prob=1.0)
    record = people.records[5]

    def with_labels(joints):
        return replace(record, visibility=np.isin(np.arange(14), joints) * 2)

    for joints in ([], list(range(5)) + [6, 7, 8]):  # 8 joints: not more than 8
        for center_xy, size_wh, *_ in draws(with_labels(joints), augmentation, 20):
            np.testing.assert_array_equal(center_xy, record.center_xy)
            np.testing.assert_array_equal(size_wh, record.size_wh)
    lower_two = [0, 1, *LSP.upper_body]
    lower_two.remove(13)  # 9 joints, 2 of them lower: always the upper half
    upper = [j for j in lower_two if j > 5]
    for center_xy, *_ in draws(with_labels(lower_two), augmentation, 50):
        np.testing.assert_allclose(center_xy, record.keypoints_xy[upper].mean(0))


def test_a_half_needs_three_labelled_joints_and_an_extent(people):
    record, augmentation = people.records[5], replace(NOTHING, half_body_prob=1.0, half_body_min_joints=0)

    def centres(joints, xy=record.keypoints_xy) -> list:
        labelled = replace(record, visibility=np.isin(np.arange(14), joints) * 2, keypoints_xy=xy)
        return [d[0].tolist() for d in draws(labelled, augmentation, 40)]

    def mean(joints):
        return record.keypoints_xy[joints].mean(0).tolist()

    lower, upper = [0, 1, 2], [6, 7, 8]
    found = centres(lower + upper)
    assert mean(lower) in found and mean(upper) in found
    assert centres(lower + upper[:2]) == [mean(lower)] * 40  # two upper joints are too few
    assert centres(lower[:2] + upper) == [mean(upper)] * 40
    assert centres(lower[:2] + upper[:2]) == [mean(upper[:2])] * 40  # if both are, the upper one is taken, with two …
    assert centres(lower[:2] + upper[:1]) == [record.center_xy.tolist()] * 40  # … but not with one
    assert centres(upper, np.full((14, 2), 7.0)) == [record.center_xy.tolist()] * 40  # all in one place


def test_one_option_does_not_shift_the_draws_of_another(people):
    record = people.records[0]
    plain = draws(record, Augmentation(half_body_prob=0), 50)
    for augmentation, same in (
        (Augmentation(half_body_prob=1), (2, 3)),
        (Augmentation(half_body_prob=0, rotation_prob=0), (0, 1, 3)),
        (Augmentation(half_body_prob=0, scale_factor=0), (0, 2, 3)),
        (Augmentation(half_body_prob=0, flip_prob=0), (0, 1, 2)),
    ):
        for one, other in zip(plain, draws(record, augmentation, 50), strict=True):
            for part in same:
                np.testing.assert_array_equal(one[part], other[part])


def test_colour_changes_pixels_only(people):
    differences = []
    for index in range(6):
        plain, changed = (
            CropDataset(people, IMAGE_HW, augmentation=Augmentation(colour=colour), seed=3)[2, index]
            for colour in (0.0, 0.3)
        )
        for key in ("matrix", "keypoints_xy", "visibility"):
            np.testing.assert_array_equal(plain[key], changed[key])
        differences.append(np.abs(plain["image"].astype(int) - changed["image"]).mean())
    assert 3 < np.mean(differences) < 60


def test_occlusion_covers_one_rectangle_and_no_joint_moves(people):
    areas = []
    for index in range(6):
        for epoch in range(4):
            plain, covered = (
                CropDataset(people, IMAGE_HW, augmentation=Augmentation(occlusion_prob=p), seed=3)[epoch, index]
                for p in (0.0, 1.0)
            )
            for key in ("matrix", "keypoints_xy", "visibility"):
                np.testing.assert_array_equal(plain[key], covered[key])
            rows, columns = np.nonzero((plain["image"] != covered["image"]).any(axis=-1))
            inside = covered["image"][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert len(np.unique(inside.reshape(-1, 3), axis=0)) == 1  # one colour, nothing outside has changed
            share = np.array(inside.shape[:2]) / IMAGE_HW
            assert (share > 0.05).all() and (share < 0.5).all()
            areas.append(share.prod())
    assert np.std(areas) > 0.01
    halves = [
        CropDataset(people, IMAGE_HW, augmentation=Augmentation(occlusion_prob=p), seed=3)[epoch, 1]["image"]
        for epoch in range(60) for p in (0.0, 0.5)
    ]  # fmt: skip
    changed = sum((a != b).any() for a, b in zip(halves[::2], halves[1::2], strict=True))
    assert 18 <= changed <= 42  # of 60, at one half


def test_the_defaults_are_the_documented_recipe():
    """SimpleBaseline's factors and HRNet's half bodies on COCO; what no published recipe has is off."""
    assert asdict(Augmentation()) == {
        "half_body_prob": 0.3, "half_body_min_joints": 8, "scale_factor": 0.3, "rotation_deg": 40.0,
        "rotation_prob": 0.6, "flip_prob": 0.5, "colour": 0.0, "occlusion_prob": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        *((name, (0, 1), (-0.1, 1.1, np.nan)) for name in
          ("half_body_prob", "rotation_prob", "flip_prob", "colour", "occlusion_prob")),
        ("scale_factor", (0, 0.99), (-0.1, 1, np.nan)),
        ("rotation_deg", (0, 180), (-1, np.inf, np.nan)),
        ("half_body_min_joints", (0, 99), (-1,)),
    ],
)  # fmt: skip
def test_options_out_of_their_range_are_refused(name, allowed, refused):
    for value in allowed:
        assert getattr(Augmentation(**{name: value}), name) == value
    for value in refused:
        with pytest.raises(UserError, match=name):
            Augmentation(**{name: value})


@pytest.mark.parametrize("amount", [0.2, 0.5])
def test_the_draws_of_colours_and_rectangles_are_kept(amount):
    """A resumed run must see the same pictures: contrast, three channels, brightness; size, place, colour."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    rng = np.random.default_rng(7)
    contrast, channels, brightness = (rng.uniform(-amount, amount, size) for size in (None, 3, None))
    expected = (image - 128.0) * (1 + contrast) * (1 + channels / 2) + 128 + 128 * brightness
    found = change_colour(image, amount, np.random.default_rng(7))
    assert np.abs(found - np.clip(np.floor(expected), 0, 255)).max() <= 1e-9
    rng = np.random.default_rng(8)
    height, width = (rng.uniform(0.15, 0.45, 2) * (40, 60)).round().astype(int)
    top, left = (rng.random(2) * (40 - height, 60 - width)).astype(int)
    expected = image.copy()
    expected[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    before = image.copy()
    np.testing.assert_array_equal(occlude(image, np.random.default_rng(8)), expected)
    np.testing.assert_array_equal(image, before)
