"""Bring a reader's own photo into a lesson: by an upload button, or from the webcam."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from lgmpose.course.widgets import live
from lgmpose.errors import UserError

__all__ = ["decoded", "snapshot", "upload_button"]


def decoded(data: bytes) -> np.ndarray:
    """Return the picture in the bytes of a file as (H, W, 3) uint8 RGB; raises UserError if it is none."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise UserError("this file is no picture that OpenCV can read; save it as JPEG or PNG")
    return picture[..., ::-1].copy()


def snapshot(camera: int = 0) -> np.ndarray:
    """Return a picture of a webcam of the computer that runs the notebook, (H, W, 3) uint8 RGB.

    Raises:
        UserError: no such camera, for example on a server.
    """
    capture = cv2.VideoCapture(camera)
    try:
        for _ in range(10):  # the first frames of a webcam are often dark
            read, picture = capture.read()
    finally:
        capture.release()
    if not read:
        raise UserError(f"camera {camera} gives no picture; on a server there is none: upload a photo instead")
    return picture[..., ::-1].copy()


def upload_button(show: Callable[[np.ndarray], None]) -> None:
    """Show an upload button, and call ``show`` with each uploaded picture. Stored pages have a sentence instead."""
    if not live():
        print("When you run this notebook, a button for your own photo appears here.")
        return
    import ipywidgets  # only in a live notebook
    from IPython.display import display

    button, output = ipywidgets.FileUpload(accept="image/*", description="your photo"), ipywidgets.Output()

    def react(_) -> None:
        with output:
            output.clear_output()
            for file in button.value:
                try:
                    show(decoded(bytes(file.content)))
                except UserError as error:
                    print(error)

    button.observe(react, names="value")
    display(button, output)
