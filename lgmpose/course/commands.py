"""The command line of this room: ``lgmpose course build``, ``run``, ``mark`` and ``slides``."""

from __future__ import annotations

from pathlib import Path

import tyro

from lgmpose.errors import UserError, require

__all__ = ["register"]

NOTEBOOKS = Path("notebooks")

group = tyro.extras.SubcommandApp()


def register(app: tyro.extras.SubcommandApp) -> None:
    """Add this room's commands to the command line."""
    app.command(group, name="course", help="Run the lessons; build the course as web pages; mark handed-in notebooks.")


def _check_packages(*packages: str) -> None:
    """Raise UserError if a package of the extra ``course`` is not installed."""
    for package in ("nbformat", *packages):
        require(package, "course", "the course")


@group.command
def build(output: tyro.conf.Positional[Path] = Path("build/course"), run: bool = True) -> None:
    """Run every lesson and write the course, the guides and the API reference as web pages.

    Args:
        output: folder of the pages.
        run: run the lessons first; without it the pages show the stored outputs.
    """
    _check_packages("nbclient", "ipykernel", "sphinx", "myst_nb")
    from lgmpose.course.notebooks import run_notebooks
    from lgmpose.course.site import build_site, check_site

    check_site(output)
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
    _check_packages("nbclient", "ipykernel")
    from lgmpose.course.notebooks import run_notebooks

    _report(run_notebooks(NOTEBOOKS, NOTEBOOKS, lessons))


@group.command
def mark(folder: tyro.conf.Positional[Path], csv: Path = Path("marks.csv"), seconds: float = 300.0) -> None:
    """Mark a folder of handed-in notebooks. It runs the students' code; notebooks/README.md says what is isolated.

    Args:
        folder: the handed-in notebooks; subfolders are searched too.
        csv: where to write the points and the verdict on each task; written after each notebook.
        seconds: time limit of one notebook.
    """
    _check_packages("ipykernel")
    from lgmpose.course.marking import mark_folder

    marks = mark_folder(folder, seconds, csv)
    print(f"{len(marks)} notebooks marked; points and verdicts: {csv}")


@group.command
def slides(
    output: tyro.conf.Positional[Path], lessons: tyro.conf.Positional[tuple[str, ...]] = (), figures: int = 2
) -> None:
    """Write slides for a lecture from the stored figures of the lessons. A browser shows them with reveal.js.

    Args:
        output: HTML file.
        lessons: numbers, for example 05 06; none: all lessons.
        figures: at most so many figures of each lesson.
    """
    _check_packages("nbconvert")
    from lgmpose.course.slides import make_slides

    print(f"{make_slides(NOTEBOOKS, output, lessons, figures)} slides: {output}")


def _report(failures: dict[Path, str]) -> None:
    """Raise a UserError that names the failed notebooks, if there are any."""
    if failures:
        raise UserError("failed: " + "; ".join(f"{path.as_posix()}, {reason}" for path, reason in failures.items()))
