"""Names in multitool: printed ones are read as they are, warnings' internal ones too."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import SERVER, BadName, owner_of
from cyrus_sync.multisite.commands.naming import Naming
from tests.common.test_namespace import kept_names


@pytest.fixture(params=["", "virtdomains: off\n", "unixhierarchysep: no\n"])
def naming(tmp_path: Path, request: pytest.FixtureRequest) -> Naming:
    conf = tmp_path / "imapd.conf"
    conf.write_text(f"configdirectory: {tmp_path}\npartition-default: {tmp_path}/spool\n{request.param}")
    return Naming(Config.load(conf, "multitool"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=kept_names())
def test_what_is_printed_means_that_mailbox_and_that_owner(naming: Naming, name: str) -> None:
    assert naming.internal(naming.external(name)) == name
    owner = owner_of(name)
    assert naming.owner(naming.owner_name(owner)) == owner
    assert naming.owner(naming.owner_name(SERVER)) == SERVER


def test_internal_names_of_warnings_are_taken(naming: Naming) -> None:
    for name in ("user.bob.Work", "DELETED.user.bob.Work.6B013001"):
        assert naming.internal(name) == name
    assert naming.owner("user:bob") == naming.owner("user.bob") == owner_of("user.bob")


def test_a_mailbox_is_not_renamed_to_what_no_cyrus_creates(tmp_path: Path) -> None:
    conf = tmp_path / "imapd.conf"
    conf.write_text(f"configdirectory: {tmp_path}\npartition-default: {tmp_path}/spool\n")
    with pytest.raises(BadName, match="written &-"):
        Naming(Config.load(conf, "multitool")).new("user/bob/R&D")
