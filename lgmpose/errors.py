"""The one error that a user can cause and should read as a sentence, not as a traceback."""

__all__ = ["UserError", "as_sentence"]


class UserError(Exception):
    """Bad input: says which file or option, what is wrong with it, and what to do.

    The command line prints its message alone and exits with status 2. Not a ValueError: code that catches those, such
    as an argument parser, must let it pass.
    """


def as_sentence(error: OSError) -> str:
    """What the system refused, in one line: ``photo.jpg: Permission denied``."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
