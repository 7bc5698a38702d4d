"""Whose packets and operations are believed: of those whose keys are known, and each only what it may say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.multisite.creation import Pin, create_family, import_replica, make_replica
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import BadOperation, NotApplied, UnknownSender
from cyrus_sync.multisite.family import Replica
from cyrus_sync.multisite.importing import drop_set_aside
from cyrus_sync.multisite.membership import new_keys, remove_replica
from cyrus_sync.multisite.oplog.operations import CHAIN, SIGNATURE, LogEntry, owner_from
from cyrus_sync.multisite.packet import Operation, PacketForged, PacketReader, Range, SecretKeys
from cyrus_sync.multisite.packet.invitation import Invitation
from cyrus_sync.multisite.packet.succession import Succession
from cyrus_sync.multisite.signing import RETOLD, sign
from cyrus_sync.multisite.vetting import read
from tests.multisite.mail import (
    Item,
    append,
    create,
    header_of,
    keys_of,
    message,
    rewritten,
    same_everywhere,
    say,
)
from tests.multisite.world import TRUSTING, Site, carry, exchange_until_quiet, family_of

Change = Callable[[Operation], Operation]


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    """Three sites in step; Bob was born in Boston, Eve in Bangalore."""
    sites = family_of(tmp_path, "boston", "sanfran", "bangalore")
    create(sites[0], "user.bob")
    create(sites[2], "user.eve")
    exchange_until_quiet(sites, tmp_path)
    return sites


@pytest.fixture
def travel(tmp_path: Path) -> Path:
    return tmp_path / "travel"


def id_of(site: Site) -> str:
    with site.member() as member:
        return member.family.self_id


def known_of(site: Site, other: str) -> Replica:
    with site.member() as member:
        return member.family.find(other)


def smuggled(source: Site, target: Site, travel: Path, operations: Iterable[Operation]) -> Path:
    """A packet of `source`, well signed, with more operations behind what it should carry."""
    append(source, "user.bob", message("goes along"))
    (path,) = source.export_to(target, travel)
    header = header_of(path)
    ranges = dict(header.ranges)
    more = list(operations)
    for one in more:
        known = ranges.get(one.origin)
        start = known.start if known else one.id
        ranges[one.origin] = Range(start, max(one.id, known.end if known else 0))
    row = {**header.row, **{origin: there.end for origin, there in ranges.items()}}
    return rewritten(path, source, items=lambda items: [*items, *more], ranges=ranges, row=row)


def next_of(origin: Site, at: Site, skip: int = 0) -> int:
    """The number of the next operation of `origin` that `at` does not have."""
    found = id_of(origin)
    with at.member() as member:
        return member.log.operations.last(found) + 1 + skip


def say_as(
    origin: Site, number: int, owner: str, line: bytes, *, signer: SecretKeys | None = None, **attributes: str
) -> Operation:
    """An operation in the name of `origin`, which has really signed it, unless there is another `signer`."""
    secret = signer or keys_of(origin)
    with origin.member() as member:
        entry = LogEntry(member.family.self_id, number, 1_700_000_000, owner_from(owner), line, attributes)
        signature = sign(member.family.id, entry, secret)
    return Operation(entry.origin, number, entry.time, owner, line, {**attributes, SIGNATURE: signature})


def with_invented(site: Site, first: int, keys: SecretKeys, voucher: SecretKeys) -> Succession:
    """The keys of `site`, and behind them `keys` for its operations from `first` on. Not the last keys of the
    site vouch for them, but `voucher`."""
    with site.member() as member:
        family, known = member.family, member.myself.key_history
    assert known is not None
    begun = Succession.begun(voucher.public)
    invented = begun.extended(family.id, family.self_id, first, voucher, keys.public).links[-1]
    return Succession((*known.links, invented))


def set_aside(site: Site) -> dict[str, str]:
    """Why, by verb and owner."""
    with site.member() as member:
        return {f"{one.verb} {one.owner}": one.reason for one in member.log.operations.set_aside()}


# -- packets


def test_a_stranger_with_a_packet_of_his_own_is_refused_and_changes_nothing(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob", message("new"))
    (path,) = boston.export_to(sanfran, travel)
    before = sanfran.dump()
    for sender, signer in (("f" * 32, None), ("f" * 32, boston), (id_of(boston), None)):
        forged = rewritten(path, signer, sender=sender, sender_name="mallory", keys="")
        error = sanfran.import_from([forged]).refused[forged]
        assert isinstance(error, UnknownSender | PacketForged), error
    assert sanfran.dump() == before


def test_keys_that_a_packet_shows_count_only_if_they_follow_from_those_that_are_known(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, _ = sites
    append(boston, "user.bob", message("new"))
    (path,) = boston.export_to(sanfran, travel)
    mine = SecretKeys.generate()
    forged = rewritten(path, boston, keys=Succession.begun(mine.public).text())
    error = sanfran.import_from([forged]).refused[forged]
    assert isinstance(error, PacketForged) and "do not follow from those that are known here" in str(error)


def test_a_packet_with_invented_keys_behind_the_known_ones_is_refused_whoever_vouches_for_them(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, bangalore = sites
    append(boston, "user.bob", message("new"))
    (path,) = boston.export_to(sanfran, travel)
    known, invented = known_of(sanfran, "boston").key_history, SecretKeys.generate()
    before = sanfran.dump()
    for voucher in (invented, keys_of(bangalore)):
        shown = with_invented(boston, next_of(boston, sanfran), invented, voucher)
        forged = rewritten(path, invented, keys=shown.text())
        error = sanfran.import_from([forged]).refused[forged]
        assert isinstance(error, PacketForged) and "do not follow" in str(error)
    assert sanfran.dump() == before and known_of(sanfran, "boston").key_history == known


def test_the_packet_of_a_replica_that_is_not_known_yet_waits_for_the_one_that_tells_of_it(
    sites: list[Site], travel: Path, tmp_path: Path
) -> None:
    boston, sanfran, _ = sites
    tokyo = Site("tokyo", tmp_path / "tokyo")
    with boston.member() as member:
        made = make_replica(
            member, "tokyo", "t.example.org", lambda n, _s: tmp_path / f"repl_{n}", ExportOptions()
        )
    import_replica(tokyo.config, made.paths, TRUSTING, warn=tokyo.heard.append, notice=tokyo.heard.append)
    from_tokyo = tokyo.export_to(sanfran, travel)
    refused = sanfran.import_from(from_tokyo).refused
    assert [type(error) for error in refused.values()] == [UnknownSender]
    told = boston.export_to(sanfran, travel)
    assert sanfran.import_from([*from_tokyo, *told]).refused == {}
    assert same_everywhere([boston, sanfran, tokyo])


def test_a_replica_changes_its_keys_and_everybody_follows_however_he_hears_of_it(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, bangalore = sites
    old = keys_of(bangalore)
    with bangalore.member() as member:
        made = new_keys(member)
    assert keys_of(bangalore).public == made != old.public
    append(bangalore, "user.eve", message("signed with the new ones"))
    carry(bangalore, sanfran, travel)
    carry(sanfran, boston, travel)
    assert known_of(sanfran, "bangalore").keys == known_of(boston, "bangalore").keys == made.text()
    assert not set_aside(sanfran) and not set_aside(boston)
    exchange_until_quiet(sites, travel)
    assert same_everywhere(sites)


def test_a_packet_that_was_under_way_when_its_sender_changed_its_keys_is_still_good(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, bangalore = sites
    say(boston, "multisite_seal: yes")
    append(bangalore, "user.eve", message("under way"))
    append(boston, "user.bob", message("sealed for the old keys"))
    late = bangalore.export_to(sanfran, travel)
    sealed = boston.export_to(bangalore, travel)
    with bangalore.member() as member:
        new_keys(member)
    assert bangalore.import_from(sealed).refused == {}
    carry(bangalore, boston, travel)
    carry(boston, sanfran, travel)
    assert sanfran.import_from(late).refused == {}
    exchange_until_quiet(sites, travel)
    assert same_everywhere(sites)


def test_whoever_crashes_while_he_changes_his_keys_has_the_old_ones_or_the_new_ones(
    sites: list[Site], travel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bangalore = sites[2]

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    for place in ("member.Member.set_family", "membership.announce"):
        with monkeypatch.context() as patch:
            patch.setattr(f"cyrus_sync.multisite.{place}", crash)
            with pytest.raises(KeyboardInterrupt), bangalore.member() as member:
                new_keys(member)
        append(bangalore, "user.eve", message(place))
        exchange_until_quiet(sites, travel)
        assert same_everywhere(sites) and not any(map(set_aside, sites))


# -- a family without keys


def strip_keys(site: Site) -> None:
    """As a release left it that made none."""
    with site.member() as member:
        family = member.family
        bare = {one.id: replace(one, keys="", succession="", signed=0) for one in family.replicas.values()}
        member.set_family(replace(family, replicas=bare))
    (site.directory / "conf/multisite/replica.keys").unlink()


def test_an_unsigned_family_goes_on_and_is_upgraded_one_by_one(sites: list[Site], travel: Path) -> None:
    for site in sites:
        strip_keys(site)
    append(sites[0], "user.bob", message("unsigned"))
    exchange_until_quiet(sites, travel)
    for site in sites:
        with site.member() as member:
            new_keys(member)
        append(site, "user.bob", message(f"signed by {site.name}"))
        exchange_until_quiet(sites, travel)
    assert same_everywhere(sites) and not any(map(set_aside, sites))
    assert any("compare with multitool keys there" in line for line in sites[0].heard)
    append(sites[1], "user.bob", message("now"))
    (path,) = sites[1].export_to(sites[0], travel)
    unsigned = rewritten(path, keys="")
    assert isinstance(sites[0].import_from([unsigned]).refused[unsigned], PacketForged)


# -- the first contact


@pytest.fixture
def creation(tmp_path: Path) -> Callable[[str | None], list[Path]]:
    boston = Site("boston", tmp_path / "boston")
    create_family(boston.config, "mail", "boston", "boston.example.org")

    def made(passphrase: str | None) -> list[Path]:
        where = tmp_path / "repl"
        with boston.member() as member:
            return make_replica(
                member, "hub", "hub.example.org", lambda n, _s: where, ExportOptions(), passphrase=passphrase
            ).paths

    return made


def become(tmp_path: Path, paths: list[Path], pin: Pin) -> Site:
    hub = Site("hub", tmp_path / "hub")
    import_replica(hub.config, paths, pin, warn=hub.heard.append, notice=hub.heard.append)
    return hub


def test_without_fingerprint_or_passphrase_no_creation_packet_is_taken(
    tmp_path: Path, creation: Callable[[str | None], list[Path]]
) -> None:
    with pytest.raises(NotApplied, match="have to be compared first"):
        become(tmp_path, creation(None), Pin())
    assert not (tmp_path / "hub/conf/multisite").exists()


def test_a_passphrase_proves_the_maker_and_another_one_does_not(
    tmp_path: Path, creation: Callable[[str | None], list[Path]]
) -> None:
    paths = creation("correct horse battery")
    with pytest.raises(PacketForged, match="the passphrase is not the one"):
        become(tmp_path, paths, Pin("wrong horse battery"))
    with pytest.raises(CyrusSyncError, match="-secret FILE"):
        become(tmp_path, paths, TRUSTING)
    become(tmp_path, paths, Pin("correct horse battery"))


def test_a_creation_packet_that_was_signed_anew_by_somebody_else_is_noticed(
    tmp_path: Path, creation: Callable[[str | None], list[Path]]
) -> None:
    (path,) = creation("correct horse battery")
    mallory = SecretKeys.generate()
    rewritten(path, mallory, keys=Succession.begun(mallory.public).text())
    with pytest.raises(PacketForged, match="not the one with whom the passphrase was agreed"):
        become(tmp_path, [path], Pin("correct horse battery"))


def test_the_keys_of_a_birth_sign_no_packet(
    tmp_path: Path, creation: Callable[[str | None], list[Path]]
) -> None:
    paths = creation(None)
    with PacketReader(paths[0]) as packet:
        invitation = packet.header.invitation
    boston = Site("boston", tmp_path / "boston")
    hub = become(tmp_path, paths, TRUSTING)
    carry(hub, boston, tmp_path / "t")
    birth = Invitation.parse(invitation).birth
    create(hub, "user.zoe")
    (path,) = hub.export_to(boston, tmp_path / "t")
    rewritten(path, birth, keys=Succession.begun(birth.public).text())
    assert isinstance(boston.import_from([path]).refused[path], PacketForged)


# -- what an accepted sender may not say


def test_whoever_passes_on_what_others_say_can_change_nothing_and_make_nothing_up(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, bangalore = sites
    number = next_of(bangalore, sanfran)
    forged = say_as(boston, 1, "user:eve", b"APPLY MASTER %()\r\n", version="1", replica=id_of(boston))
    forged = replace(forged, origin=id_of(bangalore), id=number)
    assert sanfran.import_from([smuggled(boston, sanfran, travel, [forged])]).refused == {}
    assert set_aside(sanfran) == {"MASTER eve": "it is not signed by bangalore"}
    with sanfran.member() as member:
        master = member.log.masters.of(owner_from("user:eve"))
        assert master is not None and master.replica == id_of(bangalore)


def test_nobody_else_changes_a_replicas_keys_or_says_that_it_was_restored(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, _ = sites
    victim = known_of(boston, "bangalore")
    mine = SecretKeys.generate().public
    stolen = replace(victim.with_keys(Succession.begun(mine)), version=50)
    restored = replace(victim, incarnation=1_900_000_000, version=51)
    number = next_of(boston, sanfran, skip=1)
    told = [
        say_as(boston, number + n, "family:", b"APPLY REPLICA %()\r\n", replica=one.text())
        for n, one in enumerate((stolen, restored))
    ]
    assert sanfran.import_from([smuggled(boston, sanfran, travel, told)]).refused == {}
    assert known_of(sanfran, "bangalore").keys == victim.keys
    assert known_of(sanfran, "bangalore").incarnation == 0
    assert set_aside(sanfran) == {"REPLICA family:": "boston says that bangalore was restored"}
    assert any("do not follow from those that are known here" in line for line in sanfran.heard)


@pytest.mark.parametrize("where", ["behind the known ones", "before the known ones"])
def test_invented_keys_sign_nothing_in_the_name_of_a_replica_wherever_they_stand_among_its_keys(
    sites: list[Site], travel: Path, where: str
) -> None:
    """Boston, whose packets are believed, tells of keys of Bangalore's, and then of what they have signed."""
    boston, sanfran, bangalore = sites
    victim, mine = known_of(boston, "bangalore"), SecretKeys.generate()
    known, number = victim.key_history, next_of(bangalore, sanfran)
    assert known is not None
    if where == "behind the known ones":
        told = with_invented(bangalore, number, mine, mine)
    else:
        told = Succession((known.links[0]._replace(keys=mine.public), *known.links[1:]))
        assert told.continues(known, "", ""), "its last keys are the known ones"
    stolen = replace(victim.with_keys(told), version=50)
    line, behind = b"APPLY REPLICA %()\r\n", next_of(boston, sanfran, skip=1)
    by_boston = say_as(boston, behind, "family:", line, replica=stolen.text())
    itself = say_as(bangalore, number, "family:", line, signer=mine, replica=stolen.text())
    mail = b"APPLY MAILBOX %(UNIQUEID u1)\r\n"
    about = {RETOLD: id_of(bangalore), "uniqueid": "u1"}
    retold = say_as(bangalore, number + 1, "user:eve", mail, signer=mine, **about)
    path = smuggled(boston, sanfran, travel, [by_boston, itself, retold])
    assert sanfran.import_from([path]).refused == {}
    assert known_of(sanfran, "bangalore").key_history == known
    assert any("do not follow from those that are known here" in line for line in sanfran.heard)
    assert set_aside(sanfran)["REPLICA family:"] == "it is not signed by bangalore"


@pytest.mark.parametrize("teller", ["the replica that made it", "another replica"])
def test_only_the_maker_of_a_replica_tells_of_its_first_keys(
    sites: list[Site], travel: Path, teller: str
) -> None:
    boston, sanfran, _ = sites
    source, target = (boston, sanfran) if teller == "the replica that made it" else (sanfran, boston)
    with target.member() as member:
        bare = replace(member.family.find("bangalore"), keys="", succession="", signed=0)
        member.set_family(member.family.with_replica(bare))
    first = Succession.begun(SecretKeys.generate().public)
    told = replace(known_of(source, "bangalore").with_keys(first), host="new.example.org", version=50)
    number = next_of(source, target, skip=1)
    said = say_as(source, number, "family:", b"APPLY REPLICA %()\r\n", replica=told.text())
    assert target.import_from([smuggled(source, target, travel, [said])]).refused == {}
    known = known_of(target, "bangalore")
    assert known.host == "new.example.org" and not set_aside(target)
    assert known.key_history == (first if teller == "the replica that made it" else None)


def test_nobody_becomes_master_by_a_number_that_no_other_reaches(sites: list[Site], travel: Path) -> None:
    boston, sanfran, bangalore = sites
    number = next_of(boston, sanfran, skip=1)
    leap = say_as(
        boston, number, "user:eve", b"APPLY MASTER %()\r\n", version=str(2**62), replica=id_of(boston)
    )
    assert sanfran.import_from([smuggled(boston, sanfran, travel, [leap])]).refused == {}
    assert "the master number" in set_aside(sanfran)["MASTER eve"]
    with sanfran.member() as member:
        assert member.log.masters.of(owner_from("user:eve")).replica == id_of(bangalore)


def test_who_is_not_the_master_cannot_speak_in_his_reign(sites: list[Site], travel: Path) -> None:
    boston, sanfran, bangalore = sites
    append(bangalore, "user.eve", message("hers"))
    exchange_until_quiet(sites, travel)
    with boston.member() as member:
        member.record()
        last = [e for e in member.log.operations.of_owner(owner_from("user:eve")) if e.verb == "MAILBOX"][-1]
    number = next_of(boston, sanfran, skip=1)
    words = {key: value for key, value in last.attributes.items() if key not in (SIGNATURE, CHAIN)}
    line = last.line.replace(b"FLAGS ()", b"FLAGS (\\Expunged)")
    assert line != last.line and words["reign"].endswith(id_of(bangalore))
    usurped = say_as(boston, number, "user:eve", line, **words)
    assert sanfran.import_from([smuggled(boston, sanfran, travel, [usurped])]).refused == {}
    assert len(sanfran.guids("eve")["user.eve"]) == 1


def test_operations_of_this_replica_that_it_never_made_are_refused(sites: list[Site], travel: Path) -> None:
    boston, sanfran, _ = sites
    with sanfran.member() as member:
        number = member.log.operations.last(member.log.self_id) + 1
    mine = replace(say_as(boston, 1, "user:bob", b"APPLY UNUSER bob\r\n"), origin=id_of(sanfran), id=number)
    path = smuggled(boston, sanfran, travel, [mine])
    assert "restored from a backup (multitool restorereplica)" in str(
        sanfran.import_from([path]).refused[path]
    )


def test_a_packet_in_which_an_operation_is_missing_is_refused_and_the_next_one_is_applied(
    sites: list[Site], travel: Path
) -> None:
    boston, sanfran, bangalore = sites
    append(boston, "user.bob", message("one"))
    append(bangalore, "user.eve", message("two"))
    (path,) = boston.export_to(sanfran, travel)

    def with_a_gap(items: Iterator[Item]) -> Iterable[Item]:
        return [replace(one, id=one.id + 1) if isinstance(one, Operation) else one for one in items]

    wrong = rewritten(path, boston, items=with_a_gap)
    result = sanfran.import_from([wrong, *bangalore.export_to(sanfran, travel)])
    assert "where operation" in str(result.refused.pop(wrong)) and not result.refused
    assert len(sanfran.guids("eve")["user.eve"]) == 1 and not sanfran.guids("bob")["user.bob"]


# -- operations that make no sense


ID = "e" * 32
POISON: dict[str, dict[str, object]] = {
    "a replica that is no JSON": {"owner": "family:", "line": b"APPLY REPLICA %()\r\n", "replica": "{"},
    "a replica that is missing": {"owner": "family:", "line": b"APPLY REPLICA %()\r\n"},
    "nested 20,000 deep": {"owner": "family:", "line": b"APPLY REPLICA %()\r\n", "replica": "[" * 20_000},
    "an incarnation of 30 digits": {
        "owner": "family:",
        "line": b"APPLY REPLICA %()\r\n",
        "replica": f'{{"id":"{ID}","name":"x","incarnation":{"9" * 30}}}',
    },
    "keys that are garbage": {
        "owner": "family:",
        "line": b"APPLY REPLICA %()\r\n",
        "replica": f'{{"id":"{ID}","name":"x","keys":"garbage"}}',
    },
    "fields of other types": {
        "owner": "family:",
        "line": b"APPLY REPLICA %()\r\n",
        "replica": f'{{"id":"{ID}","name":["x"],"version":true}}',
    },
    "a master without a version": {"owner": "user:bob", "line": b"APPLY MASTER %()\r\n", "replica": ID},
    "a version of 30 digits": {
        "owner": "user:bob", "line": b"APPLY MASTER %()\r\n", "replica": ID, "version": "9" * 30,
    },
    "a version that no database holds": {
        "owner": "user:bob", "line": b"APPLY MASTER %()\r\n", "replica": ID, "version": "9" * 19,
    },
    "no command": {"owner": "user:bob", "line": b"hello\r\n"},
    "a command of another kind": {"owner": "user:bob", "line": b"GET USER bob\r\n"},
    "a value that is cut": {"owner": "user:bob", "line": b"APPLY MAILBOX %(UNIQUEID\r\n"},
    "nested lines": {"owner": "user:bob", "line": b"APPLY MAILBOX " + b"%(A (" * 20_000 + b"\r\n"},
    "a mailbox without its uniqueid": {"owner": "user:bob", "line": b"APPLY UNMAILBOX user.bob\r\n"},
    "a base that is none": {
        "owner": "user:bob", "line": b"APPLY UNMAILBOX user.bob\r\n", "uniqueid": "u1", "base": "x",
    },
    "an owner of no kind": {"owner": "group:bob", "line": b"APPLY UNUSER bob\r\n"},
    "an owner outside": {"owner": "user:../../bob", "line": b"APPLY UNUSER bob\r\n"},
    "no owner": {"owner": "user:", "line": b"APPLY UNUSER bob\r\n"},
    "the family's mail": {"owner": "family:", "line": b"APPLY UNUSER bob\r\n"},
}  # fmt: skip


@pytest.mark.parametrize("what", POISON)
def test_poison_is_set_aside_and_everything_else_goes_on(sites: list[Site], travel: Path, what: str) -> None:
    boston, sanfran, _ = sites
    poison = dict(POISON[what])
    owner, line = str(poison.pop("owner")), poison.pop("line")
    assert isinstance(line, bytes)
    words = {key: str(value) for key, value in poison.items()}
    number = next_of(boston, sanfran, skip=1)
    bad = say_as(boston, number, owner, line, **words)
    assert sanfran.import_from([smuggled(boston, sanfran, travel, [bad])]).refused == {}
    assert len(sanfran.guids("bob")["user.bob"]) == 1, "what stands before it"
    (reason,) = set_aside(sanfran).values()
    assert any(f"is set aside: {reason}" in line for line in sanfran.heard)
    append(sanfran, "user.eve", message("somebody else's"))
    assert sanfran.import_from([]).refused == {}
    assert sanfran.export_to(boston, travel), "exports go on"
    with sanfran.member() as member:
        for entry in list(member.log.operations.set_aside()):
            drop_set_aside(member, entry, sanfran.heard.append)
    assert not set_aside(sanfran)


def test_what_waits_behind_an_operation_that_was_dropped_goes_on(sites: list[Site], travel: Path) -> None:
    boston, sanfran, _ = sites
    with boston.member() as member:
        member.log.operations.append(owner_from("user:bob"), b"nonsense\r\n", time=1)
    append(boston, "user.bob", message("behind it"))
    carry(boston, sanfran, travel)
    assert not sanfran.guids("bob")["user.bob"], "it waits"
    with sanfran.member() as member:
        (entry,) = list(member.log.operations.set_aside())
        drop_set_aside(member, entry, sanfran.heard.append)
    assert len(sanfran.guids("bob")["user.bob"]) == 1


def test_a_replica_that_was_removed_does_not_come_back_by_itself(sites: list[Site], travel: Path) -> None:
    boston, sanfran, bangalore = sites
    with boston.member() as member:
        remove_replica(member, member.family.find("bangalore"), force=True)
    carry(boston, sanfran, travel)
    back = replace(known_of(bangalore, "bangalore"), version=90)
    number = next_of(boston, sanfran, skip=1)
    told = say_as(boston, number, "family:", b"APPLY REPLICA %()\r\n", replica=back.text())
    assert sanfran.import_from([smuggled(boston, sanfran, travel, [told])]).refused == {}
    with sanfran.member() as member:
        assert member.family.replicas[id_of(bangalore)].removed


def test_the_tests_own_operations_are_signed_as_real_ones_are(sites: list[Site]) -> None:
    boston = sites[0]
    with boston.member() as member:
        assert member.signs
        assert all(
            entry.attributes.get(SIGNATURE)
            for entry in member.log.operations.lacking({})
            if entry.origin == member.log.self_id
        )


@pytest.mark.parametrize(
    ("reign", "makes_sense"),
    [
        (f"3:{'9' * 32}", True),
        (f"{2**63 - 1}:{'a' * 32}", True),
        (f"{2**63}:{'9' * 32}", False),
        (f"{'9' * 19}:{'a' * 32}", False),
    ],
)
def test_a_number_that_is_too_large_is_told_from_an_id_of_digits(reign: str, makes_sense: bool) -> None:
    entry = LogEntry("a" * 32, 1, 1, owner_from("user:bob"), b"APPLY UNUSER bob\r\n", {"reign": reign})
    with nullcontext() if makes_sense else pytest.raises(BadOperation, match="too large"):
        read(entry)
