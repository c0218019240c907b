"""Files for ncnn, ExecuTorch and CoreML: each computes what the network does, and bad ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from inference_tools import noise

from lgmpose.cli import main
from lgmpose.data.images import normalise
from lgmpose.errors import UserError
from lgmpose.inference.backends import TorchBackend, open_backend, run_module
from lgmpose.pose.skeletons import LSP
from lgmpose.zoo.cards import SPORTS_WEIGHTS

CROPS = noise(3, 128, 128, 3)
OURS = ("--weights", SPORTS_WEIGHTS.name)


def expected() -> np.ndarray:
    return run_module(TorchBackend(SPORTS_WEIGHTS, device="cpu").net, CROPS)


@pytest.mark.slow
@pytest.mark.parametrize("format, name, modules", [
    ("ncnn", "net.param", ("ncnn", "pnnx")), ("executorch", "net.pte", ("executorch",)),
])  # fmt: skip
def test_files_that_run_here_compute_what_the_network_does(tmp_path, format, name, modules):
    for module in modules:
        pytest.importorskip(module, reason=f"needs the extra {format}")
    path = tmp_path / name
    assert main(["export", *OURS, "--format", format, "--out", str(path)]) == 0
    backend = open_backend(path, threads=1)
    found, wanted = backend.heatmaps(CROPS), expected()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3 and backend.skeleton is LSP and backend.image_hw == (128, 128)
    kept = found.copy()
    backend.heatmaps(CROPS[::-1].copy())
    np.testing.assert_array_equal(found, kept)  # not a buffer that the next run overwrites
    data = path.read_bytes()
    weights = path.with_suffix(".bin")
    for content in (data[: len(data) // 2], b"\x89PNG" + data[:100], b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=name):
            open_backend(path)
    if weights.exists():
        path.write_bytes(data)
        for content in (weights.read_bytes()[:-4000], b""):
            weights.write_bytes(content)
            with pytest.raises(UserError, match=name):
                open_backend(path)


# --- CoreML, which runs on Apple's systems only -----------------------------------------------------------------------
def run_mil(package, images: torch.Tensor) -> np.ndarray:
    """Compute what a package's program says, in fp32, operation by operation."""
    import coremltools
    from coremltools.converters.mil.frontend.milproto.load import load

    model = coremltools.models.MLModel(str(package), skip_model_load=True)
    spec = model.get_spec()
    main_function = load(spec, spec.specificationVersion, model.weights_dir).functions["main"]
    values = {name: images for name in main_function.inputs}

    def value(var):
        if isinstance(var, (list, tuple)):
            return [value(one) for one in var]
        if var is None or isinstance(var, (str, bool)):
            return var
        if var.val is None:
            return values[var.name]
        if isinstance(var.val, np.ndarray) and var.val.dtype == np.float16:
            return torch.from_numpy(var.val.astype(np.float32))
        return var.val.tolist() if isinstance(var.val, (np.ndarray, np.generic)) else var.val

    def gelu(x, mode):
        assert mode == "EXACT"
        return F.gelu(x)

    def conv(x, weight, strides, pad, dilations, groups, pad_type, bias=None):
        assert (pad_type == "custom" or not any(pad)) and dilations == [1, 1] and pad[0::2] == pad[1::2]
        return F.conv2d(x, weight, bias, strides, (pad[0], pad[2]), 1, groups)

    def conv_transpose(x, weight, strides, groups, output_shape, bias=None, **rest):
        result = F.conv_transpose2d(x, weight, bias, strides, 0, 0, groups)
        assert list(result.shape) == output_shape
        return result

    def slice_by_index(x, begin, end, end_mask):
        return x[tuple(slice(a, None if mask else b) for a, b, mask in zip(begin, end, end_mask, strict=True))]

    rules = {
        "cast": lambda x, dtype: x, "conv": conv, "conv_transpose": conv_transpose, "slice_by_index": slice_by_index,
        "clip": lambda x, alpha, beta: x.clamp(alpha, beta), "add": lambda x, y: x + y, "gelu": gelu,
        "reshape": lambda x, shape: x.reshape(shape), "transpose": lambda x, perm: x.permute(perm),
        "layer_norm": lambda x, axes, gamma, beta, epsilon: F.layer_norm(x, gamma.shape, gamma, beta, epsilon),
        "linear": F.linear, "concat": lambda values, axis, interleave: torch.cat(values, axis),
    }  # fmt: skip
    for op in main_function.operations:
        if op.op_type != "const":
            inputs = {name: value(var) for name, var in op.inputs.items() if var is not None}
            if op.op_type == "linear":
                inputs["input"] = inputs.pop("x")
            values[op.outputs[0].name] = rules[op.op_type](**inputs)
    return values["heatmaps"].numpy()


@pytest.mark.slow
def test_coremls_program_is_the_network_with_16_bit_weights(tmp_path, capsys):
    pytest.importorskip("coremltools", reason="needs the extra coreml")
    package = tmp_path / "net.mlpackage"
    for _ in range(2):  # the second replaces the first
        assert main(["export", *OURS, "--format", "coreml", "--out", str(package), "--verify"]) == 0
    wanted = expected()
    with torch.inference_mode():
        found = np.concatenate([run_mil(package, torch.from_numpy(normalise(crop[None]))) for crop in CROPS])
    assert 1e-7 < np.abs(found - wanted).max() < 5e-3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.mlpackage"]
    assert sorted(file.name for file in package.iterdir()) == ["Data", "Manifest.json"]


def test_a_coreml_package_is_not_run_here(tmp_path):
    with pytest.raises(UserError, match="net.mlpackage: "):
        open_backend(tmp_path / "net.mlpackage")
