"""Who may change a store: what imapd.conf says, until a command says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.role import FILE, Role, RoleOf


def role(path: Path, *, replicaonly: bool = False) -> RoleOf:
    return RoleOf(path, replicaonly=replicaonly, conf="/etc/imapd.conf")


def test_without_a_word_everybody_may_change_it(tmp_path: Path) -> None:
    one = role(tmp_path)
    assert not one.replica_only
    assert one.refuses_changes() == one.refuses_replication() == one.refuses_settling() == ""


def test_a_replica_by_configuration_takes_replication_alone(tmp_path: Path) -> None:
    one = role(tmp_path, replicaonly=True)
    assert one.replica_only and one.refuses_replication() == ""
    assert one.refuses_changes().startswith("/etc/imapd.conf says replicaonly: yes: only replication may")
    assert "replica" in one.refuses_settling()


@pytest.mark.parametrize("replicaonly", [False, True])
def test_what_a_command_has_said_counts_at_once_and_for_everybody(tmp_path: Path, replicaonly: bool) -> None:
    one, other = role(tmp_path, replicaonly=replicaonly), role(tmp_path, replicaonly=replicaonly)
    one.become(Role.MASTER, "cyrus-sync promote", 1_764_500_000)
    assert other.refuses_changes() == "" and not other.replica_only
    expected = "this server is the master since 2025-11-30T10:53:20Z (cyrus-sync promote), and takes nothing"
    assert other.refuses_replication().startswith(expected)
    one.become(Role.DRAINING, "sync_client --drain", 1_764_500_001)
    assert "being drained" in other.refuses_changes() and other.refuses_settling() == ""
    one.become(Role.REPLICA, "cyrus-sync demote", 1_764_500_002)
    assert "is a replica" in other.refuses_changes() and other.refuses_settling()
    assert other.refuses_replication() == ""
    one.forget()
    assert other.replica_only == replicaonly


@pytest.mark.parametrize("content", ["", "{", "[]", '{"role": "king", "since": 1, "by": "me"}'])
def test_a_damaged_role_is_no_role_of_ones_choice(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    for ask in ("refuses_changes", "refuses_replication", "refuses_settling"):
        with pytest.raises(StoreError, match="is damaged"):
            getattr(role(tmp_path), ask)()
