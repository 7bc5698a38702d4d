"""A reactor of our own, running in a thread, for the tests that need one; and a way to call into it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.threads import blockingCallFromThread

from tests.deadlines import scaled
from tests.reactors import new_reactor


@pytest.fixture
def reactor() -> Iterator[Any]:
    """A running reactor; ended, with its threads, after the test."""
    own = new_reactor()
    thread = threading.Thread(target=own.run, kwargs={"installSignalHandlers": False}, daemon=True)
    thread.start()
    yield own
    own.callFromThread(own.stop)
    thread.join(scaled(10))
    assert not thread.is_alive()


@pytest.fixture
def call(reactor: Any) -> Callable[..., Any]:
    """``call(function, *arguments)`` runs in the reactor's thread and waits for the Deferred."""
    return lambda function, *a, **k: blockingCallFromThread(reactor, function, *a, **k)
