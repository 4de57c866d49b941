"""Tables of other programs: separators, byte order marks, blanks, decimal commas."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_bench.storage.delimited import SEPARATORS, TableFormatError, numbers, read_delimited

PLAIN = 'sample_id,p_happy,p_sad\n007,0.25,0.75\n"a, b",0.5,0.5\n'
ROWS = [["007", "0.25", "0.75"], ["a, b", "0.5", "0.5"]]


def read(text: str, encoding: str = "utf-8") -> list[list[str]]:
    table = read_delimited(text.encode(encoding), "sample_id")
    assert list(table) == ["sample_id", "p_happy", "p_sad"]
    rows: list[list[str]] = table.to_numpy().tolist()
    return rows


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace(",0", ", 0").replace(",p", ",  p"),
        PLAIN.replace("0.25", " 0.25 ").replace("007", "  007"),
        "\n" + PLAIN.replace("\n", "\n\n"),
        PLAIN.replace("5\n", "5,\n"),
        *(
            f"sample_id{mark}p_happy{mark}p_sad\n007{mark}0.25{mark}0.75\na, b{mark}0.5{mark}0.5\n"
            for mark in ";\t|"
        ),
        "sep=;\nsample_id;p_happy;p_sad\n007;0.25;0.75\na, b;0.5;0.5\n",
    ],
)
def test_what_the_cells_say_does_not_depend_on_what_is_around_them(text: str) -> None:
    assert read(text) == ROWS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_part_of_a_name(encoding: str) -> None:
    assert read(PLAIN, encoding) == ROWS


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1).map(
    str.strip
)


@given(
    st.lists(st.tuples(cells, cells, cells).filter(any), max_size=4), st.sampled_from(SEPARATORS)
)
def test_what_was_written_is_read(rows: list[tuple[str, str, str]], mark: str) -> None:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=mark)
    writer.writerows([["sample_id", "p_happy", "p_sad"], *rows])
    assert read(file.getvalue()) == [list(row) for row in rows]


def test_a_decimal_comma_is_a_point() -> None:
    table = read_delimited(
        b"sample_id;p\na;0,25\nb;1e-3\nc;,5\nd;1,5e-1\ne;1,000,5\nf;x", "sample_id"
    )
    assert numbers(table["p"]).tolist()[:4] == [0.25, 1e-3, 0.5, 0.15]
    assert numbers(table["p"]).isna().tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"sample_id,p_happy\na,0,25\n", "line 2 has 3 cells, the heading has 2"),
        (b"sample_id,p_happy\na,0,25\n", "decimal point"),
        (b"sample_id;p_happy\na;0.25\nb\n", "line 3 has 1 cells, the heading has 2"),
        (b"sep=;\nsample_id;p_happy\na\n", "line 3 has 1 cells"),
        (b"sample_id,p_happy,p_happy\na,0,25\n", "two columns called 'p_happy'"),
        ("sample_id,p\né,1\n".encode("latin-1"), "no text in UTF-8"),
        (b"PK\0\0sample_id", "zero bytes"),
        (b'sample_id,p\n"a,1\nb,1\n', "cells, the heading has 2"),
    ],
)
def test_what_is_no_table_is_told_why(content: bytes, message: str) -> None:
    with pytest.raises(TableFormatError, match=message):
        read_delimited(content, "sample_id")
