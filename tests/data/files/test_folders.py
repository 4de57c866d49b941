import os
import re
from collections import Counter
from pathlib import Path, PurePosixPath

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import says
from permissions import forbidden

from fer_bench.data.files import folders
from fer_bench.errors import DataError
from fer_bench.labels import EXPRESSIONS


def make(root: Path, *paths: str) -> Path:
    """Empty files, and folders where a path ends with a slash."""
    for path in paths:
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
    return root


# reading ---------------------------------------------------------------------------------------


def test_reading_names_the_root_first(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught, folders.reading(tmp_path):
        raise DataError("too small.\nTake another.")
    assert str(caught.value) == f"{tmp_path}: too small.\nTake another."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), r"^/a/b: .*\(Permission denied\)"),
        (OSError("strange"), r"^{root}: cannot be read \(strange\)\.\nCheck"),
    ],
)
def test_reading_explains_what_the_system_refuses(
    tmp_path: Path, error: OSError, message: str
) -> None:
    with (
        pytest.raises(DataError, match=message.replace("{root}", str(tmp_path))),
        folders.reading(tmp_path),
    ):
        raise error


def test_reading_lets_bugs_through(tmp_path: Path) -> None:
    with pytest.raises(KeyError), folders.reading(tmp_path):
        raise KeyError


@pytest.mark.parametrize(
    ("advice", "last"), [("", "Give the unpacked folder."), ("Do x.", "Do x.")]
)
def test_reading_wants_a_folder(tmp_path: Path, advice: str, last: str) -> None:
    make(tmp_path, "file", "inner/")
    (tmp_path / "link").symlink_to("gone")
    cases = [
        ("none", "no such folder", f"\n'{tmp_path}' holds inner, file, link (a link)."),
        ("file", "a file", ""),
        ("link", "a symbolic link to gone", ""),
        ("none/none", "no such folder", ""),
    ]
    for name, found, beside in cases:
        with pytest.raises(DataError) as caught, folders.reading(tmp_path / name, advice):
            pytest.fail("was entered")
        assert str(caught.value).startswith(f"{tmp_path / name}: {found}")
        assert str(caught.value).endswith(f".\n{last}{beside}")


def test_reading_below_a_closed_folder(tmp_path: Path) -> None:
    closed = make(tmp_path, "closed/root/") / "closed"
    with (
        forbidden(closed, inside=tmp_path),
        pytest.raises(DataError, match=r"^closed/root: cannot be read \(Permission denied\)"),
        folders.reading(Path("closed/root")),
    ):
        pytest.fail("was entered")


# find ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [".", "a", "a/b"])
def test_find_looks_two_levels_deep(tmp_path: Path, place: str) -> None:
    make(tmp_path, f"{place}/mark", "other/folder/")
    assert folders.find(tmp_path, lambda folder: (folder / "mark").exists()) == tmp_path / place


def test_find_takes_the_highest(tmp_path: Path) -> None:
    make(tmp_path, "a/b/mark", "z/mark")
    assert folders.find(tmp_path, lambda folder: (folder / "mark").exists()) == tmp_path / "z"


@pytest.mark.parametrize("paths", [("a/b/c/mark",), (".a/mark",), ("mark2",), ()])
def test_find_finds_nothing(tmp_path: Path, paths: tuple[str, ...]) -> None:
    make(tmp_path, *paths)
    assert folders.find(tmp_path, lambda folder: (folder / "mark").exists()) is None


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("a/x", "b/y")])
def test_find_does_not_choose_between_two(tmp_path: Path, first: str, second: str) -> None:
    make(tmp_path, f"{first}/mark", f"{second}/mark")
    with pytest.raises(DataError, match=rf"any of '{first}', '{second}'\.\nGive one of them"):
        folders.find(tmp_path, lambda folder: (folder / "mark").exists())


def test_find_follows_no_link(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/mark", "root/")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    assert folders.find(tmp_path / "root", lambda folder: (folder / "mark").exists()) is None


# what a folder shows ---------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    root = make(
        tmp_path / "root",
        *("b.jpg", "a.PNG", "c.bmp", "notes.txt", ".hidden.jpg", "._a.PNG", "Thumbs.db"),
        *("z/d.jpeg", "z/y/e.jpg", "z/y/list.csv", "z/.x/f.jpg", "empty/", "__MACOSX/g.jpg"),
    )
    (root / "link.jpg").symlink_to(root / "b.jpg")
    (root / "link").symlink_to(root / "z")
    return root


# What is in `mixed` and is never looked at, outside of `reading`.
UNSEEN = {"hidden": 1, "system file": 3, "symbolic link: out of the root": 2}


def test_visible_is_in_order_and_counts_the_hidden(mixed: Path) -> None:
    dropped = Counter[str]()
    names = [entry.name for entry in folders.visible(mixed, dropped)]
    assert names == sorted(names)
    assert {"b.jpg", "z"} < set(names)
    assert dropped == UNSEEN


def test_a_name_that_no_text_file_can_hold_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.jpg", os.O_CREAT))
    dropped = Counter[str]()
    assert folders.image_names(tmp_path, dropped) == ["a.jpg"]
    assert dropped == {"name is not UTF-8": 1}


def test_subfolders(mixed: Path) -> None:
    dropped = Counter[str]()
    assert folders.subfolders(mixed, dropped) == [mixed / "empty", mixed / "z"]
    assert dropped == UNSEEN | {"outside a class folder": 4}


@pytest.mark.parametrize(
    ("place", "folder", "file"),
    [
        (".", True, False),
        ("z", True, False),
        ("z/y", True, False),
        ("b.jpg", False, True),
        ("z/y/e.jpg", False, True),
        ("link", False, False),
        ("link.jpg", False, False),
        ("link/y", False, False),
        ("link/y/e.jpg", False, False),
        ("none", False, False),
        ("none/y", False, False),
        ("b.jpg/y", False, False),
    ],
)
def test_what_is_at_a_place(mixed: Path, place: str, folder: bool, file: bool) -> None:
    assert folders.has_folder(mixed, place) is folder
    assert folders.has_file(mixed, place) is file


def test_the_folder_itself_may_be_a_link(mixed: Path) -> None:
    assert folders.has_folder(mixed / "link", ".")
    assert folders.has_folder(mixed / "link", "y")
    assert folders.has_file(mixed / "link", "y/e.jpg")


def test_files_in_a_closed_folder_are_not_reported_as_missing(tmp_path: Path) -> None:
    closed = make(tmp_path / "root", "closed/z/", "closed/a.jpg") / "closed"
    for has, place in ((folders.has_folder, "closed/z"), (folders.has_file, "closed/a.jpg")):
        with forbidden(closed, inside=tmp_path), pytest.raises(PermissionError):
            has(Path("root"), place)


def test_contents(mixed: Path) -> None:
    with folders.reading(mixed):
        assert folders.contents(mixed) == "empty, link, z, a.PNG, b.jpg, c.bmp, link.jpg, notes.txt"
    (mixed / "z.txt").touch()
    shown = "empty, link (a link), z, a.PNG, b.jpg, c.bmp, link.jpg (a link), notes.txt"
    assert folders.contents(mixed) == f"{shown} and 1 more"
    assert folders.contents(mixed / "z") == "y, d.jpeg"
    assert folders.contents(mixed / "empty") == "nothing"


def test_image_names(mixed: Path) -> None:
    dropped = Counter[str]()
    assert folders.image_names(mixed, dropped) == ["a.PNG", "b.jpg", "c.bmp"]
    assert dropped == UNSEEN | {"not an image": 3}


def test_image_paths(mixed: Path) -> None:
    dropped = Counter[str]()
    found = list(folders.image_paths(mixed, dropped))
    assert found == ["a.PNG", "b.jpg", "c.bmp", "z/d.jpeg", "z/y/e.jpg"]
    assert dropped == UNSEEN | {"hidden": 2, "not an image": 2}


def test_nothing_is_lost_without_being_counted(mixed: Path) -> None:
    dropped = Counter[str]()
    found = list(folders.image_paths(mixed, dropped))
    # A hidden folder counts as one thing, an empty one as nothing.
    things = [*mixed.rglob("*")]
    inside_hidden = [path for path in things if path.parent.name in (".x", "__MACOSX")]
    shown_folders = [mixed / "z", mixed / "z" / "y", mixed / "empty"]
    assert len(found) + dropped.total() == len(things) - len(inside_hidden) - len(shown_folders)


# splits and classes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        (" VAL ", "validation"),
        ("valid", "validation"),
        ("validation", "validation"),
        ("test", "test"),
        ("TESTING", "test"),
        ("tests", None),
        ("", None),
    ],
)
def test_split_of(name: str, split: str | None) -> None:
    assert folders.split_of(name) == split


def test_split_folders(tmp_path: Path) -> None:
    make(tmp_path, "Test/", "train/", "models/", "readme.txt", ".git/")
    dropped = Counter[str]()
    found = folders.split_folders(tmp_path, dropped)
    assert list(found.items()) == [("train", tmp_path / "train"), ("test", tmp_path / "Test")]
    assert dropped == {"unrelated folder": 1, "outside a class folder": 1, "hidden": 1}


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    make(tmp_path, "val/", "Valid/")
    with pytest.raises(DataError) as caught:
        folders.split_folders(tmp_path, Counter())
    says(caught.value, "'Valid' and 'val'", "'validation'")


def test_class_folders_are_in_the_order_of_the_classes(tmp_path: Path) -> None:
    make(tmp_path, "0_angry/", "Happy/", "neutral/")
    found = folders.class_folders(tmp_path, EXPRESSIONS, Counter(), complete=False)
    assert list(found.items()) == [
        ("neutral", tmp_path / "neutral"),
        ("happiness", tmp_path / "Happy"),
        ("anger", tmp_path / "0_angry"),
    ]


def test_class_folders_must_be_complete_by_default(tmp_path: Path) -> None:
    make(tmp_path / "train", "happy/", "sad/")
    expected = ("happiness", "sadness", "fear", "anger")
    with pytest.raises(
        DataError, match=r"'train' has no class folder for fear, anger; found happy, sad\."
    ):
        folders.class_folders(tmp_path / "train", expected, Counter())


@pytest.mark.parametrize(
    ("name", "hint"),
    [("hapy", "Did you mean 'happy'"), ("contempt", "or move it away"), ("qqq", "or move it away")],
)
def test_an_unknown_class_folder(tmp_path: Path, name: str, hint: str) -> None:
    make(tmp_path / "train", f"{name}/")
    with pytest.raises(DataError, match=rf"'train/{name}'; known: neutral, .*anger\.\n.*{hint}"):
        folders.class_folders(tmp_path / "train", EXPRESSIONS[:7], Counter())


def test_two_folders_for_one_class(tmp_path: Path) -> None:
    make(tmp_path / "train", "sad/", "sadness/")
    with pytest.raises(DataError) as caught:
        folders.class_folders(tmp_path / "train", EXPRESSIONS, Counter(), complete=False)
    says(caught.value, "'train/sad' and 'train/sadness'", "'sadness'")


def test_class_images(tmp_path: Path) -> None:
    make(tmp_path, "train/sad/b.jpg", "train/sad/a.jpg", "train/happy/notes.txt")
    assert folders.class_images(tmp_path / "train" / "sad", Counter()) == ["a.jpg", "b.jpg"]
    with pytest.raises(DataError, match="class folder 'train/happy' holds no images"):
        folders.class_images(tmp_path / "train" / "happy", Counter())


def test_a_class_folder_of_images_of_other_formats_says_so(tmp_path: Path) -> None:
    make(tmp_path, "train/sad/a.heic", "train/sad/b.HEIC", "train/sad/notes.txt")
    with pytest.raises(DataError) as caught:
        folders.class_images(tmp_path / "train" / "sad", Counter())
    assert str(caught.value) == (
        "class folder 'train/sad' holds no images; "
        "found 1 not an image; format not supported: .heic 2.\n"
        "Convert the images to JPEG or PNG."
    )


@pytest.mark.parametrize(
    ("there", "message"),
    [
        (("set/pictures/", "set/notes/"), r"'images' in 'set'; found notes, pictures\.\nDownload"),
        (
            ("set/pictures/",),
            r"'images' in 'set'; found pictures\.\n.*'pictures'.* rename it to 'images'",
        ),
        (("set/labels/",), r"'images' in 'set'; found labels\.\nDownload"),
        (
            ("sets/images/", "labels/"),
            r"'set' in '\w+'; found labels, sets\.\n.*'sets'.* rename it to 'set'",
        ),
        (("a.zip",), r"no folder 'set' in '\w+'; found a\.zip\."),
    ],
)
def test_a_missing_folder(tmp_path: Path, there: tuple[str, ...], message: str) -> None:
    error = folders.missing_folder(make(tmp_path, *there), "set/images", {"labels"})
    assert re.search(message, str(error)), error


def test_archives_are_to_be_unpacked(tmp_path: Path) -> None:
    assert folders.unpack_advice(make(tmp_path, "a.csv", "tar/"), "x") == ""
    make(tmp_path, "b.ZIP", "c.tar.gz")
    assert folders.unpack_advice(tmp_path, "x") == (
        f"Unpack b.ZIP, c.tar.gz first: fer data prepare x {tmp_path / 'b.ZIP'} --root NEW_FOLDER\n"
    )


def test_find_takes_a_link_and_its_target_for_one(tmp_path: Path) -> None:
    make(tmp_path, "b/mark")
    (tmp_path / "a").symlink_to("b")
    with folders.reading(tmp_path):
        found = folders.find(tmp_path, lambda folder: (folder / "mark").exists())
    assert found == tmp_path / "b"


# lists -----------------------------------------------------------------------------------------


def read(tmp_path: Path, content: str | bytes) -> pd.DataFrame:
    path = tmp_path / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folders.read_table(path, ("image", "label"))


@pytest.mark.parametrize(
    "content",
    [
        "image,label\nä.jpg,1\nb.jpg,NA\n",
        "\ufeffimage,label\r\nä.jpg,1\r\nb.jpg,NA\r\n",
        " image , label\nä.jpg , 1\n b.jpg,NA",
        'label,"other",image\n1,"x,\ny",ä.jpg\nNA,,b.jpg\n',
        "image,label,\nä.jpg,1,\nb.jpg,NA,\n",
    ],
    ids=["plain", "byte order mark and Windows line ends", "blanks", "other columns", "end comma"],
)
def test_read_table(tmp_path: Path, content: str) -> None:
    table = read(tmp_path, content)
    assert list(table.columns) == ["image", "label"]
    assert table.to_dict("list") == {"image": ["ä.jpg", "b.jpg"], "label": ["1", "NA"]}


def test_a_table_as_windows_programs_write_it(tmp_path: Path) -> None:
    table = read(tmp_path, "image,label\r\nä.jpg,1\r\n".encode("utf-16"))
    assert table.to_dict("list") == {"image": ["ä.jpg"], "label": ["1"]}


def test_an_empty_cell_is_an_empty_string(tmp_path: Path) -> None:
    assert read(tmp_path, "image,label\na.jpg,\n,nan\n").to_dict("list") == {
        "image": ["a.jpg", ""],
        "label": ["", "nan"],
    }


def test_a_table_without_rows(tmp_path: Path) -> None:
    assert list(read(tmp_path, "label,image\n").columns) == ["image", "label"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,labels\na,1\n", r"lacks the columns label; its first line is 'image,labels'"),
        ("\ufeffa;b\n1;2\n", r"lacks the columns image, label; its first line is 'a;b'"),
        ("", "cannot be read as CSV"),
        (b"image,label\n\xff\xfe,1\n", "cannot be read as CSV"),
        ('image,label\n"a,1\n', "cannot be read as CSV"),
    ],
)
def test_a_damaged_table(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"'list\.csv' {message}[\s\S]*\n{folders.INCOMPLETE}"):
        read(tmp_path, content)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'list\.csv' is missing"):
        folders.read_table(tmp_path / "list.csv", ("image",))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("a/b c/ü-1.jpg", "a/b c/ü-1.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("./a//b.jpg", "a/b.jpg"),
        ("a..b/..c", "a..b/..c"),
    ],
)
def test_a_path_inside(text: str, path: str) -> None:
    assert folders.inside(text, "list.csv") == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a.jpg",
        "../a.jpg",
        "a/../../b",
        "a/..",
        "..",
        "C:\\a.jpg",
        "c:a",
        "\\\\host\\a",
        "a\0b",
    ],
)
def test_a_path_outside(text: str) -> None:
    with pytest.raises(DataError) as caught:
        folders.inside(text, "list.csv")
    says(caught.value, "'list.csv'", repr(text))


@given(st.text(st.sampled_from("a.b/\\: C-"), max_size=12))
def test_what_is_inside_stays_inside(text: str) -> None:
    try:
        path = folders.inside(text, "list.csv")
    except DataError:
        return
    joined = os.path.normpath(PurePosixPath("/root", path))
    assert joined == "/root" or joined.startswith("/root/")


def test_listed() -> None:
    assert folders.listed([]) == "nothing"
    assert folders.listed("abcdefgh") == "a, b, c, d, e, f, g, h"
    assert folders.listed("abcdefghij") == "a, b, c, d, e, f, g, h and 2 more"


def test_folders_that_are_nested_deeper_than_any_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of them ended in a traceback."""
    monkeypatch.chdir(tmp_path)
    for _ in range(260):
        Path("d").mkdir()
        monkeypatch.chdir("d")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as raised:
        list(folders.file_paths(tmp_path, Counter()))
    says(raised.value, "250 levels")
