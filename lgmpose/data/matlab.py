"""Load MATLAB files, with errors that name the file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

from lgmpose.errors import UserError

__all__ = ["load_mat"]

# Types of a version 5 file's elements, from its documented format. 14: an array, whose parts are elements; 15: a
# compressed element.
ARRAY, COMPRESSED = 14, 15
TYPES = frozenset((1, 2, 3, 4, 5, 6, 7, 9, 12, 13, ARRAY, COMPRESSED, 16, 17, 18))
COMPLEX = 0x800  # flag of an array that has two parts of numbers, the second one imaginary


def load_mat(file: Any, name: str | None = None, **options: Any) -> dict[str, Any]:
    """Return the variables of a MATLAB file, given as a path or an open binary file; ``options`` go to SciPy's loadmat.

    Raises:
        UserError: The file is missing, damaged, or not a MATLAB file.
    """
    from scipy.io import loadmat  # here, because it takes a quarter of a second to import

    name = name or str(file)
    try:
        data = file.read() if hasattr(file, "read") else Path(file).read_bytes()
        if data[126:128] in (b"IM", b"MI"):
            _check_elements(memoryview(data)[128:], "<" if data[126:128] == b"IM" else ">")
        return loadmat(io.BytesIO(data), **options)  # type: ignore[arg-type]  # any binary file will do
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except Exception as error:  # a damaged file raises almost anything: zlib.error, ValueError, TypeError, struct.error
        raise UserError(f"{name}: not a MATLAB file that can be read ({error})") from error


def _check_elements(data: memoryview, order: str, depth: int = 0) -> int:
    """Check the type and the size of every element of a version 5 file, and return how many elements there are.

    SciPy does not: it looks up unknown types outside of its table, which can end the whole process.

    Raises:
        ValueError: an element of an unknown type, or one that is longer than what is left.
    """
    if depth > 50:
        raise ValueError("arrays in arrays, more than 50 deep")
    position = count = 0
    while position < len(data):
        if len(data) - position < 8:
            raise ValueError("cut short")
        kind, size = struct.unpack_from(f"{order}II", data, position)
        start, end = position + 8, position + 8 + size
        if kind >> 16:  # a small element, whose at most 4 bytes are in the place of its size
            kind, size = kind & 0xFFFF, kind >> 16
            start, end = position + 4, position + 8
        if kind not in TYPES or start + size > len(data) or (size > 4 and end == position + 8):
            raise ValueError(f"damaged: an element of type {kind} with {size} bytes")
        content = data[start : start + size]
        if kind == COMPRESSED:
            _check_elements(memoryview(zlib.decompress(content)), order, depth + 1)
        elif kind == ARRAY and size:
            parts = _check_elements(content, order, depth + 1)
            flags = struct.unpack_from(f"{order}I", content, 8)[0]
            # Flags, sizes, name, numbers; a complex array has the numbers twice.
            if parts < 3 or (flags & COMPLEX and parts != 5):
                raise ValueError(f"damaged: an array of {parts} parts")
        position = end if kind == COMPRESSED else end + -(end - position) % 8  # elements begin at multiples of 8 bytes
        count += 1
    return count
