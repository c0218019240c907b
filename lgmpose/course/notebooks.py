"""Run the notebooks of the course, each in a fresh kernel of the Python that runs this program."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode

from lgmpose.course.widgets import STATIC
from lgmpose.errors import UserError

__all__ = ["find_notebooks", "run_notebook", "run_notebooks", "shrink_pictures"]

# Stored notebooks name no particular machine or Python version.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class OwnKernelManager(AsyncKernelManager):
    """Start this Python's own kernel, even where another Python has registered the kernel name "python3"."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def find_notebooks(folder: Path, lessons: Sequence[str] = ()) -> list[Path]:
    """Return the notebooks of the course relative to ``folder``: ``NN_*.ipynb``, then ``solutions/NN_*.ipynb``.

    Args:
        folder: the folder of the lessons.
        lessons: numbers of the wanted lessons, for example ("05",); none: all.

    Raises:
        UserError: the folder has no such notebook, or none of a wanted lesson.
    """
    paths = [*sorted(folder.glob("[0-9][0-9]_*.ipynb")), *sorted(folder.glob("solutions/[0-9][0-9]_*.ipynb"))]
    if not paths:
        raise UserError(f"{folder}: no notebook named like 00_start_here.ipynb in this folder")
    missing = set(lessons) - {path.name[:2] for path in paths}
    if missing:
        raise UserError(f"{folder}: no lesson {', '.join(sorted(missing))}; a lesson's number has two digits")
    return [path.relative_to(folder) for path in paths if not lessons or path.name[:2] in lessons]


def shrink_pictures(notebook: NotebookNode) -> None:
    """Store PNG pictures with at most 256 colours if this cannot be seen. They take a third of the bytes."""
    from PIL import Image, ImageChops, ImageStat  # only where notebooks are run

    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "image/png" not in output.get("data", {}):
            continue
        picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGB")
        few = picture.quantize(256)
        if max(ImageStat.Stat(ImageChops.difference(picture, few.convert("RGB"))).rms) < 2:  # of 255
            file = io.BytesIO()
            few.save(file, "png", optimize=True)
            output.data["image/png"] = base64.b64encode(file.getvalue()).decode()


def run_notebook(notebook: NotebookNode, folder: Path) -> str | None:
    """Run a notebook and store its new outputs in it.

    Args:
        notebook: is changed; cells after a failing one have no outputs.
        folder: the working directory of the kernel.

    Returns:
        None if every cell ran, else one line: the number of the failing code cell and its error.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    started: list[NotebookNode] = []

    def leave_ctrl_c_to_us(**_) -> None:  # nbclient would end this kernel only, and the next notebook would start
        with contextlib.suppress(NotImplementedError):  # Windows has no such handlers
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    client = NotebookClient(
        notebook,
        timeout=600,  # seconds for a cell
        kernel_manager_class=OwnKernelManager,
        record_timing=False,  # times of day would change the file at every run
        coalesce_streams=True,  # lines printed in a loop become one output, also on a busy machine
        extra_arguments=["--log-level=ERROR"],  # keeps kernel messages out of the progress line
        resources={"metadata": {"path": str(folder)}},
        on_notebook_start=leave_ctrl_c_to_us,
        on_cell_execute=lambda cell, cell_index: started.append(cell),
    )
    try:
        client.execute(env={**os.environ, STATIC: "1"})  # stored pages show figures, not sliders
    except (CellExecutionError, CellTimeoutError, RuntimeError, AssertionError) as error:  # the last two: a dead kernel
        name, text = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", error)
        reason = f"{name}: {text}".strip().splitlines()[0]
        return f"code cell {len(started)}: {reason}" if started else reason
    except KeyboardInterrupt:
        client.shutdown_kernel = "immediate"  # a kernel that is asked politely prints a traceback
        raise
    shrink_pictures(notebook)
    return None


def run_notebooks(folder: Path, output: Path, lessons: Sequence[str] = ()) -> dict[Path, str]:
    """Run the notebooks of ``folder``, print a line for each, and write them with their outputs to ``output``.

    The others still run after one has failed. If both folders are the same, a failed notebook keeps its file.

    Returns:
        For each failed notebook, relative to ``folder``, which cell failed and why.

    Raises:
        UserError: ``folder`` has no notebook, or none of a wanted lesson.
    """
    failures, paths = {}, find_notebooks(folder, lessons)
    for number, path in enumerate(paths, 1):
        print(f"[{number}/{len(paths)}] {path.as_posix():40s} ", end="", flush=True)
        notebook, started = nbformat.read(folder / path, as_version=4), time.monotonic()
        failure = run_notebook(notebook, (folder / path).parent)
        print(f"{time.monotonic() - started:6.1f} s" + (f"  FAILED, {failure}" if failure else ""), flush=True)
        if failure:
            failures[path] = failure
        if not failure or output != folder:
            notebook.metadata = nbformat.from_dict(METADATA)
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, output / path)
    return failures
