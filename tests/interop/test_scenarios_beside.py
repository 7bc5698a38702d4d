"""The scenarios of Cyrus's own suite once more, with our sync_client beside the real master, for its own.

With the machine's own release, or that of INTEROP_RELEASE.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .beside import BesideCyrus
from .test_scenarios import (  # noqa: F401
    server,
    test_a_rolling_client_ends_cleanly_when_its_server_is_gone,
    test_an_intermediate_takes_the_place_of_a_mailbox_that_is_deleted,
    test_folders_follow,
    test_scripts_of_the_master_win,
)


@pytest.fixture
def fresh_master(real_cyrus: None) -> Iterator[BesideCyrus]:
    with BesideCyrus.running("master", {"maxliteral": "0"}) as cyrus:
        assert isinstance(cyrus, BesideCyrus)
        yield cyrus
