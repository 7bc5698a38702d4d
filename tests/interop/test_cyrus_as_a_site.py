"""A real Cyrus as a site of a family: packets out of its spool, while its daemons run.

Boston is the Cyrus, Bangalore and Sanfran have stores of ours. What `mailstore dump` says of them is the
same, octet for octet.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cyrus import Cyrus
from .fill import change_everything, fill_everything, message
from .ours import BIN, Ours, environment
from .releases import Release
from .running import Finished, finish
from .spools import files_of

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

CHANNELS = {"sync_log_channels": "multisite", "maxliteral": "0", "delete_mode": "delayed"}
HOW = ("--no-conversations", "--no-sieve-mailbox", "--no-partitions")


class Sites:
    """The family, and a directory in which packets travel."""

    def __init__(self, boston: Cyrus, others: list[Ours], trip: Path) -> None:
        self.boston = boston
        self.others = others
        self.trip = trip

    def found(self) -> None:
        """Boston makes the family; the others are made of its packets."""
        run(self.boston, "multitool", "mkfamily", "-name", "mail", "boston").check()
        (mine,) = [
            line
            for line in run(self.boston, "multitool", "keys").check().out.splitlines()
            if line.startswith("*")
        ]
        for other in self.others:
            packet = self.trip / f"new-{other.name}"
            target = f"{other.name}.lab:{other.name}"
            run(self.boston, "multitool", "mkreplica", "-export", "-out", packet, target).check()
            pinned = " ".join(mine.split()[2:])
            run(other, "multitool", "mkreplica", "-import", "-fingerprint", pinned, packet).check()
            packet.unlink()
            self.carry(other, self.boston)

    def carry(self, source: Cyrus | Ours, target: Cyrus | Ours) -> Finished:
        """One exchange; what the import said."""
        packet = self.trip / "packet"
        run(source, "syncreplica", "-export", "-out", packet, target.name).check()
        return run(target, "syncreplica", "-import", packet)

    def everywhere(self, *users: str) -> set[str]:
        """What the sites hold of these users: one text where all hold the same."""
        texts = {run(self.boston, "mailstore", "dump", "--source", "cyrus", *HOW, *users).check().out}
        texts |= {run(other, "mailstore", "dump", *HOW, *users).check().out for other in self.others}
        if self.boston.release.scripts_are_files:  # with us they are messages, which count in the quota
            texts = {re.sub(r'"used": \{.*?\}', "", text) for text in texts}
        return texts


def run(site: Cyrus | Ours, program: str, *words: str | Path) -> Finished:
    """One of our commands with a site's imapd.conf."""
    first, *rest = map(str, words)
    conf = ["-C", str(site.config)]
    line = [*conf, first, *rest] if program == "mailstore" else [first, *conf, *rest]
    return finish([str(BIN / program), *line], 120, {"env": environment()})


@pytest.fixture
def sites(real_cyrus: None, tmp_path: Path) -> Iterator[Sites]:
    with (
        Cyrus.running("boston", CHANNELS) as boston,
        Ours.installed("bangalore", {"sync_log_channels": "multisite"}, serving=False) as one,
        Ours.installed("sanfran", {"sync_log_channels": "multisite"}, serving=False) as two,
    ):
        yield Sites(boston, [one, two], tmp_path)


@pytest.mark.every_release
def test_what_a_cyrus_has_comes_to_all_sites_in_packets(sites: Sites, user: str, release: Release) -> None:
    boston, other = sites.boston, f"{user}b"
    fill_everything(boston, user, other)
    sites.found()
    assert len(sites.everywhere(user, other)) == 1

    change_everything(boston, user, other)
    with boston.imap(user) as imap:
        uid = imap.status("INBOX")["UIDNEXT"]
        imap.append("INBOX", message("to be expunged"), message("to be moved"))
        imap.select("INBOX")
        imap.store(str(uid), "+FLAGS", "\\Deleted")
        imap.ok("UID", "EXPUNGE", str(uid))
        imap.ok("UID", "MOVE", str(uid + 1), "INBOX/empty")
    with boston.imap() as admin:
        admin.ok("CREATE", "shared")
    packet = sites.trip / "both"
    run(boston, "syncreplica", "-export", "-out", packet, "bangalore").check()
    log = boston.root / "conf" / "sync" / "multisite"
    assert not [path.name for path in log.glob("log*") if path.name != "log-claim"], "the channel was read"
    said = run(sites.others[0], "syncreplica", "-import", packet).check()
    assert "Applied sync. packet" in said.out and not said.err, said.describe()
    assert sites.carry(sites.others[0], sites.others[1]).check().err == "", "a site passes on what it heard"
    assert len(sites.everywhere(user, other)) == 1
    for site in sites.others:
        site.verify()


def test_a_message_that_was_moved_meanwhile_is_found_and_one_that_is_damaged_is_named(
    sites: Sites, user: str
) -> None:
    boston, (one, two) = sites.boston, sites.others
    boston.create_user(user, f"{user}b")
    sites.found()
    with boston.imap(user) as imap:
        imap.ok("CREATE", "INBOX/later")
        imap.append("INBOX", message("moved"), message("sound"))
    with boston.imap(f"{user}b") as imap:
        imap.append("INBOX", message("damaged"))
    sites.carry(boston, one).check()
    with boston.imap(user) as imap:
        imap.select("INBOX")
        imap.ok("UID", "MOVE", "1", "INBOX/later")
    boston.tool("cyr_expire", "-E", "1", "-X", "0").check()
    assert not (files_of(boston, f"user/{user}").messages / "1.").exists()
    (files_of(boston, f"user/{user}b").messages / "1.").write_bytes(b"Subject: other octets\r\n\r\n")
    told = run(boston, "syncreplica", "-export", "-out", sites.trip / "packet", "sanfran")
    assert told.status == 1
    damaged = hashlib.sha1(message("damaged")).hexdigest()
    assert re.findall(r"message (\w{40}) of .* cannot be read and is left out", told.err) == [damaged]
    run(two, "syncreplica", "-import", sites.trip / "packet")
    assert {hashlib.sha1(message(what)).hexdigest() in two.dump(user) for what in ("moved", "sound")} == {
        True
    }


@pytest.mark.every_release
def test_what_a_packet_would_write_into_the_spool_is_refused_and_all_else_goes_on(
    sites: Sites, user: str
) -> None:
    boston, one = sites.boston, sites.others[0]
    boston.create_user(user)
    sites.found()
    one.mailstore("create", f"user/{user}b").check()
    one.mailstore("flag", f"user/{user}", "1", "--add", "\\Seen")
    one.mailstore("create", f"user/{user}/made").check()
    said = sites.carry(one, boston)
    assert "is set aside: the mail of this site is the spool of a real Cyrus, which is only read" in said.err
    assert "Applied sync. packet" in said.out
    with boston.imap(user) as imap:
        imap.append("INBOX", message("goes on"))
    sites.carry(boston, one)
    assert hashlib.sha1(message("goes on")).hexdigest() in one.dump(user)
