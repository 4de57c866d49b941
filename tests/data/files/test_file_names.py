from pathlib import PurePath

import pytest

from fer_bench.data.files import file_names

SYSTEM = [
    *("@eaDir", ".AppleDouble", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
    *("Thumbs.db", "desktop.ini", "#recycle", ".Trashes", ".Trash-1000", "__MACOSX", "._face.jpg"),
    *(".dropbox.cache", "Icon\r", "ehthumbs.db", "@tmp", ".ipynb_checkpoints", "$Extend"),
    *("$R1A2B3.jpg", "~$labels.csv", ".DS_Store", ".stfolder", "RECYCLER", "@Recycle", "found.000"),
    *(".fseventsd", ".Spotlight-V100", ".0.jpg.icloud", "face.jpg@SynoEAStream", ".nfs0000a1"),
    *("Network Trash Folder", "#snapshot", ".@__thumb", "picasa.ini", ".sync", "__pycache__"),
]


@pytest.mark.parametrize("name", SYSTEM)
def test_names_of_systems_are_nobodys_images_in_any_case(name: str) -> None:
    for spelled in (name, name.upper(), name.lower()):
        assert file_names.reason_hidden(spelled) == "system file"
        assert not file_names.is_image_name(spelled)
        assert not file_names.is_release_file(PurePath(spelled, "train", "a.jpg"))


@pytest.mark.parametrize(
    "name",
    [
        *("happy", "0_angry", "anna", "@anna.jpg", "#1.jpg", "lost.jpg", "icon.png", "tmp", "sync"),
        *("a$b.jpg", "desktop.jpg", "thumbs.jpg", "found.jpg", "recycle", "macosx", "_MACOSX.jpg"),
    ],
)
def test_names_of_people_are_not_those_of_systems(name: str) -> None:
    assert file_names.reason_hidden(name) == ""


def test_other_dotted_names_are_hidden() -> None:
    assert file_names.reason_hidden(".git") == file_names.reason_hidden(".face.jpg") == "hidden"


@pytest.mark.parametrize(
    "suffix",
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif"),
        *(".tiff", ".JPG", ".Png", ".TIFF"),
    ],
)
def test_images(suffix: str) -> None:
    assert file_names.is_image_name(f"a{suffix}")
    assert file_names.is_image(PurePath("b", f"a{suffix}"))
    assert not file_names.is_image(PurePath(".b", f"a{suffix}"))
    assert file_names.is_release_file(PurePath(f"a{suffix}"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.heic", "format not supported: .heic"),
        ("A.HEIC", "format not supported: .heic"),
        ("b.avif", "format not supported: .avif"),
        ("c.cr2", "format not supported: .cr2"),
        ("notes.txt", "not an image"),
        ("a", "not an image"),
        ("a.jpg.part", "not an image"),
    ],
)
def test_why_a_file_is_left_out(name: str, reason: str) -> None:
    assert not file_names.is_image_name(name)
    assert file_names.reason_left_out(name) == reason


def test_no_format_is_both_read_and_not() -> None:
    assert not file_names.UNSUPPORTED_SUFFIXES & {
        *file_names.IMAGE_SUFFIXES,
        *file_names.LIST_SUFFIXES,
    }


def test_images_of_every_format_and_lists_are_parts_of_a_release() -> None:
    for name in ("a.heic", "labels.csv", "list.txt", "1_exp.npy", "a.webp"):
        assert file_names.is_release_file(PurePath("x", name))
    for name in ("a.pdf", "README", ".a.csv", "model.pt"):
        assert not file_names.is_release_file(PurePath(name))
