"""Connections that are kept for the next pull."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from cyrus_sync.pull.puller import Puller
from tests.deadlines import until
from tests.dovecot.pulling import Sidecar, message
from tests.pull.fake import FULL, FakeImap

Beside = Callable[[FakeImap], Sidecar]


def keeping(sidecar: Sidecar, connections: int = 4) -> Puller:
    sidecar.settings = replace(sidecar.settings, connections=connections)
    return sidecar.fresh(keep=60)


def test_a_kept_session_needs_no_login_and_no_namespaces(server: FakeImap, beside: Beside) -> None:
    puller = keeping(beside(server))
    puller.pull("alice")
    server.boxes["INBOX"].add(message(1))
    server.said.clear()
    assert puller.pull("alice", names=["user.alice"]).messages == 1
    assert (server.connections, puller.sessions.use.again) == (1, 1)
    assert [line.split()[0] for line in server.said] == ["STATUS", "EXAMINE", "UID", "UID", "UNSELECT"]
    puller.sessions.close()
    until(lambda: not server.open, "it was closed")


@pytest.mark.parametrize("how", ["not kept", "no UNSELECT", "swept"])
def test_a_session_ends_with_its_use_or_soon_after(
    how: str, server: FakeImap, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = beside(server)
    server.boxes["INBOX"].add(message(1))
    if how == "no UNSELECT":
        server.capabilities = FULL.replace(" UNSELECT", "")
    puller = sidecar.fresh() if how == "not kept" else keeping(sidecar)
    puller.pull("alice")
    if how == "swept":
        puller.sessions.sweep()
        assert server.open
        later = time.monotonic() + 61
        monkeypatch.setattr(time, "monotonic", lambda: later)
        puller.sessions.sweep()
        monkeypatch.undo()
    until(lambda: not server.open, "it is closed")


@pytest.mark.covers("imapd.conf", "imap_connections")
def test_no_more_are_open_than_there_may_be(server: FakeImap, beside: Beside) -> None:
    puller = keeping(beside(server), connections=2)
    for user in ("alice", "bob", "eve", "bob"):
        puller.pull(user)
    until(lambda: len(server.open) == 2, "two are open")
    assert (server.connections, puller.sessions.use.again) == (3, 1)
    puller.sessions.close()


def test_a_session_that_ended_meanwhile_is_begun_anew(server: FakeImap, beside: Beside) -> None:
    puller = keeping(beside(server))
    puller.pull("alice")
    for line in list(server.open):
        line.shutdown(socket.SHUT_RDWR)
    server.boxes["INBOX"].add(message(1))
    assert puller.pull("alice").messages == 1
    puller.sessions.close()
