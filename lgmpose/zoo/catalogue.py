"""Networks by name, and their weights: a safetensors file holds the tensors and the card that says how to use them."""

from __future__ import annotations

import difflib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lgmpose.errors import UserError
from lgmpose.network.config import VARIANTS, LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.peers import PEERS, PeerConfig, build_peer
from lgmpose.pose.codecs import StandardCodec
from lgmpose.pose.skeletons import Skeleton, skeleton_to_dict
from lgmpose.zoo.cards import DEFAULT_WEIGHTS, SHIPPED, WEIGHTS_FOLDER, codec_of, skeleton_of, weights_hash
from lgmpose.zoo.tensor_files import config_from_dict, load_into, read_tensors, write_tensors

__all__ = [
    "DEFAULT_WEIGHTS", "SHIPPED", "WEIGHTS_FOLDER", "at_size", "build", "codec_of", "create_model", "list_models",
    "load_weights", "save_weights", "skeleton_of", "weights_hash",
]  # fmt: skip

Config = LGMPoseConfig | PeerConfig  # what ``net.config`` is


def list_models() -> list[str]:
    """Names that ``create_model`` takes: LGM-Pose's variants, then the networks it is compared with."""
    return [*VARIANTS, *PEERS]


def build(config: Config) -> nn.Module:
    """The network of a config, with fresh weights."""
    return LGMPose(config) if isinstance(config, LGMPoseConfig) else build_peer(config)


def at_size(net: nn.Module, image_hw: tuple[int, int]) -> nn.Module:
    """The same network for another input size; weights that depend on the size are resampled (LGM-Pose) or refused.

    Raises:
        UserError: a size the network cannot take, or weights that do not fit it.
    """
    if net.config.image_hw == tuple(image_hw):
        return net
    try:
        if isinstance(net, LGMPose):
            return net.resized(image_hw)
        other = build(net.config.with_(image_hw=tuple(image_hw)))
    except ValueError as error:
        raise UserError(str(error)) from error
    load_into(other, net.state_dict(), net.config.name)
    return other.to(next(net.parameters()).device).train(net.training)


def create_model(name: str, *, pretrained: bool | str | Path = False, **changes) -> nn.Module:
    """Builds a named network; its ``config`` says which.

    Args:
        name: one of ``list_models()``.
        pretrained: True for the weights that ship with the package, or the path of a weights file; moved to another
            input size where ``image_hw`` asks for one. LGM-Pose has the activation that its weights were trained with.
        **changes: ``num_keypoints=14, image_hw=(128, 128)``; for LGM-Pose any field of ``LGMPoseConfig``.

    Raises:
        UserError: unknown name or field, a value the config refuses, or weights that do not fit.
    """
    if name not in list_models():
        raise UserError(f"no model {name!r}; {_suggestion(name)}")
    config = VARIANTS[name] if name in VARIANTS else PeerConfig(name)
    unknown = sorted(changes.keys() - {field.name for field in fields(config) if field.name != "name"})
    if unknown:
        raise UserError(f"model {name} has no option {unknown[0]!r}")
    image_hw = changes.get("image_hw", config.image_hw)
    if not (isinstance(image_hw, (list, tuple)) and [type(side) for side in image_hw] == [int, int]):
        raise UserError(f"image_hw {image_hw!r}: give two whole numbers, height and width")
    try:
        config = config.with_(**changes)
        net = build(config)
    except ValueError as error:
        raise UserError(f"model {name}: {error}") from error
    if not pretrained:
        return net
    if pretrained is True and name not in SHIPPED:
        raise UserError(
            f"no weights of {name} ship with the package, only of {', '.join(SHIPPED)}; train them, or pass a file"
        )
    source = WEIGHTS_FOLDER / f"{name}.safetensors" if pretrained is True else Path(pretrained)
    net = at_size(load_weights(source, num_keypoints=config.num_keypoints)[0], config.image_hw)
    if isinstance(net, LGMPose) and name in VARIANTS and "activation" not in changes:
        config = config.with_(activation=net.config.activation)
    if net.config != config:
        raise UserError(f"{source}: weights of another network than {name} with {changes}")
    return net


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), list_models(), n=1)
    return f"did you mean {near[0]}?" if near else "`lgmpose profile --list` names those there are"


def save_weights(
    path: str | Path,
    net: nn.Module,
    skeleton: Skeleton,
    codec: StandardCodec,
    *,
    evaluation=None,
    training: dict[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Writes a network with all that is needed to use it: config, skeleton, codec, figures, how it was trained.

    Args:
        half: store floats as fp16, half the size.
    """
    tensors = net.state_dict()
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    card = {
        "kind": "weights",
        "network": asdict(net.config),
        "skeleton": skeleton_to_dict(skeleton),
        "codec": {"name": codec.name, "sigma": codec.sigma},
        "evaluation": evaluation.as_json() if evaluation is not None else None,
        "training": training,
    }
    write_tensors(path, tensors, card)


def load_weights(path: str | Path, *, num_keypoints: int | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The network in a weights file (in eval mode) and its card.

    Args:
        num_keypoints: how many joints the caller needs; other weights are refused.

    Raises:
        UserError: see ``weights_io.read_tensors`` and ``load_into``.
    """
    tensors, card = read_tensors(path)
    if card.get("kind") == "checkpoint":
        # A run's last state: its averaged weights where it has any. It does not know its skeleton's edges: best does.
        raise UserError(f"{path}: a training checkpoint; use the best.safetensors beside it")
    values = card["network"]
    if "name" in values and values["name"] not in PEERS:
        raise UserError(f"{path}: weights of a network {values['name']!r}, which this version does not have")
    try:
        config = PeerConfig(**values) if "name" in values else config_from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: settings that this version does not have; is it of another one? ({error})") from error
    if num_keypoints is not None and config.num_keypoints != num_keypoints:
        raise UserError(f"{path}: weights for {config.num_keypoints} keypoints; {num_keypoints} are needed here")
    with torch.random.fork_rng(devices=[]):  # loading draws nobody's random numbers
        net = build(config)
    load_into(net, tensors, path)
    return net.eval(), card
