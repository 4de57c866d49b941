"""Failures a user can mend, told apart from bugs.

A `FerError` is shown without a traceback and ends the command with exit code 2. Its message says
what is wrong, what was found and what to do. Anything else is a bug: traceback, exit code 1.
"""


class FerError(Exception):
    """An expected failure; the message is all that the user sees."""


class ConfigError(FerError):
    """A configuration file or an override is wrong."""


class DataError(FerError):
    """A dataset is missing, incomplete or unreadable."""


class DeviceError(FerError):
    """The device asked for cannot be used."""


class RunError(FerError):
    """A run directory is missing, busy, unreadable or does not fit the request."""


class TrainingError(FerError):
    """Training cannot go on, for example because the loss is not a number any more."""


class WorkerLost(TrainingError):  # noqa: N818 - what happened, not what is wrong
    """Another process of the run is gone, so that this one cannot go on."""


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """The user stopped the command; everything needed to go on has been saved."""
