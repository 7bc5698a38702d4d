"""A chain that ends in a real Cyrus: Boston's mail comes to Bangalore in packets, and Bangalore's sync_client
brings it into the Cyrus beside it.

Boston and the Cyrus never meet. What a user sees there over IMAP must be what Boston has: UIDs, flags,
modseqs, annotations, quota, subscriptions, scripts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailWriter
from tests.deadlines import until

from .csync import differences, scripts_of, state_of
from .cyrus import Cyrus
from .fill import SCRIPT, message
from .ours import BIN, Ours, environment
from .proxy import Proxy
from .running import Finished, finish
from .test_our_client_real_server import JANUARY, fill_our_store
from .view import view


def pinned(maker: Ours) -> tuple[str, str]:
    """What whoever imports a creation packet of `maker` types."""
    shown = command(maker, "multitool", "keys").check().out
    (mine,) = [line for line in shown.splitlines() if line.startswith("*")]
    return "-fingerprint", " ".join(mine.split()[2:])


class Chain:
    """Boston, which has the mail, and Bangalore, which passes it on to a Cyrus."""

    def __init__(self, boston: Ours, bangalore: Ours, trip: Path) -> None:
        self.boston = boston
        self.bangalore = bangalore
        self._packet = trip / "packet"
        command(boston, "multitool", "mkfamily", "-name", "mail", "boston").check()
        creation = f"bangalore.lab:{bangalore.name}"
        command(boston, "multitool", "mkreplica", "-export", "-out", self._packet, creation).check()
        command(bangalore, "multitool", "mkreplica", "-import", *pinned(boston), self._packet).check()
        self._packet.unlink()
        self.carry(back=True)

    def carry(self, *, back: bool = False) -> None:
        """One packet from Boston to Bangalore, or back; there has to be something in it."""
        source, target = (self.bangalore, self.boston) if back else (self.boston, self.bangalore)
        command(source, "syncreplica", "-export", "-out", self._packet, target.name).check()
        done = command(target, "syncreplica", "-import", self._packet).check()
        assert done.out.startswith(f"Applied sync. packet {self._packet} to VOB "), done.describe()
        assert not done.err, done.describe()

    def write(self, user: str) -> AbstractContextManager[MailWriter]:
        """Change a user's mail in Boston."""
        return self.boston.store.write(Owner("user", user))

    def push(self, replica: Cyrus, *users: str) -> None:
        """Bangalore's users to the Cyrus, twice: the second run has nothing to do."""
        self.bangalore.sync_client("-u", *users, to=replica.csync).check()
        with Proxy(replica.csync) as proxy:
            self.bangalore.sync_client("-u", *users, to=proxy.address).check()
            assert proxy.commands("GET USER")
            changes = [line for line in proxy.commands("APPLY ") if "CAPABILITIES" not in line]
            assert changes == []


def command(site: Ours, program: str, *words: str | Path) -> Finished:
    """Run one of the multisite commands at a site."""
    first, *rest = map(str, words)
    # multitool wants its subcommand first; syncreplica takes options in any order.
    line = [str(BIN / program), first, "-C", str(site.config), *rest]
    return finish(line, 120, {"env": environment()})


@pytest.fixture(scope="module")
def chain(real_cyrus: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    boston = {"sync_log_channels": "multisite"}
    bangalore = {"sync_log_channels": '"" multisite', "sync_log_chain": "yes"}
    with Ours.installed("boston", boston) as one, Ours.installed("bangalore", bangalore) as other:
        yield Chain(one, other, tmp_path_factory.mktemp("trip"))
        one.verify()
        other.verify()


def without_scripts(state: dict[str, Any]) -> dict[str, Any]:
    """What three servers have in common: the mailboxes of scripts are each server's own."""
    boxes = {name: box for name, box in state["mailboxes"].items() if not name.endswith(".#sieve")}
    return {**state, "mailboxes": boxes}


def unlike(chain: Chain, replica: Cyrus, user: str, *, expunged: bool = True) -> list[str]:
    """Where the Cyrus differs from Boston; `expunged` messages count."""
    here, there = (
        without_scripts(state_of(address, user, expunged)) for address in (chain.boston.csync, replica.csync)
    )
    found = differences(here, there)
    if scripts_of(chain.boston.csync, user) != scripts_of(replica.csync, user):
        found.append("scripts")
    return found


def flags_by_uid(replica: Cyrus, user: str, folder: str = "INBOX") -> dict[int, frozenset[str]]:
    """As the user sees them over IMAP."""
    return {uid: seen.flags for uid, seen in view(replica, user).mailboxes[folder].messages.items()}


def test_mail_that_came_in_packets_is_the_same_in_a_real_cyrus(
    chain: Chain, replica: Cyrus, user: str
) -> None:
    inbox = f"user.{user}"
    with chain.write(user) as box:
        fill_our_store(box, user)
    chain.carry()
    chain.push(replica, user)
    assert unlike(chain, replica, user) == []
    seen = view(replica, user)
    here = state_of(chain.boston.csync, user)["mailboxes"]
    assert [m.sha1 for m in seen.mailboxes["INBOX"].messages.values()][:2] == [
        hashlib.sha1(message(subject)).hexdigest() for subject in ("one", "two")
    ]
    for name, mailbox in seen.mailboxes.items():
        told = here[(inbox + name.removeprefix("INBOX").replace(".", "^")).replace("/", ".")]
        assert mailbox.highestmodseq == int(told["HIGHESTMODSEQ"])
        assert mailbox.uidvalidity == int(told["UIDVALIDITY"])
        assert mailbox.uidnext == int(told["LAST_UID"]) + 1
        live = {uid: r for uid, r in told["RECORD"].items() if b"\\Expunged" not in r["FLAGS"]}
        assert {uid: m.modseq for uid, m in mailbox.messages.items()} == {
            uid: int(record["MODSEQ"]) for uid, record in live.items()
        }
    assert seen.mailboxes["INBOX"].messages[2].flags == {"\\Flagged", "$Label1", "Work"}
    assert seen.mailboxes["INBOX"].messages[1].annotations[("/comment", "value.priv")] == b"my note"
    assert seen.mailboxes["INBOX/lists"].metadata["/shared/comment"] == b"shared words"
    assert list(seen.mailboxes["INBOX/lists"].messages) == [1]
    assert seen.subscriptions == ["INBOX/lists"]
    assert seen.quota["INBOX"]["STORAGE"][1] == 100_000
    assert scripts_of(replica.csync, user) == {"main": (SCRIPT, True)}
    assert "recon" not in replica.tool("reconstruct", "-n", "-r", f"user/{user}").check().err


def test_the_changes_of_a_second_packet_follow(chain: Chain, replica: Cyrus, user: str) -> None:
    inbox = f"user.{user}"
    with chain.write(user) as box:
        fill_our_store(box, user)
    chain.carry()
    chain.push(replica, user)
    with chain.write(user) as box:
        box.set_flags(inbox, [1], add=["\\Flagged", "Urgent"], remove=["\\Seen"])
        box.expunge(inbox, [2])
        box.append(inbox, [(message("new"), JANUARY, "$Label1")])
        box.copy(inbox, [3], f"{inbox}.lists", move=True)
        box.annotate(f"{inbox}.lists", "/comment", "", None)
        box.annotate(inbox, "/comment", user, b"another note", uid=1)
        box.set_acl(f"{inbox}.lists", "anyone", "")
        box.set_quota(inbox, {"STORAGE": 200_000})
        box.subscribe(f"{inbox}.lists", False)
        box.subscribe(f"{inbox}.empty")
        box.create(f"{inbox}.later")
        box.delete(f"{inbox}.with space", delayed=False)
        box.put_script("main", SCRIPT + b"keep;\r\n")
        box.put_script("other", SCRIPT)
        box.activate_script("other")
    chain.boston.store.rename(f"{inbox}.lists", f"{inbox}.renamed", log=True)
    chain.boston.store.rename(f"{inbox}.lists.cyrus", f"{inbox}.renamed.cyrus", log=True)
    chain.carry()
    chain.push(replica, user)
    assert unlike(chain, replica, user) == []
    assert flags_by_uid(replica, user)[1] == {"\\Flagged", "Urgent"}
    assert not {2, 3} & set(flags_by_uid(replica, user))
    seen = view(replica, user)
    assert {"INBOX/renamed", "INBOX/renamed/cyrus", "INBOX/later"} < set(seen.mailboxes)
    assert not {"INBOX/lists", "INBOX/with space"} & set(seen.mailboxes)
    assert seen.subscriptions == ["INBOX/empty"]
    assert scripts_of(replica.csync, user) == {
        "main": (SCRIPT + b"keep;\r\n", False),
        "other": (SCRIPT, True),
    }


def test_what_others_have_seen_follows(chain: Chain, replica: Cyrus, user: str) -> None:
    other = f"{user}b"
    with chain.write(user) as box:
        box.create(f"user.{user}")
        shared = box.create(f"user.{user}.shared", acl=f"{user}\tlrswipkxtecdan\t{other}\tlrs\t")
        box.append(shared.name, [(message("one"), JANUARY, ""), (message("two"), JANUARY, "")])
    with chain.write(other) as box:
        box.create(f"user.{other}")
        box.set_seen(Seen(shared.uniqueid, JANUARY, 2, JANUARY, "1"))
    chain.carry()
    chain.push(replica, user, other)
    with replica.imap(other) as imap:
        assert imap.status(f"user/{user}/shared")["UNSEEN"] == 1


def test_mail_of_either_site_comes_together_in_the_cyrus(chain: Chain, replica: Cyrus, user: str) -> None:
    inbox = f"user.{user}"
    with chain.write(user) as box:
        box.create(inbox)
        box.append(inbox, [(message("first"), JANUARY, "")])
    chain.carry()
    chain.push(replica, user)
    with chain.write(user) as box:
        box.append(inbox, [(message("at boston"), JANUARY + 1, "")])
    with chain.bangalore.store.write(Owner("user", user)) as box:
        box.append(inbox, [(message("at bangalore"), JANUARY + 2, "")])
    chain.push(replica, user)
    for _ in range(2):
        # The second time it is the new UIDVALIDITY that travels: UID 2 was another message in the Cyrus.
        chain.carry(back=True)
        chain.carry()
        chain.push(replica, user)
    # What is expunged under UID 2 is the message that each had there.
    assert unlike(chain, replica, user, expunged=False) == []
    assert {m.sha1 for m in view(replica, user).mailboxes["INBOX"].messages.values()} == {
        hashlib.sha1(message(subject)).hexdigest() for subject in ("first", "at boston", "at bangalore")
    }


def test_a_rolling_client_passes_on_what_packets_bring(chain: Chain, replica: Cyrus, user: str) -> None:
    inbox = f"user.{user}"
    with chain.bangalore.roll("-d", "1", to=replica.csync):
        with chain.write(user) as box:
            fill_our_store(box, user)
        chain.carry()
        until(lambda: unlike(chain, replica, user) == [], "everything is there")
        with chain.write(user) as box:
            box.set_flags(inbox, [1], add=["Carried"])
            box.expunge(inbox, [2])
            box.delete(f"{inbox}.empty", delayed=False)
            box.activate_script(None)
        chain.boston.store.rename(f"{inbox}.with space", f"{inbox}.without", log=True)
        chain.carry()
        until(lambda: unlike(chain, replica, user) == [], "the changes are there")
        assert "Carried" in flags_by_uid(replica, user)[1]
        chain.boston.mailstore("delete", f"user/{user}").check()
        chain.carry()
        with replica.imap() as admin:
            until(lambda: not admin.answers("LIST", "LIST", '""', f"user/{user}*"), "the user is gone")


def test_without_a_chain_only_local_changes_are_passed_on(chain: Chain, tmp_path: Path, user: str) -> None:
    """The packet's changes are in the log of no channel then: they are Boston's to tell."""
    unchained = tmp_path / "imapd.conf"
    unchained.write_text(chain.bangalore.config.read_text().replace("sync_log_chain: yes", ""))
    with chain.write(user) as box:
        box.create(f"user.{user}")
    packet = tmp_path / "packet"
    command(chain.boston, "syncreplica", "-export", "-out", packet, "bangalore").check()
    line = [str(BIN / "syncreplica"), "-import", "-C", str(unchained), str(packet)]
    finish(line, 60, {"env": environment()}).check()
    log = chain.bangalore.sync_log
    assert user not in (log.read_text() if log.exists() else "")
