"""The card that a network on disk carries, read without PyTorch: skeleton, codec, and where the shipped weights lie."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from lgmpose.errors import UserError
from lgmpose.pose.codecs import StandardCodec, make_codec
from lgmpose.pose.skeletons import Skeleton, skeleton_from_dict

__all__ = [
    "DEFAULT_WEIGHTS", "EXPORT_VERSION", "SEAL", "SHIPPED", "WEIGHTS_FOLDER", "check_seal", "codec_of",
    "find_weights", "read_card", "seal", "skeleton_of", "weights_hash",
]  # fmt: skip

# The weights that come with the package, by model name; `predict` and notebook 00 use the first.
SHIPPED = ("lgm-pose-lspet-128x128",)
WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"
DEFAULT_WEIGHTS = WEIGHTS_FOLDER / f"{SHIPPED[0]}.safetensors"

EXPORT_VERSION = 1  # of an exported file's card


def find_weights(weights: str | Path | None) -> Path:
    """The file that is meant: None is the default, and the bare name of a shipped file, where no such file lies here,
    the shipped one."""
    path = Path(weights if weights is not None else DEFAULT_WEIGHTS)
    shipped = WEIGHTS_FOLDER / path.name
    return shipped if path == Path(path.name) and not path.exists() and shipped.is_file() else path


def skeleton_of(card: dict[str, Any]) -> Skeleton:
    """The skeleton a card's network was trained on."""
    return skeleton_from_dict(card["skeleton"])


def codec_of(card: dict[str, Any], image_hw: tuple[int, int]) -> StandardCodec:
    """The codec a card's network was trained with, for crops of ``image_hw``."""
    return make_codec(card["codec"]["name"], image_hw, card["codec"]["sigma"])


def weights_hash(path: str | Path) -> str:
    """First 12 hexadecimal digits of the file's SHA-256: names the weights in results."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


# An exported file is sealed: its card holds the SHA-256 of the whole file, taken while zeros stand in the hash's place.
# The same bytes are found in every format, so neither ONNX nor OpenVINO is needed to tell whether a file was changed.
SEAL = "lgmpose-seal:" + 64 * "0"
_SEAL = re.compile(rb"lgmpose-seal:[0-9a-f]{64}")


def seal(data: bytes, *others: bytes) -> bytes:
    """A file with ``SEAL`` somewhere in it → the same with its hash there; ``others`` are files that belong to it."""
    return data.replace(SEAL.encode(), b"lgmpose-seal:" + _digest(data, others))


def check_seal(path: Path) -> None:
    """Refuses a file whose seal does not fit; one without a seal passes.

    Raises:
        UserError: the file was changed since it was sealed, or an OpenVINO file's ``.bin`` is not beside it.
    """
    data, others = path.read_bytes(), ()
    found = _SEAL.search(data)
    if found is None:
        return
    if path.suffix.lower() == ".xml":
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise UserError(f"{weights}: missing; it belongs to {path.name}")
        others = (weights.read_bytes(),)
    if found.group() != b"lgmpose-seal:" + _digest(_SEAL.sub(SEAL.encode(), data), others):
        raise UserError(f"{path}: changed since it was exported (its hash does not fit); export it again")


def read_card(path: Path, text: str | None) -> dict[str, Any]:
    """The card of an exported file.

    Args:
        path: the file, named in errors.
        text: the card, as the file's runtime found it; None where there is none.

    Raises:
        UserError: no card, or one that this version cannot read.
    """
    if text is None:
        raise UserError(f"{path}: not one of lgmpose's: it carries no card; `lgmpose export` makes files that do")
    try:
        card = json.loads(text)
        known = card["kind"] == "export" and card["version"] <= EXPORT_VERSION and _SEAL.search(text.encode())
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise UserError(f"{path}: its card is damaged, or of a newer lgmpose; export it again")
    return card


def _digest(data: bytes, others: tuple[bytes, ...]) -> bytes:
    digest = hashlib.sha256(data)
    for other in others:
        digest.update(other)
    return digest.hexdigest().encode()
