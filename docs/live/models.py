"""Write the networks that the live page runs, and its pictures, as files of a folder.

``make live`` calls ``python docs/live/models.py FOLDER``. ``GlassBox`` is LGM-Pose with its inner maps as further
outputs, and with switches as further inputs. With all switches at 1, its heatmaps are those of the network.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import skimage.data
import torch
from torch import Tensor, nn

from lgmpose.data.synthetic.scene import draw_scene
from lgmpose.inference.export.graph import export_graph, trace_graph
from lgmpose.inference.export.graph_files import Source, make_card
from lgmpose.network.fast import fold_batchnorm
from lgmpose.network.layers import channel_shuffle
from lgmpose.network.model import LGMPose
from lgmpose.network.modules import LARM, MobileViM, SFusion, npt_op1, npt_op2, npt_op3
from lgmpose.zoo.cards import codec_of, skeleton_of, weights_hash
from lgmpose.zoo.catalogue import SPORTS_WEIGHTS, WEIGHTS_FOLDER, load_weights

SWITCHES = ("larm", "residual", "encoder")  # scalars: 1 as trained, 0 without the part
DETECTOR = WEIGHTS_FOLDER / "lgm-det.onnx"
SIZES = (128, 192)  # the trained size, and one at which LARM's weights are resampled


class GlassBox(nn.Module):
    """A trained LGM-Pose that returns its inner maps and takes switches.

    Outputs, in this order: ``heatmaps``; ``stage1`` … ``stage5``; ``larm3_in``, ``larm3_out``, ``larm4_in``,
    ``larm4_out``, the maps before and after LARM in stages 3 and 4; then for each fusion ``fusion16``, ``fusion8`` and
    ``fusion4``: ``_decoder`` and ``_encoder``, its inputs, ``_out``, and ``_from_decoder`` and ``_from_encoder``
    (B, 1, h, w), the length of what each input adds at a pixel before the activation.
    """

    def __init__(self, net: LGMPose):
        super().__init__()
        self.net = fold_batchnorm(copy.deepcopy(net)).eval()

    def forward(self, images: Tensor, larm: Tensor, residual: Tensor, encoder: Tensor) -> tuple[Tensor, ...]:
        x, stages, larms, fusions = self.net.stem(images), [], [], []
        for stage in self.net.stages:
            for block in stage:
                if isinstance(block, MobileViM):
                    before = block.project_up(block.local(x))
                    after = larm * _larm(block.larm, before, residual) + (1 - larm) * before
                    x = block.fuse(torch.cat([x, block.project_down(after)], dim=1))
                    larms += [before, after]
                else:
                    x = block(x)
            stages.append(x)
        skips = stages[:-1]
        for deconv, fusion in zip(self.net.deconvs, self.net.fusions, strict=True):
            decoder, skip = deconv(x), skips.pop()
            x, parts = _fusion(fusion, decoder, skip, encoder)
            fusions += [decoder, skip, x, *parts]
        return self.net.head(x), *stages, *larms, *fusions


def output_names() -> list[str]:
    """Return the names of ``GlassBox``'s outputs, in order."""
    fusions = [f"fusion{stride}_{part}" for stride in (16, 8, 4)
               for part in ("decoder", "encoder", "out", "from_decoder", "from_encoder")]  # fmt: skip
    larms = [f"larm{stage}_{end}" for stage in (3, 4) for end in ("in", "out")]
    return ["heatmaps", *(f"stage{i}" for i in range(1, 6)), *larms, *fusions]


def _larm(larm: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    """Compute LARM (B, d, H, W) → same, with its two residual connections multiplied by ``residual``."""
    assert isinstance(larm, LARM)
    x = npt_op1(x, larm.patch_hw)
    x = larm.between_patches(x) - (1 - residual) * x
    x = npt_op2(x)
    x = larm.within_patch(x) - (1 - residual) * x
    return npt_op3(x, larm.patch_hw, larm.map_hw)


def _fusion(
    fusion: nn.Module, decoder: Tensor, encoder: Tensor, switch: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Compute SFusion, with what comes from the encoder multiplied by ``switch``, and the length of both parts.

    SFusion is linear before its activation: it is the sum of what it makes of the decoder's map, of what it makes of
    the encoder's map, and of a bias.
    """
    assert isinstance(fusion, SFusion)
    grouped, pointwise = fusion.grouped[0], fusion.pointwise[0]

    def linear(first: Tensor, second: Tensor) -> Tensor:
        x = channel_shuffle(torch.cat([first, second], dim=1), fusion.shuffle_groups)
        x = nn.functional.conv2d(x, grouped.weight, padding=1, groups=grouped.groups)
        return nn.functional.conv2d(x, pointwise.weight)

    from_decoder = linear(decoder, torch.zeros_like(encoder))
    from_encoder = switch * linear(torch.zeros_like(decoder), encoder)
    bias = pointwise.weight[:, :, 0, 0] @ grouped.bias + pointwise.bias
    out = fusion.pointwise[2](from_decoder + from_encoder + bias[:, None, None])
    return out, (from_decoder.norm(dim=1, keepdim=True), from_encoder.norm(dim=1, keepdim=True))


def write_files(folder: Path) -> None:
    """Write the page's networks, pictures and ``page.json`` into a folder, unless they are there already."""
    weights = Path(SPORTS_WEIGHTS)
    state = weights_hash(weights) + weights_hash(DETECTOR) + weights_hash(Path(__file__))
    described = folder / "page.json"
    if described.is_file() and json.loads(described.read_text(encoding="utf-8"))["state"] == state:
        return
    folder.mkdir(parents=True, exist_ok=True)
    net, card = load_weights(weights)
    for size in SIZES:
        sized = net if size == SIZES[0] else net.resized((size, size))
        (folder / f"glass-{size}.onnx").write_bytes(glass_graph(sized).SerializeToString())
    (folder / "plain-128.onnx").write_bytes(export_graph(net, (128, 128)).SerializeToString())
    shutil.copy(weights.with_suffix(".onnx"), folder / "int8-128.onnx")
    shutil.copy(DETECTOR, folder / "lgm-det.onnx")
    source = Source(net, skeleton_of(card), codec_of(card, net.config.image_hw),
                    {"file": weights.name, "sha256": weights_hash(weights)})  # fmt: skip
    page = {"state": state, "card": make_card(source, "fp32"), "pictures": write_pictures(folder)}
    described.write_text(json.dumps(page), encoding="utf-8")


def glass_graph(net: LGMPose) -> onnx.ModelProto:
    """Return the ONNX graph of a network's ``GlassBox``; its inputs are ``images`` and ``SWITCHES``."""
    inputs = {"images": torch.zeros(2, 3, *net.config.image_hw), **{name: torch.ones(()) for name in SWITCHES}}
    return trace_graph(GlassBox(net).eval(), inputs, output_names())


def write_pictures(folder: Path) -> list[dict]:
    """Write the two pictures of lesson 00 as PNG, and return their names and boxes."""
    drawn, people = draw_scene(np.random.default_rng(28), (300, 240), max_people=1)
    pictures = [
        {"name": "drawn.png", "title": "Drawn figure", "box": people[0]["box_xywh"].round(2).tolist()},
        {"name": "astronaut.png", "title": "Photo: Eileen Collins, NASA", "box": [60, 5, 330, 700]},
    ]
    for picture, pixels in zip(pictures, (drawn, skimage.data.astronaut()), strict=True):
        cv2.imwrite(str(folder / picture["name"]), pixels[..., ::-1])
    return pictures


if __name__ == "__main__":
    write_files(Path(sys.argv[1]))
