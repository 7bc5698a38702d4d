"""Internal dates that cyrus.index has no room for: both ends come to the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cyrus_sync.common.names import Owner

from .csync import differences, state_of
from .cyrus import Cyrus
from .fill import message
from .ours import Ours


@pytest.fixture(scope="module")
def ours(real_cyrus: None) -> Iterator[Ours]:
    with Ours.installed("master") as installation:
        yield installation
        installation.verify()


@pytest.mark.parametrize("date", [-(10**9), -1, 0, 1, 2**31, 2**32 - 1, 2**32, 5_000_000_000, 2**62])
def test_a_date_of_any_year_goes_over_as_one_that_both_can_hold(
    ours: Ours, replica: Cyrus, user: str, date: int
) -> None:
    with ours.store.write(Owner("user", user)) as box:
        box.create(f"user.{user}")
        box.append(f"user.{user}", [(message("one"), date, "")])
    for _ in range(2):
        ours.sync_client("-u", user, to=replica.csync).check()
        assert differences(state_of(ours.csync, user), state_of(replica.csync, user)) == []
        with ours.store.write(Owner("user", user)) as box:
            box.set_flags(f"user.{user}", [1], add=["\\Seen"])
    (seen,) = (m for m in state_of(replica.csync, user)["mailboxes"][f"user.{user}"]["RECORD"].values())
    assert int(seen["INTERNALDATE"]) == min(max(date, 1), 2**32 - 1)
