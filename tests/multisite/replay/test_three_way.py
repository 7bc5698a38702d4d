"""Flags and rights that were changed at several sites: what either side changed counts, not the last word."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.multisite.replay.three_way import acl_text, entries, flags, rights, united
from tests.multisite.mail import BOB, append, create, flag, message, records, same_everywhere, state
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "wanted"),
    [
        ("", "\\Seen", "\\Flagged", {"\\Seen", "\\Flagged"}),
        ("\\Seen A", "A", "\\Seen A B", {"A", "B"}),
        ("\\Seen A", "\\seen", "\\SEEN a B", {"\\seen", "B"}),
        ("A", "", "", set()),
        (None, "A", "B", {"A", "B"}),
    ],
)
def test_flags_are_merged_one_by_one(base: str | None, ours: str, theirs: str, wanted: set[str]) -> None:
    assert set(flags(base, ours, theirs).split()) == wanted


def test_rights_are_merged_entry_by_entry_and_what_is_discarded_is_told() -> None:
    base, ours, theirs = (
        rights(text) for text in ("a\tlr\tb\tlr\tc\tl\t", "a\tlrs\tb\tlr\tc\tlx\t", "a\tlr\tc\tly\td\tl\t")
    )
    found, discarded = entries(base, ours, theirs, other_wins=True)
    assert acl_text(found) == "a\tlrs\tc\tly\td\tl\t" and discarded == ["c"]
    assert united("a\tl\t", "b\tr\ta\tx\t") == "a\tl\tb\tr\t"


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Three in step, with a message of Bob's, whose master is Boston."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob")
    append(sites[0], "user.bob", message("one"))
    flag(sites[0], "user.bob", 1, "Old", "Gone")
    exchange_until_quiet(sites, tmp_path)
    return sites


def change(site: Site, add: str, remove: str = "") -> None:
    with site.store() as store, store.write(BOB) as writer:
        writer.set_flags("user.bob", [1], add=[add], remove=[remove] if remove else [])


def flags_of(site: Site) -> set[str]:
    (record,) = records(site, "user.bob")
    return set(record.flags.split())


@pytest.mark.parametrize("first", [0, 1, 2])
def test_flags_that_three_sites_changed_are_all_changed(
    sites: list[Site], tmp_path: Path, first: int
) -> None:
    change(sites[0], "\\Seen", "Gone")
    change(sites[1], "\\Flagged")
    change(sites[2], "$Work", "Old")
    carry(sites[first], sites[(first + 1) % 3], tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert [flags_of(site) for site in sites] == [{"\\Seen", "\\Flagged", "$Work"}] * 3


def test_a_flag_that_was_set_and_removed_before_the_master_answered_is_removed(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    change(sanfran, "\\Flagged")
    carry(sanfran, boston, tmp_path / "t")
    change(boston, "\\Seen")
    change(sanfran, "$Work", "\\Flagged")
    carry(sanfran, boston, tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert flags_of(boston) == {"Old", "Gone", "\\Seen", "$Work"}


def test_what_is_changed_on_top_of_what_was_not_answered_removes_nothing_of_the_masters(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    change(sanfran, "\\Flagged")
    sanfran.export_to(boston, tmp_path / "late")
    change(boston, "\\Seen")
    carry(boston, sanfran, tmp_path / "t")
    assert flags_of(sanfran) == {"Old", "Gone", "\\Seen", "\\Flagged"}
    change(sanfran, "$Work", "\\Flagged")
    boston.import_from((tmp_path / "late").iterdir())
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert flags_of(boston) == {"Old", "Gone", "\\Seen", "$Work"}


def test_rights_and_annotations_of_both_stay_and_a_clash_is_logged(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    for site, word in ((boston, "lr"), (sanfran, "lrs")):
        with site.store() as store, store.write(BOB) as writer:
            writer.set_acl("user.bob", f"boss-{site.name}", "l")
            writer.set_acl("user.bob", "both", word)
            writer.annotate("user.bob", f"/{site.name}", "", b"note")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    found = state(boston, "user.bob")
    assert {"boss-boston", "boss-sanfran", "both"} < set(rights(found.acl)) and rights(found.acl)[
        "both"
    ] == "lrs"
    assert {note.entry for note in found.annotations} == {"/boston", "/sanfran"}
    assert any("one of the two is discarded: rights of both" in line for line in boston.heard)
