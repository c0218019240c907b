"""Run a network on crops: PyTorch for a weights file, another runtime for a file of ``lgmpose export``.

A runtime is imported only when a file of its kind is opened, so an exported network needs no PyTorch. ExecuTorch's
runtime for Python does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from lgmpose.data.images import normalise
from lgmpose.errors import UserError, first_line, notice_once, require
from lgmpose.machine import choose_device, num_cores
from lgmpose.pose.codecs import StandardCodec
from lgmpose.pose.geometry import mirror_crops
from lgmpose.pose.skeletons import Skeleton
from lgmpose.zoo.cards import codec_of, find_weights, read_card, skeleton_of, weights_hash

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "OPENERS", "Backend", "ExportedBackend", "TorchBackend", "flip_tested", "ncnn_card", "onnx_session", "open_backend",
    "open_graph", "openvino_options", "run_module",
]  # fmt: skip

# Otherwise ONNX Runtime's threads keep spinning after a run and take cores from reading and drawing.
STOP_SPINNING = ("session.force_spinning_stop", "1")


class Backend(Protocol):
    """A network ready to run, whatever the runtime.

    Attributes:
        image_hw: size of the crops it takes.
        skeleton: the joints it finds.
        codec: how its heatmaps are decoded.
        source: ``{"file": name, "sha256": first 12 digits}`` of its weights, as written beside results.
    """

    image_hw: tuple[int, int]
    skeleton: Skeleton
    codec: StandardCodec
    source: dict[str, str]

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """Return the heatmaps (B, K, h, w) float32 of crops (B, H, W, 3) uint8 RGB, or SimCC's scores (B, K, 2W + 2H).

        Threads may call it at once.
        """
        ...


def open_backend(weights: str | Path | None = None, *, device: str = "auto", threads: int | None = None) -> Backend:
    """Open a file with the backend for its suffix: one of ``OPENERS``, anything else PyTorch weights.

    Args:
        weights: see ``cards.find_weights``; None: the weights that come with the package.
        device: for PyTorch. An exported file runs on the CPU.
        threads: number of CPU threads. None: for PyTorch its own setting, otherwise all cores of the process.

    Raises:
        UserError: the file cannot be read or does not fit, or the runtime or device is not available.
    """
    path = find_weights(weights)
    if threads is not None and threads < 1:
        raise UserError(f"threads {threads}: must be at least 1")
    if path.suffix.lower() == ".mlpackage":
        raise UserError(f"{path}: CoreML runs on Apple's systems only; export the network as ONNX to run it here")
    if path.suffix.lower() not in OPENERS:
        return TorchBackend(path, device=device, threads=threads)
    if device not in ("auto", "cpu"):
        raise UserError(f"{path}: an exported network runs on the CPU, not on {device!r}; leave the device out")
    return ExportedBackend(path, threads=threads)


def flip_tested(
    heatmaps: Callable[[np.ndarray], np.ndarray], crops: np.ndarray, skeleton: Skeleton, codec: StandardCodec
) -> np.ndarray:
    """Return the mean of a network's heatmaps for the crops and for the mirrored crops; see ``codecs.merge_flipped``.

    ``heatmaps`` takes crops (B, H, W, 3) uint8 and returns (B, K, h, w), as this function does.
    """
    return codec.merge_flipped(heatmaps(crops), heatmaps(mirror_crops(crops)), skeleton)


def refuse_forked(what: str, alternative: str) -> NoReturn:
    """Raise the UserError for a network that was opened before this process was forked."""
    raise UserError(
        f"{what} cannot run in a process forked after the network was opened; open the Predictor in each process "
        f"(multiprocessing's spawn, no preloading in web servers), {alternative}"
    )


def run_module(net: nn.Module, crops: np.ndarray) -> np.ndarray:
    """Return the heatmaps (B, K, h, w) float32 of crops (B, H, W, 3) uint8, by a network in eval mode on any device."""
    import torch

    from lgmpose.data.batches import to_input

    device = next(net.parameters()).device
    with torch.inference_mode():
        return net(to_input(torch.from_numpy(crops).to(device))).float().cpu().numpy()


class TorchBackend:
    """Run a weights file with PyTorch; see ``Backend``.

    Attributes:
        net: the network as it was trained.
        fast: the same function in its deployment form (``lgmpose.network.fast``).

    Raises:
        UserError: the weights cannot be read, or the device is not available.
    """

    def __init__(self, weights: str | Path, *, device: str = "auto", threads: int | None = None):
        import torch

        from lgmpose.network.fast import fast_form
        from lgmpose.zoo.catalogue import load_weights

        path = Path(weights)
        self.net, card = load_weights(path)
        config: Any = self.net.config
        self.image_hw: tuple[int, int] = config.image_hw
        try:
            on_device = choose_device(device)
            self.net.to(on_device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise UserError(f"device {device!r} cannot be used here ({first_line(error)}); try auto or cpu") from error
        if threads is not None:
            torch.set_num_threads(threads)
        self.fast = fast_form(self.net)
        self.skeleton, self.codec = skeleton_of(card), codec_of(card, self.image_hw)
        self.source = {"file": path.name, "sha256": weights_hash(path)}
        self._process, self._device, self._threads = os.getpid(), on_device.type, threads

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what was pickled, perhaps in another process, which needs its own number of threads."""
        import torch

        vars(self).update(state, _process=os.getpid())
        if self._threads is not None:
            torch.set_num_threads(self._threads)

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """Return heatmaps; see ``Backend``.

        Raises:
            UserError: this process was forked from the one that opened the network, where PyTorch would hang.
        """
        if os.getpid() != self._process:
            self._check_forked()
        return run_module(self.fast, crops)

    def _check_forked(self) -> None:
        import torch

        # OpenMP's threads do not exist in a forked process, and PyTorch waits for them for ever.
        if self._device != "cpu" or torch.get_num_threads() > 1:
            refuse_forked(f"{self.source['file']}: PyTorch", "or use threads=1 on the CPU, or an exported file")


class ExportedBackend:
    """Run a file of ``lgmpose export`` with the runtime for its suffix (``OPENERS``); see ``Backend``.

    Attributes:
        card: the file's metadata; see ``lgmpose.inference.export``.
        run: normalised inputs (B, 3, H, W) float32 → heatmaps (B, K, h, w) float32.

    Raises:
        UserError: the file is missing, damaged or not of lgmpose, or its runtime is not installed.
    """

    def __init__(self, weights: str | Path, *, threads: int | None = None):
        path = Path(weights)
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        self._arguments = path.absolute(), threads
        self.run, text, shapes = open_graph(path, threads or num_cores())
        self.card = read_card(path, text)
        self.image_hw: tuple[int, int] = tuple(self.card["image_hw"])
        self.skeleton, self.codec = skeleton_of(self.card), codec_of(self.card, self.image_hw)
        self.source = {"file": path.name, "sha256": weights_hash(path)}
        expected = [[3, *self.image_hw], [self.skeleton.num_keypoints, *self.codec.output_shape]]
        if [list(shape[1:]) for shape in shapes] != expected:
            raise UserError(f"{path}: its card does not fit its graph ({shapes[0]} → {shapes[1]}); export it again")

    def __reduce__(self) -> tuple:
        """Pickle the file's name: a runtime's session cannot be pickled."""
        path, threads = self._arguments
        return partial(type(self), path, threads=threads), ()

    def heatmaps(self, crops: np.ndarray) -> np.ndarray:
        """Return heatmaps; see ``Backend``."""
        return self.run(normalise(crops, self.card["mean"], self.card["std"]))


def open_graph(path: Path, threads: int) -> tuple[Callable[[np.ndarray], np.ndarray], str | None, list]:
    """Return the function that runs an exported file, its card's text, and the shapes of its ends.

    The function raises UserError in a process that was forked after this call, except for ONNX Runtime, which works
    there. Threads do not exist in a forked process, so the other runtimes may wait for theirs for ever.

    Raises:
        UserError: the file is damaged, or its runtime is not installed.
    """
    suffix, process = path.suffix.lower(), os.getpid()
    run, text, shapes = OPENERS[suffix](path, threads)

    def run_here(inputs: np.ndarray) -> np.ndarray:
        if os.getpid() != process:
            refuse_forked(f"{path.name}: its runtime", "or use an .onnx file, which ONNX Runtime runs there")
        return run(inputs)

    return run if suffix == ".onnx" else run_here, text, shapes


def onnx_session(path: str | Path, threads: int):
    """Open an ONNX file with ONNX Runtime on the CPU.

    Raises:
        UserError: ONNX Runtime is not installed, or the file is damaged.
    """
    require("onnxruntime", "onnx", f"{path}: an ONNX file, which")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only; they are raised as well
    options.add_session_config_entry(*STOP_SPINNING)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exception classes are private
        raise UserError(f"{path}: not a complete ONNX file ({first_line(error)})") from error


def _open_onnx(path: Path, threads: int) -> tuple[Callable[[np.ndarray], np.ndarray], str | None, list]:
    """Return the function that runs an ONNX file, its card's text, and the shapes of its input and output."""
    session = onnx_session(path, threads)
    try:
        text = session.get_modelmeta().custom_metadata_map.get("lgmpose")
    except Exception as error:  # ONNX Runtime's exception classes are private
        raise UserError(f"{path}: its metadata are damaged ({first_line(error)})") from error
    ins, outs = session.get_inputs(), session.get_outputs()
    if other := [f"{end.name}: {end.type}" for end in (*ins, *outs) if end.type != "tensor(float)"]:
        raise UserError(f"{path}: a graph with other ends than 32-bit floats ({', '.join(other)}); export it again")
    return lambda inputs: session.run(None, {ins[0].name: inputs})[0], text, [end.shape for end in (*ins, *outs)]


def openvino_options(threads: int, *, bf16: bool = False) -> dict[str, Any]:
    """Return the options with which OpenVINO compiles a network for single pictures on the CPU."""
    # Without the precision OpenVINO rounds to bfloat16 wherever the CPU supports it.
    precision = "bf16" if bf16 else "f32"
    return {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision,
    }  # fmt: skip


def _open_openvino(path: Path, threads: int) -> tuple[Callable[[np.ndarray], np.ndarray], str | None, list]:
    """Return the same as ``_open_onnx`` for an OpenVINO file."""
    require("openvino", "openvino", f"{path}: an OpenVINO file, which")
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(path)
        text = model.get_rt_info("lgmpose").astype(str) if model.has_rt_info("lgmpose") else None
        bf16 = text is not None and read_card(path, text)["precision"] == "bf16"
        compiled = core.compile_model(model, "CPU", openvino_options(threads, bf16=bf16))
    except (RuntimeError, ValueError) as error:  # ValueError: a text that is not UTF-8
        raise UserError(f"{path}: not a complete OpenVINO file with its .bin ({first_line(error)})") from error
    of_thread = threading.local()  # a request runs one input at a time, so each thread has its own

    def run(inputs: np.ndarray) -> np.ndarray:
        if not hasattr(of_thread, "request"):
            of_thread.request = compiled.create_infer_request()
        return of_thread.request.infer([inputs], share_inputs=True)[0]

    shapes = [end.partial_shape for end in (*model.inputs, *model.outputs)]
    return run, text, [[d.get_length() if d.is_static else None for d in shape] for shape in shapes]


def ncnn_card(path: Path) -> str | None:
    """Return the text of the card of an ncnn ``.param``, its last line; None: a file of others, which has none."""
    lines = path.read_bytes().decode(errors="replace").splitlines() or [""]
    return lines[-1] if lines[-1].startswith("{") else None


def _open_ncnn(path: Path, threads: int) -> tuple[Callable[[np.ndarray], np.ndarray], str | None, list]:
    """Return the same as ``_open_onnx`` for ncnn's ``.param`` with its ``.bin``; it computes in fp32."""
    require("ncnn", "ncnn", f"{path}: an ncnn file, which")
    import ncnn

    text = ncnn_card(path)
    H, W = read_card(path, text)["image_hw"]
    net, weights = ncnn.Net(), path.with_suffix(".bin")
    net.opt.num_threads, net.opt.use_vulkan_compute = threads, False
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{name}", False)
    if not weights.is_file() or net.load_param(str(path)) != 0 or net.load_model(str(weights)) != 0:
        raise UserError(f"{path}: not a complete ncnn file with its .bin; export it again")

    def run_one(image: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(np.ascontiguousarray(image)).clone())
        status, heatmaps = extractor.extract("out0")
        if status != 0:
            raise UserError(f"{path}: ncnn cannot run this network (status {status}); export it as ONNX instead")
        return np.array(heatmaps)

    shape = run_one(np.zeros((3, H, W), np.float32)).shape
    return lambda inputs: np.stack([run_one(image) for image in inputs]), text, [[1, 3, H, W], [1, *shape]]


_executorch_threads: list[int] = []  # set once: an opened program keeps a pointer to ExecuTorch's threads


def _open_executorch(path: Path, threads: int) -> tuple[Callable[[np.ndarray], np.ndarray], str | None, list]:
    """Return the same as ``_open_onnx`` for an ExecuTorch program. All programs of a process share their threads."""
    require("executorch", "executorch", f"{path}: an ExecuTorch file, which")
    import torch
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    if not _executorch_threads:
        _executorch_threads.append(threads)
        _unsafe_reset_threadpool(threads)
    elif _executorch_threads != [threads]:
        notice_once(f"{path}: runs with {_executorch_threads[0]} threads, like the process's first ExecuTorch file")
    try:
        program = Runtime.get().load_program(path)
        text = program.load_method("lgmpose").execute([])[0] if "lgmpose" in program.method_names else None
        method = program.load_method("forward")
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path}: not a complete ExecuTorch file ({first_line(error)})") from error
    one_at_a_time = threading.Lock()  # a method has one set of buffers

    def run_one(image: np.ndarray) -> np.ndarray:
        with one_at_a_time:
            (heatmaps,) = method.execute([torch.from_numpy(np.ascontiguousarray(image[None]))])
            return heatmaps[0].numpy().copy()

    ends = method.metadata.input_tensor_meta(0), method.metadata.output_tensor_meta(0)
    return lambda inputs: np.stack([run_one(image) for image in inputs]), text, [list(end.sizes()) for end in ends]


# Suffix of a file → the function that opens it.
OPENERS = {".onnx": _open_onnx, ".xml": _open_openvino, ".param": _open_ncnn, ".pte": _open_executorch}
