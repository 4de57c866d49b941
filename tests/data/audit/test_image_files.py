from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import bomb, encoded
from PIL import Image

from fer_bench.data.audit.image_files import Seen, inspect_all
from fer_bench.data.audit.perceptual_hash import SIDE
from fer_bench.data.datasets.drawn import face
from fer_bench.data.images import Box

FACE = Image.fromarray(face.draw_face(3, 1, 64).image)


def look(path: Path, content: bytes | None = None, box: Box = None, mode: str = "L") -> Seen:
    if content is not None:
        path.write_bytes(content)
    (seen,) = inspect_all([(str(path), box)], mode, 1)
    return seen


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_a_good_image(tmp_path: Path, kind: str) -> None:
    seen = look(tmp_path / "face.jpg", encoded(FACE, kind))
    assert (seen.kind, seen.size, len(seen.digest)) == ("", "64x64", 16)
    thumbnail = np.frombuffer(seen.thumbnail, dtype=np.uint8).reshape(SIDE, SIDE)
    expected = np.asarray(FACE.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert np.abs(thumbnail.astype(int) - expected).mean() < 4


@pytest.mark.parametrize(
    ("content", "kind", "detail"),
    [
        (b"", "undecodable", "0 bytes; not a readable JPEG, PNG, BMP, GIF, WebP, TIFF image"),
        (b"<html>log in</html>", "undecodable", "19 bytes; "),
        (encoded(FACE, "PPM"), "undecodable", "JPEG"),
        (encoded(FACE, "JPEG")[:900], "truncated", "truncated"),
        (encoded(FACE, "PNG")[:-200], "truncated", "truncated"),
        (encoded(FACE, "BMP")[:-200], "truncated", "truncated"),
        (bomb(60_000, 60_000), "too_large", "Image size (3600000000 pixels)"),
        (bomb(9_500, 9_500), "too_large", "Image size (90250000 pixels)"),
        (encoded(Image.new("RGB", (64, 64), (9, 200, 7)), "PNG"), "blank", "grey values from 121"),
        (encoded(Image.new("L", (64, 64)), "JPEG"), "blank", "grey values from 0 to 0"),
    ],
)
def test_a_useless_file(tmp_path: Path, content: bytes, kind: str, detail: str) -> None:
    seen = look(tmp_path / "face.jpg", content)
    assert seen.kind == kind
    assert detail in seen.detail
    assert str(tmp_path) not in seen.detail
    assert (seen.digest, seen.thumbnail) == (b"", b"")
    assert seen.size == ("64x64" if kind == "blank" else "")


def test_a_bomb_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", refuse)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    assert look(tmp_path / "face.png", bomb(60_000, 60_000)).kind == "too_large"
    with pytest.raises(AssertionError, match="decoded"):
        look(tmp_path / "face.png", encoded(FACE, "PNG"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(256) % 3, "blank"),
        (np.arange(256) % 4, ""),
        (np.where(np.arange(256) == 7, 12, 0), "blank"),  # one speck
        (np.where(np.arange(256) == 7, 255, 0), ""),
    ],
)
def test_what_is_blank(tmp_path: Path, values: np.ndarray, kind: str) -> None:
    image = Image.fromarray(values.reshape(16, 16).astype(np.uint8))
    assert look(tmp_path / "face.png", encoded(image, "PNG")).kind == kind


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert look(tmp_path / "none.jpg").kind == "missing"
    (tmp_path / "folder.jpg").mkdir()
    seen = look(tmp_path / "folder.jpg")
    assert (seen.kind, seen.detail) == ("undecodable", "Is a directory")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, **_: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    path = tmp_path / "face.jpg"
    path.write_bytes(encoded(FACE, "JPEG"))
    monkeypatch.setattr(Image, "open", refuse)
    assert look(path) == Seen("undecodable", f"{path.stat().st_size:,} bytes; Permission denied")


def test_only_pixels_make_the_digest(tmp_path: Path) -> None:
    grey = FACE.convert("L")
    plain = look(tmp_path / "a.png", encoded(grey, "PNG"))
    assert look(tmp_path / "b.bmp", encoded(grey, "BMP")).digest == plain.digest
    assert look(tmp_path / "c.png", encoded(grey.convert("RGB"), "PNG")).digest == plain.digest
    assert look(tmp_path / "d.png", encoded(grey.convert("P"), "PNG")).digest == plain.digest
    changed = grey.copy()
    changed.putpixel((5, 5), changed.getpixel((5, 5)) ^ 1)  # type: ignore[operator]
    assert look(tmp_path / "e.png", encoded(changed, "PNG")).digest != plain.digest


def test_the_shape_counts(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8)
    wide, high = (
        look(tmp_path / "a.png", encoded(Image.fromarray(pixels.reshape(shape)), "PNG"))
        for shape in ((4, 16), (16, 4))
    )
    assert (wide.size, high.size) == ("16x4", "4x16")
    assert wide.digest != high.digest


def test_colours_count_where_the_dataset_has_them(tmp_path: Path) -> None:
    red, green, blue = FACE.split()
    swapped = Image.merge("RGB", (blue, green, red))
    path = tmp_path / "face.png"
    assert (
        look(path, encoded(FACE, "PNG"), mode="RGB").digest
        != look(path, encoded(swapped, "PNG"), mode="RGB").digest
    )


def test_only_what_is_in_the_box_is_compared(tmp_path: Path) -> None:
    photograph = Image.new("RGB", (200, 100))
    photograph.paste(FACE, (10, 20))
    photograph.paste(FACE, (120, 30))
    path = tmp_path / "photograph.png"
    left, right, whole, other = (
        look(path, encoded(photograph, "PNG"), box, "RGB")
        for box in ((10, 20, 74, 84), (120, 30, 184, 94), None, (11, 20, 75, 84))
    )
    assert (
        left
        == right
        == look(tmp_path / "f.png", encoded(FACE, "PNG"), None, "RGB")._replace(size="200x100")
    )
    assert len({left.digest, whole.digest, other.digest}) == 3


def test_a_box_beyond_the_edge_is_cut_and_one_outside_is_named(tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    whole = look(path, encoded(FACE, "PNG"))
    assert look(path, box=(-5, -5, 10**9, 10**9)) == whole
    outside = look(path, box=(64, 0, 80, 20))
    assert (outside.kind, outside.size) == ("undecodable", "64x64")
    assert "outside" in outside.detail


@settings(max_examples=150)
@given(
    st.sampled_from(["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.integers(0, 3000),
)
def test_no_damage_stops_it(
    tmp_path_factory: pytest.TempPathFactory, kind: str, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(encoded(FACE.resize((24, 24)), kind))
    for place, value in changes:
        content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.jpg"
    path.write_bytes(bytes(content[: cut or None]))
    seen = look(path)
    assert seen.kind in ("", "undecodable", "truncated", "too_large", "blank")
    assert bool(seen.kind) == bool(seen.detail) == (not seen.digest)


def many(folder: Path, count: int) -> list[tuple[str, Box]]:
    for index in range(count):
        level = np.full((8, 8), index % 256, dtype=np.uint8)
        level[0, 0] = 255 - index % 256
        Image.fromarray(level).save(folder / f"{index}.png")
    return [(str(folder / f"{index}.png"), None) for index in range(count)]


def test_threads_give_the_same_in_the_same_order_and_progress(tmp_path: Path) -> None:
    files = many(tmp_path, 150)
    calls: list[tuple[int, int]] = []
    alone = inspect_all(files, "L", 1)
    together = inspect_all(files, "L", 3, lambda done, total: calls.append((done, total)))
    assert together == alone
    assert len({seen.digest for seen in alone}) > 100
    assert calls == [(64, 150), (128, 150), (150, 150)]
