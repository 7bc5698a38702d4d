"""Calendars, contacts and uploads that a real httpd made, by way of our store to a fresh real server."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .csync import differences, state_of
from .cyrus import PASSWORD, Address, Cyrus
from .ours import Ours
from .proxy import Proxy

# The machine's own Cyrus is installed without its httpd.
pytestmark = pytest.mark.every_release(without=("3.6",))

SETTINGS = {
    "httpmodules": "caldav carddav jmap",
    "conversations": "1",
    "caldav_historical_age": "-1",
    "jmapuploadfolder": "#jmap",
}
EVENT = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//lab//test//EN\r\nBEGIN:VEVENT\r\nUID:one\r\n"
    "DTSTAMP:20240101T000000Z\r\nDTSTART:20240102T100000Z\r\nDTEND:20240102T110000Z\r\n"
    "SUMMARY:Meeting\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
CARD = (
    "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:jane\r\nN:Doe;Jane;;;\r\nFN:Jane Doe\r\n"
    "EMAIL:jane@example.org\r\nEND:VCARD\r\n"
)


@pytest.fixture
def pair(real_cyrus: None, user: str) -> Iterator[tuple[Cyrus, Cyrus]]:
    """Two servers with httpd; the first has the user."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(Cyrus.running(name, SETTINGS)) for name in ("dav", "copy"))
        for cyrus in (first, second):
            cyrus.set_password(user)
        first.create_user(user)
        yield first, second


def ask(
    cyrus: Cyrus, user: str, method: str, path: str, *, body: str = "", kind: str = ""
) -> tuple[int, str]:
    """One request of the user: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", cyrus.ports["http"], timeout=60)
    word = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
    headers = {"Authorization": f"Basic {word}", **({"Content-Type": kind} if kind else {})}
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


def sync(master: Cyrus | Ours, to: Address, user: str) -> list[str]:
    """One run; what it changed."""
    with Proxy(to, hide=("COMPRESS",)) as proxy:
        master.sync_client("-u", user, to=proxy.address).check()
        return [line for line in proxy.commands("APPLY ") if not line.startswith("APPLY CAPABILITIES")]


def test_calendars_contacts_and_uploads_are_the_same_on_the_other_side(
    pair: tuple[Cyrus, Cyrus], user: str
) -> None:
    master, copy = pair
    event = f"/dav/calendars/user/{user}/Default/one.ics"
    card = f"/dav/addressbooks/user/{user}/Default/jane.vcf"
    assert ask(master, user, "PUT", event, body=EVENT, kind="text/calendar")[0] == 201
    assert ask(master, user, "PUT", card, body=CARD, kind="text/vcard")[0] == 201
    assert ask(master, user, "POST", f"/jmap/upload/{user}/", body="an upload", kind="text/plain")[0] == 201
    with Ours.installed("between") as ours:
        assert sync(master, ours.csync, user)
        assert sync(master, ours.csync, user) == []
        ask(master, user, "PUT", event, body=EVENT.replace("Meeting", "Moved"), kind="text/calendar")
        ask(master, user, "DELETE", card)
        assert sync(master, ours.csync, user)
        state = state_of(ours.csync, user)
        assert differences(state_of(master.csync, user), state) == []
        kinds = {name.split(".", 2)[-1]: box.get("MBOXTYPE") for name, box in state["mailboxes"].items()}
        assert (kinds["#calendars.Default"], kinds["#addressbooks.Default"], kinds["#jmap"]) == (
            b"c",
            b"a",
            b"b",
        )
        assert sync(ours, copy.csync, user)
        assert sync(ours, copy.csync, user) == []
        ours.verify()
    assert differences(state_of(master.csync, user), state_of(copy.csync, user)) == []
    assert sync(master, copy.csync, user) == [], "the real client finds all of it"
    assert "SUMMARY:Moved" in ask(copy, user, "GET", event)[1]
    assert ask(copy, user, "GET", card)[0] == 404


@pytest.mark.every_release(without=("3.2", "3.6"))  # who do not know the option
def test_a_server_that_is_a_replica_only_takes_what_our_client_brings(real_cyrus: None, user: str) -> None:
    from cyrus_sync.common.names import Owner

    with (
        Ours.installed("master") as ours,
        Cyrus.running("only", {"replicaonly": "1", "sync_log": "0"}) as replica,
    ):
        with ours.store.write(Owner("user", user)) as box:
            box.create(f"user.{user}")
            box.append(f"user.{user}", [(b"Subject: one\r\n\r\n1\r\n", 1704103200, "\\Seen")])
        assert sync(ours, replica.csync, user)
        assert sync(ours, replica.csync, user) == []
        assert differences(state_of(ours.csync, user), state_of(replica.csync, user)) == []
