"""Networks by name, and their weights files: tensors, and the card that says how to use them."""

from __future__ import annotations

import difflib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from lgmpose.errors import UserError
from lgmpose.network.config import VARIANTS, LGMPoseConfig
from lgmpose.network.model import LGMPose
from lgmpose.peers import PEERS, PeerConfig, build_peer
from lgmpose.pose.codecs import CODECS, StandardCodec
from lgmpose.pose.skeletons import Skeleton
from lgmpose.zoo.cards import (
    DEFAULT_WEIGHTS,
    SHIPPED,
    SPORTS_WEIGHTS,
    WEIGHTS_FOLDER,
    WeightsCard,
    check_card,
    codec_of,
    skeleton_of,
    weights_hash,
)
from lgmpose.zoo.tensor_files import load_into, read_tensors, write_tensors

__all__ = [
    "DEFAULT_WEIGHTS", "SHIPPED", "SPORTS_WEIGHTS", "WEIGHTS_FOLDER", "at_size", "build", "codec_of",
    "config_from_dict", "config_of", "create_model", "list_models", "load_weights", "save_weights", "skeleton_of",
    "weights_hash",
]  # fmt: skip

Config = LGMPoseConfig | PeerConfig  # the type of ``net.config``


def list_models() -> list[str]:
    """Return the names that ``create_model`` takes: LGM-Pose's variants, then the networks it is compared with."""
    return [*VARIANTS, *PEERS]


def build(config: Config) -> nn.Module:
    """Return the network of a config, with new weights."""
    return LGMPose(config) if isinstance(config, LGMPoseConfig) else build_peer(config)


def at_size(net: nn.Module, image_hw: tuple[int, int]) -> nn.Module:
    """Return the same network for another input size, resampling weights that depend on it (LGM-Pose only).

    Raises:
        UserError: a size the network cannot take, or weights that do not fit it.
    """
    config = config_of(net)
    if config.image_hw == tuple(image_hw):
        return net
    try:
        if isinstance(net, LGMPose):
            return net.resized(image_hw)
        with torch.device("meta"):
            other = build(config.with_(image_hw=tuple(image_hw)))
    except ValueError as error:
        raise UserError(str(error)) from error
    load_into(other, {name: value.clone() for name, value in net.state_dict().items()}, f"weights of {config}")
    return other.train(net.training)


def config_of(net: nn.Module) -> Config:
    """Return the config of a network that ``create_model`` or ``build`` has made."""
    config = net.config
    assert isinstance(config, (LGMPoseConfig, PeerConfig))
    return config


def create_model(name: str, *, pretrained: bool | str | Path = False, **changes) -> nn.Module:
    """Build the network that a name stands for, with random or with trained weights.

    Args:
        name: one of ``list_models()``, for example ``lgm-pose-coco-256x192``.
        pretrained: False: random weights. True: the weights that ship with the package. A path: a weights file. If the
            weights were trained at another input size than ``image_hw``, they are resized. LGM-Pose gets the activation
            that its weights were trained with.
        **changes: options of the network that differ from those of the name: ``num_keypoints`` and ``image_hw``; for
            LGM-Pose, any field of ``LGMPoseConfig``.

    Returns:
        The network, in evaluation mode if it has trained weights. Its attribute ``config`` holds the options.

    Raises:
        UserError: the name or an option is unknown, a value is not allowed, or the weights are of another network.
    """
    if name not in list_models():
        near = difflib.get_close_matches(name.lower(), list_models(), n=1)
        hint = f"did you mean {near[0]}?" if near else "`lgmpose profile --list` prints the names"
        raise UserError(f"no model {name!r}; {hint}")
    config: Config = VARIANTS[name] if name in VARIANTS else PeerConfig(name)
    unknown = sorted(changes.keys() - {field.name for field in fields(config) if field.name != "name"})
    if unknown:
        raise UserError(f"model {name} has no option {unknown[0]!r}")
    image_hw = changes.get("image_hw", config.image_hw)
    if not (isinstance(image_hw, (list, tuple)) and [type(side) for side in image_hw] == [int, int]):
        raise UserError(f"image_hw {image_hw!r}: give two whole numbers, height and width")
    try:
        config = config.with_(**changes)
        if not pretrained:
            return build(config)
    except ValueError as error:
        raise UserError(f"model {name}: {error}") from error
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
    """Write a weights file: the weights and a card, which says all that is needed to use them.

    Args:
        path: the file.
        net: the network.
        skeleton: the joints that it finds.
        codec: the codec that it was trained with.
        evaluation: an ``Evaluation`` whose figures the card gets.
        training: how it was trained, for the card; values that JSON can hold.
        half: store floats as fp16, half the size.

    Raises:
        UserError: the file cannot be written.
    """
    tensors = net.state_dict()
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    card = {
        "kind": "weights",
        "network": asdict(config_of(net)),
        "skeleton": asdict(skeleton),
        "codec": {"name": codec.name, "sigma": codec.sigma},
        "evaluation": evaluation.as_json() if evaluation is not None else None,
        "training": training,
    }
    write_tensors(path, tensors, card)


def config_from_dict(values: dict[str, Any]) -> Config:
    """Return the config that ``dataclasses.asdict`` turned into JSON.

    Raises:
        ValueError: unknown fields, or values of a wrong type or that the config refuses.
    """
    kind: type[Config] = PeerConfig if "name" in values else LGMPoseConfig
    unknown = sorted(values.keys() - {field.name for field in fields(kind)})
    if unknown:
        raise ValueError(f"no setting {unknown[0]!r}")
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error


def load_weights(path: str | Path, *, num_keypoints: int | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network in a weights file, in eval mode, and its card.

    If ``num_keypoints`` is given, weights with another number of keypoints are refused.

    Raises:
        UserError: not a weights file, damaged, of another version, or with another number of keypoints.
    """
    tensors, card = read_tensors(path)
    check_card(card, WeightsCard, path)
    try:
        config = config_from_dict(card["network"])
        with torch.device("meta"):  # needs no memory, no time and no random numbers
            net = build(config)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: settings that this version does not have; is it of another one? ({error})") from error
    if config.head != (needed := CODECS[card["codec"]["name"]].head):
        raise UserError(f"{path}: damaged; its codec needs a {needed} head, but its network has a {config.head} head")
    if num_keypoints is not None and config.num_keypoints != num_keypoints:
        raise UserError(f"{path}: weights for {config.num_keypoints} keypoints; {num_keypoints} are needed here")
    load_into(net, tensors, path)
    return net.eval(), card
