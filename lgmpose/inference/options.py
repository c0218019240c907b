"""The options of ``lgmpose eval`` and ``lgmpose export``; those of ``predict`` are in ``cli.py``.

The comments are the command line's help.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lgmpose.errors import UserError
from lgmpose.pose.codecs import CodecName

__all__ = ["EvalConfig", "ExportConfig"]


@dataclass(frozen=True)
class EvalConfig:
    """What to evaluate, and how.

    Raises:
        UserError: a number that is out of range.
    """

    data: str  # KIND:PATH with KIND coco, yolo, via, mpii, lspet, lspet3, lspet-corrected or synthetic
    weights: str | Path | None = None  # weights or an exported file; by default lgm-pose-coco-256x192
    split: Literal["train", "val", "test", "all"] = "val"  # part of the data; lspet and lspet3 have test
    annotations: str | None = None  # annotation file, if it is not in its usual place
    categories: tuple[str, ...] = ()  # names of the COCO categories to read; default: person, or those with its joints
    detections: str | None = None  # COCO detection file to take boxes from, instead of the ground truth
    detector: str | None = None  # detector to take boxes from: lgm-det, yolox-nano, an .onnx file, torchvision:NAME
    # given: the boxes of the data, of --detections or of --detector. shifted: the same, moved and scaled at random.
    # none: the network searches the whole picture for one person, as `lgmpose predict --detector none` does
    boxes: Literal["given", "shifted", "none"] = "given"
    # rule that turns heatmaps into joints. standard moves the maximum by a quarter pixel, dark and udp fit a peak. By
    # default, the codec that the weights were trained with; weights trained with simcc take no other
    codec: CodecName | None = None
    image_hw: tuple[int, int] | None = None  # input height and width; by default those of the weights
    flip_test: bool = True  # average with the heatmaps of the mirrored picture
    limit: int | None = None  # evaluate at most N persons, those of the first pictures; AP covers these pictures
    bad_images: Literal["refuse", "skip"] = "refuse"  # at an unreadable picture: stop (refuse) or leave it out (skip)
    batch_size: int = 32  # persons per run of the network
    workers: int | None = None  # threads that read pictures; None: chosen for this machine
    device: str = "auto"  # auto, cpu, cuda, mps …
    threads: int | None = None  # CPU threads of the network; None: all cores, or PyTorch's own setting
    results: Path | None = None  # file for the poses in COCO's results format, which the test-dev server takes
    json: Path | None = None  # JSON file for the metrics
    sheet: Path | None = None  # PNG file that shows the persons with the worst and the best predictions

    def __post_init__(self):
        if self.batch_size < 1 or (self.limit is not None and self.limit < 1):
            raise UserError(f"batch_size {self.batch_size} and limit {self.limit} must be at least 1")
        if self.detector is not None and self.detections is not None:
            raise UserError("boxes come from --detector or from --detections, not from both")
        if self.detector not in (None, "none") and self.sheet is not None:
            raise UserError(f"{self.sheet}: a sheet needs true joints, which the boxes of --detector do not have")
        boxes_from = (self.detections, self.detector if self.detector != "none" else None)
        if self.boxes == "none" and (*boxes_from, self.codec, self.image_hw) != (None,) * 4:
            raise UserError(
                "--boxes none predicts as the weights say; leave out --detections, --detector, --codec and --image-hw"
            )


@dataclass(frozen=True)
class ExportConfig:
    """What to export, and how.

    Raises:
        UserError: options that do not fit together.
    """

    # the file: .onnx; .xml for OpenVINO and .param for ncnn (a .bin is written beside it); .pte; .mlpackage (a folder)
    out: Path
    weights: str | Path | None = None  # a weights file; by default lgm-pose-coco-256x192
    # instead of weights, any network: a name of `lgmpose profile --list` (with random weights), timm:NAME,
    # torchvision:NAME, or package.module:function. The file has no joints, so `predict` does not take it
    model: str | None = None
    image_hw: tuple[int, int] | None = None  # input height and width; by default those of the network
    # onnx and openvino compute what PyTorch does. 8-bit files are smaller, faster and slightly less exact. bfloat16 is
    # faster on processors that support it. For phones: ncnn, executorch, coreml (16-bit, for Apple's systems)
    format: Literal["onnx", "int8", "openvino", "openvino-bf16", "openvino-int8", "ncnn", "executorch", "coreml"] = (
        "onnx"
    )
    data: str | None = None  # KIND:PATH; calibration (8 bits) uses its training split, --verify its validation split
    annotations: str | None = None  # annotation file for the calibration, if it is not in its usual place
    val_annotations: str | None = None  # annotation file for --verify
    categories: tuple[str, ...] = ()  # names of the COCO categories to read; default: person, or those with its joints
    verify: bool = False  # compare the file with the network: heatmaps, accuracy (with --data), speed
    json: Path | None = None  # file for what --verify finds

    @property
    def precision(self) -> str:
        """``fp32``, ``fp16``, ``bf16`` or ``int8``."""
        last = self.format.rpartition("-")[2]
        return last if last in ("int8", "bf16") else "fp16" if self.format == "coreml" else "fp32"

    def __post_init__(self):
        edge = {"ncnn": ".param", "executorch": ".pte", "coreml": ".mlpackage"}
        suffix = edge.get(self.format, ".xml" if self.format.startswith("openvino") else ".onnx")
        if self.out.suffix.lower() != suffix:
            raise UserError(f"{self.out}: --format {self.format} writes a {suffix} file")
        int8 = self.precision == "int8"
        for wrong, message in (
            (self.model is not None and self.weights is not None, "--model and --weights: give one of them"),
            (self.model is not None and self.format not in ("onnx", "openvino"),
             f"--model writes --format onnx or openvino, not {self.format}"),
            (self.model is not None and self.data is not None, "--model has no joints to compare with --data"),
            (int8 and self.data is None, f"--format {self.format} needs --data KIND:PATH for its calibration"),
            (self.data is not None and not (int8 or self.verify), "--data is for 8 bits and --verify; leave it out"),
            (self.data is not None and self.format == "coreml",
             "--data: CoreML's accuracy cannot be measured here; leave it out"),
            (self.annotations is not None and not int8, "--annotations are for 8 bits, --val-annotations for --verify"),
            (self.val_annotations is not None and not (self.data and self.verify),
             "--val-annotations needs --verify and --data"),
            (bool(self.categories) and self.data is None, "--categories choose among those of --data KIND:PATH"),
            (self.json is not None and not self.verify, "--json keeps what --verify finds; add --verify"),
        ):  # fmt: skip
            if wrong:
                raise UserError(message)
