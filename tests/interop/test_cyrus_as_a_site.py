"""A real Cyrus as a site of a family: packets out of its spool, while its daemons run.

Boston is the Cyrus, Bangalore and Sanfran have stores of ours. What `mailstore dump` says of them is the
same, octet for octet.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner

from .cyrus import ADMIN, PASSWORD, Cyrus
from .fill import SCRIPT, change_everything, fill_everything, message
from .ours import BIN, Ours, environment
from .releases import SAME_FILES, Release
from .running import Finished, finish
from .spools import files_of
from .test_our_client_real_server import fill_our_store

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
        """One exchange; what the import said, or where there is nothing to tell the export."""
        packet = self.trip / "packet"
        told = run(source, "syncreplica", "-export", "-out", packet, target.name).check()
        return run(target, "syncreplica", "-import", packet) if packet.exists() else told

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


# -- into the Cyrus


@pytest.fixture
def changeable(sites: Sites) -> Sites:
    """Boston's own csync server may be used."""
    boston = sites.boston
    with boston.config.open("a") as config:
        config.write(f"cyrus_csync: 127.0.0.1:{boston.csync[1]}\n")
        config.write(f"cyrus_csync_authname: {ADMIN}\ncyrus_csync_password: {PASSWORD}\n")
    boston.config.chmod(0o600)
    return sites


def change_at(site: Ours, user: str) -> None:
    """Something of every kind, at one of our sites."""
    inbox = f"user.{user}"
    with site.store.write(Owner("user", user)) as box:
        box.append(inbox, [(message("from there"), 1_700_000_000, "\\Flagged Work")])
        box.set_flags(inbox, [1], add=["\\Seen", "Label"])
        box.create(f"{inbox}.made")
        box.append(f"{inbox}.made", [(message("in made"), 1_700_000_001, "")])
        box.copy(inbox, [2], f"{inbox}.made", move=True)
        box.annotate(f"{inbox}.made", "/comment", "", b"shared words")
        box.annotate(inbox, "/comment", user, b"my note", uid=1)
        box.set_acl(f"{inbox}.made", "anyone", "lrs")
        box.set_quota(inbox, {"STORAGE": 54_321})
        box.subscribe(f"{inbox}.made")
        box.put_script("main", SCRIPT)
        box.activate_script("main")
        box.delete(f"{inbox}.going", delayed=False)
    site.store.rename(f"{inbox}.old", f"{inbox}.new", log=True)


def fill_little(boston: Cyrus, user: str) -> None:
    boston.create_user(user)
    with boston.imap(user) as imap:
        imap.append("INBOX", message("one"), message("two"), message("three"))
        for folder in ("old", "going"):
            imap.ok("CREATE", f"INBOX/{folder}")
            imap.append(f"INBOX/{folder}", message(f"in {folder}"))


def round_of(sites: Sites) -> list[str]:
    """Everybody to Boston, and Boston to everybody; what was said on stderr."""
    said = [sites.carry(other, sites.boston).err for other in sites.others]
    return said + [sites.carry(sites.boston, other).err for other in sites.others]


@pytest.mark.every_release(without=SAME_FILES)
def test_what_others_change_of_a_user_whose_master_is_the_cyrus_is_settled_there(
    changeable: Sites, user: str
) -> None:
    sites, one = changeable, changeable.others[0]
    fill_little(sites.boston, user)
    sites.found()
    change_at(one, user)
    assert round_of(sites) == [""] * 4
    (text, *others) = sites.everywhere(user)
    assert not others, "\n".join(difflib.unified_diff(text.splitlines(), others[0].splitlines()))
    with sites.boston.imap(user) as imap:
        assert imap.status("INBOX")["MESSAGES"] == 3
        assert {"INBOX", "INBOX/made", "INBOX/new"} == set(imap.mailboxes())
        assert imap.subscriptions() == ["INBOX/made"]
    round_of(sites)
    assert len(sites.everywhere(user)) == 1, "it has come to rest"
    for site in sites.others:
        site.verify()
    assert "recon" not in sites.boston.tool("reconstruct", "-n", "-r", f"user/{user}").check().err


def test_a_user_whose_master_is_another_site_is_made_and_followed_in_the_cyrus(
    changeable: Sites, user: str
) -> None:
    sites, one = changeable, changeable.others[0]
    sites.found()
    with one.store.write(Owner("user", user)) as box:
        fill_our_store(box, user)
        box.create(f"user.{user}.old")
        box.create(f"user.{user}.going")
    assert round_of(sites) == [""] * 4
    assert len(sites.everywhere(user)) == 1
    with one.store.write(Owner("user", user)) as box:
        box.expunge(f"user.{user}", [2])
        box.copy(f"user.{user}", [3], f"user.{user}.old", move=True)
        box.set_flags(f"user.{user}", [1], remove=["\\Seen"])
        box.set_acl(f"user.{user}.lists", "anyone", "")
        box.subscribe(f"user.{user}.lists", False)
        box.delete(f"user.{user}.going", delayed=False)
        box.put_script("main", SCRIPT + b"keep;\r\n")
    one.store.rename(f"user.{user}.old", f"user.{user}.new", log=True)
    assert round_of(sites) == [""] * 4
    assert len(sites.everywhere(user)) == 1
    sites.boston.create_user(f"{user}b")
    with sites.boston.imap(user) as imap:  # where the master is elsewhere, the Cyrus proposes
        imap.append("INBOX", message("at the Cyrus"))
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "\\Flagged Urgent")
        imap.ok("CREATE", "INBOX/boston")
    said = [round_of(sites) for _ in range(2)]
    assert said == [[""] * 4] * 2
    assert len(sites.everywhere(user, f"{user}b")) == 1
    assert hashlib.sha1(message("at the Cyrus")).hexdigest() in one.dump(user)
    one.mailstore("delete", f"user/{user}").check()
    round_of(sites)
    round_of(sites)
    with sites.boston.imap() as admin:
        assert not admin.answers("LIST", "LIST", '""', f"user/{user}")


def test_mail_that_came_to_both_is_kept_by_a_cyrus_that_is_master(changeable: Sites, user: str) -> None:
    sites, one = changeable, changeable.others[0]
    fill_little(sites.boston, user)
    sites.found()
    inbox = f"user.{user}"
    with one.store.write(Owner("user", user)) as box:
        box.append(inbox, [(message("at bangalore"), 1_700_000_000, ""), (message("two of it"), 5, "")])
        box.set_flags(inbox, [1], add=["Bangalore"])
        box.expunge(inbox, [2])
    with sites.boston.imap(user) as imap:
        imap.append("INBOX", message("at boston"))
        imap.select("INBOX")
        imap.store("3", "+FLAGS", "Boston")
    for _ in range(2):
        round_of(sites)
    assert len(sites.everywhere(user)) == 1
    with sites.boston.imap(user) as imap:
        assert imap.status("INBOX")["MESSAGES"] == 5
    dump = one.dump(user)
    for what in ("one", "three", "at boston", "at bangalore", "two of it"):
        assert hashlib.sha1(message(what)).hexdigest() in dump, what


def test_what_cannot_be_said_to_a_cyrus_is_named_and_mastership_is_the_way_out(
    changeable: Sites, user: str
) -> None:
    """Under one UID there is one message in a Cyrus, for good: only a master renumbers."""
    sites, one = changeable, changeable.others[0]
    sites.found()
    inbox, other = f"user.{user}", f"user.{user}b"
    for name in (inbox, other):
        with one.store.write(Owner("user", name.removeprefix("user."))) as box:
            box.create(name)
            box.append(name, [(message("one"), 1_700_000_000, "")])
    round_of(sites)
    with one.store.write(Owner("user", user)) as box:
        box.append(inbox, [(message("at bangalore"), 1_700_000_000, "")])
    with one.store.write(Owner("user", f"{user}b")) as box:
        box.append(other, [(message("goes on"), 1_700_000_000, "")])
    with sites.boston.imap(user) as imap:
        imap.append("INBOX", message("at boston"))
    (said, *_) = round_of(sites)
    assert f"is set aside: UID 2 is message {hashlib.sha1(message('at boston')).hexdigest()} here" in said
    assert f"multitool chmaster -force boston {user}" in said
    with sites.boston.imap(f"{user}b") as imap:
        assert imap.status("INBOX")["MESSAGES"] == 2
    run(sites.boston, "multitool", "chmaster", "-force", "boston", user).check()
    for _ in range(3):
        round_of(sites)
    assert len(sites.everywhere(user, f"{user}b")) == 1
    with sites.boston.imap(user) as imap:
        assert imap.status("INBOX")["MESSAGES"] == 3
    assert run(sites.boston, "multitool", "setaside").check().out == ""


def test_where_its_server_is_away_the_packet_stays_and_is_applied_later(changeable: Sites, user: str) -> None:
    sites, one = changeable, changeable.others[0]
    fill_little(sites.boston, user)
    sites.found()
    change_at(one, user)
    right = sites.boston.config.read_text()
    sites.boston.config.write_text(right.replace(f"127.0.0.1:{sites.boston.csync[1]}", "127.0.0.1:1"))
    said = sites.carry(one, sites.boston)
    assert said.status == 75
    assert "cyrus_csync (127.0.0.1:1): " in said.err
    assert (sites.trip / "packet").exists()
    sites.boston.config.write_text(right)
    run(sites.boston, "syncreplica", "-import", sites.trip / "packet").check()
    round_of(sites)
    assert len(sites.everywhere(user)) == 1


def test_mail_that_comes_while_a_packet_is_applied_disturbs_nothing(changeable: Sites, user: str) -> None:
    sites, one = changeable, changeable.others[0]
    fill_little(sites.boston, user)
    sites.found()
    inbox = f"user.{user}"
    with one.store.write(Owner("user", user)) as box:
        for number in range(60):
            box.append(inbox, [(message(f"from there {number}"), 1_700_000_000, "")])
            box.set_flags(inbox, [1], add=[f"kw{number % 7}"])
    packet = sites.trip / "packet"
    run(one, "syncreplica", "-export", "-out", packet, "boston").check()
    stop = threading.Event()

    def be_busy() -> int:
        with sites.boston.imap(user) as imap:
            imap.select("INBOX")
            count = 0
            while not stop.wait(0.03):
                imap.append("INBOX", message(f"meanwhile {count}"))
                imap.store("2:3", "+FLAGS" if count % 2 else "-FLAGS", "Busy")
                count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(be_busy)
        done = run(sites.boston, "syncreplica", "-import", packet)
        stop.set()
        came = busy.result()
    assert done.status == 0 and not done.err, done.describe()
    for _ in range(2):
        round_of(sites)
    assert len(sites.everywhere(user)) == 1
    with sites.boston.imap(user) as imap:
        assert imap.status("INBOX")["MESSAGES"] == 3 + 60 + came


def test_a_cyrus_that_was_away_for_too_long_is_made_anew_through_its_own_server(
    changeable: Sites, user: str
) -> None:
    """Of a user whose master is the Cyrus, and of one whose master is another site."""
    sites, one, other = changeable, changeable.others[0], f"{user}b"
    fill_little(sites.boston, user)
    sites.found()
    with one.store.write(Owner("user", other)) as box:
        fill_our_store(box, other)
    assert round_of(sites) == [""] * 4
    change_at(one, user)  # which the Cyrus has not answered yet
    with one.store.write(Owner("user", other)) as box:
        box.expunge(f"user.{other}", [2])
    snapshot = sites.trip / "snapshot"
    run(one, "multitool", "mkreplica", "-export", "-replace", "-out", snapshot, "boston").check()
    said = run(sites.boston, "multitool", "mkreplica", "-import", "-replace", snapshot).check()
    assert "boston@mail is made anew" in said.out and not said.err, said.describe()
    # It tells in a new reign what it has; the others propose what they have; it answers.
    assert [round_of(sites) for _ in range(3)][-1] == [""] * 4
    texts = sites.everywhere(user, other)
    assert len(texts) == 1
    with sites.boston.imap(user) as imap:
        assert {"INBOX", "INBOX/made", "INBOX/new"} <= set(imap.mailboxes())
        imap.append("INBOX", message("life goes on"))
    round_of(sites)
    round_of(sites)
    assert len(sites.everywhere(user, other)) == 1
    assert hashlib.sha1(message("life goes on")).hexdigest() in one.dump(user)
    assert "recon" not in sites.boston.tool("reconstruct", "-n", "-r", f"user/{user}").check().err


def test_who_is_killed_while_a_cyrus_is_made_anew_is_run_again(changeable: Sites, user: str) -> None:
    sites, one = changeable, changeable.others[0]
    fill_little(sites.boston, user)
    sites.found()
    change_at(one, user)
    round_of(sites)
    round_of(sites)
    snapshot = sites.trip / "snapshot"
    run(one, "multitool", "mkreplica", "-export", "-replace", "-out", snapshot, "boston").check()
    command = [BIN / "multitool", "mkreplica", "-C", sites.boston.config, "-import", "-replace", snapshot]
    with sites.boston.imap() as admin:

        def is_there() -> bool:
            return bool(admin.answers("LIST", "LIST", '""', f"user/{user}"))

        ends = [killed_when(lambda: not is_there(), command)]  # while the mail is removed
        ends.append(killed_when(is_there, command))  # while it is brought back
    # Where nothing else may run for a while, one of them comes too late.
    assert -signal.SIGKILL in ends and set(ends) <= {-signal.SIGKILL, 0}
    said = run(sites.boston, "multitool", "mkreplica", "-import", "-replace", snapshot).check()
    assert "boston@mail is made anew" in said.out, said.describe()
    for _ in range(3):
        round_of(sites)
    assert len(sites.everywhere(user)) == 1
    with sites.boston.imap(user) as imap:
        assert imap.status("INBOX")["MESSAGES"] == 3
        assert {"INBOX", "INBOX/made", "INBOX/new"} <= set(imap.mailboxes())
    assert "recon" not in sites.boston.tool("reconstruct", "-n", "-r", f"user/{user}").check().err


def killed_when(moment: Callable[[], bool], command: Sequence[str | Path]) -> int:
    """The exit status of a command that is killed as soon as the moment has come."""
    with subprocess.Popen(
        list(map(str, command)), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not moment():
            time.sleep(0.002)
        process.kill()
        return process.wait()
