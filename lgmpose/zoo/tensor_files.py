"""Tensors on disk: safetensors with a JSON card inside, written atomically, read without any pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from lgmpose.errors import UserError
from lgmpose.files import write_atomically

__all__ = ["check_tensors", "load_into", "read_tensors", "write_tensors"]

_KEY = "lgmpose"  # safetensors metadata holds strings only: one key, one JSON text


def write_tensors(path: str | Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> None:
    """Write tensors and a JSON-able card to one safetensors file, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, to_bytes(cpu, metadata={_KEY: json.dumps(card)}))


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote.

    Raises:
        UserError: missing, not a safetensors file (a pickle is named as such and never opened), damaged, or without a
            card.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        card = json.loads(text) if text is not None else None
    except Exception as error:  # a damaged header makes safetensors raise many classes
        with path.open("rb") as file:
            head = file.read(2)
        # Only now: a safetensors file starts with the length of its header, which may have these two bytes as well.
        if head in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise UserError(
                f"{path}: a PyTorch pickle, which can run code when opened and is never loaded here; of a training "
                "run, use best.safetensors"
            ) from None
        raise UserError(f"{path}: not a whole safetensors file ({error})") from error
    if not isinstance(card, dict):
        raise UserError(f"{path}: a safetensors file, but not of lgmpose: it has no model card")
    return tensors, card


def load_into(net: nn.Module, tensors: dict[str, Tensor], source: str | Path) -> None:
    """Put tensors into a network as its weights, converted to its dtype. The network may be on the meta device.

    Raises:
        UserError: names or shapes do not fit, or a number is not finite; the message names the first such tensor.
    """
    wanted = net.state_dict()
    check_tensors(tensors, wanted, source)
    if spoilt := [name for name, tensor in tensors.items() if not (tensor.is_meta or tensor.isfinite().all())]:
        raise UserError(f"{source}: {spoilt[0]} holds NaN or infinite numbers; the training that wrote it diverged")
    net.load_state_dict({name: tensors[name].to(tensor.dtype) for name, tensor in wanted.items()}, assign=True)


def check_tensors(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str | Path) -> None:
    """Compare names and shapes of tensors with those of a network's state.

    Raises:
        UserError: other names or shapes; the message has the first that differs.
    """
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
