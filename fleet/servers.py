"""The PostgreSQL servers of a fleet as a node knows them: those that ``store_journal`` names, and by which of
them owners are spread (`layout`).

Which is which, the servers say themselves, so the order of store_journal does not matter. A server that is
named and is not in the layout has nothing: a rebalance takes it in. One that is in the layout and not named
has owners whom this node cannot serve.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence

from cyrus_sync.common.names import Owner
from cyrus_sync.fleet.database import Lost, Server
from cyrus_sync.fleet.errors import Away, Misfit
from cyrus_sync.fleet.layout import Layout, decode_layout, key_of
from cyrus_sync.fleet.migrations import migrate


class Unnamed(Away):
    """A server of the fleet is not in this node's store_journal. Another node may know it."""


class Servers:
    """All servers that ``store_journal`` names. They are looked at before the first use."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._servers = [Server(url) for url in urls]
        self._by_id: dict[str, Server] = {}
        self._layout: Layout | None = None
        self._away: Away | None = None
        self._lock = threading.Lock()

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self._servers]

    @property
    def failures(self) -> list[int]:
        """Of each server, how often it was away when something was asked of it."""
        return [server.failures for server in self._servers]

    def layout(self) -> Layout:
        """As this node knows it. Whoever uses it asks the server whether it is of the same epoch. `Away`,
        `Misfit`."""
        return self._layout or self.look()

    def look(self) -> Layout:
        """Ask all servers; the newest layout that there is, which those that have an older one are told.
        `Away` where none can be asked."""
        with self._lock:
            states: dict[Server, tuple[str, Layout | None]] = {}
            self._away = None
            for server in self._servers:
                try:
                    states[server] = self._state(server)
                except Away as error:
                    self._away = error
            found = [layout for _, layout in states.values() if layout is not None]
            known = [*found, *([self._layout] if self._layout else [])]
            if not known:
                if self._away is not None:
                    raise self._away
                known = [self._begin({one: state for one, (state, _) in states.items()})]
            newest = max(known)
            for server, (number, layout) in states.items():
                if layout is not None and (layout.fleet != newest.fleet or not _goes_before(layout, newest)):
                    raise Misfit(f"{server.name} is of another fleet than the other servers in store_journal")
                if number in newest.everyone and layout != newest:
                    tell(server, newest)
            self._layout = newest
            return newest

    def _state(self, server: Server) -> tuple[str, Layout | None]:
        """A server's name for itself, and the layout that it knows."""
        if server not in self._by_id.values():
            migrate(server)
        number, epoch, text = server.ask("SELECT id, epoch, layout FROM fleet")[0]
        if self._by_id.setdefault(number, server) is not server:
            raise Misfit(f"{server.name} is twice in store_journal")
        return number, decode_layout(epoch, text)

    def _begin(self, servers: Mapping[Server, str]) -> Layout:
        """The first layout of a fleet. Nodes that begin at once agree at the server whose name is least."""
        first = min(servers, key=lambda one: servers[one])
        numbers = tuple(servers.values())
        layout = Layout(1, secrets.token_hex(8), numbers, numbers)
        tell(first, layout)
        _, begun = self._state(first)
        assert begun is not None
        for server in servers:
            tell(server, begun)
            if self._state(server)[1] != begun:
                raise Misfit(f"{server.name} is of another fleet than the other servers in store_journal")
        return begun

    def at(self, number: str) -> Server:
        """A server of the layout. `Away`, `Misfit`."""
        if number not in self._by_id:
            self.look()
        if number not in self._by_id:
            raise self._away or Unnamed(
                f"server {number} of the fleet is not in store_journal of this machine, and has users"
            )
        return self._by_id[number]

    def all(self) -> Iterator[Server]:
        """All that may have anything, one after the other. Raises `Away`, `Misfit`."""
        return (self.at(number) for number in self.layout().everyone)

    def swept(self) -> Iterator[Server]:
        """As `all`; while a rebalance is under way, twice: what moved behind the first round is found in the
        second."""
        for _ in range(2 if self.layout().moving else 1):
            yield from self.all()

    def apart(self) -> dict[str, bool]:
        """Servers that are named and are not in the layout, in order; whether each was drained, and is not
        new. `Away`."""
        layout = self.look()
        with self._lock:
            states = [self._state(server) for server in self._servers]
        return {number: known is not None for number, known in states if number not in layout.everyone}

    def number_of(self, place: int) -> str:
        """What a server calls itself, by its place in store_journal (from 0). `Away`."""
        with self._lock:
            return self._state(self._servers[place])[0]

    def of(self, owner: Owner) -> Server:
        """The server that an owner is on, or is to be. Raises `Away`, `Misfit`."""
        return self.at(self.layout().places(key_of(owner))[1])

    def close(self) -> None:
        for server in self._servers:
            server.close()


def _goes_before(layout: Layout, newest: Layout) -> bool:
    """Whether there is one history in which both are."""
    return layout.epoch < newest.epoch or layout == newest


def tell(server: Server, layout: Layout) -> None:
    """A server learns of a layout, unless it knows a newer one. `Away`."""
    query = "UPDATE fleet SET epoch = %s, layout = %s WHERE epoch < %s"
    values = (layout.epoch, layout.text, layout.epoch)
    try:
        server.tell(query, *values)
    except Lost:
        server.tell(query, *values)
