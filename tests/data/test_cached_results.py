"""A damaged entry of the cache is made again, with one warning; the result is the same."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import Written, affectnet, fer2013

from fer_bench.config.dataset import Dataset
from fer_bench.data.audit.duplicates import seen_in_training
from fer_bench.data.cached_results import CHECKSUMS, cached_result
from fer_bench.data.decoding import open_split
from fer_bench.data.load import read_release
from fer_bench.data.manifest import Manifest
from fer_bench.storage.array_cache import Store

Result = Callable[[], object]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def contents(manifest: Manifest) -> object:
    """Everything that reading a dataset gives, its images included."""
    images = [(manifest.root / path).read_bytes() for path in manifest.samples["path"]]
    return manifest.samples.to_csv(), dict(manifest.dropped), manifest.problems, images


def fer2013_csv(written: Written) -> Result:
    layout = written(fer2013.csv, 1)
    return lambda: contents(read_release(Dataset(**layout.dataset)))


def affectnet_npy(written: Written) -> Result:
    layout = written(affectnet.sets_2021, 4)
    return lambda: contents(read_release(Dataset(**layout.dataset)))


def twins(written: Written) -> Result:
    layout = written(fer2013.msambare, 2)
    manifest = read_release(Dataset(**layout.dataset))
    return lambda: seen_in_training(manifest, "test", 1)


def checked(written: Written) -> Result:
    layout = written(fer2013.msambare, 2)
    manifest = read_release(Dataset(**layout.dataset))
    return lambda: open_split(manifest, "train", 24, store=Store(0, print)).digest


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def filled_with_other_bytes(path: Path) -> None:
    path.write_bytes(b"x" * path.stat().st_size)
    later = time.time() + 60
    os.utime(path, (later, later))


def removed(path: Path) -> None:
    path.unlink()


DAMAGES = (emptied, cut, filled_with_other_bytes, removed)


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        *((checked, damage) for damage in DAMAGES),
        (fer2013_csv, cut),
        (affectnet_npy, removed),
        *(
            pytest.param(kind, damage, marks=pytest.mark.slow)
            for kind in (fer2013_csv, affectnet_npy, twins)
            for damage in DAMAGES
            if (kind, damage) not in {(fer2013_csv, cut), (affectnet_npy, removed)}
        ),
    ],
)
def test_a_damaged_file_changes_nothing(
    kind: Callable[[Written], Result],
    damage: Callable[[Path], None],
    written: Written,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = kind(written)
    expected = result()
    (entry,) = cache.glob(f"{kind.__name__.replace('_', '-')}/*")
    names = [path.relative_to(entry) for path in entry.rglob("*") if path.is_file()]
    assert len(names) >= 3
    for name in names:
        if damage is removed and name.name == CHECKSUMS:
            continue  # as in an entry of an older version
        damage(entry / name)
        caplog.clear()
        assert result() == expected
        messages = [
            record.message for record in caplog.records if record.levelno == logging.WARNING
        ]
        # No result depends on the note that the cache keeps for itself.
        assert len(messages) == (0 if name.name == "entry.json" else 1), name
        assert all(str(entry) in message for message in messages)
        caplog.clear()
        assert result() == expected
        assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def make(folder: Path) -> None:
    (folder / "number").write_text("7")


def read(folder: Path) -> int:
    return int((folder / "number").read_text())


def test_an_entry_of_an_older_version_is_used_if_it_can_be_read(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached_result("numbers", "key", make, read)
    (entry,) = cache.glob("numbers/*")
    (entry / CHECKSUMS).unlink()
    (entry / "number").write_text("8")
    assert cached_result("numbers", "key", make, read) == 8
    (entry / "number").write_text("eight")
    assert cached_result("numbers", "key", make, read) == 7
    assert "eight" in caplog.text


def test_an_entry_that_another_process_removes_is_made_again_without_a_warning(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached_result("numbers", "key", make, read)

    def read_after_removal(folder: Path) -> int:
        if not caplog.records:
            shutil.rmtree(folder)
            logging.getLogger("test").error("removed")
        return read(folder)

    assert cached_result("numbers", "key", make, read_after_removal) == 7
    assert [record.message for record in caplog.records] == ["removed"]
