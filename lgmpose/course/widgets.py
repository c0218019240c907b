"""Sliders for the figures of the lessons. On a page without a kernel, a figure is drawn once, at its first values."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable

__all__ = ["STATIC", "live", "sliders"]

STATIC = "LGMPOSE_STATIC"  # ``lgmpose course run`` and ``build`` set it: the sliders of a stored page do not move


def live() -> bool:
    """Return whether controls work: in a notebook with ipywidgets that is not run for a stored page."""
    return not os.environ.get(STATIC) and importlib.util.find_spec("ipywidgets") is not None


def sliders(draw: Callable[..., object], **controls: tuple | list) -> None:
    """Draw a figure, with a slider or a menu for each of its values where a kernel runs.

    Args:
        draw: draws the figure with matplotlib; it is called with one value for each control.
        controls: for each value (lowest, highest, step, first), or a list of choices of which the first is shown first.
    """
    first = {name: control[0] if isinstance(control, list) else control[3] for name, control in controls.items()}
    if not live():
        draw(**first)
        return
    import ipywidgets  # only in a live notebook

    made = {}
    for name, control in controls.items():
        label = name.replace("_", " ")
        if isinstance(control, list):
            made[name] = ipywidgets.Dropdown(options=control, value=first[name], description=label)
        else:
            low, high, step, value = control
            kind = ipywidgets.IntSlider if all(isinstance(x, int) for x in control) else ipywidgets.FloatSlider
            made[name] = kind(value, min=low, max=high, step=step, description=label, continuous_update=False)
    ipywidgets.interact(draw, **made)
