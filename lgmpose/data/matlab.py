"""Load MATLAB files, with errors that name the file."""

from __future__ import annotations

from typing import Any

from lgmpose.errors import UserError

__all__ = ["load_mat"]


def load_mat(file: Any, name: str | None = None, **options: Any) -> dict[str, Any]:
    """Return the variables of a MATLAB file.

    Args:
        file: path, or an open binary file.
        name: of the file in errors; by default the path.
        options: passed on to ``scipy.io.loadmat``.

    Raises:
        UserError: The file is missing, damaged, or not a MATLAB file.
    """
    from scipy.io import loadmat  # here, because it takes a quarter of a second to import

    name = name or str(file)
    try:
        return loadmat(file, **options)
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except Exception as error:  # a damaged file raises almost anything: zlib.error, ValueError, TypeError, struct.error
        raise UserError(f"{name}: not a MATLAB file that can be read ({error})") from error
