import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.config import values


@pytest.mark.parametrize("text", ["yes", "y", "t", "true", "1", "on", "Yes", "ON"])
def test_every_spelling_of_on_is_true(text: str) -> None:
    assert values.switch(text) is True


@pytest.mark.parametrize("text", ["no", "n", "f", "false", "0", "off", "OFF"])
def test_every_spelling_of_off_is_false(text: str) -> None:
    assert values.switch(text) is False


@pytest.mark.parametrize("text", ["maybe", "o", "2", "-"])
def test_a_switch_is_yes_or_no(text: str) -> None:
    with pytest.raises(ValueError, match="neither yes nor no"):
        values.switch(text)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("42", 42), ("-3", -3), ("0x1F", 31), ("010", 8)])
def test_numbers_are_written_as_in_c(text: str, number: int) -> None:
    assert values.integer(text) == number


@pytest.mark.parametrize("text", ["08", "1 2", "x", "", "-", "1_000", "²"])
def test_other_text_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        values.integer(text)


@pytest.mark.parametrize(
    ("text", "unit", "seconds"),
    [
        ("5", "s", 5),
        ("5", "m", 300),
        ("1h30m", "s", 5400),
        ("2d", "s", 172800),
        ("-3s", "s", -3),
        ("1h30", "m", 5400),
    ],
)
def test_durations_add_up(text: str, unit: str, seconds: int) -> None:
    assert values.duration(text, unit) == seconds


@pytest.mark.parametrize("text", ["", "-", "3x", "m", "1h 30m", "1.5h"])
def test_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        values.duration(text)


@given(st.integers(0, 400), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_a_duration_is_the_sum_of_its_units(d: int, h: int, m: int, s: int) -> None:
    assert values.duration(f"{d}d{h}h{m}m{s}s") == ((d * 24 + h) * 60 + m) * 60 + s


@pytest.mark.parametrize(
    ("text", "unit", "count"),
    [
        ("7", "b", 7),
        ("7", "k", 7168),
        ("7b", "k", 7),
        ("1k", "b", 1024),
        ("1 KiB", "b", 1024),
        ("2MB", "b", 2 << 20),
        ("1g", "b", 1 << 30),
    ],
)
def test_sizes_count_in_powers_of_1024(text: str, unit: str, count: int) -> None:
    assert values.size(text, unit) == count


@pytest.mark.parametrize("text", ["", "k", "1t", "1ib", "1.5m"])
def test_other_text_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        values.size(text)


def test_a_choice_takes_the_spellings_of_a_switch_where_it_has_on_or_off() -> None:
    assert values.choice("NO", ("off", "optional", "require")) == "off"
    assert values.choice("t", ("on", "other")) == "on"
    assert values.choice("Optional", ("off", "optional")) == "optional"
    with pytest.raises(ValueError, match="'yes' is not one of: off, optional"):
        values.choice("yes", ("off", "optional"))


def test_two_quotes_are_the_empty_word() -> None:
    assert values.words('"" near  far') == ["", "near", "far"]
    with pytest.raises(ValueError, match="'ldap' is not one of"):
        values.words("auxprop ldap", ("auxprop", "saslauthd"))
