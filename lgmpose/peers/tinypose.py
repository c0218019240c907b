"""PP-TinyPose: Lite-HRNet's skeleton with plain ShuffleNetV2 units in place of the channel weighting.

PaddleDetection's pose network for phones (2021), which has no paper. Its backbone is Lite-HRNet's "wider naive"
variant: without attention, sigmoid and pooling, which are slow or badly supported on phones.

As in the published code, every fusion adds branch 0 twice (see ``quirk`` of ``multibranch.Fusion``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lgmpose.errors import UserError
from lgmpose.network.fast import fold_batchnorm
from lgmpose.network.layers import ConvNormAct
from lgmpose.peers import PeerConfig, build_peer
from lgmpose.peers.litehrnet import LiteStem
from lgmpose.peers.multibranch import HalfBlock, LightHRNet, Parallel

__all__ = ["IMAGE_HW", "TinyPose", "read_ncnn", "shuffle_units"]

IMAGE_HW = (256, 192)  # of the published weights
_FP16_MARK = bytes.fromhex("476b3001")  # ncnn writes it before weights in half precision


def shuffle_units(widths: Sequence[int]) -> HalfBlock:
    """Return one ShuffleNetV2 unit per branch: 1×1 → depthwise 3×3 → 1×1 on half of the channels; branches → same."""
    return HalfBlock(
        Parallel(
            nn.Sequential(
                ConvNormAct(half, half, kernel=1, activation="relu"),
                ConvNormAct(half, half, groups=half, activation=None),
                ConvNormAct(half, half, kernel=1, activation="relu"),
            )
            for half in (width // 2 for width in widths)
        )
    )


class TinyPose(LightHRNet):
    """PP-TinyPose; (B, 3, H, W) → (B, K, H/4, W/4). Arguments and errors: see ``LightHRNet``."""

    make_stem, make_block, quirk = LiteStem, staticmethod(shuffle_units), "tiny"


@torch.no_grad()
def read_ncnn(param: str | Path) -> nn.Module:
    """Return the trained PP-TinyPose of COCO's joints from its ncnn files, in eval mode with BatchNorms folded.

    Args:
        param: the ``.param`` file of the 256 × 192 network; its weights are in the ``.bin`` file beside it.

    Raises:
        UserError: a file is missing, or holds another network.
    """
    net = fold_batchnorm(build_peer(PeerConfig("pp-tinypose", IMAGE_HW)).eval())
    try:
        layers, weights = _in_ncnns_order(net, torch.zeros(1, 3, *IMAGE_HW)), _ncnn_weights(Path(param))
        for layer, (weight, bias) in zip(layers, weights, strict=True):
            layer.weight.copy_(torch.tensor(weight).view_as(layer.weight))
            assert layer.bias is not None  # every convolution got that of its BatchNorm
            layer.bias.copy_(torch.tensor(bias))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{param}: not PP-TinyPose 256×192 in ncnn's format ({error})") from error
    return net


def _ncnn_weights(param: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (weights, bias) of every convolution of an ncnn file in its order."""
    data, at, found = param.with_suffix(".bin").read_bytes(), 0, []
    for line in param.read_text(encoding="utf-8").splitlines():
        kind, *rest = line.split() or [""]
        if kind not in ("Convolution", "ConvolutionDepthWise"):
            continue
        values = dict(item.split("=") for item in rest if "=" in item)
        channels, size = int(values["0"]), int(values["6"])
        if data[at : at + 4] != _FP16_MARK:
            raise ValueError("the weights are not fp16")
        weights = np.frombuffer(data, np.float16, size, at + 4)
        at += 4 + -(-size * 2 // 4) * 4  # padded to whole words
        found.append((weights, np.frombuffer(data, np.float32, channels, at)))
        at += 4 * channels
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes are left over")
    return found


def _in_ncnns_order(net: nn.Module, x: Tensor) -> list[nn.Conv2d]:
    """Return the convolutions as executed, but with both units of a branch before those of the next branch."""

    def convolutions(part: nn.Module) -> list[nn.Conv2d]:
        return [module for module in part.modules() if isinstance(module, nn.Conv2d)]

    order: list[nn.Conv2d] = []
    hooks = [layer.register_forward_hook(lambda layer, *_: order.append(layer)) for layer in convolutions(net)]
    net(x)
    for hook in hooks:
        hook.remove()
    for block in net.modules():
        if isinstance(block, nn.Sequential) and len(block) == 2 and isinstance(block[0], HalfBlock):
            first, second = (unit.layers[0] for unit in block)  # type: ignore[union-attr, index]
            start = order.index(convolutions(first)[0])  # type: ignore[arg-type]
            units = [unit for pair in zip(first, second, strict=True) for unit in pair]
            theirs = [layer for unit in units for layer in convolutions(unit)]
            order[start : start + len(theirs)] = theirs
    return order
