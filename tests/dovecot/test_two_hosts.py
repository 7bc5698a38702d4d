"""Two hosts with a Dovecot each, as in docs/dovecot.md: one pulls from the other, stands by, takes over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from tests.dovecot.conftest import running_or_skipped
from tests.dovecot.dovecot import Dovecot, Mailbox, names, view
from tests.dovecot.running import MASTER, MASTER_PASSWORD, Server
from tests.dovecot.test_dovecot import write
from tests.interop.running import finish
from tests.mailstore.conftest import Site

USERS = ("alice", "bruno")
HOW: dict[str, Any] = {"escape": True, "users": USERS}
_SYNC_CLIENT = (
    sys.executable,
    "-c",
    "import sys; from cyrus_sync.sync_client.cli import main; sys.exit(main())",
)


class Users:
    """Alice at a server, as `write` wants her."""

    separator = "/"

    def __init__(self, server: Server) -> None:
        self.client = lambda: server.imap("alice")


def mail(server: Server) -> dict[tuple[str, str], Mailbox]:
    found = {}
    for user in USERS:
        with server.imap(user) as imap:
            found.update({(user, name): view(imap, name) for name in names(imap)})
    return found


class Standby:
    """A store beside `here`, which pulls from `there`, and its Maildirs."""

    def __init__(self, path: Path, here: Server) -> None:
        path.mkdir()
        self.here = here
        self.path = path
        self.site = Site(path)

    def follow(self, there: Server, *options: str) -> None:
        """Pull, and bring the Maildirs in step."""
        self.site = Site(
            self.path,
            "sync_source: imap\nimap_host: 127.0.0.1\nimap_tls: no\nimap_sieve_port: 0\n"
            f"imap_port: {there.imap_port}\nimap_master_user: %u*{MASTER}\nimap_password: {MASTER_PASSWORD}\n"
            f"imap_users: {' '.join(USERS)}\n",
        )
        finish([*_SYNC_CLIENT, "-C", str(self.site.conf), "-A"], 60, {}).check()
        self.site.ok("export", "-A", *options, f"{self.here.home}/home/%u/Maildir")


@pytest.mark.parametrize(("master", "layout", "second"), [("2.3", "mdbox", "2.4"), ("2.4", "maildir", "2.3")])
def test_a_standby_takes_over_and_the_master_comes_back(
    master: str, layout: str, second: str, tmp_path: Path
) -> None:
    with (
        running_or_skipped(master, layout=layout, **HOW) as boston,
        running_or_skipped(second, **HOW) as sanfran,
    ):
        beside = Standby(tmp_path / "sanfran", sanfran)
        for seed in (1, 2):
            write(cast(Dovecot, Users(boston)), seed, 25)
            boston.deliver("bruno", b"Subject: to bruno\r\n\r\nx\r\n")
            beside.follow(boston)
            assert mail(sanfran) == mail(boston)
        boston.stop()

        write(cast(Dovecot, Users(sanfran)), 3, 15)  # users go on
        sanfran.deliver("bruno", b"Subject: after the fire\r\n\r\nx\r\n")
        with running_or_skipped(master, **HOW) as new:
            Standby(tmp_path / "boston", new).follow(sanfran)
            assert mail(new) == mail(sanfran)

            write(cast(Dovecot, Users(new)), 4, 10)  # and the old master is the master again
            # What came back with it, or was told to nobody, needs to be said once.
            beside.follow(new, "--anew")
            assert mail(sanfran) == mail(new)
            assert not new.complaints()
        assert not sanfran.complaints()
