from __future__ import annotations

import pytest

from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.one_dash import DASHES, Grammar, Option

GRAMMAR = Grammar(
    "mkorder",
    [
        Option("scl/ass", "class"),
        Option("c/omment", "text"),
        Option("cop/y"),
        Option("cq/uery"),
        Option("cqe/ach"),
        Option("not/ify", "address", repeatable=True),
        Option("out", "path"),
        Option("C", "file"),
    ],
    "destination …",
)


@pytest.mark.parametrize("typed", ["scl", "scla", "sclas", "sclass", "scl/ass", "scl·ass"])
@pytest.mark.parametrize("dash", ["-", "–"])
def test_every_prefix_from_the_shortest_form_on_is_accepted_with_either_dash(typed: str, dash: str) -> None:
    assert GRAMMAR.parse([dash + typed, "daily"]).text("sclass") == "daily"


@pytest.mark.parametrize("typed", ["-sc", "-sclasses", "-ou", "-x", "--sclass-", "-copying"])
def test_shorter_longer_and_other_names_are_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="unknown option"):
        GRAMMAR.parse([typed, "x"])


@pytest.mark.parametrize(
    ("typed", "name"),
    [("-c", "comment"), ("-co", "comment"), ("-com", "comment"), ("-cop", "copy"), ("-cqe", "cqeach")],
)
def test_options_that_begin_alike_are_told_apart_by_their_shortest_forms(typed: str, name: str) -> None:
    assert name in GRAMMAR.parse([typed, "x"])


def test_a_name_that_is_typed_in_full_is_never_ambiguous() -> None:
    assert "cquery" in GRAMMAR.parse(["-cq"])
    both = Grammar("x", [Option("a/ll"), Option("a/llow")])
    assert "all" in both.parse(["-all"])
    with pytest.raises(UsageError, match="may be -all or -allow"):
        both.parse(["-al"])


def test_a_value_may_begin_with_a_dash_and_is_needed() -> None:
    assert GRAMMAR.parse(["-scl", "-default", "boston"]).text("sclass") == "-default"
    with pytest.raises(UsageError, match="-sclass needs a value: class"):
        GRAMMAR.parse(["boston", "-scl"])


def test_options_and_operands_may_be_mixed_until_two_dashes() -> None:
    parsed = GRAMMAR.parse(["boston", "-cop", "-", "--", "-scl", "–x"])
    assert parsed.operands == ("boston", "-", "-scl", "–x")
    assert "copy" in parsed and "sclass" not in parsed


def test_only_a_repeatable_option_may_be_given_twice() -> None:
    assert GRAMMAR.parse(["-not", "a", "-notify", "b"]).texts("notify") == ("a", "b")
    with pytest.raises(UsageError, match="-out is given twice"):
        GRAMMAR.parse(["-out", "a", "-out", "b"])


def test_the_usage_shows_the_shortest_forms() -> None:
    assert GRAMMAR.usage().startswith("usage: mkorder [-scl/ass class] [-c/omment text] [-cop/y]")
    assert GRAMMAR.usage().endswith("destination …")


def test_the_hyphen_comes_first_among_the_dashes() -> None:
    assert DASHES[0] == "-" and "–" in DASHES
