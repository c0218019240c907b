"""How the small benchmarks of ``lgmpose lab`` end: print the page, keep the result with the page beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lgmpose.files import write_atomically
from lgmpose.lab.bench.run import check_output

__all__ = ["run_command"]


def run_command(
    measure: Callable[[], dict[str, Any]], markdown: Callable[[dict[str, Any]], str], json_file: Path | None
) -> None:
    """Measure, print the page, and keep the result with the page beside it.

    Args:
        measure: returns the result; raises ``UserError`` for bad input, before it works.
        markdown: turns the result into its page.
        json_file: where to keep the result; checked before the work starts. None: nowhere.

    Raises:
        UserError: the file cannot be written.
    """
    if json_file is not None:
        check_output(json_file)
    result = measure()
    page = markdown(result)
    print(page, end="")
    if json_file is not None:
        write_atomically(json_file, (json.dumps(result, indent=1) + "\n").encode())
        write_atomically(json_file.with_suffix(".md"), page.encode())
