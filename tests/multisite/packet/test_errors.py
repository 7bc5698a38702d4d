"""Every error of packets has a text of its own, and commands end with a status that fits it."""

from __future__ import annotations

import pytest

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.multisite.packet import errors
from cyrus_sync.multisite.packet.errors import BadKeys, PacketDamaged, PacketError, PacketForged, PacketSealed

ALL = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, PacketError)]


def test_no_two_errors_have_the_same_text() -> None:
    texts = [one.text for one in ALL]
    assert len(texts) == len(set(texts)) == 7
    assert CyrusSyncError.text not in texts


@pytest.mark.parametrize(
    ("error", "status"), [(PacketDamaged, 1), (PacketForged, 1), (PacketSealed, 1), (BadKeys, 78)]
)
def test_a_command_ends_with_the_status_of_what_it_met(error: type[PacketError], status: int) -> None:
    assert error().exit_status == status
