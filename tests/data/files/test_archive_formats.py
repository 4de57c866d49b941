import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiers import some_fast

from fer_bench.data.files import archive_formats
from fer_bench.data.files.archive import Unpacked, unpack
from fer_bench.data.files.archive_formats import format_of
from fer_bench.errors import DataError

IMAGES = {"training/happy/a.jpg": b"first" * 300, "validation/sad/b.PNG": b"second"}
MODES = ("w", "w:gz", "w:bz2", "w:xz")
COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "w": bytes,
    "w:gz": gzip.compress,
    "w:bz2": bz2.compress,
    "w:xz": lzma.compress,
}


def tarred(
    path: Path, files: Mapping[str, bytes], mode: str = "w:gz", form: int = tarfile.PAX_FORMAT
) -> Path:
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def special(path: Path, name: str, kind: bytes, target: str = "", mode: str = "w:gz") -> Path:
    """A tar file of two images and a member that is no file."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for image, content in IMAGES.items():
            info = tarfile.TarInfo(image)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return path


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "faces"


def refused(archive: Path, root: Path, match: str) -> None:
    """`archive` is refused and leaves nothing."""
    with pytest.raises(DataError, match=match):
        unpack(archive, root, force=False)
    assert not root.exists()
    assert list(root.parent.iterdir()) == []


# what it is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wrapper", ["", "pack/"])
@pytest.mark.parametrize("name", ["fer2013.tar.gz", "fer2013", "fer2013.csv", "a.zip"])
def test_the_format_is_recognised_by_bytes_not_by_the_name(
    tmp_path: Path, root: Path, mode: str, wrapper: str, name: str
) -> None:
    files = {wrapper + path: data for path, data in IMAGES.items()} | {"README": b"x"}
    archive = tarred(tmp_path / name, files, mode)
    assert format_of(archive) == "tar"
    assert unpack(archive, root, force=False) == Unpacked(2, 1)
    assert content(root) == IMAGES


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_kinds_of_tar(tmp_path: Path, root: Path, form: int) -> None:
    files = {"a/" + "long" * 20 + ".jpg": b"1", "b/b.jpg": b"2"}
    unpack(tarred(tmp_path / "a.tar", files, "w", form), root, force=False)
    assert content(root) == files


def test_a_zip_inside_an_uncompressed_tar_is_not_taken_for_the_archive(
    tmp_path: Path, root: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as inner:
        inner.writestr("x.jpg", b"")
    files = IMAGES | {"z.zip": (tmp_path / "inner.zip").read_bytes()}
    archive = tarred(tmp_path / "a.tar", files, "w")
    assert format_of(archive) == "tar"
    unpack(archive, root, force=False)
    assert content(root) == IMAGES


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"Rar!\x1a\x07\x00", "a RAR archive.\nUnpack it"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive.\nUnpack it"),
        (b"\n<!DOCTYPE html>", "a web page.*\nDownload the archive again"),
        (b"\xef\xbb\xbf<html>", "a web page.*\nDownload the archive again"),
        (b"%PDF-1.7", "a PDF file.\nDownload"),
    ],
)
def test_what_else_a_download_may_be(tmp_path: Path, root: Path, start: bytes, what: str) -> None:
    path = tmp_path / "fer2013.tar.gz"
    path.write_bytes(start + b"x" * 2000)
    assert format_of(path) == ""
    refused(path, root, f"not a zip or tar file, but {what}")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_single_compressed_file_is_not_an_archive(
    tmp_path: Path, root: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "fer2013.csv.gz"
    path.write_bytes(compress(b"emotion,pixels,Usage\n" * 100))
    assert format_of(path) == ""
    refused(path, root, "compressed, but no tar file inside")


@pytest.mark.parametrize("bytes_", [b"", b"x", b"emotion,pixels,Usage\n" * 1000, bytes(2000)])
def test_no_archive_at_all(tmp_path: Path, root: Path, bytes_: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(bytes_)
    refused(tmp_path / "a.tar", root, "not a zip or tar file, or a part of one")


# what is unsafe --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name", ["../a.jpg", "x/../../a.jpg", "/etc/a.jpg", "C:/a.jpg", "..\\a.jpg"]
)
def test_paths_out_of_the_folder(tmp_path: Path, root: Path, mode: str, name: str) -> None:
    archive = tarred(tmp_path / "a.tar", {**IMAGES, name: b"evil"}, mode)
    refused(archive, root, r"unsafe member .* outside the folder")


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../outside"),
        (tarfile.SYMTYPE, "a.jpg"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "training/happy/a.jpg"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
@pytest.mark.parametrize("name", ["training/happy/c.jpg", "README"])
def test_links_and_devices(tmp_path: Path, root: Path, name: str, kind: bytes, target: str) -> None:
    refused(special(tmp_path / "a.tar", name, kind, target), root, "a link or a device")


def test_a_folder_that_is_a_link_is_not_written_through(tmp_path: Path, root: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = special(tmp_path / "a.tar", "training/sad", tarfile.SYMTYPE, str(outside), "w")
    with tarfile.open(archive, "a") as opened:
        opened.addfile(tarfile.TarInfo("training/sad/x.jpg"))
    refused(archive, root, "a link or a device")
    assert list(outside.iterdir()) == []


def test_modes_and_owners_are_not_applied(tmp_path: Path, root: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("x/a.jpg", "y/b.jpg"):
            info = tarfile.TarInfo(name)
            info.mode, info.uid = 0o6777, 12345
            archive.addfile(info)
    unpack(tmp_path / "a.tar", root, force=False)
    for path in root.rglob("*.jpg"):
        status = path.stat()
        assert status.st_uid == os.getuid()
        assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)


@pytest.mark.parametrize("mode", MODES)
def test_one_path_twice(tmp_path: Path, root: Path, mode: str) -> None:
    files = {"train/a.jpg": b"1", "train/./a.jpg": b"2"}
    refused(tarred(tmp_path / "a.tar", files, mode), root, r"'a\.jpg' 2 times")


@pytest.mark.parametrize("mode", some_fast(MODES[1:], "w:gz"))
def test_a_bomb(tmp_path: Path, root: Path, mode: str) -> None:
    archive = tarred(tmp_path / "a.tar", {"a/bomb.jpg": bytes(2**24)}, mode)
    refused(archive, root, r"expands? to .*[0-9],[0-9]{3}")


def test_a_bomb_of_empty_files(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_formats, "HARMLESS", 2**16)
    archive = tarred(tmp_path / "a.tar", {f"{number}.jpg": b"" for number in range(2000)}, "w:xz")
    assert archive.stat().st_size * 100 < 2000 * 512
    refused(archive, root, "expands to more than 333,200")


def test_too_many_files(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tarred(tmp_path / "a.tar", {f"{number}.jpg": b"" for number in range(30)})
    monkeypatch.setattr(archive_formats, "LARGEST_NUMBER", 20)
    refused(archive, root, "member 20")


def test_a_bomb_in_a_header_is_not_read_into_memory(tmp_path: Path, root: Path) -> None:
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 2**26
    content = name.tobuf(tarfile.GNU_FORMAT) + bytes(2**26)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content))
    refused(tmp_path / "a.tar.gz", root, "a header of an impossible size")


def test_a_sparse_file_that_claims_to_be_huge(tmp_path: Path, root: Path) -> None:
    info = tarfile.TarInfo("a/a.jpg")
    info.pax_headers = {"GNU.sparse.size": str(2**40), "GNU.sparse.map": "0,0"}
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(info)
    refused(tmp_path / "a.tar", root, "1,099,511,627,776")


def test_a_small_table_of_plain_pictures_is_not_a_bomb(tmp_path: Path, root: Path) -> None:
    row = b"0," + b" ".join([b"40"] * 2304) + b",Training\n"
    archive = tarred(tmp_path / "fer2013.tar.gz", {"fer2013/fer2013.csv": row * 200})
    assert archive.stat().st_size * 100 < len(row) * 200
    unpack(archive, root, force=False, pick=lambda _: True)
    assert content(root) == {"fer2013.csv": row * 200}


# what is damaged -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_cut_is_noticed(tmp_path: Path, root: Path, mode: str) -> None:
    data = tarred(tmp_path / "whole.tar", IMAGES, "w").read_bytes()
    end = 2 * 512 + 1536 + 512  # two headers, their contents
    packed = COMPRESS[mode](data[: end + 1024])
    archive = tmp_path / "cut.tar"
    # What is cut after the first of the blocks of zeros has all its members.
    lengths = range(0, end if mode == "w" else len(packed), 97)
    for length in lengths:
        archive.write_bytes(packed[:length])
        refused(archive, root, r"tar file|archive")


def test_a_tar_that_ends_after_a_member_is_cut(tmp_path: Path, root: Path) -> None:
    whole = tarred(tmp_path / "a.tar", IMAGES, "w")
    whole.write_bytes(whole.read_bytes()[: 512 + 1536])
    refused(whole, root, "it ends too early or is damaged at byte 2,048")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path, root: Path) -> None:
    whole = tarred(tmp_path / "a.tar", IMAGES, "w")
    data = bytearray(whole.read_bytes())
    data[512 + 1536 + 3] ^= 1
    whole.write_bytes(data)
    refused(whole, root, "damaged at byte 2,048")


@pytest.mark.parametrize("mode", some_fast(["w:gz", "w:bz2", "w:xz"], "w:gz"))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_changed_byte_never_leaves_a_part(
    tmp_path: Path, root: Path, mode: str, position: float, value: int
) -> None:
    archive = tarred(tmp_path / "a.tar", IMAGES, mode)
    data = bytearray(archive.read_bytes())
    data[int(position * len(data))] = value
    archive.write_bytes(data)
    shutil.rmtree(root, ignore_errors=True)
    try:
        unpack(archive, root, force=False)
    except DataError:
        assert not root.exists()
    else:
        assert content(root) == IMAGES


@pytest.mark.parametrize("mode", MODES)
def test_no_image_in_the_archive(tmp_path: Path, root: Path, mode: str) -> None:
    archive = tarred(tmp_path / "a.tar", {"a.txt": b""}, mode)
    refused(archive, root, "no images or label files")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=1500))
def test_any_bytes_end_in_a_message(tmp_path: Path, root: Path, data: bytes) -> None:
    path = tmp_path / "any"
    for start in (b"", b"\x1f\x8b\x08\x00", b"BZh9", b"\xfd7zXZ\x00", b"PK\x03\x04"):
        path.write_bytes(start + data)
        refused(path, root, "tar file")
