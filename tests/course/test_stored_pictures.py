"""Pictures of stored notebooks: drawings become smaller, photographs stay as they are."""

import base64
import io

import numpy as np
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from lgmpose.course.notebooks import shrink_pictures


def stored(pixels: np.ndarray) -> tuple[bytes, bytes]:
    """A picture before and after, as PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", compress_level=1)
    output = new_output("display_data", {"image/png": base64.b64encode(file.getvalue()).decode()})
    shrink_pictures(new_notebook(cells=[new_code_cell("", outputs=[output])]))
    return file.getvalue(), base64.b64decode(output.data["image/png"])


def test_a_drawing_is_smaller_and_looks_the_same():
    pixels = np.full((60, 80, 3), 255, np.uint8)
    pixels[10:30, 20:50], pixels[30:50, 40:70] = (0, 114, 178), (230, 159, 0)
    before, after = stored(pixels)
    assert len(after) < len(before)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(after)).convert("RGB")), pixels)


def test_a_picture_with_many_colours_is_kept():
    before, after = stored(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    assert after == before
