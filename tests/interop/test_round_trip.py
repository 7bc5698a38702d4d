"""Real Cyrus A → our store → fresh real Cyrus B: nothing is lost, and the real client says so."""

from __future__ import annotations

import pytest

from .csync import differences, scripts_of, state_of
from .cyrus import Cyrus
from .fill import fill_everything
from .ours import Ours
from .proxy import Proxy
from .view import view


@pytest.mark.every_release
def test_what_went_into_our_store_comes_out_into_a_fresh_cyrus(
    master: Cyrus, fresh_replica: Cyrus, user: str
) -> None:
    other = f"{user}b"
    fill_everything(master, user, other)
    with Ours.installed("between", {"maxliteral": "0"}) as ours:
        master.sync_client("-u", user, other, to=ours.csync).check()
        ours.sync_client("-u", user, other, to=fresh_replica.csync).check()
        ours.verify()
    for name in (user, other):
        assert differences(state_of(master.csync, name), state_of(fresh_replica.csync, name)) == []
        assert view(master, name) == view(fresh_replica, name)
        assert scripts_of(master.csync, name) == scripts_of(fresh_replica.csync, name)
    with Proxy(fresh_replica.csync, hide=("COMPRESS",)) as proxy:
        master.sync_client("-u", user, other, to=proxy.address).check()
        changes = [line for line in proxy.commands("APPLY ") if not line.startswith("APPLY CAPABILITIES")]
        assert changes == []
