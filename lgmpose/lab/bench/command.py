"""How the small benchmarks, ``python -m lgmpose.lab.bench.…``, end: what was measured, printed and kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lgmpose.errors import UserError, as_sentence
from lgmpose.files import print_anywhere, write_atomically
from lgmpose.lab.bench.run import check_output

__all__ = ["run_command"]


def run_command(
    measure: Callable[[], dict[str, Any]], markdown: Callable[[dict[str, Any]], str], json_file: Path | None
) -> int:
    """Measures, prints the page, and keeps the result with the page beside it.

    Args:
        measure: gives the result; raises ``UserError`` for bad input, before it works.
        markdown: the result's page.
        json_file: where to keep it; found out before the work whether that can be. None: nowhere.

    Returns:
        The exit status: 0, 2 for bad input (one line on stderr), 130 if stopped by Ctrl-C.
    """
    print_anywhere()
    try:
        if json_file is not None:
            check_output(json_file)
        result = measure()
        page = markdown(result)
        print(page, end="")
        if json_file is not None:
            write_atomically(json_file, (json.dumps(result, indent=1) + "\n").encode())
            write_atomically(json_file.with_suffix(".md"), page.encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {as_sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
