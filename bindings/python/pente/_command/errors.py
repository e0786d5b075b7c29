"""What stops the command: a line on stderr, and exit status 1."""

from importlib import import_module
from typing import Any


class CommandError(Exception):
    """What is wrong with the data or a file."""


def optional(module: str, purpose: str) -> Any:
    """A module that need not be installed, and is now wanted for this."""
    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise CommandError(f"{purpose} needs {package}, which is not installed: pip install {package}") from None


def because(error: Exception) -> str:
    """An error's reason in one line, without the path that the system's errors have."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split()) or type(error).__name__
