"""Keeps the output of TensorFlow's native code off the terminal."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


def _hidden_file() -> IO[bytes]:
    """A file without a name: in memory where the system can, since no folder may be writable."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("messages"), "w+b")  # noqa: PTH123 - a descriptor
    return tempfile.TemporaryFile()


@contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Hide what C++ libraries print while they load, unless loading fails.

    TensorFlow writes its build options and missing GPU drivers to the file descriptor of standard
    error before any setting of its logger applies. `fer` itself reports which device it uses.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with _hidden_file() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except ImportError:
            hidden.seek(0)
            os.write(terminal, hidden.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
