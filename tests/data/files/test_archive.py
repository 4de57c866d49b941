import errno
import fcntl
import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from messages import says

from fer_bench.data.files import archive_formats
from fer_bench.data.files.archive import Unpacked, unpack
from fer_bench.errors import DataError

IMAGES = {"training/happy/a.jpg": b"first", "validation/sad/b.PNG": b"second"}


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return zipped(tmp_path / "images.zip", IMAGES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "faces"


@pytest.fixture
def filled_root(root: Path) -> Path:
    (root / "training").mkdir(parents=True)
    (root / "training" / "old.jpg").write_bytes(b"old")
    return root


def nothing_left(root: Path) -> bool:
    """Whether only the folder itself and the lock are in the folder's parent."""
    return {path.name for path in root.parent.iterdir()} <= {root.name, f".{root.name}.lock"}


@pytest.mark.parametrize("wrapper", ["", "pack/"])
def test_a_wrapper_makes_no_difference(tmp_path: Path, root: Path, wrapper: str) -> None:
    archive = zipped(tmp_path / "a.zip", {wrapper + name: data for name, data in IMAGES.items()})
    assert unpack(archive, root, force=False) == Unpacked(2, 0)
    assert content(root) == IMAGES
    assert nothing_left(root)


def test_other_files_are_ignored_and_counted(tmp_path: Path, root: Path) -> None:
    foreign = {
        "README.md": b"",
        "__MACOSX/training/happy/._a.jpg": b"",
        "training/.hidden.jpg": b"",
        "training/Thumbs.db": b"",
    }
    archive = zipped(tmp_path / "a.zip", foreign | {f"pack/{name}": b"x" for name in IMAGES})
    assert unpack(archive, root, force=False) == Unpacked(2, 4)
    assert set(content(root)) == set(IMAGES)


def test_the_caller_picks(tmp_path: Path, root: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"labels.csv": b"image,label", "images/a.jpg": b""})
    unpack(archive, root, force=False, pick=lambda path: path.suffix == ".csv")
    assert set(content(root)) == {"labels.csv"}


def test_folder_entries_and_windows_separators(tmp_path: Path, root: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"./": b"", "train/": b"", "train\\happy\\a.jpg": b"x"})
    unpack(archive, root, force=False)
    assert content(root) == {"happy/a.jpg": b"x"}


@pytest.mark.parametrize(
    "name",
    [
        "../a.jpg",
        "x/../../a.jpg",
        "/etc/a.jpg",
        "C:/a.jpg",
        "c:a.jpg",
        "..\\a.jpg",
        "\\\\host\\a.jpg",
    ],
)
def test_paths_out_of_the_folder_are_refused(tmp_path: Path, root: Path, name: str) -> None:
    archive = zipped(tmp_path / "a.zip", {**IMAGES, name: b"evil"})
    with pytest.raises(DataError) as caught:
        unpack(archive, root, force=False)
    says(caught.value, archive, repr(name))
    assert not root.exists()
    assert nothing_left(root)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, root: Path, kind: int) -> None:
    info = zipfile.ZipInfo("training/happy/c.jpg")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="a link or a device"):
        unpack(tmp_path / "a.zip", root, force=False)
    assert not root.exists()


def test_a_bomb_is_refused(tmp_path: Path, root: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a/bomb.jpg": bytes(2**24)})
    with pytest.raises(DataError) as caught:
        unpack(archive, root, force=False)
    says(caught.value, archive, "16,777,216")
    assert nothing_left(root)


def test_the_total_size_is_bounded(
    images: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_formats, "LARGEST_TOTAL", 10)
    with pytest.raises(DataError) as caught:
        unpack(images, root, force=False)
    says(caught.value, images, "11")


def test_too_little_room(images: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(images.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3))
    with pytest.raises(DataError, match="needs 11 bytes, 3 are free"):
        unpack(images, root, force=False)


def test_a_disk_that_fills_up(images: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DataError, match=r"No space left on device.*; nothing was unpacked"):
        unpack(images, root, force=False)
    assert not root.exists()
    assert nothing_left(root)


def test_one_path_twice_is_refused(tmp_path: Path, root: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("train/a.jpg", b"1")
        archive.writestr("train/./a.jpg", b"2")
    with pytest.raises(DataError) as caught:
        unpack(tmp_path / "a.zip", root, force=False)
    says(caught.value, "a.zip", "'a.jpg' 2 times")


def test_a_missing_archive(tmp_path: Path, root: Path) -> None:
    with pytest.raises(DataError, match="expected an archive, found nothing"):
        unpack(tmp_path / "none.zip", root, force=False)
    with pytest.raises(DataError, match="expected an archive, found a folder"):
        unpack(tmp_path, root, force=False)


def test_not_a_zip(tmp_path: Path, root: Path) -> None:
    page = tmp_path / "a.zip"
    page.write_text("<html>Please sign in</html>")
    with pytest.raises(DataError, match="not a zip or tar file, but a web page"):
        unpack(page, root, force=False)


def test_no_image_in_the_archive(tmp_path: Path, root: Path) -> None:
    with pytest.raises(DataError) as caught:
        unpack(zipped(tmp_path / "a.zip", {"a.txt": b""}), root, force=False)
    says(caught.value, "a.zip", "no images")


def test_an_encrypted_archive(images: Path, root: Path) -> None:
    data = bytearray(images.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    images.write_bytes(data)
    with pytest.raises(DataError) as caught:
        unpack(images, root, force=False)
    says(caught.value, images, "encrypted", "password")


def test_a_wrong_checksum(images: Path, root: Path) -> None:
    data = bytearray(images.read_bytes())
    data[data.index(b"PK\x01\x02") + 16] ^= 1
    images.write_bytes(data)
    with pytest.raises(DataError, match=r"cannot be read as a zip file \(Bad CRC-32.*\nDownload"):
        unpack(images, root, force=False)
    assert not root.exists()
    assert nothing_left(root)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_changed_byte_never_leaves_a_part(
    images: Path, root: Path, position: float, value: int
) -> None:
    data = bytearray(images.read_bytes())
    data[int(position * len(data))] = value
    damaged = images.with_name("damaged.zip")
    damaged.write_bytes(data)
    shutil.rmtree(root, ignore_errors=True)
    try:
        written = unpack(damaged, root, force=False).written
        assert len(content(root)) == written
    except DataError:
        assert not root.exists()
    assert nothing_left(root)


def test_every_cut_is_noticed(images: Path, root: Path) -> None:
    data = images.read_bytes()
    for length in range(0, len(data), 7):
        images.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"a zip (or tar )?file"):
            unpack(images, root, force=False)


def test_an_empty_name_is_refused(images: Path, root: Path) -> None:
    data = bytearray(images.read_bytes())
    data[data.index(b"PK\x01\x02") + 46] = 0
    images.write_bytes(data)
    with pytest.raises(DataError, match="unsafe member ''"):
        unpack(images, root, force=False)


def test_a_filled_folder_is_kept_without_force(images: Path, filled_root: Path) -> None:
    with pytest.raises(DataError, match=r"not empty\.\nUse --force"):
        unpack(images, filled_root, force=False)
    assert content(filled_root) == {"training/old.jpg": b"old"}


def test_a_filled_folder_is_replaced_with_force(images: Path, filled_root: Path) -> None:
    unpack(images, filled_root, force=True)
    assert content(filled_root) == IMAGES
    assert nothing_left(filled_root)


def test_an_empty_folder_is_used(images: Path, root: Path) -> None:
    root.mkdir(parents=True)
    unpack(images, root, force=False)
    assert content(root) == IMAGES


def test_a_linked_folder_stays_a_link(tmp_path: Path, images: Path, filled_root: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(filled_root)
    unpack(images, link, force=True)
    assert link.is_symlink()
    assert content(filled_root) == IMAGES


def test_a_file_in_the_way(images: Path, root: Path) -> None:
    root.parent.mkdir()
    root.write_text("")
    with pytest.raises(DataError, match="expected a folder, found a file"):
        unpack(images, root, force=True)


@pytest.mark.parametrize("mistake", ["the archive's folder", "/"])
def test_a_folder_that_holds_the_archive_is_never_replaced(images: Path, mistake: str) -> None:
    root = images.parent if mistake != "/" else Path("/")
    with pytest.raises(DataError, match="lies inside it"):
        unpack(images, root, force=True)
    assert images.exists()


@pytest.mark.parametrize("which", ["archive", "root"])
def test_a_link_to_itself_is_named(images: Path, root: Path, which: str) -> None:
    path = {"archive": images, "root": root}[which]
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path.name)
    with pytest.raises((DataError, OSError)) as raised:
        unpack(images, root, force=True)
    says(raised.value, path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError, DataError])
def test_the_old_folder_survives_a_failing_check(
    images: Path, filled_root: Path, error: type[BaseException]
) -> None:
    def fail(folder: Path) -> None:
        assert content(folder) == IMAGES
        raise error

    with pytest.raises(DataError if error is OSError else error):
        unpack(images, filled_root, force=True, check=fail)
    assert content(filled_root) == {"training/old.jpg": b"old"}
    assert nothing_left(filled_root)


def test_two_processes_do_not_share_a_folder(images: Path, root: Path) -> None:
    root.parent.mkdir()
    with (root.parent / ".faces.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is making this folder"):
            unpack(images, root, force=False)
    unpack(images, root, force=False)
