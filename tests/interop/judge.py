"""Which sync_server a test of the replica side runs against.

Normally ours. With INTEROP_SERVER=real in the environment it is a real one: a test that fails then
expects what no replica does, and the test is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from .cyrus import Cyrus
from .ours import Ours

Server = Ours | Cyrus


@contextmanager
def server_under_test(name: str, settings: dict[str, str] | None = None) -> Iterator[Server]:
    """A started server; at the end our store must agree with itself."""
    if os.environ.get("INTEROP_SERVER") == "real":
        with Cyrus.running(name, {"sync_log": "0", "maxliteral": "0"}) as judge:
            yield judge
        return
    with Ours.installed(name, settings) as ours:
        yield ours
        ours.verify()
