"""A connection for threads that wait: made when it is needed, kept, made anew; and no wait is without end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.csync.line import SILENCE, Line, LineDown
from tests.common.wire.kit import spin
from tests.common.wire.peer import Accept, FakeServer
from tests.deadlines import scaled
from tests.reactors import make_reactor
from tests.sync_client.engine.lines import InlineThreads


class LetIn(Accept):
    """Whoever may open the socket is an administrator."""

    def begin(self, proto: Any) -> None:
        proto.connection.authenticated = True
        super().begin(proto)


class Setting:
    """A server at a UNIX socket, which needs no login, and a line to it."""

    def __init__(self, path: Path) -> None:
        self.reactor = make_reactor()
        self.path = path
        self.server = FakeServer()
        self.line = Line(self.reactor, ClientSettings(str(path), path=str(path)), InlineThreads())
        self.port: Any = None

    def listen(self) -> None:
        self.port = self.reactor.listenUNIX(str(self.path), LetIn(self.reactor, self.server))

    def begin(self, work: Callable[[], Any]) -> list[Any]:
        """Have `work` done in a thread; what it came to will be in the list."""
        came: list[Any] = []

        def run() -> None:
            try:
                came.append(work())
            except Exception as error:
                came.append(error)

        threading.Thread(target=run, daemon=True).start()
        return came

    def wait(self, work: Callable[[], Any]) -> Any:
        came = self.begin(work)
        spin(self.reactor, lambda: bool(came))
        if isinstance(came[0], Exception):
            raise came[0]
        return came[0]

    def noop(self) -> None:
        self.wait(lambda: self.line.call(lambda server: server.noop()))


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path / "csync")
    yield made
    made.line.close()
    spin(made.reactor, lambda: True)
    if made.port is not None:
        made.port.stopListening()
    made.reactor.iterate(0)


def test_one_connection_serves_who_asks_and_is_made_anew_when_it_was_lost(setting: Setting) -> None:
    setting.listen()
    setting.noop()
    setting.noop()
    assert len(setting.server.peers) == 1
    setting.server.peers[0].proto.lose()
    spin(setting.reactor, lambda: setting.line._replica is None)
    setting.noop()
    assert len(setting.server.peers) == 2


def test_what_is_staged_lasts_as_long_as_one_has_the_line_alone(setting: Setting) -> None:
    setting.listen()
    lost = threading.Event()

    def work() -> None:
        with setting.line.alone() as session:
            session.call(lambda server: server.noop())
            setting.reactor.callFromThread(setting.server.peers[0].proto.lose)
            lost.wait(scaled(10))
            session.call(lambda server: server.noop())

    came = setting.begin(work)
    spin(setting.reactor, lambda: bool(setting.server.lost) and setting.line._replica is None)
    lost.set()
    spin(setting.reactor, lambda: bool(came))
    assert "has hung up" in str(came[0])
    assert len(setting.server.peers) == 1


def test_a_server_that_is_away_is_not_asked_again_at_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        with pytest.raises(LineDown, match="not to be reached"):
            setting.noop()
        setting.listen() if setting.port is None else None
    assert setting.server.peers == []
    now = setting.reactor.seconds()
    monkeypatch.setattr(setting.reactor, "seconds", lambda: now + SILENCE)
    setting.wait(lambda: setting.line.call(lambda server: server.noop()))
    assert len(setting.server.peers) == 1


def test_who_waits_for_a_server_that_says_nothing_is_let_go_at_the_end(setting: Setting) -> None:
    setting.server.answers["NOOP"] = lambda peer: None
    setting.listen()
    came = setting.begin(lambda: setting.line.call(lambda server: server.noop()))
    spin(setting.reactor, lambda: bool(setting.server.peers and b"NOOP " in setting.server.commands))
    setting.line.close()
    spin(setting.reactor, lambda: bool(came))
    assert isinstance(came[0], LineDown)
    with pytest.raises(LineDown, match="stopping"):
        setting.line.call(lambda server: server.noop())
