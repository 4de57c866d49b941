"""Errors that a user can fix, as opposed to bugs.

A `FerError` is shown without a traceback and ends the command with exit code 2. Its message says
what is wrong, what was found and what to do. Anything else is a bug: traceback, exit code 1.
"""

from typing import Any


class FerError(Exception):
    """An expected error; the user sees only its message."""


class ConfigError(FerError):
    """A configuration file or an override is wrong."""


class DataError(FerError):
    """A dataset is missing, incomplete or unreadable."""


class DeviceError(FerError):
    """The chosen device cannot be used."""


class RunError(FerError):
    """A run directory is missing, busy, unreadable or does not fit the request."""


class TrainingError(FerError):
    """Training cannot continue, for example because the loss is no longer a number."""


class WorkerLost(TrainingError):  # noqa: N818 - what happened, not what is wrong
    """Another process of the run was lost, so this one cannot continue."""


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user stopped the command; everything needed to resume is saved."""


def shortened(value: Any) -> str:
    """A value for a message, at most 60 characters long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
