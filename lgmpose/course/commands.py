"""The command line of this room: ``lgmpose course build`` and ``lgmpose course run``."""

from __future__ import annotations

from pathlib import Path

import tyro

from lgmpose.errors import UserError

__all__ = ["register"]

NOTEBOOKS = Path("notebooks")

group = tyro.extras.SubcommandApp()


def register(app: tyro.extras.SubcommandApp) -> None:
    """Add this room's commands to the command line."""
    app.command(group, name="course", help="Run the lessons; build the course and the documentation as web pages.")


@group.command
def build(output: tyro.conf.Positional[Path] = Path("build/course"), run: bool = True) -> None:
    """Run every lesson and write the course, the guides and the API reference as web pages.

    Args:
        output: folder of the pages.
        run: run the lessons first; without it the pages show the stored outputs.
    """
    from lgmpose.course.notebooks import run_notebooks
    from lgmpose.course.site import build_site

    executed = output.with_name(f"{output.name}-notebooks") if run else None
    failures = run_notebooks(NOTEBOOKS, executed / NOTEBOOKS) if executed else {}
    print(f"Open {build_site(output, executed).resolve().as_uri()}")
    _report(failures)


@group.command(name="run")
def run_in_place(lessons: tyro.conf.Positional[tuple[str, ...]] = ()) -> None:
    """Run lessons and their solutions, and store the outputs in their files. A file that fails is not changed.

    Args:
        lessons: numbers, for example 05 06; none: all lessons.
    """
    from lgmpose.course.notebooks import run_notebooks

    _report(run_notebooks(NOTEBOOKS, NOTEBOOKS, lessons))


def _report(failures: dict[Path, str]) -> None:
    """Raise a UserError that names the failed notebooks, if there are any."""
    if failures:
        raise UserError("failed: " + "; ".join(f"{path.as_posix()}, {reason}" for path, reason in failures.items()))
