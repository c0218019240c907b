"""Train LGM-Det, the detector of people, with the machinery of ``trainer.py``: ``lgmpose train-detector``.

A run's folder is that of a pose network, but the network to use is ``lgm-det.onnx``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from lgmpose.data import load_box_set
from lgmpose.data.batches import EpochSampler, loader_options
from lgmpose.data.boxes import BoxSet, LetterboxDataset, collate_boxes
from lgmpose.errors import UserError, require
from lgmpose.files import write_atomically
from lgmpose.inference.detector_figures import evaluate_detector
from lgmpose.inference.detectors import LetterboxDetector, rtmdet_boxes
from lgmpose.inference.figures import Evaluation
from lgmpose.network.config import DETECTOR_NAME, VARIANTS
from lgmpose.network.detector import STRIDES, LGMDet, detection_loss
from lgmpose.network.model import LGMPose
from lgmpose.training.checkpoint import CHECKPOINT, read_checkpoint
from lgmpose.training.recipe import DetectorConfig, TrainConfig
from lgmpose.training.trainer import Session, train
from lgmpose.zoo.cards import find_weights, weights_hash
from lgmpose.zoo.catalogue import at_size, config_of, load_weights
from lgmpose.zoo.tensor_files import check_tensors

__all__ = ["SESSION_TYPES", "DetectorSession", "export_detector", "network_detector", "train_detector"]

ENCODER = "lgm-pose-next-coco-256x192"  # the pose network whose encoder is used: a picture takes about a third of the
# time that LGM-Pose's needs


def train_detector(config: DetectorConfig, run_dir: str | Path, *, progress: bool = True) -> Evaluation | None:
    """Train a detector in ``run_dir``; see ``trainer.train``. ``trainer.resume`` takes ``SESSION_TYPES``."""
    return train(config.as_train_config(), run_dir, progress=progress, session_type=DetectorSession)


class DetectorSession(Session):
    """Surrounds the loop of a detector's training; see ``Session``."""

    inputs = ("image", "boxes", "kinds")
    unit = "pictures"
    loss = staticmethod(detection_loss)
    fingerprint = staticmethod(BoxSet.fingerprint)

    @staticmethod
    def load_data(config: TrainConfig) -> tuple[BoxSet, list[BoxSet]]:
        """Return the pictures to train on and to validate on."""
        train_set = load_box_set(config.data, "train", config.annotations)
        return train_set, [load_box_set(config.val_data or config.data, "val", config.val_annotations)]

    @staticmethod
    def check_data(config: TrainConfig, train_set: BoxSet, val_sets: list[BoxSet], *, notice: bool) -> None:
        """Raise UserError if a batch cannot be filled, or the result could not be written."""
        for package in ("onnx", "onnxscript"):
            require(package, "onnx", f"{DETECTOR_NAME}.onnx")
        if len(train_set) < config.batch_size:
            raise UserError(f"{len(train_set)} pictures do not fill a batch of {config.batch_size} (--batch-size)")

    @staticmethod
    def make_network(config: TrainConfig, train_set: BoxSet, fresh: bool) -> tuple[nn.Module, dict[str, Any] | None]:
        """Return the network, and the weights that its encoder starts from."""
        try:
            net = LGMDet(VARIANTS[ENCODER].with_(image_hw=config.image_hw or (320, 320)))
        except ValueError as error:
            raise UserError(str(error)) from error
        if config.init_weights is None or not fresh:
            return net, None
        path = find_weights(config.init_weights)
        if path.name == CHECKPOINT:
            state = read_checkpoint(path)["ema"] or {}
            check_tensors(state, net.state_dict(), path)
            net.load_state_dict(state)
            return net, {"weights": path.name, "sha256": weights_hash(path), "taken_over": "taken over: the detector"}
        source = at_size(load_weights(path)[0], config_of(net).image_hw)
        if not isinstance(source, LGMPose) or source.config.stages != net.config.stages:
            raise UserError(f"{path}: the detector's encoder is that of {ENCODER}; give weights of that network")
        net.stem.load_state_dict(source.stem.state_dict())
        net.stages.load_state_dict(source.stages.state_dict())
        return net, {"weights": path.name, "sha256": weights_hash(path), "taken_over": "taken over: the encoder"}

    def open_data(self, train_set: BoxSet) -> int:
        """Set what ``Session.open_data`` sets; return the bytes of one sample."""
        image_hw = config_of(self.run.net).image_hw
        self.dataset: Any = LetterboxDataset(train_set, image_hw, seed=self.run.config.seed)
        self.draws = [(len(train_set), len(train_set))]
        self.steps_per_epoch = len(train_set) // self.run.config.batch_size
        self.target_weights = torch.ones((), device=self.run.device)
        return 4 * image_hw[0] * image_hw[1]

    def loader(self, sampler: EpochSampler) -> Iterable[dict[str, Any]]:
        """Return the batches of a sampler, on the CPU."""
        options = loader_options(self.workers)
        return DataLoader(self.dataset, batch_sampler=sampler, collate_fn=collate_boxes, **options)

    def evaluate(self, net: nn.Module, val_set: BoxSet) -> Evaluation:
        """Measure the network on one set."""
        bad_images = self.run.config.bad_images
        return evaluate_detector(network_detector(net), val_set, bad_images=bad_images, progress=self.progress)

    def keep(self, net: nn.Module, evaluation: Evaluation, training: dict[str, Any]) -> None:
        """Write the best network so far."""
        export_detector(net, self.run_dir / f"{DETECTOR_NAME}.onnx")


SESSION_TYPES = {DETECTOR_NAME: DetectorSession}  # of networks that are no pose networks


def network_detector(net: nn.Module) -> LetterboxDetector:
    """Return the detector of a trained network, on the network's device."""
    net, device = net.eval(), next(net.parameters()).device

    @torch.inference_mode()
    def run(canvas: np.ndarray) -> list[np.ndarray]:
        rgb = torch.from_numpy(np.ascontiguousarray(canvas[:, ::-1], np.float32))
        return [output.cpu().numpy() for output in net(rgb.to(device))]

    return LetterboxDetector(config_of(net).image_hw, run, rtmdet_boxes)


def export_detector(net: nn.Module, out: Path) -> None:
    """Write a trained network as an ONNX file that ``--detector`` takes: its input is BGR, as RTMDet's.

    The weights are stored in 16 bits; the runtime computes in 32.

    Raises:
        UserError: the file cannot be written.
    """
    from lgmpose.inference.export.graph import export_graph, halve_weights  # only where something is exported

    image_hw = config_of(net).image_hw
    twin = copy.deepcopy(net).cpu().eval()
    first = next(twin.parameters())  # the first convolution, (C, 3, 3, 3)
    first.data = first.data.flip(1)
    graph = export_graph(twin, image_hw, outputs=[f"stride{stride}" for stride in STRIDES])
    write_atomically(out, halve_weights(graph).SerializeToString())
