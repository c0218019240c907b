"""Weights on disk: safetensors with a JSON card inside, written atomically, read without any pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from lgmpose.errors import UserError
from lgmpose.files import write_atomically
from lgmpose.network.config import LGMPoseConfig, Stage

__all__ = ["config_from_dict", "load_into", "read_tensors", "write_tensors"]

_KEY = "lgmpose"  # safetensors metadata holds strings only: one key, one JSON text


def write_tensors(path: str | Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Writes tensors and a JSON-able card to one safetensors file, atomically. Raises UserError as above."""
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, to_bytes(cpu, metadata={_KEY: json.dumps(card)}))


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what ``write_tensors`` wrote.

    Raises:
        UserError: missing, no safetensors file (a pickle is named as such and never opened), or without our card.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            card = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        with path.open("rb") as file:
            head = file.read(2)
        # Only now: a safetensors file begins with the length of its header, which may have these two bytes as well.
        if head in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise UserError(
                f"{path}: a PyTorch pickle, which can run code when opened and is never loaded here; "
                "convert it to .safetensors where you trust it"
            ) from None
        raise UserError(f"{path}: not a whole safetensors file ({error})") from error
    if card is None:
        raise UserError(f"{path}: a safetensors file, but not one of lgmpose's: it carries no model card")
    return tensors, json.loads(card)


def config_from_dict(values: dict[str, Any]) -> LGMPoseConfig:
    """The inverse of ``dataclasses.asdict`` for a config that went through JSON."""
    values = dict(values)
    values["image_hw"] = tuple(values["image_hw"])
    values["decoder_channels"] = tuple(values["decoder_channels"])
    values["stages"] = tuple(Stage(**{**stage, "patch_hw": tuple(stage["patch_hw"])}) for stage in values["stages"])
    return LGMPoseConfig(**values)


def load_into(net: nn.Module, tensors: dict[str, Tensor], source: str | Path) -> None:
    """Copies weights into a network; fp16 weights become the network's dtype.

    Raises:
        UserError: other names or shapes, with the first that differs.
    """
    wanted = net.state_dict()
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or extra:
        what = f"lacks {missing[0]}" if missing else f"has {extra[0]}, which the network lacks"
        raise UserError(f"{source}: weights of another network ({what}; {len(missing) + len(extra)} names differ)")
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            raise UserError(
                f"{source}: {name} is {tuple(tensors[name].shape)}, the network needs {tuple(tensor.shape)}: weights "
                "of another number of keypoints or input size (LGMPose.resized moves weights between sizes)"
            )
    with torch.no_grad():
        net.load_state_dict({name: tensors[name].to(tensor.dtype) for name, tensor in wanted.items()})
