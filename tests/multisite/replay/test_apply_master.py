"""The master's word at the other replicas: applied or imposed, and what of theirs is kept on top of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.stores.native.writer import Writer
from tests.multisite.mail import (
    BOB,
    append,
    create,
    delete,
    expunge,
    flag,
    message,
    names,
    records,
    rename,
    same_everywhere,
    state,
)
from tests.multisite.world import Site, carry, exchange_until_quiet, family_of


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Boston is Bob's master; he has two messages everywhere."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob", "user.bob.Work")
    append(sites[0], "user.bob", message(1), message(2))
    exchange_until_quiet(sites, tmp_path)
    return sites


@pytest.fixture
def imposed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the mailboxes that were imposed, not applied."""
    done: list[str] = []
    original = Writer.impose_mailbox

    def watched(self: Writer, update: object, *args: object, **options: object) -> None:
        done.append(update.state.name)  # type: ignore[attr-defined]
        original(self, update, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "impose_mailbox", watched)
    yield done


def told(site: Site) -> int:
    """How many operations of its own a site has told."""
    with site.member() as member:
        return member.log.operations.last(member.family.self_id)


def test_where_nothing_was_changed_here_his_word_is_applied_and_nothing_told(
    sites: list[Site], tmp_path: Path, imposed: list[str]
) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob", message(3))
    flag(boston, "user.bob", 1, "\\Seen")
    before = told(sanfran)
    carry(boston, sanfran, tmp_path / "t")
    assert imposed == [] and told(sanfran) == before
    assert records(sanfran, "user.bob") == records(boston, "user.bob")


def test_where_something_was_changed_here_his_word_is_imposed_and_ours_kept(
    sites: list[Site], tmp_path: Path, imposed: list[str]
) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob", message(3))
    flag(sanfran, "user.bob", 2, "\\Flagged")
    carry(boston, sanfran, tmp_path / "t")
    assert imposed == ["user.bob"]
    assert [one.flags for one in records(sanfran, "user.bob")] == ["", "\\Flagged", ""]
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert [one.flags for one in records(boston, "user.bob")] == ["", "\\Flagged", ""]


def test_where_a_uid_was_given_away_here_that_he_does_not_know_his_word_is_imposed(
    sites: list[Site], tmp_path: Path, imposed: list[str]
) -> None:
    """His next message would get the same UID, and nothing but the last UID shows it."""
    boston, sanfran, _ = sites
    mine = state(sanfran, "user.bob")
    with sanfran.member() as member:
        masters = member.log.masters
        base = masters.base(mine.uniqueid)
        assert (base.modseq, base.last_uid) == (mine.highestmodseq, mine.last_uid)
        with member.log.db.transaction():
            masters.put_base(mine.uniqueid, base._replace(last_uid=base.last_uid - 1))
    append(boston, "user.bob", message(3))
    carry(boston, sanfran, tmp_path / "t")
    assert imposed == ["user.bob"]


def test_what_was_not_told_is_told_before_it_is_covered(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob", message("from boston"))
    (ours,) = append(sanfran, "user.bob", message("from sanfran"))
    before = told(sanfran)
    carry(boston, sanfran, tmp_path / "t")
    assert told(sanfran) > before
    assert ours in sanfran.guids("bob")["user.bob"]


def test_so_is_what_no_line_of_the_action_log_speaks_of(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    config = sanfran.directory / "imapd.conf"
    text = config.read_text()
    config.write_text(text.replace("sync_log_channels: multisite", "sync_log_channels: other"))
    (ours,) = append(sanfran, "user.bob", message("a line that was lost"))
    with sanfran.store() as store, store.write(BOB) as writer:
        writer.set_acl("user.bob", "zoe", "lrs")
    config.write_text(text)
    append(boston, "user.bob", message("from boston"))
    before = told(sanfran)
    carry(boston, sanfran, tmp_path / "t")
    assert told(sanfran) > before
    exchange_until_quiet(sites, tmp_path)
    assert ours in boston.guids("bob")["user.bob"] and same_everywhere(sites)
    assert "zoe\tlrs" in state(boston, "user.bob").acl


def test_a_uid_that_was_given_away_twice_raises_uidvalidity(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    before = state(sanfran, "user.bob").uidvalidity
    append(boston, "user.bob", message("from boston"))
    append(sanfran, "user.bob", message("from sanfran"))
    carry(boston, sanfran, tmp_path / "t")
    assert state(sanfran, "user.bob").uidvalidity == before + 1
    assert any("UIDVALIDITY rises" in line for line in sanfran.heard)
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert state(boston, "user.bob").uidvalidity >= before + 1, "everybody's"


def test_uidvalidity_stays_where_no_uid_was_given_away_twice(sites: list[Site], tmp_path: Path) -> None:
    before = state(sites[0], "user.bob").uidvalidity
    append(sites[1], "user.bob", message("from sanfran"))
    exchange_until_quiet(sites, tmp_path)
    assert {state(site, "user.bob").uidvalidity for site in sites} == {before}


def test_expunged_here_and_flagged_by_the_master_is_expunged_everywhere(
    sites: list[Site], tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    expunge(sanfran, "user.bob", 1)
    flag(boston, "user.bob", 1, "\\Seen")
    carry(boston, sanfran, tmp_path / "t")
    assert [one.expunged for one in records(sanfran, "user.bob")] == [True, False]
    exchange_until_quiet(sites, tmp_path)
    assert len(boston.guids("bob")["user.bob"]) == 1 and same_everywhere(sites)


# -- deletions


def test_a_mailbox_that_the_master_deletes_is_deleted(sites: list[Site], tmp_path: Path) -> None:
    delete(sites[0], "user.bob.Work")
    exchange_until_quiet(sites, tmp_path)
    assert all(names(site) == ["user.bob"] for site in sites)


def test_one_with_mail_that_he_has_not_seen_is_kept_and_comes_back(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    (new,) = append(sanfran, "user.bob.Work", message("unseen"))
    delete(boston, "user.bob.Work")
    carry(boston, sanfran, tmp_path / "t")
    assert any("has new mail here: it is kept" in line for line in sanfran.heard)
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert new in site.guids("bob")["user.bob.Work"]
    assert same_everywhere(sites)


def test_new_flags_do_not_keep_what_the_master_deletes(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob.Work", message("old"))
    exchange_until_quiet(sites, tmp_path)
    flag(sanfran, "user.bob.Work", 1, "\\Seen")
    delete(boston, "user.bob.Work")
    exchange_until_quiet(sites, tmp_path)
    assert all(names(site) == ["user.bob"] for site in sites)


@pytest.mark.parametrize("delayed", [False, True])
def test_a_user_whom_the_master_deletes_is_gone(sites: list[Site], tmp_path: Path, delayed: bool) -> None:
    delete(sites[0], "user.bob", delayed=delayed)
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert not any(name.startswith("user.") for name in names(site))
    assert same_everywhere(sites)


def test_one_with_new_mail_here_is_kept(sites: list[Site], tmp_path: Path) -> None:
    boston, sanfran, _ = sites
    (new,) = append(sanfran, "user.bob", message("unseen"))
    delete(boston, "user.bob")
    carry(boston, sanfran, tmp_path / "t")
    assert any("all of it is kept" in line for line in sanfran.heard)
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        assert new in site.guids("bob")["user.bob"]
    assert same_everywhere(sites)


# -- two births


@pytest.mark.parametrize("first", [0, 1], ids=["told by the lower", "told by the higher"])
def test_a_user_who_was_born_twice_has_one_master_and_the_mail_of_both(tmp_path: Path, first: int) -> None:
    sites = family_of(tmp_path, "boston", "sanfran", inbox="rename")
    ids = {}
    for site in sites:
        create(site, "user.bob", "user.bob.Work")
        append(site, "user.bob", message(f"from {site.name}"))
        append(site, "user.bob.Work", message(f"work at {site.name}"))
        with site.member() as member:
            member.record()
            ids[member.family.self_id] = site
    lower = ids[min(ids)]
    other = next(site for site in sites if site is not lower)
    carry(sites[first], sites[1 - first], tmp_path / "t")
    exchange_until_quiet(sites, tmp_path)
    for site in sites:
        with site.member() as member:
            master = member.log.masters.of(BOB)
            assert master is not None and member.family.name_of(master.replica) == lower.name
        mine, others = f"user.bob.{other.name}_INBOX", f"user.bob.{lower.name}_INBOX"
        assert mine in names(site) or others in names(site)
        found = [guid for guids in site.guids("bob").values() for guid in guids]
        assert len(found) == len(set(found)) == 4
    warning = "multitool: Warning: To avoid name conflict,\ngenerated name "
    assert any(line.startswith(warning) and "_INBOX" in line for line in lower.heard)
    with lower.member() as member:
        thing = next(one for one in member.log.objects.in_conflict() if one.wanted == "user.bob")
    assert thing.local == f"user.bob.{other.name}_INBOX"


def test_after_both_are_renamed_all_agree(tmp_path: Path) -> None:
    sites = family_of(tmp_path, "boston", "sanfran", inbox="rename")
    for site in sites:
        create(site, "user.bob")
        append(site, "user.bob", message(f"from {site.name}"))
    exchange_until_quiet(sites, tmp_path)
    with sites[0].member() as member:
        ids = {member.family.find(site.name).id: site for site in sites}
    higher = ids[max(ids)]
    rename(higher, "user.bob", "user.bob.Former")
    exchange_until_quiet(sites, tmp_path)
    assert same_everywhere(sites)
    assert sorted(names(sites[0])) == ["user.bob", "user.bob.Former"]


# -- delayed deletes of what has new mail


@pytest.mark.parametrize("who", [0, 1], ids=["by its master", "elsewhere"])
def test_new_mail_in_what_is_set_aside_is_warned_of_and_comes_back_by_a_rename(
    sites: list[Site], tmp_path: Path, who: int
) -> None:
    deleting, other = sites[who], sites[1 - who]
    (new,) = append(other, "user.bob.Work", message("unseen"))
    delete(deleting, "user.bob.Work", delayed=True)
    carry(deleting, other, tmp_path / "t")
    warning = "user/bob/Work was deleted elsewhere and has new mail here: it is set aside with it as DELETED/"
    assert any(line.startswith(warning) for line in other.heard)
    exchange_until_quiet(sites, tmp_path)
    (aside,) = (name for name in names(other) if name.startswith("DELETED.user.bob.Work."))
    rename(other, aside, "user.bob.Work")
    exchange_until_quiet(sites, tmp_path)
    assert all(new in site.guids("bob")["user.bob.Work"] for site in sites)
    assert same_everywhere(sites)


@pytest.mark.parametrize("who", [0, 1], ids=["by its master", "elsewhere"])
def test_nobody_is_warned_of_what_holds_nothing_new(sites: list[Site], tmp_path: Path, who: int) -> None:
    delete(sites[who], "user.bob.Work", delayed=True)
    exchange_until_quiet(sites, tmp_path)
    assert not any("set aside" in line for site in sites for line in site.heard)
