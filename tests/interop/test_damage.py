"""A byte that flips in a pack: the message heals from the other end, and holds up no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store

from .csync import state_of
from .cyrus import Address, Cyrus
from .fill import message
from .ours import Ours

JANUARY = 1_700_000_000


@pytest.fixture(scope="module", params=["real", "ours"])
def peer(request: pytest.FixtureRequest, real_cyrus: None) -> Iterator[Cyrus | Ours]:
    """The other end."""
    if request.param == "ours":
        with Ours.installed("peer") as ours:
            yield ours
    else:
        yield request.getfixturevalue("master")


@pytest.fixture(scope="module")
def here(real_cyrus: None) -> Iterator[Ours]:
    with Ours.installed("here") as ours:
        yield ours


def fill(ours: Ours, user: str, *texts: str) -> None:
    ours.mailstore("create", f"user/{user}").check()
    for text in texts:
        ours.mailstore("deliver", user, stdin=message(text)).check()


def spoil(ours: Ours, user: str, number: int) -> None:
    """Flip a byte in the frame of the message that was stored as number `number`."""
    store = open_store(Config.load(ours.config), readonly=True)
    owner = Owner("user", user)
    directory = store.directory_of(owner)
    assert directory is not None
    with store.read(owner) as reader:
        rows = reader.connection.execute("SELECT pack, offset, length FROM messages ORDER BY pack, offset")
        pack, offset, length = rows.fetchall()[number]
    store.close()
    with (directory / f"pack-{pack:06d}.zst").open("r+b") as file:
        file.seek(offset + length // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x55]))


def from_peer(ours: Ours, user: str, to: Address) -> tuple[int, str]:
    conf = ours.client_config(to)
    from .cyrus import finish
    from .ours import BIN, environment

    done = finish(
        [str(BIN / "mailstore"), "-C", str(conf), "repair", "--from-peer", user], 60, {"env": environment()}
    )
    return done.status, done.out + done.err


def uids(address: Address, user: str) -> list[int]:
    found = state_of(address, user)["mailboxes"][f"user.{user}"]["RECORD"]
    return sorted(uid for uid, record in found.items() if b"\\Expunged" not in record["FLAGS"])


@pytest.mark.covers("mailstore: commands and options", "dump --verify", "repair --from-peer")
def test_a_damaged_master_heals_from_its_replica(here: Ours, peer: Cyrus | Ours, user: str) -> None:
    fill(here, user, "one", "two", "three")
    here.sync_client("-u", user, to=peer.csync).check()
    spoil(here, user, 1)
    plain = here.dump(user)
    verified = here.mailstore("dump", "--verify", user)
    assert verified.status == 1 and '"message": "unreadable"' in verified.out
    assert '"unreadable"' not in plain, "the plain dump goes by the index"
    status, said = from_peer(here, user, peer.csync)
    assert status == 0 and f"user/{user} uid 2:" in said and "healed from" in said
    here.verify(user)
    assert here.mailstore("dump", "--verify", user).check().out == plain
    status, said = from_peer(here, user, peer.csync)
    assert status == 0 and "every message can be read" in said


def test_a_master_that_has_found_its_damage_heals_by_replication(
    here: Ours, peer: Cyrus | Ours, user: str
) -> None:
    fill(here, user, "one", "two", "three")
    here.sync_client("-u", user, to=peer.csync).check()
    spoil(here, user, 2)
    assert here.mailstore("verify", user).status == 1
    here.sync_client("-u", user, to=peer.csync).check()
    here.verify(user)


def test_a_new_replica_gets_all_but_the_damaged_message_and_that_when_it_is_back(
    here: Ours, peer: Cyrus | Ours, user: str
) -> None:
    fill(here, user, "one", "two", "three")
    spoil(here, user, 1)
    for _ in range(3):
        done = here.sync_client("-v", "-u", user, to=peer.csync)
        assert done.status == 1
        assert f"not replicated, as it cannot be read here: user/{user} uid 2" in done.err
        assert uids(peer.csync, user) == [1, 3]
    assert "MAILBOX" not in done.out.replace("MAILBOXES", ""), "nothing is sent a second time"
    here.mailstore("deliver", user, stdin=message("four")).check()
    assert here.sync_client("-u", user, to=peer.csync).status == 1
    assert uids(peer.csync, user) == [1, 3, 4]
    here.mailstore("create", f"user/{user}/copy").check()
    here.mailstore("deliver", "-m", "copy", user, stdin=message("two"))
    here.verify(user)
    here.sync_client("-u", user, to=peer.csync).check()
    assert len(uids(peer.csync, user)) == 4
    assert uids(peer.csync, user) == uids(here.csync, user)
    again = here.sync_client("-v", "-u", user, to=peer.csync).check()
    assert "MAILBOX" not in again.out


@pytest.mark.covers("mailstore: commands and options", "repair --from-peer")
def test_a_damaged_replica_heals_from_its_master(here: Ours, peer: Cyrus | Ours, user: str) -> None:
    """The master runs a csync server, too."""
    if isinstance(peer, Cyrus):
        peer.create_user(user)
        with peer.imap(user) as imap:
            imap.append("INBOX", *(message(text) for text in ("one", "two", "three")))
        peer.sync_client("-u", user, to=here.csync).check()
    else:
        fill(peer, user, "one", "two", "three")
        peer.sync_client("-u", user, to=here.csync).check()
    spoil(here, user, 0)
    assert here.mailstore("verify", user).status == 1
    status, said = from_peer(here, user, peer.csync)
    assert status == 0 and "healed from" in said
    here.verify(user)


def test_what_the_peer_has_not_either_is_named(here: Ours, peer: Cyrus | Ours, user: str) -> None:
    fill(here, user, "one", "two")
    spoil(here, user, 1)
    status, said = from_peer(here, user, peer.csync)
    assert status == 1 and "cannot be healed: the peer has no such message" in said


def test_after_sync_reset_a_bad_frame_of_the_replica_is_not_used_again(
    here: Ours, peer: Cyrus | Ours, user: str
) -> None:
    if isinstance(peer, Cyrus):
        pytest.skip("the reset replica is ours")
    fill(here, user, "one", "two", "three")
    here.sync_client("-u", user, to=peer.csync).check()
    spoil(peer, user, 1)
    from .cyrus import finish
    from .ours import BIN, environment

    reset = [str(BIN / "sync_reset"), "-C", str(peer.config), "-f", user]
    finish(reset, 60, {"env": environment()}).check()
    here.sync_client("-u", user, to=peer.csync).check()
    peer.verify(user)
    assert peer.mailstore("dump", "--verify", user).check().out == here.dump(user)


def test_damage_that_a_replica_of_ours_has_found_is_healed_by_the_next_run(
    here: Ours, peer: Cyrus | Ours, user: str
) -> None:
    if isinstance(peer, Cyrus):
        pytest.skip("a real Cyrus does not tell of its damage")
    fill(here, user, "one", "two", "three")
    here.sync_client("-u", user, to=peer.csync).check()
    spoil(peer, user, 1)
    assert peer.mailstore("verify", user).status == 1
    said = here.sync_client("-v", "-u", user, to=peer.csync).check().out
    assert f"HEAL {user}" in said
    peer.verify(user)
    assert "HEAL" not in here.sync_client("-v", "-u", user, to=peer.csync).check().out
