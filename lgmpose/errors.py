"""The error for bad input, whose message is read without a traceback, and notices that are printed once."""

import functools
import sys

__all__ = ["UserError", "as_sentence", "notice_once"]


class UserError(Exception):
    """Bad input. The message says which file or option is wrong, what is wrong with it, and what to do.

    The command line prints the message alone and exits with status 2. It is not a ValueError: code that catches those,
    such as an argument parser, must let it pass.
    """


def as_sentence(error: OSError) -> str:
    """Return what the system refused, in one line: ``photo.jpg: Permission denied``."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


@functools.cache
def notice_once(text: str) -> None:
    """Print a text on stderr, once per process."""
    print(text, file=sys.stderr)
