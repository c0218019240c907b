"""``export()``: everything a user can get wrong first, then the graph, its card, the file, and the proof."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lgmpose.data import load_records
from lgmpose.data.batches import load_batches
from lgmpose.data.crops import CropDataset
from lgmpose.data.images import IMAGE_MEAN, IMAGE_STD, normalise
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.files import check_writable, write_atomically
from lgmpose.inference.backends import require
from lgmpose.pose.codecs import StandardCodec, make_codec
from lgmpose.pose.skeletons import SKELETONS, Skeleton, skeleton_from_category, skeleton_to_dict
from lgmpose.zoo.cards import EXPORT_VERSION, SEAL, codec_of, find_weights, seal, skeleton_of, weights_hash

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = ["FORMATS", "Source", "export"]

FORMATS = {"onnx": ".onnx", "int8": ".onnx", "openvino": ".xml", "openvino-bf16": ".xml", "openvino-int8": ".xml"}
CALIBRATION_CROPS = 150  # of the training split, drawn with a fixed seed


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        net: the readable network, in eval mode, on the CPU.
        skeleton: the joints it finds.
        codec: how its heatmaps are read.
        weights: ``{"file": name, "sha256": first 12 digits}`` of the weights it was made from.
    """

    net: nn.Module
    skeleton: Skeleton
    codec: StandardCodec
    weights: dict[str, str]


def export(
    out: str | Path,
    *,
    weights: str | Path | None = None,
    model: str | None = None,
    image_hw: tuple[int, int] | None = None,
    num_keypoints: int | None = None,
    format: str = "onnx",
    data: str | None = None,
    annotations: str | None = None,
    val_annotations: str | None = None,
    verify: bool = False,
    json_file: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """What ``lgmpose export`` does; prints what was written. See its help for the arguments.

    Returns:
        The file's card, with what was verified under ``verified``.

    Raises:
        UserError: options that do not fit together, a runtime that is not installed, an ``out`` that cannot be
            written, bad weights or data; or a file that turns out not to compute what the network does.
    """
    out = Path(out)
    _check_options(out, weights, model, num_keypoints, format, data, annotations, val_annotations, verify, json_file)
    source = _load_source(weights, model, image_hw, num_keypoints)
    precision = _precision(format)
    train_set = _records(data, "train", annotations, source) if precision == "int8" else None
    val_set = _records(data, "val", val_annotations, source) if verify and data is not None else None

    from lgmpose.inference.export.graph import export_graph

    graph = fp32 = export_graph(source.net, source.codec.image_hw)
    quantised: dict[str, Any] = {}
    if precision == "int8":
        from lgmpose.inference.export.int8 import quantise

        done = quantise(fp32, _calibration_inputs(train_set, source.codec), progress=progress)
        graph = done.model
        quantised = {
            "int8_layers": done.layers,
            "fp32_for_accuracy": done.left_for_accuracy,
            "fp32_for_speed": done.left_for_speed,
        }
        print(f"{done.layers} convolutions in 8 bits; heatmaps are off by {100 * done.error:.1f} % of their size")
        print(f"left in fp32 for accuracy: {', '.join(done.left_for_accuracy) or 'none'}")
        print(f"left in fp32 for speed: {', '.join(done.left_for_speed) or 'none'}")
    card = _card(source, precision) | quantised
    write_graph(out, graph, card)
    print(f"written: {out} ({out.stat().st_size / 1e6:.1f} MB), from {source.weights['file']}")
    if verify:
        from lgmpose.inference.export.verify import verify_export

        card["verified"] = verify_export(source, out, card, fp32, val_set, progress=progress)
        if json_file is not None:
            write_atomically(json_file, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
    return card


def _precision(format: str) -> str:
    return format.rpartition("-")[2] if format not in ("onnx", "openvino") else "fp32"


def _check_options(
    out, weights, model, num_keypoints, format, data, annotations, val_annotations, verify, json_file
) -> None:
    if out.suffix.lower() != FORMATS[format]:
        raise UserError(f"{out}: --format {format} is written as {FORMATS[format]}")
    if weights is not None and model is not None:
        raise UserError("--weights has a network of its own: leave out --model, or --weights for fresh ones")
    if num_keypoints is not None and model is None:
        raise UserError("--num-keypoints belongs to --model; weights have their own number of joints")
    int8 = _precision(format) == "int8"
    if int8 and data is None:
        raise UserError(f"--format {format} is calibrated on training crops: name them by --data KIND:PATH")
    if data is not None and not int8 and not verify:
        raise UserError("--data is for 8 bits and --verify; leave it out")
    if annotations is not None and not int8:
        raise UserError("--annotations are those 8 bits are calibrated on; --verify takes --val-annotations")
    if val_annotations is not None and (data is None or not verify):
        raise UserError("--val-annotations are for --verify with --data; add these, or leave it out")
    if json_file is not None and not verify:
        raise UserError("--json keeps what --verify finds; add --verify")
    require("onnx", "onnx", "exporting")
    require("onnxscript", "onnx", "exporting")
    if format.startswith("openvino"):
        require("openvino", "openvino", f"--format {format}")
    if int8 or (verify and format == "onnx"):
        require("onnxruntime", "onnx", f"--format {format}" if int8 else "--verify")
    binary = out.with_suffix(".bin") if format.startswith("openvino") else None
    for path in (out, binary, json_file):
        if path is not None:
            check_writable(path)


def _load_source(weights, model, image_hw, num_keypoints) -> Source:
    import torch

    from lgmpose.zoo import catalogue as zoo

    if model is None:
        path = find_weights(weights)
        net, card = zoo.load_weights(path)
        net = zoo.at_size(net, image_hw) if image_hw is not None else net
        codec = codec_of(card, net.config.image_hw)
        return Source(net, skeleton_of(card), codec, {"file": path.name, "sha256": weights_hash(path)})
    changes = {"image_hw": image_hw, "num_keypoints": num_keypoints}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = zoo.create_model(model, **{name: value for name, value in changes.items() if value is not None}).eval()
    K = net.config.num_keypoints
    named = {skeleton.num_keypoints: skeleton for skeleton in SKELETONS.values()}
    skeleton = named.get(K) or skeleton_from_category({"keypoints": [f"joint_{k}" for k in range(K)]})
    weights = {"file": f"fresh random weights of {model}", "sha256": "none"}
    return Source(net, skeleton, make_codec("dark", net.config.image_hw), weights)


def _records(data: str, split: str, annotations: str | None, source: Source) -> RecordSet:
    record_set = load_records(data, split, annotations=annotations)
    if record_set.skeleton.joint_names != source.skeleton.joint_names:
        raise UserError(
            f"{annotations or data}: has skeleton {record_set.skeleton.name}, but {source.weights['file']} is for "
            f"{source.skeleton.name}: take data of the same joints in the same order"
        )
    return record_set


def _calibration_inputs(record_set: RecordSet, codec: StandardCodec) -> np.ndarray:
    """(n, 3, H, W) float32: a fixed sample of crops; pictures that cannot be read are left out."""
    order = np.random.default_rng(0).permutation(len(record_set))[:CALIBRATION_CROPS]
    dataset = CropDataset(record_set, codec.image_hw, aligned=codec.aligned)
    (batch,) = load_batches(dataset, [[int(i) for i in order]], workers=1)
    if "image" not in batch:
        raise UserError(f"{batch['errors'][0]}; no picture of {record_set.name} to calibrate on")
    return normalise(batch["image"])


def _card(source: Source, precision: str) -> dict[str, Any]:
    from lgmpose import __version__

    return {
        "kind": "export",
        "version": EXPORT_VERSION,
        "lgmpose": __version__,
        "precision": precision,
        "image_hw": list(source.codec.image_hw),
        "mean": IMAGE_MEAN,
        "std": IMAGE_STD,
        "skeleton": skeleton_to_dict(source.skeleton),
        "codec": {"name": source.codec.name, "sigma": source.codec.sigma},
        "network": asdict(source.net.config),
        "weights": source.weights,
        "seal": SEAL,
    }


def write_graph(out: Path, graph: onnx.ModelProto, card: dict[str, Any]) -> None:
    """Writes a graph with its card, sealed, in the suffix's format. Raises UserError where it cannot be written."""
    (_write_onnx if out.suffix.lower() == ".onnx" else _write_openvino)(out, graph, card)


def _write_onnx(out: Path, graph: onnx.ModelProto, card: dict[str, Any]) -> None:
    graph.producer_name = "lgmpose"
    entry = graph.metadata_props.add()
    entry.key, entry.value = "lgmpose", json.dumps(card)
    write_atomically(out, seal(graph.SerializeToString()))


def _write_openvino(out: Path, graph: onnx.ModelProto, card: dict[str, Any]) -> None:
    """OpenVINO's ``.xml`` and ``.bin``; for bfloat16 the numbers stay fp32, and the runtime rounds them."""
    import onnx
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "graph.onnx", Path(folder) / "graph.xml"
        onnx.save(graph, source)
        model = openvino.Core().read_model(source)
        model.set_rt_info(json.dumps(card), "lgmpose")
        openvino.save_model(model, target, compress_to_fp16=False)
        structure, weights = target.read_bytes(), target.with_suffix(".bin").read_bytes()
    write_atomically(out.with_suffix(".bin"), weights)
    write_atomically(out, seal(structure, weights))
