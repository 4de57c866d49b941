import errno
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fer_bench.storage import array_file
from fer_bench.storage.array_file import BLOCK_BYTES, DamagedArray, read, write

DTYPES = ("bool", "uint8", "int16", "float16", "float32", "float64", "complex64", "bfloat16")
VALUES, HEADER = "values.bin", "array.json"


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray[Any]:
    """Random bits of that shape; bfloat16 as uint16."""
    name = "uint16" if dtype == "bfloat16" else dtype
    count = int(np.prod(shape)) * np.dtype(name).itemsize
    values = np.random.default_rng(seed).integers(0, 2, count, np.uint8)
    return values.view(name).reshape(shape)


def bits(array: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The folder of a small array."""
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    write(tmp_path / "array", (4, 6), "float32", [values[:1], values[1:]])
    return tmp_path / "array"


# Writing and reading ---------------------------------------------------------------------------


@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from(DTYPES),
    cuts=st.lists(st.integers(0, 5), max_size=4).map(sorted),
    block_bytes=st.integers(1, 64),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    dtype: str,
    cuts: list[int],
    block_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("array")
    values = numbers(shape, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_file, "BLOCK_BYTES", block_bytes)
        written = write(folder, shape, dtype, np.split(values, cuts))
    found = read(folder)
    assert found == written
    assert (found.shape, found.dtype) == (shape, dtype)
    assert found.path == folder / VALUES
    assert found.memmap().dtype == values.dtype
    assert found.memmap().shape == shape
    assert bits(found.memmap()) == bits(values) == found.path.read_bytes()


def test_the_digest_is_that_of_the_array_however_it_was_split(tmp_path: Path) -> None:
    values = numbers((6, 4), "uint8")
    whole = write(tmp_path / "whole", (6, 4), "uint8", [values])
    split = write(tmp_path / "split", (6, 4), "uint8", np.split(values, 3))
    assert whole.digest == split.digest
    assert len(whole.digest) == 64
    others = [
        write(tmp_path / "shape", (4, 6), "uint8", [values.reshape(4, 6)]),
        write(tmp_path / "dtype", (6, 4), "int8", [values.view(np.int8)]),
        write(tmp_path / "values", (6, 4), "uint8", [values ^ 1]),
    ]
    assert len({whole.digest, *(other.digest for other in others)}) == 4


def test_bfloat16_keeps_its_bits(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 12).reshape(3, 4).astype(ml_dtypes.bfloat16)
    stored = write(tmp_path, (3, 4), "bfloat16", [values[:1], values[1:].view(np.uint16)])
    found = stored.memmap()
    assert found.dtype == np.uint16
    assert np.array_equal(found.view(ml_dtypes.bfloat16), values)


def test_rows_need_not_lie_together_in_memory(tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.int32).reshape(6, 8)[::2, ::-2]
    assert np.array_equal(write(tmp_path, (3, 4), "int32", [values]).memmap(), values)


def test_a_system_that_writes_a_few_bytes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(io.FileIO):
        def write(self, values: Any, /) -> int:
            return super().write(values[:7])

    path_open = Path.open

    def slow_open(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return Slow(path, mode) if path.name == VALUES else path_open(path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", slow_open)
    values = numbers((4, 6), "float32")
    stored = write(tmp_path, (4, 6), "float32", [values])
    assert bits(stored.memmap()) == bits(values)


def test_what_is_mapped_cannot_be_changed(stored: Path, tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", (0, 3), "uint8", [])
    for array in (read(stored), empty):
        with pytest.raises(ValueError, match="read-only"):
            array.memmap()[...] = 1


def test_no_more_than_a_block_is_in_memory(tmp_path: Path) -> None:
    def blocks() -> Iterator[NDArray[np.uint8]]:
        for _ in range(16):
            yield np.ones((1, BLOCK_BYTES), np.uint8)

    tracemalloc.start()
    write(tmp_path, (16, BLOCK_BYTES), "uint8", blocks())
    read(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * BLOCK_BYTES


# What cannot be written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros((3, 2), np.uint8), "only 3 rows"),
        (np.zeros((5, 2), np.uint8), "the blocks have 5 rows or more"),
        (np.zeros((4, 3), np.uint8), r"block 0 has shape \(4, 3\).*expected \(rows, 2\)"),
        (np.zeros((4, 2, 1), np.uint8), r"shape \(4, 2, 1\)"),
        (np.zeros((), np.uint8), r"shape \(\)"),
        (np.zeros((4, 2), np.int8), "dtype int8, expected .* uint8"),
        (np.zeros((4, 2), np.float64), "dtype float64"),
    ],
)
def test_blocks_that_do_not_add_up(tmp_path: Path, block: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path, (4, 2), "uint8", [block])
    with pytest.raises(DamagedArray, match=HEADER):
        read(tmp_path)


def test_endless_blocks_come_to_an_end(tmp_path: Path) -> None:
    def endless() -> Iterator[NDArray[np.uint8]]:
        while True:
            yield np.zeros((3, 2), np.uint8)

    with pytest.raises(ValueError, match="6 rows or more"):
        write(tmp_path, (4, 2), "uint8", endless())


def test_bfloat16_of_four_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dtype float32, expected .* bfloat16"):
        write(tmp_path, (4, 2), "bfloat16", [np.zeros((4, 2), np.float32)])


@pytest.mark.parametrize("dtype", ["object", "float", "f4", "no such type", "U3", "", "datetime64"])
def test_a_dtype_that_is_no_name_of_a_number(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(ValueError, match=f"dtype '{dtype}': expected a name such as"):
        write(tmp_path, (4, 2), dtype, [])


@pytest.mark.parametrize("shape", [(), (-1, 2), (2, -1)])
def test_an_impossible_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected at least one axis"):
        write(tmp_path, shape, "uint8", [])


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / VALUES).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised:
        write(tmp_path, (4, 2), "uint8", [np.zeros((4, 2), np.uint8)])
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.filename == str(tmp_path / VALUES)


# Damage ----------------------------------------------------------------------------------------


@given(place=st.integers(0, 95), change=st.integers(1, 255))
def test_any_changed_byte_of_the_values_is_found(
    array_of_blocks: Path, place: int, change: int
) -> None:
    path = array_of_blocks / VALUES
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[place] ^= change
    path.write_bytes(changed)
    try:
        with pytest.raises(DamagedArray, match=rf"block {place // 10 + 1} of 10"):
            read(array_of_blocks)
    finally:
        path.write_bytes(whole)
    read(array_of_blocks)


@pytest.fixture(scope="module")
def array_of_blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 bytes that are verified by tens."""
    folder = tmp_path_factory.mktemp("blocks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_file, "BLOCK_BYTES", 10)
        write(folder, (4, 6), "float32", [numbers((4, 6), "float32")])
    return folder


@given(data=st.data(), change=st.integers(1, 255))
def test_a_changed_byte_of_the_header_is_found_or_means_nothing(
    array_of_blocks: Path, data: st.DataObject, change: int
) -> None:
    path = array_of_blocks / HEADER
    before, whole = read(array_of_blocks), path.read_bytes()
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= change
    path.write_bytes(changed)
    try:
        if json.loads(changed) == json.loads(whole):
            assert read(array_of_blocks) == before
            return
    except ValueError:
        pass
    try:
        with pytest.raises(DamagedArray, match=HEADER):
            read(array_of_blocks)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("size", [0, 1, 95, 97, 1000])
def test_another_length_is_found(stored: Path, size: int) -> None:
    content = (stored / VALUES).read_bytes()
    (stored / VALUES).write_bytes((content * 11)[:size])
    with pytest.raises(DamagedArray, match=rf"has {size:,} bytes, expected 96"):
        read(stored)


@pytest.mark.parametrize("name", [VALUES, HEADER])
def test_a_missing_file_is_found(stored: Path, name: str) -> None:
    (stored / name).unlink()
    with pytest.raises(DamagedArray, match=rf"{name}: cannot be read \(No such file"):
        read(stored)


def test_a_missing_folder_is_found(tmp_path: Path) -> None:
    with pytest.raises(DamagedArray, match="No such file"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "JSON"),
        (b'{"shape": [4,', "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "JSON object"),
        (b"{}", "its checksum differs"),
        (b'{"header_checksum": 2745614147}', "shape, dtype, bytes"),
    ],
)
def test_a_header_that_is_none(stored: Path, content: bytes, message: str) -> None:
    (stored / HEADER).write_bytes(content)
    with pytest.raises(DamagedArray, match=message):
        read(stored)


@pytest.mark.parametrize(("place", "found"), [(0, True), (999, True), (500, False)])
def test_of_a_large_file_some_blocks_are_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int, found: bool
) -> None:
    monkeypatch.setattr(array_file, "BLOCK_BYTES", 1)
    monkeypatch.setattr(array_file, "VERIFIED_WHOLE", 999)
    stored = write(tmp_path, (1000,), "uint8", [np.zeros(1000, np.uint8)])
    content = bytearray(stored.path.read_bytes())
    content[place] = 1
    stored.path.write_bytes(content)
    if found:
        with pytest.raises(DamagedArray, match=f"block {place + 1} of 1000"):
            read(tmp_path)
    else:
        read(tmp_path)


def test_of_a_large_file_a_long_stretch_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_file, "BLOCK_BYTES", 1)
    monkeypatch.setattr(array_file, "VERIFIED_WHOLE", 999)
    stored = write(tmp_path, (1000,), "uint8", [np.ones(1000, np.uint8)])
    for start in range(0, 985, 97):
        content = bytearray(b"\1" * 1000)
        content[start : start + 16] = bytes(16)
        stored.path.write_bytes(content)
        with pytest.raises(DamagedArray, match="is not what was written"):
            read(tmp_path)
