"""Export a network: check the input first, then make the graph and its card, write the file, and verify it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from lgmpose.data import load_records
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError, first_line, require
from lgmpose.files import check_writable, write_atomically
from lgmpose.inference.export.graph_files import Source, files_of, make_card, write_graph
from lgmpose.inference.options import ExportConfig
from lgmpose.zoo.cards import codec_of, find_weights, skeleton_of, weights_hash

__all__ = ["export"]

EDGE = {"ncnn": ("ncnn", "pnnx"), "executorch": ("executorch",), "coreml": ("coremltools",)}  # format → its packages
CALIBRATION_CROPS = 150  # of the training split, drawn with a fixed seed


def export(config: ExportConfig) -> dict[str, Any]:
    """Export a network, print what was written, and return the file's card, with ``verified`` if it was verified.

    A network named by ``config.model`` has no card; what was written is returned instead.

    Raises:
        UserError: a missing package, an ``out`` that cannot be written, bad weights or data, or a file that does not
            compute what the network does.
    """
    out = config.out
    _check_installed(config)
    # CoreML's package is a folder: a file beside it is tried.
    written = files_of(out) if config.format != "coreml" else [out.with_name(f".{out.name}")]
    for path in (*written, config.json):
        if path is not None:
            check_writable(path)
    other = out.with_suffix({".xml": ".param", ".param": ".xml"}.get(out.suffix.lower(), out.suffix))
    if other != out and other.exists():
        raise UserError(f"{out}: its .bin would replace that of {other}; choose another name for one of them")
    if config.model is not None:
        return _export_model(config, config.model)
    source = _load_source(config)
    int8 = config.precision == "int8"
    train_set = _records(config, "train", config.annotations, source) if int8 else None
    val_set = _records(config, "val", config.val_annotations, source) if config.verify and config.data else None

    card, fp32 = make_card(source, config.precision), None
    if config.format in EDGE:
        from lgmpose.inference.export.edge_files import write_edge

        write_edge(out, source, card)
    else:
        from lgmpose.inference.export.graph import export_graph

        graph = fp32 = export_graph(source.net, source.codec.image_hw)
        if train_set is not None:
            from lgmpose.inference.export.int8 import quantise

            chosen = np.random.default_rng(0).permutation(len(train_set))[:CALIBRATION_CROPS]
            done = quantise(fp32, source.crops(train_set, chosen))
            graph, card["int8_layers"] = done.model, done.layers
            print(f"{done.layers} convolutions in 8 bits; relative error of the heatmaps {100 * done.error:.1f} %")
        write_graph(out, graph, card)
    _print_written(out, source.weights["file"])
    if config.verify and config.format == "coreml":
        from lgmpose.inference.export.edge_files import check_coreml

        card["verified"] = check_coreml(out, source)
    elif config.verify:
        from lgmpose.inference.export.verify import verify_export

        card["verified"] = verify_export(source, out, card, fp32, val_set)
    return _keep(card, config.json)


def _print_written(out: Path, name: str) -> None:
    size = sum(file.stat().st_size for file in files_of(out))
    print(f"written: {out} ({size / 1e6:.1f} MB), from {name}")


def _keep(written: dict[str, Any], json_file: Path | None) -> dict[str, Any]:
    if json_file is not None:
        write_atomically(json_file, (json.dumps(written, indent=1, ensure_ascii=False) + "\n").encode())
    return written


def _check_installed(config: ExportConfig) -> None:
    """Raise UserError if a package that the format needs is missing."""
    for module in EDGE.get(config.format, ()):
        require(module, config.format, f"--format {config.format}")
    if config.format in EDGE:
        return
    for module in ("onnx", "onnxscript"):
        require(module, "onnx", "exporting")
    if config.format.startswith("openvino"):
        require("openvino", "openvino", f"--format {config.format}")
    if config.precision == "int8" or (config.verify and config.format == "onnx"):
        require("onnxruntime", "onnx", "--verify" if config.format == "onnx" else f"--format {config.format}")


def _export_model(config: ExportConfig, name: str) -> dict[str, Any]:
    """Export a network by its name, with the weights that it is built with, and no card."""
    from lgmpose.inference.export.graph import export_graph
    from lgmpose.zoo.outside_networks import open_network, own_config

    net, image_hw = open_network(name, image_hw=config.image_hw)
    try:
        graph = export_graph(net.cpu(), image_hw, fast=own_config(net) is not None)
    except Exception as error:  # PyTorch's exporter has many, and any code can be behind the name
        raise UserError(f"model {name}: PyTorch cannot export it ({first_line(error)})") from error
    write_graph(config.out, graph, None)
    _print_written(config.out, name)
    written: dict[str, Any] = {"model": name, "image_hw": list(image_hw), "file": config.out.name}
    if config.verify:
        from lgmpose.inference.export.verify import verify_outputs

        written["verified"] = verify_outputs(net, config.out, image_hw)
    return _keep(written, config.json)


def _load_source(config: ExportConfig) -> Source:
    from lgmpose.zoo.catalogue import at_size, load_weights

    path = find_weights(config.weights)
    net, card = load_weights(path)
    net = net if config.image_hw is None else at_size(net, config.image_hw)
    settings: Any = net.config
    weights = {"file": path.name, "sha256": weights_hash(path)}
    return Source(net, skeleton_of(card), codec_of(card, settings.image_hw), weights)


def _records(config: ExportConfig, split: str, annotations: str | None, source: Source) -> RecordSet:
    """Return a part of the data, which must have the network's joints."""
    record_set = load_records(config.data or "", split, annotations=annotations, categories=config.categories)
    record_set.print_left_out()
    if record_set.skeleton.joint_names != source.skeleton.joint_names:
        raise UserError(
            f"{annotations or config.data}: has skeleton {record_set.skeleton.name}, but {source.weights['file']} is "
            f"for {source.skeleton.name}: take data of the same joints in the same order"
        )
    return record_set
