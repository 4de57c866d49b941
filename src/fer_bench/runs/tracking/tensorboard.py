"""TensorBoard: event files in the run directory.

Writing them takes only TensorFlow; looking at them takes the package tensorboard.
"""

import importlib
import itertools
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from fer_bench.device.quiet import native_messages_hidden
from fer_bench.runs.directory import RunDirectory
from fer_bench.runs.tracking.outbox import (
    Parcel,
    best_epoch,
    measured,
    sending,
    unsent,
)
from fer_bench.storage.files import read_bounded

FOLDER = "tensorboard"
# TensorBoard shows a text with this tag under the heading before the slash.
CONFIG_TAG = "config/text_summary"
FILES = itertools.count()


class TensorBoard:
    """Writes what is new of a run into one event file per process.

    Events are written here rather than by `tf.summary`, so that an epoch has the time at which it
    ended, however late it is sent, and a figure is sent byte for byte.
    """

    name = "tensorboard"

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._writer: Any = None

    def send(self) -> Parcel:
        """Write what is missing and return it. Raises: TrackingError."""
        with sending(self._run, self.name) as sent:
            if not (self._run.path / FOLDER).is_dir():
                sent.forget()
            parcel = unsent(self._run, sent)
            if parcel:
                for event in _events(self._run, parcel):
                    self._open().write(event.SerializeToString())
                self._open().flush()
                # After a kill before the next line, the same points are written again.
                sent.epochs += len(parcel.epochs)
                sent.files |= parcel.files
                sent.status = parcel.status or sent.status
                sent.save()
        return parcel

    def _open(self) -> Any:
        if self._writer is None:
            tf = _tensorflow()
            # TensorBoard reads the files of a folder in the order of their names.
            place = f"{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}.{next(FILES)}"
            folder = self._run.path / FOLDER
            folder.mkdir(exist_ok=True)
            self._writer = tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{place}"))
            first = tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2")
            self._writer.write(first.SerializeToString())
        return self._writer


def _tensorflow() -> Any:
    """TensorFlow, imported when something is written: most commands need not wait for it."""
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    with native_messages_hidden():
        return importlib.import_module("tensorflow")


def _events(run: RunDirectory, parcel: Parcel) -> Iterator[Any]:
    """The events of a parcel, as protocol buffers."""
    for epoch in parcel.epochs:
        yield _event(epoch.number, epoch.time, [_scalar(*item) for item in epoch.values.items()])
    last_epoch = len(run.read_history())
    for name in parcel.files:
        path = run.path / name
        written = path.stat().st_mtime
        if name.endswith(".json"):
            values = [_scalar(*item) for item in measured(run, name).items()]
            yield _event(best_epoch(run), written, values)
        elif name.endswith(".png"):
            yield _event(last_epoch, written, [_picture(name.removesuffix(".png"), path)])
        elif path == run.config:
            yield _event(0, written, [_text(CONFIG_TAG, read_bounded(path).decode())])


def _event(step: int, seconds: float, values: list[Any]) -> Any:
    tf = _tensorflow()
    summary = tf.compat.v1.Summary(value=values)
    return tf.compat.v1.Event(wall_time=seconds, step=step, summary=summary)


def _scalar(tag: str, value: float) -> Any:
    return _tensorflow().compat.v1.Summary.Value(tag=tag, simple_value=value)


def _picture(tag: str, path: Path) -> Any:
    tf = _tensorflow()
    with Image.open(path) as opened:
        width, height = opened.size
        channels = len(opened.getbands())
    image = tf.compat.v1.Summary.Image(
        width=width,
        height=height,
        colorspace=channels,
        encoded_image_string=path.read_bytes(),
    )
    return tf.compat.v1.Summary.Value(tag=tag, image=image)


def _text(tag: str, text: str) -> Any:
    """A text, unchanged: TensorBoard reads Markdown, in which indented lines are code."""
    tf = _tensorflow()
    indented = "\n".join(f"    {line}" for line in text.splitlines())
    plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="text")
    return tf.compat.v1.Summary.Value(
        tag=tag,
        tensor=tf.make_tensor_proto([indented]),
        metadata=tf.compat.v1.SummaryMetadata(plugin_data=plugin),
    )
