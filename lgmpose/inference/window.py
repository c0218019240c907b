"""A window that shows pictures while they are made: ``lgmpose predict --show``."""

from __future__ import annotations

import time

import cv2
import numpy as np

from lgmpose.errors import UserError

__all__ = ["Window"]

MAX_WIDTH, MAX_HEIGHT = 1280, 800  # larger pictures are shown smaller


class Window:
    """A window of the main thread. Escape, q or its button closes it.

    The window is Tk's, which comes with Python: the OpenCV that lgmpose installs has no windows.

    Attributes:
        is_open: False once it is closed.

    Raises:
        UserError: there is no display, or this Python has no Tk.
    """

    def __init__(self, title: str):
        try:
            import tkinter  # some Linux systems have it in a package of its own
        except ImportError as error:
            raise UserError(f"--show needs tkinter ({error}); install python3-tk, or leave --show out") from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise UserError(f"--show needs a display ({error}); leave --show out, the results are written") from error
        self._tk, self.is_open = tkinter, True
        self._root.title(title)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        for key in ("<Escape>", "q"):
            self._root.bind(key, lambda _: self.close())

    def show(self, picture: np.ndarray) -> None:
        """Show a picture (H, W, 3) uint8 RGB. Nothing happens if the window is closed."""
        if not self.is_open:
            return
        factor = min(1.0, MAX_WIDTH / picture.shape[1], MAX_HEIGHT / picture.shape[0])
        if factor < 1:
            size = [max(1, int(side * factor)) for side in picture.shape[1::-1]]
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        data = b"P6 %d %d 255\n" % picture.shape[1::-1] + picture.tobytes()
        self._image = self._tk.PhotoImage(master=self._root, data=data, format="PPM")  # Tk keeps no reference
        self._label.configure(image=self._image)
        self._root.update()

    def wait(self) -> None:
        """Wait until the user closes the window."""
        while self.is_open:
            self._root.update()
            time.sleep(0.02)

    def close(self) -> None:
        """Close the window."""
        if self.is_open:
            self.is_open = False
            self._root.destroy()
