"""reconstruct gives a user a new index: all that the old one tells, and every message that is sound."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.native.care.packscan import PackScan
from cyrus_sync.common.stores.native.care.salvage import Salvage, Values
from cyrus_sync.common.stores.native.packs import PackFiles
from tests.mailstore.conftest import MESSAGE, Site
from tests.mailstore.damage import KINDS, directory_of

BOB = Owner("user", "bob")


def text(number: int) -> bytes:
    return MESSAGE + b"X-Number: %d\r\n" % number + b"body of %d\r\n" % number * (number % 50)


@pytest.fixture
def rich(site: Site) -> Site:
    """bob has flags, folders, annotations, expunged and deleted mail; his index has many pages."""
    site.ok("create", "user/alice", "user/bob", "user/bob/Work", "user/bob/Play/Chess")
    store = open_store(site.config())
    with store.write(BOB) as writer:
        writer.append(
            "user.bob", [(text(n), 1_600_000_000 + n, "\\Seen" if n % 3 else "") for n in range(300)]
        )
        writer.append("user.bob.Work", [(text(n), 1_600_000_000, "Todo") for n in range(200, 420)])
        writer.set_flags("user.bob", range(1, 50), add=["\\Flagged"])
        writer.expunge("user.bob", range(100, 120))
        writer.annotate("user.bob", "/comment", "", b"mine")
        writer.annotate("user.bob.Work", "/comment", "bob", b"a note", uid=7)
        writer.set_quota("user.bob", {"STORAGE": 100_000})
        writer.subscribe("user.bob.Work")
        writer.create("user.bob.Gone")
        writer.append("user.bob.Gone", [(text(1000), 1, "")])
        writer.delete("user.bob.Gone", delayed=False)
    store.close()
    site.log()
    return site


def guids(directory: Path) -> set[bytes]:
    """Every message whose frame is sound."""
    return {frame.guid for frame in PackScan(directory, PackFiles(directory), directory).frames()}


def held(site: Site) -> dict[bytes, int]:
    """Live messages of bob by GUID, how many records each has."""
    found: dict[bytes, int] = {}
    store = open_store(site.config(), readonly=True)
    with store.read(BOB) as reader:
        for mailbox in reader.mailboxes():
            for batch in reader.records(mailbox.uniqueid):
                for record in batch:
                    if not record.expunged:
                        found[record.guid] = found.get(record.guid, 0) + 1
    store.close()
    return found


def lose_index(site: Site) -> None:
    """With all that SQLite keeps beside it."""
    for path in directory_of(site, "bob").glob("index.sqlite*"):
        path.unlink()


def test_a_sound_user_is_the_same_afterwards(rich: Site) -> None:
    before = rich.ok("dump", "bob", "--expunged").out
    result = rich.ok("reconstruct", "bob")
    assert rich.ok("dump", "bob", "--expunged").out == before
    assert rich.log() == []
    rich.ok("verify")
    assert len(rich.ok("undelete", "bob").lines) == 1
    assert "the old index is" in result.out and not result.err
    rich.ok("deliver", "bob", stdin=MESSAGE)
    rich.ok("verify")


@pytest.mark.covers("mailstore: commands and options", "reconstruct")
def test_without_a_name_it_wants_to_be_told_everybody(rich: Site) -> None:
    assert rich.run("reconstruct").status == 64
    assert rich.run("reconstruct", "--everybody", "bob").status == 64
    before = rich.ok("dump").out
    assert len([line for line in rich.ok("reconstruct", "--everybody").lines if "made anew" in line]) == 2
    assert rich.ok("dump").out == before
    assert rich.run("reconstruct", "nobody").status == 75


@pytest.mark.covers("mailstore: commands and options", "reconstruct -n")
def test_a_dry_run_changes_nothing(rich: Site) -> None:
    directory = directory_of(rich, "bob")
    KINDS["an index of zeros"].do(directory)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    result = rich.run("reconstruct", "-n", "bob")
    assert result.status == 1 and "would be made anew" in result.out
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].index and "directory" not in kind])
def test_every_message_comes_back_whatever_became_of_the_index(rich: Site, kind: str) -> None:
    directory = directory_of(rich, "bob")
    had = held(rich)
    (directory / "index.sqlite-wal").unlink(missing_ok=True)
    KINDS[kind].do(directory)
    assert rich.run("verify", "bob").status == 1
    result = rich.run("reconstruct", "bob")
    assert result.status == 1 and "bob: " in result.err
    rich.ok("verify")
    assert set(had) <= set(held(rich)) <= guids(directory)
    assert len(list(directory.glob("index.sqlite.damaged-*"))) >= (kind != "no index")
    rich.ok("deliver", "bob", stdin=MESSAGE)
    assert rich.ok("show", "user/bob/Recovered", "1").raw if "Recovered" in rich.ok("ls", "bob").out else True


def test_a_message_of_which_only_the_bytes_are_left_has_the_date_of_its_header(site: Site) -> None:
    site.ok("create", "user/bob", "user/bob/Work")
    dated = b"Date: Thu, 01 Jan 2015 00:00:00 +0000\r\n" + MESSAGE
    site.ok("deliver", "bob", stdin=dated)
    lose_index(site)
    assert site.run("reconstruct", "bob").status == 1
    (record,) = site.records("user.bob.Recovered")
    assert record.internaldate == 1_420_070_400
    assert site.ok("show", "user/bob/Recovered", "1").raw == dated


def test_a_user_who_had_only_an_inbox_has_all_of_it_in_the_inbox(site: Site) -> None:
    site.ok("create", "user/bob")
    uniqueid = site.mailbox("user.bob").uniqueid
    site.deliver("bob", 3)
    lose_index(site)
    assert site.run("reconstruct", "bob").status == 1
    assert len(site.records("user.bob")) == 3
    assert site.mailbox("user.bob").uniqueid == uniqueid


def test_an_index_of_small_pages_is_read_without_its_head(rich: Site) -> None:
    """New indexes have pages of 512 octets, those of older releases 4096: only the head tells it."""
    before = {state.name: (state.uniqueid, state.uidvalidity) for state in mailboxes(rich)}
    index = directory_of(rich, "bob") / "index.sqlite"
    index.write_bytes(bytes(100) + index.read_bytes()[100:])
    assert rich.run("reconstruct", "bob").status == 1
    assert {state.name: (state.uniqueid, state.uidvalidity) for state in mailboxes(rich)} == before


def mailboxes(site: Site) -> list[MailboxState]:
    store = open_store(site.config(), readonly=True)
    with store.read(BOB) as reader:
        found = list(reader.mailboxes())
    store.close()
    return found


# -- random damage


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 40)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def _zero_pages(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 6)):
        page = chance.randrange(len(data) // 4096)
        data[page * 4096 : (page + 1) * 4096] = bytes(4096)


def _shuffle_pages(data: bytearray, chance: random.Random) -> None:
    one, other = (chance.randrange(len(data) // 4096) * 4096 for _ in range(2))
    data[one : one + 4096], data[other : other + 4096] = data[other : other + 4096], data[one : one + 4096]


def _garbage(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start : start + 3000] = chance.randbytes(len(data[start : start + 3000]))


RANDOM: list[Callable[[bytearray, random.Random], None]] = [
    _flip, _cut, _zero_pages, _shuffle_pages, _garbage
]  # fmt: skip


def test_a_mailbox_of_an_earlier_life_does_not_take_the_place_of_the_one_there_is(
    rich: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that were given back keep their rows. A replica has its master's modseqs, which may be lower in
    a later life."""
    read = Salvage._by_page

    def with_a_page_that_was_given_back(self: Salvage) -> Iterator[tuple[str, Values]]:
        for table, row in read(self):
            if table == "mailboxes":
                fields = dict(zip(self._tables[table].columns, row, strict=True))
                fields |= {"uniqueid": "old", "id": fields["id"] + 100, "highestmodseq": 1 << 40}
                yield table, tuple(fields.values())
            yield table, row

    before = {state.name: state.uniqueid for state in mailboxes(rich)}
    index = directory_of(rich, "bob") / "index.sqlite"
    index.write_bytes(bytes(100) + index.read_bytes()[100:])
    monkeypatch.setattr(Salvage, "_by_page", with_a_page_that_was_given_back)
    assert rich.run("reconstruct", "bob").status == 1
    assert {state.name: state.uniqueid for state in mailboxes(rich)} == before


@pytest.mark.covers("mailstore: commands and options", "reconstruct")
def test_random_damage_to_the_index_costs_no_message(rich: Site, tmp_path: Path) -> None:
    directory = directory_of(rich, "bob")
    for log in ("index.sqlite-wal", "index.sqlite-shm"):
        assert (
            not (directory / log).exists()
            or not (directory / log).stat().st_size
            or ((directory / log).unlink() is None)
        )
    sound, had = (directory / "index.sqlite").read_bytes(), held(rich)
    for seed in range(int(os.environ.get("RECONSTRUCT_SEEDS", "15"))):
        chance = random.Random(seed)
        data = bytearray(sound)
        damage = chance.choice(RANDOM)
        damage(data, chance)
        for path in directory.glob("index.sqlite*"):
            path.unlink()
        (directory / "index.sqlite").write_bytes(data)
        where = f"seed {seed}, {damage.__name__}"
        result = rich.run("reconstruct", "bob")
        assert result.status in (0, 1), (where, result.err)
        verified = rich.run("verify", "bob")
        assert verified.status == 0, (where, result.err, verified.out)
        now = held(rich)
        assert set(had) <= set(now) <= guids(directory), where
        rich.ok("deliver", "bob", stdin=MESSAGE + b"%d\r\n" % seed)
        for path in directory.glob("index.sqlite*"):
            path.unlink()
        (directory / "index.sqlite").write_bytes(sound)


def test_damage_to_index_and_pack_costs_the_messages_in_it_alone(rich: Site) -> None:
    directory = directory_of(rich, "bob")
    had = held(rich)
    pack = directory / "pack-000001.zst"
    data = bytearray(pack.read_bytes())
    data[5000:5600] = bytes(600)
    pack.write_bytes(data)
    left = guids(directory)
    assert 0 < len(set(had) - left) < 20
    assert rich.run("reconstruct", "bob").status == 1
    store = open_store(rich.config(), readonly=True)
    with store.read(BOB) as reader:
        assert reader.has_guids(had) == set(had) & left
        assert len(reader.mailboxes()) == 4
    store.close()
    assert set(held(rich)) == set(had), "records stay: another may have the message"
    assert "is not stored" in rich.run("verify", "bob").out


# -- crashes


STEPS = ["link", "unlink", "replace", "fsync", "rename", "mkdir"]


def killed_at(site: Site, call: int) -> bool:
    """Run reconstruct and kill it at its nth step on the disk; whether it got so far."""
    child = os.fork()
    if not child:
        left = call

        def dying(function: Callable[..., object]) -> Callable[..., object]:
            def step(*args: object, **more: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **more)

            return step

        for name in STEPS:
            setattr(os, name, dying(getattr(os, name)))
        site.run("reconstruct", "bob")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_killed_at_any_moment_it_leaves_the_old_index_or_the_new_one(rich: Site, tmp_path: Path) -> None:
    directory = directory_of(rich, "bob")
    before = rich.ok("dump", "bob", "--expunged").out
    shutil.copytree(directory, tmp_path / "kept")
    call = 0
    while killed_at(rich, call):
        assert rich.ok("dump", "bob", "--expunged").out == before, f"step {call}"
        rich.ok("verify")
        call += 1
        shutil.rmtree(directory)
        shutil.copytree(tmp_path / "kept", directory)
    assert call > 8
    assert not list(directory.glob("reconstruct.*"))


def test_what_a_killed_run_leaves_is_removed_by_the_next(rich: Site) -> None:
    directory = directory_of(rich, "bob")
    (directory / "reconstruct.x1").mkdir()
    rich.ok("reconstruct", "bob")
    assert not list(directory.glob("reconstruct.*"))
    assert re.fullmatch(r"bob: .* 4 mailboxes and 4\d\d messages", rich.ok("reconstruct", "bob").lines[0])
