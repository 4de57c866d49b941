"""YAML as people write it: what is read as written, and what is refused with what to write."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from messages import says

from fer_bench.config.loading import load_experiment
from fer_bench.config.overrides import with_override
from fer_bench.config.yaml_files import parse_value, parse_written, read_yaml
from fer_bench.errors import ConfigError
from fer_bench.sweep.search.space import load_space
from fer_bench.sweep.suite import load_suite

EXPERIMENT = """\
dataset: {name: folder, root: faces}
image: {size: 40}
model: {backbone: cnn_compact}
training: {batch_size: 16}
stages:
  - {name: all, train: all, epochs: 1, learning_rate: 1.0e-3}
"""


def refusal(path: Path, content: str | bytes) -> str:
    """The message with which a file of this content is refused as an experiment."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        load_experiment(path)
    return str(caught.value)


# Numbers ---------------------------------------------------------------------------------------


def test_a_leading_zero_is_refused_with_what_to_write(tmp_path: Path) -> None:
    """The case `yaml-numbers`: `batch_size: 016` was 14 without a word."""
    path = tmp_path / "octal.yaml"
    message = refusal(path, EXPERIMENT.replace("batch_size: 16", "batch_size: 016"))
    assert message.startswith(f"{path}: line 4, column 24: 016: YAML reads a leading zero as octal")
    assert "(14). Write 16" in message


@pytest.mark.parametrize(
    ("written", "reading", "meant"),
    [
        ("016", "leading zero as octal (14)", "16"),
        ("-016", "leading zero as octal (-14)", "-16"),
        ("00", "leading zero as octal (0)", "0"),
        ("007", "leading zero as octal (7)", "7"),
        ("08", "leading zero as octal, which has no 8", "8"),
        ("0_16", "leading zero as octal (14)", "16"),
        ("0o16", "0o as octal (14)", "14"),
        ("0x10", "0x as hexadecimal (16)", "16"),
        ("0b101", "0b as binary (5)", "5"),
        ("1:30", "colons as base 60 (90)", "90"),
        ("-1:30", "colons as base 60 (-90)", "-90"),
        ("1:30:20.5", "colons as base 60 (5420.5)", "5420.5"),
        ("1_000", "underscores as nothing (1000)", "1000"),
        ("1_0.5", "underscores as nothing (10.5)", "10.5"),
        ("1_0e2", "underscores as nothing (1000)", "1000"),
    ],
)
def test_a_number_that_becomes_another(written: str, reading: str, meant: str) -> None:
    with pytest.raises(ValueError, match=re.escape(written)) as caught:
        parse_value(written)
    assert reading in str(caught.value)
    assert f"Write {meant}," in str(caught.value)
    assert parse_value(f"'{written}'") == written


@pytest.mark.parametrize("written", ["2024-01-02", "2024-13-45", "2001-12-14t21:59:43.10-05:00"])
def test_a_date_is_no_value(written: str) -> None:
    with pytest.raises(ValueError, match=f"{written}.*in quotes"):
        parse_value(written)
    assert parse_value(f"'{written}'") == written


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_programs_write_it_is_read_as_written(number: float) -> None:
    assert float(parse_value(str(number))) == float(number)
    assert float(parse_value(yaml.safe_dump(number).split("\n")[0])) == float(number)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_what_yaml_writes_is_read_back(value: Any) -> None:
    assert parse_value(yaml.safe_dump(value, allow_unicode=False)) == value


@pytest.mark.parametrize("written", ["1e-3", "1.0e-3", "1E-3", ".001", "0.001", "+0.001"])
def test_every_usual_spelling_of_a_learning_rate(tmp_path: Path, written: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(EXPERIMENT.replace("1.0e-3", written))
    assert load_experiment(path).stages[0].learning_rate == pytest.approx(0.001)


def test_in_set_in_suites_and_in_spaces_too(tmp_path: Path) -> None:
    base, suite, space = (tmp_path / f"{name}.yaml" for name in ("base", "suite", "space"))
    base.write_text(EXPERIMENT)
    suite.write_text("description: x\nseeds: [1, 010]\nruns: [base.yaml]\n")
    space.write_text("trials: 2\nspace: {training.batch_size: {choices: [8, 1_6]}}\n")
    with pytest.raises(ConfigError, match=r"^--set training.batch_size=016: 016: YAML reads"):
        load_experiment(base, ["training.batch_size=016"])
    with pytest.raises(ConfigError, match=r"suite.yaml: line 2, column 12: 010: .*Write 10,"):
        load_suite(suite)
    with pytest.raises(ConfigError, match=r"space.yaml: line 2, column 44: 1_6: .*Write 16,"):
        load_space(space, load_experiment(base))
    suite.write_text("description: x\nruns: [{config: base.yaml, set: {training.batch_size: 0x8}}]")
    with pytest.raises(ConfigError, match=r"suite.yaml: line 2, .*0x8: .*Write 8,"):
        load_suite(suite)


def test_a_word_that_yaml_takes_for_a_boolean_says_so(tmp_path: Path) -> None:
    message = refusal(tmp_path / "no.yaml", EXPERIMENT.replace("name: all", "name: no"))
    assert "stages.0.name: must not be a boolean, got false (YAML reads yes, no" in message


# Characters ------------------------------------------------------------------------------------


def test_a_no_break_space_is_named_where_it_stands(tmp_path: Path) -> None:
    """The case `yaml-numbers`: it made `epochs: 1` an unknown key of that name."""
    path = tmp_path / "nbsp.yaml"
    message = refusal(path, EXPERIMENT.replace("epochs: 1", "epochs:\u00a01"))
    assert message.startswith(f"{path}: line 6, column 36: no-break space (U+00A0)")
    assert "ordinary space" in message


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\n\u00a0\u00a0b: 2\n", (2, 1), "no-break space"),
        ("a: 1\nb:\u20092\n", (2, 3), "thin space"),
        ("a: 1\nb: 2\u200b\n", (2, 5), "zero width space"),
        ("a: 1\nb: x\ufeff\n", (2, 5), "zero width no-break space"),
        ("a:\n  - x\n  -\u00a0y\n", (3, 4), "no-break space"),
        ("a:\u3000x\n", (1, 3), "ideographic space"),
        ("a: x\n  y\u00a0z\n", (2, 4), "no-break space"),
        ("a: \u201cx\u201d\n", (1, 4), 'Write " or'),
        ("\u2018a\u2019: x\n", (1, 1), 'Write " or'),
        ("a: \u22125\n", (1, 4), "Write -"),
        ("a:\n\u2013 b: 1\n", (2, 1), "Write -"),
        ("a:\n\tb: 1\n", (2, 1), "tab"),
        ("a: x\x07\n", (1, 5), "control character U+0007"),
        ("a: 1\nb: [1, 016]\n", (2, 8), "octal"),
        ("a: 1\na: 2\n", (2, 1), "duplicate key 'a'"),
        ("[1, 2]: 2\n", (1, 1), "cannot be a key"),
    ],
)
def test_what_is_not_what_it_looks_like(
    tmp_path: Path, text: str, place: tuple[int, int], words: str
) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_yaml(path, "an experiment")
    assert str(caught.value).startswith(f"{path}: line {place[0]}, column {place[1]}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("# 10\u00a0% \u201cof all\u201d\nx\n", "x"),
        ("'10\u00a0%'", "10\u00a0%"),
        ("the model\u2019s size", "the model\u2019s size"),
        ("a \u2013 b", "a \u2013 b"),
        ("|\n  10\u00a0%\n", "10\u00a0%\n"),
    ],
)
def test_the_same_characters_may_stand_in_comments_quotes_and_texts(text: str, value: str) -> None:
    assert parse_value(text) == value


# Encodings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_is_read_in_the_encoding_that_it_names(tmp_path: Path, encoding: str) -> None:
    """The case `yaml-numbers`: an editor saved it as "Unicode"."""
    path, plain = tmp_path / "one" / "tiny.yaml", tmp_path / "two" / "tiny.yaml"
    for file, coding in ((path, encoding), (plain, "utf-8")):
        file.parent.mkdir()
        file.write_text(f"# ü\n{EXPERIMENT}", encoding=coding)
    assert load_experiment(path).run_id == load_experiment(plain).run_id


def test_big_endian_utf_16_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_bytes(b"\xfe\xff" + EXPERIMENT.encode("utf-16-be"))
    assert load_experiment(path).training.batch_size == 16


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (EXPERIMENT.encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (b"a: 1\nname: M\xfcller\n", r"line 2, column 8: is not UTF-8 \(byte 0xfc; 'ü'"),
        (b"a: 1\nb: x\0y\n", "line 2, column 5: a NUL byte"),
        (b"\xff\xfea", "UTF-16.* save it as UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "line 1, column 1: is not UTF-8"),
    ],
)
def test_what_is_no_utf_8_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    assert re.search(words, refusal(tmp_path / "bad.yaml", content))


# Size ------------------------------------------------------------------------------------------


def laughs(levels: int) -> str:
    """A list that stands for 10 ** levels texts."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (laughs(9), "more than 100,000 values"),
        ("a: &a {b: 1}\nc: &c\n  <<: [*a, *a]\n" + laughs(6), "more than 100,000 values"),
        ("a: " + "[" * 5000, "more than 50 levels"),
        ("a: " + "{b: " * 5000, "more than 50 levels"),
        ("a:\n" + "".join(f"{' ' * n}b:\n" for n in range(1, 500)), "more than 50 levels"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: *a}", "contains itself"),
        ("a: " + "x" * 2**20, "262,144"),
        ("a: [" + "1," * 100_000 + "]", "more than 10,000 values"),
        ("".join(f"k{n}: 1\n" for n in range(20_000)), "more than 10,000 values"),
        ("a: [" + "[[[[1]]]]," * 20_000 + "]", "more than 10,000 values"),
    ],
)
def test_what_would_fill_the_memory_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path / "huge.yaml", text)


@pytest.mark.parametrize(
    "number",
    [
        *(
            "1" * 100_000,
            "0x1" + "f" * 5000,
            "0b" + "1" * 100_000,
            "0" * 100_000 + "7",
            "0o" + "7" * 5000,
        ),
        *(
            "1_" * 50_000 + "1",
            "1" + ":1" * 50_000,
            "1" + ":1" * 50_000 + ".5",
            "1." + "1" * 100_000,
        ),
        *(
            "-" + "9" * 5000,
            "!!int " + "1" * 5000,
            "!!int '" + "1" * 5000 + "'",
            "!!float " + "1" * 500,
        ),
    ],
    ids=lambda number: number[:8],
)
def test_a_number_of_thousands_of_digits(tmp_path: Path, number: str) -> None:
    """Python's own message named `sys.set_int_max_str_digits`, or there was a traceback."""
    says(refusal(tmp_path / "x.yaml", f"a: 1\nb: {number}"), "line 2", "characters")
    with pytest.raises(ConfigError) as raised:
        with_override({}, f"seed={number}")
    says(raised.value, "--set seed=", "characters")
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (laughs(9), "more than 100,000 values"),
        ("[" * 50_000, "nesting"),
        ("[" * 900 + "]" * 900, "50 levels"),
        ("a: &a [*a]", "levels"),
        ("a: &a {b: *a}", "levels"),
        ("- " + "[1]\n- " * 20_000, "10,000 values"),
        ("a: 0\nb: " + "1" * 100_000, "line 2: a number of 100,000 characters"),
        ("a: 1" + ":1" * 5000 + ".5", "characters"),
        ("a: 1" + ":1" * 50_000, "characters"),
        ("a: 2001-99-99", "line 1: .2001-99-99. is no timestamp"),
        ("a: b: c", "mapping values"),
        ("\udcff", "utf-8"),
    ],
)
def test_what_a_colleague_may_have_written_is_bounded_too(text: str, words: str) -> None:
    """A comparison of runs unfolded the anchors of a `config.yaml`, and never ended."""
    with pytest.raises(ValueError, match=words):
        parse_written(text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("value", ["!!int ''", "!!int '_'", "!!float ''", "!!bool x", "!!binary é"])
def test_a_text_that_its_tag_does_not_allow(tmp_path: Path, value: str) -> None:
    """There was a traceback."""
    kind = value.split()[0].strip("!")
    says(refusal(tmp_path / "x.yaml", f"a: 1\nb: {value}"), "line 2", kind)
    with pytest.raises(ValueError, match=f"line 2.*{kind}|base64"):
        parse_written(f"a: 1\nb: {value}".encode())


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert parse_written(EXPERIMENT.encode())["stages"][0]["epochs"] == 1
    assert parse_written(b"a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}


def test_a_long_text_is_no_number() -> None:
    assert parse_value("f" * 1000) == "f" * 1000
    assert parse_value(f"'{'1' * 1000}'") == "1" * 1000


def test_of_thousands_of_errors_some_are_listed(tmp_path: Path) -> None:
    """The message had 600,000 characters, after six seconds."""
    message = refusal(tmp_path / "x.yaml", "".join(f"k{n}: 1\n" for n in range(2000)))
    says(message, "more than 40 errors", "k0", "fer schema")
    assert len(message.splitlines()) == 42


def test_a_position_of_thousands_of_digits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        with_override({"stages": [{}]}, f"stages.{'1' * 5000}.epochs=1")
    says(raised.value, "--set stages", "0 to 0")
    assert len(str(raised.value)) < 500


def test_anchors_and_merges_stay() -> None:
    text = "{a: &a {x: 1, y: 2}, b: {<<: *a, y: 3}, c: [*a, *a]}"
    twice = {"x": 1, "y": 2}
    assert parse_value(text) == {"a": twice, "b": {"x": 1, "y": 3}, "c": [twice, twice]}
