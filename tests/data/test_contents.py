"""Files that changed in place: the same name, size and time of change, but another content."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batches import decoded
from messages import says

from fer_bench.config.experiment import Experiment
from fer_bench.data import contents, decoding
from fer_bench.data.contents import TrainedOn, Verification, Verify, labels_digest
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.errors import DataError
from fer_bench.storage import cache
from fer_bench.storage.array_cache import Store

ADVICE = "Or train again."


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test alone."""
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def manifest(experiment: Experiment, copied_root: Path) -> Manifest:
    return load_manifest(experiment.dataset.model_copy(update={"root": copied_root}))


@pytest.fixture
def said() -> list[str]:
    return []


class Opened:
    """Opens the training images, and counts those that were decoded."""

    def __init__(self, manifest: Manifest, say: Callable[[str], None], limit: int = 10**9) -> None:
        self.manifest, self.store, self.decoded = manifest, Store(limit, say), 0

    def __call__(
        self, verify: Verify = "sample", trained_on: TrainedOn | None = None
    ) -> decoding.Split:
        def count(done: int, total: int) -> None:
            self.decoded += total if done == total else 0

        check = Verification(verify, trained_on)
        return decoding.open_split(self.manifest, "train", 24, count, store=self.store, check=check)


@pytest.fixture
def opened(manifest: Manifest, said: list[str]) -> Opened:
    return Opened(manifest, said.append)


def change(path: str | Path) -> bytes:
    """Change the last byte of a file, which no decoder reads, and nothing else; what it was."""
    path = Path(path)
    before, status = path.read_bytes(), path.stat()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    return before


def restore(path: str | Path, content: bytes) -> None:
    status = Path(path).stat()
    Path(path).write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def of_run(split: decoding.Split) -> TrainedOn:
    assert split.contents
    return TrainedOn("tiny-s7", ADVICE, {"train": split.contents})


def test_unchanged_images_give_no_message(opened: Opened, said: list[str]) -> None:
    first = opened()
    for verify in ("sample", "all", "none"):
        assert opened(verify, of_run(first)).contents == first.contents
    assert (opened.decoded, said) == (72, [])


def test_a_changed_image_is_decoded_again_with_a_warning(opened: Opened, said: list[str]) -> None:
    first = opened()
    path = str(first.paths[5])
    change(path)
    again = opened()
    says(said[0], "warning", path, "content changed")
    assert (opened.decoded, len(said)) == (144, 1)
    assert again.contents != first.contents
    np.testing.assert_array_equal(decoded(again), decoded(first))
    opened("all")
    assert len(said) == 1


def test_several_changed_images_are_counted(opened: Opened, said: list[str]) -> None:
    paths = opened().paths
    for row in (3, 8, 9):
        change(str(paths[row]))
    opened()
    says(said[0], paths[3], "2 more train images")


def test_images_without_room_in_the_cache_are_compared_too(
    manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    opened = Opened(manifest, print, limit=1000)
    first = opened()
    opened()
    assert opened.decoded == 72
    change(str(first.paths[5]))
    with caplog.at_level(logging.WARNING):
        again = opened()
    says(caplog.text, first.paths[5], "content changed")
    assert again.contents != first.contents
    assert opened.decoded == 144


def test_a_run_is_refused_other_images(opened: Opened, said: list[str]) -> None:
    first = opened()
    path = str(first.paths[5])
    before = change(path)
    with pytest.raises(DataError) as refused:
        opened(trained_on=of_run(first))
    says(refused.value, path, "content changed", "tiny-s7", "Restore", ADVICE)
    restore(path, before)
    assert opened(trained_on=of_run(first)).contents == first.contents
    assert (opened.decoded, said) == (72, [])


def test_a_run_is_refused_other_images_without_an_entry(opened: Opened) -> None:
    first = opened()
    change(str(first.paths[5]))
    cache.clear()
    with pytest.raises(DataError) as refused:
        opened("none", of_run(first))
    says(refused.value, opened.manifest.root, "train images", "tiny-s7", ADVICE)


def test_images_that_were_not_decoded_before_are_named_too(opened: Opened) -> None:
    digest = decoding.split_contents(opened.manifest, "train")
    path = str(decoding.split_files(opened.manifest, "train", 24).paths[7])
    change(path)
    with pytest.raises(DataError) as refused:
        opened(trained_on=TrainedOn("tiny-s7", ADVICE, {"train": digest}))
    says(refused.value, path, "content changed")


def test_a_run_goes_on_with_restored_images_whatever_another_run_decoded(
    opened: Opened, said: list[str]
) -> None:
    first = opened()
    path = str(first.paths[5])
    before = change(path)
    opened()
    restore(path, before)
    assert opened("none", of_run(first)).contents == first.contents
    says(said[-1], path, "made again")
    assert opened.decoded == 3 * 72


def test_all_finds_one_changed_file_that_is_not_in_the_sample(
    opened: Opened, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SAMPLE", 6)
    paths = opened().paths
    sample = contents.chosen(len(paths), "sample")
    assert len(set(sample)) == 6
    path = paths[next(row for row in range(72) if row not in sample)]
    change(str(path))
    for verify in ("none", "sample"):
        opened(verify)
    assert said == []
    opened("all")
    says(said[0], path)


def test_a_sample_of_large_files_ends_early(
    opened: Opened, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SAMPLE_BYTES", 1000)
    paths = opened().paths
    change(str(paths[71]))
    opened()
    assert said == []


def test_the_content_of_a_split_does_not_depend_on_decoding(
    opened: Opened, manifest: Manifest
) -> None:
    assert decoding.split_contents(manifest, "train") == opened().contents
    upside_down = replace(manifest, samples=manifest.samples.iloc[::-1])
    assert decoding.split_contents(upside_down, "train") == opened().contents
    assert decoding.split_contents(manifest, "validation") != opened().contents


def test_an_entry_of_an_older_version_is_made_again_once(opened: Opened, said: list[str]) -> None:
    first = opened()
    (cache.entries(["images"])[0].path / contents.FILE).unlink()
    assert opened().contents == first.contents
    opened()
    assert opened.decoded == 144
    says(said[0], opened.manifest.root, "older version")
    assert len(said) == 1


@pytest.mark.parametrize("damage", [b"", b"x" * 73 * 32])
def test_damaged_digests_are_made_again(opened: Opened, said: list[str], damage: bytes) -> None:
    first = opened()
    (cache.entries(["images"])[0].path / contents.FILE).write_bytes(damage)
    assert opened().contents == first.contents
    says(said[0], "warning", "damaged", contents.FILE)


def test_an_image_that_cannot_be_read_any_more_is_named(opened: Opened) -> None:
    path = str(opened().paths[5])
    with pytest.raises(DataError) as missing:
        contents.file_digest(f"{path}.gone")
    says(missing.value, f"{path}.gone", "cannot be read")


def test_the_digest_of_labels_covers_what_the_fingerprint_does_not(manifest: Manifest) -> None:
    found = labels_digest(manifest.samples)
    assert labels_digest(manifest.samples.iloc[::-1]) == found
    for column, value in (("valence", 0.123), ("arousal", np.nan), ("label", "no")):
        samples = manifest.samples.copy()
        samples.loc[4, column] = value
        assert labels_digest(samples) != found
    assert labels_digest(manifest.samples.assign(gender="female")) != found
