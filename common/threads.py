"""`Threads`: what code of the reactor needs of whatever runs blocking calls elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Threads(Protocol):
    """Runs what blocks off the reactor (`common.stores.threads.ThreadRunner`)."""

    def run(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Call `function(*arguments)` elsewhere. The Deferred fires in the reactor's thread, with the result
        or with what was raised."""
