"""The command line of this room: ``lgmpose course build``."""

from __future__ import annotations

from pathlib import Path

import tyro

__all__ = ["register"]

group = tyro.extras.SubcommandApp()


def register(app: tyro.extras.SubcommandApp) -> None:
    """Add this room's commands to the command line."""
    app.command(group, name="course", help="Build the course.")


@group.command
def build(
    notebooks: tyro.conf.Positional[Path] = Path("notebooks"),
    output: tyro.conf.Positional[Path] = Path("build/course"),
    in_place: bool = False,
) -> int:
    """Run every notebook and write the course as web pages. The exit status is 1 if a notebook failed.

    Args:
        notebooks: folder of the notebooks.
        output: folder of the pages.
        in_place: store the outputs in the notebooks instead; no page is written.
    """
    from lgmpose.course.site import build_site

    return 0 if build_site(notebooks, output, in_place=in_place) else 1
