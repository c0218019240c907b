"""The error for bad input, which is printed without a traceback, and notices that are printed once."""

import functools
import importlib.util
import os
import sys
from collections.abc import Callable

__all__ = ["UserError", "exit_status", "first_line", "notice_once", "require", "run_script"]


class UserError(Exception):
    """Bad input. The message says which file or option is wrong, what is wrong with it, and what to do.

    The command line prints the message alone and exits with status 2. It is not a ValueError: code that catches those,
    such as an argument parser, must let it pass.
    """


def _as_sentence(error: OSError) -> str:
    """Return what the system refused, in one line: ``photo.jpg: Permission denied``."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


def first_line(error: BaseException) -> str:
    """Return an error's class and the first line of its text, at most 300 characters."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__


def require(module: str, extra: str, what: str) -> None:
    """Raise UserError, naming the extra that installs it, if a module is not installed."""
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{what} needs {module}: pip install 'lgmpose[{extra}]'")


def exit_status(command: Callable[[], object]) -> int:
    """Run a command, and return its exit status.

    Returns:
        0, or the number that the command returns; 2 for bad input (one line on stderr); 130 if interrupted.
    """
    try:
        status = command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe (head, less) has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # for example a folder without read permission
        print(f"error: {_as_sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return status if isinstance(status, int) else 0


def run_script(main: Callable[[], object]) -> None:
    """Run a script; what goes wrong ends it as on the command line, see ``exit_status``."""
    if status := exit_status(main):
        sys.exit(status)


@functools.cache
def notice_once(text: str) -> None:
    """Print a text on stderr, once per process."""
    print(text, file=sys.stderr)
