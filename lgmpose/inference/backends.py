"""What runs a network on crops: PyTorch on a weights file, ONNX Runtime or OpenVINO on an exported one.

Each runtime is imported only when a file of its kind is opened, so an exported network costs no PyTorch. An exported
file carries a card (``cards.read_card``), and is refused where that is missing or does not fit.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lgmpose.data.images import normalise
from lgmpose.errors import UserError
from lgmpose.machine import choose_device, num_cores
from lgmpose.pose.codecs import StandardCodec, merge_flipped
from lgmpose.pose.geometry import mirror_crops
from lgmpose.pose.skeletons import Skeleton
from lgmpose.zoo.cards import check_seal, codec_of, find_weights, read_card, skeleton_of, weights_hash

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Backend", "OnnxBackend", "OpenVINOBackend", "TorchBackend", "is_exported", "merged_heatmaps", "open_backend",
    "require",
]  # fmt: skip


class Backend(Protocol):
    """What runs a network, whatever the runtime.

    Attributes:
        image_hw: size of the crops it takes.
        skeleton: the joints it finds.
        codec: how its heatmaps are read.
        source: ``{"file": name, "sha256": first 12 digits}`` of its weights, as written beside results.
    """

    image_hw: tuple[int, int]
    skeleton: Skeleton
    codec: StandardCodec
    source: dict[str, str]

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB → (B, K, h, w) float32."""
        ...


def open_backend(
    weights: str | Path | None = None, *, device: str = "auto", threads: int | None = None
) -> Backend:
    """The backend for a file, by its suffix: ``.onnx``, ``.xml`` (OpenVINO's), else weights for PyTorch.

    Args:
        weights: see ``cards.find_weights``; None: the weights that come with the package.
        device: for PyTorch; an exported file runs on the CPU.
        threads: how many the runtime may take. None: all cores of the process; PyTorch: as it is set.

    Raises:
        UserError: a file that cannot be read or does not fit, a runtime or device that is not there.
    """
    path = find_weights(weights)
    if threads is not None and threads < 1:
        raise UserError(f"threads {threads}: at least 1")
    if not is_exported(path):
        return TorchBackend(path, device=device, threads=threads)
    if device not in ("auto", "cpu"):
        raise UserError(f"{path}: an exported network runs on the CPU, not on {device!r}; leave the device out")
    return (OnnxBackend if path.suffix.lower() == ".onnx" else OpenVINOBackend)(path, threads=threads)


def is_exported(path: str | Path) -> bool:
    """Whether a file is one of ``lgmpose export``'s, by its name."""
    return Path(path).suffix.lower() in (".onnx", ".xml")


def require(module: str, extra: str, what: str) -> None:
    """Raises UserError, naming the extra that installs it, where a module is not there."""
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{what} needs {module}: pip install 'lgmpose[{extra}]'")


def merged_heatmaps(
    backend: Backend, crops: np.ndarray, *, skeleton: Skeleton, flip_test: bool, flip_shift: bool
) -> np.ndarray:
    """A backend's heatmaps, averaged with those of the mirrored crops where ``flip_test``; (B, K, h, w)."""
    heatmaps = backend.heatmaps(crops)
    if not flip_test:
        return heatmaps
    mirrored = backend.heatmaps(mirror_crops(crops))
    return merge_flipped(heatmaps, mirrored, skeleton, shift=flip_shift)


class TorchBackend:
    """A weights file run by PyTorch; see ``Backend``.

    Attributes:
        net: the network as it is read.
        fast: the same function, made for running (``lgmpose.network.fast``).

    Raises:
        UserError: weights that cannot be read, or a device that is not there.
    """

    def __init__(self, weights: str | Path, *, device: str = "auto", threads: int | None = None):
        import torch

        from lgmpose.network.fast import fast_form
        from lgmpose.zoo import catalogue as zoo

        path = Path(weights)
        self.net, card = zoo.load_weights(path)
        try:
            self.device = choose_device(device)
            self.net.to(self.device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"device {device!r} cannot be used here ({reason}); try auto or cpu") from error
        if threads is not None:
            torch.set_num_threads(threads)
        self.image_hw = self.net.config.image_hw
        self.fast = fast_form(self.net, torch.zeros(1, 3, *self.image_hw, device=self.device))
        self.skeleton = skeleton_of(card)
        self.codec = codec_of(card, self.image_hw)
        self.source = {"file": path.name, "sha256": weights_hash(path)}

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB → (B, K, h, w) float32."""
        import torch

        from lgmpose.data.batches import to_input

        with torch.inference_mode():
            return self.fast(to_input(torch.from_numpy(crops).to(self.device))).float().cpu().numpy()

    def network_at(self, image_hw: tuple[int, int]) -> nn.Module:
        """The network for an input size, laid out for speed; see ``zoo.at_size``."""
        from lgmpose.network.fast import channels_last
        from lgmpose.zoo.catalogue import at_size

        return channels_last(at_size(self.net, image_hw))


class _Exported:
    """What the two runtimes of exported files share: the card's checks and the way from crops to heatmaps.

    Attributes:
        card: see ``lgmpose.inference.export``.
    """

    def _use_card(self, path: Path, text: str | None, shapes: tuple[list, list]) -> None:
        """Reads the card and holds it against the file, and against its graph's shapes of input and output."""
        self.card = card = read_card(path, text)
        self.image_hw = tuple(card["image_hw"])
        self.skeleton = skeleton_of(card)
        self.codec = codec_of(card, self.image_hw)
        self.source = {"file": path.name, "sha256": weights_hash(path)}
        wanted = ([3, *self.image_hw], [self.skeleton.num_keypoints, *self.codec.heatmap_hw])
        if tuple(list(shape[1:]) for shape in shapes) != wanted:
            raise UserError(f"{path}: its card does not fit its graph ({shapes[0]} → {shapes[1]}); export it again")

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 RGB → (B, K, h, w) float32."""
        return self.run(normalise(crops, self.card["mean"], self.card["std"]))

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) float32, normalised → (B, K, h, w) float32."""
        raise NotImplementedError


# ONNX Runtime's threads otherwise spin on after a run, on cores that reading and drawing want, or another network.
STOP_SPINNING = ("session.force_spinning_stop", "1")


class OnnxBackend(_Exported):
    """A file of ``lgmpose export`` with ``--format onnx`` or ``int8``, run by ONNX Runtime; see ``Backend``.

    Raises:
        UserError: no such file, not a whole ONNX file, not one of ours, changed since; ONNX Runtime is not installed.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None):
        path = _unchanged(path)
        require("onnxruntime", "onnx", f"{path}: an ONNX file, which")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or num_cores()
        options.log_severity_level = 3  # errors; they come as exceptions, too
        options.add_session_config_entry(*STOP_SPINNING)
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the classes that it raises are private to it
            raise UserError(f"{path}: not a whole ONNX file ({_first_line(error)})") from error
        text = self.session.get_modelmeta().custom_metadata_map.get("lgmpose")
        ends = self.session.get_inputs() + self.session.get_outputs()
        self._use_card(path, text, tuple(end.shape for end in ends))

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) float32, normalised → (B, K, h, w) float32."""
        return self.session.run(None, {"images": inputs})[0]


class OpenVINOBackend(_Exported):
    """A file of ``lgmpose export --format openvino`` or ``openvino-…`` (``.xml``, its ``.bin`` beside), by OpenVINO.

    Raises:
        UserError: as ``OnnxBackend``.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None):
        path = _unchanged(path)
        require("openvino", "openvino", f"{path}: an OpenVINO file, which")
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(path)
            text = model.get_rt_info("lgmpose").astype(str) if model.has_rt_info("lgmpose") else None
            bf16 = text is not None and read_card(path, text)["precision"] == "bf16"
            # Without the hint it would round to bfloat16 unasked, where the CPU has it; where not, "bf16" is fp32.
            options = {
                "INFERENCE_NUM_THREADS": threads or num_cores(), "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            }  # fmt: skip
            self.request = core.compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise UserError(f"{path}: not a whole OpenVINO file with its .bin ({_first_line(error)})") from error
        shapes = [end.partial_shape for end in (*model.inputs, *model.outputs)]
        self._use_card(path, text, tuple([d.get_length() if d.is_static else None for d in s] for s in shapes))

    def run(self, inputs: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) float32, normalised → (B, K, h, w) float32."""
        return self.request.infer([inputs], share_inputs=True)[0]


def _unchanged(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    check_seal(path)  # before native code, which trusts what it is given, gets to see it
    return path


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
