"""The card of a network on disk, read without PyTorch: skeleton, codec, and where the shipped weights are.

A card is a JSON object inside the file. Its fields are those of ``WeightsCard`` or ``ExportCard``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from lgmpose.errors import UserError
from lgmpose.files import as_type
from lgmpose.pose.codecs import CodecName, StandardCodec, make_codec
from lgmpose.pose.skeletons import SKELETONS, Skeleton, check_sigmas

__all__ = [
    "DEFAULT_WEIGHTS", "EXPORT_VERSION", "SHIPPED", "SPORTS_WEIGHTS", "WEIGHTS_FOLDER", "ExportCard", "WeightsCard",
    "check_card", "codec_of", "find_weights", "read_card", "skeleton_of", "weights_hash",
]  # fmt: skip

# The weights that come with the package, by model name; the first are the default.
SHIPPED = ("lgm-pose-coco-256x192", "lgm-pose-lspet-128x128", "lgm-pose-mpii-256x256")
WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"
DEFAULT_WEIGHTS = WEIGHTS_FOLDER / f"{SHIPPED[0]}.safetensors"
SPORTS_WEIGHTS = WEIGHTS_FOLDER / "lgm-pose-lspet-128x128.safetensors"  # small and fast: of the lessons, the live page

EXPORT_VERSION = 1  # of an exported file's card

Side = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class CodecCard(msgspec.Struct):
    """The codec that a network was trained with."""

    name: CodecName
    sigma: Annotated[float, msgspec.Meta(gt=0, le=100)]


class _Card(msgspec.Struct, kw_only=True):
    network: dict[str, Any]  # the fields of its LGMPoseConfig or PeerConfig
    skeleton: Skeleton
    codec: CodecCard


class WeightsCard(_Card, kw_only=True):
    """The card of a weights file."""

    kind: Literal["weights"]
    evaluation: dict[str, Any] | None = None  # its figures
    training: dict[str, Any] | None = None  # how it was trained


class ExportCard(_Card, kw_only=True):
    """The card of an exported file."""

    kind: Literal["export"]
    version: Annotated[int, msgspec.Meta(le=EXPORT_VERSION)]
    precision: str
    image_hw: tuple[Side, Side]
    mean: tuple[float, float, float]  # that inputs are normalised with, see ``data.images.normalise``
    std: tuple[float, float, float]


def find_weights(weights: str | Path | None) -> Path:
    """Return the path of the weights file that an argument or option names; it need not exist.

    Args:
        weights: None for the default weights, which ship with the package; or a path; or the name of a shipped file
            without a folder. If the current folder has a file of that name, it is taken instead of the shipped one.
    """
    path = Path(weights if weights is not None else DEFAULT_WEIGHTS)
    shipped = WEIGHTS_FOLDER / path.name
    return shipped if path == Path(path.name) and not path.exists() and shipped.is_file() else path


def skeleton_of(card: dict[str, Any]) -> Skeleton:
    """Return the skeleton that is stored in a card: the joints that the network finds.

    If it equals one of the package's skeletons (``SKELETONS``), that object is returned, so ``is`` comparisons work.
    """
    skeleton = msgspec.convert(card["skeleton"], Skeleton)
    own = SKELETONS.get(skeleton.name)  # own data may call their category "lsp", too: the name alone does not tell
    return own if own == skeleton else skeleton


def codec_of(card: dict[str, Any], image_hw: tuple[int, int]) -> StandardCodec:
    """Return the codec a card's network was trained with, for crops of ``image_hw``."""
    return make_codec(card["codec"]["name"], image_hw, card["codec"]["sigma"])


def weights_hash(path: str | Path) -> str:
    """Return the first 12 hexadecimal digits of the file's SHA-256, which identify the weights in results."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def check_card(card: Any, kind: type[WeightsCard | ExportCard], path: str | Path) -> None:
    """Check the types of a card's fields, and its OKS constants.

    Raises:
        UserError: the card is damaged, or of a newer version.
    """
    checked = as_type(card, kind, f"{path}: its card is damaged, or of a newer lgmpose", strict=True)
    check_sigmas(checked.skeleton.oks_sigmas, f"{path}: its card")


def read_card(path: str | Path, text: str | None) -> dict[str, Any]:
    """Return the card of an exported file from the text that the file's runtime found; None if it found none.

    Raises:
        UserError: no card, or one that this version cannot read.
    """
    if text is None:
        raise UserError(f"{path}: not a file of lgmpose: it has no card; `lgmpose export` makes files that have one")
    try:
        card = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UserError(f"{path}: its card is damaged ({error}); export it again") from error
    check_card(card, ExportCard, path)
    return card
