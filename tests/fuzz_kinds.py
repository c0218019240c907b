"""The kinds of input files for ``fuzz.py``: how good ones are made, how they are spoilt, and how they are opened."""

from __future__ import annotations

import copy
import json
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from fuzz import spoil_bytes, spoil_json, spoil_text, spoil_tree

__all__ = ["DATA_YAML", "KINDS", "NOTES", "Kind"]

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Kind:
    """One kind of input file.

    Attributes:
        name: of the kind.
        build: writes good files into a folder, once.
        spoil: (random, folder, folder of the case, number) → path of a spoilt copy.
        use: (path, folder) opens it as users do.
        share: of the cases; slow kinds get fewer.
    """

    name: str
    build: Callable[[Path], object]
    spoil: Callable[[random.Random, Path, Path, int], Path]
    use: Callable[[Path, Path], object]
    share: int = 10


def _picture(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# --- COCO annotations and detections --------------------------------------------------------------------------------


def _coco_content() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    annotations = []
    for number in range(4):
        xy = rng.uniform((10, 8), (50, 40), (17, 2)).round(1)
        keypoints = np.column_stack([xy, np.full(17, 2)])
        annotations.append({
            "id": number + 1, "image_id": 1 + number // 2, "category_id": 1, "iscrowd": int(number == 3),
            "keypoints": keypoints.ravel().tolist(), "num_keypoints": 17, "bbox": [5.0, 4.0, 50.0, 40.0], "area": 900.0,
        })  # fmt: skip
    from lgmpose.pose.skeletons import COCO

    category = {"id": 1, "name": "person", "keypoints": list(COCO.joint_names), "skeleton": [[1, 2], [16, 14]]}
    extra = {"id": 2, "name": "keeper", "keypoints": list(COCO.joint_names), "flip_pairs": [["left_eye", "right_eye"]],
             "sigmas": [0.05] * 17}  # fmt: skip
    images = [{"id": i, "file_name": f"images/{i}.png", "height": 48, "width": 64} for i in (1, 2)]
    return {"images": images, "annotations": annotations, "categories": [category, extra], "info": {}}


def _build_coco(folder: Path) -> None:
    for i in (1, 2):
        _write(folder / f"images/{i}.png", cv2.imencode(".png", _picture())[1].tobytes())
    _write(folder / "good.json", json.dumps(_coco_content()).encode())


def _use_records(record_set: Any) -> None:
    """Crop and encode the first persons, as training does."""
    from lgmpose.data.crops import CropDataset
    from lgmpose.pose.codecs import make_codec

    dataset, codec = CropDataset(record_set, (64, 48)), make_codec("dark", (64, 48))
    for index in range(min(2, len(dataset))):
        sample = dataset[index]
        if sample["image"] is not None:
            codec.encode(sample["keypoints_xy"][None], sample["visibility"][None])


def _use_coco(path: Path, folder: Path) -> None:
    from lgmpose.data.coco import load_coco
    from lgmpose.metrics import coco_ap, coco_results

    record_set = load_coco(path, folder)
    _use_records(record_set)
    K, count = record_set.skeleton.num_keypoints, len(record_set)
    ids = [record.image_id for record in record_set.records]
    results = coco_results(ids, np.ones((count, K, 2)), np.ones((count, K)), np.ones(count), record_set.category_id)
    coco_ap(results, path, record_set.skeleton.oks_sigmas, record_set.image_ids)


def _use_ap(path: Path, folder: Path) -> None:
    from lgmpose.metrics import coco_ap, coco_results

    coco_ap(coco_results([1, 2], np.ones((2, 17, 2)), np.ones((2, 17)), [0.5, 0.6]), path)


def _use_person_boxes(path: Path, folder: Path) -> None:
    from lgmpose.data.boxes import LetterboxDataset, collate_boxes, load_boxes
    from lgmpose.inference.detector_figures import evaluate_detector

    box_set = load_boxes(path, [folder])
    collate_boxes([LetterboxDataset(box_set, (64, 64))[0, index] for index in range(min(2, len(box_set)))])
    corner = SimpleNamespace(detect=lambda picture: (np.array([[0, 0, 20, 20]]), np.ones(1)))
    evaluate_detector(corner, box_set, progress=False)


def _detections() -> list[dict[str, Any]]:
    return [
        {"image_id": 1 + i % 2, "category_id": 1, "bbox": [5.0 + i, 4.0, 40.0, 40.0], "score": 0.9,
         "file_name": f"{1 + i % 2}.png"}
        for i in range(4)
    ]  # fmt: skip


def _use_detections(path: Path, folder: Path) -> None:
    from lgmpose.data.coco import load_coco

    _use_records(load_coco(folder / "good.json", folder, detections=path))


def _use_boxes(path: Path, folder: Path) -> None:
    from lgmpose.inference.detections import read_detections
    from lgmpose.inference.inputs import check_boxes

    pictures = [folder / "images/1.png", folder / "images/2.png"]
    for picture, (boxes, _) in read_detections(path, pictures).items():
        check_boxes(boxes, (48, 64), str(picture))


# --- MPII and LSPET -------------------------------------------------------------------------------------------------


def _mpii_content() -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    return [
        {
            "image": f"{1 + i % 2}.png", "center": [32.0, 24.0], "scale": 0.2, "person": i, "joints_vis": [1] * 16,
            "joints": rng.uniform((10, 8), (50, 40), (16, 2)).round(2).tolist(), "joints_visible": [1] * 16,
            "headbox": [20.0, 5.0, 30.0, 15.0],
        }
        for i in range(3)
    ]  # fmt: skip


def _build_mpii(folder: Path) -> None:
    _build_coco(folder)
    persons = _mpii_content()
    _write(folder / "mpii.json", json.dumps([{k: v for k, v in p.items() if k != "headbox"} for p in persons]).encode())


def _use_mpii(path: Path, folder: Path) -> None:
    from lgmpose.data.mpii import load_mpii

    _use_records(load_mpii(path, folder / "images"))


def _truth_arrays() -> dict[str, np.ndarray]:
    joints = np.array([person["joints"] for person in _mpii_content()])
    boxes = np.array([person["headbox"] for person in _mpii_content()]).reshape(-1, 2, 2)
    return {
        "pos_gt_src": joints.transpose(1, 2, 0), "jnt_missing": np.zeros((16, 3)),
        "headboxes_src": boxes.transpose(1, 2, 0), "pos_pred_src": joints.transpose(1, 2, 0),
    }  # fmt: skip


def _spoil_array(rng: random.Random, array: np.ndarray) -> Any:
    """Return an array with other values, another shape or another type; or something else."""
    change = rng.randrange(6)
    if change == 0:
        return rng.choice(
            (array[..., :-1], array[:-1], array.T, array.ravel(), array[None], array[:0], array[..., None])
        )
    if change == 1:
        return array.astype(rng.choice(("int8", "float32", "uint8", "int64", "complex128", "bool")))
    if change == 2:
        return rng.choice((np.array("text"), np.zeros((0, 0)), np.array([]), np.array(["a", "b"], object), 3, "x"))
    if array.size == 0 or array.dtype.kind not in "fiu":
        return array
    changed = array.astype(float)
    for _ in range(rng.choice((1, 3, 20))):
        changed.flat[rng.randrange(changed.size)] = rng.choice((np.nan, np.inf, -np.inf, 0, -1, 1e30, 1e308, 2))
    return changed


def _save_mat(path: Path, arrays: dict[str, Any], rng: random.Random, chance: float = 0.3) -> Path:
    """Write a MATLAB file; with some chance its bytes are changed, too."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        savemat(path, arrays, do_compression=rng.random() < 0.5)
    except Exception:  # MATLAB has no such value
        savemat(path, {"other": 1})
    if rng.random() < chance:
        path.write_bytes(spoil_bytes(rng, path.read_bytes()))
    return path


def _spoil_truth(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    arrays: dict[str, Any] = dict(_truth_arrays())
    for name in rng.sample(sorted(arrays), rng.choice((0, 1, 1, 2))):
        arrays[name] = _spoil_array(rng, arrays[name])
        if rng.random() < 0.1:
            del arrays[name]
    return _save_mat(case / "gt_valid.mat", arrays, rng)


def _use_truth(path: Path, folder: Path) -> None:
    from lgmpose.data.mpii import load_mpii
    from lgmpose.data.mpii_truth import load_mpii_truth, mpii_pckh

    truth = load_mpii_truth(path)
    if truth.published_xy_1based is not None:
        mpii_pckh(truth.published_xy_1based, truth)
    _use_records(load_mpii(folder / "mpii.json", folder / "images", truth=path))


def _release() -> dict[str, Any]:
    """The official file's structure as nested dicts and lists; savemat writes a list of dicts as a struct array."""
    points = [{"x": 10.0 + i, "y": 20.0 + i, "id": i, "is_visible": i % 2} for i in range(16)]
    person = {"x1": 10, "y1": 20, "x2": 40, "y2": 60, "annopoints": {"point": points}, "scale": 1.5,
              "objpos": {"x": 50.0, "y": 60.0}}  # fmt: skip
    pictures = [{"image": {"name": f"{i}.jpg"}, "annorect": [person, copy.deepcopy(person)]} for i in (1, 2)]
    return {"annolist": pictures, "img_train": [1, 1], "version": "12"}


def _as_struct(value: Any) -> Any:
    """Return nested dicts and lists of dicts as MATLAB structs and struct arrays."""
    if isinstance(value, dict):
        made = np.zeros((1, 1), [(str(name) or "empty", object) for name in value] or [("empty", object)])
        for name, item in value.items():
            made[str(name) or "empty"][0, 0] = _as_struct(item)
        return made
    if (
        isinstance(value, list)
        and value
        and all(isinstance(item, dict) and item.keys() == value[0].keys() for item in value)
    ):
        return np.concatenate([_as_struct(item) for item in value], axis=1)
    if isinstance(value, list):
        return np.array([_as_struct(item) for item in value], object) if not _is_flat(value) else np.array([value])
    return np.zeros((0, 0)) if value is None else value


def _is_flat(values: list) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _spoil_release(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    tree = {"RELEASE": _release()}
    try:
        made = {name: _as_struct(value) for name, value in spoil_tree(rng, tree).items()}
    except Exception:  # a name that MATLAB does not allow
        made = {"RELEASE": 1}
    return _save_mat(case / "mpii_human_pose_v1_u12_1.mat", made, rng, 0.1)


def _use_release(path: Path, folder: Path) -> None:
    from lgmpose.data.prepare.mpii_matlab import convert_mpii_mat

    convert_mpii_mat(path)


def _spoil_lspet(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    joints: Any = np.random.default_rng(3).uniform(5, 40, (14, 3, 4))
    picture = cv2.imencode(".jpg", _picture())[1].tobytes()
    if rng.random() < 0.6:
        joints = _spoil_array(rng, joints)
    mat = _save_mat(case / "joints.mat", {"joints" if rng.random() < 0.95 else "points": joints}, rng, 0.2)
    path = case / f"lspet-{number}.zip"  # zips stay open, so each needs a name of its own
    with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        prefix = rng.choice(("", "lspet_dataset/"))
        if rng.random() < 0.95:
            archive.write(mat, f"{prefix}joints.mat")
        for i in range(1, 5 if rng.random() < 0.95 else 4):
            archive.writestr(
                f"{prefix}images/im{i:05}.jpg", spoil_bytes(rng, picture) if rng.random() < 0.2 else picture
            )
    if rng.random() < 0.4:
        path.write_bytes(spoil_bytes(rng, path.read_bytes()))
    return path


def _use_lspet(path: Path, folder: Path) -> None:
    from lgmpose.data.lspet import load_lspet

    _use_records(load_lspet(path, "all"))


# --- folders of labelling tools -------------------------------------------------------------------------------------

DATA_YAML = """\
path: .
train: images
val: images
kpt_shape: [3, 3]
flip_idx: [0, 2, 1]
names:
  0: person
kpt_names:
  0: [nose, left_hand, right_hand]
"""
LABELS = "0 0.5 0.5 0.6 0.7 0.5 0.3 2 0.4 0.6 2 0.6 0.6 1\n0 0.4 0.5 0.5 0.5 0.5 0.3 2 0.4 0.6 0 0.6 0.6 1\n"
NOTES = {"categories": [{"id": 0, "name": "person", "keypoints": ["nose", "left_hand", "right_hand"]}], "info": {}}


def _build_yolo(folder: Path) -> None:
    _build_coco(folder)
    for i in (1, 2):
        _write(folder / f"labels/{i}.txt", LABELS.encode())


def _spoil_yolo(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    picture = (folder / "images/1.png").read_bytes()
    yaml, labels, notes = DATA_YAML.encode(), LABELS.encode(), json.dumps(NOTES).encode()
    what = rng.choice(("yaml", "tree", "labels", "labels", "notes", "picture"))
    if what == "yaml":
        yaml = spoil_text(rng, DATA_YAML)
    elif what == "tree":  # JSON is YAML, too
        tree = {"path": ".", "train": "images", "val": "images", "kpt_shape": [3, 3], "flip_idx": [0, 2, 1],
                "names": {"0": "person"}, "kpt_names": ["nose", "left_hand", "right_hand"]}  # fmt: skip
        yaml = spoil_json(rng, tree)
    elif what == "labels":
        labels = spoil_text(rng, LABELS)
    elif what == "notes":
        notes = spoil_json(rng, NOTES)
    else:
        picture = spoil_bytes(rng, picture)
    for i in (1, 2):
        _write(case / f"images/{i}.png", picture)
        _write(case / f"labels/{i}.txt", labels)
    _write(case / ("notes.json" if what == "notes" else "data.yaml"), notes if what == "notes" else yaml)
    return case


def _use_yolo(path: Path, folder: Path) -> None:
    from lgmpose.data import load_records

    _use_records(load_records(f"yolo:{path}", "all" if (path / "notes.json").exists() else "train"))


def _via_content() -> dict[str, Any]:
    names = ("nose", "left_hand", "right_hand")
    points = [
        {"id": i, "image_id": 1, "category_id": i + 1, "keypoints": [20.0 + 5 * i, 20.0, 2], "bbox": []}
        for i in range(3)
    ]
    box = {"id": 9, "image_id": 1, "category_id": 9, "bbox": [10.0, 10.0, 40.0, 30.0], "keypoints": []}
    images = [{"id": 1, "file_name": "images/1.png", "height": 48, "width": 64}]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)] + [{"id": 9, "name": "person"}]
    return {"images": images, "annotations": [*points, box], "categories": categories}


def _use_via(path: Path, folder: Path) -> None:
    from lgmpose.data import load_records

    _use_records(load_records(f"via:{folder}", "train", annotations=str(path)))


def _spoil_mixture(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    entry = f'data = "coco:{folder}"\nannotations = "{folder}/good.json"\nsplit = "all"\n'
    text = f'[[train]]\n{entry}weight = 2.5\n[[train]]\n{entry}[[val]]\n{entry}[[val]]\n{entry}name = "b"\n'
    if rng.random() < 0.3:  # most of these are no longer TOML
        return _write(case / "sets.toml", spoil_text(rng, text))
    lines = text.split("\n")
    at = rng.choice([i for i, line in enumerate(lines) if " = " in line])
    values = ('"mix:x"', '"lspet:x"', '"val"', '""', "[]", "{}", "nan", "inf", "-1", "0", "1e-300", "1e308", "true")
    lines[at] = f"{lines[at].partition(' = ')[0]} = {rng.choice(values)}"
    return _write(case / "sets.toml", "\n".join(lines).encode())


def _use_mixture(path: Path, folder: Path) -> None:
    from lgmpose.data import load_records, load_validation_sets
    from lgmpose.data.batches import EpochSampler, draws_per_epoch

    train_set = load_records(f"mix:{path}")
    _use_records(train_set)
    next(iter(EpochSampler(len(train_set), 2, seed=0, epoch=0, draws=draws_per_epoch(train_set.parts, 20))))
    load_validation_sets(f"mix:{path}")


# --- pictures and videos --------------------------------------------------------------------------------------------

SUFFIXES = (".jpg", ".png", ".bmp", ".webp", ".tiff", ".gif", ".ppm", ".jp2", ".avif")


@cache
def _encoded(suffix: str) -> bytes:
    try:
        done, data = cv2.imencode(suffix, _picture())
    except cv2.error:  # this OpenCV cannot write it
        done = False
    return data.tobytes() if done else cv2.imencode(".jpg", _picture())[1].tobytes()


def _spoil_picture(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    suffix = rng.choice(SUFFIXES)
    return _write(case / f"photo{suffix}", spoil_bytes(rng, _encoded(suffix)))


def _use_picture(path: Path, folder: Path) -> None:
    from lgmpose.data.images import read_annotated, read_image

    read_annotated(path, (48, 64))
    read_image(path)


def _build_video(folder: Path) -> None:
    import av

    with av.open(str(folder / "good.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(5):
            picture = np.roll(_picture(), i, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _spoil_video(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    return _write(case / "walk.mp4", spoil_bytes(rng, (folder / "good.mp4").read_bytes()))


@cache
def _blank_predictor() -> Any:
    import lgmpose
    from lgmpose.pose.codecs import make_codec
    from lgmpose.pose.skeletons import LSP

    class Blank:
        image_hw, skeleton, codec, source = (64, 48), LSP, make_codec("dark", (64, 48)), {"file": "none", "sha256": "0"}

        def heatmaps(self, crops: np.ndarray) -> np.ndarray:
            return np.zeros((len(crops), 14, 16, 12), np.float32)

    return lgmpose.Predictor(Blank(), flip_test=False)


def _use_video(path: Path, folder: Path) -> None:
    from lgmpose.inference.predict_files import predict_files

    predict_files(_blank_predictor(), [path], path.parent / "out", boxes=[(5, 5, 30, 30)])


# --- weights, exported files, runs ----------------------------------------------------------------------------------


def _tiny() -> Any:
    from training_tools import TINY

    from lgmpose.network.model import LGMPose

    return LGMPose(TINY).eval()


def _build_weights(folder: Path) -> None:
    from lgmpose.pose.codecs import make_codec
    from lgmpose.pose.skeletons import COCO
    from lgmpose.zoo.catalogue import save_weights

    training = {"config": {"data": "coco:x"}, "epoch": 1}
    save_weights(folder / "good.safetensors", _tiny(), COCO, make_codec("dark", (64, 32)), training=training)


def _spoil_weights(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    data = (folder / "good.safetensors").read_bytes()
    what = rng.random()
    if what < 0.3:
        return _write(case / "w.safetensors", spoil_bytes(rng, data))
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if what < 0.8:
        header["__metadata__"]["lgmpose"] = spoil_json(rng, json.loads(header["__metadata__"]["lgmpose"])).decode(
            "utf-8", "replace"
        )
    else:
        header = spoil_tree(rng, header)
    text = json.dumps(header).encode()
    return _write(case / "w.safetensors", struct.pack("<Q", len(text)) + text + data[8 + length :])


def _use_weights(path: Path, folder: Path) -> None:
    import lgmpose

    lgmpose.Predictor(path, flip_test=False, device="cpu")(_picture(), boxes=[(5, 5, 30, 30)])


def _graph_and_card() -> tuple[Any, dict[str, Any]]:
    """One convolution with the card of an exported network."""
    from onnx import TensorProto, helper, numpy_helper

    from lgmpose.inference.export.graph_files import Source, make_card
    from lgmpose.pose.codecs import make_codec
    from lgmpose.pose.skeletons import LSP

    weight = numpy_helper.from_array(np.zeros((14, 3, 4, 4), np.float32), "weight")
    node = helper.make_node("Conv", ["images", "weight"], ["heatmaps"], strides=[4, 4])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (
        ("images", ["batch", 3, 64, 32]), ("heatmaps", ["batch", 14, 16, 8]),
    )]  # fmt: skip
    graph = helper.make_model(
        helper.make_graph([node], "net", ends[:1], ends[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )  # fmt: skip
    source = Source(_tiny(), LSP, make_codec("dark", (64, 32)), {"file": "none", "sha256": "0"})
    return graph, json.loads(json.dumps(make_card(source, "fp32")))


def _build_onnx(folder: Path) -> None:
    import onnx

    graph, card = _graph_and_card()
    onnx.save(graph, folder / "bare.onnx")
    _write(folder / "card.json", json.dumps(card).encode())


def _spoil_onnx(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    import onnx

    graph, card = onnx.load(folder / "bare.onnx"), json.loads((folder / "card.json").read_text())
    entry, in_card = graph.metadata_props.add(), rng.random() < 0.6
    entry.key = "lgmpose"
    entry.value = spoil_json(rng, card).decode("utf-8", "replace") if in_card else json.dumps(card)
    data = graph.SerializeToString()
    return _write(case / f"net{number}.onnx", data if in_card else spoil_bytes(rng, data))


def _build_detector(folder: Path) -> None:
    """A file with YOLOX's output for a picture of 64 × 96: the same boxes whatever the picture."""
    import onnx
    from onnx import helper, numpy_helper

    rows = np.random.default_rng(0).uniform(0, 1, (1, 96 + 24 + 6, 7)).astype(np.float32)
    ends = [helper.make_tensor_value_info(name, 1, shape) for name, shape in (("x", (1, 3, 64, 96)), ("y", rows.shape))]
    constant = numpy_helper.from_array(rows, "rows")
    graph = helper.make_graph([helper.make_node("Identity", ["rows"], ["y"])], "net", ends[:1], ends[1:], [constant])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "good.onnx"
    )


def _spoil_detector(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    data = bytearray((folder / "good.onnx").read_bytes())
    if rng.random() < 0.5:  # only the numbers
        for _ in range(rng.choice((1, 20))):
            at = rng.randrange(100, len(data) - 104)
            data[at : at + 4] = np.float32(rng.choice((np.nan, np.inf, -np.inf, 1e30, -1e30, 100, 0))).tobytes()
        return _write(case / f"detector{number}.onnx", bytes(data))
    return _write(case / f"detector{number}.onnx", spoil_bytes(rng, bytes(data)))


def _use_detector(path: Path, folder: Path) -> None:
    from lgmpose.inference.detectors import open_detector

    boxes, scores = open_detector(path, threads=1).detect(_picture())
    assert np.isfinite(boxes).all() and np.isfinite(scores).all()


def _build_openvino(folder: Path) -> None:
    from lgmpose.inference.export.graph_files import write_graph

    write_graph(folder / "good.xml", *_graph_and_card())


def _spoil_openvino(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    structure, weights = (folder / "good.xml").read_bytes(), (folder / "good.bin").read_bytes()
    if rng.random() < 0.8:
        structure = spoil_bytes(rng, structure)
    else:
        weights = spoil_bytes(rng, weights)
    _write(case / "net.bin", weights)
    return _write(case / "net.xml", structure)


@cache
def _run() -> Any:
    """A run after one step, so that its optimiser has a state."""
    import torch
    from training_tools import TINY

    from lgmpose.network.model import LGMPose
    from lgmpose.training.checkpoint import Run
    from lgmpose.training.recipe import TrainConfig

    torch.manual_seed(0)
    run = Run(TrainConfig(data="synthetic", ema_decay=0.9, epochs=2), LGMPose(TINY), torch.device("cpu"))
    run.net(torch.randn(2, 3, 64, 32)).square().mean().backward()
    run.optimizer.step()
    run.step, run.data = 1, {"persons": 3, "crc32": 5}
    return run


def _build_checkpoint(folder: Path) -> None:
    _run().save(folder / "last.pt")


def _build_logs(folder: Path) -> None:
    _write(folder / "log.csv", b"epoch,step,train_loss,PCK@0.2,seconds\n1,10,0.5,12.5,3.5\n2,20,0.25,,7.0\n")
    _write(folder / "loss.csv", b"step,epoch,learning_rate,loss\n0,0,0.001,0.5\n1,0,0.001,0.25\n")


def _spoil_checkpoint(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    import torch

    data = (folder / "last.pt").read_bytes()
    if rng.random() < 0.3:
        return _write(case / "last.pt", spoil_bytes(rng, data))
    state = torch.load(folder / "last.pt", weights_only=True)
    case.mkdir(exist_ok=True)
    try:
        torch.save(spoil_tree(rng, state), case / "last.pt")
    except Exception:  # a value that cannot be pickled
        torch.save({}, case / "last.pt")
    return case / "last.pt"


def _use_checkpoint(path: Path, folder: Path) -> None:
    from lgmpose.training.checkpoint import stored_config

    stored_config(path)
    _run().restore(path)


def _spoil_logs(rng: random.Random, folder: Path, case: Path, number: int) -> Path:
    for name in ("log.csv", "loss.csv"):
        text = (folder / name).read_text()
        _write(case / name, spoil_text(rng, text) if rng.random() < 0.7 else text.encode())
    return case


def _use_logs(path: Path, folder: Path) -> None:
    from lgmpose.errors import UserError
    from lgmpose.training.run_folder import append_epoch, append_losses, read_log, start_losses

    try:
        read_log(path / "log.csv")
    finally:
        try:
            start_losses(path / "loss.csv", 1)
            append_losses(path / "loss.csv", [(1, 0, "0.1", "0.5")])
        except UserError:
            pass
        append_epoch(path / "log.csv", {"epoch": 2, "step": 20, "train_loss": 0.25})


# --- results --------------------------------------------------------------------------------------------------------


@cache
def _bench_content() -> dict[str, Any]:
    content = json.loads((ROOT / "results" / "keep-memory-384x288_2026-11-26.json").read_text(encoding="utf-8"))
    for row in content["rows"]:
        row["times_ms"] = row.get("times_ms", [])[:3]
    return content


def _use_bench(path: Path, folder: Path) -> None:
    from lgmpose.lab.bench import load_results, markdown

    markdown(load_results(path))


@cache
def _ablations() -> dict[str, Any]:
    content = json.loads((ROOT / "results" / "ablations.json").read_text(encoding="utf-8"))
    for part in (content["counted"], *(run["correct"] for run in content["runs"])):
        part.update({metric: " ".join(text.split()[:20]) for metric, text in part.items()})
    content["runs"] = content["runs"][:4]
    return content


def _use_ablations(path: Path, folder: Path) -> None:
    from lgmpose.lab.ablate.run_table import markdown as report
    from lgmpose.lab.ablate.runner import load_runs

    report(load_runs(path))


def _use_own_result(path: Path, folder: Path) -> None:
    """The JSON beside a drawing, which tells whose result it is before it is replaced."""
    from lgmpose.inference.predict_files import predict_files

    predict_files(_blank_predictor(), [folder / "images/1.png"], path.parent, boxes=[(5, 5, 30, 30)])


def _of_json(content: Callable[[], Any], name: str = "file.json") -> Callable[[random.Random, Path, Path, int], Path]:
    return lambda rng, folder, case, number: _write(case / name, spoil_json(rng, content()))


def _nothing(folder: Path) -> None:
    """Nothing is needed beside the spoilt file."""


def _own_result() -> dict[str, Any]:
    return {"image": "1.png", "path": "photos/1.png", "people": [{"score": 0.5}]}


KINDS = {
    kind.name: kind
    for kind in (
        Kind("coco", _build_coco, _of_json(_coco_content), _use_coco, 40),
        Kind("coco-ap", _build_coco, _of_json(_coco_content), _use_ap),
        Kind("coco-boxes", _build_coco, _of_json(_coco_content), _use_person_boxes),
        Kind("detections", _build_coco, _of_json(_detections), _use_detections),
        Kind("detections-predict", _build_coco, _of_json(_detections), _use_boxes),
        Kind("mpii-json", _build_mpii, _of_json(_mpii_content), _use_mpii),
        Kind("mpii-truth", _build_mpii, _spoil_truth, _use_truth),
        Kind("mpii-release", _nothing, _spoil_release, _use_release),
        Kind("lspet", _nothing, _spoil_lspet, _use_lspet),
        Kind("yolo", _build_yolo, _spoil_yolo, _use_yolo),
        Kind("via", _build_coco, _of_json(_via_content), _use_via, 5),
        Kind("mixture", _build_coco, _spoil_mixture, _use_mixture, 5),
        Kind("pictures", _nothing, _spoil_picture, _use_picture, 30),
        Kind("videos", _build_video, _spoil_video, _use_video, 5),
        Kind("weights", _build_weights, _spoil_weights, _use_weights),
        Kind("onnx", _build_onnx, _spoil_onnx, _use_weights),
        Kind("detectors", _build_detector, _spoil_detector, _use_detector, 5),
        Kind("openvino", _build_openvino, _spoil_openvino, _use_weights, 3),
        Kind("checkpoints", _build_checkpoint, _spoil_checkpoint, _use_checkpoint, 4),
        Kind("logs", _build_logs, _spoil_logs, _use_logs, 5),
        Kind("bench-results", _nothing, _of_json(_bench_content), _use_bench, 5),
        Kind("ablation-results", _nothing, _of_json(_ablations), _use_ablations, 3),
        Kind("own-results", _build_coco, _of_json(_own_result, "1.json"), _use_own_result, 5),
    )
}
