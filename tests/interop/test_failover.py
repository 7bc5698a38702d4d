"""A real Cyrus burns in the middle of deliveries, ours takes over, and everything goes home again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from tests.deadlines import until

from .beside import BesideCyrus
from .csync import differences, state_of
from .cyrus import Address, Cyrus
from .fill import change_everything, fill_everything, message
from .ours import BIN, Ours, environment
from .running import Finished, finish, processes_of
from .sides import OurSide, RealSide, guids


def tool(conf: Path, *words: str) -> Finished:
    return finish([str(BIN / "cyrus-sync"), "-C", str(conf), *words], 120, {"env": environment()})


def burn(cyrus: BesideCyrus) -> None:
    """Everything of it ends, as it stands."""
    assert cyrus.master is not None
    cyrus.master.kill()
    for pid in processes_of(cyrus.root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not processes_of(cyrus.root), "it has burnt down")
    cyrus.stop()


class Deliveries:
    """Mail that comes by LMTP all the time. `acknowledged` is what was answered."""

    def __init__(self, cyrus: Cyrus, *users: str) -> None:
        self.acknowledged: dict[str, set[str]] = {user: set() for user in users}
        self._cyrus = cyrus
        self._users = users
        self._thread = threading.Thread(target=self._deliver, daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def _deliver(self) -> None:
        with contextlib.suppress(OSError, EOFError, AssertionError, ValueError, IndexError):
            while True:
                user = self._users[self.count % len(self._users)]
                subject = f"mail {self.count} of {user}"
                self._cyrus.deliver(message(subject), user)
                self.acknowledged[user].add(subject)

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def subjects(ours: Ours, user: str) -> set[str]:
    found = set()
    with ours.store.read(Owner("user", user)) as reader:
        for state in reader.mailboxes():
            for batch in reader.records(state.uniqueid):
                for record in batch:
                    body = None if record.expunged else reader.body(record.guid)
                    if body is not None:
                        data = body.data if isinstance(body.data, bytes) else b"".join(body.data)
                        found.add(re.findall(rb"^Subject: (.*)\r$", data, re.MULTILINE)[0].decode())
    return found


def rescue(cyrus: BesideCyrus, to: Address, *options: str) -> Finished:
    """Typed on the burnt host, whose disk can be read."""
    conf = cyrus.client_config(to, {"sync_allowplaintext": "yes"})
    conf.chmod(0o600)
    return tool(conf, "rescue", "--source", "cyrus", *options)


@pytest.mark.every_release
def test_a_store_that_only_replication_may_change_takes_all_that_a_real_master_sends(user: str) -> None:
    other = f"{user}b"
    with (
        Cyrus.running("master", {"maxliteral": "0"}) as cyrus,
        Ours.installed("replica", {"maxliteral": "0", "replicaonly": "yes"}) as ours,
    ):
        fill_everything(cyrus, user, other)
        cyrus.sync_client("-u", user, other, to=ours.csync).check()
        change_everything(cyrus, user, other)
        with cyrus.imap(user) as imap:
            imap.ok("CREATE", "INBOX/short")
            imap.append("INBOX/short", message("short-lived"))
            imap.ok("RENAME", "INBOX/short", "INBOX/long")
            imap.ok("DELETE", "INBOX/long")
        cyrus.sync_client("-u", user, other, to=ours.csync).check()
        for one in (user, other):
            assert differences(state_of(cyrus.csync, one), state_of(ours.csync, one)) == []
        ours.verify()


@pytest.mark.covers("cyrus-sync: commands and options", "rescue --source")
def test_a_real_master_burns_ours_takes_over_both_live_on_and_all_goes_home(user: str) -> None:
    other = f"{user}b"
    with (
        BesideCyrus.running("master", {"maxliteral": "0"}) as cyrus,
        Ours.installed("replica", {"maxliteral": "0", "replicaonly": "yes"}) as ours,
    ):
        assert isinstance(cyrus, BesideCyrus)
        cyrus.create_user(user, other)
        with cyrus.imap(user) as imap:
            imap.ok("CREATE", "INBOX/Work")
        cyrus.sync_client("-A", to=ours.csync).check()
        rolling = cyrus.roll("-d", "1", to=ours.csync)
        mail = Deliveries(cyrus, user, other)
        until(lambda: len(subjects(ours, user)) > 5, "mail is replicated")
        # It burns in the middle of deliveries.
        rolling.process.send_signal(signal.SIGKILL)
        rolling.process.wait()
        burning = mail.count
        until(lambda: mail.count > burning + 4, "mail comes that nobody replicates any more")
        alive = tool(ours.config, "promote", "--old-master", f"127.0.0.1:{cyrus.ports['imap']}")
        assert alive.status == 1 and "it may still take mail" in alive.out
        burn(cyrus)
        mail.join()
        forced = tool(
            ours.config, "promote", "--force", "--old-master", f"127.0.0.1:{cyrus.ports['imap']}"
        ).check()
        assert "replica.lab is the master now" in forced.out
        # Ours lives on.
        ours.mailstore("deliver", user, stdin=message("at ours")).check()
        assert ours.mailstore("flag", f"user/{user}", "1", "-a", "\\Flagged").status == 0
        # The host is up again for a while, and takes mail, and its user renames a folder.
        cyrus.start()
        cyrus.deliver(message("at the old one"), user)
        with cyrus.imap(user) as imap:
            imap.append("INBOX/Work", message("in the folder"))
            imap.ok("RENAME", "INBOX/Work", "INBOX/Play")
        late = cyrus.follow(ours.csync)
        assert late.status != 0 and "takes nothing until cyrus-sync demote" in late.err
        cyrus.stop()
        # What its disk holds is brought over, and what it has done besides is told.
        told = rescue(cyrus, ours.csync).check().out
        assert f"{user}: renamed here to user/{user}/Play; it stays user/{user}/Work" in told
        everything = {user: mail.acknowledged[user] | {"at ours", "at the old one", "in the folder"}}
        everything[other] = mail.acknowledged[other]
        for one in (user, other):
            assert everything[one] <= subjects(ours, one), "nothing that was acknowledged is lost"
        assert "0 messages and 0 mailboxes added" in rescue(cyrus, ours.csync).check().out
        ours.verify()
        # Home again: the Cyrus becomes a replica of ours, then the master.
        cyrus.start()
        ours.sync_client("-A", to=cyrus.csync).check()
        drained = ours.sync_client("--drain", to=cyrus.csync)
        assert drained.status == 0, drained.describe()
        assert ours.mailstore("deliver", user, stdin=message("too late")).status == 75
        for one in (user, other):
            assert guids(RealSide(cyrus), one) == guids(OurSide(ours), one)
        assert f"user.{user}.Work" in state_of(cyrus.csync, user)["mailboxes"]
        tool(ours.config, "demote", "--force").check()
        cyrus.deliver(message("home"), user)
        cyrus.sync_client("-A", to=ours.csync).check()
        assert "home" in subjects(ours, user)
        ended = cyrus.sync_client("--compare", "--messages", to=ours.csync)
        assert ended.status == 0, ended.describe()
        # And once more as it is planned: its services are stopped, what it has goes out, ours is told.
        drained = cyrus.sync_client("--drain", to=ours.csync)
        assert drained.status == 0 and "cannot be kept from taking more" in drained.err, drained.describe()
        assert "replica.lab is the master now" in tool(ours.config, "promote").check().out
