import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import BadStudy
from pellucid.study.toml import read_toml, spelt_toml

texts = st.text(st.characters(codec="utf-8"), max_size=12)
plain = st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | texts
values = plain | st.lists(plain | st.lists(plain, max_size=3), max_size=4)
tables = st.dictionaries(
    texts, values | st.dictionaries(texts, values | st.dictionaries(texts, values, max_size=2), max_size=3), max_size=4
)


@given(tables)
def test_what_is_written_parses_back_to_equal_values(table):
    assert tomllib.loads(spelt_toml(table)) == table


def test_absent_values_are_left_out():
    assert tomllib.loads(spelt_toml({"a": None, "b": 1, "t": {"c": None}})) == {"b": 1, "t": {}}


def test_a_long_list_has_an_entry_a_line():
    assert spelt_toml({"a": ["x" * 60, "y" * 60]}).splitlines()[1].strip() == f'"{"x" * 60}",'


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('seed = 1\n# comment\n[images]\n"path" = "x"\n[explain]\nmethods = [\n  "one",\n  "two",\n]\n')
    return read_toml(path)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("seed",), 1), (("images",), 3), (("images", "path"), 4), (("explain", "methods"), 6),
        (("explain", "methods", 1), 8), (("images", "absent"), 3), (("absent",), 1),
    ],
)  # fmt: skip
def test_a_key_is_found_in_its_line(file, keys, line):
    assert file.where(keys) == f"{file.path}:{line}"


def test_bad_toml_names_its_line(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("seed = 1\npath = = 2\n")
    with pytest.raises(BadStudy, match=r"a\.toml:2: this is no TOML"):
        read_toml(path)


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path):
    with pytest.raises(BadStudy, match="is a folder"):
        read_toml(tmp_path)
    with pytest.raises(BadStudy, match="there is no study file"):
        read_toml(tmp_path / "no.toml")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadStudy, match="UTF-8"):
        read_toml(tmp_path / "a.toml")
