"""Make the card of an exported network, write graphs as ONNX or OpenVINO files, and list the files of a network."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lgmpose.data.batches import load_batches
from lgmpose.data.crops import CropDataset
from lgmpose.data.images import IMAGE_MEAN, IMAGE_STD, normalise
from lgmpose.data.records import RecordSet
from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.pose.codecs import StandardCodec
from lgmpose.pose.skeletons import Skeleton
from lgmpose.zoo.cards import EXPORT_VERSION

if TYPE_CHECKING:
    import onnx
    from torch import nn

__all__ = ["Source", "files_of", "make_card", "write_graph"]


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        net: the network as it was trained, in eval mode, on the CPU.
        skeleton: the joints it finds.
        codec: how its heatmaps are decoded.
        weights: ``{"file": name, "sha256": first 12 digits}`` of its weights.
    """

    net: nn.Module
    skeleton: Skeleton
    codec: StandardCodec
    weights: dict[str, str]

    def crops(self, record_set: RecordSet, indices: Iterable[int]) -> np.ndarray:
        """Return normalised crops (n, 3, H, W) float32 of some persons; unreadable pictures are left out.

        Raises:
            UserError: none of the pictures can be read.
        """
        dataset = CropDataset(record_set, self.codec.image_hw, aligned=self.codec.aligned)
        (batch,) = load_batches(dataset, [[int(i) for i in indices]], workers=1)
        if "image" not in batch:
            raise UserError(f"{batch['errors'][0]}; no picture of {record_set.name} that was tried can be read")
        return normalise(batch["image"])


def files_of(out: Path) -> list[Path]:
    """Return the files of an exported network: OpenVINO and ncnn have a ``.bin`` beside it, CoreML has a folder."""
    if out.suffix.lower() == ".mlpackage":
        return [file for file in out.rglob("*") if file.is_file()]
    return [out, out.with_suffix(".bin")] if out.suffix.lower() in (".xml", ".param") else [out]


def make_card(source: Source, precision: str) -> dict[str, Any]:
    """Return the metadata of an exported file; ``cards.read_card`` reads them."""
    from lgmpose import __version__

    config: Any = source.net.config
    return {
        "kind": "export",
        "version": EXPORT_VERSION,
        "lgmpose": __version__,
        "precision": precision,
        "image_hw": list(source.codec.image_hw),
        "mean": IMAGE_MEAN,
        "std": IMAGE_STD,
        "skeleton": asdict(source.skeleton),
        "codec": {"name": source.codec.name, "sigma": source.codec.sigma},
        "network": asdict(config),
        "weights": source.weights,
    }


def write_graph(out: Path, graph: onnx.ModelProto, card: dict[str, Any] | None) -> None:
    """Write a graph with its card: ONNX, or OpenVINO's ``.xml`` and ``.bin``, by the suffix of ``out``.

    A graph without a card runs in any runtime, but ``lgmpose predict`` refuses it.

    Raises:
        UserError: the file cannot be written.
    """
    graph.producer_name = "lgmpose"
    if out.suffix.lower() == ".onnx":
        if card is not None:
            entry = graph.metadata_props.add()
            entry.key, entry.value = "lgmpose", json.dumps(card)
        write_atomically(out, graph.SerializeToString())
        return
    import onnx
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "graph.onnx", Path(folder) / "graph.xml"
        onnx.save(graph, source)
        model = openvino.Core().read_model(source)
        if card is not None:
            model.set_rt_info(json.dumps(card), "lgmpose")
        openvino.save_model(model, target, compress_to_fp16=False)  # for bfloat16, the runtime rounds
        structure, weights = target.read_bytes(), target.with_suffix(".bin").read_bytes()
    write_atomically(out.with_suffix(".bin"), weights)
    write_atomically(out, structure)
