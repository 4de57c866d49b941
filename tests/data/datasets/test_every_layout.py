"""What holds for every layout of every registered dataset."""

import errno
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import layouts
import pytest
from layouts import Face, Layout, Writer, by_id, of_each
from messages import says
from permissions import forbidden
from PIL import Image
from tiers import some_fast

from fer_bench.config.dataset import Dataset
from fer_bench.data import decoding
from fer_bench.data.audit.findings import audit
from fer_bench.data.load import load_manifest
from fer_bench.data.manifest import Manifest
from fer_bench.data.spec import DatasetSpec
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS
from fer_bench.registry import DATASETS


def writers() -> dict[str, Writer]:
    """Every function of `tests/layouts/` that writes a layout, by `<module>.<function>`."""
    found: dict[str, Writer] = {}
    for module in pkgutil.iter_modules(layouts.__path__):
        functions = inspect.getmembers(importlib.import_module(f"layouts.{module.name}"))
        for name, function in functions:
            if not inspect.isfunction(function) or name.startswith("_"):
                continue
            if inspect.signature(function).return_annotation is Layout:
                found[f"{module.name}.{name}"] = function
    return found


WRITERS = writers()
# Of every dataset one: a table, lists, a list, and folders of every depth.
FAST = (
    *("affectnet.lists_2017", "fer2013.csv", "fer2013.msambare", "folder.split", "list_.csv"),
    *("opencv_emotion.opencv_emotion", "rafdb.tanishmittal"),
)


@pytest.fixture(scope="module", params=some_fast(WRITERS, *FAST))
def layout(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, faces: list[Face]
) -> Layout:
    """Each layout, written from the 96 drawn faces."""
    return WRITERS[request.param](tmp_path_factory.mktemp("layout"), faces)


def dividing(layout: Layout) -> Dataset:
    """The dataset section with which an experiment would use this layout."""
    splits = set(layout.samples["split"])
    keys: dict[str, Any] = {}
    if "test" not in splits:
        keys["split"] = {"train": 0.5, "validation": 0.25, "test": 0.25}
    elif "validation" in splits:
        keys["validation"] = "validation"
    else:
        keys["validation"] = 0.25
    return Dataset.model_validate(keys | layout.dataset)


@pytest.fixture(scope="module")
def manifest(layout: Layout) -> Manifest:
    return load_manifest(dividing(layout))


def spec_of(layout: Layout) -> DatasetSpec:
    spec: DatasetSpec = DATASETS[layout.dataset["name"]]
    return spec


def read(layout: Layout) -> Manifest:
    return spec_of(layout).read(Dataset.model_validate(layout.dataset))


def test_every_dataset_has_a_layout() -> None:
    # A module that is called as a built-in ends in an underscore, as its dataset does not.
    for names in (WRITERS, FAST):
        datasets = {name.partition(".")[0].removesuffix("_") for name in names}
        assert datasets == set(DATASETS.names()) - {"drawn"}
    assert set(FAST) <= set(WRITERS)


def test_every_written_sample_is_read(layout: Layout) -> None:
    assert_read(read(layout), layout)


def assert_read(manifest: Manifest, layout: Layout) -> None:
    """The samples of `layout` were read, and their files exist."""
    # So few faces are not a known release, but its layout must be recognised.
    assert manifest.release.removesuffix("-unrecognised") == layout.release.removesuffix(
        "-unrecognised"
    )
    columns = list(layout.samples.columns)
    expected = by_id(layout.samples)
    found = by_id(manifest.samples)[columns]
    for column in columns:
        assert found[column].tolist() == pytest.approx(expected[column].tolist(), nan_ok=True)
    assert list(manifest.samples.index) == list(range(len(expected)))
    assert all((manifest.root / path).is_file() for path in manifest.samples["path"])


@pytest.mark.real_data
@pytest.mark.parametrize("writer", some_fast(WRITERS, *FAST))
def test_layouts_of_real_faces_are_read(
    writer: str, tmp_path: Path, real_faces: list[Face]
) -> None:
    layout = WRITERS[writer](tmp_path, of_each(3, real_faces))
    assert_read(read(layout), layout)


def test_the_release_is_recognised_by_its_numbers_of_images(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter: Any = inspect.getmodule(spec_of(layout).read)
    if not hasattr(adapter, "RELEASES") or "ferplus" in layout.release:
        pytest.skip("no numbers of images are known")
    name = layout.release.removesuffix("-unrecognised")
    manifest = read(layout)
    assert manifest.release == f"{name}-unrecognised"
    (problem,) = (one for one in manifest.problems if one.kind == "release_unrecognised")
    assert problem.severity == "warning"
    says(problem.examples[0], "train", "instead of")
    known = name if name in adapter.RELEASES else next(iter(adapter.RELEASES))
    monkeypatch.setitem(adapter.RELEASES, known, layout.counts())
    recognised = read(layout)
    assert recognised.release == known
    assert problem not in recognised.problems


def test_an_experiment_gets_three_disjoint_splits_of_known_classes(manifest: Manifest) -> None:
    assert set(manifest.split_sizes()) == {"train", "validation", "test"}
    assert manifest.samples["sample_id"].is_unique
    assert list(manifest.classes) == [name for name in EXPRESSIONS if name in manifest.classes]
    assert all(manifest.counts()["train"].values())


def test_every_image_exists_and_can_be_decoded(manifest: Manifest) -> None:
    for split, size in manifest.split_sizes().items():
        opened = decoding.open_split(manifest, split, 24)
        assert opened.pixels is not None
        assert opened.pixels.shape == (size, 24, 24, manifest.channels)


def test_reading_again_finds_the_same(layout: Layout, manifest: Manifest) -> None:
    again = load_manifest(dividing(layout))
    assert again.fingerprint == manifest.fingerprint
    assert again.samples["split"].tolist() == manifest.samples["split"].tolist()


def test_another_label_is_another_fingerprint(manifest: Manifest) -> None:
    other = manifest.samples.copy()
    other.loc[0, "label"] = next(n for n in manifest.classes if n != other.loc[0, "label"])
    changed = Manifest(**{**vars_of(manifest), "samples": other})
    assert changed.fingerprint != manifest.fingerprint


def vars_of(manifest: Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}


@pytest.mark.slow
def test_an_audit_finds_no_file_that_cannot_be_used(manifest: Manifest) -> None:
    kinds = {problem.kind for problem in audit(manifest, {}, workers=1).problems}
    assert not kinds & {"undecodable", "truncated", "too_large", "missing"}


# Folders as they are ---------------------------------------------------------------------------

SYSTEM_FOLDERS = ("@eaDir", ".AppleDouble", "$RECYCLE.BIN", "lost+found", "__MACOSX", "#recycle")
SYSTEM_FILES = ("Thumbs.db", "desktop.ini", "._1.jpg", "Icon\r", ".DS_Store", "$R1.png")


@pytest.fixture
def copied(layout: Layout, tmp_path: Path) -> Layout:
    """The layout once more, to be changed."""
    root = Path(shutil.copytree(layout.dataset["root"], tmp_path / "root"))
    return replace(layout, dataset={**layout.dataset, "root": str(root)})


def assert_same(found: Manifest, expected: Manifest, **dropped: int) -> None:
    """The same samples and findings; what is left out besides is in `dropped`."""
    assert by_id(found.samples).equals(by_id(expected.samples))
    assert (found.release, found.problems) == (expected.release, expected.problems)
    more = {reason.replace("_", " "): count for reason, count in dropped.items()}
    assert found.dropped == {**expected.dropped, **more}


def test_what_systems_leave_in_any_folder_changes_nothing(copied: Layout) -> None:
    expected = read(copied)
    root = Path(copied.dataset["root"])
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        for name in SYSTEM_FOLDERS:
            (folder / name / "happy").mkdir(parents=True)
            (folder / name / "happy" / "face.jpg").touch()
        for name in SYSTEM_FILES:
            (folder / name).touch()
    found = read(copied)
    count = found.dropped.get("system file", 0)
    assert count % (len(SYSTEM_FILES) + len(SYSTEM_FOLDERS)) == 0
    assert_same(found, expected, **({"system_file": count} if count else {}))


def test_every_file_may_be_a_link_inside_the_root(copied: Layout) -> None:
    expected = read(copied)
    root = Path(copied.dataset["root"])
    (root / ".store").mkdir()
    for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
        kept = root / ".store" / str(number)
        path.rename(kept)
        path.symlink_to(os.path.relpath(kept, path.parent) if number % 2 else kept)
    found = read(copied)
    assert by_id(found.samples).equals(by_id(expected.samples))
    assert found.fingerprint == expected.fingerprint
    assert found.problems == expected.problems


def test_every_folder_may_be_a_link_inside_the_root(copied: Layout) -> None:
    expected = read(copied)
    root = Path(copied.dataset["root"])
    (root / ".store").mkdir()
    inner = [path for path in root.rglob("*") if path.is_dir() and path.name != ".store"]
    for number, path in enumerate(sorted(inner, key=lambda path: -len(path.parts))):
        kept = root / ".store" / str(number)
        path.rename(kept)
        path.symlink_to(kept)
    for again in range(2):  # the second time from the cache, where there is one
        found = read(copied)
        assert by_id(found.samples).equals(by_id(expected.samples)), again
        assert found.problems == expected.problems


@pytest.mark.parametrize("kinds", [(".jpg", ".png"), (".csv", ".txt", ".npy")])
def test_files_that_are_links_out_of_the_root_are_named(
    copied: Layout, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    root = Path(copied.dataset["root"])
    linked = [path for path in root.rglob("*") if path.suffix in kinds]
    if not linked or copied.release.startswith("fer2013-csv"):
        pytest.skip("there are none, or it is a table, which may lie anywhere")
    (tmp_path / "outside").mkdir()
    for number, path in enumerate(linked):
        kept = tmp_path / "outside" / str(number)
        path.rename(kept)
        path.symlink_to(kept)
    try:
        said = "\n".join(read(copied).warnings())
    except DataError as error:
        said = str(error)
    says(said, "symbolic links", "dataset.root", "not followed")


def test_a_root_that_is_a_link(copied: Layout, tmp_path: Path) -> None:
    expected = read(copied)
    (tmp_path / "link").symlink_to(copied.dataset["root"])
    linked = replace(copied, dataset={**copied.dataset, "root": str(tmp_path / "link")})
    assert_same(read(linked), expected)


def test_folders_around_a_release_are_accepted(layout: Layout, tmp_path: Path) -> None:
    if layout.dataset["name"] == "list":
        pytest.skip("the table must be in the root")
    root = tmp_path / "root"
    shutil.copytree(layout.dataset["root"], root / "download" / "archive")
    found, expected = read(replace(layout, dataset={**layout.dataset, "root": root})), read(layout)
    columns = ["sample_id", "split", "label"]
    assert by_id(found.samples)[columns].equals(by_id(expected.samples)[columns])
    for path in found.samples["path"]:
        assert (found.root / path).is_file()


def test_lists_may_come_from_windows(copied: Layout) -> None:
    expected = read(copied)
    for path in Path(copied.dataset["root"]).rglob("*"):
        if path.suffix in (".csv", ".txt"):
            content = path.read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
            path.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert_same(read(copied), expected)


def test_a_missing_root_is_named_with_the_command_to_prepare_it(
    layout: Layout, tmp_path: Path
) -> None:
    root = tmp_path / "none"
    with pytest.raises(DataError) as caught:
        read(replace(layout, dataset={**layout.dataset, "root": root}))
    name = layout.dataset["name"]
    advice = f"fer data prepare {name} ARCHIVE --root {root}"
    says(caught.value, root, advice if spec_of(layout).prepare else "dataset.root")


@pytest.mark.parametrize("of_an_image", [False, True], ids=["root", "images"])
def test_a_folder_without_permission_is_named(
    layout: Layout, tmp_path: Path, of_an_image: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_BENCH_CACHE", "cache")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    shutil.copytree(layout.dataset["root"], tmp_path / "root")
    part = tmp_path / "root"
    part.chmod(0o755)
    if of_an_image:
        in_table = "usage" in layout.samples and "bytes" in layout.samples
        name = "fer2013.csv" if in_table else Path(layout.samples["path"].iloc[0]).parent
        part /= name
    closed = replace(layout, dataset={**layout.dataset, "root": "root"})
    with forbidden(part, inside=tmp_path), pytest.raises(DataError) as caught:
        read(closed)
    says(caught.value, part.relative_to(tmp_path), "Permission denied")


def test_images_of_unsupported_formats_are_counted_and_reported(copied: Layout) -> None:
    root = Path(copied.dataset["root"])
    images = [path for path in root.rglob("*") if path.suffix in (".jpg", ".png")]
    if not images:
        pytest.skip("all images of this layout are in one table")
    for suffix in (".heic", ".HEIC", ".avif", ".doc"):
        images[0].with_suffix(suffix).write_bytes(b"x")
    found = read(copied)
    # The folder of a list may hold anything else.
    others = 0 if copied.dataset["name"] == "list" else 1
    assert found.dropped.get("not an image", 0) == others
    assert found.dropped["format not supported: .heic"] == 2
    assert found.dropped["format not supported: .avif"] == 1
    *_, line = found.warnings()
    says(line, root, "format not supported: .heic 2, .avif 1")


def test_the_error_for_an_empty_folder_says_what_to_do(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "whatever.rst").touch()
    (tmp_path / "root" / "Thumbs.db").touch()
    with pytest.raises(DataError, match=r"found whatever\.rst[.;][\s\S]*\n(Expected|Every)"):
        read(replace(layout, dataset={**layout.dataset, "root": str(tmp_path / "root")}))


# Preparing a folder again ----------------------------------------------------------------------


def files(root: Path) -> dict[str, bytes]:
    """The content of every file below `root`."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def packed(folder: Path, archive: Path, kind: str) -> Path:
    """`folder` as a zip or tar file."""
    return Path(shutil.make_archive(str(archive), kind, folder))


def another_dataset(source: Path, archive: Path, kind: str) -> Path:
    shutil.rmtree(source)
    (source / "cats").mkdir(parents=True)
    (source / "cats" / "1.jpg").write_bytes(b"cat")
    return packed(source, archive, kind)


def cut_in_the_middle(source: Path, archive: Path, kind: str) -> Path:
    path = packed(source, archive, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def web_page(source: Path, archive: Path, kind: str) -> Path:
    archive.write_text("<html>Please log in</html>")
    return archive


# Every kind of archive with every kind of damage: `tests/data/files/test_archive_formats.py`.
@pytest.mark.parametrize(
    ("bad", "kind"),
    [(another_dataset, "gztar"), (cut_in_the_middle, "zip"), (web_page, "zip")],
)
def test_a_bad_archive_leaves_the_old_folder_byte_for_byte(
    layout: Layout, tmp_path: Path, kind: str, bad: Callable[[Path, Path, str], Path]
) -> None:
    spec = spec_of(layout)
    if spec.prepare is None:
        pytest.skip("there is nothing to prepare")
    source = Path(shutil.copytree(layout.dataset["root"], tmp_path / "source" / "pack"))
    archive = bad(source, tmp_path / "archive", kind)
    root = Path(shutil.copytree(layout.dataset["root"], tmp_path / "data" / "root"))
    before = files(root)
    with pytest.raises(DataError, match=re.escape(str(archive))):
        spec.prepare(root, archive, True)
    assert files(root) == before
    assert list(root.parent.iterdir()) == [root]


def test_a_full_disk_leaves_the_old_folder(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(layout)
    if spec.prepare is None:
        pytest.skip("there is nothing to prepare")
    root = Path(shutil.copytree(layout.dataset["root"], tmp_path / "data" / "root"))
    archive = packed(root, tmp_path / "archive", "zip")
    before, copy, copied_files = files(root), shutil.copyfileobj, 0

    def full(source: Any, target: Any, length: int = 0) -> None:
        nonlocal copied_files
        copied_files += 1
        copy(source, target, length)
        if copied_files == min(20, len(before)):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DataError, match="No space left on device"):
        spec.prepare(root, archive, True)
    assert files(root) == before
    assert list(root.parent.iterdir()) == [root]


def test_a_good_archive_replaces_the_whole_folder(layout: Layout, tmp_path: Path) -> None:
    spec = spec_of(layout)
    if spec.prepare is None:
        pytest.skip("there is nothing to prepare")
    archive = packed(Path(layout.dataset["root"]), tmp_path / "archive", "gztar")
    root = tmp_path / "data" / "root"
    root.mkdir(parents=True)
    (root / "old.txt").touch()
    spec.prepare(root, archive, True)
    assert not (root / "old.txt").exists()
    prepared = replace(layout, dataset={**layout.dataset, "root": str(root)})
    columns = ["sample_id", "split", "label"]
    found, expected = (by_id(read(one).samples)[columns] for one in (prepared, layout))
    assert found.equals(expected)


# Files that are no images ----------------------------------------------------------------------


def bomb(path: Path) -> None:
    """A small PNG that claims to have 60,000 x 60,000 pixels."""
    Image.new("L", (1, 1)).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("no image")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("damage", [bomb, empty, text, truncated])
def test_an_invalid_image_is_named_before_training(
    damage: Callable[[Path], None], tmp_path: Path, faces: list[Face]
) -> None:
    layout = WRITERS["folder.flat"](tmp_path, faces)
    manifest = load_manifest(dividing(layout))
    path = manifest.root / manifest.split("train")["path"].iloc[5]
    damage(path)
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        decoding.open_split(manifest, "train", 24)
    assert str(path) in str(caught.value)
