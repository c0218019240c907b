"""A small labelling tool for a notebook: choose a picture and a joint, move two sliders, and see the point."""

from __future__ import annotations

from collections.abc import Callable

from lgmpose.course.widgets import live

__all__ = ["label_points"]


def label_points(
    points: list[dict[str, tuple[float, float]]],
    names: list[str],
    size_wh: tuple[int, int],
    draw: Callable[[int, str], object],
) -> None:
    """Show controls that change the points of one joint at a time. A stored page shows nothing.

    Args:
        points: for each picture, joint name → (x, y) in pixels; changed in place.
        names: names of the joints.
        size_wh: width and height of the pictures.
        draw: draws a picture, given by its index, with its points; the second argument is the chosen joint.
    """
    if not live():
        return
    import ipywidgets  # only in a live notebook
    from IPython.display import display

    picture = ipywidgets.Dropdown(options=range(len(points)), description="picture")
    joint = ipywidgets.Dropdown(options=names, description="joint")
    x, y = (
        ipywidgets.FloatSlider(min=0, max=size - 1, step=0.5, description=name)
        for name, size in zip("xy", size_wh, strict=True)
    )
    shown = ipywidgets.Output()

    def show() -> None:
        with shown:
            shown.clear_output(wait=True)
            draw(picture.value, joint.value)

    def store(_) -> None:
        points[picture.value][joint.value] = (x.value, y.value)
        show()

    def choose(_=None) -> None:  # the sliders move to the stored point, which stays as it is
        for slider, value in zip((x, y), points[picture.value].get(joint.value, (0.0, 0.0)), strict=True):
            slider.unobserve_all("value")
            slider.value = value
            slider.observe(store, "value")
        show()

    picture.observe(choose, "value")
    joint.observe(choose, "value")
    choose()
    display(ipywidgets.VBox([ipywidgets.HBox([picture, joint]), x, y, shown]))
