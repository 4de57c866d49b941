from collections import Counter
from pathlib import Path

import pytest

from fer_bench.data.files import folders
from fer_bench.data.files.links import AGAIN, CIRCLE, NOWHERE, OUTSIDE, Links
from fer_bench.errors import DataError


def make(root: Path, *paths: str) -> Path:
    """Empty files with their folders."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "elsewhere", "a.jpg")
    return make(tmp_path / "root", "store/a.jpg", "store/b.jpg", "happy/c.jpg")


def images(root: Path) -> tuple[list[str], Counter[str]]:
    """Every image below `root`, each once, and what was left out."""
    dropped = Counter[str]()
    with folders.reading(root) as links:
        paths = list(folders.image_paths(root, dropped))
        return links.drop_copies(paths, dropped), dropped


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("store/a.jpg", ""),
        ("store", ""),
        ("../root/store", ""),
        ("../elsewhere", OUTSIDE),
        ("../elsewhere/a.jpg", OUTSIDE),
        ("/dev/zero", OUTSIDE),
        ("none", NOWHERE),
        ("../none", NOWHERE),
        ("link", NOWHERE),  # to itself
        (".", CIRCLE),
        ("../root", CIRCLE),
        ("..", OUTSIDE),
    ],
)
def test_where_a_link_leads(root: Path, target: str, reason: str) -> None:
    (root / "link").symlink_to(target)
    assert Links(root).refusal(str(root / "link")) == reason


def test_without_a_root_no_link_is_followed(root: Path) -> None:
    (root / "link").symlink_to("store")
    assert Links(None).refusal(str(root / "link")) == OUTSIDE


def test_a_link_through_another_one(root: Path) -> None:
    (root / "first").symlink_to("store")
    (root / "second").symlink_to("first/a.jpg")
    (root / "out").symlink_to("../elsewhere")
    (root / "third").symlink_to("out/a.jpg")
    links = Links(root)
    assert links.refusal(str(root / "second")) == ""
    assert links.refusal(str(root / "third")) == OUTSIDE


def test_the_root_may_be_a_link(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "happy" / "x.jpg").symlink_to("../.pool/x.jpg")
    make(root, ".pool/x.jpg")
    link = root.parent / "link"
    link.symlink_to(root)
    expected = ["happy/c.jpg", "happy/x.jpg", "store/a.jpg", "store/b.jpg"]
    assert images(link)[0] == expected
    monkeypatch.chdir(root)
    assert images(Path())[0] == expected
    assert images(Path("..", "link"))[0] == expected


def test_images_are_counted_once_under_their_own_names(root: Path) -> None:
    (root / "alias").symlink_to("store")  # comes before what it leads to
    (root / "happy" / "d.jpg").symlink_to("c.jpg")
    found, dropped = images(root)
    assert found == ["happy/c.jpg", "store/a.jpg", "store/b.jpg"]
    assert dropped == {AGAIN: 3}


def test_of_links_to_one_hidden_image_the_first_counts(root: Path) -> None:
    make(root, ".pool/x.jpg")
    for name in ("happy/y.jpg", "happy/z.jpg"):
        (root / name).symlink_to("../.pool/x.jpg")
    found, dropped = images(root)
    assert found == ["happy/c.jpg", "happy/y.jpg", "store/a.jpg", "store/b.jpg"]
    assert dropped == {AGAIN: 1, "hidden": 1}


def test_folders_that_lead_to_each_other_end(root: Path) -> None:
    (root / "store" / "up").symlink_to("..")
    (root / "store" / "over").symlink_to("../happy")
    (root / "happy" / "back").symlink_to("../store")
    found, dropped = images(root)
    assert found == ["happy/c.jpg", "store/a.jpg", "store/b.jpg"]
    assert dropped[CIRCLE] > 0


def test_many_folders_that_lead_to_all_others_are_quick(tmp_path: Path) -> None:
    names = [f"folder{number}" for number in range(9)]
    for name in names:
        make(tmp_path, f"{name}/a.jpg")
        for other in names:
            if other != name:
                (tmp_path / name / other).symlink_to(f"../{other}")
    found, dropped = images(tmp_path)
    assert found == [f"{name}/a.jpg" for name in names]
    assert dropped.total() < 1000  # not one for each of the 9! ways through


def test_problems_name_what_is_not_followed_and_what_to_do(root: Path) -> None:
    (root / "happy" / "gone.jpg").symlink_to("none.jpg")
    (root / "sad").symlink_to("../elsewhere")
    with folders.reading(root) as links:
        list(folders.image_paths(root, Counter()))
        first, second = links.problems()
    assert (first.kind, first.severity, first.examples) == (
        "link_not_followed",
        "warning",
        ("sad -> ../elsewhere",),
    )
    assert (second.kind, second.examples) == ("link_to_nothing", ("happy/gone.jpg -> none.jpg",))


def test_an_error_ends_with_the_links_that_were_not_followed(root: Path) -> None:
    (root / "sad").symlink_to("../elsewhere")
    (root / "happy" / "c.jpg").unlink()
    with pytest.raises(DataError) as caught, folders.reading(root):
        folders.class_folders(root, ("happiness", "sadness"), Counter())
    *_, advice, last = str(caught.value).splitlines()
    assert advice == "Rename it, or move it away."
    assert "set dataset.root to the folder that they lead to" in last
    assert last.endswith(": sad -> ../elsewhere.")


def test_a_root_in_a_root_follows_its_own_links(root: Path) -> None:
    (root / "happy" / "out").symlink_to("../store")
    with folders.reading(root) as outer:
        with folders.reading(root / "happy") as inner:
            assert folders.subfolders(root / "happy", Counter()) == []
            assert len(inner.problems()) == 1
        assert folders.subfolders(root / "happy", Counter()) == [root / "happy" / "out"]
        assert outer.problems() == []
