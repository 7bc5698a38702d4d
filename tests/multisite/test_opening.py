"""Which mail a site has."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.multisite.errors import OtherMail
from tests.multisite.mail import append, create, message
from tests.multisite.world import Site, family_of


@pytest.fixture
def boston(tmp_path: Path) -> Site:
    (site,) = family_of(tmp_path, "boston")
    create(site, "user.bob")
    return site


def test_the_mail_of_a_cyrus_that_appears_beside_ours_is_not_taken_for_the_sites(boston: Site) -> None:
    """Everything of ours would be recorded as deleted."""
    (boston.directory / "conf" / "mailboxes.db").write_bytes(b"")
    with pytest.raises(OtherMail, match="sync_source: native"), boston.member():
        pass
    config = boston.directory / "imapd.conf"
    config.write_text(config.read_text() + "sync_source: native\n")
    append(boston, "user.bob", message(1))
    with boston.member() as member:
        assert member.record() == []
