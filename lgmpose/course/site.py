"""Build the documentation site with Sphinx: the lessons, the guides in ``docs/`` and the API reference."""

from __future__ import annotations

import shutil
from pathlib import Path

from lgmpose.errors import UserError
from lgmpose.files import check_writable

__all__ = ["build_site", "check_site"]

LIVE = Path("build", "live")  # where `make live` leaves the page that runs the network in the browser
REDIRECT = '<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/index.html">\n'


def check_site(output: Path) -> None:
    """Check, before the lessons are run, that their pages can be built.

    Raises:
        UserError: no ``docs/conf.py`` in the current folder, or no folder to write to.
    """
    if not Path("docs", "conf.py").is_file():
        raise UserError(f"{Path.cwd()}: no docs/conf.py in this folder; run the command in a checkout of the project")
    if not output.name:
        raise UserError(f"{output}: name a folder for the pages, such as build/course")
    check_writable(output / "index.html")


def build_site(output: Path, executed: Path | None = None) -> Path:
    """Build the site of the project in the current folder and return its first page. The pages need no network.

    Args:
        output: folder for the pages.
        executed: folder with ``notebooks/``, the lessons as they were run just now; None shows the stored outputs.

    Raises:
        UserError: see ``check_site``, or Sphinx reports a warning or an error.
    """
    from sphinx.cmd.build import build_main

    check_site(output)
    settings = [] if executed is None else ["-D", f"executed_notebooks={executed.resolve()}"]
    if build_main(["-q", "-E", "-W", "--keep-going", "-c", "docs", *settings, ".", str(output)]):
        raise UserError("Sphinx reported the problems above; the site is not complete")
    (output / "index.html").write_text(REDIRECT, encoding="utf-8")
    if LIVE.is_dir():
        shutil.copytree(LIVE, output / "live", dirs_exist_ok=True)
    else:
        print("The live page is left out; `make live` builds it (docs/live.md).")
    return output / "index.html"
