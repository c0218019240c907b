"""Reading annotation files and finding their pictures, with errors that name the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lgmpose.errors import UserError
from lgmpose.files import read_json

__all__ = ["load_mat", "read_coco", "require_pictures"]


def read_coco(path: str | Path) -> dict:
    """``read_json`` of a file in COCO's annotation format.

    Raises:
        UserError: as there, or the file has no list of pictures, or annotations that are no list.
    """
    content = read_json(path)
    lists = (content.get("images"), content.get("annotations", [])) if isinstance(content, dict) else (None,)
    if not all(isinstance(part, list) for part in lists):
        raise UserError(f"{path}: not a COCO annotation file (its 'images' and 'annotations' are lists)")
    return content


def load_mat(path: str | Path, **options) -> dict:
    """``scipy.io.loadmat`` whose failures are ``UserError``s; ``options`` are passed on to it."""
    from scipy.io import loadmat  # a quarter of a second to import, and only MPII and LSPET need it

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return loadmat(str(path), **options)
    except Exception as error:  # a damaged .mat raises almost anything: zlib.error, ValueError, TypeError, struct.error
        raise UserError(f"{path}: not a MATLAB file that can be read ({error})") from error


def require_pictures(folder: str | Path, names: Iterable[str], annotations: str | Path) -> None:
    """Refuses to start long work when pictures are missing.

    Args:
        folder: where the pictures should be.
        names: file names relative to ``folder``, as the annotations give them.
        annotations: the annotation file, named in the message.

    Raises:
        UserError: naming the first missing picture and how many are missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of pictures")
    names = sorted(set(names))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder / missing[0]}: no such picture ({len(missing)} of the {len(names)} that {annotations} names are "
            f"missing); is {folder} the right folder?"
        )
