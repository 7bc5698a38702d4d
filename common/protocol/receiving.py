"""What both ends of a connection have in common: a stream comes in, and a state says how it is read on.

An end declares its states, its moves, who reads in which state, and how it breaks; see `ReceivingEnd`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from cyrus_sync.common.protocol import dlist
from cyrus_sync.common.protocol.buffer import Buffer
from cyrus_sync.common.protocol.events import NEED_DATA, ConnectionClosed, Event, Fatal, NeedData

StateT = TypeVar("StateT", bound=Enum)
MoveT = TypeVar("MoveT", bound=Enum)


class Rules(NamedTuple, Generic[StateT, MoveT]):
    """The machine of an end."""

    moves: Mapping[tuple[StateT, MoveT], StateT]
    """All that may happen, and what is expected then. Anything else is a mistake of ours (KeyError)."""
    readers: Mapping[StateT, Callable[[Any], Event | None]]
    """Who reads in which state: an event, or None to go on in the state that is now."""
    closed: StateT
    failed: StateT
    end: MoveT
    """The peer's end of stream."""
    between: Collection[StateT]
    """Where that end cuts nothing off."""


class ReceivingEnd(ABC, Generic[StateT, MoveT]):
    """The peer's stream."""

    rules: ClassVar[Rules[Any, Any]]
    _BREAKING: ClassVar[tuple[type[Any], ...]] = ()
    """Errors after which the stream cannot be followed any further."""

    def __init__(self, limits: dlist.Limits, state: StateT) -> None:
        self._limits = limits
        self._buffer = Buffer()
        self._state = state
        self._eof = False
        self._searched = 0
        """Bytes of the buffer in which no line end was found."""

    @property
    def state(self) -> StateT:
        return self._state

    @property
    def buffered(self) -> int:
        """Bytes that are held and not yet part of an event."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """More bytes of the peer."""
        if self._state not in (self.rules.failed, self.rules.closed):
            self._buffer.append(data)

    def receive_eof(self) -> None:
        """The peer will send nothing more."""
        self._eof = True

    def trailing_data(self) -> bytes:
        """Takes out what was received behind the last event, for the layer that begins there."""
        self._searched = 0
        return self._buffer.clear()

    def next_event(self) -> Event:
        """What the peer said next."""
        if self._state is self.rules.closed:
            return ConnectionClosed(clean=False)
        event: Event = NEED_DATA
        if self._state is not self.rules.failed:
            try:
                event = self._read()
            except self._BREAKING as error:
                event = self._break(error.message)
        self._buffer.compact()
        if isinstance(event, NeedData) and self._eof:
            clean = self._state in self.rules.between and not self._buffer
            self._move(self.rules.end)
            return ConnectionClosed(clean)
        return event

    @abstractmethod
    def _break(self, why: str) -> Fatal:
        """Go to the state `failed` and forget what is held; the last words."""

    def _move(self, move: MoveT) -> None:
        self._state = self.rules.moves[self._state, move]

    def _read(self) -> Event:
        readers = self.rules.readers
        while True:
            event = readers[self._state](self)
            if event is not None:
                return event
