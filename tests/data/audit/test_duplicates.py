"""Which images of a split have a copy elsewhere."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from messages import says
from PIL import Image

from fer_bench.data import contents, images
from fer_bench.data.audit import duplicates
from fer_bench.data.audit.duplicates import find_duplicates, inspect_images, seen_in_training
from fer_bench.data.cached_results import CHECKSUMS
from fer_bench.data.manifest import Manifest
from fer_bench.storage import cache

Make = Callable[..., Manifest]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_BENCH_CACHE", str(tmp_path / "cache"))


def picture(seed: int) -> Image.Image:
    """A smooth random picture: noise alone has no low frequencies to tell apart."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    return Image.fromarray(noise).resize((48, 48), Image.Resampling.BICUBIC)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(**samples: tuple[str, Image.Image]) -> Manifest:
        rows = []
        for name, (split, image) in samples.items():
            image.save(tmp_path / f"{name}.png")
            rows.append((name, f"{name}.png", split, "fear"))
        frame = pd.DataFrame(rows, columns=["sample_id", "path", "split", "label"])
        return Manifest("any", "v1", tmp_path, ("fear",), 1, frame)

    return make


def test_copies_are_distinguished_from_new_images(make: Make) -> None:
    brighter = Image.eval(picture(0), lambda value: min(255, value + 8))
    manifest = make(
        a=("train", picture(0)),
        b=("train", picture(1)),
        c=("validation", picture(2)),
        exact=("test", picture(1)),
        near=("test", brighter),
        of_validation=("test", picture(2)),
        new=("test", picture(3)),
    )
    found = seen_in_training(manifest, "test", 1)
    assert found == {"exact": "exact", "near": "near", "of_validation": "exact"}


def test_a_turned_copy_is_near(make: Make) -> None:
    manifest = make(
        a=("train", picture(0).rotate(12, Image.Resampling.BILINEAR)),
        b=("train", picture(1)),
        turned=("test", picture(0)),
        new=("test", picture(2)),
    )
    assert seen_in_training(manifest, "test", 1) == {"turned": "near"}


@pytest.mark.slow
def test_what_is_asked_about_is_compared_with_the_rest_alone(make: Make) -> None:
    turned = [picture(0).rotate(turn, Image.Resampling.BILINEAR) for turn in (0, 8, 16)]
    manifest = make(
        a=("test", turned[0]),
        b=("test", turned[1]),
        c=("train", turned[2]),
        d=("train", picture(1)),
        e=("test", picture(1)),
    )
    seen = inspect_images(manifest, 1)
    own = (manifest.samples["split"] == "test").to_numpy()
    everything, asked = find_duplicates(seen), find_duplicates(seen, own)
    assert everything.of(0, "near").tolist() == [1, 2]
    assert asked.of(0, "near").tolist() == [2]
    assert asked.of(4, "exact").tolist() == [3]
    assert seen_in_training(manifest, "test", 1) == {"a": "near", "b": "near", "e": "exact"}


def test_copies_inside_the_split_do_not_count(make: Make) -> None:
    manifest = make(a=("train", picture(0)), b=("test", picture(1)), c=("test", picture(1)))
    assert seen_in_training(manifest, "test", 1) == {}


def test_images_are_read_once(make: Make) -> None:
    manifest = make(a=("train", picture(0)), b=("test", picture(0)))
    first = seen_in_training(manifest, "test", 1)
    for path in manifest.root.glob("*.png"):  # of the same size: the fingerprint stays
        path.write_bytes(bytes(path.stat().st_size))
    assert seen_in_training(manifest, "test", 1, verify="none") == first == {"b": "exact"}


def test_the_images_are_compared_again_when_one_changed(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = make(a=("train", picture(0)), b=("test", picture(0)), c=("test", picture(1)))
    assert seen_in_training(manifest, "test", 1) == {"b": "exact"}
    assert caplog.messages == []
    path = manifest.root / "a.png"
    path.write_bytes(bytes(path.stat().st_size))  # of the same size: the fingerprint stays
    assert seen_in_training(manifest, "test", 1) == {}
    says(caplog.messages[0], "warning", path, "content changed")


def test_a_result_of_an_older_version_is_used(make: Make) -> None:
    manifest = make(a=("train", picture(0)), b=("test", picture(0)))
    first = seen_in_training(manifest, "test", 1)
    (entry,) = cache.entries(["twins"])
    (entry.path / contents.FILE).unlink()
    (entry.path / CHECKSUMS).unlink()
    path = manifest.root / "a.png"
    path.write_bytes(bytes(path.stat().st_size))
    assert seen_in_training(manifest, "test", 1) == first


def test_what_an_older_decoder_found_is_not_used(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make(a=("train", picture(0)), b=("test", picture(0)))
    with monkeypatch.context() as older:
        older.setattr(duplicates, "VERSION", images.VERSION - 1)
        assert seen_in_training(manifest, "test", 1) == {"b": "exact"}
    for path in manifest.root.glob("*.png"):  # of the same size: the fingerprint stays
        path.write_bytes(bytes(path.stat().st_size))
    assert seen_in_training(manifest, "test", 1) == {}


def test_another_split_of_the_same_files_is_looked_at_again(make: Make) -> None:
    images = {"a": picture(0), "b": picture(0)}
    apart = make(a=("train", images["a"]), b=("test", images["b"]))
    together = make(a=("test", images["a"]), b=("test", images["b"]))
    assert seen_in_training(apart, "test", 1) == {"b": "exact"}
    assert seen_in_training(together, "test", 1) == {}
